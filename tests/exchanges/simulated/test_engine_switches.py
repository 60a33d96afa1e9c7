"""What is not known of production: the engine either way."""

from __future__ import annotations

import random
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal

import pytest

from tbot.core.market import TokenId
from tbot.core.messages import ExchangeOrderId, OrderState, OrderType, Side
from tbot.core.units import MICRO
from tbot.exchanges.simulated.events import OrderChange, OrderChanged
from tbot.exchanges.simulated.ledger import CASH
from tbot.exchanges.simulated.operations import (
    EndReason,
    EngineSettings,
    FeeRounding,
    MarketRules,
    Placed,
    Refused,
    SelfTrade,
)
from tests.exchanges.simulated.desk import ANN, BOB, EVE, NO, RAIN, SNOW, YES, Bench

BUY, SELL = Side.BUY, Side.SELL
FAK, FOK, GTC = OrderType.FAK, OrderType.FOK, OrderType.GTC


# --- share minimum of FAK and FOK -------------------------------------------------------------------------------------


@pytest.mark.parametrize("order_type", [FAK, FOK])
@pytest.mark.parametrize("has_minimum", [False, True])
def test_lots_below_the_share_minimum_are_taken_unless_it_holds_for_all(
    has_minimum: bool, order_type: OrderType
) -> None:
    bench = Bench(settings=EngineSettings(has_share_minimum_for_immediate=has_minimum))
    bench.rest(ANN, SELL, YES, "0.52", 50)
    bench.rest(ANN, BUY, YES, "0.50", 50)
    bought = bench.place(BOB, BUY, YES, "0.52", dollars=1, order_type=order_type, order_id="b")
    sold = bench.place(BOB, SELL, YES, "0.50", 4.99, order_type=order_type, order_id="s")
    if has_minimum:
        assert bought == Refused(text="order b is invalid. Size (1.923076) lower than the minimum: 5")
        assert sold == Refused(text="order s is invalid. Size (4.99) lower than the minimum: 5")
        assert bench.engine.trades == ()
    else:
        assert isinstance(bought, Placed)
        assert isinstance(sold, Placed)
        assert len(bench.engine.trades) == 2


@pytest.mark.parametrize("has_minimum", [False, True])
def test_five_shares_are_always_enough(has_minimum: bool) -> None:
    bench = Bench(settings=EngineSettings(has_share_minimum_for_immediate=has_minimum))
    bench.rest(ANN, SELL, YES, "0.50", 50)
    assert isinstance(bench.place(BOB, BUY, YES, "0.50", dollars=2.5, order_type=FOK), Placed)
    assert isinstance(bench.place(BOB, BUY, YES, "0.50", 4.99), Refused)  # a limit order has it either way


# --- kills on arrival ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("has_events", [False, True])
@pytest.mark.parametrize("order_type", [FAK, FOK])
@pytest.mark.parametrize("side", [BUY, SELL])
def test_an_order_killed_as_it_comes_in_is_told_only_where_set(
    has_events: bool, order_type: OrderType, side: Side
) -> None:
    bench = Bench(settings=EngineSettings(has_kill_events=has_events))
    before, state = len(bench.events), (bench.engine.ledger.state(), bench.engine.trades)
    shares, dollars = (0, 10) if side is BUY else (10, 0)
    reply = bench.place(ANN, side, YES, "0.50", shares, dollars=dollars, order_type=order_type, order_id="gone")
    assert isinstance(reply, Refused)
    told = bench.events[before:]
    assert len(told) == has_events
    for event in told:
        assert isinstance(event, OrderChanged)
        assert (event.account, event.change, event.order.order_id) == (ANN, OrderChange.CANCELLATION, "gone")
        assert (event.order.state, event.order.reason) == (OrderState.CANCELED, EndReason.KILLED)
        assert (event.order.size_matched, event.order.trade_ids) == (0, ())
    assert bench.engine.order(ExchangeOrderId("gone")) is None, "the engine never had it"
    assert (bench.engine.ledger.state(), bench.engine.trades) == state
    bench.wait(3 * 86_400)  # and has nothing of it to forget
    assert isinstance(bench.place(ANN, side, YES, "0.50", 10, order_id="gone"), Placed), "its id is free"


@pytest.mark.parametrize("has_events", [False, True])
def test_no_other_refusal_is_told_and_no_killed_remainder_twice(has_events: bool) -> None:
    bench = Bench(settings=EngineSettings(has_kill_events=has_events))
    bench.rest(BOB, SELL, YES, "0.50", 10)
    before = len(bench.events)
    for price, shares, order_type in (("0.505", 10, FAK), ("0.50", 0.5, FAK), ("0.50", 5000, FOK), ("0.40", 4, GTC)):
        assert isinstance(bench.place(ANN, SELL, YES, price, shares, order_type=order_type), Refused)
    assert bench.events[before:] == []
    bench.place(ANN, BUY, YES, "0.50", dollars=8, order_type=FAK)
    changes = [e.change for e in bench.events[before:] if isinstance(e, OrderChanged) and e.account == ANN]
    assert changes == [OrderChange.PLACEMENT, OrderChange.UPDATE, OrderChange.CANCELLATION]


# --- reservation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_global", [False, True])
@pytest.mark.parametrize("token_id", [SNOW.yes, SNOW.no])
def test_a_dollar_backs_buys_once_in_each_market_or_once_in_all(is_global: bool, token_id: TokenId) -> None:
    bench = Bench(settings=EngineSettings(has_global_reservation=is_global))
    first = bench.rest(EVE, BUY, YES, "0.50", 12)
    second = bench.place(EVE, BUY, token_id, "0.50", 10)
    if not is_global:
        assert isinstance(second, Placed)
        return
    assert isinstance(second, Refused)
    assert "sum of active orders: 6000000, sum of matched orders: 0, order amount (inc. fees): 5000000" in second.text
    assert isinstance(bench.place(EVE, BUY, token_id, "0.50", 8), Placed)
    # What a fill frees and takes is the same for a buy at its limit: nothing is uncovered elsewhere.
    bench.place(ANN, SELL, YES, "0.50", 12)
    assert [o.token_id for o in bench.engine.open_orders(EVE)] == [token_id]
    assert first not in {o.order_id for o in bench.engine.open_orders(EVE)}


@pytest.mark.parametrize("is_global", [False, True])
def test_a_fill_uncovers_buys_elsewhere_only_where_a_dollar_backs_several(is_global: bool) -> None:
    bench = Bench(settings=EngineSettings(has_global_reservation=is_global))
    bench.rest(EVE, BUY, YES, "0.50", 12)
    elsewhere = bench.place(EVE, BUY, SNOW.yes, "0.50", 8 if is_global else 20, order_id="elsewhere")
    assert isinstance(elsewhere, Placed)
    bench.place(ANN, SELL, YES, "0.50", 12)
    order = bench.engine.order(elsewhere.order_id)
    assert order is not None
    expected = (OrderState.LIVE, EndReason.NONE) if is_global else (OrderState.CANCELED, EndReason.NOT_ENOUGH_BALANCE)
    assert (order.state, order.reason) == expected


@pytest.mark.parametrize("is_global", [False, True])
def test_sells_bind_their_token_and_cancels_free_it_either_way(is_global: bool) -> None:
    bench = Bench(settings=EngineSettings(has_global_reservation=is_global))
    bench.rest(ANN, SELL, YES, "0.60", 150)
    assert isinstance(bench.place(ANN, SELL, YES, "0.70", 51), Refused)
    assert isinstance(bench.place(ANN, SELL, NO, "0.70", 200), Placed)
    assert isinstance(bench.place(ANN, SELL, SNOW.yes, "0.70", 200), Placed)


# --- orders of one account -------------------------------------------------------------------------------------------

OWN_MEETINGS = [
    ((SELL, YES, "0.40"), (BUY, YES, "0.60")),
    ((BUY, NO, "0.60"), (BUY, YES, "0.60")),
    ((SELL, NO, "0.40"), (SELL, YES, "0.40")),
    ((BUY, YES, "0.60"), (SELL, YES, "0.40")),
]
Wanted = tuple[Side, TokenId, str]


@pytest.mark.parametrize("self_trade", SelfTrade)
@pytest.mark.parametrize(("own", "newer"), OWN_MEETINGS)
def test_orders_of_one_account_meet_or_do_not(self_trade: SelfTrade, own: Wanted, newer: Wanted) -> None:
    bench = Bench(settings=EngineSettings(self_trade=self_trade))
    older = bench.rest(ANN, *own, 20)
    reply = bench.place(ANN, *newer, 10)
    order = bench.engine.order(older)
    assert order is not None
    if self_trade is SelfTrade.ALLOW:
        assert len(bench.engine.trades) == 1
        return
    assert bench.engine.trades == ()
    if self_trade is SelfTrade.REJECT_NEWEST:
        assert reply == Refused(text="order would match another order of the same account")
        assert order.state is OrderState.LIVE
    else:
        assert isinstance(reply, Placed)
        assert (order.state, order.reason) == (OrderState.CANCELED, EndReason.SELF_TRADE)
        assert [o.order_id for o in bench.engine.open_orders(ANN)] == [reply.order_id]


@pytest.mark.parametrize("self_trade", SelfTrade)
def test_an_order_filled_before_it_comes_to_its_own_hurts_nobody(self_trade: SelfTrade) -> None:
    bench = Bench(settings=EngineSettings(self_trade=self_trade))
    bench.rest(BOB, SELL, YES, "0.40", 10)
    own = bench.rest(ANN, SELL, YES, "0.40", 10)
    assert isinstance(bench.place(ANN, BUY, YES, "0.40", 10), Placed)
    assert [o.order_id for o in bench.engine.open_orders(ANN)] == [own]
    assert [leg.account for trade in bench.engine.trades for leg in trade.legs] == [BOB]


def test_whoever_passes_its_own_meets_those_behind() -> None:
    bench = Bench(settings=EngineSettings(self_trade=SelfTrade.CANCEL_OLDEST))
    for account, price in ((ANN, "0.40"), (BOB, "0.41"), (ANN, "0.42")):
        bench.rest(account, SELL, YES, price, 10)
    refused = bench.place(ANN, BUY, YES, "0.41", dollars=8, order_type=FOK)
    assert isinstance(refused, Refused)
    assert len(bench.engine.open_orders(ANN)) == 2, "a refused order cancels nothing"
    assert isinstance(bench.place(ANN, BUY, YES, "0.42", dollars=4.10, order_type=FOK), Placed)
    assert [(leg.account, leg.size) for t in bench.engine.trades for leg in t.legs] == [(BOB, 10_000_000)]
    assert [o.price for o in bench.engine.open_orders(ANN)] == [420_000]


def test_what_the_cancelled_bound_pays_for_the_newer() -> None:
    bench = Bench(settings=EngineSettings(self_trade=SelfTrade.CANCEL_OLDEST))
    bench.rest(EVE, BUY, NO, "0.50", 16)
    assert isinstance(bench.place(EVE, BUY, YES, "0.40", 16), Refused)  # does not meet it: $8 of $10 are bound
    assert isinstance(bench.place(EVE, BUY, YES, "0.50", 20), Placed)
    assert [o.token_id for o in bench.engine.open_orders(EVE)] == [YES]


@pytest.mark.parametrize("self_trade", [SelfTrade.REJECT_NEWEST, SelfTrade.CANCEL_OLDEST])
def test_an_order_held_meets_what_its_account_placed_meanwhile(self_trade: SelfTrade) -> None:
    rules = MarketRules(market_id=RAIN.market_id, slug="rain", yes=YES, no=NO, seconds_delay=3)
    bench = Bench(rules, settings=EngineSettings(self_trade=self_trade))
    bench.rest(BOB, SELL, YES, "0.50", 10)
    held = bench.rest(ANN, BUY, YES, "0.50", 20)
    own = bench.rest(ANN, SELL, YES, "0.50", 10)
    bench.wait(3)
    views = [bench.engine.order(order_id) for order_id in (held, own)]
    is_rejected = self_trade is SelfTrade.REJECT_NEWEST
    newer, older = (OrderState.CANCELED, OrderState.LIVE) if is_rejected else (OrderState.LIVE, OrderState.CANCELED)
    assert [v.state for v in views if v] == [newer, older]
    assert len(bench.engine.trades) == (0 if is_rejected else 1)


@pytest.mark.parametrize("self_trade", SelfTrade)
def test_a_crowd_of_two_meets_itself_only_where_that_is_allowed(self_trade: SelfTrade) -> None:
    bench, dice = Bench(settings=EngineSettings(self_trade=self_trade)), random.Random(5)
    for _ in range(300):
        price = f"{dice.randint(45, 55) / 100}"
        bench.place(
            dice.choice((ANN, BOB)), dice.choice((BUY, SELL)), dice.choice((YES, NO)), price, dice.randint(5, 9)
        )
        bid, ask = bench.engine.top(RAIN.market_id)
        assert bid is None or ask is None or bid < ask
    meetings = [leg.account == t.taker_account for t in bench.engine.trades for leg in t.legs]
    assert not all(meetings)
    assert any(meetings) is (self_trade is SelfTrade.ALLOW)


# --- fees ------------------------------------------------------------------------------------------------------------

ROUNDINGS = {
    FeeRounding.FLOOR: ROUND_FLOOR,
    FeeRounding.HALF_UP: ROUND_HALF_UP,
    FeeRounding.HALF_EVEN: ROUND_HALF_EVEN,
}


@pytest.mark.parametrize("rounding", FeeRounding)
@pytest.mark.parametrize("side", [BUY, SELL])
def test_a_fee_is_rounded_as_set(rounding: FeeRounding, side: Side) -> None:
    bench, price = Bench(settings=EngineSettings(fee_rounding=rounding)), Decimal("0.45")
    halves = set[Decimal]()
    for hundredths in range(501, 530):
        cash = bench.engine.ledger.owned(BOB, CASH)
        bench.rest(ANN, SELL if side is BUY else BUY, YES, str(price), hundredths / 100)
        bench.rest(BOB, side, YES, str(price), hundredths / 100)
        exact = Decimal(hundredths) / 100 * Decimal("0.04") * price * (1 - price)
        fee = exact.quantize(Decimal("0.00001"), ROUNDINGS[rounding])
        trade = bench.engine.trades[-1]
        assert Decimal(trade.fee) / MICRO == fee
        paid = -trade.notional if side is BUY else trade.notional
        assert bench.engine.ledger.owned(BOB, CASH) - cash == paid - trade.fee, "what is told is what is charged"
        halves |= {exact * 100_000 % 2} & {Decimal("0.5"), Decimal("1.5")}
    assert len(halves) == 2, "halves above even and above odd numbers were among them"
