"""The order machine over any history of events, facts and fills."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tbot.core.messages import OrderType, Side
from tbot.core.orders import ORDER_STEPS, SETTLED, TERMINAL, Order, OrderEvent, Orders, OrderStatus
from tbot.core.units import Nanos, Notional, Size
from tests.core.coordinators import some_order

histories = st.lists(st.sampled_from(OrderEvent), max_size=30)
statuses = st.sampled_from(OrderStatus)


@st.composite
def some_orders(draw: st.DrawFn) -> tuple[Order, ...]:
    orders = []
    for number in range(draw(st.integers(0, 8))):
        order = some_order(
            number,
            status=draw(statuses),
            side=draw(st.sampled_from(Side)),
            order_type=draw(st.sampled_from((OrderType.GTC, OrderType.FAK))),
            fact_ns=draw(st.integers(0, 10)),
        )
        order.size_filled = Size(draw(st.integers(0, order.size)))
        order.notional_filled = Notional(order.size_filled // 2)
        order.size_claimed = Size(draw(st.integers(0, order.size)))
        order.size_reversed = Size(draw(st.integers(0, order.size)))
        order.still_listed = draw(st.integers(0, 3)) if order.status in TERMINAL else 0
        order.has_final_word = draw(st.booleans())
        orders.append(order)
    return tuple(orders)


@given(histories)
def test_no_history_leads_out_of_a_terminal_status(history: list[OrderEvent]) -> None:
    order = some_order(status=OrderStatus.INTENDED)
    ended: OrderStatus | None = None
    for event in history:
        order.step(event)
        assert ended is None or order.status is ended
        ended = order.status if order.status in TERMINAL else None


@given(histories)
def test_an_event_told_twice_in_a_row_changes_nothing_more(history: list[OrderEvent]) -> None:
    once, twice = some_order(status=OrderStatus.INTENDED), some_order(status=OrderStatus.INTENDED)
    for event in history:
        once.step(event)
        twice.step(event)
        assert not twice.step(event)
    assert once.status is twice.status


@given(histories)
def test_only_a_signed_order_ever_trades(history: list[OrderEvent]) -> None:
    order = some_order(status=OrderStatus.INTENDED)
    for event in history:
        order.step(event)
        assert order.status in (OrderStatus.INTENDED, OrderStatus.REJECTED) or OrderEvent.PREPARE in history


@given(some_orders())
def test_open_amounts_are_never_negative_and_active_orders_count(orders: tuple[Order, ...]) -> None:
    for order in orders:
        assert order.size_open >= order.size_pending >= 0
        assert order.notional_open >= 0
        if order.is_active and not order.has_final_word and order.size_filled < order.size:
            assert order.size_open > 0


@given(some_orders(), st.integers(0, 11))
def test_nothing_that_matters_is_put_to_rest_or_forgotten(orders: tuple[Order, ...], before_ns: int) -> None:
    table = Orders(orders)
    active, open_size = table.active(), sum(o.size_open for o in table.working())
    table.rest()
    assert table.active() == active
    assert sum(o.size_open for o in table.working()) == open_size
    gone = table.forget(Nanos(before_ns))
    assert table.active() == active
    assert sum(o.size_open for o in table.working()) == open_size
    assert all(o.status in SETTLED and o.fact_ns < before_ns for o in gone)
    assert [o for o in orders if o not in gone] == list(table)


@given(some_orders())
def test_an_order_over_has_no_ending_left(orders: tuple[Order, ...]) -> None:
    for order in orders:
        event = order.ending
        if order.is_over and event is not None:
            assert event not in ORDER_STEPS[order.status]
