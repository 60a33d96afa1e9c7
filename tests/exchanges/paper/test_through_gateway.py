"""Paper fills at most what an equal real order would, though prints come late, in disorder and twice, byte by byte.

A crowd's operations are applied in virtual time to the local exchange, served as Polymarket; the paper gateway reads it
through the real client while frames overtake each other, prints are held back and repeated, or nothing is read for
seconds. The real order is put into the same operations at the very moment the paper order was placed.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tbot.core.messages import Accepted, ClientOrderId, ExchangeOrderId, OrderType, Side, StrategyName, SubmitOrder
from tbot.core.units import NANOS_PER_S, Nanos, Price
from tbot.exchanges.paper.exchange import PaperExchange
from tbot.exchanges.paper.gateway import PaperGateway
from tbot.exchanges.paper.settings import PaperSettings
from tbot.exchanges.polymarket.pipes import stream_transport
from tbot.exchanges.polymarket.public import PublicMarkets
from tbot.exchanges.polymarket.settings import PolymarketSettings
from tbot.exchanges.simulated import channels
from tbot.exchanges.simulated.channels import ChannelSettings
from tbot.exchanges.simulated.exchange import LocalExchange
from tbot.exchanges.simulated.fault_catalogue import Fault
from tbot.exchanges.simulated.fault_switches import FaultOrder
from tbot.exchanges.simulated.faults import Faults, FaultSettings
from tbot.exchanges.simulated.matching import Engine
from tbot.exchanges.simulated.operations import Placed, PlaceOrder, SplitPair
from tbot.exchanges.simulated.server import LocalServer, ServerSettings
from tbot.exchanges.simulated.settings import ExchangeSettings
from tbot.exchanges.simulated.transit import TransitSettings
from tests.exchanges.paper.test_against_local import BOT, OURS, SIZE, Log, crowd_log

BEFORE_S, AFTER_S, LATE_S = 4.0, 90.0, 2.0
# A taker who spends dollars gets shares rounded down at each match, and an order more in his way is a match more: the
# real order may lack some millionths of a share that way.
ROUNDED = 10
SERVED = ServerSettings(channels=ChannelSettings(market_transit=TransitSettings(way_ms=(5.0, 40.0), slow_share=0.2)))


class Disturbance:
    """Holds prints of the market channel back and repeats some."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.held: list[tuple[float, str]] = []
        self.repeated = 0

    def passed(self, text: str) -> list[str]:
        now_s = trio.current_time()
        is_print = '"event_type":"last_trade_price"' in text
        if is_print:
            self.repeated += (is_twice := self.rng.random() < 0.3)
            self.held += [(now_s + self.rng.uniform(0, LATE_S), text) for _ in range(1 + is_twice)]
        due = [each for at_s, each in self.held if at_s <= now_s]
        self.held = [(at_s, each) for at_s, each in self.held if at_s > now_s]
        return due if is_print else [text, *due]


class Stage:
    """A trial: the served exchange, the paper account in front of it, and one order."""

    def __init__(self, seed: int, log: Log, nursery: trio.Nursery) -> None:
        self.dice = random.Random(seed)
        self.began_s = trio.current_time()
        self.log = log
        self.begin_ns = log[0][0] + (log[-1][0] - log[0][0]) // 4
        self.settings = ExchangeSettings()
        self.rules = self.settings.markets[0]
        self.opening = [entry for entry in log if entry[0] <= self.begin_ns]
        faults = Faults(FaultSettings(), seed=1)
        self.exchange = LocalExchange(
            ExchangeSettings(flow=None), seed=1, now_ns=self.now_ns, faults=faults, log=self.opening
        )
        self.server = LocalServer(self.exchange, SERVED, secret=b"seed 1", now_ns=self.now_ns)
        self.nursery = nursery
        self.paper = PaperExchange(PaperSettings(), now_ns=self.now_ns)
        where = PolymarketSettings(
            condition_ids=(str(self.rules.market_id),),
            rest_url="http://exchange.test",
            ws_market_url="ws://exchange.test/ws/market",
            geoblock_url="http://exchange.test/api/geoblock",
        )
        transport = stream_transport(self._piped(self.server.serve_rest))
        source = PublicMarkets(
            where, now_ns=self.now_ns, transport=transport, connect=self._piped(self.server.serve_websocket)
        )
        self.gateway = PaperGateway(source, self.paper, now_ns=self.now_ns)
        self.placed_ns = Nanos(0)

    def now_ns(self) -> Nanos:
        return Nanos(self.begin_ns + int((trio.current_time() - self.began_s) * NANOS_PER_S))

    def _piped(self, serve: Callable[[trio.abc.Stream], Awaitable[None]]) -> Callable[[], Awaitable[trio.abc.Stream]]:
        async def connect() -> trio.abc.Stream:
            await trio.lowlevel.checkpoint()
            ours, theirs = trio.testing.memory_stream_pair()
            self.nursery.start_soon(serve, theirs)
            return ours

        return connect

    async def crowd(self) -> None:
        for at_ns, operation in self.log[len(self.opening) :]:
            await trio.sleep(max(0.0, (at_ns - self.now_ns()) / NANOS_PER_S))
            self.exchange.apply(operation)

    async def follow(self) -> None:
        async with self.gateway.open_market((self.rules.yes, self.rules.no)) as session:
            while True:
                await session.receive()

    def order(self, side: Side, price: Price) -> SubmitOrder:
        return SubmitOrder(
            client_order_id=ClientOrderId("c-1"),
            strategy=StrategyName("s"),
            token_id=self.rules.yes,
            side=side,
            price=price,
            size=SIZE,
            order_type=OrderType.GTC,
            is_post_only=True,
            slot_level=0,
            deadline_ns=Nanos(self.now_ns() + 10**10),
            at_ns=self.now_ns(),
        )

    async def place(self) -> tuple[ExchangeOrderId, Side, Price] | None:
        """Place the order a tick or two from the best price; None = the paper account did not take it."""
        book = self.exchange.book(self.rules.yes)
        if not book.bids or not book.asks:
            return None
        side = self.dice.choice((Side.BUY, Side.SELL))
        away = self.dice.randrange(2) * self.rules.tick
        best = max(level.price for level in book.bids) if side is Side.BUY else min(level.price for level in book.asks)
        price = Price(best - away if side is Side.BUY else best + away)
        order = self.gateway.prepare(self.order(side, price), self.now_ns())
        with_latency = self.paper.settings.latency_ms / 1_000
        self.placed_ns = Nanos(self.now_ns() + int(with_latency * NANOS_PER_S))
        reply = await self.gateway.submit(order)
        return (order.exchange_order_id, side, price) if isinstance(reply, Accepted) else None

    def paper_filled(self, order_id: ExchangeOrderId) -> int:
        order = self.paper.account.order(order_id)
        assert order is not None
        return int(order.matched)

    def real(self, side: Side, price: Price, at: list[Nanos]) -> list[int] | None:
        """Fill an equal order in the same operations, as of some moments; None = it would not have rested."""
        waiting, filled = list(at), list[int]()
        engine, is_placed = Engine(self.settings.engine), False
        for at_ns, operation in self.log:
            if at_ns > self.placed_ns and not is_placed:
                is_placed = True
                engine.apply(SplitPair(account=BOT, market_id=self.rules.market_id, size=SIZE), at_ns)
                order = PlaceOrder(
                    account=BOT,
                    order_id=OURS,
                    token_id=self.rules.yes,
                    side=side,
                    price=price,
                    size=SIZE,
                    is_post_only=True,
                )
                if not isinstance(engine.apply(order, at_ns)[0], Placed):
                    return None
            while waiting and waiting[0] < at_ns and is_placed:
                waiting.pop(0)
                view = engine.order(OURS)
                filled.append(0 if view is None else int(view.size_matched))
            engine.apply(operation, at_ns)
        return filled


async def trial(seed: int, log: Log, monkeypatch: pytest.MonkeyPatch, *, is_slow: bool) -> tuple[int, int, int] | None:
    """Give the most that paper was ahead of the real order, what it filled at last, and how many prints repeated."""
    disturbance, send = Disturbance(random.Random(seed)), channels.Connection.send_text

    async def send_text(self: channels.Connection, text: str) -> None:
        for each in disturbance.passed(text):
            await send(self, each)

    monkeypatch.setattr(channels.Connection, "send_text", send_text)
    try:
        async with trio.open_nursery() as nursery:
            stage = Stage(seed, log, nursery)
            await nursery.start(stage.exchange.run)
            await nursery.start(stage.paper.run)
            await stage.gateway.load_markets()
            assert await stage.gateway.can_trade() == ""
            nursery.start_soon(stage.crowd)
            nursery.start_soon(stage.follow)
            await trio.sleep(BEFORE_S)
            if is_slow:
                stage.exchange.misbehave(FaultOrder(name=Fault.SLOW_READER, seconds=6.0))
                await trio.sleep(stage.dice.uniform(0, 6))
            placed = await stage.place()
            moments, paper = list[Nanos](), list[int]()
            while placed is not None and len(moments) < AFTER_S:
                await trio.sleep(1)
                moments.append(stage.now_ns())
                paper.append(stage.paper_filled(placed[0]))
            nursery.cancel_scope.cancel()
    finally:
        monkeypatch.undo()
    if placed is None or (real := stage.real(placed[1], placed[2], moments)) is None:
        return None
    return max(ours - theirs for ours, theirs in zip(paper, real, strict=False)), paper[-1], disturbance.repeated


@pytest.mark.slow
@pytest.mark.parametrize("is_slow", [False, True])
async def test_disturbed_news_fill_no_more_than_a_real_order(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, *, is_slow: bool
) -> None:
    trials = [await trial(seed, crowd_log(seed, 240.0), monkeypatch, is_slow=is_slow) for seed in range(4)]
    outcomes = [outcome for outcome in trials if outcome is not None]
    assert [each for each in outcomes if each[0] > ROUNDED] == []
    assert sum(repeated for _, _, repeated in outcomes) > 0
    assert sum(paper for _, paper, _ in outcomes) > 0, "nothing was filled: nothing was shown"
