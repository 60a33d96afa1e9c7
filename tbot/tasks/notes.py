"""What happens to tasks, told to the log."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from tbot.tasks.supervisor import describe

log = structlog.get_logger()


def note_in_log(kind: str, name: str, causes: Sequence[BaseException]) -> None:
    """Log a start, a crash or a restart of a task, as loud as it deserves: for `Policy.note`."""
    level = {"start": log.debug, "fault": log.error}.get(kind, log.warning)
    level(f"task.{kind}", name=name, causes=[describe(cause) for cause in causes])
