"""The local exchange on the wire: Polymarket's REST and WebSocket in front of `LocalExchange`.

Connections come from loopback sockets (`listen`) or from anywhere else one at a time (`serve_rest`, `serve_websocket`):
a simulation in virtual time hands in the ends of in-memory pipes and meets every byte a socket would carry.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from ipaddress import ip_address
from itertools import count
from math import ceil
from typing import Annotated

import msgspec
import trio

from tbot.core.units import NANOS_PER_S, Nanos, Notional
from tbot.errors import ConfigError
from tbot.exchanges.simulated.accounts import ApiCredentials, KeyRing, PlayAccount
from tbot.exchanges.simulated.address_windows import AddressWindows, WindowSettings
from tbot.exchanges.simulated.catalog import Catalog
from tbot.exchanges.simulated.channels import MARKET_PATH, USER_PATH, ChannelSettings, serve_websocket
from tbot.exchanges.simulated.data_queries import refused_path
from tbot.exchanges.simulated.descriptions import Description
from tbot.exchanges.simulated.exchange import LocalExchange
from tbot.exchanges.simulated.http import (
    HttpLimits,
    Reply,
    Request,
    Response,
    Routes,
    dispatcher,
    error_response,
    serve_http,
)
from tbot.exchanges.simulated.links import Link
from tbot.exchanges.simulated.operations import Account
from tbot.exchanges.simulated.quota import Quotas, QuotaSettings
from tbot.exchanges.simulated.rest_account import AccountRoutes
from tbot.exchanges.simulated.rest_control import ControlRoutes
from tbot.exchanges.simulated.rest_data import DATA_PATH, DataRoutes
from tbot.exchanges.simulated.rest_data_markets import DataMarketRoutes
from tbot.exchanges.simulated.rest_gamma import GAMMA_PATH, GammaRoutes
from tbot.exchanges.simulated.rest_geoblock import GEOBLOCK_PATH, GeoblockRoutes, Place, PlaceSettings
from tbot.exchanges.simulated.rest_orders import OrderRoutes
from tbot.exchanges.simulated.rest_prices import PriceRoutes
from tbot.exchanges.simulated.rest_public import PublicRoutes
from tbot.exchanges.simulated.rest_relayer import RELAYER_PATH, RelayerRoutes
from tbot.exchanges.simulated.rest_rpc import RPC_PATH, RpcRoutes
from tbot.exchanges.simulated.standing import Standings
from tbot.exchanges.simulated.state import Directory, PriceOfBuy, ServerState
from tbot.exchanges.simulated.verify import OrderVerifier

Port = Annotated[int, msgspec.Meta(ge=0, le=65_535)]


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The local server.

    Attributes:
        host: Address to listen on. Loopback, unless the operator insists: anybody who reaches it can trade.
        rest_port: 0 = any free port.
        ws_port: 0 = any free port; both channels share it.
        has_control: Whether markets can be resolved, pairs split and modes switched by request; on loopback only.
        chain_id: Of the signatures asked for.
        skew_s_max: Largest clock difference of a signed request.
        quota: Rate limits a signer.
        price_of_buy: Which best price `/price` and `/prices` tell for side BUY; SELL is the other. Sources disagree.
        place: Where callers are said to be, and whether one may trade from there.
        windows: Rate limits an address.
        http: Limits a connection.
        channels: Patience of the channels.
    """

    host: str = "127.0.0.1"
    rest_port: Port = 0
    ws_port: Port = 0
    has_control: bool = False
    chain_id: int = 137
    skew_s_max: float = 10.0
    quota: QuotaSettings = QuotaSettings()
    price_of_buy: PriceOfBuy = "bid"
    place: PlaceSettings = PlaceSettings()
    windows: WindowSettings = WindowSettings()
    http: HttpLimits = HttpLimits()
    channels: ChannelSettings = ChannelSettings()

    def __post_init__(self) -> None:
        """Refuse to give control to strangers."""
        if self.has_control and not is_loopback(self.host):
            raise ValueError(f"expected has_control = false on a host that is not loopback, found host {self.host!r}")


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


# One generator a connection, in order of connection: what one reader is sent does not depend on how another reads.
def _dice(secret: bytes) -> Callable[[], random.Random]:
    numbers = count(1)
    return lambda: random.Random(f"{secret.hex()}/feed/{next(numbers)}")


def too_many_requests(wait_ns: int) -> Response:
    """Refuse as the content network does: in plain text, with the whole seconds to wait."""
    headers = (("Retry-After", str(max(1, ceil(wait_ns / NANOS_PER_S)))),)
    return Response(status=429, body=b"Too Many Requests", headers=headers, content_type="text/plain; charset=UTF-8")


def _not_there(path: str, text: str, status: int) -> Response:
    is_data = path == DATA_PATH or path.startswith(f"{DATA_PATH}/")
    return refused_path(text, status=status) if is_data else error_response(text, status=status)


def _peer(stream: trio.abc.Stream) -> str:
    if not isinstance(stream, trio.SocketStream):
        return ""
    try:
        return str(stream.socket.getpeername()[0])
    except OSError:
        return ""  # gone already


class Addresses(msgspec.Struct, frozen=True, kw_only=True):
    """Where the server listens."""

    rest_url: str
    gamma_url: str
    data_url: str
    relayer_url: str
    geoblock_url: str
    rpc_url: str
    ws_market_url: str
    ws_user_url: str


class LocalServer:
    """One exchange, served.

    Args:
        exchange: Driven by its own `run`, not by the server.
        settings: Ports and limits.
        secret: Seed of the API keys and of the way of frames; the same secret gives the same keys after a restart.
        now_ns: The clock of the exchange.
        described: Words for markets and events; what is left out is made from slugs.
        on_crash: Told each of the `crashes` at once.

    Attributes:
        keys: API keys and wallets.
        routes: Method and path of everything served by request; "{}" stands for any last segment.
        crashes: Bugs met while serving a request, oldest first: the client got a 500 or a closed connection, the
            exchange goes on. Those met by what time does are told here too by an exchange that contains them. Whoever
            judges a run demands that this is empty.
    """

    def __init__(
        self,
        exchange: LocalExchange,
        settings: ServerSettings,
        *,
        secret: bytes,
        now_ns: Callable[[], Nanos],
        described: Sequence[Description] = (),
        on_crash: Callable[[Exception], None] = lambda _: None,
    ) -> None:
        """Build the routes; listen to nothing yet."""
        verifier = OrderVerifier(settings.chain_id)
        self.keys = KeyRing(server_secret=secret, verifier=verifier, skew_s_max=settings.skew_s_max)
        exchange.targets.has_wallet.append(self.keys.has_wallet)
        exchange.targets.has_key.append(self.keys.has_key)
        self.crashes: list[Exception] = []
        self._on_crash = on_crash
        self._settings = settings
        self._windows = AddressWindows(settings.windows)
        self._state = ServerState(
            exchange=exchange,
            keys=self.keys,
            verifier=verifier,
            quotas=Quotas(settings.quota),
            directory=Directory(exchange, self.keys),
            catalog=Catalog(exchange, described, opened_ns=now_ns()),
            modes=exchange.modes,
            place=Place(settings.place),
            standings=Standings(),
            now_ns=now_ns,
            feed_dice=_dice(secret),
            price_of_buy=settings.price_of_buy,
        )
        kinds = (
            PublicRoutes,
            PriceRoutes,
            AccountRoutes,
            OrderRoutes,
            GammaRoutes,
            DataRoutes,
            DataMarketRoutes,
            RelayerRoutes,
            RpcRoutes,
        )
        tables = [kind(self._state).routes() for kind in kinds]
        tables.append(GeoblockRoutes(self._state.place).routes())
        if settings.has_control:
            tables.append(ControlRoutes(self._state).routes())
        self.routes: Routes = {route: handler for table in tables for route, handler in table.items()}
        self._dispatch = dispatcher(self.routes, _not_there)

    def enroll(self, account: PlayAccount, cash: Notional) -> ApiCredentials:
        """Give a play account its first API key and a deposit (micro-dollars) into its own address.

        Raises:
            HttpRefusal: It has that key already.
        """
        credentials = self.keys.create(account.address, 0)
        self._state.exchange.deposit(Account(account.address), cash)
        return credentials

    async def serve_rest(self, stream: trio.abc.Stream, address: str = "") -> None:
        """Serve one HTTP connection until it ends; the stream is closed on return.

        Args:
            stream: Owned from here on.
            address: Whose requests they are; "" = what the socket says. All streams without a socket are one address.
        """
        answer = partial(self._answer, address or _peer(stream))
        await self._contained(partial(serve_http, stream, answer, self._settings.http))

    async def serve_websocket(self, stream: trio.abc.Stream) -> None:
        """Serve one WebSocket connection until it ends; the stream is closed on return."""
        link = Link(stream, self._state.exchange.faults, self._state.now_ns)
        await self._contained(partial(serve_websocket, link, self._state, self._settings.channels))

    async def listen(self, *, task_status: trio.TaskStatus[Addresses] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve both ports until cancelled; reports the addresses once it listens.

        Raises:
            ConfigError: A port cannot be had.
        """
        async with AsyncExitStack() as stack:
            rest, rest_at = await self._open(self._settings.rest_port, stack)
            channels, channels_at = await self._open(self._settings.ws_port, stack)
            addresses = Addresses(
                rest_url=f"http://{rest_at}",
                gamma_url=f"http://{rest_at}{GAMMA_PATH}",
                data_url=f"http://{rest_at}{DATA_PATH}",
                relayer_url=f"http://{rest_at}{RELAYER_PATH}",
                geoblock_url=f"http://{rest_at}{GEOBLOCK_PATH}",
                rpc_url=f"http://{rest_at}{RPC_PATH}",
                ws_market_url=f"ws://{channels_at}{MARKET_PATH}",
                ws_user_url=f"ws://{channels_at}{USER_PATH}",
            )
            async with trio.open_nursery() as nursery:
                await nursery.start(trio.serve_listeners, self.serve_rest, rest)
                await nursery.start(trio.serve_listeners, self.serve_websocket, channels)
                task_status.started(addresses)

    async def _open(self, port: int, stack: AsyncExitStack) -> tuple[list[trio.SocketListener], str]:
        host = self._settings.host
        try:
            listeners = await trio.open_tcp_listeners(port, host=host)
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {host}:{port} ({error.strerror or error}): choose another port, or 0 for any"
            ) from error
        for listener in listeners:
            stack.push_async_callback(listener.aclose)
        bound = listeners[0].socket.getsockname()
        return listeners, f"{bound[0]}:{bound[1]}"

    async def _answer(self, address: str, request: Request) -> Reply:
        try:
            return await self._hold_back(address, request) or await self._dispatch(request)
        # The one boundary of its kind besides the supervisor's: a bug met by one request must not take down the
        # exchange under everybody else, and must not be told to a stranger. It is kept for the judge of the run.
        except Exception as crash:  # noqa: BLE001
            self._note(crash)
            return error_response("Internal server error", status=500)

    async def _hold_back(self, address: str, request: Request) -> Response | None:
        """Let a request wait until its address may send it; 429 if that would take too long."""
        now_ns = self._state.now_ns
        due_ns = now_ns() + int(self._settings.windows.delay_s_max * NANOS_PER_S)
        while wait_ns := self._windows.enter(address, request.method, request.path, now_ns()):
            if now_ns() + wait_ns > due_ns:
                return too_many_requests(wait_ns)
            # A microsecond more, so that rounding to Trio's float seconds cannot wake us just too early.
            await trio.sleep(wait_ns / NANOS_PER_S + 1e-6)
        return None

    async def _contained(self, serve: Callable[[], Awaitable[None]]) -> None:
        try:
            await serve()
        except Exception as crash:  # noqa: BLE001 - as above, for what a connection does outside of a request
            self._note(crash)

    def _note(self, crash: Exception) -> None:
        self.crashes.append(crash)
        self._on_crash(crash)
