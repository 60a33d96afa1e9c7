"""The dispatcher's line: orders that wait for their turn, given out one by one or as a batch.

Resting orders that follow each other may share a request. Takes and copies go alone: a batch is answered when its
slowest order is, and leaves when its slowest is signed.
"""

from __future__ import annotations

from collections import deque

import trio

from tbot.core.messages import ResendOrder, SubmitOrder
from tbot.core.orders import IMMEDIATE

Turn = SubmitOrder | ResendOrder


class Turns:
    """First in, first out; several workers may wait."""

    def __init__(self, size: int, *, together_max: int) -> None:
        """Begin empty.

        Args:
            size: Most orders that may wait.
            together_max: Most orders of one batch.
        """
        self._size = size
        self._together_max = together_max
        self._waiting: deque[Turn] = deque()
        self._changed = trio.Event()
        self._is_closed = False

    def put(self, turn: Turn) -> None:
        """Add one at the end.

        Raises:
            trio.WouldBlock: The line is full.
        """
        if len(self._waiting) >= self._size:
            raise trio.WouldBlock
        self._waiting.append(turn)
        self._wake()

    def close(self) -> None:
        """Add nothing more: who waits gets what is left, then ()."""
        self._is_closed = True
        self._wake()

    async def take(self) -> tuple[Turn, ...]:
        """Wait for the next in line and those that may go with it; () when there will be none. Always a checkpoint."""
        await trio.lowlevel.checkpoint()
        while not self._waiting and not self._is_closed:
            await self._changed.wait()
        taken: list[Turn] = []
        while self._waiting and (not taken or self._may_join(taken)):
            taken.append(self._waiting.popleft())
        return tuple(taken)

    def _may_join(self, taken: list[Turn]) -> bool:
        return len(taken) < self._together_max and _may_share(taken[0]) and _may_share(self._waiting[0])

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def _may_share(turn: Turn) -> bool:
    return isinstance(turn, SubmitOrder) and turn.order_type not in IMMEDIATE
