"""The custom events of the market channel, as Polymarket spells them: best bid and ask, new market, market resolved.

Keys, their order and types are those of captures (`best_bid_ask` 2026-04-21, `new_market` 2026-04-29); of
`market_resolved` only an edited message is known, and users report that production may never send it.
"""

from __future__ import annotations

import msgspec

from tbot.core.market import TokenId
from tbot.core.units import MICRO, Price, complement, text_from_micro
from tbot.exchanges.simulated.catalog import EventListing, Listing
from tbot.exchanges.simulated.descriptions import spaced_stamp
from tbot.exchanges.simulated.events import MarketOpened, MarketResolved, TopChanged
from tbot.exchanges.simulated.operations import MarketRules
from tbot.exchanges.simulated.wire_markets import OUTCOMES, fee_bps_shown


class BestBidAsk(msgspec.Struct, frozen=True, kw_only=True):
    """Best prices of one token."""

    market: str
    asset_id: str
    best_bid: str
    best_ask: str
    spread: str
    timestamp: str
    event_type: str = "best_bid_ask"


class EventMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The event that a market is part of; one that stands alone is an event of its own."""

    id: str
    ticker: str
    slug: str
    title: str
    description: str


class WireSchedule(msgspec.Struct, frozen=True, kw_only=True):
    """The fee schedule; numbers are text."""

    exponent: str
    rate: str
    taker_only: bool = True
    rebate_rate: str


class NewMarket(msgspec.Struct, frozen=True, kw_only=True):
    """A market was listed."""

    id: str
    question: str
    market: str
    slug: str
    description: str
    assets_ids: tuple[str, str]
    outcomes: tuple[str, str] = OUTCOMES
    event_message: EventMessage
    timestamp: str
    event_type: str = "new_market"
    tags: tuple[str, ...] = ()
    condition_id: str
    active: bool
    clob_token_ids: tuple[str, str]
    sports_market_type: str = ""
    line: str = ""
    game_start_time: str
    order_price_min_tick_size: str
    group_item_title: str = ""
    taker_base_fee: str
    fees_enabled: bool
    fee_schedule: WireSchedule | None


class ResolvedMarket(msgspec.Struct, frozen=True, kw_only=True):
    """A market is over; both names are "" when the outcomes share the dollar."""

    event_type: str = "market_resolved"
    id: str
    market: str
    assets_ids: tuple[str, str]
    winning_asset_id: str
    winning_outcome: str
    timestamp: str
    tags: tuple[str, ...] = ()


def best_bid_asks(event: TopChanged) -> tuple[BestBidAsk, BestBidAsk]:
    """Make the frames of both tokens, YES first. An empty side is told as in `price_change`: 0 or 1."""
    bid, ask = event.best_bid or Price(0), Price(MICRO) if event.best_ask is None else event.best_ask
    return (
        _best_bid_ask(event, event.yes, bid=bid, ask=ask),
        _best_bid_ask(event, event.no, bid=complement(ask), ask=complement(bid)),
    )


def new_market(event: MarketOpened, event_listing: EventListing, listing: Listing) -> NewMarket:
    """Make the frame of a market just listed, with the numbers and words of the catalogue."""
    rules, subject = event.rules, listing.subject
    tokens = (str(rules.yes), str(rules.no))
    return NewMarket(
        id=str(listing.number),
        question=subject.title,
        market=rules.market_id,
        slug=rules.slug,
        description=subject.text,
        assets_ids=tokens,
        event_message=EventMessage(
            id=str(event_listing.number),
            ticker=event_listing.subject.slug,
            slug=event_listing.subject.slug,
            title=event_listing.subject.title,
            description=event_listing.subject.text,
        ),
        timestamp=str(event.exchange_ms),
        condition_id=rules.market_id,
        active=rules.is_accepting_orders,
        clob_token_ids=tokens,
        game_start_time=spaced_stamp(listing.game_start) if listing.game_start else "",
        order_price_min_tick_size=text_from_micro(rules.tick),
        group_item_title=subject.group_title,
        taker_base_fee=str(fee_bps_shown(rules)),
        fees_enabled=rules.fee_rate_micro > 0,
        fee_schedule=_schedule(rules) if rules.fee_rate_micro else None,
    )


def resolved_market(event: MarketResolved, listing: Listing) -> ResolvedMarket:
    """Make the frame of a market that is over."""
    winner = {MICRO: 0, 0: 1}.get(event.yes_payout)
    tokens = (str(listing.rules.yes), str(listing.rules.no))
    return ResolvedMarket(
        id=str(listing.number),
        market=event.market_id,
        assets_ids=tokens,
        winning_asset_id="" if winner is None else tokens[winner],
        winning_outcome="" if winner is None else OUTCOMES[winner],
        timestamp=str(event.exchange_ms),
        tags=tuple(tag.slug for tag in listing.tags),
    )


def _schedule(rules: MarketRules) -> WireSchedule:
    return WireSchedule(
        exponent=str(rules.fee_exponent),
        rate=text_from_micro(rules.fee_rate_micro),
        rebate_rate=text_from_micro(rules.rebate_share_micro),
    )


def _best_bid_ask(event: TopChanged, token_id: TokenId, *, bid: int, ask: int) -> BestBidAsk:
    return BestBidAsk(
        market=event.market_id,
        asset_id=token_id,
        best_bid=text_from_micro(bid),
        best_ask=text_from_micro(ask),
        spread=text_from_micro(ask - bid),
        timestamp=str(event.exchange_ms),
    )
