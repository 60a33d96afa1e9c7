"""`tbot live`: real money."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from tbot.cli import kinds

if TYPE_CHECKING:
    from tbot.cli.kinds import Commands


def declare(commands: Commands) -> None:
    """Declare its arguments."""
    live = commands.add_parser(
        "live",
        help="trade with real money",
        description="Trade with the money of the configured wallet until Ctrl+C or SIGTERM. Run tbot doctor first.",
    )
    kinds.add_config(live, "conf/live.toml")
    live.add_argument("--confirm", required=True, metavar="DIGITS", help="last 6 hex digits of the wallet that trades")
    kinds.add_duration(live)
    live.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run it, and return the exit code."""
    from tbot.commands.live import LiveOptions, trade_live

    return trade_live(LiveOptions(config=arguments.config, confirm=arguments.confirm, duration_s=arguments.duration))
