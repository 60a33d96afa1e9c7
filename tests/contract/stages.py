"""Every gateway that must pass the contract, by name."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager

import trio

from tbot.core.market import Market, TokenId
from tbot.core.messages import ExchangeOrderId, OrderType, Side
from tbot.core.units import MICRO, Notional, Price, Size
from tbot.exchanges.simulated.exchange import LocalExchange
from tbot.exchanges.simulated.faults import Faults, FaultSettings
from tbot.exchanges.simulated.gateway import InProcessGateway
from tbot.exchanges.simulated.operations import Account, Placed, PlaceOrder, SplitPair
from tbot.exchanges.simulated.settings import AccountSettings, ExchangeSettings
from tbot.exchanges.simulated.transit import LatencySettings
from tbot.exchanges.simulated.translate import market_of
from tests.contract.stage import StageIterator, Staging, now_ns
from tests.contract.tiny import TinyStage

US, OTHER = Account("us"), Account("other")


class InProcessStage:
    """The local exchange without its crowd."""

    def __init__(self, faults: FaultSettings | None = None) -> None:
        settings = ExchangeSettings(
            accounts=(AccountSettings(name=US, cash_usd=1_000), AccountSettings(name=OTHER, cash_usd=100_000)),
            flow=None,
        )
        self.exchange = LocalExchange(settings, seed=1, now_ns=now_ns, faults=Faults(faults or FaultSettings(), seed=1))
        for rules in settings.markets:
            pairs = SplitPair(account=OTHER, market_id=rules.market_id, size=Size(10_000 * MICRO))
            self.exchange.apply(pairs)
        self.gateway = InProcessGateway(
            self.exchange, US, run_id="run", rng=random.Random(1), now_ns=now_ns, latency=LatencySettings()
        )
        self.market: Market = market_of(settings.markets[0])
        self._count = 0

    async def other_rests(self, token_id: TokenId, side: Side, price: Price, size: Size) -> None:
        """Place at once, without latency."""
        self._place(token_id, side, price, size, OrderType.GTC)
        await trio.lowlevel.checkpoint()

    async def other_takes(self, token_id: TokenId, side: Side, price: Price, size: Size) -> None:
        """Take at once, without latency."""
        self._place(token_id, side, price, size, OrderType.FAK)
        await trio.lowlevel.checkpoint()

    async def cut_connections(self) -> None:
        """Cut all."""
        self.exchange.cut_connections("cut by the test")
        await trio.lowlevel.checkpoint()

    def _place(self, token_id: TokenId, side: Side, price: Price, size: Size, order_type: OrderType) -> None:
        self._count += 1
        has_budget = side is Side.BUY and order_type is OrderType.FAK
        reply = self.exchange.place(
            PlaceOrder(
                account=OTHER,
                order_id=ExchangeOrderId(f"other-{self._count}"),
                token_id=token_id,
                side=side,
                price=price,
                size=Size(0) if has_budget else size,
                budget=Notional(price * size // MICRO if has_budget else 0),
                order_type=order_type,
            )
        )
        assert isinstance(reply, Placed), reply


@asynccontextmanager
async def in_process() -> StageIterator:
    """Run the local exchange beside the test."""
    stage = InProcessStage()
    async with trio.open_nursery() as nursery:
        await nursery.start(stage.exchange.run)
        yield stage
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def tiny() -> StageIterator:
    """A perpetual with whole books only and signed positions."""
    await trio.lowlevel.checkpoint()
    yield TinyStage()


STAGES: dict[str, Staging] = {"in_process": in_process, "tiny": tiny}
