"""What a test's log says."""

from __future__ import annotations

import io


def lines_of(terminal: io.StringIO, event: str) -> list[str]:
    """Pick the lines of one event."""
    return [line for line in terminal.getvalue().splitlines() if event in line]
