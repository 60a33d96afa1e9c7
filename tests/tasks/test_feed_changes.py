"""Markets come and go while the feed runs: on the sockets of the others, which notice nothing."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio
from trio.testing import MockClock

from tbot.core.market import Market, MarketId, TokenId
from tbot.core.messages import BookSnapshot, MarketChanged, MarketView, Side, TopOfBook
from tbot.core.units import MICRO, Price, Size
from tbot.errors import Disconnected
from tbot.exchanges.simulated.operations import CloseMarket, MarketRules, PauseMarket, ReopenMarket, ResolveMarket
from tbot.exchanges.simulated.translate import market_of
from tbot.tasks.conflator import Conflator, Hub
from tbot.tasks.feed_settings import FeedSettings
from tbot.tasks.inbox import Inbox
from tbot.tasks.market_feed import HEALTH_KEY, FeedHealth, MarketFeed
from tbot.tasks.supervisor import Child, Policy, keep, supervise
from tests.contract.stage import now_ns
from tests.exchanges.polymarket.local import PolymarketStage, polymarket
from tests.tasks.bot_stage import OTHER, quoting
from tests.tasks.fake_exchange import MARKET, NO, YES
from tests.tasks.feed_desk import Desk, desk

RULES = tuple(
    MarketRules(
        market_id=MarketId(f"0x{n:064x}"),
        slug=f"market-{n}",
        yes=TokenId(f"73{n:073d}1"),
        no=TokenId(f"73{n:073d}2"),
    )
    for n in range(1, 15)
)
SNOW = msgspec.structs.replace(MARKET, market_id=MarketId("snow"), yes=TokenId("snow"), no=TokenId("no-snow"))
SETTINGS = FeedSettings(shard_tokens_max=8)
CLOSED = msgspec.structs.replace(MARKET, is_accepting_orders=False, is_closed=True)


class Rig:
    """The feed on the real gateway, before the local exchange's server."""

    def __init__(self, stage: PolymarketStage, markets: Sequence[Market]) -> None:
        self.stage = stage
        self.inbox = Inbox()
        self.views: Hub[MarketId, MarketView] = Hub("views")
        self.health: Conflator[str, FeedHealth] = Conflator()
        self.stop = trio.Event()
        self.tops: list[TopOfBook] = []
        self.asked: list[TokenId] = []
        self._books = stage.gateway.books
        stage.gateway.books = self.books  # type: ignore[method-assign]
        self.reread_ids: list[MarketId] = []
        self._reread = stage.gateway.reread
        stage.gateway.reread = self.reread  # type: ignore[method-assign]
        self.feed = MarketFeed(
            gateway=stage.gateway,
            markets=markets,
            views=self.views,
            coordinator=self.inbox,
            health=self.health,
            settings=SETTINGS,
            rng=random.Random(1),
            now_ns=now_ns,
        )

    async def books(self, token_ids: Sequence[TokenId]) -> tuple[BookSnapshot, ...]:
        self.asked += token_ids
        return await self._books(token_ids)

    def listen(self) -> list[TopOfBook]:
        """Give the tops told since the last call."""
        return [message for message in self.inbox.take_nowait() if isinstance(message, TopOfBook)]

    def told(self) -> FeedHealth:
        health = self.health.peek(HEALTH_KEY)
        assert health is not None
        return health

    async def reread(self, market_id: MarketId) -> Market:
        self.reread_ids.append(market_id)
        return await self._reread(market_id)

    async def trade_in(self, market: Market, cents: int) -> None:
        await self.stage.other_rests(market.yes, Side.BUY, Price(cents * 10_000), Size(100 * MICRO))
        await trio.sleep(0.1)

    def best_bid(self, market: Market) -> Price | None:
        bids = self.views.states[market.market_id].bids
        return bids[0].price if bids else None


@asynccontextmanager
async def rigged(count: int) -> AsyncIterator[tuple[Rig, list[Market]]]:
    """Follow the first markets; give all of them."""
    async with polymarket(RULES) as stage:
        markets = [market_of(rules) for rules in RULES]
        for market in markets:
            await stage.other_rests(market.yes, Side.BUY, Price(300_000), Size(100 * MICRO))
            await stage.other_rests(market.yes, Side.SELL, Price(700_000), Size(100 * MICRO))
        rig = Rig(stage, markets[:count])
        policy = Policy(rng=random.Random(1), faults_max=0)
        async with trio.open_nursery() as nursery:
            body = keep(Child("market_feed", rig.feed.run, wedged_after_s=10.0), policy)
            nursery.start_soon(supervise, body, rig.stop, policy)
            await trio.sleep(5)
            yield rig, markets
            rig.stop.set()


@pytest.mark.slow
async def test_markets_come_and_go_over_several_connections_and_the_others_notice_nothing(
    autojump_clock: MockClock,
) -> None:
    async with rigged(10) as (rig, markets):  # 8 + 8 + 4 tokens
        old, added = markets[:10], markets[10:]
        assert [shard.tokens for shard in rig.told().shards] == [8, 8, 4]
        assert not any(view.is_stale for view in rig.views.states.values())
        rig.listen()
        for market in added:  # 2 on the third connection, 2 on a new one
            rig.feed.add(market)
        assert all(rig.views.states[market.market_id].is_stale for market in added)
        await trio.sleep(5)
        assert [shard.tokens for shard in rig.told().shards] == [8, 8, 8, 4]
        assert [shard.connects for shard in rig.told().shards] == [1, 1, 1, 1]
        assert not any(view.is_stale for view in rig.views.states.values())
        assert not any(top.is_stale for top in rig.listen() if top.token_id in {t for m in old for t in m.tokens})
        verified = rig.told().verified
        for market in added:
            await rig.trade_in(market, 35)
            assert rig.best_bid(market) == 350_000
        await trio.sleep(2)
        assert rig.told().verified >= verified + 2 * len(added)
        assert rig.told().mismatched == 0

        removed = [*old[:4], markets[13]]  # all of the first connection, one of two on the last
        for market in removed:
            rig.feed.remove(market.market_id)
        gone = {token_id for market in removed for token_id in market.tokens}
        last = {top.token_id: top for top in rig.listen()}
        assert all(last[token_id].is_stale for token_id in gone)
        assert all(rig.views.states[market.market_id].is_stale for market in removed)
        await trio.sleep(SETTINGS.rotate_s)
        rig.asked.clear()
        frames = rig.told().frames
        for market in removed:
            await rig.trade_in(market, 36)
        await trio.sleep(2 * SETTINGS.rotate_s)
        told = rig.told()
        assert (told.frames, told.tokens, told.is_connected) == (frames, 18, True)
        assert [(shard.tokens, shard.connects) for shard in told.shards] == [(0, 1), (8, 1), (8, 1), (2, 1)]
        assert set(rig.asked) == {token_id for market in markets[4:13] for token_id in market.tokens}
        assert not any(top.token_id in gone for top in rig.listen())

        rig.feed.add(old[0])  # where there is room again
        await trio.sleep(5)
        assert rig.best_bid(old[0]) == 360_000
        assert not rig.views.states[old[0].market_id].is_stale
        assert [(shard.tokens, shard.connects) for shard in rig.told().shards] == [(2, 2), (8, 1), (8, 1), (2, 1)]


@pytest.mark.slow
async def test_a_market_that_closes_is_unsubscribed_and_one_beside_it_goes_on(autojump_clock: MockClock) -> None:
    async with rigged(2) as (rig, (closing, other, *_)):
        rig.stage.exchange.apply(CloseMarket(market_id=closing.market_id))
        await trio.sleep(SETTINGS.terms_s + 1)
        assert rig.told().tokens == 2
        assert rig.views.states[closing.market_id].market.is_closed
        rig.asked.clear()
        await rig.trade_in(other, 40)
        assert rig.best_bid(other) == 400_000
        await trio.sleep(2 * SETTINGS.terms_s)
        assert set(rig.asked) == set(other.tokens)
        assert [shard.connects for shard in rig.told().shards] == [1]


@pytest.mark.slow
async def test_a_market_that_opens_again_joins_with_a_fresh_book_until_it_is_resolved(
    autojump_clock: MockClock,
) -> None:
    async with rigged(2) as (rig, (market, other, *_)):
        exchange = rig.stage.exchange
        exchange.apply(CloseMarket(market_id=market.market_id))
        await trio.sleep(SETTINGS.terms_s + 1)
        assert rig.told().tokens == 2
        await trio.sleep(2 * SETTINGS.terms_s)
        exchange.apply(ReopenMarket(market_id=market.market_id))
        await rig.trade_in(market, 33)
        rig.listen()
        await trio.sleep(SETTINGS.terms_s + 1)
        view = rig.views.states[market.market_id]
        assert (view.market.is_accepting_orders, view.market.is_closed, view.is_stale) == (True, False, False)
        assert rig.best_bid(market) == 330_000
        assert not any(top.is_stale for top in rig.listen() if top.token_id in other.tokens)
        assert [(shard.tokens, shard.connects) for shard in rig.told().shards] == [(4, 1)]
        rig.asked.clear()
        verified = rig.told().verified
        await rig.trade_in(market, 34)
        await trio.sleep(2 * SETTINGS.rotate_s)
        assert set(market.tokens) <= set(rig.asked), "it is compared with the truth again"
        assert (rig.told().verified, rig.told().mismatched) == (verified + 2, 0)

        exchange.apply(ResolveMarket(market_id=market.market_id, yes_payout=Price(0)))
        await trio.sleep(SETTINGS.terms_s + 1)
        assert rig.told().tokens == 2
        rig.reread_ids.clear()
        await trio.sleep(3 * SETTINGS.terms_s)
        assert set(rig.reread_ids) == {other.market_id}


@pytest.mark.slow
async def test_a_paused_market_stays_in_the_feed_and_is_seen_to_go_on(autojump_clock: MockClock) -> None:
    async with rigged(2) as (rig, (market, *_)):
        rig.stage.exchange.apply(PauseMarket(market_id=market.market_id))
        await trio.sleep(SETTINGS.terms_s + 1)
        view = rig.views.states[market.market_id]
        assert (view.market.is_accepting_orders, view.is_stale, rig.told().tokens) == (False, False, 4)
        rig.stage.exchange.apply(ReopenMarket(market_id=market.market_id))
        await trio.sleep(SETTINGS.terms_s + 1)
        assert rig.views.states[market.market_id].market == market
        assert [shard.connects for shard in rig.told().shards] == [1]


async def test_without_a_market_nothing_is_connected_asked_or_read_until_one_comes(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.feed.remove(MARKET.market_id)
        rig.feed.remove(MARKET.market_id)  # said twice is said once
        await trio.sleep(1)
        rig.exchange.book_reads, reads = 0, len(rig.exchange.terms_reads)
        await trio.sleep(90)
        assert (rig.exchange.book_reads, len(rig.exchange.terms_reads), len(rig.exchange.connects)) == (0, reads, 1)
        assert rig.told().is_connected
        assert rig.top().is_stale
        rig.feed.add(MARKET)
        await trio.sleep(0.5)
        assert not rig.is_stale()
        assert len(rig.exchange.connects) == 2


async def test_what_changes_while_a_connection_is_made_is_subscribed_when_it_stands(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.exchange.fail(Disconnected("planted"))
        await rig.until(lambda: len(rig.exchange.connects) == 2, within_s=5)  # on its way, with both tokens
        rig.feed.add(SNOW)
        rig.feed.remove(MARKET.market_id)
        await trio.sleep(1)
        session = rig.exchange.session
        assert (session.unsubscribed, session.subscribed) == ([(YES, NO)], [SNOW.tokens])
        assert len(rig.exchange.connects) == 2


async def test_closed_markets_are_not_followed_from_the_start(autojump_clock: MockClock) -> None:
    rig = Desk(FeedSettings())
    rig.feed.markets = (msgspec.structs.replace(CLOSED, is_resolved=True),)
    policy = Policy(rng=random.Random(1), faults_max=0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervise, keep(Child("market_feed", rig.feed.run), policy), rig.stop, policy)
        await trio.sleep(100)
        assert (rig.exchange.connects, rig.exchange.book_reads, rig.told().tokens) == ([], 0, 0)
        assert rig.exchange.terms_reads == []
        rig.stop.set()


async def test_a_market_closed_at_the_start_joins_when_it_is_said_to_take_orders(autojump_clock: MockClock) -> None:
    rig = Desk(FeedSettings())
    rig.feed.markets, rig.exchange.terms = (CLOSED,), CLOSED
    policy = Policy(rng=random.Random(1), faults_max=0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervise, keep(Child("market_feed", rig.feed.run), policy), rig.stop, policy)
        await trio.sleep(2.5 * SETTINGS.terms_s)
        assert (rig.exchange.connects, len(rig.exchange.terms_reads)) == ([], 2)
        rig.exchange.terms = MARKET
        await trio.sleep(SETTINGS.terms_s)
        assert (rig.view.market, rig.view.is_stale) == (MARKET, False)
        (changed,) = [message for message in rig.inbox.take_nowait() if isinstance(message, MarketChanged)]
        assert changed.market == MARKET
        rig.stop.set()


@pytest.mark.slow
async def test_the_bot_goes_on_when_its_only_market_has_left_the_feed(autojump_clock: MockClock) -> None:
    async with quoting() as stage:
        for rules in stage.exchange.markets():
            stage.exchange.apply(CloseMarket(market_id=rules.market_id))
        await trio.sleep(2 * FeedSettings().terms_s)
        health = stage.parts.health.peek(HEALTH_KEY)
        assert health is not None
        assert health.tokens == 0
        await trio.sleep(30)
        assert [note for _, kind, note in stage.notes if kind in ("fault", "restart")] == []


@pytest.mark.slow
@pytest.mark.parametrize("is_restarted", [False, True])
@pytest.mark.parametrize("halt", [PauseMarket, CloseMarket])
async def test_a_market_that_takes_orders_again_is_quoted_again(
    autojump_clock: MockClock, halt: type[PauseMarket | CloseMarket], *, is_restarted: bool
) -> None:
    async with quoting() as stage:
        market_id = stage.market.market_id
        stage.exchange.apply(halt(market_id=market_id))
        await trio.sleep(FeedSettings().terms_s + 3)
        began = trio.current_time()
        if is_restarted:
            stage.crash("coordinator")
        await trio.sleep(2 * FeedSettings().terms_s)
        assert (stage.resting(), stage.placed_after(began)) == ([], [])
        stage.exchange.apply(ReopenMarket(market_id=market_id))
        if halt is CloseMarket:  # which cancelled what rested
            stage.rest(OTHER, Side.BUY, 30)
            stage.rest(OTHER, Side.SELL, 60)
        await trio.sleep(FeedSettings().terms_s + 3)
        assert len(stage.resting()) == 2
        faults = [note for _, kind, note in stage.notes if kind == "fault"]
        assert ([note for note in faults if "planted" not in note], bool(faults)) == ([], is_restarted)
        live, replayed = stage.state()
        assert live == replayed
