"""The coordinator's promises, over days made by `trading_day` and judged by its invariants."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tbot.core.messages import Message
from tbot.core.units import Nanos
from tests.properties.trading_day import Trading
from tests.properties.trading_walk import walk

SEEN_IN_DAYS = (
    "accepted", "canceled", "corrected", "filled", "fills_buy", "fills_maker", "fills_sell", "fills_taker", "rejected",
    "reversed", "unknown",
)  # fmt: skip
SLOW = pytest.mark.slow


@pytest.mark.parametrize("seed", range(8))
def test_days_against_an_unreliable_exchange(seed: int) -> None:
    walk(seed, 500)


@SLOW
@pytest.mark.parametrize("seed", range(100, 130))
def test_long_days_against_an_unreliable_exchange(seed: int) -> None:
    walk(seed, 3_000)


@SLOW
def test_long_days_see_everything() -> None:
    counts: Counter[str] = Counter()
    for seed in range(20):
        counts.update(walk(seed, 1_200).desk.counts)
    assert all(counts[name] >= 20 for name in SEEN_IN_DAYS), counts


@pytest.mark.parametrize(("examples", "steps"), [(10, 20), pytest.param(150, 50, marks=SLOW)])
def test_trading_against_an_unreliable_exchange(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        Trading, settings=settings(max_examples=examples, stateful_step_count=steps, deadline=None)
    )


def test_same_day_twice_gives_the_same_commands() -> None:
    def told(seed: int) -> list[tuple[Message, Nanos]]:
        day = walk(seed, 300)
        return [*day.desk.journal, *((command, command.at_ns) for command in day.desk.commands)]

    assert told(3) == told(3)
    assert told(3) != told(4)
