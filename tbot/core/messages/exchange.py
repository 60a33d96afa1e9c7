"""Facts from the exchange: market events to the market feed, account events to the coordinator."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from tbot.core.market import MarketId, TokenId
from tbot.core.messages.vocabulary import (
    ExchangeOrderId,
    Message,
    Role,
    Settlement,
    Side,
    TradeId,
)
from tbot.core.units import Nanos, Notional, Price, Size

# Exchange -> market feed.


class Level(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One price level: price in micro-dollars, total size in micro-shares."""

    price: Price
    size: Size


class BookSnapshot(Message, frozen=True, kw_only=True):
    """The whole book of one token.

    Attributes:
        token_id: The token.
        bids: Levels in any order; the receiver sorts.
        asks: Levels in any order.
        exchange_ms: Moment of the book; counts after all deltas of the same millisecond.
        received_ns: When our read returned.
        book_hash: The exchange's hash of this book, "" when it sends none.
        tick: Tick size when the frame carries it.
        last_trade_text: Last trade price as sent ("0.130"; "" = none yet); None when the frame does not carry it.
    """

    token_id: TokenId
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    exchange_ms: int
    received_ns: Nanos
    book_hash: str = ""
    tick: Price | None = None
    last_trade_text: str | None = None


class BookDelta(Message, frozen=True, kw_only=True):
    """The new total size at one price of one token's book; size 0 removes the level.

    Attributes:
        best_bid: The exchange's best bid after the change; None = not told or none.
        best_ask: Likewise for asks.
        book_hash: Hash of the whole book after every change of this millisecond, "" when not told.
    """

    token_id: TokenId
    side: Side
    price: Price
    size: Size
    exchange_ms: int
    received_ns: Nanos
    best_bid: Price | None = None
    best_ask: Price | None = None
    book_hash: str = ""


class TradePrint(Message, frozen=True, kw_only=True):
    """A public trade. It is printed before settlement and may still fail.

    Attributes:
        price: Price of the taker's token.
        taker_side: The taker's side on `token_id`.
    """

    token_id: TokenId
    price: Price
    size: Size
    taker_side: Side
    exchange_ms: int
    received_ns: Nanos


class TickSizeChanged(Message, frozen=True, kw_only=True):
    """The price grid of a token changed: a new book epoch; the old book is dropped until a snapshot comes."""

    token_id: TokenId
    tick: Price
    exchange_ms: int
    received_ns: Nanos


class Gap(Message, frozen=True, kw_only=True):
    """Updates may have been lost: the named books are stale until a fresh snapshot.

    Attributes:
        token_ids: Books concerned; empty = all of the session.
        reason: For the log.
    """

    token_ids: tuple[TokenId, ...]
    reason: str
    received_ns: Nanos


class MarketNews(Message, frozen=True, kw_only=True):
    """Something happened to a market as a whole: a hint to read its terms anew, never more than that.

    Attributes:
        token_ids: Its tokens.
        what: Such as "resolved"; for the log.
    """

    market_id: MarketId
    token_ids: tuple[TokenId, ...]
    what: str
    received_ns: Nanos


MarketEvent = BookSnapshot | BookDelta | TradePrint | TickSizeChanged | Gap | MarketNews

# Exchange -> account feed -> coordinator.


class OrderState(StrEnum):
    """What the exchange says of an order. Final states keep `size_matched`."""

    LIVE = "LIVE"
    MATCHED = "MATCHED"
    CANCELED = "CANCELED"
    DELAYED = "DELAYED"  # held by a taker delay: not on the book yet, cannot be cancelled
    INVALID = "INVALID"


class OrderUpdate(Message, frozen=True, kw_only=True):
    """The exchange's word on one of our orders, pushed or read.

    Attributes:
        size_matched: Cumulative micro-shares; use the maximum ever heard, never add.
        as_of_ns: Our clock when this was surely true: receive time of a push, request time of a read.
    """

    exchange_order_id: ExchangeOrderId
    token_id: TokenId
    state: OrderState
    size_matched: Size
    as_of_ns: Nanos
    reason: str = ""


class Fill(Message, frozen=True, kw_only=True):
    """Our share of one trade. The key is (trade_id, exchange_order_id); repeated facts book once.

    Attributes:
        token_id: Token of OUR order (as maker it may be the opposite of the taker's).
        size: Micro-shares.
        notional: Micro-dollars exchanged, before fee: exact on-chain amount.
        fee: Micro-dollars charged to us, 0 for makers.
        settlement: Status of the trade when this was said.
    """

    trade_id: TradeId
    exchange_order_id: ExchangeOrderId
    token_id: TokenId
    side: Side
    size: Size
    notional: Notional
    fee: Notional
    role: Role
    settlement: Settlement
    exchange_ms: int
    received_ns: Nanos


class TradeStatus(Message, frozen=True, kw_only=True):
    """A settlement step of a trade already told, for exchanges that do not repeat the trade."""

    trade_id: TradeId
    settlement: Settlement
    received_ns: Nanos


class AccountGap(Message, frozen=True, kw_only=True):
    """Account events may have been lost: ask for a report."""

    reason: str
    received_ns: Nanos


AccountEvent = OrderUpdate | Fill | TradeStatus | AccountGap
