"""Two-sided quoting: what rests where, when nothing may rest, and how inventory is worked off."""

from typing import Any

import msgspec
import pytest

from tbot.core.market import Market, MarketId, TokenId
from tbot.core.messages import AccountView, Level, MarketView, Quote, Side
from tbot.core.units import MICRO, NANOS_PER_S, Nanos, Notional, Price, Size
from tbot.strategies.base import Decision, Strategy, StrategyView
from tbot.strategies.liquidity import Liquidity, LiquiditySettings

YES, NO = TokenId("yes"), TokenId("no")
MARKET = Market(market_id=MarketId("m"), slug="rain", yes=YES, no=NO, tick=Price(10_000))
PLAIN = LiquiditySettings(layers=1)
T0 = Nanos(1_790_000_000 * NANOS_PER_S)


def later(seconds: float) -> Nanos:
    return Nanos(T0 + round(seconds * NANOS_PER_S))


def side(*levels: tuple[float, float]) -> tuple[Level, ...]:
    return tuple(Level(Price(round(p * MICRO)), Size(round(s * MICRO))) for p, s in levels)


VIEW = MarketView(
    market_id=MARKET.market_id,
    market=MARKET,
    bids=side((0.48, 100), (0.47, 100)),
    asks=side((0.52, 100), (0.53, 100)),
    tick=Price(10_000),
    is_stale=False,
    traded_buy=Size(0),
    traded_sell=Size(0),
    exchange_ms=0,
    at_ns=T0,
)


def account(token: TokenId, held: float = 0, **changes: Any) -> AccountView:
    plain = AccountView(
        token_id=token,
        size=Size(round(held * MICRO)),
        size_sellable=Size(round(held * MICRO)),
        entry=Price(500_000 if held else 0),
        room_buy=Size(1_000 * MICRO),
        cash_free=Notional(1_000 * MICRO),
        is_trading=True,
        at_ns=T0,
    )
    return msgspec.structs.replace(plain, **changes)


def world(view: MarketView = VIEW, yes: AccountView | None = None, no: AccountView | None = None) -> StrategyView:
    return StrategyView(views={MARKET.market_id: view}, accounts={YES: yes or account(YES), NO: no or account(NO)})


def changed(**changes: Any) -> MarketView:
    return msgspec.structs.replace(VIEW, **changes)


def liquidity(settings: LiquiditySettings = PLAIN) -> Liquidity:
    return Liquidity(markets={MARKET.market_id: MARKET}, settings=settings)


def decided(seen: StrategyView, settings: LiquiditySettings = PLAIN) -> dict[TokenId, tuple[Quote, ...]]:
    return by_token(liquidity(settings).decide(seen, T0))


def by_token(decision: Decision) -> dict[TokenId, tuple[Quote, ...]]:
    return {quotes.token_id: quotes.quotes for quotes in decision.quotes}


def brief(quotes: tuple[Quote, ...]) -> list[tuple[str, float, float]]:
    return [(quote.side.value, quote.price / MICRO, quote.size / MICRO) for quote in quotes]


def test_flat_it_bids_for_both_outcomes_around_fair_value() -> None:
    quotes = decided(world())
    assert brief(quotes[YES]) == [("BUY", 0.49, 20)]
    assert brief(quotes[NO]) == [("BUY", 0.49, 20)]


def test_it_is_a_strategy() -> None:
    strategy: Strategy = liquidity()
    assert (strategy.name, strategy.market_ids) == ("liquidity", (MARKET.market_id,))


def test_layers_step_outward_and_grow() -> None:
    quotes = decided(world(), LiquiditySettings(layers=3, step_ticks=2, layer_growth=2))
    assert brief(quotes[YES]) == [("BUY", 0.49, 20), ("BUY", 0.47, 40), ("BUY", 0.45, 80)]
    assert [quote.level for quote in quotes[YES]] == [0, 1, 2]


def test_quotes_say_how_long_and_how_exactly_they_are_meant() -> None:
    decision = liquidity().decide(world(), T0)
    assert decision.wake_at_ns == later(0.5)
    assert {q.valid_until_ns for q in decision.quotes} == {later(3)}
    assert {q.chase_ticks for q in decision.quotes} == {2}
    assert {q.strategy for q in decision.quotes} == {"liquidity"}


def test_held_yes_is_sold_before_no_is_bought() -> None:
    quotes = decided(world(yes=account(YES, 100)))
    assert brief(quotes[YES])[-1][0] == "SELL"
    assert all(quote.side is Side.BUY for quote in quotes[YES][:-1])
    assert quotes[NO] == ()


def test_held_no_is_sold_on_the_bid_side() -> None:
    quotes = decided(world(no=account(NO, 100)))
    assert [name for name, _, _ in brief(quotes[NO])] == ["SELL", "BUY"]
    assert quotes[YES] == ()


def test_unsettled_shares_are_not_offered() -> None:
    quotes = decided(world(yes=account(YES, 100, size_sellable=Size(4 * MICRO))))
    assert [quote.side for quote in (*quotes[YES], *quotes[NO])] == [Side.BUY, Side.BUY]


def test_inventory_skews_prices_away_from_more_of_it() -> None:
    settings = LiquiditySettings(layers=1, kappa_ticks=4, q_max=Size(400 * MICRO), max_improve_ticks=5)
    flat, long = decided(world(), settings), decided(world(yes=account(YES, 200)), settings)
    assert brief(flat[YES])[0][1] == 0.49
    assert brief(long[YES]) == [("BUY", 0.47, pytest.approx(7.07)), ("SELL", 0.49, 25)]


def test_side_that_adds_inventory_is_silent_above_the_soft_cap() -> None:
    quotes = decided(world(yes=account(YES, 320)))
    assert [quote.side for quote in (*quotes[YES], *quotes[NO])] == [Side.SELL]


def test_volatility_widens_the_spread() -> None:
    strategy = liquidity(LiquiditySettings(layers=1, gamma=0))
    calm = by_token(strategy.decide(world(), T0))
    moved = changed(bids=side((0.38, 100)), asks=side((0.62, 100)), at_ns=later(1))
    strategy.decide(world(changed(bids=side((0.43, 100)), asks=side((0.47, 100)), at_ns=later(0.5))), later(0.5))
    wild = by_token(strategy.decide(world(moved), later(1)))
    assert wild[YES][0].price < calm[YES][0].price
    assert wild[NO][0].price < calm[NO][0].price


def test_it_joins_a_spread_of_one_tick_and_never_crosses() -> None:
    tight = changed(bids=side((0.50, 100)), asks=side((0.51, 100)))
    quotes = decided(world(tight), LiquiditySettings(layers=1, min_edge_ticks=0))
    assert quotes[YES][0].price <= 500_000
    assert quotes[NO][0].price <= 490_000


def test_it_improves_the_depth_qualified_best_by_at_most_one_tick() -> None:
    wide = changed(bids=side((0.45, 10), (0.40, 100)), asks=side((0.60, 100)))
    quotes = decided(world(wide))
    assert quotes[YES][0].price == 410_000
    assert quotes[NO][0].price == MICRO - 590_000


def test_price_worst_keeps_the_edge() -> None:
    quotes = decided(world())
    assert quotes[YES][0].price_worst == 490_000
    assert quotes[NO][0].price_worst == 490_000


@pytest.mark.parametrize(
    "seen",
    [
        world(changed(is_stale=True)),
        world(changed(bids=())),
        world(changed(asks=())),
        world(changed(bids=side((0.52, 100)))),
        world(changed(bids=side((0.97, 100)), asks=side((0.99, 100)))),
        world(changed(bids=side((0.01, 100)), asks=side((0.03, 100)))),
        world(yes=account(YES, is_trading=False)),
        world(no=account(NO, is_trading=False)),
        StrategyView(views={}, accounts={YES: account(YES), NO: account(NO)}),
        StrategyView(views={MARKET.market_id: VIEW}, accounts={YES: account(YES)}),
    ],
    ids=["stale", "no bids", "no asks", "crossed", "high", "low", "yes halted", "no halted", "no view", "no account"],
)
def test_nothing_rests_where_nothing_may_and_both_tokens_say_so(seen: StrategyView) -> None:
    decision = liquidity().decide(seen, T0)
    assert [(q.token_id, q.quotes) for q in decision.quotes] == [(YES, ()), (NO, ())]
    assert decision.takes == ()


def test_a_market_that_takes_no_orders_gets_no_quotes_whatever_it_did_at_the_start() -> None:
    closed = msgspec.structs.replace(MARKET, is_accepting_orders=False)
    assert by_token(liquidity().decide(world(changed(market=closed)), T0)) == {YES: (), NO: ()}
    strategy = Liquidity(markets={closed.market_id: closed}, settings=PLAIN)
    assert by_token(strategy.decide(world(), T0)) != {YES: (), NO: ()}


def test_quotes_are_renewed_at_most_each_refresh() -> None:
    strategy = liquidity()
    assert len(strategy.decide(world(), T0).quotes) == 2
    between = strategy.decide(world(changed(at_ns=later(0.2))), later(0.2))
    assert between == Decision(quotes=(), takes=(), wake_at_ns=later(0.5))
    assert len(strategy.decide(world(), later(0.5)).quotes) == 2


def test_stale_view_withdraws_at_once_and_only_once_a_refresh() -> None:
    strategy = liquidity()
    strategy.decide(world(), T0)
    stale = world(changed(is_stale=True))
    assert by_token(strategy.decide(stale, later(0.1))) == {YES: (), NO: ()}
    assert strategy.decide(stale, later(0.2)).quotes == ()
    assert strategy.decide(world(), later(0.3)).quotes == ()
    assert by_token(strategy.decide(world(), later(0.6)))[YES] != ()


def test_strategy_without_markets_wakes_in_a_second() -> None:
    strategy = Liquidity(markets={}, settings=PLAIN)
    assert strategy.decide(world(), T0) == Decision(quotes=(), takes=(), wake_at_ns=later(1))


def test_cash_is_split_among_markets() -> None:
    other = msgspec.structs.replace(MARKET, market_id=MarketId("m2"), yes=TokenId("y2"), no=TokenId("n2"))
    strategy = Liquidity(markets={MARKET.market_id: MARKET, other.market_id: other}, settings=PLAIN)
    poor = {token: account(token, cash_free=Notional(10 * MICRO)) for token in (YES, NO, other.yes, other.no)}
    views = {MARKET.market_id: VIEW, other.market_id: changed(market_id=other.market_id, market=other)}
    decision = strategy.decide(StrategyView(views=views, accounts=poor), T0)
    spent = {q.token_id: sum(one.price * one.size // MICRO for one in q.quotes) for q in decision.quotes}
    assert 0 < spent[YES] + spent[NO] <= 5 * MICRO
    assert 0 < spent[other.yes] + spent[other.no] <= 5 * MICRO


# Inventory exit.

LOSING = {"entry": Price(600_000)}


def takes_over(strategy: Liquidity, seen: StrategyView, *seconds: float) -> list[float]:
    return [at for at in seconds if strategy.decide(seen, later(at)).takes]


def test_losing_inventory_is_sold_down_to_the_soft_cap_after_the_hold() -> None:
    strategy, seen = liquidity(), world(yes=account(YES, 450, **LOSING))
    assert takes_over(strategy, seen, 0, 1, 1.9) == []
    (take,) = strategy.decide(seen, later(2)).takes
    assert (take.token_id, take.side, take.size) == (YES, Side.SELL, 150 * MICRO)
    assert take.price_worst == 460_000  # 5 % under 0.48, rounded up, is tighter than three ticks
    assert take.deadline_ns == later(3)
    assert take.reason == "inventory exit: loss"


def test_exit_of_no_uses_its_own_prices() -> None:
    strategy, seen = liquidity(), world(no=account(NO, 450, **LOSING))
    strategy.decide(seen, T0)
    (take,) = strategy.decide(seen, later(2)).takes
    assert (take.token_id, take.price_worst) == (NO, 460_000)


def test_takes_are_at_least_a_cool_down_apart() -> None:
    seen = world(yes=account(YES, 450, **LOSING))
    assert takes_over(liquidity(), seen, *range(14)) == [2, 7, 12]


@pytest.mark.parametrize(
    ("bids", "asks", "held", "is_exit"),
    [
        (side((0.48, 100)), side((0.52, 100)), YES, False),
        (side((0.48, 100)), side((0.52, 700)), YES, True),
        (side((0.48, 700)), side((0.52, 100)), YES, False),
        (side((0.48, 700)), side((0.52, 100)), NO, True),
        (side((0.48, 100)), side((0.52, 700)), NO, False),
    ],
)
def test_depth_six_times_against_us_is_an_exit(
    bids: tuple[Level, ...], asks: tuple[Level, ...], held: TokenId, is_exit: bool
) -> None:
    yes, no = (account(token, 450 if token == held else 0, entry=Price(480_000)) for token in (YES, NO))
    strategy, seen = liquidity(), world(changed(bids=bids, asks=asks), yes, no)
    assert takes_over(strategy, seen, 0, 2) == ([2] if is_exit else [])


def test_a_moment_of_relief_starts_the_hold_anew() -> None:
    strategy, seen = liquidity(), world(yes=account(YES, 450, **LOSING))
    calm = world(yes=account(YES, 450))
    assert takes_over(strategy, seen, 0, 1) == []
    strategy.decide(calm, later(1.5))
    assert takes_over(strategy, seen, 2, 3.9, 4) == [4]


@pytest.mark.parametrize(
    "yes",
    [
        account(YES, 399, **LOSING),
        account(YES, 450),
        account(YES, 450, size_sellable=Size(4 * MICRO), **LOSING),
    ],
    ids=["below the exit share", "not losing", "too little settled"],
)
def test_no_exit(yes: AccountView) -> None:
    assert takes_over(liquidity(), world(yes=yes), 0, 2, 4) == []


def test_exit_worth_less_than_the_exchange_takes_is_not_sent() -> None:
    low = changed(bids=side((0.05, 100)), asks=side((0.07, 100)))
    yes = account(YES, 450, size_sellable=Size(15 * MICRO), **LOSING)
    assert takes_over(liquidity(), world(low, yes), 0, 2) == []


def test_pairs_are_no_inventory() -> None:
    seen = world(yes=account(YES, 450, **LOSING), no=account(NO, 450, **LOSING))
    assert takes_over(liquidity(), seen, 0, 2, 4) == []


def test_shares_to_be_taken_out_are_not_offered_meanwhile() -> None:
    quotes = decided(world(yes=account(YES, 450, size_sellable=Size(154 * MICRO), **LOSING)))
    assert quotes[YES] == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"price_min": Price(500_000), "price_max": Price(500_000)},
        {"refresh_ms": 500, "quotes_valid_ms": 500},
        {"soft_cap": 0.9, "exit_share": 0.8},
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        LiquiditySettings(**changes)
