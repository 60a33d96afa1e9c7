"""One gateway after another, as when a desk goes down: the exchange counts them as one, and so do we."""

from __future__ import annotations

import json

import httpx2
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as gen

from tbot.core.messages import Canceled, ExchangeOrderId
from tbot.core.units import NANOS_PER_S
from tbot.exchanges.polymarket.connection import RunWide
from tbot.exchanges.polymarket.settings import LimitSettings, PolymarketSettings
from tests.contract.stage import now_ns
from tests.exchanges.polymarket.answers import gateway_of
from tests.properties.test_ratelimit_properties import exceeds

STANDARD = LimitSettings()


class Exchange:
    """Takes every cancel, and writes down when how many came."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, int]] = []

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        """Cancel all that are named."""
        named = json.loads(request.content)
        ids = named if isinstance(named, list) else [named["orderID"]]
        self.heard.append((int(trio.current_time() * NANOS_PER_S), len(ids)))
        return httpx2.Response(200, json={"canceled": ids, "not_canceled": {}})


@settings(deadline=None, max_examples=25)
@given(gen.lists(gen.tuples(gen.integers(1, 150), gen.booleans(), gen.integers(0, 3)), min_size=1, max_size=8))
def test_gateways_of_a_run_never_send_more_than_one_may(turns: list[tuple[int, bool, int]]) -> None:
    exchange = Exchange()

    async def play() -> None:
        shared = RunWide.begin(PolymarketSettings(), now_ns)
        gateway = gateway_of(exchange.answer, shared)
        for count, is_new, wait_s in turns:
            if is_new:
                await gateway.aclose()
                gateway = gateway_of(exchange.answer, shared)
            await gateway.cancel([ExchangeOrderId(f"0x{number}") for number in range(count)])
            await trio.sleep(wait_s)

    trio.run(play, clock=trio.testing.MockClock(autojump_threshold=0))
    assert not exceeds(exchange.heard, STANDARD.cancels_per_s, int(STANDARD.cancels_burst))


async def test_a_second_gateway_waits_for_what_the_first_has_used(autojump_clock: trio.testing.MockClock) -> None:
    exchange, shared = Exchange(), RunWide.begin(PolymarketSettings(), now_ns)
    ids = [ExchangeOrderId(f"0x{number}") for number in range(100)]
    start = trio.current_time()
    for _ in range(2):
        gateway = gateway_of(exchange.answer, shared)
        assert [type(reply) for reply in await gateway.cancel(ids)] == [Canceled] * 100
        await gateway.aclose()
    assert trio.current_time() - start == pytest.approx(1, abs=0.05)  # 80 more than the burst, at 80 a second
