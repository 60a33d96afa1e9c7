"""Answers that come later: to operations still on their way, and to orders held by a delay their sender waits for."""

from __future__ import annotations

import trio

from tbot.core.messages import ExchangeOrderId, OrderState
from tbot.exchanges.simulated.matching import Engine
from tbot.exchanges.simulated.operations import Operation, Placed, PlaceOrder, Reply


class Ticket:
    """The answer slot of an operation."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.reply: Reply | None = None
        self._answered = trio.Event()

    def answer(self, reply: Reply) -> None:
        """Fill the slot, once."""
        self.reply = reply
        self._answered.set()

    async def wait(self) -> Reply:
        """Wait for the answer; the caller sets the deadline."""
        await self._answered.wait()
        assert self.reply is not None
        return self.reply


class HeldOrders:
    """Senders who get no answer before the taker delay of their order is over.

    Args:
        engine: Which holds the orders.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._tickets: dict[ExchangeOrderId, list[Ticket]] = {}

    def answer_or_keep(self, ticket: Ticket, reply: Reply) -> None:
        """Answer a ticket now, or once its order is not held any more.

        Args:
            ticket: To answer, once.
            reply: What the engine said when the order came; it may have been released since.
        """
        if not isinstance(reply, Placed) or reply.state is not OrderState.DELAYED or _is_answered_at_once(ticket):
            ticket.answer(reply)
        elif self._is_awaited(reply.order_id):
            self._tickets.setdefault(reply.order_id, []).append(ticket)
        else:
            ticket.answer(self._engine.verdict(reply.order_id))

    def answer_released(self) -> None:
        """Answer every ticket whose order is not held any more."""
        for order_id in tuple(self._tickets):
            if not self._is_awaited(order_id):
                for ticket in self._tickets.pop(order_id):
                    ticket.answer(self._engine.verdict(order_id))

    # A delay in whole seconds is another thing: there the answer is DELAYED, at once.
    def _is_awaited(self, order_id: ExchangeOrderId) -> bool:
        order = self._engine.order(order_id)
        assert order is not None, "an order that was answered is known"
        return order.state is OrderState.DELAYED and self._engine.rules(order.market_id).taker_delay_ms > 0


# Held by a fault, and not by its market.
def _is_answered_at_once(ticket: Ticket) -> bool:
    return isinstance(ticket.operation, PlaceOrder) and ticket.operation.delay_ns > 0
