"""Over the restart limit: the bot ends, its orders are gone, and what it knew is on record."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tbot.simulation.run import Around
from tbot.simulation.world import World
from tests.simulation.stage import judged, plan_of

# Every task that may take the desk down; a strategy that gives up is only switched off.
TASKS = ("journal", "checkpointer", "coordinator", "dispatcher", "account_feed")
CRASHES_FROM_S = 20.0


class Broken(Exception):
    """What a task raises that can never work again."""


class CrashLoop:
    """Lets one task crash at each of its beats, once the bot had time to quote."""

    def __init__(self, task: str) -> None:
        self._task = task
        self._began_s: float | None = None

    async def __call__(self, name: str) -> None:
        """Crash the task if it is the one."""
        self._began_s = trio.current_time() if self._began_s is None else self._began_s
        if name == self._task and trio.current_time() >= self._began_s + CRASHES_FROM_S:
            raise Broken(f"{name} cannot work")


def breaking(task: str, worlds: list[World]) -> Around:
    """Let a task fail for good, and keep the world for questions."""

    @asynccontextmanager
    async def around(world: World) -> AsyncIterator[None]:
        worlds.append(world)
        world.policy = dataclasses.replace(world.policy, chaos=CrashLoop(task))
        yield

    return around


def kept(worlds: list[World]) -> Around:
    """Keep the world for questions."""

    @asynccontextmanager
    async def around(world: World) -> AsyncIterator[None]:
        worlds.append(world)
        yield

    return around


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_bot_that_gives_up_leaves_no_order_and_a_true_record(task: str) -> None:
    worlds: list[World] = []

    # With this seed nothing fills between the first crash and the last cancel, half a second later: what does is known
    # to the next start only (below).
    report = judged(plan_of(duration_s=300.0, seed=5), breaking(task, worlds))

    # The judge compares exchange, checkpoint and journal as for any other run: giving up is all it has to say.
    assert len(report.violations) == 1, report.violations
    assert report.violations[0].startswith("the bot gave up: ")
    assert task in report.violations[0]
    assert report.fills.maker > 0, "it must have had something to lose"
    assert worlds[0].exchange.open_orders(worlds[0].account) == ()
    assert worlds[0].failure is not None


@pytest.mark.slow
def test_strategy_that_gives_up_is_withdrawn_and_the_bot_goes_on() -> None:
    worlds: list[World] = []
    open_orders: list[int] = []

    @asynccontextmanager
    async def counted(world: World) -> AsyncIterator[None]:
        world.on_look = lambda: open_orders.append(len(world.exchange.open_orders(world.account)))
        yield

    report = judged(plan_of(duration_s=120.0), breaking("liquidity", worlds), counted)

    assert report.violations == ()
    assert max(open_orders[:20]) > 0
    assert open_orders[-20:] == [0] * 20


@pytest.mark.slow
def test_next_start_goes_on_from_what_was_left(tmp_path: Path) -> None:
    plan = plan_of(duration_s=60.0, state=tmp_path / "state")
    given_up = judged(plan, breaking("coordinator", []))
    assert any("the bot's ledger does not" in each for each in given_up.violations), (
        "a fill after the last it could book"
    )
    worlds: list[World] = []

    resumed = judged(plan, kept(worlds))

    assert resumed.violations == ()
    assert resumed.fills.maker > given_up.fills.maker > 0
    balances = worlds[0].exchange.balances(worlds[0].account)
    assert worlds[0].snapshot is not None
    assert worlds[0].snapshot.cash == balances.cash + balances.cash_pending
