"""The book against recorded frames of the exchange, where a folder of captures is at hand.

`TBOT_CAPTURES`, or else a folder `shared/data/polymarket` beside the repository, holds
`ws/<capture>/market-ws.jsonl.gz`: one `{"payload": frame}` a line in order of arrival, frames of the market channel.
Recordings are large and not ours to publish, so the repository has none.
"""

import gzip
import json
from collections import defaultdict
from typing import Any

import pytest

from tbot.core.book import Book
from tbot.core.market import Market, MarketId, TokenId
from tbot.core.messages import BookDelta, BookSnapshot, Level, Side
from tbot.core.units import Nanos, Price, Size, micro_from_text
from tests.captures import CAPTURES, needs

CAPTURE = "ws/btc5m-2026-04-21-burst/market-ws.jsonl.gz"
CENT = Price(10_000)
Event = BookDelta | BookSnapshot

pytestmark = [pytest.mark.slow, needs(CAPTURE)]


def _levels(entries: list[dict[str, str]]) -> tuple[Level, ...]:
    return tuple(Level(Price(micro_from_text(e["price"])), Size(micro_from_text(e["size"]))) for e in entries)


def _events(frame: dict[str, Any]) -> list[tuple[str, Event]]:
    ms, market = int(frame["timestamp"]), frame["market"]
    if frame["event_type"] == "book":
        book = BookSnapshot(
            token_id=TokenId(frame["asset_id"]),
            bids=_levels(frame["bids"]),
            asks=_levels(frame["asks"]),
            exchange_ms=ms,
            received_ns=Nanos(0),
            book_hash=frame["hash"],
        )
        return [(market, book)]
    changes = frame.get("price_changes", [])
    return [(market, _delta(change, ms)) for change in changes if frame["event_type"] == "price_change"]


def _delta(change: dict[str, str], ms: int) -> BookDelta:
    level = _levels([change])[0]
    return BookDelta(
        token_id=TokenId(change["asset_id"]),
        side=Side(change["side"]),
        price=level.price,
        size=level.size,
        exchange_ms=ms,
        received_ns=Nanos(0),
        book_hash=change["hash"],
    )


@pytest.fixture(scope="module")
def by_token() -> dict[tuple[str, TokenId], list[Event]]:
    """Events of each (market, token), in order of arrival."""
    out: dict[tuple[str, TokenId], list[Event]] = defaultdict(list)
    with gzip.open(CAPTURES / CAPTURE, "rt") as lines:
        for line in lines:
            for market, event in _events(json.loads(line)["payload"]):
                out[market, event.token_id].append(event)
    return dict(out)


def _rank(event: Event) -> tuple[int, bool]:
    return event.exchange_ms, isinstance(event, BookSnapshot)


def _apply(book: Book, event: Event) -> bool:
    return book.apply_delta(event) if isinstance(event, BookDelta) else book.apply_snapshot(event)


def test_arrival_order_ends_in_the_book_of_exchange_order(by_token: dict[tuple[str, TokenId], list[Event]]) -> None:
    assert len(by_token) == 4
    for events in by_token.values():
        arrived, ordered = Book(CENT), Book(CENT)
        for event in events:
            _apply(arrived, event)
        for event in sorted(events, key=_rank):
            _apply(ordered, event)
        for side in Side:
            assert arrived.levels(side) == ordered.levels(side)


def test_book_of_updates_equals_every_later_snapshot(by_token: dict[tuple[str, TokenId], list[Event]]) -> None:
    equal = total = 0
    for events in by_token.values():
        book, is_known = Book(CENT), False
        for event in sorted(events, key=_rank):
            before = [book.levels(side) for side in Side]
            _apply(book, event)
            if isinstance(event, BookSnapshot):
                total += is_known
                equal += is_known and before == [book.levels(side) for side in Side]
                is_known = True
    assert total >= 140
    assert equal == total


def test_hash_of_the_rebuilt_book_is_the_hash_of_its_last_update(
    by_token: dict[tuple[str, TokenId], list[Event]],
) -> None:
    """The hash covers the market's last trade, which the frames leave out: any price of a cent counts as reproduced."""
    equal = total = 0
    for (market_id, token_id), events in by_token.items():
        book = Book(CENT)
        market = Market(market_id=MarketId(market_id), slug="", yes=token_id, no=TokenId(""), tick=CENT)
        ordered = sorted(events, key=_rank)
        guess = ""
        for event, later in zip(ordered, [*ordered[1:], None], strict=True):
            _apply(book, event)
            if not book.levels(Side.BUY) or (later is not None and later.exchange_ms == event.exchange_ms):
                continue
            guess = _last_trade(book, market, event.book_hash, guess)
            total += 1
            equal += bool(guess) and book.hash(market, token_id, guess) == event.book_hash
    assert total > 3000
    assert equal / total > 0.95


def _last_trade(book: Book, market: Market, wanted: str, guess: str) -> str:
    for text in (guess, *(f"{cent / 100:.3f}" for cent in range(1, 100))):
        if book.hash(market, market.yes, text) == wanted:
            return text
    return guess
