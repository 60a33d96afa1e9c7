"""Fill arithmetic to the last unit: what production printed, what the contract computes, and whom rounding costs."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tbot.core.market import MarketId, TokenId
from tbot.core.messages import ExchangeOrderId, OrderState, OrderType, Side
from tbot.core.units import MICRO, Notional, Price, Size, micro_from_text, text_from_micro
from tbot.exchanges.simulated.ledger import CASH
from tbot.exchanges.simulated.matching import Engine
from tbot.exchanges.simulated.operations import (
    Account,
    Deposit,
    MarketRules,
    OpenMarket,
    Placed,
    PlaceOrder,
    SplitPair,
)
from tbot.exchanges.simulated.orderbook import last_trade_text
from tests.exchanges.simulated.desk import ANN, BOB, NO, RAIN, START, YES, Bench

BUY, SELL = Side.BUY, Side.SELL


@pytest.fixture
def free() -> Bench:
    """A bench whose first market charges no fee."""
    return Bench(msgspec.structs.replace(RAIN, fee_rate_micro=0))


# Price, budget in dollars, size: prints of FAK/FOK BUYs captured on 2026-04-21, all against a BUY of the other outcome;
# and the answer to a $1 BUY at 0.07 (2026-10).
CAPTURED_PRINTS = [
    ("0.87", 12, "13.7931"), ("0.87", 1, "1.149423"), ("0.14", 1, "7.142856"), ("0.14", 2.7, "19.285713"),
    ("0.87", 11, "12.643676"), ("0.87", 6.3, "7.241376"), ("0.87", 3.96, "4.551723"), ("0.87", 50, "57.471261"),
    ("0.87", 7.9, "9.080453"), ("0.88", 4.34, "4.931816"), ("0.13", 1.36, "10.461537"), ("0.13", 1, "7.692306"),
    ("0.13", 3, "23.076922"), ("0.88", 4.5, "5.113633"), ("0.13", 2.28, "17.53846"), ("0.88", 7.36, "8.363633"),
    ("0.89", 5, "5.617972"), ("0.89", 7.36, "8.269654"), ("0.89", 1.74, "1.955054"), ("0.89", 1, "1.12359"),
    ("0.12", 5, "41.666665"), ("0.89", 2, "2.24719"), ("0.12", 1, "8.333332"), ("0.89", 10, "11.235954"),
    ("0.89", 3.2, "3.5955"), ("0.07", 1, "14.285713"),
]  # fmt: skip


@pytest.mark.parametrize(("price", "dollars", "size"), CAPTURED_PRINTS)
def test_a_mint_fills_what_production_prints(free: Bench, price: str, dollars: float, size: str) -> None:
    ours = micro_from_text(price)
    free.rest(ANN, BUY, NO, text_from_micro(MICRO - ours), 100)
    free.place(BOB, BUY, YES, price, dollars=dollars, order_type=OrderType.FAK)
    (trade,) = free.engine.trades
    (leg,) = trade.legs
    assert (trade.price, trade.size) == (ours, micro_from_text(size))
    assert leg.notional + leg.taker_notional == trade.size
    assert free.engine.book(YES).last_trade_text == last_trade_text(Price(MICRO - ours))
    # A unit of what the maker gives is so many shares: less than that is left of the budget.
    assert 0 <= round(dollars * MICRO) - trade.notional <= ours / (MICRO - ours) + 2


class Rounding(msgspec.Struct, frozen=True):
    """A maker who is nibbled at first, a taker of ten shares, and what the fill moves, in millionths."""

    maker: tuple[Side, TokenId, str]
    taker: tuple[Side, TokenId, str]
    size: int
    theirs: int
    ours: int


# 10 shares at 0.43, of which a dollar's worth at 0.57 or 0.43 is gone: a fraction is left.
ROUNDINGS = [
    # Gone: floor(1 / 0.43) = 2.325581 shares; left 7.674419, for floor(7.674419 x 0.43) dollars.
    Rounding((SELL, YES, "0.43"), (BUY, YES, "0.43"), 7_674_419, 3_300_000, 3_300_000),
    # Gone: wanted 1.754385, given floor(x 0.43) = 0.754385 dollars for 1.754383. Left: 3.545615 of 4.3 dollars.
    Rounding((BUY, NO, "0.43"), (BUY, YES, "0.57"), 8_245_616, 3_545_615, 4_700_001),
    # Gone: 5 shares for 2.85 dollars. Both sides whole: exact.
    Rounding((SELL, NO, "0.43"), (SELL, YES, "0.57"), 5_000_000, 2_150_000, 2_850_000),
    Rounding((BUY, YES, "0.43"), (SELL, YES, "0.43"), 5_000_000, 2_150_000, 2_150_000),
]


@pytest.mark.parametrize("case", ROUNDINGS)
def test_a_fraction_is_counted_in_what_the_maker_gives(free: Bench, case: Rounding) -> None:
    maker = free.rest(ANN, *case.maker, 10)
    side, token_id, price = case.taker
    if side is BUY:
        free.place(BOB, side, token_id, price, dollars=1.0, order_type=OrderType.FAK)
    else:
        free.place(BOB, side, token_id, price, 5, order_type=OrderType.FAK)
    free.place(BOB, side, token_id, price, 10)
    trade = free.engine.trades[-1]
    (leg,) = trade.legs
    assert (leg.size, leg.notional, leg.taker_notional) == (case.size, case.theirs, case.ours)
    ended = free.engine.order(maker)
    assert ended is not None
    assert ended.state is OrderState.MATCHED


# --- the last unit ---------------------------------------------------------------------------------------------------

FREE = MarketRules(market_id=MarketId("sun"), slug="sun", yes=TokenId("sun-yes"), no=TokenId("sun-no"), tick=Price(100))


def _order(
    number: int, account: str, token: TokenId, side: Side, *, price: int, size: int = 0, budget: int = 0
) -> PlaceOrder:
    return PlaceOrder(
        account=Account(account),
        order_id=ExchangeOrderId(f"o{number}"),
        token_id=token,
        side=side,
        price=Price(price),
        size=Size(size),
        budget=Notional(budget),
        order_type=OrderType.FAK if budget else OrderType.GTC,
    )


@given(
    ticks=st.integers(1_000, 9_000),
    is_buy=st.booleans(),
    makers=st.lists(st.tuples(st.booleans(), st.integers(500, 5_000), st.integers(100, 150)), min_size=1, max_size=5),
    lots=st.integers(1_100, 20_000),
)
@settings(max_examples=150, deadline=None)
def test_a_taker_with_exactly_what_he_needs_is_filled_and_never_ends_below_zero(
    ticks: int, is_buy: bool, makers: list[tuple[bool, int, int]], lots: int
) -> None:
    engine, price, plenty = Engine(), ticks * 100, 10_000 * MICRO
    engine.apply(OpenMarket(rules=FREE), START)
    people = ("nibbler", *(f"m{i}" for i in range(len(makers))))
    for name in people:
        engine.apply(Deposit(account=Account(name), cash=Notional(2 * plenty)), START)
        engine.apply(SplitPair(account=Account(name), market_id=FREE.market_id, size=Size(plenty)), START)
    side = Side.BUY if is_buy else Side.SELL
    for number, (is_same, hundredths, cents) in enumerate(makers):
        token, at, theirs = (FREE.yes, price, side.opposite) if is_same else (FREE.no, MICRO - price, side)
        engine.apply(_order(2 * number, f"m{number}", token, theirs, price=at, size=hundredths * 10_000), START)
        # Somebody leaves each maker with a fraction.
        mirrored = (FREE.yes, price) if is_buy else (FREE.no, MICRO - price)
        nibble = _order(2 * number + 1, "nibbler", mirrored[0], Side.BUY, price=mirrored[1], budget=cents * 10_000)
        engine.apply(nibble, START)
    size = lots * 10_000
    need = -(-price * size // MICRO) if is_buy else size
    engine.apply(Deposit(account=Account("taker"), cash=Notional(need)), START)
    if not is_buy:
        engine.apply(SplitPair(account=Account("taker"), market_id=FREE.market_id, size=Size(size)), START)
    reply, _ = engine.apply(_order(99, "taker", FREE.yes, side, price=price, size=size), START)
    assert isinstance(reply, Placed)
    paid, got = reply.notional_matched, reply.size_matched
    assert paid * MICRO <= got * price if is_buy else paid * MICRO >= got * price
    owned = engine.ledger.holdings()
    assert all(amount >= 0 for amount in owned.values())
    assert all(engine.available(*holding) >= 0 for holding in owned)
    cash = sum(amount for (_, asset), amount in owned.items() if asset == CASH)
    assert cash + engine.ledger.locked(FREE.market_id) == engine.ledger.deposits
    for token in FREE.tokens:
        supply = sum(amount for (_, asset), amount in owned.items() if asset == token)
        assert supply == engine.ledger.locked(FREE.market_id)
