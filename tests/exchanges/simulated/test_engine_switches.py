"""What is not known of production: the engine either way."""

from __future__ import annotations

import pytest

from tbot.core.market import TokenId
from tbot.core.messages import OrderState, OrderType, Side
from tbot.exchanges.simulated.operations import EndReason, EngineSettings, Placed, Refused
from tests.exchanges.simulated.desk import ANN, BOB, EVE, NO, SNOW, YES, Bench

BUY, SELL = Side.BUY, Side.SELL
FAK, FOK = OrderType.FAK, OrderType.FOK


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
    assert "balance: 10000000, sum of active orders: 6000000, order amount (inc. fees): 5000000" in second.text
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
