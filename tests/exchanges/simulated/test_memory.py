"""What is over is forgotten in time: the crowd's soon, clients' late, sums never; and a crowd may trade for ever."""

from __future__ import annotations

import copy
import gc
import sys
from typing import Any

import msgspec
import pytest

from tbot.core.messages import ExchangeOrderId, OrderState, OrderType, Settlement, Side
from tbot.core.units import MICRO, NANOS_PER_S, Nanos
from tbot.exchanges.simulated.exchange import LocalExchange
from tbot.exchanges.simulated.faults import Faults, FaultSettings
from tbot.exchanges.simulated.flow import FlowSettings
from tbot.exchanges.simulated.operations import CancelEvery, EngineSettings, Placed
from tbot.exchanges.simulated.portfolio import Portfolios
from tbot.exchanges.simulated.settings import ExchangeSettings
from tests.exchanges.simulated.desk import ANN, BOB, EVE, RAIN, START, YES, Bench

BUY, SELL = Side.BUY, Side.SELL
SOON = EngineSettings(crowd_kept_ns=60 * NANOS_PER_S, clients_kept_ns=3_600 * NANOS_PER_S)


@pytest.fixture
def bench() -> Bench:
    return Bench(settings=SOON, crowd=(ANN, EVE))


def known(bench: Bench, *order_ids: str) -> list[bool]:
    return [bench.engine.order(ExchangeOrderId(order_id)) is not None for order_id in order_ids]


def test_cancelled_order_of_the_crowd_is_forgotten_and_one_of_a_client_kept_for_its_time(bench: Bench) -> None:
    ids = [bench.rest(who, BUY, YES, "0.40", 10) for who in (ANN, BOB)]
    resting = bench.rest(ANN, BUY, YES, "0.41", 10)
    for who in (ANN, BOB):
        bench.do(CancelEvery(account=who))
    resting = bench.rest(ANN, BUY, YES, "0.41", 10)
    bench.wait(55)
    assert known(bench, *ids) == [True, True]
    bench.wait(130)
    assert known(bench, *ids, resting) == [False, True, True]
    bench.wait(3_300)
    assert known(bench, *ids, resting) == [False, True, True]
    bench.wait(300)
    assert known(bench, *ids, resting) == [False, False, True]  # what rests is never forgotten
    assert isinstance(bench.place(ANN, BUY, YES, "0.40", 10, order_id=ids[0]), Placed)


def test_trade_is_kept_as_a_clients_when_anybody_in_it_is_one(bench: Bench) -> None:
    bench.rest(ANN, SELL, YES, "0.50", 20)
    for who in (EVE, BOB):
        bench.place(who, BUY, YES, "0.50", 10)
    bench.wait(200)
    (left,) = bench.engine.trades
    assert left.taker_account == BOB
    assert bench.engine.trades_of(ANN) == (left,)
    assert bench.engine.trades_of(EVE) == ()
    bench.wait(3_700)
    assert bench.engine.trades == bench.engine.trades_of(ANN) == ()


@pytest.mark.parametrize("order_type", [OrderType.FAK, OrderType.FOK, OrderType.GTC])
def test_every_way_for_an_order_to_end_is_noted(bench: Bench, order_type: OrderType) -> None:
    bench.rest(ANN, SELL, YES, "0.50", 10)
    dollars = 0 if order_type is OrderType.GTC else 5
    shares = 10 if order_type is OrderType.GTC else 0
    reply = bench.place(EVE, BUY, YES, "0.50", shares, dollars=dollars, order_type=order_type, order_id="x")
    assert isinstance(reply, Placed)
    expiring = bench.place(ANN, BUY, YES, "0.30", 10, order_type=OrderType.GTD, life_s=200, order_id="y")
    assert isinstance(expiring, Placed)
    bench.wait(150)
    bench.wait(150)
    assert known(bench, "x", "y") == [False, False]
    assert bench.engine.orders_of(EVE) == bench.engine.orders_of(ANN) == ()


def test_expiry_of_an_order_that_is_long_over_ends_no_other_of_its_id(bench: Bench) -> None:
    bench.place(ANN, BUY, YES, "0.30", 10, order_type=OrderType.GTD, life_s=1_000, order_id="x")
    bench.do(CancelEvery(account=ANN))
    bench.wait(200)
    bench.wait(100)
    assert known(bench, "x") == [False]
    bench.wait(2_000)  # the step that would have ended it is due
    assert bench.engine.next_due_ns() is None


def test_trade_is_not_forgotten_before_it_is_settled() -> None:
    slow = msgspec.structs.replace(
        SOON, mined_after_ns=600 * NANOS_PER_S, confirmed_after_ns=900 * NANOS_PER_S, clients_kept_max=1
    )
    bench = Bench(settings=slow, crowd=(ANN, EVE))
    bench.rest(ANN, SELL, YES, "0.50", 40)
    for who in (EVE, BOB, BOB):
        bench.place(who, BUY, YES, "0.50", 10)
    for _ in range(14):
        bench.wait(61)
        assert len(bench.engine.trades) == 3
    bench.wait(61)
    assert {trade.settlement for trade in bench.engine.trades} == {Settlement.CONFIRMED}
    bench.wait(61)
    assert len(bench.engine.trades) == 1  # the newest of the client's


def test_clients_keep_so_many_orders_at_most_the_newest(bench: Bench) -> None:
    few = Bench(settings=msgspec.structs.replace(SOON, clients_kept_max=3), crowd=(ANN,))
    ids = []
    for _ in range(8):
        ids.append(few.rest(BOB, BUY, YES, "0.40", 10))
        few.do(CancelEvery(account=BOB), after_s=1)
    few.wait(70)
    assert known(few, *ids) == [False] * 5 + [True] * 3


def test_sums_outlive_what_they_are_sums_of(bench: Bench) -> None:
    stakes = Portfolios(bench.engine)
    bench.rest(ANN, SELL, YES, "0.50", 20)
    bench.place(EVE, BUY, YES, "0.50", 10)
    bench.wait(10)
    while stakes.update():
        pass
    before = {account: copy.deepcopy(stakes.stakes(account)) for account in (ANN, EVE)}
    assert [record.account for record in stakes.records if record.account == EVE]
    bench.wait(70)
    bench.wait(70)
    assert bench.engine.trades == ()
    while stakes.update():
        pass
    assert {account: stakes.stakes(account) for account in (ANN, EVE)} == before
    assert [record.account for record in stakes.records if record.account in (ANN, EVE)] == []
    assert {ANN, BOB, EVE} <= set(stakes.accounts())
    turnover = bench.engine.turnover
    assert turnover.shares(RAIN.market_id) == 10 * MICRO
    assert turnover.notional(RAIN.market_id) == turnover.notional_of_day(RAIN.market_id, bench.now_ns) == 5 * MICRO
    assert turnover.notional_of_day(RAIN.market_id, Nanos(bench.now_ns + 86_400 * NANOS_PER_S)) == 0


def test_state_is_a_function_of_the_operations(bench: Bench) -> None:
    def run() -> str:
        again = Bench(settings=SOON, crowd=(ANN, EVE))
        for number in range(60):
            again.place((ANN, BOB)[number % 2], SELL, YES, "0.50", 10)
            again.place(EVE, BUY, YES, "0.50", 0, dollars=1, order_type=OrderType.FAK)
            again.do(CancelEvery(account=ANN), after_s=17)
        return again.engine.digest()

    assert run() == run()


# --- for ever --------------------------------------------------------------------------------------------------------


def live(engine: EngineSettings, minutes: int) -> list[tuple[int, int]]:
    """Let a crowd trade, with everything that reads along; give (records, blocks of memory) at each quarter."""
    clock = [START]
    settings = ExchangeSettings(engine=engine, flow=FlowSettings())
    exchange = LocalExchange(settings, seed=3, now_ns=lambda: clock[0], faults=Faults(FaultSettings(), seed=3))
    portfolios = Portfolios(exchange.engine)
    told = []
    for quarter in range(1, 5):
        while (due := exchange.next_ns() or clock[0]) < START + quarter * minutes * 15 * NANOS_PER_S:
            clock[0] = max(clock[0], due)
            exchange.step()
        gc.collect()
        records = [exchange.engine._orders._orders, exchange.engine.trades, exchange.engine.chain._entries]
        told.append((sum(map(len, records)) + len(portfolios.records), sys.getallocatedblocks()))
    assert exchange.engine.turnover.shares(settings.markets[0].market_id) > 0
    return told


@pytest.mark.slow
def test_memory_is_flat_however_long_the_crowd_trades() -> None:
    flat = live(EngineSettings(crowd_kept_ns=60 * NANOS_PER_S), minutes=24)
    grown = live(EngineSettings(crowd_kept_ns=86_400 * NANOS_PER_S), minutes=24)
    print(flat, grown)
    # A minute or two of records at any time, against all 24 minutes of them; and what they take.
    assert max(records for records, _ in flat) < 0.2 * grown[3][0]
    assert grown[3][0] > 3 * grown[0][0]
    assert flat[3][1] - flat[0][1] < 0.1 * (grown[3][1] - grown[0][1])


def test_order_states_that_go_on_are_not_over() -> None:
    over: dict[Any, bool] = {}
    bench = Bench(settings=SOON, crowd=(ANN,))
    order_id = bench.rest(ANN, BUY, YES, "0.40", 10)
    order = bench.engine._orders[order_id]
    for order.state in OrderState:
        over[order.state] = order.is_over
    assert [state for state, is_over in over.items() if not is_over] == [OrderState.LIVE, OrderState.DELAYED]
