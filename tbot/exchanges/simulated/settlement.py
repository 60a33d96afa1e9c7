"""What time does: the life of a trade after the match, as a table of steps, and the queue of what is due when."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection

import msgspec

from tbot.core.market import MarketId
from tbot.core.messages import ExchangeOrderId, Settlement, TradeId
from tbot.core.units import Nanos
from tbot.exchanges.simulated.operations import Course, EngineSettings

_Delay = Callable[[EngineSettings], int]

COURSE_STEPS: dict[Course, tuple[tuple[Settlement, _Delay], ...]] = {
    Course.CONFIRM: (
        (Settlement.MINED, lambda s: s.mined_after_ns),
        (Settlement.CONFIRMED, lambda s: s.confirmed_after_ns),
    ),
    Course.RETRY: (
        (Settlement.RETRYING, lambda s: s.retry_after_ns),
        (Settlement.MINED, lambda s: 2 * s.retry_after_ns),
        (Settlement.CONFIRMED, lambda s: 2 * s.retry_after_ns + s.confirmed_after_ns - s.mined_after_ns),
    ),
    # A trade fails before it was ever MINED: what it brought in was never spendable, so it can be undone in full.
    Course.FAIL: (
        (Settlement.RETRYING, lambda s: s.retry_after_ns),
        (Settlement.FAILED, lambda s: 2 * s.retry_after_ns),
    ),
    Course.STUCK: ((Settlement.RETRYING, lambda s: s.retry_after_ns),),
}
"""Every status after MATCHED with its delay from the match."""


def longest_course_ns(settings: EngineSettings) -> int:
    """Tell when the last step of a trade is due at the latest, counted from its match."""
    return max(delay(settings) for steps in COURSE_STEPS.values() for _, delay in steps)


class SettleTrade(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A settlement step that is due."""

    trade_id: TradeId
    settlement: Settlement


class ExpireOrder(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A GTD order whose time has come."""

    order_id: ExchangeOrderId


class ReleaseOrder(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An order whose taker delay is over."""

    order_id: ExchangeOrderId


class StartGame(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A market whose game starts."""

    market_id: MarketId


class ReportPayout(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A resolved market whose tokens pay from now on."""

    market_id: MarketId


Step = SettleTrade | ExpireOrder | ReleaseOrder | StartGame | ReportPayout


class Agenda:
    """What time will do, soonest first; equal moments in the order they were entered."""

    def __init__(self) -> None:
        self._heap: list[tuple[Nanos, int, Step]] = []
        self._count = 0

    def next_due_ns(self) -> Nanos | None:
        """When the next step is due."""
        return self._heap[0][0] if self._heap else None

    def enter(self, due_ns: Nanos, step: Step) -> None:
        """Add one step."""
        self._count += 1
        heapq.heappush(self._heap, (due_ns, self._count, step))

    def enter_course(self, trade_id: TradeId, course: Course, settings: EngineSettings, now_ns: Nanos) -> None:
        """Add every step of a trade matched now."""
        for settlement, delay in COURSE_STEPS[course]:
            self.enter(Nanos(now_ns + delay(settings)), SettleTrade(trade_id=trade_id, settlement=settlement))

    def drop(self, steps: Collection[Step]) -> None:
        """Take out steps that must not come any more."""
        if steps:
            self._heap = [entry for entry in self._heap if entry[2] not in steps]
            heapq.heapify(self._heap)

    def pop_due(self, now_ns: Nanos) -> tuple[Nanos, Step] | None:
        """Take the soonest step if it is due."""
        if not self._heap or self._heap[0][0] > now_ns:
            return None
        due_ns, _, step = heapq.heappop(self._heap)
        return due_ns, step
