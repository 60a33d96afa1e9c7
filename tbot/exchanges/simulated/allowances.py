"""How much of what a wallet holds each exchange contract may move. Without limit, until somebody says otherwise.

Collateral is allowed by amount, and what was traded since uses it up; of tokens a contract may move all or none. What a
missing approval refused or cancelled can be ordered again once it is given, as with a real wallet.

Unlike a balance, which backs buys of every market at once, an allowance is one number for all markets of its contract:
open orders of all of them count against it, so that fills can never use up more than it.
"""

from __future__ import annotations

from collections.abc import Iterator

from eth_utils.address import to_checksum_address

from tbot.core.messages import ExchangeOrderId, Settlement, Side, TradeId
from tbot.exchanges.simulated.contracts import AssetType
from tbot.exchanges.simulated.events import Trade
from tbot.exchanges.simulated.operations import Account, Approve, Done, PlaceOrder
from tbot.exchanges.simulated.orderbook import Order
from tbot.exchanges.simulated.resting import OrderTable, Spending, beyond, spending_of

UNLIMITED = (1 << 256) - 1


class Allowances:
    """Every approval that was limited.

    Args:
        orders: What needs them.
    """

    def __init__(self, orders: OrderTable) -> None:
        self._orders = orders
        self._left: dict[Spending, int] = {}
        # What trades used up that may still fail, which gives it back.
        self._used: dict[TradeId, dict[Spending, int]] = {}

    def grant(self, approve: Approve) -> Done:
        """Note what a contract may move from now on; `UNLIMITED` and more is without limit."""
        key = (approve.account, approve.asset, str(to_checksum_address(approve.spender)))
        self._left.pop(key, None)
        for used in self._used.values():
            used.pop(key, None)
        if int(approve.amount) < UNLIMITED:
            self._left[key] = int(approve.amount)
        return Done()

    def book(self, trade: Trade) -> None:
        """Use up what the buyers of a new trade pay."""
        if not self._left:
            return
        used: dict[Spending, int] = {}
        for order_id, paid in _payments(trade):
            key = spending_of(self._orders[order_id].place)
            if key in self._left:
                self._left[key] -= paid
                used[key] = used.get(key, 0) + paid
        if used:
            self._used[trade.trade_id] = used

    def settle(self, trade: Trade) -> None:
        """Give back what a trade used up that failed."""
        if trade.settlement is Settlement.FAILED:
            for key, paid in self._used.get(trade.trade_id, {}).items():
                self._left[key] += paid
        if trade.settlement in (Settlement.MINED, Settlement.FAILED):
            self._used.pop(trade.trade_id, None)

    def left(self, account: Account, asset: AssetType, spender: str) -> int:
        """Tell how much a contract may still move, base units. Open orders are not deducted."""
        if not self._left:
            return UNLIMITED
        return max(self._left.get((account, asset, str(to_checksum_address(spender))), UNLIMITED), 0)

    def left_for(self, place: PlaceOrder) -> int:
        """Tell how much the contract of an order may still move of what it gives. Open orders are not deducted."""
        if not (self._left and place.spender):
            return UNLIMITED
        return self.left(*spending_of(place))

    def uncovered(self, account: Account) -> tuple[Order, ...]:
        """List open orders that need more than their contract may still move; the oldest keep their cover."""
        # As with balances, the sums tell whether there are any.
        limited = (key for key in self._left if key[0] == account)
        if all(self._orders.spending(key) <= self._left[key] for key in limited):
            return ()
        return beyond(
            self._orders.open_of(account),
            group=lambda order: spending_of(order.place),
            limit=lambda order: self.left_for(order.place),
        )

    def state(self) -> object:
        """Give everything held here, for a digest."""
        used = [(trade_id, sorted((*key, str(paid)) for key, paid in u.items())) for trade_id, u in self._used.items()]
        return sorted((*key, str(left)) for key, left in self._left.items()), used


def _payments(trade: Trade) -> Iterator[tuple[ExchangeOrderId, int]]:
    if trade.side is Side.BUY:
        yield trade.taker_order_id, trade.notional + trade.fee
    for leg in trade.legs:
        if leg.side is Side.BUY:
            yield leg.order_id, leg.notional
