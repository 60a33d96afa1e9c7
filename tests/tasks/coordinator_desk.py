"""The coordinator's task and its surroundings; the test plays the other tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from tbot.core.account import CoordinatorState
from tbot.core.coordinator import Coordinator
from tbot.core.market import TokenId
from tbot.core.messages import (
    Accepted,
    AccountView,
    ClientOrderId,
    ExchangeOrderId,
    Message,
    OrderExposure,
    OrderState,
    Prepared,
    Quote,
    Quotes,
    Side,
    Snapshot,
    StrategyName,
    SubmitOrder,
    TopOfBook,
)
from tbot.core.risk import RiskLimits
from tbot.core.units import NANOS_PER_S, Nanos, Price
from tbot.store.rows import RecordRow
from tbot.tasks.checkpointer import StateReached
from tbot.tasks.conflator import Conflator, Hub
from tbot.tasks.coordinator import (
    DISPATCH_LANES,
    CoordinatorPorts,
    CoordinatorTask,
)
from tbot.tasks.heartbeat import Progress
from tbot.tasks.inbox import FACTS, OPERATOR, Inbox
from tbot.tasks.supervisor import TaskContext
from tests.core.coordinators import LIMITS
from tests.tasks.fake_exchange import CENT, MARKET, YES, cents, now_ns, shares
from tests.tasks.order_entry import Journal, journal, report

MAKER = StrategyName("maker")


class Listening(Coordinator):
    """Notes what it is told and how often it decides."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.turns: list[list[str]] = [[]]

    def absorb(self, message: Any, now_ns: Nanos) -> None:
        self.turns[-1].append(type(message).__name__)
        super().absorb(message, now_ns)

    def decide(self, *args: Any, **kwargs: Any) -> Any:
        self.turns.append([])
        return super().decide(*args, **kwargs)


class Desk:
    """The coordinator's surroundings, with everything it said kept; the test plays the other tasks."""

    def __init__(self, journal: Journal, limits: RiskLimits = LIMITS) -> None:
        self.journal = journal
        self.inbox, self.dispatcher, self.reconciler = Inbox(), Inbox(DISPATCH_LANES), Inbox({OPERATOR: 1})
        self.accounts: Hub[TokenId, AccountView] = Hub("accounts")
        self.exposures: Conflator[ExchangeOrderId, OrderExposure] = Conflator()
        self.checkpoints: Conflator[str, StateReached[CoordinatorState]] = Conflator()
        self.snapshots: Conflator[str, Snapshot] = Conflator()
        self.progress = Progress()
        self.ctx = TaskContext("coordinator", trio.Event())
        self.made: list[Listening] = []
        self.limits = limits
        self.task = CoordinatorTask(
            open_orders_max=1_000,
            ports=CoordinatorPorts(
                inbox=self.inbox,
                dispatcher=self.dispatcher,
                reconciler=self.reconciler,
                accounts=self.accounts,
                exposures=self.exposures,
                checkpoints=self.checkpoints,
                snapshots=self.snapshots,
                journal=journal.client,
                alive=self.progress.mark,
            ),
            markets=(MARKET,),
            limits=limits,
            now_ns=now_ns,
            make=self.make,
        )

    def make(self, *args: Any, **kwargs: Any) -> Coordinator:
        self.made.append(Listening(*args, **kwargs))
        return self.made[-1]

    @property
    def core(self) -> Listening:
        return self.made[-1]

    async def begin_trading(self) -> None:
        """Tell it an empty account and a book."""
        self.top()
        await self.inbox.send(FACTS, report(now_ns()))
        await trio.sleep(0.001)

    def top(self, *, is_stale: bool = False) -> None:
        top = TopOfBook(
            token_id=YES, best_bid=cents(40), best_ask=cents(60), tick=CENT, is_stale=is_stale, at_ns=now_ns()
        )
        self.inbox.put_state(("top", YES), top)

    def has_left(self) -> bool:
        return self.inbox._has_finished

    def quote(self, *bids: int, life_s: float = 60.0) -> None:
        self.inbox.put_state(("quotes", MAKER, YES), quotes(*bids, life_s=life_s))

    async def accept(self, submit: SubmitOrder) -> ExchangeOrderId:
        """Play the dispatcher for an order that goes through."""
        name = ExchangeOrderId(f"x-{submit.client_order_id}")
        signed = Prepared(client_order_id=submit.client_order_id, exchange_order_id=name, body=b"", at_ns=now_ns())
        await self.inbox.send(FACTS, signed)
        await self.inbox.send(FACTS, accepted(submit.client_order_id))
        return name

    def sent(self) -> list[Message]:
        return list(self.dispatcher.take_nowait())

    def submits(self) -> list[SubmitOrder]:
        return [m for m in self.sent() if isinstance(m, SubmitOrder)]

    def records(self) -> tuple[RecordRow, ...]:
        return self.journal.store.records(limit=10_000)

    def kinds(self) -> list[str]:
        return [row.kind for row in self.records()]

    @property
    def snapshot(self) -> Snapshot:
        found = self.snapshots.peek("snapshot")
        assert found is not None
        return found


def quotes(*bids: int, life_s: float = 60.0) -> Quotes:
    return Quotes(
        strategy=MAKER,
        token_id=YES,
        quotes=tuple(
            Quote(side=Side.BUY, level=level, price=cents(bid), size=shares(10), price_worst=Price(990_000))
            for level, bid in enumerate(bids)
        ),
        chase_ticks=0,
        valid_until_ns=Nanos(now_ns() + int(life_s * NANOS_PER_S)),
        at_ns=now_ns(),
    )


def accepted(client_order_id: ClientOrderId) -> Accepted:
    name = ExchangeOrderId(f"x-{client_order_id}")
    return Accepted(client_order_id=client_order_id, exchange_order_id=name, state=OrderState.LIVE, at_ns=now_ns())


@asynccontextmanager
async def coordinating(limits: RiskLimits = LIMITS) -> AsyncIterator[Desk]:
    async with journal() as running, trio.open_nursery() as nursery:
        rig = Desk(running, limits)
        nursery.start_soon(rig.task.run, rig.ctx)
        await rig.ctx.is_started.wait()
        yield rig
        running.disk.gate.set()
        nursery.cancel_scope.cancel()


def kinds(messages: Sequence[Message]) -> list[str]:
    return [type(message).__name__ for message in messages]
