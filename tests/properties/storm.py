"""One exchange in bad weather: many traders, every fault of the catalogue on and off at random, a judge at each step.

Everything in virtual time and drawn from one seed. Traders of the in-process gateway, members over HTTP and operations
by hand act at the same time; each operation that reaches the engine is judged before the next one does.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import trio
from trio.testing import MockClock, memory_stream_pair

from tbot.core.market import MarketId, TokenId
from tbot.core.messages import (
    Accepted,
    ClientOrderId,
    ExchangeOrderId,
    OrderState,
    OrderType,
    Settlement,
    Side,
    StrategyName,
    SubmitOrder,
)
from tbot.core.units import MICRO, NANOS_PER_S, Nanos, Notional, Price, Size
from tbot.errors import Disconnected, ExchangeUnavailable
from tbot.exchanges.simulated.accounts import PlayAccount
from tbot.exchanges.simulated.exchange import LocalExchange
from tbot.exchanges.simulated.fault_catalogue import CATALOGUE, Aim, Draw, Fault
from tbot.exchanges.simulated.fault_switches import FaultOrder
from tbot.exchanges.simulated.faults import Faults, FaultSettings
from tbot.exchanges.simulated.gateway import InProcessGateway
from tbot.exchanges.simulated.operations import (
    Account,
    CancelOrders,
    ChangeTick,
    ConvertPositions,
    Course,
    Deposit,
    Done,
    EngineSettings,
    MarketRules,
    MergePair,
    Mode,
    Operation,
    PlaceOrder,
    RedeemTokens,
    ResolveMarket,
    SplitPair,
)
from tbot.exchanges.simulated.server import LocalServer, ServerSettings
from tbot.exchanges.simulated.settings import ExchangeSettings
from tbot.exchanges.simulated.transit import LatencySettings
from tests.exchanges.simulated.server.conftest import RestClient, Trader
from tests.properties.judges import (
    adapter_faults,
    book_faults,
    conservation_faults,
    order_faults,
    priority_faults,
    queues,
)

EPOCH_S = 1_767_225_600
EVENT = "mayor"
PAYOUTS = (Price(0), Price(MICRO), Price(MICRO // 2))
FINAL = {OrderState.MATCHED, OrderState.CANCELED}
GIVES_UP_S = 8.0


def now_ns() -> Nanos:
    return Nanos(EPOCH_S * NANOS_PER_S + int(trio.current_time() * NANOS_PER_S))


def listed(number: int, **rules: Any) -> MarketRules:
    token = 10**76 + 10 * number
    return MarketRules(
        market_id=MarketId(f"0x{number:064x}"),
        slug=f"market-{number}",
        yes=TokenId(str(token)),
        no=TokenId(str(token + 1)),
        **rules,
    )


MARKETS = (
    listed(1, fee_rate_micro=70_000, taker_delay_ms=250),
    listed(2, fee_rate_micro=50_000, seconds_delay=3, game_start_s=EPOCH_S + 60, clears_book_at_start=True),
    *(listed(number, fee_rate_micro=40_000, event=EVENT, is_neg_risk=True) for number in (3, 4, 5)),
)
OUTCOMES = MARKETS[2:]
LOCALS = tuple(Account(name) for name in ("ann", "bob", "eve"))


class Storm:
    """The exchange, who trades on it, and what is wrong with it.

    Attributes:
        faults: What the judges found, in words, with the operation before it.
        accepted: Orders that were answered as taken.
        counts: What happened, by name.
    """

    def __init__(self, seed: int, nursery: trio.Nursery) -> None:
        self.rng = random.Random(seed)
        self.faults: list[str] = []
        self.accepted: dict[str, None] = {}
        self.counts: Counter[str] = Counter()
        self.log: list[tuple[Nanos, Operation]] = []
        self._lines: Any = None
        self._nursery = nursery
        self._count = 0
        self.exchange = LocalExchange(
            ExchangeSettings(
                markets=MARKETS, flow=None, engine=EngineSettings(has_tick_return=True), stream_capacity=100
            ),
            seed=seed,
            now_ns=now_ns,
            faults=Faults(FaultSettings(late_s=12.0), seed=seed),
            on_operation=self.watch,
        )
        self.server = LocalServer(self.exchange, ServerSettings(), secret=b"storm", now_ns=now_ns)
        keys = random.Random(7)
        self.members: list[Any] = [Trader(self, PlayAccount.from_rng(keys)) for _ in range(2)]  # type: ignore[arg-type]
        self.accounts = (*LOCALS, *(Account(member.account.address) for member in self.members))
        self.gateways = [
            InProcessGateway(
                self.exchange, name, run_id="run", rng=random.Random(seed), now_ns=now_ns, latency=LatencySettings()
            )
            for name in LOCALS
        ]
        for account in self.accounts:
            self.exchange.apply(Deposit(account=account, cash=Notional(500 * MICRO)))
            for rules in MARKETS:
                self.exchange.apply(SplitPair(account=account, market_id=rules.market_id, size=Size(40 * MICRO)))

    async def rest(self) -> RestClient:
        """Connect a member."""
        ours, theirs = memory_stream_pair()
        self._nursery.start_soon(self.server.serve_rest, theirs)
        return RestClient(ours)

    # --- the judges -------------------------------------------------------------------------------------------------

    def watch(self, at_ns: Nanos, operation: Operation) -> None:
        """Judge what the operation before did, and remember how everybody stands in line."""
        if self._lines is not None:
            self.judge()
        self.log.append((at_ns, operation))
        if not hasattr(self, "exchange"):
            return  # it lists its markets
        self._lines = (queues(self.exchange.engine), len(self.exchange.engine.trades))

    def judge(self) -> None:
        """Judge the moment."""
        engine, (lines, seen) = self.exchange.engine, self._lines
        found = [*conservation_faults(engine), *adapter_faults(engine), *book_faults(engine)]
        if len(engine.trades) > seen:
            found += [*priority_faults(engine, lines, seen), *order_faults(engine)]
        self.faults += [f"{fault} after {self.log[-1]}" for fault in found]

    # --- what can happen --------------------------------------------------------------------------------------------

    async def blow(self, steps: int) -> None:
        """Let so many things happen, each perhaps before the last one is over."""
        happenings: dict[Callable[[], None], int] = {
            self.submit: 30,
            self.place: 30,
            self.post: 9,
            self.cancel: 12,
            self.move: 8,
            self.weather: 14,
            self.clear_up: 8,
            self.restrict: 2,
            self.change_tick: 2,
            self.resolve: 1,
        }
        for reader in range(2):
            self._nursery.start_soon(self.listen, self.gateways[reader])
        for _ in range(steps):
            self.rng.choices(tuple(happenings), tuple(happenings.values()))[0]()
            await trio.sleep(self.rng.choice((0.0, 0.001, 0.02, 0.2, 0.2, 0.7, 3.0)))
            if self.faults:
                return

    def submit(self) -> None:
        """Send an order from the gateway in process."""
        gateway, rules = self.rng.choice(self.gateways), self.market()
        side = self.rng.choice(tuple(Side))
        self._count += 1
        order = SubmitOrder(
            client_order_id=ClientOrderId(f"c{self._count}"),
            strategy=StrategyName("storm"),
            token_id=self.rng.choice((rules.yes, rules.no)),
            side=side,
            price=self.price(rules),
            size=Size(self.rng.randint(5, 40) * MICRO),
            order_type=self.rng.choice((OrderType.GTC, OrderType.GTC, OrderType.FAK, OrderType.FOK)),
            is_post_only=False,
            slot_level=0,
            deadline_ns=Nanos(now_ns() + 10 * NANOS_PER_S),
            at_ns=now_ns(),
        )
        if order.order_type is OrderType.GTC and self.rng.random() < 0.4:
            order = msgspec.structs.replace(order, is_post_only=True)
        prepared = gateway.prepare(order, now_ns())

        async def send() -> None:
            reply = await gateway.submit(prepared)
            self.counts[type(reply).__name__] += 1
            if isinstance(reply, Accepted) and reply.state is not OrderState.DELAYED:
                self.accepted[prepared.exchange_order_id] = None

        self._nursery.start_soon(send)

    def place(self) -> None:
        """Place an order at once, with any course of its settlement."""
        rules, side = self.market(), self.rng.choice(tuple(Side))
        order_type = self.rng.choice((OrderType.GTC, OrderType.GTC, *OrderType))
        has_budget = side is Side.BUY and order_type in (OrderType.FAK, OrderType.FOK)
        lots = self.rng.randint(500, 4_000) * 10_000
        self._count += 1
        order = PlaceOrder(
            account=self.rng.choice(self.accounts),
            order_id=ExchangeOrderId(f"0x{self._count:064x}"),
            token_id=self.rng.choice((rules.yes, rules.no)),
            side=side,
            price=self.price(rules),
            size=Size(0 if has_budget else lots),
            budget=Notional(lots // 20_000 * 10_000 if has_budget else 0),
            order_type=order_type,
            is_post_only=order_type is OrderType.GTC and self.rng.random() < 0.3,
            expires_ns=Nanos(now_ns() // NANOS_PER_S * NANOS_PER_S + 90 * NANOS_PER_S)
            if order_type is OrderType.GTD
            else Nanos(0),
            course=self.rng.choice((Course.CONFIRM, Course.CONFIRM, Course.RETRY, Course.FAIL)),
        )
        reply = self.exchange.place(order)
        self.counts[type(reply).__name__] += 1
        if not hasattr(reply, "text"):
            self.accepted[order.order_id] = None

    def post(self) -> None:
        """Send a batch, a heartbeat or a mass cancel over HTTP."""
        member, rules = self.rng.choice(self.members), MARKETS[0]
        legs = [
            member.order(
                self.rng.choice(("BUY", "SELL")),
                f"0.{self.rng.randint(46, 54)}",
                str(self.rng.randint(5, 30)),
                token=self.rng.choice((rules.yes, rules.no)),
            )
            for _ in range(3)
        ]
        path, body = self.rng.choice(
            [("/orders", legs), ("/orders", legs), ("/order", legs[0]), ("/v1/heartbeats", {"heartbeat_id": ""})]
        )

        async def send() -> None:
            with trio.move_on_after(GIVES_UP_S):
                try:
                    answer = await member.ask("POST", path, body)
                except EOFError:
                    return
                self.counts[f"{path} {answer.status}"] += 1
                answers = json.loads(answer.body) if answer.status == 200 else []
                for leg in answers if isinstance(answers, list) else [answers]:
                    if leg.get("orderID") and leg.get("status") != "delayed":
                        self.accepted[leg["orderID"]] = None

        self._nursery.start_soon(send)

    def cancel(self) -> None:
        """Cancel a few orders, some of them long gone, from the gateway or all of one member's over HTTP."""
        ids = [ExchangeOrderId(order_id) for order_id in list(self.accepted)[-30:]]
        chosen = self.rng.sample(ids, min(len(ids), 4))
        if self.rng.random() < 0.2:
            self._spawn_answered(lambda: self.rng.choice(self.members).ask("DELETE", "/cancel-all"))
        elif self.rng.random() < 0.5:
            gateway = self.rng.choice(self.gateways)
            self._spawn_answered(lambda: gateway.cancel(chosen))
        else:
            account = self.rng.choice(self.accounts)
            self.exchange.apply(CancelOrders(account=account, order_ids=tuple(chosen)))

    def move(self) -> None:
        """Move collateral."""
        account, rules = self.rng.choice(self.accounts), self.rng.choice(MARKETS)
        size = Size(self.rng.randint(1, 30 * MICRO))
        given_up = tuple(each.market_id for each in self.rng.sample(OUTCOMES, self.rng.randint(1, 3)))
        choices: tuple[Operation, ...] = (
            SplitPair(account=account, market_id=rules.market_id, size=size),
            MergePair(account=account, market_id=rules.market_id, size=size),
            ConvertPositions(account=account, market_ids=given_up, size=size),
            Deposit(account=account, cash=Notional(self.rng.randint(-100 * MICRO, 80 * MICRO))),
            RedeemTokens(account=account, market_id=rules.market_id),
        )
        operation = self.rng.choice(choices)
        self.counts[f"{type(operation).__name__} {isinstance(self.exchange.apply(operation), Done)}"] += 1

    def weather(self) -> None:
        """Let a fault begin, now or soon, for anybody or for somebody."""
        fault = self.rng.choice(tuple(Fault))
        entry = CATALOGUE[fault]
        order = FaultOrder(name=fault, at_s=self.rng.choice((0.0, 0.0, 2.0)), target=self.target(entry.aim))
        if entry.draw is not Draw.TIME:
            order = msgspec.structs.replace(order, count=self.rng.randint(1, 4))
        elif entry.length_s:
            order = msgspec.structs.replace(order, seconds=self.rng.uniform(0.5, 6.0))
        self.exchange.misbehave(order)
        if fault is Fault.ENGINE_RESTART:  # its two minutes of post-only mode would be most of the storm
            self._nursery.start_soon(self._allow_after, order.at_s + (order.seconds or 0) + 4.0)

    def clear_up(self) -> None:
        """End one kind of fault before its time."""
        self.exchange.behave(self.rng.choice(tuple(Fault)))

    def restrict(self) -> None:
        """Restrict trading for a while."""
        self.exchange.modes.hold(self.rng.choice((Mode.CANCEL_ONLY, Mode.DISABLED, Mode.POST_ONLY)))
        self._nursery.start_soon(self._allow_after, self.rng.uniform(0.5, 3.0))

    async def _allow_after(self, seconds: float) -> None:
        await trio.sleep(seconds)
        self.exchange.modes.hold(Mode.NORMAL)

    def change_tick(self) -> None:
        """Change the grid of a market."""
        self.exchange.apply(
            ChangeTick(market_id=self.market().market_id, tick=self.rng.choice((Price(1_000), Price(10_000))))
        )

    def resolve(self) -> None:
        """Decide one of the markets that stand alone, and list nothing in its place."""
        rules = self.rng.choice(MARKETS[:2])
        if self.counts["resolved"] == 0:
            self.counts["resolved"] += 1
            self.exchange.apply(ResolveMarket(market_id=rules.market_id, yes_payout=self.rng.choice(PAYOUTS)))

    async def listen(self, gateway: InProcessGateway) -> None:
        """Hear both kinds of events, subscribing anew whenever the connection is lost, and ask for reports."""

        async def market() -> None:
            tokens = [token for rules in MARKETS for token in (rules.yes, rules.no)]
            async with gateway.open_market(tokens) as session:
                while True:
                    self.counts["market messages"] += len(await session.receive())

        async def account() -> None:
            async with gateway.open_account() as session:
                while True:
                    self.counts["account messages"] += len(await session.receive())

        async def report() -> None:
            await trio.sleep(5)
            await gateway.report(Nanos(0), ())

        async with trio.open_nursery() as nursery:
            for body in (market, account, report):
                nursery.start_soon(_again_and_again, body)

    def market(self) -> MarketRules:
        """Choose a market; few, so that orders meet."""
        rules = self.rng.choice(MARKETS[:3])
        return self.exchange.engine.rules(rules.market_id)

    def price(self, rules: MarketRules) -> Price:
        """Choose a price on the grid, sometimes at the edge, where ticks change."""
        rng = self.rng
        cents = rng.choice((rng.randint(46, 54), rng.randint(46, 54), rng.randint(46, 54), rng.randint(94, 99)))
        return Price(max(rules.tick, cents * 10_000 // rules.tick * rules.tick))

    def target(self, aim: Aim) -> str:
        """Choose whom a fault strikes; mostly anybody."""
        if self.rng.random() < 0.6:
            return ""
        rules = self.rng.choice(MARKETS[:3])
        match aim:
            case Aim.NOTHING:
                return ""
            case Aim.TOKEN:
                return self.rng.choice((rules.yes, rules.no))
            case Aim.API_KEY:
                return str(self.rng.choice(self.members).credentials.api_key)
            case Aim.ACCOUNT:
                return self.rng.choice(self.accounts)
            case Aim.ORDER | Aim.TRADE:
                return self.rng.choice((rules.yes, rules.market_id, *self.accounts))

    def _spawn_answered(self, ask: Callable[[], Awaitable[Any]]) -> None:
        async def send() -> None:
            with trio.move_on_after(GIVES_UP_S):
                try:
                    await ask()
                except EOFError:
                    return

        self._nursery.start_soon(send)

    # --- the end ----------------------------------------------------------------------------------------------------

    async def end(self) -> None:
        """Clear all faults, let time pass, resolve everything, and judge the last state."""
        for fault in Fault:
            self.exchange.behave(fault)
        self.exchange.calm()
        self.exchange.modes.hold(Mode.NORMAL)
        await trio.sleep(1_000)
        # Now, and not later: the end of a market ends what it holds as well.
        orders = (order.view() for order in self.exchange.engine._orders)
        self.faults += [f"{o.order_id} is still {o.state}, all delays over" for o in orders if o.state == "DELAYED"]
        winner = self.rng.choice(OUTCOMES)
        for rules in MARKETS[:2]:
            self.exchange.apply(ResolveMarket(market_id=rules.market_id, yes_payout=self.rng.choice(PAYOUTS)))
        for rules in OUTCOMES:
            payout = Price(MICRO if rules is winner else 0)
            self.exchange.apply(ResolveMarket(market_id=rules.market_id, yes_payout=payout))
        self.judge()
        self.faults += [*order_faults(self.exchange.engine), *self.open_ends()]
        again = LocalExchange.replay(
            self.log, self.exchange.settings, seed=0, now_ns=now_ns, faults=Faults(FaultSettings(), seed=0)
        )
        if again.engine.digest() != self.exchange.engine.digest():
            self.faults.append("the log of operations gives another exchange")
        self.faults += [f"the server met {crash!r}" for crash in self.server.crashes]

    def open_ends(self) -> list[str]:
        """List what has not come to an end: orders taken, and trades but those that a fault keeps retrying for ever."""
        engine = self.exchange.engine
        views = {order_id: engine.order(ExchangeOrderId(order_id)) for order_id in self.accepted}
        faults = [f"{order_id} was taken and is nowhere" for order_id, view in views.items() if view is None]
        orders = [order.view() for order in engine._orders]
        faults += [f"{o.order_id} is still {o.state}" for o in orders if o.state not in FINAL]
        stuck = {order.place.order_id for order in engine._orders if order.place.course is Course.STUCK}
        over = {Settlement.CONFIRMED, Settlement.FAILED}
        for trade in engine.trades:
            self.counts[trade.settlement] += 1
            if trade.settlement not in over and trade.taker_order_id not in stuck:
                faults.append(f"{trade.trade_id} is still {trade.settlement}")
        return faults


async def _again_and_again(body: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await body()
        except (Disconnected, ExchangeUnavailable):
            await trio.sleep(0.5)


def storm(seed: int, steps: int) -> Storm:
    """Run one storm from its first order to its end, in virtual time."""

    async def main() -> Storm:
        async with trio.open_nursery() as nursery:
            made = Storm(seed, nursery)
            await nursery.start(made.exchange.run)
            await made.blow(steps)
            if not made.faults:
                await made.end()
            nursery.cancel_scope.cancel()
        return made

    return trio.run(main, clock=MockClock(autojump_threshold=0))
