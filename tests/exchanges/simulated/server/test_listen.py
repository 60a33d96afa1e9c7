"""Real loopback sockets: ports, and the official client as an independent peer."""

from __future__ import annotations

import json
import random
import socket
import time
from typing import Any, cast

import httpcore2
import httpx2
import pytest
import trio
import trio.testing
from py_clob_client_v2.client import ClobClient
from py_clob_client_v2.clob_types import (
    AssetType,
    BalanceAllowanceParams,
    MarketOrderArgsV2,
    OrderArgsV2,
    OrderPayload,
    OrderType,
    PartialCreateOrderOptions,
)
from py_clob_client_v2.exceptions import PolyApiException
from trio.testing import memory_stream_pair
from trio_websocket import open_websocket_url

from tbot.core.units import MICRO, Nanos, Notional
from tbot.errors import ConfigError
from tbot.exchanges.simulated.accounts import PlayAccount
from tbot.exchanges.simulated.exchange import LocalExchange
from tbot.exchanges.simulated.faults import Faults, FaultSettings
from tbot.exchanges.simulated.http import Handler, Reply, Request
from tbot.exchanges.simulated.operations import Account, EngineSettings
from tbot.exchanges.simulated.server import Addresses, LocalServer, ServerSettings
from tbot.exchanges.simulated.settings import DEFAULT_MARKETS, ExchangeSettings


def wall_ns() -> Nanos:
    return Nanos(time.time_ns())


def make_server(settings: ServerSettings) -> tuple[LocalExchange, LocalServer]:
    quick = EngineSettings(mined_after_ns=50_000_000, confirmed_after_ns=100_000_000)
    exchange = LocalExchange(
        ExchangeSettings(flow=None, engine=quick), seed=1, now_ns=wall_ns, faults=Faults(FaultSettings(), seed=1)
    )
    return exchange, LocalServer(exchange, settings, secret=b"test", now_ns=wall_ns)


async def test_free_ports_are_reported_as_loopback_urls(nursery: trio.Nursery) -> None:
    _, server = make_server(ServerSettings())
    addresses: Addresses = await nursery.start(server.listen)
    assert addresses.rest_url.startswith("http://127.0.0.1:")
    assert addresses.ws_user_url.endswith("/ws/user")
    async with open_websocket_url(addresses.ws_market_url) as websocket:
        await websocket.send_message(json.dumps({"assets_ids": [DEFAULT_MARKETS[0].yes], "type": "market"}))
        (book,) = json.loads(await websocket.get_message())
        assert book["asset_id"] == DEFAULT_MARKETS[0].yes
    nursery.cancel_scope.cancel()


async def test_bug_is_told_when_it_is_met_and_the_next_request_is_served(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def buggy(_: Request) -> Reply:
        raise LookupError("planted")

    told: list[str] = []
    exchange = LocalExchange(
        ExchangeSettings(flow=None), seed=1, now_ns=wall_ns, faults=Faults(FaultSettings(), seed=1)
    )
    on_crash = lambda crash: told.append(str(crash))  # noqa: E731
    server = LocalServer(exchange, ServerSettings(), secret=b"test", now_ns=wall_ns, on_crash=on_crash)
    cast("dict[tuple[str, str], Handler]", server.routes)["GET", "/ok"] = buggy
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve_rest, theirs)
        for count in (1, 2):
            await ours.send_all(b"GET /ok HTTP/1.1\r\nhost: x\r\n\r\n")
            answer = bytes(await ours.receive_some())
            assert (answer[:12], b"planted" in answer) == (b"HTTP/1.1 500", False)
            assert told == ["planted"] * count
        nursery.cancel_scope.cancel()
    assert len(server.crashes) == 2


@pytest.mark.parametrize("which", ["rest_port", "ws_port"])
async def test_busy_port_is_a_config_error_in_one_sentence(which: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        _, server = make_server(ServerSettings(**{which: port}))
        with pytest.raises(ConfigError, match=rf"^cannot listen on 127\.0\.0\.1:{port} \(.*\): choose another port"):
            await server.listen()


def official_session(url: str, account: PlayAccount, rival: PlayAccount) -> dict[str, Any]:
    """What an ordinary user of the official client does in a first session; runs in a thread."""
    token = DEFAULT_MARKETS[0].yes
    other = ClobClient(url, 137, key=rival.private_key)
    other.set_api_creds(other.create_or_derive_api_key())
    client = ClobClient(url, 137, key=account.private_key)
    created, derived = client.create_api_key(), client.derive_api_key()
    assert client.create_or_derive_api_key() == derived
    client.set_api_creds(created)
    seen: dict[str, Any] = {"same_key": created == derived, "ok": client.get_ok(), "version": client.get_version()}
    resting = client.create_and_post_order(OrderArgsV2(token_id=token, price=0.4, size=25, side="BUY"))
    seen["resting"] = resting
    seen["open"] = client.get_open_orders()
    seen["order"] = client.get_order(resting["orderID"])
    seen["book"] = client.get_order_book(token)
    seen["hash"] = client.get_order_book_hash(client_book(client, token))
    seen["sold"] = other.create_and_post_market_order(
        MarketOrderArgsV2(token_id=DEFAULT_MARKETS[0].no, amount=6, side="BUY", price=0.6, order_type=OrderType.FAK),
        PartialCreateOrderOptions(tick_size="0.01", neg_risk=False),
        order_type=OrderType.FAK,
    )
    seen["trades"] = client.get_trades()
    seen["cancelled"] = client.cancel_order(OrderPayload(orderID=resting["orderID"]))
    seen["all"] = client.cancel_all()
    seen["balance"] = client.get_balance_allowance(
        BalanceAllowanceParams(asset_type=AssetType.COLLATERAL, signature_type=0)
    )
    seen["beat"] = client.post_heartbeat("")
    try:
        client.create_and_post_order(OrderArgsV2(token_id=token, price=0.4, size=1, side="BUY"))
    except PolyApiException as refusal:
        seen["refusal"] = (refusal.status_code, refusal.error_msg)
    return seen


def client_book(client: ClobClient, token: str) -> Any:
    from py_clob_client_v2.utilities import parse_raw_orderbook_summary

    return parse_raw_orderbook_summary(client.get_order_book(token))


class MemoryStream(httpcore2.AsyncNetworkStream):
    """One end of a pipe, as httpx2's pool wants it."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, *args: Any, **kwargs: Any) -> bytes:
        return bytes(await self._stream.receive_some(max_bytes))

    async def write(self, buffer: bytes, *args: Any, **kwargs: Any) -> None:
        await self._stream.send_all(buffer)

    async def aclose(self) -> None:
        await self._stream.aclose()


class MemoryNetwork(httpcore2.AsyncNetworkBackend):
    """Connects to the server without a socket."""

    def __init__(self, nursery: trio.Nursery, server: LocalServer) -> None:
        self._nursery, self._server = nursery, server
        self.connections = 0

    async def connect_tcp(self, *args: Any, **kwargs: Any) -> MemoryStream:
        ours, theirs = memory_stream_pair()
        self._nursery.start_soon(self._server.serve_rest, theirs)
        self.connections += 1
        return MemoryStream(ours)


async def test_pooled_client_keeps_its_connection_over_memory_streams(world: Any, autojump_clock: Any) -> None:
    network = MemoryNetwork(world.nursery, world.server)
    transport = httpx2.AsyncHTTPTransport()
    transport._pool = httpcore2.AsyncConnectionPool(network_backend=network, keepalive_expiry=60)
    async with httpx2.AsyncClient(transport=transport, base_url="http://exchange") as client:
        body = json.dumps(world.alice.order("BUY", "0.50", "10")).encode()
        placed = await client.post("/order", content=body, headers=world.alice.l2("POST", "/order", body))
        assert placed.json()["status"] == "live"
        for _ in range(3):
            await trio.sleep(20)
            assert (await client.get("/ok")).text == "OK"
    assert network.connections == 1


@pytest.mark.slow
async def test_official_client_trades_and_cannot_tell(nursery: trio.Nursery) -> None:
    exchange, server = make_server(ServerSettings())
    rng = random.Random(3)
    account, rival = PlayAccount.from_rng(rng), PlayAccount.from_rng(rng)
    for member in (account, rival):
        exchange.deposit(Account(member.address), Notional(1_000 * MICRO))
    await nursery.start(exchange.run)
    addresses: Addresses = await nursery.start(server.listen)
    seen = await trio.to_thread.run_sync(official_session, addresses.rest_url, account, rival)
    nursery.cancel_scope.cancel()
    assert server.crashes == []
    assert (seen["same_key"], seen["ok"], seen["version"]) == (True, "OK", 2)
    assert seen["resting"]["status"] == "live"
    assert [order["id"] for order in seen["open"]] == [seen["resting"]["orderID"]] == [seen["order"]["id"]]
    assert seen["book"]["hash"] == seen["hash"]
    assert (seen["sold"]["status"], seen["sold"]["makingAmount"], seen["sold"]["takingAmount"]) == (
        "matched",
        "6",
        "10",
    )
    assert [trade["trader_side"] for trade in seen["trades"]] == ["MAKER"]
    assert seen["cancelled"] == {"canceled": [seen["resting"]["orderID"]], "not_canceled": {}}
    assert seen["all"] == {"canceled": [], "not_canceled": {}}
    assert seen["balance"]["balance"] == "996000000"
    assert seen["beat"]["heartbeat_id"]
    assert seen["refusal"][0] == 400
    assert "lower than the minimum: 5" in str(seen["refusal"][1])
