"""A moment of a run on a terminal: one screenful, 100 by 30 or whatever there is.

The layout is computed here, not by a table widget: a cut number misleads, so where room is short whole columns go, the
least needed first, then notes, then markets. It is also a good deal faster, which matters on a loop that trades.

Every text goes to the terminal as `Text`, never as markup, so `[red]` in the name of a market is just that. Colour only
repeats what a word or a sign says.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from tbot.core.market import Outcome
from tbot.core.messages import Level
from tbot.core.units import Price
from tbot.ui.figures import age_text, money_signed_text, money_text, price_text, progress_text, size_text
from tbot.ui.status import Counts, FeedLight, MarketStatus, OwnQuote, Status

GAP = "  "
MARKET_WIDTH_MIN = 10
LABEL_WIDTH = 10
# Figures come once a second; three missed ones mean that the coordinator is down.
FIGURES_AGE_S_MAX = 3.0
# A long list of counts is broken once and then cut.
LINES_OF_COUNTS_MAX = 2
# Lines beside markets and notes: head, halt, three blanks, head of the table, "and more", totals 3 + 3 x 2, cursor.
LINES_FIXED = 17

_STYLES = {
    "TRADING": "bold green",
    "HALTED": "bold red",
    FeedLight.LIVE: "green",
    FeedLight.STALE: "bold red",
    FeedLight.CONNECTING: "yellow",
    FeedLight.RECONNECTING: "bold yellow",
}
_STYLE_BETWEEN = "bold yellow"
_TIE = "\N{NO-BREAK SPACE}"


class _Column(NamedTuple):
    title: str
    cell: Callable[[MarketStatus], str]
    # Where room is short, columns go from the highest number on.
    rank: int


def render(status: Status) -> Screen:
    """Return a moment as something Rich can print; it adapts to the width and height it is given."""
    return Screen(status)


class Screen:
    """One drawn moment."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield line after line, none wider than the console; all of them fit its height when it has 20 or more."""
        for text in _lines(self._status, options.max_width, options.size.height):
            text.truncate(options.max_width, overflow="ellipsis")
            text.no_wrap = True
            yield text


def _lines(status: Status, width: int, height: int) -> Iterator[Text]:
    room = max(height - LINES_FIXED, 1)
    shown = status.markets[:room]
    notes = status.notes[: max(room - len(shown), 0)]
    yield _head(status)
    if status.halt_reason:
        yield Text(f"{status.mode}: {status.halt_reason}", "bold red")
    yield Text()
    yield from _table(shown, width)
    if len(shown) < len(status.markets):
        yield Text(f"and {len(status.markets) - len(shown)} more markets", "dim")
    yield Text()
    yield from _totals(status, width)
    if notes:
        yield Text()
        yield from (Text(f"{'' if i else 'Notes':<{LABEL_WIDTH}}{note}") for i, note in enumerate(notes))


def _head(status: Status) -> Text:
    # What matters most comes first: a narrow terminal cuts the end.
    age_s = status.figures_age_s or 0.0
    old = f"{GAP}figures {age_text(age_s)} old" if age_s > FIGURES_AGE_S_MAX else ""
    return Text.assemble(
        (f"tbot {status.command}", "bold"),
        f"{GAP}{progress_text(status.elapsed_s, status.duration_s)}{GAP}",
        (status.mode, _STYLES.get(status.mode, _STYLE_BETWEEN)),
        (f"{GAP}exchange takes {status.exchange_takes}" if status.exchange_takes else "", _STYLE_BETWEEN),
        f"{GAP}feed ",
        (status.feed.value, _STYLES[status.feed]),
        (old, _STYLE_BETWEEN),
        f"{GAP}{status.setting}",
    )


# --- markets ---------------------------------------------------------------------------------------------------------


def _table(markets: Sequence[MarketStatus], width: int) -> Iterator[Text]:
    names = [market.slug for market in markets]
    name_wanted = max(map(cell_len, ["Market", *names]))
    columns = [(c, [c.title, *(c.cell(market) for market in markets)]) for c in _COLUMNS]
    room = width - min(name_wanted, MARKET_WIDTH_MIN)
    while columns and sum(_width(cells) for _, cells in columns) > room:
        least = max(column.rank for column, _ in columns)
        columns = [(column, cells) for column, cells in columns if column.rank < least]
    name_width = max(min(name_wanted, width - sum(_width(cells) for _, cells in columns)), 1)
    for i, name in enumerate(["Market", *names]):
        right = "".join(GAP + _padded(cells[i], _width(cells) - len(GAP)) for _, cells in columns)
        yield Text(_cut(name, name_width) + right, _row_style(markets, i))


def _row_style(markets: Sequence[MarketStatus], row: int) -> str:
    if row == 0:
        return "bold"
    return "dim" if markets[row - 1].is_stale else ""


def _width(cells: Sequence[str]) -> int:
    return len(GAP) + max(map(cell_len, cells))


def _padded(cell: str, width: int) -> str:
    return " " * (width - cell_len(cell)) + cell


def _cut(name: str, width: int) -> str:
    if cell_len(name) <= width:
        return set_cell_size(name, width)
    return set_cell_size(set_cell_size(name, width - 1).rstrip() + "…", width)


def _top(level: Level | None, tick: Price) -> str:
    return f"{price_text(level.price, tick)} x {size_text(level.size)}" if level is not None else "-"


def _own(quotes: Sequence[OwnQuote], tick: Price) -> str:
    # The innermost, the token when it is the other one, a doubt, and how many stand behind it.
    if not quotes:
        return "-"
    best, behind = quotes[0], len(quotes) - 1
    other = " NO" if best.outcome is Outcome.NO else ""
    doubt = "" if best.is_confirmed else "?"
    more = f" +{behind}" if behind else ""
    return f"{price_text(best.price, tick)} x {size_text(best.size)}{other}{doubt}{more}"


def _spread(market: MarketStatus) -> str:
    return "-" if market.spread_ticks is None else str(market.spread_ticks)


def _holding(market: MarketStatus) -> str:
    return f"{size_text(market.yes)} / {size_text(market.no)}" if market.yes or market.no else "-"


def _data(market: MarketStatus) -> str:
    if market.data_age_s is None:
        return "no data"
    return f"stale {age_text(market.data_age_s)}" if market.is_stale else age_text(market.data_age_s)


_COLUMNS = (
    _Column("Bid", lambda m: _top(m.bid, m.tick), 0),
    _Column("Ask", lambda m: _top(m.ask, m.tick), 0),
    _Column("Ticks", _spread, 5),
    _Column("Our bid", lambda m: _own(m.bids, m.tick), 3),
    _Column("Our ask", lambda m: _own(m.asks, m.tick), 3),
    _Column("YES / NO", _holding, 2),
    _Column("Data", _data, 1),
)


# --- totals ----------------------------------------------------------------------------------------------------------


def _totals(status: Status, width: int) -> Iterator[Text]:
    yield Text.assemble(
        f"{'Money':<{LABEL_WIDTH}}profit ",
        (money_signed_text(status.pnl), "green" if status.pnl >= 0 else "red"),
        f" after fees {money_text(status.fees)}, cash {money_text(status.cash)}",
    )
    orders = ", ".join(f"{count} {name}" for name, count in status.orders)
    yield from _labelled("Orders", f"{status.resting} resting; {orders}", width)
    yield from _labelled("Fills", f"{status.fills_buy} buys, {status.fills_sell} sells", width)
    yield from _labelled("Restarts", _counted(status.restarts), width)
    yield from _labelled("Faults", _counted(status.faults), width)
    yield from _labelled("Feed", f"reconnected {status.reconnects} times", width)


def _counted(counts: Counts) -> str:
    total = sum(count for _, count in counts)
    return f"{total}: " + ", ".join(f"{name} {count}" for name, count in counts) if total else "none"


def _labelled(label: str, content: str, width: int) -> Iterator[Text]:
    # Lines are broken between entries only, so the blanks inside of entries are hidden from the breaking.
    tied = content.replace(" ", _TIE).replace(f",{_TIE}", ", ").replace(f";{_TIE}", "; ")
    room = max(width - LABEL_WIDTH, 20)
    lines = textwrap.wrap(tied, room, max_lines=LINES_OF_COUNTS_MAX, placeholder=" ...", break_on_hyphens=False)
    for i, part in enumerate(lines):
        yield Text(f"{'' if i else label:<{LABEL_WIDTH}}{part.replace(_TIE, ' ')}")
