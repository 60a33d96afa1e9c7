"""`tbot exchange`: the local exchange alone."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from tbot.cli import kinds

if TYPE_CHECKING:
    from tbot.cli.kinds import Commands


def declare(commands: Commands) -> None:
    """Declare its arguments."""
    exchange = commands.add_parser(
        "exchange",
        help="serve the local exchange alone",
        description="Serve a Polymarket of your own on loopback, with synthetic traders, until Ctrl+C or SIGTERM.",
    )
    exchange.add_argument(
        "--port", type=kinds.port, default=None, metavar="N", help="of REST; 0: any (default: settings)"
    )
    exchange.add_argument("--seed", type=kinds.seed, default=7, metavar="N", help="of everything random (default 7)")
    kinds.add_shipped_config(exchange, "exchange")
    exchange.add_argument("--json", action="store_true", help="first print addresses and accounts as one JSON object")
    exchange.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run it, and return the exit code."""
    from tbot.commands.exchange import ExchangeOptions, serve_exchange
    from tbot.config import settings_file

    config = arguments.config or settings_file("exchange")
    return serve_exchange(
        ExchangeOptions(seed=arguments.seed, port=arguments.port, config=config, is_json=arguments.json)
    )
