"""Save the coordinator's newest state now and then, so that a restart replays seconds instead of days."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Generic, TypeVar

import msgspec
import trio

from tbot.core.units import Nanos
from tbot.tasks.child import PULSE_S, TaskContext
from tbot.tasks.conflator import Conflator
from tbot.tasks.journal import JournalClient

SLOT_KEY = "coordinator"

S = TypeVar("S")


class CheckpointSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the checkpointer.

    Attributes:
        checkpoint_every_s: Seconds between checkpoints, so about the most that a restart has to replay.
    """

    checkpoint_every_s: Annotated[float, msgspec.Meta(ge=0.1, le=3600)] = 5.0


class StateReached(msgspec.Struct, Generic[S], frozen=True, kw_only=True):
    """State, newest wins: the coordinator after one of its records. Put into the slot under `SLOT_KEY`.

    Attributes:
        seq: Newest record the state covers; it was appended to the journal before this was put.
        at_ns: Wall time of the state.
        state: Immutable; encoded only when it is saved, so that the states in between cost nothing.
    """

    seq: int
    at_ns: Nanos
    state: S


class Checkpointer(Generic[S]):
    """The task that saves checkpoints, through the journal's own queue."""

    def __init__(
        self,
        *,
        slot: Conflator[str, StateReached[S]],
        connect: Callable[[], JournalClient],
        encode: Callable[[S], bytes],
        settings: CheckpointSettings,
    ) -> None:
        """Wire it up; nothing happens before `body`.

        Args:
            slot: Where the coordinator puts its states.
            connect: Returns a client of the journal that runs now.
            encode: Turns a state into the payload of a checkpoint.
            settings: How often.
        """
        self._slot = slot
        self._connect = connect
        self._encode = encode
        self._every_s = settings.checkpoint_every_s

    async def body(self, ctx: TaskContext) -> None:
        """Save the newest state every few seconds, and once more when stopped.

        Raises:
            trio.BrokenResourceError: The journal ended.
        """
        # What waits at the start is the word of a desk that died, perhaps on records that died with its journal.
        self._slot.take_nowait()
        journal = self._connect()
        ctx.started()
        is_last, seq_saved = False, -1
        while not is_last:
            is_last = await self._pause(ctx)
            seq_saved = await self._save(journal, seq_saved)

    async def _pause(self, ctx: TaskContext) -> bool:
        # Wait for the next turn, beating meanwhile; return whether the stop came.
        due = trio.current_time() + self._every_s
        while not ctx.stop.is_set() and trio.current_time() < due:
            with trio.move_on_at(min(due, trio.current_time() + PULSE_S)):
                await ctx.stop.wait()
            await ctx.beat()
        return ctx.stop.is_set()

    async def _save(self, journal: JournalClient, seq_saved: int) -> int:
        newest = self._slot.take_nowait().get(SLOT_KEY)
        if newest is None or newest.seq == seq_saved:  # no record since: the same state, so the same checkpoint
            return seq_saved
        await journal.save_checkpoint(self._encode(newest.state), seq=newest.seq, at_ns=newest.at_ns)
        return newest.seq
