"""`tbot paper`: live public data with play money."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from tbot.cli import kinds

if TYPE_CHECKING:
    from tbot.cli.kinds import Commands


def declare(commands: Commands) -> None:
    """Declare its arguments."""
    paper = commands.add_parser(
        "paper",
        help="trade live public data with play money",
        description="Follow the real exchange's books and trade them on paper, without a key, until Ctrl+C or SIGTERM.",
    )
    kinds.add_config(paper, "conf/paper.toml")
    kinds.add_duration(paper)
    paper.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run it, and return the exit code."""
    from tbot.commands.paper import PaperOptions, trade_on_paper

    return trade_on_paper(PaperOptions(config=arguments.config, duration_s=arguments.duration))
