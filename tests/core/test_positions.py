"""The ledger: what one fill, one settlement step and one reversal do to cash, position and PnL."""

import msgspec
import pytest

from tbot.core.market import TokenId
from tbot.core.messages import ExchangeOrderId, Fill, Role, Settlement, Side, TradeId
from tbot.core.positions import EARLY_MAX, FLAT, SETTLEMENT_STEPS, Ledger, LedgerState, Position
from tbot.core.units import MICRO, Nanos, Notional, Price, Size

YES, NO = TokenId("yes"), TokenId("no")
ORDER = ExchangeOrderId("o1")
START = Notional(100 * MICRO)


def fill(
    trade: str,
    side: Side = Side.BUY,
    shares: float = 10,
    price: float = 0.5,
    *,
    order: str = "o1",
    token: TokenId = YES,
    fee: int = 0,
    settlement: Settlement = Settlement.MATCHED,
    received_ns: int = 0,
) -> Fill:
    size = round(shares * MICRO)
    return Fill(
        trade_id=TradeId(trade),
        exchange_order_id=ExchangeOrderId(order),
        token_id=token,
        side=side,
        size=Size(size),
        notional=Notional(round(price * size)),
        fee=Notional(fee),
        role=Role.MAKER,
        settlement=settlement,
        exchange_ms=0,
        received_ns=Nanos(received_ns),
    )


def ledger_of(*fills: Fill) -> Ledger:
    ledger = Ledger(START)
    for each in fills:
        ledger.book(each)
    return ledger


def test_buy_pays_notional_and_fee_and_sale_receives_less_its_fee() -> None:
    ledger = ledger_of(fill("t1", fee=7), fill("t2", Side.SELL, 4, 0.6, order="o2", fee=3))
    assert ledger.cash == START - 5 * MICRO - 7 + 2_400_000 - 3
    assert ledger.fees == 10


def test_sale_realizes_proceeds_less_average_cost() -> None:
    ledger = ledger_of(
        fill("t1", shares=10, price=0.4), fill("t2", shares=10, price=0.6), fill("t3", Side.SELL, 5, 0.7)
    )
    position = ledger.position(YES)
    assert (position.size, position.cost, position.realized) == (15 * MICRO, 7_500_000, 1_000_000)
    assert position.entry == 500_000


def test_cost_of_thirds_leaves_nothing_when_flat() -> None:
    ledger = ledger_of(fill("t0", shares=3, price=1 / 3))
    for n in range(1, 4):
        assert ledger.position(YES).cost > 0
        ledger.book(fill(f"t{n}", Side.SELL, 1, 0.5))
    position = ledger.position(YES)
    assert (position.size, position.cost, position.entry) == (0, 0, 0)
    assert ledger.cash == START + position.realized


def test_repeated_fill_books_once_and_only_advances_settlement() -> None:
    ledger = ledger_of(fill("t1"))
    assert ledger.settled(YES) == 0
    assert not ledger.book(fill("t1", settlement=Settlement.MINED))
    assert ledger.position(YES) == Position(size=Size(10 * MICRO), cost=Notional(5 * MICRO))
    assert ledger.settled(YES) == 10 * MICRO
    assert ledger.fills_count == 1


def test_one_trade_with_two_of_our_orders_is_two_fills() -> None:
    ledger = Ledger(START)
    assert ledger.book(fill("t1", order="o1"))
    assert ledger.book(fill("t1", order="o2"))
    assert ledger.position(YES).size == 20 * MICRO
    assert ledger.has_fill(TradeId("t1"), ExchangeOrderId("o2"))
    assert len(ledger.settle(TradeId("t1"), Settlement.FAILED)) == 2
    assert ledger.position(YES) == FLAT


def test_failed_trade_is_undone_as_if_it_never_happened() -> None:
    ledger = ledger_of(
        fill("t1", price=0.4, fee=9), fill("t2", price=0.8, fee=8, order="o2"), fill("t3", Side.SELL, 5, 0.7)
    )
    lost = fill("t2", price=0.8, fee=8, order="o2")
    assert ledger.settle(TradeId("t2"), Settlement.FAILED) == (lost,)
    never = ledger_of(fill("t1", price=0.4, fee=9), fill("t3", Side.SELL, 5, 0.7))
    assert ledger.position(YES) == never.position(YES)
    assert (ledger.cash, ledger.fees, ledger.fills_count) == (never.cash, never.fees, never.fills_count)
    assert ledger.has_fill(TradeId("t2"), ExchangeOrderId("o2"))
    assert ledger.settle(TradeId("t2"), Settlement.FAILED) == ()


def test_failed_told_by_repeating_the_fill_undoes_it_too() -> None:
    ledger = ledger_of(fill("t1"))
    assert not ledger.book(fill("t1", settlement=Settlement.FAILED))
    assert ledger.position(YES) == FLAT
    assert ledger.cash == START


def test_reversal_behind_a_confirmed_fill_keeps_the_base() -> None:
    ledger = ledger_of(fill("t1", price=0.4), fill("t2", price=0.6))
    ledger.settle(TradeId("t1"), Settlement.CONFIRMED)
    ledger.settle(TradeId("t2"), Settlement.FAILED)
    assert ledger.position(YES) == ledger_of(fill("t1", price=0.4, settlement=Settlement.CONFIRMED)).position(YES)


@pytest.mark.parametrize("now", SETTLEMENT_STEPS)
@pytest.mark.parametrize("told", SETTLEMENT_STEPS)
def test_settlement_moves_only_along_the_table(now: Settlement, told: Settlement) -> None:
    ledger = ledger_of(fill("t1", settlement=now))
    ledger.settle(TradeId("t1"), told)
    assert ledger.settlement_of(TradeId("t1")) is (told if told in SETTLEMENT_STEPS[now] else now)


def test_nothing_leaves_a_final_settlement_and_no_step_leads_back() -> None:
    for final in (Settlement.CONFIRMED, Settlement.FAILED):
        assert SETTLEMENT_STEPS[final] == ()
    for state, steps in SETTLEMENT_STEPS.items():
        assert all(state not in SETTLEMENT_STEPS[step] for step in steps)


def test_settlement_told_before_its_fill_is_applied_when_the_fill_arrives() -> None:
    ledger = Ledger(START)
    assert ledger.settle(TradeId("t1"), Settlement.MINED) == ()
    assert ledger.settlement_of(TradeId("t1")) is None
    assert ledger.book(fill("t1"))
    assert ledger.settled(YES) == 10 * MICRO


def test_fill_of_a_trade_that_failed_before_is_known_but_never_counts() -> None:
    ledger = Ledger(START)
    ledger.settle(TradeId("t1"), Settlement.FAILED)
    assert not ledger.book(fill("t1"))
    assert ledger.has_fill(TradeId("t1"), ORDER)
    assert (ledger.position(YES), ledger.cash) == (FLAT, START)


def test_early_settlements_are_bounded_and_the_oldest_goes_first() -> None:
    ledger = Ledger(START)
    for n in range(EARLY_MAX + 1):
        ledger.settle(TradeId(f"t{n}"), Settlement.FAILED)
    assert len(ledger.state().early) == EARLY_MAX
    assert ledger.book(fill("t0"))
    assert not ledger.book(fill("t1"))


def test_early_matched_says_nothing_and_is_not_kept() -> None:
    ledger = Ledger(START)
    ledger.settle(TradeId("t1"), Settlement.MATCHED)
    assert ledger.state().early == ()


def test_only_shares_on_chain_less_everything_sold_can_be_sold() -> None:
    ledger = ledger_of(fill("t1", settlement=Settlement.MINED), fill("t2", shares=6), fill("t3", Side.SELL, 4))
    assert ledger.position(YES).size == 12 * MICRO
    assert ledger.position(YES).size_pending == 6 * MICRO
    assert ledger.settled(YES) == 6 * MICRO
    ledger.settle(TradeId("t2"), Settlement.RETRYING)
    assert ledger.settled(YES) == 6 * MICRO
    ledger.settle(TradeId("t2"), Settlement.CONFIRMED)
    assert ledger.settled(YES) == 12 * MICRO


def test_sale_told_before_its_buy_is_oversold_until_the_buy_comes() -> None:
    sale, buy = fill("t2", Side.SELL, 10, 0.6), fill("t1", shares=10, price=0.5)
    ledger = ledger_of(sale)
    assert ledger.position(YES).is_oversold
    assert ledger.settled(YES) == 0
    assert ledger.position(YES).entry == 600_000
    ledger.book(buy)
    assert ledger.position(YES) == Position(size_pending=Size(10 * MICRO), realized=Notional(MICRO))


def test_fill_through_zero_closes_at_cost_and_opens_the_rest() -> None:
    ledger = ledger_of(fill("t1", shares=4, price=0.5), fill("t2", Side.SELL, 10, 0.6))
    position = ledger.position(YES)
    assert (position.size, position.cost, position.realized) == (-6 * MICRO, -3_600_000, 400_000)


def test_pnl_marks_both_outcomes_and_counts_fees() -> None:
    ledger = ledger_of(fill("t1", price=0.5, fee=100), fill("t2", token=NO, order="o2", price=0.4))
    assert ledger.pnl({YES: Price(560_000), NO: Price(440_000)}) == 10 * MICRO - 9 * MICRO - 100
    assert ledger.pairs(YES, NO) == 10 * MICRO


def test_token_without_mark_is_valued_at_cost() -> None:
    assert ledger_of(fill("t1", fee=100)).pnl({}) == -100


def test_pairs_need_both_outcomes() -> None:
    assert ledger_of(fill("t1")).pairs(YES, NO) == 0


def test_forget_drops_old_final_trades_and_keeps_totals() -> None:
    ledger = ledger_of(
        fill("t1", settlement=Settlement.CONFIRMED, received_ns=10),
        fill("t2", settlement=Settlement.FAILED, received_ns=10),
        fill("t3", settlement=Settlement.MATCHED, received_ns=10),
        fill("t4", settlement=Settlement.CONFIRMED, received_ns=10),
        fill("t5", settlement=Settlement.CONFIRMED, received_ns=99),
    )
    before = (ledger.position(YES), ledger.cash, ledger.fills_count)
    assert ledger.forget(Nanos(50)) == 2
    assert [trade.trade_id for trade in ledger.state().trades] == ["t3", "t4", "t5"]
    assert (ledger.position(YES), ledger.cash, ledger.fills_count) == before


def test_oldest_unsettled_trade_is_known_until_all_are_final() -> None:
    ledger = ledger_of(fill("t1", received_ns=10), fill("t2", received_ns=20))
    assert ledger.unsettled_since_ns() == 10
    ledger.settle(TradeId("t1"), Settlement.CONFIRMED)
    assert ledger.unsettled_since_ns() == 20
    ledger.settle(TradeId("t2"), Settlement.FAILED)
    assert ledger.unsettled_since_ns() is None


def test_tokens_come_in_order_of_first_fill() -> None:
    ledger = ledger_of(fill("t1", token=NO), fill("t2"), fill("t3", token=NO))
    assert ledger.tokens() == (NO, YES)
    assert ledger.cash_start == START


def test_state_survives_encoding() -> None:
    ledger = ledger_of(fill("t1", settlement=Settlement.CONFIRMED), fill("t2", fee=3))
    ledger.settle(TradeId("t9"), Settlement.FAILED)
    state = ledger.state()
    assert msgspec.json.decode(msgspec.json.encode(state), type=LedgerState) == state
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=LedgerState) == state
    assert Ledger.restore(state).state() == state
