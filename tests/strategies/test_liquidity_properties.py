"""Two-sided quoting in thousands of worlds: it never crosses, stays on the grid, keeps its edge, and fits its means."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbot.core.market import Market, MarketId, TokenId
from tbot.core.messages import AccountView, Level, MarketView, Quote, Quotes, Side, StrategyName, Take
from tbot.core.units import (
    MICRO,
    NANOS_PER_MS,
    NANOS_PER_S,
    Nanos,
    Notional,
    Price,
    Size,
    complement,
    is_on_grid,
    notional_ceil,
    notional_floor,
)
from tbot.strategies.base import Decision, StrategyView
from tbot.strategies.liquidity import Liquidity, LiquiditySettings

YES, NO = TokenId("yes"), TokenId("no")
MARKET = Market(market_id=MarketId("m"), slug="", yes=YES, no=NO, tick=Price(10_000))
T0 = 1_790_000_000 * NANOS_PER_S

some_tick = st.sampled_from([Price(t) for t in (100, 1_000, 2_500, 5_000, 10_000, 100_000)])
# Hypothesis loves small integers; in micro-shares nearly all of them are dust, so magnitudes are chosen first.
some_size = st.builds(
    lambda shares, dust: Size(shares * MICRO + dust), st.sampled_from([0, 7, 40, 90, 400]), st.integers(1, 999_999)
)
some_holding = st.builds(
    lambda shares, dust: shares * MICRO + dust, st.sampled_from([0, 3, 6, 40, 250, 450, 700]), st.integers(0, 999_999)
)
some_room = st.sampled_from([900, 55, 13, 4, 0, -1]).map(lambda shares: shares * MICRO + 1)
some_cash = st.sampled_from([900, 60, 11, 3, 0, -1]).map(lambda usd: usd * MICRO + 1)
is_rarely = st.sampled_from([False] * 14 + [True])


@st.composite
def some_view(draw: st.DrawFn, at_ns: Nanos) -> MarketView:
    """A book on its grid, mostly sound: sometimes stale, one-sided or crossed."""
    tick = draw(some_tick)
    rungs = MICRO // tick
    cents = draw(st.sampled_from([0, 4, 7, 20, 33, 48, 50, 66, 90, 93, 99]))
    bid = min(max(cents * 10_000 // tick + draw(st.integers(0, 5)), 1), rungs - 1)
    ask = draw(st.integers(max(1, bid - 1), rungs - 1) if draw(is_rarely) else _above(bid, rungs))
    steps = st.lists(st.integers(0, 3), max_size=4)
    bids = [Level(Price(n * tick), draw(some_size)) for n in _walk(bid, -1, draw(steps)) if n > 0]
    asks = [Level(Price(n * tick), draw(some_size)) for n in _walk(ask, 1, draw(steps)) if n < rungs]
    return MarketView(
        market_id=MARKET.market_id,
        market=MARKET,
        bids=tuple(bids),
        asks=tuple(asks),
        tick=tick,
        is_stale=draw(is_rarely),
        traded_buy=Size(0),
        traded_sell=Size(0),
        exchange_ms=0,
        at_ns=at_ns,
    )


def _above(bid: int, rungs: int) -> st.SearchStrategy[int]:
    near = st.integers(bid + 1, min(bid + 6, max(rungs - 1, bid + 1)))
    return near | st.integers(bid + 1, max(rungs, bid + 1))


def _walk(start: int, sign: int, steps: list[int]) -> Iterable[int]:
    yield start
    for step in steps:
        start += sign * (step + 1)
        yield start


@st.composite
def some_account(draw: st.DrawFn, token: TokenId) -> AccountView:
    held = draw(some_holding)
    return AccountView(
        token_id=token,
        size=Size(held),
        size_sellable=Size(draw(st.just(held) | st.integers(0, held))),
        entry=Price(draw(st.integers(0, MICRO))),
        room_buy=Size(draw(some_room)),
        cash_free=Notional(draw(some_cash)),
        is_trading=not draw(is_rarely),
        at_ns=Nanos(T0),
    )


@st.composite
def some_worlds(draw: st.DrawFn) -> list[tuple[StrategyView, Nanos]]:
    now, out = T0, []
    for _ in range(draw(st.integers(1, 5))):
        now += draw(st.sampled_from([500, 1, 200, 3_000])) * NANOS_PER_MS
        view = draw(some_view(Nanos(now)))
        accounts = {token: draw(some_account(token)) for token in (YES, NO)}
        out.append((StrategyView(views={MARKET.market_id: view}, accounts=accounts), Nanos(now)))
    return out


some_ticks = st.integers(0, 5)
some_settings = st.builds(
    LiquiditySettings,
    base_size=st.sampled_from([20, 60, 12, 5, 3]).map(lambda shares: Size(shares * MICRO + 1)),
    layers=st.integers(1, 4),
    step_ticks=st.integers(1, 5),
    min_edge_ticks=some_ticks,
    delta_min_ticks=some_ticks,
    kappa_ticks=some_ticks,
    max_improve_ticks=some_ticks,
    exit_loss_ticks=some_ticks,
    gamma=st.floats(0, 3),
    c_sigma=st.floats(0, 3),
    hold_s=st.sampled_from([0.0, 1.0]),
    close_slippage_ticks=some_ticks,
)


def run(knobs: LiquiditySettings, worlds: list[tuple[StrategyView, Nanos]]) -> list[Decision]:
    strategy = Liquidity(markets={MARKET.market_id: MARKET}, settings=knobs)
    return [strategy.decide(world, now) for world, now in worlds]


def in_yes_space(decision: Decision) -> tuple[list[tuple[Price, Quote]], list[tuple[Price, Quote]]]:
    """Split all quotes into (bids, asks), each with its YES price."""
    bids: list[tuple[Price, Quote]] = []
    asks: list[tuple[Price, Quote]] = []
    for quotes in decision.quotes:
        for quote in quotes.quotes:
            price = quote.price if quotes.token_id == YES else complement(quote.price)
            is_bid = (quotes.token_id == YES) == (quote.side is Side.BUY)
            (bids if is_bid else asks).append((price, quote))
    return bids, asks


def faults(world: StrategyView, decision: Decision, min_edge_ticks: int) -> list[str]:
    """Judge one decision by what the exchange and our limits allow."""
    view = world.views[MARKET.market_id]
    bids, asks = in_yes_space(decision)
    all_quotes = [quote for _, quote in (*bids, *asks)]
    found = []
    if all_quotes and (view.is_stale or not view.bids or not view.asks):
        return ["quotes without a sound book"]
    if any(not is_on_grid(price, view.tick) for quote in all_quotes for price in (quote.price, quote.price_worst)):
        found.append("off the grid")
    if any(quote.size < MARKET.size_min or quote.size % MARKET.size_lot for quote in all_quotes):
        found.append("size")
    if any(price >= view.asks[0].price for price, _ in bids) or any(price <= view.bids[0].price for price, _ in asks):
        found.append("would take")
    if any(bid + complement(ask) > MICRO - 2 * min_edge_ticks * view.tick for bid, _ in bids for ask, _ in asks):
        found.append("pair without an edge")
    if any((q.price > q.price_worst) if q.side is Side.BUY else (q.price < q.price_worst) for q in all_quotes):
        found.append("beyond its own worst price")
    return found + beyond_means(world, decision)


def beyond_means(world: StrategyView, decision: Decision) -> list[str]:
    found: list[str] = []
    spent = 0
    for quotes in decision.quotes:
        account = world.accounts[quotes.token_id]
        buys = [quote for quote in quotes.quotes if quote.side is Side.BUY]
        sold = sum(quote.size for quote in quotes.quotes if quote.side is Side.SELL)
        sold_now = sum(take.size for take in decision.takes if take.token_id == quotes.token_id)
        spent += sum(notional_ceil(quote.price, quote.size) for quote in buys)
        if sum(quote.size for quote in buys) > max(0, account.room_buy):
            found.append("buys beyond room")
        if sold + sold_now > account.size_sellable:
            found.append("sells beyond what is sellable")
    if spent > max(0, min(account.cash_free for account in world.accounts.values())):
        found.append("buys beyond cash")
    return found


@given(some_settings, some_worlds())
def test_no_decision_breaks_a_rule(knobs: LiquiditySettings, worlds: list[tuple[StrategyView, Nanos]]) -> None:
    for (world, now), decision in zip(worlds, run(knobs, worlds), strict=True):
        assert faults(world, decision, knobs.min_edge_ticks) == []
        assert decision.wake_at_ns > now
        assert [quotes.token_id for quotes in decision.quotes] in ([YES, NO], [])


@given(some_settings, some_worlds())
def test_takes_only_sell_what_is_held_at_a_bounded_price(
    knobs: LiquiditySettings, worlds: list[tuple[StrategyView, Nanos]]
) -> None:
    taken_ns: list[int] = []
    for (world, now), decision in zip(worlds, run(knobs, worlds), strict=True):
        for take in decision.takes:
            assert_sane(take, world, knobs)
            taken_ns.append(now)
    assert all(late - early >= knobs.cool_down_s * NANOS_PER_S for early, late in pairwise(taken_ns))


def assert_sane(take: Take, world: StrategyView, knobs: LiquiditySettings) -> None:
    view, account = world.views[MARKET.market_id], world.accounts[take.token_id]
    best = view.bids[0].price if take.token_id == YES else complement(view.asks[0].price)
    assert take.side is Side.SELL
    assert best - knobs.close_slippage_ticks * view.tick <= take.price_worst <= best
    assert MARKET.size_min <= take.size <= account.size_sellable
    assert notional_floor(take.price_worst, take.size) >= MARKET.notional_min
    net = account.size - world.accounts[MARKET.other(take.token_id)].size
    assert net - take.size >= knobs.soft_cap * knobs.q_max - 1


@given(some_settings, some_worlds())
def test_same_worlds_give_the_same_decisions(
    knobs: LiquiditySettings, worlds: list[tuple[StrategyView, Nanos]]
) -> None:
    assert run(knobs, worlds) == run(knobs, worlds)


@given(some_settings, some_worlds())
def test_quotes_do_not_depend_on_which_outcome_is_called_yes(
    knobs: LiquiditySettings, worlds: list[tuple[StrategyView, Nanos]]
) -> None:
    # Rich and far from an exit: cash goes to the YES bid first, and money weights round by outcome.
    knobs = msgspec.structs.replace(knobs, q_max=Size(2_000 * MICRO))
    for world, now in worlds:
        rich = with_accounts(world, cash_free=Notional(10**12))
        (ours,) = run(knobs, [(rich, now)])
        (mirrored,) = run(knobs, [(mirror(rich), now)])
        assert [_sorted(q) for q in mirrored.quotes] == [_sorted(q) for q in reversed(ours.quotes)]


def _sorted(quotes: Quotes) -> list[Quote]:
    return sorted(quotes.quotes, key=lambda quote: (quote.side, quote.level))


def with_accounts(world: StrategyView, **changes: Any) -> StrategyView:
    accounts = {token: msgspec.structs.replace(account, **changes) for token, account in world.accounts.items()}
    return StrategyView(views=world.views, accounts=accounts)


def mirror(world: StrategyView) -> StrategyView:
    view, yes, no = world.views[MARKET.market_id], world.accounts[YES], world.accounts[NO]
    flipped = msgspec.structs.replace(view, bids=_flipped(view.asks), asks=_flipped(view.bids))
    accounts = {
        YES: msgspec.structs.replace(no, token_id=YES),
        NO: msgspec.structs.replace(yes, token_id=NO),
    }
    return StrategyView(views={MARKET.market_id: flipped}, accounts=accounts)


def _flipped(levels: Iterable[Level]) -> tuple[Level, ...]:
    return tuple(Level(complement(level.price), level.size) for level in levels)


def sound_world() -> StrategyView:
    levels = (Level(Price(480_000), Size(100 * MICRO)),), (Level(Price(520_000), Size(100 * MICRO)),)
    view = MarketView(
        market_id=MARKET.market_id,
        market=MARKET,
        bids=levels[0],
        asks=levels[1],
        tick=Price(10_000),
        is_stale=False,
        traded_buy=Size(0),
        traded_sell=Size(0),
        exchange_ms=0,
        at_ns=Nanos(T0),
    )
    accounts = {
        token: AccountView(
            token_id=token,
            size=Size(10 * MICRO),
            size_sellable=Size(10 * MICRO),
            entry=Price(500_000),
            room_buy=Size(20 * MICRO),
            cash_free=Notional(20 * MICRO),
            is_trading=True,
            at_ns=Nanos(T0),
        )
        for token in (YES, NO)
    }
    return StrategyView(views={MARKET.market_id: view}, accounts=accounts)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({}, None),
        ({"price": 495_000}, "off the grid"),
        ({"size": 4 * MICRO}, "size"),
        ({"size": 5 * MICRO + 1}, "size"),
        ({"price": 520_000}, "would take"),
        ({"price": 500_000}, "pair without an edge"),
        ({"price_worst": 480_000}, "beyond its own worst price"),
        ({"size": 21 * MICRO}, "buys beyond room"),
        ({"side": Side.SELL, "size": 11 * MICRO, "price_worst": 480_000}, "sells beyond what is sellable"),
        ({"size": 20 * MICRO}, "buys beyond cash"),
    ],
)
def test_the_judge_sees_each_kind_of_fault(changes: dict[str, Any], fault: str | None) -> None:
    world = sound_world()
    quote = Quote(side=Side.BUY, level=0, price=Price(490_000), size=Size(6 * MICRO), price_worst=Price(490_000))
    planted = {YES: msgspec.structs.replace(quote, **changes), NO: quote}
    if fault == "buys beyond cash":
        world = with_accounts(world, cash_free=Notional(12 * MICRO))
    quotes = tuple(
        Quotes(
            strategy=StrategyName("s"),
            token_id=token,
            quotes=(one,),
            chase_ticks=0,
            valid_until_ns=Nanos(T0),
            at_ns=Nanos(T0),
        )
        for token, one in planted.items()
    )
    found = faults(world, Decision(quotes=quotes, takes=(), wake_at_ns=Nanos(T0)), min_edge_ticks=1)
    assert (fault in found) if fault else found == []


def test_the_judge_sees_quotes_on_a_stale_book() -> None:
    world = sound_world()
    decision = run(LiquiditySettings(), [(world, Nanos(T0))])[0]
    stale = msgspec.structs.replace(world.views[MARKET.market_id], is_stale=True)
    seen = StrategyView(views={MARKET.market_id: stale}, accounts=world.accounts)
    assert faults(seen, decision, min_edge_ticks=1) == ["quotes without a sound book"]
