"""One connection of the market feed, made anew for ever: it receives, follows what comes and goes, renews what froze.

Several of them run side by side; what one loses does not concern the others. They share the books, which are pure and
never change across an await.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog
import trio

from tbot.core.market import TokenId
from tbot.core.messages import MarketEvent, Message
from tbot.core.units import Nanos
from tbot.errors import BadFrame, Disconnected, ExchangeUnavailable
from tbot.exchanges.gateway import Gateway, MarketSession
from tbot.tasks.feed_books import FeedBooks
from tbot.tasks.feed_line import Line
from tbot.tasks.feed_settings import FeedSettings
from tbot.tasks.redial import Redial, asked_wait_s
from tbot.tasks.supervisor import leaves

log = structlog.get_logger()

# A peer that takes no frame for so long does not read: the connection is of no use.
SEND_S = 5.0


class ShardHealth(Message, frozen=True, kw_only=True):
    """How one connection of the market feed is, for people; counts since the task began.

    Attributes:
        number: 0 for the first.
        is_connected: Whether it stands.
        connects: Connections made.
        losses: Connections lost, and attempts that failed.
        frames: Receipts with data.
        bad_frames: Frames that could not be used.
        resubscribes: Tokens that were subscribed anew because they froze.
        tokens_stale: Its tokens not to be acted on now.
        tokens: All its tokens.
        gap_ms: Its usual time between data; 0 = not known yet.
        data_ns: When its last data came; 0 = never.
        reason: Why it ended last; "" = it did not.
    """

    number: int
    is_connected: bool
    connects: int
    losses: int
    frames: int
    bad_frames: int
    resubscribes: int
    tokens_stale: int
    tokens: int
    gap_ms: int
    data_ns: Nanos
    reason: str


@dataclass(kw_only=True)
class FeedShard:
    """One connection.

    Attributes:
        line: What the books know of it.
        gateway: Where the market channel is.
        books: Shared with the other connections.
        settings: Patience.
        redial: When to connect again.
        publish: Called when books changed.
        now_ns: The clock.
    """

    line: Line
    gateway: Gateway
    books: FeedBooks
    settings: FeedSettings
    redial: Redial
    publish: Callable[[], None]
    now_ns: Callable[[], Nanos]
    _scope: trio.CancelScope = field(default_factory=trio.CancelScope, init=False)
    _subscribed: tuple[TokenId, ...] = field(default=(), init=False)
    _frozen: dict[TokenId, None] = field(default_factory=dict, init=False)
    _has_changed: trio.Event = field(default_factory=trio.Event, init=False)
    _reason: str = field(default="", init=False)
    _drop_reason: str = field(default="", init=False)
    _bad_frames_s: deque[float] = field(default_factory=deque, init=False)
    _connects: int = field(default=0, init=False)
    _losses: int = field(default=0, init=False)
    _frames: int = field(default=0, init=False)
    _bad_frames: int = field(default=0, init=False)
    _resubscribes: int = field(default=0, init=False)
    _data_ns: Nanos = field(default=Nanos(0), init=False)

    @property
    def turns(self) -> int:
        """How often it came or went."""
        return self._connects + self._losses

    async def run(self) -> None:
        """Stay connected until cancelled, while there is anything to follow."""
        while True:
            while not self.line.tokens:
                self._has_changed = trio.Event()
                await self._has_changed.wait()
            pause_s = await self._connection()
            await trio.sleep(pause_s)

    def drop(self, reason: str) -> None:
        """End the connection; it is made anew. Never waits."""
        self._drop_reason = reason
        self._scope.cancel()

    def follow(self) -> None:
        """Have the subscription changed to what the line is to carry now. Never waits."""
        if self.line.tokens:
            self._has_changed.set()
        else:
            self.drop("nothing left to follow")

    def resubscribe(self, token_ids: Sequence[TokenId]) -> None:
        """Have tokens subscribed anew on the connection that stands. Never waits."""
        self._frozen |= dict.fromkeys(token_ids)
        self._has_changed.set()

    def health(self) -> ShardHealth:
        """Describe the connection as it is now."""
        return ShardHealth(
            number=self.line.number,
            is_connected=self.line.is_connected,
            connects=self._connects,
            losses=self._losses,
            frames=self._frames,
            bad_frames=self._bad_frames,
            resubscribes=self._resubscribes,
            tokens_stale=self.books.stale_count(self.line.tokens),
            tokens=len(self.line.tokens),
            gap_ms=round((self.line.gap_s or 0.0) * 1000),
            data_ns=self._data_ns,
            reason=self._reason,
        )

    async def _connection(self) -> float:
        """Live through one connection, or fail to make it; return the pause before the next."""
        self._drop_reason, reason, wait_s = "", f"no connection within {self.settings.connect_s:g} s", 0.0
        self._scope = trio.CancelScope(deadline=trio.current_time() + self.settings.connect_s)
        with self._scope:
            try:
                self._subscribed = self.line.tokens
                async with self.gateway.open_market(self._subscribed) as session, trio.open_nursery() as nursery:
                    self._scope.deadline = math.inf
                    self._connected()
                    nursery.start_soon(self._keep_subscribed, session)
                    await self._receive(session)
            except* ExchangeUnavailable as group:
                reason, wait_s = str(leaves(group)[0]), asked_wait_s(group)
        return self._lost(self._drop_reason or reason, wait_s)

    def _connected(self) -> None:
        now_s = trio.current_time()
        self._connects += 1
        self.redial.connected(now_s)
        self.books.connected(self.line, now_s)
        self._bad_frames_s.clear()
        self._frozen.clear()
        self.publish()
        log.info("feed.connected", shard=self.line.number, connects=self._connects)

    def _lost(self, reason: str, wait_s: float) -> float:
        now_s = trio.current_time()
        self._losses += 1
        self._reason = reason
        self.books.disconnected(self.line, now_s)
        self.publish()
        pause_s = self.redial.lost(now_s, at_least_s=wait_s)
        log.warning("feed.lost", shard=self.line.number, reason=reason, pause_s=round(pause_s, 3))
        return pause_s

    # A send is cancelled only together with the connection: half a frame would spoil all that follow.
    async def _keep_subscribed(self, session: MarketSession) -> None:
        while True:
            self._has_changed = trio.Event()
            try:
                with trio.fail_after(SEND_S):
                    await self._change_subscription(session)
            except trio.TooSlowError:
                raise Disconnected(f"the exchange took no frame for {SEND_S:g} s") from None
            await self._has_changed.wait()

    async def _change_subscription(self, session: MarketSession) -> None:
        # Markets may have come and gone while the connection was made, so what was asked for is held against what is
        # wanted, whoever changed it and when.
        before, wanted = dict.fromkeys(self._subscribed), dict.fromkeys(self.line.tokens)
        frozen = tuple(token_id for token_id in self._frozen if token_id in before and token_id in wanted)
        self._subscribed, self._frozen = tuple(wanted), {}
        if gone := tuple(token_id for token_id in before if token_id not in wanted):
            log.info("feed.unsubscribed", shard=self.line.number, tokens=len(gone))
            await session.unsubscribe(gone)
        if new := tuple(token_id for token_id in wanted if token_id not in before):
            log.info("feed.subscribed", shard=self.line.number, tokens=len(new))
            await session.subscribe(new)
        if frozen:
            self._resubscribes += len(frozen)
            log.warning("feed.resubscribed", shard=self.line.number, tokens=len(frozen), first=frozen[0])
            await session.resubscribe(frozen)

    async def _receive(self, session: MarketSession) -> None:
        while True:
            events = await self._next(session)
            if not events:
                continue
            self._frames += 1
            self._data_ns = self.now_ns()
            now_s = trio.current_time()
            self.line.heard(now_s)
            for event in events:
                self._apply(event, now_s)
            self.publish()  # once for all of them, or a burst would be published level by level

    async def _next(self, session: MarketSession) -> tuple[MarketEvent, ...]:
        try:
            with trio.fail_after(self.settings.link_s):
                return await session.receive()
        except trio.TooSlowError:
            raise Disconnected(f"no sign of life for {self.settings.link_s:g} s") from None
        except BadFrame as error:
            # One that does not say whose it was may have been an update of any token of this connection.
            tokens = tuple(map(TokenId, error.token_ids)) or self.line.tokens
            self.books.distrust(tokens, "bad frame", trio.current_time())
            self.publish()
            self._count_bad_frame(error, is_named=bool(error.token_ids))
            return ()

    def _apply(self, event: MarketEvent, now_s: float) -> None:
        try:
            self.books.apply(self.line, event, now_s)
        except BadFrame as error:
            self._count_bad_frame(error, is_named=True)

    # One that says whose it is makes that token stale, and is no reason to cut off the others.
    def _count_bad_frame(self, error: BadFrame, *, is_named: bool) -> None:
        now_s = trio.current_time()
        self._bad_frames += 1
        if is_named:
            log.warning("feed.bad_frame", reason=str(error), first=next(iter(error.token_ids), ""))
            return
        self._bad_frames_s.append(now_s)
        while self._bad_frames_s[0] <= now_s - 60.0:
            self._bad_frames_s.popleft()
        log.warning("feed.bad_frame", reason=str(error), within_minute=len(self._bad_frames_s))
        if len(self._bad_frames_s) > self.settings.bad_frames_max:
            raise Disconnected(f"{len(self._bad_frames_s)} bad frames within a minute")
