"""The same bytes leave once more only while they are young, wanted, looked up in vain, and not judged."""

from __future__ import annotations

import math
from itertools import pairwise

import msgspec
import pytest

from tbot.core.account import EMPTY_STATE
from tbot.core.messages import (
    CancelAll,
    CancelRefused,
    ExchangeReport,
    Halt,
    OrderState,
    OrderType,
    OutcomeUnknown,
    RejectCode,
    RequestReport,
    ResendOrder,
    Side,
    SubmitOrder,
    Withdraw,
)
from tbot.core.orders import OrderStatus
from tbot.core.resend import RESEND_WITHIN_NS, RESENDS_AT_ONCE
from tbot.core.units import NANOS_PER_S, Nanos
from tests.core.coordinators import (
    LIMITS,
    MAKER,
    NO,
    OTHER_YES,
    YES,
    Desk,
    accepted,
    bid,
    cancels,
    eid,
    listed,
    lookup,
    prepared,
    saved,
    submits,
    trading_desk,
)


def copies(desk: Desk) -> list[ResendOrder]:
    """Every copy decided so far."""
    return [command for command in desk.commands if isinstance(command, ResendOrder)]


def doubtful(desk: Desk | None = None) -> tuple[Desk, SubmitOrder]:
    """A wanted quote whose POST was not answered."""
    desk = desk or trading_desk()
    (order,) = desk.quote(bid(0.45), valid_s=3_600)
    desk.lose_reply(order)
    desk.decide()
    return desk, order


def look_up(desk: Desk, order: SubmitOrder) -> None:
    """Ask for it a second later; it is not known."""
    desk.wait(1)
    desk.report(lookups=(lookup(order, None),))


def report_of(desk: Desk, order: SubmitOrder) -> ExchangeReport:
    """A report in which it is looked up in vain."""
    assert desk.core.account.ledger is not None
    return ExchangeReport(
        requested_ns=desk.now,
        received_ns=desk.now,
        open_orders=(),
        fills=(),
        lookups=(lookup(order, None),),
        balances=(),
        cash=desk.core.account.ledger.cash,
    )


def answer(desk: Desk, order: SubmitOrder, code: RejectCode | None = None, retry_after_s: float = 0) -> None:
    """Say that the copy came to nothing."""
    desk.tell(
        OutcomeUnknown(
            exchange_order_id=eid(order),
            was_cancel=False,
            reason="test",
            at_ns=desk.now,
            code=code,
            retry_after_s=retry_after_s,
        )
    )


def test_copy_is_the_same_bytes_and_leaves_after_a_look_up_in_vain() -> None:
    desk, order = doubtful()
    desk.wait(30)
    assert copies(desk) == [], "nobody has looked yet"
    look_up(desk, order)
    (copy,) = copies(desk)
    assert (copy.client_order_id, copy.exchange_order_id, copy.body) == (order.client_order_id, eid(order), b"signed")
    assert submits(tuple(desk.commands)) == (order,), "nothing is signed anew"
    assert desk.order(order).size_open == order.size, "it counts in full all the while"


@pytest.mark.parametrize("asked_s", [math.inf, math.nan, -1.0])
def test_a_wait_that_is_none_ends_nothing(asked_s: float) -> None:
    desk, order = doubtful()
    look_up(desk, order)
    answer(desk, order, RejectCode.RATE_LIMITED, retry_after_s=asked_s)
    assert len(copies(desk)) == 1


def test_no_copy_while_the_one_before_is_not_answered() -> None:
    desk, order = doubtful()
    for _ in range(20):
        look_up(desk, order)
    assert len(copies(desk)) == 1


def test_copies_get_rarer_and_end_with_the_horizon() -> None:
    desk, order = doubtful()
    signed_ns = desk.order(order).prepared_ns
    for _ in range(150):
        look_up(desk, order)
        if desk.order(order).is_resending:
            answer(desk, order)
    ages = [copy.at_ns - signed_ns for copy in copies(desk)]
    gaps = [after - before for before, after in pairwise(ages)]
    assert 5 <= len(ages) <= 12
    assert gaps == sorted(gaps)
    assert max(gaps) >= 8 * NANOS_PER_S
    assert max(ages) < RESEND_WITHIN_NS
    assert all(copy.deadline_ns <= signed_ns + RESEND_WITHIN_NS for copy in copies(desk))
    assert desk.status(order) is OrderStatus.LOST


def test_absence_is_counted_from_the_last_copy() -> None:
    desk, order = doubtful()
    while desk.status(order) is OrderStatus.UNKNOWN:
        look_up(desk, order)
        if desk.order(order).is_resending:
            answer(desk, order)
    assert desk.now - copies(desk)[-1].at_ns >= RESEND_WITHIN_NS


def test_accepted_copy_is_the_order() -> None:
    desk, order = doubtful()
    look_up(desk, order)
    desk.tell(accepted(order.client_order_id, desk.now))
    assert desk.status(order) is OrderStatus.LIVE
    assert not desk.order(order).is_resending
    assert desk.counts["submitted"] == desk.counts["accepted"] == 1


@pytest.mark.parametrize(
    "code", [RejectCode.DUPLICATE, RejectCode.NOT_ENOUGH_BALANCE, RejectCode.POST_ONLY_WOULD_CROSS, RejectCode.OTHER]
)
def test_word_of_the_exchange_on_a_copy_ends_the_copies_and_proves_nothing(code: RejectCode) -> None:
    desk, order = doubtful()
    look_up(desk, order)
    answer(desk, order, code)
    for _ in range(20):
        look_up(desk, order)
    assert len(copies(desk)) == 1
    assert desk.status(order) is OrderStatus.UNKNOWN
    desk.wait(1)
    desk.report(listed(order))
    assert desk.status(order) is OrderStatus.LIVE


@pytest.mark.parametrize("code", [RejectCode.RATE_LIMITED, RejectCode.RESTARTING, RejectCode.CANCEL_ONLY])
def test_refusal_of_the_moment_holds_copies_and_orders_back_as_told(code: RejectCode) -> None:
    desk, order = doubtful()
    look_up(desk, order)
    answer(desk, order, code, retry_after_s=20)
    told_ns = desk.now
    assert desk.quote(bid(0.45), token=OTHER_YES) == (), "what a copy meets concerns every order"
    while desk.now - told_ns < 30 * NANOS_PER_S:
        look_up(desk, order)
    (_, second) = copies(desk)
    assert second.at_ns - told_ns >= 20 * NANOS_PER_S


def test_order_that_is_not_wanted_any_more_is_cancelled_not_copied() -> None:
    desk, order = doubtful()
    desk.quote(bid(0.30))
    (cancel,) = cancels(tuple(desk.commands))
    assert cancel.exchange_order_id == eid(order)
    desk.absorb(CancelRefused(exchange_order_id=eid(order), reason="not found", at_ns=desk.now))
    desk.quote(bid(0.45), valid_s=3_600)  # wanted again: but the copy could come after the cancel
    for _ in range(10):
        look_up(desk, order)
    assert copies(desk) == []


@pytest.mark.parametrize("end", ["doomed", "lapsed", "withdrawn", "halted", "stale", "moved"])
def test_nothing_is_copied_that_should_not_rest(end: str) -> None:
    desk, order = doubtful()
    match end:
        case "doomed":
            desk.absorb(CancelAll(at_ns=desk.now))
        case "lapsed":
            desk.quote(bid(0.45), valid_s=0)
        case "withdrawn":
            desk.absorb(Withdraw(strategy=MAKER, at_ns=desk.now))
        case "halted":
            desk.absorb(Halt(reason="test", at_ns=desk.now))
        case "stale":
            desk.top(YES, 0.50, 0.54, is_stale=True)
        case _:
            desk.quote(bid(0.46), valid_s=3_600)
    for _ in range(10):
        look_up(desk, order)
    assert copies(desk) == []


def test_take_is_copied_before_its_deadline_and_never_after() -> None:
    for life_s, count in ((5, 0), (1, 1)):
        desk = trading_desk()
        (order,) = submits(desk.take(Side.BUY, 0.55))
        desk.lose_reply(order)
        desk.decide()
        desk.wait(life_s)
        desk.report(lookups=(lookup(order, None),))
        assert len(copies(desk)) == count
        assert all(copy.deadline_ns <= order.deadline_ns for copy in copies(desk))


def test_order_with_an_end_is_not_sent_again_after_it() -> None:
    desk = trading_desk(limits=msgspec.structs.replace(LIMITS, order_life_s=20))
    desk, order = doubtful(desk)
    assert (order.order_type, order.expires_ns) == (OrderType.GTD, order.at_ns + 20 * NANOS_PER_S)
    for _ in range(60):
        look_up(desk, order)
        if desk.order(order).is_resending:
            answer(desk, order)
    assert len(copies(desk)) >= 3
    assert all(copy.at_ns < order.expires_ns >= copy.deadline_ns for copy in copies(desk))


def test_trace_of_the_order_ends_the_copies() -> None:
    desk, order = doubtful()
    desk.update(order, OrderState.LIVE)
    desk.wait(1)
    desk.report()
    desk.wait(1)
    desk.report()
    assert desk.status(order) is OrderStatus.UNKNOWN  # it is listed no more
    look_up(desk, order)
    assert copies(desk) == []


def test_only_some_copies_leave_at_once() -> None:
    desk = trading_desk()
    orders: list[SubmitOrder] = []
    for token in (YES, NO, OTHER_YES):
        orders += desk.quote(*(bid(0.40 + n / 100, level=n) for n in range(3)), token=token, valid_s=3_600)
    for order in orders:
        desk.lose_reply(order)
    desk.decide()
    desk.wait(1)
    desk.report(lookups=tuple(lookup(order, None) for order in orders))
    assert len(copies(desk)) == RESENDS_AT_ONCE
    answer(desk, orders[0])
    assert len(copies(desk)) == RESENDS_AT_ONCE + 1


def test_no_room_at_the_dispatcher_no_copy() -> None:
    desk, order = doubtful()
    desk.now = Nanos(desk.now + NANOS_PER_S)
    desk.core.absorb(report_of(desk, order), desk.now)
    assert not [c for c in desk.decide(submits_max=0) if isinstance(c, ResendOrder)]
    assert [c for c in desk.decide(submits_max=1) if isinstance(c, ResendOrder)]


def test_after_a_crash_what_is_in_doubt_is_cancelled_not_sent_again() -> None:
    desk, order = doubtful()
    look_up(desk, order)
    again = desk.crash()
    assert not again.order(order).is_resending, "its answer will never come"
    (cancel,) = cancels(again.decide())
    assert cancel.exchange_order_id == eid(order)
    again.absorb(CancelRefused(exchange_order_id=eid(order), reason="not found", at_ns=again.now))
    again.top(YES, 0.50, 0.54)
    again.report()
    again.quote(bid(0.45), valid_s=3_600)
    for _ in range(5):
        look_up(again, order)
    assert copies(again) == []
    assert submits(tuple(again.commands)) == (), "its place is taken until its fate is known"


def test_order_prepared_when_we_crashed_is_not_sent_again() -> None:
    desk = trading_desk()
    (order,) = desk.quote(bid(0.45))
    again = desk.replayed(0, EMPTY_STATE)
    again.recover(prepared(order.client_order_id, again.now))
    again.top(YES, 0.50, 0.54)
    for _ in range(3):
        look_up(again, order)
    assert cancels(tuple(again.commands))
    assert copies(again) == []


def test_take_dies_with_the_life_that_asked_for_it() -> None:
    desk = trading_desk()
    (order,) = submits(desk.take(Side.BUY, 0.55))
    desk.lose_reply(order)
    again = desk.crash()
    again.top(YES, 0.50, 0.54)
    again.report()
    look_up(again, order)
    assert again.now <= order.deadline_ns
    assert copies(again) == []


def test_copies_survive_a_checkpoint_and_a_replay() -> None:
    desk, order = doubtful()
    look_up(desk, order)
    again = desk.replayed(0, EMPTY_STATE)
    assert again.core.state() == saved(desk.core.state())
    resumed = desk.replayed(len(desk.journal), desk.core.state())
    assert resumed.core.state() == saved(desk.core.state())


def test_signed_bytes_are_kept_no_longer_than_they_may_be_needed() -> None:
    desk, order = doubtful()
    assert desk.order(order).body
    desk.update(order, OrderState.LIVE)
    assert not desk.order(order).body


def test_doubtful_copy_asks_for_the_order() -> None:
    desk, order = doubtful()
    look_up(desk, order)
    desk.wait(1)
    asked = [command for command in desk.commands if isinstance(command, RequestReport)]
    assert asked[-1].order_ids == (eid(order),)
