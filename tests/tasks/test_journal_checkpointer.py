"""The checkpointer: the newest state every few seconds, after its records, and once more at the end."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import msgspec
import pytest
import trio
from trio.testing import MockClock

from tbot.core.units import Nanos
from tbot.store.journal import Store
from tbot.tasks.checkpointer import SLOT_KEY, Checkpointer, CheckpointSettings, StateReached
from tbot.tasks.child import TaskContext
from tbot.tasks.conflator import Conflator
from tbot.tasks.journal import JournalClient, JournalWriter, run_inline

State = tuple[str, int]


class Desk:
    """Journal and checkpointer over a store in memory, and the coordinator's side of both."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.encoded: list[State] = []
        self.writer = JournalWriter(store, run_inline)
        self.slot: Conflator[str, StateReached[State]] = Conflator()
        self.checkpointer = Checkpointer(
            slot=self.slot, connect=self.writer.client, encode=self.encode, settings=CheckpointSettings()
        )
        self.journal_ctx = TaskContext("journal", trio.Event())
        self.ctx = TaskContext("checkpointer", trio.Event())
        self.seq = 0

    def encode(self, state: State) -> bytes:
        self.encoded.append(state)
        return msgspec.json.encode(state)

    def put(self, seq: int) -> None:
        self.slot.put(SLOT_KEY, StateReached(seq=seq, at_ns=Nanos(seq), state=("after", seq)))

    async def turn(self, client: JournalClient) -> None:
        self.seq += 1
        await client.append("fact", b"", seq=self.seq, at_ns=Nanos(self.seq))
        self.put(self.seq)

    async def run(self) -> None:
        await self.checkpointer.body(self.ctx)
        self.journal_ctx.stop.set()  # the order of a stop: who writes goes first


@asynccontextmanager
async def running(*, stale: int = 0) -> AsyncIterator[tuple[Desk, JournalClient]]:
    with closing(Store.open(None, "me")) as store:
        desk = Desk(store)
        if stale:
            desk.put(stale)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(desk.writer.body, desk.journal_ctx)
            await desk.journal_ctx.is_started.wait()
            nursery.start_soon(desk.run)
            await desk.ctx.is_started.wait()
            yield desk, desk.writer.client()
            desk.ctx.stop.set()


async def test_newest_state_is_saved_every_five_seconds(autojump_clock: MockClock) -> None:
    async with running() as (desk, client):
        for _ in range(3):
            await desk.turn(client)
        await trio.sleep(4.9)
        assert desk.store.load().checkpoint is None
        await trio.sleep(0.2)
        loaded = desk.store.load()
        assert (loaded.checkpoint_seq, loaded.records) == (3, ())
        assert loaded.checkpoint is not None
        assert (loaded.checkpoint.payload, loaded.checkpoint.at_ns) == (b'["after",3]', 3)
        assert desk.encoded == [("after", 3)]


async def test_state_without_a_new_record_is_not_saved_again(autojump_clock: MockClock) -> None:
    async with running() as (desk, client):
        await desk.turn(client)
        await trio.sleep(6)
        desk.put(desk.seq)
        await trio.sleep(20)
        assert desk.encoded == [("after", 1)]


async def test_last_state_is_saved_at_the_stop(autojump_clock: MockClock) -> None:
    async with running() as (desk, client):
        await desk.turn(client)
        await trio.sleep(6)
        await desk.turn(client)
        started = trio.current_time()
        desk.ctx.stop.set()
        await desk.journal_ctx.stop.wait()
        assert trio.current_time() == started
        assert desk.store.load().checkpoint_seq == 2


async def test_state_of_a_desk_that_died_is_dropped_at_the_start(autojump_clock: MockClock) -> None:
    async with running(stale=99) as (desk, _):
        await trio.sleep(20)
        assert desk.store.load().checkpoint is None


async def test_idle_checkpointer_beats_every_second(autojump_clock: MockClock) -> None:
    async with running() as (desk, _):
        for _ in range(20):
            await trio.sleep(0.7)
            assert trio.current_time() - desk.ctx.beat_at <= 1.01


async def test_checkpointer_crashes_with_its_journal(autojump_clock: MockClock) -> None:
    with pytest.RaisesGroup(trio.BrokenResourceError):
        async with running() as (desk, client):
            await desk.turn(client)
            desk.journal_ctx.stop.set()
            await trio.sleep(10)


@pytest.mark.parametrize("value", ["0", '"5"', "-1"])
def test_impossible_period_is_refused(value: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(f'{{"checkpoint_every_s": {value}}}', type=CheckpointSettings)
