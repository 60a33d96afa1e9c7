"""Which resting orders count for liquidity rewards now.

Source: docs.polymarket.com (liquidity rewards), read 2026-11-22. An order counts by ((v - s) / v)^2, where s is its
distance from the midpoint and v the largest one: at v it is worth nothing, so it does not count. The midpoint is the
adjusted one, which leaves out orders below the minimum size; without both sides there is none. That a market near 0 or
1 pays only who quotes both sides is a matter of shares, not of a single order.
"""

from __future__ import annotations

import msgspec

from tbot.core.messages import OrderState
from tbot.core.units import MICRO, NANOS_PER_S, Nanos, Price
from tbot.exchanges.simulated.descriptions import RewardTerms
from tbot.exchanges.simulated.events import OrderView
from tbot.exchanges.simulated.operations import MarketRules


class ScoredMarket(msgspec.Struct, frozen=True, kw_only=True):
    """A market as far as its orders are judged by it; made once for all orders that are asked for together.

    Attributes:
        rules: Present ones.
        terms: Of its rewards; None = it has none.
        top: Best bid and ask of YES among the orders that have `terms.size_min` left.
    """

    rules: MarketRules
    terms: RewardTerms | None
    top: tuple[Price | None, Price | None]


def is_scoring(order: OrderView, market: ScoredMarket, now_ns: Nanos) -> bool:
    """Tell whether an order counts; its age does from its acceptance until now."""
    terms, (bid, ask) = market.terms, market.top
    if terms is None or order.state is not OrderState.LIVE or not market.rules.is_accepting_orders:
        return False
    if order.size - order.size_matched < terms.size_min or now_ns - order.created_ns < terms.age_s_min * NANOS_PER_S:
        return False
    if bid is None or ask is None:
        return False
    # Twice the midpoint, so that it is whole.
    return abs(2 * _yes_price(order, market.rules) - (bid + ask)) < 2 * terms.spread_max


def _yes_price(order: OrderView, rules: MarketRules) -> int:
    return order.price if order.token_id == rules.yes else MICRO - order.price
