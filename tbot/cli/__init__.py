"""The command line: `main` parses, calls one of `tbot.commands`, and turns what came of it into an exit code."""

from tbot.cli.main import main

__all__ = ["main"]
