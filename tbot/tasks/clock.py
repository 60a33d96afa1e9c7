"""The only place that asks for the wall time; everything else is handed `now_ns`.

Durations and deadlines inside tasks are Trio time (`trio.current_time()`, seconds from an arbitrary start, never set
back); wall time is for stamps, expiries and what the exchange is told.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import trio

from tbot.core.units import NANOS_PER_S, Nanos

# A nanosecond in so many is made up for: 500 ppm, as NTP does. A bot's measure of the exchange's clock easily follows.
SLEW = 2_000
# `trio_deadline` rounds up by this: waking a hair early would make a task ask, and wait, twice for one moment.
_ROUND_UP_S = 1e-6


class Clock(Protocol):
    """A source of wall time."""

    def now_ns(self) -> Nanos:
        """Return wall-clock nanoseconds since 1970."""
        ...


class WallClock:
    """The machine's clock."""

    def now_ns(self) -> Nanos:
        """Return the machine's wall time; it may jump when the clock is set."""
        return Nanos(time.time_ns())


class SteadyClock:
    """The machine's time as a running bot should see it: never set back, and never set ahead unless it is borne out.

    Time is counted from the first reading by how long the machine has run since, so that an age, a deadline or an order
    of events stays true when somebody sets the clock. What is left between this and the machine's clock is made up for
    slowly, at `SLEW`. Whether the first reading was right is for the exchange's clock to tell, as ever.

    A virtual machine that is paused counts nothing of the pause, so its time would be behind for ever: there another
    clock tells that the machine's is right, and this one catches up.
    """

    def __init__(self, wall_ns: Callable[[], int] | None = None, uptime_ns: Callable[[], int] | None = None) -> None:
        """Start at the wall time of now.

        Args:
            wall_ns: A clock that may be set; None = the machine's.
            uptime_ns: Nanoseconds since some start, sleep included; likewise.
        """
        self._wall_ns = wall_ns or WallClock().now_ns
        self._uptime_ns = uptime_ns or _uptime_ns
        self._now_ns, self._counted_ns = int(self._wall_ns()), self._uptime_ns()
        self._unused_ns = 0

    def now_ns(self) -> Nanos:
        """Return the time; later readings are never smaller."""
        uptime_ns = self._uptime_ns()
        elapsed_ns, self._counted_ns = max(0, uptime_ns - self._counted_ns), uptime_ns
        self._unused_ns += elapsed_ns
        most_ns = min(self._unused_ns // SLEW, elapsed_ns)
        self._unused_ns -= most_ns * SLEW
        counted_ns = self._now_ns + elapsed_ns
        self._now_ns = counted_ns + max(-most_ns, min(self._wall_ns() - counted_ns, most_ns))
        return Nanos(self._now_ns)

    def catch_up(self, true_ns: int, within_ns: int) -> bool:
        """Go ahead to the machine's time at once, as after a sleep, when another clock bears it out.

        Args:
            true_ns: The time now by that clock.
            within_ns: How far the two may differ.

        Returns:
            Whether it went ahead; not when this is behind the machine's time by no more than they may differ.
        """
        now_ns, wall_ns = self.now_ns(), int(self._wall_ns())
        if wall_ns - now_ns <= within_ns or abs(wall_ns - true_ns) > within_ns:
            return False
        self._now_ns = wall_ns
        return True


class VirtualClock:
    """Trio's own clock, moved to a date: under a `MockClock` the wall time of a simulated run.

    Works only inside a Trio run.
    """

    def __init__(self, epoch_ns: Nanos) -> None:
        """Let Trio time 0 be `epoch_ns`."""
        self._epoch_ns = epoch_ns

    def now_ns(self) -> Nanos:
        """Return the epoch plus Trio's time."""
        return Nanos(self._epoch_ns + round(trio.current_time() * NANOS_PER_S))


def trio_deadline(at_ns: Nanos, now_ns: Nanos) -> float:
    """Turn a wall-clock moment into a Trio deadline, never earlier than the moment itself.

    Args:
        at_ns: The moment.
        now_ns: Wall time at the call.

    Returns:
        Trio time, seconds; in the past when the moment has passed.
    """
    return trio.current_time() + (at_ns - now_ns) / NANOS_PER_S + _ROUND_UP_S


def _uptime_ns() -> int:
    # The monotonic clock of Linux stands still while the machine sleeps, and the exchange does not.
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic_ns() if boot is None else time.clock_gettime_ns(boot)
