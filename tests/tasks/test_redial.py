"""At once, then slower and slower, then at once again."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as gen

from tbot.core.backoff import Backoff
from tbot.errors import Disconnected, RateLimited
from tbot.tasks.redial import Redial, asked_wait_s


def test_first_loss_after_a_steady_connection_is_retried_at_once() -> None:
    redial = Redial(Backoff(0.25, 30.0), random.Random(1))
    assert redial.lost(0.0) == 0.0
    assert redial.lost(1.0) > 0.0
    redial.connected(2.0)
    assert redial.lost(61.0) > 0.0  # it stood for less than a minute
    redial.connected(62.0)
    assert redial.lost(122.0) == 0.0


@given(seed=gen.integers(0, 2**32), losses=gen.integers(1, 200))
def test_pauses_never_pass_the_cap(seed: int, losses: int) -> None:
    redial = Redial(Backoff(0.25, 30.0), random.Random(seed))
    pauses = [redial.lost(float(number)) for number in range(losses)]
    assert all(pause <= min(30.0, 0.25 * 2.0 ** max(i - 1, 0)) for i, pause in enumerate(pauses))


def test_wait_asked_for_is_the_least_pause() -> None:
    redial = Redial(Backoff(0.25, 30.0), random.Random(1))
    error = ExceptionGroup("", [Disconnected("x"), ExceptionGroup("", [RateLimited("429", retry_after_s=7.0)])])
    assert redial.lost(0.0, at_least_s=asked_wait_s(error)) == 7.0
    assert asked_wait_s(Disconnected("x")) == 0.0
