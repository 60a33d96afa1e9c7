"""Resolution and redemption: who wins is paid once, to the unit; all collateral is accounted for at every moment."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbot.core.messages import OrderState, OrderType, Settlement, Side
from tbot.core.units import MICRO, NANOS_PER_S, Nanos, Price, Size
from tbot.exchanges.simulated.collateral import payout_of
from tbot.exchanges.simulated.ledger import CASH
from tbot.exchanges.simulated.matching import Engine
from tbot.exchanges.simulated.operations import (
    Course,
    Done,
    EndReason,
    MergePair,
    Operation,
    RedeemTokens,
    Refused,
    ResolveMarket,
    SplitPair,
)
from tests.exchanges.simulated.desk import ANN, BOB, EVE, NO, RAIN, YES, Bench
from tests.properties.test_matching_properties import ACCOUNTS, MARKETS, OPENING, Timed, history, settling

BUY, SELL = Side.BUY, Side.SELL
REDEEM_ANN = RedeemTokens(account=ANN, market_id=RAIN.market_id)


def resolved(payout: int) -> ResolveMarket:
    return ResolveMarket(market_id=RAIN.market_id, yes_payout=Price(payout))


@pytest.mark.parametrize("payout", [MICRO, 0, MICRO // 2])
def test_tokens_of_a_resolved_market_pay_what_was_decided(payout: int) -> None:
    bench = Bench()
    before = bench.engine.available(ANN, CASH)
    bench.place(BOB, BUY, NO, "0.60", 100)
    bench.place(ANN, SELL, NO, "0.60", 100)
    bench.wait(10)
    bench.do(resolved(payout))
    held = {token: bench.engine.available(ANN, token) for token in (YES, NO)}
    assert held == {YES: 200 * MICRO, NO: 100 * MICRO}
    proceeds = bench.engine.available(ANN, CASH)
    assert bench.do(REDEEM_ANN) == Done()
    paid = (200 * payout + 100 * (MICRO - payout)) if payout != MICRO // 2 else 150 * MICRO
    assert bench.engine.available(ANN, CASH) - proceeds == paid
    assert proceeds > before
    assert not any(bench.engine.available(ANN, token) for token in (YES, NO))
    assert bench.do(REDEEM_ANN) == Refused(text="not enough balance / allowance")


def test_resolution_ends_trading_and_cancels_all_that_rests() -> None:
    bench = Bench()
    order_id = bench.rest(ANN, BUY, YES, "0.40", 10)
    assert bench.do(REDEEM_ANN) == Refused(text="the market is not resolved")
    assert bench.do(resolved(MICRO)) == Done()
    order = bench.engine.order(order_id)
    assert order is not None
    assert (order.state, order.reason) == (OrderState.CANCELED, EndReason.MARKET_RESOLVED)
    assert isinstance(bench.place(ANN, BUY, YES, "0.40", 10), Refused)
    assert bench.do(resolved(0)) == Refused(text="the market is resolved")


def test_tokens_on_their_way_are_paid_once_they_have_come() -> None:
    bench = Bench()
    bench.rest(ANN, SELL, YES, "0.50", 10)
    bench.place(EVE, BUY, YES, "0.50", dollars=5, order_type=OrderType.FAK)
    bench.do(resolved(MICRO))
    redeem = RedeemTokens(account=EVE, market_id=RAIN.market_id)
    assert isinstance(bench.do(redeem), Refused)
    bench.wait(3)
    cash = bench.engine.available(EVE, CASH)
    assert bench.do(redeem) == Done()
    assert bench.engine.available(EVE, CASH) - cash == 10 * MICRO


def test_a_fill_that_fails_after_resolution_gives_the_winner_back_to_its_seller() -> None:
    bench = Bench()
    bench.rest(ANN, SELL, YES, "0.50", 10)
    bench.place(EVE, BUY, YES, "0.50", dollars=5, order_type=OrderType.FAK, course=Course.FAIL)
    bench.do(resolved(MICRO))
    bench.wait(60)
    assert bench.engine.trades[0].settlement is Settlement.FAILED
    cash = bench.engine.available(ANN, CASH)
    bench.do(REDEEM_ANN)
    assert bench.engine.available(ANN, CASH) - cash == 200 * MICRO
    assert bench.engine.available(EVE, CASH) == 10 * MICRO


def test_pairs_are_merged_by_whoever_holds_both() -> None:
    bench = Bench()
    merge = MergePair(account=ANN, market_id=RAIN.market_id, size=Size(200 * MICRO + 1))
    assert bench.do(merge) == Refused(text="not enough balance / allowance")
    poor = SplitPair(account=EVE, market_id=RAIN.market_id, size=Size(11 * MICRO))
    assert bench.do(poor) == Refused(text="not enough balance / allowance")


def faults_of(engine: Engine) -> list[str]:
    owned = engine.ledger.holdings()
    faults = [f"negative {holding}" for holding, amount in owned.items() if amount < 0]
    locked = [engine.ledger.locked(m.market_id) for m in MARKETS]
    cash = sum(amount for (_, asset), amount in owned.items() if asset == CASH)
    if cash + sum(locked) + engine.ledger.fees != engine.ledger.deposits:
        faults.append("collateral was made or lost")
    for market, backing in zip(MARKETS, locked, strict=True):
        rules = engine.rules(market.market_id)
        held = [sum(v for (_, asset), v in owned.items() if asset == token) for token in (rules.yes, rules.no)]
        if rules.yes_payout is None:
            owing = held[0] * MICRO
            faults += [f"{rules.slug}: unequal {held}"] if held[0] != held[1] else []
        else:
            pays = [payout_of(rules, token) for token in (rules.yes, rules.no)]
            owing = sum(amount * pay for amount, pay in zip(held, pays, strict=True))
        if backing * MICRO < owing:
            faults.append(f"{rules.slug}: {backing} locked do not cover {held}")
    return faults


def with_resolution(log: Timed, seed: int) -> Timed:
    """Put the end of each market and early redemptions somewhere into a history."""
    rng = random.Random(seed)
    told: Timed = [(now, settling(operation)) for now, operation in log]
    for market in MARKETS:
        operations: list[Operation] = [
            ResolveMarket(market_id=market.market_id, yes_payout=Price(rng.choice((0, MICRO // 2, MICRO))))
        ]
        operations += [RedeemTokens(account=rng.choice(ACCOUNTS), market_id=market.market_id) for _ in range(4)]
        for operation in operations:
            place = rng.randrange(len(OPENING) + 5, len(told) + 1)
            told.insert(place, (told[place - 1][0], operation))
    return told


@given(seed=st.integers(0, 2**32), length=st.integers(20, 60))
def test_collateral_adds_up_through_every_resolution(seed: int, length: int) -> None:
    log = with_resolution(history(seed, length), seed)
    engine = Engine()
    for number, (now, operation) in enumerate(log):
        engine.apply(operation, now)
        assert number < len(OPENING) or faults_of(engine) == []
    end = Nanos(log[-1][0] + 60 * NANOS_PER_S)
    for market in MARKETS:
        for account in ACCOUNTS:
            engine.apply(RedeemTokens(account=account, market_id=market.market_id), end)
        assert not any(engine.available(account, token) for account in ACCOUNTS for token in (market.yes, market.no))
        # Rounding keeps less than a millionth of a dollar each time somebody redeems a 50-50.
        assert 0 <= engine.ledger.locked(market.market_id) < 40
    assert faults_of(engine) == []
