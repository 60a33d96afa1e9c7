"""A market whose smallest order grows beyond a strategy's sizes pauses for it, with one line, until it fits again."""

from __future__ import annotations

import io

import msgspec
import pytest
import trio
from trio.testing import MockClock

from tbot.core.messages import StrategyName
from tbot.log import set_up
from tbot.strategies.liquidity import Liquidity, LiquiditySettings
from tbot.tasks.feed_settings import FeedSettings
from tests.tasks.bot_stage import Stage, shares, staged
from tests.tasks.log_lines import lines_of

SETTINGS = LiquiditySettings(base_size=shares(10), layers=1, size_qualified=shares(5))
TERMS_S = FeedSettings().terms_s


def ask_for(stage: Stage, count: int) -> None:
    """Let the market take no orders of fewer shares from now on."""
    book = stage.exchange.engine._books[stage.rules.market_id]
    book.rules = msgspec.structs.replace(book.rules, size_min=shares(count))


@pytest.mark.slow
async def test_a_minimum_that_grows_pauses_its_market_with_one_line_and_no_order_is_refused_again_and_again(
    autojump_clock: MockClock,
) -> None:
    terminal, market = io.StringIO(), Stage().market
    strategies = {StrategyName("liquidity"): lambda: Liquidity(markets={market.market_id: market}, settings=SETTINGS)}
    with set_up(file=None, terminal=terminal, level="info"):
        async with staged(strategies=strategies) as stage:
            await trio.sleep(5)
            assert len(stage.resting()) == 2
            ask_for(stage, 20)
            stage.hit_our_bids(10)  # so that something is wanted anew, and refused, before the terms are read
            await trio.sleep(TERMS_S + 3)
            assert stage.resting() == []
            paused_at = trio.current_time()
            await trio.sleep(4 * TERMS_S)
            assert stage.placed_after(paused_at) == []
            assert len(stage.placed_after(0)) <= 2 + 4, "few enough before the terms are read"
            (told,) = lines_of(terminal, "strategy.paused")
            assert "the smallest order of rain-in-springfield-tomorrow has 20" in told
            assert "set base_size to" in told
            ask_for(stage, 5)
            await trio.sleep(TERMS_S + 3)
            assert len(stage.resting()) == 2
            assert len(lines_of(terminal, "strategy.fits")) == 1
            assert stage.failure is None
