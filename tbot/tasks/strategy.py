"""The one task around every strategy: wait for a view or the wake-up time, ask, send what it wants.

The strategy is made anew at each start: whatever state it crashed in dies with it, and its quotes are withdrawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import structlog
import trio

from tbot.core.market import Market, MarketId, TokenId
from tbot.core.messages import AccountView, MarketView, StrategyName, Withdraw
from tbot.core.risk import RiskLimits
from tbot.core.units import Nanos
from tbot.strategies.base import Decision, Misfit, Strategy, StrategyView
from tbot.tasks.clock import trio_deadline
from tbot.tasks.conflator import Conflator, Hub
from tbot.tasks.inbox import FACTS, Inbox
from tbot.tasks.supervisor import PULSE_S, TaskContext

log = structlog.get_logger()

Box = Conflator[tuple[str, str], MarketView | AccountView]


@dataclass(frozen=True, kw_only=True)
class StrategyTask:
    """Body of a strategy's task; `run` is given to the supervisor, and may be run again and again.

    Attributes:
        name: Of the strategy.
        make: Makes it, without any memory.
        markets: At least those the strategy wants.
        views: Where market views come from.
        accounts: Where account views come from.
        coordinator: Gets `Quotes` and `Withdraw` as states, `Take` as facts.
        limits: What the strategy's settings are held against whenever the terms of a market change.
        now_ns: The clock.
    """

    name: StrategyName
    make: Callable[[], Strategy]
    markets: Mapping[MarketId, Market]
    views: Hub[MarketId, MarketView]
    accounts: Hub[TokenId, AccountView]
    coordinator: Inbox
    limits: RiskLimits
    now_ns: Callable[[], Nanos]

    async def run(self, ctx: TaskContext) -> None:
        """Decide until stopped; withdraw on the way out, whatever the way.

        Raises:
            trio.BrokenResourceError: The coordinator is gone.
        """
        strategy = self.make()
        tokens = [token_id for market_id in strategy.market_ids for token_id in self.markets[market_id].tokens]
        box: Box = Conflator()
        try:
            with (
                self.views.subscribe(self.name, box, strategy.market_ids),
                self.accounts.subscribe(self.name, box, tokens),
            ):
                ctx.started()
                await ctx.until_stopped(lambda: self._decide_again_and_again(ctx, strategy, box))
        finally:
            # A state and so never a wait, in whatever trouble we are. It is read after the quotes that went before it
            # and before those of the next incarnation.
            withdraw = Withdraw(strategy=self.name, at_ns=self.now_ns())
            self.coordinator.put_state(("withdraw", self.name), withdraw)

    async def _decide_again_and_again(self, ctx: TaskContext, strategy: Strategy, box: Box) -> None:
        views: dict[MarketId, MarketView] = {}
        accounts: dict[TokenId, AccountView] = {}
        fit = Fit(strategy, self.limits)
        asked_ns, wake_at_ns = Nanos(0), None
        while True:
            await ctx.beat()
            changed = await self._changes(box, wake_at_ns)
            _absorb(changed, views, accounts)
            asked_ns = max(asked_ns, self.now_ns())  # the wall clock may be set back, a strategy's time is not
            if changed or (wake_at_ns is not None and asked_ns >= wake_at_ns):
                view = StrategyView(views=dict(views), accounts=dict(accounts))
                fit.look(views.values())
                decision = strategy.decide(view, asked_ns)
                assert decision.wake_at_ns > asked_ns, f"{self.name} wants to be asked again in the past"
                wake_at_ns = decision.wake_at_ns
                await self._send(decision)

    async def _changes(self, box: Box, wake_at_ns: Nanos | None) -> dict[tuple[str, str], MarketView | AccountView]:
        deadline = trio.current_time() + PULSE_S
        if wake_at_ns is not None:
            deadline = min(deadline, trio_deadline(wake_at_ns, self.now_ns()))
        with trio.move_on_at(deadline):
            return await box.take()
        return {}

    async def _send(self, decision: Decision) -> None:
        for quotes in decision.quotes:
            self.coordinator.put_state(("quotes", quotes.strategy, quotes.token_id), quotes)
        for take in decision.takes:
            await self.coordinator.send(FACTS, take)


class Fit:
    """Tells once, in the log, that a strategy does not fit the terms of a market, and once when it does again."""

    def __init__(self, strategy: Strategy, limits: RiskLimits) -> None:
        """Begin with nothing told."""
        self._strategy = strategy
        self._limits = limits
        self._seen: dict[MarketId, Market] = {}
        self._told: dict[MarketId, Misfit] = {}

    def look(self, views: Iterable[MarketView]) -> None:
        """Judge the markets whose terms are others than at the last look."""
        for view in views:
            if self._seen.get(view.market_id) is not view.market:
                self._seen[view.market_id] = view.market
                self._judge(view.market)

    def _judge(self, market: Market) -> None:
        before, now = self._told.pop(market.market_id, None), self._strategy.misfit(market, self._limits)
        if now is not None:
            self._told[market.market_id] = now
        if now == before:
            return
        bound = log.bind(strategy=self._strategy.name, market_id=market.market_id, slug=market.slug)
        if now is None:
            bound.info("strategy.fits")
        else:
            bound.warning("strategy.paused" if now.is_total else "strategy.cramped", reason=now.reason)


def _absorb(
    changed: Mapping[tuple[str, str], MarketView | AccountView],
    views: dict[MarketId, MarketView],
    accounts: dict[TokenId, AccountView],
) -> None:
    for state in changed.values():
        match state:
            case MarketView():
                views[state.market_id] = state
            case AccountView():
                accounts[state.token_id] = state
