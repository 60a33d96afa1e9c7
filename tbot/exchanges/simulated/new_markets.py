"""A market that the operator lists while the exchange runs: what he does not say of it is made from its slug."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tbot.core.market import MarketId, TokenId
from tbot.core.units import Nanos, Price, Size, micro_from_text
from tbot.exchanges.simulated.descriptions import OPEN_DAYS, Description, moment_at, stamp
from tbot.exchanges.simulated.operations import MarketRules

TickText = Literal["0.1", "0.01", "0.005", "0.0025", "0.001", "0.0001"]
# Beyond these nothing can be ordered, or nothing is left of the trade.
SIZE_MIN_MAX = 1_000_000_000_000
FEE_RATE_MAX = 1_000_000


class ListOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `list`: one market that stands alone.

    Attributes:
        slug: A name that no other market or event has, as addresses can carry it.
        title: Its question; "" = made from the slug.
        text: By which rules it is decided; "" = made from the title.
        category: Word of its fee type and its tag.
        tick: Price grid, dollars.
        size_min: Smallest resting order, shares.
        fee_rate: Of the taker: size x rate x p x (1 - p).
        market: Condition id; "" = made from the slug, as both tokens.
        yes: Token.
        no: Token.
    """

    slug: Annotated[str, Meta(min_length=1, max_length=200)]
    title: str = ""
    text: str = ""
    category: str = ""
    tick: TickText = "0.01"
    size_min: str = "5"
    fee_rate: str = "0"
    market: str = ""
    yes: str = ""
    no: str = ""

    def rules(self) -> MarketRules:
        """Make its rules; whether they clash with another market is not looked at.

        Raises:
            ValueError: A number is none, or out of its range.
        """
        market_id = self.market or f"0x{_digest('condition', self.slug)}"
        yes, no = (
            given or str(int(_digest(outcome, market_id), 16))
            for given, outcome in ((self.yes, "yes"), (self.no, "no"))
        )
        return MarketRules(
            market_id=MarketId(market_id),
            slug=self.slug,
            yes=TokenId(yes),
            no=TokenId(no),
            tick=Price(micro_from_text(self.tick)),
            size_min=Size(_within("size_min", self.size_min, least=1, most=SIZE_MIN_MAX)),
            fee_rate_micro=_within("fee_rate", self.fee_rate, least=0, most=FEE_RATE_MAX),
        )

    def description(self, now_ns: Nanos) -> Description:
        """Describe a market that is listed now."""
        return Description(
            slug=self.slug,
            title=self.title,
            text=self.text,
            category=self.category,
            ends=stamp(moment_at(now_ns) + timedelta(days=OPEN_DAYS)),
        )


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to `list`: what clients name the market by."""

    ok: bool = True
    market: str
    yes: str
    no: str


def _digest(kind: str, text: str) -> str:
    return hashlib.sha256(f"{kind}:{text}".encode()).hexdigest()


def _within(name: str, text: str, *, least: int, most: int) -> int:
    try:
        amount = micro_from_text(text)
    except ValueError:
        amount = least - 1
    if not least <= amount <= most:
        raise ValueError(f"expected {name} as a decimal within reason, such as 5 or 0.04; found {text!r}")
    return amount
