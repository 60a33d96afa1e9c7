"""The composition root of a bot on a real exchange: everything built and run until a signal.

What differs between paper and live is handed in: how to ask for the markets, and how to make a gateway.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Final, Literal

import msgspec
import trio

from tbot.config import TradingSettings, load
from tbot.core.market import Market
from tbot.core.messages import Snapshot
from tbot.core.units import MICRO, NANOS_PER_S, Nanos
from tbot.errors import ConfigError
from tbot.exchanges.gateway import Gateway
from tbot.exchanges.polymarket.order_rules import check_limits
from tbot.log import text_clean
from tbot.store.journal import Store
from tbot.strategies.roster import check_sizes, roster
from tbot.tasks.desk import BotParts, bot_tree
from tbot.tasks.journal import LINGER_S, JournalWriter, thread_runner
from tbot.tasks.market_feed import HEALTH_KEY, Connects
from tbot.tasks.notes import note_in_log
from tbot.tasks.recorder import Recorder, recorder_into_folder, recording
from tbot.tasks.signals import StopSignals
from tbot.tasks.supervisor import Policy, supervise
from tbot.ui.show import showing
from tbot.ui.status import RunFacts, Status, status_of
from tbot.ui.terminal import tell

Background = Callable[..., Awaitable[None]]

# As long as an operator waits for an orderly stop.
STOP_WITHIN_S = 20.0
WATCH_S = 1.0
# Exit code of a run that ended in order but halted; others stand in `cli.main`.
HALTED: Final = 3
REASON_LENGTH_MAX: Final = 600


@dataclass(kw_only=True)
class Seen:
    """What the operator is shown, gathered while the bot lives."""

    command: str
    parts: BotParts
    policy: Policy
    recorder: Recorder | None
    began_ns: Nanos
    duration_s: float
    snapshot: Snapshot | None = field(default=None, init=False)
    connects: Connects = field(default_factory=Connects, init=False)
    is_connected: bool = field(default=False, init=False)

    def look(self) -> None:
        """Take the newest states."""
        self.snapshot = self.parts.snapshots.take_nowait().get("snapshot", self.snapshot)
        health = self.parts.health.take_nowait().get(HEALTH_KEY)
        if health is not None:
            self.connects.see(health.connects)
            self.is_connected = health.is_connected

    def status(self, setting: str) -> Status:
        """Put it together."""
        facts = RunFacts(
            command=self.command,
            setting=setting,
            started_ns=self.began_ns,
            duration_s=self.duration_s,
            restarts=self.policy.restarts,
            connects=self.connects.total,
            is_reconnecting=not self.is_connected,
        )
        status = status_of(
            self.snapshot, self.parts.views.states, self.parts.markets, run=facts, now_ns=self.parts.now_ns()
        )
        fault = self.recorder.fault if self.recorder is not None else ""
        return msgspec.structs.replace(status, notes=(fault, *status.notes)) if fault else status


Prepare = Callable[[], Awaitable[tuple[tuple[Market, ...], Callable[[], Gateway]]]]
"""Asks the exchange what must be known before the start: the markets, and how a gateway is made from then on."""


@dataclass(frozen=True, kw_only=True)
class Session:
    """One run of a bot.

    Attributes:
        command: What was typed: "paper", "live".
        settings: Of the bot.
        duration_s: Infinite when only an operator ends it.
        store: The journal; open.
        stops: Heard since before the start.
        prepare: Called inside the run, before anything is started.
        now_ns: The time of the whole run, of the gateways that `prepare` makes as well.
        backgrounds: Tasks that live as long as the run, such as the clock of a paper account.
        recorder: Keeps raw market data; it is given that by the gateways. None = it is not kept.
    """

    command: str
    settings: TradingSettings
    duration_s: float
    store: Store
    stops: StopSignals
    prepare: Prepare
    now_ns: Callable[[], Nanos]
    backgrounds: tuple[Background, ...] = ()
    recorder: Recorder | None = None


def owner_of_state(settings: TradingSettings, wallet: str | None) -> str:
    """Name whose state a bot keeps: a folder that holds another's is refused.

    Args:
        settings: Of the bot.
        wallet: That trades; None = on paper.
    """
    who = "paper account" if wallet is None else f"wallet {wallet.lower()}"
    return f"{who} on {settings.exchange.rest_url}"


def log_file(settings: TradingSettings) -> Path:
    """Name the file in the state folder that a bot logs to."""
    return Path(settings.state) / f"{settings.mode}.log.jsonl"


def recorder_of(settings: TradingSettings) -> Recorder | None:
    """Make the recorder that the settings ask for, and its folder; nothing is written yet.

    Raises:
        ConfigError: Its folder cannot be made or written to.
    """
    return None if settings.recorder is None else recorder_into_folder(settings.recorder)


def settings_of(config: Path, mode: Literal["paper", "live"]) -> TradingSettings:
    """Load settings for one way of trading, and refuse those that nothing could be traded with.

    Raises:
        ConfigError: For another mode, without a market, with an address that must not get our requests, or with limits
            within which the exchange takes no order.
    """
    settings = load(config, TradingSettings)
    if settings.mode != mode:
        raise ConfigError(f'{config}: mode: expected "{mode}" for tbot {mode}, found "{settings.mode}"')
    if not (settings.exchange.condition_ids or settings.exchange.slugs):
        raise ConfigError(f"{config}: exchange.condition_ids or slugs: expected at least one market, found none")
    settings.exchange.check_reach()
    check_limits(settings.limits)
    return settings


def trade(session: Session) -> Seen:
    """Run a bot until its time is over, a signal comes or it gives up.

    Raises:
        ConfigError: A market does not exist, or this account may not trade from here; nothing was started.
        ExchangeUnavailable: Nobody answered before the start.
        TbotError: The bot gave up; its orders are withdrawn and its state is kept.
    """
    return trio.run(_run, session)


async def _run(session: Session) -> Seen:
    now_ns = session.now_ns
    markets, open_gateway = await session.prepare()
    dice = random.Random(now_ns())
    policy = Policy(rng=random.Random(dice.getrandbits(64)), note=note_in_log)
    parts = _parts(session, markets, open_gateway, dice)
    seen = Seen(
        command=session.command,
        parts=parts,
        policy=policy,
        recorder=session.recorder,
        began_ns=now_ns(),
        duration_s=session.duration_s,
    )
    aside = Policy(rng=random.Random(0), note=note_in_log)
    async with recording(session.recorder, aside), trio.open_nursery() as nursery:
        for background in session.backgrounds:
            await nursery.start(background)
        await _trade(seen, session)
        nursery.cancel_scope.cancel()
    return seen


async def _trade(seen: Seen, session: Session) -> None:
    stop = trio.Event()
    get_status = partial(seen.status, session.settings.exchange.rest_url)
    face = Policy(rng=random.Random(0), note=note_in_log)
    async with showing(get_status, stream=sys.stdout, environ=os.environ, policy=face), trio.open_nursery() as nursery:
        nursery.start_soon(_watch, seen)
        nursery.start_soon(_end_after, seen.duration_s, stop)
        with session.stops.setting(stop):
            await supervise(bot_tree(seen.parts, seen.policy), stop, seen.policy, stop_within_s=STOP_WITHIN_S)
        seen.look()
        nursery.cancel_scope.cancel()


async def _watch(seen: Seen) -> None:
    while True:
        await trio.sleep(WATCH_S)
        seen.look()


async def _end_after(duration_s: float, stop: trio.Event) -> None:
    await trio.sleep(duration_s)
    stop.set()


def _parts(
    session: Session, markets: tuple[Market, ...], open_gateway: Callable[[], Gateway], dice: random.Random
) -> BotParts:
    settings = session.settings
    strategies = roster(settings.strategies, markets)
    for sentence in check_sizes(strategies, settings.limits, markets):
        tell(f"{sentence}.\n", sys.stdout)
    return BotParts(
        open_gateway=open_gateway,
        markets=markets,
        limits=settings.limits,
        strategies=strategies,
        journal=JournalWriter(session.store, thread_runner(), linger_s=LINGER_S),
        feed=settings.feed,
        checkpoint=settings.checkpoint,
        now_ns=session.now_ns,
        rng=random.Random(dice.getrandbits(64)),
    )


def verdict(seen: Seen, config: Path) -> int:
    """Say as the last line whether the bot ended halted, and return the exit code.

    Args:
        seen: Of a run that ended in order.
        config: Its settings file.

    Returns:
        0, or `HALTED` when the next start would not trade either, until a person has looked.
    """
    reason = seen.snapshot.halt_reason if seen.snapshot is not None else ""
    if not reason:
        return 0
    tell(f"\n{seen.command}: HALTED, and so after a restart: {text_clean(reason, REASON_LENGTH_MAX)}\n", sys.stdout)
    tell(f"Find out why (tbot doctor, docs/runbook.md), then type {resume_command(config)}\n", sys.stdout)
    return HALTED


def resume_command(config: Path) -> str:
    """Say what to type to end a halt."""
    return f"`tbot resume --config {quote(str(config))}`"


def summary(seen: Seen) -> str:
    """Say in a few words what came of a run."""
    ran_s = (seen.parts.now_ns() - seen.began_ns) / NANOS_PER_S
    snapshot = seen.snapshot
    recorded = seen.recorder.summary() if seen.recorder is not None else ""
    if snapshot is None:
        return f"\n{seen.command}: {ran_s:.0f} s, and nothing was heard of the account\n{recorded}"
    counts = dict(snapshot.counts)
    buys, sells = counts.get("fills_buy", 0), counts.get("fills_sell", 0)
    return (
        f"\n{seen.command}: {ran_s:.0f} s, {counts.get('submitted', 0)} orders, {buys} buys, {sells} sells, "
        f"pnl ${snapshot.pnl / MICRO:+,.2f} after fees of ${snapshot.fees / MICRO:,.2f}\n{recorded}"
    )
