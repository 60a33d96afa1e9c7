"""Orders with an end: what they state in their body, for either protocol, and what is refused before signing."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
import trio.testing

from tbot.core.messages import OrderType
from tbot.core.units import NANOS_PER_S, Nanos
from tbot.errors import InvariantViolated
from tbot.exchanges.polymarket.gateway import PolymarketGateway
from tests.contract.stage import now_ns
from tests.exchanges.polymarket.answers import REFERENCE_DATA, gateway_of, order_of, routed

Clock = trio.testing.MockClock
NOW = Nanos(1_790_000_000 * NANOS_PER_S)


async def loaded(**routes: Any) -> PolymarketGateway:
    gateway = gateway_of(routed(REFERENCE_DATA | {f"/{path}": told for path, told in routes.items()}))
    await gateway.load_markets()
    return gateway


def gtd(life_s: float) -> Any:
    expires_ns = Nanos(now_ns() + int(life_s * NANOS_PER_S))
    return order_of(order_type=OrderType.GTD, expires_ns=expires_ns)


@pytest.mark.parametrize(("life_s", "stated_s"), [(130, 190), (130.001, 191), (600.999, 661), (3_600, 3_660)])
async def test_stated_expiration_is_a_minute_later_and_in_whole_seconds(
    autojump_clock: Clock, life_s: float, stated_s: int
) -> None:
    gateway = await loaded()
    body = json.loads(gateway.prepare(gtd(life_s), now_ns()).body)
    assert body["orderType"] == "GTD"
    assert int(body["order"]["expiration"]) == now_ns() // NANOS_PER_S + stated_s


async def test_expiration_is_stated_by_the_exchange_s_clock(autojump_clock: Clock) -> None:
    gateway = await loaded(time=lambda _: httpx2.Response(200, json=now_ns() // NANOS_PER_S + 20))
    await gateway._public.measure_clock()
    assert 19 <= gateway._public.clock.offset_ns / NANOS_PER_S <= 21
    stated_s = int(json.loads(gateway.prepare(gtd(200), now_ns()).body)["order"]["expiration"])
    assert 279 <= stated_s - now_ns() / NANOS_PER_S <= 282


async def test_expiration_is_no_part_of_what_is_signed(autojump_clock: Clock) -> None:
    orders = []
    for life_s in (150, 300):
        gateway = await loaded()
        orders.append(gateway.prepare(gtd(life_s), now_ns()))
    assert orders[0].exchange_order_id == orders[1].exchange_order_id
    assert orders[0].body != orders[1].body


@pytest.mark.parametrize("life_s", [-10, 1, 60, 118])
async def test_end_that_the_exchange_would_refuse_is_not_signed(autojump_clock: Clock, life_s: float) -> None:
    gateway = await loaded()
    with pytest.raises(InvariantViolated, match="too soon"):
        gateway.prepare(gtd(life_s), now_ns())


@pytest.mark.parametrize("order_type", [OrderType.GTC, OrderType.FAK, OrderType.FOK])
async def test_only_orders_of_that_kind_have_an_end(autojump_clock: Clock, order_type: OrderType) -> None:
    gateway = await loaded()
    with pytest.raises(InvariantViolated, match="ends at"):
        gateway.prepare(order_of(order_type=order_type, expires_ns=Nanos(now_ns() + 600 * NANOS_PER_S)), now_ns())
    with pytest.raises(InvariantViolated, match="ends at 0"):
        gateway.prepare(order_of(order_type=OrderType.GTD), now_ns())


async def test_all_other_orders_state_no_expiration(autojump_clock: Clock) -> None:
    gateway = await loaded()
    body = json.loads(gateway.prepare(order_of(), now_ns()).body)
    assert body["order"]["expiration"] == "0"


async def test_least_life_told_is_one_that_can_be_signed(autojump_clock: Clock) -> None:
    gateway = await loaded()
    least = gateway.capabilities.order_life_s_min
    order = gtd(least)
    await trio.sleep(2)  # as long as it may wait to be signed
    assert gateway.prepare(order, now_ns()).body
