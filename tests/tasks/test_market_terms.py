"""Terms of markets are read again and again: what changed is told once, and an exchange that is away harms nothing."""

from __future__ import annotations

import io

import msgspec
import pytest
import trio
from trio.testing import MockClock

from tbot.core.market import FeeSchedule, Market, MarketId, TokenId
from tbot.core.messages import MarketChanged, MarketNews, TopOfBook
from tbot.core.units import Price
from tbot.errors import AuthenticationFailed, BadFrame, ConfigError, Disconnected, RateLimited
from tbot.exchanges.simulated.gateway import InProcessGateway
from tbot.exchanges.simulated.operations import CloseMarket, ResolveMarket
from tbot.log import set_up
from tbot.tasks.feed_settings import FeedSettings
from tests.tasks.bot_stage import quoting, shares
from tests.tasks.fake_exchange import MARKET, NO, now_ns
from tests.tasks.feed_desk import Desk, desk
from tests.tasks.log_lines import lines_of

PAUSED = msgspec.structs.replace(MARKET, is_accepting_orders=False)
DEAR = msgspec.structs.replace(MARKET, fee=FeeSchedule(rate_micro=70_000))
SETTINGS = FeedSettings()
OFTEN = FeedSettings(terms_s=4.0)


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


@pytest.mark.parametrize(
    "refusal", [ConfigError("market 0x: of protocol 'v3'"), AuthenticationFailed("401")], ids=["kind", "credentials"]
)
async def test_a_market_that_we_cannot_trade_now_takes_no_orders_until_a_good_answer(
    autojump_clock: MockClock, refusal: Exception
) -> None:
    terminal = io.StringIO()
    with set_up(file=None, terminal=terminal, level="warning"):
        async with desk(OFTEN) as rig:
            rig.exchange.terms_errors = [refusal, refusal]
            await trio.sleep(OFTEN.terms_s + 1)
            assert [message.market for message in told(rig)] == [PAUSED]
            assert rig.view.market == PAUSED
            assert not rig.is_stale()
            await trio.sleep(OFTEN.terms_s)
            assert told(rig) == [], "the same refusal is no news"
            await trio.sleep(OFTEN.terms_s)
            assert [message.market for message in told(rig)] == [MARKET]
            assert len(rig.exchange.connects) == 1
    (warned,) = lines_of(terminal, "market.untradable")
    assert str(refusal) in warned


OTHERS = {
    "swapped": msgspec.structs.replace(MARKET, yes=MARKET.no, no=MARKET.yes),
    "tokens": msgspec.structs.replace(MARKET, yes=TokenId("91"), no=TokenId("92")),
    "market": msgspec.structs.replace(MARKET, market_id=MarketId("another")),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
async def test_a_market_that_names_another_asset_takes_no_orders_until_a_good_answer(
    autojump_clock: MockClock, other: Market
) -> None:
    terminal = io.StringIO()
    with set_up(file=None, terminal=terminal, level="warning"):
        async with desk(OFTEN) as rig:
            rig.exchange.terms = other
            await trio.sleep(OFTEN.terms_s + 1)
            assert [message.market for message in told(rig)] == [PAUSED]
            assert not rig.is_stale()
            rig.exchange.terms = DEAR
            await trio.sleep(OFTEN.terms_s)
            assert [message.market for message in told(rig)] == [DEAR]
    (warned,) = lines_of(terminal, "market.untradable")
    assert f"market_id={MARKET.market_id}" in warned


async def test_a_market_that_moves_to_another_contract_is_told_and_goes_on(autojump_clock: MockClock) -> None:
    moved = msgspec.structs.replace(MARKET, is_neg_risk=True)
    async with desk(OFTEN) as rig:
        rig.exchange.terms = moved
        await trio.sleep(OFTEN.terms_s + 1)
        assert [message.market for message in told(rig)] == [moved]
        assert rig.view.market == moved
        assert not rig.is_stale()


async def test_terms_that_cannot_be_change_nothing_and_are_asked_for_again_soon(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.exchange.terms_errors = [BadFrame("planted")]
        rig.exchange.terms = DEAR
        await trio.sleep(SETTINGS.terms_s)
        assert told(rig) == []
        assert rig.view.market == MARKET
        await trio.sleep(SETTINGS.canary_s + 1)
        assert [message.market for message in told(rig)] == [DEAR]


@pytest.mark.slow
async def test_a_refused_reading_pulls_the_quotes_of_its_market_and_ends_no_bot(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with quoting() as stage:
        assert stage.resting() != []

        async def refuse(_gateway: InProcessGateway, market_id: MarketId) -> Market:
            raise ConfigError(f"market {market_id}: of protocol 'v3'")

        with monkeypatch.context() as meddled:
            meddled.setattr(InProcessGateway, "reread", refuse)
            await trio.sleep(SETTINGS.terms_s + 3)
            assert stage.resting() == []
        await trio.sleep(SETTINGS.terms_s + 3)
        assert stage.resting() != []
        assert [note for _, kind, note in stage.notes if kind in ("fault", "restart")] == []


async def closed_desk_reads(*, then_resolved: bool) -> int:
    """Count the readings in a minute of a market that closed, and was resolved later or not."""
    closed = msgspec.structs.replace(PAUSED, is_closed=True)
    async with desk(OFTEN) as rig:
        rig.exchange.terms = closed
        await trio.sleep(2 * OFTEN.terms_s)
        rig.exchange.terms = msgspec.structs.replace(closed, is_resolved=then_resolved)
        await trio.sleep(2 * OFTEN.terms_s)
        assert told(rig)[-1].market == rig.exchange.terms
        before = len(rig.exchange.terms_reads)
        await trio.sleep(60)
        return len(rig.exchange.terms_reads) - before


async def test_a_market_that_closed_is_read_until_it_is_resolved(autojump_clock: MockClock) -> None:
    assert await closed_desk_reads(then_resolved=False) >= 60 / (OFTEN.terms_s + 1)
    assert await closed_desk_reads(then_resolved=True) == 0


async def test_a_market_that_closed_is_read_no_more_once_it_is_removed(autojump_clock: MockClock) -> None:
    async with desk(OFTEN) as rig:
        rig.exchange.terms = msgspec.structs.replace(PAUSED, is_closed=True)
        await trio.sleep(2 * OFTEN.terms_s)
        rig.feed.remove(MARKET.market_id)
        before = len(rig.exchange.terms_reads)
        rig.exchange.terms = MARKET
        await trio.sleep(60)
        assert len(rig.exchange.terms_reads) == before
        assert rig.view.is_stale


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
        assert any(("closed for good" if is_resolved else ": closed") in note for note in snapshot.notes)
