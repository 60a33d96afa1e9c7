"""Kinds of arguments: texts of the command line turned into values, or refused in a few words."""

from __future__ import annotations

import argparse
import math
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - it has no other name

DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h)")
SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
DURATION_MAX_S = 7 * 86_400.0
PORT_MAX = 65_535
NAME = re.compile(r"[0-9A-Za-z._-]{1,200}")
DOLLARS = re.compile(r"\d{1,12}(\.\d{1,6})?", re.ASCII)
MARKETS_MAX = 100


def add_config(parser: argparse.ArgumentParser, default: str, what: str = "settings") -> None:
    """Take the settings file."""
    parser.add_argument("--config", type=Path, default=Path(default), metavar="FILE", help=what)


def add_shipped_config(parser: argparse.ArgumentParser, name: str) -> None:
    """Take the settings file of a command that runs without one, too; None = not named."""
    told = f"settings (default: conf/{name}.toml, without it those that come with tbot)"
    parser.add_argument("--config", type=Path, default=None, metavar="FILE", help=told)


def add_duration(parser: argparse.ArgumentParser) -> None:
    """Take how long a run lasts; None = for ever."""
    parser.add_argument("--duration", type=duration, default=None, metavar="1h", help="90s, 2m, 1h (default: for ever)")


def port(text: str) -> int:
    """Read a port."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= PORT_MAX):
        raise argparse.ArgumentTypeError(f"expected a port from 0 to {PORT_MAX}, found {text!r}")
    return int(text)


def name(text: str) -> str:
    """Read the short name of a market, an event or a tag."""
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"expected a short name such as fed-decision-in-june, found {text[:80]!r}")
    return text


def count(text: str) -> int:
    """Read how many markets."""
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= MARKETS_MAX):
        raise argparse.ArgumentTypeError(f"expected 1 to {MARKETS_MAX}, found {text[:80]!r}")
    return int(text)


def dollars(text: str) -> int:
    """Read dollars as micro-dollars."""
    if not DOLLARS.fullmatch(text):
        raise argparse.ArgumentTypeError(f"expected dollars such as 5000, found {text[:80]!r}")
    return round(float(text) * 1e6)


def moment(text: str) -> datetime:
    """Read a date, or a moment; without a zone it is of UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a date such as 2026-12-31, found {text[:80]!r}") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def duration(text: str) -> float:
    """Read a duration in seconds."""
    match = DURATION.fullmatch(text)
    seconds = float(match[1]) * SECONDS[match[2]] if match else math.nan
    if not 1.0 <= seconds <= DURATION_MAX_S:
        raise argparse.ArgumentTypeError(f"expected 1s to 168h such as 90s, 2m or 1h, found {text!r}")
    return seconds


def seed(text: str) -> int:
    """Read a seed."""
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise argparse.ArgumentTypeError(f"expected a whole number of at most 18 digits, found {text!r}")
    return int(text)
