"""Ids and enumerations that messages are made of, and the base of all messages."""

from __future__ import annotations

from enum import StrEnum
from typing import NewType

import msgspec

ClientOrderId = NewType("ClientOrderId", str)
ExchangeOrderId = NewType("ExchangeOrderId", str)
TradeId = NewType("TradeId", str)
StrategyName = NewType("StrategyName", str)


class Side(StrEnum):
    """Side of an order on its own token."""

    BUY = "BUY"
    SELL = "SELL"

    # An enum hashes its name in Python, 150 ns, and sides are keys on every hot path; the text's own hash is equal.
    __hash__ = str.__hash__

    @property
    def opposite(self) -> Side:
        """The other side."""
        return Side.SELL if self is Side.BUY else Side.BUY


class OrderType(StrEnum):
    """Time in force. GTC/GTD rest; FAK fills what it can at once; FOK all at once or nothing."""

    GTC = "GTC"
    GTD = "GTD"
    FAK = "FAK"
    FOK = "FOK"


class Role(StrEnum):
    """Our part in a trade."""

    MAKER = "MAKER"
    TAKER = "TAKER"


class Settlement(StrEnum):
    """On-chain life of a trade, apart from the life of its orders (see `core.positions.SETTLEMENT_STEPS`)."""

    MATCHED = "MATCHED"
    MINED = "MINED"
    CONFIRMED = "CONFIRMED"
    RETRYING = "RETRYING"
    FAILED = "FAILED"


class RejectCode(StrEnum):
    """Why an order was refused, as far as the bot must tell the cases apart."""

    POST_ONLY_WOULD_CROSS = "post_only_would_cross"
    NOT_ENOUGH_BALANCE = "not_enough_balance"
    OFF_GRID = "off_grid"
    TOO_SMALL = "too_small"
    DUPLICATE = "duplicate"
    NOT_FILLED = "not_filled"  # FAK or FOK that found no match
    VERSION_MISMATCH = "version_mismatch"
    MARKET_NOT_READY = "market_not_ready"
    RATE_LIMITED = "rate_limited"  # refused before it reached the engine
    RESTARTING = "restarting"  # the engine is down for some minutes; then only post-only orders are taken for a while
    POST_ONLY_MODE = "post_only_mode"
    CANCEL_ONLY = "cancel_only"
    TRADING_DISABLED = "trading_disabled"  # not even cancels
    UNAVAILABLE = "unavailable"  # for want of a connection, or for no reason we know: the order is not on the book
    EXPIRED_UNSENT = "expired_unsent"  # refused by ourselves: too old when its turn came
    NOT_AUTHORIZED = "not_authorized"  # credentials or clock
    BAD_SIGNATURE = "bad_signature"  # key, wallet, kind of wallet or contract
    BANNED = "banned"
    CLOSED_ONLY = "closed_only"  # the account may only reduce
    BLOCKED = "blocked"  # by the edge in front of the exchange: geoblock or its like
    BAD_AMOUNTS = "bad_amounts"  # decimals or a price that the engine does not take
    BAD_EXPIRATION = "bad_expiration"
    MALFORMED = "malformed"  # our bug, or their new rule
    OTHER = "other"


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Base of all messages: frozen, keyword-only, tagged with the class name."""
