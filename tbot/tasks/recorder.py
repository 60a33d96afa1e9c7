"""The task that writes raw market data to disk. Nobody waits for it: what does not fit is dropped and counted.

Whoever reads a socket calls `on_raw`, which only appends to a list. Every few seconds the task hands the list to a
worker thread that compresses and writes it. A disk that refuses ends recording with one warning; trading goes on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import structlog
import trio

from tbot.core.units import Nanos
from tbot.store.recordings import RecordedFrame, RecorderSettings, SegmentWriter

log = structlog.get_logger()


@dataclass(kw_only=True)
class Recorder:
    """Body of the recorder's task, and the hook of those who have something to record.

    Attributes:
        settings: How to keep it.
        writer: Where it goes.
        written: Frames on disk.
        dropped: Frames lost because the disk was slow, or refused.
        fault: Why recording ended, one sentence; "" = it goes on.
    """

    settings: RecorderSettings
    writer: SegmentWriter
    written: int = field(default=0, init=False)
    dropped: int = field(default=0, init=False)
    fault: str = field(default="", init=False)
    _waiting: list[RecordedFrame] = field(default_factory=list, init=False)

    def on_raw(self, text: str, received_ns: Nanos, connection: int) -> None:
        """Take one message of the market channel. Never waits, never raises.

        Args:
            text: As it came.
            received_ns: When the read returned.
            connection: Number of the connection within the run.
        """
        if self.fault or len(self._waiting) >= self.settings.buffer_frames:
            self.dropped += 1
            return
        frame = RecordedFrame(received_ns=received_ns, channel="market", connection=connection, frame=text)
        self._waiting.append(frame)

    async def run(self) -> None:
        """Write every few seconds until cancelled, and then what is left."""
        try:
            while not self.fault:
                await trio.sleep(self.settings.frame_s)
                await self._write()
        finally:
            # Bounded by the disk alone: a thread cannot be cancelled, and half a write is what must not be.
            with trio.CancelScope(shield=True):
                await self._write()
                self.writer.close()

    async def _write(self) -> None:
        frames, self._waiting = self._waiting, []
        if not frames or self.fault:
            self.dropped += len(frames)
            return
        try:
            await trio.to_thread.run_sync(self.writer.append, frames)
            self.written += len(frames)
        except OSError as error:
            self.dropped += len(frames)
            self.fault = f"recording ended: {error.strerror or error}; what was written stays readable"
            log.warning("recorder.stopped", reason=self.fault)
