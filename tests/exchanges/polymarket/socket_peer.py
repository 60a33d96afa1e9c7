"""The far side of a WebSocket: memory pipes, a real server side, and the script that each connection follows."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import trio
import trio.testing
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream

from tbot.core.market import TokenId
from tbot.core.messages import (
    BookSnapshot,
    MarketEvent,
    TickSizeChanged,
)
from tbot.core.units import Nanos
from tbot.exchanges.polymarket.settings import TimeoutSettings
from tbot.exchanges.polymarket.sockets import (
    MarketChannel,
    market_hello,
    open_socket,
)

URL = "ws://exchange.test/ws/market"
YES, NO = TokenId("1"), TokenId("2")
TIMEOUTS = TimeoutSettings()
NOW = Nanos(7)
Serve = Callable[[WebSocketConnection], Awaitable[None]]


class Peer:
    """The far side: accepts streams and runs a script over each."""

    def __init__(self, nursery: trio.Nursery, serve: Serve) -> None:
        self.hellos: list[Any] = []
        self.pings: list[float] = []
        self.heard: list[str] = []  # after the first frame, without the pings
        self.connections = 0
        self._nursery = nursery
        self._serve = serve

    async def connect(self) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        self.connections += 1
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self._accept, theirs)
        return ours

    async def _accept(self, stream: trio.abc.Stream) -> None:
        async with trio.open_nursery() as nursery:
            request = await wrap_server_stream(nursery, stream)
            connection = await request.accept()
            self.hellos.append(json.loads(await connection.get_message()))
            nursery.start_soon(self._hear, connection)
            await self._serve(connection)
            nursery.cancel_scope.cancel()

    async def _hear(self, connection: WebSocketConnection) -> None:
        with suppress(ConnectionClosed):
            while True:
                text = await connection.get_message()
                if text != "PING":
                    self.heard.append(str(text))
                else:
                    self.pings.append(trio.current_time())
                    await connection.send_message("PONG")


@asynccontextmanager
async def peer_of(serve: Serve) -> AsyncIterator[Peer]:
    async with trio.open_nursery() as nursery:
        yield Peer(nursery, serve)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def market_of(
    peer: Peer, ticks: list[TickSizeChanged | BookSnapshot] | None = None
) -> AsyncIterator[MarketChannel]:
    hello = partial(market_hello, (YES, NO))
    learned = ticks if ticks is not None else []
    async with open_socket(URL, peer.connect, hello, TIMEOUTS, settle_s=2) as socket:
        yield MarketChannel(socket, (YES, NO), lambda: NOW, learned.append)


def book(token: str = YES, ms: int = 1_767_225_600_000) -> dict[str, Any]:
    return {
        "event_type": "book",
        "market": "0xab",
        "asset_id": token,
        "timestamp": str(ms),
        "hash": "h",
        "bids": [{"price": "0.48", "size": "30"}],
        "asks": [{"price": "0.52", "size": "25"}],
        "tick_size": "0.01",
        "last_trade_price": "",
    }


def change(*tokens: str) -> dict[str, Any]:
    rows = [
        {"asset_id": t, "price": "0.5", "size": "0", "side": "BUY", "hash": "x", "best_bid": "0.48", "best_ask": "1"}
        for t in tokens
    ]
    return {"event_type": "price_change", "market": "0xab", "timestamp": "1767225600001", "price_changes": rows}


async def data(session: MarketChannel) -> tuple[MarketEvent, ...]:
    while True:
        if events := await session.receive():
            return events


async def read_to_the_end(peer: Peer, seen: list[MarketEvent] | None = None) -> None:
    async with market_of(peer) as session:
        while True:
            events = await session.receive()
            if seen is not None:
                seen += events


async def forever(connection: WebSocketConnection) -> None:
    await trio.sleep_forever()


def sending(*frames: object) -> Serve:
    async def serve(connection: WebSocketConnection) -> None:
        for frame in frames:
            await connection.send_message(frame if isinstance(frame, str | bytes) else json.dumps(frame))
        await trio.sleep_forever()

    return serve
