"""`tbot doctor`: what stops a bot from trading."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from tbot.cli import kinds

if TYPE_CHECKING:
    from tbot.cli.kinds import Commands


def declare(commands: Commands) -> None:
    """Declare its arguments."""
    doctor = commands.add_parser(
        "doctor",
        help="find what stops a bot from trading",
        description="Check settings, key, wallet, allowances, network and disk; exit code 1 when something is red.",
    )
    kinds.add_config(doctor, "conf/live.toml")
    doctor.add_argument("--json", action="store_true", help="print the findings as one JSON object")
    doctor.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run it, and return the exit code."""
    from tbot.commands.doctor import DoctorOptions, examine

    return examine(DoctorOptions(config=arguments.config, is_json=arguments.json))
