"""The journal task: durable before acknowledged, in order, in groups, and never a client that waits in vain."""

import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tbot.core.messages import ClientOrderId
from tbot.core.units import Nanos
from tbot.errors import InvariantViolated
from tbot.store.journal import Store, WriteFailed
from tbot.store.rows import RecordRow
from tbot.tasks.child import TaskContext
from tbot.tasks.journal import GROUP_MAX, QUEUE_SIZE, JournalClient, JournalWriter, run_inline, thread_runner

T0 = Nanos(0)


Args = TypeVarTuple("Args")
T = TypeVar("T")


class Disk:
    """Runs the store's functions inline behind a gate, counts the rows of each group, and fails when told."""

    def __init__(self) -> None:
        self.gate = trio.Event()
        self.gate.set()
        self.groups: list[int] = []
        self.fault: Exception | None = None

    async def run(self, fn: Callable[[*Args], T], /, *args: *Args) -> T:
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        self.groups += [len(rows) for rows in args if isinstance(rows, list)]
        return await run_inline(fn, *args)

    def block(self) -> None:
        self.gate = trio.Event()


class Desk:
    """A running journal over a store in memory."""

    def __init__(self, linger_s: float) -> None:
        self.store = Store.open(None, "me")
        self.disk = Disk()
        self.writer = JournalWriter(self.store, self.disk.run, linger_s=linger_s)
        self.ctx = TaskContext("journal", trio.Event())
        self.fault: BaseException | None = None
        self.ended = trio.Event()

    async def body(self) -> None:
        try:
            await self.writer.body(self.ctx)
        except* (WriteFailed, InvariantViolated, RuntimeError) as group:
            self.fault = group.exceptions[0]
        finally:
            self.ended.set()

    async def start(self, nursery: trio.Nursery) -> JournalClient:
        self.ctx = TaskContext("journal", trio.Event())
        self.fault, self.ended = None, trio.Event()
        nursery.start_soon(self.body)
        await self.ctx.is_started.wait()
        return self.writer.client()


@asynccontextmanager
async def running(linger_s: float = 0.0) -> AsyncIterator[tuple[Desk, JournalClient, trio.Nursery]]:
    desk = Desk(linger_s)
    with closing(desk.store):
        async with trio.open_nursery() as nursery:
            yield desk, await desk.start(nursery), nursery
            desk.ctx.stop.set()


def rows_of(store: Store) -> list[RecordRow]:
    return list(store.records(limit=10**6))


async def append(client: JournalClient, first: int, last: int) -> None:
    for seq in range(first, last + 1):
        await client.append("fact", b"%d" % seq, seq=seq, at_ns=T0)


async def commit(client: JournalClient, name: str) -> None:
    await client.commit_prepared(ClientOrderId(name), b"signed", at_ns=T0)


async def expect_broken(work: Callable[[], Awaitable[object]]) -> None:
    with trio.fail_after(5), pytest.raises(trio.BrokenResourceError, match="journal"):
        await work()


async def test_commit_returns_only_when_the_order_is_durable(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as (desk, client, nursery):
        desk.disk.block()
        done = trio.Event()

        async def order() -> None:
            await commit(client, "a")
            done.set()

        nursery.start_soon(order)
        await trio.sleep(60)
        assert not done.is_set()
        assert client.lag_s == pytest.approx(60, abs=1.1)
        desk.disk.gate.set()
        await done.wait()
        assert [row.client_order_id for row in desk.store.load().prepared] == ["a"]
        assert client.lag_s == 0


async def test_load_and_checkpoint_come_after_what_was_queued_before() -> None:
    async with running() as (_, client, _):
        await append(client, 1, 5)
        await client.save_checkpoint(b"five", seq=5, at_ns=T0)
        await append(client, 6, 7)
        loaded = await client.load()
        assert (loaded.epoch, loaded.checkpoint_seq) == (1, 5)
        assert [row.seq for row in loaded.records] == [6, 7]
        assert (await client.load()).epoch == 2


async def test_rows_that_wait_share_one_transaction_up_to_the_limit() -> None:
    async with running() as (desk, client, _):
        desk.disk.block()
        await append(client, 1, 1)
        await wait_all_tasks_blocked()
        await append(client, 2, 301)
        desk.disk.gate.set()
        await commit(client, "a")
        assert desk.disk.groups == [1, GROUP_MAX, 301 - GROUP_MAX]


async def test_records_wait_for_the_orders_of_their_turn_and_share_their_sync(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running(linger_s=0.005) as (desk, client, _):
        await append(client, 1, 3)
        await trio.sleep(0.001)
        await append(client, 4, 5)
        began = trio.current_time()
        await commit(client, "a")
        assert trio.current_time() == began  # whoever waits is not kept waiting for company
        assert desk.disk.groups == [6]


async def test_records_that_nobody_waits_for_are_durable_when_the_linger_is_over(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with running(linger_s=0.005) as (desk, client, _):
        await append(client, 1, 2)
        await trio.sleep(0.004)
        assert rows_of(desk.store) == []
        await append(client, 3, 3)  # a later one does not begin the wait anew
        await trio.sleep(0.0011)
        assert [row.seq for row in rows_of(desk.store)] == [1, 2, 3]


async def test_stop_in_a_linger_writes_what_it_holds() -> None:
    async with running(linger_s=3_600.0) as (desk, client, _):
        await append(client, 1, 2)
        await wait_all_tasks_blocked()
        assert desk.disk.groups == []
        desk.ctx.stop.set()
        await desk.ended.wait()
        assert desk.disk.groups == [2]


async def test_linger_never_gathers_more_than_a_group() -> None:
    async with running(linger_s=3_600.0) as (desk, client, _):
        await append(client, 1, 1)
        await wait_all_tasks_blocked()
        await append(client, 2, GROUP_MAX + 10)
        await wait_all_tasks_blocked()
        assert desk.disk.groups == [GROUP_MAX]


async def test_appender_waits_only_when_the_queue_is_full(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as (desk, client, _):
        desk.disk.block()
        await append(client, 1, 1)
        await wait_all_tasks_blocked()
        await append(client, 2, QUEUE_SIZE + 1)
        with trio.move_on_after(10) as patience:
            await append(client, QUEUE_SIZE + 2, QUEUE_SIZE + 2)
        assert patience.cancelled_caught
        desk.disk.gate.set()
        await append(client, QUEUE_SIZE + 2, QUEUE_SIZE + 2)
        assert (await client.load()).record_seq == QUEUE_SIZE + 2


async def test_stop_writes_what_is_queued_then_ends() -> None:
    async with running() as (desk, client, _):
        desk.disk.block()
        await append(client, 1, 1)
        await wait_all_tasks_blocked()
        await append(client, 2, 400)
        desk.ctx.stop.set()
        await wait_all_tasks_blocked()
        desk.disk.gate.set()
        await desk.ended.wait()
        assert len(rows_of(desk.store)) == 400
        assert desk.fault is None
        await expect_broken(lambda: append(client, 401, 401))
        await expect_broken(client.load)


async def test_failed_write_tells_everyone_who_waits_and_crashes_the_task() -> None:
    async with running() as (desk, client, _):
        desk.disk.block()
        desk.disk.fault = WriteFailed("disk full")
        async with trio.open_nursery() as waiting:
            waiting.start_soon(expect_broken, lambda: commit(client, "a"))
            await wait_all_tasks_blocked()
            for name in ("b", "c"):  # still queued when the write fails
                waiting.start_soon(expect_broken, lambda name=name: commit(client, name))
            waiting.start_soon(expect_broken, client.load)
            waiting.start_soon(expect_broken, lambda: append(client, 1, QUEUE_SIZE + 9))  # blocked in a full queue
            await wait_all_tasks_blocked()
            desk.disk.gate.set()
        await desk.ended.wait()
        assert isinstance(desk.fault, WriteFailed)
        await expect_broken(lambda: append(client, 1, 1))


async def test_restarted_task_serves_new_clients_and_refuses_old_ones() -> None:
    async with running() as (desk, old, nursery):
        await append(old, 1, 2)
        await old.load()
        desk.disk.fault = WriteFailed("disk full")
        await append(old, 3, 3)
        await desk.ended.wait()
        with pytest.raises(trio.BrokenResourceError, match="does not run"):
            desk.writer.client()
        desk.disk.fault = None
        client = await desk.start(nursery)
        await expect_broken(lambda: append(old, 3, 3))
        assert (await client.load()).record_seq == 2  # the store outlives its task, the unwritten record does not
        await append(client, 3, 3)
        assert (await client.load()).record_seq == 3


async def test_lost_record_halts_instead_of_leaving_a_gap() -> None:
    async with running() as (desk, client, _):
        await append(client, 1, 1)
        await append(client, 3, 3)
        await expect_broken(client.load)
        await desk.ended.wait()
        assert isinstance(desk.fault, InvariantViolated)


async def test_crash_between_groups_breaks_its_clients() -> None:
    async with running() as (desk, _, nursery):
        desk.ctx.stop.set()
        await desk.ended.wait()

        async def crash(_: str) -> None:
            await trio.lowlevel.checkpoint()
            raise RuntimeError("planted")

        desk.ctx = TaskContext("journal", trio.Event(), chaos=crash)
        desk.ended = trio.Event()
        nursery.start_soon(desk.body)
        await desk.ctx.is_started.wait()
        await expect_broken(desk.writer.client().load)
        await desk.ended.wait()
        assert isinstance(desk.fault, RuntimeError)


async def test_cancelled_writer_finishes_its_write_and_says_so(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as (desk, _, _):
        desk.ctx.stop.set()
        await desk.ended.wait()
        desk.disk.block()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as inner:
                client = await desk.start(inner)
                async with trio.open_nursery() as outside:
                    outside.cancel_scope.shield = True
                    outside.start_soon(commit, client, "a")
                    await wait_all_tasks_blocked()
                    scope.cancel()
                    await trio.sleep(5)
                    desk.disk.gate.set()
        assert [row.client_order_id for row in desk.store.load().prepared] == ["a"]


async def test_waiter_that_gives_up_hurts_nobody(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as (desk, client, _):
        desk.disk.block()
        with trio.move_on_after(1):
            await commit(client, "a")
        desk.disk.gate.set()
        await commit(client, "b")
        assert len(desk.store.load().prepared) == 2


async def test_idle_task_beats_every_second(autojump_clock: trio.testing.MockClock) -> None:
    async with running() as (desk, _, _):
        for _ in range(20):
            await trio.sleep(0.7)
            assert trio.current_time() - desk.ctx.beat_at <= 1.01


async def test_production_runner_keeps_the_loop_free_and_uses_one_thread_at_a_time() -> None:
    run = thread_runner()
    seen: list[int] = []
    busy = threading.Lock()

    def work() -> int:
        assert busy.acquire(blocking=False)
        seen.append(threading.get_ident())
        busy.release()
        return 1

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(run, work)
    assert len(seen) == 8
    assert threading.get_ident() not in seen


async def test_journal_on_disk_with_a_thread(tmp_path: Path) -> None:
    with closing(Store.open(tmp_path, "me")) as store:
        writer = JournalWriter(store, thread_runner())
        ctx = TaskContext("journal", trio.Event())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.body, ctx)
            await ctx.is_started.wait()
            await append(writer.client(), 1, 600)
            await commit(writer.client(), "a")
            ctx.stop.set()
    with closing(Store.open(tmp_path, "me")) as store:
        assert store.load().record_seq == 600
