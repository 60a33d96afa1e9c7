"""The command line: parses, builds, calls `app`. Exit codes live here.

0    done, and nothing to complain about; also after a first Ctrl+C or SIGTERM, which ends a run early but in order
1    it ran, and something is wrong: the judge found violations, the bot gave up, or the report could not be written
2    it did not start: bad flag, bad settings, unusable state, busy port; one sentence says which
130, 143  ended at once by a second Ctrl+C or SIGTERM; the next start recovers

A reader of our output that leaves early (`| head -1`) changes none of them.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from tbot import __version__
from tbot.errors import AuthenticationFailed, ConfigError, StateCorrupt, TbotError
from tbot.log import text_clean
from tbot.store.journal import WriteFailed
from tbot.tasks.supervisor import leaves

REFUSED = (ConfigError, AuthenticationFailed, StateCorrupt)
DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h)")
SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
DURATION_MAX_S = 7 * 86_400.0
PORT_MAX = 65_535
NAME = re.compile(r"[0-9A-Za-z._-]{1,200}")
DOLLARS = re.compile(r"\d{1,12}(\.\d{1,6})?", re.ASCII)
MARKETS_MAX = 100
SENTENCE_LENGTH_MAX = 1_000
INTERRUPTED = 130
SHIPPED_SETTINGS = "settings (default: conf/{}.toml, without it those that come with tbot)"


class _Parser(argparse.ArgumentParser):
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


def _sim(arguments: argparse.Namespace) -> int:
    # It takes a second to import; whoever mistyped a flag, or changed their mind, is answered before that.
    from tbot.app import SimulationOptions, simulate  # noqa: PLC0415
    from tbot.config import settings_file  # noqa: PLC0415

    report = simulate(
        SimulationOptions(
            seed=arguments.seed,
            duration_s=arguments.duration,
            speed=arguments.speed,
            has_chaos=arguments.chaos,
            config=arguments.config or settings_file("sim"),
            state=arguments.state,
            json_to=arguments.json,
        )
    )
    return 1 if report.violations else 0


def _exchange(arguments: argparse.Namespace) -> int:
    from tbot.commands.exchange import ExchangeOptions, serve_exchange  # noqa: PLC0415 - as above
    from tbot.config import settings_file  # noqa: PLC0415

    config = arguments.config or settings_file("exchange")
    return serve_exchange(
        ExchangeOptions(seed=arguments.seed, port=arguments.port, config=config, is_json=arguments.json)
    )


def _frames(arguments: argparse.Namespace) -> int:
    from tbot.commands.frames import FramesOptions, survey_captures  # noqa: PLC0415 - as above

    return survey_captures(FramesOptions(captures=tuple(arguments.captures), is_json=arguments.json))


def _record(arguments: argparse.Namespace) -> int:
    from tbot.commands.record import RecordOptions, record  # noqa: PLC0415 - as above

    return record(RecordOptions(config=arguments.config, duration_s=arguments.duration))


def _paper(arguments: argparse.Namespace) -> int:
    from tbot.commands.paper import PaperOptions, trade_on_paper  # noqa: PLC0415 - as above

    return trade_on_paper(PaperOptions(config=arguments.config, duration_s=arguments.duration))


def _live(arguments: argparse.Namespace) -> int:
    from tbot.commands.live import LiveOptions, trade_live  # noqa: PLC0415 - as above

    return trade_live(LiveOptions(config=arguments.config, confirm=arguments.confirm, duration_s=arguments.duration))


def _doctor(arguments: argparse.Namespace) -> int:
    from tbot.commands.doctor import DoctorOptions, examine  # noqa: PLC0415 - as above

    return examine(DoctorOptions(config=arguments.config, is_json=arguments.json))


def _keys(arguments: argparse.Namespace) -> int:
    from tbot.commands.keys import KeysOptions, tend_keys  # noqa: PLC0415 - as above

    return tend_keys(
        KeysOptions(deed=arguments.deed, config=arguments.config, is_revealed=arguments.reveal, is_json=arguments.json)
    )


def _markets_search(arguments: argparse.Namespace) -> int:
    from tbot.commands.markets import SearchOptions, search_markets  # noqa: PLC0415 - as above
    from tbot.exchanges.polymarket.gamma import Scope  # noqa: PLC0415
    from tbot.exchanges.polymarket.listings import Wanted  # noqa: PLC0415

    wanted = Wanted(
        liquidity_min=arguments.liquidity_min, ends_before=arguments.ends_before, is_rewarded=arguments.rewards
    )
    return search_markets(
        SearchOptions(
            config=arguments.config,
            is_json=arguments.json,
            scope=Scope(text=" ".join(arguments.text), event=arguments.event or "", tag=arguments.tag or ""),
            wanted=wanted,
            limit=arguments.limit,
        )
    )


def _markets_show(arguments: argparse.Namespace) -> int:
    from tbot.commands.markets import ShowOptions, show_market  # noqa: PLC0415 - as above

    return show_market(ShowOptions(config=arguments.config, is_json=arguments.json, name=arguments.name))


def _add_sim(commands: argparse._SubParsersAction[_Parser]) -> None:
    sim = commands.add_parser(
        "sim",
        allow_abbrev=False,
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
    sim.add_argument("--config", type=Path, default=None, metavar="FILE", help=SHIPPED_SETTINGS.format("sim"))
    sim.add_argument("--state", type=Path, default=None, metavar="DIR", help="keep the state here and go on from it")
    sim.add_argument("--json", default=None, metavar="FILE", help="write the result as one JSON object; - for stdout")
    sim.set_defaults(run=_sim)


def _add_exchange(commands: argparse._SubParsersAction[_Parser]) -> None:
    exchange = commands.add_parser(
        "exchange",
        help="serve the local exchange alone",
        description="Serve a Polymarket of your own on loopback, with synthetic traders, until Ctrl+C or SIGTERM.",
    )
    exchange.add_argument("--port", type=_port, default=None, metavar="N", help="of REST; 0: any (default: settings)")
    exchange.add_argument("--seed", type=_seed, default=7, metavar="N", help="of everything random (default 7)")
    exchange.add_argument("--config", type=Path, default=None, metavar="FILE", help=SHIPPED_SETTINGS.format("exchange"))
    exchange.add_argument("--json", action="store_true", help="first print addresses and accounts as one JSON object")
    exchange.set_defaults(run=_exchange)


def _add_frames(commands: argparse._SubParsersAction[_Parser]) -> None:
    frames = commands.add_parser(
        "frames",
        allow_abbrev=False,
        help="check recordings of market data",
        description="Read recordings of market data, rebuild every book, and hold it against hashes and snapshots.",
    )
    frames.add_argument("captures", nargs="+", type=Path, metavar="CAPTURE", help=".jsonl, .jsonl.gz or .jsonl.zst")
    frames.add_argument("--json", action="store_true", help="print one JSON array, an object for each recording")
    frames.set_defaults(run=_frames)


def _add_record(commands: argparse._SubParsersAction[_Parser]) -> None:
    record = commands.add_parser(
        "record",
        allow_abbrev=False,
        help="record market data",
        description="Write the market channel of an exchange to disk as it comes, for `tbot frames`.",
    )
    record.add_argument("--config", type=Path, default=Path("conf/record.toml"), metavar="FILE", help="settings")
    record.add_argument(
        "--duration", type=_duration, default=None, metavar="1h", help="90s, 2m, 1h (default: for ever)"
    )
    record.set_defaults(run=_record)


def _add_keys(commands: argparse._SubParsersAction[_Parser]) -> None:
    keys = commands.add_parser(
        "keys",
        allow_abbrev=False,
        help="show the addresses of a key, derive or create its API credentials",
        description="The key comes from TBOT_PRIVATE_KEY and is never shown.",
    )
    keys.add_argument("deed", choices=("show", "derive", "create"), help="show asks nobody; derive creates nothing")
    keys.add_argument("--config", type=Path, default=Path("conf/live.toml"), metavar="FILE", help="settings")
    keys.add_argument("--reveal", action="store_true", help="print the secret parts of the API credentials as well")
    keys.add_argument("--json", action="store_true", help="print one JSON object")
    keys.set_defaults(run=_keys)


def _add_paper(commands: argparse._SubParsersAction[_Parser]) -> None:
    paper = commands.add_parser(
        "paper",
        allow_abbrev=False,
        help="trade live public data with play money",
        description="Follow the real exchange's books and trade them on paper, without a key, until Ctrl+C or SIGTERM.",
    )
    paper.add_argument("--config", type=Path, default=Path("conf/paper.toml"), metavar="FILE", help="settings")
    paper.add_argument("--duration", type=_duration, default=None, metavar="1h", help="90s, 2m, 1h (default: for ever)")
    paper.set_defaults(run=_paper)


def _add_live(commands: argparse._SubParsersAction[_Parser]) -> None:
    live = commands.add_parser(
        "live",
        allow_abbrev=False,
        help="trade with real money",
        description="Trade with the money of the configured wallet until Ctrl+C or SIGTERM. Run tbot doctor first.",
    )
    live.add_argument("--config", type=Path, default=Path("conf/live.toml"), metavar="FILE", help="settings")
    live.add_argument("--confirm", required=True, metavar="DIGITS", help="last 6 hex digits of the wallet that trades")
    live.add_argument("--duration", type=_duration, default=None, metavar="1h", help="90s, 2m, 1h (default: for ever)")
    live.set_defaults(run=_live)


def _add_markets(commands: argparse._SubParsersAction[_Parser]) -> None:
    markets = commands.add_parser(
        "markets",
        allow_abbrev=False,
        help="find markets to trade",
        description="Find markets that are ready to trade, and on which terms. Public data only; no key is needed.",
    )
    deeds = markets.add_subparsers(dest="deed", required=True, metavar="DEED")
    search = deeds.add_parser("search", allow_abbrev=False, help="by words, event, tag, liquidity, end or rewards")
    where = search.add_mutually_exclusive_group()
    where.add_argument("text", nargs="*", default=[], metavar="TEXT", help="words to look for")
    where.add_argument("--event", type=_name, default=None, metavar="SLUG", help="only markets of this event")
    where.add_argument(
        "--tag", type=_name, default=None, metavar="SLUG", help="only markets with this tag, or its number"
    )
    search.add_argument("--liquidity-min", type=_dollars, default=0, metavar="USD", help="at least so many dollars")
    search.add_argument("--ends-before", type=_moment, default=None, metavar="DATE", help="such as 2026-12-31")
    search.add_argument("--rewards", action="store_true", help="only markets that pay for resting orders")
    search.add_argument("--limit", type=_count, default=20, metavar="N", help="most markets shown (default 20)")
    search.set_defaults(run=_markets_search)
    show = deeds.add_parser("show", allow_abbrev=False, help="one market, with its neg-risk group")
    show.add_argument("name", type=_name, metavar="SLUG|CONDITION_ID")
    show.set_defaults(run=_markets_show)
    for each in (search, show):
        each.add_argument("--config", type=Path, default=Path("conf/live.toml"), metavar="FILE", help="for addresses")
        each.add_argument("--json", action="store_true", help="print one JSON object")


def _add_doctor(commands: argparse._SubParsersAction[_Parser]) -> None:
    doctor = commands.add_parser(
        "doctor",
        allow_abbrev=False,
        help="find what stops a bot from trading",
        description="Check settings, key, wallet, allowances, network and disk; exit code 1 when something is red.",
    )
    doctor.add_argument("--config", type=Path, default=Path("conf/live.toml"), metavar="FILE", help="settings")
    doctor.add_argument("--json", action="store_true", help="print the findings as one JSON object")
    doctor.set_defaults(run=_doctor)


def _parser() -> _Parser:
    parser = _Parser(
        prog="tbot", allow_abbrev=False, description="A Polymarket trading bot that accounts for every cent."
    )
    parser.add_argument("--version", action="version", version=f"tbot {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (
        _add_sim,
        _add_exchange,
        _add_paper,
        _add_live,
        _add_markets,
        _add_frames,
        _add_record,
        _add_doctor,
        _add_keys,
    ):
        add(commands)
    return parser


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= PORT_MAX):
        raise argparse.ArgumentTypeError(f"expected a port from 0 to {PORT_MAX}, found {text!r}")
    return int(text)


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"expected a short name such as fed-decision-in-june, found {text[:80]!r}")
    return text


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= MARKETS_MAX):
        raise argparse.ArgumentTypeError(f"expected 1 to {MARKETS_MAX}, found {text[:80]!r}")
    return int(text)


def _dollars(text: str) -> int:
    if not DOLLARS.fullmatch(text):
        raise argparse.ArgumentTypeError(f"expected dollars such as 5000, found {text[:80]!r}")
    return round(float(text) * 1e6)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a date such as 2026-12-31, found {text[:80]!r}") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _duration(text: str) -> float:
    match = DURATION.fullmatch(text)
    seconds = float(match[1]) * SECONDS[match[2]] if match else math.nan
    if not 1.0 <= seconds <= DURATION_MAX_S:
        raise argparse.ArgumentTypeError(f"expected 1s to 168h such as 90s, 2m or 1h, found {text!r}")
    return seconds


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise argparse.ArgumentTypeError(f"expected a whole number of at most 18 digits, found {text!r}")
    return int(text)
