"""Every class of answer to a submit or a cancel, given by a mock transport, and what it means."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
import trio
import trio.testing

from tbot.core.messages import (
    Accepted,
    Canceled,
    CancelRefused,
    ExchangeOrderId,
    OrderState,
    OrderType,
    OutcomeUnknown,
    RejectCode,
    Rejected,
    Shortfall,
    Throttled,
)
from tbot.core.units import NANOS_PER_S, Nanos
from tbot.errors import (
    InvariantViolated,
    TimedOut,
)
from tests.contract.stage import now_ns
from tests.exchanges.polymarket.answers import (
    ID,
    OTHER_ID,
    REFERENCE_DATA,
    THIRD_ID,
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


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("live", OrderState.LIVE),
        ("matched", OrderState.MATCHED),
        ("delayed", OrderState.DELAYED),
        ("unmatched", OrderState.LIVE),
        ("LIVE", OrderState.LIVE),
    ],
)
async def test_accepted_order_states_where_it_stands(
    autojump_clock: trio.testing.MockClock, status: str, state: OrderState
) -> None:
    reply = await submit_to(echo_accept(status))
    assert isinstance(reply, Accepted)
    assert reply.state is state


OK: dict[str, Any] = {"success": True, "errorMsg": "", "orderID": ID, "status": "live"}
REFUSALS: list[tuple[int, object, RejectCode]] = [
    (400, {"error": "order_version_mismatch"}, RejectCode.VERSION_MISMATCH),
    (400, {"error": "invalid order version, please use the latest clob-client"}, RejectCode.VERSION_MISMATCH),
    (400, {"error": "invalid post-only order: order crosses book"}, RejectCode.POST_ONLY_WOULD_CROSS),
    (400, {"error": f"order {ID} crosses the book"}, RejectCode.POST_ONLY_WOULD_CROSS),
    (400, {"error": "not enough balance / allowance: the balance is not enough"}, RejectCode.NOT_ENOUGH_BALANCE),
    (400, {"error": "order 0x1 is invalid. Price (0.563) breaks minimum tick size rule: 0.01"}, RejectCode.OFF_GRID),
    (400, {"error": "order 0x1 is invalid. Size (1.08) lower than the minimum: 5"}, RejectCode.TOO_SMALL),
    (400, {"error": "invalid amount for a marketable BUY order ($0.5), min size: $1"}, RejectCode.TOO_SMALL),
    (400, {"error": "order couldn't be fully filled. FOK orders are fully filled or killed."}, RejectCode.NOT_FILLED),
    (400, {"error": "no orders found to match with FAK order. FAK orders ..."}, RejectCode.NOT_FILLED),
    (400, {"error": "the market is not yet ready to process new orders"}, RejectCode.MARKET_NOT_READY),
    (400, {"error": "invalid signature"}, RejectCode.BAD_SIGNATURE),
    (400, {"error": "maker address not allowed, please use the deposit wallet flow"}, RejectCode.BAD_SIGNATURE),
    (400, {"error": "the order owner has to be the owner of the API KEY"}, RejectCode.NOT_AUTHORIZED),
    (400, {"error": "the order signer address has to be the address of the API KEY"}, RejectCode.NOT_AUTHORIZED),
    (400, {"error": "'0xabc' address banned"}, RejectCode.BANNED),
    (400, {"error": "'0xabc' address in closed only mode"}, RejectCode.CLOSED_ONLY),
    (400, {"error": "Invalid order payload"}, RejectCode.MALFORMED),
    (400, {"error": "invalid nonce"}, RejectCode.MALFORMED),
    (400, {"error": "Too many orders in payload: 16, max allowed: 15"}, RejectCode.MALFORMED),
    (400, {"error": "invalid expiration"}, RejectCode.BAD_EXPIRATION),
    (400, {"error": "order canceled in the CTF exchange contract"}, RejectCode.OTHER),
    (
        400,
        {"error": "invalid amounts, the market buy orders maker amount supports a max accuracy of 2 decimals, ..."},
        RejectCode.BAD_AMOUNTS,
    ),
    (
        400,
        {"error": "invalid amounts, the taker amount for a $0.5 order of size 10 should be '5' but ... is '6'"},
        RejectCode.BAD_AMOUNTS,
    ),
    (400, {"errorMsg": "INVALID_POST_ONLY_ORDER_TYPE"}, RejectCode.MALFORMED),
    (400, {"errorMsg": "INVALID_ORDER_MIN_TICK_SIZE"}, RejectCode.OFF_GRID),
    (200, {"success": False, "errorMsg": "Insufficient balance", "orderID": None}, RejectCode.OTHER),
    (200, {"success": True, "errorMsg": "post-only mode: only post-only", "orderID": ""}, RejectCode.POST_ONLY_MODE),
    (401, {"error": "Unauthorized/Invalid api key"}, RejectCode.NOT_AUTHORIZED),
    (403, b"<html>no</html>", RejectCode.BLOCKED),
    (403, {"error": "'0xabc' address banned"}, RejectCode.BANNED),
    (403, {"error": "Trading restricted in your region"}, RejectCode.BLOCKED),
    (403, {"error": "something of their own"}, RejectCode.OTHER),
    (413, b"", RejectCode.MALFORMED),
    (425, b"", RejectCode.RESTARTING),
    (429, b"Too Many Requests", RejectCode.RATE_LIMITED),
    (503, {"error": "...", "code": "post_only_mode", "retry_after_seconds": 79}, RejectCode.POST_ONLY_MODE),
    (503, {"error": "Trading is currently cancel-only. ..."}, RejectCode.CANCEL_ONLY),
    (503, {"error": "Trading is currently disabled. Check polymarket.com"}, RejectCode.TRADING_DISABLED),
    (503, {"error": "trading is disabled"}, RejectCode.TRADING_DISABLED),
]


@pytest.mark.parametrize(("status", "body", "code"), REFUSALS, ids=lambda value: str(value)[:50])
async def test_refusal_is_certain_only_with_proof(
    autojump_clock: trio.testing.MockClock, status: int, body: object, code: RejectCode
) -> None:
    reply = await submit_to(answering(status, body))
    assert isinstance(reply, Rejected)
    assert reply.code is code
    assert reply.reason


DOUBTS: list[tuple[int, object]] = [
    (200, OK),  # an id that is not the one we computed
    (200, OK | {"orderID": ""}),
    (200, OK | {"status": "resting nicely"}),
    (200, {}),
    (200, b"OK"),
    (200, [1]),
    (200, {"success": False, "errorMsg": "order match delayed due to market conditions", "orderID": ""}),
    (200, {"success": False, "errorMsg": "hm", "orderID": "", "status": "delayed"}),
    (400, {"error": f"order {ID} is invalid. Duplicated."}),
    (400, b"<html>bad gateway behind a 400</html>"),
    (400, {"error": {"nested": "shape"}}),
    (301, b""),
    (408, b""),
    (500, {"error": "could not insert order"}),
    (400, {"error": "there are no matching orders"}),
    (400, {"error": "the trade contains rounding issues"}),
    (500, {"error": "price of the taker's order has a discrepancy greater than ..."}),
    (502, b"<html>"),
    (503, b"upstream connect error"),
    (503, {"error": "some other reason"}),
    (503, {"error": "invalid signature"}),
    (503, {"error": "upstream connect error or disconnect/reset before headers. reset reason: connection termination"}),
    (400, {"error": "context canceled"}),
    (400, {"error": "Request Timeout"}),
    (400, {"error": "rpc error: code = DeadlineExceeded desc = context deadline exceeded"}),
    (400, {"error": "write tcp 10.0.0.1:443: i/o timeout"}),
    (422, {"errorMsg": "operation timed out", "success": False}),
    (504, b""),
]


@pytest.mark.parametrize(("status", "body"), DOUBTS, ids=lambda value: str(value)[:50])
async def test_anything_else_is_unknown(autojump_clock: trio.testing.MockClock, status: int, body: object) -> None:
    reply = await submit_to(answering(status, body))
    assert isinstance(reply, OutcomeUnknown)
    assert not reply.was_cancel


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (httpx2.ConnectError, Rejected),
        (httpx2.ConnectTimeout, Rejected),
        (httpx2.PoolTimeout, Rejected),
        (httpx2.ReadTimeout, OutcomeUnknown),
        (httpx2.WriteTimeout, OutcomeUnknown),
        (httpx2.ReadError, OutcomeUnknown),
        (httpx2.WriteError, OutcomeUnknown),
        (httpx2.RemoteProtocolError, OutcomeUnknown),
        (httpx2.DecodingError, OutcomeUnknown),
    ],
)
async def test_a_broken_request_is_unknown_unless_it_never_left(
    autojump_clock: trio.testing.MockClock, error: type[httpx2.RequestError], kind: type[object]
) -> None:
    assert isinstance(await submit_to(raising(error)), kind)


async def test_an_answer_that_never_comes_is_unknown_in_time(autojump_clock: trio.testing.MockClock) -> None:
    gateway = gateway_of(routed(REFERENCE_DATA))
    await gateway.load_markets()
    gateway._public._connection._http._client._transport = _Hanging()
    start = trio.current_time()
    reply = await gateway.submit(gateway.prepare(order_of(), now_ns()))
    assert isinstance(reply, OutcomeUnknown)
    assert trio.current_time() - start == pytest.approx(6, abs=0.01)
    (canceled,) = await gateway.cancel([ID])
    assert isinstance(canceled, OutcomeUnknown)
    assert canceled.was_cancel
    with pytest.raises(TimedOut):
        await gateway.rest.time_s()


class _Hanging(httpx2.AsyncBaseTransport):
    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await trio.sleep_forever()
        raise AssertionError


SUMS = [
    (
        "not enough balance: balance: 10000000, sum of active orders: 8, sum of matched orders: 15, order amount: 45",
        Shortfall(balance=10_000_000, active=8, matched=15, wanted=45),
    ),
    (
        "not enough balance / allowance: ... -> balance: 0, sum of matched orders: 5.25, order amount: 7",
        Shortfall(balance=0, matched=5_250_000, wanted=7),
    ),
    (
        "not enough balance: balance: 26120900, sum of active orders: 6200000, order amount (inc. fees): 9",
        Shortfall(balance=26_120_900, active=6_200_000, wanted=9),
    ),
    ("not enough balance / allowance", None),
    ("not enough balance / allowance: balance: plenty, order amount: 1.2.3", None),
]


@pytest.mark.parametrize(("text", "shortfall"), SUMS, ids=lambda value: str(value)[-20:])
async def test_the_sum_behind_a_refusal_is_read(
    autojump_clock: trio.testing.MockClock, text: str, shortfall: Shortfall | None
) -> None:
    reply = await submit_to(answering(400, {"error": text}))
    assert isinstance(reply, Rejected)
    assert reply.code is RejectCode.NOT_ENOUGH_BALANCE
    assert reply.shortfall == shortfall


# --- deadlines and resending -----------------------------------------------------------------------------------------


async def test_late_order_expires_unsent(autojump_clock: trio.testing.MockClock) -> None:
    posts: list[httpx2.Request] = []
    gateway = gateway_of(routed(REFERENCE_DATA | {"/order": posts.append}))
    await gateway.load_markets()
    prepared = gateway.prepare(order_of(), now_ns())
    await trio.sleep(1.5)
    reply = await gateway.submit(prepared)
    assert isinstance(reply, Rejected)
    assert reply.code is RejectCode.EXPIRED_UNSENT
    assert posts == []


async def test_retry_after_holds_the_next_order_back_but_not_the_cancel(
    autojump_clock: trio.testing.MockClock,
) -> None:
    paths: list[str] = []

    def limited(request: httpx2.Request) -> httpx2.Response:
        paths.append(f"{request.method} {request.url.path}")
        if request.method == "DELETE":
            return httpx2.Response(200, json={"canceled": [ID], "not_canceled": {}})
        return httpx2.Response(429, headers={"retry-after": "30"}, content=b"Too Many Requests")

    gateway = gateway_of(routed(REFERENCE_DATA | {"/order": limited}))
    await gateway.load_markets()
    for _ in range(2):
        reply = await gateway.submit(gateway.prepare(order_of(), now_ns()))
        assert isinstance(reply, Rejected)
        assert reply.code is RejectCode.RATE_LIMITED
    assert isinstance((await gateway.cancel([ID]))[0], Canceled)
    assert paths == ["POST /order", "DELETE /order"]


@pytest.mark.parametrize(
    "second", [answering(429, b""), answering(400, {"error": "invalid signature"}), raising(httpx2.ConnectError)]
)
async def test_refusal_of_bytes_sent_before_proves_nothing(
    autojump_clock: trio.testing.MockClock, second: Handler
) -> None:
    gateway = gateway_of(routed(REFERENCE_DATA | {"/order": in_turn(raising(httpx2.ReadTimeout), second)}))
    await gateway.load_markets()
    prepared = gateway.prepare(order_of(), now_ns())
    assert isinstance(await gateway.submit(prepared), OutcomeUnknown)
    assert isinstance(await gateway.submit(prepared), OutcomeUnknown)


async def test_bytes_prepared_before_a_restart_are_treated_as_sent(autojump_clock: trio.testing.MockClock) -> None:
    first = gateway_of(routed(REFERENCE_DATA))
    await first.load_markets()
    prepared = first.prepare(order_of(), now_ns())
    second = gateway_of(answering(400, {"error": "invalid signature"}))
    assert isinstance(await second.submit(prepared), OutcomeUnknown)


async def test_prepare_refuses_what_the_plan_should_have_stopped(autojump_clock: trio.testing.MockClock) -> None:
    gateway = gateway_of(routed(REFERENCE_DATA))
    with pytest.raises(InvariantViolated, match="no loaded market"):
        gateway.prepare(order_of(), now_ns())
    await gateway.load_markets()
    with pytest.raises(InvariantViolated, match="GTD"):
        gateway.prepare(order_of(order_type=OrderType.GTD), now_ns())


async def test_orders_prepared_and_never_sent_are_forgotten_at_some_point(
    autojump_clock: trio.testing.MockClock,
) -> None:
    gateway = gateway_of(routed(REFERENCE_DATA))
    await gateway.load_markets()
    for _ in range(1_100):
        gateway.prepare(order_of(), now_ns())
    assert len(gateway._entry._unsent) == 1_024


async def test_same_seed_and_time_give_the_same_bytes(autojump_clock: trio.testing.MockClock) -> None:
    bodies = []
    for _ in range(2):
        gateway = gateway_of(routed(REFERENCE_DATA))
        await gateway.load_markets()
        bodies.append([gateway.prepare(order_of(), Nanos(NANOS_PER_S)).body for _ in range(3)])
    assert bodies[0] == bodies[1]
    assert len(set(bodies[0])) == 3


# --- cancels ---------------------------------------------------------------------------------------------------------


async def test_cancels_are_answered_id_by_id(autojump_clock: trio.testing.MockClock) -> None:
    body = {"canceled": [THIRD_ID], "not_canceled": {ID: "Order already matched"}}
    replies = await gateway_of(answering(200, body)).cancel([ID, OTHER_ID, THIRD_ID])
    assert [type(reply) for reply in replies] == [CancelRefused, OutcomeUnknown, Canceled]
    assert [reply.exchange_order_id for reply in replies] == [ID, OTHER_ID, THIRD_ID]


async def test_many_cancels_go_in_batches_the_bucket_can_pay(autojump_clock: trio.testing.MockClock) -> None:
    sent: list[Any] = []

    def cancel_all(request: httpx2.Request) -> httpx2.Response:
        ids = json.loads(request.content)
        sent.append(ids if isinstance(ids, list) else [ids["orderID"]])
        return httpx2.Response(200, json={"canceled": sent[-1], "not_canceled": {}})

    gateway = gateway_of(cancel_all)
    ids = [ExchangeOrderId(f"0x{n}") for n in range(121)]
    replies = await gateway.cancel(ids)
    assert [len(batch) for batch in sent] == [120, 1]
    assert [reply.exchange_order_id for reply in replies] == ids
    assert await gateway.cancel([]) == ()


@pytest.mark.parametrize(
    ("handler", "kind"),
    [
        (answering(429, b"", **{"retry-after": "2"}), Throttled),
        (answering(425, b""), Throttled),
        (answering(503, {"error": "Trading is currently disabled."}), Throttled),
        (answering(503, {"error": "trading is disabled", "retry_after_seconds": 2}), Throttled),
        (raising(httpx2.ConnectError), Throttled),
        (answering(401, {"error": "Unauthorized/Invalid api key"}), Throttled),
        (answering(403, b"<html>blocked"), Throttled),
        (answering(403, {"error": "address banned"}), Throttled),
        (answering(404, {"error": "not found"}), Throttled),
        (answering(413, b""), Throttled),
        (answering(400, {"error": "Invalid orderID"}), OutcomeUnknown),
        (answering(400, {"error": "Invalid order payload"}), OutcomeUnknown),
        (answering(400, {"error": "context canceled"}), OutcomeUnknown),
        (answering(408, b""), OutcomeUnknown),
        (answering(302, b""), OutcomeUnknown),
        (answering(500, b""), OutcomeUnknown),
        (answering(200, b"nonsense"), OutcomeUnknown),
        (raising(httpx2.ReadTimeout), OutcomeUnknown),
    ],
)
async def test_no_status_says_that_an_order_cannot_be_cancelled(
    autojump_clock: trio.testing.MockClock, handler: Handler, kind: type[object]
) -> None:
    replies = await gateway_of(handler).cancel([ID, OTHER_ID])
    assert [type(reply) for reply in replies] == [kind, kind]


async def test_a_throttled_cancel_says_when_to_come_back(autojump_clock: trio.testing.MockClock) -> None:
    gateway = gateway_of(answering(429, b"", **{"retry-after": "20"}))
    for _ in range(2):  # once told by the exchange, then by our own gate without asking it again
        (reply,) = await gateway.cancel([ID])
        assert isinstance(reply, Throttled)
        assert reply.retry_after_s == pytest.approx(20, abs=0.1)


async def test_retry_after_may_be_a_date(autojump_clock: trio.testing.MockClock) -> None:
    # The fixed wall clock of these tests starts on 2026-09-21 at 14:13:20 UTC; Trio's virtual clock at 0.
    gateway = gateway_of(answering(429, b"", **{"retry-after": "Mon, 21 Sep 2026 14:14:00 GMT"}))
    (reply,) = await gateway.cancel([ID])
    assert isinstance(reply, Throttled)
    assert reply.retry_after_s == pytest.approx(40, abs=1)
