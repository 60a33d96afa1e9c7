"""Sizes that a market does not take: found before the start and when its terms change, and told with the remedy."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as gen

from tbot.core.market import Market
from tbot.core.messages import Quote
from tbot.core.risk import RiskLimits
from tbot.core.units import MICRO, Notional, Size, micro_from_text
from tbot.errors import ConfigError
from tbot.strategies.base import Misfit
from tbot.strategies.liquidity import Liquidity, LiquiditySettings
from tbot.strategies.roster import check_sizes, roster
from tests.core.coordinators import LIMITS
from tests.strategies.test_liquidity import MARKET, T0, VIEW, account, by_token, world

# In lots, hundredths of a share: so that bounds are met, passed and missed by one.
some_size = gen.one_of(gen.integers(1, 5_000), gen.sampled_from([499, 500, 501, 1_000, 1_499, 1_500])).map(
    lambda lots: Size(lots * 10_000)
)


def misfit_of(settings: LiquiditySettings, market: Market, limits: RiskLimits) -> Misfit | None:
    return Liquidity(markets={market.market_id: market}, settings=settings).misfit(market, limits)


def placed(settings: LiquiditySettings, market: Market, limits: RiskLimits) -> int:
    """Count the bids that leave when nothing is held: wanted by the strategy, and no larger than an order may be."""
    strategy = Liquidity(markets={market.market_id: market}, settings=settings)
    view = msgspec.structs.replace(VIEW, market=market)
    room, cash = limits.position_size_max, Notional(10**15)
    yes, no = (account(token, room_buy=room, cash_free=cash) for token in market.tokens)
    quotes: tuple[Quote, ...] = by_token(strategy.decide(world(view, yes, no), T0))[market.yes]
    return sum(quote.size <= limits.order_size_max for quote in quotes)


@pytest.mark.slow
@given(
    base=some_size,
    growth=gen.sampled_from([0.5, 1.0, 1.5, 2.0]),
    layers=gen.integers(1, 3),
    size_min=some_size,
    order_max=some_size,
    position_max=some_size,
)
def test_what_is_told_is_what_is_left_out_and_the_remedy_is_one(
    *, base: Size, growth: float, layers: int, size_min: Size, order_max: Size, position_max: Size
) -> None:
    settings = LiquiditySettings(base_size=base, layer_growth=growth, layers=layers, step_ticks=1)
    market = msgspec.structs.replace(MARKET, size_min=size_min)
    limits = msgspec.structs.replace(LIMITS, order_size_max=order_max, position_size_max=position_max)
    misfit = misfit_of(settings, market, limits)
    # Layers that share a room which is too small for all of them are left out one by one, and that is no misfit.
    if layers == 1 or position_max >= base * sum(growth**level for level in range(layers)):
        told = 0 if misfit is None else int(re.findall(r"(\d+) of \d+ quotes", misfit.reason)[0])
        assert told == layers - placed(settings, market, limits)
        assert (misfit is not None and misfit.is_total) == (told == layers)
    if misfit is not None:
        ((remedy, how),) = re.findall(r'set (?:it|base_size) to "([\d.]+)" or (more|less)', misfit.reason)
        size, is_limit = Size(micro_from_text(remedy)), "position_size_max is" in misfit.reason
        better = limits if not is_limit else msgspec.structs.replace(limits, position_size_max=size)
        mended = settings if is_limit else msgspec.structs.replace(settings, base_size=max(size, Size(1)))
        again = misfit_of(mended, market, better)
        what = "position_size_max is" if is_limit else "smallest order" if how == "more" else "order_size_max is"
        assert again is None or what not in again.reason or (what == "smallest order" and is_limit)


def test_settings_that_could_never_quote_in_a_market_are_refused_in_one_sentence() -> None:
    easy = msgspec.structs.replace(MARKET, slug="sun")
    strict = msgspec.structs.replace(
        MARKET, market_id="strict", slug="rain", yes="3", no="4", size_min=Size(25 * MICRO)
    )
    settings = LiquiditySettings(base_size=Size(20 * MICRO), layers=1)
    strategies = roster([settings], [easy, strict])
    assert check_sizes(roster([settings], [easy]), LIMITS, [easy]) == ()
    with pytest.raises(ConfigError) as refused:
        check_sizes(strategies, LIMITS, [easy, strict])
    assert str(refused.value) == (
        'not trading: strategy "liquidity": base_size "20" makes orders of 20 shares, but the smallest order of rain '
        'has 25: 1 of 1 quotes a side are never placed; set base_size to "25" or more, or leave that market out'
    )
    narrow = msgspec.structs.replace(LIMITS, position_size_max=Size(4 * MICRO))
    with pytest.raises(
        ConfigError, match=r'limits\.position_size_max is "4" shares, but the smallest order of sun has 5'
    ):
        check_sizes(roster([settings], [easy]), narrow, [easy])


def test_settings_that_quote_less_than_they_say_are_told_and_allowed() -> None:
    settings = LiquiditySettings(base_size=Size(4 * MICRO), layers=2, layer_growth=1.5)
    (told,) = check_sizes(roster([settings], [MARKET]), LIMITS, [MARKET])
    assert 'base_size "4" makes orders of 4 shares' in told
    assert '1 of 2 quotes a side are never placed; set base_size to "5" or more' in told


def test_a_limit_that_concerns_every_market_is_told_once() -> None:
    markets = [MARKET, msgspec.structs.replace(MARKET, market_id="other", yes="3", no="4")]
    settings = LiquiditySettings(base_size=Size(20 * MICRO), layers=1)
    limits = msgspec.structs.replace(LIMITS, order_size_max=Size(15 * MICRO))
    with pytest.raises(ConfigError) as refused:
        check_sizes(roster([settings], markets), limits, markets)
    assert str(refused.value) == (
        'not trading: strategy "liquidity": base_size "20" makes orders of 20 shares, but limits.order_size_max is '
        '"15": 1 of 1 quotes a side are never placed; set base_size to "15" or less'
    )
