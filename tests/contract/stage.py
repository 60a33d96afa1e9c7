"""What the contract suite needs of an exchange under test: a gateway, and somebody else to trade with.

To put another gateway through the suite, write an async context manager that yields a `Stage` and add it to
`tests/contract/stages.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import trio

from tbot.core.market import Market, TokenId
from tbot.core.messages import ClientOrderId, OrderType, Side, StrategyName, SubmitOrder
from tbot.core.units import MICRO, NANOS_PER_S, Nanos, Price, Size
from tbot.exchanges.gateway import Gateway

EPOCH_NS = 1_790_000_000 * NANOS_PER_S


def now_ns() -> Nanos:
    """Wall time that advances with Trio's clock, virtual or not."""
    return Nanos(EPOCH_NS + int(trio.current_time() * NANOS_PER_S))


class Stage(Protocol):
    """One exchange with our account, funded with at least 1,000 dollars and no position, and empty books."""

    @property
    def gateway(self) -> Gateway:
        """The gateway under test."""
        ...

    @property
    def market(self) -> Market:
        """A market it loads; its fee is not zero."""
        ...

    async def other_rests(self, token_id: TokenId, side: Side, price: Price, size: Size) -> None:
        """Let another trader place a resting order; it has whatever it takes."""
        ...

    async def other_takes(self, token_id: TokenId, side: Side, price: Price, size: Size) -> None:
        """Let another trader take up to `size` at `price` or better."""
        ...

    async def cut_connections(self) -> None:
        """Cut every connection of our account and of the market feed."""
        ...


Staging = Callable[[], AbstractAsyncContextManager[Stage]]
StageIterator = AsyncIterator[Stage]


class Orders:
    """Numbers the orders of one test."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._count = 0

    def make(
        self,
        side: Side,
        cents: int,
        shares: int = 10,
        *,
        order_type: OrderType = OrderType.GTC,
        is_post_only: bool = False,
        token_id: TokenId | None = None,
        life_s: float = 0.0,
    ) -> SubmitOrder:
        """Make an order on the market's first token unless told otherwise."""
        self._count += 1
        return SubmitOrder(
            client_order_id=ClientOrderId(f"c-{self._count}"),
            strategy=StrategyName("contract"),
            token_id=token_id or self._market.yes,
            side=side,
            price=Price(cents * 10_000),
            size=Size(shares * MICRO),
            order_type=order_type,
            is_post_only=is_post_only,
            slot_level=0,
            deadline_ns=Nanos(now_ns() + 10 * NANOS_PER_S),
            expires_ns=Nanos(now_ns() + int(life_s * NANOS_PER_S) if life_s else 0),
            at_ns=now_ns(),
        )
