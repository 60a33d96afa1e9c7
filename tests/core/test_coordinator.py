"""What the coordinator makes of messages: the life of orders, takes, halts, settlement, money."""

from __future__ import annotations

import msgspec
import pytest

from tbot.core.account import Mode
from tbot.core.messages import (
    CancelAll,
    CancelRefused,
    ClientOrderId,
    Command,
    Halt,
    LimitLearned,
    OrderState,
    OrderType,
    RejectCode,
    Settlement,
    Side,
    SubmitOrder,
    Throttled,
    TradeStatus,
)
from tbot.core.orders import OrderStatus
from tbot.core.refusals import HALTS, HOLD_MS
from tbot.core.units import MICRO, Notional
from tests.core.coordinators import (
    CASH,
    LIMITS,
    NO,
    YES,
    Desk,
    ask,
    bid,
    cancels,
    dollars,
    eid,
    listed,
    lookup,
    money,
    questions,
    shares,
    submits,
    trading_desk,
)

# The life of a submit.


def test_quote_becomes_a_post_only_order_and_rests() -> None:
    desk = trading_desk()
    (order,) = desk.quote(bid(0.45))
    assert (order.order_type, order.is_post_only, order.price, order.size) == (
        OrderType.GTC,
        True,
        dollars(0.45),
        shares(10),
    )
    assert desk.status(order) is OrderStatus.INTENDED
    desk.prepare(order)
    assert desk.status(order) is OrderStatus.PREPARED
    desk.accept(order)
    assert desk.status(order) is OrderStatus.LIVE
    assert desk.counts["submitted"] == desk.counts["accepted"] == 1
    assert desk.decide() == ()


def test_fill_that_races_the_reply_has_an_owner() -> None:
    desk = trading_desk()
    (order,) = desk.quote(bid(0.45))
    desk.prepare(order)
    desk.fill(order, 10)
    assert desk.status(order) is OrderStatus.FILLED
    desk.accept(order)
    assert desk.status(order) is OrderStatus.FILLED
    assert (desk.counts["accepted"], desk.counts["filled"]) == (1, 1)
    assert desk.core.account.held(YES) == shares(10)


def test_accepted_twice_counts_once_however_it_is_told() -> None:
    desk = trading_desk()
    (order,) = desk.quote(bid(0.45))
    desk.prepare(order)
    desk.update(order, OrderState.LIVE)
    desk.accept(order)
    desk.accept(order)
    assert desk.counts["accepted"] == 1


def test_fill_after_cancel_is_booked_and_never_reopens_the_order() -> None:
    desk = trading_desk()
    (order,) = desk.live(bid(0.45))
    (cancel,) = cancels(desk.tell(CancelAll(at_ns=desk.now)))
    desk.canceled(cancel)
    desk.fill(order, 4)
    assert desk.status(order) is OrderStatus.CANCELED
    assert desk.core.account.held(YES) == shares(4)


def test_cancelled_order_keeps_its_room_until_the_exchange_says_what_had_matched() -> None:
    desk = trading_desk()
    (order,) = desk.live(bid(0.45))
    desk.quote()
    desk.canceled(order)
    assert desk.core.account.buys_open() == money(4.50)
    desk.update(order, OrderState.CANCELED, matched=4)
    assert desk.order(order).size_open == shares(4)
    desk.fill(order, 4)
    assert desk.core.account.buys_open() == 0


def test_silence_after_a_cancel_asks_and_a_report_frees_the_room() -> None:
    desk = trading_desk()
    (order,) = desk.live(bid(0.45))
    desk.quote()
    desk.canceled(order)
    desk.wait(2.1)
    assert questions(tuple(desk.commands))[-1].order_ids == (eid(order),)
    desk.report(lookups=(lookup(order, OrderState.CANCELED),))
    assert desk.core.account.buys_open() == 0


def test_refused_cancel_is_a_doubt_that_the_fills_settle() -> None:
    desk = trading_desk()
    (order,) = desk.live(bid(0.45))
    (cancel,) = cancels(desk.tell(CancelAll(at_ns=desk.now)))
    desk.absorb(CancelRefused(exchange_order_id=eid(order), reason="already matched", at_ns=desk.now))
    assert desk.status(order) is OrderStatus.UNKNOWN
    desk.wait(1)
    assert eid(order) in questions(tuple(desk.commands))[-1].order_ids
    desk.fill(order, 10)
    assert desk.status(cancel) is OrderStatus.FILLED


def test_throttled_cancel_is_repeated_after_the_wait_it_was_told() -> None:
    desk = trading_desk()
    (order,) = desk.live(bid(0.45))
    assert len(cancels(desk.tell(CancelAll(at_ns=desk.now)))) == 1
    throttled = Throttled(exchange_order_id=eid(order), retry_after_s=5.0, at_ns=desk.now)
    assert cancels(desk.tell(throttled)) == ()
    assert desk.status(order) is OrderStatus.LIVE
    assert desk.core.wake_ns(desk.now) <= desk.now + 5 * 10**9
    desk.wait(4.9)
    before = len(desk.commands)
    desk.wait(0.2)
    assert len(cancels(tuple(desk.commands[before:]))) == 1


def test_throttled_cancel_of_a_doubtful_order_leaves_the_doubt() -> None:
    desk = trading_desk()
    (order,) = desk.quote(bid(0.45))
    desk.lose_reply(order)
    assert len(cancels(desk.tell(CancelAll(at_ns=desk.now)))) == 1
    desk.absorb(Throttled(exchange_order_id=eid(order), retry_after_s=1.0, at_ns=desk.now))
    assert desk.status(order) is OrderStatus.UNKNOWN


def test_cancel_that_left_no_trace_is_sent_again() -> None:
    desk = trading_desk()
    (order,) = desk.live(bid(0.45))
    assert len(cancels(desk.tell(CancelAll(at_ns=desk.now)))) == 1
    desk.report(listed(order))
    assert desk.status(order) is OrderStatus.CANCELING  # it may be on its way
    desk.wait(2.1)
    assert eid(order) in questions(tuple(desk.commands))[-1].order_ids
    assert len(cancels(desk.report(listed(order)))) == 1


LASTING = {RejectCode.DUPLICATE, RejectCode.CANCEL_ONLY, RejectCode.TRADING_DISABLED, *HALTS}


@pytest.mark.parametrize("code", [c for c in RejectCode if c not in LASTING])
def test_rejected_order_is_over_and_its_side_waits(code: RejectCode) -> None:
    desk = trading_desk()
    (order,) = desk.quote(bid(0.45))
    desk.prepare(order)
    desk.reject(order, code)
    assert desk.status(order) is OrderStatus.REJECTED
    again = submits(desk.decide())
    assert len(again) == (1 if code is RejectCode.EXPIRED_UNSENT else 0)
    desk.wait(max(5_000, HOLD_MS.get(code, 0)) / 1000 + 0.1)
    assert desk.counts["submitted"] == 2


def test_duplicate_is_no_refusal_but_a_doubt() -> None:
    desk = trading_desk()
    (order,) = desk.quote(bid(0.45))
    desk.prepare(order)
    desk.reject(order, RejectCode.DUPLICATE)
    assert desk.status(order) is OrderStatus.UNKNOWN
    assert desk.quote(bid(0.45)) == ()


def test_rejected_before_signing_frees_the_place() -> None:
    desk = trading_desk()
    (order,) = desk.quote(bid(0.45))
    desk.reject(order, RejectCode.EXPIRED_UNSENT)
    assert desk.status(order) is OrderStatus.REJECTED
    assert len(submits(desk.decide())) == 1


def test_overfill_halts() -> None:
    desk = trading_desk()
    (order,) = desk.live(bid(0.45))
    desk.fill(order, 10.01)
    assert desk.mode() is Mode.TRADING
    desk.fill(order, 0.01)
    assert desk.mode() is Mode.HALTED
    assert "filled beyond target" in desk.core.account.halt_reason


def test_dust_left_over_is_filled() -> None:
    desk = trading_desk()
    (order,) = desk.live(bid(0.45))
    desk.fill(order, 9.990001)
    assert desk.status(order) is OrderStatus.FILLED


def test_order_update_of_a_stranger_changes_nothing() -> None:
    desk = trading_desk()
    before = desk.core.state()
    (order,) = trading_desk().quote(bid(0.45))
    order = msgspec.structs.replace(order, client_order_id=ClientOrderId("9-9"))
    for state in OrderState:
        desk.update(order, state, 5)
    desk.accept(order)
    desk.absorb(Throttled(exchange_order_id=eid(order), retry_after_s=1.0, at_ns=desk.now))
    desk.absorb(CancelRefused(exchange_order_id=eid(order), reason="not found", at_ns=desk.now))
    desk.canceled(order)
    desk.reject(order)
    desk.lose_reply(order)
    assert desk.core.state() == before


def test_settled_order_that_is_still_listed_is_cancelled_again() -> None:
    desk = trading_desk()
    (order,) = desk.live(bid(0.45))
    desk.quote()
    desk.update(order, OrderState.CANCELED)
    desk.wait(1)
    desk.report(listed(order))
    assert desk.core.account.buys_open() == money(4.5)  # once may be lag, but its room is not free
    desk.wait(2)
    (cancel,) = cancels(desk.report(listed(order)))
    assert cancel.exchange_order_id == eid(order)
    assert not desk.is_quiet()
    desk.wait(1)
    desk.report()
    assert desk.is_quiet()
    assert desk.status(order) is OrderStatus.CANCELED
    assert desk.core.account.buys_open() == 0


# Settlement.


def test_failed_trade_is_undone_everywhere_and_the_side_is_quoted_again() -> None:
    desk = trading_desk()
    (order,) = desk.live(bid(0.45))
    fill = desk.fill(order, 10)
    desk.update(order, OrderState.MATCHED, matched=10)
    desk.quote()
    desk.tell(TradeStatus(trade_id=fill.trade_id, settlement=Settlement.FAILED, received_ns=desk.now))
    ledger = desk.core.account.ledger
    assert ledger is not None
    assert (ledger.cash, desk.core.account.held(YES), desk.counts["reversed"]) == (CASH, 0, 1)
    assert desk.order(order).size_filled == desk.order(order).size_open == 0
    # The exchange may go on saying that it matched; that is no fill under way.
    desk.update(order, OrderState.MATCHED, matched=10)
    assert desk.order(order).size_open == 0
    assert len(desk.quote(bid(0.45))) == 1


def test_trade_that_failed_before_its_fill_was_told_leaves_nothing_pending() -> None:
    desk = trading_desk()
    (order,) = desk.live(bid(0.45))
    desk.update(order, OrderState.CANCELED, matched=10)
    fill = desk.fill_of(order, 10)
    desk.tell(TradeStatus(trade_id=fill.trade_id, settlement=Settlement.FAILED, received_ns=desk.now))
    desk.absorb(fill)
    assert desk.order(order).size_open == 0
    assert desk.core.account.held(YES) == 0


def test_repeated_fill_books_once_and_tells_its_reversal() -> None:
    desk = trading_desk()
    (order,) = desk.live(bid(0.45, 20))
    fill = desk.fill(order, 10)
    desk.absorb(msgspec.structs.replace(fill, settlement=Settlement.MINED))
    assert desk.order(order).size_filled == shares(10)
    desk.absorb(msgspec.structs.replace(fill, settlement=Settlement.FAILED))
    assert (desk.order(order).size_filled, desk.counts["reversed"]) == (0, 1)


def test_slow_trade_is_asked_for() -> None:
    desk = trading_desk()
    (order,) = desk.live(bid(0.45))
    fill = desk.fill(order, 10)
    desk.quote()
    for _ in range(13):
        desk.wait(5)
        desk.report(ago_s=0.1)
    asked = questions(tuple(desk.commands))[-1]
    assert asked.reason == "a trade does not settle"
    assert asked.since_ns < fill.received_ns


def test_volume_fees_and_roles_are_counted() -> None:
    desk = trading_desk(holding=20)
    (order,) = desk.live(ask(0.55))
    desk.fill(order, 10)
    desk.quote()
    (taken,) = submits(desk.take(Side.BUY, 0.54))
    desk.accept(taken, OrderState.MATCHED)
    desk.fill(taken, 10)
    counts = desk.counts
    assert (counts["fills_buy"], counts["fills_sell"], counts["fills_maker"], counts["fills_taker"]) == (2, 1, 2, 1)
    assert counts["volume_micro"] == 8 * MICRO + dollars(5.5) + dollars(5.4)
    snapshot = desk.core.account.snapshot(desk.now)
    assert (snapshot.fees, snapshot.mode) == (Notional(1_000), "TRADING")


# What strategies and people are told.


def test_strategies_see_their_own_room() -> None:
    desk = trading_desk(holding=20)
    (order,) = desk.live(bid(0.45))
    desk.fill(order, 10)
    yes, no, *_ = desk.core.account.views(desk.now)
    assert (yes.token_id, yes.size, yes.size_sellable) == (YES, shares(30), shares(20))
    assert yes.entry == (8_000_000 + 4_500_000) // 30
    assert (yes.room_buy, no.room_buy) == (shares(1_970), shares(2_000))
    assert yes.cash_free == LIMITS.exposure_max - money(12.5)
    assert yes.is_trading
    assert (no.size, no.entry) == (0, 0)


def test_strategies_see_that_nothing_may_be_sent() -> None:
    desk = Desk()
    assert not any(view.is_trading or view.cash_free for view in desk.core.account.views(desk.now))
    desk = trading_desk()
    desk.tell(Halt(reason="by hand", at_ns=desk.now))
    assert not any(view.is_trading for view in desk.core.account.views(desk.now))


def test_snapshot_says_what_is_held_and_what_rests() -> None:
    desk = trading_desk(holding=20)
    desk.live(bid(0.45))
    snapshot = desk.core.account.snapshot(desk.now)
    rows = {row.token_id: row for row in snapshot.positions}
    assert (rows[YES].size, rows[YES].mark, rows[NO].size) == (shares(20), dollars(0.50), 0)
    assert [(o.price, o.status) for o in snapshot.orders] == [(dollars(0.45), "LIVE")]
    assert (snapshot.pnl, snapshot.cash) == (money(2), CASH - money(8))
    assert Desk().core.account.snapshot(desk.now).positions == ()


def test_one_message_can_be_handled_in_one_step() -> None:
    desk = trading_desk()
    (order,) = desk.live(bid(0.45))
    (cancel,) = cancels(desk.tell(CancelAll(at_ns=desk.now)))
    assert cancel.client_order_id == order.client_order_id


# What the exchange lets us do.


def learned(desk: Desk, open_orders_max: int) -> tuple[Command, ...]:
    return desk.tell(LimitLearned(open_orders_max=open_orders_max, at_ns=desk.now))


def four_bids(desk: Desk) -> tuple[SubmitOrder, ...]:
    return desk.live(*(bid(0.45 - n / 100, level=n) for n in range(4)))


def test_no_more_orders_rest_than_the_exchange_lets_us_cancel_at_once() -> None:
    desk = trading_desk()
    learned(desk, 3)
    assert len(desk.quote(*(bid(0.45 - n / 100, level=n) for n in range(4)))) == 3


def test_lowered_limit_takes_the_outermost_orders_away_and_does_not_place_them_again() -> None:
    desk = trading_desk()
    orders = four_bids(desk)
    pulled = cancels(learned(desk, 2))
    assert {cancel.client_order_id for cancel in pulled} == {order.client_order_id for order in orders[2:]}
    for cancel in pulled:
        desk.canceled(cancel)
    for _ in range(5):
        desk.wait(1)
    assert len(desk.core.orders.active()) == 2
    assert len(submits(tuple(desk.commands))) == 4


def test_limit_that_rises_again_is_used_up_to_the_configured_one() -> None:
    desk = trading_desk(limits=msgspec.structs.replace(LIMITS, open_orders_max=3))
    learned(desk, 1)
    assert len(desk.quote(*(bid(0.45 - n / 100, level=n) for n in range(4)))) == 1
    assert len(submits(learned(desk, 1_000))) == 2
    assert desk.core.account.limits.open_orders_max == 3


def test_takes_count_in_the_limit_and_are_never_its_surplus() -> None:
    desk = trading_desk()
    (take,) = submits(desk.take(Side.BUY, 0.55))
    desk.prepare(take)
    assert cancels(learned(desk, 1)) == ()


def test_refusal_tells_of_the_exchange_even_when_its_order_is_in_doubt_already() -> None:
    desk = trading_desk()
    (order,) = desk.quote(bid(0.45))
    desk.lose_reply(order)
    desk.reject(order, RejectCode.CANCEL_ONLY)
    assert desk.status(order) is OrderStatus.UNKNOWN
    assert desk.quote(bid(0.45), token=NO) == ()
    assert desk.core.account.exchange_mode.code is RejectCode.CANCEL_ONLY
