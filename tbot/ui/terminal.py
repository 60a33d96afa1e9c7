"""What a terminal can do, and frames that overwrite each other on it.

Rich draws, but its `Live` is not used: while it runs it hides the cursor and swaps the process's own output streams,
and a hard stop or a kill leaves it that way. Here each frame is one text, which moves up over the last one, overwrites
it line by line and ends below it. So nothing flickers, and there is nothing to restore, whatever happens.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, TextIO

from rich.console import Console

from tbot.ui.status import Status
from tbot.ui.table import render

# A repaint takes a millisecond or two of the loop; people read no faster than this.
PAINT_EVERY_S = 0.5
# For logs and pipes: a line that is still worth reading.
LINE_EVERY_S = 10.0
CLEAR_TO_END_OF_LINE: Final = "\x1b[K"
CLEAR_BELOW: Final = "\x1b[J"


def can_repaint(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Tell whether a stream is a terminal that can move its cursor; what colours are forced says nothing of that."""
    return stream.isatty() and environ.get("TERM", "") not in ("", "dumb", "unknown")


class Painter:
    """Turns moments into text that overwrites the last one on the same terminal; it never touches the terminal."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Find out what the process's terminal can do.

        Args:
            environ: Read for NO_COLOR, TERM, COLUMNS and their like.
        """
        # Even while it captures, Rich flushes its file; on a terminal that does not read, that would block the loop.
        self._console = Console(
            file=io.StringIO(), force_terminal=True, markup=False, emoji=False, highlight=False, _environ=environ
        )
        self._painted = 0
        self._size = self._console.size

    def paint(self, status: Status) -> str:
        """Return one frame, cursor movements included; it ends on the line below."""
        size = self._console.size
        if size != self._size:
            # The terminal has wrapped the last frame anew, so nobody knows how high it is now: begin below it.
            self._painted, self._size = 0, size
        lines = self._draw(status, width=max(size.width - 1, 1))[: max(size.height - 1, 1)]
        up = f"\x1b[{self._painted}A" if self._painted else ""
        self._painted = len(lines)
        # Each line clears what is left of the one it covers, the last step what is left of a higher frame.
        return f"\r{up}" + "".join(f"{text}{CLEAR_TO_END_OF_LINE}\n" for text in lines) + CLEAR_BELOW

    # One column less than there is: a line that fills the last one leaves the cursor in doubt, and clearing eats it.
    def _draw(self, status: Status, *, width: int) -> list[str]:
        with self._console.capture() as capture:
            self._console.print(render(status), width=width)
        return capture.get().removesuffix("\n").split("\n")


def write_now(stream: TextIO, text: str) -> None:
    """Write and flush.

    Raises:
        OSError: The reader is gone.
        ValueError: The stream was closed.
    """
    stream.write(text)
    stream.flush()


def tell(text: str, stream: TextIO) -> None:
    """Write to people. A reader that has left (`| head -1`) misses the rest; nothing else changes for it."""
    with suppress(OSError, ValueError):
        write_now(stream, encodable(text, stream))


def encodable(text: str, stream: TextIO) -> str:
    """Replace what a stream cannot write: the name of a market must not end a run on a plain terminal."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)
