"""The local exchange under load: orders in process, orders over HTTP with signatures verified, subscribers, memory.

Peers are measured in the same run: verification against eth-account's encoder and recovery (what it replaced), an order
over HTTP against the thinnest route (`GET /time`) on the same connection. The HTTP server is a process of its own, as a
user starts it, without traders and with the quota of a signer lifted; the client signs its orders beforehand.
"""

from __future__ import annotations

import http.client
import json
import random
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NoReturn
from urllib.parse import urlsplit

import msgspec
from eth_account import Account as EthAccount
from eth_account.messages import encode_typed_data

from bench.measure import NANOS_PER_S, Case
from tbot.core.market import MarketId, TokenId
from tbot.core.messages import ExchangeOrderId, OrderType, Side
from tbot.core.units import MICRO, Nanos, Notional, Price, Size
from tbot.exchanges.polymarket.amounts import amounts_of
from tbot.exchanges.polymarket.auth import RequestSigner
from tbot.exchanges.polymarket.keys import TEST_KEY_HEX, ApiCredentials, SigningKey
from tbot.exchanges.polymarket.signing import OrderSigner
from tbot.exchanges.simulated.events import Event, MarketEvent
from tbot.exchanges.simulated.market_frames import MarketFrames
from tbot.exchanges.simulated.matching import Engine
from tbot.exchanges.simulated.operations import Account, CancelOrders, Deposit, OpenMarket, Placed, PlaceOrder, Refused
from tbot.exchanges.simulated.settings import DEFAULT_MARKETS
from tbot.exchanges.simulated.verify import OrderVerifier
from tbot.exchanges.simulated.wire_in import PostOrder, decode

ROOT = Path(__file__).parent.parent
CHAIN_ID = 137
RULES = DEFAULT_MARKETS[0]
TOKEN = "71321045679252212594626385532706912750332728571942532289631379312455583992563"
NOW_NS = Nanos(1_790_000_000 * NANOS_PER_S)
BUSY_PER_S = 30
DOMAIN = {
    "name": "Polymarket CTF Exchange",
    "version": "2",
    "chainId": CHAIN_ID,
    "verifyingContract": "0xE111180000d2663C0091e4f400237545B87B996B",
}
FIELDS = (
    "uint256 salt,address maker,address signer,uint256 tokenId,uint256 makerAmount,uint256 takerAmount,"
    "uint8 side,uint8 signatureType,uint256 timestamp,bytes32 metadata,bytes32 builder"
)


@dataclass(frozen=True, kw_only=True)
class HttpRun:
    """Orders over HTTP, one after the other on one connection.

    Attributes:
        order_s: Median seconds of an order, request to answer.
        thin_s: Median seconds of `GET /time`.
        client_s: Processor seconds that the client itself spends on an order.
    """

    order_s: float
    thin_s: float
    client_s: float


def lines(*, is_quick: bool) -> Iterator[str]:
    """Measure everything but the verification and describe it, a line each."""
    count = 300 if is_quick else 20_000
    yield f"exchange in process: {operations_per_s(count):,.0f} orders and cancels a second"
    found = over_http(30 if is_quick else 1_000)
    yield (
        f"exchange over HTTP: {1 / found.order_s:,.0f} signed orders a second at p50 {found.order_s * 1e3:.2f} ms; "
        f"{found.order_s / found.thin_s:.1f} times GET /time; {found.client_s / found.order_s:.0%} of it the client's"
    )
    cost_s = frame_s(100 if is_quick else 3_000)
    yield (
        f"exchange, one subscriber: {cost_s * 1e6:.0f} us a book change with its hashes and JSON; "
        f"a core carries {1 / cost_s / BUSY_PER_S:,.0f} of them at {BUSY_PER_S} changes a second, sockets not counted"
    )
    yield f"exchange, memory: {order_bytes(1_000 if is_quick else 10_000) / 1e3:.1f} kB an order, ended or not"


def case() -> Case:
    """Build the row of the verification."""
    body = (
        _signer()
        .sign(
            token_id=TokenId(TOKEN),
            side=Side.BUY,
            amounts=amounts_of(
                order_type=OrderType.GTC, side=Side.BUY, price=Price(560_000), size=Size(20 * MICRO), tick=Price(10_000)
            ),
            order_type=OrderType.GTC,
            is_post_only=False,
            is_neg_risk=False,
            salt=1,
            timestamp_ms=NOW_NS // 1_000_000,
        )
        .body
    )
    order = decode(body, PostOrder, refusal="").order
    verifier = OrderVerifier(CHAIN_ID)
    types = {"Order": [{"type": kind, "name": name} for kind, name in (f.split(" ") for f in FIELDS.split(","))]}
    values: dict[str, Any] = {
        "salt": order.salt,
        "maker": order.maker,
        "signer": order.signer,
        "tokenId": int(order.token_id),
        "makerAmount": int(order.maker_amount),
        "takerAmount": int(order.taker_amount),
        "side": 0,
        "signatureType": 0,
        "timestamp": int(order.timestamp or "0"),
        "metadata": bytes.fromhex(order.metadata[2:]),
        "builder": bytes.fromhex(order.builder[2:]),
    }
    signature = bytes.fromhex(order.signature[2:])

    def mine() -> str:
        return verifier.signer(order, is_neg_risk=False)

    def theirs() -> str:
        return str(EthAccount.recover_message(encode_typed_data(DOMAIN, types, values), signature=signature))

    assert mine() == theirs(), "the two verifiers disagree: no speed matters"
    return Case(name="verify an order's signature", peer_name="eth-account", ours=mine, peer=theirs)


def operations_per_s(count: int) -> float:
    """Place and cancel in one engine, one order in ten taking."""
    engine, todo = _engine(), tuple(operations(random.Random(7), count))
    begin = time.perf_counter()
    for number, operation in enumerate(todo):
        reply, _ = engine.apply(operation, Nanos(NOW_NS + number * 1_000_000))
        assert not isinstance(reply, Refused), reply
    return len(todo) / (time.perf_counter() - begin)


def over_http(count: int) -> HttpRun:
    """Start `tbot exchange`, post signed orders far from the market, and time each."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "exchange.toml"
        text = (ROOT / "conf" / "exchange.toml").read_text(encoding="utf-8")
        for set_to, instead in (
            ("has_traders = true", "has_traders = false"),
            ('limits = "production"', 'limits = "off"'),
            ("[server.quota]", "[server.quota]\nscale = 10000.0"),
        ):
            text = text.replace(set_to, instead)
        config.write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "tbot", "exchange", "--json", "--config", str(config)]
        with subprocess.Popen(  # noqa: S603 - our own program, fixed arguments
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
        ) as server:
            try:
                assert server.stdout is not None
                return _post_orders(json.loads(server.stdout.readline()), count)
            finally:
                server.terminate()


# No market is opened or resolved here, so nothing is looked up.
def _unlisted(market_id: MarketId, _: Nanos) -> NoReturn:
    raise KeyError(market_id)


def frame_s(count: int) -> float:
    """Seconds of processor time one subscriber costs for each change of a book of 40 levels a side."""
    engine = _engine()
    for operation in operations(random.Random(3), 400):
        engine.apply(operation, NOW_NS)
    frames = MarketFrames(engine, _unlisted)
    frames.follow(RULES.market_id)
    encoder = msgspec.json.Encoder()
    spent = 0.0
    for number, operation in enumerate(operations(random.Random(4), count)):
        events = _public(engine.apply(operation, Nanos(NOW_NS + number * 1_000_000))[1])
        begin = time.process_time()
        for frame in frames.frames(events):
            encoder.encode(frame)
        spent += time.process_time() - begin
    return spent / count


def order_bytes(count: int) -> float:
    """Memory of one order in the engine, wherever it is in its life, with its share of trades and settlement."""
    engine, placed = _engine(), 0
    tracemalloc.start()
    for operation in operations(random.Random(5), count):
        placed += isinstance(engine.apply(operation, NOW_NS)[0], Placed)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return grown / placed


def _engine() -> Engine:
    engine = Engine()
    engine.apply(OpenMarket(rules=RULES), NOW_NS)
    for account in ("maker", "taker"):
        engine.apply(Deposit(account=Account(account), cash=Notional(10**9 * MICRO)), NOW_NS)
    return engine


def operations(rng: random.Random, count: int) -> Iterator[PlaceOrder | CancelOrders]:
    """Make two sides of forty levels around the middle; half of it cancels earlier orders, one order in ten takes."""
    resting: list[ExchangeOrderId] = []
    for number in range(count):
        if number % 2 and len(resting) > 80:
            order_id = resting.pop(rng.randrange(len(resting)))
            yield CancelOrders(account=Account("maker"), order_ids=(order_id,))
            continue
        is_take = number % 20 == 0 and number > 100
        away = 0 if is_take else 1 + rng.randrange(40)
        order_id = ExchangeOrderId(f"0x{rng.getrandbits(64):x}")
        if not is_take:
            resting.append(order_id)
        yield PlaceOrder(
            account=Account("taker" if is_take else "maker"),
            order_id=order_id,
            # Bids for YES lie under a half, bids for NO as well: no two makers cross.
            token_id=RULES.yes if rng.random() < 0.5 else RULES.no,
            side=Side.BUY,
            price=Price(600_000 if is_take else 500_000 - away * 10_000),
            size=Size(0 if is_take else rng.randint(5, 50) * MICRO),
            budget=Notional(5 * MICRO if is_take else 0),
            order_type=OrderType.FAK if is_take else OrderType.GTC,
        )


def _public(events: tuple[Event, ...]) -> list[MarketEvent]:
    return [event for event in events if isinstance(event, MarketEvent)]


def _signer() -> OrderSigner:
    owner = "11111111-2222-4333-8444-555555555555"
    return OrderSigner(SigningKey.from_hex(TEST_KEY_HEX), chain_id=CHAIN_ID, owner=owner)


def _post_orders(announced: dict[str, Any], count: int) -> HttpRun:
    account = announced["accounts"][0]
    market = json.loads(_request(announced["rest_url"], "/markets"))["data"][0]
    credentials = ApiCredentials(**account["api_credentials"])
    requests = RequestSigner(account["address"], credentials)
    token_id = TokenId(market["tokens"][0]["token_id"])
    connection = http.client.HTTPConnection(urlsplit(announced["rest_url"]).netloc)
    now_s = int(_timed(connection, "GET", "/time", None, {})[0])
    bodies = _bodies(account, token_id, count, timestamp_ms=now_s * 1_000)
    order_s, thin_s, client_s = [], [], []
    for body in bodies:
        headers = requests.headers("POST", "/order", body, timestamp_s=now_s)
        headers["Content-Type"] = "application/json"
        begin = time.thread_time()
        order_s.append(_timed(connection, "POST", "/order", body, headers)[1])
        client_s.append(time.thread_time() - begin)
        text, spent_s = _timed(connection, "GET", "/time", None, {})
        now_s = int(text)
        thin_s.append(spent_s)
    connection.close()
    return HttpRun(order_s=median(order_s), thin_s=median(thin_s), client_s=median(client_s))


def _bodies(account: dict[str, Any], token_id: TokenId, count: int, *, timestamp_ms: int) -> list[bytes]:
    key = SigningKey.from_hex(account["private_key"])
    signer = OrderSigner(key, chain_id=CHAIN_ID, owner=account["api_credentials"]["api_key"])
    amounts = amounts_of(
        order_type=OrderType.GTC, side=Side.BUY, price=Price(10_000), size=Size(5 * MICRO), tick=Price(10_000)
    )
    return [
        signer.sign(
            token_id=token_id,
            side=Side.BUY,
            amounts=amounts,
            order_type=OrderType.GTC,
            is_post_only=False,
            is_neg_risk=False,
            salt=salt,
            timestamp_ms=timestamp_ms,
        ).body
        for salt in range(1, count + 1)
    ]


def _request(url: str, path: str) -> bytes:
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    connection.request("GET", path)
    return connection.getresponse().read()


def _timed(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None, headers: dict[str, str]
) -> tuple[bytes, float]:
    begin = time.perf_counter()
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    content = answer.read()
    spent = time.perf_counter() - begin
    assert answer.status == 200, f"{method} {path}: {answer.status} {content[:200]!r}"
    return content, spent
