"""What is shown follows from what is known, in YES space, without a foreign escape."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbot.core.market import Outcome
from tbot.core.messages import Side
from tbot.core.units import MICRO, NANOS_PER_S, Nanos, Price
from tbot.ui.status import NOTES_MAX, STARTING, FeedLight, MarketStatus, RunFacts, Status, status_of
from tests.ui.moments import EVIL, NOW_NS, RUN, held, is_printable, market, order, snapshot, view, words

RAIN = market()


def moment(**changes: object) -> Status:
    now = snapshot(**changes)  # type: ignore[arg-type]  # the names are checked by the call
    return status_of(now, {RAIN.market_id: view(RAIN)}, [RAIN], run=RUN, now_ns=NOW_NS)


def only(status: Status) -> MarketStatus:
    (one,) = status.markets
    return one


@pytest.mark.parametrize(
    ("token_id", "side", "shown_side", "shown_price"),
    [
        (RAIN.yes, Side.BUY, Side.BUY, 400_000),
        (RAIN.yes, Side.SELL, Side.SELL, 400_000),
        (RAIN.no, Side.BUY, Side.SELL, 600_000),
        (RAIN.no, Side.SELL, Side.BUY, 600_000),
    ],
)
def test_own_quotes_are_mirrored_into_yes_space(token_id: str, side: Side, shown_side: Side, shown_price: int) -> None:
    line = only(moment(orders=[order(token_id, side, 400_000, size=20, filled=5)]))
    (quote,) = line.bids + line.asks
    assert (quote.side, quote.price, quote.size) == (shown_side, shown_price, 15 * MICRO)
    assert quote.outcome is (Outcome.YES if token_id == RAIN.yes else Outcome.NO)
    assert (quote in line.bids) == (shown_side is Side.BUY)


@given(st.lists(st.tuples(st.sampled_from(RAIN.tokens), st.sampled_from(Side), st.integers(1, 99)), max_size=8))
def test_quotes_are_best_first_and_none_is_lost(made: list[tuple[str, Side, int]]) -> None:
    line = only(moment(orders=[order(token, side, cents * 10_000) for token, side, cents in made]))
    assert [q.price for q in line.bids] == sorted((q.price for q in line.bids), reverse=True)
    assert [q.price for q in line.asks] == sorted(q.price for q in line.asks)
    assert len(line.bids) + len(line.asks) == len(made)


def test_an_order_that_is_not_surely_resting_is_marked() -> None:
    orders = [order(RAIN.yes, Side.BUY, 10_000, status=s) for s in ("LIVE", "PREPARED", "CANCELING", "UNKNOWN")]
    assert [q.is_confirmed for q in only(moment(orders=orders)).bids] == [True, False, False, False]


def test_orders_of_other_markets_are_not_shown_here() -> None:
    assert only(moment(orders=[order("elsewhere", Side.BUY, 10_000)])).bids == ()


def test_positions_are_told_by_outcome() -> None:
    line = only(moment(positions=[held(RAIN.yes, 12), held(RAIN.no, 3)]))
    assert (line.yes, line.no) == (12 * MICRO, 3 * MICRO)


def test_before_the_first_snapshot_the_run_is_starting() -> None:
    status = status_of(None, {}, [RAIN], run=RUN, now_ns=NOW_NS)
    assert (status.mode, status.figures_age_s, status.cash, status.feed) == (STARTING, None, 0, FeedLight.STALE)
    assert only(status).data_age_s is None


@pytest.mark.parametrize(
    ("is_stale", "is_reconnecting", "light"),
    [
        (False, False, FeedLight.LIVE),
        (True, False, FeedLight.STALE),
        (False, True, FeedLight.RECONNECTING),
        (True, True, FeedLight.RECONNECTING),
    ],
)
def test_the_light_tells_the_worst(is_stale: bool, is_reconnecting: bool, light: FeedLight) -> None:
    run = msgspec.structs.replace(RUN, connects=1, is_reconnecting=is_reconnecting)
    views = {RAIN.market_id: view(RAIN, is_stale=is_stale)}
    assert status_of(snapshot(), views, [RAIN], run=run, now_ns=NOW_NS).feed is light


def test_before_the_first_connection_the_feed_connects() -> None:
    run = msgspec.structs.replace(RUN, connects=0, is_reconnecting=True)
    assert status_of(None, {}, [RAIN], run=run, now_ns=NOW_NS).feed is FeedLight.CONNECTING


def test_one_market_without_data_makes_the_feed_stale() -> None:
    views = {RAIN.market_id: view(RAIN)}
    assert status_of(snapshot(), views, [RAIN, market(1)], run=RUN, now_ns=NOW_NS).feed is FeedLight.STALE


def test_spread_is_in_ticks_and_data_has_an_age() -> None:
    line = only(moment())
    assert line.spread_ticks == 2
    assert line.data_age_s == pytest.approx(0.2)


def test_a_clock_that_is_ahead_makes_no_negative_age() -> None:
    views = {RAIN.market_id: view(RAIN, age_ms=-500)}
    early = Nanos(RUN.started_ns - 1)
    assert only(status_of(snapshot(), views, [RAIN], run=RUN, now_ns=NOW_NS)).data_age_s == 0.0
    assert status_of(snapshot(), views, [RAIN], run=RUN, now_ns=early).elapsed_s == 0.0


def test_a_side_without_levels_has_no_spread() -> None:
    empty = msgspec.structs.replace(view(RAIN), bids=())
    line = only(status_of(snapshot(), {RAIN.market_id: empty}, [RAIN], run=RUN, now_ns=NOW_NS))
    assert (line.bid, line.spread_ticks) == (None, None)


def test_newest_notes_come_first() -> None:
    notes = moment(notes=[f"note {i}" for i in range(9)]).notes
    assert notes == tuple(f"note {i}" for i in range(8, 8 - NOTES_MAX, -1))


def test_figures_of_a_dead_coordinator_grow_old() -> None:
    assert moment(at_ns=Nanos(NOW_NS - 4 * NANOS_PER_S)).figures_age_s == pytest.approx(4.0)


def test_counts_are_sorted_and_zeros_left_out() -> None:
    run = RunFacts(
        command="sim",
        setting="seed 7  speed real",
        started_ns=Nanos(0),
        duration_s=60.0,
        restarts={"b": 1, "a": 2, "c": 0},
        connects=4,
    )
    status = status_of(snapshot(counts={"fills_buy": 4}), {}, [], run=run, now_ns=NOW_NS)
    assert status.restarts == (("a", 2), ("b", 1))
    assert (status.fills_buy, status.fills_sell, status.reconnects) == (4, 0, 3)


def test_the_tick_in_force_is_the_views() -> None:
    finer = msgspec.structs.replace(view(RAIN), tick=Price(1_000))
    line = only(status_of(snapshot(), {RAIN.market_id: finer}, [RAIN], run=RUN, now_ns=NOW_NS))
    assert (line.tick, line.spread_ticks) == (1_000, 20)


@given(words, words, words)
def test_no_foreign_text_keeps_a_control_character(slug: str, reason: str, note: str) -> None:
    now = snapshot(mode="HALTED", halt_reason=reason, notes=[note])
    run = msgspec.structs.replace(RUN, restarts={slug: 1})
    status = status_of(now, {}, [market(slug=slug)], run=run, now_ns=NOW_NS)
    for text in (only(status).slug, status.halt_reason, *status.notes, status.restarts[0][0]):
        assert is_printable(text)


def test_the_check_for_control_characters_can_fail() -> None:
    assert not is_printable(EVIL)
