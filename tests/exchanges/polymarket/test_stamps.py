"""A clock that steps while the bot runs: what was refused for its stamp is signed anew; wrong keys stay refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest
import trio
from trio.testing import MockClock

from tbot.core.messages import Accepted, Canceled, RejectCode, Rejected, Throttled
from tbot.core.units import NANOS_PER_S, Nanos
from tbot.errors import AuthenticationFailed, ExchangeUnavailable
from tbot.exchanges.polymarket.clock import SAMPLES
from tbot.exchanges.polymarket.gateway import PolymarketGateway
from tests.contract.stage import now_ns
from tests.exchanges.polymarket.answers import ID, REFERENCE_DATA, echo_accept, gateway_of, order_of, routed

STRICT_S = 10
UNAUTHORIZED = {"error": "Unauthorized/Invalid api key"}


class Exchange:
    """One that checks stamps by a clock of its own, and counts what it is asked."""

    def __init__(self) -> None:
        self.ahead_s = 0
        self.has_key = True
        self.asked: Counter[str] = Counter()
        page = {"data": [], "next_cursor": "LTE="}
        self._signed: dict[str, Any] = {
            "/order": self._order,
            "/data/orders": page,
            "/data/trades": page,
            "/balance-allowance": {"balance": "0"},
            "/v1/heartbeats": {"heartbeat_id": "h"},
            "/auth/ban-status/closed-only": {"closed_only": False},
        }
        self.gateway: PolymarketGateway = gateway_of(self._answer, geoblock_url="")

    async def _answer(self, request: httpx2.Request) -> httpx2.Response:
        await trio.sleep(0.02)
        path = request.url.path
        self.asked[path] += 1
        their_s = now_ns() // NANOS_PER_S + self.ahead_s
        if path in ("/time", "/version"):
            return httpx2.Response(200, json=their_s if path == "/time" else {"version": 2})
        if path not in self._signed:
            return routed(REFERENCE_DATA)(request)
        is_late = abs(int(request.headers["POLY_TIMESTAMP"]) - their_s) > STRICT_S
        if is_late or not self.has_key:
            return httpx2.Response(401, json=UNAUTHORIZED)
        return routed(self._signed)(request)

    def _order(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "DELETE":
            return httpx2.Response(200, json={"canceled": [ID], "not_canceled": {}})
        return echo_accept("live")(request)


async def submit(gateway: PolymarketGateway) -> object:
    return type(await gateway.submit(gateway.prepare(order_of(), now_ns())))


async def cancel(gateway: PolymarketGateway) -> object:
    return [type(reply) for reply in await gateway.cancel([ID])]


async def report(gateway: PolymarketGateway) -> object:
    return (await gateway.report(Nanos(0), ())).cash


Deed = Callable[[PolymarketGateway], Awaitable[object]]
DEEDS: dict[str, tuple[Deed, object]] = {
    "submit": (submit, Accepted),
    "cancel": (cancel, [Canceled]),
    "report": (report, 0),
    "heartbeat": (PolymarketGateway.protect, None),
    "standing": (PolymarketGateway.can_trade, ""),
}


async def started(exchange: Exchange) -> PolymarketGateway:
    await exchange.gateway.load_markets()
    assert await exchange.gateway.can_trade() == ""
    return exchange.gateway


@pytest.mark.parametrize("ahead_s", [-30, -12, 12, 30])
@pytest.mark.parametrize("name", DEEDS)
async def test_what_is_refused_for_its_stamp_goes_out_again_at_once(
    autojump_clock: MockClock, name: str, ahead_s: int
) -> None:
    deed, done = DEEDS[name]
    exchange = Exchange()
    gateway = await started(exchange)
    for exchange.ahead_s in (ahead_s, 0, ahead_s):  # and back, soon
        await trio.sleep(3)  # so often may heartbeats be sent twice
        began = trio.current_time()
        assert await deed(gateway) == done
        assert trio.current_time() - began < 0.5


async def test_many_that_are_refused_together_measure_once(autojump_clock: MockClock) -> None:
    exchange = Exchange()
    gateway = await started(exchange)
    exchange.ahead_s = 20
    exchange.asked.clear()
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(gateway.rest.is_closed_only)
    assert exchange.asked["/time"] == SAMPLES


async def test_credentials_that_are_no_good_stay_refused_and_cost_few_requests(autojump_clock: MockClock) -> None:
    exchange = Exchange()
    gateway = await started(exchange)
    exchange.has_key = False
    exchange.asked.clear()
    for _ in range(20):
        with pytest.raises(AuthenticationFailed):
            await gateway.rest.is_closed_only()
        await trio.sleep(0.2)
    assert exchange.asked == {"/auth/ban-status/closed-only": 20, "/time": SAMPLES}
    (reply,) = await gateway.cancel([ID])
    refused = await gateway.submit(gateway.prepare(order_of(), now_ns()))
    assert isinstance(reply, Throttled)
    assert isinstance(refused, Rejected)
    assert reply.code is refused.code is RejectCode.NOT_AUTHORIZED


async def test_a_time_that_is_not_followed_leaves_open_what_was_refused(autojump_clock: MockClock) -> None:
    exchange = Exchange()
    gateway = await started(exchange)
    exchange.ahead_s = 40  # beyond what is followed
    with pytest.raises(ExchangeUnavailable):
        await gateway.protect()
