"""Updating a book and reading its best prices: ours against a dict and `max()`.

The peer is the shortest thing that works while nothing goes wrong. Ours also checks the grid and orders late updates by
the exchange's time. Updates come as in recordings: near the top, one in three removes its level.
"""

from __future__ import annotations

import random

from bench.measure import Case
from tbot.core.book import Book
from tbot.core.market import TokenId
from tbot.core.messages import BookDelta, BookSnapshot, Level, Side
from tbot.core.units import Nanos, Price, Size

TICK = Price(10_000)
TOKEN = TokenId("1")
LEVELS = 40
MID = 500_000
UPDATES = 500
Top = tuple[Price | None, Price | None]


def snapshot() -> BookSnapshot:
    """Make a book of `LEVELS` a side around 0.50."""

    def side(sign: int) -> tuple[Level, ...]:
        return tuple(Level(Price(MID + sign * i * TICK), Size(100_000_000)) for i in range(1, LEVELS + 1))

    return BookSnapshot(token_id=TOKEN, bids=side(-1), asks=side(1), exchange_ms=1, received_ns=Nanos(0))


def updates(rng: random.Random) -> tuple[BookDelta, ...]:
    """Make changes of one millisecond; applied again and again they leave the same book."""
    return tuple(_update(rng) for _ in range(UPDATES))


def _update(rng: random.Random) -> BookDelta:
    side = rng.choice((Side.BUY, Side.SELL))
    away = min(1 + int(rng.expovariate(0.25)), LEVELS) * TICK
    return BookDelta(
        token_id=TOKEN,
        side=side,
        price=Price(MID - away if side is Side.BUY else MID + away),
        size=Size(0 if rng.random() < 1 / 3 else rng.randint(1, 1000) * 1_000_000),
        exchange_ms=2,
        received_ns=Nanos(0),
    )


class Ours:
    """The bot's book."""

    def __init__(self, start: BookSnapshot, deltas: tuple[BookDelta, ...]) -> None:
        """Begin with a snapshot."""
        self._book = Book(TICK)
        self._book.apply_snapshot(start)
        self._deltas = deltas

    def __call__(self) -> list[Top]:
        """Apply every update and return the best prices after each."""
        book, tops = self._book, []
        for delta in self._deltas:
            book.apply_delta(delta)
            tops.append((book.best_bid, book.best_ask))
        return tops


class Peer:
    """Two dicts."""

    def __init__(self, start: BookSnapshot, deltas: tuple[BookDelta, ...]) -> None:
        """Begin with a snapshot."""
        self._bids = {level.price: level.size for level in start.bids}
        self._asks = {level.price: level.size for level in start.asks}
        self._deltas = deltas

    def __call__(self) -> list[Top]:
        """Apply every update and return the best prices after each."""
        bids, asks, tops = self._bids, self._asks, []
        for delta in self._deltas:
            side = bids if delta.side is Side.BUY else asks
            if delta.size:
                side[delta.price] = delta.size
            else:
                side.pop(delta.price, None)
            tops.append((max(bids, default=None), min(asks, default=None)))
        return tops


def case() -> Case:
    """Build the row."""
    start, deltas = snapshot(), updates(random.Random(7))
    ours, peer = Ours(start, deltas), Peer(start, deltas)
    assert ours() == peer(), "the two books disagree: no speed matters"
    return Case(
        name=f"update a book of {LEVELS} levels, read the top",
        peer_name="dict and max()",
        ours=ours,
        peer=peer,
        batch=UPDATES,
    )
