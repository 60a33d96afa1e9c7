"""The orderly end: order, bounds, crashes on the way."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from tbot.errors import InvariantViolated
from tbot.tasks.supervisor import (
    Body,
    Child,
    Policy,
    TaskContext,
    keep,
    one_for_all,
    one_for_one,
    rest_for_one,
    supervise,
)


class Life:
    """Writes down who ends when."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.notes: list[tuple[str, str]] = []
        self.policy = Policy(rng=random.Random(1), note=self.note)

    def note(self, kind: str, name: str, causes: Sequence[BaseException]) -> None:
        self.notes.append((kind, name))

    def leaving(self, name: str, after_s: float = 0.5) -> Body:
        """Make a body that needs some time to leave."""

        async def body(ctx: TaskContext) -> None:
            ctx.started()
            await ctx.stop.wait()
            await trio.sleep(after_s)
            self.ended.append(name)

        return body

    async def stop_after(self, seconds: float, body: Body, stop_within_s: float = 20.0) -> float:
        """Run a tree, stop it, and return how long the stop took, seconds."""
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: supervise(body, stop, self.policy, stop_within_s=stop_within_s))
            await trio.sleep(seconds)
            asked = trio.current_time()
            stop.set()
        return trio.current_time() - asked


async def test_stop_travels_from_the_last_child_to_the_first(autojump_clock: MockClock) -> None:
    life = Life()
    strategies = one_for_one([Child("x", life.leaving("x")), Child("y", life.leaving("y", 0.6))], life.policy)
    desk = one_for_all(
        [
            Child("coordinator", life.leaving("coordinator")),
            Child("feed", life.leaving("feed")),
            Child("strategies", strategies),
        ],
        life.policy,
    )
    tree = rest_for_one([Child("journal", life.leaving("journal")), Child("desk", desk)], life.policy)
    took = await life.stop_after(5, tree)
    assert life.ended == ["x", "y", "feed", "coordinator", "journal"]
    assert took == pytest.approx(0.6 + 3 * 0.5)


async def test_child_that_does_not_leave_is_cut_and_the_others_still_end_in_order(autojump_clock: MockClock) -> None:
    life = Life()

    async def deaf(ctx: TaskContext) -> None:
        ctx.started()
        await trio.sleep_forever()

    group = one_for_all(
        [Child("first", life.leaving("first")), Child("deaf", deaf, stop_within_s=3.0)],
        life.policy,
    )
    took = await life.stop_after(5, group)
    assert took == pytest.approx(3.5)
    assert life.ended == ["first"]
    assert ("cut", "deaf") in life.notes


async def test_cleanup_of_a_cut_child_is_bounded_by_its_shield(autojump_clock: MockClock) -> None:
    life = Life()

    async def clinging(ctx: TaskContext) -> None:
        ctx.started()
        try:
            await trio.sleep_forever()
        finally:
            with trio.move_on_after(2, shield=True):
                await trio.sleep(100)

    group = one_for_one([Child("clinging", clinging, stop_within_s=1.0)], life.policy)
    assert await life.stop_after(5, group) == pytest.approx(3.0)


async def test_late_stop_of_the_whole_tree_is_cut(autojump_clock: MockClock) -> None:
    life = Life()

    async def deaf(ctx: TaskContext) -> None:
        ctx.started()
        await trio.sleep_forever()

    took = await life.stop_after(5, keep(Child("deaf", deaf), life.policy), stop_within_s=20.0)
    assert took == pytest.approx(20.0)
    assert ("cut", "root") in life.notes


async def test_crash_during_the_stop_is_noted_and_costs_the_others_nothing(autojump_clock: MockClock) -> None:
    life = Life()

    async def crashing(ctx: TaskContext) -> None:
        ctx.started()
        await ctx.stop.wait()
        raise ValueError

    group = one_for_all([Child("first", life.leaving("first")), Child("crashing", crashing)], life.policy)
    await life.stop_after(5, group)
    assert ("fault", "crashing") in life.notes
    assert life.ended == ["first"]


async def test_fatal_crash_during_the_stop_is_raised(autojump_clock: MockClock) -> None:
    life = Life()

    async def broken(ctx: TaskContext) -> None:
        ctx.started()
        await ctx.stop.wait()
        raise InvariantViolated("filled beyond the target")

    with pytest.RaisesGroup(InvariantViolated, flatten_subgroups=True):
        await life.stop_after(1, keep(Child("broken", broken), life.policy))


async def test_stop_during_the_start_begins_nobody_else(autojump_clock: MockClock) -> None:
    life = Life()

    async def slow(ctx: TaskContext) -> None:
        await ctx.stop.wait()

    group = one_for_all([Child("slow", slow), Child("never", life.leaving("never"))], life.policy)
    took = await life.stop_after(5, group)
    assert took == 0
    assert ("start", "never") not in life.notes


async def test_stop_ends_the_pause_before_a_restart(autojump_clock: MockClock) -> None:
    life = Life()

    async def crashing(ctx: TaskContext) -> None:
        raise ValueError

    policy = Policy(rng=random.Random(3), faults_max=99, note=life.note)
    took = await life.stop_after(200, keep(Child("crashing", crashing), policy))
    assert took == 0


async def test_stop_cancels_work_in_progress_and_its_pulse(autojump_clock: MockClock) -> None:
    life = Life()

    async def body(ctx: TaskContext) -> None:
        ctx.started()
        await ctx.until_stopped(trio.sleep_forever, pulse=True)
        life.ended.append("body")

    child = Child("body", body, wedged_after_s=3.0)
    assert await life.stop_after(600, keep(child, life.policy)) == 0
    assert life.ended == ["body"]
    assert life.notes == [("start", "body")]


async def test_work_that_returns_ends_its_wait_for_the_stop(autojump_clock: MockClock) -> None:
    ctx = TaskContext("a", trio.Event())

    async def work() -> None:
        await trio.sleep(1)

    await ctx.until_stopped(work, pulse=True)
    assert not ctx.stop.is_set()
