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
from tbot.errors import ConfigError
from tbot.exchanges.simulated.broadcast import Broadcast
from tbot.exchanges.simulated.checks import IMMEDIATE, TEXT_CRASHED
from tbot.exchanges.simulated.events import Balances, BookView, OrderView, Trade
from tbot.exchanges.simulated.fault_catalogue import Fault
from tbot.exchanges.simulated.fault_switches import FaultOrder
from tbot.exchanges.simulated.fault_targets import Targets
from tbot.exchanges.simulated.faults import Faults
from tbot.exchanges.simulated.flow import Flow
from tbot.exchanges.simulated.matching import Engine
from tbot.exchanges.simulated.misbehaviour import Misbehaviour
from tbot.exchanges.simulated.modes import Modes
from tbot.exchanges.simulated.operations import (
    ANY_OWNER,
    EVER,
    Account,
    Advance,
    CancelEvery,
    CancelOrders,
    CancelResult,
    ChangeMode,
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
from tbot.exchanges.simulated.tickets import HeldOrders, Ticket

OperationLog = Iterable[tuple[Nanos, Operation]]


class LocalExchange:
    """One exchange: state changes through operations, everything else is reading.

    Args:
        settings: Markets, accounts, traders.
        seed: Of the synthetic traders.
        now_ns: The clock; under a virtual clock it must advance with Trio's.
        faults: What goes wrong.
        on_operation: Told every operation before it is applied; an append-only log of these is a full backup.
        log: Operations of an earlier run, applied again instead of listing markets and depositing anew.

    Attributes:
        targets: What a fault can strike; whoever serves accounts of its own makes them known there.

    Raises:
        ConfigError: A fault of the script has a target that it could not strike.
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
        self._flow = Flow.seeded(seed, settings.flow, settings.markets) if settings.flow else None
        self.engine = Engine(settings.engine, crowd=self._flow.accounts() if self._flow else ())
        self._held = HeldOrders(self.engine)
        self._now_ns = now_ns
        self._on_operation = on_operation
        self._broadcast = Broadcast(settings.stream_capacity, faults)
        self.modes = Modes()
        self.targets = Targets(self.engine)
        self.targets.has_wallet.append(self.engine.ledger.has_account)
        self._misbehaviour = Misbehaviour(faults, self.engine, self._broadcast, self.modes, self.apply)
        self._scheduled: list[tuple[Nanos, int, Ticket]] = []
        self._schedule_count = 0
        self._alive_ns: dict[tuple[Account, str], Nanos] = {}
        self._sweep_ns: Nanos | None = None
        self._wake = trio.Event()
        self._wakes_at_ns: Nanos | None = None
        self._on_crash: Callable[[Exception], None] | None = None
        self._begin(log)
        self._read_script()

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
        self._keep_mode()
        now_ns = self._now_ns()
        if isinstance(operation, PlaceOrder) and operation.course is Course.CONFIRM:
            course = self._misbehaviour.course(operation)
            if course is not Course.CONFIRM:
                operation = msgspec.structs.replace(operation, course=course)
        return self._do(operation, now_ns)

    def _do(self, operation: Operation, now_ns: Nanos) -> Reply:
        if self._on_operation is not None:
            self._on_operation(now_ns, operation)
        reply, events = self.engine.apply(operation, now_ns)
        self._broadcast.publish(events, now_ns)
        self._held.answer_released()
        self._wake_if_sooner(self.engine.next_due_ns())
        self._wake_if_sooner(self._broadcast.next_due_ns())
        return reply

    def place(self, order: PlaceOrder) -> Placed | Refused:
        """Place one order; `Refused.text` is Polymarket's error text. A held order is answered as DELAYED."""
        reply = self._misbehaviour.refusal(order) or self.apply(order)
        assert isinstance(reply, Placed | Refused)
        return reply

    def delayed(self, order: PlaceOrder, keys: Callable[[], tuple[str, ...]]) -> PlaceOrder:
        """Give an order about to be placed, with the delay of a fault if one strikes it.

        Args:
            order: Only a FAK or FOK that would take can be struck: any other never waits for the book.
            keys: Names what the fault may be aimed at; asked only where one may strike.
        """
        # Whether it would take costs a plan, so it is not asked for nothing.
        if order.order_type not in IMMEDIATE or not self.faults.is_delaying():
            return order
        is_let_in = self._misbehaviour.refusal(order) is None
        if not (is_let_in and self.engine.would_take(order) and self.faults.on_immediate(*keys())):
            return order
        return msgspec.structs.replace(order, delay_ns=int(self.faults.settings.delayed_s * NANOS_PER_S))

    async def verdict(self, order: PlaceOrder, reply: Placed | Refused) -> Placed | Refused:
        """Wait for the final answer to an order just placed, in a market that makes its sender wait.

        Args:
            order: What was placed.
            reply: Of `place`; returned at once unless the order is held by a delay in milliseconds.
        """
        ticket = Ticket(order)
        self._held.answer_or_keep(ticket, reply)
        verdict = await ticket.wait()
        assert isinstance(verdict, Placed | Refused)
        return verdict

    def cancel(self, account: Account, order_ids: Sequence[ExchangeOrderId]) -> CancelResult:
        """Cancel orders of one account by id."""
        reply = self.apply(CancelOrders(account=account, order_ids=tuple(order_ids)))
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

    def heartbeat(self, account: Account, *, owner: str = ANY_OWNER) -> None:
        """Arm or renew the dead-man switch of an account, or of those of its orders that one API key sent."""
        self._alive_ns[account, owner] = self._now_ns()
        if self._sweep_ns is None:
            self._sweep_ns = self._after(self.settings.sweep_s)
            self._wake_if_sooner(self._sweep_ns)

    # --- reading ----------------------------------------------------------------------------------------------------

    def is_protected(self, account: Account) -> bool:
        """Tell whether an armed dead-man switch stands behind every open order of an account."""
        armed = {owner for holder, owner in self._alive_ns if holder == account}
        senders = {order.owner for order in self.open_orders(account)}
        return bool(armed) and (ANY_OWNER in armed or senders <= armed)

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

    def shown_balances(self, account: Account) -> Balances:
        """Tell what an account can trade with as the exchange's cache knows it, which may be stale."""
        return self._misbehaviour.shown_balances(account)

    def refresh_balances(self, account: Account) -> None:
        """Bring the cache of one account up to date."""
        self._misbehaviour.refresh_balances(account)

    def calm(self) -> None:
        """Send the synthetic traders home and inject no more faults; their resting orders stay."""
        self._flow = None
        self._misbehaviour.calm()

    # --- misbehaving ------------------------------------------------------------------------------------------------

    def misbehave(self, order: FaultOrder) -> None:
        """Let a fault begin, now or at its time.

        Raises:
            ValueError: Its target is nothing that the fault could strike.
        """
        self._misbehaviour.order(self.targets.aimed(order), self._now_ns())
        self._wake_if_sooner(self._misbehaviour.next_ns())

    def behave(self, fault: Fault) -> None:
        """End a fault that is on."""
        self._misbehaviour.lift(fault, self._now_ns())

    def coarsen(self, token_id: str) -> None:
        """Change the tick of a token's market under an order in flight."""
        self._misbehaviour.coarsen(token_id, self._now_ns())
        self._wake_if_sooner(self._misbehaviour.next_ns())

    def cut_connections(self, reason: str) -> None:
        """End every stream now."""
        self.faults.count(Fault.CONNECTION_CUT)
        self._broadcast.cut(reason)

    def silence(self, seconds: float) -> None:
        """Send no data on the market streams open now; they stay open and end their silence with whole books."""
        self.misbehave(FaultOrder(name=Fault.SILENT_FEED, seconds=seconds))

    # --- time -------------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Drive everything that time does: traders, settlement, expiries, faults, messages in flight. Never returns."""
        self.faults.begin(self._now_ns())
        task_status.started()
        while True:
            self.step()
            await self._sleep_until(self.next_ns())

    def contain(self, on_crash: Callable[[Exception], None]) -> None:
        """Go on after a bug met by something timed, and tell of it; without this `run` ends with its error.

        What is given up is the one order, settlement or operation that met it. For a server to strangers: a simulation
        is to end.
        """
        self._on_crash = self.engine.on_crash = on_crash

    def next_ns(self) -> Nanos | None:
        """When something is due next; None = nothing ever, unless somebody acts."""
        others = (
            self.engine.next_due_ns(),
            self._broadcast.next_due_ns(),
            self._misbehaviour.next_ns(),
            self.modes.next_ns(self._now_ns()),
        )
        dues = [due for due in (*others, self._sweep_ns) if due is not None]
        if self._flow is not None:
            dues.append(self._flow.next_ns)
        if self._scheduled:
            dues.append(self._scheduled[0][0])
        return min(dues, default=None)

    def step(self) -> None:
        """Do everything due now. Called by `run`; without Trio a plain loop may call it."""
        now_ns = self._now_ns()
        self._keep_mode()
        while self._scheduled and self._scheduled[0][0] <= now_ns:
            with self._contained():
                self._arrive(heapq.heappop(self._scheduled)[2])
        engine_due_ns = self.engine.next_due_ns()
        if engine_due_ns is not None and engine_due_ns <= now_ns:
            self.apply(Advance())
        # In a restricted mode the engine refuses the crowd like anybody else.
        while self._flow is not None and self._flow.next_ns <= now_ns:
            for operation in self._flow.step(self.engine, now_ns):
                with self._contained():
                    self.apply(operation)
        self._broadcast.deliver_delayed(now_ns)
        self._misbehaviour.step(now_ns)
        self._keep_mode()
        if self._sweep_ns is not None and self._sweep_ns <= now_ns:
            self._sweep_ns = self._sweep(now_ns)

    # The engine is told of its mode by an operation, so that the log of operations replays what it refused.
    def _keep_mode(self) -> None:
        now_ns = self._now_ns()
        mode = self.modes.current(now_ns)
        if mode is not self.engine.mode:
            self._do(ChangeMode(mode=mode), now_ns)

    def _arrive(self, ticket: Ticket) -> None:
        operation = ticket.operation
        try:
            reply = self.place(operation) if isinstance(operation, PlaceOrder) else self.apply(operation)
        except Exception:
            ticket.answer(Refused(text=TEXT_CRASHED))
            raise
        self._held.answer_or_keep(ticket, reply)

    @contextmanager
    def _contained(self) -> Iterator[None]:
        try:
            yield
        # As at the server's edge: a bug met by one operation must not end the exchange under everybody else.
        except Exception as crash:
            if self._on_crash is None:
                raise
            self._on_crash(crash)

    def _sweep(self, now_ns: Nanos) -> Nanos | None:
        limit_ns = int(self.settings.dead_man_s * NANOS_PER_S)
        for (account, owner), alive_ns in tuple(self._alive_ns.items()):
            if now_ns - alive_ns >= limit_ns:
                del self._alive_ns[account, owner]
                with self._contained():
                    self.apply(CancelEvery(account=account, owner=owner, reason=EndReason.HEARTBEAT))
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

    def _read_script(self) -> None:
        settings = self.faults.settings
        try:
            script = tuple(self.targets.aimed(order, is_ahead=True) for order in settings.script)
        except ValueError as error:
            raise ConfigError(f"faults.script: {error}") from error
        self.faults.settings = msgspec.structs.replace(settings, script=script)

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
