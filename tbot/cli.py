"""The command line: parses, builds, calls `app`. Exit codes live here.

0  done, and nothing to complain about
1  it ran, and something is wrong: the judge found violations, or the bot gave up
2  it did not start: bad flag, bad settings, unusable state, busy port; one sentence says which
130, 143  ended by a second Ctrl+C or SIGTERM; the next start recovers
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tbot import __version__
from tbot.app import SimulationOptions, simulate
from tbot.errors import AuthenticationFailed, ConfigError, StateCorrupt, TbotError

REFUSED = (ConfigError, AuthenticationFailed, StateCorrupt)
DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h)")
SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
DURATION_MAX_S = 7 * 86_400.0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one sentence and leave with 2, without the usage page."""
        sys.stderr.write(f"{self.prog}: {message}; see {self.prog} --help\n")
        raise SystemExit(2)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return _sim(arguments)
    except REFUSED as error:
        sys.stderr.write(f"tbot: {error}\n")
        return 2
    except TbotError as error:
        sys.stderr.write(f"tbot: {type(error).__name__}: {error}\n")
        return 1


def _sim(arguments: argparse.Namespace) -> int:
    report = simulate(
        SimulationOptions(
            seed=arguments.seed,
            duration_s=arguments.duration,
            speed=arguments.speed,
            has_chaos=arguments.chaos,
            config=arguments.config,
            state=arguments.state,
            json_to=arguments.json,
        )
    )
    return 1 if report.violations else 0


def _parser() -> _Parser:
    parser = _Parser(prog="tbot", description="A Polymarket trading bot that accounts for every cent.")
    parser.add_argument("--version", action="version", version=f"tbot {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    sim = commands.add_parser(
        "sim",
        help="trade on a local exchange",
        description="Run the bot against a local exchange with synthetic traders, and audit every cent at the end.",
    )
    sim.add_argument("--seed", type=_seed, default=7, metavar="N", help="of everything random (default 7)")
    sim.add_argument("--duration", type=_duration, default=120.0, metavar="2m", help="90s, 2m, 1h (default 2m)")
    sim.add_argument(
        "--speed",
        choices=("real", "max"),
        default="real",
        help="real: over sockets, by the clock; max: in memory, in virtual time, repeatable (default real)",
    )
    sim.add_argument("--chaos", action="store_true", help="crash and wedge every task, cut connections, lose answers")
    sim.add_argument("--config", type=Path, default=Path("conf/sim.toml"), metavar="FILE", help="settings")
    sim.add_argument("--state", type=Path, default=None, metavar="DIR", help="keep the state here and go on from it")
    sim.add_argument("--json", default=None, metavar="FILE", help="write the result as one JSON object; - for stdout")
    return parser


def _duration(text: str) -> float:
    match = DURATION.fullmatch(text)
    seconds = float(match[1]) * SECONDS[match[2]] if match else math.nan
    if not 1.0 <= seconds <= DURATION_MAX_S:
        raise argparse.ArgumentTypeError(f"expected 1s to 168h such as 90s, 2m or 1h, found {text!r}")
    return seconds


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to 18 digits, found {text!r}")
    return int(text)
