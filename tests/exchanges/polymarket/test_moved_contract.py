"""A signature refused while nobody can say whether the market moved to another contract: it halts nothing at once."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as gen
from trio.testing import MockClock

from tbot.core.market import MarketId
from tbot.core.messages import Accepted, RejectCode, Rejected
from tbot.core.refusals import HOLD_MS, halt_reason
from tbot.core.units import NANOS_PER_S, Nanos
from tbot.exchanges.polymarket.doubts import DOUBT_NS, ContractDoubts
from tbot.exchanges.polymarket.order_entry import LEARN_S
from tests.exchanges.polymarket.test_bad_terms import FIRST, TERMS, Told

DOUBT_S = DOUBT_NS / NANOS_PER_S
MOVED: dict[str, dict[str, Any]] = {"/neg-risk": {"neg_risk": True}, TERMS: {"nr": True}}
REFUSED = {"error": "invalid signature"}


class Moving(Told):
    """An exchange that refuses signatures, and some of whose answers fail."""

    def __init__(self) -> None:
        super().__init__()
        self.refusal, self.down, self.taken = REFUSED, "", ""

    async def _answer(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/order" and self.taken:
            return httpx2.Response(200, json={"success": True, "orderID": self.taken, "status": "live"})
        if request.url.path == self.down:
            return httpx2.Response(503, json={"error": "away"})
        return await super()._answer(request)

    async def code(self, market: int = 1) -> RejectCode:
        """Send an order and tell why it is refused; a halt follows of a bad signature alone."""
        reply = await self.gateway.submit(self.order(market))
        assert isinstance(reply, Rejected)
        assert bool(halt_reason(reply)) == (reply.code is RejectCode.BAD_SIGNATURE)
        return reply.code

    async def accept(self) -> None:
        """Send an order and take it."""
        order = self.order(1)
        self.taken = order.exchange_order_id
        assert isinstance(await self.gateway.submit(order), Accepted)
        self.taken = ""


async def moving() -> Moving:
    world = Moving()
    await world.gateway.load_markets()
    return world


def old_parameters(world: Moving) -> None:
    world.lies = {"/neg-risk": {"neg_risk": True}}


def old_answer(world: Moving) -> None:
    world.lies = {TERMS: {"nr": True}}


def answer_away(world: Moving) -> None:
    world.lies, world.down = MOVED, "/neg-risk"


def hung(world: Moving) -> None:
    world.lies, world.is_hung = MOVED, True


@pytest.mark.parametrize("befall", [old_parameters, old_answer, answer_away, hung])
async def test_a_signature_refused_while_its_contract_is_unknown_halts_after_a_minute_only(
    autojump_clock: MockClock, befall: Any
) -> None:
    world = await moving()
    befall(world)
    codes, began = [await world.code()], trio.current_time()
    while codes[-1] is RejectCode.VERSION_MISMATCH:
        await trio.sleep(HOLD_MS[RejectCode.VERSION_MISMATCH] / 1_000)
        codes.append(await world.code())
    assert codes[-1] is RejectCode.BAD_SIGNATURE
    assert DOUBT_S < trio.current_time() - began <= DOUBT_S + 2 * LEARN_S + 1
    assert await world.code() is RejectCode.BAD_SIGNATURE, "and it stays one"


@pytest.mark.parametrize("befall", [old_parameters, old_answer, answer_away, hung])
async def test_the_next_order_is_signed_for_the_new_contract_once_all_sources_name_it(
    autojump_clock: MockClock, befall: Any
) -> None:
    world = await moving()
    befall(world)
    assert await world.code() is RejectCode.VERSION_MISMATCH
    world.lies, world.down, world.is_hung = MOVED, "", False
    before = world.gateway._public.market(world.gateway._public._loaded(FIRST).yes)  # type: ignore[union-attr]
    assert await world.code() is RejectCode.VERSION_MISMATCH
    assert (before.is_neg_risk, world.gateway._public.market(before.yes).is_neg_risk) == (False, True)
    assert await world.code() is RejectCode.BAD_SIGNATURE, "signed for what all sources name"


async def test_a_signature_refused_in_a_market_that_surely_stayed_halts_at_once(autojump_clock: MockClock) -> None:
    world = await moving()
    old_answer(world)
    assert await world.code() is RejectCode.VERSION_MISMATCH
    assert await world.code(2) is RejectCode.BAD_SIGNATURE, "of the other market nothing is in doubt"
    world.lies = {}
    assert await world.code() is RejectCode.BAD_SIGNATURE


@pytest.mark.parametrize("is_taken", [True, False])
async def test_an_order_that_is_taken_ends_a_doubt(autojump_clock: MockClock, *, is_taken: bool) -> None:
    world = await moving()
    old_answer(world)
    assert await world.code() is RejectCode.VERSION_MISMATCH
    for _ in range(2):
        await trio.sleep(0.4 * DOUBT_S)
        assert await world.code() is RejectCode.VERSION_MISMATCH
    if is_taken:
        await world.accept()
    await trio.sleep(0.25 * DOUBT_S)
    assert await world.code() is (RejectCode.VERSION_MISMATCH if is_taken else RejectCode.BAD_SIGNATURE)


@given(gen.lists(gen.tuples(gen.integers(0, 90), gen.sampled_from(["doubt", "doubt", "doubt", "settle"])), max_size=30))
def test_a_doubt_ends_a_minute_after_it_began_and_at_no_other_time(steps: list[tuple[int, str]]) -> None:
    doubts, market, now_s = ContractDoubts(), MarketId("m"), 1_000
    run: list[int] = []  # of doubts with no minute between them, and nothing settled
    for wait_s, what in steps:
        now_s += wait_s
        if what == "settle":
            doubts.settle(market)
            run = []
            continue
        run = [*run, now_s] if run and now_s - run[-1] <= DOUBT_S else [now_s]
        assert doubts.is_young(market, Nanos(now_s * NANOS_PER_S)) == (now_s - run[0] <= DOUBT_S)
        assert ContractDoubts().is_young(market, Nanos(now_s * NANOS_PER_S))
