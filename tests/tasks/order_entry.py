"""An exchange's order entry for tests of the tasks that speak to it, and a journal whose disk can be held or broken."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from typing import TypeVar, TypeVarTuple

import msgspec
import trio

from tbot.core.market import TokenId
from tbot.core.messages import (
    Accepted,
    Canceled,
    CancelOrder,
    CancelReply,
    ClientOrderId,
    ExchangeOrderId,
    ExchangeReport,
    OrderState,
    OrderType,
    Side,
    StrategyName,
    SubmitOrder,
    SubmitReply,
)
from tbot.core.units import MICRO, NANOS_PER_S, Nanos, Notional, Size
from tbot.errors import InvariantViolated
from tbot.exchanges.gateway import PreparedOrder
from tbot.store.journal import Store
from tbot.tasks.child import TaskContext
from tbot.tasks.journal import JournalClient, JournalWriter, run_inline
from tests.tasks.fake_exchange import MARKET, WAY_S, YES, FakeExchange, cents, now_ns, shares

Args = TypeVarTuple("Args")
T = TypeVar("T")

REPORT_WAYS = 4  # a report is several requests, one after the other


class OrderEntry(FakeExchange):
    """Takes every order and cancel, and notes when each came; answers after `WAY_S` unless told otherwise.

    Attributes:
        posts: (Trio time, id) of each submit.
        batches: Ids of each submit of several.
        pulled: (Trio time, ids) of each cancel request.
        asked: (Trio time, since, lookups) of each report.
        refreshed: (Trio time, asset) of each balance that was to be read anew.
        submit_gate: Submits are answered only while it is set.
        errors: Raised by the next calls of a method, by its name; None = let it through.
    """

    def __init__(self, *, dead_man_s: float = 10.0, submit_batch_max: int = 1) -> None:
        super().__init__(dead_man_s=dead_man_s)
        self._capabilities = msgspec.structs.replace(self._capabilities, submit_batch_max=submit_batch_max)
        self.batches: list[tuple[ExchangeOrderId, ...]] = []
        self.posts: list[tuple[float, ExchangeOrderId]] = []
        self.pulled: list[tuple[float, tuple[ExchangeOrderId, ...]]] = []
        self.asked: list[tuple[float, Nanos, tuple[ExchangeOrderId, ...]]] = []
        self.refreshed: list[tuple[float, TokenId]] = []
        self.submit_gate = trio.Event()
        self.refresh_gate = trio.Event()
        self.refresh_gate.set()
        self.submit_gate.set()
        self.errors: dict[str, list[Exception | None]] = {}
        self.in_flight = self.in_flight_max = 0

    def prepare(self, order: SubmitOrder, now_ns: Nanos) -> PreparedOrder:
        if order.size <= 0:
            raise InvariantViolated("an order without size")
        return PreparedOrder(
            client_order_id=order.client_order_id,
            exchange_order_id=ExchangeOrderId(f"x-{order.client_order_id}"),
            body=b"signed",
            prepared_ns=now_ns,
            deadline_ns=order.deadline_ns,
        )

    async def submit(self, order: PreparedOrder) -> SubmitReply:
        self.posts.append((trio.current_time(), order.exchange_order_id))
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        try:
            self._fail_if_told("submit")
            await self.submit_gate.wait()
            await trio.sleep(WAY_S)
        finally:
            self.in_flight -= 1
        return Accepted(
            client_order_id=order.client_order_id,
            exchange_order_id=order.exchange_order_id,
            state=OrderState.LIVE,
            at_ns=now_ns(),
        )

    async def submit_batch(self, orders: Sequence[PreparedOrder]) -> tuple[SubmitReply, ...]:
        self.batches.append(tuple(order.exchange_order_id for order in orders))
        replies: dict[ExchangeOrderId, SubmitReply] = {}

        async def one(order: PreparedOrder) -> None:
            replies[order.exchange_order_id] = await self.submit(order)

        async with trio.open_nursery() as nursery:
            for order in orders:
                nursery.start_soon(one, order)
        return tuple(replies[order.exchange_order_id] for order in orders)

    async def cancel(self, order_ids: Sequence[ExchangeOrderId]) -> tuple[CancelReply, ...]:
        self.pulled.append((trio.current_time(), tuple(order_ids)))
        self._fail_if_told("cancel")
        await trio.sleep(WAY_S)
        return tuple(Canceled(exchange_order_id=order_id, at_ns=now_ns()) for order_id in order_ids)

    async def report(
        self, since_ns: Nanos, lookups: Sequence[ExchangeOrderId], balances_of: Sequence[TokenId] = ()
    ) -> ExchangeReport:
        self.asked.append((trio.current_time(), since_ns, tuple(lookups)))
        requested_ns = now_ns()
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        try:
            self._fail_if_told("report")
            await trio.sleep(REPORT_WAYS * WAY_S)
        finally:
            self.in_flight -= 1
        return report(requested_ns)

    async def refresh_balance(self, asset: TokenId) -> None:
        self.refreshed.append((trio.current_time(), asset))
        await self.refresh_gate.wait()
        await trio.sleep(WAY_S)
        self._fail_if_told("refresh")

    def _fail_if_told(self, method: str) -> None:
        errors = self.errors.get(method)
        if errors and (error := errors.pop(0)) is not None:
            raise error


def report(requested_ns: Nanos, cash: int = 1_000) -> ExchangeReport:
    """An empty account with some cash in dollars."""
    return ExchangeReport(
        requested_ns=requested_ns,
        received_ns=now_ns(),
        open_orders=(),
        fills=(),
        lookups=(),
        balances=tuple((token, Size(0)) for token in MARKET.tokens),
        cash=Notional(cash * MICRO),
    )


def order(number: int, *, size: int = 10, life_s: float = 2.0) -> SubmitOrder:
    """A buy of YES decided now."""
    return SubmitOrder(
        client_order_id=ClientOrderId(f"1-{number}"),
        strategy=StrategyName("maker"),
        token_id=YES,
        side=Side.BUY,
        price=cents(40),
        size=shares(size),
        order_type=OrderType.GTC,
        is_post_only=True,
        slot_level=0,
        deadline_ns=Nanos(now_ns() + int(life_s * NANOS_PER_S)),
        at_ns=now_ns(),
    )


def cancel(number: int) -> CancelOrder:
    """The cancel of an order made by `order`."""
    client_order_id = ClientOrderId(f"1-{number}")
    exchange_order_id = ExchangeOrderId(f"x-{client_order_id}")
    return CancelOrder(client_order_id=client_order_id, exchange_order_id=exchange_order_id, at_ns=now_ns())


@dataclass
class Disk:
    """Runs the store's functions inline, behind a gate.

    Attributes:
        gate: Writes wait for it.
        fault: Raised instead of writing.
    """

    gate: trio.Event = field(default_factory=trio.Event)
    fault: Exception | None = None

    async def run(self, fn: Callable[[*Args], T], /, *args: *Args) -> T:
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        return await run_inline(fn, *args)


@dataclass
class Journal:
    """A running journal over a store in memory."""

    store: Store
    disk: Disk
    client: JournalClient


@asynccontextmanager
async def journal() -> AsyncIterator[Journal]:
    """Run a journal beside the test."""
    disk = Disk()
    disk.gate.set()
    with closing(Store.open(None, "test")) as store:
        writer, ctx = JournalWriter(store, disk.run), TaskContext("journal", trio.Event())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.body, ctx)
            await ctx.is_started.wait()
            yield Journal(store, disk, writer.client())
            nursery.cancel_scope.cancel()
