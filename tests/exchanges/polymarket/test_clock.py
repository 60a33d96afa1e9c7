"""The exchange's clock: measured, put on every stamp, and told when ours is off."""

from __future__ import annotations

import json

import httpx2
import pytest
import trio.testing
from hypothesis import given
from hypothesis import strategies as gen

from tbot.core.units import NANOS_PER_MS, NANOS_PER_S, Nanos
from tbot.exchanges.polymarket.clock import SAMPLES, ExchangeClock
from tests.contract.stage import now_ns
from tests.exchanges.polymarket.answers import REFERENCE_DATA, gateway_of, order_of, routed

BEGIN = Nanos(1_790_000_000 * NANOS_PER_S)


def measured(differences_ms: list[int], rtt_ms: int = 40) -> ExchangeClock:
    """Measure a clock that is ahead by these much, one answer each."""
    clock = ExchangeClock(lambda: BEGIN)
    for number, ahead_ms in enumerate(differences_ms):
        sent = Nanos(BEGIN + number * 20_130 * NANOS_PER_MS)
        theirs_ns = sent + (rtt_ms // 2 + ahead_ms) * NANOS_PER_MS
        clock.learn(theirs_ns // NANOS_PER_S, sent_ns=sent, received_ns=Nanos(sent + rtt_ms * NANOS_PER_MS))
    return clock


@given(gen.integers(-400, 400))
def test_a_clock_that_is_right_is_believed(ahead_ms: int) -> None:
    clock = measured([ahead_ms] * SAMPLES)
    assert not clock.is_off
    assert clock.now_ns() == BEGIN


@given(gen.integers(2_000, 100_000), gen.sampled_from([-1, 1]))
def test_a_clock_that_is_off_is_corrected_to_the_second(ahead_ms: int, sign: int) -> None:
    clock = measured([sign * ahead_ms] * SAMPLES)
    assert clock.is_off
    assert abs(clock.offset_ns - sign * ahead_ms * NANOS_PER_MS) <= NANOS_PER_S


def test_one_slow_answer_moves_nothing() -> None:
    clock = measured([0, 0, 0])
    clock.learn(1_790_000_300, sent_ns=BEGIN, received_ns=BEGIN)
    assert not clock.is_off


async def test_every_stamp_follows_the_exchange_s_clock(autojump_clock: trio.testing.MockClock) -> None:
    stamps: list[int] = []

    def their_time(_request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json=now_ns() // NANOS_PER_S + 7)

    def order(request: httpx2.Request) -> httpx2.Response:
        stamps.append(int(request.headers["POLY_TIMESTAMP"]))
        stamps.append(int(json.loads(request.content)["order"]["timestamp"]) // 1000)
        return httpx2.Response(400, json={"error": "hm"})

    routes = {"/time": their_time, "/version": {"version": 2}, "/order": order}
    routes["/auth/ban-status/closed-only"] = {"closed_only": False}
    gateway = gateway_of(routed(REFERENCE_DATA | routes), geoblock_url="")
    await gateway.load_markets()
    assert await gateway.can_trade() == ""
    await gateway.submit(gateway.prepare(order_of(), now_ns()))
    assert stamps == [pytest.approx(now_ns() // NANOS_PER_S + 7, abs=1)] * 2


async def test_a_difference_that_no_correction_explains_stops_the_start(
    autojump_clock: trio.testing.MockClock,
) -> None:
    routes = {"/time": now_ns() // NANOS_PER_S - 3_600, "/version": {"version": 2}}
    reason = await gateway_of(routed(REFERENCE_DATA | routes), geoblock_url="").can_trade()
    assert "clock differs" in reason
    assert "3600 s" in reason
