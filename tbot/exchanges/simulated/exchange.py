"""The local exchange: the pure engine with a clock, traders, faults and subscribers around it.

All calls are synchronous and take effect at once; only `run` waits. A gateway or a server in front adds latency, loss
and a protocol. Accounts are names: the bot's differs from a synthetic trader's in nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import msgspec
import trio

from tbot.core.market import MarketId, TokenId
from tbot.core.messages import ExchangeOrderId
from tbot.core.units import MICRO, NANOS_PER_S, Nanos, Notional
from tbot.exchanges.simulated.broadcast import Broadcast
from tbot.exchanges.simulated.events import Balances, BookView, OrderView, Trade
from tbot.exchanges.simulated.faults import Faults
from tbot.exchanges.simulated.flow import Flow
from tbot.exchanges.simulated.matching import Engine
from tbot.exchanges.simulated.operations import (
    ANY_MARKET,
    ANY_TOKEN,
    EVER,
    Account,
    Advance,
    CancelEvery,
    CancelOrders,
    CancelResult,
    Course,
    Deposit,
    Done,
    EndReason,
    MarketRules,
    OpenMarket,
    Operation,
    Placed,
    PlaceOrder,
    Refused,
    Reply,
)
from tbot.exchanges.simulated.settings import ExchangeSettings
from tbot.exchanges.simulated.streams import AccountStream, MarketStream

OperationLog = Iterable[tuple[Nanos, Operation]]


class Ticket:
    """The answer slot of an operation that takes effect later."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.reply: Reply | None = None
        self._answered = trio.Event()

    def answer(self, reply: Reply) -> None:
        """Fill the slot, once."""
        self.reply = reply
        self._answered.set()

    async def wait(self) -> Reply:
        """Wait for the answer; the caller sets the deadline."""
        await self._answered.wait()
        assert self.reply is not None
        return self.reply


class LocalExchange:
    """One exchange: state changes through operations, everything else is reading.

    Args:
        settings: Markets, accounts, traders.
        seed: Of the synthetic traders.
        now_ns: The clock; under a virtual clock it must advance with Trio's.
        faults: What goes wrong.
        on_operation: Told every operation before it is applied; an append-only log of these is a full backup.
        log: Operations of an earlier run, applied again instead of listing markets and depositing anew.
    """

    def __init__(
        self,
        settings: ExchangeSettings,
        *,
        seed: int,
        now_ns: Callable[[], Nanos],
        faults: Faults,
        on_operation: Callable[[Nanos, Operation], None] | None = None,
        log: OperationLog = (),
    ) -> None:
        self.settings = settings
        self.faults = faults
        self.engine = Engine(settings.engine)
        self._now_ns = now_ns
        self._on_operation = on_operation
        self._flow = Flow.seeded(seed, settings.flow, settings.markets) if settings.flow else None
        self._broadcast = Broadcast(settings.stream_capacity, faults)
        self._scheduled: list[tuple[Nanos, int, Ticket]] = []
        self._schedule_count = 0
        self._alive_ns: dict[Account, Nanos] = {}
        self._due_ns: dict[str, Nanos | None] = {}
        self._wake = trio.Event()
        self._wakes_at_ns: Nanos | None = None
        self._begin(log)

    @classmethod
    def replay(
        cls,
        log: OperationLog,
        settings: ExchangeSettings,
        *,
        seed: int,
        now_ns: Callable[[], Nanos],
        faults: Faults,
        on_operation: Callable[[Nanos, Operation], None] | None = None,
    ) -> LocalExchange:
        """Rebuild an exchange from its operation log; a log cut off anywhere is continued.

        Nothing replayed is told to `on_operation` again. Synthetic traders find their orders on the book and go on.
        """
        return cls(settings, seed=seed, now_ns=now_ns, faults=faults, on_operation=on_operation, log=log)

    # --- changing ---------------------------------------------------------------------------------------------------

    def apply(self, operation: Operation) -> Reply:
        """Apply any operation now and publish what came of it.

        The methods below are the same for single operations, with the reply's type.
        """
        now_ns = self._now_ns()
        if isinstance(operation, PlaceOrder) and operation.course is Course.CONFIRM:
            course = self.faults.on_settlement()
            if course is not Course.CONFIRM:
                operation = msgspec.structs.replace(operation, course=course)
        if self._on_operation is not None:
            self._on_operation(now_ns, operation)
        reply, events = self.engine.apply(operation, now_ns)
        self._broadcast.publish(events, now_ns)
        self._wake_if_sooner(self.engine.next_due_ns())
        self._wake_if_sooner(self._broadcast.next_due_ns())
        return reply

    def place(self, order: PlaceOrder) -> Placed | Refused:
        """Place one order; `Refused.text` is Polymarket's error text."""
        reply = self.apply(order)
        assert isinstance(reply, Placed | Refused)
        return reply

    def cancel(self, account: Account, order_ids: Sequence[ExchangeOrderId]) -> CancelResult:
        """Cancel orders of one account by id."""
        reply = self.apply(CancelOrders(account=account, order_ids=tuple(order_ids)))
        assert isinstance(reply, CancelResult)
        return reply

    def cancel_all(
        self,
        account: Account,
        *,
        market_id: MarketId = ANY_MARKET,
        token_id: TokenId = ANY_TOKEN,
        reason: EndReason = EndReason.USER,
    ) -> CancelResult:
        """Cancel every open order of an account, or those of one market or token."""
        reply = self.apply(CancelEvery(account=account, market_id=market_id, token_id=token_id, reason=reason))
        assert isinstance(reply, CancelResult)
        return reply

    def deposit(self, account: Account, cash: Notional) -> Done | Refused:
        """Bring collateral in, or out when negative."""
        reply = self.apply(Deposit(account=account, cash=cash))
        assert isinstance(reply, Done | Refused)
        return reply

    def schedule(self, operation: Operation, due_ns: Nanos) -> Ticket:
        """Let an operation take effect later, whether or not its sender still lives then: a message in flight."""
        ticket = Ticket(operation)
        self._schedule_count += 1
        heapq.heappush(self._scheduled, (due_ns, self._schedule_count, ticket))
        self._wake_if_sooner(due_ns)
        return ticket

    def heartbeat(self, account: Account) -> None:
        """Arm or renew the dead-man switch of an account."""
        self._alive_ns[account] = self._now_ns()
        if self._due_ns.get("sweep") is None:
            self._due_ns["sweep"] = self._after(self.settings.sweep_s)
            self._wake_if_sooner(self._due_ns["sweep"])

    # --- reading ----------------------------------------------------------------------------------------------------

    def is_protected(self, account: Account) -> bool:
        """Tell whether the dead-man switch of an account is armed."""
        return account in self._alive_ns

    def markets(self) -> tuple[MarketRules, ...]:
        """List every market in order of listing, with its present tick."""
        return self.engine.markets()

    def order(self, order_id: ExchangeOrderId) -> OrderView | None:
        """Look up one order in any state; None = never taken."""
        return self.engine.order(order_id)

    def open_orders(self, account: Account) -> tuple[OrderView, ...]:
        """List the open orders of an account, oldest first."""
        return self.engine.open_orders(account)

    def trades(self, account: Account, since_ns: Nanos = EVER) -> tuple[Trade, ...]:
        """List trades of an account matched at or after a moment, oldest first, as they stand now."""
        return self.engine.trades_of(account, since_ns)

    def balances(self, account: Account) -> Balances:
        """Tell what the account can trade with now."""
        return self.engine.balances(account)

    def book(self, token_id: TokenId) -> BookView:
        """Show the whole book of one token.

        Raises:
            KeyError: No market has this token.
        """
        return self.engine.book(token_id)

    @contextmanager
    def market_stream(self, tokens: Sequence[TokenId]) -> Iterator[MarketStream]:
        """Subscribe to market events from now on; read the books with `book` in the same moment.

        The stream's `add` and `remove` change the subscription: pass `(token_id, market_id)` pairs from `pairs`.

        Raises:
            KeyError: No market has one of the tokens.
        """
        with self._broadcast.market_stream(self.pairs(tokens)) as stream:
            yield stream

    @contextmanager
    def account_stream(self, account: Account) -> Iterator[AccountStream]:
        """Subscribe to the private events of an account from now on."""
        with self._broadcast.account_stream(account) as stream:
            yield stream

    def pairs(self, tokens: Sequence[TokenId]) -> tuple[tuple[TokenId, MarketId], ...]:
        """Name the market of each token.

        Raises:
            KeyError: No market has one of the tokens.
        """
        return tuple((token_id, self.engine.market_of(token_id)) for token_id in tokens)

    def orders_of(self, account: Account) -> tuple[OrderView, ...]:
        """List every order an account ever placed, oldest first: material of an audit."""
        return self.engine.orders_of(account)

    def is_expecting(self) -> bool:
        """Tell whether operations are still in flight to the exchange."""
        return bool(self._scheduled)

    def dark_since_ns(self) -> Nanos | None:
        """Tell since when no market stream carries data: all are silent, or none is open; None = one does."""
        return self._broadcast.dark_since_ns(self._now_ns())

    def calm(self) -> None:
        """Send the synthetic traders home and inject no more faults; their resting orders stay."""
        self._flow = None
        self.faults.calm()
        self._due_ns.pop("cut", None)
        self._due_ns.pop("silence", None)

    # --- misbehaving ------------------------------------------------------------------------------------------------

    def cut_connections(self, reason: str) -> None:
        """End every stream now."""
        self.faults.count("connections_cut")
        self._broadcast.cut(reason)

    def silence(self, seconds: float) -> None:
        """Send no data on the market streams open now; they stay open and end their silence with whole books."""
        self.faults.count("market_silence")
        until_ns = self._after(seconds)
        self._broadcast.freeze(until_ns)
        self._due_ns["thaw"] = until_ns
        self._wake_if_sooner(until_ns)

    # --- time -------------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Drive everything that time does: traders, settlement, expiries, faults, messages in flight. Never returns."""
        now_ns = self._now_ns()
        self._due_ns["cut"] = self.faults.next_cut_ns(now_ns)
        self._due_ns["silence"] = self.faults.next_silence_ns(now_ns)
        task_status.started()
        while True:
            self.step()
            await self._sleep_until(self.next_ns())

    def next_ns(self) -> Nanos | None:
        """When something is due next; None = nothing ever, unless somebody acts."""
        dues = [due for due in self._due_ns.values() if due is not None]
        dues += [due for due in (self.engine.next_due_ns(), self._broadcast.next_due_ns()) if due is not None]
        if self._flow is not None:
            dues.append(self._flow.next_ns)
        if self._scheduled:
            dues.append(self._scheduled[0][0])
        return min(dues, default=None)

    def step(self) -> None:
        """Do everything due now. Called by `run`; without Trio a plain loop may call it."""
        now_ns = self._now_ns()
        while self._scheduled and self._scheduled[0][0] <= now_ns:
            ticket = heapq.heappop(self._scheduled)[2]
            ticket.answer(self.apply(ticket.operation))
        engine_due_ns = self.engine.next_due_ns()
        if engine_due_ns is not None and engine_due_ns <= now_ns:
            self.apply(Advance())
        while self._flow is not None and self._flow.next_ns <= now_ns:
            for operation in self._flow.step(self.engine, now_ns):
                self.apply(operation)
        self._broadcast.deliver_delayed(now_ns)
        self._misbehave(now_ns)

    def _misbehave(self, now_ns: Nanos) -> None:
        for name, due_ns in tuple(self._due_ns.items()):
            if due_ns is not None and due_ns <= now_ns:
                self._due_ns[name] = self._on_due(name, now_ns)

    # One table row a timer: what it does, and when it is due again.
    def _on_due(self, name: str, now_ns: Nanos) -> Nanos | None:
        match name:
            case "cut":
                self.cut_connections("connection reset")
                return self.faults.next_cut_ns(now_ns)
            case "silence":
                self.silence(self.faults.settings.silence_s)
                return self.faults.next_silence_ns(now_ns)
            case "thaw":
                self._broadcast.thaw(self.engine.book, now_ns)
                return self._broadcast.next_thaw_ns()
            case _:
                return self._sweep(now_ns)

    def _sweep(self, now_ns: Nanos) -> Nanos | None:
        limit_ns = int(self.settings.dead_man_s * NANOS_PER_S)
        for account, alive_ns in tuple(self._alive_ns.items()):
            if now_ns - alive_ns >= limit_ns:
                del self._alive_ns[account]
                self.cancel_all(account, reason=EndReason.HEARTBEAT)
        return self._after(self.settings.sweep_s) if self._alive_ns else None

    def _begin(self, log: OperationLog) -> None:
        replayed = 0
        for now_ns, operation in log:
            self.engine.apply(operation, now_ns)
            replayed += 1
        for operation in self._opening()[replayed:]:
            self.apply(operation)

    # Operations that open the exchange come first in every log, so a log shorter than this list is continued with it.
    def _opening(self) -> list[Operation]:
        opening: list[Operation] = [OpenMarket(rules=rules) for rules in self.settings.markets]
        opening += [Deposit(account=Account(a.name), cash=Notional(a.cash_usd * MICRO)) for a in self.settings.accounts]
        if self._flow is not None:
            opening += self._flow.opening()
        return opening

    def _after(self, seconds: float) -> Nanos:
        return Nanos(self._now_ns() + int(seconds * NANOS_PER_S))

    def _wake_if_sooner(self, due_ns: Nanos | None) -> None:
        if due_ns is not None and (self._wakes_at_ns is None or due_ns < self._wakes_at_ns):
            self._wake.set()

    async def _sleep_until(self, due_ns: Nanos | None) -> None:
        self._wake = trio.Event()
        self._wakes_at_ns = due_ns
        # One nanosecond more, so that rounding to Trio's float seconds cannot wake us just too early for ever.
        wait_s = float("inf") if due_ns is None else max(0.0, (due_ns + 1 - self._now_ns()) / NANOS_PER_S)
        with trio.move_on_after(wait_s):
            await self._wake.wait()
        self._wakes_at_ns = None
