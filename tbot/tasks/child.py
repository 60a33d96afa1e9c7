"""What a supervised task is: its context, its description, its policy, and how its faults are named.

Bodies import their `TaskContext` from here or from `supervisor`, which runs them.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import trio

from tbot.core.backoff import Backoff
from tbot.errors import AuthenticationFailed, ConfigError, InvariantViolated, StateCorrupt, TbotError

Kind = Literal["permanent", "transient", "temporary"]
Note = Callable[[str, str, Sequence[BaseException]], None]
Chaos = Callable[[str], Awaitable[None]]

# A restart cannot cure these: a person has to. They go straight up, whatever the restart limits say.
NEVER_RESTARTED = (ConfigError, AuthenticationFailed, InvariantViolated, StateCorrupt)
# Raised by a task whose counterpart died first: it is never to blame while anybody else is.
AFTERMATH = (trio.BrokenResourceError, trio.ClosedResourceError)
# Idle tasks beat this often, seconds; wedge deadlines are whole multiples of it.
PULSE_S = 1.0


class UnexpectedExit(TbotError):
    """A permanent child returned without having been asked to stop."""


class NotReady(TbotError):
    """A child did not call `started` in time."""


class Wedged(TbotError):
    """A child made no progress within its deadline."""


class ChildCrashed(TbotError):
    """One task crashed.

    Attributes:
        name: The task to blame.
        causes: What it raised, groups flattened.
    """

    def __init__(self, name: str, causes: Sequence[BaseException]) -> None:
        """Name the task beside what it raised."""
        super().__init__(f"{name}: {'; '.join(describe(cause) for cause in causes)}")
        self.name = name
        self.causes = tuple(causes)


class RestartLimit(ChildCrashed):
    """A unit crashed too often and gives up; `name` and `causes` tell the last crash.

    Attributes:
        unit: The child that is not restarted any more.
    """

    def __init__(self, unit: str, last: ChildCrashed) -> None:
        """Keep the unit beside its last crash."""
        super().__init__(last.name, last.causes)
        self.unit = unit


class TaskContext:
    """What a body gets from its supervisor.

    Attributes:
        name: Name of the child.
        stop: Set when the body should finish and return.
        is_started: Set by `started`.
        value: What `started` was given.
        beat_at: Trio time of the last progress.
    """

    def __init__(
        self,
        name: str,
        stop: trio.Event,
        *,
        chaos: Chaos | None = None,
        tell: Callable[[object], None] | None = None,
    ) -> None:
        """Begin a context that has made no progress yet.

        Args:
            name: Name of the child.
            stop: Its stop.
            chaos: Awaited with the name in every beat.
            tell: Called once, with the value given to `started`.
        """
        self.name = name
        self.stop = stop
        self.is_started = trio.Event()
        self.value: object = None
        self.beat_at = -math.inf
        self._chaos = chaos
        self._tell = tell

    def started(self, value: object = None) -> None:
        """Tell the supervisor that the body does its work now; only the first call counts.

        From here on the child must `beat`, if it has a wedge deadline.
        """
        if not self.is_started.is_set():
            self.value, self.beat_at = value, trio.current_time()
            self.is_started.set()
            if self._tell is not None:
                self._tell(value)

    async def beat(self) -> None:
        """Record progress. A checkpoint, and the only place where an injected fault may strike."""
        self.beat_at = trio.current_time()
        await trio.lowlevel.checkpoint()
        if self._chaos is not None:
            await self._chaos(self.name)

    async def until_stopped(self, work: Callable[[], Awaitable[None]], *, pulse: bool = False) -> None:
        """Run work until it returns or the stop comes, whichever is first; a stop cancels it.

        Args:
            work: What the body does; at a stop it is cancelled at its next checkpoint.
            pulse: Beat every `PULSE_S` beside the work. For work that waits long at one place and has deadlines of
                its own there; the pulse proves only that the loop still runs this task's nursery.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cancel_at_stop, nursery.cancel_scope)
            if pulse:
                nursery.start_soon(self._pulse)
            await work()
            nursery.cancel_scope.cancel()

    async def _cancel_at_stop(self, scope: trio.CancelScope) -> None:
        await self.stop.wait()
        scope.cancel()

    async def _pulse(self) -> None:
        while True:
            await self.beat()
            await trio.sleep(PULSE_S)


Body = Callable[[TaskContext], Awaitable[None]]


@dataclass(frozen=True)
class Child:
    """A task, or a group of tasks, as its supervisor sees it.

    Attributes:
        name: For logs and counters; unique in the tree.
        body: What to run; called anew, with a fresh context, at each restart.
        kind: "permanent" must run until stopped; "transient" may return, its crash is a fault; "temporary" is
            never restarted, its crash is noted and hurts nobody.
        ready_within_s: Seconds to `started`; infinite for none.
        wedged_after_s: Longest silence between beats once started, seconds; infinite (right for groups) for none.
        stop_within_s: Seconds from stop to cancellation. A child that is itself a group needs the sum of its members'.
    """

    name: str
    body: Body
    kind: Kind = field(default="permanent", kw_only=True)
    ready_within_s: float = field(default=30.0, kw_only=True)
    wedged_after_s: float = field(default=math.inf, kw_only=True)
    stop_within_s: float = field(default=5.0, kw_only=True)


def unnoted(_kind: str, _name: str, _causes: Sequence[BaseException]) -> None:
    """Drop a note."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """When to restart, and who is told.

    Attributes:
        rng: Seeded generator of the back-off's jitter.
        faults_max: Most restarts of a unit within the window.
        window_s: Length of the sliding window, seconds.
        backoff: Delays between crash and restart.
        note: Called with (kind, task name, causes); kinds: "start", "fault" (once for each crashed task), "restart"
            (runs again on account of that task), "off" (gave up, others go on), "cut" (cancelled because it did
            not stop in time).
        chaos: Fault injection, awaited in every beat with the task's name; None in production.
        restarts: Counts by the name of the task that crashed; shared by all copies of a policy.
    """

    rng: random.Random
    faults_max: int = 5
    window_s: float = 600.0
    backoff: Backoff = field(default_factory=lambda: Backoff(0.25, 30.0))
    note: Note = unnoted
    chaos: Chaos | None = None
    restarts: Counter[str] = field(default_factory=Counter)


def leaves(error: BaseException) -> list[BaseException]:
    """Flatten an exception and the groups in it, in order."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [error]


def describe(error: BaseException) -> str:
    """Name an exception and its message on one line."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
