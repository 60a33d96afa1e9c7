"""The way of bytes between server and client, and what faults do to it."""

from __future__ import annotations

from collections.abc import Callable

import trio

from tbot.core.units import NANOS_PER_S, Nanos
from tbot.exchanges.simulated.fault_catalogue import Fault
from tbot.exchanges.simulated.faults import Faults

# A stall that is lifted early is noticed within this time.
LOOK_S = 0.25
# The head of a frame: less than this cannot be cut in the middle.
FRAME_BYTES_MIN = 4


class Link(trio.abc.HalfCloseableStream):
    """A stream whose writes may stall or end in the middle of a frame.

    Args:
        stream: Owned from here on.
        faults: Decide.
        now_ns: The clock of the exchange.
    """

    def __init__(self, stream: trio.abc.Stream, faults: Faults, now_ns: Callable[[], Nanos]) -> None:
        self._stream = stream
        self._faults = faults
        self._now_ns = now_ns
        self._is_upgraded = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send, late or in part if a fault says so.

        Raises:
            trio.BrokenResourceError: Cut in the middle, or by the client.
        """
        # What comes first is the answer to the upgrade, no frame.
        is_frame, self._is_upgraded = self._is_upgraded, True
        if is_frame:
            await self._stall()
            if len(data) >= FRAME_BYTES_MIN and self._faults.on_frame():
                await self._stream.send_all(bytes(data)[: len(data) // 2])
                await trio.aclose_forcefully(self._stream)
                raise trio.BrokenResourceError("cut in the middle of a frame")
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """As the stream's own."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """As the stream's own."""
        return await self._stream.receive_some(max_bytes)

    async def send_eof(self) -> None:
        """As the stream's own, if it can; else nothing is told."""
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            await self._stream.send_eof()
        else:
            await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Close the stream."""
        await self._stream.aclose()

    async def _stall(self) -> None:
        while (switch := self._faults.switches.find(Fault.SLOW_READER)) is not None:
            left_s = (switch.until_ns - self._now_ns()) / NANOS_PER_S
            await trio.sleep(min(max(left_s, 0.001), LOOK_S))
