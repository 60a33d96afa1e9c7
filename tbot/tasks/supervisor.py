"""Run a tree of tasks, restart what fails, give up upward.

A tree is a body made of bodies. `keep` runs one child and reruns it after a fault; the other strategies are only
nesting: `one_for_all` is a nursery whose first crash ends it (so `keep` round it restarts all), `one_for_one` is many
`keep` side by side, `rest_for_one` is `keep` inside `one_for_all` inside `keep`. Every combinator returns a body, so
groups nest freely::

    desk = one_for_all([Child("coordinator", ...), Child("strategies", one_for_one([...], policy))], policy)
    await supervise(rest_for_one([Child("journal", ...), Child("desk", desk)], policy), stop, policy)

A fault is named once, where it happens: it becomes `ChildCrashed(name)`, and every level above hands that on, so a
restart of the whole desk is still counted against the task that crashed. A stop travels the other way: it reaches the
children of a group in the reverse of the order in which they were started, and the next only when the last is gone.

A wedged task is cancelled, so one that waits in a shielded scope for ever cannot be helped: every shield in the tree
is bounded (at most 5 s), but for the journal's, which ends when the disk answers. This file holds the only
`except* Exception` of the tree; `trio.Cancelled` and `KeyboardInterrupt` pass through it by construction, since neither
is an `Exception`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import NoReturn

import trio

from tbot.tasks.child import (
    AFTERMATH,
    NEVER_RESTARTED,
    PULSE_S,
    Body,
    Chaos,
    Child,
    ChildCrashed,
    Kind,
    Note,
    NotReady,
    Policy,
    RestartLimit,
    TaskContext,
    UnexpectedExit,
    Wedged,
    describe,
    leaves,
)

__all__ = [
    "AFTERMATH",
    "NEVER_RESTARTED",
    "PULSE_S",
    "Body",
    "Chaos",
    "Child",
    "ChildCrashed",
    "Kind",
    "NotReady",
    "Note",
    "Policy",
    "RestartLimit",
    "TaskContext",
    "UnexpectedExit",
    "Wedged",
    "beside",
    "describe",
    "keep",
    "leaves",
    "one_for_all",
    "one_for_one",
    "rest_for_one",
    "supervise",
]


def _unheard(_name: str) -> None:
    """Tell nobody that a child went off."""


def keep(child: Child, policy: Policy) -> Body:
    """Run a child; after a fault back off and run it again.

    Raises:
        RestartLimit: From the body, when the child crashed more than `faults_max` times within the window.
        ChildCrashed: From the body, when a restart cannot help (`NEVER_RESTARTED`).
    """
    return _keep(child, policy, straight_up=())


def one_for_all(children: Sequence[Child], policy: Policy) -> Body:
    """Run children that live and die together: the first crash ends all of them and is raised.

    They start in order, each when the one before has called `started`, so none may wait for a later one to become
    ready. The group is ready when all are. It is not restarted here: put `keep` round it.

    Raises:
        ChildCrashed: From the body (in a group), one for each child that crashed.
    """

    async def body(ctx: TaskContext) -> None:
        members = [_Member(child, ctx, policy) for child in children]
        await _run_group(members, ctx, policy, in_turn=True)

    return body


def one_for_one(children: Sequence[Child], policy: Policy, on_off: Callable[[str], None] = _unheard) -> Body:
    """Run children that do not depend on each other, each restarted alone; one that gives up stays off.

    All begin at once and the group is ready at once, since nobody may wait for any of them. A stop, too, reaches all
    of them at once.

    Args:
        children: Leaves or groups.
        policy: Restart limits, counted for each child by itself.
        on_off: Called with the name of a child that is not restarted any more.
    """

    async def body(ctx: TaskContext) -> None:
        members = [_Member(_switched_off_at_limit(child, policy, on_off), ctx, policy) for child in children]
        await _run_group(members, ctx, policy, in_turn=False)

    return body


def rest_for_one(children: Sequence[Child], policy: Policy) -> Body:
    """Run children each of which needs those before it: a crash restarts the child and all after it.

    A child past its restart limit is the end of the whole group: restarting what it depends on would only multiply
    the attempts.

    Raises:
        RestartLimit: From the body (perhaps in a group), when one of them crashed too often.
    """
    head, *tail = children
    if not tail:
        return _keep(head, policy, straight_up=(RestartLimit,))
    rest = Child(
        name=f"{head.name}'s dependants",
        body=rest_for_one(tail, policy),
        kind="transient",
        ready_within_s=math.inf,  # each of them has a deadline of its own
        stop_within_s=sum(child.stop_within_s for child in tail),
    )
    pair = replace(head, body=one_for_all([head, rest], policy), ready_within_s=math.inf, wedged_after_s=math.inf)
    return _keep(pair, policy, straight_up=(RestartLimit,))


async def supervise(body: Body, stop: trio.Event, policy: Policy, *, stop_within_s: float = 20.0) -> None:
    """Run a whole tree until it stops.

    Args:
        body: The root, made with the combinators above.
        stop: Asks for the orderly end.
        policy: Of the root.
        stop_within_s: Seconds from the stop to the cancellation of what is left.

    Raises:
        ConfigError, AuthenticationFailed, InvariantViolated, StateCorrupt: As a task raised it, first of all crashes.
        RestartLimit: The tree gave up.
        ChildCrashed: The root was not wrapped in `keep`.
    """
    crashes: list[ChildCrashed] = []
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cut_late_stop, stop, stop_within_s, nursery.cancel_scope, policy)
            await body(TaskContext("root", stop, chaos=policy.chaos))
            nursery.cancel_scope.cancel()
    except* ChildCrashed as group:
        crashes = _crashes_in(group)
    if crashes:
        raise _verdict(crashes)


@asynccontextmanager
async def beside(child: Child, policy: Policy, *, end_within_s: float = math.inf) -> AsyncIterator[None]:
    """Run a child of no tree while the context lasts, then stop it.

    Args:
        child: A "temporary" one cannot hurt what it runs beside: its crash is noted, and it stays away.
        policy: Notes a crash.
        end_within_s: Seconds from the stop to its cancellation.
    """
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep(child, policy), TaskContext(child.name, stop))
        yield
        stop.set()
        nursery.cancel_scope.deadline = trio.current_time() + end_within_s


def _crashes_in(error: BaseException) -> list[ChildCrashed]:
    return [leaf for leaf in leaves(error) if isinstance(leaf, ChildCrashed)]


def _is_final(crashes: Sequence[ChildCrashed]) -> bool:
    return any(isinstance(cause, NEVER_RESTARTED) for crash in crashes for cause in crash.causes)


def _is_aftermath(crash: ChildCrashed) -> bool:
    return all(isinstance(cause, AFTERMATH) for cause in crash.causes)


# Nurseries report in the order in which tasks ended, and min() keeps the first of equals: the first real crash.
def _culprit(crashes: Sequence[ChildCrashed]) -> ChildCrashed:
    return min(crashes, key=_is_aftermath)


def _verdict(crashes: Sequence[ChildCrashed]) -> BaseException:
    final = [cause for crash in crashes for cause in crash.causes if isinstance(cause, NEVER_RESTARTED)]
    limits = [crash for crash in crashes if isinstance(crash, RestartLimit)]
    verdict: BaseException = (final or limits or [_culprit(crashes)])[0]
    return verdict


def _raise_all(crashes: Sequence[ChildCrashed]) -> NoReturn:
    if len(crashes) == 1:
        raise crashes[0]
    raise ExceptionGroup("tasks crashed", crashes)


async def _cut_late_stop(stop: trio.Event, within_s: float, scope: trio.CancelScope, policy: Policy) -> None:
    await stop.wait()
    await trio.sleep(within_s)
    policy.note("cut", "root", [])
    scope.cancel()


def _keep(child: Child, policy: Policy, *, straight_up: tuple[type[ChildCrashed], ...]) -> Body:
    async def body(ctx: TaskContext) -> None:
        history: deque[float] = deque()
        while not ctx.stop.is_set():
            crashes = await _run_once(child, ctx.stop, policy, tell=ctx.started, is_stopping=ctx.stop.is_set)
            if _is_final(crashes) or any(isinstance(crash, straight_up) for crash in crashes):
                _raise_all(crashes)
            if not crashes or ctx.stop.is_set() or child.kind == "temporary":
                return
            culprit = _culprit(crashes)
            if _faults_in_window(history, policy) > policy.faults_max:
                raise RestartLimit(child.name, culprit) from culprit
            with trio.move_on_after(policy.backoff.delay(len(history) - 1, policy.rng)):
                await ctx.stop.wait()
                return
            policy.restarts[culprit.name] += 1
            policy.note("restart", culprit.name, culprit.causes)

    return body


def _faults_in_window(history: deque[float], policy: Policy) -> int:
    now = trio.current_time()
    history.append(now)
    while history[0] <= now - policy.window_s:
        history.popleft()
    return len(history)


async def _run_once(
    child: Child,
    stop: trio.Event,
    policy: Policy,
    *,
    tell: Callable[[object], None],
    is_stopping: Callable[[], bool],
) -> list[ChildCrashed]:
    """Run one incarnation and return its crashes: none after a clean end, several when a group went down."""
    crashes: list[ChildCrashed] = []
    ctx = TaskContext(child.name, stop, chaos=policy.chaos, tell=tell)
    policy.note("start", child.name, [])
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_watch, child, ctx)
            await child.body(ctx)
            if child.kind == "permanent" and not is_stopping():
                raise UnexpectedExit(f"{child.name} returned without being asked to stop")
            nursery.cancel_scope.cancel()
    except* Exception as group:  # noqa: BLE001 - the supervisor is the one place that may
        # Named and noted here and not by the caller: beside a Cancelled this function does not return.
        crashes = _named(child.name, group, policy)
    return crashes


# Crashes named further down are handed on as they are; what is left was raised by this child itself.
def _named(name: str, group: BaseExceptionGroup[Exception], policy: Policy) -> list[ChildCrashed]:
    crashes = _crashes_in(group)
    own = [leaf for leaf in leaves(group) if not isinstance(leaf, ChildCrashed)]
    if own:
        crash = ChildCrashed(name, own)
        crash.__cause__ = own[0] if len(own) == 1 else group
        crashes.append(crash)
        policy.note("fault", name, own)
    return crashes


async def _watch(child: Child, ctx: TaskContext) -> None:
    with trio.move_on_after(child.ready_within_s):
        await ctx.is_started.wait()
    if not ctx.is_started.is_set():
        raise NotReady(f"{child.name} was not ready within {child.ready_within_s:g} s")
    if child.wedged_after_s < math.inf:
        await _watch_beats(child, ctx)


async def _watch_beats(child: Child, ctx: TaskContext) -> None:
    limit_s = child.wedged_after_s
    due = ctx.beat_at + limit_s
    while trio.current_time() < due:
        await trio.sleep_until(due)
        # Waking late ourselves proves that the whole loop stood still: the child gets its time again.
        is_late = trio.current_time() - due > limit_s / 2
        due = (trio.current_time() if is_late else ctx.beat_at) + limit_s
    raise Wedged(f"{child.name} made no progress for {limit_s:g} s")


class _Member:
    """A child within a group: its own stop, its own scope, and what became of it."""

    def __init__(self, child: Child, group: TaskContext, policy: Policy) -> None:
        self.child, self.group, self.policy = child, group, policy
        self.stop = trio.Event()
        self.scope = trio.CancelScope()
        self.settled = trio.Event()  # ready, or gone before it was
        self.gone = trio.Event()

    async def live(self) -> None:
        try:
            with self.scope:
                crashes = await _run_once(
                    self.child, self.stop, self.policy, tell=self._ready, is_stopping=self.group.stop.is_set
                )
                if crashes and not self._is_tolerated(crashes):
                    _raise_all(crashes)
        finally:
            self.settled.set()
            self.gone.set()

    def _ready(self, _value: object) -> None:
        self.settled.set()

    # While stopping, a crash must not cost the others their orderly end.
    def _is_tolerated(self, crashes: Sequence[ChildCrashed]) -> bool:
        return (self.group.stop.is_set() or self.child.kind == "temporary") and not _is_final(crashes)


async def _run_group(members: Sequence[_Member], ctx: TaskContext, policy: Policy, *, in_turn: bool) -> None:
    begun: list[_Member] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop_group, ctx.stop, begun, policy, in_turn)
        for member in members:
            if ctx.stop.is_set():
                break
            begun.append(member)
            nursery.start_soon(member.live)
            if in_turn:
                await member.settled.wait()
        ctx.started()
        for member in begun:
            await member.gone.wait()
        nursery.cancel_scope.cancel()


# Nobody begins once `stop` is set, so `begun` is complete when this wakes.
async def _stop_group(stop: trio.Event, begun: Sequence[_Member], policy: Policy, in_turn: bool) -> None:
    await stop.wait()
    if in_turn:
        for member in reversed(begun):
            await _stop_together([member], policy)
    else:
        await _stop_together(begun, policy)


async def _stop_together(members: Sequence[_Member], policy: Policy) -> None:
    now = trio.current_time()
    for member in members:
        member.stop.set()
    for member in members:
        with trio.move_on_at(now + member.child.stop_within_s):
            await member.gone.wait()
        if not member.gone.is_set():
            policy.note("cut", member.child.name, [])
            member.scope.cancel()
    for member in members:
        await member.gone.wait()


def _switched_off_at_limit(child: Child, policy: Policy, on_off: Callable[[str], None]) -> Child:
    async def body(ctx: TaskContext) -> None:
        try:
            await keep(child, policy)(ctx)
        except RestartLimit as limit:
            policy.note("off", child.name, limit.causes)
            on_off(child.name)

    return replace(child, body=body, kind="transient", ready_within_s=math.inf, wedged_after_s=math.inf)
