"""Reconnection with state sync, silent feeds, gaps, bad frames, crossed books; all on Trio's virtual clock."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as gen
from trio.testing import MockClock

from tbot.core.market import MarketId, TokenId
from tbot.core.messages import (
    BookDelta,
    BookSnapshot,
    Gap,
    Level,
    MarketView,
    Side,
    TickSizeChanged,
    TopOfBook,
    TradePrint,
)
from tbot.core.units import Price, Size
from tbot.errors import BadFrame, Disconnected, RateLimited
from tbot.tasks.conflator import Conflator, Hub
from tbot.tasks.feed_settings import FeedSettings
from tbot.tasks.inbox import Inbox
from tbot.tasks.market_feed import HEALTH_KEY, FeedHealth, MarketFeed
from tbot.tasks.supervisor import Child, Policy, TaskContext, keep, supervise
from tests.tasks.fake_exchange import MARKET, NO, YES, FakeExchange, cents, now_ns, shares


class Desk:
    """The feed under test and everything that hears it."""

    def __init__(self, settings: FeedSettings) -> None:
        self.exchange = FakeExchange()
        self.inbox = Inbox()
        self.views: Hub[MarketId, MarketView] = Hub("views")
        self.box: Conflator[tuple[str, str], MarketView] = Conflator()
        self.health: Conflator[str, FeedHealth] = Conflator()
        self.stop = trio.Event()
        self.tops: dict[TokenId, TopOfBook] = {}
        self.puts = 0
        self.feed = MarketFeed(
            gateway=self.exchange,
            markets=(MARKET,),
            views=self.views,
            coordinator=self.inbox,
            health=self.health,
            settings=settings,
            rng=random.Random(1),
            now_ns=now_ns,
        )

    @property
    def view(self) -> MarketView:
        return self.views.states[MARKET.market_id]

    def top(self, token_id: TokenId = YES) -> TopOfBook:
        for message in self.inbox.take_nowait():
            assert isinstance(message, TopOfBook)
            self.tops[message.token_id] = message
        return self.tops[token_id]

    def is_stale(self) -> bool:
        tops = (self.top(YES), self.top(NO))
        assert self.view.is_stale == any(top.is_stale for top in tops)
        return self.view.is_stale

    def told(self) -> FeedHealth:
        health = self.health.peek(HEALTH_KEY)
        assert health is not None
        return health

    async def until(self, is_true: Callable[[], bool], within_s: float) -> float:
        """Wait until something is true and return how long it took, seconds."""
        began = trio.current_time()
        with trio.fail_after(within_s):
            while True:
                if is_true():
                    return trio.current_time() - began
                await trio.sleep(0.01)


@asynccontextmanager
async def desk(settings: FeedSettings | None = None) -> AsyncIterator[Desk]:
    """Run a feed, connected, for the length of the block."""
    rig = Desk(settings or FeedSettings())
    policy = Policy(rng=random.Random(1), faults_max=0)
    async with trio.open_nursery() as nursery:
        body = keep(Child("market_feed", rig.feed.run, wedged_after_s=10.0), policy)
        nursery.start_soon(supervise, body, rig.stop, policy)
        await trio.sleep(0.2)
        yield rig
        rig.stop.set()


async def test_everything_is_stale_until_the_first_snapshot(autojump_clock: MockClock) -> None:
    rig = Desk(FeedSettings())
    rig.exchange.refusals = [Disconnected("down")] * 100
    ctx = TaskContext("market_feed", rig.stop)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.feed.run, ctx)
        await trio.sleep(0.01)
        assert ctx.is_started.is_set()
        assert rig.is_stale()
        assert rig.top(YES).best_bid is None
        rig.stop.set()


async def test_snapshots_become_views_and_tops(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        assert rig.view.bids == (Level(cents(40), shares(100)),)
        assert rig.view.asks == (Level(cents(60), shares(100)),)
        assert (rig.top(NO).best_bid, rig.top(NO).best_ask) == (cents(40), cents(60))
        assert not rig.is_stale()


async def test_view_holds_the_five_best_levels_best_first(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        for price in (33, 39, 35, 37, 31, 36):
            rig.exchange.change(Side.BUY, cents(price), shares(10))
        await trio.sleep(0.1)
        assert [level.price for level in rig.view.bids] == [cents(p) for p in (40, 39, 37, 36, 35)]


async def test_events_of_one_receipt_are_published_once(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        before = rig.inbox.statistics().merged
        rig.inbox.take_nowait()
        events: list[BookDelta] = []
        for size in range(1, 50):
            rig.exchange.change(Side.BUY, cents(41), shares(size), is_pushed=False)
            events += rig.exchange.deltas(Side.BUY, cents(41), shares(size))
        rig.exchange.push(*events)
        await trio.sleep(0.01)
        assert rig.inbox.statistics().merged == before
        assert rig.top().best_bid == cents(41)


async def test_trades_are_running_totals_in_yes_space(autojump_clock: MockClock) -> None:
    def trade(token_id: TokenId, side: Side, size: int) -> TradePrint:
        return TradePrint(
            token_id=token_id,
            price=cents(50),
            size=shares(size),
            taker_side=side,
            exchange_ms=2_000,
            received_ns=now_ns(),
        )

    async with desk() as rig:
        rig.exchange.push(trade(YES, Side.BUY, 1), trade(NO, Side.SELL, 2))
        rig.exchange.push(trade(YES, Side.SELL, 4), trade(NO, Side.BUY, 8))
        await trio.sleep(0.1)
        assert (rig.view.traded_buy, rig.view.traded_sell) == (shares(3), shares(12))


async def test_lost_connection_is_stale_at_once_and_a_snapshot_restores(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        lost_at = trio.current_time()
        rig.exchange.refusals = [Disconnected("down")] * 3
        rig.exchange.fail(Disconnected("cut"))
        await trio.sleep(0.001)
        assert rig.is_stale()
        assert rig.view.bids == (Level(cents(40), shares(100)),)  # the last known stay visible
        rig.exchange.change(Side.BUY, cents(45), shares(7), is_pushed=False)
        await rig.until(lambda: not rig.is_stale(), within_s=10)
        assert rig.top().best_bid == cents(45)
        assert rig.top(NO).best_ask == cents(55)
        assert rig.exchange.connects[1] == pytest.approx(lost_at, abs=0.01)  # the first retry is immediate
        assert len(rig.exchange.connects) == 5


async def test_levels_of_the_old_connection_do_not_survive_into_the_new_one(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.exchange.change(Side.BUY, cents(50), shares(5))
        await trio.sleep(0.1)
        rig.exchange.fail(Disconnected("cut"))
        rig.exchange.change(Side.BUY, cents(50), Size(0), is_pushed=False)
        await rig.until(lambda: rig.view.is_stale, within_s=1)
        await rig.until(lambda: not rig.view.is_stale, within_s=1)
        assert [level.price for level in rig.view.bids] == [cents(40)]


async def test_restarted_feed_forgets_every_view_of_the_crashed_one(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        assert not rig.is_stale()
        rig.stop.set()
        await trio.sleep(0.1)
        again = Desk(FeedSettings())
        again.feed.views = rig.views  # the hub outlives the desk, its states must not
        again.exchange.refusals = [Disconnected("down")] * 100
        async with trio.open_nursery() as nursery:
            with rig.views.subscribe("strategy", rig.box):
                rig.box.take_nowait()
                nursery.start_soon(again.feed.run, TaskContext("market_feed", again.stop))
                await trio.sleep(0.01)
                (view,) = rig.box.take_nowait().values()
                assert view.is_stale
                assert view.bids == ()
                again.stop.set()


async def test_books_read_by_request_keep_marks_fresh_but_stale_while_disconnected(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.exchange.refusals = [Disconnected("down")] * 1000
        rig.exchange.fail(Disconnected("cut"))
        await trio.sleep(1)
        rig.exchange.change(Side.BUY, cents(44), shares(5), is_pushed=False)
        await rig.until(lambda: rig.top().best_bid == cents(44), within_s=2)
        assert rig.is_stale()
        reads = rig.exchange.book_reads
        await trio.sleep(10)
        assert rig.exchange.book_reads - reads == pytest.approx(8, abs=2)
        assert rig.is_stale()


async def test_settings_may_trust_books_read_by_request_and_lose_them_when_unanswered(
    autojump_clock: MockClock,
) -> None:
    async with desk(FeedSettings(is_rest_usable=True)) as rig:
        rig.exchange.refusals = [Disconnected("down")] * 1000
        rig.exchange.fail(Disconnected("cut"))
        await rig.until(rig.is_stale, within_s=1)
        await rig.until(lambda: not rig.is_stale(), within_s=2)
        rig.exchange.books_error = Disconnected("down too")
        await rig.until(rig.is_stale, within_s=2)


async def test_pauses_between_attempts_are_bounded_and_jittered(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.exchange.refusals = [Disconnected("down")] * 10_000
        rig.exchange.fail(Disconnected("cut"))
        await trio.sleep(240)
        pauses = [b - a for a, b in zip(rig.exchange.connects[1:], rig.exchange.connects[2:], strict=False)]
        assert max(pauses) <= 30.1
        assert len(set(pauses)) > 5
        assert rig.told().losses == len(rig.exchange.connects)


async def test_exchange_that_asks_for_a_pause_gets_it(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.exchange.refusals = [RateLimited("429", retry_after_s=20.0)]
        rig.exchange.fail(Disconnected("cut"))
        await trio.sleep(60)
        assert rig.exchange.connects[2] - rig.exchange.connects[1] >= 20.0


async def test_dead_link_is_noticed_without_any_error(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.exchange.session.is_dead = True
        await rig.until(lambda: len(rig.exchange.connects) == 2, within_s=36)
        await trio.sleep(0.3)
        assert "no sign of life" in rig.told().reason


async def test_connection_that_stalls_while_opening_is_given_up(autojump_clock: MockClock) -> None:
    rig = Desk(FeedSettings())
    attempts = 0

    @asynccontextmanager
    async def stalling(token_ids: object) -> AsyncIterator[None]:
        nonlocal attempts
        attempts += 1
        await trio.sleep(3600)
        yield

    rig.exchange.open_market = stalling  # type: ignore[assignment,method-assign]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.feed.run, TaskContext("market_feed", rig.stop))
        await trio.sleep(25)
        assert attempts == 3
        rig.stop.set()


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


async def test_bad_frame_that_names_its_token_leaves_others_trusted(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.exchange.books_error = Disconnected("no answers")
        rig.exchange.fail(BadFrame("impossible price", token_ids=(NO,)))
        await trio.sleep(0.1)
        assert (rig.top(NO).is_stale, rig.top(YES).is_stale) == (True, False)


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
        rig.exchange.push(*_with_ms(rig.exchange.deltas(Side.BUY, cents(41), shares(5)), rig.exchange.ms + 50))
        await trio.sleep(9)
        assert rig.exchange.book_reads > 1
        assert not rig.is_stale()
        assert len(rig.exchange.connects) == 1


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


async def test_gap_is_stale_until_a_snapshot(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.exchange.books_error = Disconnected("no answers")
        rig.exchange.push(Gap(token_ids=(NO,), reason="sequence", received_ns=now_ns()))
        rig.exchange.change(Side.BUY, cents(41), shares(5))  # data alone does not heal
        await trio.sleep(1)
        assert (rig.top(NO).is_stale, rig.top(YES).is_stale, rig.view.is_stale) == (True, False, True)
        rig.exchange.push(rig.exchange.snapshot(NO))
        await trio.sleep(0.1)
        assert not rig.is_stale()
        await trio.sleep(1)
        assert rig.told().gaps == 1


async def test_gap_of_the_whole_session_heals_by_request_when_no_snapshot_comes(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.exchange.push(Gap(token_ids=(), reason="overflow", received_ns=now_ns()))
        assert await rig.until(lambda: rig.top(YES).is_stale and rig.top(NO).is_stale, within_s=1) < 0.1
        took = await rig.until(lambda: not rig.is_stale(), within_s=5)
        assert 0.5 <= took <= 1.0
        assert len(rig.exchange.connects) == 1


async def test_snapshot_older_than_the_gap_does_not_heal(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.exchange.books_error = Disconnected("no answers")
        old = rig.exchange.snapshot(YES)
        rig.exchange.change(Side.BUY, cents(41), shares(5))
        rig.exchange.push(Gap(token_ids=(YES,), reason="sequence", received_ns=now_ns()))
        rig.exchange.push(old)
        await trio.sleep(0.1)
        assert rig.is_stale()


async def test_answer_asked_for_on_a_lost_connection_is_not_used(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.exchange.push(Gap(token_ids=(), reason="overflow", received_ns=now_ns()))
        await rig.until(lambda: rig.exchange.book_reads == 1, within_s=2)
        rig.exchange.refusals = [Disconnected("down")] * 2
        rig.exchange.fail(Disconnected("cut"))
        await trio.sleep(0.11)  # the answer has come
        assert rig.is_stale()
        await rig.until(lambda: not rig.is_stale(), within_s=5)
        assert len(rig.exchange.connects) == 4


@pytest.mark.parametrize("is_connected", [True, False])
async def test_impossible_book_read_by_request_changes_nothing(
    autojump_clock: MockClock, *, is_connected: bool
) -> None:
    async with desk() as rig:
        rig.exchange.ms += 1
        rig.exchange.bids[Price(413_001)] = shares(1)
        if is_connected:
            rig.exchange.push(Gap(token_ids=(), reason="overflow", received_ns=now_ns()))
        else:
            rig.exchange.refusals = [Disconnected("down")] * 1000
            rig.exchange.fail(Disconnected("cut"))
        await trio.sleep(5)
        assert rig.exchange.book_reads > 1
        assert rig.is_stale()
        assert rig.top().best_bid == cents(40)


async def test_bad_frame_is_stale_and_heals_by_request(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.exchange.fail(BadFrame("not JSON"))
        await rig.until(rig.is_stale, within_s=0.1)
        await rig.until(lambda: not rig.is_stale(), within_s=2)
        await trio.sleep(1)
        assert rig.told().bad_frames == 1
        assert len(rig.exchange.connects) == 1


async def test_price_off_the_grid_makes_only_its_token_stale(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.exchange.books_error = Disconnected("no answers")
        rig.exchange.ms += 1
        yes, _ = rig.exchange.deltas(Side.BUY, Price(413_000), shares(1))
        rig.exchange.push(yes)
        await trio.sleep(0.1)
        assert (rig.top(YES).is_stale, rig.top(NO).is_stale) == (True, False)


async def test_many_bad_frames_within_a_minute_reconnect(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        for _ in range(10):
            rig.exchange.fail(BadFrame("not JSON"))
            await trio.sleep(5)
        assert len(rig.exchange.connects) == 1
        rig.exchange.fail(BadFrame("not JSON"))
        await trio.sleep(1)
        assert len(rig.exchange.connects) == 2
        assert "bad frames" in rig.told().reason
        assert not rig.is_stale()


async def test_crossed_book_is_stale_at_once_and_heals_when_the_missing_change_comes(
    autojump_clock: MockClock,
) -> None:
    async with desk() as rig:
        rig.exchange.ms += 1
        rig.exchange.push(*rig.exchange.deltas(Side.BUY, cents(60), shares(1)))
        await trio.sleep(0.01)
        assert rig.is_stale()
        rig.exchange.ms += 1
        rig.exchange.push(*rig.exchange.deltas(Side.BUY, cents(60), Size(0)))
        await trio.sleep(0.01)
        assert not rig.is_stale()
        assert rig.exchange.book_reads == 0


async def test_book_that_stays_crossed_is_read_by_request(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.exchange.push(*_with_ms(rig.exchange.deltas(Side.BUY, cents(60), shares(1)), rig.exchange.ms + 1))
        rig.exchange.ms += 2
        await rig.until(rig.is_stale, within_s=0.1)
        took = await rig.until(lambda: not rig.is_stale(), within_s=2)
        assert 0.5 <= took <= 1.0
        assert rig.top().best_bid == cents(40)


async def test_lasting_disagreement_of_yes_and_no_is_stale(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.exchange.books_error = Disconnected("no answers")
        yes, _ = rig.exchange.deltas(Side.BUY, cents(45), shares(1))
        rig.exchange.push(_with_ms((yes,), rig.exchange.ms + 1)[0])
        await trio.sleep(0.3)
        assert not rig.is_stale()  # the other half may still be on its way
        took = await rig.until(rig.is_stale, within_s=1)
        assert took <= 0.5
        rig.exchange.books_error = None
        rig.exchange.ms += 5
        await rig.until(lambda: not rig.is_stale(), within_s=4)


async def test_best_prices_that_are_not_those_told_reveal_a_lost_change(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.exchange.change(Side.BUY, cents(45), shares(1), is_pushed=False)
        rig.exchange.change(Side.BUY, cents(41), shares(1), is_pushed=False)
        for delta in rig.exchange.deltas(Side.BUY, cents(41), shares(1)):
            bid, ask = (cents(45), None) if delta.token_id == YES else (None, cents(55))
            rig.exchange.push(msgspec.structs.replace(delta, best_bid=bid, best_ask=ask))
        assert await rig.until(rig.is_stale, within_s=2) == pytest.approx(0.5, abs=0.3)
        await rig.until(lambda: not rig.is_stale(), within_s=2)
        assert rig.top().best_bid == cents(45)
        assert len(rig.exchange.connects) == 1


async def test_empty_side_told_as_zero_or_one_dollar_is_no_dispute(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.exchange.change(Side.BUY, cents(40), Size(0), is_pushed=False)
        for delta in rig.exchange.deltas(Side.BUY, cents(40), Size(0)):
            bid, ask = (Price(0), cents(60)) if delta.token_id == YES else (cents(40), Price(1_000_000))
            rig.exchange.push(msgspec.structs.replace(delta, best_bid=bid, best_ask=ask))
        await trio.sleep(2)
        assert not rig.is_stale()
        assert rig.top().best_bid is None


async def test_changed_tick_waits_for_a_snapshot_of_the_new_grid(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.exchange.books_error = Disconnected("no answers")
        rig.exchange.ms += 1
        for token_id in (YES, NO):
            rig.exchange.push(
                TickSizeChanged(token_id=token_id, tick=Price(1_000), exchange_ms=rig.exchange.ms, received_ns=now_ns())
            )
        await trio.sleep(0.1)
        assert rig.is_stale()
        rig.exchange.change(Side.BUY, Price(413_000), shares(5), is_pushed=False)
        rig.exchange.push(rig.exchange.snapshot(YES), rig.exchange.snapshot(NO))
        await trio.sleep(0.1)
        assert not rig.is_stale()
        assert (rig.top().tick, rig.top().best_bid) == (1_000, 413_000)


async def test_events_of_other_tokens_are_left_out(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        other = BookSnapshot(token_id=TokenId("other"), bids=(), asks=(), exchange_ms=9, received_ns=now_ns())
        rig.exchange.push(other, Gap(token_ids=(TokenId("other"),), reason="", received_ns=now_ns()))
        await trio.sleep(0.1)
        assert not rig.is_stale()


async def test_health_counts_what_happened(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.exchange.change(Side.BUY, cents(41), shares(5))
        await trio.sleep(2)
        rig.exchange.fail(Disconnected("cut"))
        await trio.sleep(2)
        told = rig.told()
        assert (told.is_connected, told.connects, told.losses, told.reason) == (True, 2, 1, "cut")
        assert (told.frames, told.tokens, told.tokens_stale) == (3, 2, 0)
        assert now_ns() - told.data_ns < 3 * 10**9


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


def _with_ms(deltas: tuple[BookDelta, ...], exchange_ms: int) -> tuple[BookDelta, ...]:
    return tuple(msgspec.structs.replace(delta, exchange_ms=exchange_ms) for delta in deltas)
