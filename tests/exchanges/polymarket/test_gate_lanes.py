"""Who waits for whom at the rate gate: only those who share what is scarce, and then the lesser for the greater."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as gen

from tbot.core.units import NANOS_PER_S, Nanos
from tbot.errors import RateLimited
from tbot.exchanges.polymarket import limits
from tbot.exchanges.polymarket.limits import EVERYTHING, Lane, RateGate
from tbot.exchanges.polymarket.settings import LimitSettings
from tests.contract.stage import now_ns as true_ns
from tests.properties.test_ratelimit_properties import exceeds

LIMITS = LimitSettings(
    orders_per_s=2, orders_burst=5, cancels_per_s=4, cancels_burst=8, reads_per_s=2, reads_burst=3, cancels_reserve=2
)
BUCKETS = {Lane.CANCEL: (4, 8), Lane.BEAT: (1, 4), Lane.ORDER: (2, 5), Lane.READ: (2, 3)}
# Each comes a little after the one before it, or it would be chance which of two is before the other.
NEXT_S = 1e-4
# A wake-up comes a microsecond late, once for each request in the queue.
SAME_S = NEXT_S / 2


class Wish(NamedTuple):
    """A request that comes to the gate at a time, and waits there for so long at most."""

    at_s: float
    lane: Lane
    cost: int
    patience_s: float


class Left(NamedTuple):
    """When a request left, or was told that it cannot."""

    at_s: float
    lane: Lane
    cost: int
    has_passed: bool


def wishes(times: gen.SearchStrategy[float], patience: gen.SearchStrategy[float]) -> gen.SearchStrategy[list[Wish]]:
    def one(lane: Lane) -> gen.SearchStrategy[Wish]:
        most = BUCKETS[lane][1] if lane in (Lane.CANCEL, Lane.ORDER) else 1
        return gen.builds(Wish, times, gen.just(lane), gen.integers(1, most), patience)

    return gen.lists(gen.sampled_from(list(Lane)).flatmap(one), max_size=25)


def play(
    wanted: list[Wish],
    everything: tuple[float, float] = EVERYTHING,
    *,
    lanes: Collection[Lane] = tuple(Lane),
    is_drained: bool = False,
    steps: Sequence[tuple[float, float]] = (),
) -> list[Left]:
    """Send those of some lanes through one gate in virtual time; give what became of each, in their order.

    The wall clock is set at some times, by some seconds.
    """
    left: dict[int, Left] = {}

    def now_ns() -> Nanos:
        return Nanos(true_ns() + sum(int(by_s * NANOS_PER_S) for at_s, by_s in steps if trio.current_time() >= at_s))

    async def send(gate: RateGate, number: int, wish: Wish) -> None:
        await trio.sleep(wish.at_s + number * NEXT_S)
        by_ns = Nanos(now_ns() + int(wish.patience_s * NANOS_PER_S))
        has_passed = True
        try:
            await gate.enter(wish.lane, wish.cost, by_ns=by_ns)
        except RateLimited:
            has_passed = False
        left[number] = Left(trio.current_time(), wish.lane, wish.cost, has_passed)

    async def main() -> None:
        gate = RateGate(LIMITS, now_ns)
        if is_drained:
            gate._everything.learn(0, Nanos(0))
        async with trio.open_nursery() as nursery:
            for number, wish in enumerate(wanted):
                if wish.lane in lanes:
                    nursery.start_soon(send, gate, number, wish)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "EVERYTHING", everything)
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return [left[number] for number in sorted(left)]


def of(lanes: Collection[Lane], left: list[Left]) -> list[Left]:
    """Give those of some lanes."""
    return [one for one in left if one.lane in lanes]


def same(some: list[Left], others: list[Left]) -> bool:
    """Tell whether the same requests passed, at the same times."""
    pairs = list(zip(some, others, strict=True))
    return all(a.has_passed == b.has_passed and abs(a.at_s - b.at_s) < SAME_S for a, b in pairs)


# Whom a lane may wait for: an order also for the cancels that must stay affordable.
INDEPENDENT = {lane: {lane} for lane in Lane} | {Lane.ORDER: {Lane.CANCEL, Lane.ORDER}}
now_and_then = gen.integers(0, 40).map(lambda tenths: tenths / 10)
# Never up to a moment at which a token comes, which is no matter of microseconds.
a_while = now_and_then.map(lambda seconds: seconds + 0.03)


@pytest.mark.slow
@settings(deadline=None, max_examples=25)
@given(wishes(now_and_then, a_while), gen.sampled_from(list(Lane)))
def test_a_lane_leaves_as_if_those_it_shares_nothing_with_were_not_there(wanted: list[Wish], lane: Lane) -> None:
    alone = play(wanted, lanes=INDEPENDENT[lane])
    assert same(of([lane], alone), of([lane], play(wanted)))


@pytest.mark.slow
@settings(deadline=None, max_examples=25)
@given(
    wishes(gen.just(0.0), gen.just(600.0)),
    gen.sampled_from([(1.0, 1.0), (2.0, 3.0), (5.0, 2.0), (0.5, 20.0)]),
    gen.sampled_from(list(Lane)),
)
def test_a_scarce_window_is_used_as_if_the_lesser_were_not_there(
    wanted: list[Wish], everything: tuple[float, float], lane: Lane
) -> None:
    lanes = [each for each in Lane if each <= lane]
    greater = play(wanted, everything, lanes=lanes, is_drained=True)
    assert all(one.has_passed for one in greater)
    assert same(greater, of(lanes, play(wanted, everything, is_drained=True)))


@pytest.mark.slow
@settings(deadline=None, max_examples=25)
@given(wishes(now_and_then, a_while), gen.sampled_from([EVERYTHING, (2.0, 3.0)]))
def test_nothing_passes_that_a_bucket_forbids(wanted: list[Wish], everything: tuple[float, float]) -> None:
    passed = sorted(one for one in play(wanted, everything) if one.has_passed)
    for lane, (rate, burst) in BUCKETS.items():
        assert not exceeds([(int(one.at_s * 1e9), one.cost) for one in passed if one.lane is lane], rate, burst)
    assert not exceeds([(int(one.at_s * 1e9), 1) for one in passed], everything[0], int(everything[1]))


# Beside the moments at which requests come: which of the two is first is no matter here.
some_steps = gen.lists(
    gen.tuples(now_and_then.map(lambda at_s: at_s + 0.05), gen.sampled_from([-3600.0, -30.0, -0.5, 2.0, 86_400.0])),
    min_size=1,
    max_size=3,
)


@pytest.mark.slow
@settings(deadline=None, max_examples=25)
@given(wishes(now_and_then, a_while), some_steps)
def test_a_wall_clock_that_is_set_changes_nothing(wanted: list[Wish], steps: list[tuple[float, float]]) -> None:
    assert same(play(wanted), play(wanted, steps=steps))


@pytest.mark.parametrize("by_s", [-3600.0, -30.0, 3600.0])
def test_a_burst_before_and_after_the_wall_clock_is_set_is_one_burst(by_s: float) -> None:
    cancels = [Wish(0.0, Lane.CANCEL, 8, 5.0), Wish(0.2, Lane.CANCEL, 8, 5.0)]
    first, second = play(cancels, steps=[(0.1, by_s)])
    assert first.at_s == pytest.approx(0, abs=0.01)
    assert second.at_s == pytest.approx(2, abs=0.01)  # at 4 a second, neither sooner nor later


async def test_a_closed_lane_opens_in_time_though_the_wall_clock_was_set_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    by_s = 0
    gate = RateGate(LIMITS, lambda: Nanos(true_ns() + by_s * NANOS_PER_S))
    gate.close(Lane.CANCEL, 2)
    by_s, start = -30, trio.current_time()
    await gate.enter(Lane.CANCEL, by_ns=Nanos(true_ns() + (by_s + 5) * NANOS_PER_S))
    assert trio.current_time() - start == pytest.approx(2, abs=0.01)


@pytest.mark.slow
def test_reads_and_heartbeats_pass_while_more_orders_wait_than_the_bucket_gives() -> None:
    orders = [Wish(second, Lane.ORDER, 5, 2.0) for second in range(60) for _ in range(8)]
    reads = [Wish(second, Lane.READ, 1, 2.0) for second in range(60)]
    beats = [Wish(second, Lane.BEAT, 1, 2.0) for second in range(0, 60, 5)]
    left = play(orders + reads + beats)
    assert all(one.has_passed and one.at_s % 1 < 0.1 for one in left[len(orders) :])
    assert sum(one.cost for one in left if one.lane is Lane.ORDER and one.has_passed) >= 110  # 2 a second all along


async def test_a_read_does_not_wait_for_one_whose_own_window_is_empty(autojump_clock: trio.testing.MockClock) -> None:
    gate = RateGate(LimitSettings(reads_per_s=500, reads_burst=500), true_ns)
    async with trio.open_nursery() as nursery:
        for _ in range(102):
            nursery.start_soon(_read, gate, ("GET", "/balance-allowance"))
        await trio.testing.wait_all_tasks_blocked()
        start = trio.current_time()
        await _read(gate, ("GET", "/data/orders"))
        assert trio.current_time() == start


async def _read(gate: RateGate, path: tuple[str, str]) -> None:
    await gate.enter(Lane.READ, by_ns=Nanos(true_ns() + 2 * NANOS_PER_S), path=path)
