"""The exchange's report against our table -> corrections, each with its reason; `core.drift` compares the money.

A report is old news: whatever we learnt after it was asked for overrules it. Absence is weak evidence: an order missing
once may have been in flight, so it takes two reports, then two look-ups by id, and for an order that was never
confirmed a horizon, because a POST can land late. So absence leads to LOST, which a late landing undoes; only the
exchange's own word makes an order CANCELED.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from tbot.core.messages import ExchangeOrderId, ExchangeReport, OpenOrder, OrderLookup, OrderState
from tbot.core.orders import TERMINAL, Order, OrderEvent, Orders, OrderStatus
from tbot.core.positions import Ledger
from tbot.core.units import NANOS_PER_S, Nanos, Size

MISSING_TWICE = 2
ABSENT_TWICE = 2
# Longest time after which a POST was seen to land (incident reports: 30 s), doubled.
LANDING_HORIZON_NS = Nanos(60 * NANOS_PER_S)


class Correction(msgspec.Struct, frozen=True, kw_only=True):
    """What a report changes in one order.

    Attributes:
        event: Step of the order machine; None = only counters and claims.
        size_claimed: Micro-shares the exchange says are matched.
        missing: New value of the order's counter.
        absent: Likewise.
        still_listed: Likewise.
        has_final_word: Whether the exchange has said how much matched in all.
        reason: For log and audit trail.
    """

    order: Order
    event: OrderEvent | None
    size_claimed: Size
    missing: int
    absent: int
    still_listed: int
    has_final_word: bool
    reason: str


def corrections(report: ExchangeReport, orders: Orders, now_ns: Nanos) -> tuple[Correction, ...]:
    """Compare a report with our orders.

    Args:
        report: Its `requested_ns` decides what it may touch.
        orders: Our table; fills of the report are booked already.
        now_ns: For the landing horizon.
    """
    listed = {o.exchange_order_id: o for o in report.open_orders}
    lookups = {o.exchange_order_id: o for o in report.lookups}
    known = {o.client_order_id: o for o in orders.working()}
    for order_id in listed:
        order = orders.of_exchange(order_id)
        if order is not None:
            known[order.client_order_id] = order
    return tuple(c for order in known.values() for c in _correct(order, report, listed, lookups, now_ns))


def news_of(report: ExchangeReport, ledger: Ledger | None) -> ExchangeReport:
    """Leave out of a report the fills that would change nothing: reports overlap, the journal need not repeat itself.

    Args:
        report: As received.
        ledger: Ours; None = not opened yet, when everything is news.
    """
    if ledger is None:
        return report
    fills = tuple(
        f
        for f in report.fills
        if not ledger.has_fill(f.trade_id, f.exchange_order_id) or ledger.settlement_of(f.trade_id) != f.settlement
    )
    return msgspec.structs.replace(report, fills=fills)


def foreign_orders(report: ExchangeReport, orders: Orders) -> tuple[OpenOrder, ...]:
    """List open orders of the account that are not ours: a person's, or another program's. They are left alone."""
    return tuple(o for o in report.open_orders if orders.of_exchange(o.exchange_order_id) is None)


def _correct(
    order: Order,
    report: ExchangeReport,
    listed: Mapping[ExchangeOrderId, OpenOrder],
    lookups: Mapping[ExchangeOrderId, OrderLookup],
    now_ns: Nanos,
) -> Iterator[Correction]:
    order_id = order.exchange_order_id
    # What we learnt in the same instant may be newer: under a virtual clock many things happen at one.
    if order_id is None or order.fact_ns >= report.requested_ns:
        return
    if order_id in listed:
        yield _seen_open(order, listed[order_id], report.requested_ns)
    elif order.is_over:
        return
    elif order.status in TERMINAL:
        # The report's fills are booked, so nothing of this order is still to come.
        claimed = lookups[order_id].size_matched if order_id in lookups else 0
        yield _presence(order, None, "over", claimed=claimed, has_final_word=True)
    elif order_id in lookups:
        yield _looked_up(order, lookups[order_id], now_ns)
    elif order.is_active:
        yield _not_listed(order)


def _presence(
    order: Order,
    event: OrderEvent | None,
    reason: str,
    *,
    claimed: int,
    still_listed: int = 0,
    has_final_word: bool = False,
) -> Correction:
    return Correction(
        order=order,
        event=event,
        size_claimed=Size(max(order.size_claimed, claimed)),
        missing=0,
        absent=0,
        still_listed=still_listed,
        has_final_word=has_final_word,
        reason=reason,
    )


def _absence(order: Order, event: OrderEvent | None, reason: str, *, missing: int, absent: int) -> Correction:
    return Correction(
        order=order,
        event=event,
        size_claimed=order.size_claimed,
        missing=missing,
        absent=absent,
        still_listed=0,
        has_final_word=order.has_final_word,
        reason=reason,
    )


def _seen_open(order: Order, found: OpenOrder, requested_ns: Nanos) -> Correction:
    if order.status in TERMINAL:
        listed = order.still_listed + 1
        return _presence(order, None, "listed though settled", claimed=found.size_matched, still_listed=listed)
    # A cancel that had its time and left the order standing was lost; before that it is on its way.
    is_stuck = order.status is OrderStatus.CANCELING and requested_ns >= order.cancel_after_ns
    event = OrderEvent.HOLD_CANCEL if is_stuck else OrderEvent.SEE_LIVE
    return _presence(order, event, "listed as open", claimed=found.size_matched)


def _not_listed(order: Order) -> Correction:
    missing = order.missing + 1
    event = OrderEvent.DOUBT if missing >= MISSING_TWICE else None
    return _absence(order, event, f"not listed as open, {missing} times", missing=missing, absent=order.absent)


_STATE_EVENTS: dict[OrderState, OrderEvent | None] = {
    OrderState.LIVE: OrderEvent.SEE_LIVE,
    OrderState.DELAYED: None,
    OrderState.CANCELED: OrderEvent.CANCEL,
    OrderState.INVALID: OrderEvent.CANCEL,
    OrderState.MATCHED: None,  # ends with its fills
}
FINAL_STATES: tuple[OrderState, ...] = (OrderState.CANCELED, OrderState.INVALID, OrderState.MATCHED)


def _looked_up(order: Order, found: OrderLookup, now_ns: Nanos) -> Correction:
    if found.state is None:
        return _absent(order, now_ns)
    return _presence(
        order,
        _STATE_EVENTS[found.state],
        f"looked up: {found.state.value}",
        claimed=found.size_matched,
        has_final_word=found.state in FINAL_STATES,
    )


def _absent(order: Order, now_ns: Nanos) -> Correction:
    absent = order.absent + 1
    # An order that was there and is unknown now has ended; one never confirmed may still land.
    has_landed = order.was_accepted or order.size_claimed > 0
    is_enough = absent >= ABSENT_TWICE and (has_landed or now_ns - order.sent_ns >= LANDING_HORIZON_NS)
    event: OrderEvent | None = OrderEvent.DOUBT
    if order.status is OrderStatus.LOST:
        event = None  # as we thought
    elif is_enough and order.status in (OrderStatus.UNKNOWN, OrderStatus.CANCELING):
        event = OrderEvent.GIVE_UP
    reason = f"unknown to the exchange, {absent} times"
    return _absence(order, event, reason, missing=order.missing, absent=absent)
