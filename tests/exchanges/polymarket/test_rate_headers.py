"""What the exchange says of its limits in its headers, and what follows for requests, capabilities and open orders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as gen

from tbot.core.messages import Accepted, ExchangeOrderId, OutcomeUnknown, RejectCode, Rejected, SubmitReply
from tbot.core.units import NANOS_PER_S, Nanos
from tbot.exchanges.polymarket.gateway import PolymarketGateway
from tbot.exchanges.polymarket.limits import TIERS, Lane, RateGate
from tbot.exchanges.polymarket.settings import LimitSettings
from tests.contract.stage import now_ns
from tests.exchanges.polymarket.answers import REFERENCE_DATA, Handler, gateway_of, order_of, routed

Clock = trio.testing.MockClock
LARGE = LimitSettings(orders_per_s=400.0, orders_burst=600.0, cancels_per_s=800.0, cancels_burst=1_200.0)


def headed(status: int, **headers: str | Callable[[], str]) -> Handler:
    """Answer with headers; those that depend on the time are made when asked for."""

    def handle(_: httpx2.Request) -> httpx2.Response:
        told = {name.replace("_", "-"): each if isinstance(each, str) else each() for name, each in headers.items()}
        return httpx2.Response(status, headers=told, content=b"{}")

    return handle


def reset_in(seconds: int) -> Callable[[], str]:
    return lambda: str(-(-now_ns() // NANOS_PER_S) + seconds)


async def gateway_with(handler: Handler, **changes: Any) -> PolymarketGateway:
    gateway = gateway_of(routed(REFERENCE_DATA | {"/order": handler}), **changes)
    await gateway.load_markets()
    return gateway


async def submit(gateway: PolymarketGateway) -> SubmitReply:
    return await gateway.submit(gateway.prepare(order_of(), now_ns()))


async def lane_opens(gateway: PolymarketGateway, lane: Lane = Lane.ORDER) -> float:
    """Tell how long the gate holds the next request of a lane back."""
    began = trio.current_time()
    await gateway._public.gate.enter(lane, by_ns=Nanos(now_ns() + 600 * NANOS_PER_S))
    return trio.current_time() - began


async def test_refusal_without_a_wait_is_waited_for_until_its_reset(autojump_clock: Clock) -> None:
    gateway = await gateway_with(headed(429, poly_ratelimit_reset=reset_in(7), poly_ratelimit_remaining="0"))
    reply = await submit(gateway)
    assert isinstance(reply, Rejected)
    assert reply.code is RejectCode.RATE_LIMITED
    assert reply.retry_after_s == pytest.approx(7, abs=1)
    assert await lane_opens(gateway) == pytest.approx(7, abs=1)


async def test_wait_that_is_named_counts_more_than_the_reset(autojump_clock: Clock) -> None:
    gateway = await gateway_with(headed(429, retry_after="2", poly_ratelimit_reset=reset_in(30)))
    reply = await submit(gateway)
    assert isinstance(reply, Rejected)
    assert reply.retry_after_s == 2
    assert await lane_opens(gateway) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("reset", ["", "x", "-5", "1", "9" * 40, "12.5"])
async def test_reset_that_makes_no_sense_costs_a_second_at_most(autojump_clock: Clock, reset: str) -> None:
    gateway = await gateway_with(headed(429, poly_ratelimit_reset=reset))
    await submit(gateway)
    assert await lane_opens(gateway) <= 1.1


async def test_reset_of_an_answer_that_is_no_refusal_means_nothing(autojump_clock: Clock) -> None:
    gateway = await gateway_with(headed(200, poly_ratelimit_reset=reset_in(30), poly_ratelimit_remaining="59"))
    await submit(gateway)
    assert await lane_opens(gateway) == 0


async def test_reset_beyond_reason_is_asked_again_before(autojump_clock: Clock) -> None:
    gateway = await gateway_with(headed(429, poly_ratelimit_reset=reset_in(10**6)))
    await submit(gateway)
    assert 60 <= await lane_opens(gateway) <= 121


async def test_warning_is_kept_to_as_if_it_were_a_refusal(autojump_clock: Clock) -> None:
    warned = {"poly_ratelimit_warning": "true", "poly_ratelimit_remaining": "-2"}
    gateway = await gateway_with(headed(200, poly_ratelimit_reset=reset_in(3), **warned))
    reply = await submit(gateway)
    assert isinstance(reply, OutcomeUnknown), "the order itself was taken, whatever its body says"
    assert await lane_opens(gateway) == pytest.approx(3, abs=1)


async def test_warning_of_orders_does_not_hold_cancels_back(autojump_clock: Clock) -> None:
    gateway = await gateway_with(headed(200, poly_ratelimit_warning="true", poly_ratelimit_reset=reset_in(30)))
    await submit(gateway)
    assert await lane_opens(gateway, Lane.CANCEL) == 0


async def test_tier_below_the_settings_shrinks_what_may_be_done(autojump_clock: Clock) -> None:
    gateway = await gateway_with(headed(429, poly_ratelimit_tier="Standard"), limits=LARGE)
    before = gateway.capabilities
    assert (before.open_orders_max, before.cancel_batch_max) == (960, 1_000)
    await submit(gateway)
    after = gateway.capabilities
    assert (after.open_orders_max, after.cancel_batch_max) == (96, 120)
    assert [(b.name, b.burst) for b in after.buckets if b.name != "reads"] == [("orders", 60), ("cancels", 120)]


async def test_tier_above_the_settings_is_taken_too(autojump_clock: Clock) -> None:
    gateway = await gateway_with(headed(429, poly_ratelimit_tier="gold"))
    await submit(gateway)
    assert (gateway.capabilities.open_orders_max, gateway.capabilities.cancel_batch_max) == (960, 1_000)


@settings(deadline=None, max_examples=50)
@given(tiers=gen.lists(gen.sampled_from([*TIERS, "Nonsense", ""]), max_size=4), wait_s=gen.integers(0, 30))
def test_after_learning_cancelling_everything_that_may_rest_passes_at_once(tiers: list[str], wait_s: int) -> None:
    async def play() -> None:
        gate = RateGate(LARGE, now_ns)
        for tier in tiers:
            gate.learn_tier(tier)
        await trio.sleep(wait_s + 3)  # a bucket is full after 1.5 s
        resting = gate.open_orders_max
        for number in range(resting):
            gate.resting.sent(ExchangeOrderId(f"0x{number}"), now_ns())
        assert resting <= 0.8 * gate.burst(Lane.CANCEL)
        began = trio.current_time()
        await gate.enter(Lane.ORDER, by_ns=Nanos(now_ns() + NANOS_PER_S))  # one more is let out only if it is
        await gate.enter(Lane.CANCEL, resting, by_ns=now_ns())
        assert trio.current_time() == began

    trio.run(play, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_headers_of_an_accepted_order_change_nothing_but_the_count(autojump_clock: Clock) -> None:
    ids: list[str] = []

    def accept(_: httpx2.Request) -> httpx2.Response:
        told = {"success": True, "errorMsg": "", "orderID": ids[-1], "status": "live"}
        return httpx2.Response(200, json=told, headers={"poly-ratelimit-remaining": "17"})

    gateway = await gateway_with(accept)
    prepared = gateway.prepare(order_of(), now_ns())
    ids.append(prepared.exchange_order_id)
    assert isinstance(await gateway.submit(prepared), Accepted)
    assert gateway._public.gate.available(Lane.ORDER) == 17
