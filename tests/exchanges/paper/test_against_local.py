"""On the local exchange, same operations, a paper order is filled at most as much as an equal real one.

A crowd trades for some minutes while every operation is logged. The log is applied again twice: once with a real order
put in at some moment, once without it while a paper order watches the public events.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tbot.core.messages import ExchangeOrderId, Side
from tbot.core.units import MICRO, Nanos, Price, Size
from tbot.exchanges.paper.queue import PaperMarket
from tbot.exchanges.simulated.events import OrderChanged, TradeChanged
from tbot.exchanges.simulated.exchange import LocalExchange
from tbot.exchanges.simulated.faults import Faults, FaultSettings
from tbot.exchanges.simulated.matching import Engine
from tbot.exchanges.simulated.operations import Account, Operation, Placed, PlaceOrder, SplitPair
from tbot.exchanges.simulated.settings import AccountSettings, ExchangeSettings
from tbot.exchanges.simulated.translate import Desk, market_events, market_of, snapshot_of
from tests.exchanges.simulated.test_flow import World

BOT = Account("bot")
OURS = ExchangeOrderId("ours")
SIZE = Size(40 * MICRO)
# Each match rounds down what its sides get, and an order more in a taker's way is a match more: the real order may lack
# some millionths of a share that way.
ROUNDED = 10
Log = list[tuple[Nanos, Operation]]


def crowd_log(seed: int, seconds: float) -> Log:
    log: Log = []
    world = World(seed)
    exchange = LocalExchange(
        ExchangeSettings(accounts=(AccountSettings(name=BOT, cash_usd=5_000),), flow=world.exchange.settings.flow),
        seed=seed,
        now_ns=lambda: world.now_ns,
        faults=Faults(FaultSettings(), seed=1),
        on_operation=lambda now_ns, operation: log.append((now_ns, operation)),
    )
    world.exchange = exchange
    log[:] = [(world.now_ns, operation) for operation in exchange._opening()]
    world.run(seconds)
    return log


class Trial:
    """One order, placed after the n-th operation of a log."""

    def __init__(self, log: Log, at: int, side: Side, ticks_away: int) -> None:
        self.log, self.at, self.side, self.ticks_away = log, at, side, ticks_away
        self.settings = ExchangeSettings()
        self.rules = self.settings.markets[0]

    def price(self, engine: Engine) -> Price | None:
        bid, ask = engine.top(self.rules.market_id)
        if bid is None or ask is None:
            return None
        away = self.ticks_away * self.rules.tick
        return Price(bid - away if self.side is Side.BUY else ask + away)

    def real(self) -> int:
        engine = Engine(self.settings.engine)
        for count, (now_ns, operation) in enumerate(self.log):
            if count == self.at:
                engine.apply(SplitPair(account=BOT, market_id=self.rules.market_id, size=SIZE), now_ns)
                price = self.price(engine)
                assert price is not None
                order = PlaceOrder(
                    account=BOT, order_id=OURS, token_id=self.rules.yes, side=self.side, price=price, size=SIZE
                )
                assert isinstance(engine.apply(order, now_ns)[0], Placed)
            engine.apply(operation, now_ns)
        view = engine.order(OURS)
        assert view is not None
        return view.size_matched

    def paper(self, watch: Callable[[PaperMarket], None] = lambda _: None) -> int:
        engine = Engine(self.settings.engine)
        market = market_of(self.rules)
        paper = PaperMarket(market, print_lag_ns=250_000_000)
        desk = Desk(account=BOT, tokens=market.tokens, fees={})
        filled = 0
        for count, (now_ns, operation) in enumerate(self.log):
            if count == self.at:
                paper.observe(snapshot_of(engine.book(self.rules.yes), now_ns))
                price = self.price(engine)
                assert price is not None
                paper.rest(OURS, is_bid=self.side is Side.BUY, price=price, size=SIZE, now_ns=now_ns)
                watch(paper)
            _, events = engine.apply(operation, now_ns)
            if count < self.at:
                continue
            for event in events:
                if isinstance(event, OrderChanged | TradeChanged) or event.market_id != self.rules.market_id:
                    continue
                for message in market_events(desk, event, now_ns):
                    filled += sum(hit.size for hit in paper.observe(message))
        return filled


def trials(seeds: range) -> list[Trial]:
    found = []
    for seed in seeds:
        log = crowd_log(seed, 240.0)
        dice = random.Random(seed)
        for _ in range(6):
            at = dice.randrange(len(log) // 4, len(log) // 2)
            found.append(Trial(log, at, dice.choice((Side.BUY, Side.SELL)), dice.randrange(3)))
    return found


@pytest.mark.slow
def test_paper_fills_are_at_most_those_of_an_equal_real_order() -> None:
    outcomes = [(trial.paper(), trial.real()) for trial in trials(range(6))]
    assert [pair for pair in outcomes if pair[0] > pair[1] + ROUNDED] == []
    filled = sum(paper for paper, _ in outcomes)
    assert filled > 0, "nothing was filled: nothing was shown"
    assert filled > sum(real for _, real in outcomes) / 4, "so shy that it says nothing of the strategy"


@pytest.mark.slow
def test_a_paper_order_without_a_queue_would_be_seen() -> None:
    def jump(paper: PaperMarket) -> None:
        for order in paper._waiting.values():
            order.gates = [(since_ms, 0) for since_ms, _ in order.gates]

    outcomes = [(trial.paper(jump), trial.real()) for trial in trials(range(6))]
    assert any(paper > real + ROUNDED for paper, real in outcomes)
