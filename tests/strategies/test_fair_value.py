"""Estimators: what counts as depth, where the next trade centers, how far the value wanders."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbot.core.market import Market, MarketId, TokenId
from tbot.core.messages import Level, MarketView
from tbot.core.units import MICRO, NANOS_PER_S, Nanos, Price, Size
from tbot.strategies.fair_value import Volatility, imbalance, microprice, qualified

MARKET = Market(market_id=MarketId("m"), slug="m", yes=TokenId("1"), no=TokenId("2"), tick=Price(10_000))
some_size = st.integers(1, 10**9).map(Size)


def side(*levels: tuple[float, float]) -> tuple[Level, ...]:
    return tuple(Level(Price(round(p * MICRO)), Size(round(s * MICRO))) for p, s in levels)


def view(bids: tuple[Level, ...], asks: tuple[Level, ...]) -> MarketView:
    return MarketView(
        market_id=MARKET.market_id,
        market=MARKET,
        bids=bids,
        asks=asks,
        tick=Price(10_000),
        is_stale=False,
        traded_buy=Size(0),
        traded_sell=Size(0),
        exchange_ms=0,
        at_ns=Nanos(0),
    )


def test_dust_at_the_top_is_skipped_when_depth_follows() -> None:
    levels = side((0.5, 3), (0.49, 49), (0.48, 50), (0.47, 1))
    assert qualified(levels, Size(50 * MICRO)) == levels[2:]


def test_dust_counts_when_there_is_nothing_else() -> None:
    levels = side((0.5, 3), (0.49, 49))
    assert qualified(levels, Size(50 * MICRO)) == levels


def test_microprice_leans_to_the_side_with_less_size() -> None:
    assert microprice(side((0.4, 100)), side((0.6, 100))) == pytest.approx(0.5)
    assert microprice(side((0.4, 300)), side((0.6, 100))) == pytest.approx(0.55)


@given(st.lists(some_size, min_size=1, max_size=5), st.lists(some_size, min_size=1, max_size=5))
def test_microprice_mirrors_into_the_other_outcome(bid_sizes: list[Size], ask_sizes: list[Size]) -> None:
    bids = [Level(Price(480_000 - 10_000 * n), size) for n, size in enumerate(bid_sizes)]
    asks = [Level(Price(520_000 + 10_000 * n), size) for n, size in enumerate(ask_sizes)]
    fair = microprice(bids, asks)
    mirrored = microprice(
        [Level(Price(MICRO - a.price), a.size) for a in asks], [Level(Price(MICRO - b.price), b.size) for b in bids]
    )
    assert 0.44 <= fair <= 0.56
    assert mirrored == pytest.approx(1 - fair)


def test_imbalance_weighs_what_each_side_stands_to_lose() -> None:
    assert imbalance(view(side((0.1, 100)), side((0.2, 100)))) == pytest.approx(10 / 80)
    assert imbalance(view(side((0.1, 100)), ())) == math.inf


def test_volatility_of_a_steady_value_is_zero() -> None:
    volatility = Volatility(10)
    for second in range(5):
        volatility.observe(0.5, Nanos(second * NANOS_PER_S))
    assert volatility.sigma == 0


def test_volatility_does_not_depend_on_how_often_one_looks() -> None:
    def wander(step_s: float) -> float:
        volatility, value = Volatility(10), 0.5
        for n in range(round(200 / step_s)):
            value += 0.01 * math.sqrt(step_s) * (1 if n % 2 else -1)
            volatility.observe(value, Nanos(round(n * step_s * NANOS_PER_S)))
        return volatility.sigma

    assert wander(1) == pytest.approx(0.01, rel=1e-3)
    assert wander(0.1) == pytest.approx(0.01, rel=1e-3)


def test_volatility_fades_and_ignores_what_is_not_news() -> None:
    volatility = Volatility(10)
    volatility.observe(0.5, Nanos(0))
    volatility.observe(0.6, Nanos(NANOS_PER_S))
    after_jump = volatility.sigma
    volatility.observe(0.9, Nanos(NANOS_PER_S))
    assert volatility.sigma == after_jump
    volatility.observe(0.6, Nanos(11 * NANOS_PER_S))
    assert volatility.sigma**2 == pytest.approx(after_jump**2 / math.e)
