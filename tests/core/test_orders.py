"""The order table, walked entry by entry, and what an order says of itself."""

from __future__ import annotations

import itertools

import pytest

from tbot.core.market import TokenId
from tbot.core.messages import ExchangeOrderId, OrderType, OutcomeUnknown, Rejected, Side
from tbot.core.orders import (
    LISTED_TWICE,
    ORDER_STEPS,
    SETTLED,
    TERMINAL,
    OrderEvent,
    Orders,
    OrderStatus,
    crash_facts,
)
from tbot.core.units import MICRO, Nanos, Notional, Size
from tests.core.coordinators import some_order

PAIRS = list(itertools.product(OrderStatus, OrderEvent))
S, E = OrderStatus, OrderEvent


@pytest.mark.parametrize(("status", "event"), PAIRS)
def test_step_follows_the_table_and_nothing_else(status: OrderStatus, event: OrderEvent) -> None:
    order = some_order(status=status)
    after = ORDER_STEPS[status].get(event)
    assert order.step(event) is (after is not None)
    assert order.status is (after or status)


def test_every_status_is_in_the_table_and_can_be_reached() -> None:
    assert set(ORDER_STEPS) == set(OrderStatus)
    reached = {S.INTENDED} | {after for steps in ORDER_STEPS.values() for after in steps.values()}
    assert reached == set(OrderStatus)


def test_no_way_leads_out_of_a_terminal_status() -> None:
    assert all(ORDER_STEPS[status] == {} for status in TERMINAL)


def test_a_terminal_status_can_be_reached_from_everywhere_else() -> None:
    for status in OrderStatus:
        if status not in TERMINAL:
            assert any(after in TERMINAL for after in ORDER_STEPS[status].values()), status


def test_lost_is_settled_but_comes_back() -> None:
    assert S.LOST in SETTLED
    assert S.LOST not in TERMINAL
    assert ORDER_STEPS[S.LOST] == {
        E.ACCEPT: S.LIVE,
        E.SEE_LIVE: S.LIVE,
        E.DOUBT: S.UNKNOWN,
        E.CANCEL: S.CANCELED,
        E.FILL_UP: S.FILLED,
    }


def test_only_evidence_leads_out_of_doubt() -> None:
    ours = (E.PREPARE, E.REJECT, E.REFUSE_CANCEL, E.HOLD_CANCEL, E.DOUBT)
    assert all(event not in ORDER_STEPS[S.UNKNOWN] for event in ours)


def test_doubt_never_settles_an_order() -> None:
    for steps in ORDER_STEPS.values():
        assert steps.get(E.DOUBT, S.UNKNOWN) is S.UNKNOWN
        assert steps.get(E.REFUSE_CANCEL, S.UNKNOWN) is S.UNKNOWN


@pytest.mark.parametrize(
    ("status", "open_size"),
    [
        (S.INTENDED, 6), (S.PREPARED, 6), (S.LIVE, 6), (S.CANCELING, 6), (S.UNKNOWN, 6), (S.CANCELED, 6),
        (S.LOST, 1), (S.FILLED, 1), (S.REJECTED, 1),
    ],
)  # fmt: skip
def test_doubtful_orders_count_fully_and_settled_ones_with_what_is_claimed(status: OrderStatus, open_size: int) -> None:
    order = some_order(status=status)
    order.size_filled, order.size_claimed = Size(4 * MICRO), Size(5 * MICRO)
    assert order.size_open == open_size * MICRO
    assert order.notional_open == open_size * MICRO // 2


def test_final_word_leaves_only_the_fills_on_their_way() -> None:
    order = some_order(status=S.CANCELED)
    order.size_claimed = Size(5 * MICRO)
    order.has_final_word = True
    assert order.size_open == 5 * MICRO
    order.size_filled = Size(5 * MICRO)
    assert order.size_open == 0


def test_claim_of_a_failed_trade_is_not_pending() -> None:
    order = some_order()
    order.size_claimed, order.size_reversed = Size(5 * MICRO), Size(5 * MICRO)
    assert order.size_pending == 0


@pytest.mark.parametrize(("filled", "is_beyond"), [(10 * MICRO, False), (10_010_000, False), (10_010_001, True)])
def test_shares_are_the_target_of_a_resting_order(filled: int, is_beyond: bool) -> None:
    order = some_order()
    order.size_filled = Size(filled)
    assert order.is_beyond_target() is is_beyond


@pytest.mark.parametrize(("spent", "is_beyond"), [(5 * MICRO, False), (5_005_000, False), (5_005_001, True)])
def test_collateral_is_the_target_of_an_immediate_buy(spent: int, is_beyond: bool) -> None:
    order = some_order(order_type=OrderType.FAK)
    order.size_filled, order.notional_filled = Size(50 * MICRO), Notional(spent)
    assert order.is_beyond_target() is is_beyond


def test_shares_are_the_target_of_an_immediate_sell() -> None:
    order = some_order(order_type=OrderType.FAK, side=Side.SELL)
    order.size_filled = Size(10_010_001)
    assert order.is_beyond_target()


def test_immediate_buy_may_still_spend_its_budget_whatever_it_got() -> None:
    order = some_order(order_type=OrderType.FAK)
    order.size_filled, order.notional_filled = Size(9 * MICRO), Notional(2 * MICRO)
    assert order.notional_open == 3 * MICRO
    assert order.ending is None
    order.has_final_word, order.size_claimed = True, Size(9 * MICRO)
    assert order.notional_open == 0
    assert order.ending is E.CANCEL


def test_order_listed_against_its_own_end_trades_again_in_our_eyes() -> None:
    order = some_order(status=S.CANCELED)
    order.has_final_word = True
    order.still_listed = LISTED_TWICE - 1
    assert (order.is_active, order.can_cancel) == (False, False)
    order.still_listed, order.has_final_word = LISTED_TWICE, False
    assert (order.is_active, order.can_cancel, order.size_open) == (True, True, order.size)


@pytest.mark.parametrize("status", OrderStatus)
def test_cancel_makes_sense_only_where_the_table_takes_it(status: OrderStatus) -> None:
    assert some_order(status=status).can_cancel is (E.SEND_CANCEL in ORDER_STEPS[status])


@pytest.mark.parametrize("status", OrderStatus)
def test_crash_leaves_every_order_in_doubt_or_settled(status: OrderStatus) -> None:
    order = some_order(status=status)
    facts = list(crash_facts(order, Nanos(7)))
    if facts:
        assert [type(fact) for fact in facts] == [OutcomeUnknown]
        assert E.DOUBT in ORDER_STEPS[status]
    else:
        assert status in (*SETTLED, S.UNKNOWN, S.INTENDED)


def test_order_never_signed_never_was() -> None:
    order = some_order(status=S.INTENDED)
    order.exchange_order_id = None
    assert [type(fact) for fact in crash_facts(order, Nanos(7))] == [Rejected]


# The table of orders.


def test_orders_are_found_by_both_ids() -> None:
    order = some_order()
    order.exchange_order_id = None
    orders = Orders((order,))
    assert orders.of_client(order.client_order_id) is order
    assert orders.of_exchange(ExchangeOrderId("x")) is None
    orders.name(order, ExchangeOrderId("x"))
    assert orders.of_exchange(ExchangeOrderId("x")) is order


def test_orders_over_are_no_longer_looked_at_but_still_found() -> None:
    live, done, pending = some_order(1), some_order(2, status=S.FILLED), some_order(3, status=S.FILLED)
    pending.size_claimed = pending.size
    orders = Orders((live, done, pending))
    orders.rest()
    assert orders.working() == [live, pending]
    assert orders.of_client(done.client_order_id) is done
    assert list(orders) == [live, done, pending]
    orders.wake(done)
    assert done in orders.working()


def test_only_settled_orders_without_anything_open_are_forgotten() -> None:
    orders = Orders(tuple(some_order(n, status=status) for n, status in enumerate(OrderStatus)))
    gone = orders.forget(Nanos(1))
    assert [o.status for o in gone] == [S.LOST, S.FILLED, S.REJECTED]  # nobody said what the cancelled one had matched
    assert len(orders) == len(OrderStatus) - 3
    assert all(orders.of_exchange(o.exchange_order_id) is None for o in gone if o.exchange_order_id is not None)


def test_news_keeps_an_order() -> None:
    orders = Orders((some_order(status=S.FILLED, fact_ns=5),))
    assert orders.forget(Nanos(5)) == ()
    assert len(orders.forget(Nanos(6))) == 1


def test_open_orders_of_a_market_include_claimed_fills() -> None:
    done, other = some_order(1, status=S.FILLED), some_order(2)
    done.size_claimed = Size(1)
    other.token_id = TokenId("elsewhere")
    orders = Orders((done, other))
    assert orders.open_in((TokenId("yes"), TokenId("no"))) == [done]
    assert orders.active() == [other]
