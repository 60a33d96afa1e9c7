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
from typing import Final, cast

from tbot.core.book_hash import HashStem, book_hash, level_text
from tbot.core.market import Market, MarketId, TokenId
from tbot.core.messages import BookDelta, BookSnapshot, Level, Side, TickSizeChanged
from tbot.core.units import ONE_DOLLAR, Price, Size, is_on_grid, text_from_micro
from tbot.errors import BadFrame, OffGrid

# No market has a finer one. Levels older than a change to a coarser tick rest on off the present grid, so a whole book
# may hold any of these; what it holds tells which changes to expect.
TICK_FINEST: Final = Price(100)


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

    Attributes:
        is_stale: No snapshot since the start, a gap or a tick change: the same as the state `STALE`.
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
        self.is_stale = True
        self._bids, self._asks = _Ladder(1), _Ladder(-1)

    def apply_snapshot(self, snapshot: BookSnapshot) -> bool:
        """Replace all levels but those updated after the snapshot, and end staleness.

        Returns:
            False when it is older than a snapshot or tick change already known: no level changed.

        Raises:
            OffGrid: A price is on no grid at all. Nothing changed; the caller marks the book stale and refetches.
            BadFrame: A size is negative. Nothing changed.
        """
        is_late = snapshot.exchange_ms < self._floor_ms
        if not is_late:
            for level in (*snapshot.bids, *snapshot.asks):
                _check(level.price, level.size, TICK_FINEST)
            self._grid = Price(gcd(self._grid, *(level.price for level in (*snapshot.bids, *snapshot.asks))))
        if snapshot.tick is not None:
            # Even a late snapshot may bring the newest tick: most frames carry none.
            self._adopt_tick(snapshot.tick, (snapshot.exchange_ms, True))
        if is_late:
            return False
        self._rise(snapshot.exchange_ms)
        self._bids.replace(snapshot.bids, snapshot.exchange_ms)
        self._asks.replace(snapshot.asks, snapshot.exchange_ms)
        self.is_stale = False
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
        exchange_ms, price, size = delta.exchange_ms, delta.price, delta.size
        if exchange_ms <= self._floor_ms:
            return False
        grid = self._grid
        # The hottest lines of the feed: only what is wrong is worth a call.
        if price % grid or not grid <= price <= ONE_DOLLAR - grid or size < 0:
            _check(price, size, grid)
        if exchange_ms > self._newest_ms:  # noqa: PLR1730 - `max` costs four times as much
            self._newest_ms = exchange_ms
        return (self._bids if delta.side is Side.BUY else self._asks).set(price, size, exchange_ms)

    def change_tick(self, change: TickSizeChanged) -> bool:
        """Begin a new epoch: take the tick, drop the levels known by then, stay stale until a snapshot.

        Returns:
            False when it is late news, the book of the new epoch being known: no level changed.
        """
        self._adopt_tick(change.tick, (change.exchange_ms, False))
        if change.exchange_ms <= self._floor_ms:
            return False
        self._rise(change.exchange_ms)
        for ladder in (self._bids, self._asks):
            ladder.replace((), change.exchange_ms)
        self.is_stale = True
        return True

    def mark_stale(self) -> None:
        """Distrust the book until the next snapshot: updates may have been lost. Levels stay as last known."""
        self.is_stale = True

    @property
    def state(self) -> BookState:
        """What the book is good for now."""
        bid, ask = self._bids.best, self._asks.best
        if self.is_stale:
            return BookState.STALE
        if bid is None and ask is None:
            return BookState.EMPTY
        if bid is None or ask is None:
            return BookState.ONE_SIDED
        return BookState.CROSSED if bid >= ask else BookState.OK

    @property
    def is_crossed(self) -> bool:
        """Whether the best bid is at or above the best ask, stale or not."""
        bid, ask = self._bids.best, self._asks.best
        return bid is not None and ask is not None and bid >= ask

    @property
    def best_bid(self) -> Price | None:
        """Highest bid, None when there is none."""
        return self._bids.best

    @property
    def best_ask(self) -> Price | None:
        """Lowest ask, None when there is none."""
        return self._asks.best

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
        return tuple(self._side(side).from_best(count))

    def levels(self, side: Side) -> tuple[Level, ...]:
        """Return every level of a side, best last as the exchange writes them."""
        return tuple(self._side(side).to_best())

    def size_at(self, side: Side, price: Price) -> Size:
        """Return the total size resting at a price, 0 when none."""
        return self._side(side).size_at(price)

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
        return HashStem(market_id, token_id, exchange_ms, self._bids.text(), self._asks.text())

    def _side(self, side: Side) -> _Ladder:
        return self._bids if side is Side.BUY else self._asks

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
    """One side: what was last written at each price, and rungs (sign x price) ascending so that the best is last.

    Attributes:
        best: The best price, None when there is none.
    """

    __slots__ = ("_cells", "_joined", "_rungs", "_sign", "_texts", "best")

    def __init__(self, sign: int) -> None:
        self.best: Price | None = None
        self._sign = sign
        # Exchange time and size of the last write by price, of removed levels too; -1 = written by the snapshot.
        self._cells: dict[Price, tuple[int, Size]] = {}
        self._rungs: list[int] = []
        # Levels as the hash wants them, by rung, and all of them: between two hashes nearly all stay as they were, and
        # mostly one side does.
        self._texts: dict[int, bytes] = {}
        self._joined = b""

    def set(self, price: Price, size: Size, exchange_ms: int) -> bool:
        written_ms, before = self._cells.get(price, _UNWRITTEN)
        if exchange_ms < written_ms:
            return False
        self._cells[price] = exchange_ms, size
        if self._texts:
            self._texts.pop(self._sign * price, None)
            self._joined = b""
        if size and not before:
            insort(self._rungs, self._sign * price)
            self._find_best()
        elif before and not size:
            del self._rungs[bisect_left(self._rungs, self._sign * price)]
            self._find_best()
        return True

    def replace(self, levels: Iterable[Level], exchange_ms: int) -> None:
        newer = {price: cell for price, cell in self._cells.items() if cell[0] > exchange_ms}
        self._cells = {level.price: (-1, level.size) for level in levels if level.size} | newer
        self._rungs = sorted(self._sign * price for price, (_, size) in self._cells.items() if size)
        self._texts, self._joined = {}, b""
        self._find_best()

    def from_best(self, count: int) -> list[Level]:
        return self._levels(self._rungs[: -count - 1 : -1])

    def to_best(self) -> list[Level]:
        return self._levels(self._rungs)

    def text(self) -> bytes:
        """Write the levels for the hash, best last."""
        if not self._joined:
            for rung in self._rungs:
                if rung not in self._texts:
                    price = Price(rung * self._sign)
                    self._texts[rung] = level_text(price, self.size_at(price))
            self._joined = b",".join([self._texts[rung] for rung in self._rungs])
        return self._joined

    def size_at(self, price: Price) -> Size:
        return self._cells.get(price, _UNWRITTEN)[1]

    def _find_best(self) -> None:
        self.best = Price(self._rungs[-1] * self._sign) if self._rungs else None

    def _levels(self, rungs: list[int]) -> list[Level]:
        prices = rungs if self._sign > 0 else [-rung for rung in rungs]
        return [Level(price, self._cells[price][1]) for price in cast("list[Price]", prices)]


_UNWRITTEN = (-1, Size(0))


def _check(price: Price, size: Size, grid: Price) -> None:
    if not is_on_grid(price, grid):
        raise OffGrid(f"price {text_from_micro(price)} is not on the grid of {text_from_micro(grid)}")
    if size < 0:
        raise BadFrame(f"negative size {text_from_micro(size)} at {text_from_micro(price)}")
