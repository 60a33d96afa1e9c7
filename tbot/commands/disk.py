"""Whether the disk of a state folder keeps up with a bot: asked by the doctor, and before real money is traded."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from tbot.exchanges.polymarket.judgement import Finding, green, red
from tbot.store.folder import fsync_latency_s

# A commit stands before each order; slower disks would make every quote late.
FSYNC_S_MAX: Final = 0.1
# The journal grows by some 12 MB in a busy hour: this is more than three days.
DISK_BYTES_MIN: Final = 1 << 30


def disk_findings(state: Path) -> tuple[Finding, ...]:
    """Measure the disk under a folder that exists.

    Raises:
        OSError: The disk does not work.
    """
    return judge_fsync(fsync_latency_s(state)), judge_room(shutil.disk_usage(state).free)


def judge_fsync(latency_s: float) -> Finding:
    """Judge how long the disk takes to make a record durable, seconds."""
    found = f"{latency_s * 1e3:.1f} ms to make a record durable"
    if latency_s > FSYNC_S_MAX:
        return red("disk sync", found, "Put the state folder on a local solid-state disk.")
    return green("disk sync", found)


def judge_room(free_bytes: int) -> Finding:
    """Judge the room for the journal."""
    found = f"{free_bytes / (1 << 30):,.1f} GiB free"
    if free_bytes < DISK_BYTES_MIN:
        return red("disk room", found, "Make room, or name a state folder on another disk.")
    return green("disk room", found)
