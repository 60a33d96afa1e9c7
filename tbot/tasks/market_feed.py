"""The task that owns the books: exchange events in, views and tops out.

A lost connection is an event here, not a crash: everything is shown as stale at once, books read by request keep the
marks fresh, and a fresh snapshot restores each book. Three clocks watch a connection that stands: the link (any sign
of life), the traffic of each token, and the truth (books read by request); `feed_books` judges, this file waits.

Two tasks inside: one receives, one asks. They share the books, which are pure and never change across an await.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog
import trio

from tbot.core.market import Market, MarketId, TokenId
from tbot.core.messages import BookSnapshot, MarketEvent, MarketView, Message
from tbot.core.units import Nanos
from tbot.errors import BadFrame, Disconnected, ExchangeUnavailable, RateLimited
from tbot.exchanges.gateway import Gateway, MarketSession
from tbot.tasks.conflator import Conflator, Hub
from tbot.tasks.feed_books import FeedBooks, FeedSettings
from tbot.tasks.inbox import Inbox
from tbot.tasks.redial import Redial, asked_wait_s
from tbot.tasks.supervisor import TaskContext, leaves

log = structlog.get_logger()

# How often the clocks are read, seconds: fine against the shortest of them (`heal_s`, half a second).
CHECK_S = 0.25
HEALTH_EVERY_S = 1.0
HEALTH_KEY = "market_feed"


class FeedHealth(Message, frozen=True, kw_only=True):
    """How the market feed is, for people; counts since the task began.

    Attributes:
        is_connected: Whether the connection stands.
        connects: Connections made; one less than this are reconnects.
        losses: Connections lost, and attempts that failed.
        frames: Receipts with data.
        bad_frames: Frames that could not be used.
        gaps: Gaps told by the session.
        looks: Reads of books by request.
        tokens_stale: Tokens not to be acted on now.
        tokens: All tokens.
        data_ns: When the last data came; 0 = never.
        reason: Why the last connection ended; "" = none did.
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
    """

    gateway: Gateway
    markets: Sequence[Market]
    views: Hub[MarketId, MarketView]
    coordinator: Inbox
    health: Conflator[str, FeedHealth]
    settings: FeedSettings
    rng: random.Random
    now_ns: Callable[[], Nanos]
    _books: FeedBooks = field(init=False)
    _redial: Redial = field(init=False)
    _session_scope: trio.CancelScope = field(default_factory=trio.CancelScope, init=False)
    _reason: str = field(default="", init=False)
    _drop_reason: str = field(default="", init=False)
    _bad_frames_s: deque[float] = field(default_factory=deque, init=False)
    _ask_after_s: float = field(default=-math.inf, init=False)
    _connects: int = field(default=0, init=False)
    _losses: int = field(default=0, init=False)
    _frames: int = field(default=0, init=False)
    _bad_frames: int = field(default=0, init=False)
    _looks: int = field(default=0, init=False)
    _data_ns: Nanos = field(default=Nanos(0), init=False)
    _health_due_s: float = field(default=-math.inf, init=False)

    async def run(self, ctx: TaskContext) -> None:
        """Follow the markets until stopped."""
        self._books = FeedBooks(self.markets, self.settings, trio.current_time())
        self._redial = Redial(self.settings.backoff, self.rng)
        self.views.invalidate()
        self._publish()
        ctx.started()

        async def follow() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._stay_connected)
                nursery.start_soon(self._watch, ctx)

        await ctx.until_stopped(follow)

    async def _stay_connected(self) -> None:
        while True:
            pause_s = await self._connection()
            await trio.sleep(pause_s)

    async def _connection(self) -> float:
        """Live through one connection, or fail to make it; return the pause before the next."""
        self._drop_reason, reason, wait_s = "", f"no connection within {self.settings.connect_s:g} s", 0.0
        self._session_scope = trio.CancelScope(deadline=trio.current_time() + self.settings.connect_s)
        with self._session_scope:
            try:
                async with self.gateway.open_market(self._books.tokens) as session:
                    self._session_scope.deadline = math.inf
                    self._connected()
                    await self._receive(session)
            except* ExchangeUnavailable as group:
                reason, wait_s = str(leaves(group)[0]), asked_wait_s(group)
        return self._lost(self._drop_reason or reason, wait_s)

    def _connected(self) -> None:
        now_s = trio.current_time()
        self._connects += 1
        self._redial.connected(now_s)
        self._books.connected(now_s)
        self._bad_frames_s.clear()
        self._health_due_s = now_s
        self._publish()
        log.info("feed.connected", connects=self._connects)

    def _lost(self, reason: str, wait_s: float) -> float:
        now_s = trio.current_time()
        self._losses += 1
        self._reason = reason
        self._health_due_s = now_s
        self._books.disconnected(now_s)
        self._publish()
        pause_s = self._redial.lost(now_s, at_least_s=wait_s)
        log.warning("feed.lost", reason=reason, pause_s=round(pause_s, 3))
        return pause_s

    def _drop(self, reason: str) -> None:
        """End the connection from outside of the task that receives; it is made anew."""
        self._drop_reason = reason
        self._session_scope.cancel()

    async def _receive(self, session: MarketSession) -> None:
        while True:
            events = await self._next(session)
            if not events:
                continue
            self._frames += 1
            self._data_ns = self.now_ns()
            for event in events:
                self._apply(event)
            self._publish()  # once for all of them, or a burst would be published level by level

    async def _next(self, session: MarketSession) -> tuple[MarketEvent, ...]:
        try:
            with trio.fail_after(self.settings.link_s):
                return await session.receive()
        except trio.TooSlowError:
            raise Disconnected(f"no sign of life for {self.settings.link_s:g} s") from None
        except BadFrame as error:
            # It does not say whose it was, so an update of any token may be lost.
            self._books.distrust(self._books.tokens, "bad frame", trio.current_time())
            self._publish()
            self._count_bad_frame(error)
            return ()

    def _apply(self, event: MarketEvent) -> None:
        try:
            self._books.apply(event, trio.current_time())
        except BadFrame as error:
            self._count_bad_frame(error)

    def _count_bad_frame(self, error: BadFrame) -> None:
        now_s = trio.current_time()
        self._bad_frames += 1
        self._bad_frames_s.append(now_s)
        while self._bad_frames_s[0] <= now_s - 60.0:
            self._bad_frames_s.popleft()
        log.warning("feed.bad_frame", reason=str(error), within_minute=len(self._bad_frames_s))
        if len(self._bad_frames_s) > self.settings.bad_frames_max:
            raise Disconnected(f"{len(self._bad_frames_s)} bad frames within a minute")

    async def _watch(self, ctx: TaskContext) -> None:
        poll_due_s = trio.current_time() + self.settings.poll_s
        while True:
            await ctx.beat()
            if self._books.is_connected:
                await self._check_truth()
            elif trio.current_time() >= poll_due_s:
                poll_due_s = trio.current_time() + self.settings.poll_s
                await self._poll()
            self._books.examine(trio.current_time())
            self._publish()
            self._publish_health()
            await trio.sleep(CHECK_S)

    async def _check_truth(self) -> None:
        """Read doubtful and quiet books by request: heal the ones, compare the others."""
        asked_s, session = trio.current_time(), self._books.session
        tokens = [*self._books.to_heal(asked_s), *self._books.to_verify(asked_s)]
        if not tokens or asked_s < self._ask_after_s:
            return
        self._books.asked(tokens, asked_s)
        for snapshot in await self._read(tokens):
            # While we waited the connection may have been lost, even made anew: the answer is of another time then.
            if (self._books.session, self._books.is_connected) != (session, True):
                return
            if self._use(snapshot, asked_s):
                self._publish()
                self._drop("frozen feed: the book read by request is newer and differs")

    def _use(self, snapshot: BookSnapshot, asked_s: float) -> bool:
        try:
            return self._books.answer(snapshot, asked_s, trio.current_time())
        except BadFrame as error:
            log.warning("feed.bad_book", token_id=snapshot.token_id, reason=str(error))
            return False

    async def _poll(self) -> None:
        snapshots = await self._read(self._books.tokens) if trio.current_time() >= self._ask_after_s else ()
        if self._books.is_connected:
            return
        if not snapshots:
            self._books.disconnected(trio.current_time())
        for snapshot in snapshots:
            try:
                self._books.show(snapshot, trio.current_time())
            except BadFrame as error:
                log.warning("feed.bad_book", token_id=snapshot.token_id, reason=str(error))

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

    def _publish(self) -> None:
        tops, views = self._books.changes(trio.current_time(), self.now_ns())
        for top in tops:
            self.coordinator.put_state(("top", top.token_id), top)
        for view in views:
            self.views.publish(view.market_id, view)

    def _publish_health(self) -> None:
        if trio.current_time() >= self._health_due_s:
            self._health_due_s = trio.current_time() + HEALTH_EVERY_S
            self.health.put(HEALTH_KEY, self._describe())

    def _describe(self) -> FeedHealth:
        return FeedHealth(
            is_connected=self._books.is_connected,
            connects=self._connects,
            losses=self._losses,
            frames=self._frames,
            bad_frames=self._bad_frames,
            gaps=self._books.gaps,
            looks=self._looks,
            tokens_stale=self._books.stale_count(),
            tokens=len(self._books.tokens),
            data_ns=self._data_ns,
            reason=self._reason,
            at_ns=self.now_ns(),
        )
