"""Signs, makes durable, sends: the only task that talks to the exchange's order entry.

The life of a submit: sign -> `Prepared` durable -> coordinator hears `Prepared` -> POST -> reply. A crash at any arrow
is recoverable: before the commit the order never left, after it the order is known by its id. No retry is made here:
the same bytes leave once more when the coordinator says so (see `core.resend`), but not after a deadline or a cancel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec
import structlog
import trio

from tbot.core.decide import COMMANDS_MAX
from tbot.core.messages import (
    CancelOrder,
    ExchangeOrderId,
    LimitLearned,
    OrderExposure,
    OutcomeUnknown,
    Prepared,
    RejectCode,
    Rejected,
    ResendOrder,
    SubmitOrder,
    SubmitReply,
)
from tbot.core.units import Nanos
from tbot.exchanges.gateway import Gateway, PreparedOrder
from tbot.tasks.conflator import Conflator
from tbot.tasks.inbox import FACTS, Inbox
from tbot.tasks.journal import JournalClient
from tbot.tasks.supervisor import PULSE_S, TaskContext
from tbot.tasks.turns import Turns

log = structlog.get_logger()

# One is on the wire for about a round trip (tens of ms), so eight carry over a hundred orders a second.
SUBMITS_IN_FLIGHT = 8
# A gateway bounds its own waits (8 s on Polymarket, the rate gate included) and answers every doubt with a value; one
# that keeps silent for longer is broken, and would hold a place in flight for ever.
ANSWER_S = 15.0
_encoder = msgspec.msgpack.Encoder()


@dataclass(kw_only=True)
class Dispatcher:
    """Body of the dispatcher's task; `run` is given to the supervisor.

    Attributes:
        inbox: Lanes `DISPATCH_LANES`, cancels first.
        coordinator: Gets every outcome, as facts in order of happening.
        exposures: Told of an order before it can reach the exchange, for the desk's shell.
    """

    inbox: Inbox
    coordinator: Inbox
    gateway: Gateway
    journal: JournalClient
    exposures: Conflator[ExchangeOrderId, OrderExposure]
    now_ns: Callable[[], Nanos]
    _copies: dict[ExchangeOrderId, ResendOrder] = field(default_factory=dict, init=False)
    _told_open_orders_max: int = field(default=0, init=False)

    async def run(self, ctx: TaskContext) -> None:
        """Send what comes until stopped, then finish what is on the wire; what still waits then is never sent.

        Raises:
            AuthenticationFailed: The exchange refuses our credentials.
            InvariantViolated: An order that cannot be signed was approved.
            trio.TooSlowError: The gateway broke its promise to answer.
            trio.BrokenResourceError: The coordinator or the journal is gone.
        """
        # The coordinator counts the orders that are not signed yet, so there are never more than a lane of them; as
        # many copies find room beside them, and it has far fewer on their way.
        self._told_open_orders_max = self.gateway.capabilities.open_orders_max  # the coordinator starts with it
        turns = Turns(2 * COMMANDS_MAX, together_max=self.gateway.capabilities.submit_batch_max)
        with self.inbox:
            ctx.started()
            async with trio.open_nursery() as nursery:
                for _ in range(SUBMITS_IN_FLIGHT):
                    nursery.start_soon(self._submit_in_turn, turns, ctx.stop)
                while not ctx.stop.is_set():
                    await ctx.beat()
                    batch = await self.inbox.take(trio.current_time() + PULSE_S / 2)
                    self._start_cancels([m for m in batch if isinstance(m, CancelOrder)], nursery)
                    for order in (m for m in batch if isinstance(m, SubmitOrder | ResendOrder)):
                        if isinstance(order, ResendOrder):
                            self._copies[order.exchange_order_id] = order
                        turns.put(order)
                turns.close()

    def _start_cancels(self, cancels: Sequence[CancelOrder], nursery: trio.Nursery) -> None:
        """Send cancels at once, beside whatever is on the wire: they never wait for a submit."""
        for command in cancels:
            self._copies.pop(command.exchange_order_id, None)
        chunk = self.gateway.capabilities.cancel_batch_max
        for first in range(0, len(cancels), chunk):
            nursery.start_soon(self._cancel, cancels[first : first + chunk])

    async def _submit_in_turn(self, turns: Turns, stop: trio.Event) -> None:
        while (group := await turns.take()) and not stop.is_set():
            orders = [turn for turn in group if isinstance(turn, SubmitOrder)]
            if orders:
                await self._submit(orders)
            for copy in (turn for turn in group if isinstance(turn, ResendOrder)):
                await self._resend(copy)

    async def _cancel(self, commands: Sequence[CancelOrder]) -> None:
        with trio.fail_after(ANSWER_S):
            replies = await self.gateway.cancel([c.exchange_order_id for c in commands])
        for reply in replies:
            await self.coordinator.send(FACTS, reply)
        await self._tell_limit()
        for command in commands:
            log.info("order.cancel", client_order_id=command.client_order_id, reason=command.reason)

    async def _submit(self, orders: Sequence[SubmitOrder]) -> None:
        fresh = [order for order in orders if not await self._is_expired(order)]
        signed = await self._prepare(fresh)
        ready = [pair for pair in zip(fresh, signed, strict=True) if not await self._is_expired(pair[0])]
        replies = await self._send([prepared for _, prepared in ready])
        await self._tell_limit()
        for (order, _), reply in zip(ready, replies, strict=True):
            await self.coordinator.send(FACTS, reply)
            log.info(
                "order.submit",
                client_order_id=order.client_order_id,
                outcome=type(reply).__name__,
                side=order.side.value,
                price=order.price,
                size=order.size,
            )

    async def _resend(self, order: ResendOrder) -> None:
        is_withdrawn = self._copies.pop(order.exchange_order_id, None) is None
        if is_withdrawn or self.now_ns() > order.deadline_ns:
            reason = "not sent again: " + ("to be cancelled" if is_withdrawn else "too late")
            reply: SubmitReply = self._unproven(order, RejectCode.EXPIRED_UNSENT, reason)
        else:
            copy = PreparedOrder(
                client_order_id=order.client_order_id,
                exchange_order_id=order.exchange_order_id,
                body=order.body,
                prepared_ns=order.prepared_ns,
                deadline_ns=order.deadline_ns,
            )
            (reply,) = await self._send([copy])
        if isinstance(reply, Rejected):
            reply = self._unproven(order, reply.code, reply.reason, reply.retry_after_s)
        await self.coordinator.send(FACTS, reply)
        log.info("order.resend", client_order_id=order.client_order_id, outcome=type(reply).__name__)

    async def _send(self, signed: Sequence[PreparedOrder]) -> tuple[SubmitReply, ...]:
        """Send signed orders, in one request if they are several; from here on they may rest."""
        for order in signed:
            self.exposures.put(order.exchange_order_id, OrderExposure(exchange_order_id=order.exchange_order_id))
        with trio.fail_after(ANSWER_S):
            match signed:
                case []:
                    return ()
                case [alone]:
                    return (await self.gateway.submit(alone),)
                case _:
                    return await self.gateway.submit_batch(signed)

    def _unproven(
        self, order: ResendOrder, code: RejectCode, reason: str, retry_after_s: float = 0.0
    ) -> OutcomeUnknown:
        """Say that a copy made no order, which leaves open whether the first bytes did."""
        return OutcomeUnknown(
            exchange_order_id=order.exchange_order_id,
            was_cancel=False,
            reason=reason,
            at_ns=self.now_ns(),
            code=code,
            retry_after_s=retry_after_s,
        )

    async def _tell_limit(self) -> None:
        """Tell how many orders may rest, when an answer of the exchange has changed that."""
        open_orders_max = self.gateway.capabilities.open_orders_max
        if open_orders_max != self._told_open_orders_max:
            self._told_open_orders_max = open_orders_max
            await self.coordinator.send(FACTS, LimitLearned(open_orders_max=open_orders_max, at_ns=self.now_ns()))

    async def _prepare(self, orders: Sequence[SubmitOrder]) -> list[PreparedOrder]:
        """Sign orders, make all of them durable and tell the coordinator, in this order."""
        signed = [self.gateway.prepare(order, self.now_ns()) for order in orders]
        records = [
            Prepared(
                client_order_id=each.client_order_id,
                exchange_order_id=each.exchange_order_id,
                body=each.body,
                at_ns=each.prepared_ns,
            )
            for each in signed
        ]
        async with trio.open_nursery() as nursery:  # side by side, so that one sync of the disk serves them all
            for record in records:
                nursery.start_soon(self._commit, record)
        for record in records:
            await self.coordinator.send(FACTS, record)
        return signed

    async def _commit(self, record: Prepared) -> None:
        payload = _encoder.encode(record)
        await self.journal.commit_prepared(record.client_order_id, payload, at_ns=record.at_ns)

    async def _is_expired(self, order: SubmitOrder) -> bool:
        """Refuse an order whose moment has passed while it waited; it was never sent."""
        now_ns = self.now_ns()
        if now_ns <= order.deadline_ns:
            return False
        rejected = Rejected(
            client_order_id=order.client_order_id,
            code=RejectCode.EXPIRED_UNSENT,
            reason=f"waited {(now_ns - order.at_ns) // 1_000_000} ms",
            at_ns=now_ns,
        )
        await self.coordinator.send(FACTS, rejected)
        return True
