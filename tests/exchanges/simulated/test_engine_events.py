"""What the engine tells of its orders and books, of ends by time and by cancel."""

from __future__ import annotations

import uuid
from collections import Counter

import pytest

from tbot.core.market import TokenId
from tbot.core.messages import ExchangeOrderId, OrderState, OrderType, Side
from tbot.core.units import MICRO, Price
from tbot.exchanges.simulated.events import (
    BookShown,
    LevelsChanged,
    OrderChange,
    OrderChanged,
    TickChanged,
    TopChanged,
    TradeChanged,
    TradePrinted,
)
from tbot.exchanges.simulated.operations import CancelEvery, CancelOrders, CancelResult, ChangeTick, EndReason, Placed
from tbot.exchanges.simulated.trades import id_of
from tests.exchanges.simulated.desk import ANN, BOB, NO, RAIN, SNOW, YES, Bench

BUY, SELL = Side.BUY, Side.SELL


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_timed_order_dies_a_minute_before_its_stated_end(bench: Bench) -> None:
    reply = bench.place(BOB, BUY, YES, "0.40", 10, order_type=OrderType.GTD, life_s=180)
    assert isinstance(reply, Placed)
    bench.wait(119.9)
    assert len(bench.engine.open_orders(BOB)) == 1
    ended = bench.wait(0.2)[0]
    assert isinstance(ended, OrderChanged)
    assert (ended.change, ended.order.reason) == (OrderChange.CANCELLATION, EndReason.EXPIRED)


def test_cancels_tell_what_they_could_not_cancel(bench: Bench) -> None:
    mine, theirs = bench.rest(BOB, BUY, YES, "0.40", 10), bench.rest(ANN, BUY, YES, "0.40", 10)
    ids = (mine, theirs, ExchangeOrderId("unknown"), mine)
    result = bench.do(CancelOrders(account=BOB, order_ids=ids))
    assert result == CancelResult(
        canceled=(mine,),
        not_canceled=(
            (theirs, "Order not found or already canceled"),
            (ExchangeOrderId("unknown"), "Order not found or already canceled"),
        ),
    )
    again = bench.do(CancelOrders(account=BOB, order_ids=(mine,)))
    assert again == CancelResult(
        canceled=(), not_canceled=((mine, "order can't be found - already canceled or matched"),)
    )


def test_mass_cancels_keep_to_their_market_and_token(bench: Bench) -> None:
    ids = [bench.rest(BOB, BUY, token, "0.40", 10) for token in (YES, NO, SNOW.yes)]
    one = bench.do(CancelEvery(account=BOB, token_id=NO))
    market = bench.do(CancelEvery(account=BOB, market_id=RAIN.market_id))
    rest = bench.do(CancelEvery(account=BOB))
    assert [r.canceled for r in (one, market, rest) if isinstance(r, CancelResult)] == [(ids[1],), (ids[0],), (ids[2],)]


def test_an_account_sees_all_its_orders_in_every_state(bench: Bench) -> None:
    ids = [bench.rest(BOB, BUY, YES, price, 10) for price in ("0.40", "0.41", "0.42")]
    bench.do(CancelOrders(account=BOB, order_ids=(ids[0],)))
    bench.place(ANN, SELL, YES, "0.42", 10)
    states = [(o.order_id, o.state) for o in bench.engine.orders_of(BOB)]
    assert states == list(zip(ids, (OrderState.CANCELED, OrderState.LIVE, OrderState.MATCHED), strict=True))


def test_every_change_is_told_for_both_outcomes(bench: Bench) -> None:
    bench.events.clear()
    bench.rest(BOB, BUY, YES, "0.40", 10)
    (event,) = [e for e in bench.events if isinstance(e, LevelsChanged)]
    assert [(c.token_id, c.side, c.price, c.size, c.best_bid, c.best_ask) for c in event.changes] == [
        (YES, BUY, 400_000, 10 * MICRO, 400_000, None),
        (NO, SELL, 600_000, 10 * MICRO, None, 600_000),
    ]


def test_a_trade_is_printed_and_followed_by_both_books(bench: Bench) -> None:
    bench.rest(ANN, BUY, NO, "0.50", 10)
    bench.events.clear()
    bench.place(BOB, BUY, YES, "0.50", 10)
    public = [e for e in bench.events if not isinstance(e, OrderChanged | TradeChanged)]
    assert [type(e) for e in public] == [TradePrinted, LevelsChanged, BookShown, BookShown, TopChanged]
    (printed, *rest), top = public[:-1], public[-1]
    (ms,) = {e.exchange_ms for e in rest}
    assert 18 <= printed.exchange_ms - ms <= 25
    assert top.exchange_ms == ms + 1
    shown = [e.book for e in public if isinstance(e, BookShown)]
    assert [b.token_id for b in shown] == [YES, NO]
    assert {b.last_trade_text for b in shown} == {"0.500"}


@pytest.mark.parametrize(
    ("makers", "taker", "price_yes"),
    [
        ([(BUY, NO, "0.13")], (BUY, YES, "0.87"), 870_000),
        ([(BUY, YES, "0.86")], (BUY, NO, "0.14"), 860_000),
        ([(SELL, NO, "0.14")], (SELL, YES, "0.86"), 860_000),
        ([(SELL, YES, "0.87")], (BUY, YES, "0.87"), 870_000),
        ([(BUY, NO, "0.13")], (SELL, NO, "0.13"), 870_000),
        ([(BUY, NO, "0.13"), (SELL, YES, "0.87")], (BUY, YES, "0.87"), 870_000),
        ([(SELL, YES, "0.87"), (BUY, NO, "0.13")], (BUY, YES, "0.87"), 870_000),
        ([(SELL, YES, "0.86"), (BUY, NO, "0.13")], (BUY, YES, "0.87"), 870_000),
    ],
)
def test_the_last_trade_price_is_the_last_makers_own(
    bench: Bench, makers: list[tuple[Side, TokenId, str]], taker: tuple[Side, TokenId, str], price_yes: int
) -> None:
    """By the hashes captured on 2026-04-21: of a mint or merge the complement of what is printed."""
    for maker in makers:
        bench.rest(ANN, *maker, 10)
    bench.place(BOB, *taker, 10 * len(makers))
    books = [bench.engine.book(token_id) for token_id in (YES, NO)]
    assert {book.last_trade_text for book in books} == {f"{makers[-1][2]}0"}, "a value of the market"
    assert [book.last_price for book in books] == [price_yes, MICRO - price_yes]
    assert {book.last_trade_side for book in books} == {taker[0]}


def test_a_tick_change_keeps_resting_orders_and_shows_both_books(bench: Bench) -> None:
    bench.rest(BOB, BUY, YES, "0.40", 10)
    bench.events.clear()
    bench.do(ChangeTick(market_id=RAIN.market_id, tick=Price(1_000)))
    assert [type(e) for e in bench.events] == [TickChanged, BookShown, BookShown]
    assert isinstance(bench.place(BOB, BUY, YES, "0.401", 10), Placed)
    assert len(bench.engine.open_orders(BOB)) == 2


def test_the_exchanges_time_never_goes_back(bench: Bench) -> None:
    bench.place(BOB, BUY, YES, "0.40", 10)
    bench.place(BOB, BUY, YES, "0.41", 10, order_id="late")
    bench.do(CancelEvery(account=BOB), after_s=-5)
    times = [e.exchange_ms for e in bench.events if isinstance(e, LevelsChanged)]
    assert times == sorted(times)


def test_trade_ids_look_like_random_uuids() -> None:
    ids = [id_of(ExchangeOrderId(order_id), number) for order_id in ("0x1", "0x2") for number in range(300)]
    assert len(set(ids)) == len(ids)
    assert [(uuid.UUID(i).version, uuid.UUID(i).variant) for i in ids] == [(4, uuid.RFC_4122)] * len(ids)
    # No place in which all or many agree but that of the version; the variant has two bits.
    common = [max(Counter(column).values()) for column in zip(*(i.replace("-", "") for i in ids), strict=True)]
    assert [place for place, most in enumerate(common) if most > 80] == [12, 16]
