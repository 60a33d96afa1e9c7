"""No window of any history exceeds the limit, and `ready_ns` tells the truth."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from tbot.core.ratelimit import TokenBucket
from tbot.core.units import NANOS_PER_S, Nanos

T0 = 1_790_000_000 * NANOS_PER_S
Step = tuple[str, int, int]  # what, nanoseconds since the step before, amount

some_rate = st.integers(1, 500_000_000).map(lambda micro: micro / 1_000_000)
some_burst = st.integers(1, 50)
some_steps = st.lists(
    st.tuples(
        st.sampled_from(["take", "take", "take", "take", "drain", "learn"]),
        st.integers(0, 3 * NANOS_PER_S),
        st.integers(0, 60),
    ),
    max_size=40,
)


def passes(bucket: TokenBucket, what: str, amount: int, now: int) -> bool:
    """Do one step of a history; tell whether a request passed."""
    if what == "drain":
        bucket.drain(Nanos(now + amount * NANOS_PER_S // 10))
    elif what == "learn":
        bucket.learn(amount, Nanos(now))
    return what == "take" and bucket.take(amount, Nanos(now))


def taken(bucket: TokenBucket, steps: list[Step]) -> list[tuple[int, int]]:
    """Run a history; return (time, cost) of everything that passed."""
    now, out = T0, []
    for what, wait, amount in steps:
        now += wait
        if passes(bucket, what, amount, now):
            out.append((now, amount))
    return out


def exceeds(passed: list[tuple[int, int]], rate: float, burst: int) -> bool:
    """Judge every window that starts and ends at a request."""
    for first, (start, _) in enumerate(passed):
        total = 0
        for end, cost in passed[first:]:
            total += cost
            if total > Fraction(rate) * Fraction(end - start, NANOS_PER_S) + burst:
                return True
    return False


@given(some_rate, some_burst, some_steps)
def test_no_window_exceeds_rate_and_burst(rate: float, burst: int, steps: list[Step]) -> None:
    assert not exceeds(taken(TokenBucket(rate, burst), steps), rate, burst)


def test_the_judge_sees_a_bucket_that_leaks() -> None:
    steps = [("take", 0, 1)] * 5
    assert exceeds(taken(TokenBucket(1, 5), steps), rate=1, burst=4)


@given(some_rate, some_burst, some_steps, st.integers(0, 50))
def test_ready_is_the_first_moment_that_passes(rate: float, burst: int, steps: list[Step], cost: int) -> None:
    bucket = TokenBucket(rate, burst)
    now = Nanos(T0 + sum(wait for _, wait, _ in steps))
    taken(bucket, steps)
    wanted = min(cost, burst)
    ready = bucket.ready_ns(wanted, now)
    assert ready >= now
    if ready > now:
        assert not bucket.take(wanted, Nanos(ready - 1)) or wanted == 0
    assert bucket.take(wanted, ready)


@given(some_rate, some_burst, some_steps)
def test_asking_changes_nothing(rate: float, burst: int, steps: list[Step]) -> None:
    asked, silent = TokenBucket(rate, burst), TokenBucket(rate, burst)
    now = T0
    for what, wait, amount in steps:
        asked.available(Nanos(now + 7))
        asked.ready_ns(1, Nanos(now + 10**12))
        now += wait
        assert passes(asked, what, amount, now) == passes(silent, what, amount, now)
