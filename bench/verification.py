"""Frames to books of which every change is held against the hash it came with: ours against py-clob-client-v2's hash.

The peer reads JSON, keeps the exchange's texts in two dicts a token, sorts them and calls its client's function for the
hash of a book; no client of the exchange does that by itself. Ours is what the feed does beside its own books: events
in the exchange's order, a second book, best prices and mirror as well, the last trade found if need be.
"""

from __future__ import annotations

import json
import random
from functools import cache
from typing import Any

from msgspec import structs
from py_clob_client_v2.clob_types import OrderBookSummary, OrderSummary
from py_clob_client_v2.utilities import generate_orderbook_summary_hash

from bench.decode import MARKET, NO, NOW_MS, YES, frame_of
from bench.feed import FRAMES, TICK, changes, snapshot
from bench.measure import Case
from tbot.core.book import Book
from tbot.core.market import Market, MarketId, TokenId
from tbot.core.messages import BookDelta, BookSnapshot, Side
from tbot.core.units import Nanos, text_from_micro
from tbot.core.verification import Increment, MarketVerifier, Verdict
from tbot.exchanges.polymarket.translate import SIZES, market_events
from tbot.exchanges.polymarket.wire import market_decoder

LAST_TRADE = "0.480"
RULES = Market(market_id=MarketId(MARKET), slug="bench", yes=TokenId(YES), no=TokenId(NO), tick=TICK)


def frames(rng: random.Random) -> tuple[str, ...]:
    """Write a stretch of changes, a millisecond each, with the hashes that the exchange would tell."""
    decoder = market_decoder()
    books = {start.token_id: Book(TICK) for start in _starts()}
    for start in _starts():
        books[start.token_id].apply_snapshot(start)
    texts: list[str] = []
    for number in range(1, FRAMES + 1):
        told = list(changes(rng))
        (frame,) = decoder.decode(frame_of(MARKET, told, timestamp_ms=NOW_MS + number))
        for event, change in zip(market_events(frame, books, Nanos(0)), told, strict=True):
            assert isinstance(event, BookDelta)
            books[event.token_id].apply_delta(event)
            change["hash"] = books[event.token_id].hash(RULES, event.token_id, LAST_TRADE)
        texts.append(frame_of(MARKET, told, timestamp_ms=NOW_MS + number))
    return tuple(texts)


class Ours:
    """The bot's verifier."""

    def __init__(self, texts: tuple[str, ...]) -> None:
        """Keep one verifier, as the feed does."""
        self._texts = texts
        self._decoder = market_decoder()
        self._verifier = MarketVerifier(RULES)

    def __call__(self) -> int:
        """Return how many changes were verified by the hash of their book."""
        SIZES.clear()
        verifier, findings = self._verifier, []
        verifier.reset()
        for start in _starts():
            verifier.add(start)
        for text in self._texts:
            for frame in self._decoder.decode(text):
                for event in market_events(frame, RULES.tokens, Nanos(0)):
                    findings += verifier.add(event)
        findings += verifier.flush()
        return sum(isinstance(found, Increment) and found.verdict is Verdict.HASH for found in findings)


class Peer:
    """Dicts of texts and the client's function."""

    def __init__(self, texts: tuple[str, ...]) -> None:
        """Nothing to keep: every pass begins with the snapshots."""
        self._texts = texts

    def __call__(self) -> int:
        """Return how many changes were verified by the hash of their book."""
        books = {start.token_id: _texts_of(start) for start in _starts()}
        verified = 0
        for text in self._texts:
            frame: dict[str, Any] = json.loads(text)
            for change in frame["price_changes"]:
                book = books[change["asset_id"]]
                if change["size"] == "0":
                    book[change["side"]].pop(change["price"], None)
                else:
                    book[change["side"]][change["price"]] = change["size"]
                verified += _hash_of(book, change["asset_id"], frame) == change["hash"]
        return verified


def case() -> Case:
    """Build the row."""
    texts = frames(random.Random(7))
    ours, peer = Ours(texts), Peer(texts)
    assert ours() == peer() == 2 * FRAMES, "not every change is verified: no speed matters"
    return Case(
        name="decode a frame, verify both books by their hash",
        peer_name="json, dicts, py-clob-client-v2's hash",
        ours=ours,
        peer=peer,
        batch=FRAMES,
    )


# The verifier trusts hashes once the snapshot's own follows from its levels.
@cache
def _starts() -> tuple[BookSnapshot, ...]:
    bare = (snapshot(token, NOW_MS) for token in (YES, NO))
    return tuple(structs.replace(s, book_hash=_first_hash(s), last_trade_text=LAST_TRADE) for s in bare)


def _first_hash(start: BookSnapshot) -> str:
    book = Book(TICK)
    book.apply_snapshot(start)
    return book.hash(RULES, start.token_id, LAST_TRADE)


def _texts_of(start: BookSnapshot) -> dict[str, dict[str, str]]:
    sides = {Side.BUY: start.bids, Side.SELL: start.asks}
    return {
        side: {text_from_micro(level.price): text_from_micro(level.size) for level in levels}
        for side, levels in sides.items()
    }


def _hash_of(book: dict[str, dict[str, str]], token_id: str, frame: dict[str, Any]) -> str:
    bids = sorted(book["BUY"].items(), key=_price)
    asks = sorted(book["SELL"].items(), key=_price, reverse=True)
    whole = OrderBookSummary(
        market=frame["market"],
        asset_id=token_id,
        timestamp=frame["timestamp"],
        bids=[OrderSummary(price=price, size=size) for price, size in bids],
        asks=[OrderSummary(price=price, size=size) for price, size in asks],
        min_order_size=text_from_micro(RULES.size_min),
        tick_size=text_from_micro(TICK),
        neg_risk=RULES.is_neg_risk,
        last_trade_price=LAST_TRADE,
    )
    return str(generate_orderbook_summary_hash(whole))


def _price(level: tuple[str, str]) -> float:
    return float(level[0])
