"""The one writer of the store: rows queue up, are written in groups, and are durable when a commit returns.

    coordinator  --append-----------------> queue (1024) --> up to 256 rows, one transaction --> disk
    dispatcher   --commit_prepared, waits-^     |
    checkpointer --save_checkpoint, waits-------+--> each waiter hears by a channel of its own

The queue is first in, first out for everybody: a checkpoint is written after the records it covers, and a load sees all
that was appended before it. Each incarnation of the writer has its own queue; when it dies, its clients get
`trio.BrokenResourceError`, never silence, and whoever starts anew asks the writer for a new client.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Protocol, TypeVar, TypeVarTuple

import msgspec
import trio

from tbot.core.messages import ClientOrderId
from tbot.core.units import Nanos
from tbot.store.journal import Store
from tbot.store.rows import CheckpointRow, Loaded, PreparedRow, RecordRow, Row
from tbot.tasks.child import PULSE_S, TaskContext

# A busy second makes some hundred records; the disk may pause for several before anyone has to wait.
QUEUE_SIZE = 1024
# The records of a turn come just before the prepared orders of its commands. Written at once, they would keep the disk
# busy when those arrive, and each order would wait for two syncs; so records wait this long for somebody who waits.
LINGER_S = 0.005
# One sync for all who wait. Writing 256 rows takes some 1.5 ms, about a sync of a cloud disk: more would gain nothing.
GROUP_MAX = 256

T = TypeVar("T")
Args = TypeVarTuple("Args")


class RunBlocking(Protocol):
    """How a blocking function is run without stopping the loop."""

    async def __call__(self, fn: Callable[[*Args], T], /, *args: *Args) -> T:
        """Run it to its end and return its result or raise its exception; never abandons it half way."""
        ...


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the queue.

    Attributes:
        row: What to write; None = load.
        reply: Gets one answer when it is durable and is closed in any case; None = nobody waits. Room for one, so that
            the writer never waits for its clients.
    """

    row: Row | None
    reply: trio.MemorySendChannel[Loaded | None] | None = None


class JournalClient:
    """A way into the queue of one incarnation of the writer.

    Every method raises `trio.BrokenResourceError` when that incarnation ended: what was not acknowledged may be lost,
    and only a new start with a new client knows.
    """

    def __init__(self, queue: trio.MemorySendChannel[Request], lag_s: Callable[[], float]) -> None:
        self._queue = queue
        self._lag_s = lag_s

    @property
    def lag_s(self) -> float:
        """Seconds that the group now being written has taken so far; 0.0 when the writer is idle."""
        return self._lag_s()

    async def append(self, kind: str, payload: bytes, *, seq: int, at_ns: Nanos) -> None:
        """Queue one record; waits only while the queue is full. Durable some milliseconds later, in order.

        Args:
            kind: Name of the payload's type.
            payload: Encoded message.
            seq: The coordinator's counter: the last one plus one.
            at_ns: Wall time of the turn.
        """
        await self._send(Request(row=RecordRow(seq=seq, at_ns=at_ns, kind=kind, payload=payload)))

    async def commit_prepared(self, client_order_id: ClientOrderId, payload: bytes, *, at_ns: Nanos) -> None:
        """Make a signed order durable; only after this returned may it be sent.

        Args:
            client_order_id: Each can be prepared once.
            payload: Encoded `Prepared`.
            at_ns: Wall time of signing.
        """
        await self._ask(PreparedRow(client_order_id=client_order_id, at_ns=at_ns, payload=payload))

    async def save_checkpoint(self, payload: bytes, *, seq: int, at_ns: Nanos) -> None:
        """Make a state durable, after all records appended before this call.

        Args:
            payload: Encoded state.
            seq: Newest record it covers.
            at_ns: Wall time of the state.
        """
        await self._ask(CheckpointRow(seq=seq, at_ns=at_ns, payload=payload))

    async def load(self) -> Loaded:
        """Start a recovery: write what was queued before, count a new epoch, and read what recovery needs."""
        loaded = await self._ask(None)
        assert loaded is not None, "the writer answers a load with what it loaded"
        return loaded

    async def _ask(self, row: Row | None) -> Loaded | None:
        reply, answer = trio.open_memory_channel[Loaded | None](1)
        async with answer:
            await self._send(Request(row=row, reply=reply))
            try:
                return await answer.receive()
            except trio.EndOfChannel as error:
                raise trio.BrokenResourceError("the journal ended before this was durable") from error

    async def _send(self, request: Request) -> None:
        # Without a checkpoint while there is room: a turn appends some ten records, and a hop for each would cost more
        # than all the rest of it.
        try:
            try:
                self._queue.send_nowait(request)
            except trio.WouldBlock:
                await self._queue.send(request)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise trio.BrokenResourceError("the journal has ended") from error


class JournalWriter:
    """The task that owns the store. Lives outside all restarts; `body` is what the supervisor runs and reruns."""

    def __init__(self, store: Store, run_blocking: RunBlocking, *, linger_s: float = 0.0) -> None:
        """Prepare; nothing is written before `body` runs.

        Args:
            store: Where to.
            run_blocking: Keeps the loop running meanwhile.
            linger_s: How long records may wait for company that is waited for; `LINGER_S` on a real disk.
        """
        self._store = store
        self._run_blocking = run_blocking
        self._linger_s = linger_s
        self._queue: trio.MemorySendChannel[Request] | None = None
        self._writing_since = 0.0
        self._is_writing = False

    def client(self) -> JournalClient:
        """Return a client of the incarnation that runs now.

        Raises:
            trio.BrokenResourceError: None runs.
        """
        if self._queue is None:
            raise trio.BrokenResourceError("the journal does not run")
        return JournalClient(self._queue, self.lag_s)

    def lag_s(self) -> float:
        """Return the seconds that the group now being written has taken so far; 0.0 when idle."""
        return trio.current_time() - self._writing_since if self._is_writing else 0.0

    async def body(self, ctx: TaskContext) -> None:
        """Write until stopped; then write what is still queued, and end.

        Whoever writes must have stopped before this is: a stop closes the queue.

        Raises:
            WriteFailed: The disk did not take a group; all who waited for it were told.
            InvariantViolated: A group was impossible, e.g. a record out of sequence.
            StateCorrupt: The file was found damaged.
        """
        queue, requests = trio.open_memory_channel[Request](QUEUE_SIZE)
        self._queue = queue
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_close_at_stop, ctx, queue)
                ctx.started()
                await self._serve(ctx, requests)
                nursery.cancel_scope.cancel()
        finally:
            self._queue = None
            _abandon(requests)

    async def _serve(self, ctx: TaskContext, requests: trio.MemoryReceiveChannel[Request]) -> None:
        while True:
            await ctx.beat()
            with trio.move_on_after(PULSE_S) as pause:
                try:
                    first = await requests.receive()
                except trio.EndOfChannel:
                    return
            if not pause.cancelled_caught:
                group = _drain(requests, [first])
                if self._linger_s:
                    await self._linger(requests, group)
                await self._perform(group)

    async def _linger(self, requests: trio.MemoryReceiveChannel[Request], group: list[Request]) -> None:
        """Let records wait for a request that somebody waits for, unless there is one among them."""
        with trio.move_on_after(self._linger_s), suppress(trio.EndOfChannel):
            while len(group) < GROUP_MAX and all(request.reply is None for request in group):
                group.append(await requests.receive())
                _drain(requests, group)

    async def _perform(self, group: Sequence[Request]) -> None:
        self._is_writing, self._writing_since = True, trio.current_time()
        try:
            for is_load, part in groupby(group, key=lambda request: request.row is None):
                requests = list(part)
                await (self._load(requests) if is_load else self._write(requests))
        finally:
            self._is_writing = False
            _close_replies(group)

    async def _write(self, group: Sequence[Request]) -> None:
        rows = [request.row for request in group if request.row is not None]
        # Shielded: what began in the thread ends there, and whoever waits must hear that it did.
        with trio.CancelScope(shield=True):
            await self._run_blocking(self._store.write, rows)
        for request in group:
            _answer(request, None)

    async def _load(self, group: Sequence[Request]) -> None:
        for request in group:
            with trio.CancelScope(shield=True):
                loaded = await self._run_blocking(self._store.load)
            _answer(request, loaded)


def thread_runner() -> RunBlocking:
    """Return a runner with a thread of its own: others that block can neither delay the journal nor meet it."""
    limiter = trio.CapacityLimiter(1)

    async def run_in_thread(fn: Callable[[*Args], T], /, *args: *Args) -> T:
        return await trio.to_thread.run_sync(fn, *args, limiter=limiter)

    return run_in_thread


async def run_inline(fn: Callable[[*Args], T], /, *args: *Args) -> T:
    """Run a function right here: for simulations, whose clock may not wait for a thread."""
    await trio.lowlevel.checkpoint()
    return fn(*args)


async def _close_at_stop(ctx: TaskContext, queue: trio.MemorySendChannel[Request]) -> None:
    await ctx.stop.wait()
    queue.close()


def _drain(requests: trio.MemoryReceiveChannel[Request], group: list[Request]) -> list[Request]:
    with suppress(trio.WouldBlock, trio.EndOfChannel):
        while len(group) < GROUP_MAX:
            group.append(requests.receive_nowait())
    return group


def _abandon(requests: trio.MemoryReceiveChannel[Request]) -> None:
    # Without an await between, so nobody can slip in; senders that were blocked are let in and turned away here too.
    with suppress(trio.WouldBlock, trio.EndOfChannel):
        while True:
            _close_replies([requests.receive_nowait()])
    requests.close()


def _answer(request: Request, answer: Loaded | None) -> None:
    if request.reply is not None:
        with suppress(trio.BrokenResourceError):  # it was cancelled while it waited
            request.reply.send_nowait(answer)


def _close_replies(group: Sequence[Request]) -> None:
    for request in group:
        if request.reply is not None:
            request.reply.close()
