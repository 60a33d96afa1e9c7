"""Every limit refuses with its name one step beyond, and approves at the limit itself."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from tbot.core.market import TokenId
from tbot.core.messages import OrderType, Quote, Side, TopOfBook
from tbot.core.orders import Order, OrderStatus
from tbot.core.risk import Leg, Proposal, Refused, RiskApproved, RiskFacts, RiskLimits, check, crosses
from tbot.core.units import MICRO, Nanos, Notional, Price, Size
from tests.core.coordinators import (
    CENT,
    LIMITS,
    MAKER,
    MARKET,
    NO,
    OTHER_YES,
    YES,
    ask,
    bid,
    dollars,
    money,
    shares,
    some_order,
    submits,
    trading_desk,
)

BUY = Proposal(
    strategy=MAKER,
    token_id=YES,
    side=Side.BUY,
    price=dollars(0.45),
    size=shares(10),
    order_type=OrderType.GTC,
    is_post_only=True,
    slot_level=0,
    reason="quote",
)
SELL = msgspec.structs.replace(BUY, side=Side.SELL, price=dollars(0.60))
TAKE = msgspec.structs.replace(BUY, price=dollars(0.60), order_type=OrderType.FAK, is_post_only=False)
TOP = TopOfBook(token_id=YES, best_bid=dollars(0.50), best_ask=dollars(0.54), tick=CENT, is_stale=False, at_ns=Nanos(0))
FACTS = RiskFacts(
    market=MARKET,
    top=TOP,
    held=Size(0),
    sellable=shares(100),
    cost_held=Notional(0),
    buys_open=Notional(0),
    cash=money(10_000),
    rivals=(),
    active_count=0,
)


def verdict(
    proposal: Proposal, facts: dict[str, Any] | None = None, limits: dict[str, Any] | None = None, **change: Any
) -> str:
    """Name the limit that refuses; "" = approved."""
    result = check(
        msgspec.structs.replace(proposal, **change),
        msgspec.structs.replace(FACTS, **(facts or {})),
        msgspec.structs.replace(LIMITS, **(limits or {})),
    )
    return result.limit if isinstance(result, Refused) else ""


def top(**change: Any) -> dict[str, Any]:
    return {"top": msgspec.structs.replace(TOP, **change)}


def rival(token: TokenId, side: Side, price: float, size: float = 10) -> Order:
    order = some_order(side=side)
    order.token_id, order.price, order.size = token, dollars(price), shares(size)
    return order


def test_approval_carries_the_very_proposal() -> None:
    assert check(BUY, FACTS, LIMITS) == RiskApproved(proposal=BUY)


@pytest.mark.parametrize(
    ("limit", "at", "beyond"),
    [
        ("order_size_max", verdict(BUY, size=shares(1_000)), verdict(BUY, size=shares(1_000.01))),
        ("size_min", verdict(BUY, size=shares(5)), verdict(BUY, size=shares(4.99))),
        ("size_min", verdict(BUY, size=Size(5_010_000)), verdict(BUY, size=Size(5_010_001))),
        ("size_min", verdict(TAKE, size=shares(4)), verdict(TAKE, size=Size(4_000_001))),
        ("notional_min", verdict(TAKE, price=dollars(0.50), size=shares(2)),
         verdict(TAKE, price=dollars(0.50), size=shares(1.99))),
        ("off_grid", verdict(BUY), verdict(BUY, price=Price(450_001))),
        ("off_grid", verdict(BUY, price=dollars(0.01)), verdict(BUY, price=Price(0))),
        ("off_grid", verdict(SELL, price=dollars(0.99)), verdict(SELL, price=dollars(1))),
        ("market_closed", verdict(BUY),
         verdict(BUY, {"market": msgspec.structs.replace(MARKET, is_accepting_orders=False)})),
        ("stale_book", verdict(BUY), verdict(BUY, top(is_stale=True))),
        ("would_take", verdict(BUY, price=dollars(0.53)), verdict(BUY, price=dollars(0.54))),
        ("would_take", verdict(SELL, price=dollars(0.51)), verdict(SELL, price=dollars(0.50))),
        ("collar", verdict(TAKE, price=dollars(0.64)), verdict(TAKE, price=dollars(0.65))),
        ("collar", verdict(TAKE, side=Side.SELL, price=dollars(0.40)),
         verdict(TAKE, side=Side.SELL, price=dollars(0.39))),
        ("open_orders_max", verdict(BUY, {"active_count": 29}), verdict(BUY, {"active_count": 30})),
        ("position_size_max", verdict(BUY, {"held": shares(1_990)}), verdict(BUY, {"held": Size(1_990_000_001)})),
        ("position_size_max", verdict(BUY, {"rivals": [rival(YES, Side.BUY, 0.4, 1_990)]}),
         verdict(BUY, {"rivals": [rival(YES, Side.BUY, 0.4, 1_990.01)]})),
        ("exposure_max", verdict(BUY, {"cost_held": money(4_995.5)}),
         verdict(BUY, {"cost_held": Notional(4_995_500_001)})),
        ("exposure_max", verdict(BUY, {"buys_open": money(4_995.5)}),
         verdict(BUY, {"buys_open": Notional(4_995_500_001)})),
        ("cash", verdict(BUY, {"cash": money(4.5)}), verdict(BUY, {"cash": Notional(4_499_999)})),
        ("cash", verdict(BUY, {"cash": money(9.5), "buys_open": money(5)}),
         verdict(BUY, {"cash": money(9.5), "buys_open": Notional(5_000_001)})),
        ("sellable", verdict(SELL, {"sellable": shares(10)}), verdict(SELL, {"sellable": Size(9_999_999)})),
    ],
)  # fmt: skip
def test_limit_holds_at_its_edge_and_names_itself_beyond(limit: str, at: str, beyond: str) -> None:
    assert (at, beyond) == ("", limit)


def test_taker_fee_counts_against_the_cash() -> None:
    # 10 shares at 0.60 cost 6 dollars and 0.096 in fees (4 % of p x (1 - p)).
    assert verdict(TAKE, {"cash": Notional(6_096_000)}) == ""
    assert verdict(TAKE, {"cash": Notional(6_095_999)}) == "cash"


def test_cheap_shares_of_an_immediate_buy_count_as_many_as_its_budget_gets() -> None:
    # A budget of 6 dollars buys 12 shares when the best ask is 0.50.
    facts = {"held": shares(1_989), **top(best_ask=dollars(0.50))}
    assert verdict(TAKE, facts) == "position_size_max"
    assert verdict(TAKE, {**facts, "held": shares(1_988)}) == ""


def test_resting_orders_of_the_other_outcome_take_no_room_of_this_token() -> None:
    assert verdict(BUY, {"rivals": [rival(NO, Side.BUY, 0.4, 1_999)]}) == ""


def test_one_sided_book_has_no_collar() -> None:
    assert verdict(TAKE, top(best_ask=None)) == ""
    assert verdict(TAKE, top(best_bid=None), side=Side.SELL, price=dollars(0.02), size=shares(50)) == ""


SIDES = list(itertools.product((YES, NO), Side, (YES, NO), Side))


@pytest.mark.parametrize(("token", "side", "token_rival", "side_rival"), SIDES)
def test_own_orders_cross_over_both_outcomes(
    token: TokenId, side: Side, token_rival: TokenId, side_rival: Side
) -> None:
    """In YES terms every order is a bid or an ask; a bid meets an ask at or below it, whoever holds which token."""
    is_bid = (token == YES) is (side is Side.BUY)
    is_bid_rival = (token_rival == YES) is (side_rival is Side.BUY)
    for price, price_rival in itertools.product(range(10_000, MICRO, 70_000), repeat=2):
        one, two = Leg(token, side, Price(price)), Leg(token_rival, side_rival, Price(price_rival))
        yes, yes_rival = (p if t == YES else MICRO - p for t, p in ((token, price), (token_rival, price_rival)))
        meets = yes >= yes_rival if is_bid else yes <= yes_rival
        expected = is_bid is not is_bid_rival and meets
        assert crosses(MARKET, one, two) is expected
        assert crosses(MARKET, two, one) is expected


def test_orders_of_two_markets_never_cross() -> None:
    one, two = Leg(YES, Side.BUY, dollars(0.9)), Leg(OTHER_YES, Side.SELL, dollars(0.1))
    assert not crosses(MARKET, one, two)
    assert not crosses(MARKET, two, one)


@pytest.mark.parametrize("status", OrderStatus)
def test_rival_that_may_trade_refuses_a_cross(status: OrderStatus) -> None:
    order = rival(NO, Side.BUY, 0.55)
    order.status = status
    assert verdict(BUY, {"rivals": [order]}) == ("self_cross" if order.is_active else "")


def test_two_immediate_orders_never_meet() -> None:
    order = rival(NO, Side.BUY, 0.55)
    order.order_type = OrderType.FAK
    assert verdict(BUY, {"rivals": [order]}) == "self_cross"
    assert verdict(TAKE, {"rivals": [order]}) == ""


# The facts the coordinator gathers.


def test_unknown_orders_count_fully() -> None:
    desk = trading_desk(limits=msgspec.structs.replace(LIMITS, exposure_max=money(9)))
    (order,) = desk.quote(*_buys(1))
    desk.lose_reply(order)
    assert len(desk.quote(*_buys(2), token=NO)) == 1  # 4.50 in doubt, 4.50 more: at the limit
    assert desk.quote(*_buys(1), token=OTHER_YES) == ()
    assert list(desk.core.account.refusals) == ["exposure_max"]


def test_two_orders_of_one_turn_cannot_pass_one_limit() -> None:
    desk = trading_desk(limits=msgspec.structs.replace(LIMITS, exposure_max=money(13)))
    assert len(desk.quote(*_buys(4))) == 2


def test_shares_promised_to_one_sell_are_not_promised_to_another() -> None:
    desk = trading_desk(holding=15)
    (order,) = desk.quote(ask(0.60), ask(0.61, level=1))
    assert desk.core.account.sellable(YES) == shares(5)
    desk.lose_reply(order)
    assert desk.core.account.sellable(YES) == shares(5)


def test_shares_not_settled_cannot_be_sold() -> None:
    desk = trading_desk()
    (order,) = desk.live(*_buys(1))
    desk.fill(order, 10)
    assert submits(desk.take(Side.SELL, 0.45)) == ()
    assert desk.core.account.refusals == {"sellable": 1}


def test_nothing_is_sent_before_the_book_is_known() -> None:
    desk = trading_desk()
    desk.core.account.tops.clear()
    assert desk.quote(*_buys(1)) == ()
    assert desk.core.account.risk_facts(YES) is None


def test_oversold_token_takes_nothing_off_the_exposure() -> None:
    desk = trading_desk(holding=10)
    (order,) = desk.live(ask(0.60))
    (bought,) = desk.live(*_buys(1), token=OTHER_YES)
    desk.fill(bought, 10)
    assert desk.core.account.cost_held() == money(8.5)
    desk.fill(order, 10)
    desk.fill(order, 10)  # more than we had: halts, and earns no room either
    assert desk.core.account.cost_held() == money(4.5)


def test_limits_are_data() -> None:
    assert msgspec.json.decode(msgspec.json.encode(LIMITS), type=RiskLimits) == LIMITS


def _buys(count: int) -> list[Quote]:
    return [bid(0.45 - n / 100, level=n) for n in range(count)]
