"""The composition root of a bot on a real exchange: settings in, everything built and run until a signal.

`trade_on_paper` is the way of `tbot paper`. Public data come from the exchange; the account exists only here, and what
could sign or send an order is never made: there is no key in this module.
"""

from __future__ import annotations

import math
import os
import random
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec
import trio

from tbot import log
from tbot.config import TradingSettings, load
from tbot.core.market import Market
from tbot.core.messages import Snapshot, StrategyName
from tbot.core.units import MICRO, NANOS_PER_S, Nanos
from tbot.errors import ConfigError
from tbot.exchanges.paper.account import Entry
from tbot.exchanges.paper.exchange import PaperExchange
from tbot.exchanges.paper.gateway import PaperGateway
from tbot.exchanges.polymarket.public import PublicMarkets
from tbot.exchanges.polymarket.sockets import ASSETS_MAX
from tbot.store.append_log import AppendLog
from tbot.store.journal import Store
from tbot.strategies.liquidity import Liquidity, LiquiditySettings
from tbot.tasks.clock import WallClock
from tbot.tasks.conflator import Conflator
from tbot.tasks.desk import BotParts, OperatorLine, bot_tree
from tbot.tasks.journal import JournalWriter, thread_runner
from tbot.tasks.market_feed import HEALTH_KEY
from tbot.tasks.notes import note_in_log
from tbot.tasks.signals import StopSignals
from tbot.tasks.supervisor import Child, Policy, TaskContext, keep, supervise
from tbot.ui.show import show
from tbot.ui.status import RunFacts, Status, status_of
from tbot.ui.terminal import encodable, write_now

LOG_NAME = "paper.log.jsonl"
ACCOUNT_NAME = "paper.log"
# As long as an operator waits for an orderly stop.
STOP_WITHIN_S = 20.0
WATCH_S = 1.0
SHOW_END_S = 2.0


class PaperOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says.

    Attributes:
        config: Settings file.
        duration_s: Stop in order after this; None = when a signal says so.
    """

    config: Path
    duration_s: float | None


@dataclass(kw_only=True)
class Seen:
    """What the operator is shown, gathered while the bot lives."""

    parts: BotParts
    policy: Policy
    began_ns: Nanos
    duration_s: float
    snapshot: Snapshot | None = field(default=None, init=False)
    connects: int = field(default=0, init=False)
    is_connected: bool = field(default=False, init=False)

    def look(self) -> None:
        """Take the newest states."""
        self.snapshot = self.parts.snapshots.take_nowait().get("snapshot", self.snapshot)
        health = self.parts.health.take_nowait().get(HEALTH_KEY)
        if health is not None:
            self.connects, self.is_connected = health.connects, health.is_connected

    def status(self, setting: str) -> Status:
        """Put it together."""
        facts = RunFacts(
            command="paper",
            setting=setting,
            started_ns=self.began_ns,
            duration_s=self.duration_s,
            restarts=self.policy.restarts,
            reconnects=max(self.connects - 1, 0),
            is_reconnecting=not self.is_connected,
        )
        return status_of(
            self.snapshot, self.parts.views.states, self.parts.markets, run=facts, now_ns=self.parts.now_ns()
        )


def trade_on_paper(options: PaperOptions) -> int:
    """Trade live public data with play money until a signal, and say what came of it.

    Returns:
        0 after an orderly end.

    Raises:
        ConfigError: Settings or state folder cannot be used; nothing was started.
        StateCorrupt: The state cannot be used as it is; it is untouched.
        TbotError: The bot gave up; its orders are withdrawn and its state is kept.
    """
    settings = load(options.config, TradingSettings)
    if settings.mode != "paper":
        raise ConfigError(f'{options.config}: mode: expected "paper" for tbot paper, found "{settings.mode}"')
    if not settings.exchange.condition_ids:
        raise ConfigError(f"{options.config}: exchange.condition_ids: expected at least one market, found none")
    settings.exchange.check_reach()
    state, stops = Path(settings.state), StopSignals()
    identity = f"paper account on {settings.exchange.rest_url}"
    with (
        stops.handled(),
        closing(Store.open(state, identity)) as store,
        AppendLog[Entry](state / ACCOUNT_NAME, Entry) as account_log,
        log.set_up(file=state / LOG_NAME, terminal=None),
    ):
        _tell(f"tbot paper: live books, play money, no key. State and log in {state}.\n\n")
        seen = trio.run(partial(_run, settings, options, store, account_log, stops))
    _tell(_summary(seen))
    return 0


async def _run(
    settings: TradingSettings, options: PaperOptions, store: Store, account_log: AppendLog[Entry], stops: StopSignals
) -> Seen:
    now_ns = WallClock().now_ns
    entries = [entry for _, entry in account_log.replay()]
    exchange = PaperExchange(
        settings.paper,
        now_ns=now_ns,
        entries=entries,
        on_entry=lambda entry: account_log.append(now_ns(), entry),
    )
    markets = await _markets(settings, now_ns)
    dice = random.Random(now_ns())
    policy = Policy(rng=random.Random(dice.getrandbits(64)), note=note_in_log)
    exchange.list_markets(markets)
    parts = _parts(settings, markets, JournalWriter(store, thread_runner()), exchange, dice)
    duration_s = math.inf if options.duration_s is None else options.duration_s
    seen = Seen(parts=parts, policy=policy, began_ns=now_ns(), duration_s=duration_s)
    async with trio.open_nursery() as nursery:
        await nursery.start(exchange.run)
        await _trade(seen, settings, stops)
        nursery.cancel_scope.cancel()
    return seen


async def _trade(seen: Seen, settings: TradingSettings, stops: StopSignals) -> None:
    stop = trio.Event()
    face_stop = trio.Event()
    body = partial(
        show, get_status=partial(seen.status, settings.exchange.rest_url), stream=sys.stdout, environ=os.environ
    )
    face = keep(Child("ui", body, kind="temporary"), Policy(rng=random.Random(0), note=note_in_log))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(face, TaskContext("ui", face_stop))
        nursery.start_soon(_watch, seen)
        nursery.start_soon(_end_after, seen.duration_s, stop)
        with stops.setting(stop):
            await supervise(bot_tree(seen.parts, seen.policy), stop, seen.policy, stop_within_s=STOP_WITHIN_S)
        seen.look()
        face_stop.set()
        nursery.cancel_scope.deadline = trio.current_time() + SHOW_END_S
        nursery.start_soon(_leave_when_shown, nursery)


async def _leave_when_shown(nursery: trio.Nursery) -> None:
    """Let the last picture be painted; the watchers would go on for ever."""
    await trio.sleep(SHOW_END_S / 2)
    nursery.cancel_scope.cancel()


async def _watch(seen: Seen) -> None:
    while True:
        await trio.sleep(WATCH_S)
        seen.look()


async def _end_after(duration_s: float, stop: trio.Event) -> None:
    await trio.sleep(duration_s)
    stop.set()


async def _markets(settings: TradingSettings, now_ns: Callable[[], Nanos]) -> tuple[Market, ...]:
    """Read the markets once, so that a wrong id is told before anything is started.

    Raises:
        ConfigError: A market does not exist.
        ExchangeUnavailable: Nobody answers.
    """
    source = PublicMarkets(settings.exchange, now_ns=now_ns)
    try:
        return await source.load_markets()
    finally:
        with trio.move_on_after(1.0, shield=True):
            await source.aclose()


def _parts(
    settings: TradingSettings,
    markets: tuple[Market, ...],
    journal: JournalWriter,
    exchange: PaperExchange,
    dice: random.Random,
) -> BotParts:
    now_ns = WallClock().now_ns

    def open_gateway() -> PaperGateway:
        source = PublicMarkets(settings.exchange, now_ns=now_ns)
        return PaperGateway(source, exchange, now_ns=now_ns, session_tokens_max=ASSETS_MAX)

    return BotParts(
        open_gateway=open_gateway,
        markets=markets,
        limits=settings.limits,
        strategies={StrategyName(s.name): _maker(s, markets) for s in settings.strategies},
        journal=journal,
        feed=settings.feed,
        checkpoint=settings.checkpoint,
        now_ns=now_ns,
        rng=random.Random(dice.getrandbits(64)),
        snapshots=Conflator(),
        health=Conflator(),
        account_health=Conflator(),
        operator=OperatorLine(),
    )


def _maker(settings: LiquiditySettings, markets: tuple[Market, ...]) -> Callable[[], Liquidity]:
    return lambda: Liquidity(markets={market.market_id: market for market in markets}, settings=settings)


def _summary(seen: Seen) -> str:
    ran_s = (seen.parts.now_ns() - seen.began_ns) / NANOS_PER_S
    snapshot = seen.snapshot
    if snapshot is None:
        return f"\npaper: {ran_s:.0f} s, and nothing was heard of the account\n"
    counts = dict(snapshot.counts)
    buys, sells = counts.get("fills_buy", 0), counts.get("fills_sell", 0)
    return (
        f"\npaper: {ran_s:.0f} s, {counts.get('submitted', 0)} orders, {buys} buys, {sells} sells, "
        f"pnl ${snapshot.pnl / MICRO:+,.2f} after fees of ${snapshot.fees / MICRO:,.2f}\n"
    )


def _tell(text: str) -> None:
    with suppress(OSError, ValueError):
        write_now(sys.stdout, encodable(text, sys.stdout))
