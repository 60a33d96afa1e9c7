"""The task that shows a run: how often, where, until when, and what it survives."""

from __future__ import annotations

import errno
import io
import threading
from collections.abc import Mapping

import msgspec
import pytest
import trio
from trio.testing import MockClock

from tbot.tasks.child import TaskContext
from tbot.ui.show import Write, show, thread_writer
from tbot.ui.status import Status
from tests.ui.moments import Screen, Terminal, usual

TERMINAL = {"TERM": "xterm", "COLUMNS": "100", "LINES": "30"}


class Run:
    """A run to look at, and what its viewer wrote when, in seconds from the start."""

    def __init__(self, stream: io.StringIO, environ: Mapping[str, str] = TERMINAL) -> None:
        self.stream = stream
        self.environ = environ
        self.stop = trio.Event()
        self.ctx = TaskContext("ui", self.stop)
        self.began_at = trio.current_time()
        self.writes: list[tuple[float, str]] = []

    @property
    def elapsed_s(self) -> float:
        return trio.current_time() - self.began_at

    def status(self) -> Status:
        return msgspec.structs.replace(usual(), elapsed_s=self.elapsed_s)

    async def write(self, text: str) -> None:
        await trio.lowlevel.checkpoint()
        self.writes.append((round(self.elapsed_s, 3), text))

    async def show(self, write: Write | None = None) -> None:
        await show(
            self.ctx, get_status=self.status, stream=self.stream, environ=self.environ, write=write or self.write
        )

    async def show_for(self, seconds: float, write: Write | None = None) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.show, write)
            await trio.sleep(seconds)
            self.stop.set()


async def test_a_terminal_is_repainted_twice_a_second(autojump_clock: MockClock) -> None:
    run = Run(Terminal())
    await run.show_for(2.2)
    assert [at for at, _ in run.writes] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.2]


async def test_a_pipe_gets_a_plain_line_every_ten_seconds(autojump_clock: MockClock) -> None:
    run = Run(io.StringIO())
    await run.show_for(25.0)
    assert [at for at, _ in run.writes] == [0.0, 10.0, 20.0, 25.0]
    for _, text in run.writes:
        assert text.endswith("\n")
        assert text.count("\n") == 1
        assert "\x1b" not in text


async def test_forced_colour_does_not_make_a_pipe_a_terminal(autojump_clock: MockClock) -> None:
    run = Run(io.StringIO(), {**TERMINAL, "FORCE_COLOR": "1"})
    await run.show_for(5.0)
    assert all("\x1b" not in text for _, text in run.writes)


async def test_the_last_state_stays_on_the_screen(autojump_clock: MockClock) -> None:
    run, screen = Run(Terminal()), Screen()
    await run.show_for(5.3)
    for _, text in run.writes:
        screen.feed(text)
    assert "00:05 of 02:00" in screen.rows[0]
    assert sum("tbot sim" in row for row in screen.rows) == 1


async def test_a_cancelled_viewer_leaves_a_whole_frame(autojump_clock: MockClock) -> None:
    run, screen = Run(Terminal()), Screen()
    with trio.move_on_after(1.2):
        await run.show()
    for _, text in run.writes:
        screen.feed(text)
    assert "00:01 of 02:00" in screen.rows[0]
    assert screen.column == 0


async def test_a_viewer_that_crashes_leaves_a_whole_frame_and_says_so(autojump_clock: MockClock) -> None:
    run, screen = Run(Terminal()), Screen()

    def failing() -> Status:
        if run.elapsed_s > 1:
            raise RuntimeError("planted")
        return usual()

    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="planted"), flatten_subgroups=True):
        await show(run.ctx, get_status=failing, stream=run.stream, environ=TERMINAL, write=run.write)
    for _, text in run.writes:
        screen.feed(text)
    assert screen.column == 0


@pytest.mark.parametrize("error", [BrokenPipeError(errno.EPIPE, "gone"), ValueError("I/O operation on closed file")])
async def test_a_stream_that_is_gone_ends_the_showing_not_the_run(error: Exception, autojump_clock: MockClock) -> None:
    run, attempts = Run(Terminal()), 0

    async def gone(_text: str) -> None:
        nonlocal attempts
        attempts += 1
        await trio.lowlevel.checkpoint()
        raise error

    await run.show_for(60.0, gone)
    assert attempts == 1
    assert run.elapsed_s == pytest.approx(60.0)


async def test_a_terminal_that_does_not_read_looks_alive_and_does_not_hold_up_the_stop(
    autojump_clock: MockClock,
) -> None:
    run = Run(Terminal())

    async def stuck(_text: str) -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run.show, stuck)
        await trio.sleep(60.0)
        assert trio.current_time() - run.ctx.beat_at < 2.0
        run.stop.set()
    assert run.elapsed_s == pytest.approx(61.0)


async def test_a_blocked_write_waits_in_its_thread_and_is_left_there() -> None:
    entered, release = threading.Event(), threading.Event()

    class Stuck(io.StringIO):
        def write(self, text: str) -> int:
            entered.set()
            release.wait()
            return super().write(text)

    stream = Stuck()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(thread_writer(stream), "text")
            await trio.to_thread.run_sync(entered.wait)
            nursery.cancel_scope.cancel()
    finally:
        release.set()


async def test_the_thread_writes_and_flushes() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="utf-8")
    await thread_writer(stream)("text")
    assert raw.getvalue() == b"text"
