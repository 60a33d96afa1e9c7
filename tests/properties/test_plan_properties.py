"""The plan over any quotes and any orders: settled by its own commands, and never more orders than quotes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tbot.core.messages import Quote, Side
from tbot.core.orders import SETTLED, TERMINAL, Order, OrderStatus
from tbot.core.plan import Plan, plan_side
from tbot.core.units import Price, Size
from tests.core.coordinators import CENT, some_order

ACTIVE = [status for status in OrderStatus if status not in SETTLED]
sides = st.sampled_from(Side)
chases = st.integers(0, 4)


@st.composite
def some_quotes(draw: st.DrawFn, side: Side) -> tuple[Quote, ...]:
    count = draw(st.integers(0, 4))
    return tuple(
        Quote(
            side=side,
            level=draw(st.integers(0, 3)),
            price=Price(draw(st.integers(40, 50)) * CENT),
            size=Size(draw(st.integers(5, 20)) * 1_000_000),
            price_worst=Price(draw(st.integers(38, 52)) * CENT),
        )
        for _ in range(count)
    )


@st.composite
def some_orders(draw: st.DrawFn, side: Side, statuses: list[OrderStatus]) -> list[Order]:
    orders = []
    for number in range(draw(st.integers(0, 5))):
        order = some_order(number, status=draw(st.sampled_from(statuses)), side=side)
        order.price = Price(draw(st.integers(40, 50)) * CENT)
        order.size = Size(draw(st.integers(5, 20)) * 1_000_000)
        order.size_filled = Size(draw(st.integers(0, order.size - 10_000)))
        order.is_doomed = draw(st.booleans()) and draw(st.booleans())
        if order.status is OrderStatus.INTENDED:
            order.exchange_order_id = None
        orders.append(order)
    return orders


def apply(plan: Plan, orders: list[Order], first_number: int) -> list[Order]:
    """Do what the plan says, and hear that it is done."""
    sent = []
    for number, quote in enumerate(plan.submits, first_number):
        order = some_order(number, side=quote.side)
        order.price, order.size = quote.price, quote.size
        sent.append(order)
    return [o for o in orders if o not in plan.cancels] + sent


@given(st.data(), sides, chases)
def test_plan_settles_and_then_changes_nothing(data: st.DataObject, side: Side, chase: int) -> None:
    quotes = tuple(_sound(q) for q in data.draw(some_quotes(side)))
    orders = data.draw(some_orders(side, [OrderStatus.LIVE, OrderStatus.UNKNOWN]))
    for turn in range(3):
        plan = plan_side(quotes=quotes, orders=orders, tick=CENT, chase_ticks=chase)
        orders = apply(plan, orders, 100 * (turn + 1))
    # One turn pulls, the next sends what the pulled ones made room for; the third has nothing left to do.
    plan = plan_side(quotes=quotes, orders=orders, tick=CENT, chase_ticks=chase)
    assert (plan.cancels, plan.submits) == ((), ())
    assert len(plan.kept) == len(orders) == len(quotes)


@given(st.data(), sides, chases)
def test_plan_of_the_same_is_the_same(data: st.DataObject, side: Side, chase: int) -> None:
    quotes, orders = data.draw(some_quotes(side)), data.draw(some_orders(side, ACTIVE))
    plans = [plan_side(quotes=quotes, orders=orders, tick=CENT, chase_ticks=chase) for _ in range(2)]
    assert plans[0] == plans[1]


@given(st.data(), sides, chases)
def test_orders_never_outnumber_quotes(data: st.DataObject, side: Side, chase: int) -> None:
    quotes, orders = data.draw(some_quotes(side)), data.draw(some_orders(side, ACTIVE))
    plan = plan_side(quotes=quotes, orders=orders, tick=CENT, chase_ticks=chase)
    if plan.submits:
        assert len(orders) + len(plan.submits) <= len(quotes)


@given(st.data(), sides, chases)
def test_every_order_is_kept_pulled_or_cannot_be_pulled_yet(data: st.DataObject, side: Side, chase: int) -> None:
    quotes, orders = data.draw(some_quotes(side)), data.draw(some_orders(side, ACTIVE))
    plan = plan_side(quotes=quotes, orders=orders, tick=CENT, chase_ticks=chase)
    assert not [o for o in plan.kept if o in plan.cancels]
    left = [o for o in orders if o not in plan.kept and o not in plan.cancels]
    assert not [o for o in left if o.can_cancel]
    assert all(o.can_cancel for o in plan.cancels)


@given(st.data(), sides, chases)
def test_kept_orders_serve_distinct_quotes_within_reach_and_without_danger(
    data: st.DataObject, side: Side, chase: int
) -> None:
    quotes, orders = data.draw(some_quotes(side)), data.draw(some_orders(side, ACTIVE))
    plan = plan_side(quotes=quotes, orders=orders, tick=CENT, chase_ticks=chase)
    assert len(plan.kept) + len(plan.submits) <= len(quotes)
    for order in plan.kept:
        assert not order.is_doomed
        near = [q for q in quotes if abs(q.price - order.price) <= chase * CENT]
        assert any(order.price <= q.price_worst if side is Side.BUY else order.price >= q.price_worst for q in near)


def test_no_order_that_is_over_is_planned_with() -> None:
    assert all(not some_order(status=status).is_active for status in TERMINAL)


def _sound(quote: Quote) -> Quote:
    """A quote whose own price is not dangerous; any other could never be served."""
    worst = Price(990_000 if quote.side is Side.BUY else 10_000)
    return Quote(side=quote.side, level=quote.level, price=quote.price, size=quote.size, price_worst=worst)
