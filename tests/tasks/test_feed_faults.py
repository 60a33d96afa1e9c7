"""The market feed against each fault of the local exchange's catalogue, through the real gateway, byte by byte.

The judge compares what the feed shows with the exchange's own books: trusted and wrong for more than five seconds is a
finding, and so is a pull without a reason.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio
from trio.testing import MockClock

from tbot.core.market import Market, MarketId, TokenId
from tbot.core.messages import Level, MarketView, Message, Side, TopOfBook
from tbot.core.units import MICRO, Price, Size
from tbot.exchanges.simulated.fault_catalogue import Fault
from tbot.exchanges.simulated.fault_switches import FaultOrder
from tbot.exchanges.simulated.operations import ChangeTick
from tbot.tasks.conflator import Conflator, Hub
from tbot.tasks.feed_settings import FeedSettings
from tbot.tasks.inbox import Inbox
from tbot.tasks.market_feed import HEALTH_KEY, FeedHealth, MarketFeed
from tbot.tasks.supervisor import Child, Policy, keep, supervise
from tests.contract.stage import now_ns
from tests.exchanges.polymarket.local import PolymarketStage, polymarket

PULLED_WITHIN_S = 5.0
CENT = 10_000


class Tap(Inbox):
    """An inbox that keeps every top it is told: memory pipes are so fast that a pull may last no time at all."""

    def __init__(self) -> None:
        super().__init__()
        self.tops: dict[TokenId, TopOfBook] = {}
        self.pulled: dict[TokenId, None] = {}  # since last emptied

    def put_state(self, key: Hashable, state: Message) -> None:
        assert isinstance(state, TopOfBook)
        self.tops[state.token_id] = state
        if state.is_stale:
            self.pulled[state.token_id] = None


class Rig:
    """A feed of all markets of the local exchange, and what it says."""

    def __init__(self, stage: PolymarketStage, markets: tuple[Market, ...], settings: FeedSettings) -> None:
        self.stage = stage
        self.markets = markets
        self.inbox = Tap()
        self.views: Hub[MarketId, MarketView] = Hub("views")
        self.health: Conflator[str, FeedHealth] = Conflator()
        self.feed = MarketFeed(
            gateway=stage.gateway,
            markets=markets,
            views=self.views,
            coordinator=self.inbox,
            health=self.health,
            settings=settings,
            rng=random.Random(1),
            now_ns=now_ns,
        )

    def stale(self) -> list[TokenId]:
        return [token for token, top in self.inbox.tops.items() if top.is_stale]

    def pulled(self) -> list[TokenId]:
        """Name the tokens that were stale since the fault began."""
        return list(self.inbox.pulled)

    async def told(self) -> FeedHealth:
        await trio.sleep(1.3)  # it is published once a second
        health = self.health.peek(HEALTH_KEY)
        assert health is not None
        return health

    def is_true(self, market: Market) -> bool:
        book, view = self.stage.exchange.book(market.yes), self.views.states[market.market_id]
        best = (max(book.bids, key=_price, default=None), min(book.asks, key=_price, default=None))
        return best == (next(iter(view.bids), None), next(iter(view.asks), None))

    async def rests(self, market: Market, cents: int, shares: int = 10, side: Side = Side.BUY) -> None:
        await self.stage.other_rests(market.yes, side, Price(cents * CENT), Size(shares * MICRO))

    async def until(self, is_so: Callable[[], bool], within_s: float) -> float:
        """Wait until something is so and return how long it took, seconds."""
        began = trio.current_time()
        with trio.fail_after(within_s):
            while True:
                if is_so():
                    break
                await trio.sleep(0.02)
        return trio.current_time() - began

    def begin(self, fault: Fault, *, seconds: float | None = None, count: int | None = None, target: str = "") -> None:
        self.inbox.pulled.clear()
        self.stage.exchange.misbehave(FaultOrder(name=fault, seconds=seconds, count=count, target=target))


@asynccontextmanager
async def feed(settings: FeedSettings | None = None) -> AsyncIterator[Rig]:
    """Run exchange, gateway and feed, with a book in each market, until the block ends."""
    async with polymarket() as stage, trio.open_nursery() as nursery:
        markets = await stage.gateway.load_markets()
        rig = Rig(stage, markets, settings or FeedSettings())
        for market in markets:
            await rig.rests(market, 40)
            await rig.rests(market, 60, side=Side.SELL)
        stop, policy = trio.Event(), Policy(rng=random.Random(1), faults_max=0)
        body = keep(Child("market_feed", rig.feed.run, wedged_after_s=4.0), policy)
        nursery.start_soon(supervise, body, stop, policy)
        await rig.until(lambda: bool(rig.views.states) and not rig.stale(), within_s=5)
        yield rig
        stop.set()


def _price(level: Level) -> Price:
    return level.price


async def busy(rig: Rig, market: Market, seconds: float) -> None:
    """Change a deep level of one market, ten times a second."""
    for number in range(int(seconds * 10)):
        await rig.rests(market, 20, 5 + number % 3)
        await trio.sleep(0.1)


async def test_silent_feed_that_answers_pongs_is_pulled_and_made_anew(autojump_clock: MockClock) -> None:
    async with feed() as rig:
        rain = rig.markets[0]
        await busy(rig, rain, 2)
        rig.begin(Fault.SILENT_FEED, seconds=600)
        await rig.rests(rain, 45)
        assert await rig.until(lambda: rain.yes in rig.pulled(), within_s=10) <= PULLED_WITHIN_S
        await rig.until(lambda: not rig.stale(), within_s=8)
        assert rig.is_true(rain)
        assert (await rig.told()).shards[0].connects >= 2


async def test_single_frozen_asset_is_pulled_alone_and_healed(autojump_clock: MockClock) -> None:
    async with feed() as rig, trio.open_nursery() as nursery:
        frozen, other = rig.markets[:2]
        nursery.start_soon(busy, rig, other, 12)
        await trio.sleep(1)
        rig.begin(Fault.FROZEN_ASSET, seconds=600, target=frozen.yes)
        await rig.rests(frozen, 45)
        assert await rig.until(lambda: frozen.yes in rig.pulled(), within_s=10) <= PULLED_WITHIN_S
        assert not set(rig.pulled()) & set(other.tokens)
        # Its complement goes on, so one change is caught up with by a request; only more of them tell of a freeze.
        for number in range(30):
            await rig.rests(frozen, 46 + number % 4)
            await trio.sleep(0.25)
        await rig.until(lambda: not rig.stale(), within_s=2)
        await rig.rests(frozen, 55)
        await trio.sleep(0.5)
        assert not rig.stale()
        assert rig.is_true(frozen)
        told = await rig.told()
        assert (told.connects, told.shards[0].resubscribes > 0) == (1, True)


@pytest.mark.parametrize("fault", [Fault.CUT_MID_FRAME, Fault.CONNECTION_CUT])
async def test_cut_connection_is_pulled_at_once_and_restored(autojump_clock: MockClock, fault: Fault) -> None:
    async with feed() as rig:
        rig.begin(fault)
        await rig.rests(rig.markets[0], 45)
        assert await rig.until(lambda: len(rig.pulled()) == 4, within_s=5) <= 0.5
        await rig.until(lambda: not rig.stale(), within_s=5)
        assert rig.is_true(rig.markets[0])


async def test_crossed_snapshot_is_pulled_at_once_and_read_by_request(autojump_clock: MockClock) -> None:
    async with feed() as rig:
        rain, other = rig.markets[:2]
        rig.begin(Fault.CROSSED_SNAPSHOT, seconds=30, target=rain.yes)
        assert await rig.until(lambda: rain.yes in rig.pulled(), within_s=5) <= 0.5
        assert not set(rig.pulled()) & set(other.tokens)
        await rig.until(lambda: not rig.stale(), within_s=5)
        assert rig.is_true(rain)


async def test_change_of_tick_begins_a_new_book(autojump_clock: MockClock) -> None:
    async with feed() as rig:
        rain = rig.markets[0]
        before = rig.views.states[rain.market_id].tick
        rig.inbox.pulled.clear()
        rig.stage.exchange.apply(ChangeTick(market_id=rain.market_id, tick=Price(1_000)))
        assert await rig.until(lambda: rain.yes in rig.pulled(), within_s=5) <= 0.5
        await rig.until(lambda: not rig.stale(), within_s=5)
        await rig.stage.other_rests(rain.yes, Side.BUY, Price(413_000), Size(10 * MICRO))
        await trio.sleep(0.5)
        assert (before, rig.views.states[rain.market_id].tick) == (10_000, 1_000)
        assert rig.is_true(rain)
        assert not rig.stale()


async def test_stalled_reader_is_pulled_and_catches_up(autojump_clock: MockClock) -> None:
    async with feed() as rig:
        rain = rig.markets[0]
        await busy(rig, rain, 2)
        rig.begin(Fault.SLOW_READER, seconds=8)
        await rig.rests(rain, 45)
        assert await rig.until(lambda: rain.yes in rig.pulled(), within_s=10) <= PULLED_WITHIN_S
        await rig.until(lambda: not rig.stale(), within_s=15)
        assert rig.is_true(rain)


@pytest.mark.slow
async def test_restart_of_the_engine_ends_with_true_books(autojump_clock: MockClock) -> None:
    async with feed() as rig:
        rig.begin(Fault.ENGINE_RESTART)
        await trio.sleep(200)
        await rig.until(lambda: not rig.stale(), within_s=30)
        assert all(rig.is_true(market) for market in rig.markets)


async def test_clock_that_is_wrong_pulls_nothing(autojump_clock: MockClock) -> None:
    async with feed() as rig:
        rig.begin(Fault.CLOCK_SKEW, seconds=60)
        await trio.sleep(25)
        assert not rig.pulled()


async def test_lost_change_is_found_and_healed(autojump_clock: MockClock) -> None:
    async with feed() as rig:
        rain = rig.markets[0]
        rig.begin(Fault.LOST_MARKET_EVENTS, count=1)
        await rig.rests(rain, 45)
        assert await rig.until(lambda: rain.yes in rig.pulled(), within_s=10) <= PULLED_WITHIN_S
        await rig.until(lambda: not rig.stale(), within_s=5)
        assert rig.is_true(rain)


@pytest.mark.parametrize("quiet_s", [60, pytest.param(3600, marks=pytest.mark.slow)])
async def test_quiet_hour_pulls_nothing_and_keeps_to_its_requests(autojump_clock: MockClock, quiet_s: int) -> None:
    async with feed() as rig:
        before = (await rig.told()).looks
        rig.inbox.pulled.clear()
        await trio.sleep(quiet_s)
        assert not rig.pulled()
        told = await rig.told()
        assert (told.connects, told.losses) == (1, 0)
        # One request reads all books that are due, every two seconds and a bit.
        assert quiet_s / 4 <= told.looks - before <= quiet_s / 2 + 2


@pytest.mark.parametrize(
    ("fault", "clocks_off"),
    [
        (Fault.SILENT_FEED, FeedSettings(canary_s=1e6, rotate_s=1e6, truth_s=1e6)),
        (Fault.LOST_MARKET_EVENTS, FeedSettings(canary_s=1e6, rotate_s=1e6, truth_s=1e6)),
    ],
)
async def test_without_the_clock_of_truth_nobody_notices(
    autojump_clock: MockClock, fault: Fault, clocks_off: FeedSettings
) -> None:
    async with feed(clocks_off) as rig:
        rain = rig.markets[0]
        rig.begin(fault, seconds=600 if fault is Fault.SILENT_FEED else None)
        await rig.rests(rain, 45)
        await trio.sleep(15)
        assert not rig.pulled()
        assert not rig.is_true(rain)


NO_TRUTH = FeedSettings(quiet_s=1e6, rotate_s=1e6, traffic_s=1e6, truth_s=1e6)


@pytest.mark.parametrize("is_verified", [True, False])
async def test_change_lost_deep_in_a_busy_book_is_told_by_the_next_hashes(
    autojump_clock: MockClock, *, is_verified: bool
) -> None:
    async with feed(msgspec.structs.replace(NO_TRUTH, is_verified=is_verified)) as rig, trio.open_nursery() as nursery:
        rain = rig.markets[0]
        await busy(rig, rain, 3)
        rig.begin(Fault.LOST_MARKET_EVENTS, count=1)
        await rig.rests(rain, 30)
        nursery.start_soon(busy, rig, rain, 12)
        if is_verified:
            assert await rig.until(lambda: rain.yes in rig.pulled(), within_s=10) <= PULLED_WITHIN_S
            await rig.until(lambda: not rig.stale(), within_s=3)
        await trio.sleep(8)
        assert bool(rig.pulled()) is is_verified
        assert (await rig.told()).connects == 1


async def test_honest_feed_verifies_by_hash_and_is_never_doubted(autojump_clock: MockClock) -> None:
    async with feed() as rig:
        rig.inbox.pulled.clear()
        for number, market in enumerate(rig.markets * 2):
            await busy(rig, market, 2)
            await rig.rests(market, 41 + number, 5)
            await rig.stage.other_takes(market.no, Side.BUY, Price((59 - number) * CENT), Size(5 * MICRO))
        told = await rig.told()
        assert not rig.pulled()
        assert told.verified >= 12  # of each token once a second
        assert told.mismatched == 0


async def test_one_lost_connection_of_two_is_stale_alone(autojump_clock: MockClock) -> None:
    async with feed(FeedSettings(shard_tokens_max=2)) as rig:
        assert [shard.tokens for shard in (await rig.told()).shards] == [2, 2]
        rig.inbox.pulled.clear()
        rig.feed._shards[1].drop("cut by the test")
        await trio.sleep(0.01)
        assert rig.pulled() == list(rig.markets[1].tokens)
        await rig.until(lambda: not rig.stale(), within_s=5)
        told = await rig.told()
        assert [shard.connects for shard in told.shards] == [1, 2]
        assert (told.connects, told.losses) == (2, 1)
