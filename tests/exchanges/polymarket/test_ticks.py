"""A tick that changes while orders are planned: gateway and feed agree on it, and the race is answered, not raised."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, cast

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as gen
from trio.testing import MockClock

from tbot.core.book import Book
from tbot.core.messages import Accepted, BookSnapshot, RejectCode, Rejected, Side, TickSizeChanged
from tbot.core.units import MICRO, NANOS_PER_MS, Nanos, Notional, Price
from tbot.exchanges.gateway import Gateway
from tbot.exchanges.paper.exchange import PaperExchange
from tbot.exchanges.paper.gateway import PaperGateway
from tbot.exchanges.paper.settings import PaperSettings
from tbot.exchanges.polymarket.sockets import MarketChannel, Socket
from tbot.exchanges.simulated.exchange import LocalExchange
from tbot.exchanges.simulated.operations import ChangeTick
from tests.contract.stage import EPOCH_NS, Orders, now_ns
from tests.contract.stages import InProcessStage
from tests.exchanges.polymarket.answers import NO, YES, answering, gateway_of, market
from tests.exchanges.polymarket.local import polymarket

FINE, CENT = Price(1_000), Price(10_000)
EPOCH_MS = EPOCH_NS // NANOS_PER_MS


# --- late frames ------------------------------------------------------------------------------------------------------


def frame(at_ms: int, tick: str, *, is_book: bool) -> str:
    told: dict[str, Any] = {"asset_id": YES, "market": "m", "timestamp": str(EPOCH_MS + at_ms)}
    if is_book:
        told |= {"event_type": "book", "hash": "", "tick_size": tick, "last_trade_price": ""}
        told |= {"bids": [{"price": "0.4", "size": "5"}], "asks": [{"price": "0.6", "size": "5"}]}
    else:
        told |= {"event_type": "tick_size_change", "old_tick_size": "0.1", "new_tick_size": tick}
    return json.dumps(told)


class Texts:
    """A socket that brings these texts."""

    def __init__(self, texts: list[str]) -> None:
        self._texts = texts

    async def text(self) -> str:
        return self._texts.pop(0)


frames = gen.lists(
    gen.tuples(gen.integers(0, 5), gen.sampled_from(["0.1", "0.01", "0.001"]), gen.booleans()), min_size=1, max_size=8
)


@settings(max_examples=20, deadline=None)
@given(told=frames)
def test_gateway_and_feed_know_the_same_tick_in_whatever_order_frames_come(told: list[tuple[int, str, bool]]) -> None:
    async def main() -> None:
        public = gateway_of(answering(200))._public
        public._markets = dict.fromkeys(market().tokens, market())
        texts = [frame(at_ms, tick, is_book=is_book) for at_ms, tick, is_book in told]
        channel = MarketChannel(cast("Socket", Texts(texts)), (YES, NO), lambda: Nanos(EPOCH_NS), public._learn_tick)
        book = Book(market().tick)
        while texts:
            for event in await channel.receive():
                if isinstance(event, BookSnapshot):
                    book.apply_snapshot(event)
                elif isinstance(event, TickSizeChanged):
                    book.change_tick(event)
            assert public.tick_at(YES, Price(0)) == public.tick_at(NO, Price(0)) == book.tick

    trio.run(main)


# --- between plan and signature ---------------------------------------------------------------------------------------

Staged = AbstractAsyncContextManager[tuple[Gateway, LocalExchange]]


@asynccontextmanager
async def live() -> AsyncIterator[tuple[Gateway, LocalExchange]]:
    async with polymarket() as stage:
        yield stage.gateway, stage.exchange


@asynccontextmanager
async def paper() -> AsyncIterator[tuple[Gateway, LocalExchange]]:
    async with polymarket() as stage, trio.open_nursery() as nursery:
        account = PaperExchange(PaperSettings(cash=Notional(1_000 * MICRO)), now_ns=now_ns)
        await nursery.start(account.run)
        gateway = PaperGateway(stage.gateway._public, account, now_ns=now_ns)
        await gateway.load_markets()
        yield gateway, stage.exchange
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def in_process() -> AsyncIterator[tuple[Gateway, LocalExchange]]:
    stage = InProcessStage()
    async with trio.open_nursery() as nursery:
        await nursery.start(stage.exchange.run)
        yield stage.gateway, stage.exchange
        nursery.cancel_scope.cancel()


async def follow(gateway: Gateway) -> None:
    first = (await gateway.load_markets())[0]
    async with gateway.open_market(first.tokens) as session:
        while True:
            await session.receive()


@pytest.mark.parametrize("staged", [live, paper, in_process], ids=lambda staged: staged.__name__)
async def test_order_planned_on_a_tick_that_got_coarser_is_refused_by_the_exchange(
    autojump_clock: MockClock, staged: Callable[[], Staged]
) -> None:
    async with staged() as (gateway, exchange), trio.open_nursery() as nursery:
        first = (await gateway.load_markets())[0]
        exchange.apply(ChangeTick(market_id=first.market_id, tick=FINE))
        nursery.start_soon(follow, gateway)
        await trio.sleep(3)
        order = Orders(first).make(Side.BUY, 40)
        fine = type(order)(**{f: getattr(order, f) for f in order.__struct_fields__} | {"price": Price(401_000)})
        taken = await gateway.submit(gateway.prepare(fine, now_ns()))
        exchange.apply(ChangeTick(market_id=first.market_id, tick=CENT))
        await trio.sleep(3)  # the gateway has heard of it, who planned has not
        assert gateway.tick_at(first.yes, fine.price) == CENT
        refused = await gateway.submit(gateway.prepare(fine, now_ns()))
        assert isinstance(taken, Accepted), taken
        assert isinstance(refused, Rejected), refused
        assert refused.code is RejectCode.OFF_GRID
        nursery.cancel_scope.cancel()
