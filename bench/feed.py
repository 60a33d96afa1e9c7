"""From the text of `price_change` frames to the best prices of both books: ours against polymarket-client's models.

polymarket-client ends with an event of `Decimal`s; it keeps no book, so its side gets the shortest one that works, two
dicts a token and `max()`. Ours is what the market session and the feed's book do: checked structs, events of integers,
a grid, and a book that orders late updates. What the feed does beyond (hashes, mirror, doubts) is a row of its own.

The frames are like recorded ones: near the top, one level in three removed, one order's change told for both outcomes.
Each size is new when its frame comes: what ours remembers of sizes is forgotten before every pass.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from decimal import Decimal

from polymarket.models.clob.market_events import MarketPriceChangeEvent, parse_market_event

from bench.decode import MARKET, NO, NOW_MS, YES, frame_of
from bench.measure import Case
from tbot.core.book import Book
from tbot.core.market import TokenId
from tbot.core.messages import BookDelta, BookSnapshot, Level, Side
from tbot.core.units import MICRO, Nanos, Price, Size, complement, text_from_micro
from tbot.exchanges.polymarket.translate import SIZES, market_events
from tbot.exchanges.polymarket.wire import market_decoder

TICK = Price(10_000)
LEVELS = 40
FRAMES = 500
MID = 480_000
Tops = list[tuple[int, int]]


def frames(rng: random.Random) -> tuple[str, ...]:
    """Write a stretch of changes of one market in one millisecond; applied again it leaves the same books."""
    return tuple(frame_of(MARKET, changes(rng), timestamp_ms=NOW_MS) for _ in range(FRAMES))


def snapshot(token_id: str, exchange_ms: int) -> BookSnapshot:
    """Make the book before: `LEVELS` a side, a tick away from the middle."""
    bids, asks = (tuple(Level(price, Size(MICRO)) for price in prices) for prices in _sides(token_id))
    return BookSnapshot(token_id=TokenId(token_id), bids=bids, asks=asks, exchange_ms=exchange_ms, received_ns=Nanos(0))


def changes(rng: random.Random) -> Iterator[dict[str, str]]:
    """Make one order's change, as told for both outcomes."""
    side = rng.choice((Side.BUY, Side.SELL))
    away = min(1 + int(rng.expovariate(0.25)), LEVELS) * TICK
    price = Price(MID - away if side is Side.BUY else MID + away)
    size = "0" if rng.random() < 1 / 3 else text_from_micro(rng.randint(500, 500_000) * 10_000)
    return _mirrored(side, price, size)


class Ours:
    """The bot's way."""

    def __init__(self, texts: tuple[str, ...]) -> None:
        """Begin with the books of `snapshot`."""
        self._texts = texts
        self._decoder = market_decoder()
        self._books = {token: Book(TICK) for token in (YES, NO)}
        for token, book in self._books.items():
            book.apply_snapshot(snapshot(token, 1))

    def __call__(self) -> Tops:
        """Return the best prices after each change, micro-dollars."""
        SIZES.clear()
        decode, books, tops = self._decoder.decode, self._books, Tops()
        for text in self._texts:
            for found in decode(text):
                for event in market_events(found, books, Nanos(0)):
                    assert isinstance(event, BookDelta)
                    book = books[event.token_id]
                    book.apply_delta(event)
                    tops.append((book.best_bid or 0, book.best_ask or 0))
        return tops


class Peer:
    """polymarket-client's events into dicts."""

    def __init__(self, texts: tuple[str, ...]) -> None:
        """Begin with the same books."""
        self._texts = texts
        self._books: dict[str, dict[str, dict[Decimal, Decimal]]] = {}
        for token in (YES, NO):
            sides = zip(Side, _sides(token), strict=True)
            self._books[token] = {side: {Decimal(p) / MICRO: Decimal(1) for p in prices} for side, prices in sides}

    def __call__(self) -> Tops:
        """Return the best prices after each change, micro-dollars."""
        tops: list[tuple[Decimal, Decimal]] = []
        for text in self._texts:
            event = parse_market_event(json.loads(text))
            assert isinstance(event, MarketPriceChangeEvent)
            for change in event.payload.price_changes:
                book = self._books[change.asset_id]
                if change.size:
                    book[change.side][change.price] = change.size
                else:
                    book[change.side].pop(change.price, None)
                tops.append((max(book["BUY"]), min(book["SELL"])))
        return [(int(bid * MICRO), int(ask * MICRO)) for bid, ask in tops]


def case() -> Case:
    """Build the row."""
    texts = frames(random.Random(7))
    ours, peer = Ours(texts), Peer(texts)
    assert ours() == peer(), "the two disagree: no speed matters"
    name = "decode a frame, keep both books, read the tops"
    return Case(name=name, peer_name="polymarket-client's models, dicts", ours=ours, peer=peer, batch=FRAMES)


def _mirrored(side: Side, price: Price, size: str) -> Iterator[dict[str, str]]:
    tops = (Price(MID - TICK), Price(MID + TICK))
    for token, told, at, best in (
        (YES, side, price, tops),
        (NO, side.opposite, complement(price), tuple(complement(top) for top in reversed(tops))),
    ):
        bid, ask = map(text_from_micro, best)
        yield {
            "asset_id": token,
            "price": text_from_micro(at),
            "size": size,
            "side": told,
            "hash": "bf32b3746fff40c76c98021b7f3f07261169dd26",
            "best_bid": bid,
            "best_ask": ask,
        }


def _sides(token_id: str) -> tuple[list[Price], list[Price]]:
    mid = MID if token_id == YES else MICRO - MID
    away = [TICK * i for i in range(1, LEVELS + 1)]
    return [Price(mid - a) for a in away], [Price(mid + a) for a in away]
