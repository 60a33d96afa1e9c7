"""Bot and local exchange in one run, and the judge over both.

The bot does not know where it is: it gets a gateway and a clock like anywhere else. At `max` speed both live in virtual
time and in memory; at `real` speed they are two supervised parts that meet over loopback sockets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import trio

from tbot.core.market import Market
from tbot.core.messages import Prepared, Settlement, Snapshot
from tbot.core.units import Nanos, Notional
from tbot.errors import TbotError
from tbot.exchanges.simulated.exchange import LocalExchange
from tbot.exchanges.simulated.operations import Account, Mode
from tbot.simulation.audit import Evidence, Testimony, audit
from tbot.simulation.chaos import Chaos
from tbot.simulation.reach import GatewayFactory, Reach
from tbot.simulation.watch import Watch
from tbot.store.journal import Store
from tbot.store.rows import Loaded, RecordRow
from tbot.tasks.coordinator import decode_entry, decode_prepared, decode_state, rebuild
from tbot.tasks.desk import BotParts, bot_tree
from tbot.tasks.market_feed import HEALTH_KEY, Connects
from tbot.tasks.supervisor import Child, Policy, TaskContext, describe, keep, supervise

PAGE = 2_000
WATCH_S = 1.0
# After the traders fell silent: a late submit lands after 30 s, an order that never landed is given up after 60 s.
WIND_DOWN_MAX_S = 150.0
HASTY_WIND_DOWN_S = 5.0
# Two rounds of the reconciler after the last change at the exchange; without faults pushed events are enough.
CALM_WITH_FAULTS_S = 12.0
CALM_S = 1.0
# Together with the hasty wind-down the 20 s that an operator's stop may take.
STOP_WITHIN_S = 15.0


@dataclass(kw_only=True)
class World:
    """Everything of one run.

    Attributes:
        account: The bot's account at the exchange.
        reach: How the bot reaches the exchange.
        make_parts: Makes the bot, given how to reach the exchange.
        policy: Restart policy of the bot's tree; carries chaos and counters.
        exchange_policy: Restart policy of the exchange's part.
        store: The bot's journal; outlives the bot.
        deposited: All collateral the account ever got.
        hasten: Ends the run early when set (an operator's stop).
        calm_s: How long nothing may happen before the run counts as wound down.
        began_ns: When the run began.
        on_look: Called once a second.
    """

    exchange: LocalExchange
    account: Account
    reach: Reach
    make_parts: Callable[[GatewayFactory], BotParts]
    policy: Policy
    exchange_policy: Policy
    chaos: Chaos | None
    watch: Watch
    store: Store
    now_ns: Callable[[], Nanos]
    deposited: Notional
    duration_s: float
    hasten: trio.Event
    calm_s: float
    began_ns: Nanos
    on_look: Callable[[], None] = lambda: None
    findings: list[str] = field(default_factory=list, init=False)
    failure: Exception | None = field(default=None, init=False)
    parts: BotParts | None = field(default=None, init=False)
    snapshot: Snapshot | None = field(default=None, init=False)
    connects: Connects = field(default_factory=Connects, init=False)
    is_feed_connected: bool = field(default=False, init=False)

    def faults(self) -> dict[str, int]:
        """Count everything that was made to go wrong, by kind."""
        return self.exchange.faults.faults_injected | (self.chaos.counts if self.chaos is not None else {})


async def live(world: World) -> None:
    """Run the world until its time is over and the bot has stopped; what went wrong is left in it.

    When the exchange's part cannot begin (a port is taken), `parts` stays None and `failure` says why.
    """
    stop = trio.Event()
    ready, reached = trio.open_memory_channel[GatewayFactory](math.inf)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_exchange_part, world, stop, ready)
        try:
            open_gateway = await reached.receive()
        except trio.EndOfChannel:
            nursery.cancel_scope.cancel()
        else:
            world.parts = world.make_parts(open_gateway)
            await _trade(world, world.parts)
            stop.set()
            nursery.cancel_scope.cancel()


async def _exchange_part(world: World, stop: trio.Event, ready: trio.MemorySendChannel[GatewayFactory]) -> None:
    """Keep exchange and server up; the exchange's own state outlives a restart of the part."""

    async def body(ctx: TaskContext) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(world.exchange.run)
            async with world.reach() as open_gateway:
                ready.send_nowait(open_gateway)
                ctx.started()
                await ctx.stop.wait()
            nursery.cancel_scope.cancel()

    async with ready:
        try:
            await supervise(keep(Child("exchange", body), world.exchange_policy), stop, world.exchange_policy)
        except TbotError as error:
            world.failure = error
            world.findings.append(f"the exchange gave up: {describe(error)}")


async def _trade(world: World, parts: BotParts) -> None:
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_observe, world, parts)
        nursery.start_soon(_timetable, world, stop)
        try:
            await supervise(bot_tree(parts, world.policy), stop, world.policy, stop_within_s=STOP_WITHIN_S)
        except TbotError as error:
            world.failure = error
            world.findings.append(f"the bot gave up: {describe(error)}")
        nursery.cancel_scope.cancel()
    _note(world, parts)


async def _timetable(world: World, stop: trio.Event) -> None:
    with trio.move_on_after(world.duration_s):
        await world.hasten.wait()
    if world.chaos is not None:
        world.chaos.disarm()
    world.exchange.calm()
    with trio.move_on_after(HASTY_WIND_DOWN_S if world.hasten.is_set() else WIND_DOWN_MAX_S):
        await _until_calm(world)
    stop.set()


async def _until_calm(world: World) -> None:
    """Wait until nothing is in flight between bot and exchange, and the bot had time to hear of everything."""
    calm_since = trio.current_time()
    while trio.current_time() - calm_since < world.calm_s:
        await trio.sleep(0.5)
        if not _is_calm(world):
            calm_since = trio.current_time()


def _is_calm(world: World) -> bool:
    trades = world.exchange.trades(world.account)
    are_final = all(t.settlement in (Settlement.CONFIRMED, Settlement.FAILED) for t in trades)
    orders = world.snapshot.orders if world.snapshot is not None else ()
    # While the engine restarts no cancel is taken, and orders would stay behind.
    is_up = world.exchange.modes.current(world.now_ns()) is not Mode.RESTARTING
    return are_final and is_up and not world.exchange.is_expecting() and all(o.status != "UNKNOWN" for o in orders)


async def _observe(world: World, parts: BotParts) -> None:
    while True:
        await trio.sleep(WATCH_S)
        world.watch.look(world.now_ns())
        _note(world, parts)
        world.on_look()


def _note(world: World, parts: BotParts) -> None:
    """Take the newest states; the counters of the feed begin anew with each incarnation of the desk."""
    world.snapshot = parts.snapshots.take_nowait().get("snapshot", world.snapshot)
    health = parts.health.take_nowait().get(HEALTH_KEY)
    if health is not None:
        world.connects.see(health.connects)
        world.is_feed_connected = health.is_connected


def judge(world: World, markets: tuple[Market, ...], records: tuple[RecordRow, ...]) -> tuple[str, ...]:
    """Compare what the exchange and the bot's journal say; call when the bot has stopped.

    A bot that gave up is judged on what it left: its cancelled orders and its journal.

    Args:
        world: After its run.
        markets: The bot's reference data.
        records: The whole journal.
    """
    assert world.parts is not None
    loaded = world.store.load()
    if loaded.checkpoint is None:
        return (*world.findings, *world.watch.findings, "the bot left no checkpoint")
    replayed = rebuild(_from_nothing(loaded, records), markets, world.parts.limits, world.parts.make_coordinator)
    core = rebuild(loaded, markets, world.parts.limits, world.parts.make_coordinator)
    live_state = core.state() if loaded.records else decode_state(loaded.checkpoint.payload)
    testimony = Testimony(
        snapshot=core.account.snapshot(world.now_ns()),
        told=_last_word(world, records),
        live=live_state,
        replayed=replayed.state(),
        prepared={p.exchange_order_id: p for p in prepared_of(loaded, records)},
        history=tuple(decode_entry(record.payload) for record in records),
        has_ended_in_order=world.failure is None,
    )
    return (*world.findings, *world.watch.findings, *audit(_evidence(world), testimony))


def all_records(store: Store) -> Iterator[RecordRow]:
    """Read the whole journal, page by page."""
    seq = 0
    while page := store.records(after_seq=seq, limit=PAGE):
        yield from page
        seq = page[-1].seq


def prepared_of(loaded: Loaded, records: tuple[RecordRow, ...]) -> Iterator[Prepared]:
    """Give every order made durable before it was sent: by its own row, or by the record of having heard of it."""
    for row in loaded.prepared:
        yield decode_prepared(row.payload)
    for record in records:
        if record.kind == Prepared.__name__:
            yield decode_prepared(record.payload)


def _last_word(world: World, records: tuple[RecordRow, ...]) -> Snapshot | None:
    """Give the newest snapshot if nothing was recorded after it: of a bot that ended in order."""
    is_last = world.snapshot is not None and records and world.snapshot.at_ns >= records[-1].at_ns
    return world.snapshot if is_last and world.failure is None else None


def _from_nothing(loaded: Loaded, records: tuple[RecordRow, ...]) -> Loaded:
    return Loaded(
        epoch=loaded.epoch,
        checkpoint=None,
        records=records,
        prepared=loaded.prepared,
        record_seq=loaded.record_seq,
    )


def _evidence(world: World) -> Evidence:
    return Evidence(
        account=world.account,
        deposited=world.deposited,
        trades=world.exchange.trades(world.account),
        orders=world.exchange.orders_of(world.account),
        balances=world.exchange.balances(world.account),
    )
