"""A market that joins after the ledger began: what was there before is no loss, and no loss is taken for it."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as gen

from tbot.core.account import Mode
from tbot.core.market import CASH as ASSET_CASH
from tbot.core.market import TokenId
from tbot.core.messages import ExchangeOrderId, ExchangeReport, Settlement, Side, TradeId
from tbot.core.units import Notional, Size
from tests.core.coordinators import (
    CASH,
    MARKET,
    MARKETS,
    NO,
    OTHER_NO,
    OTHER_YES,
    YES,
    Desk,
    bid,
    questions,
    saved,
    shares,
    submits,
)

NOTHING = shares(0)


def desk_before() -> Desk:
    """A desk of one market that holds 20 of its YES."""
    desk = Desk(markets=(MARKET,))
    desk.recover()
    desk.report()
    desk.top(YES, 0.50, 0.54)
    desk.top(NO, 0.44, 0.48)
    (order,) = desk.live(bid(0.40, 20))
    desk.fill(order, 20, settlement=Settlement.CONFIRMED)
    desk.quote()
    return desk.wait(10)


def joined(before: Desk) -> Desk:
    """The next life of a desk, with one market more."""
    desk = Desk(state=saved(before.core.state()), epoch=2, markets=MARKETS)
    desk.now = before.now
    desk.recover()
    for token in (YES, OTHER_YES, OTHER_NO):
        desk.top(token, 0.50, 0.54)
    return desk.wait(1)


def tell(desk: Desk, **sizes: float) -> None:
    """Tell balances in quiet moments, as often as it takes to confirm a difference: read anew in between."""
    names = {"yes": YES, "no": NO, "other_yes": OTHER_YES, "other_no": OTHER_NO}
    for _ in range(4):
        desk.wait(3)
        desk.report(balances=tuple((names[name], shares(size)) for name, size in sizes.items()))


def test_what_was_there_before_is_no_loss_and_not_ours_to_sell_but_a_risk() -> None:
    desk = joined(desk_before())
    tell(desk, yes=20, no=0, other_yes=50, other_no=0)
    tell(desk, yes=20, other_yes=50)
    account = desk.core.account
    assert (desk.mode(), account.drift, account.offsets) == (Mode.TRADING, {}, {OTHER_YES: shares(50)})
    assert any("50 of other-yes were there before" in note for note in account.notes)
    assert account.sellable(OTHER_YES) == 0
    facts = account.risk_facts(OTHER_YES)
    assert facts is not None
    assert facts.held == shares(50)
    assert desk.core.state() == saved(desk.core.state())
    assert saved(desk.core.state()).sighted == (YES, NO, OTHER_YES, OTHER_NO)


def test_nothing_is_sent_there_before_its_balance_is_told_and_the_others_trade_on() -> None:
    desk = joined(desk_before())
    asked = questions(tuple(desk.commands))[-1]
    assert asked.token_ids == asked.refresh == (OTHER_YES, OTHER_NO), "told from the chain, not from an old cache"
    desk.report(balances=((YES, shares(20)),))
    assert desk.mode() is Mode.TRADING
    assert submits(desk.quote(bid(0.45), token=OTHER_YES)) == ()
    assert not submits(desk.take(Side.BUY, 0.54, token=OTHER_YES))
    assert len(submits(desk.quote(bid(0.45), token=YES))) == 1
    desk.wait(1)
    assert questions(tuple(desk.commands))[-1].token_ids == (OTHER_YES, OTHER_NO), "asked until it is told"
    commands = desk.report(balances=((OTHER_YES, NOTHING), (OTHER_NO, NOTHING)))
    assert [each.token_id for each in submits(commands)] != []
    before = len(desk.commands)
    desk.wait(1)
    assert not any("joined" in each.reason for each in questions(tuple(desk.commands[before:])))


def every(yes: float, other_yes: float) -> tuple[tuple[TokenId, Size], ...]:
    return ((YES, shares(yes)), (NO, NOTHING), (OTHER_YES, shares(other_yes)), (OTHER_NO, NOTHING))


def test_a_first_balance_that_was_not_read_anew_is_not_taken_for_given() -> None:
    desk = joined(desk_before())
    desk.report(balances=every(20, 0), is_refreshed=False)  # as an old cache has it
    assert list(desk.core.account.sighted) == [YES, NO]
    desk.wait(1)
    assert questions(tuple(desk.commands))[-1].refresh == (OTHER_YES, OTHER_NO)
    for _ in range(4):
        desk.wait(3)
        desk.report(balances=every(20, 50))
    assert (desk.mode(), desk.core.account.offsets) == (Mode.TRADING, {OTHER_YES: shares(50)})


def test_a_difference_elsewhere_leaves_no_first_balance_unread() -> None:
    desk = joined(desk_before())
    desk.wait(3)
    desk.report(balances=((YES, shares(15)),))
    desk.wait(1)
    assert questions(tuple(desk.commands))[-1].refresh == (YES, OTHER_YES, OTHER_NO)


def test_the_ledger_opens_with_what_was_read_from_the_chain() -> None:
    desk = Desk()
    desk.recover()
    desk.wait(1)
    assert questions(tuple(desk.commands))[-1].refresh == (YES, NO, OTHER_YES, OTHER_NO, ASSET_CASH)
    desk.report(balances=every(0, 0), cash=0, is_refreshed=False)
    assert desk.mode() is Mode.RECOVERING
    desk.wait(1)
    report = ExchangeReport(
        requested_ns=desk.now, received_ns=desk.now, open_orders=(), fills=(), lookups=(),
        balances=every(50, 0), cash=Notional(0), refreshed=(YES, NO, OTHER_YES, OTHER_NO), unread=(ASSET_CASH,),
    )  # fmt: skip
    desk.tell(report)
    assert desk.mode() is Mode.RECOVERING, "its cash may be old"
    for _ in range(4):
        desk.wait(3)
        desk.report(balances=every(50, 0), cash=CASH)
    assert (desk.mode(), desk.core.account.offsets) == (Mode.TRADING, {YES: shares(50)})
    assert desk.core.account.ledger is not None
    assert desk.core.account.ledger.cash == CASH


@pytest.mark.parametrize(
    ("first", "then", "missing"),
    [
        ({"yes": 15, "other_yes": 50, "other_no": 0}, {"yes": 15, "other_yes": 50}, "-5 of rain YES"),
        ({"yes": 20, "other_yes": 50, "other_no": 0}, {"yes": 20, "other_yes": 45}, "-5 of snow YES"),
        ({"yes": 20, "other_yes": 0, "other_no": 0}, {"yes": 20, "other_yes": 7}, "7 of snow YES"),
    ],
    ids=["of a token it traded", "after the first sight", "gained after the first sight"],
)
def test_a_real_difference_halts_all_the_same(first: dict[str, float], then: dict[str, float], missing: str) -> None:
    desk = joined(desk_before())
    tell(desk, **first)
    tell(desk, **then)
    assert missing in desk.core.account.halt_reason


def foreign(desk: Desk, size: float, settlement: Settlement = Settlement.CONFIRMED) -> None:
    """Hear of a buy in the joined market that a person made by hand."""
    before = desk_before()
    (order,) = before.live(bid(0.45, 100))
    fill = before.fill_of(order, size, settlement=settlement)
    desk.absorb(
        msgspec.structs.replace(
            fill,
            token_id=OTHER_YES,
            trade_id=TradeId("by-hand"),
            exchange_order_id=ExchangeOrderId("theirs"),
            exchange_ms=desk.now // 1_000_000,
            received_ns=desk.now,
        )
    )


@pytest.mark.slow
@given(before=gen.integers(0, 30), bought=gen.integers(1, 30), lost=gen.integers(0, 30), later=gen.integers(-30, 30))
def test_trades_of_a_person_count_and_only_what_is_beyond_them_was_there(
    before: int, bought: int, lost: int, later: int
) -> None:
    """Whatever of it was there: less than the known trades explain halts, and so does every later difference."""
    desk = joined(desk_before())
    foreign(desk, bought)
    told = max(0, before + bought - lost)
    cash = {"yes": 20, "no": 0, "other_no": 0}
    tell(desk, **cash, other_yes=told)
    is_loss = told < bought
    assert bool(desk.core.account.halt_reason) is is_loss
    if not is_loss:
        assert desk.core.account.offsets.get(OTHER_YES, 0) == shares(told - bought)
        tell(desk, **cash, other_yes=max(0, told + later))
        assert bool(desk.core.account.halt_reason) is (max(0, told + later) != told)


def test_a_trade_there_that_is_pending_puts_the_first_sight_of_it_off_and_of_no_other() -> None:
    desk = joined(desk_before())
    foreign(desk, 5, Settlement.MATCHED)
    desk.report(balances=((OTHER_YES, shares(5)), (OTHER_NO, shares(3))))
    assert list(desk.core.account.sighted) == [YES, NO, OTHER_NO]
    foreign(desk, 5, Settlement.CONFIRMED)
    tell(desk, yes=20, no=0, other_yes=5, other_no=3)
    assert list(desk.core.account.sighted) == [YES, NO, OTHER_NO, OTHER_YES]
    assert (desk.mode(), desk.core.account.offsets) == (Mode.TRADING, {OTHER_NO: shares(3)})


def test_a_replay_sees_what_was_seen() -> None:
    before = desk_before()
    desk = joined(before)
    tell(desk, yes=20, no=0, other_yes=50, other_no=0)
    again = Desk(state=saved(before.core.state()), epoch=2, markets=MARKETS)
    for message, at_ns in desk.journal:
        again.core.replay(message, at_ns)
    assert again.core.state() == desk.core.state()
    assert again.core.account.offsets == {OTHER_YES: shares(50)}
