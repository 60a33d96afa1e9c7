"""One screenful: everything that matters, no wider or higher than the terminal, no number cut in two."""

from __future__ import annotations

import io

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from tbot.core.messages import Side
from tbot.core.units import Price
from tbot.ui.status import RunFacts, Status, status_of
from tbot.ui.table import render
from tests.ui.moments import (
    EVIL,
    NOW_NS,
    RUN,
    held,
    is_printable,
    market,
    order,
    plain,
    snapshot,
    usual,
    view,
    widths,
    words,
)


def drawn(status: Status, *, width: int = 99, height: int = 30, environ: dict[str, str] | None = None) -> list[str]:
    console = Console(
        file=io.StringIO(),
        width=width,
        height=height,
        force_terminal=True,
        color_system="standard",
        _environ=environ or {},
    )
    with console.capture() as capture:
        console.print(render(status))
    return capture.get().removesuffix("\n").split("\n")


def plainly(status: Status, *, width: int = 99, height: int = 30) -> list[str]:
    return [plain(text) for text in drawn(status, width=width, height=height)]


def crowded(slug: str = "a market with a name as long as names may be", note: str = "n" * 300) -> Status:
    """Everything at its longest, on twenty markets of the finest tick."""
    markets = [market(i, slug, Price(100)) for i in range(20)]
    sides = ((m, token, side) for m in markets for token in m.tokens for side in Side)
    orders = [order(token, side, 123_400, size=999_999, status="UNKNOWN") for _, token, side in sides]
    now = snapshot(
        mode="HALTED",
        halt_reason=note,
        orders=orders,
        positions=[held(token, 999_999) for m in markets for token in m.tokens],
        counts={"submitted": 1_000_000, "accepted": 1_000_000, "canceled": 1_000_000},
        notes=[note] * 50,
        pnl=-1_234_567_890_000,
        at_ns=RUN.started_ns,
    )
    run = RunFacts(
        command="sim",
        setting=f"seed {10**17}  speed real",
        started_ns=RUN.started_ns,
        duration_s=604_800.0,
        restarts={f"strategy.number-{i}": 12 for i in range(30)},
        faults={f"submit_lost_before.{i}": 12 for i in range(30)},
        connects=1001,
        is_reconnecting=True,
    )
    views = {m.market_id: view(m, is_stale=True, bid=123_400, ask=987_600) for m in markets}
    return status_of(now, views, markets, run=run, now_ns=NOW_NS)


def test_a_usual_moment_shows_everything() -> None:
    text = "\n".join(plainly(usual()))
    for part in (
        "00:10 of 02:00",
        "TRADING",
        "feed live",
        "seed 7",
        "market-2",
        "0.47 x 234.5",
        "0.49 x 300",
        "0.46 x 20",
        "0.50 x 20 NO",
        "12 / 0",
        "0.2 s",
        "profit +1.23 after fees 0.02, cash 987.12",
        "6 resting; 12 submitted, 11 accepted",
        "4 buys, 3 sells",
        "a fill came late",
    ):
        assert part in text


@pytest.mark.parametrize("status", [usual(), usual(count=20), crowded()], ids=["usual", "many", "crowded"])
def test_it_fits_a_hundred_by_thirty(status: Status) -> None:
    lines = plainly(status, width=99, height=30)
    assert len(lines) < 30, "the cursor needs a line of its own"
    assert max(widths(lines)) <= 99


@settings(max_examples=25)
@given(st.integers(20, 140), st.integers(20, 60), words, words)
def test_it_fits_any_terminal_and_prints_only_printable_text(width: int, height: int, slug: str, note: str) -> None:
    lines = plainly(crowded(slug, note), width=width, height=height)
    assert len(lines) < height
    assert max(widths(lines)) <= width
    assert all(map(is_printable, lines))


def test_too_many_markets_are_counted_not_forgotten() -> None:
    lines = plainly(usual(count=20))
    shown = sum(text.startswith("market-") for text in lines)
    assert f"and {20 - shown} more markets" in lines


def test_where_room_is_short_whole_columns_go_and_no_number_is_cut() -> None:
    wide = {word for text in plainly(usual(), width=120) for word in text.split()}
    for width in range(40, 120):
        rows = [text for text in plainly(usual(), width=width) if text.startswith("market-")]
        assert len(rows) == 3
        assert {word for row in rows for word in row.split()} <= wide
    assert "Our bid" not in plainly(usual(), width=60)[2]
    assert "Bid" in plainly(usual(), width=60)[2]


def test_own_sides_leave_together() -> None:
    for width in range(40, 120):
        head = plainly(usual(), width=width)[2]
        assert ("Our bid" in head) == ("Our ask" in head)


def test_markup_of_others_is_just_text() -> None:
    text = "\n".join(plainly(crowded("[red]a[/red]", "[bold]b :smile:")))
    assert "[red]a[/red]" in text
    assert "[bold]b :smile:" in text


def test_escapes_of_others_never_arrive() -> None:
    text = "\n".join(drawn(crowded(EVIL, EVIL)))
    assert "\x1b[2J" not in text
    assert "\x1b]" not in text
    assert "\x1b" not in plain(text)


def test_colour_never_carries_the_meaning_alone() -> None:
    for status in (usual(), crowded()):
        assert [plain(text) for text in drawn(status, environ={"NO_COLOR": "1"})] == plainly(status)
    assert "HALTED" in plainly(crowded())[0]
    assert "stale" in "\n".join(plainly(crowded(), width=120))


def test_no_color_is_respected() -> None:
    assert any("\x1b[1;32m" in text for text in drawn(usual()))
    assert not any("3" in style for text in drawn(usual(), environ={"NO_COLOR": "1"}) for style in styles_in(text))


def styles_in(text: str) -> list[str]:
    return [part.partition("m")[0] for part in text.split("\x1b[")[1:]]


def test_a_halt_says_why() -> None:
    halted = status_of(snapshot(mode="HALTED", halt_reason="loss limit"), {}, [], run=RUN, now_ns=NOW_NS)
    assert "HALTED: loss limit" in plainly(halted)


def test_what_the_exchange_does_not_take_stands_in_the_head() -> None:
    restarting = status_of(snapshot(exchange_takes="nothing (restarting)"), {}, [], run=RUN, now_ns=NOW_NS)
    assert "TRADING  exchange takes nothing (restarting)  feed" in plainly(restarting)[0]
    assert "exchange takes" not in plainly(usual())[0]


def test_before_the_first_data_every_cell_says_so() -> None:
    lines = plainly(status_of(None, {}, [market(slug="rain")], run=RUN, now_ns=NOW_NS))
    assert "STARTING" in lines[0]
    assert lines[3].split() == ["rain", "-", "-", "-", "-", "-", "-", "no", "data"]


def test_old_figures_are_told_as_old() -> None:
    assert "figures 4.0 s old" in plainly(msgspec.structs.replace(usual(), figures_age_s=4.0))[0]
    assert "old" not in plainly(usual())[0]


def test_a_list_is_broken_between_entries_only() -> None:
    lines = plainly(crowded(), width=60)
    counted = [text for text in lines if "strategy.number" in text]
    assert len(counted) == 2
    for text in counted:
        assert all(entry.split()[-1] == "12" for entry in text[10:].split(": ")[-1].split(",") if entry.strip("., "))
