"""Subscriptions: bounded buffers between the exchange, which never waits, and readers, who may be slow.

A reader that falls behind is cut off and must subscribe anew, as a real exchange does; nothing is ever dropped
silently from a stream that stays open (except by an injected fault).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

import trio

from tbot.core.market import MarketId, TokenId
from tbot.core.units import Nanos
from tbot.exchanges.simulated.events import (
    AccountEvent,
    BookShown,
    LevelsChanged,
    MarketEvent,
    MarketOpened,
    MarketResolved,
    TickChanged,
    TopChanged,
    TradePrinted,
)
from tbot.exchanges.simulated.operations import Account

T = TypeVar("T")


class StreamEnded(Exception):
    """The exchange ended this stream; the text says why."""


class Stream(Generic[T]):
    """One reader's buffer of events, oldest first.

    Args:
        capacity: Events that may wait; one more cuts the reader off.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: deque[T] = deque()
        self._ended: str | None = None
        self._wake = trio.Event()

    @property
    def is_open(self) -> bool:
        """Whether events still come."""
        return self._ended is None

    @property
    def depth(self) -> int:
        """Events waiting."""
        return len(self._items)

    def push(self, item: T) -> None:
        """Add an event without waiting; a full buffer ends the stream."""
        if self._ended is not None:
            return
        if len(self._items) >= self._capacity:
            self.end(f"slow reader: {self._capacity} events waiting")
            return
        self._items.append(item)
        self._wake.set()

    def end(self, reason: str) -> None:
        """End the stream now; what waits is lost with it, as with a cut connection."""
        if self._ended is None:
            self._ended = reason
            self._items.clear()
            self._wake.set()

    async def wait(self) -> None:
        """Wait until events are there or the stream has ended. Always a checkpoint."""
        if self._items or self._ended is not None:
            await trio.lowlevel.checkpoint()
        while not self._items and self._ended is None:
            self._wake = trio.Event()
            await self._wake.wait()

    def receive_nowait(self) -> tuple[T, ...]:
        """Take every event that waits, oldest first; () when there is none.

        Raises:
            StreamEnded: The exchange ended the stream.
        """
        if self._ended is not None:
            raise StreamEnded(self._ended)
        items = tuple(self._items)
        self._items.clear()
        return items

    async def receive(self) -> tuple[T, ...]:
        """Wait for at least one event, then take all that wait.

        Raises:
            StreamEnded: The exchange ended the stream.
        """
        await self.wait()
        return self.receive_nowait()


class MarketStream(Stream[MarketEvent]):
    """Changes of some markets, from the moment of subscription on; ask for the books first.

    A subscriber of one token gets the level changes of both outcomes of its market, as on Polymarket, but the
    `BookShown` of its own tokens only.

    Attributes:
        has_custom: Whether it wants custom events; a new market is told to all who do, whatever they subscribed.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self.has_custom = False
        self._tokens: dict[TokenId, MarketId] = {}
        self._markets: dict[MarketId, int] = {}
        # Tokens that carry nothing until a moment, while the others go on.
        self._frozen: dict[TokenId, Nanos] = {}
        self.frozen_until_ns = Nanos(0)

    @property
    def tokens(self) -> tuple[TokenId, ...]:
        """Subscribed tokens in order of subscription."""
        return tuple(self._tokens)

    def add(self, tokens: Iterable[tuple[TokenId, MarketId]]) -> None:
        """Subscribe to more tokens; those already subscribed are ignored."""
        for token_id, market_id in tokens:
            if token_id not in self._tokens:
                self._tokens[token_id] = market_id
                self._markets[market_id] = self._markets.get(market_id, 0) + 1

    def remove(self, tokens: Iterable[TokenId]) -> None:
        """Unsubscribe; unknown tokens are ignored."""
        for token_id in tokens:
            market_id = self._tokens.pop(token_id, None)
            if market_id is not None:
                self._markets[market_id] -= 1
            self._frozen.pop(token_id, None)

    def freeze(self, token_id: TokenId, until_ns: Nanos) -> None:
        """Let one token carry nothing until a moment, if it is subscribed; subscribing it anew ends that."""
        if token_id in self._tokens:
            self._frozen[token_id] = until_ns

    def thaw(self, now_ns: Nanos) -> tuple[TokenId, ...]:
        """End the silences of single tokens that are over, and name the tokens."""
        thawed = tuple(token_id for token_id, until_ns in self._frozen.items() if until_ns <= now_ns)
        for token_id in thawed:
            del self._frozen[token_id]
        return thawed

    def next_thaw_ns(self) -> Nanos | None:
        """When the silence of a single token ends next."""
        return min(self._frozen.values(), default=None)

    def is_frozen(self, token_id: TokenId) -> bool:
        """Whether a token carries nothing now."""
        return token_id in self._frozen

    def has_market(self, market_id: MarketId) -> bool:
        """Whether a token of this market is subscribed."""
        return self._markets.get(market_id, 0) > 0

    def wants(self, event: MarketEvent) -> bool:
        """Whether an event is for this subscriber."""
        match event:
            case MarketOpened():
                return self.has_custom
            case TopChanged() | MarketResolved():
                return self.has_custom and self.has_market(event.market_id)
            case BookShown():
                return self.has_token(event.book.token_id)
            case LevelsChanged() | TradePrinted() | TickChanged():
                return self.has_market(event.market_id)

    def has_token(self, token_id: TokenId) -> bool:
        """Whether this token is subscribed."""
        return token_id in self._tokens


class AccountStream(Stream[AccountEvent]):
    """Orders and trades of one account."""

    def __init__(self, account: Account, capacity: int) -> None:
        super().__init__(capacity)
        self.account = account
