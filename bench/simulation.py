"""Simulated time per real time: `tbot sim --speed max` as a user runs it, start-up included."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
# An hour takes minutes; a machine on which it takes this long has nothing to say about speed.
WALL_S_MAX = 1800.0


@dataclass(frozen=True, kw_only=True)
class Run:
    """How one run went.

    Attributes:
        wall_s: Real seconds; None when it could not be run.
        obstacle: Why it could not, one sentence; "" when it could.
    """

    wall_s: float | None
    obstacle: str = ""


def simulate(duration: str) -> Run:
    """Run a simulation in a process of its own.

    Args:
        duration: As `--duration` takes it, e.g. "1h".
    """
    command = [sys.executable, "-m", "tbot", "sim", "--speed", "max", "--duration", duration]
    return run(command)


def run(command: list[str]) -> Run:
    """Run a command from the repository's root and time it."""
    start = time.perf_counter()
    try:
        done = subprocess.run(  # noqa: S603 - our own program, fixed arguments
            command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, timeout=WALL_S_MAX, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Run(wall_s=None, obstacle=f"{type(error).__name__}: {error}")
    wall_s = time.perf_counter() - start
    if done.returncode != 0:
        return Run(wall_s=None, obstacle=f"exit code {done.returncode}: {_last_line(done.stderr)}")
    return Run(wall_s=wall_s)


def _last_line(output: bytes) -> str:
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:200] if lines else "no word why"
