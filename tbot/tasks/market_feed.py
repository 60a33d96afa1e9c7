"""The task that owns the books: exchange events in, views and tops out.

A lost connection is an event here, not a crash: what it carried is shown as stale at once, books read by request keep
the marks fresh, and a fresh snapshot restores each book. Three clocks watch a connection that stands: the link (any
sign of life), the traffic against its own habit, and the truth (books read by request); `feed_books` judges, this file
waits.

One nursery: a child for each connection, one that asks for books by request, one that looks at the time. They share the
books, which are pure and never change across an await.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import structlog
import trio

from tbot.core.market import Market, MarketId, TokenId, difference, is_same_asset
from tbot.core.messages import BookSnapshot, MarketChanged, MarketView, Message
from tbot.core.units import Nanos
from tbot.errors import AuthenticationFailed, BadFrame, ConfigError, ExchangeUnavailable, RateLimited
from tbot.exchanges.gateway import Gateway
from tbot.tasks.conflator import Conflator, Hub
from tbot.tasks.feed_books import FeedBooks
from tbot.tasks.feed_line import Line
from tbot.tasks.feed_settings import FeedSettings
from tbot.tasks.feed_shard import FeedShard, ShardHealth
from tbot.tasks.inbox import Inbox
from tbot.tasks.redial import Redial
from tbot.tasks.supervisor import TaskContext

log = structlog.get_logger()

# How often the clocks are read, seconds: fine against the shortest of them (`heal_s`, half a second).
CHECK_S = 0.25
HEALTH_EVERY_S = 1.0
# Up to three requests, one after the other.
TERMS_WAIT_S = 10.0
HEALTH_KEY = "market_feed"


class FeedHealth(Message, frozen=True, kw_only=True):
    """How the market feed is, for people; counts since the task began.

    Attributes:
        is_connected: Whether every connection stands.
        connects: Connections made, without the first of each but one: one less than this are reconnects.
        losses: Connections lost, and attempts that failed.
        frames: Receipts with data.
        bad_frames: Frames that could not be used.
        gaps: Gaps told by the sessions.
        looks: Reads of books by request.
        tokens_stale: Tokens not to be acted on now.
        tokens: All tokens.
        data_ns: When the last data came; 0 = never.
        reason: Why a connection ended last; "" = none did.
        verified: Increments verified by the book's hash.
        mismatched: Increments that differed from what was told of them.
        shards: Each connection by itself.
    """

    is_connected: bool
    connects: int
    losses: int
    frames: int
    bad_frames: int
    gaps: int
    looks: int
    tokens_stale: int
    tokens: int
    data_ns: Nanos
    reason: str
    at_ns: Nanos
    verified: int
    mismatched: int
    shards: tuple[ShardHealth, ...]


class Connects:
    """Counts connections of the market feed over all its incarnations; each begins its own count anew.

    Attributes:
        total: All of them so far.
    """

    def __init__(self) -> None:
        """Begin before the first connection."""
        self.total = 0
        self._seen = 0

    def see(self, connects: int) -> None:
        """Take the count of the incarnation that lives now."""
        self.total += connects if connects < self._seen else connects - self._seen
        self._seen = connects


@dataclass(kw_only=True)
class MarketFeed:
    """Body of the market feed's task; `run` is given to the supervisor, one object an incarnation.

    Attributes:
        gateway: Where markets are.
        markets: What to follow.
        views: Gets a `MarketView` a market.
        coordinator: Gets a `TopOfBook` a token, under `("top", token_id)`.
        health: Gets `FeedHealth` under `HEALTH_KEY`.
        settings: Patience.
        rng: Jitter of the pauses between connections.
        now_ns: The clock.
        left_out: Why some of the markets take no orders, as told already.
    """

    gateway: Gateway
    markets: Sequence[Market]
    views: Hub[MarketId, MarketView]
    coordinator: Inbox
    health: Conflator[str, FeedHealth]
    settings: FeedSettings
    rng: random.Random
    now_ns: Callable[[], Nanos]
    left_out: Mapping[MarketId, str] = field(default_factory=dict)
    _books: FeedBooks = field(init=False)
    _shards: list[FeedShard] = field(default_factory=list, init=False)
    _nursery: trio.Nursery = field(init=False)
    _ask_after_s: float = field(default=-math.inf, init=False)
    _turns: int = field(default=0, init=False)
    _looks: int = field(default=0, init=False)
    _refusals: dict[MarketId, str] = field(default_factory=dict, init=False)
    _closed: dict[MarketId, Market] = field(default_factory=dict, init=False)  # those that may open again
    _health_due_s: float = field(default=-math.inf, init=False)

    async def run(self, ctx: TaskContext) -> None:
        """Follow the markets until stopped."""
        markets = [market for market in self.markets if not market.is_closed]
        self._books = FeedBooks(markets, self.settings, trio.current_time(), tokens_max=self._tokens_max())
        for market in self.markets:
            if market.is_closed:
                self._leave(market)
        self._refusals = dict(self.left_out)
        for market_id in self.left_out:
            self._books.terms.unanswered(market_id, trio.current_time())
        self._shards = [self._shard(line) for line in self._books.lines]
        self.views.invalidate()
        self._publish()
        ctx.started()

        async def follow() -> None:
            async with trio.open_nursery() as self._nursery:
                nursery = self._nursery
                for shard in self._shards:
                    nursery.start_soon(shard.run)
                nursery.start_soon(self._ask)
                nursery.start_soon(self._reread)
                nursery.start_soon(self._watch, ctx)

        await ctx.until_stopped(follow)

    def add(self, market: Market) -> None:
        """Follow one more market while running; the books of the others are not disturbed. Never waits.

        It is subscribed on a connection that has room, else a new one is made. Until its first snapshot it is stale.
        """
        line = self._books.add(market, trio.current_time())
        if line.number == len(self._shards):
            self._shards.append(self._shard(line))
            self._nursery.start_soon(self._shards[-1].run)
        else:
            self._shards[line.number].follow()
        self._publish()

    def remove(self, market_id: MarketId) -> None:
        """Follow a market no more: it is unsubscribed, and last told as stale. Never waits."""
        self._refusals.pop(market_id, None)
        self._closed.pop(market_id, None)
        self._books.terms.remove(market_id)
        line = self._books.remove(market_id, trio.current_time(), self.now_ns())
        if line is not None:
            self._shards[line.number].follow()
            self._publish()

    # It is read again until it is resolved: the staff may open it again, or one answer may have been wrong.
    def _leave(self, market: Market) -> None:
        self.remove(market.market_id)
        if not market.is_resolved:
            self._closed[market.market_id] = market
            self._books.terms.add(market.market_id, trio.current_time())

    def _known(self, market_id: MarketId) -> Market | None:
        return self._books.market(market_id) or self._closed.get(market_id)

    def _tokens_max(self) -> int:
        theirs = self.gateway.capabilities.session_tokens_max
        return min(theirs or self.settings.shard_tokens_max, self.settings.shard_tokens_max)

    def _shard(self, line: Line) -> FeedShard:
        return FeedShard(
            line=line,
            gateway=self.gateway,
            books=self._books,
            settings=self.settings,
            redial=Redial(self.settings.backoff, self.rng),
            publish=self._publish,
            now_ns=self.now_ns,
        )

    async def _watch(self, ctx: TaskContext) -> None:
        while True:
            await ctx.beat()
            self._books.examine(trio.current_time())
            self._publish()
            self._publish_health()
            await trio.sleep(CHECK_S)

    async def _ask(self) -> None:
        """Read by request what is due, one request at a time, and act on what it tells."""
        while True:
            await trio.sleep(CHECK_S)
            self._cure()  # those that waited in vain
            asked_s = trio.current_time()
            tokens = self._books.to_ask(asked_s) if asked_s >= self._ask_after_s else []
            if tokens:
                await self._ask_for(tokens, asked_s)
                self._cure()
                self._publish()

    async def _ask_for(self, tokens: Sequence[TokenId], asked_s: float) -> None:
        sessions = self._books.sessions_of(tokens)
        self._books.asked(tokens, asked_s)
        snapshots = await self._read(tokens)
        if not snapshots:
            self._books.unanswered(tokens, trio.current_time())
        now = self._books.sessions_of(tokens)
        for snapshot in snapshots:
            # While we waited a connection may have been lost, even made anew: the answer is of another time then.
            if now.get(snapshot.token_id) == sessions.get(snapshot.token_id):
                self._use(snapshot, asked_s)

    def _use(self, snapshot: BookSnapshot, asked_s: float) -> None:
        try:
            self._books.answer(snapshot, asked_s, trio.current_time())
        except BadFrame as error:
            log.warning("feed.bad_book", token_id=snapshot.token_id, reason=str(error))

    def _cure(self) -> None:
        for cure in self._books.cures(trio.current_time()):
            shard = self._shards[cure.line.number]
            if cure.token_ids:
                shard.resubscribe(cure.token_ids)
            else:
                shard.drop("frozen feed: the book read by request is newer and differs")

    async def _read(self, tokens: Sequence[TokenId]) -> tuple[BookSnapshot, ...]:
        """Read books by request; none when the exchange does not answer, which proves nothing."""
        self._looks += 1
        try:
            with trio.fail_after(self.settings.books_s):
                return await self.gateway.books(tokens)
        except RateLimited as error:
            self._ask_after_s = trio.current_time() + error.retry_after_s
        except (ExchangeUnavailable, BadFrame, trio.TooSlowError) as error:
            log.info("feed.books_unavailable", reason=str(error) or type(error).__name__)
        return ()

    async def _reread(self) -> None:
        """Read the terms of one market after another, sooner where an event hints at a change, and act on them."""
        while True:
            await trio.sleep(CHECK_S)
            now_s = trio.current_time()
            terms = self._books.terms
            market_id = terms.due(now_s) if now_s >= self._ask_after_s else None
            if market_id is not None:
                terms.asked(market_id, now_s)
                market = await self._read_terms(market_id)
                if market is None:
                    terms.unanswered(market_id, trio.current_time())
                else:
                    self._relist(market)

    async def _read_terms(self, market_id: MarketId) -> Market | None:
        """Read the terms of a market; of one that we must not trade now, those known, and that it takes no orders."""
        try:
            with trio.fail_after(TERMS_WAIT_S):
                market = await self.gateway.reread(market_id)
            return self._judged(market_id, market)
        except RateLimited as error:
            self._ask_after_s = trio.current_time() + error.retry_after_s
        except (ExchangeUnavailable, BadFrame, trio.TooSlowError) as error:
            log.info("feed.terms_unavailable", market_id=market_id, reason=str(error) or type(error).__name__)
        # One answer about one market: no reason to end a bot that trades others, and the next answer may be good.
        except (ConfigError, AuthenticationFailed) as error:
            return self._paused(market_id, str(error) or type(error).__name__)
        return None

    # Its books, orders and positions are of the assets that we know it by.
    def _judged(self, market_id: MarketId, market: Market) -> Market | None:
        before = self._known(market_id)
        if before is not None and not is_same_asset(before, market):
            return self._paused(market_id, "it names other tokens than before")
        self._refusals.pop(market_id, None)
        return market

    def _paused(self, market_id: MarketId, reason: str) -> Market | None:
        before = self._known(market_id)
        if before is None:
            return None
        if self._refusals.get(market_id) != reason:
            self._refusals[market_id] = reason
            log.warning("market.untradable", market_id=market_id, slug=before.slug, reason=reason)
        return msgspec.structs.replace(before, is_accepting_orders=False)

    def _relist(self, market: Market) -> None:
        """Tell everybody of new terms, and follow the market or leave it by them."""
        before = self._known(market.market_id)
        if before is None or before == market:
            return
        if market.market_id not in self._closed:
            self._books.relist(market, trio.current_time())
        if changes := difference(before, market):
            log.warning("market.changed", market_id=market.market_id, slug=market.slug, changes=changes)
            # Only these: what the coordinator needs of a tick comes with the top of each book.
            self.coordinator.put_state(("market", market.market_id), MarketChanged(market=market, at_ns=self.now_ns()))
        if market.is_closed:
            self._leave(market)
        elif self._closed.pop(market.market_id, None) is not None:
            self.add(market)
        self._publish()

    def _publish(self) -> None:
        tops, views = self._books.changes(trio.current_time(), self.now_ns())
        for top in tops:
            self.coordinator.put_state(("top", top.token_id), top)
        for view in views:
            self.views.publish(view.market_id, view)

    def _publish_health(self) -> None:
        turns = sum(shard.turns for shard in self._shards)
        if trio.current_time() >= self._health_due_s or turns != self._turns:
            self._turns = turns
            self._health_due_s = trio.current_time() + HEALTH_EVERY_S
            self.health.put(HEALTH_KEY, self._describe())

    def _describe(self) -> FeedHealth:
        shards = tuple(shard.health() for shard in self._shards)
        return FeedHealth(
            is_connected=self._books.is_connected,
            connects=sum(max(shard.connects - 1, 0) for shard in shards) + any(shard.connects for shard in shards),
            losses=sum(shard.losses for shard in shards),
            frames=sum(shard.frames for shard in shards),
            bad_frames=sum(shard.bad_frames for shard in shards),
            gaps=self._books.gaps,
            looks=self._looks,
            tokens_stale=self._books.stale_count(),
            tokens=len(self._books.tokens),
            data_ns=max((shard.data_ns for shard in shards), default=Nanos(0)),
            reason=next((shard.reason for shard in shards if shard.reason), ""),
            at_ns=self.now_ns(),
            verified=self._books.proof.counts.hashed,
            mismatched=self._books.proof.counts.mismatched,
            shards=shards,
        )
