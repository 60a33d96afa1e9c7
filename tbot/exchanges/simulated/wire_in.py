"""Bodies that clients send, as structs: strict on types, tolerant of extra fields.

Names are Polymarket's own in camel case. An amount is text of base units (millionths); what an order wants is derived
here once, in integers, for the engine to judge.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Literal, TypeVar

import msgspec

from tbot.core.messages import OrderType, Side
from tbot.core.units import MICRO, Notional, Price, Size, text_from_micro
from tbot.exchanges.simulated.http import HttpRefusal

T = TypeVar("T")

ORDERS_PER_POST_MAX = 15
IDS_PER_CANCEL_MAX = 1000
BOOKS_PER_REQUEST_MAX = 500
# Production documents no limit; this one is that of books.
IDS_PER_SCORING_MAX = 500
# What one reader of the user channel may name, listed here or not: far more than a client follows, in 200 KB of memory.
MARKETS_PER_READER_MAX = 1_000

# A million million dollars: beyond every balance, and still inside the 64 bits of a log record.
AMOUNT_END = 10**18
FAR_AMOUNT_STEP = 100
FAR_AMOUNT_STEPS = {Price(100_000): 1_000}
"""Last decimal of the far amount where clients round to fewer than four: on the widest tick."""

TEXT_PAYLOAD = "Invalid order payload"
TEXT_MARKET_BUY_PRECISION = (
    "invalid amounts, the market buy orders maker amount supports a max accuracy of 2 decimals, "
    "taker amount a max of 4 decimals"
)
TEXT_MARKET_SELL_PRECISION = (
    "invalid amounts, the market sell orders maker amount supports a max accuracy of 2 decimals, "
    "taker amount a max of 4 decimals"
)

# 78 digits hold every 256-bit number; a longer text is refused before it becomes a number.
# A pattern ends in \Z, since $ lets a last line break pass.
Digits = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,78}\Z")]
Address = Annotated[str, msgspec.Meta(pattern=r"^0x[0-9a-fA-F]{40}\Z")]
Bytes32 = Annotated[str, msgspec.Meta(pattern=r"^0x[0-9a-fA-F]{64}\Z")]
HexText = Annotated[str, msgspec.Meta(pattern=r"^0x([0-9a-fA-F]{2}){1,1024}\Z")]
# A condition id is 66 characters; whether there is such a market is another question.
MarketName = Annotated[str, msgspec.Meta(max_length=66)]
Uint256 = Annotated[int, msgspec.Meta(ge=0)]


class SignatureType(IntEnum):
    """Who holds the money of an order, and how its owner signs."""

    EOA = 0
    POLY_PROXY = 1
    POLY_GNOSIS_SAFE = 2
    POLY_1271 = 3


class SignedOrder(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The signed part of an order, V2 struct; the optional fields tell a dead V1 order.

    Attributes:
        maker: Wallet that holds the money.
        signer: Key that signs; the wallet itself for `POLY_1271`.
        maker_amount: What the maker gives, base units.
        taker_amount: What the maker wants, base units.
        expiration: Unix seconds, "0" = none. Not covered by the signature.
        timestamp: Creation time, milliseconds. Absent in V1.
        nonce: Present in V1 only.
    """

    salt: Uint256
    maker: Address
    signer: Address
    token_id: Digits
    maker_amount: Digits
    taker_amount: Digits
    side: Side
    signature_type: SignatureType
    signature: HexText
    expiration: Digits = "0"
    timestamp: Digits | None = None
    metadata: Bytes32 = "0x" + 64 * "0"
    builder: Bytes32 = "0x" + 64 * "0"
    nonce: str | None = None

    @property
    def is_v1(self) -> bool:
        """Whether this is an order of the retired protocol."""
        return self.timestamp is None or self.nonce is not None


class PostOrder(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Body of `POST /order`. `owner` is the API key; `defer_exec` is accepted and changes nothing here."""

    order: SignedOrder
    owner: str
    order_type: OrderType = OrderType.GTC
    post_only: bool = False
    defer_exec: bool = False


class CancelOne(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `DELETE /order`."""

    order_id: str = msgspec.field(name="orderID")


class CancelMarket(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `DELETE /cancel-market-orders`; "" = not given."""

    market: str = ""
    asset_id: str = ""


class BookRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of `POST /books` and of the price lists; only `/prices` looks at the side."""

    token_id: str
    side: str = ""


class MarketSubscription(msgspec.Struct, frozen=True, kw_only=True):
    """First frame of the market channel; null is the default of its key.

    Attributes:
        initial_dump: Whether the books are sent at once; by default they are.
        custom_feature_enabled: Whether best bid and ask, new and resolved markets are told as well; by default not.
        level: 1, 2 or 3; only 2 is documented, so all are answered like it.
    """

    assets_ids: list[str]
    type: Literal["market"] = "market"
    initial_dump: bool | None = True
    custom_feature_enabled: bool | None = False
    level: int | None = 2


class UserAuth(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Credentials in the clear, as the protocol wants them; never logged."""

    api_key: str
    secret: str
    passphrase: str


class UserSubscription(msgspec.Struct, frozen=True, kw_only=True):
    """First frame of the user channel; no markets = all markets."""

    auth: UserAuth
    type: Literal["user"] = "user"
    markets: Annotated[list[MarketName], msgspec.Meta(max_length=MARKETS_PER_READER_MAX)] | None = None


class SubscriptionChange(msgspec.Struct, frozen=True, kw_only=True):
    """Later frames of both channels: `assets_ids` on the market channel, `markets` on the user channel."""

    operation: Literal["subscribe", "unsubscribe"]
    assets_ids: list[str] = msgspec.field(default_factory=list)
    markets: list[MarketName] = msgspec.field(default_factory=list)
    custom_feature_enabled: bool | None = None


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """Body of `POST /v1/heartbeats`; "" or null starts a chain."""

    heartbeat_id: str | None = ""


class Wish(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a signed order asks of the engine.

    Attributes:
        price: Limit price, micro-dollars; may be off the grid, which the engine refuses.
        size: Micro-shares wanted (BUY) or given (SELL); 0 with a budget.
        budget: Micro-dollars a FAK or FOK BUY spends; 0 = the order counts shares.
    """

    price: Price
    size: Size
    budget: Notional


def decode(body: bytes | str, kind: type[T], *, refusal: str) -> T:
    """Decode a JSON body.

    Raises:
        HttpRefusal: 400 with the given text, whatever is wrong with the body.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HttpRefusal(refusal) from error


def wish_of(order: SignedOrder, order_type: OrderType, *, tick: Price) -> Wish:
    """Derive price and target from the signed amounts.

    The price of an order is the ratio of its amounts. Clients floor the far amount of a FAK or FOK to few decimals,
    which moves the ratio by a hair; what a last decimal explains is cut off, in the direction that never betters the
    order: a BUY whose shares were rounded *up* ends one tick lower and misses, as it does in production.

    Args:
        order: Checked to be V2.
        order_type: Time in force.
        tick: Current tick of the token, micro-dollars.

    Raises:
        HttpRefusal: 400, amounts that no market takes: zero, absurdly large, or too fine.
    """
    maker, taker = int(order.maker_amount), int(order.taker_amount)
    is_buy = order.side is Side.BUY
    money, shares = (maker, taker) if is_buy else (taker, maker)
    if not (0 < money < AMOUNT_END and 0 < shares < AMOUNT_END):
        raise HttpRefusal(TEXT_PAYLOAD)
    price = money * MICRO // shares if is_buy else -(-money * MICRO // shares)
    if order_type in (OrderType.FAK, OrderType.FOK):
        meant = _without_hair(order.side, price=price, money=money, shares=shares, tick=tick)
        return _market_wish(order.side, price=meant, money=money, shares=shares)
    if money * MICRO % shares:
        raise HttpRefusal(_misfit_text(order.side, price=price, money=money, shares=shares))
    return Wish(price=Price(price), size=Size(shares), budget=Notional(0))


def _market_wish(side: Side, *, price: Price, money: int, shares: int) -> Wish:
    """Check the far amount, which the engine never sees: it has four decimals at most, on every tick."""
    if side is Side.BUY:
        if shares % FAR_AMOUNT_STEP:
            raise HttpRefusal(TEXT_MARKET_BUY_PRECISION)
        return Wish(price=price, size=Size(0), budget=Notional(money))
    if money % FAR_AMOUNT_STEP:
        raise HttpRefusal(TEXT_MARKET_SELL_PRECISION)
    return Wish(price=price, size=Size(shares), budget=Notional(0))


# How wide the hair is depends on the amounts, not on the tick: $1 at 0.96 ends 0.000061 above it.
def _without_hair(side: Side, *, price: int, money: int, shares: int, tick: Price) -> Price:
    step = FAR_AMOUNT_STEPS.get(tick, FAR_AMOUNT_STEP)
    below = price // tick * tick
    around = (below, below + tick)
    if side is Side.BUY:
        is_meant = any(abs(money * MICRO - shares * p) < step * p for p in around)
        return Price(below if is_meant else price)
    is_meant = any(abs(money * MICRO - shares * p) < step * MICRO for p in around)
    return Price(-(-price // tick) * tick if is_meant else price)


# The misspelling is the exchange's own.
def _misfit_text(side: Side, *, price: int, money: int, shares: int) -> str:
    name = "maker" if side is Side.BUY else "taker"
    return (
        f"invalid amounts, the {name} amount for a ${text_from_micro(price)} order of size {text_from_micro(shares)} "
        f"should be '{text_from_micro(price * shares // MICRO)}' but the value submited is '{text_from_micro(money)}'"
    )
