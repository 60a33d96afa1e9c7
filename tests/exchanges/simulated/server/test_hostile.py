"""Hostile input: the documented error or a closed connection, never a traceback, never a stopped exchange."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from trio.testing import memory_stream_pair

from tbot.exchanges.simulated.http import HttpLimits, serve_http
from tests.exchanges.simulated.server.frames_by_hand import UPGRADE, frame, subscription

# --- HTTP ------------------------------------------------------------------------------------------------------------


async def drip(data: bytes, *, every_s: float, limits: HttpLimits) -> tuple[bytes, float]:
    """Send byte by byte, slowly; give what came back, and when the connection ended."""

    async def never(_: Any) -> Any:
        raise AssertionError

    ours, theirs = memory_stream_pair()
    told, began = b"", trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_http, theirs, never, limits)

        async def send() -> None:
            try:
                for byte in data:
                    await ours.send_all(bytes([byte]))
                    await trio.sleep(every_s)
            except trio.BrokenResourceError:
                pass

        nursery.start_soon(send)
        while part := await ours.receive_some():
            told += part
        ended = trio.current_time() - began
        nursery.cancel_scope.cancel()
    return told, ended


@pytest.mark.parametrize(
    "data",
    [
        b"GET /ok HTTP/1.1\r\nhost: x\r\n" + b"x: y\r\n" * 1_000,
        b"POST /order HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n" + b"x" * 900,
    ],
)
async def test_request_that_drips_in_is_cut_after_its_time(autojump_clock: Any, data: bytes) -> None:
    told, ended = await drip(data, every_s=1.0, limits=HttpLimits(idle_s=75, request_s=30))
    assert told.startswith(b"HTTP/1.1 408")
    assert 30 <= ended <= 33


async def asked(world: Any, data: bytes) -> bytes:
    ours, theirs = memory_stream_pair()
    world.nursery.start_soon(world.server.serve_rest, theirs)
    await ours.send_all(data)
    told = b""
    with trio.move_on_after(200):
        while part := await ours.receive_some():
            told += part
    return told


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /ok HTTP/1.1\r\nhost: x\r\n" + b"x: y\r\n" * 10_000 + b"\r\n", b"431"),
        (b"GET /ok HTTP/1.1\r\nhost: x\r\n" + b"x: y\r\n" * 3_000 + b"\r\n", b"431"),
        (b"GET /ok HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 50_000 + b"\r\n\r\n", b"431"),
        (b"GET /ok?" + b"y" * 50_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", b"431"),
        (b"POST /order HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n" + b"x" * 2_000_000, b"413"),
        (b"POST /order HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n", b"400"),
        (b"POST /order HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx", b"400"),
        (b"GET /../../etc/passwd HTTP/1.1\r\nhost: x\r\n\r\n", b"404"),
        (b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nhost: x\r\n\r\n", b"404"),
        (b"GET //ok HTTP/1.1\r\nhost: x\r\n\r\n", b"404"),
        (b"GET /ok/ HTTP/1.1\r\nhost: x\r\n\r\n", b"404"),
        (b"GET /book?token_id=%00%ff HTTP/1.1\r\nhost: x\r\n\r\n", b"400"),
        (b"GET /markets?" + b"a=b&" * 500 + b" HTTP/1.1\r\nhost: x\r\n\r\n", b"400"),
        (b"GET http://elsewhere.test/ok HTTP/1.1\r\nhost: x\r\n\r\n", b"404"),
        (b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n", b"404"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b""),
    ],
)
async def test_trick_is_answered_by_its_status(world: Any, autojump_clock: Any, data: bytes, status: bytes) -> None:
    told = await asked(world, data)
    assert told.startswith(b"HTTP/1.1 " + status) or not status
    assert b"Traceback" not in told
    assert (await world.get("/ok")).status == 200


async def test_half_open_connections_end_by_themselves(make_world: Any, autojump_clock: Any) -> None:
    async with make_world() as world:
        for serve in (world.server.serve_rest, world.server.serve_websocket):
            ours, theirs = memory_stream_pair()
            world.nursery.start_soon(serve, theirs)
            with trio.fail_after(90):
                assert await ours.receive_some() == b""


# Requests carry a time but no number: production documents no protection against a replay within its tolerance, and
# none is needed for what an order's own hash or an id makes harmless.
async def test_replayed_request_changes_nothing_twice(world: Any, autojump_clock: Any) -> None:
    body = json.dumps(world.alice.order("BUY", "0.40", "10")).encode()
    headers = world.alice.l2("POST", "/order", body)
    first, again = [await (await world.rest()).ask("POST", "/order", body, headers) for _ in range(2)]
    assert first.status == 200
    assert (again.status, "Duplicated" in again.error) == (400, True)
    cancel = json.dumps({"orderID": first.json["orderID"]}).encode()
    headers = world.alice.l2("DELETE", "/order", cancel)
    answers = [await (await world.rest()).ask("DELETE", "/order", cancel, headers) for _ in range(2)]
    assert [len(answer.json["canceled"]) for answer in answers] == [1, 0]
    await trio.sleep(11)
    assert (await (await world.rest()).ask("DELETE", "/order", cancel, headers)).status == 401


@pytest.mark.parametrize("changed", ["body", "path", "method", "header"])
async def test_signature_covers_what_was_sent(world: Any, autojump_clock: Any, changed: str) -> None:
    headers = world.alice.l2("DELETE", "/order", b"{}")
    if changed == "header":
        headers["POLY_SIGNATURE"] = "\xff" + headers["POLY_SIGNATURE"][1:]
    method = "POST" if changed == "method" else "DELETE"
    path = "/orders" if changed == "path" else "/order"
    answer = await (await world.rest()).ask(method, path, b"[]" if changed == "body" else b"{}", headers)
    assert (answer.status, answer.error) == (401, "Unauthorized/Invalid api key")


# --- frames ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        frame(b"x" * (1 << 20) + b"x"),
        b"".join(frame(b"x" * 60_000, opcode=0 if part else 1, is_last=False) for part in range(20)),
        frame(b"\xff\xfe"),
        frame(b"x" * 10, is_masked=False),
        frame(b"", opcode=0),
        frame(b"x" * 300, opcode=9),
        frame(b"", opcode=8)[:1],
        frame(b"\x00", opcode=8),
        b"\x81\xff" + b"\xff" * 8,
    ],
)
async def test_broken_frame_ends_its_connection_and_no_other(world: Any, autojump_clock: Any, data: bytes) -> None:
    healthy = await world.market_socket(world.rain.yes)
    await world.heard(healthy)
    ours, theirs = memory_stream_pair()
    world.nursery.start_soon(world.server.serve_websocket, theirs)
    await ours.send_all(UPGRADE % b"/ws/market" + frame(subscription(world, b"/ws/market")) + data)
    with trio.fail_after(60):
        while await ours.receive_some():
            pass
    await healthy.send_message("PING")
    with trio.fail_after(5):
        assert await healthy.get_message() == "PONG"
