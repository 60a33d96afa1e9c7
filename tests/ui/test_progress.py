"""Progress in virtual time: told by the real clock, twice a second at most."""

from __future__ import annotations

import io
from itertools import pairwise

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tbot.ui.progress import Progress
from tbot.ui.status import Status
from tests.ui.moments import Screen, Terminal, usual

TERMINAL = {"TERM": "xterm", "COLUMNS": "100", "LINES": "30"}


class Bench:
    """A simulation that advances a minute with each tick, and a real clock moved by hand."""

    def __init__(self, stream: io.StringIO, environ: dict[str, str] = TERMINAL) -> None:
        self.now = 100.0
        self.asked = 0
        self.stream = stream
        self.progress = Progress(stream, get_status=self.status, monotonic=lambda: self.now, environ=environ)

    def status(self) -> Status:
        self.asked += 1
        return msgspec.structs.replace(usual(), elapsed_s=60.0 * self.asked, duration_s=3600.0)


@given(st.lists(st.floats(0.0, 2.0), max_size=50))
def test_no_more_than_two_lines_a_real_second(steps: list[float]) -> None:
    bench = Bench(Terminal())
    told_at = []
    for step in steps:
        bench.now += step
        before = bench.asked
        bench.progress.tick()
        told_at += [bench.now] * (bench.asked - before)
    assert all(later - earlier >= 0.499 for earlier, later in pairwise(told_at))
    assert bool(told_at) == bool(steps)


def test_a_thousand_ticks_at_once_are_one_line() -> None:
    bench = Bench(Terminal())
    for _ in range(1000):
        bench.progress.tick()
    assert bench.asked == 1


def test_a_terminal_rewrites_one_line_and_leaves_it_empty() -> None:
    bench, screen = Bench(Terminal()), Screen()
    for _ in range(3):
        bench.progress.tick()
        bench.now += 1.0
    screen.feed(bench.stream.getvalue())
    assert screen.rows == ["simulated 00:03:00 of 01:00:00 (5 %)  fills 7  pnl +1.23"]
    bench.progress.close()
    bench.progress.close()
    screen.feed(bench.stream.getvalue())
    assert (screen.rows, screen.column) == ([""], 0)


def test_a_pipe_gets_a_line_every_ten_real_seconds() -> None:
    bench = Bench(io.StringIO())
    for _ in range(25):
        bench.progress.tick()
        bench.now += 1.0
    bench.progress.close()
    lines = bench.stream.getvalue().splitlines()
    assert [text[:18] for text in lines] == ["simulated 00:01:00", "simulated 00:02:00", "simulated 00:03:00"]
    assert "\x1b" not in bench.stream.getvalue()


def test_a_narrow_terminal_still_has_one_line() -> None:
    bench = Bench(Terminal(), {**TERMINAL, "COLUMNS": "20"})
    bench.progress.tick()
    assert bench.stream.getvalue() == "\rsimulated 00:01:00 \x1b[K"


def test_closed_before_the_first_tick_it_says_nothing() -> None:
    bench = Bench(Terminal())
    bench.progress.close()
    bench.progress.tick()
    assert bench.stream.getvalue() == ""


def test_a_stream_that_is_gone_ends_the_telling_not_the_run() -> None:
    bench = Bench(Terminal())
    bench.stream.close()
    for _ in range(3):
        bench.progress.tick()
        bench.now += 1.0
    bench.progress.close()
    assert bench.asked == 1
