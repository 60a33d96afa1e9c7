"""The task that writes raw market data to disk. Nobody waits for it: what does not fit is dropped and counted.

Whoever reads a socket calls `on_raw`, which only appends to a list. Every few seconds the task hands the list to a
worker thread that compresses and writes it. A disk that refuses, or hangs, ends recording with one warning; trading
goes on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import structlog
import trio
import zstandard

from tbot.core.units import Nanos
from tbot.store.recordings import RecordedFrame, RecorderSettings, SegmentWriter, make_folder
from tbot.tasks.supervisor import Child, Policy, TaskContext, beside

log = structlog.get_logger()

# A disk that takes longer for a few seconds of data is broken, and must not keep the process from ending.
WRITE_S = 10.0
# What may wait for it in memory, beside the number of messages: a book can be a hundred times an ordinary change.
BUFFER_CHARS = 64 << 20


@dataclass(kw_only=True)
class Recorder:
    """Body of the recorder's task, and the hook of those who have something to record.

    Attributes:
        settings: How to keep it.
        writer: Where it goes.
        written: Frames on disk.
        dropped: Frames lost because the disk was slow, or refused.
        fault: Why recording ended, one sentence; "" = it goes on.
        faulted: Set with it.
    """

    settings: RecorderSettings
    writer: SegmentWriter
    written: int = field(default=0, init=False)
    dropped: int = field(default=0, init=False)
    fault: str = field(default="", init=False)
    faulted: trio.Event = field(default_factory=trio.Event, init=False)
    _waiting: list[RecordedFrame] = field(default_factory=list, init=False)
    _waiting_chars: int = field(default=0, init=False)
    _connections: int = field(default=0, init=False)
    _is_hung: bool = field(default=False, init=False)

    def connection(self) -> Callable[[str, Nanos], None]:
        """Number a connection that was just made; what is returned takes its messages, as `on_raw` does."""
        self._connections += 1
        return partial(self.on_raw, connection=self._connections)

    def on_raw(self, text: str, received_ns: Nanos, connection: int) -> None:
        """Take one message of the market channel. Never waits, never raises.

        Args:
            text: As it came.
            received_ns: When the read returned.
            connection: Number of the connection within the run.
        """
        is_full = len(self._waiting) >= self.settings.buffer_frames or self._waiting_chars >= BUFFER_CHARS
        if self.fault or is_full:
            self.dropped += 1
            return
        self._waiting_chars += len(text)
        frame = RecordedFrame(received_ns=received_ns, channel="market", connection=connection, frame=text)
        self._waiting.append(frame)

    async def run(self) -> None:
        """Write every few seconds until cancelled, and then what is left."""
        try:
            while not self.fault:
                await trio.sleep(self.settings.frame_s)
                await self._write()
        finally:
            with trio.move_on_after(WRITE_S + 1.0, shield=True):
                await self._write()
            if not self._is_hung:  # else a thread holds it still
                self.writer.close()

    async def body(self, ctx: TaskContext) -> None:
        """Do the same under a supervisor, until stopped."""
        ctx.started()
        await ctx.until_stopped(self.run, pulse=True)

    def summary(self) -> str:
        """Say in one line, or two, what came of it."""
        told = f"recorded {self.written:,} messages in {self.settings.folder}, dropped {self.dropped:,}\n"
        return told + (f"{self.fault}\n" if self.fault else "")

    # Shielded: half a write would spoil its frame. Bounded: a disk that hangs must not hold up whoever cancels us.
    async def _write(self) -> None:
        frames, self._waiting, self._waiting_chars = self._waiting, [], 0
        if not frames or self.fault:
            self.dropped += len(frames)
            return
        try:
            with trio.fail_after(WRITE_S, shield=True):
                await trio.to_thread.run_sync(self.writer.append, frames, abandon_on_cancel=True)
            self.written += len(frames)
        except (OSError, zstandard.ZstdError) as error:
            self._end(getattr(error, "strerror", None) or str(error), len(frames))
        except trio.TooSlowError:
            self._is_hung = True
            self._end(f"the disk took longer than {WRITE_S:g} s", len(frames))

    def _end(self, reason: str, lost: int) -> None:
        self.dropped += lost
        self.fault = f"recording ended: {reason}; what was written stays readable"
        self.faulted.set()
        log.warning("recorder.stopped", reason=self.fault, folder=self.settings.folder)


def recorder_into_folder(settings: RecorderSettings) -> Recorder:
    """Make the recorder that settings describe, and its folder; nothing is written yet.

    Raises:
        ConfigError: Its folder cannot be made or written to.
    """
    folder = Path(settings.folder)
    make_folder(folder)
    return Recorder(settings=settings, writer=SegmentWriter(folder, settings.level))


@asynccontextmanager
async def recording(recorder: Recorder | None, policy: Policy) -> AsyncIterator[None]:
    """Record while the context lasts. A recorder that crashes is noted and stays away: it cannot hurt trading.

    Args:
        recorder: None = nothing is recorded.
        policy: Notes a crash; nothing is restarted.
    """
    if recorder is None:
        yield
        return
    async with beside(Child("recorder", recorder.body, kind="temporary"), policy):
        yield
