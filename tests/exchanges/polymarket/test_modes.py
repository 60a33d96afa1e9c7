"""What a refusal of one order means for the next ones: modes, new market parameters, the same bytes again."""

from __future__ import annotations

import httpx2
import pytest
import trio
import trio.testing

from tbot.core.messages import Accepted, OutcomeUnknown, RejectCode, Rejected
from tbot.core.units import NANOS_PER_S, Nanos
from tests.contract.stage import now_ns
from tests.exchanges.polymarket.answers import (
    ID,
    REFERENCE_DATA,
    YES,
    Handler,
    answering,
    echo_accept,
    gateway_of,
    in_turn,
    order_of,
    raising,
    routed,
    submit_to,
)

POST_ONLY = {"error": "x", "code": "post_only_mode", "retry_after_seconds": 7}
DUPLICATED = {"error": f"order {ID} is invalid. Duplicated."}
CUT = raising(httpx2.RemoteProtocolError)
MODES = [
    (answering(425, b"", **{"retry-after": "3"}), RejectCode.RESTARTING, 3.0),
    (
        answering(503, {"error": "x", "code": "post_only_mode", "retry_after_seconds": 7}),
        RejectCode.POST_ONLY_MODE,
        7.0,
    ),
    (answering(503, {"error": "Trading is currently cancel-only."}), RejectCode.CANCEL_ONLY, 15.0),
]


@pytest.mark.parametrize(("handler", "code", "wait_s"), MODES, ids=lambda value: str(value)[:20])
async def test_orders_on_their_way_are_held_back_once_the_exchange_has_refused_their_kind(
    autojump_clock: trio.testing.MockClock, handler: Handler, code: RejectCode, wait_s: float
) -> None:
    sent: list[float] = []

    def count(request: httpx2.Request) -> httpx2.Response:
        sent.append(trio.current_time())
        return handler(request)

    gateway = gateway_of(routed(REFERENCE_DATA | {"/order": count}))
    await gateway.load_markets()
    taking = {"is_post_only": False, "deadline_ns": Nanos(now_ns() + 60 * NANOS_PER_S)}
    for _ in range(3):
        reply = await gateway.submit(gateway.prepare(order_of(**taking), now_ns()))
        assert isinstance(reply, Rejected)
        assert reply.code is code
        assert reply.reason
    assert len(sent) == 1
    await trio.sleep(wait_s)
    if code is not RejectCode.RESTARTING:  # after a restart only a post-only order tries the door
        await gateway.submit(gateway.prepare(order_of(**taking), now_ns()))
        assert len(sent) == 2
    resting = order_of(deadline_ns=Nanos(now_ns() + 60 * NANOS_PER_S))
    await gateway.submit(gateway.prepare(resting, now_ns()))
    assert len(sent) == {RejectCode.RESTARTING: 2, RejectCode.POST_ONLY_MODE: 3, RejectCode.CANCEL_ONLY: 2}[code]


async def test_version_mismatch_reads_the_market_anew_and_signs_nothing_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    posted: list[bytes] = []

    def refuse(request: httpx2.Request) -> httpx2.Response:
        posted.append(request.content)
        return httpx2.Response(400, json={"error": "order_version_mismatch"})

    routes = REFERENCE_DATA | {"/order": refuse, "/version": {"version": 2}}
    gateway = gateway_of(routed(routes))
    await gateway.load_markets()
    routes["/tick-size"] = {"minimum_tick_size": 0.001}
    before = gateway.prepare(order_of(), now_ns())
    reply = await gateway.submit(before)
    assert isinstance(reply, Rejected)
    assert reply.code is RejectCode.VERSION_MISMATCH
    assert posted == [before.body]
    assert gateway._public._markets[YES].tick == 1_000


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        ((CUT, answering(200, b"nonsense")), OutcomeUnknown),
        (
            (CUT, answering(400, DUPLICATED)),
            OutcomeUnknown,
        ),
        ((CUT, answering(400, {"error": "invalid signature"})), OutcomeUnknown),
        ((CUT, raising(httpx2.ConnectError)), OutcomeUnknown),
        ((CUT, echo_accept("live")), Accepted),
    ],
)
async def test_a_cut_connection_is_answered_with_the_same_bytes_once(
    autojump_clock: trio.testing.MockClock, answers: tuple[Handler, ...], kind: type[object]
) -> None:
    bodies: list[bytes] = []
    turns = in_turn(*answers)

    def keep(request: httpx2.Request) -> httpx2.Response:
        bodies.append(request.content)
        return turns(request)

    assert isinstance(await submit_to(keep), kind)
    assert len(bodies) == 2
    assert len(set(bodies)) == 1
