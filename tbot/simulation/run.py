"""Builds a world, runs it in virtual or in real time, and reports.

Same seed, same world at `max` speed: the scheduler is seeded too, and nothing in it waits for a thread or a socket.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

import msgspec
import trio
from trio._core import _run as trio_run
from trio.testing import MockClock

from tbot.core.coordinator import Coordinator
from tbot.core.market import Market
from tbot.core.units import MICRO, NANOS_PER_S, Nanos
from tbot.errors import StateCorrupt
from tbot.exchanges.polymarket.conformance import check_conformance
from tbot.exchanges.simulated.accounts import PlayAccount
from tbot.exchanges.simulated.exchange import LocalExchange
from tbot.exchanges.simulated.faults import Faults, FaultSettings
from tbot.exchanges.simulated.operations import Account
from tbot.exchanges.simulated.settings import AccountSettings, ExchangeSettings
from tbot.exchanges.simulated.translate import market_of
from tbot.simulation.chaos import Chaos, timetable
from tbot.simulation.exchange_log import ExchangeLog, open_exchange_log
from tbot.simulation.reach import Ends, GatewayFactory, Reach, Wire, in_memory, play_account, probe_settings
from tbot.simulation.report import RunReport, digest_of, fill_counts, order_counts, position_lines
from tbot.simulation.settings import SimulationSettings
from tbot.simulation.watch import Bounds, Watch
from tbot.simulation.witness import WitnessedStore
from tbot.simulation.world import CALM_S, CALM_WITH_FAULTS_S, World, all_records, judge, live
from tbot.store.journal import Store
from tbot.strategies.roster import check_sizes, roster
from tbot.tasks.child import Note, Policy, unnoted
from tbot.tasks.clock import SteadyClock, VirtualClock
from tbot.tasks.desk import DESK_TASKS, BotParts
from tbot.tasks.journal import JournalWriter, RunBlocking, run_inline, thread_runner

Speed = Literal["real", "max"]
Level = Literal["messages", "bytes"]

# Any date will do; a fixed one makes the stamps of a run repeatable.
EPOCH_NS = Nanos(1_790_000_000 * NANOS_PER_S)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One run.

    Attributes:
        level: At `max` speed: messages, or every byte through in-memory pipes. Sockets at `real` speed.
        state: Folder to keep the state in; None = in memory.
        make_coordinator: Replaced by sabotage tests.
        note: Told of starts and crashes of tasks.
    """

    settings: SimulationSettings
    seed: int
    duration_s: float
    speed: Speed
    has_chaos: bool = False
    level: Level = "messages"
    state: Path | None = None
    make_coordinator: Callable[..., Coordinator] = Coordinator
    note: Note = unnoted


Around = Callable[[World], AbstractAsyncContextManager[None]]


def run(plan: Plan, around: Around | None = None) -> RunReport:
    """Run a plan to its end.

    Args:
        plan: What to run.
        around: Entered inside the run with the world, while it lives: shows it, installs signals.

    Raises:
        StateCorrupt: The state folder cannot be used.
        ConfigError: It belongs to somebody else, or a port is taken.
    """
    began = time.perf_counter()
    with (
        closing(WitnessedStore.open(plan.state, identity_of(plan))) as store,
        open_exchange_log(plan.state) as log,
    ):
        if store.newest_ns() is not None and log.newest_ns is None:
            raise _half_a_state(plan, "the exchange's log")
        report = _run_trio(plan, store, log, around)
    return msgspec.structs.replace(report, wall_s=round(time.perf_counter() - began, 3))


def identity_of(plan: Plan) -> str:
    """Name whose state this is: calls and wire know the bot's account by different names."""
    way = "in memory" if plan.speed == "max" and plan.level == "messages" else "on the wire"
    return f"simulated exchange {way}, seed {plan.seed}"


def _half_a_state(plan: Plan, missing: str) -> StateCorrupt:
    """Refuse half a memory: a bot without its exchange, or the other way round, would accuse the other half."""
    return StateCorrupt(
        f"{plan.state}: {missing} is missing or empty, while the other half of the state is there; "
        "put it back, or move the folder aside to begin anew"
    )


def _run_trio(plan: Plan, store: WitnessedStore, log: ExchangeLog, around: Around | None) -> RunReport:
    if plan.speed == "real":
        return trio.run(_main, plan, store, log, around)
    with _seeded(plan.seed):
        return trio.run(_main, plan, store, log, around, clock=MockClock(autojump_threshold=0))


async def _main(plan: Plan, store: WitnessedStore, log: ExchangeLog, around: Around | None) -> RunReport:
    if plan.speed == "real":  # the reference runs in a process of its own, which virtual time cannot wait for
        await check_conformance(probe_settings(plan.settings.markets))
    is_new = store.newest_ns() is None
    world, markets = build(plan, store, log)
    if is_new and world.exchange.orders_of(world.account):
        raise _half_a_state(plan, "the bot's journal")
    async with around(world) if around is not None else nullcontext():
        began = trio.current_time()
        await live(world)
    if world.parts is None:
        assert world.failure is not None, "the exchange's part ended before it began"
        raise world.failure
    records = tuple(all_records(store))
    violations = judge(world, markets, records)
    ran_s = trio.current_time() - began
    return report_of(plan, world, markets, violations=violations, digest=digest_of(records), ran_s=ran_s)


def build(plan: Plan, store: WitnessedStore, log: ExchangeLog) -> tuple[World, tuple[Market, ...]]:
    """Set up a world and say what its markets are; must be called inside the run, for its clock."""
    settings, is_max = plan.settings, plan.speed == "max"
    now_ns = VirtualClock(_epoch_ns(store, log)).now_ns if is_max else SteadyClock().now_ns
    began_ns = now_ns()
    is_wire = not is_max or plan.level == "bytes"
    play = play_account(plan.seed)
    account = Account(play.address if is_wire else "bot")
    chaos = _chaos(plan)
    watch = Watch(
        account,
        _bounds(settings),
        settings.cash,
        signed_ns=store.signed_ns,
        is_feed_hung=lambda: chaos is not None and chaos.is_hung("market_feed"),
    )
    exchange = LocalExchange(
        ExchangeSettings(
            markets=settings.markets,
            accounts=(AccountSettings(name=account, cash_usd=settings.cash // MICRO),),
            # Whoever judges a run wants to see everything that its bot did, however long it takes.
            engine=msgspec.structs.replace(settings.engine, clients_kept_ns=0, clients_kept_max=0),
            flow=settings.traders,
        ),
        seed=plan.seed,
        now_ns=now_ns,
        faults=Faults(settings.chaos if plan.has_chaos else FaultSettings(), plan.seed),
        on_operation=_both(watch.on_operation, log.append),
        log=log.replay(),
    )
    watch.bind(exchange)
    # Two runs on one kept state must not draw the same order ids.
    dice = random.Random(f"{plan.seed}/bot/{began_ns}")
    ends = Ends(exchange=exchange, now_ns=now_ns, rng=dice, run_id=f"{plan.seed}/{began_ns}")
    markets = tuple(market_of(rules) for rules in exchange.markets())
    world = World(
        exchange=exchange,
        account=account,
        reach=_reach(plan, ends, account, play),
        make_parts=lambda open_gateway: _parts(plan, open_gateway, markets, store, now_ns, is_max=is_max),
        policy=Policy(rng=random.Random(f"{plan.seed}/restarts"), chaos=chaos, note=plan.note),
        exchange_policy=Policy(rng=random.Random(f"{plan.seed}/exchange")),
        chaos=chaos,
        watch=watch,
        store=store,
        now_ns=now_ns,
        deposited=settings.cash,
        duration_s=plan.duration_s,
        hasten=trio.Event(),
        calm_s=CALM_WITH_FAULTS_S if plan.has_chaos else CALM_S,
        began_ns=began_ns,
    )
    return world, markets


def report_of(
    plan: Plan, world: World, markets: tuple[Market, ...], *, violations: tuple[str, ...], digest: str, ran_s: float
) -> RunReport:
    """Put the report together."""
    assert world.snapshot is not None or violations, "a run without a snapshot must have said why"
    snapshot = world.snapshot
    counts = dict(snapshot.counts) if snapshot is not None else {}
    return RunReport(
        seed=plan.seed,
        speed=plan.speed,
        duration_s=min(plan.duration_s, round(ran_s, 3)),
        wall_s=0.0,
        digest=digest,
        orders=order_counts(counts),
        fills=fill_counts(counts),
        volume_usd=counts.get("volume_micro", 0) / MICRO,
        pnl_usd=snapshot.pnl / MICRO if snapshot is not None else 0.0,
        fees_usd=snapshot.fees / MICRO if snapshot is not None else 0.0,
        positions=position_lines(snapshot, markets) if snapshot is not None else (),
        restarts=dict(sorted(world.policy.restarts.items())),
        faults_injected=dict(sorted(world.faults().items())),
        reconnects=max(world.connects.total - 1, 0),
        violations=violations,
    )


def _epoch_ns(store: Store, log: ExchangeLog) -> Nanos:
    """Say when a run in virtual time begins: where an earlier one on the same state ended, time does not go back."""
    kept = [moment for moment in (store.newest_ns(), log.newest_ns) if moment is not None]
    return Nanos(max([EPOCH_NS, *(moment + NANOS_PER_S for moment in kept)]))


def _bounds(settings: SimulationSettings) -> Bounds:
    limits = settings.limits
    return Bounds(
        order_size_max=limits.order_size_max,
        position_size_max=limits.position_size_max,
        exposure_max=limits.exposure_max,
        loss_max=limits.loss_max,
        open_orders_max=limits.open_orders_max,
        quotes_side_max=sum(strategy.layers for strategy in settings.strategies),
    )


def _parts(
    plan: Plan,
    open_gateway: GatewayFactory,
    markets: tuple[Market, ...],
    store: Store,
    now_ns: Callable[[], Nanos],
    *,
    is_max: bool,
) -> BotParts:
    settings = plan.settings
    runner: RunBlocking = run_inline if is_max else thread_runner()
    strategies = roster(settings.strategies, markets)
    check_sizes(strategies, settings.limits, markets)
    return BotParts(
        open_gateway=open_gateway,
        markets=markets,
        limits=settings.limits,
        strategies=strategies,
        journal=JournalWriter(store, runner),
        feed=settings.feed,
        checkpoint=settings.checkpoint,
        now_ns=now_ns,
        rng=random.Random(f"{plan.seed}/desk"),
        make_coordinator=plan.make_coordinator,
    )


def _reach(plan: Plan, ends: Ends, account: Account, play: PlayAccount) -> Reach:
    if plan.speed == "max" and plan.level == "messages":
        return in_memory(ends, account, plan.settings.latency)
    wire = Wire.of(ends, play, plan.seed, plan.settings.server)
    return wire.loopback() if plan.speed == "real" else wire.piped()


def _chaos(plan: Plan) -> Chaos | None:
    if not plan.has_chaos:
        return None
    strategies = [[s.name] for s in plan.settings.strategies]
    units = [["journal"], ["checkpointer"], list(DESK_TASKS), *strategies]
    return Chaos(timetable(units, duration_s=plan.duration_s, rng=random.Random(f"{plan.seed}/chaos")))


def _both(first: Callable[..., None], second: Callable[..., None]) -> Callable[..., None]:
    def call(*arguments: Any) -> None:
        first(*arguments)
        second(*arguments)

    return call


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Let Trio's scheduler follow a seeded generator, and give everything back afterwards.

    Private names of trio, which is why it is pinned exactly; a test compares two processes.
    """
    names, dice = vars(trio_run), trio_run._r  # noqa: SLF001
    saved = names["_ALLOW_DETERMINISTIC_SCHEDULING"], dice.getstate()
    names["_ALLOW_DETERMINISTIC_SCHEDULING"] = True
    dice.seed(seed)
    try:
        yield
    finally:
        names["_ALLOW_DETERMINISTIC_SCHEDULING"] = saved[0]
        dice.setstate(saved[1])
