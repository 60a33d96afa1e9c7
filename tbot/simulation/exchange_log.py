"""The local exchange's own memory, so that a simulation with a kept state can be killed and go on.

An append-only file of (moment, operation), written before each operation takes effect. It survives a killed process,
not a power cut: it stands for somebody else's exchange, which does not go down with us.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tbot.core.units import Nanos
from tbot.errors import StateCorrupt
from tbot.exchanges.simulated.operations import Operation

FILE_NAME = "exchange.log"
_HEAD = 8  # length and checksum, 4 bytes each
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[int, Operation])


class ExchangeLog:
    """One log; in memory nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        """Open for appending, and cut off what a kill left half written."""
        self._path = path
        self._file: int | None = None
        self._entries: list[tuple[Nanos, Operation]] = []
        if path is not None:
            self._entries, good = _read(path)
            self._file = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
            os.fchmod(self._file, 0o600)
            os.truncate(self._file, good)
            os.lseek(self._file, 0, os.SEEK_END)

    @classmethod
    def open(cls, state: Path | None) -> ExchangeLog:
        """Open the log of a state folder, which must exist; None = keep nothing.

        Raises:
            StateCorrupt: The log is damaged before its end.
        """
        return cls(None if state is None else state / FILE_NAME)

    @property
    def newest_ns(self) -> Nanos | None:
        """Moment of the newest operation kept by earlier runs; None = there was none, or it was replayed already."""
        return self._entries[-1][0] if self._entries else None

    def replay(self) -> Iterator[tuple[Nanos, Operation]]:
        """Give what was kept, oldest first, once."""
        entries, self._entries = self._entries, []
        yield from entries

    def append(self, now_ns: Nanos, operation: Operation) -> None:
        """Keep one operation; it outlives this process when the call returns."""
        if self._file is not None:
            payload = _encoder.encode((now_ns, operation))
            head = len(payload).to_bytes(4, "big") + zlib.crc32(payload).to_bytes(4, "big")
            os.write(self._file, head + payload)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _read(path: Path) -> tuple[list[tuple[Nanos, Operation]], int]:
    """Read all whole entries and say where they end."""
    data = path.read_bytes() if path.exists() else b""
    entries: list[tuple[Nanos, Operation]] = []
    at = 0
    while at + _HEAD <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        payload = data[at + _HEAD : at + _HEAD + length]
        if len(payload) < length:
            break
        if zlib.crc32(payload) != int.from_bytes(data[at + 4 : at + _HEAD], "big"):
            raise StateCorrupt(f"{path}: damaged at byte {at}; move the state folder away to begin anew")
        now_ns, operation = _decoder.decode(payload)
        entries.append((Nanos(now_ns), operation))
        at += _HEAD + length
    return entries, at
