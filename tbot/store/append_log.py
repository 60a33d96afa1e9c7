"""An append-only file of (moment, entry): a memory for an exchange that lives in our process.

Each entry is on its way to the disk before it takes effect. It survives a killed process, not a power cut: it stands
for somebody else's exchange, which does not go down with us. What a kill left half written is cut off at the next
start.
"""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import msgspec

from tbot.core.units import Nanos
from tbot.errors import StateCorrupt

E = TypeVar("E")

_HEAD = 8  # length and checksum, 4 bytes each
_encoder = msgspec.msgpack.Encoder()


class AppendLog(Generic[E]):
    """One log of entries of one type; in memory nothing is kept."""

    def __init__(self, path: Path | None, entry: Any) -> None:
        """Open for appending, and cut off what a kill left half written.

        Args:
            path: The file, in a folder that exists; None = keep nothing.
            entry: Type of the entries, a union of tagged structs.

        Raises:
            StateCorrupt: The log is damaged before its end.
        """
        self._file: int | None = None
        self._entries: list[tuple[Nanos, E]] = []
        if path is not None:
            decoder: msgspec.msgpack.Decoder[tuple[int, E]] = msgspec.msgpack.Decoder(tuple[int, entry])
            self._entries, good = _read(path, decoder)
            self._file = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
            os.fchmod(self._file, 0o600)
            os.truncate(self._file, good)
            os.lseek(self._file, 0, os.SEEK_END)

    def __enter__(self) -> Self:
        """Close it at the end of the context."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    @property
    def newest_ns(self) -> Nanos | None:
        """Moment of the newest entry kept by earlier runs; None = there was none, or it was replayed already."""
        return self._entries[-1][0] if self._entries else None

    def replay(self) -> Iterator[tuple[Nanos, E]]:
        """Give what was kept, oldest first, once."""
        entries, self._entries = self._entries, []
        yield from entries

    def append(self, now_ns: Nanos, entry: E) -> None:
        """Keep one entry; it outlives this process when the call returns.

        Raises:
            OSError: The disk did not take it.
        """
        if self._file is not None:
            payload = _encoder.encode((now_ns, entry))
            head = len(payload).to_bytes(4, "big") + zlib.crc32(payload).to_bytes(4, "big")
            if os.write(self._file, head + payload) < len(head) + len(payload):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _read(path: Path, decoder: msgspec.msgpack.Decoder[tuple[int, E]]) -> tuple[list[tuple[Nanos, E]], int]:
    """Read all whole entries and say where they end."""
    data = path.read_bytes() if path.exists() else b""
    entries: list[tuple[Nanos, E]] = []
    at = 0
    while at + _HEAD <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        payload = data[at + _HEAD : at + _HEAD + length]
        if len(payload) < length:
            break
        if zlib.crc32(payload) != int.from_bytes(data[at + 4 : at + _HEAD], "big"):
            raise StateCorrupt(f"{path}: damaged at byte {at}; move the state folder away to begin anew")
        now_ns, entry = decoder.decode(payload)
        entries.append((Nanos(now_ns), entry))
        at += _HEAD + length
    return entries, at
