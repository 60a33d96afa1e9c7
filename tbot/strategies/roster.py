"""The strategies of one bot: told apart by name, made anew at each start."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tbot.core.decide import OPERATOR
from tbot.core.market import Market
from tbot.core.messages import StrategyName
from tbot.strategies.base import Strategy
from tbot.strategies.liquidity import Liquidity, LiquiditySettings


def check_names(strategies: Sequence[LiquiditySettings]) -> None:
    """Refuse strategies that could not be told apart: for the settings that hold them.

    Raises:
        ValueError: Two of one name, or the operator's own.
    """
    names = [strategy.name for strategy in strategies]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f'expected strategies of different names, found "{name}" twice')
    if OPERATOR in names:
        raise ValueError(f'expected a strategy name other than "{OPERATOR}", which is the operator\'s own')


def roster(
    strategies: Sequence[LiquiditySettings], markets: Sequence[Market]
) -> dict[StrategyName, Callable[[], Strategy]]:
    """Say how to make each strategy, by its name; every one trades every market."""
    by_id = {market.market_id: market for market in markets}

    def maker(settings: LiquiditySettings) -> Callable[[], Strategy]:
        return lambda: Liquidity(markets=by_id, settings=settings)

    return {StrategyName(settings.name): maker(settings) for settings in strategies}
