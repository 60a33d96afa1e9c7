"""Several orders in one request: what leaves, what each leg's answer means, and what no answer means."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import httpx2
import pytest
import trio.testing

from tbot.core.messages import (
    Accepted,
    ClientOrderId,
    OrderState,
    OutcomeUnknown,
    RejectCode,
    Rejected,
    SubmitReply,
)
from tbot.exchanges.gateway import PreparedOrder
from tbot.exchanges.polymarket.gateway import PolymarketGateway
from tbot.exchanges.polymarket.limits import Lane
from tbot.exchanges.polymarket.settings import LimitSettings
from tests.contract.stage import now_ns
from tests.exchanges.polymarket.answers import (
    REFERENCE_DATA,
    Handler,
    answering,
    gateway_of,
    in_turn,
    order_of,
    raising,
    routed,
)

Clock = trio.testing.MockClock
RESTS: dict[str, Any] = {"success": True, "errorMsg": "", "status": "live"}


class Batch:
    """A gateway, some orders signed by it, and the requests that carried them."""

    def __init__(self, gateway: PolymarketGateway, orders: Sequence[PreparedOrder], requests: list[Any]) -> None:
        self.gateway, self.orders, self.requests = gateway, tuple(orders), requests

    async def sent(self) -> tuple[SubmitReply, ...]:
        return await self.gateway.submit_batch(self.orders)


async def batch_of(count: int, *legs: object, handler: Handler | None = None, **changes: Any) -> Batch:
    """Sign some orders; the answer's legs are dicts, those without an id get the one of their place."""
    requests: list[Any] = []
    ids: list[str] = []

    def take(request: httpx2.Request) -> httpx2.Response:
        requests.append((request.url.path, json.loads(request.content)))
        if handler is not None:
            return handler(request)
        first = sum(len(body) for _, body in requests[:-1] if isinstance(body, list))
        told = [
            {"orderID": ids[first + place], **leg} if isinstance(leg, dict) else leg
            for place, leg in enumerate(legs or [RESTS] * len(requests[-1][1]))
        ]
        return httpx2.Response(200, json=told)

    gateway = gateway_of(routed(REFERENCE_DATA | {"/orders": take, "/order": take}), **changes)
    await gateway.load_markets()
    orders = [gateway.prepare(order_of(client_order_id=ClientOrderId(f"c-{n}")), now_ns()) for n in range(count)]
    ids += [order.exchange_order_id for order in orders]
    return Batch(gateway, orders, requests)


async def test_batch_is_the_very_bodies_in_one_request_and_costs_a_token_each(autojump_clock: Clock) -> None:
    batch = await batch_of(3)
    before = batch.gateway._public.gate.available(Lane.ORDER)
    replies = await batch.sent()
    assert [type(reply) for reply in replies] == [Accepted] * 3
    assert [r.exchange_order_id for r in replies if isinstance(r, Accepted)] == [
        o.exchange_order_id for o in batch.orders
    ]
    ((path, bodies),) = batch.requests
    assert path == "/orders"
    assert bodies == [json.loads(order.body) for order in batch.orders]
    assert before - batch.gateway._public.gate.available(Lane.ORDER) == 3
    assert len(batch.gateway._entry.open_orders) == 3


async def test_legs_are_judged_one_by_one_and_by_place(autojump_clock: Clock) -> None:
    batch = await batch_of(
        6,
        RESTS,
        {"success": False, "errorMsg": "not enough balance / allowance", "orderID": "", "status": ""},
        {"success": True, "errorMsg": "post-only mode: only post-only orders", "orderID": "", "status": ""},
        {"success": False, "errorMsg": "hm", "orderID": "", "status": "delayed"},
        RESTS | {"orderID": "0xanother"},
        RESTS | {"status": "matched"},
    )
    replies = await batch.sent()
    assert [type(reply) for reply in replies] == [
        Accepted,
        Rejected,
        Rejected,
        OutcomeUnknown,
        OutcomeUnknown,
        Accepted,
    ]
    assert [r.code for r in replies if isinstance(r, Rejected)] == [
        RejectCode.NOT_ENOUGH_BALANCE,
        RejectCode.POST_ONLY_MODE,
    ]
    assert isinstance(replies[5], Accepted)
    assert replies[5].state is OrderState.MATCHED
    assert [getattr(r, "client_order_id", None) for r in replies[:3]] == ["c-0", "c-1", "c-2"]
    assert len(batch.gateway._entry.open_orders) == 4, "those refused rest nowhere, those in doubt may"


async def test_one_bad_leg_leaves_the_others_alone(autojump_clock: Clock) -> None:
    replies = await (await batch_of(3, RESTS, "nonsense", RESTS)).sent()
    assert [type(reply) for reply in replies] == [Accepted, OutcomeUnknown, Accepted]


@pytest.mark.parametrize(
    "handler",
    [
        raising(httpx2.ReadTimeout),
        answering(500, {"error": "could not insert order"}),
        answering(502, b"<html>"),
        answering(200, b"nonsense"),
        answering(200, []),
        answering(200, [{"success": False, "errorMsg": "not enough balance", "orderID": ""}]),
        answering(400, {"error": "order 0x1 is invalid. Size (1.08) lower than the minimum: 5"}),
        in_turn(raising(httpx2.ReadError), raising(httpx2.ReadError)),
        in_turn(raising(httpx2.ReadError), answering(429, b"")),
        in_turn(raising(httpx2.ReadError), answering(400, {"error": "Invalid order payload"})),
    ],
)
async def test_batch_without_a_usable_answer_leaves_every_order_in_doubt(
    autojump_clock: Clock, handler: Handler
) -> None:
    batch = await batch_of(3, handler=handler)
    replies = await batch.sent()
    assert [type(reply) for reply in replies] == [OutcomeUnknown] * 3
    assert [r.exchange_order_id for r in replies if isinstance(r, OutcomeUnknown)] == [
        order.exchange_order_id for order in batch.orders
    ]
    assert len(batch.gateway._entry.open_orders) == 3


@pytest.mark.parametrize(
    ("handler", "code"),
    [
        (answering(400, {"error": "Invalid order payload"}), RejectCode.MALFORMED),
        (answering(401, {"error": "Unauthorized/Invalid api key"}), RejectCode.NOT_AUTHORIZED),
        (answering(425, b""), RejectCode.RESTARTING),
        (answering(429, b"Too Many Requests"), RejectCode.RATE_LIMITED),
        (answering(503, {"error": "Trading is currently cancel-only. ..."}), RejectCode.CANCEL_ONLY),
        (raising(httpx2.ConnectError), RejectCode.UNAVAILABLE),
    ],
)
async def test_refusal_of_the_request_refuses_every_order(
    autojump_clock: Clock, handler: Handler, code: RejectCode
) -> None:
    batch = await batch_of(3, handler=handler)
    replies = await batch.sent()
    assert [reply.code for reply in replies if isinstance(reply, Rejected)] == [code] * 3
    assert batch.gateway._entry.open_orders == {}


async def test_cut_connection_is_tried_once_more_with_the_same_bytes(autojump_clock: Clock) -> None:
    def accept(request: httpx2.Request) -> httpx2.Response:
        told = [RESTS | {"orderID": order.exchange_order_id} for order in batch.orders]
        return httpx2.Response(200, json=told)

    batch = await batch_of(2, handler=in_turn(raising(httpx2.RemoteProtocolError), accept))
    assert [type(reply) for reply in await batch.sent()] == [Accepted] * 2
    assert batch.requests[0] == batch.requests[1]


async def test_no_request_carries_more_than_fifteen_or_than_the_bucket_ever_holds(autojump_clock: Clock) -> None:
    batch = await batch_of(20)
    assert len(await batch.sent()) == 20
    assert [len(body) for _, body in batch.requests] == [15, 5]
    batch = await batch_of(20, limits=LimitSettings(orders_per_s=40.0, orders_burst=10.0))
    assert batch.gateway.capabilities.submit_batch_max == 10
    replies = await batch.sent()
    assert [len(body) for _, body in batch.requests] == [10, 10]
    assert [type(reply) for reply in replies] == [Accepted] * 20


async def test_batch_that_cannot_pass_in_time_is_refused_whole_and_unsent(autojump_clock: Clock) -> None:
    batch = await batch_of(15, limits=LimitSettings(orders_per_s=1.0, orders_burst=15.0))
    await batch.gateway._public.gate.enter(Lane.ORDER, 5, by_ns=now_ns())
    replies = await batch.sent()
    assert [reply.code for reply in replies if isinstance(reply, Rejected)] == [RejectCode.RATE_LIMITED] * 15
    assert batch.requests == []
    assert batch.gateway._entry.open_orders == {}


async def test_copies_of_a_batch_are_known_as_copies(autojump_clock: Clock) -> None:
    batch = await batch_of(2, handler=in_turn(raising(httpx2.ReadTimeout), answering(429, b"")))
    assert [type(reply) for reply in await batch.sent()] == [OutcomeUnknown] * 2
    again = await batch.gateway.submit(batch.orders[1])
    assert isinstance(again, OutcomeUnknown)
    assert again.code is RejectCode.RATE_LIMITED
