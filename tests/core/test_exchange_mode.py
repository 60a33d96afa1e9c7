"""The exchange's restricted modes, as the coordinator learns them from refusals and obeys them."""

from __future__ import annotations

import math

import pytest

from tbot.core.account import Mode
from tbot.core.exchange_mode import OPEN, WAIT_S_MAX, Permit, believed_wait_s, mode_accepted, mode_refused
from tbot.core.messages import CancelAll, OrderType, RejectCode, Rejected, Shortfall, Side, SubmitOrder, Throttled
from tbot.core.orders import OrderStatus
from tbot.core.refusals import HALTS
from tbot.core.units import NANOS_PER_S, Nanos
from tests.core.coordinators import Desk, ask, bid, cancels, eid, submits, trading_desk


@pytest.mark.parametrize(
    ("asked_s", "believed_s"),
    [(0.0, 0), (7.5, 7.5), (120.0, 120), (3_600.0, 120), (math.inf, 120), (-1.0, 0), (-math.inf, 0), (math.nan, 0)],
)
def test_a_wait_is_believed_only_as_far_as_it_is_reasonable(asked_s: float, believed_s: float) -> None:
    assert believed_wait_s(asked_s) == believed_s
    desk = trading_desk()
    (order,) = desk.live(bid(0.40))
    desk.quote()
    desk.absorb(Throttled(exchange_order_id=eid(order), retry_after_s=asked_s, at_ns=desk.now))
    before = len(desk.commands)
    desk.tell(CancelAll(at_ns=desk.now))
    desk.wait(believed_s - 0.1)
    assert bool(cancels(tuple(desk.commands[before:]))) == (believed_s == 0)
    desk.wait(0.2)
    assert len(cancels(tuple(desk.commands[before:]))) == 1


def refuse(desk: Desk, order: SubmitOrder, code: RejectCode, retry_after_s: float = 0.0) -> None:
    desk.prepare(order)
    refusal = Rejected(
        client_order_id=order.client_order_id, code=code, reason="no", at_ns=desk.now, retry_after_s=retry_after_s
    )
    desk.absorb(refusal)


def quoting(code: RejectCode, retry_after_s: float = 0.0) -> Desk:
    """Make a desk whose first of two quotes met a refusal of this kind."""
    desk = trading_desk(holding=50)
    first, second = desk.quote(bid(0.45), ask(0.57))
    refuse(desk, first, code, retry_after_s)
    refuse(desk, second, code, retry_after_s)
    return desk


def sent(desk: Desk) -> list[SubmitOrder]:
    desk.quote(bid(0.45), ask(0.57))
    return [order for order in desk.commands if isinstance(order, SubmitOrder)]


@pytest.mark.parametrize(
    ("code", "wait_s"),
    [(RejectCode.RESTARTING, 2), (RejectCode.CANCEL_ONLY, 15), (RejectCode.TRADING_DISABLED, 20)],
)
def test_nothing_is_sent_until_one_order_has_tried_the_door(code: RejectCode, wait_s: float) -> None:
    desk = quoting(code)
    assert desk.core.account.exchange_mode.until_ns == desk.now + wait_s * NANOS_PER_S
    before = len(sent(desk))
    desk.wait(wait_s - 0.1)
    assert len(sent(desk)) == before
    desk.wait(0.2)
    assert len(sent(desk)) == before + 1  # one, though two are wanted
    probe = sent(desk)[-1]
    refuse(desk, probe, code)
    desk.wait(wait_s - 0.1)
    assert len(sent(desk)) == before + 1
    desk.wait(0.2)
    probe = sent(desk)[-1]
    desk.prepare(probe)
    desk.accept(probe)
    desk.wait(0.1)
    assert len(sent(desk)) == before + 3


def test_a_restriction_is_told_to_people_once_and_shown_while_it_lasts() -> None:
    desk = quoting(RejectCode.RESTARTING)
    account = desk.core.account
    assert account.news() == ("the exchange takes: nothing (restarting)",)
    assert account.snapshot(desk.now).exchange_takes == "nothing (restarting)"
    desk.wait(2.1)
    probe = sent(desk)[-1]
    desk.prepare(probe)
    desk.accept(probe)
    assert account.news() == ("the exchange takes: post-only (post_only_mode)",)
    assert account.news() == ()
    assert account.snapshot(desk.now).exchange_takes == "post-only (post_only_mode)"
    assert trading_desk().core.account.snapshot(Nanos(0)).exchange_takes == ""


def test_a_rate_limit_and_its_end_are_shown_but_not_noted() -> None:
    desk = quoting(RejectCode.RATE_LIMITED, retry_after_s=1)
    account = desk.core.account
    assert account.snapshot(desk.now).exchange_takes == "cancels only (rate_limited)"
    desk.wait(1.1)
    assert account.snapshot(desk.now).exchange_takes == ""  # by time alone: no order need have been accepted since
    probe = sent(desk)[-1]
    desk.prepare(probe)
    desk.accept(probe)
    assert account.snapshot(desk.now).exchange_takes == ""
    assert account.news() == ()


def test_the_end_of_a_restriction_is_told_though_a_rate_limit_came_between() -> None:
    account = trading_desk().core.account
    for code in (RejectCode.CANCEL_ONLY, RejectCode.CANCEL_ONLY, RejectCode.RATE_LIMITED):
        account.enter_mode(mode_refused(OPEN, code, 1.0, Nanos(0)))
    account.enter_mode(OPEN)
    assert account.news() == ("the exchange takes: cancels only (cancel_only)", "the exchange takes: all")


def test_the_exchange_s_own_wait_is_kept_but_not_for_ever() -> None:
    desk = quoting(RejectCode.RESTARTING, retry_after_s=30)
    assert desk.core.account.exchange_mode.until_ns == desk.now + 30 * NANOS_PER_S
    mode = mode_refused(OPEN, RejectCode.RESTARTING, 1e9, Nanos(0))
    assert mode.until_ns == WAIT_S_MAX * NANOS_PER_S


def test_orders_that_could_take_wait_for_the_end_of_post_only_mode() -> None:
    desk = quoting(RejectCode.POST_ONLY_MODE, retry_after_s=79)
    before = len(sent(desk))
    desk.wait(1.1)  # the pause of the refused side
    resting = sent(desk)[before:]
    assert submits(desk.take(Side.BUY, 0.55, valid_s=200)) == ()
    assert [order.side for order in resting[-2:]] == [Side.BUY, Side.SELL]  # both again: they are post-only
    desk.wait(77)
    assert not any(order.order_type is OrderType.FAK for order in sent(desk)[before:])
    desk.wait(2)
    assert any(order.order_type is OrderType.FAK for order in sent(desk)[before:])


def test_a_restart_is_followed_by_post_only_orders_and_by_a_question() -> None:
    desk = quoting(RejectCode.RESTARTING)
    desk.take(Side.BUY, 0.55, valid_s=600)
    desk.wait(2.1)
    probe = sent(desk)[-1]
    assert probe.order_type is OrderType.GTC  # a take would be refused even if the engine is back
    desk.prepare(probe)
    desk.core.report_asked_ns = desk.now
    desk.accept(probe)
    assert desk.core.report_asked_ns == 0
    assert desk.core.account.exchange_mode.permit is Permit.POST_ONLY
    desk.wait(60)
    assert all(order.order_type is OrderType.GTC for order in sent(desk))
    desk.wait(61)
    assert any(order.order_type is OrderType.FAK for order in sent(desk))


def test_an_order_sent_before_the_refusal_opens_nothing() -> None:
    mode = mode_refused(OPEN, RejectCode.CANCEL_ONLY, 0.0, Nanos(100))
    assert mode_accepted(mode, is_post_only=True, sent_ns=Nanos(99), at_ns=Nanos(200)) is mode
    assert mode_accepted(mode, is_post_only=True, sent_ns=Nanos(101), at_ns=Nanos(200)) is OPEN


def test_cancels_are_tried_again_in_every_mode() -> None:
    desk = trading_desk()
    (order,) = desk.live(bid(0.45))
    for _ in range(5):
        assert len(cancels(desk.tell(CancelAll(at_ns=desk.now)))) == 1
        throttled = Throttled(
            exchange_order_id=eid(order), retry_after_s=1.0, at_ns=desk.now, code=RejectCode.TRADING_DISABLED
        )
        desk.absorb(throttled)
        assert desk.status(order) is OrderStatus.LIVE
        desk.now = Nanos(desk.now + NANOS_PER_S)
    assert desk.core.account.exchange_mode.permit is Permit.NOTHING


def test_a_rate_limit_ends_with_its_time_and_hides_no_restriction() -> None:
    desk = quoting(RejectCode.RATE_LIMITED, retry_after_s=3)
    before = len(sent(desk))
    desk.wait(2.9)
    assert len(sent(desk)) == before
    desk.wait(0.2)
    assert len(sent(desk)) == before + 2  # no probe: the limit says when it is over
    restarting = mode_refused(OPEN, RejectCode.RESTARTING, 0.0, Nanos(0))
    assert mode_refused(restarting, RejectCode.RATE_LIMITED, 1.0, Nanos(1)) is restarting


@pytest.mark.parametrize("code", [c for c in RejectCode if c not in (*HALTS, RejectCode.DUPLICATE)])
def test_other_refusals_halt_nothing(code: RejectCode) -> None:
    assert quoting(code).mode() is Mode.TRADING


@pytest.mark.parametrize("code", HALTS)
def test_a_refusal_that_would_come_again_for_ever_halts(code: RejectCode) -> None:
    desk = quoting(code)
    assert desk.mode() is Mode.HALTED
    assert desk.core.account.halt_reason == f"{HALTS[code]}: no"


def test_the_exchange_s_own_sum_is_noted() -> None:
    desk = trading_desk()
    (order,) = desk.quote(bid(0.45))
    desk.prepare(order)
    refusal = Rejected(
        client_order_id=order.client_order_id,
        code=RejectCode.NOT_ENOUGH_BALANCE,
        reason="not enough balance / allowance",
        at_ns=desk.now,
        shortfall=Shortfall(balance=10_000_000, active=8_000_000, matched=0, wanted=4_500_000),
    )
    desk.absorb(refusal)
    (note,) = [note for note in desk.core.account.notes if "balance" in note]
    assert note == "not enough balance: balance 10, in open orders 8, matched, not settled 0, order 4.5"
