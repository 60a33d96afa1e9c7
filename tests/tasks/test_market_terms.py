"""Terms of markets are read again and again: what changed is told once, and an exchange that is away harms nothing."""

from __future__ import annotations

import random

import msgspec
import pytest
import trio
from trio.testing import MockClock

from tbot.core.market import FeeSchedule
from tbot.core.messages import MarketChanged, MarketNews, TopOfBook
from tbot.core.units import Price
from tbot.errors import Disconnected, RateLimited
from tbot.exchanges.simulated.operations import CloseMarket, ResolveMarket
from tbot.tasks.feed_settings import FeedSettings
from tbot.tasks.market_feed import Redefined
from tbot.tasks.supervisor import Child, Policy, RestartLimit, keep, supervise
from tests.tasks.bot_stage import quoting, shares
from tests.tasks.fake_exchange import MARKET, NO, now_ns
from tests.tasks.feed_desk import Desk, desk

PAUSED = msgspec.structs.replace(MARKET, is_accepting_orders=False)
DEAR = msgspec.structs.replace(MARKET, fee=FeeSchedule(rate_micro=70_000))
SETTINGS = FeedSettings()


def told(rig: Desk) -> list[MarketChanged]:
    messages = rig.inbox.take_nowait()
    rig.tops |= {message.token_id: message for message in messages if isinstance(message, TopOfBook)}
    return [message for message in messages if isinstance(message, MarketChanged)]


@pytest.mark.slow
async def test_changed_terms_are_told_once_within_their_time(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.exchange.terms = DEAR
        await trio.sleep(SETTINGS.terms_s + 1)
        assert [message.market for message in told(rig)] == [DEAR]
        assert rig.view.market == DEAR
        await trio.sleep(2 * SETTINGS.terms_s)
        assert told(rig) == []
        assert len(rig.exchange.terms_reads) == 3
        assert not rig.is_stale()  # books were not touched by it
        assert len(rig.exchange.connects) == 1


async def test_news_of_a_market_hurry_its_reading(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.exchange.terms = PAUSED
        news = MarketNews(market_id=MARKET.market_id, token_ids=(NO,), what="resolved", received_ns=now_ns())
        rig.exchange.push(news)
        await trio.sleep(1)
        assert [message.market for message in told(rig)] == [PAUSED]


async def test_terms_that_cannot_be_read_are_asked_for_again_soon_and_nothing_changes(
    autojump_clock: MockClock,
) -> None:
    async with desk() as rig:
        rig.exchange.terms_errors = [Disconnected("planted"), RateLimited("planted", retry_after_s=7.0)]
        rig.exchange.terms = PAUSED
        await trio.sleep(SETTINGS.terms_s)
        assert told(rig) == []
        assert not rig.is_stale()
        await trio.sleep(12)
        first, second, third = rig.exchange.terms_reads
        assert second - first == pytest.approx(SETTINGS.canary_s, abs=0.5)
        assert third - second >= 7.0
        assert [message.market for message in told(rig)] == [PAUSED]


async def test_a_tick_change_that_nobody_told_is_stale_until_the_book_says_so(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.exchange.terms = msgspec.structs.replace(MARKET, tick=Price(1_000))
        await trio.sleep(SETTINGS.terms_s - 1)
        await rig.until(rig.is_stale, within_s=2)
        await rig.until(lambda: not rig.is_stale(), within_s=2)
        assert told(rig) == []


async def test_a_market_of_other_tokens_is_a_crash_that_loads_everything_anew(autojump_clock: MockClock) -> None:
    rig = Desk(SETTINGS)
    rig.exchange.terms = msgspec.structs.replace(MARKET, is_neg_risk=True)
    policy = Policy(rng=random.Random(1), faults_max=0)
    with pytest.raises(RestartLimit) as caught:
        await supervise(keep(Child("market_feed", rig.feed.run), policy), rig.stop, policy)
    assert isinstance(caught.value.causes[0], Redefined)
    assert trio.current_time() <= SETTINGS.terms_s + 1


@pytest.mark.slow
@pytest.mark.parametrize("is_resolved", [False, True])
async def test_a_market_that_closes_is_left_and_what_was_bought_is_kept(
    autojump_clock: MockClock, *, is_resolved: bool
) -> None:
    async with quoting() as stage:
        stage.hit_our_bids(15)
        await trio.sleep(3)
        market_id = stage.market.market_id
        stage.exchange.apply(
            ResolveMarket(market_id=market_id, yes_payout=Price(0)) if is_resolved else CloseMarket(market_id=market_id)
        )
        await trio.sleep(SETTINGS.terms_s + 3)
        began = trio.current_time()
        await trio.sleep(60)
        assert stage.placed_after(began) == []
        assert stage.resting() == []
        assert [note for _, kind, note in stage.notes if kind in ("fault", "restart")] == []
        live, replayed = stage.state()
        assert live == replayed
        snapshot = stage.parts.snapshots.peek("snapshot")
        assert snapshot is not None
        assert snapshot.positions[0].size == shares(15)
        assert any("closed for good" in note for note in snapshot.notes)
