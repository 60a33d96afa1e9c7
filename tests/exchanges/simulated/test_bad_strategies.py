"""The crowd takes money from bad strategies, and only from those: the reason is in who knows more.

Regimes are judged as they are shipped, over twenty seeds, each of them an exchange with one market or several at once.
docs/calibration.md says what is not covered, and why.
"""

from __future__ import annotations

import math
import random
import statistics
from abc import ABC, abstractmethod
from collections.abc import Sequence

import msgspec
import pytest

from tbot.core.market import MarketId, TokenId
from tbot.core.messages import ExchangeOrderId, OrderType, Side
from tbot.core.units import MICRO, NANOS_PER_S, Nanos, Notional, Price, Size, complement, is_on_grid
from tbot.exchanges.simulated.flow import Flow, FlowSettings
from tbot.exchanges.simulated.ledger import CASH
from tbot.exchanges.simulated.matching import Engine
from tbot.exchanges.simulated.operations import Account, CancelEvery, Deposit, MarketRules, OpenMarket, PlaceOrder
from tbot.exchanges.simulated.regimes import RegimeName
from tbot.exchanges.simulated.settings import DEFAULT_MARKETS

BOT = Account("bot")
TICK = DEFAULT_MARKETS[0].tick
SHARES = 150
SEEDS = range(20)
LOOK_S = 2
CASH_USD = 100_000
START_NS = Nanos(1_790_000_000 * NANOS_PER_S)
MODERATE = FlowSettings()
NOBODY_KNOWS = msgspec.structs.replace(
    MODERATE, takers=msgspec.structs.replace(MODERATE.takers, informed_per_s=0.0, racers=0)
)
# One-sided Student's t of 19 degrees of freedom at 95 %.
T_95 = 1.729


def rules_of(number: int) -> MarketRules:
    """Make the n-th market of an exchange: the two default ones by turns, under other names."""
    return msgspec.structs.replace(
        DEFAULT_MARKETS[number % len(DEFAULT_MARKETS)],
        market_id=MarketId(f"0x{number + 1:064x}"),
        slug=f"market-{number}",
        yes=TokenId(f"{number}1"),
        no=TokenId(f"{number}2"),
    )


class World:
    """An exchange and its crowd in a plain loop."""

    def __init__(self, seed: int, flow: FlowSettings, *, count: int = 1) -> None:
        self.rules = tuple(rules_of(number) for number in range(count))
        self.engine = Engine()
        self.flow = Flow.seeded(seed, flow, self.rules)
        self.now_ns = START_NS
        self.edge_usd = 0.0
        self.orders = 0
        opening = (*(OpenMarket(rules=rules) for rules in self.rules), *self.flow.opening())
        for operation in (*opening, Deposit(account=BOT, cash=Notional(CASH_USD * MICRO))):
            self.engine.apply(operation, START_NS)
        self._held = self._holdings()

    def run(self, seconds: float) -> None:
        end_ns = Nanos(self.now_ns + int(seconds * NANOS_PER_S))
        while self.flow.next_ns < end_ns:
            now_ns = max(self.flow.next_ns, self.now_ns)
            for operation in self.flow.step(self.engine, now_ns):
                self.engine.apply(operation, now_ns)
                self._note_edge()
        self.now_ns = end_ns

    def place(self, order: PlaceOrder) -> None:
        self.engine.apply(order, self.now_ns)
        self._note_edge()

    def cancel(self) -> None:
        self.engine.apply(CancelEvery(account=BOT), self.now_ns)

    def profit_usd(self) -> float:
        """Mark to the fair values, which no strategy sees: what it holds is worth that on average."""
        return self._worth(self._holdings()) / MICRO - CASH_USD

    def _note_edge(self) -> None:
        """Add what the latest fills were worth at their moment, before the price moved on."""
        held = self._holdings()
        if held != self._held:
            self.edge_usd += (self._worth(held) - self._worth(self._held)) / MICRO
            self._held = held

    # Cash, then YES and NO of each market.
    def _holdings(self) -> tuple[int, ...]:
        owned = self.engine.ledger.owned
        return (owned(BOT, CASH), *(owned(BOT, token) for rules in self.rules for token in rules.tokens))

    def _worth(self, held: tuple[int, ...]) -> float:
        fairs = [self.flow.fair_price(number) for number in range(len(self.rules))]
        return held[0] + sum(
            yes * fair + no * (1 - fair) for yes, no, fair in zip(held[1::2], held[2::2], fairs, strict=True)
        )


class Trader(ABC):
    """A strategy in one market, which looks every two seconds; what rested since is cancelled before."""

    def __init__(self, world: World, number: int) -> None:
        self.world, self.number = world, number
        self.rules = world.rules[number]

    @abstractmethod
    def look(self) -> None:
        """Trade once."""

    def top(self) -> tuple[Price, Price] | None:
        bid, ask = self.world.engine.top(self.rules.market_id)
        return None if bid is None or ask is None else (bid, ask)

    def net(self) -> float:
        owned = self.world.engine.ledger.owned
        return (owned(BOT, self.rules.yes) - owned(BOT, self.rules.no)) / MICRO

    def make(self, bid: float, ask: float, *, shares: int = SHARES) -> None:
        self.order(bid, is_up=True, shares=shares)
        self.order(ask, is_up=False, shares=shares)

    def order(
        self, price: float, *, is_up: bool, is_take: bool = False, is_post_only: bool = True, shares: int = SHARES
    ) -> None:
        """Bid for YES or offer it, in the form that needs no tokens we lack."""
        if not is_on_grid(Price(int(price)), TICK):
            return
        size = Size(shares * MICRO)
        sold = self.rules.no if is_up else self.rules.yes
        sells = self.world.engine.available(BOT, sold) >= size
        token = sold if sells else (self.rules.yes if is_up else self.rules.no)
        at = Price(int(price)) if token == self.rules.yes else complement(Price(int(price)))
        budget = Notional(shares * at // 10_000 * 10_000 + 10_000) if is_take and not sells else Notional(0)
        self.world.orders += 1
        self.world.place(
            PlaceOrder(
                account=BOT,
                order_id=ExchangeOrderId(f"bot-{self.world.orders}"),
                token_id=token,
                side=Side.SELL if sells else Side.BUY,
                price=at,
                size=Size(0) if budget else size,
                budget=budget,
                order_type=OrderType.FAK if is_take else OrderType.GTC,
                is_post_only=is_post_only and not is_take,
            )
        )


class Idler(Trader):
    """Does nothing."""

    def look(self) -> None:
        pass


class FixedQuoter(Trader):
    """Buys a tick under the first price and sells a tick over it for ever, one order ahead at most."""

    middle: int | None = None

    def look(self) -> None:
        top = self.top()
        if self.middle is None and top is not None:
            self.middle = sum(top) // 2 // TICK * TICK
        if self.middle is None:
            return
        if self.net() <= 0:
            self.order(self.middle - TICK, is_up=True, is_post_only=False)
        if self.net() >= 0:
            self.order(self.middle + TICK, is_up=False, is_post_only=False)


class OneTickMaker(Trader):
    """Quotes the tightest market there can be, whatever it holds already."""

    def look(self) -> None:
        top = self.top()
        if top is not None:
            bid = sum(top) // 2 // TICK * TICK
            self.make(min(bid, top[1] - TICK), max(bid + TICK, top[0] + TICK))


class MomentumTaker(Trader):
    """Buys what rose by a tick within ten seconds and sells what fell."""

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, number)
        self.mids: list[float] = []

    def look(self) -> None:
        top = self.top()
        if top is None:
            return
        self.mids.append(sum(top) / 2)
        run = self.mids[-1] - self.mids[-6] if len(self.mids) > 5 else 0.0
        if abs(run) >= TICK:
            self.order(top[1] if run > 0 else top[0], is_up=run > 0, is_take=True)


class KnowingMaker(Trader):
    """Quotes little, two ticks around the fair value, less where it would add inventory."""

    def look(self) -> None:
        top = self.top()
        if top is None:
            return
        middle = self.world.flow.fair_price(self.number) * MICRO - TICK * max(-1.5, min(1.5, self.net() / 40))
        bid, ask = (middle - 1.5 * TICK) // TICK * TICK, -(-(middle + 1.5 * TICK) // TICK) * TICK
        self.make(min(bid, top[1] - TICK), max(ask, top[0] + TICK), shares=20)


class Trial(msgspec.Struct, frozen=True):
    """One strategy on one regime: for how long, in how many markets at once. Long enough to tell, and no longer.

    Attributes:
        is_by_edge: Judge what fills were worth at their moment. What becomes of them later has mean zero, for the fair
            value of a market that is resolving is a martingale, but it hides the mean where seconds are dear.
    """

    make: type[Trader]
    regime: RegimeName
    seconds: int
    markets: int = 1
    is_by_edge: bool = False

    def flow(self) -> FlowSettings:
        """Settings that name the regime and change nothing."""
        return FlowSettings(regimes=(self.regime,))


# Many markets for a short time where inventory is the noise: profits grow with the time, and so does what it is worth.
BAD = (
    Trial(FixedQuoter, "moderate", seconds=600),
    Trial(FixedQuoter, "quiet", seconds=900, markets=3),
    Trial(FixedQuoter, "busy", seconds=60, markets=3, is_by_edge=True),
    Trial(OneTickMaker, "moderate", seconds=200, markets=4),
    Trial(OneTickMaker, "quiet", seconds=300, markets=2),
    Trial(OneTickMaker, "busy", seconds=30, markets=6, is_by_edge=True),
    Trial(MomentumTaker, "moderate", seconds=200),
    Trial(MomentumTaker, "quiet", seconds=300),
    Trial(MomentumTaker, "busy", seconds=30),
)
GOOD = (Trial(KnowingMaker, "moderate", seconds=600), Trial(KnowingMaker, "quiet", seconds=900))


def name_of(trial: Trial) -> str:
    return f"{trial.make.__name__}-{trial.regime}"


def outcomes(trial: Trial, flow: FlowSettings) -> list[World]:
    """Let one strategy trade in a world of its own for each seed."""
    return [_outcome(World(seed, flow, count=trial.markets), trial) for seed in SEEDS]


def _outcome(world: World, trial: Trial) -> World:
    traders = [trial.make(world, number) for number in range(trial.markets)]
    for _ in range(trial.seconds // LOOK_S):
        world.run(LOOK_S)
        world.cancel()
        for trader in traders:
            trader.look()
    world.cancel()
    return world


def profits(trial: Trial) -> list[float]:
    """Profit of one strategy for each seed, as the regime is shipped."""
    worlds = outcomes(trial, trial.flow())
    return [world.edge_usd if trial.is_by_edge else world.profit_usd() for world in worlds]


def t_of(found: Sequence[float]) -> float:
    """How many standard errors the mean lies above zero."""
    return statistics.mean(found) / (statistics.stdev(found) / math.sqrt(len(found)))


def loses(found: Sequence[float]) -> bool:
    """Whether the mean is below zero at 95 %."""
    return t_of(found) < -T_95


@pytest.mark.slow
@pytest.mark.parametrize("trial", BAD, ids=name_of)
def test_a_bad_strategy_loses_money(trial: Trial) -> None:
    found = profits(trial)
    assert loses(found), (t_of(found), found)


@pytest.mark.slow
@pytest.mark.parametrize("trial", GOOD, ids=name_of)
def test_a_maker_who_knows_is_not_shown_to_lose(trial: Trial) -> None:
    found = profits(trial)
    assert not loses(found), found
    assert statistics.mean(found) > 0, found


@pytest.mark.slow
def test_informed_traders_are_why_the_tightest_maker_loses() -> None:
    trial = Trial(OneTickMaker, "moderate", seconds=200)
    spoiled, spared = outcomes(trial, MODERATE), outcomes(trial, NOBODY_KNOWS)
    # What inventory does after a fill is luck; the edge of the fills is what informed traders take.
    assert loses([world.edge_usd for world in spoiled])
    assert not loses([world.edge_usd for world in spared])


def test_who_does_nothing_gains_nothing() -> None:
    world = World(1, MODERATE)
    world.run(20)
    Idler(world, 0).look()
    assert world.profit_usd() == 0.0


def test_the_judgement_knows_luck_from_loss() -> None:
    rng = random.Random(3)
    luck = [rng.gauss(0.0, 1.0) for _ in SEEDS]
    assert not loses(luck)
    assert not loses([-x for x in luck])
    assert loses([x - 1.0 for x in luck])
