"""`tbot paper`: live public data, play money. No key is read, and the code that signs orders is not loaded."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import trio

from tbot import log
from tbot.config import TradingSettings
from tbot.core.market import Market
from tbot.core.units import Nanos
from tbot.exchanges.gateway import Gateway
from tbot.exchanges.paper.account import Entry
from tbot.exchanges.paper.exchange import PaperExchange
from tbot.exchanges.paper.gateway import PaperGateway
from tbot.exchanges.polymarket.connection import RunWide
from tbot.exchanges.polymarket.order_rules import check_limits
from tbot.exchanges.polymarket.public import PublicMarkets
from tbot.exchanges.polymarket.sockets import ASSETS_MAX
from tbot.store.append_log import AppendLog
from tbot.store.journal import Store
from tbot.tasks.clock import SteadyClock
from tbot.tasks.recorder import Recorder
from tbot.tasks.signals import StopSignals
from tbot.trading import Session, log_file, owner_of_state, recorder_of, settings_of, summary, trade, verdict
from tbot.ui.terminal import tell

ACCOUNT_NAME = "paper.log"


class PaperOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says.

    Attributes:
        config: Settings file.
        duration_s: Stop in order after this; None = when a signal says so.
    """

    config: Path
    duration_s: float | None


def trade_on_paper(options: PaperOptions) -> int:
    """Trade live public data with play money until a signal, and say what came of it.

    Returns:
        0 after an orderly end, `trading.HALTED` when it ended halted.

    Raises:
        ConfigError: Settings or state folder cannot be used; nothing was started.
        StateCorrupt: The state cannot be used as it is; it is untouched.
        TbotError: The bot gave up; its orders are withdrawn and its state is kept.
    """
    settings = settings_of(options.config, "paper")
    recorder = recorder_of(settings)
    state, stops, clock = Path(settings.state), StopSignals(), SteadyClock()
    now_ns = clock.now_ns
    with (
        stops.handled(),
        closing(Store.open(state, owner_of_state(settings, None))) as store,
        AppendLog[Entry](state / ACCOUNT_NAME, Entry) as account_log,
        log.set_up(file=log_file(settings), terminal=None),
    ):
        tell(f"tbot paper: live books, play money, no key. State and log in {state}.\n\n", sys.stdout)
        exchange = _exchange(settings, account_log, now_ns)
        session = Session(
            command="paper",
            settings=settings,
            duration_s=math.inf if options.duration_s is None else options.duration_s,
            store=store,
            stops=stops,
            prepare=lambda: _prepare(settings, exchange, recorder, clock),
            now_ns=now_ns,
            backgrounds=(exchange.run,),
            recorder=recorder,
        )
        seen = trade(session)
    tell(summary(seen), sys.stdout)
    return verdict(seen, options.config)


def _exchange(settings: TradingSettings, account_log: AppendLog[Entry], now_ns: Callable[[], Nanos]) -> PaperExchange:
    return PaperExchange(
        settings.paper,
        now_ns=now_ns,
        entries=[entry for _, entry in account_log.replay()],
        on_entry=lambda entry: account_log.append(now_ns(), entry),
    )


async def _prepare(
    settings: TradingSettings, exchange: PaperExchange, recorder: Recorder | None, clock: SteadyClock
) -> tuple[tuple[Market, ...], Callable[[], Gateway]]:
    tap, now_ns = None if recorder is None else recorder.connection, clock.now_ns
    shared = RunWide.begin(settings.exchange, now_ns, clock.catch_up)

    def open_gateway() -> PaperGateway:
        source = PublicMarkets(settings.exchange, now_ns=now_ns, tap=tap, shared=shared)
        return PaperGateway(source, exchange, now_ns=now_ns, session_tokens_max=ASSETS_MAX)

    gateway = open_gateway()
    try:
        markets = await gateway.load_markets()
    finally:
        with trio.move_on_after(1.0, shield=True):
            await gateway.aclose()
    check_limits(settings.limits, markets)
    return markets, open_gateway
