"""HTTP/1.1 by the byte: what is malformed ends in a 4xx or a closed connection, and never takes the server along."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, memory_stream_pair

from tbot.exchanges.simulated.http import (
    HttpLimits,
    NoAnswer,
    Reply,
    Request,
    dispatcher,
    error_response,
    json_response,
    serve_http,
)

LIMITS = HttpLimits(body_bytes_max=1000, header_bytes_max=500, idle_s=30.0, write_s=5.0, hold_s=60.0)


async def echo(request: Request) -> Reply:
    return json_response({"path": request.path, "query": dict(request.query), "body": request.body.decode("latin-1")})


async def raw(data: bytes, *, handler: Any = echo) -> bytes:
    """Everything the server sends back until it closes or is silent for an hour."""
    ours, theirs = memory_stream_pair()
    told = b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_http, theirs, handler, LIMITS)
        await ours.send_all(data)
        with trio.move_on_after(3600):
            while part := await ours.receive_some():
                told += part
        nursery.cancel_scope.cancel()
    return told


def statuses(told: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3})", told)]


GET = b"GET /a?b=c HTTP/1.1\r\nhost: x\r\n\r\n"


async def test_one_connection_serves_many_requests(autojump_clock: Any) -> None:
    assert statuses(await raw(GET * 3)) == [200, 200, 200]


async def test_connection_close_is_obeyed(autojump_clock: Any) -> None:
    told = await raw(b"GET /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n" + GET)
    assert statuses(told) == [200]


async def test_request_arrives_as_sent(autojump_clock: Any) -> None:
    body = b"POST /a%20b?q=%31&q=2 HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nbody"
    told = await raw(body)
    assert json.loads(told.split(b"\r\n\r\n")[1]) == {"path": "/a%20b", "query": {"q": "2"}, "body": "body"}


async def test_chunked_body_and_100_continue(autojump_clock: Any) -> None:
    head = b"POST /a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n"
    told = await raw(head + b"3\r\nabc\r\n0\r\n\r\n")
    assert statuses(told) == [200]
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_http, theirs, echo, LIMITS)
        await ours.send_all(head)
        assert statuses(bytes(await ours.receive_some())) == [100]
        await ours.send_all(b"3\r\nabc\r\n0\r\n\r\n")
        assert statuses(bytes(await ours.receive_some())) == [200]
        nursery.cancel_scope.cancel()


HEAD = GET.replace(b"GET", b"HEAD")


async def test_head_is_answered_like_get_without_the_body(autojump_clock: Any) -> None:
    told = await raw(HEAD + GET + HEAD)
    first, second, body_and_third, end = told.split(b"\r\n\r\n")
    body, _, third = body_and_third.partition(b"HTTP/1.1")
    assert first == second == b"HTTP/1.1" + third
    assert first.endswith(b"content-length: %d" % len(body))
    assert (json.loads(body)["path"], end) == ("/a", b"")


@pytest.mark.parametrize("more", [b"x: " + b"a" * 600 + b"\r\n", b"content-length: 2000\r\n"])
async def test_refused_head_has_no_body_either(autojump_clock: Any, more: bytes) -> None:
    told = await raw(HEAD[:-2] + more + b"\r\n" + b"a" * 2000)
    assert statuses(told) in ([431], [413])
    assert told.endswith(b"\r\n\r\n")


MALFORMED = {
    "noise": (b"\x00\x01\x02\r\n\r\n", 400),
    "tls hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "no version": (b"GET /\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "bad length": (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: ten\r\n\r\n", 400),
    "two lengths": (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400),
    "bad chunk": (b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400),
    "unknown coding": (b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\n", 501),
    "huge headers": (b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"a" * 1000, 431),
    "huge body": (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2000\r\n\r\n" + b"a" * 2000, 413),
    "too many fields": (b"GET /?" + b"a&" * 150 + b" HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "half a request": (b"GET / HTTP/1.1\r\nhost: x\r\n", 408),
    "half a body": (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nab", 408),
}


@pytest.mark.parametrize("case", MALFORMED)
async def test_malformed_request_is_answered_and_closed(autojump_clock: Any, case: str) -> None:
    data, status = MALFORMED[case]
    told = await raw(data)
    assert statuses(told) == [status]
    head, _, body = told.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    assert list(json.loads(body)) == ["error"]


async def test_idle_connection_is_closed_without_a_word(autojump_clock: Any) -> None:
    assert await raw(b"") == b""
    assert trio.current_time() == pytest.approx(30.0)


async def test_client_that_does_not_read_is_cut(autojump_clock: Any) -> None:
    ours, theirs = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_http, theirs, echo, LIMITS)
        await ours.send_all(GET)
    assert trio.current_time() == pytest.approx(5.0)


async def test_held_request_is_never_answered(autojump_clock: Any) -> None:
    async def hold(_: Request) -> Reply:
        return NoAnswer.HOLD

    assert await raw(GET, handler=hold) == b""
    assert trio.current_time() == pytest.approx(60.0)


async def test_cut_request_closes_at_once(autojump_clock: Any) -> None:
    async def cut(_: Request) -> Reply:
        return NoAnswer.CUT

    assert await raw(GET, handler=cut) == b""
    assert trio.current_time() == 0.0


async def test_dispatcher_finds_parameters_methods_and_nothing(autojump_clock: Any) -> None:
    async def show(request: Request) -> Reply:
        return json_response(request.tail)

    handler = dispatcher(
        {("GET", "/a/{}"): show, ("GET", "/b"): show}, lambda _, text, status: error_response(text, status=status)
    )

    async def status_of(method: str, path: str) -> tuple[int, bytes]:
        reply = await handler(Request(method=method, path=path, query={}, headers={}, body=b""))
        assert not isinstance(reply, NoAnswer)
        return reply.status, reply.body

    assert await status_of("GET", "/a/x") == (200, b'"x"')
    assert await status_of("GET", "/b") == (200, b'""')
    assert (await status_of("GET", "/a/"))[0] == 404
    assert (await status_of("GET", "/a/x/y"))[0] == 404
    assert (await status_of("POST", "/a/x"))[0] == 405


async def test_bug_in_a_handler_is_a_500_and_is_kept(make_world: Any, autojump_clock: Any) -> None:
    async with make_world() as world:
        # A state the routes do not expect stands in for a bug.
        world.exchange.engine._books.clear()
        answer = await world.get(f"/book?token_id={world.rain.yes}")
        assert answer.status == 404
        world.exchange.faults = None
        answer = await world.alice.ask("GET", "/data/orders")
        assert (answer.status, answer.json) == (500, {"error": "Internal server error"})
        assert (await world.get("/ok")).status == 200
        assert [type(crash) for crash in world.server.crashes] == [AttributeError]
        world.server.crashes.clear()


# --- hostile input ---------------------------------------------------------------------------------------------------

NOISE = st.binary(max_size=200) | st.lists(
    st.sampled_from(
        [GET, b"POST /order HTTP/1.1\r\n", b"host: x\r\n", b"content-length: 5\r\n", b"\r\n", b"{}", b"\xff"]
    ),
    max_size=12,
).map(b"".join)


@given(data=NOISE)
@settings(max_examples=150, deadline=None)
def test_any_bytes_end_in_answers_or_silence(data: bytes) -> None:
    told = trio.run(raw, data, clock=MockClock(autojump_threshold=0))
    assert all(status in (100, 200, 400, 408, 413, 431, 501) for status in statuses(told))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
FIELDS = ("salt", "maker", "signer", "tokenId", "makerAmount", "takerAmount", "side", "expiration", "signatureType")
BODIES = st.one_of(
    JSON.map(lambda value: ("any", value)),
    st.tuples(st.sampled_from([*FIELDS, "timestamp", "metadata", "builder", "signature"]), JSON),
)


@given(target=st.sampled_from(["POST /order", "POST /orders", "DELETE /order", "DELETE /orders"]), body=BODIES)
@settings(max_examples=50, deadline=None)
def test_any_signed_body_ends_in_a_documented_answer(make_world: Any, target: str, body: tuple[str, Any]) -> None:
    async def main() -> None:
        async with make_world() as world:
            method, path = target.split(" ")
            field, value = body
            sent = value
            if field != "any":
                sent = world.alice.order("BUY", "0.56", "21.04")
                sent["order"][field] = value
            answer = await world.alice.ask(method, path, [sent] if path == "/orders" and field != "any" else sent)
            assert answer.status in (200, 400), answer.body
            assert b"Traceback" not in answer.body

    trio.run(main, clock=MockClock(autojump_threshold=0))
