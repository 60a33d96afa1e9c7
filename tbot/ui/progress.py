"""How far a run in virtual time has come, told by the real clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TextIO

import structlog
from rich.console import Console

from tbot.ui.line import progress
from tbot.ui.status import GetStatus
from tbot.ui.terminal import CLEAR_TO_END_OF_LINE, LINE_EVERY_S, PAINT_EVERY_S, can_repaint, encodable, write_now

log = structlog.get_logger()


class Progress:
    """One line on how far a run in virtual time has come, by the real clock."""

    def __init__(
        self,
        stream: TextIO,
        *,
        get_status: GetStatus,
        monotonic: Callable[[], float],
        environ: Mapping[str, str],
    ) -> None:
        """Begin silent; the first line comes with the first `tick`.

        Args:
            stream: A terminal, where the line is rewritten, or anything else, which gets a line now and then.
            get_status: Called only when a line is due.
            monotonic: Real seconds; by the run's own clock an hour would have thousands of lines.
            environ: Read for TERM, COLUMNS and their like.
        """
        self._stream = stream
        self._get_status = get_status
        self._monotonic = monotonic
        self._is_terminal = can_repaint(stream, environ)
        self._every_s = PAINT_EVERY_S if self._is_terminal else LINE_EVERY_S
        self._console = Console(_environ=environ)  # for its width only
        self._due: float | None = None
        self._is_open = True

    def tick(self) -> None:
        """Say how far the run is, when that is due; cheap otherwise, so call it as often as you like."""
        now = self._monotonic()
        if not self._is_open or (self._due is not None and now < self._due):
            return
        self._due = now + self._every_s
        text = progress(self._get_status())
        self._put(f"\r{text[: self._console.width - 1]}{CLEAR_TO_END_OF_LINE}" if self._is_terminal else f"{text}\n")

    def close(self) -> None:
        """Clear the line, so that what follows begins on an empty one; no line comes after. Twice is fine."""
        if self._is_terminal and self._is_open and self._due is not None:
            self._put(f"\r{CLEAR_TO_END_OF_LINE}")
        self._is_open = False

    def _put(self, text: str) -> None:
        try:
            write_now(self._stream, encodable(text, self._stream))
        except (OSError, ValueError) as error:
            self._is_open = False
            log.info("progress.stream_gone", reason=str(error))
