"""`tbot live`: real orders with real money, behind every check that can be made before the first one.

Two switches that no recipe sets must agree: `mode = "live"` in the settings, and the last digits of the wallet that
trades on the command line. Then everything that `tbot doctor` asks, the signing probe included, and credentials that
the exchange takes, new ones too; only then is anything started.
"""

from __future__ import annotations

import math
import os
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import msgspec
import trio

from tbot import log
from tbot.commands.disk import disk_findings
from tbot.commands.doctor import lines_of
from tbot.config import TradingSettings
from tbot.core.market import Market
from tbot.core.units import MICRO
from tbot.errors import ConfigError, ExchangeUnavailable
from tbot.exchanges.gateway import Gateway
from tbot.exchanges.polymarket.connection import RunWide
from tbot.exchanges.polymarket.environment import api_credentials_of, secrets_of, signing_key_of
from tbot.exchanges.polymarket.examination import Examination, Reach
from tbot.exchanges.polymarket.gateway import PolymarketGateway
from tbot.exchanges.polymarket.hosts import is_on_this_machine
from tbot.exchanges.polymarket.judgement import WELL_KNOWN, Finding, Light, hindrances
from tbot.exchanges.polymarket.keys import ApiCredentials, SigningKey
from tbot.exchanges.polymarket.wallets import trading_wallet
from tbot.store.journal import Store
from tbot.tasks.clock import SteadyClock
from tbot.tasks.recorder import Recorder
from tbot.tasks.signals import StopSignals
from tbot.trading import Session, log_file, owner_of_state, recorder_of, settings_of, summary, trade, verdict
from tbot.ui.terminal import tell

CONFIRM_DIGITS = 6


class LiveOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says.

    Attributes:
        config: Settings file.
        confirm: The last six hex digits of the wallet that trades.
        duration_s: Stop in order after this; None = when a signal says so.
    """

    config: Path
    confirm: str
    duration_s: float | None


def trade_live(options: LiveOptions, environ: Mapping[str, str] = os.environ) -> int:
    """Trade with real money until a signal, and say what came of it.

    Args:
        options: The command line.
        environ: Holds the key.

    Returns:
        0 after an orderly end, `trading.HALTED` when it ended halted.

    Raises:
        ConfigError: Something is missing or does not agree; nothing was started.
        AuthenticationFailed: The signing probe or the exchange refuses; nothing was started.
        StateCorrupt: The state cannot be used as it is; it is untouched.
        TbotError: The bot gave up; its orders are withdrawn and its state is kept.
    """
    settings = settings_of(options.config, "live")
    key = signing_key_of(environ)
    exchange = settings.exchange
    wallet = trading_wallet(key.address, exchange)
    _check_wallet(key, wallet, options.confirm)
    given, hidden = api_credentials_of(environ), secrets_of(environ)
    recorder = recorder_of(settings)
    state, stops, clock = Path(settings.state), StopSignals(), SteadyClock()
    with (
        stops.handled(),
        closing(Store.open(state, owner_of_state(settings, wallet))) as store,
        log.set_up(file=log_file(settings), terminal=None, secrets=hidden) as logs,
    ):
        tell(_risks(settings, wallet, state), sys.stdout)
        session = Session(
            command="live",
            settings=settings,
            duration_s=math.inf if options.duration_s is None else options.duration_s,
            store=store,
            stops=stops,
            prepare=partial(
                _prepare,
                settings,
                key,
                given,
                recorder,
                logs,
                clock=clock,
                has_traded=store.newest_ns() is not None,
            ),
            now_ns=clock.now_ns,
            recorder=recorder,
        )
        seen = trade(session)
    tell(summary(seen), sys.stdout)
    return verdict(seen, options.config)


def check_confirmed(confirm: str | None, wallet: str, *, otherwise: str) -> None:
    """Refuse unless a person typed the last digits of the wallet that trades.

    Args:
        confirm: As typed; None = not at all.
        wallet: That trades.
        otherwise: What then did not happen, for the refusal.

    Raises:
        ConfigError: Other digits, or none.
    """
    if confirm is None or confirm.lower().removeprefix("0x") != wallet[-CONFIRM_DIGITS:].lower():
        raise ConfigError(
            f"--confirm: expected the last {CONFIRM_DIGITS} hex digits of the wallet that trades, {wallet}, "
            f"found {'none' if confirm is None else repr(confirm[:20])}; {otherwise}"
        )


def _check_wallet(key: SigningKey, wallet: str, confirm: str) -> None:
    if key.address.lower() in WELL_KNOWN:
        raise ConfigError(f"{key.address} is a public test key, everybody can empty its wallets; use a key of your own")
    check_confirmed(confirm, wallet, otherwise="nothing was started")


def _risks(settings: TradingSettings, wallet: str, state: Path) -> str:
    limits = settings.limits
    markets = len(settings.exchange.condition_ids) + len(settings.exchange.slugs)
    return (
        f"tbot live: REAL MONEY of {wallet} on {settings.exchange.rest_url}.\n"
        f"At most ${limits.exposure_max / MICRO:,.2f} at cost of everything held, "
        f"{limits.position_size_max / MICRO:,.0f} shares of one outcome, {limits.open_orders_max} open orders; "
        f"everything stops after a loss of ${limits.loss_max / MICRO:,.2f}.\n"
        f"{markets} markets. State and log in {state}. Ctrl+C cancels all and ends it.\n\n"
    )


def _admit(found: Sequence[Finding], *, has_traded: bool) -> None:
    """Tell what the doctor would tell, and refuse what it calls red; that is told by the refusal alone.

    Raises:
        ConfigError: With each hindrance and its remedy; nothing was started.
    """
    hindered = hindrances(found, has_traded=has_traded)
    if told := [each for each in found if each.light is not Light.GREEN and each not in hindered]:
        tell(lines_of(told), sys.stdout)
    if hindered:
        raise ConfigError(
            "not trading: " + " / ".join(f"{each.check}: {each.found}. {each.remedy}" for each in hindered)
        )


async def _prepare(
    settings: TradingSettings,
    key: SigningKey,
    given: ApiCredentials | None,
    recorder: Recorder | None,
    logs: log.Logs,
    *,
    clock: SteadyClock,
    has_traded: bool,
) -> tuple[tuple[Market, ...], Callable[[], Gateway]]:
    exchange, now_ns = settings.exchange, clock.now_ns
    shared = RunWide.begin(exchange, now_ns, clock.catch_up)
    examination = Examination(
        exchange,
        key=key,
        credentials=given,
        is_play=is_on_this_machine(exchange.rest_url),
        is_start=True,
        on_wait=lambda why: tell(f"{why}.\n", sys.stdout),
        limits=settings.limits,
        now_ns=now_ns,
        reach=Reach(),
        shared=shared,
    )
    _admit((*disk_findings(Path(settings.state)), *await examination.findings()), has_traded=has_traded)
    credentials = examination.credentials
    if credentials is None:
        raise ExchangeUnavailable("the exchange did not tell whether it takes our credentials; try again")
    logs.hide(credentials.api_key, credentials.secret, credentials.passphrase)
    # Salts make two orders differ, also those of two runs; nothing depends on their being secret.
    dice = random.Random(now_ns())
    tap = None if recorder is None else recorder.connection

    def open_gateway() -> PolymarketGateway:
        return PolymarketGateway(
            settings.exchange,
            key=key,
            credentials=credentials,
            now_ns=now_ns,
            rng=random.Random(dice.getrandbits(64)),
            tap=tap,
            shared=shared,
        )

    gateway = open_gateway()
    try:
        markets = await gateway.load_markets()
        reason = await gateway.can_trade()
    finally:
        with trio.move_on_after(1.0, shield=True):
            await gateway.aclose()
    if reason:
        raise ConfigError(f"not trading: {reason}; tbot doctor says more")
    return markets, open_gateway
