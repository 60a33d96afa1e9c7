"""Token buckets: what passes now, and when the next may."""

import pytest

from tbot.core.ratelimit import TokenBucket
from tbot.core.units import NANOS_PER_S, Nanos

T0 = 1_790_000_000 * NANOS_PER_S


def at(seconds: float) -> Nanos:
    return Nanos(T0 + round(seconds * NANOS_PER_S))


def test_full_bucket_passes_its_burst_and_then_refills_at_its_rate() -> None:
    bucket = TokenBucket(2, 5)
    assert all(bucket.take(1, at(0)) for _ in range(5))
    assert not bucket.take(1, at(0.499))
    assert bucket.take(1, at(0.5))
    assert bucket.available(at(100)) == 5


def test_refused_take_changes_nothing() -> None:
    bucket = TokenBucket(1, 3)
    assert not bucket.take(4, at(0))
    assert bucket.available(at(0)) == 3


def test_ready_is_the_first_nanosecond_that_passes() -> None:
    bucket = TokenBucket(3, 1)
    bucket.take(1, at(0))
    ready = bucket.ready_ns(1, at(0))
    assert ready == T0 + 333_333_334
    assert not bucket.take(1, Nanos(ready - 1))
    assert bucket.take(1, ready)


def test_ready_is_now_when_the_tokens_are_there() -> None:
    assert TokenBucket(1, 3).ready_ns(3, at(7)) == at(7)


def test_a_thousand_tiny_steps_do_not_drift() -> None:
    bucket = TokenBucket(0.1, 1)
    bucket.take(1, at(0))
    for n in range(1, 1000):
        assert bucket.available(Nanos(T0 + n * 9_999_999)) == 0
    assert bucket.take(1, at(10))


def test_cost_above_the_burst_can_never_pass_and_says_so() -> None:
    with pytest.raises(ValueError, match="never pass"):
        TokenBucket(10, 5).ready_ns(6, at(0))


@pytest.mark.parametrize(("rate", "burst"), [(0, 5), (-1, 5), (1e-9, 5), (1, 0.5)])
def test_useless_limits_are_refused(rate: float, burst: float) -> None:
    with pytest.raises(ValueError, match="rate > 0"):
        TokenBucket(rate, burst)


def test_negative_cost_is_refused() -> None:
    with pytest.raises(ValueError, match="refill"):
        TokenBucket(1, 5).take(-1, at(0))


def test_retry_after_lets_nothing_pass_before_and_one_token_then() -> None:
    bucket = TokenBucket(1, 10)
    bucket.drain(at(3))
    assert bucket.available(at(2.999)) == 0
    assert not bucket.take(1, at(2.999))
    assert bucket.ready_ns(1, at(0)) == at(3)
    assert bucket.ready_ns(2, at(0)) == at(4)
    assert bucket.take(1, at(3))
    assert not bucket.take(1, at(3))


def test_shorter_or_past_retry_after_changes_nothing() -> None:
    bucket = TokenBucket(1, 10)
    bucket.drain(at(5))
    bucket.drain(at(3))
    assert bucket.ready_ns(1, at(0)) == at(5)
    assert bucket.take(1, at(20))
    bucket.drain(at(19))
    assert bucket.available(at(20)) == 9


def test_exchange_count_lowers_ours_and_never_raises_it() -> None:
    bucket = TokenBucket(1, 10)
    bucket.learn(4, at(0))
    assert bucket.available(at(0)) == 4
    bucket.learn(9, at(0))
    assert bucket.available(at(0)) == 4
    bucket.learn(0, at(0))
    assert bucket.available(at(0)) == 0


def test_debt_is_refilled_before_anything_passes() -> None:
    bucket = TokenBucket(1, 10)
    bucket.learn(-5, at(0))
    assert bucket.available(at(4)) == 0
    assert bucket.ready_ns(2, at(0)) == at(7)
    assert not bucket.take(0, at(4))
    assert not bucket.take(1, at(5))
    assert bucket.take(1, at(6))


def test_absurd_debt_blocks_nothing_for_ever() -> None:
    bucket = TokenBucket(1, 10)
    bucket.learn(-(10**11), at(0))
    assert bucket.ready_ns(1, at(0)) == at(21)


def test_exchange_count_heard_while_closed_does_not_open() -> None:
    bucket = TokenBucket(1, 10)
    bucket.drain(at(5))
    bucket.learn(0, at(1))
    assert bucket.ready_ns(1, at(1)) == at(5)


def test_clock_that_steps_back_refills_nothing() -> None:
    bucket = TokenBucket(1, 2)
    assert bucket.take(1, at(3600))
    assert bucket.take(1, at(0))
    assert not bucket.take(1, at(0))
    assert bucket.take(1, at(1))
