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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import trio

from tbot.core.account import CoordinatorState
from tbot.core.backoff import Backoff
from tbot.core.coordinator import Coordinator
from tbot.core.market import Market, MarketId, TokenId
from tbot.core.messages import (
    AccountView,
    ExchangeOrderId,
    MarketView,
    OperatorCommand,
    OrderExposure,
    OrderType,
    Snapshot,
    StrategyName,
)
from tbot.core.risk import RiskLimits
from tbot.core.units import Nanos
from tbot.errors import ConfigError
from tbot.exchanges.gateway import Capabilities, Gateway
from tbot.strategies.base import Strategy
from tbot.tasks.account_feed import AccountFeed, AccountFeedHealth
from tbot.tasks.admission import Admission, admit
from tbot.tasks.checkpointer import Checkpointer, CheckpointSettings, StateReached
from tbot.tasks.conflator import Conflator, Hub
from tbot.tasks.coordinator import DISPATCH_LANES, CoordinatorPorts, CoordinatorTask, encode_state
from tbot.tasks.dispatcher import Dispatcher
from tbot.tasks.feed_settings import FeedSettings
from tbot.tasks.heartbeat import Heartbeat, Progress
from tbot.tasks.inbox import OPERATOR, Inbox
from tbot.tasks.journal import JournalClient, JournalWriter
from tbot.tasks.market_feed import FeedHealth, MarketFeed
from tbot.tasks.reconciler import Reconciler
from tbot.tasks.strategy import StrategyTask
from tbot.tasks.supervisor import Body, Child, Policy, TaskContext, one_for_all, one_for_one, rest_for_one
from tbot.tasks.withdrawal import CLOSE_WITHIN_S, WITHDRAW_WITHIN_S, withdraw

# A wedge is found after this; quotes lapse sooner, and the exchange's dead-man switch is the net beneath.
WEDGED_AFTER_S = 10.0
# Reports and submits may wait for their own timeouts (5 s) before the next beat of their task.
WEDGED_AFTER_SLOW_S = 20.0
# Nothing turns stale while the feed hangs, so this bounds quoting blindly: a read by request (2 s), and a margin.
WEDGED_AFTER_FEED_S = 4.0
COORDINATOR_STOP_S = 12.0
# The exchange may be in its weekly restart, about two minutes, when we want to begin.
DESK_READY_S = 180.0

DESK_TASKS = ("dispatcher", "reconciler", "heartbeat", "account_feed", "market_feed", "coordinator")


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


@dataclass(frozen=True, kw_only=True)
class BotParts:
    """What a bot is made of; the tree outlives none of it.

    Attributes:
        open_gateway: Makes a gateway; called for each incarnation of the desk, and for its shell's last cancels.
        markets: What to trade.
        strategies: By name, how to make each anew.
        journal: The writer of the store.
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
    now_ns: Callable[[], Nanos]
    rng: random.Random
    snapshots: Conflator[str, Snapshot] = field(default_factory=Conflator)
    health: Conflator[str, FeedHealth] = field(default_factory=Conflator)
    account_health: Conflator[str, AccountFeedHealth] = field(default_factory=Conflator)
    operator: OperatorLine = field(default_factory=OperatorLine)
    views: Hub[MarketId, MarketView] = field(default_factory=lambda: Hub("views"))
    make_coordinator: Callable[..., Coordinator] = Coordinator


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
    admission = Admission(markets=parts.markets, left_out={})

    async def body(ctx: TaskContext) -> None:
        gateway = parts.open_gateway()

        async def ask() -> None:
            nonlocal admission
            admission = await admit(gateway, admission.markets, _fork(parts.rng))

        try:
            await ctx.until_stopped(ask)
            wires = _Wires(
                gateway=gateway,
                admission=admission,
                journal=parts.journal.client(),
                exposures=exposures,
                checkpoints=checkpoints,
            )
            await one_for_all(_children(parts, policy, wires), policy)(ctx)
        finally:
            with trio.move_on_after(WITHDRAW_WITHIN_S + CLOSE_WITHIN_S, shield=True):
                await withdraw(parts.open_gateway, exposures)
            with trio.move_on_after(CLOSE_WITHIN_S, shield=True):
                await gateway.aclose()

    return body


@dataclass(frozen=True, kw_only=True)
class _Wires:
    """What the tasks of one incarnation share: every inbox and hub in it is new."""

    gateway: Gateway
    admission: Admission
    journal: JournalClient
    exposures: Conflator[ExchangeOrderId, OrderExposure]
    checkpoints: Conflator[str, StateReached[CoordinatorState]]
    inbox: Inbox = field(default_factory=Inbox)
    orders: Inbox = field(default_factory=lambda: Inbox(DISPATCH_LANES))
    reports: Inbox = field(default_factory=lambda: Inbox({OPERATOR: 1}))
    accounts: Hub[TokenId, AccountView] = field(default_factory=lambda: Hub("accounts"))
    progress: Progress = field(default_factory=Progress)


def _children(parts: BotParts, policy: Policy, wires: _Wires) -> list[Child]:
    """List the desk's tasks in the order of their start; they stop in the reverse order."""
    parts.operator.connect(wires.inbox)
    heartbeat = Heartbeat(
        gateway=wires.gateway,
        coordinator=wires.inbox,
        coordinator_alive=wires.progress.is_fresh,
        now_ns=parts.now_ns,
    )
    strategies = [Child(task.name, task.run, wedged_after_s=WEDGED_AFTER_S) for task in _strategies(parts, wires)]
    coordinator = _coordinator(parts, wires)
    return [
        Child("dispatcher", _dispatcher(parts, wires).run, wedged_after_s=WEDGED_AFTER_SLOW_S, stop_within_s=6.0),
        Child("reconciler", _reconciler(parts, wires).run, wedged_after_s=WEDGED_AFTER_SLOW_S, stop_within_s=6.0),
        Child("heartbeat", heartbeat.run, wedged_after_s=WEDGED_AFTER_SLOW_S),
        Child("account_feed", _account_feed(parts, wires).run, wedged_after_s=WEDGED_AFTER_S),
        Child("market_feed", _market_feed(parts, wires).run, wedged_after_s=WEDGED_AFTER_FEED_S),
        Child("coordinator", coordinator.run, wedged_after_s=WEDGED_AFTER_S, stop_within_s=COORDINATOR_STOP_S),
        # Transient: when the last strategy has given up, the desk goes on to hold and report what was bought.
        Child("strategies", one_for_one(strategies, policy), kind="transient"),
    ]


def _dispatcher(parts: BotParts, wires: _Wires) -> Dispatcher:
    return Dispatcher(
        inbox=wires.orders,
        coordinator=wires.inbox,
        gateway=wires.gateway,
        journal=wires.journal,
        exposures=wires.exposures,
        now_ns=parts.now_ns,
    )


def _reconciler(parts: BotParts, wires: _Wires) -> Reconciler:
    return Reconciler(
        inbox=wires.reports,
        coordinator=wires.inbox,
        gateway=wires.gateway,
        backoff=Backoff(0.5, 10.0),
        rng=_fork(parts.rng),
        now_ns=parts.now_ns,
        since_ns=parts.now_ns(),
    )


def _coordinator(parts: BotParts, wires: _Wires) -> CoordinatorTask:
    ports = CoordinatorPorts(
        inbox=wires.inbox,
        dispatcher=wires.orders,
        reconciler=wires.reports,
        accounts=wires.accounts,
        exposures=wires.exposures,
        checkpoints=wires.checkpoints,
        snapshots=parts.snapshots,
        journal=wires.journal,
        alive=wires.progress.mark,
    )
    _check_life(parts.limits, wires.gateway.capabilities)
    return CoordinatorTask(
        ports=ports,
        markets=wires.admission.markets,
        limits=parts.limits,
        open_orders_max=wires.gateway.capabilities.open_orders_max,
        now_ns=parts.now_ns,
        make=parts.make_coordinator,
    )


def _check_life(limits: RiskLimits, capabilities: Capabilities) -> None:
    """Refuse a life of orders that the exchange would refuse one by one.

    Raises:
        ConfigError: Shorter than it takes, or it knows no orders with an end.
    """
    if not limits.order_life_s:
        return
    if OrderType.GTD not in capabilities.order_types:
        raise ConfigError("limits.order_life_s: expected 0, as this exchange knows no orders with an end")
    if limits.order_life_s < capabilities.order_life_s_min:
        least = capabilities.order_life_s_min
        raise ConfigError(f"limits.order_life_s: expected 0 or at least {least:g}, found {limits.order_life_s}")


def _market_feed(parts: BotParts, wires: _Wires) -> MarketFeed:
    return MarketFeed(
        gateway=wires.gateway,
        markets=wires.admission.markets,
        left_out=wires.admission.left_out,
        views=parts.views,
        coordinator=wires.inbox,
        health=parts.health,
        settings=parts.feed,
        rng=_fork(parts.rng),
        now_ns=parts.now_ns,
    )


def _account_feed(parts: BotParts, wires: _Wires) -> AccountFeed:
    return AccountFeed(
        gateway=wires.gateway,
        coordinator=wires.inbox,
        health=parts.account_health,
        backoff=parts.feed.backoff,
        rng=_fork(parts.rng),
        now_ns=parts.now_ns,
    )


def _strategies(parts: BotParts, wires: _Wires) -> list[StrategyTask]:
    return [
        StrategyTask(
            name=name,
            make=make,
            markets={market.market_id: market for market in wires.admission.markets},
            views=parts.views,
            accounts=wires.accounts,
            coordinator=wires.inbox,
            limits=parts.limits,
            now_ns=parts.now_ns,
        )
        for name, make in parts.strategies.items()
    ]


def _fork(rng: random.Random) -> random.Random:
    """Give a task dice of its own, so that one more draw here does not change what happens there."""
    return random.Random(rng.getrandbits(64))
