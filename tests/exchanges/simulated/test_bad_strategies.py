"""The crowd takes money from bad strategies, and only from those: the reason is in who knows more."""

from __future__ import annotations

import math
import random
import statistics
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import msgspec
import pytest

from tbot.core.messages import ExchangeOrderId, OrderType, Side
from tbot.core.units import MICRO, NANOS_PER_S, Nanos, Notional, Price, Size, complement, is_on_grid
from tbot.exchanges.simulated.flow import Flow, FlowSettings
from tbot.exchanges.simulated.ledger import CASH
from tbot.exchanges.simulated.matching import Engine
from tbot.exchanges.simulated.operations import Account, CancelEvery, Deposit, OpenMarket, PlaceOrder
from tbot.exchanges.simulated.settings import DEFAULT_MARKETS

BOT = Account("bot")
RULES = DEFAULT_MARKETS[0]
TICK = RULES.tick
SHARES = 150
SEEDS = range(20)
SECONDS = 300
LOOK_S = 2
CASH_USD = 10_000
START_NS = Nanos(1_790_000_000 * NANOS_PER_S)
WITH_NEWS = FlowSettings(
    fair=msgspec.structs.replace(FlowSettings().fair, is_resolving=True, news_per_hour=90.0),
    takers=msgspec.structs.replace(FlowSettings().takers, noise_per_s=0.3),
)
NOBODY_KNOWS = msgspec.structs.replace(
    WITH_NEWS, takers=msgspec.structs.replace(WITH_NEWS.takers, informed_per_s=0.0, racers=0)
)
# One-sided Student's t of 19 degrees of freedom at 95 %.
T_95 = 1.729


class World:
    """One market and its crowd in a plain loop."""

    def __init__(self, seed: int, flow: FlowSettings) -> None:
        self.engine = Engine()
        self.flow = Flow.seeded(seed, flow, (RULES,))
        self.now_ns = START_NS
        self.edge_usd = 0.0
        self._count = 0
        self._held = (0, 0, 0)
        opening = (OpenMarket(rules=RULES), *self.flow.opening())
        for operation in (*opening, Deposit(account=BOT, cash=Notional(CASH_USD * MICRO))):
            self.engine.apply(operation, START_NS)
        self._note_edge(is_counted=False)

    def run(self, seconds: float) -> None:
        end_ns = Nanos(self.now_ns + int(seconds * NANOS_PER_S))
        while self.flow.next_ns < end_ns:
            now_ns = max(self.flow.next_ns, self.now_ns)
            for operation in self.flow.step(self.engine, now_ns):
                self.engine.apply(operation, now_ns)
                self._note_edge()
        self.now_ns = end_ns

    def top(self) -> tuple[Price, Price] | None:
        bid, ask = self.engine.top(RULES.market_id)
        return None if bid is None or ask is None else (bid, ask)

    def net(self) -> float:
        ledger = self.engine.ledger
        return (ledger.owned(BOT, RULES.yes) - ledger.owned(BOT, RULES.no)) / MICRO

    def _note_edge(self, *, is_counted: bool = True) -> None:
        """Add what the latest fills were worth at their moment, before the price moved on."""
        ledger, fair = self.engine.ledger, self.flow.fair_price(0)
        held = (ledger.owned(BOT, CASH), ledger.owned(BOT, RULES.yes), ledger.owned(BOT, RULES.no))
        if held != self._held and is_counted:
            cash, yes, no = (now - before for now, before in zip(held, self._held, strict=True))
            self.edge_usd += (cash + yes * fair + no * (1 - fair)) / MICRO
        self._held = held

    def cancel(self) -> None:
        self.engine.apply(CancelEvery(account=BOT), self.now_ns)

    def order(
        self, price: float, *, is_up: bool, is_take: bool = False, is_post_only: bool = True, shares: int = SHARES
    ) -> None:
        """Bid for YES or offer it, in the form that needs no tokens we lack."""
        if not is_on_grid(Price(int(price)), TICK):
            return
        size = Size(shares * MICRO)
        sold = RULES.no if is_up else RULES.yes
        sells = self.engine.available(BOT, sold) >= size
        token = sold if sells else (RULES.yes if is_up else RULES.no)
        at = Price(int(price)) if token == RULES.yes else complement(Price(int(price)))
        budget = Notional(shares * at // 10_000 * 10_000 + 10_000) if is_take and not sells else Notional(0)
        self._count += 1
        order = PlaceOrder(
            account=BOT,
            order_id=ExchangeOrderId(f"bot-{self._count}"),
            token_id=token,
            side=Side.SELL if sells else Side.BUY,
            price=at,
            size=Size(0) if budget else size,
            budget=budget,
            order_type=OrderType.FAK if is_take else OrderType.GTC,
            is_post_only=is_post_only and not is_take,
        )
        self.engine.apply(order, self.now_ns)
        self._note_edge()

    def profit_usd(self) -> float:
        """Mark to the fair value, which no strategy sees: what it holds is worth that on average."""
        ledger, fair = self.engine.ledger, self.flow.fair_price(0)
        held = ledger.owned(BOT, RULES.yes) * fair + ledger.owned(BOT, RULES.no) * (1 - fair)
        return (ledger.owned(BOT, CASH) + held) / MICRO - CASH_USD


class Trader(ABC):
    """A strategy that looks every two seconds."""

    def __init__(self, world: World) -> None:
        self.world = world

    @abstractmethod
    def look(self) -> None:
        """Trade once."""

    def make(self, bid: float, ask: float, *, shares: int = SHARES) -> None:
        self.world.cancel()
        self.world.order(bid, is_up=True, shares=shares)
        self.world.order(ask, is_up=False, shares=shares)


class Idler(Trader):
    """Does nothing."""

    def look(self) -> None:
        pass


class FixedQuoter(Trader):
    """Buys a tick under the first price and sells a tick over it for ever, one order ahead at most."""

    middle: int | None = None

    def look(self) -> None:
        top = self.world.top()
        if self.middle is None and top is not None:
            self.middle = sum(top) // 2 // TICK * TICK
        if self.middle is None:
            return
        self.world.cancel()
        if self.world.net() <= 0:
            self.world.order(self.middle - TICK, is_up=True, is_post_only=False)
        if self.world.net() >= 0:
            self.world.order(self.middle + TICK, is_up=False, is_post_only=False)


class OneTickMaker(Trader):
    """Quotes the tightest market there can be, whatever it holds already."""

    def look(self) -> None:
        top = self.world.top()
        if top is not None:
            bid = sum(top) // 2 // TICK * TICK
            self.make(min(bid, top[1] - TICK), max(bid + TICK, top[0] + TICK))


class MomentumTaker(Trader):
    """Buys what rose by a tick within ten seconds and sells what fell."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.mids: list[float] = []

    def look(self) -> None:
        top = self.world.top()
        if top is None:
            return
        self.mids.append(sum(top) / 2)
        run = self.mids[-1] - self.mids[-6] if len(self.mids) > 5 else 0.0
        if abs(run) >= TICK:
            self.world.order(top[1] if run > 0 else top[0], is_up=run > 0, is_take=True)


class KnowingMaker(Trader):
    """Quotes little, two ticks around the fair value, less where it would add inventory."""

    def look(self) -> None:
        top = self.world.top()
        if top is None:
            return
        middle = self.world.flow.fair_price(0) * MICRO - TICK * max(-1.5, min(1.5, self.world.net() / 40))
        bid, ask = (middle - 1.5 * TICK) // TICK * TICK, -(-(middle + 1.5 * TICK) // TICK) * TICK
        self.make(min(bid, top[1] - TICK), max(ask, top[0] + TICK), shares=20)


def outcomes(make: Callable[[World], Trader], flow: FlowSettings = WITH_NEWS) -> list[World]:
    """Let one strategy trade in a world of its own for each seed."""
    return [_outcome(World(seed, flow), make) for seed in SEEDS]


def _outcome(world: World, make: Callable[[World], Trader]) -> World:
    trader = make(world)
    for _ in range(SECONDS // LOOK_S):
        world.run(LOOK_S)
        trader.look()
    world.cancel()
    return world


def profits(make: Callable[[World], Trader]) -> list[float]:
    """Profit of one strategy for each seed."""
    return [world.profit_usd() for world in outcomes(make)]


def t_of(found: Sequence[float]) -> float:
    """How many standard errors the mean lies above zero."""
    return statistics.mean(found) / (statistics.stdev(found) / math.sqrt(len(found)))


def loses(found: Sequence[float]) -> bool:
    """Whether the mean is below zero at 95 %."""
    return t_of(found) < -T_95


@pytest.mark.slow
@pytest.mark.parametrize("make", [FixedQuoter, MomentumTaker])
def test_a_bad_strategy_loses_money(make: type[Trader]) -> None:
    found = profits(make)
    assert loses(found), found


@pytest.mark.slow
def test_a_maker_who_knows_is_not_shown_to_lose() -> None:
    found = profits(KnowingMaker)
    assert not loses(found), found
    assert statistics.mean(found) > 0, found


@pytest.mark.slow
def test_the_tightest_maker_loses_money_and_informed_traders_are_why() -> None:
    spoiled, spared = outcomes(OneTickMaker), outcomes(OneTickMaker, NOBODY_KNOWS)
    assert loses([world.profit_usd() for world in spoiled])
    assert not loses([world.profit_usd() for world in spared])
    # What inventory does after a fill is luck; the edge of the fills is what informed traders take.
    edges = [statistics.mean(world.edge_usd for world in worlds) for worlds in (spoiled, spared)]
    assert edges[1] > 0.1 * edges[0], edges


def test_who_does_nothing_gains_nothing() -> None:
    world = World(1, WITH_NEWS)
    world.run(20)
    Idler(world).look()
    assert world.profit_usd() == 0.0


def test_the_judgement_knows_luck_from_loss() -> None:
    rng = random.Random(3)
    luck = [rng.gauss(0.0, 1.0) for _ in SEEDS]
    assert not loses(luck)
    assert not loses([-x for x in luck])
    assert loses([x - 1.0 for x in luck])
