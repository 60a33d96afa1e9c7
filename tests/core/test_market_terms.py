"""Terms of a market that change while we trade: decisions follow them at once, and no order is lost."""

from __future__ import annotations

import msgspec
import pytest

from tbot.core.account import EMPTY_STATE
from tbot.core.market import FeeSchedule, Market, TokenId, difference, is_same_asset
from tbot.core.messages import CancelOrder, MarketChanged, ResendOrder, Side, SubmitOrder
from tbot.core.orders import OrderStatus
from tests.core.coordinators import (
    LIMITS,
    MARKET,
    NO,
    OTHER_YES,
    YES,
    Desk,
    bid,
    lookup,
    money,
    shares,
    submits,
    trading_desk,
)

PAUSED = msgspec.structs.replace(MARKET, is_accepting_orders=False)


def relist(desk: Desk, market: Market) -> tuple[object, ...]:
    return desk.tell(MarketChanged(market=market, at_ns=desk.now))


def test_a_market_that_takes_no_orders_is_left_and_the_others_are_not() -> None:
    desk = trading_desk()
    (order,) = desk.live(bid(0.40))
    (other,) = desk.live(bid(0.40), token=OTHER_YES)
    (cancel,) = relist(desk, PAUSED)
    assert isinstance(cancel, CancelOrder)
    assert (cancel.client_order_id, cancel.reason) == (order.client_order_id, "market takes no orders")
    assert desk.quote(bid(0.40)) == ()
    assert desk.quote(bid(0.41), token=NO) == ()
    assert not any(isinstance(command, SubmitOrder) for command in desk.take(Side.BUY, 0.60))
    assert other.client_order_id not in [c.client_order_id for c in desk.commands if isinstance(c, CancelOrder)]


def test_what_fills_while_a_market_closes_is_still_booked() -> None:
    desk = trading_desk()
    (order,) = desk.live(bid(0.40, 10))
    relist(desk, msgspec.structs.replace(PAUSED, is_closed=True, is_resolved=True))
    desk.tell(desk.fill_of(order, 4))
    assert desk.core.account.held(YES) == shares(4)
    known = desk.core.orders.of_client(order.client_order_id)
    assert known is not None
    assert known.status is OrderStatus.CANCELING
    assert any("rain: closed for good" in note for note in desk.core.account.notes)
    assert desk.replayed(0, EMPTY_STATE).core.state() == desk.core.state()


def test_a_market_that_takes_orders_again_is_quoted_again() -> None:
    desk = trading_desk()
    (order,) = desk.live(bid(0.40))
    relist(desk, PAUSED)
    desk.canceled(order)
    desk.decide()
    (again,) = [command for command in relist(desk, MARKET) if isinstance(command, SubmitOrder)]
    assert again.price == order.price


def test_the_smallest_order_and_the_fee_count_from_now_on() -> None:
    desk = trading_desk(limits=msgspec.structs.replace(LIMITS, exposure_max=money(5.10)))
    relist(desk, msgspec.structs.replace(MARKET, size_min=shares(20)))
    assert desk.quote(bid(0.40, 10)) == ()
    assert desk.core.account.refusals["size_min"] == 1
    desk.quote()
    # A take of $5 costs 0.025 * 10 * rate in fees: at a rate of 0.5 it passes the limit of $5.10.
    relist(desk, msgspec.structs.replace(MARKET, fee=FeeSchedule(rate_micro=500_000)))
    assert not any(isinstance(command, SubmitOrder) for command in desk.take(Side.BUY, 0.50))
    assert desk.core.account.refusals["exposure_max"] >= 1
    commands = relist(desk, msgspec.structs.replace(MARKET, fee=FeeSchedule(rate_micro=0)))
    assert any(isinstance(command, SubmitOrder) for command in commands)  # the take still waits


def test_orders_signed_for_the_contract_that_a_market_left_make_room_for_new_ones_and_others_stay() -> None:
    desk = trading_desk()
    (order,) = desk.live(bid(0.40))
    (other,) = desk.live(bid(0.40), token=OTHER_YES)
    moved = msgspec.structs.replace(MARKET, is_neg_risk=True)
    (cancel,) = relist(desk, moved)
    assert isinstance(cancel, CancelOrder)
    assert (cancel.client_order_id, cancel.reason) == (
        order.client_order_id,
        "signed for a contract that its market left",
    )
    desk.wait(0.1).canceled(order)
    (again,) = submits(desk.decide())
    assert (again.token_id, again.price) == (order.token_id, order.price)
    desk.accept(again)
    desk.wait(0.1)
    relist(desk, msgspec.structs.replace(moved, fee=FeeSchedule(rate_micro=0)))
    assert [desk.status(each) for each in (again, other)] == [OrderStatus.LIVE] * 2, "signed for the contract in force"


def test_a_lost_order_of_the_contract_that_its_market_left_is_not_sent_again() -> None:
    def copies(*, is_moved: bool) -> list[ResendOrder]:
        desk = trading_desk()
        (order,) = submits(desk.quote(bid(0.40)))
        desk.prepare(order)
        desk.lose_reply(order)
        if is_moved:
            relist(desk, msgspec.structs.replace(MARKET, is_neg_risk=True))
        for _ in range(4):
            desk.wait(1.5)
            desk.report(lookups=(lookup(order, None),))
            desk.quote(bid(0.40))
        return [command for command in desk.commands if isinstance(command, ResendOrder)]

    assert copies(is_moved=False)
    assert not copies(is_moved=True)


def test_terms_of_a_market_that_is_not_ours_change_nothing() -> None:
    desk = trading_desk()
    strange = msgspec.structs.replace(PAUSED, yes=TokenId("8"), no=TokenId("9"))
    assert relist(desk, strange) == ()
    assert not desk.core.account.takes_orders(TokenId("8"))
    assert desk.core.account.takes_orders(YES)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, ""),
        ({"tick": 1_000}, ""),
        ({"is_accepting_orders": False}, "takes no orders"),
        ({"is_accepting_orders": False, "is_closed": True}, "closed"),
        ({"is_accepting_orders": False, "is_closed": True, "is_resolved": True}, "closed for good"),
        ({"fee": FeeSchedule(rate_micro=70_000)}, "taker fee 0.04 -> 0.07"),
        ({"fee": FeeSchedule(rate_micro=40_000, exponent=2)}, "taker fee 0.04 -> 0.04 to the power of 2"),
        ({"size_min": 15_000_000}, "smallest order 5 -> 15"),
        ({"notional_min": 2_000_000}, "least value 1 -> 2"),
        ({"is_neg_risk": True}, "traded on the neg-risk contract"),
    ],
)
def test_what_changed_is_told_in_a_few_words(change: dict[str, object], told: str) -> None:
    after = msgspec.structs.replace(MARKET, **change)
    assert difference(MARKET, after) == told
    assert is_same_asset(MARKET, after)
    assert not is_same_asset(MARKET, msgspec.structs.replace(after, yes=NO, no=YES))


def test_a_closed_market_opens_again_or_is_told_to_be_resolved() -> None:
    closed = msgspec.structs.replace(PAUSED, is_closed=True)
    assert difference(closed, MARKET) == "open again"
    assert difference(closed, msgspec.structs.replace(closed, is_resolved=True)) == "closed for good"
