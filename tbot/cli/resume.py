"""`tbot resume`: a person ends a halt."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from tbot.cli import kinds

if TYPE_CHECKING:
    from tbot.cli.kinds import Commands


def declare(commands: Commands) -> None:
    """Declare its arguments."""
    resume = commands.add_parser(
        "resume",
        help="end the halt of a stopped bot",
        description="Tell why and since when a stopped bot is halted, and with --confirm let its next start trade.",
    )
    kinds.add_config(resume, "conf/live.toml")
    resume.add_argument(
        "--confirm",
        default=None,
        metavar="DIGITS",
        help="last 6 hex digits of the wallet that trades; without it nothing is changed (paper needs none)",
    )
    resume.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run it, and return the exit code."""
    from tbot.commands.resume import ResumeOptions, resume

    return resume(ResumeOptions(config=arguments.config, confirm=arguments.confirm))
