"""Same seed, same run: fact for fact and command for command, in every process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tbot.simulation.run import Level
from tests.simulation.sweep import chaotic

ROOT = Path(__file__).parents[2]
# Long enough for crashes, cuts and fills; the byte level is ten times as much work.
DURATIONS_S: dict[Level, float] = {"messages": 120.0, "bytes": 40.0}
SHOW = """
import sys
from tbot import log
from tests.simulation.sweep import chaotic
log.silence()
print(chaotic(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]).digest)
"""
# Another package of this name may be installed; ours is a plain folder.
FIND_TESTS = f"""
import sys, types
sys.modules["tests"] = types.ModuleType("tests")
sys.modules["tests"].__path__ = [{str(ROOT / "tests")!r}]
"""


def digest_elsewhere(seed: int, level: Level, hash_seed: str) -> str:
    """Run in a process of its own, whose sets and dicts of strings are laid out differently."""
    command = [sys.executable, "-c", FIND_TESTS + SHOW, str(seed), str(DURATIONS_S[level]), level]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize("level", DURATIONS_S)
def test_same_seed_gives_the_same_digest_in_every_process(level: Level) -> None:
    here = chaotic(5, DURATIONS_S[level], level).digest

    assert chaotic(5, DURATIONS_S[level], level).digest == here
    assert digest_elsewhere(5, level, "1") == here
    assert digest_elsewhere(5, level, "2") == here


@pytest.mark.slow
@pytest.mark.parametrize("level", DURATIONS_S)
def test_another_seed_gives_another_digest(level: Level) -> None:
    assert chaotic(5, DURATIONS_S[level], level).digest != chaotic(6, DURATIONS_S[level], level).digest
