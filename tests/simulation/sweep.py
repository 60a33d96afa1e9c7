"""Runs of the settings that people use, with everything going wrong."""

from __future__ import annotations

from pathlib import Path

from tbot import config
from tbot.simulation.report import RunReport
from tbot.simulation.run import Level, Plan, run
from tbot.simulation.settings import SimulationSettings

CONFIG = Path(__file__).parents[2] / "conf" / "sim.toml"


def chaotic(seed: int, duration_s: float, level: Level) -> RunReport:
    """Run one seed with chaos at most speed."""
    settings = config.load(CONFIG, SimulationSettings)
    return run(Plan(settings=settings, seed=seed, duration_s=duration_s, speed="max", has_chaos=True, level=level))
