"""Taker delays, ticks that change by themselves, and games that start: the pure engine."""

from __future__ import annotations

import msgspec
import pytest

from tbot.core.market import MarketId, TokenId
from tbot.core.messages import ExchangeOrderId, OrderState, OrderType, Side
from tbot.core.units import MICRO, NANOS_PER_S, Nanos, Notional, Price, Size
from tbot.exchanges.simulated.checks import TEXT_FAK, TEXT_FOK, TEXT_MARKET_NOT_READY
from tbot.exchanges.simulated.events import BookShown, OrderChange, OrderChanged, TickChanged, TopChanged
from tbot.exchanges.simulated.matching import Engine
from tbot.exchanges.simulated.operations import (
    CancelEvery,
    CancelOrders,
    CancelResult,
    ChangeTick,
    CloseMarket,
    Deposit,
    Done,
    EndReason,
    EngineSettings,
    MarketRules,
    OpenMarket,
    PauseMarket,
    Placed,
    Refused,
    ReopenMarket,
    ResolveMarket,
    SplitPair,
)
from tbot.exchanges.simulated.resting import ALREADY_ENDED
from tests.exchanges.simulated.desk import ANN, BOB, EVE, NO, RAIN, SNOW, START, YES, Bench

BUY, SELL = Side.BUY, Side.SELL
FAST = msgspec.structs.replace(RAIN, taker_delay_ms=250)
SPORT = msgspec.structs.replace(RAIN, seconds_delay=3)
OTHER = msgspec.structs.replace(SNOW, market_id=MarketId("hail"), yes=TokenId("hail-yes"), no=TokenId("hail-no"))


@pytest.fixture(params=[FAST, SPORT], ids=["milliseconds", "seconds"])
def bench(request: pytest.FixtureRequest) -> Bench:
    return Bench(request.param)


def hold_s(bench: Bench) -> float:
    return bench.engine.rules(RAIN.market_id).taker_delay_ns / NANOS_PER_S


def take(bench: Bench, shares: float = 10, *, order_type: OrderType = OrderType.GTC) -> Placed:
    """Let Bob buy at 0.50, which must be held."""
    is_budget = order_type in (OrderType.FAK, OrderType.FOK)
    reply = bench.place(
        BOB, BUY, YES, "0.50", 0 if is_budget else shares, dollars=shares / 2 if is_budget else 0, order_type=order_type
    )
    assert isinstance(reply, Placed)
    assert (reply.state, reply.size_matched, reply.trade_ids) == (OrderState.DELAYED, 0, ())
    return reply


def told(bench: Bench, order_id: ExchangeOrderId) -> list[tuple[OrderChange, OrderState]]:
    events = [e for e in bench.events if isinstance(e, OrderChanged) and e.order.order_id == order_id]
    return [(e.change, e.order.state) for e in events]


def reason(bench: Bench, order_id: ExchangeOrderId) -> EndReason:
    order = bench.engine.order(order_id)
    assert order is not None
    return order.reason


# --- taker delay -----------------------------------------------------------------------------------------------------


def test_an_order_that_would_take_is_held_and_then_matched(bench: Bench) -> None:
    bench.rest(ANN, SELL, YES, "0.50", 10)
    order_id = take(bench).order_id
    assert bench.wait(hold_s(bench) - 0.001) == ()
    assert bench.engine.trades == ()
    bench.wait(0.002)
    verdict = bench.engine.verdict(order_id)
    assert isinstance(verdict, Placed)
    assert (verdict.state, verdict.size_matched, verdict.is_unmatched) == (OrderState.MATCHED, 10 * MICRO, False)
    assert told(bench, order_id) == [
        (OrderChange.PLACEMENT, OrderState.DELAYED),
        (OrderChange.UPDATE, OrderState.MATCHED),
    ]


def test_what_rests_or_is_post_only_is_never_held(bench: Bench) -> None:
    bench.rest(ANN, SELL, YES, "0.50", 10)
    resting = bench.place(BOB, BUY, YES, "0.49", 10)
    assert isinstance(resting, Placed)
    assert resting.state is OrderState.LIVE
    quiet = bench.place(BOB, BUY, YES, "0.48", 10, is_post_only=True)
    assert isinstance(quiet, Placed)
    assert quiet.state is OrderState.LIVE
    assert isinstance(bench.place(BOB, BUY, YES, "0.50", 10, is_post_only=True), Refused)


def test_a_held_order_cannot_be_cancelled_in_any_way(bench: Bench) -> None:
    bench.rest(ANN, SELL, YES, "0.50", 10)
    order_id = take(bench).order_id
    result = bench.do(CancelOrders(account=BOB, order_ids=(order_id,)))
    assert result == CancelResult(canceled=(), not_canceled=((order_id, ALREADY_ENDED),))
    assert bench.do(CancelEvery(account=BOB)) == CancelResult(canceled=())
    assert bench.engine.open_orders(BOB) == ()
    bench.wait(hold_s(bench))
    assert len(bench.engine.trades) == 1


def test_a_held_order_binds_its_funds_until_it_is_released(bench: Bench) -> None:
    bench.rest(ANN, SELL, YES, "0.50", 16)
    held = bench.place(EVE, BUY, YES, "0.50", 16)
    assert isinstance(held, Placed)
    poor = bench.place(EVE, BUY, YES, "0.40", 5)
    assert isinstance(poor, Refused)
    assert "not enough balance" in poor.text
    bench.do(CancelOrders(account=ANN, order_ids=(ExchangeOrderId("ann-1"),)))
    bench.wait(hold_s(bench))
    (order,) = bench.engine.open_orders(EVE)
    bench.do(CancelOrders(account=EVE, order_ids=(order.order_id,)))
    assert isinstance(bench.place(EVE, BUY, YES, "0.40", 5), Placed)


def test_the_same_order_again_is_refused_while_the_first_is_held(bench: Bench) -> None:
    bench.rest(ANN, SELL, YES, "0.50", 10)
    order_id = take(bench).order_id
    again = bench.place(BOB, BUY, YES, "0.50", 10, order_id=order_id)
    assert isinstance(again, Refused)
    assert "Duplicated" in again.text


def test_a_maker_may_cancel_meanwhile_and_the_order_is_placed(bench: Bench) -> None:
    maker = bench.rest(ANN, SELL, YES, "0.50", 10)
    order_id = take(bench).order_id
    assert bench.do(CancelOrders(account=ANN, order_ids=(maker,))) == CancelResult(canceled=(maker,))
    bench.wait(hold_s(bench))
    verdict = bench.engine.verdict(order_id)
    assert isinstance(verdict, Placed)
    assert (verdict.state, verdict.is_unmatched) == (OrderState.LIVE, True)
    assert told(bench, order_id)[-1] == (OrderChange.UNMATCHED, OrderState.LIVE)
    assert [level.price for level in bench.engine.book(YES).bids] == [500_000]


def test_a_better_maker_who_came_meanwhile_is_met_first(bench: Bench) -> None:
    bench.rest(ANN, SELL, YES, "0.50", 10)
    take(bench)
    bench.rest(ANN, BUY, NO, "0.52", 10)  # a mirrored ask at 0.48
    bench.wait(hold_s(bench))
    (trade,) = bench.engine.trades
    assert trade.price == 480_000


@pytest.mark.parametrize(("order_type", "text"), [(OrderType.FAK, TEXT_FAK), (OrderType.FOK, TEXT_FOK)])
def test_an_immediate_order_that_finds_nothing_left_is_killed(bench: Bench, order_type: OrderType, text: str) -> None:
    maker = bench.rest(ANN, SELL, YES, "0.50", 10)
    order_id = take(bench, order_type=order_type).order_id
    bench.do(CancelOrders(account=ANN, order_ids=(maker,)))
    bench.wait(hold_s(bench))
    assert bench.engine.verdict(order_id) == Refused(text=text)
    order = bench.engine.order(order_id)
    assert order is not None
    assert (order.state, order.reason, order.size_matched) == (OrderState.CANCELED, EndReason.KILLED, 0)


def test_a_fok_whose_book_became_too_thin_takes_nothing(bench: Bench) -> None:
    bench.rest(ANN, SELL, YES, "0.49", 6)
    maker = bench.rest(ANN, SELL, YES, "0.50", 10)
    take(bench, order_type=OrderType.FOK)
    bench.do(CancelOrders(account=ANN, order_ids=(maker,)))
    bench.wait(hold_s(bench))
    assert bench.engine.trades == ()


def test_money_gone_meanwhile_ends_the_order(bench: Bench) -> None:
    bench.rest(ANN, SELL, YES, "0.50", 16)
    held = bench.place(EVE, BUY, YES, "0.50", 16)
    assert isinstance(held, Placed)
    bench.do(Deposit(account=EVE, cash=Notional(-5 * MICRO)))
    bench.wait(hold_s(bench))
    verdict = bench.engine.verdict(held.order_id)
    assert isinstance(verdict, Refused)
    assert "not enough balance" in verdict.text
    order = bench.engine.order(held.order_id)
    assert order is not None
    assert (order.state, order.reason) == (OrderState.CANCELED, EndReason.NOT_ENOUGH_BALANCE)
    assert bench.engine.trades == ()


CLOSES = (CloseMarket(market_id=RAIN.market_id), ResolveMarket(market_id=RAIN.market_id, yes_payout=Price(0)))


@pytest.mark.parametrize("close", CLOSES, ids=["closed", "resolved"])
def test_a_market_closed_meanwhile_ends_the_order_at_once(bench: Bench, close: CloseMarket | ResolveMarket) -> None:
    bench.rest(ANN, SELL, YES, "0.50", 10)
    order_id = take(bench).order_id
    bench.do(close)
    assert bench.engine.verdict(order_id) == Refused(text=TEXT_MARKET_NOT_READY)
    assert reason(bench, order_id) is EndReason.MARKET_RESOLVED
    assert told(bench, order_id)[1:] == [(OrderChange.CANCELLATION, OrderState.CANCELED)]
    assert not any(bench.engine._orders._reserved.values())


@pytest.mark.parametrize("shut_s", [0, 0.1, 100], ids=["open at once", "open before its time", "open after it"])
def test_a_market_closed_and_opened_again_meanwhile_knows_nothing_of_the_order(bench: Bench, shut_s: float) -> None:
    bench.rest(ANN, SELL, YES, "0.50", 10)
    order_id = take(bench).order_id
    for operation, after_s in ((CLOSES[0], 0.1), (ReopenMarket(market_id=RAIN.market_id), shut_s)):
        bench.do(operation, after_s)
    bench.rest(ANN, SELL, YES, "0.50", 10)
    before = len(bench.events)
    assert bench.wait(10) == ()
    assert (bench.engine.trades, reason(bench, order_id)) == ((), EndReason.MARKET_RESOLVED)
    other = take(bench).order_id
    bench.wait(hold_s(bench))
    assert [trade.taker_order_id for trade in bench.engine.trades] == [other]
    assert told(bench, order_id)[-1][1] is OrderState.CANCELED
    assert order_id not in {e.order.order_id for e in bench.events[before:] if isinstance(e, OrderChanged)}


def test_only_what_the_closed_market_held_ends(bench: Bench) -> None:
    bench.do(OpenMarket(rules=msgspec.structs.replace(OTHER, seconds_delay=3)))
    bench.do(SplitPair(account=ANN, market_id=OTHER.market_id, size=Size(10 * MICRO)))
    bench.rest(ANN, SELL, OTHER.yes, "0.50", 10)
    held = bench.place(BOB, BUY, OTHER.yes, "0.50", 10)
    assert isinstance(held, Placed)
    bench.do(CLOSES[0])
    bench.wait(3)
    assert [trade.taker_order_id for trade in bench.engine.trades] == [held.order_id]


def test_a_pause_ends_the_order_only_when_it_is_released(bench: Bench) -> None:
    pause, reopen = PauseMarket(market_id=RAIN.market_id), ReopenMarket(market_id=RAIN.market_id)
    bench.rest(ANN, SELL, YES, "0.50", 20)
    order_id = take(bench).order_id
    bench.do(pause, 0.1)
    bench.do(reopen, 0.1)
    bench.wait(hold_s(bench))
    assert [trade.taker_order_id for trade in bench.engine.trades] == [order_id]
    order_id = take(bench).order_id
    bench.do(pause, 0.1)
    assert bench.engine.order(order_id).state is OrderState.DELAYED  # type: ignore[union-attr]
    bench.wait(hold_s(bench))
    assert bench.engine.verdict(order_id) == Refused(text=TEXT_MARKET_NOT_READY)
    assert reason(bench, order_id) is EndReason.MARKET_PAUSED
    assert len(bench.engine.trades) == 1


def test_a_grid_that_became_coarser_meanwhile_ends_the_order(bench: Bench) -> None:
    bench.do(ChangeTick(market_id=RAIN.market_id, tick=Price(1_000)))
    bench.rest(ANN, SELL, YES, "0.50", 10)
    held = bench.place(BOB, BUY, YES, "0.501", 10)
    assert isinstance(held, Placed)
    bench.do(ChangeTick(market_id=RAIN.market_id, tick=Price(10_000)))
    bench.wait(hold_s(bench))
    order = bench.engine.order(held.order_id)
    assert order is not None
    assert (order.state, order.reason) == (OrderState.CANCELED, EndReason.OFF_GRID)


def test_a_market_has_one_kind_of_delay() -> None:
    with pytest.raises(ValueError, match="exclude each other"):
        msgspec.structs.replace(SPORT, taker_delay_ms=100)


@pytest.mark.parametrize("is_paused", [True, False])
def test_a_market_with_a_payout_is_closed(*, is_paused: bool) -> None:
    over = msgspec.structs.replace(RAIN, is_accepting_orders=False, yes_payout=Price(MICRO))
    assert Engine().apply(OpenMarket(rules=over), START)[0] == Done()
    states = {"is_accepting_orders": not is_paused, "is_paused": is_paused}
    with pytest.raises(ValueError, match="yes_payout is of a closed market"):
        msgspec.structs.replace(RAIN, yes_payout=Price(MICRO), **states)
    text = msgspec.json.encode({**msgspec.to_builtins(over), **states})
    with pytest.raises(msgspec.ValidationError, match="yes_payout is of a closed market"):
        msgspec.json.decode(text, type=MarketRules)


# --- ticks -----------------------------------------------------------------------------------------------------------


def quote(bench: Bench, bid: str, ask: str) -> None:
    bench.do(CancelEvery(account=ANN))
    bench.rest(ANN, BUY, YES, bid, 5)
    bench.rest(ANN, SELL, YES, ask, 5)


def tick(bench: Bench) -> Price:
    return bench.engine.rules(RAIN.market_id).tick


@pytest.mark.parametrize(("bid", "ask"), [("0.96", "0.98"), ("0.02", "0.04")])
def test_a_price_at_the_edge_makes_the_grid_finer_and_keeps_what_rests(bid: str, ask: str) -> None:
    bench = Bench()
    bench.events.clear()
    quote(bench, bid, ask)
    assert tick(bench) == 1_000
    (change,) = [e for e in bench.events if isinstance(e, TickChanged)]
    assert (change.tokens, change.tick_old, change.tick) == ((YES, NO), 10_000, 1_000)
    later = bench.events[bench.events.index(change) :]
    assert [e.book.token_id for e in later if isinstance(e, BookShown)] == [YES, NO]
    assert len(bench.engine.open_orders(ANN)) == 2
    assert isinstance(bench.place(BOB, BUY, YES, "0.001", 1_000), Placed)


def test_the_edge_itself_is_not_past_it() -> None:
    bench = Bench()
    quote(bench, "0.95", "0.97")
    quote(bench, "0.03", "0.05")
    assert tick(bench) == 10_000


def test_a_lonely_far_quote_changes_nothing_but_a_trade_does() -> None:
    bench = Bench()
    bench.rest(ANN, SELL, YES, "0.99", 10)
    assert tick(bench) == 10_000
    bench.place(BOB, BUY, NO, "0.01", 100)
    assert tick(bench) == 10_000
    bench.place(BOB, BUY, YES, "0.99", 10)
    assert tick(bench) == 1_000


def test_a_trade_in_the_other_token_counts_at_its_mirror() -> None:
    bench = Bench()
    bench.rest(ANN, SELL, NO, "0.50", 10)
    bench.place(BOB, BUY, NO, "0.50", 10)
    assert tick(bench) == 10_000
    bench.rest(ANN, SELL, NO, "0.98", 10)
    bench.place(BOB, BUY, NO, "0.98", 10)
    assert tick(bench) == 1_000


def test_the_grid_returns_only_where_that_is_switched_on() -> None:
    for has_return, expected in ((False, 1_000), (True, 10_000)):
        bench = Bench(settings=EngineSettings(has_tick_return=has_return))
        quote(bench, "0.96", "0.98")
        assert tick(bench) == 1_000
        quote(bench, "0.50", "0.52")
        assert tick(bench) == expected


def test_nothing_changes_where_it_is_switched_off_or_set_by_hand() -> None:
    bench = Bench(settings=EngineSettings(has_tick_change=False))
    quote(bench, "0.96", "0.98")
    assert tick(bench) == 10_000
    bench = Bench(settings=EngineSettings(has_tick_return=True))
    bench.do(ChangeTick(market_id=RAIN.market_id, tick=Price(1_000)))
    quote(bench, "0.50", "0.52")
    assert tick(bench) == 1_000


# --- games -----------------------------------------------------------------------------------------------------------

GAME = msgspec.structs.replace(
    SPORT, game_start_s=START // NANOS_PER_S + 3_600, clears_book_at_start=True, size_min=Size(MICRO)
)


def test_the_start_of_the_game_clears_the_book_of_its_market_alone() -> None:
    bench = Bench(GAME)
    mine = bench.rest(BOB, BUY, YES, "0.40", 10)
    bench.rest(ANN, SELL, YES, "0.60", 10)
    other = bench.rest(BOB, BUY, SNOW.yes, "0.40", 10)
    bench.wait(3_599.9)
    assert len(bench.engine.open_orders(BOB)) == 2
    bench.wait(0.2)
    assert [order.order_id for order in bench.engine.open_orders(BOB)] == [other]
    order = bench.engine.order(mine)
    assert order is not None
    assert (order.state, order.reason) == (OrderState.CANCELED, EndReason.GAME_STARTED)
    book = bench.engine.book(YES)
    assert (book.bids, book.asks, book.exchange_ms) == ((), (), GAME.game_start_s * 1_000)


def test_trading_goes_on_after_the_start_with_the_delay() -> None:
    bench = Bench(GAME)
    bench.wait(3_601)
    bench.rest(ANN, SELL, YES, "0.50", 10)
    take(bench)
    bench.wait(3)
    assert len(bench.engine.trades) == 1


def test_a_market_listed_after_its_game_began_is_not_cleared() -> None:
    engine = Engine()
    late = Nanos(GAME.game_start_s * NANOS_PER_S + 1)
    engine.apply(OpenMarket(rules=GAME), late)
    assert engine.next_due_ns() is None


def test_a_book_cleared_at_the_start_needs_a_start() -> None:
    with pytest.raises(ValueError, match="needs game_start_s"):
        msgspec.structs.replace(RAIN, clears_book_at_start=True)


# --- what the public is told -----------------------------------------------------------------------------------------


def test_the_top_is_told_after_a_trade_and_when_a_best_price_changes() -> None:
    bench = Bench()

    def tops() -> list[tuple[Price | None, Price | None]]:
        found = [(e.best_bid, e.best_ask) for e in bench.events if isinstance(e, TopChanged)]
        bench.events.clear()
        return found

    bench.rest(ANN, BUY, YES, "0.40", 10)
    assert tops() == [(400_000, None)]
    bench.rest(ANN, BUY, YES, "0.40", 10)  # a size at the top is no change of the top
    bench.rest(ANN, BUY, YES, "0.39", 10)
    assert tops() == []
    bench.place(BOB, SELL, YES, "0.40", 5)
    assert tops() == [(400_000, None)]


def test_settlement_does_not_touch_the_time_of_the_book() -> None:
    bench = Bench()
    bench.rest(ANN, BUY, YES, "0.40", 10)
    bench.place(BOB, SELL, YES, "0.40", 5)
    before = bench.engine.book(YES)
    assert bench.wait(10) != ()
    assert bench.engine.book(YES) == before


def test_a_hold_ends_at_its_moment_whatever_wakes_the_engine() -> None:
    def play(bench: Bench, *, is_cut: bool) -> str:
        bench.rest(ANN, SELL, YES, "0.50", 10)
        take(bench)
        if is_cut:
            bench.wait(1)
        bench.do(SplitPair(account=BOB, market_id=RAIN.market_id, size=Size(MICRO)), after_s=1 if is_cut else 2)
        bench.wait(10)
        return bench.engine.digest()

    assert play(Bench(SPORT), is_cut=False) == play(Bench(SPORT), is_cut=True)


@pytest.mark.parametrize("is_contained", [True, False])
def test_a_bug_met_by_a_timed_step_gives_up_that_step_only(is_contained: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, crashes = Bench(msgspec.structs.replace(RAIN, seconds_delay=1)), list[Exception]()
    if is_contained:
        bench.engine.on_crash = crashes.append
    maker = bench.rest(ANN, Side.SELL, YES, "0.50", 10)
    held = bench.place(BOB, Side.BUY, YES, "0.50", 10)
    assert isinstance(held, Placed)
    with monkeypatch.context() as patch:
        patch.setattr("tbot.exchanges.simulated.matching.make_deal", _raise_bug)
        if not is_contained:
            with pytest.raises(ZeroDivisionError):
                bench.wait(1)
            return
        bench.wait(1)
    assert [type(crash) for crash in crashes] == [ZeroDivisionError]
    order = bench.engine.order(held.order_id)
    assert order is not None
    assert (order.state, order.size_matched) == (OrderState.CANCELED, 0)
    assert bench.engine.verdict(held.order_id) == Refused(text="could not insert order")
    assert [o.order_id for o in bench.engine.open_orders(ANN)] == [maker]
    bench.place(EVE, Side.BUY, YES, "0.50", 10)
    bench.wait(1)
    assert [trade.taker_account for trade in bench.engine.trades] == [EVE]


def _raise_bug(*_: object, **__: object) -> None:
    raise ZeroDivisionError
