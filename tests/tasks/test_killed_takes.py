"""The whole bot when what it takes is gone: each take is refused, and may be told as cancelled by the channel too."""

from __future__ import annotations

from collections import Counter

import pytest
import trio
from trio.testing import MockClock

from tbot.core.market import Market
from tbot.core.messages import OrderType, Side, StrategyName, Take
from tbot.core.risk import RiskLimits
from tbot.core.units import MICRO, NANOS_PER_S, Nanos
from tbot.exchanges.simulated.operations import EngineSettings
from tbot.strategies.base import Decision, StrategyView
from tests.tasks.bot_stage import CASH, OTHER, Stage, cents, shares, staged

EAGER = StrategyName("eager")


class Eager:
    """Wants to buy at 45 cents each second, whatever the book says."""

    name = EAGER

    def __init__(self, market: Market) -> None:
        self.market_ids = (market.market_id,)
        self._token_id = market.yes
        self._next_ns = Nanos(0)

    def misfit(self, market: Market, limits: RiskLimits) -> None:
        return None

    def decide(self, view: StrategyView, now_ns: Nanos) -> Decision:
        if now_ns < self._next_ns or not view.views:
            return Decision(quotes=(), takes=(), wake_at_ns=max(self._next_ns, Nanos(now_ns + 1)))
        self._next_ns = Nanos(now_ns + NANOS_PER_S)
        take = Take(
            strategy=EAGER,
            token_id=self._token_id,
            side=Side.BUY,
            size=shares(10),
            price_worst=cents(45),
            deadline_ns=self._next_ns,
            reason="eager",
            at_ns=now_ns,
        )
        return Decision(quotes=(), takes=(take,), wake_at_ns=self._next_ns)


@pytest.mark.slow
@pytest.mark.parametrize("has_kill_events", [False, True])
async def test_a_bot_whose_takes_are_killed_goes_on_with_nothing_open(
    autojump_clock: MockClock, has_kill_events: bool
) -> None:
    engine = EngineSettings(has_kill_events=has_kill_events)
    market = Stage().market
    async with staged(engine=engine, strategies={EAGER: lambda: Eager(market)}) as stage:
        await trio.sleep(6.5)
        killed = len(stage.placed_after(0))
        assert killed >= 4
        stage.rest(OTHER, Side.SELL, 45, 10)
        await trio.sleep(3)
        stage.stop.set()
        await stage.ended.wait()
        assert (stage.failure, stage.resting()) == (None, [])
        live, replayed = stage.state()
        assert live == replayed
        counts = Counter(dict(live.counts))
        assert counts["submitted"] > killed
        assert counts["unknown"] == 0
        assert counts["rejected"] + counts["canceled"] == counts["submitted"] - 1, "all but the one that was filled"
        assert (counts["canceled"] > 0) is has_kill_events, "as told first: as a refusal, or by the channel"
        assert live.ledger is not None
        assert CASH * MICRO - live.ledger.cash >= 10 * 450_000
        assert {order.order_type for order in stage.placed_after(0)} == {OrderType.FAK}
