"""The book of one token: levels, tops, states, lateness, ticks, and the exchange's hash."""

import json
from pathlib import Path
from typing import Any

import pytest

from tbot.core.book import Book, BookState
from tbot.core.book_hash import book_hash
from tbot.core.market import Market, MarketId, TokenId
from tbot.core.messages import BookDelta, BookSnapshot, Level, Side, TickSizeChanged
from tbot.core.units import Nanos, Price, Size, micro_from_text
from tbot.errors import BadFrame, OffGrid

TOKEN = TokenId("yes")
CENT, MILL = Price(10_000), Price(1_000)
VECTORS = json.loads((Path(__file__).parent / "vectors" / "book_hash.json").read_text())["cases"]

Levels = dict[float, float]


def levels(texts: Levels) -> tuple[Level, ...]:
    return tuple(Level(Price(round(p * 1e6)), Size(round(s * 1e6))) for p, s in texts.items())


def snapshot(ms: int, bids: Levels, asks: Levels, tick: Price | None = None) -> BookSnapshot:
    return BookSnapshot(
        token_id=TOKEN, bids=levels(bids), asks=levels(asks), exchange_ms=ms, received_ns=Nanos(0), tick=tick
    )


def delta(ms: int, side: Side, price: float, size: float) -> BookDelta:
    level = levels({price: size})[0]
    return BookDelta(
        token_id=TOKEN, side=side, price=level.price, size=level.size, exchange_ms=ms, received_ns=Nanos(0)
    )


def tick_change(ms: int, tick: Price) -> TickSizeChanged:
    return TickSizeChanged(token_id=TOKEN, tick=tick, exchange_ms=ms, received_ns=Nanos(0))


def book_at(ms: int = 10) -> Book:
    book = Book(CENT)
    book.apply_snapshot(snapshot(ms, {0.48: 30, 0.50: 10, 0.49: 20}, {0.54: 5, 0.52: 25, 0.53: 15}))
    return book


def test_snapshot_in_any_order_gives_tops_and_depth_best_first() -> None:
    book = book_at()
    assert (book.best_bid, book.best_ask) == (500_000, 520_000)
    assert book.depth(Side.BUY, 2) == levels({0.50: 10, 0.49: 20})
    assert book.depth(Side.SELL, 9) == levels({0.52: 25, 0.53: 15, 0.54: 5})
    assert book.depth(Side.BUY, 0) == ()
    assert book.levels(Side.SELL) == levels({0.54: 5, 0.53: 15, 0.52: 25})


def test_delta_sets_replaces_and_removes_a_level() -> None:
    book = book_at()
    assert book.apply_delta(delta(11, Side.BUY, 0.51, 7))
    assert book.best_bid == 510_000
    assert book.apply_delta(delta(12, Side.BUY, 0.51, 3))
    assert book.size_at(Side.BUY, Price(510_000)) == 3_000_000
    assert book.apply_delta(delta(13, Side.BUY, 0.51, 0))
    assert book.best_bid == 500_000
    assert book.apply_delta(delta(14, Side.BUY, 0.51, 0))
    assert book.exchange_ms == 14


@pytest.mark.parametrize(
    ("bids", "asks", "state"),
    [
        ({}, {}, BookState.EMPTY),
        ({0.4: 1}, {}, BookState.ONE_SIDED),
        ({}, {0.6: 1}, BookState.ONE_SIDED),
        ({0.5: 1}, {0.5: 1}, BookState.CROSSED),
        ({0.6: 1}, {0.5: 1}, BookState.CROSSED),
        ({0.4: 1}, {0.5: 1}, BookState.OK),
        ({0.4: 0}, {0.5: 1}, BookState.ONE_SIDED),
    ],
)
def test_state_follows_the_tops(bids: Levels, asks: Levels, state: BookState) -> None:
    book = Book(CENT)
    assert book.state == "STALE"
    book.apply_snapshot(snapshot(1, bids, asks))
    assert book.state is state


def test_marked_stale_keeps_levels_and_a_fresh_snapshot_heals() -> None:
    book = book_at(10)
    book.mark_stale()
    assert (book.state, book.best_bid) == ("STALE", 500_000)
    assert not book.apply_snapshot(snapshot(9, {0.1: 1}, {0.9: 1}))
    assert book.state == "STALE"
    assert book.apply_snapshot(snapshot(10, {0.1: 1}, {0.9: 1}))
    assert book.state == "OK"


def test_delta_of_the_snapshot_millisecond_came_before_it() -> None:
    book = book_at(10)
    assert not book.apply_delta(delta(10, Side.BUY, 0.51, 7))
    assert not book.apply_delta(delta(9, Side.BUY, 0.50, 0))
    assert book.best_bid == 500_000


def test_late_delta_never_overwrites_a_newer_one_of_its_level() -> None:
    book = book_at(10)
    book.apply_delta(delta(15, Side.BUY, 0.51, 0))
    assert not book.apply_delta(delta(12, Side.BUY, 0.51, 7))
    assert book.apply_delta(delta(12, Side.BUY, 0.47, 7))
    assert book.best_bid == 500_000
    assert book.size_at(Side.BUY, Price(470_000)) == 7_000_000


def test_late_snapshot_keeps_levels_updated_after_it() -> None:
    book = book_at(10)
    book.apply_delta(delta(15, Side.BUY, 0.50, 0))
    book.apply_delta(delta(15, Side.SELL, 0.51, 4))
    book.apply_delta(delta(11, Side.BUY, 0.45, 9))
    assert book.apply_snapshot(snapshot(12, {0.50: 10, 0.49: 1}, {0.52: 2}))
    assert book.depth(Side.BUY, 9) == levels({0.49: 1})
    assert book.depth(Side.SELL, 9) == levels({0.51: 4, 0.52: 2})
    assert book.exchange_ms == 15


def test_older_snapshot_than_the_newest_is_ignored() -> None:
    book = book_at(10)
    assert not book.apply_snapshot(snapshot(9, {}, {}))
    assert book.state is BookState.OK


def test_deltas_before_the_first_snapshot_count_if_they_are_newer() -> None:
    book = Book(CENT)
    book.apply_delta(delta(5, Side.BUY, 0.40, 1))
    book.apply_delta(delta(20, Side.BUY, 0.41, 1))
    assert book.state is BookState.STALE
    book.apply_snapshot(snapshot(10, {0.39: 1}, {0.6: 1}))
    assert book.depth(Side.BUY, 9) == levels({0.41: 1, 0.39: 1})


@pytest.mark.parametrize("price", [0.505, 0.0, 1.0, -0.01])
def test_price_off_the_grid_is_refused_and_changes_nothing(price: float) -> None:
    book = book_at(10)
    with pytest.raises(OffGrid):
        book.apply_delta(delta(11, Side.BUY, price, 1))
    with pytest.raises(OffGrid):
        book.apply_snapshot(snapshot(11, {price + 0.00005: 1}, {}))
    assert (book.exchange_ms, book.state) == (10, BookState.OK)


def test_old_levels_off_a_coarser_grid_stay_and_tell_which_changes_may_come() -> None:
    book = book_at(10)
    assert book.apply_snapshot(snapshot(11, {0.405: 3}, {0.6: 1}))
    assert (book.tick, book.state, book.best_bid) == (CENT, BookState.OK, 405_000)
    with pytest.raises(OffGrid):
        book.apply_delta(delta(12, Side.BUY, 0.403, 1))
    assert book.apply_delta(delta(12, Side.BUY, 0.405, 0))
    assert book.best_bid is None


def test_negative_size_is_a_bad_frame() -> None:
    with pytest.raises(BadFrame, match="negative"):
        book_at().apply_delta(delta(11, Side.BUY, 0.5, -1))


def test_tick_change_drops_the_book_until_a_snapshot() -> None:
    book = book_at(10)
    book.apply_delta(delta(25, Side.BUY, 0.45, 3))
    assert book.change_tick(tick_change(20, MILL))
    assert (book.tick, book.state, book.best_ask) == (MILL, BookState.STALE, None)
    assert not book.apply_delta(delta(19, Side.BUY, 0.40, 1))
    assert not book.apply_snapshot(snapshot(19, {0.4: 1}, {0.6: 1}))
    assert book.apply_snapshot(snapshot(21, {0.481: 1, 0.44: 1}, {0.52: 1}))
    assert book.state is BookState.OK
    assert book.depth(Side.BUY, 9) == levels({0.481: 1, 0.45: 3, 0.44: 1})


def test_late_news_of_a_tick_change_does_not_drop_the_new_book() -> None:
    book = Book(CENT)
    book.apply_snapshot(snapshot(30, {0.481: 1}, {0.52: 1}, tick=MILL))
    assert not book.change_tick(tick_change(20, CENT))
    assert (book.tick, book.state) == (MILL, BookState.OK)
    book.apply_snapshot(snapshot(40, {0.481: 1}, {0.52: 1}))
    assert not book.change_tick(tick_change(35, Price(100)))
    assert (book.tick, book.state) == (100, BookState.OK)


def test_orders_of_a_finer_grid_may_rest_on_after_a_coarser_tick() -> None:
    book = Book(MILL)
    book.change_tick(tick_change(5, CENT))
    assert book.apply_snapshot(snapshot(6, {0.481: 1}, {0.52: 1}))
    assert book.tick == CENT


def test_ticks_that_do_not_divide_each_other_share_a_grid() -> None:
    book = Book(Price(5_000))
    book.apply_snapshot(snapshot(1, {0.4025: 1}, {0.405: 1}, tick=Price(2_500)))
    assert book.best_bid == 402_500


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: str(case["name"]))
def test_book_hash_reproduces_the_exchange(case: dict[str, Any]) -> None:
    theirs, market = case["book"], market_of(case["book"])
    ours = book_hash(
        market_id=market.market_id,
        token_id=market.yes,
        exchange_ms=int(theirs["timestamp"]),
        bids=[_level(entry) for entry in theirs["bids"]],
        asks=[_level(entry) for entry in theirs["asks"]],
        size_min=market.size_min,
        tick=market.tick,
        is_neg_risk=market.is_neg_risk,
        last_trade_text=theirs["last_trade_price"],
        version=theirs.get("version", ""),
    )
    assert ours == theirs["hash"]


@pytest.mark.parametrize("case", VECTORS[:2], ids=lambda case: str(case["name"]))
def test_book_rebuilds_the_hash_from_levels_in_any_order(case: dict[str, Any]) -> None:
    theirs, market = case["book"], market_of(case["book"])
    book = Book(market.tick)
    book.apply_snapshot(
        BookSnapshot(
            token_id=market.yes,
            bids=tuple(_level(entry) for entry in reversed(theirs["bids"])),
            asks=tuple(_level(entry) for entry in reversed(theirs["asks"])),
            exchange_ms=int(theirs["timestamp"]),
            received_ns=Nanos(0),
        )
    )
    ours = book.hash(market, market.yes, theirs["last_trade_price"], theirs.get("version", ""))
    assert ours == theirs["hash"]


def market_of(book: dict[str, Any]) -> Market:
    return Market(
        market_id=MarketId(book["market"]),
        slug="",
        yes=TokenId(book["asset_id"]),
        no=TokenId(""),
        tick=Price(micro_from_text(book["tick_size"])),
        size_min=Size(micro_from_text(book["min_order_size"])),
        is_neg_risk=book["neg_risk"],
    )


def _level(entry: dict[str, str]) -> Level:
    return Level(Price(micro_from_text(entry["price"])), Size(micro_from_text(entry["size"])))


def test_book_hash_sees_one_micro_share() -> None:
    def hashed(size: int) -> str:
        return book_hash(
            market_id=MarketId("m"),
            token_id=TOKEN,
            exchange_ms=1,
            bids=[Level(CENT, Size(size))],
            asks=[],
            size_min=Size(5_000_000),
            tick=CENT,
            is_neg_risk=False,
            last_trade_text="",
        )

    assert hashed(1_000_000) != hashed(1_000_001)
