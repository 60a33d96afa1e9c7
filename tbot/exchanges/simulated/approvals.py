"""Which contracts have to be allowed to move a wallet's tokens before it can trade, and whether they are.

Every wallet that somebody here owns has granted all of them without limit, until its owner or the operator says
otherwise (`allowances.py`). Nobody has granted anything for a stranger's wallet.

Contracts as the official client polymarket-client 0.14.0 asks for them, read 2026-11-26.
"""

from __future__ import annotations

from collections.abc import Callable

from tbot.exchanges.simulated.allowances import UNLIMITED
from tbot.exchanges.simulated.contracts import (
    EXCHANGE_V2,
    EXCHANGE_V2_NEG_RISK,
    HOLDERS,
    AssetType,
)
from tbot.exchanges.simulated.wire_data import WireApproval

COLLATERAL_ADAPTER = "0xAdA100Db00Ca00073811820692005400218FcE1f"
NEG_RISK_COLLATERAL_ADAPTER = "0xadA2005600Dec949baf300f4C6120000bDB6eAab"
AUTO_REDEEM_OPERATOR = "0xa1200000d0002264C9a1698e001292D00E1b00af"
PROTOCOL_V2_ROUTER = "0x12121212006e4CD160D18e3f00711DA5c3372600"
BINARY_MODULE = "0x1000008dD9001B968442c1000017eaE6E0dA00Ba"
NEG_RISK_MODULE = "0x200000900045e3B6259600682756002200028933"
PERPS_DEPOSIT = "0xDCa4af75705dbB50f62437045afF9921947917d2"

_CTF_SPENDERS = (EXCHANGE_V2, EXCHANGE_V2_NEG_RISK, COLLATERAL_ADAPTER, NEG_RISK_COLLATERAL_ADAPTER)
_CTF_OPERATORS = (*_CTF_SPENDERS, AUTO_REDEEM_OPERATOR, BINARY_MODULE, NEG_RISK_MODULE)


def approvals(left: Callable[[AssetType, str], int], *, exchange_v3: str) -> tuple[WireApproval, ...]:
    """List every approval that trading may need.

    Args:
        left: Tells how much of an asset a contract may still move, base units.
        exchange_v3: The chain's exchange contract for positions of Protocol V2.
    """
    asked = {
        AssetType.COLLATERAL: (*_CTF_SPENDERS, PROTOCOL_V2_ROUTER, exchange_v3, PERPS_DEPOSIT),
        AssetType.CONDITIONAL: _CTF_OPERATORS,
        AssetType.CONDITIONAL_V2: (PROTOCOL_V2_ROUTER, exchange_v3, AUTO_REDEEM_OPERATOR),
    }
    return tuple(
        _approval(asset, spender, left(asset, spender)) for asset, spenders in asked.items() for spender in spenders
    )


def _approval(asset: AssetType, spender: str, left: int) -> WireApproval:
    is_amount = asset is AssetType.COLLATERAL
    return WireApproval(
        token=HOLDERS[asset],
        spender=spender,
        standard="ERC20" if is_amount else "ERC1155",
        approved=left > 0,
        amount=("max" if left >= UNLIMITED else str(left)) if is_amount else None,
    )
