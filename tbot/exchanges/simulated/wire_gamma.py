"""The catalogue as Polymarket's Gamma API spells it.

Some lists are JSON text inside JSON (`outcomes`, `outcomePrices`, `clobTokenIds`), some sums come as text and as a
number, a key without a value is mostly left out. All of that is as served in recorded answers, key by key.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from tbot.core.units import MICRO, Nanos, text_from_micro
from tbot.exchanges.simulated.catalog import (
    Catalog,
    EventListing,
    Listing,
    Tag,
    neg_risk_event_id,
    question_id,
)
from tbot.exchanges.simulated.descriptions import moment_at, spaced_stamp, stamp, title_of
from tbot.exchanges.simulated.wire_markets import CENT, OUTCOMES, REWARD_ASSET, fee_bps_shown, json_number


class GammaTag(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One tag."""

    id: str
    label: str
    slug: str
    created_at: str
    updated_at: str
    requires_translation: bool = False


class GammaFees(msgspec.Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    """Fee schedule of a market."""

    exponent: int
    rate: float
    taker_only: bool = True
    rebate_rate: float


class GammaReward(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a market would pay its makers."""

    id: str
    condition_id: str
    asset_address: str
    rewards_amount: float = 0
    rewards_daily_rate: float
    start_date: str
    end_date: str = "2500-12-31"


class GammaMarket(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One market. `UNSET` keys are left out."""

    id: str
    question: str
    condition_id: str
    slug: str
    resolution_source: str = ""
    end_date: str
    liquidity: str
    start_date: str
    image: str = ""
    icon: str = ""
    description: str
    outcomes: str
    outcome_prices: str
    volume: str
    active: bool = True
    closed: bool
    market_maker_address: str = ""
    created_at: str
    updated_at: str
    closed_time: str | msgspec.UnsetType = msgspec.UNSET
    new: bool = False
    featured: bool = False
    archived: bool = False
    restricted: bool = True
    group_item_title: str | msgspec.UnsetType = msgspec.UNSET
    question_id: str = msgspec.field(name="questionID")
    enable_order_book: bool = True
    order_price_min_tick_size: float
    order_min_size: float
    volume_num: float
    liquidity_num: float
    end_date_iso: str
    start_date_iso: str
    has_reviewed_dates: bool = True
    volume24hr: float
    clob_token_ids: str | None = None
    position_ids: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    volume24hr_clob: float
    volume_clob: float
    liquidity_clob: float
    maker_base_fee: int
    taker_base_fee: int
    accepting_orders: bool
    neg_risk: bool
    neg_risk_market_id: str | msgspec.UnsetType = msgspec.field(name="negRiskMarketID", default=msgspec.UNSET)
    neg_risk_request_id: str | msgspec.UnsetType = msgspec.field(name="negRiskRequestID", default=msgspec.UNSET)
    events: tuple[GammaEvent, ...] | msgspec.UnsetType = msgspec.UNSET
    ready: bool = False
    funded: bool = False
    accepting_orders_timestamp: str
    cyom: bool = False
    pager_duty_notification_enabled: bool = False
    approved: bool = True
    clob_rewards: tuple[GammaReward, ...] | msgspec.UnsetType = msgspec.UNSET
    rewards_min_size: float
    rewards_max_spread: float
    spread: float
    last_trade_price: float
    best_bid: float | msgspec.UnsetType = msgspec.UNSET
    best_ask: float
    automatically_active: bool = True
    clear_book_on_start: bool
    game_start_time: str | msgspec.UnsetType = msgspec.UNSET
    seconds_delay: int | msgspec.UnsetType = msgspec.UNSET
    manual_activation: bool = False
    neg_risk_other: bool = False
    uma_resolution_status: str | msgspec.UnsetType = msgspec.UNSET
    uma_resolution_statuses: str | msgspec.UnsetType = msgspec.UNSET
    resolution_status: str | msgspec.UnsetType = msgspec.UNSET
    pending_deployment: bool = False
    deploying: bool = False
    rfq_enabled: bool = False
    holding_rewards_enabled: bool = False
    fees_enabled: bool
    requires_translation: bool = False
    fee_type: str | None
    fee_schedule: GammaFees | msgspec.UnsetType = msgspec.UNSET
    version: str = "v1"
    tags: tuple[GammaTag, ...] | msgspec.UnsetType = msgspec.UNSET


class GammaEvent(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One event; inside a market it comes without its markets and tags."""

    id: str
    ticker: str
    slug: str
    title: str
    description: str
    resolution_source: str = ""
    start_date: str
    creation_date: str
    end_date: str
    image: str = ""
    icon: str = ""
    active: bool = True
    closed: bool
    archived: bool = False
    new: bool = False
    featured: bool = False
    restricted: bool = True
    liquidity: float
    volume: float
    open_interest: float
    created_at: str
    updated_at: str
    volume24hr: float
    enable_order_book: bool = True
    liquidity_clob: float
    neg_risk: bool
    neg_risk_market_id: str | msgspec.UnsetType = msgspec.field(name="negRiskMarketID", default=msgspec.UNSET)
    comment_count: int = 0
    markets: tuple[GammaMarket, ...] | msgspec.UnsetType = msgspec.UNSET
    tags: tuple[GammaTag, ...] | msgspec.UnsetType = msgspec.UNSET
    cyom: bool = False
    show_all_outcomes: bool = True
    show_market_images: bool = False
    enable_neg_risk: bool
    automatically_active: bool = True
    gmp_chart_mode: str = "default"
    neg_risk_augmented: bool = False
    closed_time: str | msgspec.UnsetType = msgspec.UNSET
    estimate_value: bool = False
    cumulative_markets: bool = False
    pending_deployment: bool = False
    deploying: bool = False
    requires_translation: bool = False


class GammaPress:
    """Makes wire objects of the catalogue's listings."""

    def __init__(self, catalog: Catalog) -> None:
        """Speak for this catalogue."""
        self._opened = _stamp(moment_at(catalog.opened_ns))

    def market(self, listing: Listing, event: EventListing, now_ns: Nanos, *, has_tags: bool = False) -> GammaMarket:
        """Show a market with the event it belongs to; tags only when asked for, as production does."""
        shown = self._market(listing, now_ns)
        tags = tuple(self.tag(tag) for tag in listing.tags) if has_tags else msgspec.UNSET
        return msgspec.structs.replace(shown, events=(self._event(event, now_ns),), tags=tags)

    def event(self, event: EventListing, now_ns: Nanos) -> GammaEvent:
        """Show an event with its markets and tags."""
        return msgspec.structs.replace(
            self._event(event, now_ns),
            markets=tuple(self._market(listing, now_ns) for listing in event.listings),
            tags=tuple(self.tag(tag) for tag in event.tags),
        )

    def tag(self, tag: Tag) -> GammaTag:
        """Show a tag."""
        return GammaTag(
            id=str(tag.tag_id),
            label=title_of(tag.slug),
            slug=tag.slug,
            created_at=self._opened,
            updated_at=self._opened,
        )

    def _market(self, listing: Listing, now_ns: Nanos) -> GammaMarket:
        rules, subject = listing.rules, listing.subject
        has_fee, rewards = rules.fee_rate_micro > 0, subject.rewards
        opened = _stamp(listing.opened)
        event_id = neg_risk_event_id(rules.event) or msgspec.UNSET
        shown = GammaMarket(
            id=str(listing.number),
            question=subject.title,
            condition_id=condition_shown(listing),
            slug=rules.slug,
            end_date=_stamp(subject.end),
            liquidity=text_from_micro(listing.liquidity),
            start_date=opened,
            image=subject.icon,
            icon=subject.icon,
            description=subject.text,
            outcomes=_packed(OUTCOMES),
            outcome_prices=_packed((text_from_micro(listing.price), text_from_micro(MICRO - listing.price))),
            volume=text_from_micro(listing.volume),
            closed=listing.is_closed,
            created_at=opened,
            updated_at=_stamp(moment_at(now_ns)),
            closed_time=_spaced(listing.resolved),
            group_item_title=subject.group_title or msgspec.UNSET,
            question_id=question_id(rules),
            order_price_min_tick_size=json_number(rules.tick),
            order_min_size=json_number(rules.size_min),
            volume_num=json_number(listing.volume),
            liquidity_num=json_number(listing.liquidity),
            end_date_iso=subject.end.date().isoformat(),
            start_date_iso=opened[:10],
            volume24hr=json_number(listing.volume_day),
            volume24hr_clob=json_number(listing.volume_day),
            volume_clob=json_number(listing.volume),
            liquidity_clob=json_number(listing.liquidity),
            maker_base_fee=fee_bps_shown(rules),
            taker_base_fee=fee_bps_shown(rules),
            accepting_orders=rules.is_accepting_orders,
            neg_risk=rules.is_neg_risk,
            neg_risk_market_id=event_id,
            neg_risk_request_id=question_id(rules) if rules.event else msgspec.UNSET,
            accepting_orders_timestamp=stamp(listing.opened),
            clob_rewards=self._rewards(listing),
            rewards_min_size=json_number(rewards.size_min) if rewards else 0,
            rewards_max_spread=rewards.spread_max / CENT if rewards else 0,
            spread=json_number(listing.spread),
            clear_book_on_start=rules.clears_book_at_start,
            game_start_time=_spaced(listing.game_start),
            seconds_delay=rules.seconds_delay or msgspec.UNSET,
            last_trade_price=json_number(listing.last_price or 0),
            best_bid=msgspec.UNSET if listing.bid is None else json_number(listing.bid),
            best_ask=1 if listing.ask is None else json_number(listing.ask),
            fees_enabled=has_fee,
            fee_type=f"{subject.category}_fees" if has_fee else None,
            fee_schedule=_fees(listing),
        )
        return _of_protocol(shown, listing)

    def _event(self, event: EventListing, now_ns: Nanos) -> GammaEvent:
        subject, listings, opened = event.subject, event.listings, _stamp(event.opened)
        liquidity = json_number(sum(listing.liquidity for listing in listings))
        return GammaEvent(
            id=str(event.number),
            ticker=subject.slug,
            slug=subject.slug,
            title=subject.title,
            description=subject.text,
            image=subject.icon,
            icon=subject.icon,
            start_date=opened,
            creation_date=opened,
            end_date=_stamp(subject.end),
            closed=event.is_closed,
            liquidity=liquidity,
            volume=json_number(sum(listing.volume for listing in listings)),
            open_interest=json_number(sum(listing.open_interest for listing in listings)),
            created_at=opened,
            updated_at=_stamp(moment_at(now_ns)),
            volume24hr=json_number(sum(listing.volume_day for listing in listings)),
            liquidity_clob=liquidity,
            neg_risk=event.is_neg_risk,
            neg_risk_market_id=neg_risk_event_id(listings[0].rules.event) or msgspec.UNSET,
            enable_neg_risk=event.is_neg_risk,
            closed_time=stamp(event.resolved) if event.resolved else msgspec.UNSET,
        )

    def _rewards(self, listing: Listing) -> tuple[GammaReward, ...] | msgspec.UnsetType:
        rewards = listing.subject.rewards
        if rewards is None:
            return msgspec.UNSET
        return (
            GammaReward(
                id=str(listing.number),
                condition_id=condition_shown(listing),
                asset_address=REWARD_ASSET,
                rewards_daily_rate=json_number(rewards.daily_rate),
                start_date=_stamp(listing.opened)[:10],
            ),
        )


def condition_shown(listing: Listing) -> str:
    """Spell a condition id as Gamma does: of a V2 market without the zero byte at its end."""
    return listing.rules.market_id[:-2] if listing.is_v2 else listing.rules.market_id


# The two protocols tell tokens and outcome under names of their own.
def _of_protocol(shown: GammaMarket, listing: Listing) -> GammaMarket:
    tokens, is_resolved = listing.rules.tokens, listing.rules.yes_payout is not None
    if listing.is_v2:
        status = "resolved" if is_resolved else "active"
        return msgspec.structs.replace(shown, position_ids=tokens, resolution_status=status, version="v2")
    return msgspec.structs.replace(
        shown,
        clob_token_ids=_packed(tokens),
        uma_resolution_status="resolved" if is_resolved else msgspec.UNSET,
        uma_resolution_statuses=_packed(("resolved",) if is_resolved else ()),
    )


def _fees(listing: Listing) -> GammaFees | msgspec.UnsetType:
    rules = listing.rules
    if not rules.fee_rate_micro:
        return msgspec.UNSET
    return GammaFees(
        exponent=rules.fee_exponent,
        rate=json_number(rules.fee_rate_micro),
        rebate_rate=json_number(rules.rebate_share_micro),
    )


# With a blank after each comma, as served.
def _packed(texts: tuple[str, ...]) -> str:
    return "[" + ", ".join(f'"{text}"' for text in texts) + "]"


# A market spells these two moments in a way of its own; its event does not.
def _spaced(moment: datetime | None) -> str | msgspec.UnsetType:
    return spaced_stamp(moment) if moment else msgspec.UNSET


def _stamp(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
