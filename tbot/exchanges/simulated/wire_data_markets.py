"""Resolutions and tokens as Polymarket's Data API spells them; fields as polymarket-client 0.14.0 reads them."""

from __future__ import annotations

import msgspec

from tbot.core.market import TokenId
from tbot.core.units import MICRO, NANOS_PER_S, Nanos
from tbot.exchanges.simulated.catalog import EventListing, Listing, neg_risk_event_id, opposite, question_id
from tbot.exchanges.simulated.wire_books import transaction_hash
from tbot.exchanges.simulated.wire_markets import OUTCOMES, json_number


class WireResolution(msgspec.Struct, frozen=True, kw_only=True):
    """How far a market is on its way to being decided. No oracle is asked here: whoever runs the exchange decides."""

    question_id: str
    condition_id: str
    status: str
    extended_review: bool = False
    expected_settlement_time: None = None
    settlement_time_basis: None = None
    was_disputed: bool = False
    new_version_q: bool = False
    proposed_price: None = None
    reproposed_price: None = None
    price: None = None
    transaction_hash: str
    log_index: None = None
    last_update_timestamp: int
    market_type: str
    payouts: tuple[int, int] | None
    resolution_source: str | None
    reporter: str | None
    was_arbitrated: bool = False
    resolved_block: None = None
    resolved_at: int | None


class WireToken(msgspec.Struct, frozen=True, kw_only=True):
    """What an outcome is."""

    token_id: str
    condition_id: str
    structural_condition_id: str | None
    module: str
    outcome_index: int
    clob_index: int
    outcome: str
    opposite_token_id: str
    resolved: bool
    final_price: float | None
    title: str
    market_slug: str
    closed: bool
    neg_risk: bool
    neg_risk_market_id: str | None
    question_index: int | None
    event_id: int
    event_slug: str


def wire_resolution(market: Listing, resolved_ns: Nanos | None) -> WireResolution:
    """Show a market's resolution.

    Args:
        market: The market.
        resolved_ns: When it was resolved; None = it is not.
    """
    rules, is_over = market.rules, resolved_ns is not None
    resolved_s = None if resolved_ns is None else resolved_ns // NANOS_PER_S
    payout = rules.yes_payout
    return WireResolution(
        question_id=question_id(rules),
        condition_id=rules.market_id,
        status="resolved" if is_over else "initialized",
        transaction_hash=transaction_hash(f"resolution {rules.market_id}") if is_over else "",
        last_update_timestamp=int(market.opened.timestamp()) if resolved_s is None else resolved_s,
        market_type="INCREMENTAL_NEGRISK" if rules.is_neg_risk else "BINARY",
        payouts=None if payout is None else (payout, MICRO - payout),
        resolution_source="reported" if is_over else None,
        reporter="EOA" if is_over else None,
        resolved_at=resolved_s,
    )


def wire_token(token_id: TokenId, market: Listing, event: EventListing) -> WireToken:
    """Show one outcome of a market."""
    rules, is_no = market.rules, token_id == market.rules.no
    is_over = rules.yes_payout is not None
    number = [listing.rules.market_id for listing in event.listings].index(rules.market_id)
    return WireToken(
        token_id=token_id,
        condition_id=rules.market_id,
        structural_condition_id=rules.market_id if market.is_v2 else None,
        module=_module(market),
        outcome_index=int(is_no),
        clob_index=int(is_no),
        outcome=OUTCOMES[is_no],
        opposite_token_id=opposite(rules, token_id),
        resolved=is_over,
        final_price=json_number(market.price_of(token_id)) if is_over else None,
        title=market.subject.title,
        market_slug=rules.slug,
        closed=market.is_closed,
        neg_risk=rules.is_neg_risk,
        neg_risk_market_id=neg_risk_event_id(rules.event) or None,
        question_index=number if rules.event else None,
        event_id=event.number,
        event_slug=market.event_slug,
    )


def _module(market: Listing) -> str:
    if not market.is_v2:
        return "v1_ctf"
    return "neg_risk" if market.rules.is_neg_risk else "binary"
