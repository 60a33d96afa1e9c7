"""The task around the coordinator: messages in, records to the journal, commands out, views published.

All of one wake-up is absorbed, then decided on once. The journal gets the records before anybody gets the commands, and
takes them in order, so a command whose order reached the exchange is always on record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import msgspec
import structlog
import trio

from tbot.core.account import EMPTY_STATE, Account, CoordinatorState
from tbot.core.coordinator import Coordinator
from tbot.core.decide import COMMANDS_MAX
from tbot.core.market import Market, TokenId, market_named, nameless_of
from tbot.core.messages import (
    AccountView,
    CancelOrder,
    Command,
    ExchangeOrderId,
    ExchangeReport,
    Fact,
    Halt,
    MarketChanged,
    Message,
    OrderExposure,
    Prepared,
    Quotes,
    RequestReport,
    ResendOrder,
    Snapshot,
    Stop,
    SubmitOrder,
    TopOfBook,
)
from tbot.core.orders import OrderStatus
from tbot.core.reconcile import news_of
from tbot.core.risk import RiskLimits
from tbot.core.units import NANOS_PER_S, Nanos
from tbot.errors import StateCorrupt
from tbot.store.rows import Loaded
from tbot.tasks.checkpointer import SLOT_KEY, StateReached
from tbot.tasks.clock import trio_deadline
from tbot.tasks.conflator import Conflator, Hub
from tbot.tasks.inbox import Inbox
from tbot.tasks.journal import JournalClient
from tbot.tasks.supervisor import TaskContext

log = structlog.get_logger()

CANCELS = "cancels"
SUBMITS = "submits"
# What one turn can decide; the lanes are never waited for, what does not fit is decided again next turn.
DISPATCH_LANES = {CANCELS: COMMANDS_MAX, SUBMITS: COMMANDS_MAX}
BEAT_S = 1.0
# While stopping, every second counts: replies wake the coordinator, but some things only time settles.
STOPPING_BEAT_S = 0.1
SNAPSHOT_EVERY_NS = NANOS_PER_S
# A state copies an hour of orders (some milliseconds), so it is made about as often as it is saved.
STATE_EVERY_NS = 5 * NANOS_PER_S
# Slower than this, the journal is in trouble and only cancels go out (see `_room_to_submit`).
JOURNAL_SLOW_S = 1.0

Entry = Fact | Command | TopOfBook | Quotes
_encoder = msgspec.msgpack.Encoder()
_entries = msgspec.msgpack.Decoder(Entry)
_prepared = msgspec.msgpack.Decoder(Prepared)
_states = msgspec.msgpack.Decoder(CoordinatorState)


@dataclass(frozen=True, kw_only=True)
class CoordinatorPorts:
    """Where the coordinator's messages come from and go to, one set an incarnation of the desk.

    Attributes:
        inbox: Its own.
        dispatcher: Lanes `DISPATCH_LANES`.
        reconciler: Takes `RequestReport` as a state.
        accounts: Views for the strategies, by token.
        exposures: For the desk's shell: which orders may rest.
        checkpoints: Newest durable state, for the checkpointer.
        snapshots: Newest description, for people, under "snapshot".
        alive: Called when a turn is done.
    """

    inbox: Inbox
    dispatcher: Inbox
    reconciler: Inbox
    accounts: Hub[TokenId, AccountView]
    exposures: Conflator[ExchangeOrderId, OrderExposure]
    checkpoints: Conflator[str, StateReached[CoordinatorState]]
    snapshots: Conflator[str, Snapshot]
    journal: JournalClient
    alive: Callable[[], None]


@dataclass(kw_only=True)
class CoordinatorTask:
    """Body of the coordinator's task; `run` is given to the supervisor.

    Attributes:
        limits: As configured.
        open_orders_max: Most orders that could be cancelled at once, as known at the start; the dispatcher tells news.
    """

    ports: CoordinatorPorts
    markets: tuple[Market, ...]
    limits: RiskLimits
    open_orders_max: int
    now_ns: Callable[[], Nanos]
    make: Callable[..., Coordinator] = Coordinator
    _seq: int = field(default=0, init=False)
    _snapshot_ns: int = field(default=0, init=False)
    _state_ns: int = field(default=0, init=False)
    _views: dict[TokenId, AccountView] = field(default_factory=dict, init=False)
    _exposed: dict[ExchangeOrderId, bool] = field(default_factory=dict, init=False)
    _append_s: float = field(default=0.0, init=False)
    _is_told_to_stop: bool = field(default=False, init=False)
    _halt_told: str = field(default="", init=False)

    async def run(self, ctx: TaskContext) -> None:
        """Recover, then serve until stopped and quiet.

        Raises:
            StateCorrupt: The journal holds what this version cannot read.
            trio.BrokenResourceError: The journal is gone.
        """
        with self.ports.inbox:
            core = await self._recover()
            self._publish(core, self.now_ns())
            ctx.started()
            while not (self._is_told_to_stop and core.is_quiet):
                await ctx.beat()
                await self._turn(core, ctx)
            self._publish(core, self.now_ns(), is_last=True)

    async def _recover(self) -> Coordinator:
        loaded = await self.ports.journal.load()
        now_ns = self.now_ns()
        core = rebuild(loaded, self.markets, self.limits, self.make)
        core.account.afford(self.open_orders_max)  # after the replay, which may have heard of another time's limit
        self._seq = loaded.record_seq
        facts = core.recover([_prepared.decode(row.payload) for row in loaded.prepared], now_ns)
        await self._append(facts, now_ns)
        core.account.news()  # what the replay found was told when it happened
        log.info("coordinator.recovered", epoch=loaded.epoch, records=len(loaded.records), orders=len(core.orders))
        return core

    async def _turn(self, core: Coordinator, ctx: TaskContext) -> None:
        batch = await self.ports.inbox.take(self._deadline(core, ctx))
        now_ns = self.now_ns()
        if ctx.stop.is_set() and not self._is_told_to_stop:
            self._is_told_to_stop = True
            batch = (Stop(at_ns=now_ns), *batch)
        batch = tuple(news_of(m, core.account.ledger) if isinstance(m, ExchangeReport) else m for m in batch)
        for message in batch:
            core.absorb(message, now_ns)  # type: ignore[arg-type]  # an inbox carries what its senders may send
        commands = core.decide(now_ns, cancels_max=self._room(CANCELS), submits_max=self._room_to_submit(core))
        await self._append([*filter(_is_fact, batch), *_with_causes(core, commands)], now_ns)
        for command in commands:
            self._dispatch(command)
        self._publish(core, now_ns, has_views=not _leaves_views_alone(batch, commands))
        self.ports.alive()

    def _deadline(self, core: Coordinator, ctx: TaskContext) -> float:
        now_ns = self.now_ns()
        due = trio_deadline(core.wake_ns(now_ns), now_ns)
        return min(due, trio.current_time() + (STOPPING_BEAT_S if ctx.stop.is_set() else BEAT_S))

    def _room(self, lane: str) -> int:
        statistics = self.ports.dispatcher.statistics().lanes[lane]
        return statistics.size - statistics.depth

    def _room_to_submit(self, core: Coordinator) -> int:
        """Count the submits that may be decided now: none while the journal is slow, cancels go out all the same."""
        if max(self._append_s, self.ports.journal.lag_s) > JOURNAL_SLOW_S:
            return 0
        # Neither signed nor refused: it waits at the dispatcher, in the lane or behind those on the wire. Copies too.
        waiting = sum(o.status is OrderStatus.INTENDED or o.is_resending for o in core.orders.active())
        return max(0, min(self._room(SUBMITS), DISPATCH_LANES[SUBMITS] - waiting))

    async def _append(self, messages: Iterable[Message], now_ns: Nanos) -> None:
        """Hand the records to the journal; wait while its queue is full, for a command must not overtake its record."""
        began = trio.current_time()
        for message in messages:
            self._seq += 1
            payload = _encoder.encode(message)
            await self.ports.journal.append(type(message).__name__, payload, seq=self._seq, at_ns=now_ns)
        self._append_s = trio.current_time() - began

    def _dispatch(self, command: Command) -> None:
        match command:
            case SubmitOrder() | ResendOrder():
                self.ports.dispatcher.send_nowait(SUBMITS, command)
            case CancelOrder():
                self.ports.dispatcher.send_nowait(CANCELS, command)
            case RequestReport():
                self.ports.reconciler.put_state("request", command)
            case Halt():
                pass  # it concerns nobody else, and is told like every other halt, by `_publish`

    def _publish(self, core: Coordinator, now_ns: Nanos, *, has_views: bool = True, is_last: bool = False) -> None:
        for text in core.account.news():
            log.warning("coordinator.note", text=text)
        if core.account.halt_reason != self._halt_told:
            self._halt_told = core.account.halt_reason
            if self._halt_told:
                log.critical("trading.halted", reason=self._halt_told)
        if has_views:
            self._publish_views(core, now_ns)
        self._publish_exposures(core)
        if is_last or now_ns - self._snapshot_ns >= SNAPSHOT_EVERY_NS:
            self._snapshot_ns = now_ns
            self.ports.snapshots.put("snapshot", core.account.snapshot(now_ns))
        if is_last or now_ns - self._state_ns >= STATE_EVERY_NS:
            self._state_ns = now_ns
            self.ports.checkpoints.put(SLOT_KEY, StateReached(seq=self._seq, at_ns=now_ns, state=core.state()))

    def _publish_views(self, core: Coordinator, now_ns: Nanos) -> None:
        for view in core.account.views(now_ns):
            known = self._views.get(view.token_id)
            if known is None or msgspec.structs.replace(known, at_ns=now_ns) != view:
                self._views[view.token_id] = view
                self.ports.accounts.publish(view.token_id, view)

    def _publish_exposures(self, core: Coordinator) -> None:
        exposed = {o.exchange_order_id: True for o in core.orders.active() if o.exchange_order_id is not None}
        for order_id in [i for i in self._exposed if i not in exposed]:
            self.ports.exposures.discard(order_id)
        for order_id in [i for i in exposed if i not in self._exposed]:
            self.ports.exposures.put(order_id, OrderExposure(exchange_order_id=order_id))
        self._exposed = exposed


def encode_state(state: CoordinatorState) -> bytes:
    """Turn a state into the payload of a checkpoint; `rebuild` reads it."""
    return _encoder.encode(state)


def decode_state(payload: bytes) -> CoordinatorState:
    """Read the payload of a checkpoint."""
    return _states.decode(payload)


def decode_entry(payload: bytes) -> Entry:
    """Read one record of the journal."""
    entry: Entry = _entries.decode(payload)
    return entry


def decode_prepared(payload: bytes) -> Prepared:
    """Read a prepared order, from its own row or from the record of having heard of it."""
    return _prepared.decode(payload)


def rebuild(
    loaded: Loaded, markets: tuple[Market, ...], limits: RiskLimits, make: Callable[..., Coordinator] = Coordinator
) -> Coordinator:
    """Make the coordinator of a checkpoint and the records after it.

    Raises:
        StateCorrupt: A row does not decode.
    """
    try:
        state = _states.decode(loaded.checkpoint.payload) if loaded.checkpoint is not None else EMPTY_STATE
        core = make(Account(markets, limits, state), epoch=loaded.epoch)
        for row in loaded.records:
            core.replay(_entries.decode(row.payload), row.at_ns)
    except msgspec.DecodeError as error:
        raise StateCorrupt(
            f"the journal holds a row that this version cannot read ({error}); "
            "start with the version that wrote it, or move the state folder away"
        ) from error
    return core


def rebuild_alone(loaded: Loaded, limits: RiskLimits) -> Coordinator:
    """Make the coordinator of a journal for people, asking nobody: markets are known by their names alone.

    One that joined after the checkpoint has no name here; what the exchange told of its tokens counts all the same.

    Raises:
        StateCorrupt: A row does not decode.
    """
    try:
        names = _states.decode(loaded.checkpoint.payload).markets if loaded.checkpoint is not None else ()
        named = {token: name for name in names for token in (name.yes, name.no)}
        nameless = [nameless_of(token) for token in _tokens_told(loaded) if token not in named]
    except msgspec.DecodeError:
        names, nameless = (), []  # which `rebuild` says
    return rebuild(loaded, tuple(map(market_named, [*names, *nameless])), limits)


def _tokens_told(loaded: Loaded) -> dict[TokenId, None]:
    """List the tokens of which reports since the checkpoint told a balance, in order."""
    rows = (row for row in loaded.records if row.kind == ExchangeReport.__name__)
    reports = (_entries.decode(row.payload) for row in rows)
    told = (token for report in reports if isinstance(report, ExchangeReport) for token, _ in report.balances)
    return dict.fromkeys(told)


def _is_fact(message: Message) -> bool:
    # Prepared is on record already, in its own table, before we hear of it; replaying it from here too keeps its place.
    # So are terms: they shape decisions, and those are on record.
    return not isinstance(message, TopOfBook | Quotes | MarketChanged)


def _leaves_views_alone(batch: Iterable[Message], commands: Iterable[Command]) -> bool:
    """Tell whether no account view can have changed: they show holdings, cash and mode, and no orders or prices.

    Most turns between a price and its order are such, and the views of hundreds of tokens would take longer than the
    rest of the turn.
    """
    return all(isinstance(m, TopOfBook | Quotes | Prepared) for m in batch) and not any(
        isinstance(c, Halt) for c in commands
    )


def _with_causes(core: Coordinator, commands: Iterable[Command]) -> Iterable[Message]:
    """Put before each submit and each copy the views that caused it; questions are states and not recorded."""
    for command in commands:
        if isinstance(command, RequestReport):
            continue
        if isinstance(command, SubmitOrder | ResendOrder):
            order = core.orders.of_client(command.client_order_id)
            assert order is not None, "a command is applied before it is told"
            top = core.account.tops.get(order.token_id)
            quotes = core.account.quotes.get((order.strategy, order.token_id))
            yield from (cause for cause in (top, quotes) if cause is not None)
        yield command
