"""Both channels as connections: how they open, live and end, whatever comes in."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, lockstep_stream_pair
from trio_websocket import ConnectionClosed, ConnectionRejected, wrap_client_stream


async def closed_with(socket: Any) -> int:
    with trio.fail_after(100):
        try:
            while True:
                await socket.get_message()
        except ConnectionClosed as end:
            assert end.reason is not None
            return int(end.reason.code)


@pytest.mark.parametrize("path", ["/ws/market", "/ws/user"])
@pytest.mark.parametrize("first", ["PING", "{", "{}", '{"type":"other"}', "[]", b"\x00"])
async def test_anything_before_a_subscription_closes_with_1008(
    world: Any, autojump_clock: Any, path: str, first: str | bytes
) -> None:
    socket = await world.websocket(path)
    await socket.send_message(first)
    assert await closed_with(socket) == 1008


async def test_silence_before_a_subscription_closes_with_1008(world: Any, autojump_clock: Any) -> None:
    assert await closed_with(await world.websocket("/ws/market")) == 1008


async def test_ping_is_answered_and_its_absence_ends_the_connection(world: Any, autojump_clock: Any) -> None:
    socket = await world.market_socket(world.rain.yes)
    await socket.get_message()
    for _ in range(5):
        await trio.sleep(20)
        await socket.send_message("PING")
        assert await socket.get_message() == "PONG"
    assert await closed_with(socket) == 1006
    assert trio.current_time() == pytest.approx(130)


async def test_unreadable_change_is_answered_and_survived(world: Any, autojump_clock: Any) -> None:
    socket = await world.market_socket(world.rain.yes)
    await socket.get_message()
    for text in ("nonsense", '{"operation":"explode"}', "[1]"):
        await socket.send_message(text)
        assert await socket.get_message() == "INVALID OPERATION"
    await socket.send_message("PING")
    assert await socket.get_message() == "PONG"


async def test_unknown_path_is_rejected(world: Any, autojump_clock: Any) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(ConnectionRejected), flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            ours, theirs = trio.testing.memory_stream_pair()
            nursery.start_soon(world.server.serve_websocket, theirs)
            await wrap_client_stream(nursery, cast("Any", ours), "exchange", "/ws/other")


async def test_cut_connections_end_without_a_closing_frame(world: Any, autojump_clock: Any) -> None:
    market, user = await world.market_socket(world.rain.yes), await world.alice.user_socket()
    await market.get_message()
    world.exchange.cut_connections("connection reset")
    assert [await closed_with(market), await closed_with(user)] == [1006, 1006]


async def test_silent_feed_still_answers_ping_and_ends_with_books(world: Any, autojump_clock: Any) -> None:
    socket = await world.market_socket(world.rain.yes)
    await socket.get_message()
    world.exchange.silence(20)
    await world.alice.placed("BUY", "0.40", "10")
    await socket.send_message("PING")
    assert await socket.get_message() == "PONG"
    with trio.move_on_after(19) as quiet:
        await socket.get_message()
    assert quiet.cancelled_caught
    (book,) = await world.heard(socket, seconds=2)
    assert (book["event_type"], book["bids"]) == ("book", [{"price": "0.4", "size": "10"}])


async def test_reader_that_does_not_read_is_cut(world: Any, autojump_clock: Any) -> None:
    ours, theirs = lockstep_stream_pair()
    ended = trio.Event()

    async def serve() -> None:
        await world.server.serve_websocket(theirs)
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        socket = await wrap_client_stream(nursery, cast("Any", ours), "exchange", "/ws/market", message_queue_size=1)
        await socket.send_message(json.dumps({"type": "market", "assets_ids": [world.rain.yes]}))
        for cents in range(10, 20):
            await world.alice.placed("BUY", f"0.{cents}", "10")
        with trio.fail_after(60):
            await ended.wait()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("name", ["apiKey", "secret", "passphrase"])
async def test_wrong_credentials_close_the_user_channel(world: Any, autojump_clock: Any, name: str) -> None:
    credentials = world.alice.credentials
    auth = {"apiKey": credentials.api_key, "secret": credentials.secret, "passphrase": credentials.passphrase}
    socket = await world.websocket("/ws/user")
    await socket.send_message(json.dumps({"type": "user", "auth": auth | {name: "wrong"}}))
    assert await closed_with(socket) == 1008


# --- hostile input and determinism -----------------------------------------------------------------------------------


@given(data=st.binary(max_size=300), is_upgraded=st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_bytes_end_the_connection_and_nothing_else(make_world: Any, data: bytes, is_upgraded: bool) -> None:
    upgrade = (
        b"GET /ws/market HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )

    async def main() -> None:
        async with make_world() as world, trio.open_nursery() as nursery:
            ours, theirs = trio.testing.memory_stream_pair()
            nursery.start_soon(world.server.serve_websocket, theirs)
            await ours.send_all((upgrade if is_upgraded else b"") + data)
            with trio.fail_after(100):
                while await ours.receive_some():
                    pass
            assert (await world.get("/ok")).status == 200

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_same_calls_give_the_same_bytes(make_world: Any) -> None:
    async def main() -> list[Any]:
        async with make_world() as world:
            market, user = await world.market_socket(world.rain.yes), await world.bob.user_socket()
            await world.bob.placed("BUY", "0.42", "100", token=world.rain.no)
            answer = await world.alice.place("BUY", "0.60", "50")
            return [answer.body, await world.heard(market, seconds=8), await world.heard(user, seconds=1)]

    first, second = (trio.run(main, clock=MockClock(autojump_threshold=0)) for _ in range(2))
    assert first == second
