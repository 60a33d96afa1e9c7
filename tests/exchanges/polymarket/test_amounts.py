"""Signed amounts agree with the official clients where those agree with the exchange."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as gen

from tbot.core.messages import OrderType, Side
from tbot.core.units import MICRO, Price, Size, micro_from_text
from tbot.errors import InvariantViolated
from tbot.exchanges.polymarket.amounts import amounts_of, market_buy_floor, market_sell_floor

AMOUNTS = json.loads((Path(__file__).parent / "vectors" / "amounts.json").read_text())
CENT = Price(10_000)

ticks = gen.sampled_from([Price(t) for t in (100_000, 10_000, 5_000, 2_500, 1_000, 100)])
prices = gen.integers(1, 9_999).map(lambda n: Price(n * 100))
sizes = gen.integers(1, 10_000_000).map(lambda n: Size(n * 10_000))


@pytest.mark.parametrize("case", AMOUNTS["limit"], ids=lambda c: f"{c['side']} {c['size']} @ {c['price']}")
def test_limit_amounts_equal_the_official_clients(case: dict[str, Any]) -> None:
    size = micro_from_text(case["size"]) // 10_000 * 10_000
    price = Price(micro_from_text(case["price"]))
    got = amounts_of(order_type=OrderType.GTC, side=Side(case["side"]), price=price, size=Size(size), tick=CENT)
    assert [str(amount) for amount in got] == case["unified_sdk"]


@pytest.mark.parametrize(
    "case", AMOUNTS["market"], ids=lambda c: f"{c['side']} {c['amount']} @ {c['price']} on {c['tick_size']}"
)
def test_market_amounts_equal_the_decimal_client_as_far_as_the_exchange_takes_them(case: dict[str, Any]) -> None:
    tick = Price(micro_from_text(case["tick_size"]))
    on_grid = Price(micro_from_text(case["price"][:8]) // tick * tick)  # the client floors what is off the grid
    floor = market_buy_floor if case["side"] == "BUY" else market_sell_floor
    got = floor(micro_from_text(case["amount"]), on_grid, tick)
    given, wanted = map(int, case["unified_sdk"])
    assert got == (given, wanted // 100 * 100)  # a fifth decimal, on fine ticks, would be refused


@given(prices, sizes, ticks)
def test_resting_amounts_are_exact_on_every_tick(price: Price, size: Size, tick: Price) -> None:
    for side in Side:
        amounts = amounts_of(order_type=OrderType.GTC, side=side, price=price, size=size, tick=tick)
        collateral, shares = amounts if side is Side.BUY else amounts[::-1]
        assert shares == size
        assert collateral * MICRO == price * size


@given(prices, sizes, ticks)
def test_market_buy_never_overspends_and_never_misses_its_price(price: Price, size: Size, tick: Price) -> None:
    amounts = market_buy_floor(price * size // MICRO, price, tick)
    assert amounts.maker * MICRO <= price * size
    assert amounts.maker % 10_000 == 0
    assert amounts.taker % 100 == 0
    assert amounts.maker * MICRO >= price * amounts.taker  # the price it states is not below its worst price


@given(prices, sizes)
def test_market_sell_asks_for_no_more_than_its_price(price: Price, size: Size) -> None:
    amounts = market_sell_floor(size, price, CENT)
    assert amounts.maker == size
    assert amounts.taker % 100 == 0
    assert amounts.taker * MICRO <= price * size < (amounts.taker + 100) * MICRO


@pytest.mark.parametrize(
    ("price", "size"),
    [(0, 10_000), (1_000_000, 10_000), (-100, 10_000), (500_050, 10_000), (500_000, 0), (500_000, 15_000)],
)
def test_order_the_plan_should_have_stopped_is_our_bug(price: int, size: int) -> None:
    with pytest.raises(InvariantViolated):
        amounts_of(order_type=OrderType.GTC, side=Side.BUY, price=Price(price), size=Size(size), tick=CENT)


def test_market_order_below_a_cent_is_our_bug() -> None:
    with pytest.raises(InvariantViolated, match="too small"):
        amounts_of(order_type=OrderType.FAK, side=Side.BUY, price=Price(10_000), size=Size(10_000), tick=CENT)
