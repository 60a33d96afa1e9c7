"""Composes the commands, each of which declares its own arguments; exit codes live here.

0    done, and nothing to complain about; also after a first Ctrl+C or SIGTERM, which ends a run early but in order
1    it ran, and something is wrong: the judge found violations, the bot gave up, or the report could not be written
2    it did not start: bad flag, bad settings, unusable state, busy port; or a bot learnt while it ran that it may not
     trade; one sentence says which
3    it traded and ended in order, but halted: it will not trade again before `tbot resume`
130, 143  ended at once by a second Ctrl+C or SIGTERM; the next start recovers

A reader of our output that leaves early (`| head -1`) changes none of them.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from tbot import __version__
from tbot.cli import doctor, exchange, frames, keys, live, markets, paper, record, resume, sim
from tbot.errors import AuthenticationFailed, ConfigError, StateCorrupt, TbotError
from tbot.log import text_clean
from tbot.store.journal import WriteFailed
from tbot.tasks.supervisor import leaves

COMMANDS: Final = (sim, exchange, paper, live, resume, markets, frames, record, doctor, keys)
REFUSED = (ConfigError, AuthenticationFailed, StateCorrupt)
SENTENCE_LENGTH_MAX = 1_000
INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    def __init__(self, **how: Any) -> None:
        """Take no abbreviated flags, here nor in the commands: they are parsers of this kind, too."""
        super().__init__(allow_abbrev=False, **how)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one sentence and leave with 2, without the usage page."""
        _complain(f"{message}; see {self.prog} --help", self.prog)
        raise SystemExit(2)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    _hold_standard_streams()
    code = INTERRUPTED
    try:
        arguments = _parser().parse_args(argv)
        code = arguments.run(arguments)
    except* TbotError as group:
        code = _explain(leaves(group)[0])
    except* KeyboardInterrupt:
        _complain("interrupted before anything was started")
    finally:
        _let_readers_go()
    return code


def _explain(error: BaseException) -> int:
    if isinstance(error, REFUSED):
        _complain(str(error))
        return 2
    if isinstance(error, WriteFailed):
        _complain(f"trading ended because the state could not be kept: {error}; make room, then start again")
    else:
        _complain(str(error))
    return 1


def _complain(sentence: str, who: str = "tbot") -> None:
    # Cleaned: a key or a value of a settings file may hold what moves a terminal.
    sys.stderr.write(f"{who}: {text_clean(sentence, SENTENCE_LENGTH_MAX)}\n")


def _hold_standard_streams() -> None:
    """Fill closed standard streams: the next file opened would get the number, and our messages would end up in it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
    # None when the process began without them; everything below expects something to write to.
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - as long as the process
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def _let_readers_go() -> None:
    """Flush; what a reader that left did not take is dropped, or the interpreter would complain of it on its way."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _parser() -> _Parser:
    parser = _Parser(prog="tbot", description="A Polymarket trading bot that accounts for every cent.")
    parser.add_argument("--version", action="version", version=f"tbot {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.declare(commands)
    return parser
