"""Paper trading passes the contract, its public data taken from the local exchange.

Whoever takes from a paper order takes from nobody: the public book does not hold it. So the other trader of this stage
lets a third one rest the same size first, and the print that follows is what a real order at our place would have met.
Two promises are not for paper: the account channel is a call, which nobody can cut, and there is no dead-man switch,
because the orders end with the process.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

import tests.contract.test_gateway_contract as suite
from tbot.core.market import TokenId
from tbot.core.messages import OrderType, Side
from tbot.core.units import MICRO, Notional, Price, Size
from tbot.exchanges.paper.exchange import PaperExchange
from tbot.exchanges.paper.gateway import PaperGateway
from tbot.exchanges.paper.settings import PaperSettings
from tests.contract.stage import now_ns
from tests.contract.stages import InProcessStage

NOT_FOR_PAPER = {"test_a_cut_connection_is_told", "test_a_silent_bot_loses_its_orders"}


class PaperStage(InProcessStage):
    """The local exchange as a source of public data, and a paper account in front of it."""

    def __init__(self) -> None:
        super().__init__()
        self.paper = PaperExchange(PaperSettings(cash=Notional(1_000 * MICRO)), now_ns=now_ns)
        self.source = self.gateway
        self.gateway = PaperGateway(self.source, self.paper, now_ns=now_ns)  # type: ignore[assignment]

    async def other_takes(self, token_id: TokenId, side: Side, price: Price, size: Size) -> None:
        """Take what a third one rested for it at that price."""
        self._place(token_id, side.opposite, price, size, OrderType.GTC)
        await trio.sleep(0.1)
        await super().other_takes(token_id, side, price, size)


async def follow(stage: PaperStage) -> None:
    async with stage.gateway.open_market(stage.market.tokens) as session:
        while True:
            await session.receive()


@pytest.fixture
async def stage(autojump_clock: trio.testing.MockClock) -> AsyncIterator[PaperStage]:
    stage = PaperStage()
    async with trio.open_nursery() as nursery:
        await nursery.start(stage.exchange.run)
        await nursery.start(stage.paper.run)
        await stage.gateway.load_markets()
        nursery.start_soon(follow, stage)
        await trio.sleep(0.5)
        yield stage
        nursery.cancel_scope.cancel()


globals().update(
    {name: test for name, test in vars(suite).items() if name.startswith("test_") and name not in NOT_FOR_PAPER}
)
