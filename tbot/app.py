"""The composition root: settings in, everything built and run, a report out. Start reading here.

`simulate` is the way of `tbot sim`: it loads the settings, sets up logs and signals, puts the run before people's eyes,
and leaves building and running to `simulation.run`. What a bot is made of stands in `tasks.desk`.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TextIO

import msgspec

from tbot import log
from tbot.config import describe_file, load
from tbot.errors import AuthenticationFailed, ConfigError, TbotError
from tbot.simulation.report import RunReport, summary
from tbot.simulation.run import Plan, Speed, run
from tbot.simulation.settings import SimulationSettings
from tbot.simulation.world import World
from tbot.tasks.notes import note_in_log
from tbot.tasks.signals import StopSignals
from tbot.tasks.supervisor import Policy
from tbot.ui.progress import Progress
from tbot.ui.show import showing
from tbot.ui.status import RunFacts, Status, status_of
from tbot.ui.terminal import tell, write_now

LOG_NAME = "sim.log.jsonl"
# Text from outside in the summary: a name, a finding.
NAME_LENGTH_MAX, FINDING_LENGTH_MAX = 60, 400


class OutputFailed(TbotError):
    """The run is over and its report could not be written where it was wanted."""


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

    The first SIGINT or SIGTERM asks for the orderly end, which has a report like any other; the second ends the
    process where it stands, with 130 or 143.

    Raises:
        ConfigError: Settings, state folder or output cannot be used; nothing was started.
        StateCorrupt: The state cannot be used as it is; it is untouched.
        OutputFailed: The run went to its end, its report did not.
        KeyboardInterrupt: A signal came before anything was started.
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
        note=note_in_log,
    )
    log_file = (options.state or Path.cwd()) / LOG_NAME
    stops = StopSignals()
    with stops.handled():
        tell(_greeting(options, log_file), people)
        try:
            report = run(plan, partial(_around, plan=plan, people=people, stops=stops, log_file=log_file))
        except (ConfigError, AuthenticationFailed):
            # Ctrl+C reaches the process of the signing probe as well, and its end looks like a failed probe.
            if stops.count:
                raise KeyboardInterrupt from None
            raise
        tell(summary(_presentable(report)) + "\n", people)
        _write(report, options.json_to)
    return report


def _greeting(options: SimulationOptions, log_file: Path) -> str:
    where = "over loopback sockets" if options.speed == "real" else "in memory, in virtual time"
    chaos = "; chaos is on: tasks crash, connections are cut, answers get lost" if options.has_chaos else ""
    return (
        f"tbot sim: one bot and a local exchange {where}, seed {options.seed}{chaos}.\n"
        f"Nothing here is real money; its keys are for play; log {log_file}.\n"
        f"Settings {describe_file(options.config)}.\n\n"
    )


# --- around the run ---------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _around(
    world: World, *, plan: Plan, people: TextIO, stops: StopSignals, log_file: Path
) -> AsyncIterator[None]:
    """Log the run, show it while it lives, and let signals end it."""
    # Only now is the state folder known to be ours to write into. A kept state keeps its log, too; without one each run
    # begins a new log, or the file would grow for ever.
    if plan.state is None:
        _clear(log_file)
    with log.set_up(file=log_file, terminal=None) as logs:
        with stops.setting(world.hasten):
            async with _before_people(world, plan, people):
                yield
        if logs.lost:
            tell(f"{logs.lost} lines of the log could not be written to {log_file}\n", people)


def _clear(log_file: Path) -> None:
    try:
        log_file.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{log_file}: expected a log that can be written anew, found: {error.strerror}; "
            "run tbot in a folder of yours, or keep a state with --state DIR"
        ) from error


def _before_people(world: World, plan: Plan, stream: TextIO) -> AbstractAsyncContextManager[None]:
    if plan.speed == "max":
        return _shown_by_progress(world, plan, stream)
    policy = Policy(rng=world.policy.rng, note=note_in_log)
    return showing(partial(_status, world, plan), stream=stream, environ=os.environ, policy=policy)


@asynccontextmanager
async def _shown_by_progress(world: World, plan: Plan, stream: TextIO) -> AsyncIterator[None]:
    progress = Progress(
        stream, get_status=partial(_status, world, plan), monotonic=time.perf_counter, environ=os.environ
    )
    world.on_look = progress.tick
    try:
        yield
    finally:
        progress.close()


def _status(world: World, plan: Plan) -> Status:
    parts = world.parts
    facts = RunFacts(
        command="sim",
        setting=f"seed {plan.seed}  speed {plan.speed}",
        started_ns=world.began_ns,
        duration_s=plan.duration_s,
        restarts=world.policy.restarts,
        faults=world.faults(),
        connects=world.connects.total,
        is_reconnecting=not world.is_feed_connected,
    )
    views = parts.views.states if parts is not None else {}
    markets = parts.markets if parts is not None else ()
    return status_of(world.snapshot, views, markets, run=facts, now_ns=world.now_ns())


# --- the way out ------------------------------------------------------------------------------------------------------


def _presentable(report: RunReport) -> RunReport:
    """Clean what came from outside: the name of a market may hold anything, even a false verdict on its own line."""
    replace = msgspec.structs.replace
    return replace(
        report,
        positions=tuple(replace(p, market=log.text_clean(p.market, NAME_LENGTH_MAX)) for p in report.positions),
        violations=tuple(log.text_clean(v, FINDING_LENGTH_MAX) for v in report.violations),
    )


def _check_output(json_to: str | None) -> None:
    if json_to is None or json_to == "-":
        return
    path = Path(json_to)
    folder = path.resolve().parent
    if path.is_dir():
        raise ConfigError(f"--json {json_to}: expected a file, found a folder")
    if not folder.is_dir():
        raise ConfigError(f"--json {json_to}: expected a file in a folder that exists, found no folder {folder}")
    if not os.access(path if _is_special(path) else folder, os.W_OK):
        raise ConfigError(f"--json {json_to}: expected a place to write to, found none that is ours in {folder}")


def _write(report: RunReport, json_to: str | None) -> None:
    """Write the report as one object, whole or not at all."""
    if json_to is None:
        return
    # In ASCII: exact for machines, and nothing in it can move a terminal.
    text = json.dumps(msgspec.to_builtins(report), indent=2) + "\n"
    try:
        _put(text, json_to)
    except BrokenPipeError:
        return  # its reader has seen enough
    except (OSError, ValueError) as error:
        raise OutputFailed(
            f"--json {json_to}: the run is over, but its report could not be written: {error}"
        ) from error


def _put(text: str, json_to: str) -> None:
    path = Path(json_to)
    if json_to == "-":
        write_now(sys.stdout, text)
    elif _is_special(path):
        path.write_text(text)
    else:
        aside = path.with_name(path.name + ".new")
        aside.write_text(text)
        aside.replace(path)


def _is_special(path: Path) -> bool:
    """Tell whether it is there and no plain file: a pipe or a device is written to, not replaced."""
    return path.exists() and not stat.S_ISREG(path.stat().st_mode)
