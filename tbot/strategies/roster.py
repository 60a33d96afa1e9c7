"""The strategies of one bot: told apart by name, made anew at each start."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tbot.core.decide import OPERATOR
from tbot.core.market import Market
from tbot.core.messages import StrategyName
from tbot.core.risk import RiskLimits
from tbot.errors import ConfigError
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


def check_sizes(
    strategies: Mapping[StrategyName, Callable[[], Strategy]], limits: RiskLimits, markets: Sequence[Market]
) -> tuple[str, ...]:
    """Hold each strategy against the terms of each market that it would trade.

    Args:
        strategies: By name, how to make each.
        limits: Of the bot.
        markets: All of them.

    Returns:
        A sentence for each that quotes less than it is set to.

    Raises:
        ConfigError: One of them could never quote in one of the markets.
    """
    by_id = {market.market_id: market for market in markets}
    # By the sentence: what a limit alone decides is the same in every market, and told once.
    total: dict[str, None] = {}
    partial: dict[str, None] = {}
    for name, make in strategies.items():
        strategy = make()
        for market_id in strategy.market_ids:
            if (misfit := strategy.misfit(by_id[market_id], limits)) is not None:
                (total if misfit.is_total else partial)[f'strategy "{name}": {misfit.reason}'] = None
    if total:
        raise ConfigError("not trading: " + " / ".join(total))
    return tuple(partial)


def roster(
    strategies: Sequence[LiquiditySettings], markets: Sequence[Market]
) -> dict[StrategyName, Callable[[], Strategy]]:
    """Say how to make each strategy, by its name; every one trades every market."""
    by_id = {market.market_id: market for market in markets}

    def maker(settings: LiquiditySettings) -> Callable[[], Strategy]:
        return lambda: Liquidity(markets=by_id, settings=settings)

    return {StrategyName(settings.name): maker(settings) for settings in strategies}
