"""A start is a recovery: what a crash leaves, what may be done before the first report, what a replay rebuilds."""

from __future__ import annotations

import msgspec

from tbot.core.account import EMPTY_STATE, Account, Mode
from tbot.core.coordinator import Coordinator
from tbot.core.market import name_of
from tbot.core.messages import (
    Fill,
    Flatten,
    Halt,
    OrderState,
    OutcomeUnknown,
    Prepared,
    Rejected,
    Resume,
    Settlement,
    Side,
    Stop,
    TradeId,
    TradeStatus,
    Withdraw,
)
from tbot.core.orders import OrderStatus
from tbot.core.units import Nanos
from tests.core.coordinators import (
    BEGIN,
    CASH,
    LIMITS,
    MARKET,
    MARKETS,
    NO,
    OTHER_NO,
    OTHER_YES,
    YES,
    Desk,
    bid,
    cancels,
    eid,
    listed,
    lookup,
    money,
    prepared,
    questions,
    saved,
    shares,
    some_order,
    submits,
    trading_desk,
)


def fresh_desk() -> Desk:
    """Recovered from nothing, books known, no report yet."""
    desk = Desk()
    desk.recover()
    for token in (YES, NO):
        desk.top(token, 0.50, 0.54)
    return desk


def some_fill(desk: Desk, order_number: int = 7, settlement: Settlement = Settlement.MATCHED) -> Fill:
    (order,) = trading_desk().quote(bid(0.45))
    fill = desk.fill_of(order, 10, settlement=settlement)
    return msgspec.structs.replace(fill, exchange_order_id=type(fill.exchange_order_id)(f"theirs-{order_number}"))


# Before the first report.


def test_nothing_is_sent_before_a_report_asked_for_after_the_start() -> None:
    desk = fresh_desk()
    assert desk.quote(bid(0.45)) == ()
    assert submits(desk.take(Side.BUY, 0.55)) == ()
    assert desk.mode() is Mode.RECOVERING
    desk.report(ago_s=0.1)
    assert desk.mode() is Mode.RECOVERING
    assert len(submits(desk.report())) == 2


def test_recovering_asks_at_once_and_again_every_second() -> None:
    desk = fresh_desk()
    assert [q.reason for q in questions(desk.decide())] == ["recovering"]
    assert questions(desk.decide()) == ()
    desk.wait(1)
    assert len(questions(tuple(desk.commands))) == 2


def test_cancels_go_out_while_recovering() -> None:
    desk = trading_desk()
    (order,) = desk.live(bid(0.45))
    again = desk.crash()
    (cancel,) = cancels(again.decide())
    assert cancel.exchange_order_id == eid(order)


def test_flatten_waits_for_the_report_too() -> None:
    desk = trading_desk(holding=20)
    desk.absorb(Flatten(slippage_ticks=1, at_ns=desk.now))
    again = desk.crash()
    again.top(YES, 0.50, 0.54)
    assert submits(again.decide()) == ()
    (sell,) = submits(again.report())
    assert sell.size == shares(20)


def test_opening_cash_is_the_first_report_s_and_history_is_in_it() -> None:
    desk = fresh_desk()
    old = some_fill(desk, settlement=Settlement.CONFIRMED)
    desk.absorb(old)  # pushed before the books are open
    desk.wait(1)
    some = (YES, shares(10))
    desk.report(fills=(old,), balances=(some, (NO, shares(0))))
    assert desk.mode() is Mode.RECOVERING, "what of the others is there already?"
    desk.wait(1)
    (*_, question) = questions(tuple(desk.commands))
    assert question.token_ids == (OTHER_YES, OTHER_NO)
    again = desk.crash()  # what was told is not asked for again
    again.report(fills=(old,), balances=((OTHER_YES, shares(0)),))
    for each in (desk, again):
        each.report(fills=(old,), balances=((OTHER_NO, shares(0)), (OTHER_YES, shares(0))))
        assert each.core.account.offsets == {YES: shares(10)}
    ledger = desk.core.account.ledger
    assert ledger is not None
    assert (ledger.cash, ledger.cash_start, ledger.fills_count) == (CASH, CASH, 0)
    for _ in range(3):  # what was there before is no disagreement
        desk.wait(3)
        desk.report(balances=((YES, shares(10)),))
    assert desk.mode() is Mode.TRADING


def test_books_open_only_when_no_earlier_trade_is_pending() -> None:
    desk = fresh_desk()
    pending = some_fill(desk)
    desk.wait(1)
    desk.report(fills=(pending,))
    assert (desk.core.account.ledger, desk.mode()) == (None, Mode.RECOVERING)
    desk.absorb(TradeStatus(trade_id=TradeId("t1"), settlement=Settlement.FAILED, received_ns=desk.now))
    desk.wait(1)
    desk.report(fills=(msgspec.structs.replace(pending, settlement=Settlement.MINED),))
    assert desk.mode() is Mode.TRADING


def test_fills_of_others_after_the_opening_are_booked_and_noted() -> None:
    desk = trading_desk()
    desk.absorb(some_fill(desk))
    assert desk.core.account.held(YES) == shares(10)
    assert desk.counts["foreign_fills"] == 1
    assert "not ours" in desk.core.account.notes[-1]


# What a crash leaves.


def test_every_order_in_flight_is_in_doubt_and_one_never_signed_never_was() -> None:
    desk = trading_desk()
    intended, signed, live, leaving = desk.quote(*(bid(0.40 + n / 100, level=n) for n in range(4)))
    desk.prepare(signed)
    desk.accept(live)
    desk.accept(leaving)
    desk.quote(*(bid(0.40 + n / 100, level=n) for n in range(3)))
    assert desk.status(leaving) is OrderStatus.CANCELING
    again = desk.crash()
    assert again.status(intended) is OrderStatus.REJECTED
    assert [again.status(o) for o in (signed, live, leaving)] == [OrderStatus.UNKNOWN] * 3
    assert again.core.account.buys_open() == money(4.1 + 4.2 + 4.3)
    assert questions(again.decide())[0].order_ids == (eid(signed), eid(live), eid(leaving))


def test_order_signed_just_before_the_crash_is_found_by_its_prepared_row() -> None:
    desk = trading_desk()
    (order,) = desk.quote(bid(0.45))
    again = desk.replayed(0, EMPTY_STATE)
    again.recover(prepared(order.client_order_id, desk.now), prepared(some_order(99).client_order_id, desk.now))
    assert again.status(order) is OrderStatus.UNKNOWN
    (cancel,) = cancels(again.report(listed(order)))  # nobody asked for it in this life
    assert cancel.exchange_order_id == eid(order)


def test_recovery_is_facts_for_the_journal() -> None:
    desk = trading_desk()
    desk.quote(*(bid(0.40 + n / 100, level=n) for n in range(2)))
    signed, unsigned = desk.core.orders
    again = desk.replayed(0, EMPTY_STATE)
    facts = again.core.recover([prepared(signed.client_order_id, desk.now)], desk.now)
    assert [type(f) for f in facts] == [Prepared, OutcomeUnknown, Rejected]
    twin = desk.replayed(0, EMPTY_STATE)
    for fact in facts:
        twin.core.replay(fact, desk.now)
    assert twin.core.state() == again.core.state()
    assert [o.status for o in again.core.orders] == [OrderStatus.UNKNOWN, OrderStatus.REJECTED]
    assert unsigned.exchange_order_id is None


def test_takes_die_with_the_life_that_asked_for_them() -> None:
    desk = trading_desk()
    desk.take(Side.BUY, 0.55, 1_001)  # refused for its size, so it waits
    assert len(desk.core.account.takes) == 1
    again = desk.replayed(0, EMPTY_STATE)
    assert len(again.core.account.takes) == 1
    assert [type(f) for f in again.core.recover([], desk.now)] == [Withdraw]
    assert again.core.account.takes == []


def test_report_from_the_last_life_starts_no_trading() -> None:
    desk = trading_desk()
    again = desk.crash()
    assert again.mode() is Mode.RECOVERING


def test_stop_of_the_last_life_does_not_stop_this_one() -> None:
    desk = trading_desk()
    desk.tell(Stop(at_ns=desk.now))
    again = desk.crash()
    again.report()
    assert again.mode() is Mode.TRADING


def test_halt_survives_checkpoint_and_replay_until_resume() -> None:
    desk = trading_desk()
    desk.tell(Halt(reason="by hand", at_ns=desk.now))
    again = desk.crash()
    again.report()
    restored = Coordinator(Account((MARKET,), LIMITS, saved(desk.core.state())), epoch=9)
    assert again.mode() is restored.account.mode is Mode.HALTED
    assert again.quote(bid(0.45)) == ()
    again.tell(Resume(at_ns=again.now))
    assert again.mode() is Mode.TRADING


def test_loss_limit_survives_a_crash() -> None:
    desk = trading_desk(holding=1000)
    again = desk.crash()
    again.top(YES, 0.29, 0.34)
    again.report()
    assert again.mode() is Mode.HALTED


def test_resume_under_water_is_remembered_from_cost_after_a_crash() -> None:
    desk = trading_desk(holding=1000)
    desk.top(YES, 0.25, 0.34)
    desk.decide()
    desk.tell(Resume(at_ns=desk.now))
    assert desk.mode() is Mode.TRADING
    again = desk.crash()
    again.top(YES, 0.25, 0.34)
    again.report()
    assert again.mode() is Mode.HALTED  # too early rather than too late


def test_resume_without_prices_counts_the_loss_from_where_it_halted() -> None:
    desk = trading_desk(holding=1000)
    desk.top(YES, 0.25, 0.34)
    desk.decide()
    profit = desk.core.state().halt_profit
    assert profit == -money(150)
    again = desk.crash()
    again.tell(Resume(at_ns=again.now, profit=profit))
    again = again.crash()
    for bid_price, mode in ((0.25, Mode.TRADING), (0.16, Mode.TRADING), (0.14, Mode.HALTED)):
        again.top(YES, bid_price, 0.34)
        again.report()
        assert again.mode() is mode


def test_new_life_gives_new_order_ids() -> None:
    desk = trading_desk()
    (order,) = desk.quote(bid(0.45))
    again = desk.crash()
    again.top(YES, 0.50, 0.54)
    again.report()
    (other,) = again.quote(bid(0.45))
    assert (order.client_order_id, other.client_order_id) == ("1-1", "2-2")


def test_order_of_a_market_configured_no_more_is_still_pulled() -> None:
    desk = trading_desk()
    (order,) = desk.live(bid(0.45), token=OTHER_YES)
    core = Coordinator(Account((MARKET,), LIMITS, saved(desk.core.state())), epoch=2)
    core.recover([], desk.now)
    (cancel,) = cancels(core.decide(Nanos(desk.now + 1)))
    assert cancel.exchange_order_id == eid(order)


def test_orders_of_the_last_life_are_pulled_and_then_quoted_anew() -> None:
    desk = trading_desk()
    (order,) = desk.live(bid(0.45))
    again = desk.crash()
    again.top(YES, 0.50, 0.54)
    again.quote(bid(0.45))
    again.report(listed(order))
    assert again.status(order) is OrderStatus.CANCELING
    again.canceled(order)
    assert len(submits(again.decide())) == 1


def test_fill_during_the_downtime_is_booked_from_the_report() -> None:
    desk = trading_desk()
    (order,) = desk.live(bid(0.45))
    again = desk.crash()
    again.wait(60)
    again.report(fills=(desk.fill_of(order, 10),), lookups=(lookup(order, OrderState.MATCHED, 10),))
    assert again.status(order) is OrderStatus.FILLED
    assert again.core.account.held(YES) == shares(10)


def test_empty_state_is_a_state() -> None:
    assert saved(EMPTY_STATE) == EMPTY_STATE
    named = msgspec.structs.replace(EMPTY_STATE, markets=tuple(map(name_of, MARKETS)))
    assert Desk().core.state() == named
    assert Desk().now == BEGIN
