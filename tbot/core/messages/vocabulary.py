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
    UNAVAILABLE = "unavailable"  # restart, post-only or cancel-only mode: the order is not on the book
    EXPIRED_UNSENT = "expired_unsent"  # refused by ourselves: too old when its turn came
    OTHER = "other"


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Base of all messages: frozen, keyword-only, tagged with the class name."""
