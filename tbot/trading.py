"""The composition root of a bot on a real exchange: everything built and run until a signal.

What differs between paper and live is handed in: how to ask for the markets, and how to make a gateway.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import trio

from tbot.config import TradingSettings
from tbot.core.market import Market
from tbot.core.messages import Snapshot, StrategyName
from tbot.core.units import MICRO, NANOS_PER_S, Nanos
from tbot.exchanges.gateway import Gateway
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

Background = Callable[..., Awaitable[None]]

# As long as an operator waits for an orderly stop.
STOP_WITHIN_S = 20.0
WATCH_S = 1.0
SHOW_END_S = 2.0


@dataclass(kw_only=True)
class Seen:
    """What the operator is shown, gathered while the bot lives."""

    command: str
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
            command=self.command,
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
        backgrounds: Tasks that live as long as the run, such as the clock of a paper account.
    """

    command: str
    settings: TradingSettings
    duration_s: float
    store: Store
    stops: StopSignals
    prepare: Prepare
    backgrounds: tuple[Background, ...] = ()


def trade(session: Session) -> Seen:
    """Run a bot until its time is over, a signal comes or it gives up.

    Raises:
        ConfigError: A market does not exist, or this account may not trade from here; nothing was started.
        ExchangeUnavailable: Nobody answered before the start.
        TbotError: The bot gave up; its orders are withdrawn and its state is kept.
    """
    return trio.run(_run, session)


async def _run(session: Session) -> Seen:
    now_ns = WallClock().now_ns
    markets, open_gateway = await session.prepare()
    dice = random.Random(now_ns())
    policy = Policy(rng=random.Random(dice.getrandbits(64)), note=note_in_log)
    parts = _parts(session, markets, open_gateway, dice)
    seen = Seen(command=session.command, parts=parts, policy=policy, began_ns=now_ns(), duration_s=session.duration_s)
    async with trio.open_nursery() as nursery:
        for background in session.backgrounds:
            await nursery.start(background)
        await _trade(seen, session)
        nursery.cancel_scope.cancel()
    return seen


async def _trade(seen: Seen, session: Session) -> None:
    stop = trio.Event()
    face_stop = trio.Event()
    body = partial(
        show, get_status=partial(seen.status, session.settings.exchange.rest_url), stream=sys.stdout, environ=os.environ
    )
    face = keep(Child("ui", body, kind="temporary"), Policy(rng=random.Random(0), note=note_in_log))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(face, TaskContext("ui", face_stop))
        nursery.start_soon(_watch, seen)
        nursery.start_soon(_end_after, seen.duration_s, stop)
        with session.stops.setting(stop):
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


def _parts(
    session: Session, markets: tuple[Market, ...], open_gateway: Callable[[], Gateway], dice: random.Random
) -> BotParts:
    settings = session.settings
    return BotParts(
        open_gateway=open_gateway,
        markets=markets,
        limits=settings.limits,
        strategies={StrategyName(s.name): _maker(s, markets) for s in settings.strategies},
        journal=JournalWriter(session.store, thread_runner()),
        feed=settings.feed,
        checkpoint=settings.checkpoint,
        now_ns=WallClock().now_ns,
        rng=random.Random(dice.getrandbits(64)),
        snapshots=Conflator(),
        health=Conflator(),
        account_health=Conflator(),
        operator=OperatorLine(),
    )


def _maker(settings: LiquiditySettings, markets: tuple[Market, ...]) -> Callable[[], Liquidity]:
    return lambda: Liquidity(markets={market.market_id: market for market in markets}, settings=settings)


def summary(seen: Seen) -> str:
    """Say in a few words what came of a run."""
    ran_s = (seen.parts.now_ns() - seen.began_ns) / NANOS_PER_S
    snapshot = seen.snapshot
    if snapshot is None:
        return f"\n{seen.command}: {ran_s:.0f} s, and nothing was heard of the account\n"
    counts = dict(snapshot.counts)
    buys, sells = counts.get("fills_buy", 0), counts.get("fills_sell", 0)
    return (
        f"\n{seen.command}: {ran_s:.0f} s, {counts.get('submitted', 0)} orders, {buys} buys, {sells} sells, "
        f"pnl ${snapshot.pnl / MICRO:+,.2f} after fees of ${snapshot.fees / MICRO:,.2f}\n"
    )


def tell(text: str) -> None:
    """Write to people; a reader that has left misses it."""
    with suppress(OSError, ValueError):
        write_now(sys.stdout, encodable(text, sys.stdout))
