"""Crashes and wedges on a timetable that keeps every restart limit by construction.

Every kind of task is struck in turn: crash, crash, wedge. Strikes are spaced so that no unit sees more than
`STRIKES_PER_WINDOW` in one restart window, one less than its supervisor forgives.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence

import msgspec
import trio

STRIKES_PER_WINDOW = 4
WINDOW_S = 600.0
# Nothing is struck while the tree is still being built.
CALM_S = 10.0


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
        Strikes in order of time: each unit's tasks in turn, first all crashes, then again, then a wedge each.
    """
    strikes = [s for tasks in units for s in _unit_timetable(tasks, duration_s, rng)]
    return tuple(sorted(strikes, key=lambda s: (s.at_s, s.task)))


def _unit_timetable(tasks: Sequence[str], duration_s: float, rng: random.Random) -> list[Strike]:
    wanted = [(task, is_wedge) for is_wedge in (False, False, True) for task in tasks]
    # A gap of window / strikes, jittered by less than half of what is left of it, can never put five into a window.
    gap_s = WINDOW_S / STRIKES_PER_WINDOW
    room_s = max(duration_s - 2 * CALM_S, 0.0)
    count = min(len(wanted), int(room_s // gap_s) + STRIKES_PER_WINDOW if room_s > gap_s else STRIKES_PER_WINDOW)
    step_s = room_s / count if count else 0.0
    spaced = [CALM_S + i * step_s + rng.uniform(0.0, step_s * 0.2) for i in range(count)]
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
            await trio.sleep_forever()
        raise InjectedCrash(f"planned crash of {task}")
