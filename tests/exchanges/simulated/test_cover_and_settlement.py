"""What backs orders, and what becomes of money and tokens from match to confirmation."""

from __future__ import annotations

import pytest

from tbot.core.messages import OrderState, Settlement, Side
from tbot.core.units import MICRO, Notional, Size
from tbot.exchanges.simulated.events import TradeChanged
from tbot.exchanges.simulated.operations import Course, Deposit, Done, EndReason, MergePair, Placed, Refused, SplitPair
from tests.exchanges.simulated.desk import ANN, BOB, EVE, NO, RAIN, SNOW, YES, Bench

BUY, SELL = Side.BUY, Side.SELL


@pytest.fixture
def bench() -> Bench:
    return Bench()


# --- cover -----------------------------------------------------------------------------------------------------------


def test_a_dollar_backs_buys_in_every_market_but_only_once_in_each(bench: Bench) -> None:
    assert isinstance(bench.place(EVE, BUY, YES, "0.50", 20), Placed)
    assert isinstance(bench.place(EVE, BUY, SNOW.yes, "0.50", 20), Placed)
    assert isinstance(bench.place(EVE, BUY, NO, "0.10", 5), Refused)


def test_a_fill_in_one_market_cancels_what_it_uncovers_in_another(bench: Bench) -> None:
    bench.rest(EVE, BUY, YES, "0.50", 20)
    old = bench.rest(EVE, BUY, SNOW.yes, "0.50", 10)
    new = bench.rest(EVE, BUY, SNOW.no, "0.40", 12)
    bench.place(ANN, SELL, YES, "0.50", 8)
    states = {o: bench.engine.order(o) for o in (old, new)}
    assert [(v.state, v.reason) for v in states.values() if v] == [
        (OrderState.LIVE, EndReason.NONE),
        (OrderState.CANCELED, EndReason.NOT_ENOUGH_BALANCE),
    ]
    assert bench.available(EVE) == pytest.approx(6)


def test_sells_are_covered_by_token(bench: Bench) -> None:
    bench.rest(ANN, SELL, YES, "0.60", 150)
    assert isinstance(bench.place(ANN, SELL, YES, "0.70", 51), Refused)
    bench.do(MergePair(account=ANN, market_id=RAIN.market_id, size=Size(100 * MICRO)))
    assert bench.engine.open_orders(ANN) == ()


def test_a_taker_must_afford_the_fee(bench: Bench) -> None:
    bench.rest(ANN, SELL, YES, "0.50", 20)
    assert isinstance(bench.place(EVE, BUY, YES, "0.50", 20), Refused)
    assert isinstance(bench.place(EVE, BUY, YES, "0.50", 19), Placed)
    assert bench.owned(EVE) == pytest.approx(10 - 9.5 - 0.19)


def test_money_cannot_leave_twice(bench: Bench) -> None:
    assert isinstance(bench.do(Deposit(account=EVE, cash=Notional(-11 * MICRO))), Refused)
    order_id = bench.rest(EVE, BUY, YES, "0.50", 20)
    assert isinstance(bench.do(Deposit(account=EVE, cash=Notional(-5 * MICRO))), Done)
    order = bench.engine.order(order_id)
    assert order is not None
    assert order.reason is EndReason.NOT_ENOUGH_BALANCE
    assert isinstance(bench.do(SplitPair(account=EVE, market_id=RAIN.market_id, size=Size(6 * MICRO))), Refused)


# --- settlement ------------------------------------------------------------------------------------------------------


def test_bought_tokens_can_be_sold_once_mined(bench: Bench) -> None:
    bench.rest(ANN, SELL, YES, "0.50", 10)
    bench.place(EVE, BUY, YES, "0.50", 10)
    assert bench.available(EVE, YES) == 0
    refused = bench.place(EVE, SELL, YES, "0.60", 10)
    assert isinstance(refused, Refused)
    assert "balance: 0" in refused.text
    bench.wait(2)
    assert bench.engine.trades[0].settlement is Settlement.MINED
    assert isinstance(bench.place(EVE, SELL, YES, "0.60", 10), Placed)
    bench.wait(3)
    assert [s for s, _ in bench.engine.trades[0].history] == [
        Settlement.MATCHED,
        Settlement.MINED,
        Settlement.CONFIRMED,
    ]


def test_sold_collateral_can_be_spent_once_mined(bench: Bench) -> None:
    bench.rest(ANN, BUY, YES, "0.50", 10)
    before = bench.available(BOB)
    bench.place(BOB, SELL, YES, "0.50", 10)
    assert bench.available(BOB) == before
    balances = bench.engine.balances(BOB)
    assert balances.cash_pending == 4_900_000  # 5 dollars less a fee of 10 x 0.04 x 0.25
    bench.wait(2)
    assert bench.available(BOB) == pytest.approx(before + 4.9)


def test_collateral_of_a_matched_buy_is_shown_until_mined_and_cannot_be_spent_twice(bench: Bench) -> None:
    bench.rest(ANN, SELL, YES, "0.50", 10)
    bench.rest(EVE, BUY, SNOW.yes, "0.20", 10)
    bench.place(EVE, BUY, YES, "0.50", 10)  # 5 dollars and a fee of 10 x 0.04 x 0.25
    balances = bench.engine.balances(EVE)
    assert (balances.cash_settled, balances.cash, balances.cash_leaving) == (10 * MICRO, 4_900_000, 5_100_000)
    refusals = [bench.place(EVE, BUY, token, "0.50", 10) for token in (YES, SNOW.yes)]
    assert [r.text.partition("-> ")[2] for r in refusals if isinstance(r, Refused)] == [
        f"balance: 10000000, {active}sum of matched orders: 5100000, order amount (inc. fees): 5000000"
        for active in ("", "sum of active orders: 2000000, ")
    ]
    bench.wait(2)
    balances = bench.engine.balances(EVE)
    assert (balances.cash_settled, balances.cash, balances.cash_leaving) == (4_900_000, 4_900_000, 0)
    refused = bench.place(EVE, BUY, YES, "0.50", 10)
    assert isinstance(refused, Refused)
    assert refused.text.endswith("-> balance: 4900000, order amount: 5000000")


def test_tokens_of_a_matched_sale_are_shown_until_mined_or_come_back(bench: Bench) -> None:
    bench.rest(ANN, BUY, YES, "0.50", 10)
    bench.place(BOB, SELL, YES, "0.50", 10, course=Course.FAIL)
    assert dict(bench.engine.balances(BOB).tokens_settled)[YES] == 200 * MICRO
    assert dict(bench.engine.balances(BOB).tokens)[YES] == 190 * MICRO
    bench.wait(60)
    balances = bench.engine.balances(BOB)
    assert dict(balances.tokens_settled) == dict(balances.tokens)
    assert dict(balances.tokens)[YES] == 200 * MICRO


COURSES = [
    (Course.CONFIRM, [Settlement.MATCHED, Settlement.MINED, Settlement.CONFIRMED]),
    (Course.RETRY, [Settlement.MATCHED, Settlement.RETRYING, Settlement.MINED, Settlement.CONFIRMED]),
    (Course.FAIL, [Settlement.MATCHED, Settlement.RETRYING, Settlement.FAILED]),
]


@pytest.mark.parametrize(("course", "steps"), COURSES)
def test_every_step_is_told_to_both_parties(bench: Bench, course: Course, steps: list[Settlement]) -> None:
    bench.rest(ANN, SELL, YES, "0.50", 10)
    bench.place(BOB, BUY, YES, "0.50", 10, course=course)
    bench.wait(60)
    told = [(e.account, e.trade.settlement) for e in bench.events if isinstance(e, TradeChanged)]
    assert told == [(account, step) for step in steps for account in (BOB, ANN)]


def test_a_failed_trade_never_happened_for_the_ledger(bench: Bench) -> None:
    before = bench.engine.ledger.holdings()
    maker = bench.rest(ANN, SELL, YES, "0.50", 10)
    bench.rest(ANN, BUY, NO, "0.49", 10)
    bench.place(BOB, BUY, YES, "0.55", 20, course=Course.FAIL)
    assert bench.engine.ledger.holdings() != before
    bench.wait(60)
    after = bench.engine.ledger.holdings()
    assert {h: v for h, v in after.items() if v} == {h: v for h, v in before.items() if v}
    assert bench.engine.ledger.fees == 0
    order = bench.engine.order(maker)
    assert order is not None
    assert order.size_matched == 10 * MICRO  # as on production, the order does not come back
