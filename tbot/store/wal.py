"""Tell a torn write-ahead log from a damaged one.

SQLite ends its log at the first frame that does not match its running checksum: right after a power cut, where what
follows was never acknowledged; wrong after bit rot, where whole commits would vanish without a word. The two can be
told apart: every commit is synced before the next one starts, so a power cut leaves at most one commit behind the
break. Damage inside the newest commit looks exactly like a power cut and passes.

Format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log (read 2026-11-22).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24
MAGIC_LITTLE = 0x377F0682  # checksums over little-endian words
MAGIC_BIG = 0x377F0683
UNSYNCED_COMMITS_MAX = 1
WORD_MASK = 0xFFFF_FFFF


def log_complaint(path: Path) -> str:
    """Say why a write-ahead log lost acknowledged commits, or "".

    Args:
        path: The `-wal` file; absent or empty is fine. It is read whole: SQLite keeps it near four megabytes.
    """
    data = path.read_bytes() if path.exists() else b""
    if len(data) < HEADER_BYTES + FRAME_HEADER_BYTES:
        return ""
    magic, _, page_bytes = struct.unpack_from(">3I", data)
    order = {MAGIC_LITTLE: "<", MAGIC_BIG: ">"}.get(magic)
    if order is None or _sum(data[:24], order, (0, 0)) != struct.unpack_from(">2I", data, 24):
        return "the header of its log is damaged"
    lost = sum(_commits_behind_break(data, page_bytes, order))
    return f"its log is broken before {lost} acknowledged groups" if lost > UNSYNCED_COMMITS_MAX else ""


def _commits_behind_break(data: bytes, page_bytes: int, order: str) -> Iterator[bool]:
    # For each frame of this generation of the log behind the first bad one: does it end a commit?
    salts, running, is_whole = data[16:24], struct.unpack_from(">2I", data, 24), True
    frame_bytes = FRAME_HEADER_BYTES + page_bytes
    for start in range(HEADER_BYTES, len(data) - frame_bytes + 1, frame_bytes):
        frame = data[start : start + frame_bytes]
        is_ours = (
            frame[8:16] == salts
        )  # older generations have other salts; they were copied into the database long ago
        if is_whole:
            running = _sum(frame[FRAME_HEADER_BYTES:], order, _sum(frame[:8], order, running))
            is_whole = is_ours and running == struct.unpack_from(">2I", frame, 16)
        if not is_whole and is_ours:
            yield frame[4:8] != bytes(4)


def _sum(data: bytes, order: str, running: tuple[int, ...]) -> tuple[int, int]:
    first, second = running
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for word in words:
        first = (first + word + second) & WORD_MASK
        second = (second + next(words) + first) & WORD_MASK
    return first, second
