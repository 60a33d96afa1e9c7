"""Restart strategies, escalation, readiness, wedges, on Trio's virtual clock."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tbot.core.backoff import Backoff
from tbot.errors import AuthenticationFailed, ConfigError, InvariantViolated, StateCorrupt
from tbot.tasks.supervisor import (
    Body,
    Child,
    ChildCrashed,
    Policy,
    RestartLimit,
    TaskContext,
    keep,
    one_for_all,
    one_for_one,
    rest_for_one,
    supervise,
)

Noted = list[tuple[str, str, tuple[str, ...]]]


class Record:
    """What happened, with the policy that writes it down."""

    def __init__(self, *, faults_max: int = 5, backoff: Backoff | None = None) -> None:
        self.events: list[str] = []
        self.notes: Noted = []
        self.policy = Policy(
            rng=random.Random(1), faults_max=faults_max, backoff=backoff or Backoff(0.25, 30.0), note=self.note
        )

    def note(self, kind: str, name: str, causes: Sequence[BaseException]) -> None:
        self.notes.append((kind, name, tuple(type(cause).__name__ for cause in causes)))

    def noted(self, kind: str) -> list[str]:
        return [name for noted_kind, name, _ in self.notes if noted_kind == kind]

    def steady(self, name: str) -> Body:
        """Make a body that runs until stopped and tells of its life."""

        async def body(ctx: TaskContext) -> None:
            self.events.append(f"+{name}")
            ctx.started()
            try:
                await ctx.stop.wait()
            finally:
                self.events.append(f"-{name}")

        return body

    def crashing(self, name: str, times: int, error: Exception | None = None, after_s: float = 1.0) -> Body:
        """Make a body that crashes so often, each time after some seconds, and is steady afterwards."""
        left = times

        async def body(ctx: TaskContext) -> None:
            nonlocal left
            self.events.append(f"+{name}")
            ctx.started()
            try:
                if left:
                    left -= 1
                    await trio.sleep(after_s)
                    raise error or ValueError(name)
                await ctx.stop.wait()
            finally:
                self.events.append(f"-{name}")

        return body


async def run_for(seconds: float, body: Body, policy: Policy) -> None:
    """Run a tree, ask it to stop after a while, and wait for its end."""
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervise, body, stop, policy)
        await trio.sleep(seconds)
        stop.set()


async def test_crashed_child_is_run_again_after_a_pause(autojump_clock: MockClock) -> None:
    record = Record()
    await run_for(60, keep(Child("a", record.crashing("a", 2)), record.policy), record.policy)
    assert record.events == ["+a", "-a"] * 3
    assert record.policy.restarts == {"a": 2}
    assert record.noted("fault") == ["a", "a"]


async def test_pause_between_restarts_grows_with_each_crash(autojump_clock: MockClock) -> None:
    record = Record(faults_max=8, backoff=Backoff(1.0, 100.0))
    starts: list[float] = []

    async def body(ctx: TaskContext) -> None:
        starts.append(trio.current_time())
        raise ValueError

    with pytest.raises(RestartLimit):
        await supervise(keep(Child("a", body), record.policy), trio.Event(), record.policy)
    rng = random.Random(1)
    wanted = [Backoff(1.0, 100.0).delay(attempt, rng) for attempt in range(8)]
    assert [later - start for start, later in itertools.pairwise(starts)] == pytest.approx(wanted)


async def test_sixth_crash_within_the_window_gives_up(autojump_clock: MockClock) -> None:
    record = Record()
    with pytest.raises(RestartLimit, match="a: ValueError") as caught:
        await supervise(keep(Child("a", record.crashing("a", 99)), record.policy), trio.Event(), record.policy)
    assert (caught.value.unit, caught.value.name) == ("a", "a")
    assert record.policy.restarts == {"a": 5}
    assert len(record.noted("fault")) == 6


async def test_crashes_outside_the_window_are_forgiven(autojump_clock: MockClock) -> None:
    record = Record()
    body = keep(Child("a", record.crashing("a", 40, after_s=150.0)), record.policy)
    await run_for(40 * 200, body, record.policy)
    assert record.policy.restarts == {"a": 40}


@pytest.mark.parametrize("fatal", [ConfigError, AuthenticationFailed, InvariantViolated, StateCorrupt])
async def test_fatal_errors_go_straight_up_with_their_type(autojump_clock: MockClock, fatal: type[Exception]) -> None:
    record = Record()
    inner = one_for_one([Child("a", record.crashing("a", 1, fatal("no")))], record.policy)
    desk = one_for_all([Child("b", record.steady("b")), Child("inner", inner)], record.policy)
    tree = rest_for_one([Child("journal", record.steady("journal")), Child("desk", desk)], record.policy)
    with pytest.raises(fatal, match="no"):
        await supervise(tree, trio.Event(), record.policy)
    assert record.noted("restart") == []
    assert record.noted("fault") == ["a"]
    assert sorted(record.events[3:]) == ["-a", "-b", "-journal"]


async def test_permanent_child_that_returns_has_crashed(autojump_clock: MockClock) -> None:
    record = Record(faults_max=0)

    async def body(ctx: TaskContext) -> None:
        ctx.started()

    with pytest.raises(RestartLimit, match="UnexpectedExit"):
        await supervise(keep(Child("a", body), record.policy), trio.Event(), record.policy)


@pytest.mark.parametrize(("kind", "starts"), [("transient", 3), ("temporary", 1)])
async def test_only_a_temporary_crash_is_not_restarted(autojump_clock: MockClock, kind: str, starts: int) -> None:
    record = Record()
    runs = 0

    async def body(ctx: TaskContext) -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise ValueError

    child = Child("a", body, kind="transient" if kind == "transient" else "temporary")
    await supervise(keep(child, record.policy), trio.Event(), record.policy)
    assert runs == starts


async def test_child_that_is_not_ready_in_time_is_cancelled_and_restarted(autojump_clock: MockClock) -> None:
    record = Record()
    runs = 0

    async def body(ctx: TaskContext) -> None:
        nonlocal runs
        runs += 1
        if runs > 1:
            ctx.started()
        await trio.sleep_forever()

    child = Child("a", body, ready_within_s=7.0, stop_within_s=1.0)
    await run_for(60, one_for_one([child], record.policy), record.policy)
    assert runs == 2
    assert ("fault", "a", ("NotReady",)) in record.notes


async def test_one_for_all_restarts_every_child_and_blames_the_first_to_crash(autojump_clock: MockClock) -> None:
    record = Record()
    group = one_for_all(
        [Child("a", record.steady("a")), Child("b", record.crashing("b", 1)), Child("c", record.steady("c"))],
        record.policy,
    )
    await run_for(60, keep(Child("desk", group), record.policy), record.policy)
    assert record.events[:3] == ["+a", "+b", "+c"]
    assert sorted(record.events[3:6]) == ["-a", "-b", "-c"]
    assert record.events[6:9] == ["+a", "+b", "+c"]
    assert record.policy.restarts == {"b": 1}


async def test_neighbours_that_only_lost_their_counterpart_are_not_blamed(autojump_clock: MockClock) -> None:
    record = Record()

    async def writer(ctx: TaskContext) -> None:
        ctx.started()
        await trio.sleep(1)
        raise trio.BrokenResourceError

    async def reader(ctx: TaskContext) -> None:
        ctx.started()
        try:
            await trio.sleep_forever()
        finally:
            with trio.move_on_after(0.5, shield=True):
                await trio.sleep(0.1)
            if record.noted("restart") == []:
                raise KeyError("the real one")

    group = one_for_all([Child("writer", writer), Child("reader", reader)], record.policy)
    await run_for(1.9, keep(Child("desk", group), record.policy), record.policy)
    assert record.noted("restart")[0] == "reader"


async def test_children_start_in_order_each_after_the_one_before_is_ready(autojump_clock: MockClock) -> None:
    record = Record()

    def slow(name: str) -> Body:
        async def body(ctx: TaskContext) -> None:
            record.events.append(f"{name} begins")
            await trio.sleep(3)
            record.events.append(f"{name} ready")
            ctx.started()
            await ctx.stop.wait()

        return body

    await run_for(10, one_for_all([Child("a", slow("a")), Child("b", slow("b"))], record.policy), record.policy)
    assert record.events == ["a begins", "a ready", "b begins", "b ready"]


async def test_one_for_one_restarts_only_the_crashed_child(autojump_clock: MockClock) -> None:
    record = Record()
    group = one_for_one([Child("a", record.steady("a")), Child("b", record.crashing("b", 3))], record.policy)
    await run_for(60, group, record.policy)
    assert record.events.count("+a") == 1
    assert record.events.count("+b") == 4


async def test_exhausted_child_stays_off_and_the_others_go_on(autojump_clock: MockClock) -> None:
    record = Record()
    off: list[str] = []
    group = one_for_one(
        [Child("a", record.steady("a")), Child("b", record.crashing("b", 99))], record.policy, off.append
    )
    await run_for(3600, group, record.policy)
    assert off == ["b"]
    assert record.noted("off") == ["b"]
    assert [event for event in record.events if "a" in event] == ["+a", "-a"]
    assert record.events.count("+b") == 6


async def test_slow_starter_does_not_hold_up_independent_children(autojump_clock: MockClock) -> None:
    record = Record()

    async def slow(ctx: TaskContext) -> None:
        await trio.sleep(20)
        ctx.started()
        await ctx.stop.wait()

    stop = trio.Event()
    group = one_for_one([Child("slow", slow), Child("quick", record.steady("quick"))], record.policy)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervise, group, stop, record.policy)
        await wait_all_tasks_blocked()
        assert record.events == ["+quick"]
        stop.set()


async def test_rest_for_one_restarts_the_crashed_child_and_those_after_it(autojump_clock: MockClock) -> None:
    record = Record()
    tree = rest_for_one(
        [Child("a", record.steady("a")), Child("b", record.crashing("b", 1)), Child("c", record.steady("c"))],
        record.policy,
    )
    await run_for(60, tree, record.policy)
    assert record.events.count("+a") == 1
    assert record.events.count("+b") == 2
    assert record.events.count("+c") == 2
    assert record.policy.restarts == {"b": 1}


async def test_rest_for_one_head_takes_everything_down(autojump_clock: MockClock) -> None:
    record = Record()
    tree = rest_for_one([Child("a", record.crashing("a", 1)), Child("b", record.steady("b"))], record.policy)
    await run_for(60, tree, record.policy)
    assert record.events.count("+b") == 2
    assert record.policy.restarts == {"a": 1}


async def test_exhausted_dependant_ends_the_tree_without_restarting_what_it_needs(autojump_clock: MockClock) -> None:
    record = Record()
    tree = rest_for_one([Child("a", record.steady("a")), Child("b", record.crashing("b", 99))], record.policy)
    with pytest.raises(RestartLimit) as caught:
        await supervise(tree, trio.Event(), record.policy)
    assert caught.value.unit == "b"
    assert record.events.count("+a") == 1


async def test_wedged_child_is_cancelled_and_restarted_like_a_crash(autojump_clock: MockClock) -> None:
    record = Record()
    runs: list[float] = []

    async def body(ctx: TaskContext) -> None:
        runs.append(trio.current_time())
        ctx.started()
        for _ in range(10):
            await ctx.beat()
            await trio.sleep(1)
        await trio.sleep_forever()

    await run_for(30, keep(Child("a", body, wedged_after_s=3.0), record.policy), record.policy)
    assert ("fault", "a", ("Wedged",)) in record.notes
    assert 12.0 <= runs[1] - runs[0] <= 12.3
    assert record.policy.restarts == {"a": 2}


async def test_child_that_beats_is_never_called_wedged(autojump_clock: MockClock) -> None:
    record = Record()

    async def body(ctx: TaskContext) -> None:
        ctx.started()
        while not ctx.stop.is_set():
            await ctx.beat()
            await trio.sleep(2.9)

    await run_for(3600, keep(Child("a", body, wedged_after_s=3.0), record.policy), record.policy)
    assert record.noted("fault") == []


def test_stalled_loop_is_not_mistaken_for_a_wedged_child() -> None:
    record = Record()
    clock = MockClock()

    async def body(ctx: TaskContext) -> None:
        ctx.started()
        while not ctx.stop.is_set():
            await ctx.beat()
            await trio.sleep(1)

    async def main() -> None:
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                supervise, keep(Child("a", body, wedged_after_s=3.0), record.policy), stop, record.policy
            )
            await wait_all_tasks_blocked()
            clock.jump(60)  # nothing ran for a minute
            await wait_all_tasks_blocked()
            for _ in range(10):
                clock.jump(0.5)
                await wait_all_tasks_blocked()
            stop.set()
            clock.autojump_threshold = 0

    trio.run(main, clock=clock)
    assert record.noted("fault") == []


async def test_chaos_strikes_in_beats_only_and_is_blamed_on_the_task(autojump_clock: MockClock) -> None:
    record = Record()
    strikes = iter([False, True, False])

    async def chaos(name: str) -> None:
        if next(strikes, False):
            raise OSError(f"planted in {name}")

    async def body(ctx: TaskContext) -> None:
        ctx.started()
        while not ctx.stop.is_set():
            await ctx.beat()
            await trio.sleep(1)

    policy = Policy(rng=random.Random(1), note=record.note, chaos=chaos)
    await run_for(10, keep(Child("a", body), policy), policy)
    assert record.notes[1] == ("fault", "a", ("OSError",))


async def test_keyboard_interrupt_passes_through(autojump_clock: MockClock) -> None:
    record = Record()

    async def body(ctx: TaskContext) -> None:
        raise KeyboardInterrupt

    with pytest.RaisesGroup(KeyboardInterrupt, flatten_subgroups=True):
        await supervise(keep(Child("a", body), record.policy), trio.Event(), record.policy)
    assert record.noted("fault") == []


async def test_cancellation_ends_the_tree_and_a_crash_in_cleanup_is_still_noted(autojump_clock: MockClock) -> None:
    record = Record()

    async def body(ctx: TaskContext) -> None:
        ctx.started()
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("in cleanup")

    with trio.move_on_after(5) as scope:
        await supervise(keep(Child("a", body), record.policy), trio.Event(), record.policy)
    assert scope.cancelled_caught
    assert record.noted("fault") == ["a"]
    assert record.noted("restart") == []


async def test_crash_outside_keep_is_raised_as_it_was_named(autojump_clock: MockClock) -> None:
    record = Record()
    with pytest.raises(ChildCrashed, match="a: ValueError: a") as caught:
        await supervise(one_for_all([Child("a", record.crashing("a", 1))], record.policy), trio.Event(), record.policy)
    assert isinstance(caught.value.__cause__, ValueError)
