"""The one place where a task receives: bounded lanes of facts, and behind them the newest states.

Facts are ordered and never dropped, so a sender waits while its lane is full; states only replace each other. The
reader empties everything at each wake-up, lane by lane, so an operator's command overtakes all facts and every state
is read after the facts that came before it.

An inbox belongs to one incarnation of its reader. When the reader is gone, senders break instead of waiting for a
reader that will never come; the next incarnation gets a new inbox and so never sees an old message.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from types import TracebackType
from typing import Self

import msgspec
import trio

from tbot.core.messages import Message
from tbot.tasks.conflator import Conflator

OPERATOR = "operator"
FACTS = "facts"
# A person types; 16 commands that nobody has read are a sign of a wedge, not of haste.
OPERATOR_SIZE = 16
# Bursts of fills and replies come in tens; 256 take the reader a few milliseconds, beyond that senders should wait.
FACTS_SIZE = 256
LANES: Mapping[str, int] = {OPERATOR: OPERATOR_SIZE, FACTS: FACTS_SIZE}


class LaneStatistics(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How full one lane is.

    Attributes:
        depth: Messages that wait now.
        peak: Most that ever waited.
        size: Most that may wait.
        senders: Tasks that wait because the lane is full.
    """

    depth: int
    peak: int
    size: int
    senders: int


class InboxStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """How full an inbox is.

    Attributes:
        lanes: By name, in the order in which they are drained.
        states: States that wait now.
        merged: States replaced before they were read.
    """

    lanes: dict[str, LaneStatistics]
    states: int
    merged: int


class Inbox:
    """Lanes with one reader and any number of senders.

    Use it as a context manager round the reader: leaving it by an exception breaks the senders; leaving it in order
    lets them talk to nobody.
    """

    def __init__(self, lanes: Mapping[str, int] = LANES) -> None:
        """Open empty lanes.

        Args:
            lanes: Name to size (at least 1), in the order in which they are drained; states always come last.
        """
        assert all(size >= 1 for size in lanes.values()), "a lane without room would never wake its reader"
        self._lanes = {name: trio.open_memory_channel[Message](size) for name, size in lanes.items()}
        self._states: Conflator[Hashable, Message] = Conflator(self._wake_reader)
        self._wake = trio.Event()
        self._is_taking = False
        self._is_closed = False
        self._has_finished = False

    def __enter__(self) -> Self:
        """Begin reading."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End reading: a reader that finished needs nothing more, one that crashed breaks its senders."""
        if kind is None:
            self._has_finished = True
        self.close()

    def close(self) -> None:
        """Break the senders, now and for ever: the reader is gone and what waits is lost with it."""
        self._is_closed = True
        self._states.take_nowait()
        for _, receiver in self._lanes.values():
            receiver.close()

    async def send(self, lane: str, message: Message) -> None:
        """Put a fact into a lane, after those already there; wait while the lane is full.

        To a reader that finished in order it is dropped.

        Raises:
            trio.BrokenResourceError: The reader crashed, or the inbox was closed.
        """
        sender, _ = self._lanes[lane]
        try:
            await sender.send(message)
        except trio.BrokenResourceError:
            # At an orderly stop the reader leaves before those that served it; what they still say helps nobody.
            if not self._has_finished:
                raise
        self._wake_reader()

    def send_nowait(self, lane: str, message: Message) -> None:
        """Put a fact into a lane if there is room.

        Raises:
            trio.WouldBlock: The lane is full.
            trio.BrokenResourceError: The reader is gone.
        """
        sender, _ = self._lanes[lane]
        sender.send_nowait(message)
        self._wake_reader()

    def put_state(self, key: Hashable, message: Message) -> None:
        """Make this the newest state of a key. Never waits.

        Without a reader it is dropped: a state that nobody will read is no loss, and the writers are often in their
        own cleanup then.
        """
        if not self._is_closed:
            self._states.put(key, message)

    async def take(self, deadline: float | None = None) -> tuple[Message, ...]:
        """Wait for any message or the deadline, then empty every lane, in order, and the states.

        Always a checkpoint. Nothing is lost when it is cancelled.

        Args:
            deadline: Trio time; None to wait for a message however long it takes.

        Returns:
            At least one message, or () when the deadline came first.

        Raises:
            trio.BusyResourceError: Another task is taking: an inbox has one reader.
            trio.ClosedResourceError: The inbox was closed.
        """
        if self._is_taking:
            raise trio.BusyResourceError("an inbox has one reader")
        self._is_taking = True
        try:
            if self._has_message():
                await trio.lowlevel.checkpoint()
            else:
                with trio.move_on_at(math.inf if deadline is None else deadline):
                    await self._message()
            return self.take_nowait()
        finally:
            self._is_taking = False

    def take_nowait(self) -> tuple[Message, ...]:
        """Empty every lane, in order, and the states; () when nothing waits.

        Raises:
            trio.ClosedResourceError: The inbox was closed.
        """
        taken: list[Message] = []
        for _, receiver in self._lanes.values():
            _drain(receiver, taken)
        taken.extend(self._states.take_nowait().values())
        return tuple(taken)

    def statistics(self) -> InboxStatistics:
        """Tell how full the lanes are."""
        return InboxStatistics(
            lanes={name: _lane_statistics(receiver) for name, (_, receiver) in self._lanes.items()},
            states=len(self._states),
            merged=self._states.merged,
        )

    async def _message(self) -> None:
        while not self._has_message():
            self._wake = trio.Event()
            await self._wake.wait()

    def _wake_reader(self) -> None:
        self._wake.set()

    def _has_message(self) -> bool:
        return len(self._states) > 0 or any(
            receiver.statistics().current_buffer_used for _, receiver in self._lanes.values()
        )


# The channel moves a waiting sender's message into the buffer as each one leaves it, so this gets those as well.
def _drain(receiver: trio.MemoryReceiveChannel[Message], taken: list[Message]) -> None:
    try:
        while True:
            taken.append(receiver.receive_nowait())
    except trio.WouldBlock:
        return


def _lane_statistics(receiver: trio.MemoryReceiveChannel[Message]) -> LaneStatistics:
    statistics = receiver.statistics()
    return LaneStatistics(
        depth=statistics.current_buffer_used,
        peak=statistics.peak_buffer_used,
        size=int(statistics.max_buffer_size),
        senders=statistics.tasks_waiting_send,
    )
