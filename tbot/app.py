"""The composition root: settings in, everything built and run, a report out. Start reading here.

`simulate` is the way of `tbot sim`: it loads the settings, sets up logs and signals, puts the run before people's eyes,
and leaves building and running to `simulation.run`. What a bot is made of stands in `tasks.desk`.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TextIO

import msgspec
import structlog
import trio

from tbot import log
from tbot.config import load
from tbot.errors import ConfigError
from tbot.simulation.report import RunReport, summary
from tbot.simulation.run import Plan, Speed, run
from tbot.simulation.settings import SimulationSettings
from tbot.simulation.world import World
from tbot.tasks.supervisor import Child, Policy, TaskContext, describe, keep
from tbot.ui.progress import Progress
from tbot.ui.show import show
from tbot.ui.status import RunFacts, Status, status_of

LOG_NAME = "sim.log.jsonl"
# The last picture of the table is written within a second; the thread behind a dead terminal is not waited for.
SHOW_END_S = 2.0

events = structlog.get_logger()


class SimulationOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says.

    Attributes:
        config: Settings file.
        state: Folder of a state to keep; None = in memory.
        json_to: File for the report as JSON, "-" = standard output, None = nowhere.
    """

    seed: int
    duration_s: float
    speed: Speed
    has_chaos: bool
    config: Path
    state: Path | None
    json_to: str | None


def simulate(options: SimulationOptions) -> RunReport:
    """Run the bot against a local exchange and print what came of it.

    Raises:
        ConfigError: Settings, state folder or output cannot be used; nothing was started.
        StateCorrupt: The state cannot be used as it is; it is untouched.
    """
    settings = load(options.config, SimulationSettings)
    _check_output(options.json_to)
    people = sys.stderr if options.json_to == "-" else sys.stdout
    plan = Plan(
        settings=settings,
        seed=options.seed,
        duration_s=options.duration_s,
        speed=options.speed,
        has_chaos=options.has_chaos,
        state=options.state,
        note=_note,
    )
    log_file = (options.state or Path.cwd()) / LOG_NAME
    print(_greeting(options, log_file), file=people)
    with log.set_up(file=None if options.state else log_file, terminal=None) as logs:
        report = run(plan, partial(_before_people, plan=plan, stream=people))
    _write(report, options.json_to)
    print(summary(report), file=people)
    if logs.lost:
        print(f"Logs       {logs.lost} lines could not be written", file=people)
    return report


def _greeting(options: SimulationOptions, log_file: Path) -> str:
    where = "over loopback sockets" if options.speed == "real" else "in memory, in virtual time"
    chaos = "; chaos is on: tasks crash, connections are cut, answers get lost" if options.has_chaos else ""
    return (
        f"tbot sim: one bot and a local exchange {where}, seed {options.seed}{chaos}.\n"
        f"Nothing here is real money; its keys are for play. Settings {options.config}, log {log_file}.\n"
    )


def _note(kind: str, name: str, causes: Sequence[BaseException]) -> None:
    level = {"start": events.debug, "fault": events.error}.get(kind, events.warning)
    level(f"task.{kind}", name=name, causes=[describe(cause) for cause in causes])


def _before_people(world: World, *, plan: Plan, stream: TextIO) -> AbstractAsyncContextManager[None]:
    """Show the run while it lives, and let signals end it."""
    return _shown_live(world, plan, stream) if plan.speed == "real" else _shown_by_progress(world, plan, stream)


@asynccontextmanager
async def _shown_live(world: World, plan: Plan, stream: TextIO) -> AsyncIterator[None]:
    stop = trio.Event()
    body = partial(show, get_status=partial(_status, world, plan), stream=stream, environ=os.environ)
    # A face that crashes is noted and stays away: it cannot hurt trading.
    face = keep(Child("ui", body, kind="temporary"), Policy(rng=world.policy.rng, note=_note))
    with _signals(world.hasten):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(face, TaskContext("ui", stop))
            yield
            stop.set()
            nursery.cancel_scope.deadline = trio.current_time() + SHOW_END_S


@asynccontextmanager
async def _shown_by_progress(world: World, plan: Plan, stream: TextIO) -> AsyncIterator[None]:
    progress = Progress(
        stream, get_status=partial(_status, world, plan), monotonic=time.perf_counter, environ=os.environ
    )
    world.on_look = progress.tick
    with _signals(world.hasten):
        try:
            yield
        finally:
            progress.close()


def _status(world: World, plan: Plan) -> Status:
    parts = world.parts
    facts = RunFacts(
        seed=plan.seed,
        speed=plan.speed,
        started_ns=world.began_ns,
        duration_s=plan.duration_s,
        restarts=world.policy.restarts,
        faults=world.faults(),
        reconnects=world.reconnects.count,
        is_reconnecting=not world.is_feed_connected,
    )
    views = parts.views.states if parts is not None else {}
    markets = parts.markets if parts is not None else ()
    return status_of(world.snapshot, views, markets, run=facts, now_ns=world.now_ns())


@contextmanager
def _signals(hasten: trio.Event) -> Iterator[None]:
    """Let SIGINT and SIGTERM end the run in order, and a second one at once.

    Plain handlers: unlike a task they work even while the loop is blocked.
    """
    token = trio.lowlevel.current_trio_token()
    count = 0

    def handle(number: int, _: FrameType | None) -> None:
        nonlocal count
        count += 1
        if count > 1:
            os.write(2, b"\nhard stop: orders may rest; the next start finds and cancels them\n")
            os._exit(128 + number)
        os.write(2, b"\nstopping: cancelling orders; once more to stop at once\n")
        token.run_sync_soon(hasten.set)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check_output(json_to: str | None) -> None:
    if json_to in (None, "-"):
        return
    folder = Path(str(json_to)).resolve().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ConfigError(f"--json {json_to}: expected a file in a writable folder, found none at {folder}")
    if Path(str(json_to)).is_dir():
        raise ConfigError(f"--json {json_to}: expected a file, found a folder")


def _write(report: RunReport, json_to: str | None) -> None:
    """Write the report whole or not at all."""
    if json_to is None:
        return
    text = msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"
    if json_to == "-":
        sys.stdout.write(text.decode())
        return
    path = Path(json_to)
    aside = path.with_name(path.name + ".new")
    aside.write_bytes(text)
    aside.replace(path)
