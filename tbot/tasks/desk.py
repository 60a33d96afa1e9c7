"""Opens the inboxes and starts everything that trades. Read this second, after `app`.

    root (rest for one)       a crash takes down what comes after it
    |- journal                no record, no trading
    |- checkpointer
    `- desk (one for all)     fresh inboxes and a fresh gateway each time: same code as a cold start
       |- dispatcher, reconciler, heartbeat, account_feed, market_feed
       |- coordinator         ready in RECOVERING; a stop reaches it while all of the above still serve it
       `- strategies          one for one; each withdrawn when it ends, off when it crashes too often

When the desk goes down, its shell cancels what may rest, by id, through a gateway of its own.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import structlog
import trio

from tbot.core.account import CoordinatorState
from tbot.core.backoff import Backoff
from tbot.core.coordinator import Coordinator
from tbot.core.market import Market, MarketId, TokenId
from tbot.core.messages import (
    AccountView,
    Canceled,
    CancelRefused,
    ExchangeOrderId,
    MarketView,
    OperatorCommand,
    OrderExposure,
    Snapshot,
    StrategyName,
    Throttled,
)
from tbot.core.risk import RiskLimits
from tbot.core.units import Nanos
from tbot.errors import ConfigError, ExchangeUnavailable, TbotError
from tbot.exchanges.gateway import Gateway
from tbot.strategies.base import Strategy
from tbot.tasks.account_feed import AccountFeed, AccountFeedHealth
from tbot.tasks.checkpointer import Checkpointer, CheckpointSettings, StateReached
from tbot.tasks.conflator import Conflator, Hub
from tbot.tasks.coordinator import DISPATCH_LANES, CoordinatorPorts, CoordinatorTask, encode_state
from tbot.tasks.dispatcher import Dispatcher
from tbot.tasks.feed_books import FeedSettings
from tbot.tasks.heartbeat import Heartbeat, Progress
from tbot.tasks.inbox import OPERATOR, Inbox
from tbot.tasks.journal import JournalWriter
from tbot.tasks.market_feed import FeedHealth, MarketFeed
from tbot.tasks.reconciler import Reconciler
from tbot.tasks.strategy import StrategyTask
from tbot.tasks.supervisor import Body, Child, Policy, TaskContext, describe, one_for_all, one_for_one, rest_for_one

log = structlog.get_logger()

# A wedge is found after this; quotes lapse sooner, and the exchange's dead-man switch is the net beneath.
WEDGED_AFTER_S = 10.0
# Reports and submits may wait for their own timeouts (5 s) before the next beat of their task.
WEDGED_AFTER_SLOW_S = 20.0
COORDINATOR_STOP_S = 12.0
WITHDRAW_WITHIN_S = 5.0
# Until the cancels without a clear answer are sent again.
WITHDRAW_AGAIN_S = 0.5
# An order unknown to the exchange may be landing: its sender died with the request on the wire. Twice means gone.
REFUSALS_MAX = 2
# A gateway closes within a second; one that hangs must not keep the desk from its next start.
CLOSE_WITHIN_S = 1.5
# The exchange may be in its weekly restart, about two minutes, when we want to begin.
DESK_READY_S = 180.0

DESK_TASKS = ("dispatcher", "reconciler", "heartbeat", "account_feed", "market_feed", "coordinator")


@dataclass(frozen=True, kw_only=True)
class BotParts:
    """What a bot is made of; the tree outlives none of it.

    Attributes:
        open_gateway: Makes a gateway; called for each incarnation of the desk, and for its shell's last cancels.
        markets: What to trade.
        strategies: By name, how to make each anew.
        journal: The writer of the store.
        since_ns: Fills before this are surely on record: the last record's time, or the start.
        rng: Seeds the generators of the tasks.
        snapshots: Newest description of everything, under "snapshot".
        health: Newest state of the market feed.
        account_health: Newest state of the account feed.
        operator: Told the way to the coordinator at each start of the desk.
        views: Newest views, for people.
    """

    open_gateway: Callable[[], Gateway]
    markets: tuple[Market, ...]
    limits: RiskLimits
    strategies: Mapping[StrategyName, Callable[[], Strategy]]
    journal: JournalWriter
    feed: FeedSettings
    checkpoint: CheckpointSettings
    since_ns: Nanos
    now_ns: Callable[[], Nanos]
    rng: random.Random
    snapshots: Conflator[str, Snapshot]
    health: Conflator[str, FeedHealth]
    account_health: Conflator[str, AccountFeedHealth]
    operator: OperatorLine
    views: Hub[MarketId, MarketView] = field(default_factory=lambda: Hub("views"))
    make_coordinator: Callable[..., Coordinator] = Coordinator


class OperatorLine:
    """The way of an operator's command to whichever coordinator lives now."""

    def __init__(self) -> None:
        """Begin without a listener."""
        self._inbox: Inbox | None = None

    def connect(self, inbox: Inbox) -> None:
        """Send to this coordinator from now on."""
        self._inbox = inbox

    async def send(self, command: OperatorCommand) -> None:
        """Send a command.

        Raises:
            trio.BrokenResourceError: No coordinator lives now; try again.
        """
        if self._inbox is None:
            raise trio.BrokenResourceError("the desk has not started")
        await self._inbox.send(OPERATOR, command)


def bot_tree(parts: BotParts, policy: Policy) -> Body:
    """Build the whole supervision tree of a bot."""
    checkpoints: Conflator[str, StateReached[CoordinatorState]] = Conflator()
    checkpointer = Checkpointer(
        slot=checkpoints, connect=parts.journal.client, encode=encode_state, settings=parts.checkpoint
    )
    return rest_for_one(
        [
            Child("journal", parts.journal.body, wedged_after_s=WEDGED_AFTER_S),
            Child("checkpointer", checkpointer.body, wedged_after_s=WEDGED_AFTER_S),
            Child(
                "desk",
                _desk(parts, policy, checkpoints),
                ready_within_s=DESK_READY_S,
                stop_within_s=COORDINATOR_STOP_S + 6.0,
            ),
        ],
        policy,
    )


def _desk(parts: BotParts, policy: Policy, checkpoints: Conflator[str, StateReached[CoordinatorState]]) -> Body:
    # Outlives the desk: what could not be cancelled when it went down is tried again when it goes down next.
    exposures: Conflator[ExchangeOrderId, OrderExposure] = Conflator()

    async def body(ctx: TaskContext) -> None:
        gateway = parts.open_gateway()
        try:
            await ctx.until_stopped(partial(_load_markets, gateway, _fork(parts.rng)))
            await one_for_all(_children(parts, policy, gateway, exposures, checkpoints), policy)(ctx)
        finally:
            with trio.move_on_after(WITHDRAW_WITHIN_S, shield=True):
                await _withdraw(parts, exposures)
            with trio.move_on_after(CLOSE_WITHIN_S, shield=True):
                await gateway.aclose()

    return body


async def _load_markets(gateway: Gateway, rng: random.Random) -> None:
    """Let the gateway learn ticks and fees anew; an exchange that is away for a while is waited for.

    Raises:
        ConfigError: This account may not trade from here.
    """
    backoff, attempt, reason = Backoff(0.5, 10.0), 0, None
    while reason is None:
        try:
            await gateway.load_markets()
            reason = await gateway.can_trade()
        except ExchangeUnavailable as error:
            log.warning("desk.waiting", reason=str(error))
            await trio.sleep(backoff.delay(attempt, rng))
            attempt += 1
    if reason:
        raise ConfigError(f"not trading: {reason}")


async def _withdraw(parts: BotParts, exposures: Conflator[ExchangeOrderId, OrderExposure]) -> None:
    """Cancel what may still rest; the next start would find it, but nobody watches it until then.

    Whatever goes wrong here is only told: the crash that led here decides what comes next.
    """
    if not len(exposures):
        return
    orders, refusals = len(exposures), Counter[ExchangeOrderId]()
    gateway = parts.open_gateway()
    try:
        while len(exposures):
            wait_s = await _cancel_exposed(gateway, exposures, refusals)
            await trio.sleep(wait_s)
    except TbotError as error:
        log.warning("desk.withdraw_failed", reason=describe(error))
    finally:
        log.warning("desk.withdrawn", orders=orders, left=len(exposures))
        with trio.move_on_after(CLOSE_WITHIN_S, shield=True):
            await gateway.aclose()


async def _cancel_exposed(
    gateway: Gateway, exposures: Conflator[ExchangeOrderId, OrderExposure], refusals: Counter[ExchangeOrderId]
) -> float:
    """Try once to cancel each, and forget those that are gone.

    Returns:
        Seconds until the others should be tried again; 0.0 when none is left.
    """
    left, wait_s, chunk = exposures.take_nowait(), WITHDRAW_AGAIN_S, gateway.capabilities.cancel_batch_max
    order_ids = list(left)
    try:
        for first in range(0, len(order_ids), chunk):
            for reply in await gateway.cancel(order_ids[first : first + chunk]):
                if isinstance(reply, Throttled):
                    wait_s = max(wait_s, reply.retry_after_s)
                refusals[reply.exchange_order_id] += isinstance(reply, CancelRefused)
                if isinstance(reply, Canceled) or refusals[reply.exchange_order_id] >= REFUSALS_MAX:
                    left.pop(reply.exchange_order_id, None)
    finally:
        for order_id, exposure in left.items():
            exposures.put(order_id, exposure)
    return wait_s if left else 0.0


def _children(
    parts: BotParts,
    policy: Policy,
    gateway: Gateway,
    exposures: Conflator[ExchangeOrderId, OrderExposure],
    checkpoints: Conflator[str, StateReached[CoordinatorState]],
) -> list[Child]:
    """Wire one incarnation: every inbox and hub in it is new."""
    now_ns, journal = parts.now_ns, parts.journal.client()
    inbox, orders, reports = Inbox(), Inbox(DISPATCH_LANES), Inbox({OPERATOR: 1})
    accounts: Hub[TokenId, AccountView] = Hub("accounts")
    progress = Progress()
    parts.operator.connect(inbox)
    dispatcher = Dispatcher(
        inbox=orders, coordinator=inbox, gateway=gateway, journal=journal, exposures=exposures, now_ns=now_ns
    )
    reconciler = Reconciler(
        inbox=reports,
        coordinator=inbox,
        gateway=gateway,
        backoff=Backoff(0.5, 10.0),
        rng=_fork(parts.rng),
        now_ns=now_ns,
        since_ns=parts.since_ns,
    )
    coordinator = CoordinatorTask(
        ports=CoordinatorPorts(
            inbox=inbox,
            dispatcher=orders,
            reconciler=reports,
            accounts=accounts,
            exposures=exposures,
            checkpoints=checkpoints,
            snapshots=parts.snapshots,
            journal=journal,
            alive=progress.mark,
        ),
        markets=parts.markets,
        limits=parts.limits,
        now_ns=now_ns,
        make=parts.make_coordinator,
    )
    feed = MarketFeed(
        gateway=gateway,
        markets=parts.markets,
        views=parts.views,
        coordinator=inbox,
        health=parts.health,
        settings=parts.feed,
        rng=_fork(parts.rng),
        now_ns=now_ns,
    )
    account = AccountFeed(
        gateway=gateway,
        coordinator=inbox,
        health=parts.account_health,
        backoff=parts.feed.backoff,
        rng=_fork(parts.rng),
        now_ns=now_ns,
    )
    heartbeat = Heartbeat(gateway=gateway, coordinator_alive=progress.is_fresh)
    market_of = {market.market_id: market for market in parts.markets}
    strategies = [
        StrategyTask(
            name=name,
            make=make,
            markets=market_of,
            views=parts.views,
            accounts=accounts,
            coordinator=inbox,
            now_ns=now_ns,
        )
        for name, make in parts.strategies.items()
    ]
    return [
        Child("dispatcher", dispatcher.run, wedged_after_s=WEDGED_AFTER_SLOW_S, stop_within_s=6.0),
        Child("reconciler", reconciler.run, wedged_after_s=WEDGED_AFTER_SLOW_S, stop_within_s=6.0),
        Child("heartbeat", heartbeat.run, wedged_after_s=WEDGED_AFTER_SLOW_S),
        Child("account_feed", account.run, wedged_after_s=WEDGED_AFTER_S),
        Child("market_feed", feed.run, wedged_after_s=WEDGED_AFTER_S),
        Child("coordinator", coordinator.run, wedged_after_s=WEDGED_AFTER_S, stop_within_s=COORDINATOR_STOP_S),
        # Transient: when the last strategy has given up, the desk goes on to hold and report what was bought.
        Child("strategies", one_for_one([_strategy_child(task) for task in strategies], policy), kind="transient"),
    ]


def _strategy_child(task: StrategyTask) -> Child:
    return Child(task.name, task.run, wedged_after_s=WEDGED_AFTER_S)


def _fork(rng: random.Random) -> random.Random:
    """Give a task dice of its own, so that one more draw here does not change what happens there."""
    return random.Random(rng.getrandbits(64))
