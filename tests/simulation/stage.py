"""A small world for tests of the judge: fixed settings, a busy crowd, and hooks to plant a bug in the bot."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from tbot.core.risk import RiskLimits
from tbot.core.units import MICRO, Notional, Price, Size
from tbot.exchanges.gateway import Gateway
from tbot.exchanges.simulated.faults import FaultSettings
from tbot.exchanges.simulated.flow import FlowSettings
from tbot.exchanges.simulated.traders import TakerSettings
from tbot.simulation.chaos import Chaos, Strike
from tbot.simulation.reach import GatewayFactory
from tbot.simulation.report import RunReport
from tbot.simulation.run import Around, Plan, run
from tbot.simulation.settings import SimulationSettings
from tbot.simulation.world import World
from tbot.strategies.liquidity import LiquiditySettings
from tbot.tasks.desk import BotParts

LIMITS = RiskLimits(
    order_size_max=Size(60 * MICRO),
    position_size_max=Size(200 * MICRO),
    exposure_max=Notional(600 * MICRO),
    collar=Price(100_000),
    loss_max=Notional(100 * MICRO),
    open_orders_max=60,
)
BUSY = FlowSettings(takers=TakerSettings(noise_per_s=1.0, noise_shares=20.0))
CALM = FaultSettings()
Script = Callable[[World], Awaitable[None]]


def settings_of(
    *, faults: FaultSettings = CALM, limits: RiskLimits = LIMITS, strategy: LiquiditySettings | None = None
) -> SimulationSettings:
    """Make settings that no tuning of conf/ changes."""
    strategies = (strategy or LiquiditySettings(base_size=Size(20 * MICRO), q_max=Size(80 * MICRO)),)
    return SimulationSettings(limits=limits, strategies=strategies, traders=BUSY, chaos=faults)


def plan_of(
    settings: SimulationSettings | None = None, *, seed: int = 3, duration_s: float = 60.0, **more: Any
) -> Plan:
    """Make a plan of a short run at most speed; faults of the network as the settings say, but nothing crashes."""
    return Plan(settings=settings or settings_of(), seed=seed, duration_s=duration_s, speed="max", **more)


def judged(plan: Plan, *arounds: Around) -> RunReport:
    """Run a plan inside any number of contexts, the first one outermost."""
    return run(plan, _nested(arounds))


def _nested(arounds: Sequence[Around]) -> Around:
    @asynccontextmanager
    async def around(world: World) -> AsyncIterator[None]:
        if not arounds:
            yield
            return
        async with arounds[0](world), _nested(arounds[1:])(world):
            yield

    return around


@asynccontextmanager
async def only_faults(world: World) -> AsyncIterator[None]:
    """Let the network misbehave as the settings say, but crash no task."""
    assert world.chaos is not None, "a plan without chaos has no faults either"
    world.chaos.disarm()
    yield


def with_script(script: Script) -> Around:
    """Run a script beside the world, once the bot is there; it ends with the world at the latest."""

    @asynccontextmanager
    async def around(world: World) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_once_alive, world, script)
            yield
            nursery.cancel_scope.cancel()

    return around


async def _once_alive(world: World, script: Script) -> None:
    await trio.sleep(1.0)
    assert world.parts is not None, "the exchange needs no time to start"
    await script(world)


def with_strikes(*strikes: tuple[float, str]) -> Around:
    """Crash tasks: each at its next beat after so many seconds."""

    @asynccontextmanager
    async def around(world: World) -> AsyncIterator[None]:
        planned = [Strike(at_s=at_s, task=task, is_wedge=False) for at_s, task in strikes]
        world.policy = dataclasses.replace(world.policy, chaos=Chaos(planned))
        yield

    return around


def with_gateway(wrap: Callable[[Gateway], Gateway]) -> Around:
    """Put something between the bot and every gateway it opens."""

    @asynccontextmanager
    async def around(world: World) -> AsyncIterator[None]:
        inner = world.reach

        @asynccontextmanager
        async def reach() -> AsyncIterator[GatewayFactory]:
            async with inner() as open_gateway:
                yield lambda: wrap(open_gateway())

        world.reach = reach
        yield

    return around


def with_parts(change: Callable[[World, BotParts], BotParts]) -> Around:
    """Change what the bot is made of."""

    @asynccontextmanager
    async def around(world: World) -> AsyncIterator[None]:
        inner = world.make_parts
        world.make_parts = lambda open_gateway: change(world, inner(open_gateway))
        yield

    return around


class Between:
    """A gateway that hands everything on; a saboteur overrides what it bends."""

    def __init__(self, inner: Gateway) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def with_patch(owner: Any, name: str, make: Callable[[Any], Any]) -> Around:
    """Replace an attribute by something made from the original, for the length of a run."""

    @asynccontextmanager
    async def around(_: World) -> AsyncIterator[None]:
        original = getattr(owner, name)
        setattr(owner, name, make(original))
        try:
            yield
        finally:
            setattr(owner, name, original)

    return around
