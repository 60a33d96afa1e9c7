"""A world to test the server in: an exchange without synthetic traders, two members, and clients on memory streams."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import h11
import pytest
import trio
import trio.testing
from eth_account import Account as EthAccount
from eth_account.messages import encode_typed_data
from trio.testing import memory_stream_pair
from trio_websocket import WebSocketConnection, wrap_client_stream

from tbot.core.market import MarketId, TokenId
from tbot.core.units import MICRO, NANOS_PER_S, Nanos, Notional
from tbot.exchanges.simulated.accounts import PlayAccount
from tbot.exchanges.simulated.descriptions import Description
from tbot.exchanges.simulated.exchange import LocalExchange
from tbot.exchanges.simulated.faults import Faults, FaultSettings
from tbot.exchanges.simulated.operations import EngineSettings, MarketRules
from tbot.exchanges.simulated.server import LocalServer, ServerSettings
from tbot.exchanges.simulated.settings import ExchangeSettings

pytest.register_assert_rewrite("tests.exchanges.simulated.server.fault_checks")

EPOCH_S = 1_767_225_600
VECTORS = Path(__file__).parent / "vectors"

RAIN = MarketRules(
    market_id=MarketId("0x" + "a1" * 32),
    slug="rain-tomorrow",
    yes=TokenId("71321045679252212594626385532706912750332728571942532289631379312455583992563"),
    no=TokenId("52114319501245915516055106046884209969926127482827954674443846427813813222426"),
    fee_rate_micro=40_000,
)
MAYOR = MarketRules(
    market_id=MarketId("0x" + "b2" * 32),
    slug="mayor-reelected",
    yes=TokenId("65193234666628291664907888364936366210889305490897648116746073820519263548476"),
    no=TokenId("28290293140018107764072370767749010110409017615323596573647425138985988593200"),
    is_neg_risk=True,
)

COIN = MarketRules(
    market_id=MarketId("0x017791f201d5a788e0039e511fc1900e5f000000000000000000000000000000"),
    slug="coin-up-or-down",
    yes=TokenId("663574927012476832975694178961957910328055987427402067619466963999000625152"),
    no=TokenId("663574927012476832975694178961957910328055987427402067619466963999000625153"),
    fee_rate_micro=70_000,
)

ORDER_FIELDS = [
    {"type": "uint256", "name": "salt"},
    {"type": "address", "name": "maker"},
    {"type": "address", "name": "signer"},
    {"type": "uint256", "name": "tokenId"},
    {"type": "uint256", "name": "makerAmount"},
    {"type": "uint256", "name": "takerAmount"},
    {"type": "uint8", "name": "side"},
    {"type": "uint8", "name": "signatureType"},
    {"type": "uint256", "name": "timestamp"},
    {"type": "bytes32", "name": "metadata"},
    {"type": "bytes32", "name": "builder"},
]


def now_ns() -> Nanos:
    return Nanos(EPOCH_S * NANOS_PER_S + int(trio.current_time() * NANOS_PER_S))


class Answer:
    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return str(self.json["error"])


class RestClient:
    """A plain h11 client on one stream."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._h11 = h11.Connection(h11.CLIENT)

    async def ask(self, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Answer:
        fields = {"host": "exchange", "content-length": str(len(body)), **(headers or {})}
        head = [(name.encode(), value.encode("latin-1")) for name, value in fields.items()]
        data = self._h11.send(h11.Request(method=method, target=target, headers=head))
        data += self._h11.send(h11.Data(data=body)) + self._h11.send(h11.EndOfMessage())
        await self.stream.send_all(data)
        return await self.read()

    async def read(self) -> Answer:
        head, body = None, b""
        while True:
            event = self._h11.next_event()
            if event is h11.NEED_DATA:
                data = await self.stream.receive_some()
                if not data:
                    raise EOFError
                self._h11.receive_data(bytes(data))
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                break
        assert head is not None
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
        return Answer(head.status_code, {k.decode(): v.decode() for k, v in head.headers}, body)


class Trader:
    """One member: its keys, and requests signed with them by other code than the server's or the bot's."""

    def __init__(self, world: World, account: PlayAccount) -> None:
        self.world, self.account = world, account
        self.credentials = world.server.enroll(account, Notional(10_000 * MICRO))
        self._salt = 0

    def l2(self, method: str, path: str, body: bytes = b"", *, skew_s: int = 0) -> dict[str, str]:
        timestamp = str(now_ns() // NANOS_PER_S + skew_s)
        key = base64.urlsafe_b64decode(self.credentials.secret)
        mac = hmac.new(key, f"{timestamp}{method}{path}".encode() + body, hashlib.sha256)
        return {
            "POLY_ADDRESS": self.account.address,
            "POLY_SIGNATURE": base64.urlsafe_b64encode(mac.digest()).decode(),
            "POLY_TIMESTAMP": timestamp,
            "POLY_API_KEY": self.credentials.api_key,
            "POLY_PASSPHRASE": self.credentials.passphrase,
        }

    async def ask(self, method: str, target: str, body: Any = None) -> Answer:
        data = b"" if body is None else json.dumps(body).encode()
        client = await self.world.rest()
        return await client.ask(method, target, data, self.l2(method, target.partition("?")[0], data))

    def order(self, side: str, price: str, size: str, **changes: Any) -> dict[str, Any]:
        """Sign an order; `token`, `order_type`, `post_only`, `amounts`, `domain` and order fields can be changed."""
        token = changes.pop("token", RAIN.yes)
        money, shares = int(Decimal(price) * Decimal(size) * MICRO), int(Decimal(size) * MICRO)
        amounts = changes.pop("amounts", (money, shares) if side == "BUY" else (shares, money))
        order_type, post_only = changes.pop("order_type", "GTC"), changes.pop("post_only", False)
        contract = "e2222d279d744050d28e00520010520000310F59" if token in (MAYOR.yes, MAYOR.no) else ""
        domain = {
            "name": "Polymarket CTF Exchange",
            "version": "2",
            "chainId": 137,
            "verifyingContract": "0x" + (contract or "E111180000d2663C0091e4f400237545B87B996B"),
        } | changes.pop("domain", {})
        self._salt += 1
        order: dict[str, Any] = {
            "salt": self._salt,
            "maker": self.account.address,
            "signer": self.account.address,
            "tokenId": str(token),
            "makerAmount": str(amounts[0]),
            "takerAmount": str(amounts[1]),
            "side": side,
            "expiration": "0",
            "signatureType": 0,
            "timestamp": str(now_ns() // 1_000_000),
            "metadata": "0x" + "00" * 32,
            "builder": "0x" + "00" * 32,
        }
        order |= changes
        order["signature"] = self._signature(order, domain)
        return {"order": order, "owner": self.credentials.api_key, "orderType": order_type, "postOnly": post_only}

    def _signature(self, order: dict[str, Any], domain: dict[str, Any]) -> str:
        numbers = ("tokenId", "makerAmount", "takerAmount", "timestamp")
        message = {**order, **{name: int(order[name]) for name in numbers}}
        message["side"] = 0 if order["side"] == "BUY" else 1
        message["metadata"], message["builder"] = bytes(32), bytes(32)
        message.pop("expiration")
        signable = encode_typed_data(domain, {"Order": ORDER_FIELDS}, message)
        signed = EthAccount.sign_message(signable, self.account.private_key)
        return "0x" + str(signed.signature.hex()).removeprefix("0x")

    async def place(self, side: str, price: str, size: str, **changes: Any) -> Answer:
        return await self.ask("POST", "/order", self.order(side, price, size, **changes))

    async def placed(self, side: str, price: str, size: str, **changes: Any) -> str:
        answer = await self.place(side, price, size, **changes)
        assert answer.status == 200, answer.body
        return str(answer.json["orderID"])

    async def user_socket(self, **extra: Any) -> WebSocketConnection:
        socket = await self.world.websocket("/ws/user")
        auth = {
            "apiKey": self.credentials.api_key,
            "secret": self.credentials.secret,
            "passphrase": self.credentials.passphrase,
        }
        await socket.send_message(json.dumps({"type": "user", "auth": auth, **extra}))
        await trio.testing.wait_all_tasks_blocked()
        return socket


class World:
    """The exchange, its server, and what tests need to reach them."""

    def __init__(
        self,
        nursery: trio.Nursery,
        faults: FaultSettings,
        settings: ServerSettings,
        described: tuple[Description, ...],
        engine: EngineSettings,
    ) -> None:
        markets = ExchangeSettings(markets=(RAIN, MAYOR, COIN), flow=None, engine=engine)
        self.nursery = nursery
        self.faults = Faults(faults, seed=1)
        self.exchange = LocalExchange(markets, seed=1, now_ns=now_ns, faults=self.faults)
        self.server = LocalServer(self.exchange, settings, secret=b"test", now_ns=now_ns, described=described)
        rng = random.Random(7)
        self.alice = Trader(self, PlayAccount.from_rng(rng))
        self.bob = Trader(self, PlayAccount.from_rng(rng))
        self.rain, self.mayor, self.coin = RAIN, MAYOR, COIN
        self.now_ns = now_ns

    async def rest(self) -> RestClient:
        ours, theirs = memory_stream_pair()
        self.nursery.start_soon(self.server.serve_rest, theirs)
        return RestClient(ours)

    async def get(self, target: str) -> Answer:
        return await (await self.rest()).ask("GET", target)

    async def control(self, verb: str, **body: Any) -> Answer:
        return await (await self.rest()).ask("POST", f"/control/{verb}", json.dumps(body).encode())

    async def websocket(self, path: str) -> WebSocketConnection:
        ours, theirs = memory_stream_pair()
        self.nursery.start_soon(self.server.serve_websocket, theirs)
        # Typed for sockets, made for any stream.
        return await wrap_client_stream(self.nursery, cast("Any", ours), "exchange", path, message_queue_size=1000)

    async def market_socket(self, *tokens: str, **extra: Any) -> WebSocketConnection:
        socket = await self.websocket("/ws/market")
        await socket.send_message(json.dumps({"type": "market", "assets_ids": list(tokens), **extra}))
        return socket

    async def heard(self, socket: WebSocketConnection, seconds: float = 1.0) -> list[Any]:
        """Everything a socket tells within some virtual seconds."""
        told: list[Any] = []
        with trio.move_on_after(seconds):
            while True:
                told.append(json.loads(await socket.get_message()))
        return told


@asynccontextmanager
async def open_world(
    *,
    faults: FaultSettings | None = None,
    settings: ServerSettings | None = None,
    described: tuple[Description, ...] = (),
    engine: EngineSettings | None = None,
) -> AsyncIterator[World]:
    # pytest-trio only takes a clock that the test itself names; without this check real time would creep in.
    assert isinstance(trio.lowlevel.current_clock(), trio.testing.MockClock), "the test must ask for autojump_clock"
    async with trio.open_nursery() as nursery:
        world = World(
            nursery, faults or FaultSettings(), settings or ServerSettings(), described, engine or EngineSettings()
        )
        await nursery.start(world.exchange.run)
        yield world
        nursery.cancel_scope.cancel()
    # Whatever a test did to the server, a bug of the server itself fails it.
    assert world.server.crashes == []


@pytest.fixture(scope="session")
def make_world() -> Callable[..., AbstractAsyncContextManager[World]]:
    return open_world


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with open_world() as opened:
        yield opened


@pytest.fixture
async def ruled() -> AsyncIterator[World]:
    """A world in which an operator may have a hand."""
    async with open_world(settings=ServerSettings(has_control=True)) as opened:
        yield opened


@pytest.fixture
def vectors() -> Callable[[str], Any]:
    return lambda name: json.loads((VECTORS / name).read_text())
