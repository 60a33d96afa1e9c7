"""Target quotes minus resting orders = cancels and submits.

Level-triggered: the same quotes planned twice change nothing, and orders of one (strategy, token, side) never outnumber
its quotes, so a duplicate order cannot be expressed.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tbot.core.messages import Quote, Side
from tbot.core.orders import SETTLED, Order, OrderStatus
from tbot.core.units import Price

# A resting order is left alone while its remaining size is within this share of the wanted size (strategies 2.3).
SIZE_SLACK_PERCENT = 15
# A partly filled order keeps its place in the queue until this share is gone (strategies 5.1, partial fill).
TOP_UP_PERCENT = 50


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What one side of one token needs.

    Attributes:
        kept: Orders that serve a quote.
        cancels: Orders that serve none and may be cancelled now.
        submits: Quotes without an order, innermost first.
    """

    kept: tuple[Order, ...]
    cancels: tuple[Order, ...]
    submits: tuple[Quote, ...]


def plan_side(*, quotes: Sequence[Quote], orders: Sequence[Order], tick: Price, chase_ticks: int) -> Plan:
    """Match active orders to quotes and say what is left over on both sides.

    Args:
        quotes: Wanted orders of one (strategy, token, side).
        orders: Active orders of the same; an order on its way in, out or in doubt occupies a place.
        tick: Price step.
        chase_ticks: Distance at which an order is left alone.

    Returns:
        The plan; `cancels` holds only orders that can be cancelled now, not those on their way in or out.
    """
    open_quotes = sorted(quotes, key=lambda quote: quote.level)
    kept: list[Order] = []
    unserved: list[Order] = []
    for order in orders:
        match = _closest(order, open_quotes, tick * chase_ticks)
        if match is None or order.is_doomed:
            unserved.append(order)
        else:
            open_quotes.remove(match)
            kept.append(order)
    places = max(len(open_quotes) - len(unserved), 0)
    cancels = tuple(o for o in unserved if o.can_cancel)
    return Plan(kept=tuple(kept), cancels=cancels, submits=tuple(open_quotes[:places]))


def _closest(order: Order, quotes: Sequence[Quote], chase: int) -> Quote | None:
    if order.is_immediate or order.status is OrderStatus.CANCELING or order.status in SETTLED:
        return None  # the last: listed against the exchange's own word, so nothing to rely on
    fitting = [q for q in quotes if _serves(order, q, chase)]
    return min(fitting, key=lambda q: abs(q.price - order.price), default=None)


def _serves(order: Order, quote: Quote, chase: int) -> bool:
    return abs(quote.price - order.price) <= chase and not _is_dangerous(order, quote) and _size_fits(order, quote)


def _is_dangerous(order: Order, quote: Quote) -> bool:
    if order.side is Side.BUY:
        return order.price > quote.price_worst
    return order.price < quote.price_worst


def _size_fits(order: Order, quote: Quote) -> bool:
    remaining = order.size - order.size_filled
    if remaining * 100 > quote.size * (100 + SIZE_SLACK_PERCENT):
        return False
    least = TOP_UP_PERCENT if order.size_filled else 100 - SIZE_SLACK_PERCENT
    return remaining * 100 >= quote.size * least
