"""What the paper account trades on while the tokens of a market session change."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from tbot.core.market import Market
from tbot.core.messages import Accepted, RejectCode, Rejected, Side
from tbot.core.units import MICRO, Notional
from tbot.exchanges.gateway import MarketSession
from tbot.exchanges.paper.exchange import PaperExchange
from tbot.exchanges.paper.gateway import PaperGateway
from tbot.exchanges.paper.settings import PaperSettings
from tbot.exchanges.simulated.operations import CloseMarket, ReopenMarket
from tests.contract.stage import Orders, now_ns
from tests.exchanges.polymarket.local import polymarket


async def is_traded(gateway: PaperGateway, market: Market) -> bool:
    """Tell whether an order is taken, and not refused because its market is not known well enough."""
    reply = await gateway.submit(gateway.prepare(Orders(market).make(Side.BUY, 10), now_ns()))
    if isinstance(reply, Rejected):
        assert reply.code is RejectCode.MARKET_NOT_READY
    return isinstance(reply, Accepted)


async def follow(session: MarketSession) -> None:
    with trio.move_on_after(1):
        while True:
            await session.receive()


async def test_a_market_is_traded_while_it_is_followed_whenever_that_began(autojump_clock: MockClock) -> None:
    paper = PaperExchange(PaperSettings(cash=Notional(1_000 * MICRO)), now_ns=now_ns)
    async with polymarket() as stage:
        gateway = PaperGateway(stage.gateway._public, paper, now_ns=now_ns)
        first, second = await gateway.load_markets()
        async with gateway.open_market(first.tokens) as session:
            await session.subscribe(second.tokens)
            await follow(session)
            assert await is_traded(gateway, first)
            assert await is_traded(gateway, second)

            paper.distrust(second.tokens)
            assert not await is_traded(gateway, second)
            await gateway.books(second.tokens)
            assert await is_traded(gateway, second), "its prints are told, so a whole book ends the doubt"

            await session.unsubscribe(first.tokens)
            await gateway.books(first.tokens)
            assert not await is_traded(gateway, first), "its prints are not told any more"
        assert not await is_traded(gateway, second), "the connection ended"


async def test_a_market_that_opens_again_is_traded_with_its_first_book_and_not_before(
    autojump_clock: MockClock,
) -> None:
    paper = PaperExchange(PaperSettings(cash=Notional(1_000 * MICRO)), now_ns=now_ns)
    async with polymarket() as stage:
        gateway = PaperGateway(stage.gateway._public, paper, now_ns=now_ns)
        first, second = await gateway.load_markets()
        async with gateway.open_market((*first.tokens, *second.tokens)) as session:
            await follow(session)
            assert await is_traded(gateway, first)
            stage.exchange.apply(CloseMarket(market_id=first.market_id))
            await gateway.reread(first.market_id)
            await session.unsubscribe(first.tokens)
            assert paper.account.open_orders() == ()
            assert not await is_traded(gateway, first)
            stage.exchange.apply(ReopenMarket(market_id=first.market_id))
            assert (await gateway.reread(first.market_id)).is_accepting_orders
            assert not await is_traded(gateway, first), "its book is of the time before"
            await session.subscribe(first.tokens)
            await follow(session)
            assert await is_traded(gateway, first)
            assert await is_traded(gateway, second)
