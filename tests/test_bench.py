"""The bench compares equal work fairly, and runs. No test looks at a time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import subscribers
from bench.__main__ import simulation_line, table, time_text
from bench.measure import Budget, Case, compare
from bench.simulation import Run, run
from bench.subscribers import Carried

ROOT = Path(__file__).parent.parent
MS = 1_000_000


class Machine:
    """A clock that only work moves, on a machine that gets slower and slower."""

    def __init__(self, slowdown: float = 1.0) -> None:
        self.now = 0.0
        self.speed = 1.0
        self.slowdown = slowdown

    def work(self, cost_ns: float) -> Callable[[], None]:
        def spend() -> None:
            self.now += cost_ns * self.speed
            self.speed *= self.slowdown

        return spend

    def timer(self) -> int:
        return round(self.now)


def measured(machine: Machine, *, ours_ns: float, peer_ns: float, batch: int = 1) -> float:
    case = Case(name="x", peer_name="y", ours=machine.work(ours_ns), peer=machine.work(peer_ns), batch=batch)
    return compare(case, Budget(rounds=9, round_s=0.05), machine.timer).ratio


def test_a_peer_three_times_slower_has_a_ratio_of_three() -> None:
    assert measured(Machine(), ours_ns=MS, peer_ns=3 * MS) == pytest.approx(3)
    assert measured(Machine(), ours_ns=3 * MS, peer_ns=MS) == pytest.approx(1 / 3)


def test_turns_cancel_out_a_machine_that_slows_down() -> None:
    assert measured(Machine(slowdown=1.0005), ours_ns=MS, peer_ns=3 * MS) == pytest.approx(3, rel=0.1)


def test_a_batch_counts_as_many() -> None:
    machine = Machine()
    case = Case(name="x", peer_name="y", ours=machine.work(MS), peer=machine.work(MS), batch=1000)
    assert compare(case, Budget(rounds=3, round_s=0.05), machine.timer).ours_ns == pytest.approx(1000)


def test_table_lines_up() -> None:
    lines = list(table([("what", "n", "peer"), ("a", "1.5", "dict"), ("longer", "10", "json")]))
    assert lines == ["what      n  peer", "a       1.5  dict", "longer   10  json"]


@pytest.mark.parametrize(("nanos", "text"), [(3, "3 ns"), (1500, "1.5 us"), (2.5e6, "2.5 ms"), (12e9, "12 s")])
def test_times_have_their_unit(nanos: float, text: str) -> None:
    assert time_text(nanos) == text


def test_a_simulation_that_cannot_run_is_skipped_with_its_reason() -> None:
    outcome = run([sys.executable, "-S", "-c", "raise SystemExit('no such thing')"])
    assert "skipped" in simulation_line("1h", 3600.0, outcome)
    assert "no such thing" in simulation_line("1h", 3600.0, outcome)


def test_a_program_that_is_not_there_is_skipped_too() -> None:
    assert "FileNotFoundError" in run(["/nowhere/python"]).obstacle


def test_a_simulated_hour_is_told_as_a_ratio() -> None:
    assert "1,800 simulated seconds in a real one" in simulation_line("1h", 3600.0, Run(wall_s=2.0))


@pytest.mark.parametrize(("limit", "most"), [(9, 0), (10, 10), (37, 37), (73, 70), (640, 640), (5_000, 1_280)])
def test_the_search_for_subscribers_ends_close_below_the_limit(limit: int, most: int) -> None:
    tried = dict(subscribers.search(lambda count: Carried(lags_s=[0.01, 0.01], cut=int(count > limit))))
    assert max((count for count, found in tried.items() if found.is_well), default=0) == most
    assert len(tried) <= 11


def test_carried_is_only_who_hears_soon_and_stays() -> None:
    assert Carried(lags_s=[0.01] * 1_000).is_well
    assert not Carried(lags_s=[0.01] * 1_000, cut=1).is_well
    assert not Carried(lags_s=[0.01] * 980 + [0.2] * 20).is_well


@pytest.mark.slow
def test_quick_bench_prints_every_row() -> None:
    command = [sys.executable, "-m", "bench", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    rows = ("sign an order", "decode a frame", "update a book", "verify both books", "verify an order's signature")
    runs = (
        "desk, price to POST, 4 assets",
        "exchange in process",
        "exchange over HTTP",
        "exchange, one subscriber",
        "exchange, memory",
        "subscribers over WebSocket",
        "simulate 1m",
    )
    for word in ("nautilus_trader's schemas", "machine", "python", "versions", *rows, *runs):
        assert word in done.stdout
