"""kill -9 at any moment: the next start knows everything, and in the end every cent of all lives is accounted for.

The bot is killed together with its exchange, which keeps a log of its own: what the two of them had on the wire is
lost, everything that took effect is not.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tbot.core.messages import Prepared
from tbot.simulation.run import Level
from tbot.simulation.world import all_records
from tbot.store.journal import Store
from tbot.tasks.coordinator import decode_entry
from tests.faults import lives

ROOT = Path(__file__).parents[2]
KILLS = 4
# Another package of the name `tests` may be installed; ours is a plain folder.
LIFE = f"""
import sys, types
sys.modules["tests"] = types.ModuleType("tests")
sys.modules["tests"].__path__ = [{str(ROOT / "tests")!r}]
from pathlib import Path
from tbot import log
from tests.faults import lives
log.silence()
lives.live(Path(sys.argv[1]), sys.argv[2])
"""


def live_and_be_killed(state: Path, level: Level, rng: random.Random) -> None:
    """Start a life and kill it some moments later, in the middle of whatever it does."""
    command = [sys.executable, "-c", LIFE, str(state), level]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(rng.randint(1, 40)):
            assert process.stdout.readline() == "alive\n", "it ended before it was killed"
        process.kill()


def order_ids(state: Path, level: Level) -> list[str]:
    """Name every order ever prepared in a state, by the exchange's id."""
    identity = f"simulated exchange {'in memory' if level == 'messages' else 'on the wire'}, seed {lives.SEED}"
    store = Store.open(state, identity)
    try:
        entries = [decode_entry(record.payload) for record in all_records(store)]
    finally:
        store.close()
    return [entry.exchange_order_id for entry in entries if isinstance(entry, Prepared)]


@pytest.mark.slow
@pytest.mark.parametrize(("level", "seed"), [("messages", 1), ("messages", 2), ("messages", 3), ("bytes", 1)])
def test_no_violation_over_lives_that_were_killed(tmp_path: Path, level: Level, seed: int) -> None:
    state, rng = tmp_path / "state", random.Random(seed)

    for _ in range(KILLS):
        live_and_be_killed(state, level, rng)
    report = lives.last(state, level)

    assert report.violations == ()
    assert report.fills.maker > 0
    prepared = order_ids(state, level)
    assert len(prepared) == len(set(prepared)), "no two lives make the same order"
