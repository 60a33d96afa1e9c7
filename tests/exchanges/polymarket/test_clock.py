"""The exchange's clock: measured, put on every stamp, and told when ours is off."""

from __future__ import annotations

import json
from pathlib import Path

import httpx2
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as gen

from tbot.core.market import TokenId
from tbot.core.units import NANOS_PER_MS, NANOS_PER_S, Nanos
from tbot.errors import ExchangeUnavailable
from tbot.exchanges.polymarket.clock import SAMPLES, ExchangeClock
from tbot.exchanges.polymarket.public import PublicMarkets
from tbot.exchanges.polymarket.settings import PolymarketSettings
from tbot.log import set_up
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


@given(gen.integers(2_000, 29_000), gen.sampled_from([-1, 1]))
def test_a_clock_that_is_off_is_corrected_to_the_second(ahead_ms: int, sign: int) -> None:
    clock = measured([sign * ahead_ms] * SAMPLES)
    assert clock.is_off
    assert abs(clock.offset_ns - sign * ahead_ms * NANOS_PER_MS) <= NANOS_PER_S


@given(gen.integers(35, 10**6), gen.booleans())
def test_a_clock_that_catches_up_is_of_use_at_once_and_one_that_cannot_is_not(behind_s: int, can: bool) -> None:
    ours = [int(BEGIN)]

    def catch_up(true_ns: int, within_ns: int) -> bool:
        assert abs(true_ns - ours[0] - behind_s * NANOS_PER_S) <= within_ns
        ours[0] += behind_s * NANOS_PER_S * can
        return can

    clock = ExchangeClock(lambda: Nanos(ours[0]), catch_up)
    for their_s in (BEGIN // NANOS_PER_S + late_s for late_s in (0, 0, behind_s, behind_s, behind_s)):
        clock.learn(their_s, sent_ns=Nanos(ours[0]), received_ns=Nanos(ours[0]))
    assert clock.is_beyond_use != can
    assert clock.caught_up_ns == behind_s * NANOS_PER_S * can
    assert clock.measured_ns == ours[0]


@given(gen.integers(-29_000, 29_000))
def test_true_stamps_may_come_whatever_our_clock_says_and_late_ones_may_not(ahead_ms: int) -> None:
    clock = measured([ahead_ms] * SAMPLES)
    now_ms = BEGIN // NANOS_PER_MS
    assert now_ms + ahead_ms < clock.latest_ms(BEGIN) <= now_ms + max(ahead_ms, 0) + 4_000


def test_clock_never_compared_believes_an_hour_and_no_more() -> None:
    latest_ms = ExchangeClock(lambda: BEGIN).latest_ms(BEGIN)
    assert 3_600_000 < latest_ms - BEGIN // NANOS_PER_MS < 3_700_000


@given(gen.integers(40, 10**9) | gen.integers(-(10**9), -40) | gen.sampled_from([10**30, -(10**400)]))
def test_a_clock_that_is_wrong_is_told_and_not_followed(ahead_s: int) -> None:
    clock = measured([7_000] * SAMPLES)
    for _ in range(100):
        clock.learn(1_790_000_000 + ahead_s, sent_ns=BEGIN, received_ns=BEGIN)
        assert clock.offset_ns == pytest.approx(7 * NANOS_PER_S, abs=NANOS_PER_S)
    assert (clock.is_beyond_use, clock.is_off) == (True, True)
    for _ in range(SAMPLES):
        clock.learn(1_790_000_000, sent_ns=BEGIN, received_ns=BEGIN)
    assert (clock.is_beyond_use, clock.offset_ns) == (False, 0)


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


@pytest.mark.parametrize("told", [b"1" + b"0" * 30, b"1" + b"0" * 400, b"-5", b"0"])
async def test_a_number_that_is_no_time_is_no_answer(autojump_clock: trio.testing.MockClock, told: bytes) -> None:
    routes = {"/time": lambda _request: httpx2.Response(200, content=told), "/version": {"version": 2}}
    gateway = gateway_of(routed(REFERENCE_DATA | routes), geoblock_url="")
    with pytest.raises(ExchangeUnavailable, match="expected Unix seconds"):
        await gateway.can_trade()


async def test_a_running_bot_keeps_its_stamps_when_their_clock_goes_mad(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    ahead_s, stamps = 7, []

    def their_time(_request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json=now_ns() // NANOS_PER_S + ahead_s)

    def orders(request: httpx2.Request) -> httpx2.Response:
        stamps.append(int(request.headers["POLY_TIMESTAMP"]) - now_ns() // NANOS_PER_S)
        return httpx2.Response(200, json={"data": [], "next_cursor": "LTE="})

    empty = {"data": [], "next_cursor": "LTE="}
    routes = {
        "/time": their_time,
        "/data/orders": orders,
        "/data/trades": empty,
        "/balance-allowance": {"balance": "0"},
    }
    gateway = gateway_of(routed(REFERENCE_DATA | routes), geoblock_url="")
    await gateway.load_markets()
    with set_up(file=tmp_path / "log", terminal=None):
        for ahead_s in (7, 7, 7, 7, 7, 86_400, 86_400, 86_400, 86_400, 86_400, 86_400):  # noqa: B007 - a nonlocal clock
            await trio.sleep(21)
            await gateway.report(Nanos(0), ())
    assert stamps == [pytest.approx(7, abs=1)] * 11
    told = [json.loads(line)["event"] for line in (tmp_path / "log").read_text().splitlines()]
    assert told == ["clock.off", "clock.not_followed"]


async def test_a_connection_of_the_market_channel_measures_what_was_measured_long_ago(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ahead_s, asked = 0, 0

    def their_time(_request: httpx2.Request) -> httpx2.Response:
        nonlocal asked
        asked += 1
        return httpx2.Response(200, json=now_ns() // NANOS_PER_S + ahead_s)

    async def refuse(*_args: object) -> trio.abc.Stream:
        raise OSError("nobody there")

    settings = PolymarketSettings(condition_ids=("0x" + "1" * 64,), rest_url="https://exchange.test")
    transport = httpx2.MockTransport(routed({"/time": their_time}))
    public = PublicMarkets(settings, now_ns=now_ns, transport=transport, connect=refuse)
    for ahead_s, times in ((0, 2), (6, 20)):  # noqa: B007 - a nonlocal clock
        for _ in range(times):
            await trio.sleep(5)
            with pytest.raises(ExchangeUnavailable):
                async with public.open_market((TokenId("1"),)):
                    pass
    assert 5 <= asked <= 7  # once in 20 s, however often it connects
    assert public.clock.latest_ms(now_ns()) > now_ns() // NANOS_PER_MS + 6_000
    await public.aclose()
