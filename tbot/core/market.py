"""Reference data: what is traded, on which grid, at what fee.

A market is a question with two outcome tokens; index 0 is YES (or the first named side), index 1 is NO.
Source: polymarket docs, `GET /clob-markets/{condition_id}` (read 2026-11-22).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NewType

import msgspec

from tbot.core.units import MICRO, Notional, Price, Size, text_from_micro

TokenId = NewType("TokenId", str)
MarketId = NewType("MarketId", str)
# Stands for the collateral among the assets of an account; no token id of an exchange is a word.
CASH: Final = TokenId("cash")


class Outcome(StrEnum):
    """The two outcomes of a binary market."""

    YES = "YES"
    NO = "NO"


class FeeSchedule(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Taker fee of one market: size x rate x (p x (1 - p)) ** exponent; makers pay nothing.

    Attributes:
        rate_micro: Rate in millionths, 40_000 = 0.04.
        exponent: Exponent of p x (1 - p); 1 in every category seen (2026-11).
    """

    rate_micro: int = 0
    exponent: int = 1


NO_FEE = FeeSchedule()


class Market(msgspec.Struct, frozen=True, kw_only=True):
    """One binary market and its trading rules.

    Attributes:
        market_id: The exchange's id of the question (condition id on Polymarket).
        slug: Short human name; text from outside, stripped of control characters before it is shown.
        yes: Token of outcome index 0.
        no: Token of outcome index 1.
        tick: Smallest price step, micro-dollars; may change while trading.
        size_min: Smallest limit order, micro-shares.
        size_lot: Step of order sizes, micro-shares.
        notional_min: Smallest marketable order, micro-dollars.
        fee: Taker fee schedule.
        is_neg_risk: Whether orders are signed for the neg-risk exchange contract.
        is_accepting_orders: False before opening, while paused, and after closing.
        is_closed: Trading is over, though until it is resolved the exchange may open it again.
        is_resolved: Its outcome is decided: it will never trade again.
    """

    market_id: MarketId
    slug: str
    yes: TokenId
    no: TokenId
    tick: Price
    size_min: Size = Size(5 * MICRO)
    size_lot: Size = Size(10_000)
    notional_min: Notional = Notional(MICRO)
    fee: FeeSchedule = NO_FEE
    is_neg_risk: bool = False
    is_accepting_orders: bool = True
    is_closed: bool = False
    is_resolved: bool = False

    @property
    def tokens(self) -> tuple[TokenId, TokenId]:
        """Both tokens, YES first."""
        return (self.yes, self.no)

    def outcome_of(self, token_id: TokenId) -> Outcome:
        """Name the outcome of one of this market's tokens."""
        return Outcome.YES if token_id == self.yes else Outcome.NO

    def other(self, token_id: TokenId) -> TokenId:
        """Return the opposite token of the pair."""
        return self.no if token_id == self.yes else self.yes


class MarketName(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a market is called, kept beside its tokens so that people can read of them when nobody can be asked."""

    market_id: MarketId
    slug: str
    yes: TokenId
    no: TokenId


def name_of(market: Market) -> MarketName:
    """Leave out the terms of a market, which are true only for a while."""
    return MarketName(market_id=market.market_id, slug=market.slug, yes=market.yes, no=market.no)


def nameless_of(token_id: TokenId) -> MarketName:
    """Stand in for the market of a token of which nothing is known: the token alone."""
    return MarketName(market_id=MarketId(""), slug="", yes=token_id, no=token_id)


def market_named(name: MarketName) -> Market:
    """Make a market of which only the name is known; it takes no orders."""
    return Market(
        market_id=name.market_id,
        slug=name.slug,
        yes=name.yes,
        no=name.no,
        tick=Price(10_000),
        is_accepting_orders=False,
    )


def difference(before: Market, after: Market) -> str:
    """Say in a few words what changed in the terms of a market; "" when nothing that matters for trading did.

    The tick is left out: it is told with the book.
    """
    changes = []
    if after.is_resolved and not before.is_resolved:
        changes.append("closed for good")
    elif after.is_closed != before.is_closed:
        changes.append("closed" if after.is_closed else "open again")
    elif after.is_accepting_orders != before.is_accepting_orders:
        changes.append("takes orders again" if after.is_accepting_orders else "takes no orders")
    if after.fee != before.fee:
        changes.append(f"taker fee {_fee_text(before.fee)} -> {_fee_text(after.fee)}")
    if after.size_min != before.size_min:
        changes.append(f"smallest order {text_from_micro(before.size_min)} -> {text_from_micro(after.size_min)}")
    if after.is_neg_risk != before.is_neg_risk:
        changes.append(f"traded on the {'neg-risk' if after.is_neg_risk else 'plain'} contract")
    if after.notional_min != before.notional_min:
        changes.append(f"least value {text_from_micro(before.notional_min)} -> {text_from_micro(after.notional_min)}")
    return ", ".join(changes)


def is_same_asset(one: Market, two: Market) -> bool:
    """Whether both are about the same tokens; the contract that they are traded on may be another."""
    return (one.market_id, one.tokens) == (two.market_id, two.tokens)


def _fee_text(fee: FeeSchedule) -> str:
    power = "" if fee.exponent == 1 else f" to the power of {fee.exponent}"
    return f"{text_from_micro(fee.rate_micro)}{power}"


def fee_taker_floor(price: Price, size: Size, schedule: FeeSchedule) -> Notional:
    """Compute the taker fee of one fill, floored at five decimals as the exchange charges it.

    Args:
        price: Trade price of the taker's own token, micro-dollars.
        size: Micro-shares.
        schedule: The market's schedule.

    Returns:
        Micro-dollars, a multiple of 10 (five decimals of a dollar).
    """
    e = schedule.exponent
    numerator = size * schedule.rate_micro * (price * (MICRO - price)) ** e
    return Notional(numerator // (MICRO ** (1 + 2 * e) * 10) * 10)
