"""Measuring two ways of doing the same, fairly enough to quote: in turns, so that both meet the same machine.

A machine's speed wanders by tens of percent (other processes, heat, clock rates), and whatever disturbs a measurement
only adds to it. So both sides are measured in many short rounds, one right after the other, the side that begins
alternates, and what is reported is the best round of each and their ratio, with the range of nine in ten rounds' ratios
beside it. Time is processor time of this thread: what other processes take in between is not ours.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

NANOS_PER_S = 1_000_000_000
# A side is timed in one go: far above the clock's own cost, short enough for many rounds.
CALLS_MAX = 10_000_000

Timer = Callable[[], int]
Work = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One thing done by us and by a peer.

    Attributes:
        name: What is done.
        peer_name: Who else does it.
        ours: Does it `batch` times.
        peer: Does the same work `batch` times.
        batch: Repetitions in one call of either.
    """

    name: str
    peer_name: str
    ours: Work
    peer: Work
    batch: int = 1


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long to measure.

    Attributes:
        rounds: How often both sides are measured.
        round_s: Seconds each side gets in a round.
    """

    rounds: int
    round_s: float


FULL = Budget(rounds=60, round_s=0.02)
QUICK = Budget(rounds=3, round_s=0.002)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What was measured.

    Attributes:
        ours_ns: Nanoseconds for doing it once, in the best round.
        peer_ns: Likewise of the peer.
        ratio: peer / ours of these: above 1 we are faster.
        ratio_min: Of one round; one in twenty is less.
        ratio_max: Likewise; one in twenty is more.
    """

    ours_ns: float
    peer_ns: float
    ratio: float
    ratio_min: float
    ratio_max: float


def compare(case: Case, budget: Budget, timer: Timer = time.thread_time_ns) -> Comparison:
    """Measure both sides in turns.

    Args:
        case: What to do.
        budget: How long.
        timer: Nanoseconds from any start.
    """
    ours_calls, peer_calls = (_calls_in(budget.round_s, work, timer) for work in (case.ours, case.peer))
    ours: list[float] = []
    peer: list[float] = []
    with _no_collection():
        for i in range(budget.rounds):
            sides = [(ours, case.ours, ours_calls), (peer, case.peer, peer_calls)]
            for times, work, calls in sides if i % 2 == 0 else reversed(sides):
                times.append(_time(work, calls, timer) / (calls * case.batch))
    ratios = sorted(theirs / mine for mine, theirs in zip(ours, peer, strict=True))
    outliers = len(ratios) // 20
    return Comparison(
        ours_ns=min(ours),
        peer_ns=min(peer),
        ratio=min(peer) / min(ours),
        ratio_min=ratios[outliers],
        ratio_max=ratios[-1 - outliers],
    )


def _calls_in(seconds: float, work: Work, timer: Timer) -> int:
    # Doubling warms caches up as well, which is why the estimate comes from the last and longest run.
    calls = 1
    while (spent := _time(work, calls, timer)) < seconds * NANOS_PER_S / 4 and calls < CALLS_MAX:
        calls *= 2
    return max(round(calls * seconds * NANOS_PER_S / max(spent, 1)), 1) if calls < CALLS_MAX else CALLS_MAX


def _time(work: Work, calls: int, timer: Timer) -> int:
    start = timer()
    for _ in range(calls):
        work()
    return max(timer() - start, 1)


@contextmanager
def _no_collection() -> Iterator[None]:
    # A collection would be charged to whoever happens to be running.
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
