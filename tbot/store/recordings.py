"""Market data as it arrived: append-only segments of zstd-compressed JSON lines; see docs/recordings.md.

A segment is a row of complete zstd frames, one closed every few seconds: a crash loses at most the open one, and what
was cut is skipped and counted when it is read. Segments begin with an hour and are never reopened, so nothing that was
written can be spoiled by a later run. Recording never holds up trading: when the disk refuses, it ends.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Annotated, Final

import msgspec
import zstandard

from tbot.core.units import NANOS_PER_S, Nanos
from tbot.errors import ConfigError

SUFFIX: Final = ".jsonl.zst"
HOUR_NS: Final = 3600 * NANOS_PER_S
CHUNK_BYTES: Final = 1 << 18
ATTEMPTS: Final = 1_000


class RecorderSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How raw market data is kept.

    Attributes:
        folder: Where segments go; made when it is not there.
        frame_s: Seconds of data that a crash may lose.
        buffer_frames: Frames that may wait for the disk; more are dropped and counted.
        level: Effort of zstd, 1 to 19; 3 compresses books to a twentieth at little cost.
    """

    folder: str = "recordings"
    frame_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 2.0
    buffer_frames: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 20_000
    level: Annotated[int, msgspec.Meta(ge=1, le=19)] = 3


def make_folder(folder: Path) -> None:
    """Make the folder unless it is there, and refuse one that takes nothing.

    Raises:
        ConfigError: As `check_folder`.
    """
    check_folder(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refusal(folder, "made", error) from error
    check_folder(folder)


def check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be made or written to, as far as can be told without making it.

    Raises:
        ConfigError: With the folder and the remedy.
    """
    verb = "made"
    try:
        there = next(each for each in (folder, *folder.absolute().parents) if os.path.lexists(each))
        verb = "written to" if there == folder else "made"
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise _refusal(folder, verb, error) from error


def _refusal(folder: Path, verb: str, error: OSError) -> ConfigError:
    where = folder.absolute()
    return ConfigError(f"recorder.folder: {where} cannot be {verb} ({error.strerror}): name one where you may write")


class RecordedFrame(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One message of a channel, as it came.

    Attributes:
        received_ns: When our read returned, wall nanoseconds.
        channel: "market"; the user channel holds secrets and is never recorded.
        connection: Number of the connection within the run: a new one means a gap.
        frame: The text.
    """

    received_ns: Nanos
    channel: str
    connection: int
    frame: str


class SegmentWriter:
    """Writes segments. Blocking and not thread-safe: owned by one worker at a time."""

    def __init__(self, folder: Path, level: int) -> None:
        """Write nothing yet.

        Args:
            folder: Where segments go.
            level: Effort of zstd.
        """
        self._folder = folder
        self._compressor = zstandard.ZstdCompressor(level=level)
        self._encoder = msgspec.json.Encoder()
        self._file: IO[bytes] | None = None
        self._hour = -1

    def append(self, frames: list[RecordedFrame]) -> None:
        """Write frames as complete zstd frames, in the segments of their hours.

        Raises:
            OSError: The disk is full or refuses; what was written before stays readable.
        """
        start = 0
        for i, frame in enumerate(frames):
            if frame.received_ns // HOUR_NS != self._hour:
                self._write(frames[start:i])
                start = i
                self._rotate(frame.received_ns // HOUR_NS, frame.received_ns)
        self._write(frames[start:])

    def close(self) -> None:
        """End the segment."""
        if self._file is not None:
            # Whatever was written is flushed; a disk that refused the last part would only refuse it again.
            with suppress(OSError):
                self._file.close()
            self._file = None

    def _write(self, frames: list[RecordedFrame]) -> None:
        if frames and self._file is not None:
            lines = b"".join(self._encoder.encode(frame) + b"\n" for frame in frames)
            self._file.write(self._compressor.compress(lines))
            self._file.flush()

    def _rotate(self, hour: int, received_ns: int) -> None:
        self.close()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file = _new_file(self._folder, received_ns)
        self._hour = hour


class LineReader:
    """Lines of a zstd file; stops before what is cut.

    Attributes:
        fault: Why the rest could not be read, one sentence; "" = read to its end. Known once iterated.
    """

    def __init__(self, file: IO[bytes]) -> None:
        """Read from an open file."""
        self._file = file
        self.fault = ""

    def __iter__(self) -> Iterator[bytes]:
        """Give the complete lines, and at the end what stands after the last newline."""
        rest = b""
        for chunk in self._chunks():
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines
        # The last line of a frame that was cut is cut as well.
        if rest and not self.fault:
            yield rest

    def _chunks(self) -> Iterator[bytes]:
        decompressor, data = None, b""
        while data := data or self._file.read(CHUNK_BYTES):
            decompressor = decompressor or zstandard.ZstdDecompressor().decompressobj()
            try:
                yield decompressor.decompress(data)
            except zstandard.ZstdError as error:
                self.fault = f"damaged: {error}"
                return
            data, decompressor = (decompressor.unused_data, None) if decompressor.eof else (b"", decompressor)
        if decompressor is not None:
            self.fault = "cut: the last zstd frame is not complete"


def segment_name(received_ns: int, attempt: int) -> str:
    """Name a segment by the UTC second of its first frame, so that names sort as times do.

    Args:
        received_ns: Receive time of the first frame.
        attempt: Tells segments of one second apart.
    """
    moment = datetime.fromtimestamp(received_ns // NANOS_PER_S, UTC)
    return f"{moment:%Y-%m-%dT%H-%M-%SZ}-{attempt:03d}{SUFFIX}"


def _new_file(folder: Path, received_ns: int) -> IO[bytes]:
    for attempt in range(ATTEMPTS):
        try:
            return (folder / segment_name(received_ns, attempt)).open("xb")
        except FileExistsError:
            continue
    raise FileExistsError(f"{folder}: {ATTEMPTS} segments of one second")
