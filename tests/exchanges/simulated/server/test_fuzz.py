"""Hostile input by the thousand: the documented answer or a closed connection, and the exchange goes on."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, memory_stream_pair

from tbot.exchanges.simulated.fault_catalogue import Fault
from tbot.exchanges.simulated.server import ServerSettings
from tests.exchanges.simulated.server.frames_by_hand import UPGRADE, frame, subscription

CONTROL = ServerSettings(has_control=True)
DOCUMENTED = {200, 400, 401, 404, 405, 408, 413, 422, 425, 429, 431, 500, 503}
# A 500 is documented for an order whose fate is unknown, and comes from injected faults only.
DOCUMENTED_500 = {"could not insert order", "Internal server error"}

# --- every route, any method, any body -------------------------------------------------------------------------------

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PRI", "get", "!")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NASTY = st.sampled_from(
    [
        10**400,
        -1,
        1e308,
        "0x" + "f" * 64,
        "0x" + "0" * 40,
        "9" * 78,
        "\x00",
        "\ud800",
        "../..",
        "%s%n",
        "NaN",
        [[[[]]]],
        "",
    ]
) | st.sampled_from([str(fault) for fault in Fault])
VALUES = JSON | NASTY
PLANS = st.lists(
    st.tuples(
        st.integers(0, 10**6),
        st.sampled_from(["known", "raw", "any"]),
        st.integers(0, 10**6),
        VALUES,
        st.binary(max_size=40),
    ),
    min_size=20,
    max_size=20,
)


def known_bodies(world: Any) -> list[Any]:
    order = world.alice.order("BUY", "0.40", "10")
    wallet, market = world.alice.account.address, world.rain.market_id
    return [
        order,
        [order, world.alice.order("SELL", "0.60", "10")],
        {"orderID": "0x" + "1" * 64},
        ["0x" + "1" * 64],
        {"market": market, "asset_id": world.rain.yes},
        {"heartbeat_id": ""},
        [{"token_id": world.rain.yes, "side": "BUY"}],
        {"account": wallet, "market": market, "size": "5"},
        {"account": wallet, "cash": "5"},
        {"account": wallet, "tier": "Gold"},
        {"market": market, "outcome": "YES"},
        {"mode": "normal"},
        {"restarting_s": 1.0, "post_only_s": 1.0},
        {"name": "frozen_asset", "seconds": 1.0, "target": world.rain.yes, "at_s": 0.5},
        {"name": "post_lost", "count": 1},
    ]


def spoiled(body: Any, number: int, value: Any) -> Any:
    """Put a value somewhere into a body."""
    if isinstance(body, dict) and body:
        key = sorted(body)[number % len(body)]
        inner = spoiled(body[key], number // 7, value) if isinstance(body[key], dict | list) else value
        return {**body, key: inner}
    if isinstance(body, list) and body:
        return [spoiled(body[0], number, value), *body[1:]]
    return value


async def send_bodies(make_world: Any, plan: list[tuple[int, str, int, Any, bytes]]) -> None:
    async with make_world(settings=CONTROL) as world:
        routes, bodies = list(world.server.routes), known_bodies(world)
        for route, kind, number, value, noise in plan:
            method, path = routes[route % len(routes)]
            if number % 5 == 0:
                method = METHODS[number // 5 % len(METHODS)]
            target = path.replace("{}", noise.hex() or "x") + ("?token_id=" + noise.hex() if number % 3 == 0 else "")
            sent = spoiled(bodies[number % len(bodies)], number // 15, value) if kind == "known" else value
            data = noise if kind == "raw" else json.dumps(sent).encode()
            headers = world.alice.l2(method, target.partition("?")[0], data)
            try:
                with trio.move_on_after(300):
                    answer = await (await world.rest()).ask(method, target, data, headers)
                    assert answer.status in DOCUMENTED, answer.body
                    assert answer.status != 500 or answer.body == b"" or answer.error in DOCUMENTED_500
                    assert b"Traceback" not in answer.body
                    assert b'File "' not in answer.body
            except EOFError:
                pass  # closed without an answer
        await trio.sleep(5)
        assert (await world.get("/ok")).status == 200
    assert world.server.crashes == []


@pytest.mark.slow
@given(plan=PLANS)
@settings(max_examples=70, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_fourteen_hundred_bodies_on_every_route(make_world: Any, plan: Any) -> None:
    trio.run(partial(send_bodies, make_world, plan), clock=MockClock(autojump_threshold=0))


async def send_methods(make_world: Any, *, is_signed: bool) -> None:
    async with make_world(settings=CONTROL) as world:
        assert {"/relayer/deployed", "/gamma/markets", "/order", "/book", "/control/fault"} <= {
            path for _, path in world.server.routes
        }
        client = await world.rest()  # one connection: an answer that is half an answer spoils the next
        paths = dict.fromkeys(path for _, path in world.server.routes)
        for path in sorted(paths, key="/auth/api-key".__eq__):  # last, since one of its methods takes the key away
            target = path.replace("{}", "x")
            for method in METHODS:
                headers = world.alice.l2(method, target) if is_signed else {}
                answer = await client.ask(method, target, headers=headers)
                assert answer.status in DOCUMENTED - {500}, (method, path)
                known = {(method, path), ("GET" if method == "HEAD" else method, path)} & set(world.server.routes)
                assert (answer.status == 405) is not bool(known), (method, path)
                assert method != "HEAD" or answer.body == b"", path
    assert world.server.crashes == []


@pytest.mark.slow
@pytest.mark.parametrize("is_signed", [False, True])
def test_every_method_is_answered_on_every_path(make_world: Any, is_signed: bool) -> None:
    trio.run(partial(send_methods, make_world, is_signed=is_signed), clock=MockClock(autojump_threshold=0))


# --- frames ----------------------------------------------------------------------------------------------------------

FRAMES = st.one_of(
    st.builds(
        frame,
        VALUES.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60),
        opcode=st.integers(0, 15),
        is_last=st.booleans(),
        is_masked=st.booleans(),
        reserved=st.sampled_from([0, 0, 0, 4, 7]),
    ),
    st.tuples(st.sampled_from(["subscribe", "unsubscribe", "x", 1]), VALUES).map(
        lambda pair: frame(json.dumps({"operation": pair[0], "assets_ids": pair[1], "markets": pair[1]}).encode())
    ),
    st.tuples(VALUES, VALUES).map(
        lambda pair: frame(json.dumps({"type": "market", "assets_ids": [pair[0]], "initial_dump": pair[1]}).encode())
    ),
    st.binary(max_size=30),
)


async def send_frames(make_world: Any, path: bytes, has_subscribed: bool, frames: list[bytes]) -> None:
    async with make_world() as world:
        for data in frames:
            ours, theirs = memory_stream_pair()
            world.nursery.start_soon(world.server.serve_websocket, theirs)
            await ours.send_all(UPGRADE % path)
            assert (await ours.receive_some()).startswith(b"HTTP/1.1 101")
            try:
                if has_subscribed:
                    await ours.send_all(frame(subscription(world, path)))
                await ours.send_all(data)
                await world.alice.placed("BUY", "0.40", "10")
                with trio.move_on_after(1):
                    while await ours.receive_some():
                        pass
                await ours.send_all(data)
            except trio.BrokenResourceError:
                pass  # the server was faster in closing
            await ours.aclose()
        await trio.sleep(60)
        assert (await world.get("/ok")).status == 200
    assert world.server.crashes == []


@pytest.mark.slow
@given(
    path=st.sampled_from([b"/ws/market", b"/ws/user"]),
    has_subscribed=st.booleans(),
    frames=st.lists(FRAMES, min_size=20, max_size=20),
)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_twelve_hundred_frames_on_both_channels(
    make_world: Any, path: bytes, has_subscribed: bool, frames: Any
) -> None:
    trio.run(partial(send_frames, make_world, path, has_subscribed, frames), clock=MockClock(autojump_threshold=0))
