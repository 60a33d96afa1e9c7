"""Polymarket's JSON as structs: tolerant of fields we do not know, strict on the types of those we do.

Only fields we use are named, so that a change elsewhere in a payload cannot stop us. Prices and sizes stay the text
they were sent as; `translate` and `fills` turn them into integers. Numbers that arrive as JSON numbers become `Decimal`
from their text, never a float. Source: polymarket API reference and live captures (read 2026-11-22).
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Generic, TypeVar

import msgspec

from tbot.core.market import TokenId
from tbot.core.messages import Side
from tbot.errors import BadFrame

T = TypeVar("T")

# What msgspec raises on bytes from outside: wrong syntax or type, text that is not UTF-8, nesting without end.
UNDECODABLE = (msgspec.DecodeError, UnicodeError, RecursionError)


class Wire(msgspec.Struct, frozen=True, kw_only=True):
    """Base of everything they send."""


# --- market channel --------------------------------------------------------------------------------------------------


class WireLevel(Wire, frozen=True, kw_only=True, gc=False):
    """One level of a book, decimals as text."""

    price: str
    size: str


class BookBody(Wire, frozen=True, kw_only=True):
    """A whole book, as `GET /book` gives it.

    Attributes:
        bids: None in the old spelling, like `asks`.
        buys: What older frames call the bids; `sells` are their asks.
        timestamp: Unix milliseconds as text.
        tick_size: Left out of the frames that follow a trade.
        last_trade_price: "" before the first trade; left out like the tick.
        min_order_size: Only in books read by request, like `neg_risk`.
        version: Protocol version, named by markets of V2 only.
    """

    asset_id: TokenId
    market: str = ""
    bids: tuple[WireLevel, ...] | None = None
    asks: tuple[WireLevel, ...] | None = None
    timestamp: str
    hash: str = ""
    tick_size: str | None = None
    last_trade_price: str | None = None
    min_order_size: str | None = None
    neg_risk: bool | None = None
    version: str = ""
    buys: tuple[WireLevel, ...] | None = None
    sells: tuple[WireLevel, ...] | None = None


class BookFrame(BookBody, frozen=True, kw_only=True, tag_field="event_type", tag="book"):
    """A whole book, pushed."""


class WireChange(Wire, frozen=True, kw_only=True, gc=False):
    """One level change; size "0" removes the level.

    Attributes:
        best_bid: After the change; "0" or "" when that side is empty.
        best_ask: After the change; "1", "0" or "" when that side is empty.
        hash: Hash of the token's whole book after all changes of the millisecond.
    """

    asset_id: TokenId
    price: str
    size: str
    side: Side
    hash: str = ""
    best_bid: str = ""
    best_ask: str = ""


class OldChange(Wire, frozen=True, kw_only=True, gc=False):
    """One level change as told before 2025-09-15: the frame names token and hash."""

    price: str
    size: str
    side: Side


class PriceChangeFrame(Wire, frozen=True, kw_only=True, tag_field="event_type", tag="price_change"):
    """Level changes of both outcomes of a market, whichever was subscribed; until 2025-09-15 of one token.

    Attributes:
        price_changes: None in the old shape.
        changes: None in the new shape.
        asset_id: Old shape only, like `hash`.
    """

    market: str = ""
    price_changes: tuple[WireChange, ...] | None = None
    timestamp: str
    changes: tuple[OldChange, ...] | None = None
    asset_id: TokenId = TokenId("")
    hash: str = ""


class LastTradeFrame(Wire, frozen=True, kw_only=True, tag_field="event_type", tag="last_trade_price"):
    """A public trade; side is the taker's."""

    asset_id: TokenId
    market: str = ""
    price: str
    size: str
    side: Side
    timestamp: str


class BestBidAskFrame(Wire, frozen=True, kw_only=True, tag_field="event_type", tag="best_bid_ask"):
    """The best prices, beside the change that made them; nothing more is taken from it."""

    market: str = ""


class NewMarketFrame(Wire, frozen=True, kw_only=True, tag_field="event_type", tag="new_market"):
    """A market was listed; told to every connection, whatever it subscribed."""

    market: str = ""
    assets_ids: tuple[str, ...] | None = None


class ResolvedFrame(Wire, frozen=True, kw_only=True, tag_field="event_type", tag="market_resolved"):
    """A market is over. Production may never send it.

    Attributes:
        winning_asset_id: "" when the outcomes share the dollar.
    """

    market: str = ""
    assets_ids: tuple[str, ...] | None = None
    winning_asset_id: str = ""


class TickSizeFrame(Wire, frozen=True, kw_only=True, tag_field="event_type", tag="tick_size_change"):
    """The price grid of a token changed."""

    asset_id: TokenId
    market: str = ""
    new_tick_size: str
    timestamp: str


MarketFrame = (
    BookFrame | PriceChangeFrame | LastTradeFrame | TickSizeFrame | BestBidAskFrame | NewMarketFrame | ResolvedFrame
)

# --- user channel and private lists ----------------------------------------------------------------------------------


class OrderRow(Wire, frozen=True, kw_only=True):
    """One of our orders, as listed by `/data/orders`.

    Attributes:
        status: With or without the prefix ORDER_STATUS_; a whole sentence may follow CANCELED_.
        size_matched: Cumulative shares; "" on an order that was killed.
    """

    id: str
    asset_id: TokenId
    side: Side
    price: str
    original_size: str
    size_matched: str
    status: str = ""
    order_type: str = ""


class OrderFrame(OrderRow, frozen=True, kw_only=True, tag_field="event_type", tag="order"):
    """One of our orders, pushed.

    Attributes:
        type: PLACEMENT, UPDATE or CANCELLATION.
    """

    type: str


class MakerOrder(Wire, frozen=True, kw_only=True):
    """One resting order's part of a trade: perhaps ours, perhaps another's.

    Attributes:
        side: Left out by some answers; then it follows from the tokens (see `fills`).
    """

    order_id: str
    matched_amount: str
    price: str
    asset_id: TokenId
    owner: str | None = None
    maker_address: str | None = None
    side: Side | None = None


class TradeRow(Wire, frozen=True, kw_only=True):
    """One trade, as listed by `/data/trades`; the top level describes the taker.

    Attributes:
        trader_side: OUR role, TAKER or MAKER.
        match_time: Unix seconds as text.
        matchtime: Another spelling of it, of which one may stand alone.
        timestamp: Unix milliseconds as text, on the user channel only.
    """

    id: str
    taker_order_id: str
    asset_id: TokenId
    side: Side
    size: str
    price: str
    status: str
    trader_side: str = ""
    owner: str | None = None
    maker_orders: tuple[MakerOrder, ...] | None = None
    match_time: str = ""
    matchtime: str = ""
    timestamp: str = ""


class TradeFrame(TradeRow, frozen=True, kw_only=True, tag_field="event_type", tag="trade"):
    """One trade, pushed again at each settlement step."""


UserFrame = OrderFrame | TradeFrame

# --- answers of requests ---------------------------------------------------------------------------------------------


class Page(Wire, Generic[T], frozen=True, kw_only=True):
    """One page of a list; the cursor "LTE=" (or none) means the end."""

    data: tuple[T, ...]
    next_cursor: str | None = None


class Complaint(Wire, frozen=True, kw_only=True):
    """Any of the shapes in which errors are told."""

    error: str | None = None
    errorMsg: str | None = None  # noqa: N815 - their spelling
    error_msg: str | None = None
    code: str | None = None
    retry_after_seconds: Decimal | None = None
    heartbeat_id: str | None = None

    @property
    def text(self) -> str:
        """The error as said, "" when none is."""
        return self.errorMsg or self.error or self.error_msg or ""


class OrderAnswer(Complaint, frozen=True, kw_only=True):
    """The answer to `POST /order`; `success` alone proves nothing."""

    success: bool = False
    orderID: str | None = None  # noqa: N815 - their spelling
    status: str | None = None


class CancelAnswer(Complaint, frozen=True, kw_only=True):
    """The answer to a cancel: an id not cancelled is no error status."""

    canceled: tuple[str, ...] | None = None
    not_canceled: dict[str, str] | None = None


class BalanceAnswer(Wire, frozen=True, kw_only=True):
    """A balance in base units (millionths)."""

    balance: str


class HeartbeatAnswer(Wire, frozen=True, kw_only=True):
    """The id to send with the next heartbeat."""

    heartbeat_id: str


class KeyAnswer(Wire, frozen=True, kw_only=True):
    """API credentials; decoded straight into `ApiCredentials` and dropped."""

    apiKey: str  # noqa: N815 - their spelling
    secret: str
    passphrase: str


class VersionAnswer(Wire, frozen=True, kw_only=True):
    """The order protocol in force for CTF tokens."""

    version: int


class TickSizeAnswer(Wire, frozen=True, kw_only=True):
    """The tick in force: the freshest source."""

    minimum_tick_size: Decimal


class NegRiskAnswer(Wire, frozen=True, kw_only=True):
    """Which contract a token's orders are signed for."""

    neg_risk: bool


class ClosedOnlyAnswer(Wire, frozen=True, kw_only=True):
    """Whether the account may only reduce."""

    closed_only: bool


class GeoblockAnswer(Wire, frozen=True, kw_only=True):
    """Whether this place may trade at all."""

    blocked: bool
    country: str = ""


class ClobToken(Wire, frozen=True, kw_only=True):
    """One outcome of a market: id and label."""

    t: str
    o: str = ""


class FeeDetails(Wire, frozen=True, kw_only=True):
    """Taker fee: rate and exponent."""

    r: Decimal = Decimal(0)
    e: Decimal = Decimal(1)


class ClobMarket(Wire, frozen=True, kw_only=True):
    """Trading parameters of a market, keys abbreviated by them; a missing key means false or none.

    Attributes:
        c: Condition id.
        t: Both tokens, YES (or the first named side) first.
        mos: Smallest order in shares.
        fd: Taker fee.
        mts: Tick, dollars.
        ao: Accepting orders.
        v: "v2" for markets of protocol V2, whose orders are signed differently.
        nr: Neg-risk.
    """

    c: str
    t: tuple[ClobToken, ClobToken]
    mos: Decimal = Decimal(5)
    mts: Decimal | None = None
    fd: FeeDetails | None = None
    ao: bool = False
    v: str = "v1"
    nr: bool = False


class FullToken(Wire, frozen=True, kw_only=True):
    """One outcome in the long description of a market."""

    winner: bool = False


class FullMarket(Wire, frozen=True, kw_only=True):
    """The long description of a market; its name and its end are taken from here.

    Attributes:
        closed: Trading is over.
        is_50_50_outcome: It was decided, and for neither.
        tokens: Once it is decided one of them has won.
    """

    market_slug: str = ""
    closed: bool = False
    is_50_50_outcome: bool = False
    tokens: tuple[FullToken, ...] = ()


# --- decoding --------------------------------------------------------------------------------------------------------

RAWS: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])
"""Takes a list apart and leaves its rows as they are, for one that cannot be read concerns itself alone."""


def decode(decoder: msgspec.json.Decoder[T], content: bytes | str) -> T:
    """Decode one payload.

    Raises:
        BadFrame: It is not what the decoder wants.
    """
    return _decoded(decoder.decode, content)


def _decoded(decode_one: Callable[[bytes | str], T], content: bytes | str) -> T:
    try:
        return decode_one(content)
    except UNDECODABLE as error:
        raise BadFrame(f"{type(error).__name__}: {str(error)[:200]}") from error


class _Head(Wire, frozen=True, kw_only=True):
    event_type: str = ""


_HEAD: msgspec.json.Decoder[_Head] = msgspec.json.Decoder(_Head)


class FrameDecoder(Generic[T]):
    """Decodes the frames of one channel: one object or an array of them, of event types we know or not.

    Attributes:
        unknown: How many events of a type we do not use were passed over so far.
    """

    def __init__(self, union: Any, *, usual: Any = None) -> None:
        """Prepare the decoders.

        Args:
            union: Union of the tagged structs of the channel.
            usual: The one that comes most; only speed depends on it.
        """
        self._many: Callable[[bytes | str], list[T]] = msgspec.json.Decoder(list[union]).decode
        self._one: Callable[[bytes | str], T] = msgspec.json.Decoder(union).decode
        self._tags = {member.__struct_config__.tag for member in union.__args__}
        # Their last key is the tag. A decoder of the union searches for it first, which costs half as much again; one
        # that was told what to expect still refuses another tag.
        self._usual: Callable[[bytes | str], T] = msgspec.json.Decoder(usual or union).decode
        self._usual_end = f',"event_type":"{usual.__struct_config__.tag}"}}' if usual else "}"
        self.unknown = 0

    def decode(self, text: str) -> list[T]:
        """Decode one frame.

        Raises:
            BadFrame: Not JSON, or an event of a known type with a wrong shape; nothing of the frame is returned.
        """
        try:
            if text.endswith(self._usual_end):
                return [self._usual(text)]
            return [self._one(text)] if text.startswith("{") else self._many(text)
        except UNDECODABLE:
            return self._sift(text)

    # The slow path takes the frame apart, so that one unknown event does not hide the known ones beside it.
    def _sift(self, text: str) -> list[T]:
        raws = decode(RAWS, text if text.lstrip()[:1] == "[" else f"[{text}]")
        known = [raw for raw in raws if decode(_HEAD, bytes(raw)).event_type in self._tags]
        self.unknown += len(raws) - len(known)
        return [_decoded(self._one, bytes(raw)) for raw in known]


def market_decoder() -> FrameDecoder[MarketFrame]:
    """Make a decoder for the market channel."""
    return FrameDecoder(MarketFrame, usual=PriceChangeFrame)
