"""`tbot sim`: a bot against a local exchange."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tbot.cli import kinds

if TYPE_CHECKING:
    from tbot.cli.kinds import Commands


def declare(commands: Commands) -> None:
    """Declare its arguments."""
    sim = commands.add_parser(
        "sim",
        help="trade on a local exchange",
        description="Run the bot against a local exchange with synthetic traders, and audit every cent at the end.",
    )
    sim.add_argument("--seed", type=kinds.seed, default=7, metavar="N", help="of everything random (default 7)")
    sim.add_argument("--duration", type=kinds.duration, default=120.0, metavar="2m", help="90s, 2m, 1h (default 2m)")
    sim.add_argument(
        "--speed",
        choices=("real", "max"),
        default="real",
        help="real: over sockets, by the clock; max: in memory, in virtual time, repeatable (default real)",
    )
    sim.add_argument("--chaos", action="store_true", help="crash and wedge every task, cut connections, lose answers")
    kinds.add_shipped_config(sim, "sim")
    sim.add_argument("--state", type=Path, default=None, metavar="DIR", help="keep the state here and go on from it")
    sim.add_argument("--json", default=None, metavar="FILE", help="write the result as one JSON object; - for stdout")
    sim.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run it, and return the exit code."""
    from tbot.app import SimulationOptions, simulate
    from tbot.config import settings_file

    report = simulate(
        SimulationOptions(
            seed=arguments.seed,
            duration_s=arguments.duration,
            speed=arguments.speed,
            has_chaos=arguments.chaos,
            config=arguments.config or settings_file("sim"),
            state=arguments.state,
            json_to=arguments.json,
        )
    )
    return 1 if report.violations else 0
