"""Books and their hash, and the frames of the market channel, as Polymarket spells them.

Levels go out with the best LAST in each array, decimals as the shortest text, and keys in the order of real captures
(2026-04-21, 2026-04-29). The hash of a book is the SHA-1 of its compact JSON with an empty hash; it reproduced on 658
of 658 captured REST books, so a client can verify every frame with it.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Literal

import msgspec

from tbot.core.market import TokenId
from tbot.core.messages import Level, Side
from tbot.core.units import MICRO, Price, Size, text_from_micro
from tbot.exchanges.simulated.contracts import is_position_id
from tbot.exchanges.simulated.events import BookView, LevelsChanged, TickChanged, TradePrinted
from tbot.exchanges.simulated.operations import MarketRules
from tbot.exchanges.simulated.wire_markets import fee_bps_shown


class WireLevel(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One price level."""

    price: str
    size: str


class RestBook(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `GET /book`; the key order is also that of the hash. Only books of positions tell a version."""

    market: str
    asset_id: str
    timestamp: str
    hash: str
    bids: tuple[WireLevel, ...]
    asks: tuple[WireLevel, ...]
    min_order_size: str
    tick_size: str
    neg_risk: bool
    last_trade_price: str
    version: Literal["v2"] | msgspec.UnsetType = msgspec.UNSET


class BookFirst(msgspec.Struct, frozen=True, kw_only=True):
    """The `book` frame after subscribing. Only books of positions tell a version, which the hash covers."""

    market: str
    asset_id: str
    timestamp: str
    hash: str
    bids: tuple[WireLevel, ...]
    asks: tuple[WireLevel, ...]
    tick_size: str
    event_type: str = "book"
    last_trade_price: str = ""
    version: Literal["v2"] | msgspec.UnsetType = msgspec.UNSET


class BookAfterTrade(msgspec.Struct, frozen=True, kw_only=True):
    """The `book` frame after a trade: without tick size and last trade price, as production sends it."""

    market: str
    asset_id: str
    bids: tuple[WireLevel, ...]
    asks: tuple[WireLevel, ...]
    hash: str
    timestamp: str
    event_type: str = "book"


class WireChange(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One entry of a `price_change` frame: the new total of one level, "0" = gone."""

    asset_id: str
    price: str
    size: str
    side: Side
    hash: str
    best_bid: str
    best_ask: str


class PriceChange(msgspec.Struct, frozen=True, kw_only=True):
    """One level that an operation changed, of both outcomes, unless a fault withholds one."""

    market: str
    price_changes: tuple[WireChange, ...]
    timestamp: str
    event_type: str = "price_change"


class LastTradePrice(msgspec.Struct, frozen=True, kw_only=True):
    """The public print of a trade, told in the taker's token."""

    market: str
    asset_id: str
    price: str
    size: str
    fee_rate_bps: str
    side: Side
    timestamp: str
    event_type: str = "last_trade_price"
    transaction_hash: str


class TickSizeChange(msgspec.Struct, frozen=True, kw_only=True):
    """A new price grid of one token."""

    market: str
    asset_id: str
    old_tick_size: str
    new_tick_size: str
    timestamp: str
    event_type: str = "tick_size_change"


NO_LEVELS = b'"bids":[],"asks":[]'
"""Where the levels stand in the JSON of a book."""


@lru_cache(maxsize=65_536)
def _level(price: Price, size: Size) -> WireLevel:
    return WireLevel(price=text_from_micro(price), size=text_from_micro(size))


@lru_cache(maxsize=65_536)
def _level_json(price: Price, size: Size) -> bytes:
    return msgspec.json.encode(_level(price, size))


class _Levels:
    """One side in the order of the wire, each level kept as its JSON: a change costs one level, not the side."""

    def __init__(self, side: Side) -> None:
        self._sign = 1 if side is Side.BUY else -1  # bids rise towards the best, asks fall
        self._keys: list[int] = []
        self._texts: list[bytes] = []
        self.sizes: dict[int, int] = {}

    def reset(self, levels: Iterable[Level]) -> None:
        self.sizes = {level.price: level.size for level in levels}
        self._keys = sorted(self._sign * price for price in self.sizes)
        self._texts = [_level_json(Price(abs(key)), Size(self.sizes[abs(key)])) for key in self._keys]

    def set(self, price: Price, size: Size) -> None:
        key = self._sign * price
        at, is_there = bisect_left(self._keys, key), price in self.sizes
        if size:
            self.sizes[price] = size
            if not is_there:
                self._keys.insert(at, key)
            self._texts[at : at + is_there] = [_level_json(price, size)]
        elif is_there:
            del self.sizes[price], self._keys[at], self._texts[at]

    def json(self) -> bytes:
        return b"[" + b",".join(self._texts) + b"]"


class BookState:
    """One token's book as of some event, for the hash that goes out with it.

    Events wait in a stream while the exchange moves on, so its present book is not the one a frame speaks of; this copy
    follows the events at the price of one encoded level each.
    """

    def __init__(self, view: BookView) -> None:
        """Start from a whole book."""
        self.view = view
        self._sides: Mapping[Side, _Levels] = {side: _Levels(side) for side in (Side.BUY, Side.SELL)}
        self.reset(view)

    def reset(self, view: BookView) -> None:
        """Take over a whole book."""
        self.view = view
        self._sides[Side.BUY].reset(view.bids)
        self._sides[Side.SELL].reset(view.asks)

    def set_tick(self, tick: Price) -> None:
        """Take over a new price grid."""
        self.view = msgspec.structs.replace(self.view, tick=tick)

    def set_level(self, side: Side, price: Price, size: Size) -> None:
        """Set the total of one level; 0 removes it."""
        self._sides[side].set(price, size)

    def sizes(self, side: Side) -> Mapping[int, int]:
        """Show the total of every level of a side; not a copy."""
        return self._sides[side].sizes

    def hash_at(self, exchange_ms: int, *, last_trade_text: str) -> str:
        """Hash the book as it stands, for a moment."""
        empty = _book(self.view, bids=(), asks=(), exchange_ms=exchange_ms, last_trade_text=last_trade_text)
        head, _, tail = msgspec.json.encode(empty).partition(NO_LEVELS)
        bids, asks = self._sides[Side.BUY].json(), self._sides[Side.SELL].json()
        whole = b"".join((head, b'"bids":', bids, b',"asks":', asks, tail))
        return hashlib.sha1(whole, usedforsecurity=False).hexdigest()


def book_hash(book: RestBook) -> str:
    """Compute the hash of a book whose own hash field is empty."""
    return hashlib.sha1(msgspec.json.encode(book), usedforsecurity=False).hexdigest()


def rest_book(view: BookView) -> RestBook:
    """Show a whole book with its hash."""
    book = _book(
        view,
        bids=best_last(view.bids),
        asks=best_last(view.asks),
        exchange_ms=view.exchange_ms,
        last_trade_text=view.last_trade_text,
    )
    return msgspec.structs.replace(book, hash=book_hash(book))


def best_last(levels: Iterable[Level]) -> tuple[WireLevel, ...]:
    """Turn levels given best first into the order of the wire."""
    return tuple(_level(level.price, level.size) for level in reversed(tuple(levels)))


def book_first(view: BookView) -> BookFirst:
    """Make the frame sent on subscription."""
    book = rest_book(view)
    return BookFirst(
        market=book.market,
        asset_id=book.asset_id,
        timestamp=book.timestamp,
        hash=book.hash,
        bids=book.bids,
        asks=book.asks,
        tick_size=book.tick_size,
        last_trade_price=book.last_trade_price,
        version=book.version,
    )


def book_after_trade(view: BookView) -> BookAfterTrade:
    """Make the frame sent for each token after a trade."""
    book = rest_book(view)
    return BookAfterTrade(
        market=book.market,
        asset_id=book.asset_id,
        bids=book.bids,
        asks=book.asks,
        hash=book.hash,
        timestamp=book.timestamp,
    )


def price_changes(event: LevelsChanged, hashes: Mapping[TokenId, str]) -> tuple[PriceChange, ...]:
    """Make the frames of an operation's level changes: one a level, with its mirror, as in every captured frame.

    Args:
        event: The changes of both outcomes.
        hashes: Hash of each token's whole book after the operation.
    """
    changes = [
        WireChange(
            asset_id=change.token_id,
            price=text_from_micro(change.price),
            size=text_from_micro(change.size),
            side=change.side,
            hash=hashes[change.token_id],
            # An empty side is told as the price nobody can better; seen so in captures.
            best_bid=text_from_micro(change.best_bid or 0),
            best_ask=text_from_micro(MICRO if change.best_ask is None else change.best_ask),
        )
        for change in event.changes
    ]
    pairs = zip(changes[::2], changes[1::2], strict=True)
    return tuple(
        PriceChange(market=event.market_id, price_changes=pair, timestamp=str(event.exchange_ms)) for pair in pairs
    )


def last_trade_price(event: TradePrinted, rules: MarketRules) -> LastTradePrice:
    """Make the frame of a public print."""
    return LastTradePrice(
        market=event.market_id,
        asset_id=event.token_id,
        price=text_from_micro(event.price),
        size=text_from_micro(event.size),
        fee_rate_bps=str(fee_bps_shown(rules)),
        side=event.taker_side,
        timestamp=str(event.exchange_ms),
        transaction_hash=transaction_hash(event.trade_id),
    )


def tick_size_changes(event: TickChanged, rules: MarketRules) -> tuple[TickSizeChange, ...]:
    """Make the frames of a tick change, one a token."""
    return tuple(
        TickSizeChange(
            market=event.market_id,
            asset_id=token_id,
            old_tick_size=text_from_micro(event.tick_old),
            new_tick_size=text_from_micro(event.tick),
            timestamp=str(event.exchange_ms),
        )
        for token_id in (rules.yes, rules.no)
    )


def transaction_hash(transaction_id: str) -> str:
    """Make the hash of a settlement transaction: a function of its id, that of a trade mostly."""
    return "0x" + hashlib.sha256(f"transaction:{transaction_id}".encode()).hexdigest()


def _book(
    view: BookView,
    *,
    bids: tuple[WireLevel, ...],
    asks: tuple[WireLevel, ...],
    exchange_ms: int,
    last_trade_text: str,
) -> RestBook:
    return RestBook(
        market=view.market_id,
        asset_id=view.token_id,
        timestamp=str(exchange_ms),
        hash="",
        bids=bids,
        asks=asks,
        min_order_size=text_from_micro(view.size_min),
        tick_size=text_from_micro(view.tick),
        neg_risk=view.is_neg_risk,
        last_trade_price=last_trade_text,
        version="v2" if is_position_id(view.token_id) else msgspec.UNSET,
    )
