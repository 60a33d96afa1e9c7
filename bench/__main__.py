"""`python -m bench`: one row for each hot path. Nothing here asserts a time: machines differ, ratios are for people."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from bench import book, decode, desk, exchange, feed, machine, nautilus, sign, subscribers, verification
from bench.measure import FULL, QUICK, Budget, Case, compare
from bench.simulation import Run, simulate

CASES: tuple[Callable[[], Case], ...] = (
    sign.case,
    sign.unified_case,
    decode.case,
    decode.models_case,
    book.case,
    feed.case,
    verification.case,
    exchange.case,
)
HEAD = ("what", "ours", "peer", "peer / ours", "of rounds", "peer is")
SIMULATED = {False: ("1h", 3600.0), True: ("1m", 60.0)}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns 0 also when a row had to be skipped, and says so in its place."""
    parser = argparse.ArgumentParser(prog="bench", description="Measure the hot paths against a peer in the same run.")
    parser.add_argument("--quick", action="store_true", help="only show that it works: the numbers mean nothing")
    is_quick = parser.parse_args(argv).quick
    _say(*machine.describe(), "")
    rows = [HEAD, *_rows(QUICK if is_quick else FULL)]
    _say(
        *table(rows),
        "",
        "peer / ours above 1: ours is faster. Times are those of the best round; the range is of rounds in turns.",
        *([] if nautilus.is_installed() else [nautilus.ABSENT]),
        "",
    )
    for line in chain.from_iterable(part.lines(is_quick=is_quick) for part in (desk, exchange, subscribers)):
        _say(line)
    duration, seconds = SIMULATED[is_quick]
    _say(simulation_line(duration, seconds, simulate(duration)))
    return 0


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Line up cells: the first and the last column to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *middle, last in rows:
        numbers = (cell.rjust(width) for cell, width in zip(middle, widths[1:-1], strict=True))
        yield "  ".join((first.ljust(widths[0]), *numbers, last)).rstrip()


def simulation_line(duration: str, simulated_s: float, run: Run) -> str:
    """Describe a simulated run, or why there was none."""
    if run.wall_s is None:
        return f"simulate {duration}: skipped, not runnable here ({run.obstacle})"
    ratio = simulated_s / run.wall_s
    return f"simulate {duration}: {run.wall_s:.1f} s, start-up included; {ratio:,.0f} simulated seconds in a real one"


def time_text(nanos: float) -> str:
    """Print a time with three digits that matter."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if nanos >= size:
            return f"{nanos / size:.3g} {unit}"
    return f"{nanos:.0f} ns"


def _rows(budget: Budget) -> Iterator[tuple[str, ...]]:
    for make in (*CASES, *([nautilus.case] if nautilus.is_installed() else [])):
        case = make()
        found = compare(case, budget)
        spread = f"{found.ratio_min:.2f} to {found.ratio_max:.2f}"
        times = (time_text(found.ours_ns), time_text(found.peer_ns))
        yield (case.name, *times, f"{found.ratio:.2f}", spread, case.peer_name)


def _say(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
