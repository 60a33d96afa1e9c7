"""Makes days of trading against an exchange that loses, repeats and reorders what it says, and judges them.

A shadow is rebuilt from the journal as it grows, and from checkpoints of any moment: it must always have the same
durable state. Room must never be freed before the truth is known, limits hold after every turn, nothing halts without
cause, and when the dust settles both sides agree to the last micro-dollar.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tbot.core.account import EMPTY_STATE, CoordinatorState, Mode
from tbot.core.coordinator import Coordinator
from tbot.core.market import TokenId
from tbot.core.messages import (
    AccountEvent,
    AccountGap,
    AccountView,
    CancelAll,
    CancelOrder,
    DispatcherFact,
    ExchangeOrderId,
    Flatten,
    Halt,
    OpenOrder,
    OrderType,
    OrderUpdate,
    Quote,
    RequestReport,
    ResendOrder,
    Resume,
    Settlement,
    Side,
    SubmitOrder,
    TradeId,
    Withdraw,
)
from tbot.core.positions import SETTLEMENT_STEPS
from tbot.core.risk import Leg, crosses
from tbot.core.units import Nanos, Price
from tests.core.coordinators import CASH, LIMITS, MAKER, MARKET, NO, OTHER_YES, YES, Desk, eid, money, prepared, shares
from tests.properties.pretend_exchange import LANDS_WITHIN_NS, PretendExchange, TrueOrder

TOKENS = (YES, NO, OTHER_YES)
TIGHT = msgspec.structs.replace(
    LIMITS, exposure_max=money(45), position_size_max=shares(70), open_orders_max=8, loss_max=money(10_000)
)
QUOTES_MAX = 3
ANY = st.integers(0, 10_000)

LANDINGS = ("answered", "answered", "answered", "silent", "refused", "lost", "doubt")
COPIES = ("answered", "answered", "silent", "lost", "lost")
COPIED_WITHIN_NS = 60 * 10**9
OPERATOR = ("halt", "flatten", "cancel", "withdraw", "resume", "resume", "resume", "resume")
CANCELS = ("answered", "answered", "answered", "silent", "lost", "throttled")


def quote_of(side: Side, cents: int, size: int, level: int) -> Quote:
    worst = Price(990_000 if side is Side.BUY else 10_000)
    return Quote(side=side, level=level, price=Price(cents * 10_000), size=shares(size), price_worst=worst)


quotes_drawn = st.lists(
    st.builds(quote_of, st.sampled_from(Side), st.integers(40, 60), st.sampled_from((5, 10, 20)), st.integers(0, 2)),
    max_size=QUOTES_MAX,
)


class Trading(RuleBasedStateMachine):
    """Every rule is one thing that can happen to a bot."""

    def __init__(self) -> None:
        super().__init__()
        self.exchange = PretendExchange(CASH)
        self.desk = Desk(limits=TIGHT)
        self.journal_read = 0
        self.commands_read = 0
        self.to_sign: list[SubmitOrder] = []
        self.to_cancel: list[CancelOrder] = []
        self.to_copy: list[ResendOrder] = []
        self.question: tuple[Nanos, tuple[OpenOrder, ...], tuple[ExchangeOrderId, ...], int] | None = None
        self.since_ns = self.desk.now
        self.asked: RequestReport | None = None
        self.wanted: tuple[TokenId, ...] = ()
        self.told: tuple[TokenId, ...] = ()
        self.failed_sells = False
        self.shadow = self.shadow_of_now()
        self.desk.recover()
        self.turn()
        for token in TOKENS:
            self.top(TOKENS.index(token), 47, 53, is_stale=False)
        self.ask_report()
        self.give_report()

    def can(self, name: str) -> bool:
        """Tell whether a thing can happen now."""
        needs: dict[str, object] = {
            "sign": self.to_sign,
            "land": self.exchange.under_way(),
            "cancel": self.to_cancel,
            "copy": self.to_copy,
            "reply": self.exchange.replies,
            "match": self.exchange.open(),
            "settle": [t for t in self.exchange.trades if SETTLEMENT_STEPS[t.settlement]],
            "push": self.exchange.pushes,
            "ask_report": self.question is None,
            "give_report": self.question is not None,
        }
        return bool(needs.get(name, True))

    # Strategies, feed, operator.

    @rule(token=ANY, quotes=quotes_drawn, chase=st.integers(0, 3), valid=ANY)
    def quote(self, token: int, quotes: list[Quote], chase: int, valid: int) -> None:
        with self.views_left_alone():
            self.desk.quote(*quotes, token=pick(TOKENS, token), chase=chase, valid_s=10 + valid % 60)
            self.turn()

    @rule(token=ANY, side=st.sampled_from(Side), cents=st.integers(40, 60))
    def take(self, token: int, side: Side, cents: int) -> None:
        self.desk.take(side, cents / 100, 10, token=pick(TOKENS, token), valid_s=2)
        self.turn()

    @rule(token=ANY, bid=st.integers(40, 52), ask=st.integers(48, 60), is_stale=st.booleans())
    def top(self, token: int, bid: int, ask: int, *, is_stale: bool) -> None:
        with self.views_left_alone():
            self.desk.top(pick(TOKENS, token), bid / 100, max(ask, bid + 1) / 100, is_stale=is_stale)
            self.turn()

    @rule(kind=st.sampled_from(OPERATOR))
    def command(self, kind: str) -> None:
        now = self.desk.now
        fact: Any = {
            "halt": Halt(reason="by hand", at_ns=now),
            "resume": Resume(at_ns=now),
            "cancel": CancelAll(at_ns=now),
            "flatten": Flatten(slippage_ticks=3, at_ns=now),
            "withdraw": Withdraw(strategy=MAKER, at_ns=now),
        }[kind]
        self.desk.absorb(fact)
        self.turn()

    @rule(ms=st.sampled_from((1, 100, 1_000, 2_500, 20_000)))
    def wait(self, ms: int) -> None:
        self.desk.now = Nanos(self.desk.now + ms * 1_000_000)
        for order in self.exchange.under_way():  # a request lands within the horizon, or never
            if self.desk.now - order.signed_ns > LANDS_WITHIN_NS:
                self.exchange.lose(order, self.desk.now, is_refused=False)
        self.turn()

    # The dispatcher.

    @precondition(lambda self: self.can("sign"))
    @rule(which=ANY, is_late=st.booleans())
    def sign(self, which: int, *, is_late: bool) -> None:
        command = self.to_sign.pop(which % len(self.to_sign))
        if is_late and self.desk.now > command.deadline_ns:
            self.desk.reject(command)
            self.turn()
            return
        with self.views_left_alone():
            self.desk.prepare(command)
            self.exchange.send(command, self.desk.now)
            self.turn()

    @precondition(lambda self: self.can("land"))
    @rule(which=ANY, outcome=st.sampled_from(LANDINGS))
    def land(self, which: int, outcome: str) -> None:
        order, now = pick(self.exchange.under_way(), which), self.desk.now
        self.check_cover(order)
        if outcome in ("answered", "silent"):
            self.exchange.land(order, now, is_reply_lost=outcome == "silent")
        elif outcome == "doubt":
            self.exchange.doubt(order, now)
        else:
            self.exchange.lose(order, now, is_refused=outcome == "refused")

    @precondition(lambda self: self.can("copy"))
    @rule(which=ANY, outcome=st.sampled_from(COPIES))
    def copy(self, which: int, outcome: str) -> None:
        command = self.to_copy.pop(which % len(self.to_copy))
        is_gone = self.desk.now - command.deadline_ns > LANDS_WITHIN_NS
        self.exchange.copy(command, self.desk.now, outcome="lost" if is_gone else outcome)

    @precondition(lambda self: self.can("cancel"))
    @rule(which=ANY, outcome=st.sampled_from(CANCELS))
    def cancel(self, which: int, outcome: str) -> None:
        self.exchange.cancel(self.to_cancel.pop(which % len(self.to_cancel)), self.desk.now, outcome=outcome)

    @precondition(lambda self: self.can("reply"))
    @rule()
    def reply(self) -> None:
        self.hear(self.exchange.replies.pop(0))

    # The exchange.

    @precondition(lambda self: self.can("match"))
    @rule(which=ANY, percent=st.sampled_from((10, 50, 100)))
    def match(self, which: int, percent: int) -> None:
        order = pick(self.exchange.open(), which)
        size = order.remaining * percent // 100 // 10_000 * 10_000
        self.exchange.match(order, size or order.remaining, self.desk.now)

    @precondition(lambda self: self.can("settle"))
    @rule(which=ANY, step=ANY, is_repeat=st.booleans())
    def settle(self, which: int, step: int, *, is_repeat: bool) -> None:
        trade = pick([t for t in self.exchange.trades if SETTLEMENT_STEPS[t.settlement]], which)
        steps = [s for s in SETTLEMENT_STEPS[trade.settlement] if s is not Settlement.FAILED or _can_fail(trade)]
        settlement = pick(steps, step)
        self.failed_sells |= settlement is Settlement.FAILED and trade.fill.side is Side.SELL
        self.exchange.settle(trade, settlement, self.desk.now, is_repeat=is_repeat)

    @precondition(lambda self: self.can("push"))
    @rule(which=ANY, times=st.sampled_from((0, 1, 1, 1, 2)))
    def push(self, which: int, times: int) -> None:
        event = self.exchange.pushes.pop(which % len(self.exchange.pushes))
        for _ in range(times):
            self.hear(event)

    @rule()
    def gap(self) -> None:
        self.exchange.pushes.clear()
        self.hear(AccountGap(reason="cut", received_ns=self.desk.now))

    # Reports.

    @precondition(lambda self: self.can("ask_report"))
    @rule()
    def ask_report(self) -> None:
        asked = self.asked
        since_ns = min(asked.since_ns or self.since_ns, self.since_ns) if asked is not None else self.since_ns
        lookups = asked.order_ids if asked is not None else ()
        # What is wanted, and one of the others in turn: no report tells all.
        self.told = tuple(dict.fromkeys((*self.wanted, pick(TOKENS, len(self.desk.journal)))))
        self.wanted = ()
        self.question = (self.desk.now, self.exchange.listing(), lookups, since_ns)

    @precondition(lambda self: self.can("give_report"))
    @rule()
    def give_report(self) -> None:
        assert self.question is not None
        requested_ns, listing, lookups, since_ns = self.question
        self.question = None
        report = self.exchange.report(
            listing, lookups, requested_ns=requested_ns, since_ns=since_ns, tokens=self.told, now_ns=self.desk.now
        )
        self.since_ns = requested_ns
        self.desk.absorb(report)
        self.turn()

    # Crashes and checkpoints.

    @rule(is_prepared_known=st.booleans())
    def crash(self, *, is_prepared_known: bool) -> None:
        signed = self.to_sign.pop(0) if self.to_sign and is_prepared_known else None
        rows = [prepared(signed.client_order_id, self.desk.now)] if signed is not None else []
        self.to_sign.clear()
        self.to_cancel.clear()
        self.to_copy.clear()
        self.exchange.replies.clear()
        self.question = None
        self.desk = self.desk.replayed(0, EMPTY_STATE)
        self.since_ns = self.desk.journal[-1][1] if self.desk.journal else self.desk.now
        self.commands_read = 0
        self.desk.recover(*rows)
        for token in TOKENS:
            self.desk.top(token, 0.47, 0.53)
        self.turn()

    @rule()
    def checkpoint(self) -> None:
        self.shadow = self.shadow_of_now()

    # Moving messages.

    def turn(self) -> None:
        self.desk.decide()
        for command in self.desk.commands[self.commands_read :]:
            if isinstance(command, SubmitOrder):
                self.to_sign.append(command)
            elif isinstance(command, CancelOrder):
                self.to_cancel.append(command)
            elif isinstance(command, ResendOrder):
                self.never_copied_when_wrong(command)
                self.to_copy.append(command)
            elif isinstance(command, RequestReport):
                self.asked = command
                self.wanted = command.token_ids
        self.commands_read = len(self.desk.commands)

    @contextmanager
    def views_left_alone(self) -> Iterator[None]:
        """Check that there are no new views to publish after prices, quotes and signatures."""
        before, halts = self.views(), self.desk.core.account.halt_reason
        yield
        assert self.views() == before or self.desk.core.account.halt_reason != halts

    def views(self) -> list[AccountView]:
        account = self.desk.core.account
        return [msgspec.structs.replace(view, at_ns=Nanos(0)) for view in account.views(self.desk.now)]

    def hear(self, fact: DispatcherFact | AccountEvent) -> None:
        """Deliver; times of receipt are those of the delivery."""
        now = self.desk.now
        if isinstance(fact, OrderUpdate):
            fact = msgspec.structs.replace(fact, as_of_ns=now)
        elif hasattr(fact, "received_ns"):
            fact = msgspec.structs.replace(fact, received_ns=now)
        else:
            fact = msgspec.structs.replace(fact, at_ns=now)
        self.desk.absorb(fact)
        self.turn()

    def shadow_of_now(self) -> Coordinator:
        self.journal_read = len(self.desk.journal)
        return self.desk.replayed(self.journal_read, self.desk.core.state()).core

    # What must always hold.

    @invariant()
    def all_is_well(self) -> None:
        self.journal_rebuilds_the_state()
        self.nothing_halts_without_cause()
        self.room_is_never_freed_before_the_truth_is_known()
        self.exposure_never_passes_its_limit()
        self.own_orders_never_cross()
        self.orders_never_outnumber_quotes()
        self.open_orders_stay_below_their_limit()

    def journal_rebuilds_the_state(self) -> None:
        for message, at_ns in self.desk.journal[self.journal_read :]:
            self.shadow.replay(message, at_ns)
        self.journal_read = len(self.desk.journal)
        assert parts_apart(self.shadow.state(), self.desk.core.state()) == []

    def nothing_halts_without_cause(self) -> None:
        assert self.desk.core.account.halt_reason in ("", "by hand", "flatten")

    def never_copied_when_wrong(self, copy: ResendOrder) -> None:
        """A copy is the very order, young, and no cancel of it ever left."""
        order = self.desk.core.orders.of_client(copy.client_order_id)
        assert order is not None
        assert (copy.exchange_order_id, copy.body) == (eid(copy.client_order_id), b"signed")
        assert copy.at_ns - copy.prepared_ns < COPIED_WITHIN_NS
        assert not [
            c for c in self.desk.commands if isinstance(c, CancelOrder) and c.client_order_id == copy.client_order_id
        ]

    def room_is_never_freed_before_the_truth_is_known(self) -> None:
        ledger = self.desk.core.account.ledger
        known: dict[tuple[TradeId, ExchangeOrderId], bool] = {}
        for trade in ledger.state().trades if ledger is not None else ():
            known |= {(trade.trade_id, f.exchange_order_id): True for f in trade.fills}
        for order_id, true in self.exchange.orders.items():
            ours = self.desk.core.orders.of_exchange(order_id)
            assert ours is not None, f"{order_id} rests unknown to us"
            size, notional = self.exchange.untold(true, known)
            if true.command.side is Side.BUY:
                assert ours.notional_open >= notional, (ours, true)
            else:
                assert ours.size_open >= size, (ours, true)

    def exposure_never_passes_its_limit(self) -> None:
        account = self.desk.core.account
        if not self.failed_sells:
            assert account.cost_held() + account.buys_open() <= TIGHT.exposure_max

    def own_orders_never_cross(self) -> None:
        legs = [Leg(o.command.token_id, o.command.side, o.command.price) for o in self.exchange.open()]
        assert not any(crosses(MARKET, one, two) for n, one in enumerate(legs) for two in legs[n + 1 :])

    def orders_never_outnumber_quotes(self) -> None:
        for token in TOKENS:
            for side in Side:
                mine = [o for o in self.exchange.open() if (o.command.token_id, o.command.side) == (token, side)]
                assert len([o for o in mine if o.command.order_type is OrderType.GTC]) <= QUOTES_MAX

    def open_orders_stay_below_their_limit(self) -> None:
        assert len(self.exchange.open()) <= TIGHT.open_orders_max

    def check_cover(self, order: TrueOrder) -> None:
        """A sell that lands never promises more than is on chain; all requests under way are counted with it."""
        token = order.command.token_id
        if order.command.side is Side.SELL:
            assert self.exchange.sells_open(token) <= self.exchange.available(token)

    # The end: everything is told, and both sides must agree.

    def teardown(self) -> None:
        self.command("withdraw")
        for _ in range(100):
            if self.is_over():
                break
            self.run_dry()
            self.wait(1_000)
        assert self.is_over(), self.desk.core.orders.active()
        self.exchange.pushes.clear()  # what was never told, the reports must have found
        for _ in range(3):
            self.wait(2_500)
            self.ask_report()
            self.give_report()
            self.journal_rebuilds_the_state()
        self.compare()

    def run_dry(self) -> None:
        """Let everything under way arrive; pushes stay lost."""
        while self.to_sign:
            self.sign(0, is_late=True)
        while self.exchange.under_way():
            self.land(0, "answered")
        while self.to_copy:
            self.copy(0, "answered")
        while self.to_cancel:
            self.cancel(0, "answered")
        while self.exchange.replies:
            self.reply()
        for trade in self.exchange.trades:
            if SETTLEMENT_STEPS[trade.settlement]:
                self.exchange.settle(trade, Settlement.CONFIRMED, self.desk.now, is_repeat=False)
        if self.question is None:
            self.ask_report()
        self.give_report()

    def is_over(self) -> bool:
        is_silent = not (
            self.to_sign or self.to_copy or self.to_cancel or self.exchange.replies or self.exchange.under_way()
        )
        return is_silent and not self.exchange.open() and self.desk.core.is_quiet

    def compare(self) -> None:
        account = self.desk.core.account
        assert account.ledger is not None
        assert account.ledger.cash == self.exchange.cash(is_settled=False)
        for token in TOKENS:
            assert account.held(token) == self.exchange.owned(token)
        assert account.buys_open() == 0
        assert account.drift == {}
        assert account.halt_reason in ("", "by hand", "flatten")
        assert account.mode in (Mode.TRADING, Mode.HALTED)


def parts_apart(one: CoordinatorState, two: CoordinatorState) -> list[object]:
    """List what differs, orders one by one, so that a failure can be read."""
    fields = [f for f in one.__struct_fields__ if f != "orders" and getattr(one, f) != getattr(two, f)]
    pairs = zip_longest(one.orders, two.orders)
    return [*((f, getattr(one, f), getattr(two, f)) for f in fields), *(pair for pair in pairs if pair[0] != pair[1])]


def pick(items: Any, which: int) -> Any:
    """Choose one of a sequence by any number."""
    return items[which % len(items)]


def _can_fail(trade: Any) -> bool:
    return trade.settlement in (Settlement.MATCHED, Settlement.RETRYING)
