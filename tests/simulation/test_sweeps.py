"""Many seeds with everything going wrong, and nothing unaccounted for at the end of any."""

from __future__ import annotations

import pytest

from tbot.simulation.run import Level
from tests.simulation.sweep import chaotic

# Long enough for most kinds of strikes to meet most kinds of faults somewhere among the seeds.
DURATIONS_S: dict[Level, float] = {"messages": 600.0, "bytes": 300.0}
CASES: list[tuple[Level, int]] = [*(("messages", seed) for seed in range(1, 41)), *(("bytes", s) for s in range(1, 11))]


@pytest.mark.slow
@pytest.mark.parametrize(("level", "seed"), CASES)
def test_no_violation(level: Level, seed: int) -> None:
    found = chaotic(seed, DURATIONS_S[level], level).violations

    assert found == (), (
        f"tbot sim --speed max --chaos --seed {seed} --duration {DURATIONS_S[level]:g}s at level {level}"
    )
