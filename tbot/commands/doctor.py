"""`tbot doctor`: everything that stops a bot from trading, a line each, with what to do about it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import trio

from tbot.commands.state import state_findings
from tbot.config import TradingSettings, load
from tbot.core.market import Market
from tbot.errors import ConfigError
from tbot.exchanges.polymarket.environment import api_credentials_of, signing_key_of
from tbot.exchanges.polymarket.examination import Examination, Reach
from tbot.exchanges.polymarket.hosts import is_on_this_machine
from tbot.exchanges.polymarket.judgement import GIVE_KEY, NAME_MARKET, Finding, Light, green, red, yellow
from tbot.exchanges.polymarket.keys import ApiCredentials, SigningKey
from tbot.log import text_clean
from tbot.store.recordings import check_folder
from tbot.strategies.roster import check_sizes, roster
from tbot.tasks.clock import WallClock
from tbot.ui.terminal import tell

TEXT_LENGTH_MAX: Final = 400
# A longer name, such as that of an unknown market, moves its own line only.
COLUMN_MAX: Final = 44
_MARKS: Final = {Light.GREEN: "ok ", Light.YELLOW: "?  ", Light.RED: "NO "}


class DoctorOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says.

    Attributes:
        config: Settings of the bot to examine.
        is_json: Whether to print one JSON object, for programs.
    """

    config: Path
    is_json: bool


def examine(options: DoctorOptions) -> int:
    """Examine, print a line for each question, and return 1 when one is red, else 0."""
    found = diagnose(options.config, os.environ, Reach())
    text = _json(found) if options.is_json else page(found)
    tell(text, sys.stdout)
    return 1 if any(each.light is Light.RED for each in found) else 0


def diagnose(config: Path, environ: Mapping[str, str], reach: Reach) -> tuple[Finding, ...]:
    """Ask everything about the bot of a settings file; without a readable one there is nothing else to ask.

    Args:
        config: The settings file.
        environ: Holds the key.
        reach: For tests.
    """
    try:
        settings = load(config, TradingSettings)
        settings.exchange.check_reach()
    except ConfigError as error:
        return (red("settings", str(error), "Correct that line; conf/live.toml is a whole one."),)
    found: list[Finding] = []
    key = _key(environ, found)
    settled = green("settings", f"{config}, mode {settings.mode}")
    found = [settled, *state_findings(settings, key, config), *_recording(settings), *found]
    credentials = _credentials(environ, found)
    clock = WallClock()

    async def ask() -> tuple[Finding, ...]:
        examination = Examination(
            settings.exchange,
            key=key,
            credentials=credentials,
            is_play=is_on_this_machine(settings.exchange.rest_url),
            limits=settings.limits,
            now_ns=clock.now_ns,
            reach=reach,
        )
        return (*await examination.findings(), judge_strategies(settings, examination.markets))

    return (*found, *trio.run(ask))


def judge_strategies(settings: TradingSettings, markets: Sequence[Market]) -> Finding:
    """Judge whether each strategy can quote in each market."""
    check, remedy = "strategies", "Set what it names; with it nothing is traded."
    if not markets:
        return yellow(check, "no market to hold their sizes against", NAME_MARKET)
    try:
        partial = check_sizes(roster(settings.strategies, markets), settings.limits, markets)
    except ConfigError as error:
        return red(check, str(error).removeprefix("not trading: "), remedy)
    if partial:
        return yellow(
            check, " / ".join(partial), "Set what it names, or take it as it is: the other quotes are placed."
        )
    return green(check, f"{len(settings.strategies)} quote in all {len(markets)} markets")


def page(found: Sequence[Finding]) -> str:
    """Draw the whole page for people."""
    reds = sum(each.light is Light.RED for each in found)
    verdict = f"{reds} of {len(found)} keep a bot from trading" if reds else "nothing known keeps a bot from trading"
    return f"{lines_of(found)}\n{verdict}\n"


def lines_of(found: Sequence[Finding]) -> str:
    """Draw a line for each finding: a mark, the question, what was found; and under it the remedy."""
    width = min(max(len(each.check) for each in found), COLUMN_MAX)
    lines = []
    for each in found:
        lines.append(f"{_MARKS[each.light]} {_clean(each.check):<{width}}  {_clean(each.found)}")
        if each.remedy:
            lines.append(f"    {'':<{width}}  -> {_clean(each.remedy)}")
    return "\n".join([*lines, ""])


def _key(environ: Mapping[str, str], found: list[Finding]) -> SigningKey | None:
    try:
        return signing_key_of(environ)
    except ConfigError as error:
        found.append(red("key", str(error), GIVE_KEY))
        return None


def _credentials(environ: Mapping[str, str], found: list[Finding]) -> ApiCredentials | None:
    try:
        return api_credentials_of(environ)
    except ConfigError as error:
        found.append(red("credentials in environment", str(error), "Export all three of `tbot keys derive --reveal`."))
        return None


def _recording(settings: TradingSettings) -> list[Finding]:
    if settings.recorder is None:
        return []
    check, folder = "recordings", Path(settings.recorder.folder)
    try:
        check_folder(folder)
    except ConfigError as error:
        return [red(check, str(error), "Name another folder in [recorder], or leave that section out.")]
    return [green(check, f"{folder} takes them")]


def _json(found: Sequence[Finding]) -> str:
    is_ready = all(each.light is not Light.RED for each in found)
    return json.dumps({"is_ready": is_ready, "findings": msgspec.to_builtins(found)}, indent=2) + "\n"


def _clean(text: str) -> str:
    return text_clean(text, TEXT_LENGTH_MAX)
