"""The order book of one token: snapshots and level updates, in any order of arrival, become levels, tops and a state.

The feed is not in exchange order: in a dense capture a fifth of the events arrived behind a newer one of the same
book, and only the order by `exchange_ms`, snapshots after the updates of their own millisecond, reproduced every later
snapshot (measured 2026-11-22 on 5,544 recorded events). So each level is a register where the newest writer wins. A
snapshot writes all levels at once; an update newer than the newest snapshot leaves its time on its level, also when it
removed it, or a late snapshot would bring the dead level back.

A side keeps its sizes by price, and its prices sorted with the best last: the top is the last entry, depth is a slice,
and the exchange hashes its levels in just that order.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from enum import StrEnum
from math import gcd

from tbot.core.book_hash import HashStem, book_hash, level_text
from tbot.core.market import Market, MarketId, TokenId
from tbot.core.messages import BookDelta, BookSnapshot, Level, Side, TickSizeChanged
from tbot.core.units import Price, Size, is_on_grid, text_from_micro
from tbot.errors import BadFrame, OffGrid


class BookState(StrEnum):
    """What a book is good for; only `OK` may be traded on."""

    STALE = "STALE"  # no snapshot since the start, a gap or a tick change
    EMPTY = "EMPTY"  # the exchange says that nobody quotes
    ONE_SIDED = "ONE_SIDED"
    CROSSED = "CROSSED"  # best bid at or above best ask: an update was lost
    OK = "OK"


class Book:
    """Book of one token. Mutable and pure; owned by the market feed.

    Of two events with the same time on the same level the one that arrived last wins: the exchange says no more.
    """

    def __init__(self, tick: Price) -> None:
        """Start without levels, `STALE` until the first snapshot.

        Args:
            tick: Price grid, micro-dollars.
        """
        self._tick = tick
        self._grid = tick
        self._tick_at = (-1, False)
        self._floor_ms = -1
        self._newest_ms = -1
        self._is_stale = True
        self._sides = {Side.BUY: _Ladder(1), Side.SELL: _Ladder(-1)}

    def apply_snapshot(self, snapshot: BookSnapshot) -> bool:
        """Replace all levels but those updated after the snapshot, and end staleness.

        Returns:
            False when it is older than a snapshot or tick change already known: no level changed.

        Raises:
            OffGrid: A price is not on the token's grid. Nothing changed; the caller marks the book stale and refetches.
            BadFrame: A size is negative. Nothing changed.
        """
        is_late = snapshot.exchange_ms < self._floor_ms
        if not is_late:
            grid = Price(gcd(self._grid, snapshot.tick or 0))
            for level in (*snapshot.bids, *snapshot.asks):
                _check(level.price, level.size, grid)
        if snapshot.tick is not None:
            # Even a late snapshot may bring the newest tick: most frames carry none.
            self._adopt_tick(snapshot.tick, (snapshot.exchange_ms, True))
        if is_late:
            return False
        self._rise(snapshot.exchange_ms)
        self._sides[Side.BUY].replace(snapshot.bids, snapshot.exchange_ms)
        self._sides[Side.SELL].replace(snapshot.asks, snapshot.exchange_ms)
        self._is_stale = False
        return True

    def apply_delta(self, delta: BookDelta) -> bool:
        """Set the total size of one level; size 0 removes it. May arrive late.

        Also counted before the first snapshot, which may turn out to be older.

        Returns:
            False when the newest snapshot, or a newer update of the level, says otherwise: nothing changed.

        Raises:
            OffGrid: The price is not on the token's grid. Nothing changed; the caller marks the book stale and
                refetches.
            BadFrame: The size is negative. Nothing changed.
        """
        if delta.exchange_ms <= self._floor_ms:
            return False
        _check(delta.price, delta.size, self._grid)
        self._newest_ms = max(self._newest_ms, delta.exchange_ms)
        return self._sides[delta.side].set(delta.price, delta.size, delta.exchange_ms)

    def change_tick(self, change: TickSizeChanged) -> bool:
        """Begin a new epoch: take the tick, drop the levels known by then, stay stale until a snapshot.

        Returns:
            False when it is late news, the book of the new epoch being known: no level changed.
        """
        self._adopt_tick(change.tick, (change.exchange_ms, False))
        if change.exchange_ms <= self._floor_ms:
            return False
        self._rise(change.exchange_ms)
        for ladder in self._sides.values():
            ladder.replace((), change.exchange_ms)
        self._is_stale = True
        return True

    def mark_stale(self) -> None:
        """Distrust the book until the next snapshot: updates may have been lost. Levels stay as last known."""
        self._is_stale = True

    @property
    def state(self) -> BookState:
        """What the book is good for now."""
        bid, ask = self.best_bid, self.best_ask
        if self._is_stale:
            return BookState.STALE
        if bid is None and ask is None:
            return BookState.EMPTY
        if bid is None or ask is None:
            return BookState.ONE_SIDED
        return BookState.CROSSED if bid >= ask else BookState.OK

    @property
    def best_bid(self) -> Price | None:
        """Highest bid, None when there is none."""
        return self._sides[Side.BUY].best

    @property
    def best_ask(self) -> Price | None:
        """Lowest ask, None when there is none."""
        return self._sides[Side.SELL].best

    @property
    def tick(self) -> Price:
        """Tick for new orders, micro-dollars."""
        return self._tick

    @property
    def exchange_ms(self) -> int:
        """Newest exchange time heard of this book, -1 before any."""
        return self._newest_ms

    def depth(self, side: Side, count: int) -> tuple[Level, ...]:
        """Return the best levels of a side, best first; BUY = bids, SELL = asks."""
        return tuple(self._sides[side].from_best(count))

    def levels(self, side: Side) -> tuple[Level, ...]:
        """Return every level of a side, best last as the exchange writes them."""
        return tuple(self._sides[side].to_best())

    def size_at(self, side: Side, price: Price) -> Size:
        """Return the total size resting at a price, 0 when none."""
        return self._sides[side].size_at(price)

    def hash(self, market: Market, token_id: TokenId, last_trade_text: str, version: str = "") -> str:
        """Rebuild the exchange's hash of this book as of its newest change; see `book_hash`.

        Args:
            market: Gives the id, the minimum size and whether it is neg-risk.
            token_id: The token whose book this is.
            last_trade_text: Last trade of the market as the exchange writes it ("0.130", "" before the first).
            version: Protocol version when the exchange's books name one.
        """
        return book_hash(
            market_id=market.market_id,
            token_id=token_id,
            exchange_ms=self._newest_ms,
            bids=self.levels(Side.BUY),
            asks=self.levels(Side.SELL),
            size_min=market.size_min,
            tick=self._tick,
            is_neg_risk=market.is_neg_risk,
            last_trade_text=last_trade_text,
            version=version,
        )

    def hash_stem(self, market_id: MarketId, token_id: TokenId, exchange_ms: int) -> HashStem:
        """Hash the levels as of a moment, for a caller who has to guess the rest."""
        return HashStem(market_id, token_id, exchange_ms, *(self._sides[side].texts() for side in Side))

    def _adopt_tick(self, tick: Price, told_at: tuple[int, bool]) -> None:
        # (exchange_ms, by a snapshot): a snapshot is the later truth of its millisecond here too.
        if told_at >= self._tick_at:
            self._tick, self._tick_at = tick, told_at
        # The grid only gets finer: orders placed before a change to a coarser tick may rest on.
        self._grid = Price(gcd(self._grid, tick))

    def _rise(self, exchange_ms: int) -> None:
        self._floor_ms = exchange_ms
        self._newest_ms = max(self._newest_ms, exchange_ms)


class _Ladder:
    """One side: sizes by price, rungs (sign x price) ascending so that the best is last, times of late-able writes."""

    __slots__ = ("_rungs", "_sign", "_sizes", "_texts", "_touched")

    def __init__(self, sign: int) -> None:
        self._sign = sign
        self._sizes: dict[Price, Size] = {}
        self._rungs: list[int] = []
        # Exchange time of the updates newer than the last snapshot, by price; also of levels they removed.
        self._touched: dict[Price, int] = {}
        # Levels as the hash wants them: between two hashes nearly all stay as they were.
        self._texts: dict[int, bytes] = {}

    @property
    def best(self) -> Price | None:
        return Price(self._rungs[-1] * self._sign) if self._rungs else None

    def set(self, price: Price, size: Size, exchange_ms: int) -> bool:
        if exchange_ms < self._touched.get(price, -1):
            return False
        self._touched[price] = exchange_ms
        rung = self._sign * price
        self._texts.pop(rung, None)
        if size == 0:
            if self._sizes.pop(price, None) is not None:
                del self._rungs[bisect_left(self._rungs, rung)]
            return True
        if price not in self._sizes:
            insort(self._rungs, rung)
        self._sizes[price] = size
        return True

    def replace(self, levels: Iterable[Level], exchange_ms: int) -> None:
        self._touched = {price: ms for price, ms in self._touched.items() if ms > exchange_ms}
        sizes = {level.price: level.size for level in levels if level.size}
        for price in self._touched:
            sizes[price] = self._sizes.get(price, Size(0))
        self._sizes = {price: size for price, size in sizes.items() if size}
        self._rungs = sorted(self._sign * price for price in self._sizes)
        self._texts = {}

    def from_best(self, count: int) -> Iterable[Level]:
        return (self._level(rung) for rung in self._rungs[: -count - 1 : -1])

    def to_best(self) -> Iterable[Level]:
        return (self._level(rung) for rung in self._rungs)

    def texts(self) -> list[bytes]:
        """Write the levels for the hash, best last."""
        if len(self._texts) != len(self._rungs):
            for rung in self._rungs:
                if rung not in self._texts:
                    level = self._level(rung)
                    self._texts[rung] = level_text(level.price, level.size)
        return [self._texts[rung] for rung in self._rungs]

    def size_at(self, price: Price) -> Size:
        return self._sizes.get(price, Size(0))

    def _level(self, rung: int) -> Level:
        price = Price(rung * self._sign)
        return Level(price, self._sizes[price])


def _check(price: Price, size: Size, grid: Price) -> None:
    if not is_on_grid(price, grid):
        raise OffGrid(f"price {text_from_micro(price)} is not on the grid of {text_from_micro(grid)}")
    if size < 0:
        raise BadFrame(f"negative size {text_from_micro(size)} at {text_from_micro(price)}")
