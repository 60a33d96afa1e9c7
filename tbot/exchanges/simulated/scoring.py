"""Which resting orders count for liquidity rewards now.

Source: docs.polymarket.com (liquidity rewards), read 2026-11-22. An order counts by ((v - s) / v)^2, where s is its
distance from the midpoint and v the largest one: at v it is worth nothing, so it does not count. The midpoint is the
adjusted one, which leaves out orders below the minimum size; without both sides there is none. That a market near 0 or
1 pays only who quotes both sides is a matter of shares, not of a single order.
"""

from __future__ import annotations

from collections.abc import Iterable

from tbot.core.messages import OrderState, Side
from tbot.core.units import MICRO, NANOS_PER_S, Nanos
from tbot.exchanges.simulated.descriptions import RewardTerms
from tbot.exchanges.simulated.events import OrderView
from tbot.exchanges.simulated.operations import MarketRules


def is_scoring(
    order: OrderView, resting: Iterable[OrderView], rules: MarketRules, terms: RewardTerms | None, now_ns: Nanos
) -> bool:
    """Tell whether an order counts.

    Args:
        order: The order.
        resting: Everything that rests in its market, the order included.
        rules: Of the market.
        terms: Of its rewards; None = it has none.
        now_ns: Its age counts from its acceptance until now.
    """
    if terms is None or order.state is not OrderState.LIVE or not rules.is_accepting_orders:
        return False
    if _remaining(order) < terms.size_min or now_ns - order.created_ns < terms.age_s_min * NANOS_PER_S:
        return False
    doubled = _doubled_midpoint(resting, rules, terms)
    return doubled is not None and abs(2 * _yes_price(order, rules) - doubled) < 2 * terms.spread_max


# Twice the midpoint of YES, so that it is whole.
def _doubled_midpoint(resting: Iterable[OrderView], rules: MarketRules, terms: RewardTerms) -> int | None:
    counted = [order for order in resting if _remaining(order) >= terms.size_min]
    bids = [_yes_price(order, rules) for order in counted if _is_bid(order, rules)]
    asks = [_yes_price(order, rules) for order in counted if not _is_bid(order, rules)]
    return max(bids) + min(asks) if bids and asks else None


# A bid for NO is an offer of YES.
def _is_bid(order: OrderView, rules: MarketRules) -> bool:
    return (order.side is Side.BUY) == (order.token_id == rules.yes)


def _yes_price(order: OrderView, rules: MarketRules) -> int:
    return order.price if order.token_id == rules.yes else MICRO - order.price


def _remaining(order: OrderView) -> int:
    return order.size - order.size_matched
