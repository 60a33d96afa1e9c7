"""Requests over pipes that break in every phase, and once over real loopback sockets."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from tbot.core.messages import (
    Accepted,
    BookSnapshot,
    Canceled,
    OutcomeUnknown,
    RejectCode,
    Rejected,
    Throttled,
)
from tbot.core.units import MICRO, NANOS_PER_S, Nanos, Notional
from tbot.errors import Disconnected, ExchangeUnavailable, TimedOut
from tbot.exchanges.polymarket.credentials import obtain_credentials
from tbot.exchanges.polymarket.gateway import PolymarketConnections, PolymarketGateway
from tbot.exchanges.polymarket.http import ANSWER_BYTES_MAX
from tbot.exchanges.polymarket.keys import SigningKey
from tbot.exchanges.polymarket.pipes import stream_transport
from tbot.exchanges.polymarket.settings import LimitSettings, PolymarketSettings
from tbot.exchanges.simulated.accounts import PlayAccount
from tbot.exchanges.simulated.exchange import LocalExchange
from tbot.exchanges.simulated.faults import Faults, FaultSettings
from tbot.exchanges.simulated.server import LocalServer, ServerSettings
from tbot.exchanges.simulated.settings import ExchangeSettings
from tests.contract.stage import now_ns
from tests.exchanges.polymarket.answers import CONDITION, CREDENTIALS, ID, KEY, YES, market, order_of

Connect = Callable[[], Awaitable[trio.abc.Stream]]


def gateway_over(connect: Connect) -> PolymarketGateway:
    gateway = PolymarketGateway(
        PolymarketSettings(condition_ids=(CONDITION,), rest_url="http://exchange.test"),
        key=KEY,
        credentials=CREDENTIALS,
        now_ns=now_ns,
        rng=random.Random(1),
        connections=PolymarketConnections(transport=stream_transport(connect)),
    )
    gateway._public._markets = {YES: market()}
    return gateway


async def unreachable() -> trio.abc.Stream:
    await trio.lowlevel.checkpoint()
    raise OSError("no route to host")


async def never() -> trio.abc.Stream:
    await trio.sleep_forever()
    raise AssertionError


async def mute() -> trio.abc.Stream:
    await trio.lowlevel.checkpoint()
    ours, theirs = trio.testing.memory_stream_pair()
    ours.peer = theirs  # type: ignore[attr-defined]  # kept alive, and silent
    return ours


async def closed_at_once() -> trio.abc.Stream:
    ours, theirs = trio.testing.memory_stream_pair()
    await theirs.aclose()
    return ours


def answering(content: bytes) -> Connect:
    async def connect() -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        await theirs.send_all(content)
        await theirs.send_eof()
        ours.peer = theirs  # type: ignore[attr-defined]
        return ours

    return connect


@pytest.mark.parametrize(
    ("connect", "submitted", "canceled", "read"),
    [
        (unreachable, Rejected, Throttled, Disconnected),
        (never, Rejected, Throttled, Disconnected),
        (mute, OutcomeUnknown, OutcomeUnknown, TimedOut),
        (closed_at_once, OutcomeUnknown, OutcomeUnknown, Disconnected),
        (answering(b""), OutcomeUnknown, OutcomeUnknown, Disconnected),
        (answering(b"SSH-2.0\r\n\r\n"), OutcomeUnknown, OutcomeUnknown, Disconnected),
        (answering(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"), OutcomeUnknown, OutcomeUnknown, Disconnected),
        (answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"), OutcomeUnknown, OutcomeUnknown, None),
    ],
    ids=["unreachable", "connect hangs", "mute", "closed", "eof", "not http", "cut answer", "empty answer"],
)
async def test_a_broken_connection_is_never_a_wrong_claim(
    autojump_clock: trio.testing.MockClock,
    connect: Connect,
    submitted: type[object],
    canceled: type[object],
    read: type[Exception] | None,
) -> None:
    gateway = gateway_over(connect)
    reply = await gateway.submit(gateway.prepare(order_of(), now_ns()))
    assert isinstance(reply, submitted)
    if isinstance(reply, Rejected):
        assert reply.code is RejectCode.UNAVAILABLE
    assert isinstance((await gateway.cancel([ID]))[0], canceled)
    with pytest.raises(read or ExchangeUnavailable):
        await gateway.rest.time_s()
    await gateway.aclose()


async def endless() -> trio.abc.Stream:
    return _Endless()


class _Endless(trio.abc.Stream):
    """Takes a request and answers without ever coming to an end."""

    def __init__(self) -> None:
        self._head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n"
        self.sent = 0

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        head, self._head = self._head, b""
        assert self.sent <= 2 * ANSWER_BYTES_MAX, "it reads on and on"
        self.sent += 1 << 20
        return head or bytes(1 << 20)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


@pytest.mark.slow
async def test_an_answer_without_an_end_is_read_no_further(autojump_clock: trio.testing.MockClock) -> None:
    gateway = gateway_over(endless)
    with pytest.raises(Disconnected, match="more than 32 MiB"):
        await gateway.rest.time_s()
    reply = await gateway.submit(gateway.prepare(order_of(), now_ns()))
    assert isinstance(reply, OutcomeUnknown)
    await gateway.aclose()


async def test_the_pool_heals_after_a_storm_of_cancelled_requests(autojump_clock: trio.testing.MockClock) -> None:
    working = False

    async def connect() -> trio.abc.Stream:
        return await (answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n17") if working else never)()

    gateway = gateway_over(connect)
    for _ in range(60):
        with trio.move_on_after(0.5):
            await gateway.rest.time_s()
    working = True
    assert await gateway.rest.time_s() == 17
    await gateway.aclose()


async def test_the_whole_round_over_real_loopback_sockets() -> None:
    rng = random.Random(3)
    exchange = LocalExchange(ExchangeSettings(flow=None), seed=3, now_ns=now_ns, faults=Faults(FaultSettings(), seed=3))
    server = LocalServer(exchange, ServerSettings(), secret=b"seed 3", now_ns=now_ns)
    account = PlayAccount.from_rng(rng)
    server.enroll(account, Notional(1_000 * MICRO))
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(server.listen)
        settings = PolymarketSettings(
            condition_ids=tuple(str(rules.market_id) for rules in exchange.markets()),
            rest_url=addresses.rest_url,
            ws_market_url=addresses.ws_market_url,
            ws_user_url=addresses.ws_user_url,
            geoblock_url="",
        )
        key = SigningKey.from_hex(account.private_key)
        credentials = await obtain_credentials(settings, key=key, now_ns=now_ns)
        gateway = PolymarketGateway(settings, key=key, credentials=credentials, now_ns=now_ns, rng=rng)
        tokens = (await gateway.load_markets())[0].tokens
        async with gateway.open_market(tokens) as session:
            assert {type(event) for event in await session.receive()} == {BookSnapshot}
        deadline_ns = Nanos(now_ns() + NANOS_PER_S)
        prepared = gateway.prepare(order_of(token_id=tokens[0], deadline_ns=deadline_ns), now_ns())
        assert isinstance(await gateway.submit(prepared), Accepted)
        assert [book.token_id for book in await gateway.books([tokens[1], tokens[0]])] == [tokens[1], tokens[0]]
        assert (await gateway.rest.book(tokens[0])).bids
        assert isinstance((await gateway.cancel([prepared.exchange_order_id]))[0], Canceled)
        await gateway.aclose()
        nursery.cancel_scope.cancel()
    assert server.crashes == []


@pytest.mark.slow
async def test_storms_of_cancelled_requests_leave_the_client_healthy() -> None:
    rng = random.Random(5)
    exchange = LocalExchange(ExchangeSettings(flow=None), seed=5, now_ns=now_ns, faults=Faults(FaultSettings(), seed=5))
    server = LocalServer(exchange, ServerSettings(), secret=b"seed 5", now_ns=now_ns)
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(server.listen)
        limits = LimitSettings(reads_per_s=10_000, reads_burst=10_000)
        settings = PolymarketSettings(
            condition_ids=(CONDITION,), rest_url=addresses.rest_url, geoblock_url="", limits=limits
        )
        gateway = PolymarketGateway(settings, key=KEY, credentials=CREDENTIALS, now_ns=now_ns, rng=rng)
        answered = 0

        async def ask() -> None:
            nonlocal answered
            await gateway.rest.time_s()
            answered += 1

        for _ in range(200):
            # From before the connection stands to after the answer: cut at every moment of a request's life.
            with trio.move_on_after(rng.uniform(0, 0.02)):
                async with trio.open_nursery() as storm:
                    for _ in range(rng.randrange(1, 30)):
                        storm.start_soon(ask)
        assert answered > 0
        with trio.fail_after(5):
            async with trio.open_nursery() as calm:
                for _ in range(40):
                    calm.start_soon(ask)
        await gateway.aclose()
        nursery.cancel_scope.cancel()
    assert server.crashes == []
