"""The exchange's money against the ledger: when a difference counts, and what it does."""

from __future__ import annotations

import msgspec
import pytest

from tbot.core.account import EMPTY_STATE, Mode
from tbot.core.market import CASH as ASSET_CASH
from tbot.core.market import TokenId
from tbot.core.messages import (
    ExchangeOrderId,
    ExchangeReport,
    OrderState,
    Resume,
    Settlement,
    TradeStatus,
)
from tbot.core.units import Notional
from tests.core.coordinators import (
    CASH,
    NO,
    OTHER_NO,
    OTHER_YES,
    YES,
    Desk,
    bid,
    listed,
    questions,
    saved,
    shares,
    trading_desk,
)


def test_shares_that_are_missing_after_the_chain_was_read_anew_halt() -> None:
    desk = trading_desk(holding=20)
    (question,) = questions(desk.report(balances=((YES, shares(15)),)))
    assert (question.reason, question.refresh) == ("ledger and exchange differ", (YES,))
    desk.wait(1)
    desk.report(balances=((YES, shares(15)),))
    assert desk.mode() is Mode.TRADING, "this report came right after the exchange was told to look"
    desk.wait(1)
    assert questions(tuple(desk.commands))[-1].refresh == ()
    desk.report(balances=((YES, shares(15)),))
    assert "ledger and exchange disagree: exchange minus ledger is -5 of rain YES" in desk.core.account.halt_reason


def test_balances_of_an_old_cache_halt_nobody_as_long_as_the_exchange_can_read_them_anew() -> None:
    desk = trading_desk(holding=20)
    for _ in range(50):
        desk.report(balances=((YES, shares(15)),), is_refreshed=False)
        assert questions(tuple(desk.commands))[-1].refresh == (YES,)
        desk.wait(1)
    assert desk.mode() is Mode.TRADING
    desk.report(balances=((YES, shares(20)),))
    assert desk.core.account.drift == {}


def test_an_exchange_that_reads_nothing_anew_for_a_minute_is_believed() -> None:
    desk = trading_desk(holding=20)
    for _ in range(61):
        assert desk.mode() is Mode.TRADING
        desk.report(balances=((YES, shares(15)),), is_refreshed=False)
        desk.wait(1)
    assert "did not read 1 of these anew within 60 s" in desk.core.account.halt_reason


def next_life(desk: Desk, *, after_s: float) -> Desk:
    """Start anew from a checkpoint, after a time in which nobody asked anything."""
    again = Desk(state=saved(desk.core.state()), epoch=2)
    again.now = desk.now
    again.recover()
    return again.wait(after_s)


@pytest.mark.parametrize("is_read", [True, False], ids=["read anew", "not read anew"])
@pytest.mark.parametrize("is_new_life", [True, False], ids=["the bot was away", "the exchange was away"])
def test_a_minute_in_which_nobody_asked_proves_nothing(*, is_read: bool, is_new_life: bool) -> None:
    desk = trading_desk(holding=20)
    desk.report(balances=((YES, shares(15)),), is_refreshed=False)
    desk = next_life(desk, after_s=120) if is_new_life else desk.wait(120)
    desk.report(balances=((YES, shares(15)),), is_refreshed=is_read)
    assert desk.mode() is Mode.TRADING
    for _ in range(1 if is_read else 60):  # asked every second from here on
        assert desk.mode() is Mode.TRADING
        desk.wait(1)
        desk.report(balances=((YES, shares(15)),), is_refreshed=False)
    assert "-5 of rain YES" in desk.core.account.halt_reason
    assert ("did not read 1 of these anew" in desk.core.account.halt_reason) is not is_read


def test_a_balance_read_anew_at_the_last_moment_is_told_once_more_before_it_counts() -> None:
    desk = trading_desk(holding=20)
    for second in range(61):
        desk.report(balances=((YES, shares(15)),), is_refreshed=second == 60)
        desk.wait(1)
    assert desk.mode() is Mode.TRADING
    desk.report(balances=((YES, shares(20)),))
    assert (desk.mode(), desk.core.account.drift) == (Mode.TRADING, {})


def test_an_exchange_that_reads_while_we_trade_is_not_believed_for_having_read_nothing() -> None:
    desk = trading_desk(holding=20)
    for second in range(61):
        is_noisy = second == 40
        if is_noisy:
            desk.core.account.news_ns = desk.now
        desk.report(balances=((YES, shares(15)),), is_refreshed=is_noisy)
        desk.wait(1)
    assert desk.mode() is Mode.TRADING


def test_every_asset_that_differs_must_have_been_read_anew() -> None:
    desk = trading_desk(holding=20)
    cash = desk.core.account.ledger.cash - 1_000_000  # type: ignore[union-attr]
    for refreshed in ((YES,), (), (), (ASSET_CASH,)):
        report = ExchangeReport(
            requested_ns=desk.now, received_ns=desk.now, open_orders=(), fills=(), lookups=(),
            balances=((YES, shares(15)),), cash=Notional(cash), refreshed=refreshed,
        )  # fmt: skip
        desk.tell(report)
        assert desk.mode() is Mode.TRADING
        desk.wait(1)
    desk.report(balances=((YES, shares(15)),), cash=cash)
    assert "-5 of rain YES, $-1" in desk.core.account.halt_reason


def test_another_difference_is_read_anew_again() -> None:
    desk = trading_desk(holding=20)
    for size in (15, 15, 14):
        desk.report(balances=((YES, shares(size)),))
        desk.wait(1)
    assert questions(tuple(desk.commands))[-1].refresh == (YES,)
    desk.report(balances=((YES, shares(14)),), is_refreshed=False)
    assert desk.mode() is Mode.TRADING
    desk = desk.replayed(0, EMPTY_STATE)  # what was read anew is remembered by a replay as well
    for _ in range(2):
        desk.wait(1)
        desk.report(balances=((YES, shares(14)),))
    assert "-6 of rain YES" in desk.core.account.halt_reason


def test_old_money_beside_fresh_shares_is_no_deposit() -> None:
    desk = trading_desk(holding=20)
    cash = desk.core.account.ledger.cash  # type: ignore[union-attr]
    for _ in range(10):
        desk.report(cash=cash + 2_500_000, is_refreshed=False)
        desk.wait(1)
    for _ in range(3):
        desk.report(cash=cash)
        desk.wait(1)
    assert (desk.mode(), desk.core.account.offsets) == (Mode.TRADING, {})


def test_the_same_money_missing_halts_and_resume_takes_it_for_given() -> None:
    desk = trading_desk()
    for _ in range(3):
        desk.report(cash=CASH - 1_000_000)
        desk.wait(1)
    assert "$-1" in desk.core.account.halt_reason
    desk.tell(Resume(at_ns=desk.now, accepted=tuple(desk.core.account.drift.items())))
    for _ in range(5):
        desk.report(cash=CASH - 1_000_000)
        desk.wait(1)
    assert (desk.mode(), desk.core.account.drift) == (Mode.TRADING, {})
    assert "corrected because the operator accepts it: exchange minus ledger is $-1" in desk.core.account.notes


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
    for _ in range(3):
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
    for _ in range(2):
        desk.wait(1)
        desk.report(balances=((YES, shares(15)), *others))
    assert "-5 of rain YES" in desk.core.account.halt_reason


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
    for _ in range(3):
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
        (YES, shares(15)),
    ):
        desk.report(balances=(balance,), cash=cash)
        desk.wait(1)
    assert "-5 of rain YES, $2.5" in desk.core.account.halt_reason
    assert not any("deposit" in note for note in desk.core.account.notes)


def test_a_suspicion_about_a_market_that_is_traded_no_more_holds_no_other_back() -> None:
    state = msgspec.structs.replace(trading_desk(holding=20).core.state(), drift={TokenId("gone"): 5_000_000})
    desk = Desk(state=state)
    desk.recover()
    desk.wait(3)
    for _ in range(4):
        desk.report(balances=((YES, shares(15)),))
        desk.wait(1)
    assert "-5 of rain YES" in desk.core.account.halt_reason


def halted_desk(*, shares_lost: int = 5, cash_gained: int = 2_800_000) -> Desk:
    """A desk whose exchange tells fewer shares and more money than its ledger, and which halted for that."""
    desk = trading_desk(holding=20)
    for _ in range(3):
        tell_balances(desk, 20 - shares_lost, cash_gained)
    assert desk.mode() is Mode.HALTED
    return desk


def tell_balances(desk: Desk, held: float, cash_more: int) -> None:
    assert desk.core.account.ledger is not None
    others = tuple((token, shares(0)) for token in (NO, OTHER_YES, OTHER_NO))
    desk.report(balances=((YES, shares(held)), *others), cash=desk.core.account.ledger.cash + cash_more)
    desk.wait(1)


def resume(desk: Desk) -> None:
    desk.tell(Resume(at_ns=desk.now, accepted=tuple(desk.core.account.drift.items())))
    assert desk.mode() is Mode.TRADING


def test_what_a_person_accepted_is_what_can_be_sold_and_spent() -> None:
    desk = halted_desk(cash_gained=-3_000_000)
    ledger = desk.core.account.ledger
    assert ledger is not None
    resume(desk)
    (view,) = (view for view in desk.core.account.views(desk.now) if view.token_id == YES)
    assert (view.size, view.size_sellable) == (shares(20), shares(15))
    assert desk.core.account.sellable(YES) == shares(15)
    facts = desk.core.account.risk_facts(YES)
    assert facts is not None
    assert facts.cash == ledger.cash - 3_000_000


def test_a_resume_that_accepts_nothing_halts_again_for_what_differs() -> None:
    desk = halted_desk()
    desk.tell(Resume(at_ns=desk.now))
    assert desk.mode() is Mode.TRADING
    for _ in range(3):
        tell_balances(desk, 15, 2_800_000)
    assert "-5 of rain YES, $2.8" in desk.core.account.halt_reason


def test_another_difference_than_the_accepted_one_halts_with_what_came_on_top() -> None:
    desk = halted_desk()
    resume(desk)
    for _ in range(3):
        tell_balances(desk, 12, 2_800_000)
    assert "exchange minus ledger is -3 of rain YES" in desk.core.account.halt_reason
    assert "$" not in desk.core.account.halt_reason


def test_an_accepted_difference_that_ends_by_itself_is_undone_and_halts_nobody() -> None:
    """As when the exchange's cache was old, and a person resumed before it was not."""
    desk = halted_desk()
    resume(desk)
    for held, cash_more in ((15, 2_800_000), (15, 2_800_000), (15, 0), (15, 0), (15, 0), (20, 0), (20, 0), (20, 0)):
        tell_balances(desk, held, cash_more)
    assert desk.mode() is Mode.TRADING
    assert (desk.core.account.offsets, desk.core.account.accepted) == ({}, {})
    assert sum("agree again" in note for note in desk.core.account.notes) == 2
    for _ in range(3):  # what is missing now is another loss
        tell_balances(desk, 15, 0)
    assert desk.mode() is Mode.HALTED


@pytest.mark.parametrize("dust", [-9_999, -1, 1, 9_999])
def test_dust_beside_an_accepted_difference_that_ended_halts_nobody(dust: int) -> None:
    desk = halted_desk()
    resume(desk)
    for _ in range(4):
        tell_balances(desk, 20 + dust / 1_000_000, dust)
    assert desk.mode() is Mode.TRADING
    assert (desk.core.account.offsets, desk.core.account.accepted, desk.core.account.drift) == ({}, {}, {})


@pytest.mark.parametrize(("held", "cash_more"), [(20.01, 0), (19.99, 0), (20, 10_000), (20, -10_000)])
def test_what_is_more_than_dust_beside_an_accepted_difference_that_ended_halts(held: float, cash_more: int) -> None:
    desk = halted_desk()
    resume(desk)
    for _ in range(4):
        tell_balances(desk, held, cash_more)
    assert desk.mode() is Mode.HALTED


def test_halt_and_resume_are_the_same_after_a_replay_and_from_a_checkpoint() -> None:
    desk = halted_desk()
    at_halt = desk.core.state()
    assert at_halt.halted_ns
    seen = len(desk.journal)
    resume(desk)
    for _ in range(3):
        tell_balances(desk, 15, 2_800_000)
    state = desk.core.state()
    assert (state.halted_ns, state.accepted) == (0, {YES: -5_000_000, ASSET_CASH: 2_800_000})
    assert desk.replayed(0, EMPTY_STATE).core.state() == state
    assert desk.replayed(seen, at_halt).core.state() == state
