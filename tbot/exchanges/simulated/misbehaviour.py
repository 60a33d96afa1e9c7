"""What a fault of time does to the exchange when it begins and when it ends. The dice say when; this does it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from tbot.core.market import MarketId, TokenId
from tbot.core.messages import Level, Side
from tbot.core.units import MICRO, NANOS_PER_S, Nanos, Price
from tbot.exchanges.simulated.broadcast import Broadcast
from tbot.exchanges.simulated.checks import balance_text
from tbot.exchanges.simulated.events import Balances, BookShown, BookView
from tbot.exchanges.simulated.fault_catalogue import CATALOGUE, Aim, Draw, Fault
from tbot.exchanges.simulated.fault_switches import FaultOrder, Switch
from tbot.exchanges.simulated.faults import Faults
from tbot.exchanges.simulated.modes import Modes
from tbot.exchanges.simulated.operations import (
    Account,
    ChangeTick,
    Course,
    MarketRules,
    Operation,
    PlaceOrder,
    Refused,
    Reply,
)

POST_ONLY_S = 120.0
"""How long only post-only orders are taken after a restart."""


class Books(Protocol):
    """What must be known of the engine."""

    def markets(self) -> tuple[MarketRules, ...]:
        """List every market."""
        ...

    def rules_of(self, token_id: TokenId) -> MarketRules | None:
        """Tell the rules of a token's market; None = no such token."""
        ...

    def top(self, market_id: MarketId) -> tuple[Price | None, Price | None]:
        """Tell best bid and ask of the YES token."""
        ...

    def book(self, token_id: TokenId) -> BookView:
        """Show a whole book."""
        ...

    def balances(self, account: Account) -> Balances:
        """Tell what an account has."""
        ...


class Misbehaviour:
    """The hand that does what the faults decide.

    Args:
        faults: Decide.
        books: The engine, to look at.
        broadcast: Who hears what.
        modes: What is refused.
        apply: Changes the engine.
    """

    def __init__(
        self,
        faults: Faults,
        books: Books,
        broadcast: Broadcast,
        modes: Modes,
        apply: Callable[[Operation], Reply],
    ) -> None:
        self._faults = faults
        self._books = books
        self._broadcast = broadcast
        self._modes = modes
        self._apply = apply
        self._waiting: list[tuple[Nanos, FaultOrder]] = []
        self._ticks: list[tuple[Nanos, MarketId, Price, Price]] = []
        self._remembered: dict[Account, Balances] = {}

    def next_ns(self) -> Nanos | None:
        """When something begins or ends next."""
        dues = [due_ns for due_ns, _ in self._waiting] + [due_ns for due_ns, *_ in self._ticks]
        dues += [due for due in (self._faults.next_ns(), self._broadcast.next_thaw_ns()) if due is not None]
        return min(dues, default=None)

    def step(self, now_ns: Nanos) -> None:
        """Do everything due now."""
        for order in (*self._faults.due(now_ns), *self._take_waiting(now_ns)):
            self.begin(order, now_ns)
        for switch in self._faults.switches.ended(now_ns):
            self._end(switch, now_ns)
        self._broadcast.thaw(self._books.book, now_ns)
        for entry in [entry for entry in self._ticks if entry[0] <= now_ns]:
            self._ticks.remove(entry)
            self._tick_back(*entry[1:])

    def order(self, order: FaultOrder, now_ns: Nanos) -> None:
        """Let a fault begin now or, if its `at_s` says so, later; its target has been found to be there."""
        if order.at_s:
            self._waiting.append((Nanos(now_ns + int(order.at_s * NANOS_PER_S)), order))
        else:
            self.begin(order, now_ns)

    def begin(self, order: FaultOrder, now_ns: Nanos) -> None:
        """Let a fault begin now; for one of time that needs a token and was given none, the dice choose."""
        entry = CATALOGUE[order.name]
        if entry.draw is Draw.TIME and entry.aim is Aim.TOKEN and not order.target:
            order = msgspec.structs.replace(order, target=self._any_token())
        switch = self._faults.switch(order, now_ns)
        match switch.fault:
            case Fault.SILENT_FEED:
                self._broadcast.freeze(switch.until_ns)
            case Fault.FROZEN_ASSET:
                self._broadcast.freeze_token(TokenId(switch.target), switch.until_ns)
            case Fault.CROSSED_SNAPSHOT:
                self._show(switch.target, now_ns, is_crossed=True)
            case Fault.CONNECTION_CUT:
                self._faults.switches.off(Fault.CONNECTION_CUT)
                self._broadcast.cut("connection reset")
            case Fault.ENGINE_RESTART:
                seconds = (switch.until_ns - now_ns) / NANOS_PER_S
                self._modes.restart(now_ns, restarting_s=seconds, post_only_s=POST_ONLY_S)
            case _:
                pass  # consulted where it strikes

    def calm(self) -> None:
        """Let nothing more begin; what has a time of its own takes its course."""
        self._faults.calm()
        self._waiting.clear()

    def lift(self, fault: Fault, now_ns: Nanos) -> None:
        """End a fault before its time."""
        for switch in self._faults.switches.off(fault):
            self._end(switch, now_ns)
        if fault is Fault.SILENT_FEED:
            self._broadcast.thaw_all(self._books.book, now_ns)
        elif fault is Fault.FROZEN_ASSET:
            self._broadcast.thaw_tokens(self._books.book, now_ns)
        elif fault is Fault.ENGINE_RESTART:
            self._modes.end_restart(now_ns)

    # --- at the door ------------------------------------------------------------------------------------------------

    def refusal(self, order: PlaceOrder) -> Refused | None:
        """Refuse an order of somebody whose money is locked by a phantom; None = let it in."""
        if order.side is not Side.BUY or not self._faults.is_on(Fault.PHANTOM_LOCK, order.account):
            return None
        balance = self._books.balances(order.account).cash_settled
        amount = order.budget or order.price * order.size // MICRO
        return Refused(text=balance_text(balance=balance, active=0, matched=balance, amount=amount))

    def coarsen(self, token_id: str, now_ns: Nanos) -> None:
        """Make the tick of a token's market ten times coarser for a while, if there is such a tick."""
        rules = self._books.rules_of(TokenId(token_id))
        if rules is None or rules.tick * 10 > 100_000:
            return
        coarse = Price(rules.tick * 10)
        self._apply(ChangeTick(market_id=rules.market_id, tick=coarse))
        due_ns = Nanos(now_ns + int(self._faults.settings.tick_s * NANOS_PER_S))
        self._ticks.append((due_ns, rules.market_id, coarse, rules.tick))

    def course(self, order: PlaceOrder) -> Course:
        """Decide how the trades of an order settle; nothing is decided for one that meets nobody."""
        rules = self._books.rules_of(order.token_id)
        if rules is None or not self._meets_somebody(order, rules):
            return Course.CONFIRM
        return self._faults.on_settlement(order.account, order.token_id, rules.market_id)

    def shown_balances(self, account: Account) -> Balances:
        """Tell what an account has, as far as the cache of the exchange knows."""
        if not self._faults.is_on(Fault.STALE_BALANCE, account):
            return self._books.balances(account)
        return self._remembered.setdefault(account, self._books.balances(account))

    def refresh_balances(self, account: Account) -> None:
        """Read what an account has again."""
        self._remembered.pop(account, None)

    # ----------------------------------------------------------------------------------------------------------------

    def _meets_somebody(self, order: PlaceOrder, rules: MarketRules) -> bool:
        bid, ask = self._books.top(rules.market_id)
        is_yes = order.token_id == rules.yes
        price = order.price if is_yes else MICRO - order.price
        if (order.side is Side.BUY) is is_yes:
            return ask is not None and price >= ask
        return bid is not None and price <= bid

    def _end(self, switch: Switch, now_ns: Nanos) -> None:
        match switch.fault:
            case Fault.CROSSED_SNAPSHOT:
                self._show(switch.target, now_ns, is_crossed=False)
            case Fault.STALE_BALANCE:
                self._remembered.clear()
            case _:
                pass  # what it did is over with it, or ends by a clock of its own

    def _take_waiting(self, now_ns: Nanos) -> list[FaultOrder]:
        due = [order for due_ns, order in self._waiting if due_ns <= now_ns]
        self._waiting = [entry for entry in self._waiting if entry[0] > now_ns]
        return due

    # Whoever changed the tick meanwhile has the last word.
    def _tick_back(self, market_id: MarketId, coarse: Price, fine: Price) -> None:
        if any(rules.market_id == market_id and rules.tick == coarse for rules in self._books.markets()):
            self._apply(ChangeTick(market_id=market_id, tick=fine))

    def _show(self, token_id: str, now_ns: Nanos, *, is_crossed: bool) -> None:
        rules = self._books.rules_of(TokenId(token_id))
        assert rules is not None, "checked when it was ordered"
        for token in (rules.yes, rules.no):
            view = self._books.book(token)
            shown = crossed(view) if is_crossed else view
            self._broadcast.publish(
                [BookShown(market_id=rules.market_id, book=shown, exchange_ms=view.exchange_ms, at_ns=now_ns)], now_ns
            )

    def _any_token(self) -> str:
        return self._faults.choice([rules.yes for rules in self._books.markets()])


def crossed(view: BookView) -> BookView:
    """Give a book whose best bid stands at its best ask; one without asks is only shown again."""
    if not view.asks:
        return view
    price, size = view.asks[0].price, view.asks[0].size
    bids = (Level(price=price, size=size), *(level for level in view.bids if level.price < price))
    return msgspec.structs.replace(view, bids=bids)
