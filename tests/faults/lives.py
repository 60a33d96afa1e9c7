"""Lives of a bot with a kept state, each of which may be cut short at any moment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tbot.exchanges.simulated.faults import FaultSettings
from tbot.simulation.report import RunReport
from tbot.simulation.run import Level, Plan, run
from tbot.simulation.world import World
from tests.simulation.stage import plan_of, settings_of

FAULTS = FaultSettings(submit_lost_after=0.02, cancel_lost_after=0.02, account_drop=0.05, settlement_fail=0.05)
SEED = 3
LONG_S = 3_600.0


def plan(state: Path, level: Level, duration_s: float) -> Plan:
    """Plan one life on a state."""
    settings = settings_of(faults=FAULTS)
    return plan_of(settings, seed=SEED, duration_s=duration_s, level=level, state=state, has_chaos=True)


def live(state: Path, level: Level) -> None:
    """Live until killed, and say each second of it on a line."""

    @asynccontextmanager
    async def around(world: World) -> AsyncIterator[None]:
        world.on_look = lambda: print("alive", flush=True)
        yield

    run(plan(state, level, LONG_S), around)


def last(state: Path, level: Level) -> RunReport:
    """Live once more and end in order."""
    return run(plan(state, level, 30.0))
