"""What a report may touch, and how much evidence it takes."""

from __future__ import annotations

import msgspec
import pytest

from tbot.core.messages import (
    CancelRefused,
    ExchangeOrderId,
    ExchangeReport,
    OrderState,
    Settlement,
    SubmitOrder,
    Withdraw,
)
from tbot.core.orders import OrderStatus
from tbot.core.reconcile import LANDING_HORIZON_NS, news_of
from tbot.core.units import Nanos
from tests.core.coordinators import (
    MAKER,
    NO,
    YES,
    Desk,
    bid,
    cancels,
    eid,
    listed,
    lookup,
    money,
    questions,
    shares,
    trading_desk,
)


def resting() -> tuple[Desk, SubmitOrder]:
    desk = trading_desk()
    (order,) = desk.live(bid(0.45))
    desk.wait(1)
    return desk, order


def doubtful() -> tuple[Desk, SubmitOrder]:
    """A submit without an answer that nobody wants any more."""
    desk = trading_desk()
    (order,) = desk.quote(bid(0.45))
    desk.lose_reply(order)
    desk.wait(1)
    return desk, order


# News.


def test_report_of_known_fills_is_no_news_and_a_new_settlement_is() -> None:
    desk, order = resting()
    told = desk.fill(order, 4)
    new = desk.fill_of(order, 6)
    report = ExchangeReport(
        requested_ns=Nanos(1),
        received_ns=Nanos(2),
        open_orders=(),
        fills=(told, new),
        lookups=(),
        balances=(),
        cash=money(0),
    )
    ledger = desk.core.account.ledger
    assert news_of(report, ledger).fills == (new,)
    later = msgspec.structs.replace(report, fills=(msgspec.structs.replace(told, settlement=Settlement.CONFIRMED),))
    assert news_of(later, ledger) == later
    assert news_of(report, None) == report


# Absence.


def test_missing_once_changes_nothing_but_asks() -> None:
    desk, order = resting()
    (question,) = questions(desk.report())
    assert question.order_ids == (eid(order),)
    assert desk.status(order) is OrderStatus.LIVE


def test_missing_twice_is_a_doubt() -> None:
    desk, order = resting()
    desk.report()
    desk.wait(1)
    desk.report()
    assert desk.status(order) is OrderStatus.UNKNOWN
    assert desk.core.account.buys_open() == money(4.5)


def test_listed_between_is_not_missing_twice() -> None:
    desk, order = resting()
    for orders in ((), (listed(order),), ()):
        desk.report(*orders)
        desk.wait(1)
    assert desk.status(order) is OrderStatus.LIVE


def test_report_told_twice_counts_once() -> None:
    desk, order = resting()
    desk.report()
    desk.report()
    desk.report(ago_s=0.5)
    assert desk.order(order).missing == 1


def test_unknown_id_is_a_doubt_at_once_and_lost_after_two_look_ups() -> None:
    desk, order = resting()
    desk.report()
    desk.wait(1)
    desk.report(lookups=(lookup(order, None),))
    assert desk.status(order) is OrderStatus.UNKNOWN
    desk.wait(1)
    desk.report(lookups=(lookup(order, None),))
    assert desk.status(order) is OrderStatus.LOST  # it was accepted, so it ended; but nobody said so


def test_unconfirmed_order_is_lost_only_after_two_look_ups_and_the_horizon() -> None:
    desk, order = doubtful()
    while desk.now - desk.order(order).sent_ns < LANDING_HORIZON_NS:  # counted from the copy that leaves meanwhile
        desk.report(lookups=(lookup(order, None),))
        assert desk.status(order) is OrderStatus.UNKNOWN
        desk.wait(1)
    assert desk.order(order).resends == 1
    desk.report(lookups=(lookup(order, None),))
    assert desk.status(order) is OrderStatus.LOST
    assert desk.order(order).size_open == 0
    assert desk.counts["submitted"] == 2  # the side is quoted again


def test_horizon_alone_loses_nothing() -> None:
    desk, order = doubtful()
    desk.wait(61)
    desk.report(lookups=(lookup(order, None),))
    assert desk.status(order) is OrderStatus.UNKNOWN


def test_doubtful_order_that_is_unwanted_can_still_be_lost() -> None:
    desk, order = doubtful()
    desk.quote()
    for _ in range(40):  # every cancel is refused, and every look-up finds nothing
        for cancel in cancels(desk.decide()):
            desk.absorb(CancelRefused(exchange_order_id=cancel.exchange_order_id, reason="not found", at_ns=desk.now))
        desk.wait(1.7)
        desk.report(ago_s=0.2, lookups=(lookup(order, None),))
    assert desk.status(order) is OrderStatus.LOST


def test_late_landing_is_live_again_and_cancelled_if_unwanted() -> None:
    desk, order = doubtful()
    desk.quote()
    desk.lose_reply(cancels(tuple(desk.commands))[-1])
    for _ in range(2):
        desk.wait(61)
        desk.report(lookups=(lookup(order, None),))
    assert desk.status(order) is OrderStatus.LOST
    desk.wait(3)
    (cancel,) = cancels(desk.report(listed(order)))
    assert cancel.exchange_order_id == eid(order)
    assert desk.status(order) is OrderStatus.CANCELING


def test_lost_order_stays_lost_while_nobody_knows_it() -> None:
    desk, order = doubtful()
    for _ in range(4):
        desk.wait(61)
        desk.report(lookups=(lookup(order, None),))
    assert desk.status(order) is OrderStatus.LOST
    desk.wait(1)
    desk.report(lookups=(lookup(order, OrderState.CANCELED, 10),))
    assert desk.order(order).size_open == shares(10)  # it did trade, and its fills are asked for


def test_fill_brings_a_lost_order_back_into_doubt() -> None:
    desk, order = doubtful()
    for _ in range(2):
        desk.wait(61)
        desk.report(lookups=(lookup(order, None),))
    desk.fill(order, 4)
    assert desk.status(order) is OrderStatus.UNKNOWN
    assert desk.order(order).size_open == shares(6)


def test_silent_dispatcher_is_found_out() -> None:
    desk = trading_desk()
    (order,) = desk.quote(bid(0.45))
    desk.prepare(order)
    desk.wait(2.1)
    assert questions(tuple(desk.commands))[-1].order_ids == (eid(order),)
    desk.report(lookups=(lookup(order, None),))
    assert desk.status(order) is OrderStatus.UNKNOWN


# Evidence.


def test_listed_order_is_live_and_its_claim_is_kept() -> None:
    desk, order = doubtful()
    desk.report(listed(order, 4))
    assert desk.status(order) is OrderStatus.LIVE
    assert desk.order(order).size_pending == shares(4)
    assert (desk.counts["corrected"], desk.counts["accepted"]) == (1, 1)


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (OrderState.LIVE, OrderStatus.LIVE),
        (OrderState.DELAYED, OrderStatus.UNKNOWN),
        (OrderState.CANCELED, OrderStatus.CANCELED),
        (OrderState.INVALID, OrderStatus.CANCELED),
        (OrderState.MATCHED, OrderStatus.CANCELED),
    ],
)
def test_look_up_settles_a_doubt(state: OrderState, status: OrderStatus) -> None:
    desk, order = doubtful()
    desk.report(lookups=(lookup(order, state),))
    assert desk.status(order) is status


def test_matched_order_ends_with_its_fills() -> None:
    desk, order = doubtful()
    desk.report(lookups=(lookup(order, OrderState.MATCHED, 10),))
    assert desk.status(order) is OrderStatus.UNKNOWN
    fill = desk.fill_of(order, 10)
    desk.wait(1)
    desk.report(fills=(fill,))
    assert desk.status(order) is OrderStatus.FILLED
    assert desk.core.account.held(YES) == shares(10)


def test_cancelled_with_claims_waits_for_the_fills() -> None:
    desk, order = doubtful()
    desk.report(lookups=(lookup(order, OrderState.CANCELED, 4),))
    assert (desk.status(order), desk.order(order).size_open) == (OrderStatus.CANCELED, shares(4))
    desk.wait(2.1)
    assert questions(tuple(desk.commands))[-1].order_ids == (eid(order),)
    desk.fill(order, 4)
    assert desk.order(order).size_open == 0


def test_fill_of_a_report_is_booked_once() -> None:
    desk, order = resting()
    fill = desk.fill(order, 4)
    desk.wait(1)
    desk.report(listed(order, 4), fills=(fill,))
    desk.report(listed(order, 4), fills=(fill,))
    assert desk.order(order).size_filled == shares(4)


# Old news.


def test_report_asked_for_before_a_newer_fact_touches_nothing() -> None:
    desk, order = resting()
    before = desk.order(order).fact_ns
    desk.fill(order, 4)
    assert desk.order(order).fact_ns > before
    desk.report(ago_s=0.5, lookups=(lookup(order, OrderState.CANCELED, 9),))
    assert (desk.status(order), desk.order(order).size_claimed) == (OrderStatus.LIVE, shares(4))


def test_report_asked_for_before_the_submit_does_not_miss_it() -> None:
    desk = trading_desk()
    (order,) = desk.live(bid(0.45))
    desk.report(ago_s=0.1)
    assert desk.order(order).missing == 0


def test_listing_from_before_a_cancel_does_not_undo_it() -> None:
    desk, order = resting()
    desk.quote()
    desk.canceled(order)
    desk.report(listed(order), ago_s=0.5)
    assert (desk.status(order), desk.order(order).still_listed) == (OrderStatus.CANCELED, 0)


def test_foreign_orders_are_counted_and_left_alone() -> None:
    desk, order = resting()
    foreign = msgspec.structs.replace(listed(order), exchange_order_id=ExchangeOrderId("theirs"))
    assert cancels(desk.report(listed(order), foreign)) == ()
    assert desk.counts["foreign_orders"] == 1
    desk.wait(1)
    desk.report(listed(order))
    assert desk.counts["foreign_orders"] == 0


# Forgetting.


def test_reports_reach_back_to_the_last_one_and_to_what_has_not_settled() -> None:
    desk, order = resting()
    first = desk.core.account.reported_ns
    desk.wait(60)
    desk.lose_reply(cancels(desk.quote() or tuple(desk.commands))[-1])
    desk.decide()
    assert questions(tuple(desk.commands))[-1].since_ns == first - 10 * 10**9
    fill = desk.fill(order, 4)
    desk.wait(300)
    desk.report()
    desk.wait(300)
    assert questions(tuple(desk.commands))[-1].since_ns == fill.received_ns - 10 * 10**9


def test_what_is_over_is_forgotten_but_never_what_a_report_may_still_tell() -> None:
    desk = trading_desk()
    (pending,) = desk.live(bid(0.45))
    (done,) = desk.live(bid(0.45), token=NO)
    unsettled = desk.fill(pending, 10)
    told = desk.fill(done, 10, settlement=Settlement.CONFIRMED)
    desk.tell(Withdraw(strategy=MAKER, at_ns=desk.now))
    for _ in range(3):
        desk.wait(3_600)
        desk.report(fills=(told,))  # told again, long after; booked once all the same
        assert desk.core.account.held(NO) == shares(10)
    assert desk.core.account.held(YES) == shares(10)
    desk.report(fills=(msgspec.structs.replace(unsettled, settlement=Settlement.CONFIRMED),))
    desk.wait(1)
    desk.report()
    assert len(desk.core.orders) == 0
    assert desk.core.account.held(YES) == shares(10)
