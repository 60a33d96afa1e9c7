"""A gateway over a mock transport, and the answers to give it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Coroutine
from typing import Any

import httpx2

from tbot.core.market import Market, MarketId, TokenId
from tbot.core.messages import (
    ClientOrderId,
    ExchangeOrderId,
    OrderType,
    Side,
    StrategyName,
    SubmitOrder,
    SubmitReply,
)
from tbot.core.units import NANOS_PER_S, Nanos, Price, Size
from tbot.exchanges.polymarket.connection import RunWide
from tbot.exchanges.polymarket.gateway import PolymarketConnections, PolymarketGateway
from tbot.exchanges.polymarket.keys import TEST_KEY_HEX, ApiCredentials, SigningKey
from tbot.exchanges.polymarket.settings import PolymarketSettings
from tests.contract.stage import now_ns

CONDITION = "0x" + "ab" * 32
YES, NO = TokenId("11"), TokenId("22")
KEY = SigningKey.from_hex(TEST_KEY_HEX)
CREDENTIALS = ApiCredentials(api_key="our-key", secret="AAAA", passphrase="hush")
ID = ExchangeOrderId("0x" + "11" * 32)
OTHER_ID, THIRD_ID = ExchangeOrderId("0x22"), ExchangeOrderId("0x33")

Handler = Callable[[httpx2.Request], httpx2.Response]
SlowHandler = Callable[[httpx2.Request], Coroutine[None, None, httpx2.Response]]
REFERENCE_DATA: dict[str, Any] = {
    f"/clob-markets/{CONDITION}": {
        "c": CONDITION,
        "t": [{"t": YES, "o": "Yes"}, {"t": NO, "o": "No"}],
        "mos": 5,
        "mts": 0.01,
        "ao": True,
        "fd": {"r": 0.04, "e": 1, "to": True},
    },
    f"/markets/{CONDITION}": {"market_slug": "rain", "condition_id": CONDITION},
    "/tick-size": {"minimum_tick_size": 0.01},
    "/neg-risk": {"neg_risk": False},
    "/time": lambda _request: httpx2.Response(200, json=now_ns() // NANOS_PER_S),
}


def gateway_of(handler: Handler | SlowHandler, shared: RunWide | None = None, **changes: Any) -> PolymarketGateway:
    fields: dict[str, Any] = {"condition_ids": (CONDITION,), "rest_url": "https://exchange.test"}
    return PolymarketGateway(
        PolymarketSettings(**(fields | changes)),
        key=KEY,
        credentials=CREDENTIALS,
        now_ns=now_ns,
        rng=random.Random(1),
        connections=PolymarketConnections(transport=httpx2.MockTransport(handler)),
        shared=shared,
    )


def answering(status: int, body: object = None, **headers: str) -> Handler:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return lambda _request: httpx2.Response(status, content=content, headers=headers)


def routed(routes: dict[str, Any]) -> Handler:
    def handle(request: httpx2.Request) -> httpx2.Response:
        found = routes.get(request.url.path)
        if callable(found):
            response = found(request)
            assert isinstance(response, httpx2.Response)
            return response
        return httpx2.Response(404, json={"error": "not found"}) if found is None else httpx2.Response(200, json=found)

    return handle


def raising(error: type[httpx2.RequestError]) -> Handler:
    def handle(request: httpx2.Request) -> httpx2.Response:
        raise error("broken by the test", request=request)

    return handle


def order_of(**changes: Any) -> SubmitOrder:
    fields: dict[str, Any] = {
        "client_order_id": ClientOrderId("c-1"),
        "strategy": StrategyName("s"),
        "token_id": YES,
        "side": Side.BUY,
        "price": Price(560_000),
        "size": Size(21_040_000),
        "order_type": OrderType.GTC,
        "is_post_only": True,
        "slot_level": 0,
        "deadline_ns": Nanos(now_ns() + NANOS_PER_S),
        "at_ns": now_ns(),
    }
    return SubmitOrder(**(fields | changes))


def in_turn(*handlers: Handler) -> Handler:
    """Give each request to the next handler."""
    rest = iter(handlers)

    def handle(request: httpx2.Request) -> httpx2.Response:
        return next(rest)(request)

    return handle


async def submit_to(handler: Handler) -> SubmitReply:
    gateway = gateway_of(routed(REFERENCE_DATA | {"/order": handler}))
    await gateway.load_markets()
    return await gateway.submit(gateway.prepare(order_of(), now_ns()))


def echo_accept(status: str) -> Handler:
    """Accept with the id that the gateway computed: here it is simply taken from the gateway's own signature."""

    def handle(request: httpx2.Request) -> httpx2.Response:
        body = {"success": True, "errorMsg": "", "orderID": known_id(request), "status": status}
        return httpx2.Response(200, json=body)

    return handle


def known_id(request: httpx2.Request) -> str:
    sent = json.loads(request.content)["order"]
    twin = gateway_of(answering(200))
    twin._public._markets = {YES: market()}
    twin._rng = _Fixed(sent["salt"])  # type: ignore[assignment]
    return (
        str(twin.prepare(order_of(), Nanos(int(sent["timestamp"]) * 1_000_000)).exchange_order_id)
        .upper()
        .replace("0X", "0x")
    )


class _Fixed:
    def __init__(self, salt: int) -> None:
        self._salt = salt

    def getrandbits(self, _bits: int) -> int:
        return self._salt


def market() -> Market:
    return Market(market_id=MarketId(CONDITION), slug="rain", yes=YES, no=NO, tick=Price(10_000))
