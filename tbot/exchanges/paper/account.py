"""What a paper account owns and what became of its orders. Pure: entries in, balances and records out.

Everything that happens is an `Entry`; the account is what its entries make of it, so an append-only file of them is a
full backup. Outgoings leave at the match; what a trade brings in can be used once it is settled.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from tbot.core.market import CASH, TokenId
from tbot.core.messages import ExchangeOrderId, Fill, Message, OrderState, OrderType, Settlement, Side, TradeId
from tbot.core.units import Nanos, Notional, Price, Size, notional_ceil


class AccountOpened(Message, frozen=True, kw_only=True):
    """The account began with some play money."""

    cash: Notional
    at_ns: Nanos


class OrderTaken(Message, frozen=True, kw_only=True):
    """The paper exchange took an order."""

    exchange_order_id: ExchangeOrderId
    token_id: TokenId
    side: Side
    price: Price
    size: Size
    order_type: OrderType
    at_ns: Nanos


class OrderEnded(Message, frozen=True, kw_only=True):
    """An order ended without being filled; what it got, it keeps."""

    exchange_order_id: ExchangeOrderId
    reason: str
    at_ns: Nanos


class TradeSettled(Message, frozen=True, kw_only=True):
    """A trade became final."""

    trade_id: TradeId
    at_ns: Nanos


Entry = AccountOpened | OrderTaken | OrderEnded | Fill | TradeSettled


@dataclass(kw_only=True, slots=True)
class PaperOrder:
    """One order as it stands; `size` is its target in shares."""

    exchange_order_id: ExchangeOrderId
    token_id: TokenId
    side: Side
    price: Price
    size: Size
    order_type: OrderType
    matched: int = 0
    state: OrderState = OrderState.LIVE

    @property
    def left(self) -> Size:
        """Shares still wanted."""
        return Size(max(0, self.size - self.matched))


class PaperAccount:
    """Balances, orders and trades of one account."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        """Make of the entries what they say, oldest first."""
        self._usable: dict[TokenId, int] = {}
        self._orders: dict[ExchangeOrderId, PaperOrder] = {}
        # Of a night's thousands a few rest, and they are asked for at each order and fill.
        self._open: dict[ExchangeOrderId, PaperOrder] = {}
        self._fills: dict[TradeId, Fill] = {}
        self._unsettled: dict[TradeId, None] = {}
        self.is_opened = False
        for entry in entries:
            self.book(entry)

    def book(self, entry: Entry) -> None:
        """Take one entry."""
        match entry:
            case AccountOpened():
                self._usable[CASH] = entry.cash
                self.is_opened = True
            case OrderTaken():
                order = PaperOrder(
                    exchange_order_id=entry.exchange_order_id,
                    token_id=entry.token_id,
                    side=entry.side,
                    price=entry.price,
                    size=entry.size,
                    order_type=entry.order_type,
                )
                self._orders[order.exchange_order_id] = self._open[order.exchange_order_id] = order
            case OrderEnded():
                self._orders[entry.exchange_order_id].state = OrderState.CANCELED
                self._open.pop(entry.exchange_order_id, None)
            case Fill():
                self._book_fill(entry)
            case TradeSettled():
                self._settle(entry.trade_id)

    # --- reading ----------------------------------------------------------------------------------------------------

    def usable(self, asset: TokenId) -> int:
        """What of an asset can be given away now, resting orders not counted."""
        return self._usable.get(asset, 0)

    def order(self, order_id: ExchangeOrderId) -> PaperOrder | None:
        """Look up one order in any state; None = never taken."""
        return self._orders.get(order_id)

    def open_orders(self) -> tuple[PaperOrder, ...]:
        """List what rests, oldest first."""
        return tuple(self._open.values())

    def fills(self, since_ns: Nanos) -> tuple[Fill, ...]:
        """List fills received at or after a moment, as they stand now."""
        return tuple(fill for fill in self._fills.values() if fill.received_ns >= since_ns)

    def unsettled(self) -> tuple[Fill, ...]:
        """List the trades that are not final, oldest first."""
        return tuple(self._fills[trade_id] for trade_id in self._unsettled)

    @property
    def trades(self) -> int:
        """Number of trades so far; names the next."""
        return len(self._fills)

    def can_cover(self, order: OrderTaken, *, tokens: tuple[TokenId, TokenId]) -> bool:
        """Tell whether an order and the open ones of its market that give the same asset can all be paid.

        Args:
            order: A new one.
            tokens: Both tokens of its market: buys of one market share its collateral, as on the exchange.
        """
        rivals = [o for o in self.open_orders() if o.side is order.side and o.token_id in tokens]
        if order.side is Side.SELL:
            bound = sum(o.left for o in rivals if o.token_id == order.token_id)
            return bound + order.size <= self.usable(order.token_id)
        spent = sum(notional_ceil(o.price, o.left) for o in rivals)
        return spent + notional_ceil(order.price, order.size) <= self.usable(CASH)

    def uncovered(self, tokens: tuple[TokenId, TokenId]) -> Iterator[PaperOrder]:
        """Name the open orders of a market that can no longer be paid, the newest first given up."""
        for asset in (CASH, *tokens):
            room = self.usable(asset)
            for order in self.open_orders():
                if order.token_id not in tokens or _given(order) != asset:
                    continue
                room -= notional_ceil(order.price, order.left) if asset == CASH else order.left
                if room < 0:
                    yield order

    # --- booking ----------------------------------------------------------------------------------------------------

    def _book_fill(self, fill: Fill) -> None:
        order = self._orders[fill.exchange_order_id]
        order.matched += fill.size
        if not order.left and order.state is OrderState.LIVE:
            order.state = OrderState.MATCHED
            self._open.pop(order.exchange_order_id, None)
        self._fills[fill.trade_id] = fill
        self._unsettled[fill.trade_id] = None
        if fill.side is Side.BUY:
            self._add(CASH, -(fill.notional + fill.fee))
        else:
            self._add(fill.token_id, -fill.size)

    def _settle(self, trade_id: TradeId) -> None:
        fill = self._fills[trade_id]
        self._unsettled.pop(trade_id, None)
        self._fills[trade_id] = msgspec.structs.replace(fill, settlement=Settlement.CONFIRMED)
        if fill.side is Side.BUY:
            self._add(fill.token_id, fill.size)
        else:
            self._add(CASH, fill.notional - fill.fee)

    def _add(self, asset: TokenId, amount: int) -> None:
        self._usable[asset] = self._usable.get(asset, 0) + amount


def _given(order: PaperOrder) -> TokenId:
    return CASH if order.side is Side.BUY else order.token_id
