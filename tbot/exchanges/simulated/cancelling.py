"""How open orders are cancelled: by their owners, by the exchange itself, one or many."""

from __future__ import annotations

from collections.abc import Mapping

from tbot.core.market import MarketId
from tbot.core.messages import ExchangeOrderId, OrderState
from tbot.exchanges.simulated.checks import objection_to_cancelling
from tbot.exchanges.simulated.events import OrderChange
from tbot.exchanges.simulated.operations import (
    ANY_MARKET,
    ANY_OWNER,
    ANY_TOKEN,
    CancelEvery,
    CancelOrders,
    CancelResult,
    EndReason,
    Mode,
)
from tbot.exchanges.simulated.orderbook import Order, UnifiedBook
from tbot.exchanges.simulated.resting import OrderTable
from tbot.exchanges.simulated.turn import Turn


class Cancelling:
    """Takes orders from the books.

    Args:
        books: Of every market; the engine's own, not a copy.
        orders: Likewise.
    """

    def __init__(self, books: Mapping[MarketId, UnifiedBook], orders: OrderTable) -> None:
        self._books = books
        self._orders = orders

    def by_id(self, operation: CancelOrders, mode: Mode, turn: Turn) -> CancelResult:
        """Cancel orders of one account by id, as far as anybody may cancel now."""
        closed = objection_to_cancelling(operation, mode)
        canceled: list[ExchangeOrderId] = []
        refused: list[tuple[ExchangeOrderId, str]] = []
        for order_id in dict.fromkeys(operation.order_ids):
            text = closed or self._orders.objection_to_cancel(order_id, operation.account)
            if text:
                refused.append((order_id, text))
            else:
                self.cancel(self._orders[order_id], operation.reason, turn)
                canceled.append(order_id)
        return CancelResult(canceled=tuple(canceled), not_canceled=tuple(refused))

    def every(self, operation: CancelEvery, mode: Mode, turn: Turn) -> CancelResult:
        """Cancel every open order of an account, or those of one market or token."""
        canceled: list[ExchangeOrderId] = []
        if objection_to_cancelling(operation, mode):
            return CancelResult(canceled=())
        for order in self._orders.open_of(operation.account):
            if _is_meant(order, operation):
                self.cancel(order, operation.reason, turn)
                canceled.append(order.place.order_id)
        return CancelResult(canceled=tuple(canceled))

    def clear(self, market_id: MarketId, reason: EndReason, turn: Turn) -> None:
        """Cancel every open order of a market."""
        for order in self._orders.open_in(market_id):
            self.cancel(order, reason, turn)

    def clear_held(self, market_id: MarketId, objection: tuple[str, EndReason], turn: Turn) -> list[ExchangeOrderId]:
        """End every order of a market that a delay holds.

        Args:
            market_id: Whose.
            objection: The text of the refusal, and how they end.
            turn: Tells their owners.

        Returns:
            Their ids, of which no release must follow.
        """
        held = self._orders.held_in(market_id)
        for order in held:
            self._orders.release(order)
            self.end_held(order, objection, turn)
        return [order.place.order_id for order in held]

    def end_held(self, order: Order, objection: tuple[str, EndReason], turn: Turn) -> None:
        """End an order that was held and is released, and tell its owner."""
        (order.refusal, order.reason), order.state = objection, OrderState.CANCELED
        turn.tell_order(OrderChange.CANCELLATION, order, self._books[order.market_id])

    def cancel(self, order: Order, reason: EndReason, turn: Turn) -> None:
        """Cancel an open order and tell its owner."""
        book = self._books[order.market_id]
        order.state, order.reason = OrderState.CANCELED, reason
        turn.touch(book, order)
        self.leave(order, book)
        turn.tell_order(OrderChange.CANCELLATION, order, book)

    def leave(self, order: Order, book: UnifiedBook) -> None:
        """Take an order that is over from its book."""
        book.side(is_bid=order.is_bid).remove(order)
        self._orders.leave(order)


def _is_meant(order: Order, operation: CancelEvery) -> bool:
    return (
        operation.market_id in (ANY_MARKET, order.market_id)
        and operation.token_id in (ANY_TOKEN, order.place.token_id)
        and operation.owner in (ANY_OWNER, order.place.owner)
    )
