"""Delays grow, stay under the cap, and follow the generator alone."""

import random

from hypothesis import given
from hypothesis import strategies as st

from tbot.core.backoff import Backoff


def test_ceilings_double_up_to_the_cap() -> None:
    backoff = Backoff(base_s=0.25, cap_s=3)
    assert [backoff.ceiling(n) for n in range(6)] == [0.25, 0.5, 1, 2, 3, 3]


@given(st.integers(0, 2**63), st.integers(0, 10_000))
def test_delay_lies_between_zero_and_the_ceiling(seed: int, attempt: int) -> None:
    backoff = Backoff(0.25, 30)
    delay = backoff.delay(attempt, random.Random(seed))
    assert 0 <= delay <= backoff.ceiling(attempt) <= 30


def test_one_seed_gives_one_series() -> None:
    def series(seed: int) -> list[float]:
        rng = random.Random(seed)
        return [Backoff().delay(n, rng) for n in range(8)]

    assert series(1) == series(1)
    assert series(1) != series(2)


def test_jitter_uses_the_whole_range() -> None:
    rng = random.Random(3)
    delays = [Backoff(8, 8).delay(0, rng) for _ in range(400)]
    assert min(delays) < 0.5
    assert max(delays) > 7.5
