"""How the bot reaches the local exchange: in memory, through in-memory pipes byte by byte, or over loopback sockets.

A simulation makes its own throwaway key from its own dice. It never looks at a key in the environment: what cannot be
read cannot sign a real order.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import trio
import trio.testing

from tbot.core.units import Nanos
from tbot.exchanges.gateway import Gateway
from tbot.exchanges.polymarket.gateway import PolymarketConnections, PolymarketGateway
from tbot.exchanges.polymarket.keys import ApiCredentials, SigningKey
from tbot.exchanges.polymarket.pipes import Connect, stream_transport
from tbot.exchanges.polymarket.settings import PolymarketSettings
from tbot.exchanges.simulated.accounts import PlayAccount
from tbot.exchanges.simulated.exchange import LocalExchange
from tbot.exchanges.simulated.gateway import InProcessGateway
from tbot.exchanges.simulated.operations import Account, MarketRules
from tbot.exchanges.simulated.server import LocalServer, ServerSettings
from tbot.exchanges.simulated.transit import LatencySettings

GatewayFactory = Callable[[], Gateway]
# Runs what the exchange's side needs and yields how gateways are made.
Reach = Callable[[], AbstractAsyncContextManager[GatewayFactory]]
# A pipe's reader gets bytes after a delay drawn from this, seconds: about the way to London and back in the protocol.
PIPE_DELAY_S = (0.010, 0.030)


@dataclass(frozen=True, kw_only=True)
class Ends:
    """What every way has in common.

    Attributes:
        exchange: The far end.
        now_ns: The clock.
        rng: Dice of the gateways; forked for each.
        run_id: Makes the order ids of two runs differ.
    """

    exchange: LocalExchange
    now_ns: Callable[[], Nanos]
    rng: random.Random
    run_id: str

    def fork(self) -> random.Random:
        """Give one gateway dice of its own."""
        return random.Random(self.rng.getrandbits(64))


def in_memory(ends: Ends, account: Account, latency: LatencySettings) -> Reach:
    """Reach the exchange by calls, with latency and faults of its own making."""

    @asynccontextmanager
    async def reach() -> AsyncIterator[GatewayFactory]:
        def make() -> Gateway:
            return InProcessGateway(
                ends.exchange, account, run_id=ends.run_id, rng=ends.fork(), now_ns=ends.now_ns, latency=latency
            )

        yield make

    return reach


def play_account(seed: int) -> PlayAccount:
    """Make the throwaway account of a simulation; the same seed makes the same one, so kept state stays its own."""
    return PlayAccount.from_rng(random.Random(f"{seed}/play account"))


def probe_settings(markets: Iterable[MarketRules]) -> PolymarketSettings:
    """Say what the signing probe must cover before a simulation over sockets: its chain and kind of wallet."""
    return PolymarketSettings(condition_ids=tuple(str(rules.market_id) for rules in markets), geoblock_url="")


@dataclass(kw_only=True)
class Wire:
    """The exchange as Polymarket's protocol, and the bot's real gateway in front of it."""

    ends: Ends
    play: PlayAccount
    server: LocalServer

    @classmethod
    def of(cls, ends: Ends, play: PlayAccount, seed: int, settings: ServerSettings) -> Wire:
        """Set up server and keys; nothing listens yet."""
        secret = f"play server {seed}".encode()
        server = LocalServer(ends.exchange, settings, secret=secret, now_ns=ends.now_ns)
        return cls(ends=ends, play=play, server=server)

    def credentials(self) -> ApiCredentials:
        """Create the account's API key, or find it again."""
        address = self.play.address
        keys = self.server.keys
        issued = keys.derive(address, 0) if keys.keys_of(address) else keys.create(address, 0)
        return ApiCredentials(api_key=issued.api_key, secret=issued.secret, passphrase=issued.passphrase)

    def loopback(self) -> Reach:
        """Serve on loopback sockets. The server is a part of its own: it can be restarted, the exchange stays."""

        @asynccontextmanager
        async def reach() -> AsyncIterator[GatewayFactory]:
            async with trio.open_nursery() as nursery:
                addresses = await nursery.start(self.server.listen)
                settings = self._settings(addresses.rest_url, addresses.ws_market_url, addresses.ws_user_url)
                credentials = self.credentials()
                yield lambda: self._gateway(settings, credentials, None)
                nursery.cancel_scope.cancel()

        return reach

    def piped(self) -> Reach:
        """Serve through in-memory pipes with seeded delays: every byte real, no socket, no thread."""

        @asynccontextmanager
        async def reach() -> AsyncIterator[GatewayFactory]:
            host = "exchange.invalid"
            settings = self._settings(f"http://{host}", f"ws://{host}/ws/market", f"ws://{host}/ws/user")
            credentials = self.credentials()
            async with trio.open_nursery() as nursery:
                rest = self._pipe_to(nursery, self.server.serve_rest)
                channel = self._pipe_to(nursery, self.server.serve_websocket)
                # A transport keeps a pool of connections, so each gateway gets its own: pools end with their client.
                yield lambda: self._gateway(
                    settings,
                    credentials,
                    PolymarketConnections(transport=stream_transport(rest), market=channel, user=channel),
                )
                nursery.cancel_scope.cancel()

        return reach

    def _pipe_to(self, nursery: trio.Nursery, serve: Callable[[trio.abc.Stream], Awaitable[None]]) -> Connect:
        async def connect() -> trio.abc.Stream:
            await trio.lowlevel.checkpoint()
            near, far = delayed_pipe(nursery, self.ends.fork())
            nursery.start_soon(serve, far)
            return near

        return connect

    def _settings(self, rest_url: str, ws_market_url: str, ws_user_url: str) -> PolymarketSettings:
        return PolymarketSettings(
            condition_ids=tuple(str(rules.market_id) for rules in self.ends.exchange.markets()),
            rest_url=rest_url,
            ws_market_url=ws_market_url,
            ws_user_url=ws_user_url,
            geoblock_url="",
        )

    def _gateway(
        self, settings: PolymarketSettings, credentials: ApiCredentials, connections: PolymarketConnections | None
    ) -> PolymarketGateway:
        return PolymarketGateway(
            settings,
            key=SigningKey.from_hex(self.play.private_key),
            credentials=credentials,
            now_ns=self.ends.now_ns,
            rng=self.ends.fork(),
            connections=connections,
        )


def delayed_pipe(nursery: trio.Nursery, rng: random.Random) -> tuple[trio.abc.Stream, trio.abc.Stream]:
    """Join two ends of a link whose bytes take their time, in order, like TCP's."""
    near, near_inner = trio.testing.memory_stream_pair()
    far, far_inner = trio.testing.memory_stream_pair()
    nursery.start_soon(_pump, near_inner, far_inner, rng)
    nursery.start_soon(_pump, far_inner, near_inner, rng)
    return near, far


async def _pump(source: trio.StapledStream, sink: trio.StapledStream, rng: random.Random) -> None:  # type: ignore[type-arg]
    waiting: deque[tuple[float, bytes]] = deque()
    arrived = trio.Event()

    async def read() -> None:
        nonlocal arrived
        due = 0.0
        while data := await source.receive_some(65_536):
            due = max(due, trio.current_time() + rng.uniform(*PIPE_DELAY_S))
            waiting.append((due, bytes(data)))
            arrived.set()
        waiting.append((due, b""))
        arrived.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        while True:
            while not waiting:
                arrived = trio.Event()
                await arrived.wait()
            due, data = waiting.popleft()
            await trio.sleep_until(due)
            if not data:
                break
            try:
                await sink.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                break
        nursery.cancel_scope.cancel()
    await _end(source, sink)


async def _end(source: trio.StapledStream, sink: trio.StapledStream) -> None:  # type: ignore[type-arg]
    with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
        await sink.send_stream.aclose()
        await source.receive_stream.aclose()
