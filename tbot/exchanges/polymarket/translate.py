"""Market data: their words to ours and back. Pure; every impossible value is a `BadFrame`, never a guess."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from decimal import Decimal
from typing import TypeVar, assert_never

from tbot.core.market import MarketId, TokenId
from tbot.core.messages import BookDelta, BookSnapshot, Level, MarketEvent, MarketNews, TickSizeChanged, TradePrint
from tbot.core.units import MICRO, Nanos, Price, Size, micro_from_text, micro_nearest_from_text
from tbot.errors import BadFrame
from tbot.exchanges.polymarket.wire import (
    BestBidAskFrame,
    BookBody,
    BookFrame,
    LastTradeFrame,
    MarketFrame,
    NewMarketFrame,
    PriceChangeFrame,
    ResolvedFrame,
    TickSizeFrame,
    WireChange,
    WireLevel,
)

T = TypeVar("T")

_SECONDS_BELOW = 10**12  # a time below this is in seconds: milliseconds passed it in 2001


def market_events(frame: MarketFrame, tokens: Container[str], received_ns: Nanos) -> list[MarketEvent]:
    """Translate one frame; events of tokens not subscribed are left out, as a change is told for both outcomes.

    Raises:
        BadFrame: A number, price or time that cannot be.
    """
    if isinstance(frame, PriceChangeFrame):
        return _deltas(frame, tokens, received_ns)
    if isinstance(frame, BestBidAskFrame):
        return []
    if isinstance(frame, NewMarketFrame | ResolvedFrame):
        news = _news(frame, received_ns)
        return [news] if any(each in tokens for each in news.token_ids) else []
    return [_event(frame, received_ns)] if frame.asset_id in tokens else []


def _news(frame: NewMarketFrame | ResolvedFrame, received_ns: Nanos) -> MarketNews:
    named = frame.assets_ids or ()
    if isinstance(frame, ResolvedFrame):
        named = named or (frame.winning_asset_id,)
    return MarketNews(
        market_id=MarketId(frame.market),
        token_ids=tuple(map(TokenId, named)),
        what="resolved" if isinstance(frame, ResolvedFrame) else "listed",
        received_ns=received_ns,
    )


def book_snapshot(book: BookBody, received_ns: Nanos) -> BookSnapshot:
    """Translate a whole book, pushed or read; the order of levels is theirs.

    Raises:
        BadFrame: A number, price or time that cannot be, or a side is missing.
    """
    return BookSnapshot(
        token_id=book.asset_id,
        bids=_levels(book.bids if book.bids is not None else book.buys),
        asks=_levels(book.asks if book.asks is not None else book.sells),
        exchange_ms=ms_from_text(book.timestamp),
        received_ns=received_ns,
        book_hash=book.hash,
        tick=price_from_text(book.tick_size) if book.tick_size else None,
        last_trade_text=book.last_trade_price,
    )


def micro(text: str) -> int:
    """Parse a decimal text into millionths.

    Raises:
        BadFrame: Not a plain decimal of at most 6 places.
    """
    try:
        return micro_from_text(text)
    except ValueError as error:
        raise BadFrame(str(error)) from error


def price_from_text(text: str) -> Price:
    """Parse a price.

    Raises:
        BadFrame: Not a decimal between 0 and 1, both excluded.
    """
    return _as_price(micro(text), text)


def size_from_text(text: str) -> Size:
    """Parse a size; 0 is a size.

    Raises:
        BadFrame: Not a decimal, or negative.
    """
    return _as_size(micro(text), text)


def price_nearest_from_text(text: str) -> Price:
    """Parse a price of a trade, to the nearest millionth: an average over several makers may have any decimals.

    Raises:
        BadFrame: Not a decimal between 0 and 1, both excluded.
    """
    return _as_price(_micro_nearest(text), text)


def size_nearest_from_text(text: str) -> Size:
    """Parse a size that is whole millionths on chain, whatever a float on the way made of it; 0 is a size.

    Raises:
        BadFrame: Not a decimal, or negative.
    """
    return _as_size(_micro_nearest(text), text)


def _micro_nearest(text: str) -> int:
    try:
        return micro_nearest_from_text(text)
    except ValueError as error:
        raise BadFrame(str(error)) from error


def _as_price(value: int, text: str) -> Price:
    if not 0 < value < MICRO:
        raise BadFrame(f"price outside (0, 1): {text[:40]!r}")
    return Price(value)


def _as_size(value: int, text: str) -> Size:
    if value < 0:
        raise BadFrame(f"negative size: {text[:40]!r}")
    return Size(value)


def micro_from_decimal(number: Decimal) -> int:
    """Turn a JSON number into millionths, exactly.

    Raises:
        BadFrame: Not finite, or more than 6 decimals.
    """
    if not number.is_finite() or abs(number) > 10**12:
        raise BadFrame(f"not a plain number: {number}")
    scaled = number * MICRO
    if scaled != int(scaled):
        raise BadFrame(f"more than 6 decimals: {number}")
    return int(scaled)


def ms_from_text(text: str) -> int:
    """Parse a Unix time in milliseconds, or in seconds where they send those; told apart by magnitude.

    Raises:
        BadFrame: Not a plain number of at most 16 digits.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= 16):
        raise BadFrame(f"not a Unix time: {text[:40]!r}")
    value = int(text)
    return value * 1000 if value < _SECONDS_BELOW else value


def _event(frame: BookFrame | LastTradeFrame | TickSizeFrame, received_ns: Nanos) -> MarketEvent:
    match frame:
        case BookFrame():
            return book_snapshot(frame, received_ns)
        case LastTradeFrame():
            return _trade_print(frame, received_ns)
        case TickSizeFrame():
            return TickSizeChanged(
                token_id=frame.asset_id,
                tick=price_from_text(frame.new_tick_size),
                exchange_ms=ms_from_text(frame.timestamp),
                received_ns=received_ns,
            )
        case _:
            assert_never(frame)


def _deltas(frame: PriceChangeFrame, tokens: Container[str], received_ns: Nanos) -> list[MarketEvent]:
    exchange_ms = ms_from_text(frame.timestamp)
    changes = frame.price_changes if frame.price_changes is not None else _old_changes(frame)
    return [
        BookDelta(
            token_id=change.asset_id,
            side=change.side,
            price=PRICES[change.price],
            size=SIZES[change.size],
            exchange_ms=exchange_ms,
            received_ns=received_ns,
            best_bid=BESTS[change.best_bid],
            best_ask=BESTS[change.best_ask],
            book_hash=change.hash,
        )
        for change in changes
        if change.asset_id in tokens
    ]


# The old shape named token and hash once for all changes, and no best prices.
def _old_changes(frame: PriceChangeFrame) -> Iterator[WireChange]:
    if frame.changes is None or not frame.asset_id:
        raise BadFrame("price_change without price_changes, and not in the old shape either")
    for change in frame.changes:
        yield WireChange(
            asset_id=frame.asset_id, price=change.price, size=change.size, side=change.side, hash=frame.hash
        )


def _trade_print(frame: LastTradeFrame, received_ns: Nanos) -> TradePrint:
    return TradePrint(
        token_id=frame.asset_id,
        price=price_from_text(frame.price),
        size=size_from_text(frame.size),
        taker_side=frame.side,
        exchange_ms=ms_from_text(frame.timestamp),
        received_ns=received_ns,
    )


def _levels(levels: tuple[WireLevel, ...] | None) -> tuple[Level, ...]:
    if levels is None:
        raise BadFrame("book without one of its sides")
    return tuple(Level(PRICES[level.price], SIZES[level.size]) for level in levels)


def _best(text: str) -> Price | None:
    # An empty side is told as "", 0 or 1: none of them can be a price.
    value = micro(text) if text else 0
    return Price(value) if 0 < value < MICRO else None


class Meanings(dict[str, T]):
    """What texts mean: the same few come again and again, and a table answers six times faster than a parser."""

    def __init__(self, parse: Callable[[str], T], *, texts_max: int = 65_536) -> None:
        """Begin empty; a text is parsed when it is first asked for.

        Args:
            parse: What it raises is raised by the look-up.
            texts_max: With so many the table begins anew, against a sender of ever new ones.
        """
        super().__init__()
        self._parse = parse
        self._texts_max = texts_max

    def __missing__(self, text: str) -> T:
        value = self._parse(text)
        if len(self) >= self._texts_max:
            self.clear()
        self[text] = value
        return value


PRICES, SIZES, BESTS = Meanings(price_from_text), Meanings(size_from_text), Meanings(_best)
