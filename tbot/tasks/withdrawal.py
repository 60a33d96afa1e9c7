"""The last cancels of a desk that went down: by id, through a gateway of its own, within seconds.

The next desk would find what rests, but nobody watches it until then. So each order is cancelled again and again until
the exchange says that it is gone, as often as it allows: a wait that it asks for is kept, unless that would leave an
order without a last try before the time is over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import structlog
import trio

from tbot.core.messages import Canceled, CancelRefused, CancelReply, ExchangeOrderId, OrderExposure, Throttled
from tbot.errors import TbotError
from tbot.exchanges.gateway import Gateway
from tbot.tasks.child import describe
from tbot.tasks.conflator import Conflator

log = structlog.get_logger()

WITHDRAW_WITHIN_S = 5.0
# Until a cancel without a clear answer is sent again.
AGAIN_S = 0.5
# A request that hangs is given up for another one: an answer takes tenths of a second.
ATTEMPT_S = 1.5
# What a last try needs before the time is over.
LAST_TRY_S = 0.75
# An order unknown to the exchange may be landing: its sender died with the request on the wire. Twice means gone.
REFUSALS_MAX = 2
# A gateway closes within a second; one that hangs must not keep the desk from its next start.
CLOSE_WITHIN_S = 1.5
# So many ids of what may still rest are told; the journal has all.
IDS_TOLD = 20

Exposures = Conflator[ExchangeOrderId, OrderExposure]


async def withdraw(open_gateway: Callable[[], Gateway], exposures: Exposures) -> None:
    """Cancel what may rest, and forget it as soon as it is surely gone; ends in time, whatever happens.

    Whatever goes wrong here is only told: the crash that led here decides what comes next.
    """
    if not len(exposures):
        return
    orders, gateway = len(exposures), open_gateway()
    try:
        with trio.move_on_after(WITHDRAW_WITHIN_S, shield=True) as window:
            await _Withdrawal(gateway, exposures).run(window.deadline)
    finally:
        left = exposures.keys()
        log.warning("desk.withdrawn", orders=orders, left=len(left), may_rest=list(left[:IDS_TOLD]))
        with trio.move_on_after(CLOSE_WITHIN_S, shield=True):
            await gateway.aclose()


class _Withdrawal:
    # When each order is due to be cancelled again, and how often the exchange did not know it.
    def __init__(self, gateway: Gateway, exposures: Exposures) -> None:
        self.gateway = gateway
        self.exposures = exposures
        self.due: dict[ExchangeOrderId, float] = {}
        self.refusals: Counter[ExchangeOrderId] = Counter()

    async def run(self, deadline: float) -> None:
        with trio.move_on_at(deadline - LAST_TRY_S):
            await self._cancel_all()
        # Whatever hangs, or was to wait for longer: all that is left gets its last try now.
        await self._cancel_all()

    async def _cancel_all(self) -> None:
        self.due = dict.fromkeys(self.exposures.keys(), trio.current_time())
        while self.due:
            await trio.sleep_until(min(self.due.values()))
            ready = [order_id for order_id, at in self.due.items() if at <= trio.current_time()]
            chunk = self.gateway.capabilities.cancel_batch_max
            async with trio.open_nursery() as nursery:
                for first in range(0, len(ready), chunk):
                    nursery.start_soon(self._cancel, ready[first : first + chunk])

    async def _cancel(self, order_ids: Sequence[ExchangeOrderId]) -> None:
        replies: Sequence[CancelReply] = ()
        try:
            with trio.move_on_after(ATTEMPT_S):
                replies = await self.gateway.cancel(order_ids)
        except TbotError as error:
            log.warning("desk.withdraw_unanswered", reason=describe(error))
        now = trio.current_time()
        self.due |= dict.fromkeys(order_ids, now + AGAIN_S)
        for reply in replies:
            self._hear(reply, now)

    def _hear(self, reply: CancelReply, now: float) -> None:
        order_id = reply.exchange_order_id
        self.refusals[order_id] += isinstance(reply, CancelRefused)
        if isinstance(reply, Canceled) or self.refusals[order_id] >= REFUSALS_MAX:
            self.exposures.discard(order_id)
            self.due.pop(order_id, None)
        elif isinstance(reply, Throttled):
            self.due[order_id] = now + max(AGAIN_S, reply.retry_after_s)
