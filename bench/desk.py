"""From a price told to the order it brings in, over loopback: our whole desk against a plain bot.

Three processes: the exchange that moves prices and takes the time (`bench.desk_exchange`), our desk (`bench.desk_bot`)
and a bot of `websockets` and py-clob-client-v2 (`bench.plain_bot`). Both bots do the same job, each on markets of its
own. Ours makes every order durable before it is sent; how long its writes took in this very run is told beside it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

from bench.measure import NANOS_PER_S

ROOT = Path(__file__).parent.parent
# Fewer tell nothing, and there is no percentile of one.
TICKS_MIN = 3
MODULES = {"ours": "bench.desk_bot", "plain": "bench.plain_bot"}


@dataclass(frozen=True, kw_only=True)
class Reaction:
    """How fast one bot was.

    Attributes:
        p50_s: Median seconds from price to order.
        p99_s: What one tick in a hundred exceeds.
        missed: Ticks that brought no order in.
    """

    p50_s: float
    p99_s: float
    missed: int


def lines(*, is_quick: bool) -> Iterator[str]:
    """Let both bots trade, first few and then many assets, and describe them, a line each."""
    for assets in (4,) if is_quick else (4, 200):
        found = react(assets, ticks=3 if is_quick else 150)
        if found is None:
            yield f"desk, price to POST, {assets} assets: skipped, a bot did not begin to trade (its words stand above)"
            continue
        ours, plain, write_s = found
        yield (
            f"desk, price to POST, {assets} assets: ours p50 {_ms(ours.p50_s)}, p99 {_ms(ours.p99_s)}, of it a "
            f"write made durable p50 {_ms(write_s)}; websockets and py-clob-client-v2, nothing written: "
            f"p50 {_ms(plain.p50_s)}, p99 {_ms(plain.p99_s)}; "
            f"peer / ours {plain.p50_s / ours.p50_s:.2f} and {plain.p99_s / ours.p99_s:.2f}{_missed(ours, plain)}"
        )


def react(assets: int, *, ticks: int) -> tuple[Reaction, Reaction, float] | None:
    """Let both bots trade.

    Args:
        assets: Of each bot.
        ticks: Of each bot.

    Returns:
        Ours, the plain bot's, and the median seconds that our journal's writes took until they were durable; None when
        one of them hardly sent an order.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        exchange = _start(stack, ["bench.desk_exchange", str(assets), str(ticks)])
        assert exchange.stdout is not None
        for _ in MODULES:
            announced = json.loads(exchange.stdout.readline())
            files = [str(folder / "state"), str(folder / "writes")]
            _start(stack, [MODULES[announced["bot"]], json.dumps(announced), *files])
        found: dict[str, list[int]] = json.loads(exchange.stdout.readline() or b"{}")
        heard = {bot: [tick for tick in ticks if tick >= 0] for bot, ticks in found.items()}
        if not heard or min(map(len, heard.values())) < TICKS_MIN:
            return None
        ours, plain = (_reaction(found[bot], heard[bot]) for bot in MODULES)
        writes = (folder / "writes").read_text(encoding="utf-8").splitlines()
        return ours, plain, median(map(float, writes))


def _start(stack: ExitStack, command: list[str]) -> subprocess.Popen[bytes]:
    process = stack.enter_context(
        subprocess.Popen(  # noqa: S603 - our own programs
            [sys.executable, "-m", *command], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
    )
    stack.callback(process.terminate)
    return process


def _reaction(ticks: list[int], heard: list[int]) -> Reaction:
    return Reaction(
        p50_s=median(heard) / NANOS_PER_S,
        p99_s=quantiles(heard, n=100, method="inclusive")[98] / NANOS_PER_S,
        missed=len(ticks) - len(heard),
    )


def _missed(ours: Reaction, plain: Reaction) -> str:
    if not ours.missed and not plain.missed:
        return ""
    return f"; ticks without an order: ours {ours.missed}, plain {plain.missed}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms"
