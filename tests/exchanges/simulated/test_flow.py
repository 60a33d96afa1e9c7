"""The crowd: it makes a market, moves it, is the same for the same seed, and punishes who does not look."""

from __future__ import annotations

import statistics

import pytest

from tbot.core.messages import ExchangeOrderId, Side
from tbot.core.units import MICRO, NANOS_PER_S, Nanos, Price, Size, complement
from tbot.exchanges.simulated.exchange import LocalExchange
from tbot.exchanges.simulated.fair_value import FairValueSettings
from tbot.exchanges.simulated.faults import Faults, FaultSettings
from tbot.exchanges.simulated.flow import FlowSettings
from tbot.exchanges.simulated.ledger import CASH
from tbot.exchanges.simulated.operations import Account, MarketRules, PlaceOrder
from tbot.exchanges.simulated.settings import AccountSettings, ExchangeSettings
from tbot.exchanges.simulated.traders import MakerSettings

BOT = Account("bot")
CASH_USD = 5_000


class World:
    """A local exchange with its crowd under a hand-driven clock."""

    def __init__(self, seed: int, flow: FlowSettings | None = None) -> None:
        settings = ExchangeSettings(
            accounts=(AccountSettings(name=BOT, cash_usd=CASH_USD),), flow=flow or FlowSettings()
        )
        self.now_ns = Nanos(1_790_000_000 * NANOS_PER_S)
        self.operations = 0
        self.exchange = LocalExchange(
            settings,
            seed=seed,
            now_ns=lambda: self.now_ns,
            faults=Faults(FaultSettings(), seed=1),
            on_operation=self._count,
        )

    def run(self, seconds: float) -> None:
        end_ns = self.now_ns + int(seconds * NANOS_PER_S)
        while (due_ns := self.exchange.next_ns()) is not None and due_ns < end_ns:
            self.now_ns = max(due_ns, self.now_ns)
            self.exchange.step()
        self.now_ns = Nanos(end_ns)

    def wealth_usd(self, account: Account) -> float:
        """Value an account at the latent fair values."""
        engine, flow = self.exchange.engine, self.exchange._flow
        assert flow is not None
        value = float(engine.ledger.owned(account, CASH))
        for number, rules in enumerate(self.exchange.markets()):
            fair = flow.fair_price(number)
            value += engine.ledger.owned(account, rules.yes) * fair
            value += engine.ledger.owned(account, rules.no) * (1 - fair)
        return value / MICRO

    def _count(self, *_: object) -> None:
        self.operations += 1


class Quoter:
    """A bot of twenty shares a side around the mid, looking twice a second; or one that never looks again."""

    def __init__(self, world: World, *, is_blind: bool = False) -> None:
        self._world = world
        self._is_blind = is_blind
        self._quoted: dict[str, dict[bool, Price]] = {}
        self._count = 0

    def run(self, seconds: float) -> int:
        """Trade and return the number of fills."""
        exchange = self._world.exchange
        for _ in range(int(seconds * 2)):
            self._world.run(0.5)
            for rules in exchange.markets():
                self._quote(rules)
        return sum(leg.account == BOT for trade in exchange.trades(BOT) for leg in trade.legs)

    def _quote(self, rules: MarketRules) -> None:
        exchange = self._world.exchange
        wanted = self._wanted(rules)
        stale = []
        for order in exchange.open_orders(BOT):
            is_bid = (order.token_id == rules.yes) is (order.side is Side.BUY)
            price = order.price if order.token_id == rules.yes else complement(order.price)
            if wanted.get(is_bid) == price:
                del wanted[is_bid]
            elif exchange.engine.market_of(order.token_id) == rules.market_id:
                stale.append(order.order_id)
        exchange.cancel(BOT, stale)
        for is_bid, price in wanted.items():
            self._place(rules, price, is_bid=is_bid)

    def _wanted(self, rules: MarketRules) -> dict[bool, Price]:
        if self._is_blind and rules.market_id in self._quoted:
            return dict(self._quoted[rules.market_id])
        bid, ask = self._world.exchange.engine.top(rules.market_id)
        if bid is None or ask is None:
            return {}
        ledger = self._world.exchange.engine.ledger
        net = (ledger.owned(BOT, rules.yes) - ledger.owned(BOT, rules.no)) / MICRO
        mid = (bid + ask) / 2 - 2 * rules.tick * max(-1.0, min(1.0, net / 200))
        low = int(mid - rules.tick) // rules.tick * rules.tick
        wanted = {True: Price(min(low, ask - rules.tick)), False: Price(max(low + 3 * rules.tick, bid + rules.tick))}
        self._quoted[rules.market_id] = dict(wanted)
        return wanted

    def _place(self, rules: MarketRules, price: Price, *, is_bid: bool) -> None:
        self._count += 1
        size = Size(20 * MICRO)
        sold = rules.no if is_bid else rules.yes
        sells = self._world.exchange.engine.available(BOT, sold) >= size
        token = sold if sells else (rules.yes if is_bid else rules.no)
        self._world.exchange.place(
            PlaceOrder(
                account=BOT,
                order_id=ExchangeOrderId(f"bot-{self._count}"),
                token_id=token,
                side=Side.SELL if sells else Side.BUY,
                price=price if token == rules.yes else complement(price),
                size=size,
                is_post_only=True,
            )
        )


def test_the_crowd_makes_a_two_sided_market_within_seconds() -> None:
    world = World(seed=1)
    world.run(5)
    for rules in world.exchange.markets():
        bid, ask = world.exchange.engine.top(rules.market_id)
        assert bid is not None
        assert ask is not None
        assert rules.tick <= ask - bid <= 8 * rules.tick
        assert len(world.exchange.book(rules.yes).bids) >= 3


def test_the_same_seed_gives_the_same_minute_and_another_seed_another() -> None:
    digests = []
    for seed in (7, 7, 8):
        world = World(seed)
        world.run(60)
        digests.append(world.exchange.engine.digest())
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]


def test_all_three_kinds_of_match_happen() -> None:
    world = World(seed=2)
    world.run(300)
    kinds = {leg.kind for trade in world.exchange.engine.trades for leg in trade.legs}
    assert len(kinds) == 3


def test_prices_follow_the_latent_value() -> None:
    world = World(seed=3, flow=FlowSettings(fair=FairValueSettings(news_per_hour=60.0, news_size=0.5)))
    flow = world.exchange._flow
    assert flow is not None
    errors = []
    for _ in range(12):
        world.run(30)
        bid, ask = world.exchange.engine.top(world.exchange.markets()[0].market_id)
        if bid is not None and ask is not None:
            errors.append(abs((bid + ask) / 2 / MICRO - flow.fair_price(0)))
    assert statistics.median(errors) < 0.02


def test_without_makers_the_book_stays_empty() -> None:
    world = World(seed=3, flow=FlowSettings(makers=MakerSettings(count=0)))
    world.run(60)
    assert world.exchange.engine.trades == ()


@pytest.mark.slow
def test_who_looks_earns_and_who_does_not_pays() -> None:
    profits: dict[bool, list[float]] = {True: [], False: []}
    fills = []
    for seed in range(6):
        for is_blind in (False, True):
            world = World(seed)
            count = Quoter(world, is_blind=is_blind).run(1_800)
            profits[is_blind].append(world.wealth_usd(BOT) - CASH_USD)
            if not is_blind:
                fills.append(count)
    assert min(fills) >= 150, "a simulated hour over two markets gives at least 300 fills"
    assert statistics.mean(profits[False]) > 0
    assert statistics.mean(profits[True]) < 0
    assert min(profits[False]) > -50


@pytest.mark.slow
def test_an_hour_is_cheap() -> None:
    world = World(seed=4)
    world.run(3_600)
    assert 5_000 < world.operations < 60_000
    assert len(world.exchange.engine.trades) > 700
