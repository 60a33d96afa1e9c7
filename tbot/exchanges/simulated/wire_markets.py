"""Markets as Polymarket spells them: the full object and the compact trading parameters."""

from __future__ import annotations

import msgspec

from tbot.core.market import TokenId
from tbot.core.units import MICRO
from tbot.exchanges.simulated.catalog import Listing, neg_risk_event_id, question_id
from tbot.exchanges.simulated.contracts import COLLATERAL_TOKEN
from tbot.exchanges.simulated.descriptions import RewardTerms, stamp, title_of
from tbot.exchanges.simulated.operations import MarketRules

OUTCOMES = ("Yes", "No")

# What markets with fees show as `fee_rate_bps` and base fee, whatever their schedule: a legacy field, never charged.
FEE_BPS_SHOWN = 1000

# The collateral token, in which rewards are told.
REWARD_ASSET = COLLATERAL_TOKEN

CENT = MICRO // 100
"""Rewards tell distances in cents."""


class WireToken(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One outcome inside a full market object."""

    token_id: str
    outcome: str
    price: float
    winner: bool = False


class RewardRate(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a market would share out a day, in one asset."""

    asset_address: str
    rewards_daily_rate: float


class Rewards(msgspec.Struct, frozen=True, kw_only=True):
    """Liquidity rewards; no rates and zeros where there are none. `max_spread` is in cents."""

    rates: tuple[RewardRate, ...] | None = None
    min_size: float = 0
    max_spread: float = 0


class FullMarket(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `GET /markets/{condition_id}`."""

    enable_order_book: bool
    active: bool
    closed: bool
    archived: bool = False
    accepting_orders: bool
    accepting_order_timestamp: str
    minimum_order_size: float
    minimum_tick_size: float
    condition_id: str
    question_id: str
    question: str
    description: str
    market_slug: str
    end_date_iso: str
    game_start_time: str | None = None
    seconds_delay: int = 0
    fpmm: str = ""
    maker_base_fee: int
    taker_base_fee: int
    notifications_enabled: bool = True
    neg_risk: bool
    neg_risk_market_id: str
    neg_risk_request_id: str
    icon: str
    image: str
    rewards: Rewards
    is_50_50_outcome: bool = False
    tokens: tuple[WireToken, ...]
    tags: tuple[str, ...] | None


class SimplifiedMarket(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of `GET /simplified-markets`."""

    condition_id: str
    rewards: Rewards
    tokens: tuple[WireToken, ...]
    active: bool
    closed: bool
    archived: bool
    accepting_orders: bool


class ShortToken(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One outcome inside a compact market object."""

    t: str
    o: str


class FeeDetails(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Fee schedule: rate, exponent, takers only."""

    r: float
    e: int
    to: bool = True


class ShortRewards(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an order must be to count: minimum size, maximum spread in cents, minimum age in seconds."""

    mi: float
    ma: float
    moas: int


class ClobMarket(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answer of `GET /clob-markets/{condition_id}`; absent keys mean false or none."""

    r: ShortRewards | None = None
    t: tuple[ShortToken, ...]
    c: str
    mos: float
    mts: float
    mbf: int
    tbf: int
    ao: bool = False
    nr: bool = False
    cbos: bool = False
    aot: str
    gst: str | None = None
    sd: int = 0
    itode: bool = False
    ibce: bool = False
    fd: FeeDetails | None = None
    v: str


def full_market(listing: Listing) -> FullMarket:
    """Show a market with all its fields."""
    rules, subject = listing.rules, listing.subject
    tokens = (
        WireToken(
            token_id=token_id,
            outcome=outcome,
            price=listing.price_of(token_id) / MICRO,
            winner=_has_won(rules, token_id),
        )
        for token_id, outcome in zip(rules.tokens, OUTCOMES, strict=True)
    )
    return FullMarket(
        enable_order_book=not listing.is_closed,
        active=True,
        closed=listing.is_closed,
        accepting_orders=rules.is_accepting_orders,
        accepting_order_timestamp=stamp(listing.opened),
        minimum_order_size=json_number(rules.size_min),
        minimum_tick_size=json_number(rules.tick),
        condition_id=rules.market_id,
        question_id=question_id(rules),
        question=subject.title,
        description=subject.text,
        market_slug=rules.slug,
        end_date_iso=stamp(subject.end),
        game_start_time=game_start_text(listing),
        seconds_delay=rules.seconds_delay,
        maker_base_fee=fee_bps_shown(rules),
        taker_base_fee=fee_bps_shown(rules),
        neg_risk=rules.is_neg_risk,
        neg_risk_market_id=neg_risk_event_id(rules.event),
        neg_risk_request_id=question_id(rules) if rules.event else "",
        icon=subject.icon,
        image=subject.icon,
        rewards=_rewards(subject.rewards),
        is_50_50_outcome=rules.yes_payout == MICRO // 2,
        tokens=tuple(tokens),
        tags=tuple(title_of(tag.slug) for tag in listing.tags) or None,
    )


def simplified_market(market: FullMarket) -> SimplifiedMarket:
    """Cut a market down to what lists of simplified markets show."""
    return SimplifiedMarket(
        condition_id=market.condition_id,
        rewards=market.rewards,
        tokens=market.tokens,
        active=market.active,
        closed=market.closed,
        archived=market.archived,
        accepting_orders=market.accepting_orders,
    )


def clob_market(listing: Listing) -> ClobMarket:
    """Show a market's trading parameters."""
    rules = listing.rules
    has_fee = rules.fee_rate_micro > 0
    return ClobMarket(
        r=_short_rewards(listing.subject.rewards),
        t=(ShortToken(t=rules.yes, o=OUTCOMES[0]), ShortToken(t=rules.no, o=OUTCOMES[1])),
        c=rules.market_id,
        mos=json_number(rules.size_min),
        mts=json_number(rules.tick),
        mbf=fee_bps_shown(rules),
        tbf=fee_bps_shown(rules),
        ao=rules.is_accepting_orders,
        nr=rules.is_neg_risk,
        cbos=rules.clears_book_at_start,
        aot=stamp(listing.opened),
        gst=game_start_text(listing),
        sd=rules.seconds_delay,
        itode=rules.taker_delay_ms > 0,
        # Told by all five objects captured of CTF tokens (2026-06), not by the one of a position (2026-10).
        ibce=not listing.is_v2,
        fd=FeeDetails(r=json_number(rules.fee_rate_micro), e=rules.fee_exponent) if has_fee else None,
        v="v2" if listing.is_v2 else "v1",
    )


def game_start_text(listing: Listing) -> str | None:
    """Give the start of the game, "2026-10-05T22:20:54Z"; None = there is none."""
    return None if listing.game_start is None else stamp(listing.game_start)


def _rewards(terms: RewardTerms | None) -> Rewards:
    if terms is None:
        return Rewards()
    rate = RewardRate(asset_address=REWARD_ASSET, rewards_daily_rate=json_number(terms.daily_rate))
    return Rewards(rates=(rate,), min_size=json_number(terms.size_min), max_spread=terms.spread_max / CENT)


def _short_rewards(terms: RewardTerms | None) -> ShortRewards | None:
    if terms is None:
        return None
    return ShortRewards(mi=json_number(terms.size_min), ma=terms.spread_max / CENT, moas=terms.age_s_min)


def _has_won(rules: MarketRules, token_id: TokenId) -> bool:
    if rules.yes_payout is None:
        return False
    return rules.yes_payout == (MICRO if token_id == rules.yes else 0)


def fee_bps_shown(rules: MarketRules) -> int:
    """Give the legacy base fee: a flag that there is a fee, not its rate."""
    return FEE_BPS_SHOWN if rules.fee_rate_micro else 0


def json_number(micro: int) -> float:
    """Give millionths as the JSON number that prints shortest: 5_000_000 -> 5, 10_000 -> 0.01."""
    return micro // MICRO if micro % MICRO == 0 else micro / MICRO
