"""`tbot record`: market data recorded."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from tbot.cli import kinds

if TYPE_CHECKING:
    from tbot.cli.kinds import Commands


def declare(commands: Commands) -> None:
    """Declare its arguments."""
    record = commands.add_parser(
        "record",
        help="record market data",
        description="Write the market channel of an exchange to disk as it comes, for `tbot frames`.",
    )
    kinds.add_config(record, "conf/record.toml")
    kinds.add_duration(record)
    record.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run it, and return the exit code."""
    from tbot.commands.record import RecordOptions, record

    return record(RecordOptions(config=arguments.config, duration_s=arguments.duration))
