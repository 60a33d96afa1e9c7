"""What can be traded, as the catalogue lists it: pure selection over its rows.

The catalogue is a cache, a minute or more behind: it says what exists, never on which terms. Those come from the CLOB.
Source: polymarket API reference, Gamma, and rows captured in March and May 2026.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

import msgspec

from tbot.core.market import MarketId, TokenId
from tbot.core.units import MICRO, Notional
from tbot.errors import BadFrame
from tbot.exchanges.polymarket.wire import Wire, decode

PROTOCOLS: Final = ("v1", "v2")
# "0x" and 62 hex digits: how the catalogue spells the condition of a V2 market, without the zero byte at its end.
_SHORT_LENGTH: Final = 64
_CONDITION_ID: Final = re.compile("0x(?:[0-9a-fA-F]{2}){31,32}")
_AMOUNT_MAX: Final = Decimal(10**12)

_TEXTS = msgspec.json.Decoder(tuple[str, ...])


class RewardRow(Wire, frozen=True, kw_only=True, rename="camel"):
    """What one sponsor pays a day for resting orders.

    Attributes:
        end_date: ISO date of the last day; None = without end.
    """

    rewards_daily_rate: Decimal = Decimal(0)
    end_date: str | None = None


class EventName(Wire, frozen=True, kw_only=True, rename="camel"):
    """The event that a market belongs to."""

    slug: str = ""


class MarketRow(Wire, frozen=True, kw_only=True, rename="camel"):
    """One market as the catalogue sends it; any field may be missing, and most may be null.

    Attributes:
        version: "v1" or "v2"; missing on old rows.
        condition_id: 64 hex digits, or 62 on V2.
        clob_token_ids: A JSON array inside a text; null on V2.
        position_ids: Of V2 only.
        liquidity_num: Dollars near the best prices.
        rewards_min_size: Shares; 0 = orders earn nothing.
        rewards_max_spread: Cents from the middle; 0 = orders earn nothing.
        clob_rewards: Who pays what; left out where the row stands inside an event.
        group_item_title: What the market is called inside its event.
    """

    question: str | None = None
    slug: str | None = None
    version: str | None = None
    condition_id: str
    outcomes: str | None = None
    clob_token_ids: str | None = None
    position_ids: tuple[str, ...] | None = None
    active: bool | None = None
    closed: bool | None = None
    accepting_orders: bool | None = None
    enable_order_book: bool | None = None
    neg_risk: bool | None = None
    neg_risk_market_id: str | None = msgspec.field(name="negRiskMarketID", default=None)
    liquidity_num: Decimal | None = None
    end_date: datetime | None = None
    rewards_min_size: Decimal | None = None
    rewards_max_spread: Decimal | None = None
    clob_rewards: tuple[RewardRow, ...] | None = None
    group_item_title: str | None = None
    events: tuple[EventName, ...] | None = None


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """A market of the catalogue. All text is from outside: clean it before it is shown.

    Attributes:
        market_id: Condition id as the CLOB spells it.
        slug: Short name, part of the market's address on the web.
        question: What is asked.
        title: What it is called inside its event; "" = it stands alone.
        event_slug: The event it belongs to.
        protocol: "v1", "v2", or "" where the catalogue does not say.
        outcomes: Labels, first side first.
        tokens: Ids in the order of the outcomes; () while the exchange has none.
        is_active: Opened and not closed.
        is_ready: Orders can be placed, and we know by which protocol.
        is_neg_risk: Whether only one market of its group can resolve YES.
        group_id: Names that group; "" = none.
        liquidity: Micro-dollars, rounded down.
        end: When the question should be decided; None = not said.
        reward_daily: Micro-dollars a day for resting orders, all sponsors together; 0 = none, or not told in this row.
        has_rewards: Whether resting orders earn, as far as the row tells.
    """

    market_id: MarketId
    slug: str
    question: str
    title: str
    event_slug: str
    protocol: str
    outcomes: tuple[str, ...]
    tokens: tuple[TokenId, ...]
    is_active: bool
    is_ready: bool
    is_neg_risk: bool
    group_id: str
    liquidity: Notional
    end: datetime | None
    reward_daily: Notional
    has_rewards: bool


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a market must be to be chosen; ready to trade in any case.

    Attributes:
        liquidity_min: Micro-dollars.
        ends_before: It must end earlier than this; None = whenever.
        is_rewarded: Whether resting orders must earn rewards.
    """

    liquidity_min: Notional = Notional(0)
    ends_before: datetime | None = None
    is_rewarded: bool = False

    def takes(self, listing: Listing) -> bool:
        """Tell whether a market is one of those."""
        if not listing.is_ready or listing.liquidity < self.liquidity_min:
            return False
        if self.is_rewarded and not listing.has_rewards:
            return False
        return self.ends_before is None or (listing.end is not None and listing.end < self.ends_before)


def chosen(listings: Iterable[Listing], wanted: Wanted) -> tuple[Listing, ...]:
    """Choose, without repetition, the most liquid first; equals stand by slug."""
    found = {each.market_id: each for each in listings if wanted.takes(each)}
    return tuple(sorted(found.values(), key=lambda each: (-each.liquidity, each.slug)))


def groups(listings: Iterable[Listing]) -> dict[str, tuple[Listing, ...]]:
    """Gather neg-risk markets by the group of which one alone can resolve YES; others are left out."""
    found: dict[str, tuple[Listing, ...]] = {}
    for each in listings:
        if each.is_neg_risk and each.group_id:
            found[each.group_id] = (*found.get(each.group_id, ()), each)
    return found


def listing_of(row: MarketRow, *, today: str, event_slug: str = "") -> Listing:
    """Read one row.

    Args:
        row: As sent.
        today: ISO date; rewards that ended before do not count.
        event_slug: The event whose row this one stands in; "" = the row names its own.

    Raises:
        BadFrame: A text that should hold a JSON array does not, or an amount that cannot be.
    """
    is_active = row.active is True and not row.closed
    protocol = row.version or ""
    daily = _daily(row.clob_rewards or (), today)
    has_rule = bool(row.rewards_min_size and row.rewards_max_spread)
    return Listing(
        market_id=clob_spelling(row.condition_id),
        slug=row.slug or "",
        question=row.question or "",
        title=row.group_item_title or "",
        event_slug=event_slug or (row.events[0].slug if row.events else ""),
        protocol=protocol,
        outcomes=_texts(row.outcomes),
        tokens=tuple(map(TokenId, row.position_ids or _texts(row.clob_token_ids))),
        is_active=is_active,
        # Without its protocol nobody can sign an order for it; the catalogue says it once the market is set up.
        is_ready=is_active and bool(row.accepting_orders and row.enable_order_book) and protocol in PROTOCOLS,
        is_neg_risk=bool(row.neg_risk),
        group_id=row.neg_risk_market_id or "",
        liquidity=_micro(row.liquidity_num or Decimal(0)),
        end=_aware(row.end_date),
        reward_daily=daily,
        has_rewards=has_rule if row.clob_rewards is None else has_rule and daily > 0,
    )


def is_condition_id(name: str) -> bool:
    """Tell whether a market is named by its condition id, in either spelling, and not by its slug."""
    return _CONDITION_ID.fullmatch(name) is not None


def clob_spelling(condition_id: str) -> MarketId:
    """Spell a condition id as the CLOB does: on V2 it has a zero byte more than in the catalogue."""
    return MarketId(condition_id + "00" if len(condition_id) == _SHORT_LENGTH else condition_id)


def gamma_spellings(market_id: MarketId) -> Sequence[str]:
    """Give the ways in which the catalogue may spell a market's id, the likelier first."""
    return (market_id, market_id[:-2]) if market_id.endswith("00") else (market_id,)


def _texts(text: str | None) -> tuple[str, ...]:
    return decode(_TEXTS, text) if text else ()


def _daily(rewards: Sequence[RewardRow], today: str) -> Notional:
    running = (each for each in rewards if each.end_date is None or each.end_date[:10] >= today)
    return Notional(sum(_micro(each.rewards_daily_rate) for each in running))


# Sums of the catalogue come with more decimals than money has.
def _micro(dollars: Decimal) -> Notional:
    if not dollars.is_finite() or not 0 <= dollars <= _AMOUNT_MAX:
        raise BadFrame(f"not an amount: {dollars}")
    return Notional(int(dollars * MICRO))


def _aware(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
