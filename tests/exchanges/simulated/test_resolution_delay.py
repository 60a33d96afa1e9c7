"""A market may pay some time after it closed: nothing may be won, lost or traded in between."""

from __future__ import annotations

import msgspec
import pytest

from tbot.core.market import MarketId, TokenId
from tbot.core.messages import Side
from tbot.core.units import MICRO, NANOS_PER_S, Price
from tbot.exchanges.simulated.events import MarketResolved
from tbot.exchanges.simulated.operations import (
    Done,
    EngineSettings,
    MarketRules,
    OpenMarket,
    RedeemTokens,
    Refused,
    ResolveMarket,
)
from tests.exchanges.simulated.desk import ANN, RAIN, YES, Bench

HOUR_S = 3_600
WIN, LOSE = Price(MICRO), Price(0)
REDEEM = RedeemTokens(account=ANN, market_id=RAIN.market_id)
HAIL, SLEET = (
    MarketRules(
        market_id=MarketId(name),
        slug=name,
        yes=TokenId(f"{name}-yes"),
        no=TokenId(f"{name}-no"),
        is_neg_risk=True,
        event="weather",
    )
    for name in ("hail", "sleet")
)


def bench_of(delay_s: int) -> Bench:
    return Bench(settings=EngineSettings(resolution_delay_ns=delay_s * NANOS_PER_S))


def resolved(rules: MarketRules, payout: Price = WIN) -> ResolveMarket:
    return ResolveMarket(market_id=rules.market_id, yes_payout=payout)


def told(bench: Bench) -> list[Price]:
    return [event.yes_payout for event in bench.events if isinstance(event, MarketResolved)]


@pytest.mark.parametrize("delay_s", [0, HOUR_S])
@pytest.mark.parametrize("payout", [WIN, LOSE, Price(MICRO // 2)])
def test_a_market_closes_at_once_and_pays_when_its_delay_is_over(delay_s: int, payout: Price) -> None:
    bench = bench_of(delay_s)
    bench.rest(ANN, Side.BUY, YES, "0.40", 10)
    assert bench.do(resolved(RAIN, payout)) == Done()
    assert bench.engine.open_orders(ANN) == ()
    assert isinstance(bench.place(ANN, Side.BUY, YES, "0.40", 10), Refused)
    if delay_s:
        bench.wait(delay_s - 1)
        assert (bench.do(REDEEM), told(bench)) == (Refused(text="the market is not resolved"), [])
        bench.wait(1)
    cash = bench.available(ANN)
    assert (bench.do(REDEEM), told(bench)) == (Done(), [payout])
    assert bench.available(ANN) - cash == pytest.approx(200)
    assert bench.engine.chain.resolved[RAIN.market_id] == bench.now_ns
    assert bench.wait(2 * HOUR_S) == ()


@pytest.mark.parametrize("delay_s", [0, HOUR_S])
def test_what_was_decided_stays_decided(delay_s: int) -> None:
    bench = bench_of(delay_s)
    for rules in (HAIL, SLEET):
        bench.do(OpenMarket(rules=rules))
    assert bench.do(resolved(HAIL)) == Done()
    assert bench.do(resolved(HAIL, LOSE)) == Refused(text="the market is resolved")
    assert isinstance(bench.do(resolved(SLEET)), Refused), "an event has one winner"
    assert bench.do(resolved(SLEET, LOSE)) == Done()
    bench.wait(delay_s)
    assert [bench.engine.rules(rules.market_id).yes_payout for rules in (HAIL, SLEET)] == [WIN, LOSE]


def test_engines_that_will_pay_differently_have_different_digests() -> None:
    won, lost = bench_of(HOUR_S), bench_of(HOUR_S)
    assert won.engine.digest() == lost.engine.digest()
    won.do(resolved(RAIN, WIN))
    lost.do(resolved(RAIN, LOSE))
    assert won.engine.digest() != lost.engine.digest()
    plain = msgspec.structs.replace(RAIN, is_accepting_orders=False)
    assert won.engine.rules(RAIN.market_id) == lost.engine.rules(RAIN.market_id) == plain
