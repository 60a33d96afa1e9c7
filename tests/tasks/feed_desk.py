"""The market feed on a fake exchange of one market, and everything that hears it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import trio

from tbot.core.market import MarketId, TokenId
from tbot.core.messages import (
    BookDelta,
    MarketView,
    TopOfBook,
)
from tbot.tasks.conflator import Conflator, Hub
from tbot.tasks.feed_settings import FeedSettings
from tbot.tasks.inbox import Inbox
from tbot.tasks.market_feed import HEALTH_KEY, FeedHealth, MarketFeed
from tbot.tasks.supervisor import Child, Policy, keep, supervise
from tests.tasks.fake_exchange import MARKET, NO, YES, FakeExchange, now_ns


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


def with_ms(deltas: tuple[BookDelta, ...], exchange_ms: int) -> tuple[BookDelta, ...]:
    return tuple(msgspec.structs.replace(delta, exchange_ms=exchange_ms) for delta in deltas)
