"""How much of what a wallet holds each exchange contract may move. Without limit, until somebody says otherwise.

Collateral is allowed by amount, and what was traded since uses it up; of tokens a contract may move all or none. What a
missing approval refused or cancelled can be ordered again once it is given, as with a real wallet.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec
from eth_utils.address import to_checksum_address

from tbot.core.market import TokenId
from tbot.core.messages import Settlement, Side
from tbot.core.units import MICRO, Nanos
from tbot.exchanges.simulated.contracts import contract_of, is_position_id
from tbot.exchanges.simulated.events import OrderView, Trade
from tbot.exchanges.simulated.exchange import LocalExchange
from tbot.exchanges.simulated.operations import Account, CancelOrders, EndReason, MarketRules, PlaceOrder

UNLIMITED = (1 << 256) - 1
TEXT_ALLOWANCE = "not enough balance / allowance: the allowance is not enough -> spender: {spender}, allowance: {left}"
"""As reported by traders whose approval was missing (2026)."""


class AssetType(StrEnum):
    """What holds an asset, in the words of `/balance-allowance`: each is another contract that gives approvals."""

    COLLATERAL = "COLLATERAL"
    CONDITIONAL = "CONDITIONAL"
    CONDITIONAL_V2 = "CONDITIONAL-V2"


class Grant(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One approval that is not without limit.

    Attributes:
        amount: Base units.
        since_ns: What was traded from then on uses it up.
    """

    amount: int
    since_ns: Nanos


class Allowances:
    """Every approval that was limited.

    Args:
        exchange: Whose orders and trades need them.
        chain_id: Names the contracts.
    """

    def __init__(self, exchange: LocalExchange, chain_id: int) -> None:
        self._exchange = exchange
        self._chain_id = chain_id
        self._grants: dict[tuple[Account, AssetType, str], Grant] = {}

    def grant(self, account: Account, asset: AssetType, spender: str, amount: int, now_ns: Nanos) -> None:
        """Let a contract move so much from now on, and no more; orders that need more are cancelled.

        Args:
            account: Wallet that approves.
            asset: What it approves.
            spender: Contract.
            amount: Base units; `UNLIMITED` and more is without limit.
            now_ns: When.
        """
        key = (account, asset, str(to_checksum_address(spender)))
        if amount >= UNLIMITED:
            self._grants.pop(key, None)
            return
        self._grants[key] = Grant(amount=amount, since_ns=now_ns)
        self._cancel_uncovered(account)

    def left(self, account: Account, asset: AssetType, spender: str) -> int:
        """Tell how much a contract may still move, base units."""
        grant = self._grants.get((account, asset, str(to_checksum_address(spender)))) if self._grants else None
        if grant is None:
            return UNLIMITED
        if asset is not AssetType.COLLATERAL:
            return grant.amount
        trades = self._exchange.trades(account, grant.since_ns)
        spent = sum(_paid(trade, account) for trade in trades if self._spender(trade.token_id) == spender)
        return max(grant.amount - spent, 0)

    def refusal(self, order: PlaceOrder) -> str:
        """Say why an order cannot be taken, "" when its approval is enough or when it was taken before."""
        if self._exchange.order(order.order_id) is not None:
            return ""
        needed = order.size if order.side is Side.SELL else order.budget or order.price * order.size // MICRO
        return self._objection(order.account, order.token_id, order.side, needed)

    def _objection(self, account: Account, token_id: TokenId, side: Side, needed: int) -> str:
        if not self._grants or self._exchange.engine.rules_of(token_id) is None:
            return ""
        spender = self._spender(token_id)
        left = self.left(account, asset_of(token_id, side), spender)
        return TEXT_ALLOWANCE.format(spender=spender, left=left) if needed > left else ""

    def _cancel_uncovered(self, account: Account) -> None:
        orders = self._exchange.open_orders(account)
        short = [o.order_id for o in orders if self._objection(account, o.token_id, o.side, _needed(o))]
        if short:
            cancel = CancelOrders(account=account, order_ids=tuple(short), reason=EndReason.NOT_ENOUGH_BALANCE)
            self._exchange.apply(cancel)

    def _spender(self, token_id: TokenId) -> str:
        rules = self._exchange.engine.rules_of(token_id)
        assert isinstance(rules, MarketRules), "the token of an order or of a trade is listed"
        return contract_of(token_id, is_neg_risk=rules.is_neg_risk, chain_id=self._chain_id).address


def asset_of(token_id: str, side: Side) -> AssetType:
    """Name what an order gives."""
    if side is Side.BUY:
        return AssetType.COLLATERAL
    return AssetType.CONDITIONAL_V2 if is_position_id(token_id) else AssetType.CONDITIONAL


def _needed(order: OrderView) -> int:
    left = order.size - order.size_matched
    return left if order.side is Side.SELL else order.price * left // MICRO


def _paid(trade: Trade, account: Account) -> int:
    if trade.settlement is Settlement.FAILED:
        return 0
    is_taker = trade.taker_account == account and trade.side is Side.BUY
    legs = sum(leg.notional for leg in trade.legs if leg.account == account and leg.side is Side.BUY)
    return legs + (trade.notional + trade.fee if is_taker else 0)
