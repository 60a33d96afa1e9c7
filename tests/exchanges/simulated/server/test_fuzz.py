"""Hostile input by the thousand: the documented answer or a closed connection, and the exchange goes on.

At least 2,000 bodies and 2,000 frames, counted; and planted bugs, which must be seen.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, memory_stream_pair

from tbot.core.messages import ExchangeOrderId, Side
from tbot.core.units import MICRO, Price, Size
from tbot.exchanges.simulated.channels import Connection
from tbot.exchanges.simulated.fault_catalogue import Fault
from tbot.exchanges.simulated.operations import PlaceOrder
from tbot.exchanges.simulated.server import LocalServer, ServerSettings
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
BODIES_A_PLAN, FRAMES_A_PLAN = 25, 25
PLANS = st.tuples(
    st.integers(0, 10**6),
    st.lists(
        st.tuples(st.sampled_from(["known", "raw", "any"]), st.integers(0, 10**6), VALUES, st.binary(max_size=40)),
        min_size=BODIES_A_PLAN,
        max_size=BODIES_A_PLAN,
    ),
)
Plan = tuple[int, list[tuple[str, int, Any, bytes]]]


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
        {"account": wallet, "standing": "closed_only", "needs_deposit_wallet": True},
        {"account": wallet, "asset_type": "COLLATERAL", "spender": None, "allowance": "5"},
        {
            "type": "WALLET",
            "from": wallet,
            "nonce": "0",
            "signature": "0x" + "11" * 65,
            "depositWalletParams": {
                "depositWallet": wallet,
                "deadline": "9",
                "calls": [{"target": wallet, "data": "0x00"}],
            },
        },
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


async def send_bodies(make_world: Any, plan: Plan, asked: Counter[tuple[str, str]]) -> None:
    """Send bodies to one route after the other, from any route on, and count them."""
    async with make_world(settings=CONTROL) as world:
        routes, bodies = list(world.server.routes), known_bodies(world)
        for route, (kind, number, value, noise) in enumerate(plan[1], start=plan[0]):
            method, path = routes[route % len(routes)]
            if number % 5 == 0:
                method = METHODS[number // 5 % len(METHODS)]
            asked[method, path] += 1
            target = path.replace("{}", noise.hex() or "x") + ("?token_id=" + noise.hex() if number % 3 == 0 else "")
            sent = spoiled(bodies[number % len(bodies)], number // 15, value) if kind == "known" else value
            data = noise if kind == "raw" else json.dumps(sent).encode()
            # One route takes the key away; it must not be the one all others are asked with.
            member = world.bob if (method, path) == ("DELETE", "/auth/api-key") else world.alice
            headers = member.l2(method, target.partition("?")[0], data)
            try:
                with trio.move_on_after(300):
                    check_answer(await (await world.rest()).ask(method, target, data, headers))
            except EOFError:
                pass  # closed without an answer
        await trio.sleep(5)
        assert (await world.get("/ok")).status == 200
    assert world.server.crashes == []


def check_answer(answer: Any) -> None:
    assert answer.status in DOCUMENTED, answer.body
    assert answer.status != 500 or answer.body == b"" or answer.error in DOCUMENTED_500
    check_silent(answer.body)


def check_silent(told: bytes) -> None:
    """Check that nothing of the server's inside is told."""
    assert b"Traceback" not in told
    assert b'File "' not in told


def in_virtual_time(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main, clock=MockClock(autojump_threshold=0))


@pytest.mark.slow
def test_two_thousand_bodies_on_every_route(make_world: Any) -> None:
    asked: Counter[tuple[str, str]] = Counter()
    served: list[tuple[str, str]] = []

    async def look() -> None:
        async with make_world(settings=CONTROL) as world:
            served.extend(world.server.routes)

    in_virtual_time(look)

    @given(plan=PLANS)
    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    def fuzz(plan: Plan) -> None:
        in_virtual_time(partial(send_bodies, make_world, plan, asked))

    fuzz()
    assert asked.total() >= 2_000
    assert {path.split("/")[1] for _, path in asked} >= {"order", "data", "auth", "gamma", "relayer", "control"}
    assert [route for route in served if not asked[route]] == []


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


async def send_frames(
    make_world: Any, path: bytes, has_subscribed: bool, frames: list[bytes], counts: Counter[tuple[str, bytes]]
) -> None:
    """Send each frame on a connection of its own, while somebody trades, and count them and those that were told so."""
    async with make_world() as world:
        for number, data in enumerate(frames):
            counts["sent", path] += 1
            ours, theirs = memory_stream_pair()
            world.nursery.start_soon(world.server.serve_websocket, theirs)
            await ours.send_all(UPGRADE % path)
            assert (await ours.receive_some()).startswith(b"HTTP/1.1 101")
            try:
                if has_subscribed:
                    await ours.send_all(frame(subscription(world, path)))
                await ours.send_all(data)
                await trio.testing.wait_all_tasks_blocked()
                world.exchange.place(resting(world, number))
                told = await told_within(ours, 1)
                check_silent(told)
                counts["heard", path] += b'"event_type":"' in told
                await ours.send_all(data)
            except trio.BrokenResourceError:
                pass  # the server was faster in closing
            await ours.aclose()
        await trio.sleep(60)
        assert (await world.get("/ok")).status == 200
    assert world.server.crashes == []


def resting(world: Any, number: int) -> PlaceOrder:
    return PlaceOrder(
        account=world.alice.account.address,
        order_id=ExchangeOrderId(f"0x{number:064x}"),
        token_id=world.rain.yes,
        side=Side.BUY,
        price=Price(400_000),
        size=Size(10 * MICRO),
    )


async def told_within(stream: trio.abc.ReceiveStream, seconds: float) -> bytes:
    told = b""
    with trio.move_on_after(seconds):
        while data := await stream.receive_some():
            told += data
    return told


@pytest.mark.slow
@pytest.mark.parametrize("path", [b"/ws/market", b"/ws/user"])
def test_a_thousand_frames_on_each_channel(make_world: Any, path: bytes) -> None:
    counts: Counter[tuple[str, bytes]] = Counter()

    @given(
        has_subscribed=st.booleans(),
        frames=st.lists(FRAMES, min_size=FRAMES_A_PLAN, max_size=FRAMES_A_PLAN),
    )
    @settings(max_examples=44, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    def fuzz(has_subscribed: bool, frames: list[bytes]) -> None:
        in_virtual_time(partial(send_frames, make_world, path, has_subscribed, frames, counts))

    fuzz()
    assert counts["sent", path] >= 1_000
    assert counts["heard", path] >= 100, "few came so far as to be subscribed"


# --- planted bugs ----------------------------------------------------------------------------------------------------

ODD = frame(json.dumps({"operation": "subscribe", "assets_ids": ["x"], "markets": ["x"]}).encode())


def stumble(*_: Any, **__: Any) -> Any:
    raise RuntimeError("a planted bug")


async def tell_traceback(connection: Connection) -> str:
    await connection.send_text('Traceback (most recent call last):\n  File "channels.py"')
    await trio.sleep_forever()
    raise AssertionError("never here")


async def let_it_through(_: LocalServer, serve: Callable[[], Awaitable[None]]) -> None:
    await serve()


@pytest.mark.parametrize("path", [b"/ws/market", b"/ws/user"])
@pytest.mark.parametrize(
    ("place", "bug"),
    [
        ("tbot.exchanges.simulated.channels.decode", stumble),
        ("tbot.exchanges.simulated.channels.Connection.receive", tell_traceback),
    ],
)
def test_a_frame_that_brings_the_server_down_or_makes_it_talk_is_seen(
    make_world: Any, monkeypatch: pytest.MonkeyPatch, path: bytes, place: str, bug: Any
) -> None:
    monkeypatch.setattr(place, bug)
    with pytest.RaisesGroup(AssertionError, flatten_subgroups=True, allow_unwrapped=True):
        in_virtual_time(partial(send_frames, make_world, path, True, [ODD], Counter()))


def test_an_exchange_that_dies_of_a_frame_is_seen(make_world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tbot.exchanges.simulated.channels.decode", stumble)
    monkeypatch.setattr(LocalServer, "_contained", let_it_through)
    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="planted"), flatten_subgroups=True):
        in_virtual_time(partial(send_frames, make_world, b"/ws/market", True, [ODD], Counter()))


@pytest.mark.slow
def test_a_body_that_brings_the_server_down_or_makes_it_talk_is_seen(
    make_world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan: Plan = (0, [("any", 1, {}, b"")] * 120)
    monkeypatch.setattr("tbot.exchanges.simulated.rest_orders.decode", stumble)
    with pytest.RaisesGroup(AssertionError, flatten_subgroups=True, allow_unwrapped=True):
        in_virtual_time(partial(send_bodies, make_world, plan, Counter()))
