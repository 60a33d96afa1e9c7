"""Silence, freezes and lost changes against books read by request; all on Trio's virtual clock."""

from __future__ import annotations

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as gen
from trio.testing import MockClock

from tbot.core.messages import (
    Level,
    MarketView,
    Side,
)
from tbot.errors import BadFrame, Disconnected, RateLimited
from tbot.tasks.feed_settings import FeedSettings
from tests.tasks.fake_exchange import NO, YES, FakeExchange, cents, shares
from tests.tasks.feed_desk import Desk, desk, with_ms


async def test_frozen_feed_is_stale_within_five_seconds_and_reconnects(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.exchange.change(Side.BUY, cents(41), shares(5))
        await trio.sleep(0.05)
        rig.exchange.change(Side.SELL, cents(55), shares(9), is_pushed=False)  # pongs go on, data does not
        assert await rig.until(rig.is_stale, within_s=10) <= 5.0
        await rig.until(lambda: not rig.is_stale(), within_s=1)
        assert rig.top().best_ask == cents(55)
        assert len(rig.exchange.connects) == 2


async def test_one_frozen_token_is_noticed_while_others_are_busy(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.exchange.change(Side.BUY, cents(41), shares(1), is_pushed=False)
        frozen_at, states = trio.current_time(), []
        with trio.fail_after(6):
            while not rig.exchange.session.resubscribed:
                yes, _ = rig.exchange.deltas(Side.BUY, cents(41), shares(1))
                rig.exchange.push(yes)  # NO hears nothing of it
                await trio.sleep(0.02)
                states.append(rig.top(NO).is_stale)
        assert trio.current_time() - frozen_at <= 5.0
        assert any(states)
        await trio.sleep(0.2)
        assert not rig.is_stale()
        assert rig.top(NO).best_ask == cents(59)
        assert (rig.exchange.session.resubscribed, len(rig.exchange.connects)) == ([(NO,)], 1)


@pytest.mark.parametrize("is_deaf", [True, False])
async def test_token_that_stays_frozen_costs_the_connection(autojump_clock: MockClock, *, is_deaf: bool) -> None:
    async with desk() as rig:
        rig.exchange.is_deaf = is_deaf
        first, size = rig.exchange.session, 0
        with trio.fail_after(12):
            while len(rig.exchange.connects) == 1:
                size += 1
                rig.exchange.change(Side.BUY, cents(41), shares(size), is_pushed=False)
                rig.exchange.push(rig.exchange.deltas(Side.BUY, cents(41), shares(size))[0])
                await trio.sleep(0.1)
        assert first.resubscribed == [(NO,)]
        await trio.sleep(0.3)
        assert not rig.is_stale()


async def test_frozen_token_is_not_trusted_for_having_been_read_by_request(autojump_clock: MockClock) -> None:
    async with desk(FeedSettings(resubscribe_s=60.0)) as rig:
        rig.exchange.is_deaf = True
        rig.exchange.change(Side.BUY, cents(41), shares(1), is_pushed=False)
        with trio.move_on_after(20):
            while True:
                rig.exchange.push(rig.exchange.deltas(Side.BUY, cents(41), shares(1))[0])
                await trio.sleep(0.1)
        assert rig.top(NO).is_stale
        assert not rig.top(YES).is_stale


async def test_busy_token_is_looked_at_in_turn(autojump_clock: MockClock) -> None:
    async with desk(FeedSettings(rotate_s=5.0)) as rig:
        for number in range(300):
            rig.exchange.change(Side.BUY, cents(41), shares(number + 1))
            await trio.sleep(0.1)
        assert rig.exchange.book_reads == pytest.approx(5, abs=1)
        assert not rig.is_stale()


async def test_change_lost_by_a_busy_feed_is_found_by_the_canary(autojump_clock: MockClock) -> None:
    async with desk(FeedSettings(rotate_s=5.0, heal_s=30.0)) as rig:
        rig.exchange.change(Side.BUY, cents(45), shares(1), is_pushed=False)
        for number in range(15):
            rig.exchange.change(Side.BUY, cents(41), shares(number + 1))
            await trio.sleep(0.7)
        assert rig.exchange.session.resubscribed == [(YES, NO)]
        assert (rig.is_stale(), rig.top().best_bid, len(rig.exchange.connects)) == (False, cents(45), 1)


async def test_silence_of_a_busy_connection_is_suspected_sooner(autojump_clock: MockClock) -> None:
    async def pulled_after(traffic_s: float) -> float:
        async with desk(FeedSettings(traffic_s=traffic_s)) as rig:
            for number in range(100):
                rig.exchange.change(Side.BUY, cents(41), shares(number + 1))
                await trio.sleep(0.05)
            rig.exchange.change(Side.BUY, cents(45), shares(1), is_pushed=False)
            return await rig.until(rig.is_stale, within_s=10)

    assert await pulled_after(1.0) <= 3.0
    assert await pulled_after(60.0) > 4.0  # this clock switched off


@pytest.mark.parametrize("quiet_s", [300, pytest.param(3600, marks=pytest.mark.slow)])
async def test_quiet_hour_causes_no_pull(autojump_clock: MockClock, quiet_s: int) -> None:
    async with desk() as rig:
        seen: list[bool] = []
        with trio.move_on_after(quiet_s):
            while True:
                seen.append(rig.view.is_stale)
                await trio.sleep(0.5)
        assert not any(seen)
        assert len(rig.exchange.connects) == 1
        assert rig.exchange.book_reads > quiet_s / 3  # it did look, every two seconds or so


async def test_single_look_that_differs_is_forgiven(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        await trio.sleep(2.7)
        rig.exchange.change(Side.BUY, cents(41), shares(5), is_pushed=False)
        await rig.until(lambda: rig.exchange.book_reads == 1, within_s=3)
        await trio.sleep(0.3)
        rig.exchange.push(*rig.exchange.deltas(Side.BUY, cents(41), shares(5)))  # it was only late
        await trio.sleep(10)
        assert len(rig.exchange.connects) == 1
        assert rig.top().best_bid == cents(41)


async def test_cached_answer_older_than_our_book_proves_nothing(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.exchange.push(*with_ms(rig.exchange.deltas(Side.BUY, cents(41), shares(5)), rig.exchange.ms + 50))
        await trio.sleep(9)
        assert rig.exchange.book_reads > 1
        assert not rig.is_stale()
        assert len(rig.exchange.connects) == 1


FAR_MS = 9_999_999_999_999


@pytest.mark.parametrize("is_snapshot", [False, True])
async def test_book_that_believes_a_wrong_time_is_made_anew(autojump_clock: MockClock, *, is_snapshot: bool) -> None:
    async with desk() as rig:
        exchange = rig.exchange
        if is_snapshot:
            books = (exchange.snapshot(token) for token in (YES, NO))
            exchange.push(*(msgspec.structs.replace(book, exchange_ms=FAR_MS) for book in books))
        else:
            exchange.push(*with_ms(exchange.deltas(Side.BUY, cents(40), shares(100)), FAR_MS))
        await trio.sleep(1)
        exchange.change(Side.BUY, cents(40), shares(0))
        exchange.change(Side.BUY, cents(30), shares(7))
        await rig.until(rig.is_stale, within_s=12)
        await rig.until(lambda: not rig.is_stale(), within_s=5)
        assert _levels(rig.view) == _truth(exchange)


async def test_doubt_that_reading_the_book_does_not_end_costs_a_subscription(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        exchange = rig.exchange
        exchange.push(*with_ms(exchange.deltas(Side.BUY, cents(40), shares(100)), FAR_MS))
        await trio.sleep(0.1)
        exchange.fail(BadFrame("cut", token_ids=(YES,)))  # from now on every answer is older than the fault
        await rig.until(rig.is_stale, within_s=1)
        await rig.until(lambda: not rig.is_stale(), within_s=9)
        assert (exchange.session.resubscribed, len(exchange.connects)) == ([(YES,)], 1)


async def test_truth_nobody_can_tell_is_stale_until_somebody_can(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.exchange.books_error = Disconnected("no answers")
        assert await rig.until(rig.is_stale, within_s=20) == pytest.approx(10.0, abs=0.5)
        assert len(rig.exchange.connects) == 1
        rig.exchange.books_error = None
        await rig.until(lambda: not rig.is_stale(), within_s=5)


async def test_rate_limited_looks_pause_as_asked(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.exchange.books_error = RateLimited("429", retry_after_s=8.0)
        await trio.sleep(10)
        assert rig.exchange.book_reads == 1


Step = tuple[Side, int, int, bool, float]
STEPS = gen.tuples(
    gen.sampled_from(Side),
    gen.integers(1, 9),
    gen.sampled_from([0, 1, 2]),
    gen.booleans(),
    gen.sampled_from([0.0, 0.02, 1.0, 4.0]),
)


@settings(max_examples=25, deadline=None)
@given(steps=gen.lists(STEPS, max_size=12), cut_at=gen.integers(0, 20))
def test_trusted_book_is_never_wrong_for_more_than_five_silent_seconds(steps: list[Step], cut_at: int) -> None:
    async def main() -> None:
        async with desk() as rig, trio.open_nursery() as nursery:
            nursery.start_soon(_judge, rig)
            for number, (side, distance, size, is_pushed, wait_s) in enumerate(steps):
                price = cents(50 - distance if side is Side.BUY else 50 + distance)
                rig.exchange.change(side, price, shares(size), is_pushed=is_pushed)
                if number == cut_at:
                    rig.exchange.fail(Disconnected("cut"))
                await trio.sleep(wait_s)
            await trio.sleep(7)
            nursery.cancel_scope.cancel()
            assert not rig.is_stale()
            assert _levels(rig.view) == _truth(rig.exchange)

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def test_the_judge_of_wrong_books_can_fail(autojump_clock: MockClock) -> None:
    async with desk(
        FeedSettings(quiet_s=60.0, rotate_s=60.0, truth_s=60.0, traffic_s=60.0)
    ) as rig:  # a feed that does not look
        rig.exchange.change(Side.BUY, cents(41), shares(5), is_pushed=False)
        with pytest.raises(AssertionError, match="trusted and wrong"), trio.move_on_after(30):
            await _judge(rig)


async def _judge(rig: Desk) -> None:
    """Fail when a trusted book was wrong for over five seconds of silence; data puts the clocks of silence back."""
    right_at = trio.current_time()
    while True:
        now = trio.current_time()
        if rig.view.is_stale or _levels(rig.view) == _truth(rig.exchange):
            right_at = now
        assert now - max(right_at, rig.exchange.pushed_at) <= 5.0, "trusted and wrong"
        await trio.sleep(0.1)


def _levels(view: MarketView) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
    return view.bids, view.asks


def _truth(exchange: FakeExchange) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
    bids = sorted(exchange.bids.items(), reverse=True)[:5]
    asks = sorted(exchange.asks.items())[:5]
    return tuple(Level(*level) for level in bids), tuple(Level(*level) for level in asks)
