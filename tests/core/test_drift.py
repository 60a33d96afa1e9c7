"""The exchange's money against the ledger: when a difference counts, and what it does."""

from __future__ import annotations

import msgspec

from tbot.core.account import EMPTY_STATE, Mode
from tbot.core.messages import (
    ExchangeOrderId,
    OrderState,
    Resume,
    Settlement,
    TradeStatus,
)
from tests.core.coordinators import (
    CASH,
    NO,
    OTHER_NO,
    OTHER_YES,
    YES,
    bid,
    listed,
    questions,
    shares,
    trading_desk,
)


def test_two_reports_that_miss_the_same_shares_halt() -> None:
    desk = trading_desk(holding=20)
    assert questions(desk.report(balances=((YES, shares(15)),)))[0].reason == "ledger and exchange differ"
    assert desk.mode() is Mode.TRADING
    desk.wait(1)
    desk.report(balances=((YES, shares(15)),))
    assert "ledger and exchange disagree" in desk.core.account.halt_reason
    assert "-5 of yes" in desk.core.account.halt_reason


def test_two_reports_that_miss_the_same_money_halt_and_resume_takes_it_for_given() -> None:
    desk = trading_desk()
    for _ in range(2):
        desk.report(cash=CASH - 1_000_000)
        desk.wait(1)
    assert "$-1" in desk.core.account.halt_reason
    desk.tell(Resume(at_ns=desk.now))
    for _ in range(3):
        desk.report(cash=CASH - 1_000_000)
        desk.wait(1)
    assert desk.mode() is Mode.TRADING


def test_difference_that_goes_away_halts_nobody() -> None:
    desk = trading_desk(holding=20)
    for size in (15, 20, 15, 20):
        desk.report(balances=((YES, shares(size)),))
        desk.wait(1)
    assert desk.mode() is Mode.TRADING


def test_money_that_came_in_is_noted_once() -> None:
    desk = trading_desk()
    for _ in range(4):
        desk.report(cash=CASH + 2_500_000)
        desk.wait(1)
    assert desk.mode() is Mode.TRADING
    assert [n for n in desk.core.account.notes if "deposit" in n] == [
        "$2.5 came in without a trade: a deposit or a reward"
    ]


def test_disagreement_is_not_looked_for_while_something_is_under_way() -> None:
    desk = trading_desk()
    (order,) = desk.live(bid(0.45, 20))
    fill = desk.fill(order, 10)
    for _ in range(3):  # a trade is pending
        desk.wait(3)
        desk.report(listed(order, 10), cash=CASH)
    desk.absorb(TradeStatus(trade_id=fill.trade_id, settlement=Settlement.CONFIRMED, received_ns=desk.now))
    desk.report(listed(order, 10), cash=CASH)  # news is too fresh
    desk.update(order, OrderState.LIVE, matched=15)
    for _ in range(3):  # a claim is open
        desk.wait(3)
        desk.report(listed(order, 15), cash=CASH)
    assert desk.mode() is Mode.TRADING
    assert desk.core.account.drift == {}


def test_halt_names_trading_by_others_on_the_account() -> None:
    desk = trading_desk()
    (order,) = desk.live(bid(0.45))
    desk.wait(1)
    foreign = msgspec.structs.replace(
        desk.fill_of(order, 3, settlement=Settlement.CONFIRMED), exchange_order_id=ExchangeOrderId("theirs")
    )
    desk.absorb(foreign)
    assert (desk.core.account.held(YES), desk.order(order).size_filled) == (shares(3), 0)
    for _ in range(2):
        desk.wait(3)
        desk.report(listed(order), cash=0)
    assert "1 fills of orders that are not ours" in desk.core.account.halt_reason


def test_reports_that_tell_other_balances_neither_confirm_nor_end_a_suspicion() -> None:
    desk = trading_desk(holding=20)
    others = ((OTHER_YES, shares(0)),)
    desk.report(balances=((YES, shares(15)),))
    for _ in range(5):
        before = len(desk.commands)
        desk.wait(1)
        (question,) = questions(tuple(desk.commands[before:]))
        assert question.token_ids == (YES,)
        desk.report(balances=others)
    assert desk.mode() is Mode.TRADING
    desk.wait(1)
    desk.report(balances=((YES, shares(15)), *others))
    assert "-5 of yes" in desk.core.account.halt_reason


def test_a_suspicion_ends_when_its_balance_is_told_in_order() -> None:
    desk = trading_desk(holding=20)
    desk.report(balances=((YES, shares(15)),))
    desk.wait(1)
    desk.report(balances=((OTHER_YES, shares(0)),))
    desk.wait(1)
    assert questions(desk.report(balances=((YES, shares(20)),))) == ()
    assert desk.core.account.drift == {}


def test_missing_money_halts_though_no_balance_of_a_token_is_told() -> None:
    desk = trading_desk(holding=20)
    for _ in range(2):
        desk.report(balances=(), cash=desk.core.account.ledger.cash - 1_000_000)  # type: ignore[union-attr]
        desk.wait(1)
    assert "$-1" in desk.core.account.halt_reason


def test_money_is_a_deposit_only_when_every_balance_was_told_beside_it() -> None:
    desk = trading_desk(holding=20)
    held = ((YES, shares(20)), *((token, shares(0)) for token in (NO, OTHER_YES, OTHER_NO)))
    for number, balance in enumerate((*held[1:], held[1], *held[:1])):
        desk.report(balances=(balance,), cash=desk.core.account.ledger.cash + 2_500_000)  # type: ignore[union-attr]
        assert bool(desk.core.account.notes) == (number == 4)
        desk = desk.replayed(0, EMPTY_STATE) if number == 2 else desk
        desk.wait(1)
    assert desk.mode() is Mode.TRADING
    assert desk.core.account.drift == {}


def test_a_sale_that_was_missed_is_no_deposit() -> None:
    desk = trading_desk(holding=20)
    cash = desk.core.account.ledger.cash + 2_500_000  # type: ignore[union-attr]
    for balance in (
        (NO, shares(0)),
        (OTHER_YES, shares(0)),
        (OTHER_NO, shares(0)),
        (YES, shares(15)),
        (YES, shares(15)),
    ):
        desk.report(balances=(balance,), cash=cash)
        desk.wait(1)
    assert "$2.5, -5 of yes" in desk.core.account.halt_reason or "-5 of yes, $2.5" in desk.core.account.halt_reason
    assert not any("deposit" in note for note in desk.core.account.notes)
