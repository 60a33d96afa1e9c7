"""Which orders count for rewards: those near, large and old enough, in a market that has some."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from tbot.core.units import MICRO, Price, Size
from tbot.exchanges.simulated.descriptions import Description, RewardTerms
from tbot.exchanges.simulated.operations import CloseMarket

TERMS = RewardTerms(size_min=Size(20 * MICRO), spread_max=Price(30_000), age_s_min=4)


@pytest.fixture
async def world(make_world: Any) -> AsyncIterator[Any]:
    """Rain has rewards, the other markets have none."""
    async with make_world(described=(Description(slug="rain-tomorrow", rewards=TERMS),)) as opened:
        yield opened


async def is_scoring(trader: Any, order_id: str) -> bool:
    one = (await trader.ask("GET", f"/order-scoring?order_id={order_id}")).json
    many = (await trader.ask("POST", "/orders-scoring", [order_id])).json
    assert many == {order_id: one["scoring"]}
    return bool(one["scoring"])


async def framed(world: Any, bid: str = "0.48", ask_no: str = "0.48") -> None:
    """Bob makes the midpoint 0.50, unless told otherwise."""
    await world.bob.placed("BUY", bid, "50")
    await world.bob.placed("BUY", ask_no, "50", token=world.rain.no)


@pytest.mark.parametrize(
    ("price", "size", "token", "scores"),
    [
        ("0.48", "20", "yes", True),
        ("0.47", "20", "yes", False),  # as far as may be: worth nothing
        ("0.48", "19.99", "yes", False),
        ("0.40", "100", "yes", False),
        ("0.48", "20", "no", True),
        ("0.47", "20", "no", False),
    ],
)
async def test_near_and_large_enough(
    world: Any, autojump_clock: Any, *, price: str, size: str, token: str, scores: bool
) -> None:
    await framed(world)
    order_id = await world.alice.placed("BUY", price, size, token=getattr(world.rain, token))
    await trio.sleep(5)
    assert await is_scoring(world.alice, order_id) is scores


async def test_it_must_have_rested_for_a_while(world: Any, autojump_clock: Any) -> None:
    await framed(world)
    order_id = await world.alice.placed("BUY", "0.49", "20")
    await trio.sleep(3.9)
    assert not await is_scoring(world.alice, order_id)
    await trio.sleep(0.2)
    assert await is_scoring(world.alice, order_id)


async def test_small_orders_do_not_move_the_midpoint(world: Any, autojump_clock: Any) -> None:
    await framed(world, bid="0.40", ask_no="0.52")
    order_id = await world.alice.placed("BUY", "0.43", "20")
    await trio.sleep(5)
    # 0.455 between 0.43 and 0.48; the best bid would make it 0.475, from which 0.43 is too far.
    await world.bob.placed("BUY", "0.47", "5")
    assert await is_scoring(world.alice, order_id)
    await world.bob.placed("BUY", "0.47", "20")
    assert not await is_scoring(world.alice, order_id)


async def test_without_the_other_side_there_is_no_midpoint(world: Any, autojump_clock: Any) -> None:
    await world.bob.placed("BUY", "0.48", "50")
    order_id = await world.alice.placed("BUY", "0.48", "50")
    await trio.sleep(5)
    assert not await is_scoring(world.alice, order_id)
    await world.bob.placed("BUY", "0.48", "50", token=world.rain.no)
    assert await is_scoring(world.alice, order_id)


async def test_what_is_left_of_an_order_counts(world: Any, autojump_clock: Any) -> None:
    await framed(world)
    order_id = await world.alice.placed("BUY", "0.49", "30")
    await trio.sleep(5)
    await world.bob.placed("BUY", "0.51", "10", token=world.rain.no)
    assert await is_scoring(world.alice, order_id)
    await world.bob.placed("BUY", "0.51", "5", token=world.rain.no)
    assert not await is_scoring(world.alice, order_id)


async def test_no_order_counts_that_is_gone_anothers_unknown_or_in_a_market_without_rewards(
    world: Any, autojump_clock: Any
) -> None:
    await framed(world)
    order_id = await world.alice.placed("BUY", "0.49", "20")
    plain = await world.alice.placed("BUY", "0.49", "20", token=world.mayor.yes)
    await world.bob.placed("BUY", "0.49", "20", token=world.mayor.no)
    await trio.sleep(5)
    assert await is_scoring(world.alice, order_id)
    assert not await is_scoring(world.bob, order_id)
    assert not await is_scoring(world.alice, plain)
    assert not await is_scoring(world.alice, "0x" + "1" * 64)
    assert (await world.alice.ask("POST", "/orders-scoring", {"a": 1})).error == "Invalid order payload"
    world.exchange.apply(CloseMarket(market_id=world.rain.market_id))
    assert not await is_scoring(world.alice, order_id)
