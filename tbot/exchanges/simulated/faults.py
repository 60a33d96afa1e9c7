"""Seeded misbehaviour: what goes wrong, decided here and nowhere else.

A fault comes in one of three ways: by a script, by the dice, or switched on by request. Each kind of decision draws
from its own generator, so that one more submit does not change which fills are dropped. Every fault that is injected
is counted by name; a run reports the counts, and a run that reports none proves little.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Annotated, TypeVar

import msgspec

from tbot.core.units import NANOS_PER_S, Nanos
from tbot.exchanges.simulated.fault_catalogue import CATALOGUE, Draw, Fault, by_draw
from tbot.exchanges.simulated.fault_switches import FaultOrder, Switch, Switchboard
from tbot.exchanges.simulated.operations import Course

T = TypeVar("T")

Rate = Annotated[float, msgspec.Meta(ge=0, le=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]

COURSES = {
    Fault.GHOST_FILL: Course.FAIL,
    Fault.RETRIED_SETTLEMENT: Course.RETRY,
    Fault.RETRYING_FOREVER: Course.STUCK,
}


class FaultSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which faults come by script, and the rates of those that come by chance; nothing by default.

    The rates are listed beside their faults in docs/faults.md: those `per_hour` are times an hour on average, all
    others the share (0 to 1) of the requests, events or frames concerned.

    Attributes:
        script: Faults at given moments after the start.
        market_drop: Leave at 0 unless the reader under test verifies its book by other means: nothing in the feed
            tells of the loss before the next trade.
        silence_s: Length of a silence that comes by chance.
        late_s: How long after sending a late submit lands.
        delay_s: Longest delay of a reordered private event.
        delayed_s: How long a delayed FAK waits for the book.
        tick_s: How long a tick that changed in flight stays changed.
        skew_s: How far a skewed clock is ahead.
        retry_after_s: Told with every rate limit.
    """

    script: tuple[FaultOrder, ...] = ()
    submit_lost_before: Rate = 0.0
    submit_lost_after: Rate = 0.0
    submit_late: Rate = 0.0
    submit_http_5xx: Rate = 0.0
    submit_rate_limited: Rate = 0.0
    submit_tick_change: Rate = 0.0
    submit_delayed: Rate = 0.0
    batch_partial: Rate = 0.0
    cancel_lost_before: Rate = 0.0
    cancel_lost_after: Rate = 0.0
    cancel_rate_limited: Rate = 0.0
    report_unavailable: Rate = 0.0
    account_drop: Rate = 0.0
    account_duplicate: Rate = 0.0
    account_delay: Rate = 0.0
    market_drop: Rate = 0.0
    frame_cut: Rate = 0.0
    heartbeat_stolen: Rate = 0.0
    settlement_retry: Rate = 0.0
    settlement_fail: Rate = 0.0
    settlement_stuck: Rate = 0.0
    cuts_per_hour: Seconds = 0.0
    silences_per_hour: Seconds = 0.0
    asset_freezes_per_hour: Seconds = 0.0
    crossed_snapshots_per_hour: Seconds = 0.0
    slow_readers_per_hour: Seconds = 0.0
    phantom_locks_per_hour: Seconds = 0.0
    stale_balances_per_hour: Seconds = 0.0
    clock_skews_per_hour: Seconds = 0.0
    restarts_per_hour: Seconds = 0.0
    silence_s: Seconds = 20.0
    late_s: Seconds = 30.0
    delay_s: Seconds = 3.0
    delayed_s: Seconds = 3.0
    tick_s: Seconds = 10.0
    skew_s: Seconds = 30.0
    retry_after_s: Seconds = 1.0


class Faults:
    """The dice and the switches. Each `on_...` makes one decision and counts it when it is a fault.

    Keys given to a decision name what it concerns (a wallet, a token, a market); a switch with a target strikes only
    where its target is among them.

    Args:
        settings: Rates and script.
        seed: Same seed, same decisions in the same order, in every process.
    """

    def __init__(self, settings: FaultSettings, seed: int) -> None:
        self.settings = settings
        self.faults_injected: dict[str, int] = {}
        self.switches = Switchboard()
        # A generator is named by what draws from it and, for faults of time, by its own fault.
        names = [*map(str, Draw), *map(str, by_draw(Draw.TIME)), "delay", "target"]
        self._dice = {name: random.Random(f"{seed}/{name}") for name in names}
        self._tables = _tables(settings)
        self._due: dict[Fault, Nanos] = {}
        self._script: list[tuple[Nanos, FaultOrder]] = []

    # --- at what passes by ------------------------------------------------------------------------------------------

    def on_submit(self, *keys: str) -> Fault | None:
        """Decide the fate of one submit."""
        return self._decide(Draw.SUBMIT, keys)

    def on_immediate(self, *keys: str) -> bool:
        """Decide whether a FAK or FOK order is delayed."""
        return self._decide(Draw.IMMEDIATE, keys) is not None

    def is_delaying(self) -> bool:
        """Tell whether a FAK or FOK order may be delayed at all now; nothing is decided."""
        return bool(self._tables[Draw.IMMEDIATE]) or self.switches.strikes_at(Draw.IMMEDIATE)

    def on_batch(self, *keys: str) -> bool:
        """Decide whether half of a batch is refused."""
        return self._decide(Draw.BATCH, keys) is not None

    def on_cancel(self) -> Fault | None:
        """Decide the fate of one cancel request, whatever the number of its ids."""
        return self._decide(Draw.CANCEL)

    def on_report(self) -> bool:
        """Decide whether a sweep of reads fails."""
        return self._decide(Draw.READ) is not None

    def on_account_event(self, *keys: str) -> Fault | None:
        """Decide the fate of one private event."""
        return self._decide(Draw.ACCOUNT_EVENT, keys)

    def on_market_event(self) -> bool:
        """Decide whether one public event is lost on its way to one reader."""
        return self._decide(Draw.MARKET_EVENT) is not None

    def on_settlement(self, *keys: str) -> Course:
        """Decide how the trades of one taker order settle."""
        fault = self._decide(Draw.TRADE, keys)
        return Course.CONFIRM if fault is None else COURSES[fault]

    def on_frame(self) -> bool:
        """Decide whether a connection ends in the middle of one frame."""
        return self._decide(Draw.FRAME) is not None

    def on_heartbeat(self, api_key: str) -> bool:
        """Decide whether another sender was faster than one heartbeat."""
        return self._decide(Draw.HEARTBEAT, (api_key,)) is not None

    def event_delay_ns(self) -> int:
        """Draw the delay of a reordered private event."""
        return int(self._dice["delay"].uniform(0.1, 1.0) * self.settings.delay_s * NANOS_PER_S)

    def choice(self, among: Sequence[T]) -> T:
        """Draw the victim of a fault that was given no target."""
        return self._dice["target"].choice(among)

    # --- by time ----------------------------------------------------------------------------------------------------

    def begin(self, now_ns: Nanos) -> None:
        """Start the clock of the script, and of everything that comes so often an hour."""
        self._script = sorted(
            ((_after(now_ns, order.at_s), order) for order in self.settings.script), key=lambda entry: entry[0]
        )
        for fault in by_draw(Draw.TIME):
            self._plan(fault, now_ns)

    def next_ns(self) -> Nanos | None:
        """When the next fault begins or ends by itself."""
        dues = [*self._due.values(), *(due_ns for due_ns, _ in self._script[:1])]
        ends_ns = self.switches.next_end_ns()
        return min(dues if ends_ns is None else [*dues, ends_ns], default=None)

    def due(self, now_ns: Nanos) -> tuple[FaultOrder, ...]:
        """Take what the script and the dice want to begin by now."""
        begun: list[FaultOrder] = []
        while self._script and self._script[0][0] <= now_ns:
            begun.append(self._script.pop(0)[1])
        for fault, due_ns in tuple(self._due.items()):
            if due_ns <= now_ns:
                begun.append(FaultOrder(name=fault, seconds=self._length_s(fault) or None))
                self._plan(fault, now_ns)
        return tuple(begun)

    def switch(self, order: FaultOrder, now_ns: Nanos) -> Switch:
        """Switch a fault on; a fault of time counts now, all others when they strike."""
        if CATALOGUE[order.name].draw is Draw.TIME:
            self.count(order.name)
        return self.switches.on(order, now_ns)

    def is_on(self, fault: Fault, *keys: str) -> bool:
        """Tell whether a fault of time concerns one of the keys now."""
        return self.switches.find(fault, keys) is not None

    def calm(self) -> None:
        """Decide for no fault from now on, and plan none; what has a time of its own takes its course."""
        self.settings = FaultSettings()
        self._tables = _tables(self.settings)
        self._due.clear()
        self._script.clear()
        self.switches.off_unless(Draw.TIME)

    def count(self, fault: Fault) -> None:
        """Count one injected fault that was decided elsewhere, such as a cut by hand."""
        self.faults_injected[fault] = self.faults_injected.get(fault, 0) + 1

    def _length_s(self, fault: Fault) -> float:
        return self.settings.silence_s if fault is Fault.SILENT_FEED else CATALOGUE[fault].length_s

    def _plan(self, fault: Fault, now_ns: Nanos) -> None:
        per_hour = getattr(self.settings, CATALOGUE[fault].rate)
        if per_hour:
            self._due[fault] = _after(now_ns, self._dice[fault].expovariate(per_hour / 3600))

    # What was asked for by name comes before what the dice say, and leaves the dice alone.
    def _decide(self, draw: Draw, keys: tuple[str, ...] = ()) -> Fault | None:
        fault = self.switches.take(draw, keys)
        if fault is None and (table := self._tables[draw]):
            fault = _drawn(table, self._dice[draw].random())
        if fault is not None:
            self.count(fault)
        return fault


def _drawn(table: tuple[tuple[Fault, float], ...], draw: float) -> Fault | None:
    for fault, rate in table:
        if draw < rate:
            return fault
        draw -= rate
    return None


def _after(now_ns: Nanos, seconds: float) -> Nanos:
    return Nanos(now_ns + int(seconds * NANOS_PER_S))


# A table is empty when all its rates are 0, so that a run without faults draws nothing.
def _tables(settings: FaultSettings) -> dict[Draw, tuple[tuple[Fault, float], ...]]:
    tables: dict[Draw, tuple[tuple[Fault, float], ...]] = {}
    for draw in Draw:
        rows = tuple((fault, float(getattr(settings, CATALOGUE[fault].rate))) for fault in by_draw(draw))
        tables[draw] = rows if any(rate for _, rate in rows) else ()
    return tables
