"""Puts a run before people's eyes: a table repainted in place on a terminal, plain lines anywhere else.

A terminal may stop reading (Ctrl+S, a pager, a dead connection) for as long as it likes. The write then waits in a
thread of its own, never in the loop that trades.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import TextIO

import structlog
import trio

from tbot.tasks.child import Child, Policy, TaskContext
from tbot.tasks.supervisor import beside
from tbot.ui.line import line
from tbot.ui.status import GetStatus, Status
from tbot.ui.terminal import LINE_EVERY_S, PAINT_EVERY_S, Painter, can_repaint, encodable, write_now

log = structlog.get_logger()

# The last word must not hold up the end of a run.
LAST_WORD_S = 1.0
SHOW_END_S = 2.0

Write = Callable[[str], Awaitable[None]]
"""Writes text to the stream it was made for. May raise OSError or ValueError when the stream is gone."""


async def show(
    ctx: TaskContext,
    *,
    get_status: GetStatus,
    stream: TextIO,
    environ: Mapping[str, str],
    write: Write | None = None,
) -> None:
    """Show a run until stopped, then once more so that its last state stays readable: a task body.

    For real time only: a virtual clock would ask for thousands of paints (see `Progress`). A stream that is gone ends
    the showing, not the run.

    Args:
        ctx: It beats by itself, so that a terminal which does not read is never taken for a wedged task.
        get_status: Called at most twice a second, in the loop.
        stream: A terminal, or anything else.
        environ: Read for NO_COLOR, TERM, COLUMNS and their like.
        write: How text reaches the stream; None = in a thread.
    """
    painter = Painter(environ) if can_repaint(stream, environ) else None
    make_text = painter.paint if painter is not None else _plain_line
    teller = _Teller(get_status, make_text, write or thread_writer(stream), stream)
    ctx.started()
    every_s = PAINT_EVERY_S if painter is not None else LINE_EVERY_S
    await ctx.until_stopped(partial(teller.repeat, every_s), pulse=True)
    with trio.move_on_after(LAST_WORD_S):
        await teller.tell()


@asynccontextmanager
async def showing(
    get_status: GetStatus, *, stream: TextIO, environ: Mapping[str, str], policy: Policy
) -> AsyncIterator[None]:
    """Show a run while the context lasts. A face that crashes is noted and stays away: it cannot hurt trading.

    Args:
        get_status: Called at most twice a second, in the loop.
        stream: A terminal, or anything else.
        environ: Read for NO_COLOR, TERM, COLUMNS and their like.
        policy: Notes a crash; nothing is restarted.
    """
    body = partial(show, get_status=get_status, stream=stream, environ=environ)
    # The last picture is written within a second; the thread behind a dead terminal is not waited for.
    async with beside(Child("ui", body, kind="temporary"), policy, end_within_s=SHOW_END_S):
        yield


def thread_writer(stream: TextIO) -> Write:
    """Return a writer with a thread of its own, left behind when it is cancelled while the stream does not read."""
    limiter = trio.CapacityLimiter(1)

    async def write(text: str) -> None:
        await trio.to_thread.run_sync(write_now, stream, text, limiter=limiter, abandon_on_cancel=True)

    return write


class _Teller:
    """Tells one moment after another until the stream is gone."""

    def __init__(self, get_status: GetStatus, make_text: Callable[[Status], str], write: Write, stream: TextIO) -> None:
        self._get_status = get_status
        self._make_text = make_text
        self._write = write
        self._stream = stream
        self._is_open = True

    async def repeat(self, every_s: float) -> None:
        while self._is_open:
            await self.tell()
            await trio.sleep(every_s)
        await trio.sleep_forever()

    async def tell(self) -> None:
        await trio.lowlevel.checkpoint()
        if not self._is_open:
            return
        text = encodable(self._make_text(self._get_status()), self._stream)
        try:
            await self._write(text)
        except (OSError, ValueError) as error:  # ValueError: the stream was closed under us
            self._is_open = False
            log.info("show.stream_gone", reason=str(error))


def _plain_line(status: Status) -> str:
    return line(status) + "\n"
