"""The only place that asks for the wall time; everything else is handed `now_ns`.

Durations and deadlines inside tasks are Trio time (`trio.current_time()`, seconds from an arbitrary start, never set
back); wall time is for stamps, expiries and what the exchange is told.
"""

from __future__ import annotations

import time
from typing import Protocol

import trio

from tbot.core.units import NANOS_PER_S, Nanos

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
