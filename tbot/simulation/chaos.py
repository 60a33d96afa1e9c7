"""Crashes and wedges on a timetable that keeps every restart limit by construction.

Every kind of task is to crash twice and to hang once, in an order drawn anew for each seed, so that short runs of many
seeds meet what one long run meets. Strikes are spaced so that no unit sees more than `STRIKES_PER_WINDOW` in one
restart window, one less than its supervisor forgives.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Sequence

import msgspec
import trio

STRIKES_PER_WINDOW = 4
WINDOW_S = 600.0
# Share of the distance between two strikes that chance may move each of them, always to later.
JITTER = 0.2
# Least distance: five strikes then span a window, however they are moved.
GAP_S = WINDOW_S / (STRIKES_PER_WINDOW - JITTER)
# Nothing is struck while the tree is still being built.
CALM_S = 10.0
# What a hung task let happen may still be on its way to the exchange for so long.
AFTER_HANG_S = 2.0


class InjectedCrash(Exception):  # it is planted, not an error of anybody
    """A planted fault: any task may raise anything at any time, this stands for all of it."""


class Strike(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One planted fault.

    Attributes:
        at_s: Seconds after the start of the run; it hits at the task's next beat.
        task: Which task.
        is_wedge: Hang for ever instead of raising.
    """

    at_s: float
    task: str
    is_wedge: bool


def timetable(units: Sequence[Sequence[str]], *, duration_s: float, rng: random.Random) -> tuple[Strike, ...]:
    """Lay out strikes for a whole run.

    Args:
        units: Task names, grouped by the unit that is restarted when one of them crashes.
        duration_s: Length of the run.
        rng: Draws the jitter.

    Returns:
        Strikes in order of time. An hour is long enough for two crashes and a wedge of each of the desk's tasks.
    """
    strikes = [s for tasks in units for s in _unit_timetable(tasks, duration_s, rng)]
    return tuple(sorted(strikes, key=lambda s: (s.at_s, s.task)))


def _unit_timetable(tasks: Sequence[str], duration_s: float, rng: random.Random) -> list[Strike]:
    wanted = [(task, is_wedge) for is_wedge in (False, False, True) for task in tasks]
    rng.shuffle(wanted)
    room_s = max(duration_s - 2 * CALM_S, 0.0)
    count = min(len(wanted), max(int(room_s // GAP_S), STRIKES_PER_WINDOW))
    step_s = room_s / count
    spaced = [CALM_S + (i + rng.uniform(0.0, JITTER)) * step_s for i in range(count)]
    return [Strike(at_s=at, task=task, is_wedge=wedge) for at, (task, wedge) in zip(spaced, wanted, strict=False)]


class Chaos:
    """The hook that supervised tasks pass at every beat."""

    def __init__(self, strikes: Sequence[Strike]) -> None:
        """Arm a timetable; the clock starts at the first beat."""
        self.counts: dict[str, int] = {}
        self._waiting: dict[str, deque[Strike]] = {}
        for strike in strikes:
            self._waiting.setdefault(strike.task, deque()).append(strike)
        self._began_at: float | None = None
        self._is_armed = True
        self._hung_until_s: dict[str, float] = {}

    def is_hung(self, task: str) -> bool:
        """Tell whether a task hangs by our doing, or did a moment ago: nobody may blame it for what it does not do."""
        return trio.current_time() <= self._hung_until_s.get(task, -math.inf)

    def disarm(self) -> None:
        """Strike no more: the run is being wound up."""
        self._is_armed = False

    async def __call__(self, task: str) -> None:
        """Crash or wedge the calling task when its time has come.

        Raises:
            InjectedCrash: As planned.
        """
        if self._began_at is None:
            self._began_at = trio.current_time()
        queue = self._waiting.get(task)
        if not self._is_armed or not queue or trio.current_time() - self._began_at < queue[0].at_s:
            return
        strike = queue.popleft()
        kind = f"{'wedge' if strike.is_wedge else 'crash'}.{task}"
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if strike.is_wedge:
            await self._hang(task)
        raise InjectedCrash(f"planned crash of {task}")

    async def _hang(self, task: str) -> None:
        self._hung_until_s[task] = math.inf
        try:
            await trio.sleep_forever()
        finally:
            self._hung_until_s[task] = trio.current_time() + AFTER_HANG_S
