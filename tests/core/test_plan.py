"""Quotes minus orders: what is kept, pulled and sent."""

from __future__ import annotations

import pytest

from tbot.core.messages import OrderType, Quote, Side
from tbot.core.orders import LISTED_TWICE, Order, OrderStatus
from tbot.core.plan import Plan, plan_side
from tbot.core.units import Size
from tests.core.coordinators import CENT, ask, bid, dollars, shares, some_order


def resting(price: float, size: float = 10, *, filled: float = 0, side: Side = Side.BUY, number: int = 1) -> Order:
    """One live order."""
    order = some_order(number, side=side)
    order.price, order.size, order.size_filled = dollars(price), shares(size), shares(filled)
    return order


def plan(quotes: list[Quote], orders: list[Order], *, chase: int = 0) -> Plan:
    return plan_side(quotes=quotes, orders=orders, tick=CENT, chase_ticks=chase)


def test_missing_orders_are_sent_innermost_first() -> None:
    outer, inner = bid(0.44, level=1), bid(0.45)
    assert plan([outer, inner], []).submits == (inner, outer)


def test_served_quote_needs_nothing() -> None:
    order = resting(0.45)
    assert plan([bid(0.45)], [order]) == Plan(kept=(order,), cancels=(), submits=())


def test_order_without_quote_is_pulled() -> None:
    order = resting(0.45)
    assert plan([], [order]).cancels == (order,)


@pytest.mark.parametrize(("price", "is_kept"), [(0.42, False), (0.43, True), (0.47, True), (0.48, False)])
def test_order_within_the_chase_distance_is_left_alone(price: float, is_kept: bool) -> None:
    assert bool(plan([bid(0.45)], [resting(price)], chase=2).kept) is is_kept


def test_replacement_waits_for_the_old_order_to_go() -> None:
    order = resting(0.40)
    first = plan([bid(0.45)], [order])
    assert (first.cancels, first.submits) == ((order,), ())
    order.status = OrderStatus.CANCELING
    assert plan([bid(0.45)], [order]) == Plan(kept=(), cancels=(), submits=())


def test_dangerous_order_is_pulled_within_the_chase_distance() -> None:
    assert plan([bid(0.45, worst=0.46)], [resting(0.46)], chase=3).kept
    assert not plan([bid(0.45, worst=0.45)], [resting(0.46)], chase=3).kept
    assert plan([ask(0.55, worst=0.54)], [resting(0.54, side=Side.SELL)], chase=3).kept
    assert not plan([ask(0.55, worst=0.55)], [resting(0.54, side=Side.SELL)], chase=3).kept


@pytest.mark.parametrize(("size", "is_kept"), [(8.49, False), (8.5, True), (11.5, True), (11.51, False)])
def test_size_may_differ_by_the_slack(size: float, is_kept: bool) -> None:
    assert bool(plan([bid(0.45, 10)], [resting(0.45, size)]).kept) is is_kept


@pytest.mark.parametrize(("filled", "is_kept"), [(0.01, True), (5, True), (5.01, False)])
def test_partly_filled_order_keeps_its_place_until_half_is_gone(filled: float, is_kept: bool) -> None:
    assert bool(plan([bid(0.45, 10)], [resting(0.45, 10, filled=filled)]).kept) is is_kept


def test_closest_quote_gets_the_order() -> None:
    order = resting(0.44)
    outer, inner = bid(0.43, level=1), bid(0.46)
    assert plan([inner, outer], [order], chase=5).submits == (inner,)


def test_doomed_order_serves_no_quote() -> None:
    order = resting(0.45)
    order.is_doomed = True
    assert plan([bid(0.45)], [order]).cancels == (order,)


@pytest.mark.parametrize("status", [OrderStatus.INTENDED, OrderStatus.PREPARED, OrderStatus.UNKNOWN])
def test_order_on_its_way_or_in_doubt_occupies_a_place(status: OrderStatus) -> None:
    order = resting(0.45)
    order.status = status
    if status is OrderStatus.INTENDED:
        order.exchange_order_id = None
    assert plan([bid(0.45)], [order]).submits == ()
    moved = plan([bid(0.30)], [order])
    assert moved.submits == ()
    assert bool(moved.cancels) is (status is OrderStatus.UNKNOWN)


def test_order_that_should_be_gone_serves_nothing_and_is_pulled() -> None:
    order = resting(0.45)
    order.status, order.still_listed = OrderStatus.CANCELED, LISTED_TWICE
    assert plan([bid(0.45)], [order]) == Plan(kept=(), cancels=(order,), submits=())


def test_surplus_orders_at_one_price_are_pulled() -> None:
    orders = [resting(0.45, number=n) for n in range(3)]
    found = plan([bid(0.45)], orders)
    assert (found.kept, found.cancels) == ((orders[0],), (orders[1], orders[2]))


def test_immediate_order_serves_no_quote() -> None:
    order = resting(0.45)
    order.order_type = OrderType.FAK
    assert not plan([bid(0.45)], [order]).kept


def test_quote_of_nothing_is_served_by_nothing() -> None:
    order = resting(0.45)
    order.size_filled = Size(order.size)
    assert not plan([bid(0.45)], [order]).kept
