"""Signs, makes durable, sends: the only task that talks to the exchange's order entry.

The life of a submit: sign -> `Prepared` durable -> coordinator hears `Prepared` -> POST -> reply. A crash at any arrow
is recoverable: before the commit the order never left, after it the order is known by its id.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec
import structlog
import trio

from tbot.core.messages import (
    CancelOrder,
    ExchangeOrderId,
    OrderExposure,
    Prepared,
    RejectCode,
    Rejected,
    SubmitOrder,
)
from tbot.core.units import Nanos
from tbot.exchanges.gateway import Gateway
from tbot.tasks.conflator import Conflator
from tbot.tasks.inbox import FACTS, Inbox
from tbot.tasks.journal import JournalClient
from tbot.tasks.supervisor import PULSE_S, TaskContext

log = structlog.get_logger()

# One is on the wire for about a round trip (tens of ms), so eight carry over a hundred orders a second.
SUBMITS_IN_FLIGHT = 8
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
    _slots: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(SUBMITS_IN_FLIGHT))

    async def run(self, ctx: TaskContext) -> None:
        """Send what comes until stopped, then finish what is on the wire."""
        with self.inbox:
            ctx.started()
            async with trio.open_nursery() as nursery:
                while not ctx.stop.is_set():
                    await ctx.beat()
                    batch = await self.inbox.take(trio.current_time() + PULSE_S / 2)
                    cancels = [m for m in batch if isinstance(m, CancelOrder)]
                    chunk = self.gateway.capabilities.cancel_batch_max
                    for first in range(0, len(cancels), chunk):
                        nursery.start_soon(self._cancel, cancels[first : first + chunk])
                    for message in batch:
                        if isinstance(message, SubmitOrder):
                            nursery.start_soon(self._submit, message)

    async def _cancel(self, commands: Sequence[CancelOrder]) -> None:
        for reply in await self.gateway.cancel([c.exchange_order_id for c in commands]):
            await self.coordinator.send(FACTS, reply)
        for command in commands:
            log.info("order.cancel", client_order_id=command.client_order_id, reason=command.reason)

    async def _submit(self, order: SubmitOrder) -> None:
        async with self._slots:
            if await self._is_expired(order):
                return
            signed = self.gateway.prepare(order, self.now_ns())
            prepared = Prepared(
                client_order_id=order.client_order_id,
                exchange_order_id=signed.exchange_order_id,
                body=signed.body,
                at_ns=signed.prepared_ns,
            )
            payload = _encoder.encode(prepared)
            await self.journal.commit_prepared(order.client_order_id, payload, at_ns=signed.prepared_ns)
            await self.coordinator.send(FACTS, prepared)
            if await self._is_expired(order):
                return
            exposure = OrderExposure(exchange_order_id=signed.exchange_order_id)
            self.exposures.put(signed.exchange_order_id, exposure)
            reply = await self.gateway.submit(signed)
            await self.coordinator.send(FACTS, reply)
        log.info(
            "order.submit",
            client_order_id=order.client_order_id,
            outcome=type(reply).__name__,
            side=order.side.value,
            price=order.price,
            size=order.size,
        )

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
