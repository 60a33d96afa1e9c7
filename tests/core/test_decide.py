"""What a turn decides: takes before quotes, halts before all, and what the operator may ask for."""

from __future__ import annotations

import msgspec

from tbot.core.account import Mode
from tbot.core.messages import (
    CancelAll,
    CancelRefused,
    Flatten,
    Halt,
    OrderState,
    OrderType,
    RejectCode,
    Resume,
    Settlement,
    Side,
    Stop,
    TradeId,
    TradeStatus,
    Withdraw,
)
from tbot.core.orders import OrderStatus
from tbot.core.units import NANOS_PER_S, Nanos
from tests.core.coordinators import (
    LIMITS,
    MAKER,
    NO,
    OTHER_NO,
    OTHER_YES,
    TAKER,
    YES,
    accepted,
    ask,
    bid,
    cancels,
    dollars,
    eid,
    lookup,
    money,
    prepared,
    shares,
    submits,
    trading_desk,
)

# Immediate orders and takes.


def test_take_is_one_immediate_order_and_never_two() -> None:
    desk = trading_desk()
    (order,) = submits(desk.take(Side.BUY, 0.55))
    assert (order.order_type, order.is_post_only, order.price) == (OrderType.FAK, False, dollars(0.55))
    desk.reject(order, RejectCode.NOT_FILLED)
    assert submits(desk.decide()) == ()
    desk.wait(0.5)
    assert desk.counts["submitted"] == 1


def test_takes_of_one_strategy_are_told_apart() -> None:
    desk = trading_desk(holding=10)
    # The first cannot be sent (nothing like that many to sell), the second can: only the second is done with.
    assert submits(desk.take(Side.SELL, 0.45, 100)) == ()
    assert len(submits(desk.take(Side.BUY, 0.55))) == 1
    assert submits(desk.decide()) == ()
    assert [take.side for take in desk.core.account.takes] == [Side.SELL]


def test_take_goes_before_quotes() -> None:
    desk = trading_desk()
    desk.top(YES, 0.50, 0.54, is_stale=True)
    desk.quote(bid(0.45))
    assert submits(desk.take(Side.BUY, 0.55)) == ()
    desk.top(YES, 0.50, 0.54)
    assert [o.order_type for o in submits(desk.decide())] == [OrderType.FAK, OrderType.GTC]


def test_late_take_expires_unsent() -> None:
    desk = trading_desk()
    desk.top(YES, 0.50, 0.54, is_stale=True)
    desk.take(Side.BUY, 0.55, valid_s=1)
    desk.wait(1.1)
    desk.top(YES, 0.50, 0.54)
    assert submits(desk.decide()) == ()


def test_take_waits_for_own_crossing_orders_to_go() -> None:
    desk = trading_desk(holding=50)
    (order,) = desk.live(ask(0.55))
    commands = desk.take(Side.BUY, 0.56)
    (cancel,) = cancels(commands)
    assert (submits(commands), cancel.reason) == ((), "in the way of a take")
    desk.canceled(order)
    (taken,) = submits(desk.decide())  # and the quote is not put back in its way
    assert taken.order_type is OrderType.FAK


def test_waiting_take_keeps_new_crossing_quotes_off_the_book() -> None:
    desk = trading_desk(holding=50)
    (order,) = desk.live(ask(0.55))
    desk.take(Side.BUY, 0.56)
    assert desk.quote(ask(0.55), ask(0.56, level=1)) == ()
    desk.canceled(order)
    assert [o.order_type for o in submits(desk.decide())] == [OrderType.FAK]


def test_expired_take_pulls_no_quotes() -> None:
    desk = trading_desk(holding=50)
    desk.top(YES, 0.50, 0.54, is_stale=True)
    desk.take(Side.BUY, 0.56, valid_s=1)
    desk.wait(2)
    desk.top(YES, 0.50, 0.54)
    (order,) = desk.live(ask(0.55))
    assert desk.decide() == ()
    assert desk.status(order) is OrderStatus.LIVE


def test_take_leaves_the_orders_of_other_markets_alone() -> None:
    desk = trading_desk()
    desk.live(bid(0.49), token=OTHER_NO)
    assert cancels(desk.take(Side.BUY, 0.55)) == ()


def test_both_legs_of_an_arbitrage_go_at_once() -> None:
    desk = trading_desk()
    assert len(submits(desk.take(Side.BUY, 0.55, token=YES))) == 1
    assert len(submits(desk.take(Side.BUY, 0.55, token=NO))) == 1


def test_withdraw_forgets_takes_and_pulls_quotes() -> None:
    desk = trading_desk()
    (order,) = desk.live(bid(0.45))
    desk.take(Side.BUY, 0.55, 1_001)
    desk.absorb(Withdraw(strategy=TAKER, at_ns=desk.now))
    assert desk.decide() == ()
    assert desk.core.account.takes == []
    (cancel,) = cancels(desk.tell(Withdraw(strategy=MAKER, at_ns=desk.now)))
    assert cancel.client_order_id == order.client_order_id


def test_immediate_order_ends_with_its_fills_not_with_the_word_matched() -> None:
    desk = trading_desk()
    (order,) = submits(desk.take(Side.BUY, 0.55))
    desk.accept(order, OrderState.MATCHED)
    desk.update(order, OrderState.MATCHED, matched=6)
    assert desk.status(order) is OrderStatus.LIVE
    assert desk.order(order).size_open == shares(6)
    desk.fill(order, 6)
    assert desk.status(order) is OrderStatus.CANCELED  # the rest never rests


def test_immediate_buy_is_bound_by_its_budget_not_by_its_shares() -> None:
    desk = trading_desk()
    (order,) = submits(desk.take(Side.BUY, 0.60, 100))
    desk.accept(order, OrderState.MATCHED)
    desk.fill(order, 100, price=0.54)
    assert desk.status(order) is OrderStatus.LIVE
    assert desk.core.account.buys_open() == money(6)
    desk.fill(order, 11.11, price=0.54)
    assert desk.mode() is Mode.TRADING
    assert desk.status(order) is OrderStatus.FILLED
    desk.fill(order, 2, price=0.54)
    assert desk.mode() is Mode.HALTED


def test_delayed_immediate_order_is_asked_for_until_it_ends() -> None:
    desk = trading_desk()
    (order,) = submits(desk.take(Side.BUY, 0.55))
    desk.accept(order, OrderState.DELAYED)
    desk.wait(2.1)
    assert cancels(tuple(desk.commands))[-1].exchange_order_id == eid(order)
    desk.absorb(CancelRefused(exchange_order_id=eid(order), reason="delayed", at_ns=desk.now))
    desk.report(lookups=(lookup(order, OrderState.DELAYED),))
    assert desk.order(order).is_active
    desk.wait(1)
    desk.report(fills=(desk.fill_of(order, 10),), lookups=(lookup(order, OrderState.MATCHED, 10),))
    desk.wait(1)
    desk.report(lookups=(lookup(order, OrderState.MATCHED, 10),))
    assert desk.status(order) in (OrderStatus.FILLED, OrderStatus.CANCELED)


# States of the feed and the strategies.


def test_stale_book_pulls_its_quotes_and_only_its_own() -> None:
    desk = trading_desk()
    (order,) = desk.live(bid(0.45))
    desk.live(bid(0.45), token=OTHER_YES)
    desk.top(YES, 0.50, 0.54, is_stale=True)
    assert [c.client_order_id for c in cancels(desk.decide())] == [order.client_order_id]


def test_lapsed_quotes_are_pulled() -> None:
    desk = trading_desk()
    (order,) = desk.quote(bid(0.45), valid_s=3)
    desk.accept(order)
    assert desk.core.wake_ns(Nanos(desk.now + 2_500_000_000)) == desk.now + 3_000_000_001
    desk.wait(3)
    assert desk.status(order) is OrderStatus.LIVE
    desk.wait(0.001)
    assert desk.status(order) is OrderStatus.CANCELING


def test_messages_about_unknown_tokens_do_no_harm() -> None:
    desk = trading_desk()
    stranger = type(YES)("stranger")
    desk.top(stranger, 0.5, 0.6)
    assert desk.quote(bid(0.45), token=stranger) == ()
    assert submits(desk.take(Side.BUY, 0.55, token=stranger)) == ()
    assert submits(desk.tell(Flatten(slippage_ticks=1, at_ns=desk.now))) == ()


def test_room_in_the_lanes_limits_a_turn_and_nothing_is_lost() -> None:
    desk = trading_desk()
    desk.top(YES, 0.50, 0.54, is_stale=True)
    desk.quote(*(bid(0.40 + n / 100, level=n) for n in range(4)))
    desk.top(YES, 0.50, 0.54)
    assert len(submits(desk.decide(submits_max=3))) == 3
    assert len(submits(desk.decide(submits_max=3))) == 1
    for order in desk.core.orders:
        desk.absorb(prepared(order.client_order_id, desk.now))
        desk.absorb(accepted(order.client_order_id, desk.now))
    desk.absorb(CancelAll(at_ns=desk.now))
    assert [len(cancels(desk.decide(cancels_max=3))) for _ in range(3)] == [3, 1, 0]


# Halts and the operator.


def test_loss_limit_halts_and_pulls_everything() -> None:
    desk = trading_desk(holding=1000)
    (order,) = desk.live(bid(0.45))
    desk.top(YES, 0.30, 0.34)
    assert desk.decide() == ()  # 100 lost: at the limit
    desk.top(YES, 0.29, 0.34)
    commands = desk.decide()
    assert isinstance(commands[0], Halt)
    assert cancels(commands)[0].client_order_id == order.client_order_id
    assert desk.quote(bid(0.2)) == ()


def test_empty_book_is_no_total_loss() -> None:
    desk = trading_desk(holding=1000)
    desk.top(YES, None, None)
    desk.decide()
    assert desk.mode() is Mode.TRADING


def test_resume_counts_the_loss_from_here() -> None:
    desk = trading_desk(holding=1000)
    desk.top(YES, 0.25, 0.34)
    desk.decide()
    desk.tell(Resume(at_ns=desk.now))
    assert desk.mode() is Mode.TRADING
    assert desk.core.account.loss() == 0
    desk.top(YES, 0.16, 0.34)
    desk.decide()
    assert desk.mode() is Mode.TRADING
    desk.top(YES, 0.14, 0.34)
    desk.decide()
    assert desk.mode() is Mode.HALTED


def test_a_halt_for_another_reason_forgives_no_loss_when_it_ends() -> None:
    desk = trading_desk()
    (order,) = desk.live(bid(0.50, 300))
    desk.fill(order, 300, settlement=Settlement.CONFIRMED)
    (sale,) = desk.quote(ask(0.51, 300))
    desk.accept(sale)
    desk.fill(sale, 300, price=0.20, settlement=Settlement.CONFIRMED)
    desk.tell(Halt(reason="the exchange refuses our signatures", at_ns=desk.now))
    desk.tell(Resume(at_ns=desk.now))
    assert desk.mode() is Mode.TRADING
    assert desk.core.account.loss() == 90_000_000
    (order,) = desk.live(bid(0.50, 100))
    desk.fill(order, 100, settlement=Settlement.CONFIRMED)
    desk.top(YES, 0.39, 0.54)
    desk.decide()
    assert "loss limit: 101 lost, limit 100" in desk.core.account.halt_reason


def test_first_halt_reason_stands() -> None:
    desk = trading_desk()
    desk.tell(Halt(reason="first", at_ns=desk.now), Halt(reason="second", at_ns=desk.now))
    assert desk.core.account.halt_reason == "first"


def test_cancel_all_pulls_once_and_quotes_come_back() -> None:
    desk = trading_desk()
    (order,) = desk.live(bid(0.45))
    (cancel,) = cancels(desk.tell(CancelAll(at_ns=desk.now)))
    desk.canceled(cancel)
    (again,) = submits(desk.decide())
    assert again.price == order.price


def test_cancel_all_reaches_orders_on_their_way() -> None:
    desk = trading_desk()
    (order,) = desk.quote(bid(0.45))
    assert cancels(desk.tell(CancelAll(at_ns=desk.now))) == ()
    desk.accept(order)
    assert len(cancels(desk.decide())) == 1


def test_flatten_sells_only_what_settled_and_never_below_the_slippage() -> None:
    desk = trading_desk(holding=20)
    (order,) = desk.live(bid(0.45))
    desk.fill(order, 10)  # not settled
    (sell,) = submits(desk.tell(Flatten(slippage_ticks=2, at_ns=desk.now)))
    assert (sell.side, sell.order_type, sell.size, sell.price) == (Side.SELL, OrderType.FAK, shares(20), dollars(0.48))
    assert desk.mode() is Mode.HALTED
    desk.accept(sell, OrderState.MATCHED)
    desk.fill(sell, 20, price=0.50)
    desk.wait(2)
    desk.absorb(TradeStatus(trade_id=TradeId("t2"), settlement=Settlement.MINED, received_ns=desk.now))
    (rest,) = submits(desk.decide())
    assert rest.size == shares(10)


def test_flatten_without_buyers_tries_once_a_second() -> None:
    desk = trading_desk(holding=20)
    (sell,) = submits(desk.tell(Flatten(slippage_ticks=1, at_ns=desk.now)))
    desk.prepare(sell)
    desk.update(sell, OrderState.CANCELED)
    assert submits(desk.decide()) == ()
    desk.wait(1)
    assert desk.counts["submitted"] == 3  # the purchase, the first try, the second


def test_flatten_beyond_the_collar_sells_at_the_collar() -> None:
    desk = trading_desk(holding=20)
    (sell,) = submits(desk.tell(Flatten(slippage_ticks=40, at_ns=desk.now)))
    assert sell.price == dollars(0.50) - LIMITS.collar


def test_stop_cancels_submits_nothing_and_ends_quiet() -> None:
    desk = trading_desk()
    (order,) = desk.live(bid(0.45))
    commands = desk.tell(Stop(at_ns=desk.now))
    assert len(cancels(commands)) == 1
    assert not desk.is_quiet()
    desk.canceled(order)
    assert submits(desk.quote(bid(0.45))) == ()
    assert desk.is_quiet()
    assert desk.mode() is Mode.STOPPING


# Orders with an end.


def test_quotes_end_by_themselves_where_the_limits_say_so_and_takes_do_not() -> None:
    desk = trading_desk(limits=msgspec.structs.replace(LIMITS, order_life_s=300), holding=50)
    (quote,) = desk.quote(bid(0.45))
    (take,) = submits(desk.take(Side.BUY, 0.55))
    assert (quote.order_type, quote.expires_ns) == (OrderType.GTD, desk.now + 300 * NANOS_PER_S)
    assert (take.order_type, take.expires_ns) == (OrderType.FAK, 0)


def test_quotes_rest_without_end_by_default() -> None:
    (quote,) = trading_desk().quote(bid(0.45))
    assert (quote.order_type, quote.expires_ns) == (OrderType.GTC, 0)


def test_quote_that_ended_on_the_exchange_is_placed_anew() -> None:
    desk = trading_desk(limits=msgspec.structs.replace(LIMITS, order_life_s=300))
    (first,) = desk.live(bid(0.45))
    desk.wait(301)
    desk.update(first, OrderState.CANCELED)
    (second,) = [order for order in submits(desk.decide()) if order.client_order_id != first.client_order_id]
    assert (second.price, second.expires_ns) == (first.price, desk.now + 300 * NANOS_PER_S)
