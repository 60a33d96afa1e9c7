"""The whole bot on an exchange in process without a crowd, and every way to hurt both."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing

import trio

from tbot.core.account import CoordinatorState
from tbot.core.backoff import Backoff
from tbot.core.coordinator import Coordinator
from tbot.core.market import Market, MarketId, TokenId
from tbot.core.messages import (
    CancelReply,
    ExchangeOrderId,
    ExchangeReport,
    MarketEvent,
    OrderType,
    Quote,
    Quotes,
    Side,
    StrategyName,
    SubmitReply,
)
from tbot.core.risk import RiskLimits
from tbot.core.units import MICRO, NANOS_PER_S, Nanos, Notional, Price, Size
from tbot.exchanges.gateway import Gateway, PreparedOrder
from tbot.exchanges.simulated.events import MarketEvent as TheirMarketEvent
from tbot.exchanges.simulated.exchange import LocalExchange
from tbot.exchanges.simulated.faults import Faults, FaultSettings
from tbot.exchanges.simulated.gateway import InProcessGateway
from tbot.exchanges.simulated.operations import (
    Account,
    CancelOrders,
    EngineSettings,
    Operation,
    PlaceOrder,
    SplitPair,
)
from tbot.exchanges.simulated.sessions import Session
from tbot.exchanges.simulated.settings import AccountSettings, ExchangeSettings
from tbot.exchanges.simulated.transit import LatencySettings
from tbot.exchanges.simulated.translate import market_of
from tbot.store.journal import Store
from tbot.store.rows import Loaded
from tbot.strategies.base import Decision, Strategy, StrategyView
from tbot.tasks.checkpointer import CheckpointSettings
from tbot.tasks.coordinator import rebuild
from tbot.tasks.desk import DESK_TASKS, BotParts, bot_tree
from tbot.tasks.feed_settings import FeedSettings
from tbot.tasks.journal import JournalWriter
from tbot.tasks.supervisor import Policy, describe, supervise
from tests.contract.stage import now_ns
from tests.core.coordinators import LIMITS
from tests.tasks.order_entry import Disk

US, OTHER = Account("us"), Account("other")
STEADY = StrategyName("steady")
TASKS = [*DESK_TASKS, str(STEADY)]
CASH = 1_000


class Steady:
    """Wants one buy at 41 cents and one at 40, always."""

    name = STEADY

    def __init__(self, market: Market) -> None:
        self.market = market
        self.market_ids = (market.market_id,)

    def misfit(self, market: Market, limits: RiskLimits) -> None:
        return None

    def decide(self, view: StrategyView, now_ns: Nanos) -> Decision:
        is_fresh = all(not v.is_stale and v.bids for v in view.views.values())
        wanted = tuple(
            Quote(side=Side.BUY, level=n, price=cents(41 - n), size=shares(10), price_worst=cents(50)) for n in range(2)
        )
        quotes = Quotes(
            strategy=STEADY,
            token_id=self.market.yes,
            quotes=wanted if is_fresh else (),
            chase_ticks=0,
            valid_until_ns=Nanos(now_ns + 3 * NANOS_PER_S),
            at_ns=now_ns,
        )
        return Decision(quotes=(quotes,), takes=(), wake_at_ns=Nanos(now_ns + NANOS_PER_S))


class Meddled(InProcessGateway):
    """A gateway on which single methods hang or raise, as the test says; numbered in order of opening."""

    def __init__(self, stage: Stage, number: int) -> None:
        super().__init__(
            stage.exchange, US, run_id="run", rng=random.Random(number), now_ns=now_ns, latency=LatencySettings()
        )
        self.stage, self.number = stage, number

    async def submit_batch(self, orders: Sequence[PreparedOrder]) -> tuple[SubmitReply, ...]:
        await self.stage.meddle(self.number, "submit")
        return await super().submit_batch(orders)

    async def cancel(self, order_ids: Sequence[ExchangeOrderId]) -> tuple[CancelReply, ...]:
        reply = await self.stage.meddle(self.number, "cancel")
        if reply is not None:
            return tuple(reply(order_id) for order_id in order_ids)
        return await super().cancel(order_ids)

    async def report(
        self, since_ns: Nanos, lookups: Sequence[ExchangeOrderId], balances_of: Sequence[TokenId] = ()
    ) -> ExchangeReport:
        await self.stage.meddle(self.number, "report")
        return await super().report(since_ns, lookups, balances_of)

    async def protect(self) -> None:
        await self.stage.meddle(self.number, "protect")
        await super().protect()

    async def reread(self, market_id: MarketId) -> Market:
        await self.stage.meddle(self.number, f"reread {market_id}")
        return await super().reread(market_id)

    async def can_trade(self) -> str:
        await self.stage.meddle(self.number, "can_trade")
        return self.stage.forbidden

    @asynccontextmanager
    async def open_market(self, token_ids: Sequence[TokenId]) -> AsyncIterator[Session[TheirMarketEvent, MarketEvent]]:
        await self.stage.meddle(self.number, "open_market")
        async with super().open_market(token_ids) as session:
            yield session

    async def aclose(self) -> None:
        await self.stage.meddle(self.number, "aclose")
        await super().aclose()


Answer = Callable[[ExchangeOrderId], CancelReply]
HANG = "hang"
ANY = -1


class Stage:
    """An exchange without a crowd, a bot on it, and every way to hurt both.

    Attributes:
        meddling: (number of the gateway or `ANY`, method) -> what happens there instead.
        us: The bot's account.
        operations: (Trio time, operation) of our account, as the exchange got them.
        hits: What the chaos hook does to a task at its next beat.
    """

    def __init__(self, engine: EngineSettings = EngineSettings()) -> None:  # noqa: B008 - frozen
        self.us = US
        self.operations: list[tuple[float, Operation]] = []
        self.exchange = LocalExchange(
            ExchangeSettings(
                accounts=(AccountSettings(name=US, cash_usd=CASH), AccountSettings(name=OTHER, cash_usd=100_000)),
                flow=None,
                engine=engine,
            ),
            seed=1,
            now_ns=now_ns,
            faults=Faults(FaultSettings(), seed=1),
            on_operation=lambda _, operation: self.operations.append((trio.current_time(), operation)),
        )
        self.rules = self.exchange.markets()[0]
        self.market = market_of(self.rules)
        self.exchange.apply(SplitPair(account=OTHER, market_id=self.rules.market_id, size=shares(10_000)))
        self.store = Store.open(None, "test")
        self.disk = Disk()
        self.disk.gate.set()
        self.forbidden = ""
        self.meddling: dict[tuple[int, str], str | Exception | Answer] = {}
        self.hits: dict[str, Callable[[], Awaitable[None]]] = {}
        self.hit_at: dict[str, float] = {}
        self.gateways = 0
        self.opened: list[Meddled] = []
        self.notes: list[tuple[float, str, str]] = []
        self.stop = trio.Event()
        self.failure: BaseException | None = None
        self.ended_at: float | None = None
        self.ended = trio.Event()
        self._count = 0
        self.policy = Policy(
            rng=random.Random(1), backoff=Backoff(0.25, 1.0), chaos=self.chaos, note=self.note, restarts=Counter()
        )
        self.parts = self._parts()
        self.rest(OTHER, Side.BUY, 30)
        self.rest(OTHER, Side.SELL, 60)

    def _parts(self) -> BotParts:
        return BotParts(
            open_gateway=self.open_gateway,
            markets=(self.market,),
            limits=LIMITS,
            strategies={STEADY: lambda: Steady(self.market)},
            journal=JournalWriter(self.store, self.disk.run),
            feed=FeedSettings(),
            checkpoint=CheckpointSettings(checkpoint_every_s=2.0),
            now_ns=now_ns,
            rng=random.Random(1),
        )

    def open_gateway(self) -> Gateway:
        self.gateways += 1
        self.opened.append(Meddled(self, self.gateways))
        return self.opened[-1]

    async def meddle(self, number: int, method: str) -> Answer | None:
        deed = self.meddling.get((number, method)) or self.meddling.get((ANY, method))
        if isinstance(deed, Exception):
            raise deed
        if deed == HANG:
            await trio.sleep_forever()
        return deed if callable(deed) else None

    def note(self, kind: str, name: str, causes: Sequence[BaseException]) -> None:
        self.notes.append((trio.current_time(), kind, f"{name} {' '.join(map(describe, causes))}".strip()))

    async def chaos(self, task: str) -> None:
        hit = self.hits.pop(task, None)
        if hit is not None:
            self.hit_at[task] = trio.current_time()
            await hit()

    def crash(self, *tasks: str, error: Exception | None = None) -> None:
        """Let tasks raise at their next beats."""

        async def hit() -> None:
            raise error or ZeroDivisionError("planted")

        self.hits |= dict.fromkeys(tasks, hit)

    def wedge(self, task: str) -> None:
        self.hits[task] = trio.sleep_forever

    def rest(self, account: Account, side: Side, price: int, size: int = 100) -> ExchangeOrderId:
        """Place an order of somebody, or of a person who uses our account."""
        return self._place(account, side, price, size, OrderType.GTC)

    def hit_our_bids(self, size: int) -> None:
        """Let the other trader sell to us."""
        self._place(OTHER, Side.SELL, 40, size, OrderType.FAK)

    def _place(
        self,
        account: Account,
        side: Side,
        price: int,
        size: int,
        order_type: OrderType,
        *,
        token_id: TokenId | None = None,
    ) -> ExchangeOrderId:
        self._count += 1
        order_id = ExchangeOrderId(f"{account}-{self._count}")
        self.exchange.place(
            PlaceOrder(
                account=account,
                order_id=order_id,
                token_id=token_id or self.rules.yes,
                side=side,
                price=cents(price),
                size=shares(size),
                budget=Notional(0),
                order_type=order_type,
            )
        )
        return order_id

    def resting(self) -> list[ExchangeOrderId]:
        """Our orders on the exchange now."""
        return [order.order_id for order in self.exchange.open_orders(self.us)]

    def placed_after(self, at: float) -> list[PlaceOrder]:
        return [o for t, o in self.operations if t > at and isinstance(o, PlaceOrder) and o.account == self.us]

    def cancelled_after(self, at: float) -> list[tuple[float, tuple[ExchangeOrderId, ...]]]:
        return [(t, o.order_ids) for t, o in self.operations if t > at and isinstance(o, CancelOrders)]

    async def run(self) -> None:
        try:
            await supervise(bot_tree(self.parts, self.policy), self.stop, self.policy, stop_within_s=25.0)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self.failure = error
        self.ended_at = trio.current_time()
        self.ended.set()

    def state(self) -> tuple[CoordinatorState, CoordinatorState]:
        """Rebuild from the newest checkpoint, and from the first record on."""
        loaded = self.store.load()
        whole = self.store.records(limit=1_000_000)
        nothing = Loaded(
            epoch=loaded.epoch, checkpoint=None, records=whole, prepared=loaded.prepared, record_seq=loaded.record_seq
        )
        return self._rebuilt(loaded).state(), self._rebuilt(nothing).state()

    def _rebuilt(self, loaded: Loaded) -> Coordinator:
        return rebuild(loaded, (self.market,), LIMITS)


def cents(count: int) -> Price:
    return Price(count * 10_000)


def shares(count: int) -> Size:
    return Size(count * MICRO)


@asynccontextmanager
async def staged(
    make_coordinator: Callable[..., Coordinator] = Coordinator,
    limits: RiskLimits = LIMITS,
    engine: EngineSettings = EngineSettings(),  # noqa: B008 - frozen
    strategies: Mapping[StrategyName, Callable[[], Strategy]] | None = None,
) -> AsyncIterator[Stage]:
    """Run the bot until it has quoted, and stop it in the end."""
    stage = Stage(engine)
    strategies = strategies or stage.parts.strategies
    stage.parts = dataclasses.replace(
        stage.parts, make_coordinator=make_coordinator, limits=limits, strategies=strategies
    )
    with closing(stage.store):
        async with trio.open_nursery() as nursery:
            await nursery.start(stage.exchange.run)
            nursery.start_soon(stage.run)
            yield stage
            stage.disk.gate.set()
            stage.stop.set()
            with trio.move_on_after(60):
                await stage.ended.wait()
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def quoting() -> AsyncIterator[Stage]:
    async with staged() as stage:
        await trio.sleep(3)
        assert len(stage.resting()) == 2
        yield stage
