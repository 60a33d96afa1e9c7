"""The synthetic crowd beside recordings: `python -m bench.calibration`.

Measured of one market (its YES token, both tokens' trades): time between two milliseconds in which the book changed,
spread and level size as each change tells them, time between trades, size of a trade. Recordings are large and not ours
to publish: `TBOT_CAPTURES`, or the folder `../shared/data/polymarket`, may have them; the numbers measured from them
are facts in `tests/exchanges/simulated/captured.json`.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from bench.measure import NANOS_PER_S
from tbot.core.units import MICRO, Nanos
from tbot.exchanges.simulated.events import LevelsChanged, TradePrinted
from tbot.exchanges.simulated.flow import Flow, FlowSettings
from tbot.exchanges.simulated.matching import Engine
from tbot.exchanges.simulated.operations import EngineSettings, MarketRules, OpenMarket
from tbot.exchanges.simulated.regimes import RegimeName
from tbot.exchanges.simulated.settings import DEFAULT_MARKETS

ROOT = Path(__file__).parent.parent
FACTS = ROOT / "tests" / "exchanges" / "simulated" / "captured.json"
CAPTURES = Path(os.environ.get("TBOT_CAPTURES") or ROOT.parent / "shared" / "data" / "polymarket")
BURST = "ws/btc5m-2026-04-21-burst/market-ws.jsonl.gz"
BURST_TOKEN = "45936375922793925919605092352922707796689801895417366600539442410775071099958"
START_NS = Nanos(1_790_000_000 * NANOS_PER_S)
WARM_UP_S = 20.0
# Seconds of market time enough for a steady p90 of trade gaps.
SIMULATED_S: Mapping[RegimeName, float] = {"quiet": 7_200.0, "busy": 300.0, "burst": 25.0}
NAMES: Mapping[RegimeName, str] = {
    "quiet": "hockey, prop market",
    "busy": "hockey, main market",
    "burst": "BTC 5 min, last minute",
}

Table = dict[str, tuple[float, float]]


@dataclass
class Sample:
    """What happened in one market; times in milliseconds, sizes in shares.

    Attributes:
        spreads: In ticks, one for each change.
        levels: Totals of levels as told, one for each change that leaves something.
    """

    update_ms: list[float] = field(default_factory=list)
    spreads: list[float] = field(default_factory=list)
    levels: list[float] = field(default_factory=list)
    trade_ms: list[float] = field(default_factory=list)
    trades: list[float] = field(default_factory=list)

    def table(self) -> Table:
        """Return (p50, p90) of every quantity."""
        return {
            "update gap, ms": _quantiles(_gaps(self.update_ms)),
            "spread, ticks": _quantiles(self.spreads),
            "level size, shares": _quantiles(self.levels),
            "trade gap, ms": _quantiles(_gaps(self.trade_ms)),
            "trade size, shares": _quantiles(self.trades),
        }


def crowd(regime: RegimeName, *, seed: int, seconds: float | None = None) -> Sample:
    """Let the crowd of a regime trade one market, in a plain loop, and measure it after a warm-up."""
    rules = DEFAULT_MARKETS[0]
    # The recorded markets kept their tick, wherever their price went.
    engine = Engine(EngineSettings(has_tick_change=False))
    flow = Flow.seeded(seed, FlowSettings(regimes=(regime,)), (rules,))
    for operation in (OpenMarket(rules=rules), *flow.opening()):
        engine.apply(operation, START_NS)
    sample = Sample()
    begin_ns = START_NS + int(WARM_UP_S * NANOS_PER_S)
    end_ns = begin_ns + int((seconds or SIMULATED_S[regime]) * NANOS_PER_S)
    while (now_ns := max(flow.next_ns, START_NS)) < end_ns:
        for operation in flow.step(engine, now_ns):
            for event in engine.apply(operation, now_ns)[1]:
                if now_ns >= begin_ns:
                    _note(sample, event, rules)
    return sample


def burst_capture() -> Sample:
    """Measure the recorded BTC burst.

    Raises:
        OSError: The recording is not there.
    """
    sample = Sample()
    with gzip.open(CAPTURES / BURST, "rt", encoding="utf-8") as lines:
        for line in lines:
            _note_frame(sample, json.loads(line)["payload"])
    return sample


def facts() -> dict[str, Table]:
    """Return what was measured of the recordings, by regime."""
    found: dict[str, dict[str, list[float]]] = json.loads(FACTS.read_text(encoding="utf-8"))
    return {regime: {what: (p50, p90) for what, (p50, p90) in table.items()} for regime, table in found.items()}


def rows(seed: int) -> Iterator[str]:
    """Write the table of docs/calibration.md, line by line."""
    yield "| regime, recording | quantity | recorded p50 | ours | recorded p90 | ours |"
    yield "|---|---|---:|---:|---:|---:|"
    recorded = facts()
    for regime, name in NAMES.items():
        ours = crowd(regime, seed=seed).table()
        for what, (p50, p90) in recorded[regime].items():
            cells = (p50, ours[what][0], p90, ours[what][1])
            yield f"| {regime}, {name} | {what} | " + " | ".join(f"{cell:,.4g}" for cell in cells) + " |"


def _note(sample: Sample, event: object, rules: MarketRules) -> None:
    if isinstance(event, TradePrinted):
        sample.trade_ms.append(event.exchange_ms)
        sample.trades.append(event.size / MICRO)
    if not isinstance(event, LevelsChanged):
        return
    for change in event.changes:
        if change.token_id != rules.yes:
            continue
        sample.update_ms.append(event.exchange_ms)
        if change.size:
            sample.levels.append(change.size / MICRO)
        if change.best_bid is not None and change.best_ask is not None:
            sample.spreads.append((change.best_ask - change.best_bid) / rules.tick)


def _note_frame(sample: Sample, frame: dict[str, str]) -> None:
    if frame["event_type"] == "last_trade_price":
        sample.trade_ms.append(float(frame["timestamp"]))
        sample.trades.append(float(frame["size"]))
    changes: list[dict[str, str]] = frame.get("price_changes", [])  # type: ignore[assignment]
    for change in changes:
        if change["asset_id"] == BURST_TOKEN:
            sample.update_ms.append(float(frame["timestamp"]))
            sample.spreads.append(round((float(change["best_ask"]) - float(change["best_bid"])) * 100))
            if float(change["size"]):
                sample.levels.append(float(change["size"]))


def _gaps(moments: Sequence[float]) -> list[float]:
    distinct = sorted(set(moments))
    return [later - earlier for earlier, later in pairwise(distinct)]


def _quantiles(values: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(values)
    if not ordered:
        return float("nan"), float("nan")
    return ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, len(ordered) * 9 // 10)]


if __name__ == "__main__":
    sys.stdout.write("\n".join(rows(random.Random("calibration").getrandbits(16))) + "\n")
