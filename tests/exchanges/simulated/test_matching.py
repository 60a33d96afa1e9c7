"""Matching by example: the worked examples of the field, every refusal with its text, fees."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from tbot.core.market import TokenId
from tbot.core.messages import ExchangeOrderId, Level, OrderState, OrderType, Side
from tbot.core.units import MICRO, Price, Size, micro_from_text
from tbot.exchanges.simulated.events import MatchKind, OrderChange, OrderChanged, TradeChanged, TradePrinted
from tbot.exchanges.simulated.operations import CancelEvery, CloseMarket, EndReason, OpenMarket, Placed, Refused
from tbot.exchanges.simulated.orderbook import last_trade_text
from tbot.exchanges.simulated.planning import fee_of
from tbot.exchanges.simulated.trades import id_of
from tests.exchanges.simulated.desk import ANN, BOB, EVE, NO, RAIN, SNOW, YES, Bench

BUY, SELL = Side.BUY, Side.SELL
NO_FEE = msgspec.structs.replace(RAIN, fee_rate_micro=0)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def free() -> Bench:
    """A bench whose first market charges no fee."""
    return Bench(NO_FEE)


# --- normal, mint, merge ---------------------------------------------------------------------------------------------


class Meeting(msgspec.Struct, frozen=True):
    """A maker, a taker, and what each pays or gets for 100 shares, dollars."""

    kind: MatchKind
    maker: tuple[Side, TokenId, str]
    taker: tuple[Side, TokenId, str]
    ours: int
    theirs: int


MEETINGS = [
    Meeting(MatchKind.NORMAL, (SELL, YES, "0.55"), (BUY, YES, "0.60"), 55, 55),
    Meeting(MatchKind.MINT, (BUY, NO, "0.42"), (BUY, YES, "0.60"), 58, 42),
    Meeting(MatchKind.MERGE, (SELL, NO, "0.38"), (SELL, YES, "0.60"), 62, 38),
    Meeting(MatchKind.NORMAL, (BUY, YES, "0.55"), (SELL, YES, "0.50"), 55, 55),
]


@pytest.mark.parametrize("meeting", MEETINGS)
def test_the_taker_gets_the_improvement_in_every_kind_of_match(free: Bench, meeting: Meeting) -> None:
    before = {a: free.owned(a) for a in (ANN, BOB)}
    maker = free.rest(ANN, *meeting.maker, 100)
    taker = free.rest(BOB, *meeting.taker, 100)
    (trade,) = free.engine.trades
    (leg,) = trade.legs
    assert (leg.kind, leg.order_id, trade.taker_order_id) == (meeting.kind, maker, taker)
    assert (trade.notional, leg.notional) == (meeting.ours * MICRO, meeting.theirs * MICRO)
    sign = {BUY: -1, SELL: 1}
    assert free.owned(BOB) - before[BOB] == pytest.approx(sign[meeting.taker[0]] * meeting.ours)
    assert free.owned(ANN) - before[ANN] == pytest.approx(sign[meeting.maker[0]] * meeting.theirs)
    free.wait(10)
    locked = 400 + {MatchKind.MINT: 100, MatchKind.MERGE: -100}.get(meeting.kind, 0)
    assert free.engine.ledger.locked(RAIN.market_id) == locked * MICRO


def test_one_taker_meets_makers_of_different_kinds_and_prices_in_one_trade(bench: Bench) -> None:
    bench.rest(ANN, SELL, YES, "0.50", 10)
    bench.rest(ANN, BUY, NO, "0.50", 10)
    bench.rest(ANN, SELL, YES, "0.51", 10)
    reply = bench.place(BOB, BUY, YES, "0.55", 25, order_id="x")
    (trade,) = bench.engine.trades
    assert isinstance(reply, Placed)
    assert reply.trade_ids == (trade.trade_id,) == (id_of(ExchangeOrderId("x"), 0),)
    assert [leg.kind for leg in trade.legs] == [MatchKind.NORMAL, MatchKind.MINT, MatchKind.NORMAL]
    assert [leg.price for leg in trade.legs] == [500_000, 500_000, 510_000]
    assert (trade.price, trade.size, trade.notional) == (502_000, 25 * MICRO, 12_550_000)
    # 0.04 x 0.502 x 0.498 x 25, cut to five decimals; both levels apart would be one unit less.
    assert trade.fee == 249_990
    # The public hears of each level, at a price of the grid.
    printed = [e for e in bench.events if isinstance(e, TradePrinted)]
    assert [(e.price, e.size) for e in printed] == [(500_000, 20 * MICRO), (510_000, 5 * MICRO)]
    assert {e.trade_id for e in printed} == {trade.trade_id}
    assert bench.engine.book(YES).last_trade_text == "0.510"
    mined = [e for e in bench.wait(2) if isinstance(e, TradeChanged) and e.account == BOB]
    assert [e.trade.trade_id for e in mined] == [trade.trade_id]


def test_an_account_may_trade_with_itself(bench: Bench) -> None:
    bench.rest(BOB, BUY, NO, "0.50", 10)
    before = bench.owned(BOB)
    bench.place(BOB, BUY, YES, "0.50", 10)
    (trade,) = bench.engine.trades
    assert bench.owned(BOB) == pytest.approx(before - 10 - trade.fee / MICRO)
    assert len([e for e in bench.events if isinstance(e, TradeChanged)]) == 1


# --- targets ---------------------------------------------------------------------------------------------------------


def test_a_resting_buy_counts_shares_and_keeps_what_improvement_saves(free: Bench) -> None:
    free.rest(ANN, SELL, YES, "0.55", 100)
    before = free.owned(BOB)
    free.place(BOB, BUY, YES, "0.60", 100)
    assert before - free.owned(BOB) == pytest.approx(55)


def test_an_immediate_buy_spends_its_budget_and_gets_more_when_cheaper(free: Bench) -> None:
    free.rest(ANN, SELL, YES, "0.55", 150)
    reply = free.place(BOB, BUY, YES, "0.60", dollars=60, order_type=OrderType.FAK)
    assert isinstance(reply, Placed)
    assert reply.size_matched == 109_090_909
    assert reply.notional_matched <= 60 * MICRO


def test_fill_or_kill_is_all_or_nothing(bench: Bench) -> None:
    bench.rest(ANN, SELL, YES, "0.50", 10)
    reply = bench.place(BOB, BUY, YES, "0.50", dollars=6, order_type=OrderType.FOK)
    assert reply == Refused(text="order couldn't be fully filled. FOK orders are fully filled or killed.")
    assert bench.engine.trades == ()
    filled = bench.place(BOB, BUY, YES, "0.50", dollars=5, order_type=OrderType.FOK)
    assert isinstance(filled, Placed)
    assert (filled.state, filled.size_matched) == (OrderState.MATCHED, 10 * MICRO)


def test_what_an_immediate_order_leaves_is_killed_and_told(bench: Bench) -> None:
    bench.rest(ANN, SELL, YES, "0.50", 10)
    reply = bench.place(BOB, BUY, YES, "0.50", dollars=8, order_type=OrderType.FAK)
    assert isinstance(reply, Placed)
    order = bench.engine.order(reply.order_id)
    assert order is not None
    assert (order.state, order.reason, order.size_matched) == (OrderState.CANCELED, EndReason.KILLED, 10 * MICRO)
    told = [e.change for e in bench.events if isinstance(e, OrderChanged) and e.order.order_id == reply.order_id]
    assert told == [OrderChange.PLACEMENT, OrderChange.UPDATE, OrderChange.CANCELLATION]


def test_a_remainder_below_a_hundredth_of_a_share_is_finished(free: Bench) -> None:
    maker = free.rest(ANN, SELL, YES, "0.50", 10)
    free.place(BOB, BUY, YES, "0.50", dollars=4.99, order_type=OrderType.FAK)
    first = free.engine.order(maker)
    assert first is not None
    assert first.state is OrderState.LIVE
    assert first.size - first.size_matched == 20_000
    reply = free.place(EVE, BUY, YES, "0.51", 5)
    assert isinstance(reply, Placed)
    assert reply.size_matched == 20_000
    ended = free.engine.order(maker)
    assert ended is not None
    assert ended.state is OrderState.MATCHED


def test_a_marketable_limit_order_rests_with_what_remains(bench: Bench) -> None:
    bench.rest(ANN, SELL, YES, "0.50", 10)
    reply = bench.place(BOB, BUY, YES, "0.50", 25)
    assert isinstance(reply, Placed)
    assert (reply.state, reply.size_matched) == (OrderState.MATCHED, 10 * MICRO)
    (resting,) = bench.engine.open_orders(BOB)
    assert (resting.state, resting.size_matched) == (OrderState.LIVE, 10 * MICRO)
    assert bench.engine.book(YES).bids == (Level(Price(500_000), Size(15 * MICRO)),)


# --- refusals --------------------------------------------------------------------------------------------------------

REFUSALS = [
    ({"price": "0.555"}, "order x is invalid. Price (0.555) breaks minimum tick size rule: 0.01"),
    ({"price": "1.00"}, "order x is invalid. Price (1) breaks minimum tick size rule: 0.01"),
    ({"shares": 4.99}, "order x is invalid. Size (4.99) lower than the minimum: 5"),
    ({"shares": 10.001}, "invalid amounts, the limit buy orders maker amount supports"),
    ({"shares": 0, "dollars": 0.99, "order_type": OrderType.FAK}, "marketable BUY order ($0.99), min size: $1"),
    ({"shares": 0, "dollars": 1.001, "order_type": OrderType.FAK}, "invalid amounts, the market buy orders maker"),
    ({"shares": 0}, "Invalid order payload"),
    ({"shares": 10, "dollars": 5}, "Invalid order payload"),
    ({"life_s": 179, "order_type": OrderType.GTD}, "invalid expiration"),
    ({"life_s": 500}, "invalid expiration"),
    ({"order_type": OrderType.GTD}, "invalid expiration"),
    ({"shares": 3_000}, "not enough balance / allowance: the balance is not enough -> balance: 1000000000, "),
    ({"side": SELL, "shares": 201}, "not enough balance / allowance"),
    ({"price": "0.60", "is_post_only": True}, "invalid post-only order: order crosses book"),
    ({"shares": 0, "dollars": 5, "order_type": OrderType.FAK, "is_post_only": True}, "invalid post-only order"),
    ({"shares": 0, "dollars": 5, "price": "0.59", "order_type": OrderType.FAK}, "no orders found to match with FAK"),
    ({"token_id": TokenId("unheard-of")}, "Invalid order payload"),
]


@pytest.mark.parametrize(("change", "text"), REFUSALS)
def test_refusals_have_the_exchanges_own_words(bench: Bench, change: dict[str, object], text: str) -> None:
    bench.rest(ANN, SELL, YES, "0.60", 10)
    wish: dict[str, object] = {"side": BUY, "token_id": YES, "price": "0.50", "shares": 10} | change
    reply = bench.place(BOB, order_id="x", **wish)  # type: ignore[arg-type]
    assert isinstance(reply, Refused)
    assert text in reply.text
    assert bench.engine.order(ExchangeOrderId("x")) is None


def test_an_id_is_taken_once(bench: Bench) -> None:
    assert isinstance(bench.place(BOB, BUY, YES, "0.40", 10, order_id="x"), Placed)
    bench.do(CancelEvery(account=BOB))
    again = bench.place(BOB, BUY, YES, "0.40", 10, order_id="x")
    assert again == Refused(text="order x is invalid. Duplicated.")


def test_checks_are_made_in_their_order(bench: Bench) -> None:
    bench.place(BOB, BUY, YES, "0.40", 10, order_id="x")
    everything_wrong = bench.place(BOB, BUY, YES, "0.405", 9_999_999.001, order_id="x")
    assert isinstance(everything_wrong, Refused)
    assert "tick size" in everything_wrong.text


def test_a_crossing_limit_buy_needs_a_dollar(bench: Bench) -> None:
    bench.rest(ANN, SELL, YES, "0.10", 10)
    reply = bench.place(BOB, BUY, YES, "0.10", 9)
    assert reply == Refused(text="invalid amount for a marketable BUY order ($0.9), min size: $1")


def test_a_closed_market_cancels_all_and_takes_nothing(bench: Bench) -> None:
    order_id = bench.rest(BOB, BUY, YES, "0.40", 10)
    bench.do(CloseMarket(market_id=RAIN.market_id))
    order = bench.engine.order(order_id)
    assert order is not None
    assert order.reason is EndReason.MARKET_RESOLVED
    reply = bench.place(BOB, BUY, YES, "0.40", 10)
    assert reply == Refused(text="the market is not yet ready to process new orders")


def test_a_market_or_token_is_listed_once(bench: Bench) -> None:
    assert isinstance(bench.do(OpenMarket(rules=RAIN)), Refused)
    twin = msgspec.structs.replace(RAIN, market_id=SNOW.market_id)
    assert isinstance(bench.do(OpenMarket(rules=twin)), Refused)


# --- fees and texts --------------------------------------------------------------------------------------------------


def test_fees_agree_with_the_published_formula_to_the_last_place() -> None:
    cases = json.loads((Path(__file__).parent / "fees.json").read_text())
    for case in cases:
        rules = msgspec.structs.replace(
            RAIN, fee_rate_micro=micro_from_text(case["rate"]), fee_exponent=int(case["exponent"])
        )
        fee = fee_of(Price(micro_from_text(case["price"])), Size(micro_from_text(case["shares"])), rules)
        exact = float(case["unrounded"])
        assert exact - 0.00001 < fee / MICRO <= exact + 1e-12
        assert fee % 10 == 0


@pytest.mark.parametrize(
    ("price", "text"), [(None, ""), (130_000, "0.130"), (500_000, "0.500"), (123_400, "0.1234"), (1_500, "0.0015")]
)
def test_last_trade_prices_have_at_least_three_decimals(price: int | None, text: str) -> None:
    assert last_trade_text(None if price is None else Price(price)) == text
