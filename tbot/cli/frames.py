"""`tbot frames`: recordings checked."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tbot.cli.kinds import Commands


def declare(commands: Commands) -> None:
    """Declare its arguments."""
    frames = commands.add_parser(
        "frames",
        help="check recordings of market data",
        description="Read recordings of market data, rebuild every book, and hold it against hashes and snapshots.",
    )
    frames.add_argument(
        "captures",
        nargs="+",
        type=Path,
        metavar="CAPTURE",
        help="a .jsonl, .jsonl.gz or .jsonl.zst, or a folder of them",
    )
    frames.add_argument("--json", action="store_true", help="print one JSON array, an object for each recording")
    frames.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run it, and return the exit code."""
    from tbot.commands.frames import FramesOptions, survey_captures

    return survey_captures(FramesOptions(captures=tuple(arguments.captures), is_json=arguments.json))
