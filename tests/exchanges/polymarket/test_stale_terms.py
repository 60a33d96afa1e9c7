"""An order refused for terms that are not in force any more: its market is read anew, however many there are."""

from __future__ import annotations

import json
import math
from typing import Any

import httpx2
import pytest
import trio
import trio.testing

from tbot.core.market import TokenId
from tbot.core.messages import ClientOrderId, OutcomeUnknown, RejectCode, Rejected
from tbot.core.units import NANOS_PER_S, Nanos, Price
from tbot.exchanges.gateway import PreparedOrder
from tbot.exchanges.polymarket.gateway import PolymarketGateway
from tbot.exchanges.polymarket.order_entry import LEARN_S
from tests.contract.stage import now_ns
from tests.exchanges.polymarket.answers import gateway_of, order_of

WAY_S = 0.03
VERSION = {"error": "order_version_mismatch"}
GRID = {"error": "order 0x1 is invalid. Price (0.56) breaks minimum tick size rule: 0.1"}


class World:
    """An exchange of many markets whose terms change, and which takes no order."""

    def __init__(self, markets: int, refusal: dict[str, str]) -> None:
        self.tick, self.is_hung, self.is_whole = 0.01, False, False
        self.refusal = refusal
        self.read: list[str] = []
        ids = tuple(f"0x{number:064x}" for number in range(1, markets + 1))
        self.gateway: PolymarketGateway = gateway_of(self._answer, condition_ids=ids)

    async def _answer(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        if path in ("/order", "/orders"):
            orders = json.loads(request.content)
            if self.is_whole:
                return httpx2.Response(400, json=self.refusal)
            body: Any = [self.refusal | {"success": False}] * len(orders) if path == "/orders" else self.refusal
            return httpx2.Response(400 if path == "/order" else 200, json=body)
        self.read.append(path)
        await trio.sleep(math.inf if self.is_hung else WAY_S)
        return httpx2.Response(200, json=self._told(path))

    def _told(self, path: str) -> object:
        if path.startswith("/clob-markets/"):
            number = int(path.rsplit("/", 1)[1], 16)
            tokens = [{"t": str(2 * number), "o": "Yes"}, {"t": str(2 * number + 1), "o": "No"}]
            return {"c": path.rsplit("/", 1)[1], "t": tokens, "mos": 5, "mts": self.tick, "ao": True}
        fixed = {"/tick-size": {"minimum_tick_size": self.tick}, "/neg-risk": {"neg_risk": False}}
        return fixed.get(path, {"market_slug": "x", "version": 2})

    def order(self, market: int) -> PreparedOrder:
        """Sign an order in a market, counted from 1."""
        token, deadline_ns = TokenId(str(2 * market)), Nanos(now_ns() + 2 * NANOS_PER_S)
        order = order_of(token_id=token, deadline_ns=deadline_ns, client_order_id=ClientOrderId(f"c-{market}"))
        return self.gateway.prepare(order, now_ns())

    def tick_of(self, market: int) -> Price:
        """Return the tick in force, as far as the gateway knows."""
        return self.gateway.tick_at(TokenId(str(2 * market)), Price(500_000))


@pytest.mark.parametrize("markets", [1, pytest.param(40, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("refusal", "code"), [(VERSION, RejectCode.VERSION_MISMATCH), (GRID, RejectCode.OFF_GRID)], ids=["version", "grid"]
)
async def test_the_market_of_a_refused_order_is_read_before_the_refusal_is_told(
    autojump_clock: trio.testing.MockClock, markets: int, refusal: dict[str, str], code: RejectCode
) -> None:
    world = World(markets, refusal)
    await world.gateway.load_markets()
    world.tick, world.read = 0.1, []
    began = trio.current_time()
    reply = await world.gateway.submit(world.order(markets))
    assert isinstance(reply, Rejected)
    assert reply.code is code
    assert world.tick_of(markets) == 100_000
    assert trio.current_time() - began <= 0.5, "round trips, and the tokens that loading has just spent"
    assert len(world.read) == 5, "one market and the version, not all of them"


@pytest.mark.slow
async def test_a_batch_refused_in_several_markets_reads_each_once(autojump_clock: trio.testing.MockClock) -> None:
    world = World(31, VERSION)
    await world.gateway.load_markets()
    world.tick, world.read = 0.1, []
    orders = [world.order(number) for number in (7, 7, 7, 30, 31, 30)]
    replies = await world.gateway.submit_batch(orders)
    assert [type(reply) for reply in replies] == [Rejected] * 6
    assert [world.tick_of(number) for number in (7, 30, 31, 8)] == [100_000, 100_000, 100_000, 10_000]
    assert sum(path.startswith("/clob-markets/") for path in world.read) == 3


async def test_reading_that_hangs_holds_the_refusal_back_for_seconds_only(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world = World(2, VERSION)
    await world.gateway.load_markets()
    world.is_hung = True
    began = trio.current_time()
    replies = await world.gateway.submit_batch([world.order(1), world.order(2)])
    assert [type(reply) for reply in replies] == [Rejected] * 2
    assert trio.current_time() - began <= LEARN_S + 0.1
    world.is_hung, world.tick = False, 0.1
    await world.gateway.submit(world.order(2))
    assert world.tick_of(2) == 100_000, "the next refusal tries again"


async def test_a_batch_refused_as_a_whole_reads_its_markets_and_no_other(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world = World(3, VERSION)
    await world.gateway.load_markets()
    world.is_whole, world.tick = True, 0.1
    replies = await world.gateway.submit_batch([world.order(1), world.order(2)])
    doubts = [reply for reply in replies if isinstance(reply, OutcomeUnknown)]
    assert [doubt.code for doubt in doubts] == [None, None], "of no order is it known what became of it"
    assert [world.tick_of(number) for number in (1, 2, 3)] == [100_000, 100_000, 10_000]


async def test_a_batch_refused_as_a_whole_for_something_else_reads_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world = World(2, {"error": "the market is not yet ready to process new orders"})
    await world.gateway.load_markets()
    world.is_whole, world.read = True, []
    await world.gateway.submit_batch([world.order(1), world.order(2)])
    assert world.read == []


@pytest.mark.parametrize("refusal", [VERSION, GRID], ids=["version", "grid"])
async def test_a_copy_refused_for_its_terms_reads_its_market(
    autojump_clock: trio.testing.MockClock, refusal: dict[str, str]
) -> None:
    world = World(2, {"error": "the market is not yet ready to process new orders"})
    await world.gateway.load_markets()
    world.is_whole, orders = True, [world.order(1), world.order(2)]
    await world.gateway.submit_batch(orders)
    world.refusal, world.tick = refusal, 0.1
    reply = await world.gateway.submit(orders[0])
    assert isinstance(reply, OutcomeUnknown), "the first may rest"
    assert [world.tick_of(number) for number in (1, 2)] == [100_000, 10_000]
