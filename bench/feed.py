"""From the text of a `price_change` frame to the best prices of both books: ours against polymarket-client's models.

polymarket-client ends with an event of `Decimal`s; it keeps no book, so its side gets the shortest one that works, two
dicts a token and `max()`. Ours is the feed's whole path: checked structs, integers, a book that orders late updates.
"""

from __future__ import annotations

import json
from decimal import Decimal

from polymarket.models.clob.market_events import MarketPriceChangeEvent, parse_market_event

from bench.decode import NO, YES, frame
from bench.measure import Case
from tbot.core.book import Book
from tbot.core.market import TokenId
from tbot.core.messages import BookDelta, BookSnapshot, Level, Side
from tbot.core.units import MICRO, Nanos, Price, Size
from tbot.exchanges.polymarket.translate import market_events
from tbot.exchanges.polymarket.wire import FrameDecoder, MarketFrame

TICK = Price(10_000)
LEVELS = 40
Tops = list[tuple[int, int]]


class Ours:
    """The bot's way."""

    def __init__(self, text: str) -> None:
        """Begin with a book of `LEVELS` a side."""
        self._text = text
        self._decoder: FrameDecoder[MarketFrame] = FrameDecoder(MarketFrame)
        self._books = {token: Book(TICK) for token in (YES, NO)}
        for token, book in self._books.items():
            bids, asks = _sides(token)
            book.apply_snapshot(
                BookSnapshot(
                    token_id=TokenId(token),
                    bids=tuple(Level(Price(p * 10_000), Size(MICRO)) for p in bids),
                    asks=tuple(Level(Price(p * 10_000), Size(MICRO)) for p in asks),
                    exchange_ms=1,
                    received_ns=Nanos(0),
                )
            )

    def __call__(self) -> Tops:
        """Return the best prices after each change, micro-dollars."""
        tops: Tops = []
        for found in self._decoder.decode(self._text):
            for event in market_events(found, self._books, Nanos(0)):
                assert isinstance(event, BookDelta)
                book = self._books[event.token_id]
                book.apply_delta(event)
                tops.append((book.best_bid or 0, book.best_ask or 0))
        return tops


class Peer:
    """polymarket-client's events into dicts."""

    def __init__(self, text: str) -> None:
        """Begin with the same books."""
        self._text = text
        self._books: dict[str, dict[str, dict[Decimal, Decimal]]] = {}
        for token in (YES, NO):
            sides = zip(Side, _sides(token), strict=True)
            self._books[token] = {side: {Decimal(p) / 100: Decimal(1) for p in prices} for side, prices in sides}

    def __call__(self) -> Tops:
        """Return the best prices after each change, micro-dollars."""
        event = parse_market_event(json.loads(self._text))
        assert isinstance(event, MarketPriceChangeEvent)
        tops: Tops = []
        for change in event.payload.price_changes:
            book = self._books[change.asset_id]
            if change.size:
                book[change.side][change.price] = change.size
            else:
                book[change.side].pop(change.price, None)
            tops.append((int(max(book["BUY"]) * MICRO), int(min(book["SELL"]) * MICRO)))
        return tops


def case() -> Case:
    """Build the row."""
    text = frame()
    ours, peer = Ours(text), Peer(text)
    assert ours() == peer(), "the two disagree: no speed matters"
    return Case(name="frame to best prices", peer_name="polymarket-client's models, dicts", ours=ours, peer=peer)


def _sides(token: str) -> tuple[range, range]:
    # Of both books the frame's price is the best bid, or ask, afterwards.
    return (range(7, 47), range(49, 89)) if token == YES else (range(12, 52), range(54, 94))
