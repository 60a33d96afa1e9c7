"""`tbot keys`: the addresses and API credentials of a key."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from tbot.cli import kinds

if TYPE_CHECKING:
    from tbot.cli.kinds import Commands


def declare(commands: Commands) -> None:
    """Declare its arguments."""
    keys = commands.add_parser(
        "keys",
        help="show the addresses of a key, derive or create its API credentials",
        description="The key comes from TBOT_PRIVATE_KEY and is never shown.",
    )
    keys.add_argument("deed", choices=("show", "derive", "create"), help="show asks nobody; derive creates nothing")
    kinds.add_config(keys, "conf/live.toml")
    keys.add_argument("--reveal", action="store_true", help="print the secret parts of the API credentials as well")
    keys.add_argument("--json", action="store_true", help="print one JSON object")
    keys.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run it, and return the exit code."""
    from tbot.commands.keys import KeysOptions, tend_keys

    return tend_keys(
        KeysOptions(deed=arguments.deed, config=arguments.config, is_revealed=arguments.reveal, is_json=arguments.json)
    )
