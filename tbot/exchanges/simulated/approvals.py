"""Which contracts have to be allowed to move a wallet's tokens before it can trade, and whether they are.

No contract moves anything here: the exchange's ledger lets every wallet it knows trade, split and redeem, so all of
theirs are granted without limit, as `/balance-allowance` says too. Nobody has granted anything for a stranger's wallet.

Contracts as the official client polymarket-client 0.14.0 asks for them, read 2026-11-26.
"""

from __future__ import annotations

from tbot.exchanges.simulated.contracts import EXCHANGE_V2, EXCHANGE_V2_NEG_RISK
from tbot.exchanges.simulated.wire_data import WireApproval
from tbot.exchanges.simulated.wire_markets import REWARD_ASSET as COLLATERAL_TOKEN

CONDITIONAL_TOKENS = "0x4D97DCd97eC945f40cF65F87097ACe5EA0476045"
POSITION_MANAGER = "0x006F54F7f9A22e0000CC2AB60031000000ae9fEF"
COLLATERAL_ADAPTER = "0xAdA100Db00Ca00073811820692005400218FcE1f"
NEG_RISK_COLLATERAL_ADAPTER = "0xadA2005600Dec949baf300f4C6120000bDB6eAab"
AUTO_REDEEM_OPERATOR = "0xa1200000d0002264C9a1698e001292D00E1b00af"
PROTOCOL_V2_ROUTER = "0x12121212006e4CD160D18e3f00711DA5c3372600"
BINARY_MODULE = "0x1000008dD9001B968442c1000017eaE6E0dA00Ba"
NEG_RISK_MODULE = "0x200000900045e3B6259600682756002200028933"
PERPS_DEPOSIT = "0xDCa4af75705dbB50f62437045afF9921947917d2"

UNLIMITED = "max"

_CTF_SPENDERS = (EXCHANGE_V2, EXCHANGE_V2_NEG_RISK, COLLATERAL_ADAPTER, NEG_RISK_COLLATERAL_ADAPTER)


def approvals(*, is_known: bool, exchange_v3: str) -> tuple[WireApproval, ...]:
    """List every approval that trading may need.

    Args:
        is_known: Whether somebody here owns the wallet.
        exchange_v3: The chain's exchange contract for positions of Protocol V2.
    """
    erc20 = [
        (COLLATERAL_TOKEN, spender) for spender in (*_CTF_SPENDERS, PROTOCOL_V2_ROUTER, exchange_v3, PERPS_DEPOSIT)
    ]
    operators = (*_CTF_SPENDERS, AUTO_REDEEM_OPERATOR, BINARY_MODULE, NEG_RISK_MODULE)
    erc1155 = [(CONDITIONAL_TOKENS, operator) for operator in operators]
    erc1155 += [(POSITION_MANAGER, operator) for operator in (PROTOCOL_V2_ROUTER, exchange_v3, AUTO_REDEEM_OPERATOR)]
    amount = UNLIMITED if is_known else "0"
    return (
        *(_approval(pair, "ERC20", is_known=is_known, amount=amount) for pair in erc20),
        *(_approval(pair, "ERC1155", is_known=is_known, amount=None) for pair in erc1155),
    )


def _approval(pair: tuple[str, str], standard: str, *, is_known: bool, amount: str | None) -> WireApproval:
    return WireApproval(token=pair[0], spender=pair[1], standard=standard, approved=is_known, amount=amount)
