"""Moments to show, hostile words to show them with, and a terminal to show them on."""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Mapping, Sequence

from hypothesis import strategies as st
from rich.cells import cell_len

from tbot.core.market import Market, MarketId, TokenId
from tbot.core.messages import (
    ClientOrderId,
    Level,
    MarketView,
    PositionRow,
    RestingOrder,
    Side,
    Snapshot,
    StrategyName,
)
from tbot.core.units import MICRO, NANOS_PER_MS, NANOS_PER_S, Nanos, Notional, Price, Size
from tbot.ui.status import RunFacts, Status, status_of

CENT = Price(10_000)
START_NS = Nanos(1_700_000_000 * NANOS_PER_S)
NOW_NS = Nanos(START_NS + 10 * NANOS_PER_S)
NOW_MS = NOW_NS // NANOS_PER_MS
RUN = RunFacts(command="sim", setting="seed 7  speed real", started_ns=START_NS, duration_s=120.0)

# Words that a stranger may choose: markup, escapes, line ends, bidirectional overrides, wide and half characters.
EVIL = "[red]\x1b[2J\x1b]0;title\x07\r\n\u202eevil\u200b[/] :smile: \x9b31m\u2028漢字\ud800"
words = st.text(max_size=80) | st.sampled_from([EVIL, "[bold]x[/bold]", "\x1b[31mred", "漢字" * 30, ""])


def market(number: int = 0, slug: str = "rain", tick: Price = CENT) -> Market:
    return Market(
        market_id=MarketId(f"m{number}"), slug=slug, yes=TokenId(f"y{number}"), no=TokenId(f"n{number}"), tick=tick
    )


def view(
    of: Market, *, is_stale: bool = False, age_ms: int = 200, bid: int = 470_000, ask: int = 490_000
) -> MarketView:
    return MarketView(
        market_id=of.market_id,
        market=of,
        bids=(Level(Price(bid), Size(234_500_000)),),
        asks=(Level(Price(ask), Size(300 * MICRO)),),
        tick=of.tick,
        is_stale=is_stale,
        traded_buy=Size(0),
        traded_sell=Size(0),
        exchange_ms=NOW_MS - age_ms,
        at_ns=NOW_NS,
    )


def order(
    token_id: str, side: Side, price: int, *, size: int = 20, filled: int = 0, status: str = "LIVE"
) -> RestingOrder:
    return RestingOrder(
        client_order_id=ClientOrderId("c1"),
        exchange_order_id=None,
        strategy=StrategyName("liquidity"),
        token_id=TokenId(token_id),
        side=side,
        price=Price(price),
        size=Size(size * MICRO),
        size_filled=Size(filled * MICRO),
        status=status,
        created_ns=START_NS,
    )


def held(token_id: str, shares: int) -> PositionRow:
    return PositionRow(
        token_id=TokenId(token_id),
        size=Size(shares * MICRO),
        size_pending=Size(0),
        cost=Notional(0),
        realized=Notional(0),
        mark=Price(0),
    )


def snapshot(
    *,
    mode: str = "TRADING",
    halt_reason: str = "",
    exchange_takes: str = "",
    orders: Sequence[RestingOrder] = (),
    positions: Sequence[PositionRow] = (),
    counts: Mapping[str, int] | None = None,
    notes: Sequence[str] = (),
    pnl: int = 1_230_000,
    at_ns: Nanos = NOW_NS,
) -> Snapshot:
    return Snapshot(
        mode=mode,
        halt_reason=halt_reason,
        exchange_takes=exchange_takes,
        positions=tuple(positions),
        orders=tuple(orders),
        cash=Notional(987_120_000),
        pnl=Notional(pnl),
        fees=Notional(20_000),
        counts=tuple((counts or {}).items()),
        notes=tuple(notes),
        at_ns=at_ns,
    )


def usual(*, notes: Sequence[str] = ("a fill came late",), count: int = 3, run: RunFacts = RUN) -> Status:
    """A run as it mostly is: quotes on both sides, something held, some notes."""
    markets = [market(i, f"market-{i}") for i in range(count)]
    orders = [one for m in markets for one in (order(m.yes, Side.BUY, 460_000), order(m.no, Side.BUY, 500_000))]
    now = snapshot(
        orders=orders,
        positions=[held(m.yes, 12) for m in markets],
        counts={"submitted": 12, "accepted": 11, "fills_buy": 4, "fills_sell": 3},
        notes=notes,
    )
    return status_of(now, {m.market_id: view(m) for m in markets}, markets, run=run, now_ns=NOW_NS)


def is_printable(text: str) -> bool:
    """Whether a terminal would only print this: no control, format or half characters, no line ends."""
    return all(unicodedata.category(c)[0] != "C" and c not in "\u2028\u2029" for c in text)


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class Screen:
    """As much of a terminal as the painter uses; anything else is refused."""

    _TOKEN = re.compile(r"\x1b\[(?P<number>\d*)(?P<move>[AKJ])|(?P<style>\x1b\[[\d;]*m)|(?P<char>.|\n)", re.DOTALL)

    def __init__(self) -> None:
        self.rows: list[str] = [""]
        self.row = 0
        self.column = 0

    def feed(self, text: str) -> None:
        for token in self._TOKEN.finditer(text):
            if token["move"]:
                self._move(token["move"], int(token["number"] or 1))
            elif token["char"]:
                self._put(token["char"])

    def _move(self, move: str, number: int) -> None:
        if move == "A":
            assert number <= self.row, "moved above the first line"
            self.row -= number
        elif move == "K":
            self.rows[self.row] = self.rows[self.row][: self.column]
        else:
            self._move("K", 1)
            del self.rows[self.row + 1 :]

    def _put(self, char: str) -> None:
        if char == "\n":
            self.row, self.column = self.row + 1, 0
            self.rows += [""] * (self.row + 1 - len(self.rows))
        elif char == "\r":
            self.column = 0
        else:
            assert is_printable(char), f"{char!r} reached the terminal"
            line = self.rows[self.row].ljust(self.column)
            self.rows[self.row] = line[: self.column] + char + line[self.column + 1 :]
            self.column += 1


def plain(text: str) -> str:
    """Without styles."""
    return re.sub(r"\x1b\[[\d;]*m", "", text)


def widths(lines: Sequence[str]) -> list[int]:
    return [cell_len(line) for line in lines]
