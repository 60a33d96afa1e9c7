"""The rate gate in virtual time: order of lanes, waiting, closing, the reserve."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as gen

from tbot.core.messages import ExchangeOrderId
from tbot.core.units import NANOS_PER_S, Nanos
from tbot.errors import RateLimited
from tbot.exchanges.polymarket import limits
from tbot.exchanges.polymarket.limits import Lane, RateGate, TooLate
from tbot.exchanges.polymarket.settings import LimitSettings
from tests.contract.stage import now_ns

LIMITS = LimitSettings(
    orders_per_s=1,
    orders_burst=2,
    cancels_per_s=2,
    cancels_burst=6,
    reads_per_s=1,
    reads_burst=2,
    cancels_reserve=3,
)


def soon(seconds: float) -> Nanos:
    return Nanos(now_ns() + int(seconds * NANOS_PER_S))


def gate_of(now: Callable[[], Nanos] = now_ns) -> RateGate:
    return RateGate(LIMITS, now)


def rest(gate: RateGate, count: int) -> None:
    """Let so many orders rest."""
    for order_id in list(gate.resting.ours):
        gate.resting.gone(order_id, now_ns())
    for number in range(count):
        gate.resting.sent(ExchangeOrderId(f"0x{number}"), now_ns())


async def test_a_burst_passes_at_once_and_the_next_waits_for_its_token(autojump_clock: trio.testing.MockClock) -> None:
    gate, start = gate_of(), trio.current_time()
    for _ in range(2):
        await gate.enter(Lane.ORDER, by_ns=soon(5))
    assert trio.current_time() == start
    await gate.enter(Lane.ORDER, by_ns=soon(5))
    assert trio.current_time() - start == pytest.approx(1, abs=0.01)


async def test_cancels_pass_before_orders_before_reads_where_they_share_a_window(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "EVERYTHING", (1, 1))
    gate = gate_of()
    await gate.enter(Lane.BEAT, by_ns=soon(0))
    left: list[Lane] = []

    async def go(lane: Lane) -> None:
        await gate.enter(lane, by_ns=soon(30))
        left.append(lane)

    async with trio.open_nursery() as nursery:
        for lane in (Lane.READ, Lane.ORDER, Lane.CANCEL, Lane.ORDER, Lane.CANCEL):
            nursery.start_soon(go, lane)
            await trio.testing.wait_all_tasks_blocked()
    assert left == [Lane.CANCEL, Lane.CANCEL, Lane.ORDER, Lane.ORDER, Lane.READ]


async def test_what_cannot_pass_in_time_is_told_at_once(autojump_clock: trio.testing.MockClock) -> None:
    gate, start = gate_of(), trio.current_time()
    gate.close(Lane.ORDER, 10)
    with pytest.raises(RateLimited) as refusal:
        await gate.enter(Lane.ORDER, by_ns=soon(1))
    assert refusal.value.retry_after_s == pytest.approx(10)
    assert not isinstance(refusal.value, TooLate)
    assert trio.current_time() == start


async def test_what_waited_too_long_in_the_queue_is_too_late(autojump_clock: trio.testing.MockClock) -> None:
    gate = gate_of()
    for _ in range(2):
        await gate.enter(Lane.READ, by_ns=soon(1))
    async with trio.open_nursery() as nursery:
        # Cancels ahead in the queue hold the head until long after the order's moment.
        for _ in range(2):
            await gate.enter(Lane.CANCEL, 3, by_ns=soon(1))
        nursery.start_soon(_enter, gate, Lane.CANCEL, 6)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(RateLimited):
            await gate.enter(Lane.ORDER, by_ns=soon(0.5))
        nursery.cancel_scope.cancel()


async def _enter(gate: RateGate, lane: Lane, cost: int) -> None:
    await gate.enter(lane, cost, by_ns=soon(60))


async def test_a_moment_already_past_is_too_late(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(TooLate):
        await gate_of().enter(Lane.ORDER, by_ns=soon(-0.001))


async def test_an_order_waits_while_cancels_are_scarce(autojump_clock: trio.testing.MockClock) -> None:
    gate, start = gate_of(), trio.current_time()
    await gate.enter(Lane.CANCEL, 6, by_ns=soon(1))
    await gate.enter(Lane.ORDER, by_ns=soon(5))
    assert trio.current_time() - start == pytest.approx(1.5, abs=0.01)


@pytest.mark.parametrize(
    ("closed", "still_open"),
    [
        (Lane.READ, {Lane.CANCEL, Lane.ORDER}),
        (Lane.ORDER, {Lane.CANCEL}),
        (Lane.CANCEL, set()),
    ],
)
async def test_a_429_closes_its_lane_and_the_lesser_ones(
    autojump_clock: trio.testing.MockClock, closed: Lane, still_open: set[Lane]
) -> None:
    gate = gate_of()
    gate.close(closed, 60)
    passed = set()
    for lane in (Lane.CANCEL, Lane.ORDER, Lane.READ):
        try:
            await gate.enter(lane, by_ns=soon(1))
        except RateLimited:
            continue
        passed.add(lane)
    assert passed == still_open


async def test_a_ban_is_believed_for_two_minutes_at_most(autojump_clock: trio.testing.MockClock) -> None:
    gate, start = gate_of(), trio.current_time()
    gate.close(Lane.CANCEL, 1e9)
    await gate.enter(Lane.CANCEL, by_ns=soon(300))
    assert trio.current_time() - start == pytest.approx(120, abs=0.01)


async def test_the_count_follows_the_exchange_downwards(autojump_clock: trio.testing.MockClock) -> None:
    gate, start = gate_of(), trio.current_time()
    gate.learn(Lane.ORDER, -3)  # a debt is refilled first
    await gate.enter(Lane.ORDER, by_ns=soon(5))
    assert trio.current_time() - start == pytest.approx(4, abs=0.01)


async def test_a_cancelled_waiter_holds_nobody_up(autojump_clock: trio.testing.MockClock) -> None:
    gate = gate_of()
    gate.close(Lane.CANCEL, 5)
    with trio.move_on_after(1):
        await gate.enter(Lane.CANCEL, by_ns=soon(60))
    await gate.enter(Lane.READ, by_ns=soon(60))


# --- tiers, windows, and what may rest -------------------------------------------------------------------------------


async def test_tier_told_by_the_exchange_sets_both_buckets(autojump_clock: trio.testing.MockClock) -> None:
    gate = RateGate(LimitSettings(), now_ns)
    gate.learn_tier("Gold")
    await trio.sleep(2)
    assert (gate.burst(Lane.ORDER), gate.burst(Lane.CANCEL)) == (600, 1_200)
    assert gate.available(Lane.ORDER) == 600
    gate.learn_tier("Unheard of")
    gate.learn_tier("")
    assert gate.burst(Lane.CANCEL) == 1_200
    gate.learn_tier("standard")
    assert (gate.available(Lane.ORDER), gate.available(Lane.CANCEL)) == (60, 120)


async def test_larger_tier_gives_room_but_no_tokens_at_once(autojump_clock: trio.testing.MockClock) -> None:
    gate = RateGate(LimitSettings(), now_ns)
    for _ in range(60):
        await gate.enter(Lane.ORDER, by_ns=soon(1))
    gate.learn_tier("Elite")
    assert gate.available(Lane.ORDER) == 0


@pytest.mark.parametrize("tier", ["Standard", "Gold", "Elite"])
async def test_no_tier_raises_a_limit_that_was_chosen(autojump_clock: trio.testing.MockClock, tier: str) -> None:
    gate = RateGate(LimitSettings(orders_per_s=1, orders_burst=2, cancels_burst=1_000), now_ns)
    gate.learn_tier(tier)
    await trio.sleep(60)
    assert gate.available(Lane.ORDER) == 2
    assert gate.burst(Lane.CANCEL) == {"Standard": 120, "Gold": 1_000, "Elite": 1_000}[tier]
    for _ in range(2):
        await gate.enter(Lane.ORDER, by_ns=soon(1))
    start = trio.current_time()
    await gate.enter(Lane.ORDER, by_ns=soon(5))
    assert trio.current_time() - start == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("path", "count", "window_s"), [(("GET", "/balance-allowance"), 200, 10), (("POST", "/order"), 5_000, 10)]
)
async def test_no_window_of_an_address_is_ever_passed(
    autojump_clock: trio.testing.MockClock, path: tuple[str, str], count: int, window_s: float
) -> None:
    gate = RateGate(LimitSettings(reads_per_s=9_000, reads_burst=9_000, orders_per_s=9_000, orders_burst=9_000), now_ns)
    lane = Lane.ORDER if path[0] == "POST" else Lane.READ
    left: list[float] = []
    for _ in range(31):
        with suppress(RateLimited):
            while True:
                await gate.enter(lane, by_ns=soon(0), path=path)
                left.append(trio.current_time())
        await trio.sleep(1)
    assert left
    for start in range(31):
        assert sum(start <= at < start + 10 for at in left) <= count


async def test_an_order_waits_until_the_cancels_of_all_that_rest_are_paid_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    gate, start = gate_of(), trio.current_time()
    await gate.enter(Lane.CANCEL, 6, by_ns=soon(1))
    rest(gate, 4)
    await gate.enter(Lane.ORDER, by_ns=soon(5))
    assert trio.current_time() - start == pytest.approx(2, abs=0.01)


async def test_more_than_the_burst_can_cancel_never_rests(autojump_clock: trio.testing.MockClock) -> None:
    gate = gate_of()
    rest(gate, 5)  # 0.8 of a burst of 6 is 4
    with pytest.raises(RateLimited, match="may rest already"):
        await gate.enter(Lane.ORDER, by_ns=soon(60))
    rest(gate, 4)
    await gate.enter(Lane.ORDER, by_ns=soon(60))


async def test_a_cost_that_no_bucket_ever_holds_is_told_at_once(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(RateLimited, match="more tokens than it ever has"):
        await gate_of().enter(Lane.CANCEL, 7, by_ns=soon(60))


@settings(deadline=None, max_examples=60)
@given(
    actions=gen.lists(
        gen.one_of(
            gen.tuples(gen.just("submit"), gen.just(0)),
            gen.tuples(gen.just("cancel"), gen.integers(1, 5)),
            gen.tuples(gen.just("fill"), gen.integers(1, 3)),
            gen.tuples(gen.just("wait"), gen.integers(1, 20)),
            gen.tuples(gen.just("told"), gen.integers(-3, 6)),
            gen.tuples(gen.just("tier"), gen.integers(0, 2)),
        ),
        max_size=80,
    )
)
def test_cancelling_everything_is_affordable_whenever_an_order_has_left(actions: list[tuple[str, int]]) -> None:
    async def play() -> None:
        gate = gate_of()
        for action, amount in actions:
            await _act(gate, action, amount)

    trio.run(play, clock=trio.testing.MockClock(autojump_threshold=0))


async def _act(gate: RateGate, action: str, amount: int) -> None:
    match action:
        case "submit":
            rest(gate, gate.resting.count + 1)
            try:
                await gate.enter(Lane.ORDER, by_ns=soon(0.5))
            except RateLimited:
                rest(gate, gate.resting.count - 1)
                return
            assert gate.available(Lane.CANCEL) >= gate.resting.count
            assert gate.resting.count <= 0.8 * gate.burst(Lane.CANCEL)
        case "cancel":
            try:
                await gate.enter(Lane.CANCEL, min(amount, gate.burst(Lane.CANCEL)), by_ns=soon(0))
            except RateLimited:
                return
            rest(gate, max(0, gate.resting.count - amount))
        case "fill":
            rest(gate, max(0, gate.resting.count - amount))
        case "wait":
            await trio.sleep(amount / 10)
        case "told":
            gate.learn(Lane.CANCEL, amount)
        case _:
            gate.learn_tier(("Standard", "Copper", "nonsense")[amount])
