"""Many seeds with everything going wrong, and nothing unaccounted for at the end of any."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor

import pytest

from tbot.simulation.run import Level
from tests.simulation.sweep import violations_of

WORKERS = 2
# Long enough for most kinds of strikes to meet most kinds of faults somewhere among the seeds.
DURATIONS_S: dict[Level, float] = {"messages": 600.0, "bytes": 300.0}
CASES: list[tuple[Level, int]] = [*(("messages", seed) for seed in range(1, 41)), *(("bytes", s) for s in range(1, 11))]

Runs = dict[tuple[Level, int], "Future[tuple[str, ...]]"]


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest) -> Iterator[Runs]:
    """Start the chosen cases on all processors; forked, because the workers need this process's way to find tests."""
    chosen = [item.callspec.params for item in request.session.items if item.path == request.path]  # type: ignore[attr-defined]
    with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("fork")) as pool:
        cases = [(params["level"], params["seed"]) for params in chosen]
        yield {(lv, seed): pool.submit(violations_of, seed, DURATIONS_S[lv], lv) for lv, seed in cases}
        pool.shutdown(cancel_futures=True)


@pytest.mark.slow
@pytest.mark.parametrize(("level", "seed"), CASES)
def test_no_violation(runs: Runs, level: Level, seed: int) -> None:
    found = runs[level, seed].result()

    assert found == (), (
        f"tbot sim --speed max --chaos --seed {seed} --duration {DURATIONS_S[level]:g}s at level {level}"
    )
