"""Reconnection with state sync, gaps, bad frames, crossed books; all on Trio's virtual clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio
from trio.testing import MockClock

from tbot.core.market import TokenId
from tbot.core.messages import (
    BookDelta,
    BookSnapshot,
    Gap,
    Level,
    Side,
    TickSizeChanged,
    TradePrint,
)
from tbot.core.units import Price, Size
from tbot.errors import BadFrame, Disconnected, RateLimited
from tbot.tasks.feed_settings import FeedSettings
from tbot.tasks.market_feed import Connects
from tbot.tasks.supervisor import TaskContext
from tests.tasks.fake_exchange import NO, YES, cents, now_ns, shares
from tests.tasks.feed_desk import Desk, desk, with_ms


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


async def test_bad_frame_that_names_its_token_leaves_others_trusted(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.exchange.books_error = Disconnected("no answers")
        rig.exchange.fail(BadFrame("impossible price", token_ids=(NO,)))
        await trio.sleep(0.1)
        assert (rig.top(NO).is_stale, rig.top(YES).is_stale) == (True, False)


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
        rig.exchange.push(*with_ms(rig.exchange.deltas(Side.BUY, cents(60), shares(1)), rig.exchange.ms + 1))
        rig.exchange.ms += 2
        await rig.until(rig.is_stale, within_s=0.1)
        took = await rig.until(lambda: not rig.is_stale(), within_s=2)
        assert 0.5 <= took <= 1.0
        assert rig.top().best_bid == cents(40)


async def test_lasting_disagreement_of_yes_and_no_is_stale(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.exchange.books_error = Disconnected("no answers")
        yes, _ = rig.exchange.deltas(Side.BUY, cents(45), shares(1))
        rig.exchange.push(with_ms((yes,), rig.exchange.ms + 1)[0])
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


async def test_bad_frames_of_one_token_leave_the_others_alone(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        for _ in range(60):
            rig.exchange.fail(BadFrame("impossible price", token_ids=(NO,)))
            await trio.sleep(0.1)
            assert (rig.top(NO).is_stale, rig.top(YES).is_stale) == (True, False)
            await trio.sleep(0.9)
        assert len(rig.exchange.connects) == 1
        await rig.until(lambda: not rig.is_stale(), within_s=3)


async def test_level_from_before_a_coarser_tick_makes_no_book_useless(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.exchange.bids[Price(395_000)] = shares(3)
        rig.exchange.fail(Disconnected("cut"))
        await rig.until(rig.is_stale, within_s=1)
        await rig.until(lambda: not rig.is_stale(), within_s=3)
        assert Level(Price(395_000), shares(3)) in rig.view.bids
        rig.exchange.change(Side.BUY, Price(395_000), shares(0))
        await trio.sleep(0.1)
        assert not rig.is_stale()
        assert Level(Price(395_000), shares(3)) not in rig.view.bids


def test_connections_are_counted_over_all_incarnations() -> None:
    connects = Connects()
    for told in (0, 1, 1, 3, 0, 1, 2):  # the fifth comes from a new one
        connects.see(told)
    assert connects.total == 5
