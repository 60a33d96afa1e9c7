"""How a connection of either channel begins, lives and ends: over memory pipes, in virtual time."""

from __future__ import annotations

import json
from functools import partial

import pytest
import trio
import trio.testing
from trio_websocket import WebSocketConnection

from tbot.core.messages import (
    BookSnapshot,
    MarketEvent,
)
from tbot.errors import ConfigError, Disconnected, ExchangeUnavailable, RateLimited, TimedOut
from tbot.exchanges.polymarket.sockets import (
    open_socket,
    tcp_connector,
)
from tests.exchanges.polymarket.socket_peer import (
    TIMEOUTS,
    URL,
    Peer,
    book,
    data,
    forever,
    market_of,
    peer_of,
    read_to_the_end,
    sending,
)


async def test_ping_each_ten_seconds_and_never_before_the_subscription(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with peer_of(forever) as peer:
        start = trio.current_time()
        async with market_of(peer) as session:
            for _ in range(5):
                assert await session.receive() == ()
        assert peer.hellos
        assert peer.pings[0] - start == pytest.approx(10, abs=0.1)
        assert [b - a for a, b in zip(peer.pings, peer.pings[1:], strict=False)] == pytest.approx([10] * 4, abs=0.1)


async def test_silent_connection_is_noticed(autojump_clock: trio.testing.MockClock) -> None:
    async def mute(connection: WebSocketConnection) -> None:
        connection.send_message = _swallow  # type: ignore[method-assign, assignment]
        await trio.sleep_forever()

    async def _swallow(_text: str) -> None:
        await trio.lowlevel.checkpoint()

    async with peer_of(mute) as peer:
        start = trio.current_time()
        with pytest.raises(Disconnected, match="sign of life"):
            await read_to_the_end(peer)
        assert trio.current_time() - start == pytest.approx(2 + TIMEOUTS.silence_s, abs=0.1)


async def test_stalled_handshake_ends_in_time(autojump_clock: trio.testing.MockClock) -> None:
    ours, _theirs = trio.testing.memory_stream_pair()

    async def connect() -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return ours

    start = trio.current_time()
    with pytest.raises(TimedOut, match="no connection within 10 s"):
        async with open_socket(URL, connect, lambda: "{}", TIMEOUTS, settle_s=2):
            pytest.fail("there is no connection")
    assert trio.current_time() - start == pytest.approx(10, abs=0.1)
    with pytest.raises(trio.ClosedResourceError):
        await ours.send_all(b"x")


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", Disconnected, "403"),
        (b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 4\r\n\r\noops", Disconnected, "502"),
        (b"HTTP/1.1 429 Slow\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n", RateLimited, "429"),
        (b"HTTP/1.1 429 Slow\r\nretry-after: 70000\r\ncontent-length: 0\r\n\r\n", RateLimited, "429"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", ExchangeUnavailable, None),
    ],
)
async def test_refused_handshake_is_unavailable(
    autojump_clock: trio.testing.MockClock, answer: bytes, kind: type[Exception], says: str | None
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()

    async def connect() -> trio.abc.Stream:
        await theirs.send_all(answer)
        return ours

    with pytest.raises(kind, match=says) as refusal:
        async with open_socket(URL, connect, lambda: "{}", TIMEOUTS, settle_s=2):
            pytest.fail("there is no connection")
    if isinstance(refusal.value, RateLimited):
        assert refusal.value.retry_after_s == (120 if b"70000" in answer else 7)


async def test_no_route_is_unavailable(autojump_clock: trio.testing.MockClock) -> None:
    async def connect() -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        raise OSError("no route to host")

    with pytest.raises(Disconnected, match="no route"):
        async with open_socket(URL, connect, lambda: "{}", TIMEOUTS, settle_s=2):
            pytest.fail("there is no connection")


async def test_connection_cut_inside_a_frame(autojump_clock: trio.testing.MockClock) -> None:
    async def cut(connection: WebSocketConnection) -> None:
        await connection.send_message(json.dumps(book()))
        await connection._stream.send_all(b"\x81\x7e\x10\x00half of a frame")
        await connection._stream.aclose()

    async with peer_of(cut) as peer:
        seen: list[MarketEvent] = []
        with pytest.raises(Disconnected):
            await read_to_the_end(peer, seen)
        assert [type(event) for event in seen] == [BookSnapshot]


async def test_orderly_close_is_a_disconnect_and_the_caller_can_reconnect(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def serve(connection: WebSocketConnection) -> None:
        await connection.send_message(json.dumps([book()]))
        await trio.sleep(5)
        await connection.aclose(1001, "restarting")

    async with peer_of(serve) as peer:
        for _ in range(3):
            seen: list[MarketEvent] = []
            with pytest.raises(Disconnected, match="1001"):
                await read_to_the_end(peer, seen)
            assert [type(event) for event in seen] == [BookSnapshot]
        assert peer.connections == 3


async def test_error_of_the_reader_is_not_wrapped_in_a_group(autojump_clock: trio.testing.MockClock) -> None:
    async def stumble(peer: Peer) -> None:
        async with market_of(peer) as session:
            await data(session)
            raise KeyError("mine")

    async with peer_of(sending(book())) as peer:
        with pytest.raises(KeyError, match="mine"):
            await stumble(peer)


async def test_cancelled_reader_leaves_at_once(autojump_clock: trio.testing.MockClock) -> None:
    async with peer_of(forever) as peer:
        start = trio.current_time()
        with trio.move_on_after(3) as scope:
            async with market_of(peer) as session:
                await data(session)
        assert scope.cancelled_caught
        assert trio.current_time() - start == pytest.approx(3, abs=0.01)


async def test_slow_reader_gets_everything_in_order(autojump_clock: trio.testing.MockClock) -> None:
    frames = [book(ms=1_767_225_600_000 + n) for n in range(300)]
    async with peer_of(sending(*frames)) as peer, market_of(peer) as session:
        await trio.sleep(60)
        seen: list[int] = []
        while len(seen) < 300:
            seen += [e.exchange_ms for e in await data(session) if isinstance(e, BookSnapshot)]
        assert seen == [1_767_225_600_000 + n for n in range(300)]


@pytest.mark.parametrize("url", ["https://x/ws", "ws://", "nonsense"])
def test_address_that_is_no_socket_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="ws://"):
        tcp_connector(url)


async def test_tcp_connector_reaches_a_listener() -> None:
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, _echo, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        stream = await tcp_connector(f"ws://127.0.0.1:{port}/ws")()
        await stream.send_all(b"hello")
        assert await stream.receive_some(5) == b"hello"
        await stream.aclose()
        nursery.cancel_scope.cancel()


async def _echo(stream: trio.SocketStream) -> None:
    async for chunk in stream:
        await stream.send_all(chunk)
