"""Chaos strikes everything, and never more than a supervisor forgives."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tbot.simulation.chaos import (
    AFTER_HANG_S,
    STRIKES_PER_WINDOW,
    WINDOW_S,
    Chaos,
    InjectedCrash,
    Strike,
    timetable,
)
from tbot.tasks.desk import DESK_TASKS
from tbot.tasks.supervisor import Policy

UNITS = [["journal"], list(DESK_TASKS)]


@given(duration_s=st.floats(min_value=0.0, max_value=30_000.0), seed=st.integers(min_value=0))
def test_no_window_sees_more_strikes_than_are_forgiven(duration_s: float, seed: int) -> None:
    strikes = timetable(UNITS, duration_s=duration_s, rng=random.Random(seed))

    for unit in UNITS:
        moments = [strike.at_s for strike in strikes if strike.task in unit]
        for first in moments:
            assert sum(first <= moment < first + WINDOW_S for moment in moments) <= STRIKES_PER_WINDOW
    assert all(strike.at_s <= max(duration_s, 10.0) for strike in strikes)
    assert Policy(rng=random.Random(0)).faults_max > STRIKES_PER_WINDOW


@given(seed=st.integers(min_value=0))
def test_an_hour_crashes_every_task_twice_and_hangs_it_once(seed: int) -> None:
    strikes = timetable(UNITS, duration_s=3_600.0, rng=random.Random(seed))

    counts = Counter((strike.task, strike.is_wedge) for strike in strikes)
    for unit in UNITS:
        for task in unit:
            assert (counts[task, False], counts[task, True]) == (2, 1)


def test_short_runs_of_many_seeds_meet_every_strike() -> None:
    seen = {
        (strike.task, strike.is_wedge)
        for seed in range(40)
        for strike in timetable(UNITS, duration_s=600.0, rng=random.Random(seed))
    }

    assert seen == {(task, is_wedge) for unit in UNITS for task in unit for is_wedge in (False, True)}


async def test_strike_waits_for_its_time_and_hits_once(autojump_clock: trio.testing.MockClock) -> None:
    chaos = Chaos([Strike(at_s=5.0, task="feed", is_wedge=False)])

    await chaos("feed")
    await trio.sleep(5.0)
    await chaos("other")
    with pytest.raises(InjectedCrash):
        await chaos("feed")
    await chaos("feed")

    assert chaos.counts == {"crash.feed": 1}


async def test_wedged_task_counts_as_hung_until_a_moment_after_its_end(autojump_clock: trio.testing.MockClock) -> None:
    chaos = Chaos([Strike(at_s=0.0, task="feed", is_wedge=True)])

    with trio.move_on_after(10.0):
        await chaos("feed")

    assert chaos.is_hung("feed")
    assert not chaos.is_hung("other")
    await trio.sleep(AFTER_HANG_S + 0.1)
    assert not chaos.is_hung("feed")


async def test_disarmed_chaos_strikes_nobody(autojump_clock: trio.testing.MockClock) -> None:
    chaos = Chaos([Strike(at_s=0.0, task="feed", is_wedge=False)])
    chaos.disarm()

    await chaos("feed")

    assert chaos.counts == {}
