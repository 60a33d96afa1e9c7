"""Whatever wait an exchange asks for, ours is finite and short: what should not rest is cancelled in the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import httpx2
import msgspec
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as gen

from tbot.core.exchange_mode import WAIT_S_MAX
from tbot.core.messages import CancelAll, Halt, OutcomeUnknown, Rejected, SubmitOrder, Throttled
from tbot.core.units import NANOS_PER_S, Nanos
from tbot.errors import RateLimited
from tbot.exchanges.polymarket.gateway import PolymarketGateway
from tests.contract.stage import now_ns
from tests.core.coordinators import YES, Desk, bid, cancels, eid, listed
from tests.exchanges.polymarket.answers import ID, answering, gateway_of, submit_to
from tests.exchanges.polymarket.test_fuzz import bodies, statuses

FAR = "Mon, 21 Sep 2099 14:14:00 GMT"
WAITS = ("", "0", "1", "-5", "119.5", "3600", "1e99", "nan", "inf", "9" * 400, FAR, "Mon, 99 Foo")
LONG = [
    answering(429, b"", **{"retry-after": "3600"}),
    answering(429, b"", **{"retry-after": "9" * 400}),
    answering(429, b"", **{"retry-after": FAR}),
    answering(429, b"", **{"poly-ratelimit-reset": "99999999999"}),
    answering(429, b'{"error": "x", "retry_after_seconds": 1e999}'),
    answering(429, b'{"error": "x", "retry_after_seconds": "Infinity"}'),
    answering(
        503, b'{"error": "post-only mode", "code": "post_only_mode", "retry_after_seconds": 99999999999999999999}'
    ),
]


@pytest.mark.parametrize("handler", LONG)
async def test_a_wait_beyond_reason_is_cut_where_it_comes_in(
    autojump_clock: trio.testing.MockClock, handler: Callable[[httpx2.Request], httpx2.Response]
) -> None:
    (throttled,) = await gateway_of(handler).cancel([ID])
    assert isinstance(throttled, Throttled)
    assert throttled.retry_after_s == WAIT_S_MAX
    rejected = await submit_to(handler)
    assert isinstance(rejected, Rejected)
    assert rejected.retry_after_s == WAIT_S_MAX
    with pytest.raises(RateLimited) as refusal:
        await gateway_of(handler).rest.time_s()
    assert refusal.value.retry_after_s == WAIT_S_MAX


@pytest.mark.parametrize("told", ["nan", "-1", "soon", ""])
async def test_a_wait_that_is_none_falls_back_to_the_usual(autojump_clock: trio.testing.MockClock, told: str) -> None:
    (reply,) = await gateway_of(answering(429, b"", **{"retry-after": told})).cancel([ID])
    assert isinstance(reply, Throttled)
    assert reply.retry_after_s == 1.0


async def test_an_unreadable_header_leaves_the_word_to_the_body(autojump_clock: trio.testing.MockClock) -> None:
    handler = answering(429, {"error": "x", "retry_after_seconds": 7}, **{"retry-after": "soon"})
    (reply,) = await gateway_of(handler).cancel([ID])
    assert isinstance(reply, Throttled)
    assert reply.retry_after_s == 7


hostile = gen.tuples(
    gen.just(429) | statuses,
    bodies
    | gen.sampled_from((b'{"error": "x", "retry_after_seconds": 1e999}', b'{"retry_after_seconds": 99999}', b"")),
    gen.fixed_dictionaries(
        {},
        optional={
            "retry-after": gen.sampled_from(WAITS),
            "poly-ratelimit-reset": gen.sampled_from(("", "0", "1790000050", "99999999999", "-1", "x")),
            "poly-ratelimit-remaining": gen.sampled_from(("", "0", "-99999999999", "99999999999", "x")),
            "poly-ratelimit-warning": gen.sampled_from(("true", "false")),
        },
    ),
)
Hostile = list[tuple[int, bytes, dict[str, str]]]


class Play:
    """A coordinator with three resting orders, whose cancels meet these answers first, and sense afterwards."""

    def __init__(self, told: Hostile) -> None:
        self.told = list(told)
        self.heard: list[float] = []
        self.gateway: PolymarketGateway = gateway_of(self._answer)
        self.desk = Desk()
        self.desk.now = now_ns()
        self.desk.recover()
        self.desk.report()
        self.desk.top(YES, 0.50, 0.54)
        self.orders = self.desk.live(bid(0.40), bid(0.41, level=1), bid(0.42, level=2))
        assert len(self.orders) == 3

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/time":
            return httpx2.Response(200, json=now_ns() // NANOS_PER_S)
        self.heard.append(trio.current_time())
        if self.told:
            status, content, extra = self.told.pop(0)
            return httpx2.Response(status, content=content, headers=extra)
        asked = msgspec.json.decode(request.content)
        ids = asked if isinstance(asked, list) else [asked["orderID"]]
        return httpx2.Response(200, json={"canceled": ids, "not_canceled": {}})

    async def second(self) -> None:
        """Let a second pass, with a report that lists what rests."""
        await trio.sleep(1)
        self.desk.now = Nanos(now_ns())
        due = self.desk.report(*(listed(order) for order in self.resting()))
        ids = [eid(command) for command in cancels(due)]
        if ids:
            for reply in await self.gateway.cancel(ids):
                self.desk.absorb(reply)

    def resting(self) -> list[SubmitOrder]:
        """List orders that may rest."""
        return [order for order in self.orders if self.desk.order(order).is_active]


def run(play: Callable[[], Awaitable[None]]) -> None:
    trio.run(play, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(gen.lists(hostile, min_size=1, max_size=3), gen.booleans())
def test_cancels_get_out_within_a_bounded_time_whatever_was_answered(told: Hostile, is_halt: bool) -> None:
    async def play() -> None:
        game = Play(told)
        operator = Halt(reason="by hand", at_ns=now_ns()) if is_halt else CancelAll(at_ns=now_ns())
        game.desk.absorb(operator)
        game.desk.quote()
        last = trio.current_time()
        while game.resting():
            before = len(game.heard)
            await game.second()
            last = trio.current_time() if len(game.heard) > before else last
            assert trio.current_time() - last <= WAIT_S_MAX + 5, game.heard

    run(play)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(gen.lists(hostile, min_size=1, max_size=3))
def test_no_answer_to_an_order_keeps_the_coordinator_from_trading_for_long(told: Hostile) -> None:
    async def play() -> None:
        game = Play([])
        for status, content, extra in told:
            reply = await submit_to(answering(status, content, **extra))
            (order,) = game.desk.quote(bid(0.43, level=len(game.orders))) or (game.orders[0],)
            game.desk.prepare(order)
            name = "exchange_order_id" if isinstance(reply, OutcomeUnknown) else "client_order_id"
            owner = eid(order) if isinstance(reply, OutcomeUnknown) else order.client_order_id
            game.desk.absorb(msgspec.structs.replace(reply, **{name: owner}))
            mode = game.desk.core.account.exchange_mode
            assert mode.until_ns <= now_ns() + (WAIT_S_MAX + 1) * NANOS_PER_S, mode

    run(play)


@pytest.mark.parametrize("operator", [Halt(reason="by hand", at_ns=Nanos(0)), CancelAll(at_ns=Nanos(0))])
async def test_a_halt_is_not_kept_waiting_for_an_hour(
    autojump_clock: trio.testing.MockClock, operator: Halt | CancelAll
) -> None:
    game = Play([(429, b"", {"retry-after": "3600"})])
    game.desk.quote()
    await game.second()
    await trio.sleep(2)
    game.desk.absorb(operator)
    began = trio.current_time()
    while game.resting() and trio.current_time() - began < 300:
        await game.second()
    assert not game.resting()
    assert trio.current_time() - began <= WAIT_S_MAX + 2
