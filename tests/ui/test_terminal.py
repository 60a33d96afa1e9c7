"""Frames on a terminal: each replaces the one before, and nothing is left to restore."""

from __future__ import annotations

import io
import os

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tbot.ui import terminal
from tbot.ui.status import Status
from tbot.ui.terminal import Painter, can_repaint, encodable
from tests.ui.moments import Screen, Terminal, is_printable, plain, usual

ENVIRON = {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
moments = st.builds(
    lambda notes, count: usual(notes=["x" * n for n in notes], count=count),
    st.lists(st.integers(1, 150), max_size=5),
    st.integers(1, 12),
)


def shown(screen: Screen) -> list[str]:
    return screen.rows[:-1]


def alone(status: Status, width: int = 100) -> list[str]:
    screen = Screen()
    screen.feed(Painter({**ENVIRON, "COLUMNS": str(width)}).paint(status))
    return shown(screen)


@settings(max_examples=15)
@given(st.lists(moments, min_size=1, max_size=4))
def test_the_screen_shows_exactly_the_last_frame(frames: list[Status]) -> None:
    painter, screen = Painter(ENVIRON), Screen()
    for status in frames:
        screen.feed(painter.paint(status))
    assert shown(screen) == alone(frames[-1])
    assert (screen.row, screen.column) == (len(screen.rows) - 1, 0)


@pytest.mark.parametrize("forgotten", ["CLEAR_TO_END_OF_LINE", "CLEAR_BELOW"])
def test_a_painter_that_forgets_to_clear_is_seen(forgotten: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, forgotten, "")
    painter, screen = Painter(ENVIRON), Screen()
    for status in (usual(notes=["long" * 10] * 5), usual(notes=["b"])):
        screen.feed(painter.paint(status))
    assert shown(screen) != alone(usual(notes=["b"]))


def test_nothing_is_left_to_restore() -> None:
    text = Painter(ENVIRON).paint(usual())
    assert "\x1b[?" not in text, "a private mode, such as a hidden cursor, would outlive a kill"
    assert plain(text.split("\n")[-2]).startswith("Notes")


def test_what_is_above_the_frame_stays() -> None:
    painter, screen = Painter(ENVIRON), Screen()
    screen.feed("$ tbot sim\n")
    for _ in range(3):
        screen.feed(painter.paint(usual()))
    assert shown(screen) == ["$ tbot sim", *alone(usual())]


def test_a_frame_never_fills_the_last_column_or_line() -> None:
    small = {**ENVIRON, "COLUMNS": "60", "LINES": "12"}
    lines = Painter(small).paint(usual(count=12)).split("\n")
    assert len(lines) - 1 < 12
    assert all(len(plain(text).replace("\x1b[K", "").strip("\r")) < 60 for text in lines[:-1])


def test_after_a_resize_the_next_frame_begins_below(monkeypatch: pytest.MonkeyPatch) -> None:
    size = os.terminal_size((100, 30))
    monkeypatch.setattr(os, "get_terminal_size", lambda _descriptor: size)
    painter, screen = Painter({"TERM": "xterm"}), Screen()
    screen.feed(painter.paint(usual()))
    size = os.terminal_size((60, 30))
    for _ in range(2):
        screen.feed(painter.paint(usual()))
    wide, narrow = (alone(usual(), width) for width in (100, 60))
    assert shown(screen) == wide + narrow
    assert wide != narrow


@pytest.mark.parametrize(
    ("environ", "is_terminal", "expected"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, True),
        ({"TERM": "dumb"}, True, False),
        ({}, True, False),
        ({"TERM": "xterm"}, False, False),
        ({"TERM": "xterm", "FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"}, False, False),
    ],
)
def test_only_a_terminal_is_repainted(environ: dict[str, str], is_terminal: bool, expected: bool) -> None:
    stream = Terminal() if is_terminal else io.StringIO()
    assert can_repaint(stream, environ) is expected


def test_no_color_leaves_no_colour_in_the_frame() -> None:
    coloured = Painter(ENVIRON).paint(usual())
    colourless = Painter({**ENVIRON, "NO_COLOR": "1"}).paint(usual())
    assert "32m" in coloured
    assert "32m" not in colourless
    assert plain(coloured) == plain(colourless)


@given(st.text(), st.sampled_from(["ascii", "latin-1", "cp1252", "utf-8"]))
def test_any_stream_can_write_what_is_left(text: str, encoding: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    stream.write(encodable(text, stream))


def test_a_market_with_a_foreign_name_is_shown_on_a_plain_terminal() -> None:
    status = usual()
    named = tuple(msgspec.structs.replace(m, slug="漢字") for m in status.markets)
    plain_stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    text = encodable(Painter(ENVIRON).paint(msgspec.structs.replace(status, markets=named)), plain_stream)
    assert "??" in text
    assert text.isascii()
    assert is_printable(plain(text).replace("\x1b[K", "").replace("\x1b[J", "").replace("\r", "").replace("\n", ""))
