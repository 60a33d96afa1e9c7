"""A paper order is filled after the queue ahead of it has traded, or when the book crosses it, and never before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tbot.core.market import Market, MarketId, TokenId
from tbot.core.messages import BookDelta, BookSnapshot, ExchangeOrderId, Gap, Level, MarketEvent, Side, TradePrint
from tbot.core.units import MICRO, NANOS_PER_MS, Nanos, Price, Size
from tbot.exchanges.paper.queue import STAMP_MS, PaperMarket

YES, NO = TokenId("yes"), TokenId("no")
MARKET = Market(market_id=MarketId("m"), slug="m", yes=YES, no=NO, tick=Price(10_000))
LAG_MS = 250
OURS = ExchangeOrderId("ours")


def cents(value: int) -> Price:
    return Price(value * 10_000)


def shares(value: int) -> Size:
    return Size(value * MICRO)


def ns(ms: int) -> Nanos:
    return Nanos(ms * NANOS_PER_MS)


class Desk:
    """One market and what hit our orders in it."""

    def __init__(self, bids: dict[int, int], asks: dict[int, int]) -> None:
        self.paper = PaperMarket(MARKET, print_lag_ns=LAG_MS * NANOS_PER_MS)
        self.ms = 1_000
        self.filled: dict[str, int] = {}
        self.see(
            BookSnapshot(
                token_id=YES,
                bids=tuple(Level(cents(p), shares(s)) for p, s in bids.items()),
                asks=tuple(Level(cents(p), shares(s)) for p, s in asks.items()),
                exchange_ms=self.ms,
                received_ns=ns(self.ms),
            )
        )

    def see(self, event: MarketEvent) -> None:
        for hit in self.paper.observe(event):
            self.filled[hit.order_id] = self.filled.get(hit.order_id, 0) + hit.size // MICRO

    def level(self, side: Side, price: int, size: int, after_ms: int = 1) -> None:
        self.ms += after_ms
        self.see(
            BookDelta(
                token_id=YES,
                side=side,
                price=cents(price),
                size=shares(size),
                exchange_ms=self.ms,
                received_ns=ns(self.ms),
            )
        )

    def trade(self, taker: Side, price: int, size: int, token: TokenId = YES, after_ms: int = 1) -> None:
        self.ms += after_ms
        self.see(
            TradePrint(
                token_id=token,
                price=cents(price),
                size=shares(size),
                taker_side=taker,
                exchange_ms=self.ms,
                received_ns=ns(self.ms),
            )
        )

    def rest(self, side: Side, price: int, size: int, name: ExchangeOrderId = OURS) -> None:
        self.paper.rest(name, is_bid=side is Side.BUY, price=cents(price), size=shares(size), now_ns=ns(self.ms))
        self.ms += STAMP_MS


def desk() -> Desk:
    return Desk(bids={50: 100, 49: 80}, asks={52: 60, 53: 70})


def test_what_stood_there_before_trades_first() -> None:
    d = desk()
    d.rest(Side.BUY, 50, 30)
    d.trade(Side.SELL, 50, 90)
    assert d.filled == {}
    d.trade(Side.SELL, 50, 25)
    assert d.filled == {OURS: 15}
    d.trade(Side.SELL, 50, 100)
    assert d.filled == {OURS: 30}


def test_a_trade_shown_in_the_book_before_its_print_is_counted_once() -> None:
    d = desk()
    d.rest(Side.BUY, 50, 30)
    d.level(Side.BUY, 50, 40)  # 60 traded; the print comes 20 ms later, as on production
    d.trade(Side.SELL, 50, 60, after_ms=20)
    assert d.filled == {}
    d.trade(Side.SELL, 50, 40)
    assert d.filled == {}
    d.trade(Side.SELL, 50, 10)
    assert d.filled == {OURS: 10}


def test_cancels_ahead_are_believed_once_no_print_can_explain_them() -> None:
    d = desk()
    d.rest(Side.BUY, 50, 30)
    d.level(Side.BUY, 50, 40)
    d.trade(Side.SELL, 50, 50, after_ms=LAG_MS + 1)
    assert d.filled == {OURS: 10}


def test_orders_behind_us_that_leave_do_not_move_us() -> None:
    d = desk()
    d.rest(Side.BUY, 50, 30)
    d.level(Side.BUY, 50, 500)
    d.level(Side.BUY, 50, 100)
    d.trade(Side.SELL, 50, 110, after_ms=1_000)
    assert d.filled == {OURS: 10}


def test_a_print_beyond_our_price_would_have_met_us_first() -> None:
    d = desk()
    d.rest(Side.BUY, 51, 30)
    d.trade(Side.SELL, 50, 20)
    assert d.filled == {OURS: 20}


def test_a_print_on_the_other_side_of_the_book_is_none_of_ours() -> None:
    d = desk()
    d.rest(Side.BUY, 51, 30)
    d.trade(Side.BUY, 52, 60)
    d.trade(Side.SELL, 51, 10, token=NO)  # selling NO at 51 is buying YES at 49: it hits asks
    assert d.filled == {}


def test_the_mirrored_print_counts_as_its_twin() -> None:
    d = desk()
    d.rest(Side.BUY, 51, 30)
    d.trade(Side.BUY, 49, 10, token=NO)  # buying NO at 49 is selling YES at 51
    assert d.filled == {OURS: 10}


def test_an_opposite_level_at_our_price_would_have_traded_with_us() -> None:
    d = desk()
    d.rest(Side.SELL, 52, 200)
    d.level(Side.BUY, 52, 50)
    assert d.filled == {OURS: 50}
    d.level(Side.BUY, 52, 80)
    assert d.filled == {OURS: 80}, "what traded with us already is not offered again"


def test_ours_at_one_level_share_what_passes() -> None:
    d = desk()
    first, second = ExchangeOrderId("first"), ExchangeOrderId("second")
    d.rest(Side.BUY, 50, 10, first)
    d.rest(Side.BUY, 50, 10, second)
    d.trade(Side.SELL, 50, 115)
    assert d.filled == {first: 10, second: 5}


def test_nothing_is_offered_before_a_snapshot_or_after_a_gap() -> None:
    paper = PaperMarket(MARKET, print_lag_ns=0)
    assert not paper.is_open
    d = desk()
    assert d.paper.is_open
    d.see(Gap(token_ids=(YES,), reason="lost", received_ns=ns(d.ms)))
    assert not d.paper.is_open


def test_what_we_took_is_gone_until_the_level_is() -> None:
    d = desk()
    d.paper.take(is_bid=True, price=cents(52), size=shares(45))
    assert d.paper.offers(is_bid=True, price=cents(52)) == (Level(cents(52), shares(15)),)
    d.level(Side.SELL, 52, 50)
    assert d.paper.offers(is_bid=True, price=cents(52)) == (Level(cents(52), shares(5)),)
    d.level(Side.SELL, 52, 0)
    d.level(Side.SELL, 52, 50)
    assert d.paper.offers(is_bid=True, price=cents(52)) == (Level(cents(52), shares(50)),)


@given(
    volumes=st.lists(st.integers(1, 60), min_size=1, max_size=30),
    ahead=st.integers(0, 200),
    size=st.integers(1, 100),
)
def test_one_level_fills_no_more_than_what_passed_the_queue(volumes: list[int], ahead: int, size: int) -> None:
    d = Desk(bids={50: ahead} if ahead else {}, asks={52: 60})
    d.rest(Side.BUY, 50, size)
    for volume in volumes:
        d.trade(Side.SELL, 50, volume)
    assert d.filled.get(OURS, 0) == min(size, max(0, sum(volumes) - ahead))


def print_at(ms: int, size: int, received_ms: int) -> TradePrint:
    return TradePrint(
        token_id=YES,
        price=cents(50),
        size=shares(size),
        taker_side=Side.SELL,
        exchange_ms=ms,
        received_ns=ns(received_ms),
    )


def test_a_print_of_before_the_order_says_nothing_of_it() -> None:
    d = Desk(bids={}, asks={52: 60})
    d.ms = 5_000
    d.rest(Side.BUY, 50, 30)
    d.see(print_at(1_000, 60, received_ms=5_001))
    assert d.filled == {}
    d.see(print_at(5_100, 20, received_ms=5_101))
    assert d.filled == {OURS: 20}


def test_a_print_told_twice_counts_once() -> None:
    d = desk()
    d.rest(Side.BUY, 50, 50)
    for received_ms in (2_000, 2_300):
        d.see(print_at(1_900, 90, received_ms))
    assert d.filled == {}
    d.see(print_at(2_100, 20, 2_400))
    assert d.filled == {OURS: 10}


def test_a_level_told_late_stood_before_us() -> None:
    d = desk()
    late = d.ms
    d.ms += 100
    d.rest(Side.BUY, 50, 30)
    d.see(
        BookDelta(
            token_id=YES,
            side=Side.BUY,
            price=cents(50),
            size=shares(300),
            exchange_ms=late + 50,
            received_ns=ns(d.ms),
        )
    )
    d.trade(Side.SELL, 50, 290)
    assert d.filled == {}
    d.trade(Side.SELL, 50, 20)
    assert d.filled == {OURS: 10}


def test_an_opposite_level_of_before_us_does_not_trade_with_us() -> None:
    d = desk()
    late = d.ms + 50
    d.ms += 100
    d.rest(Side.BUY, 50, 30)
    d.see(
        BookDelta(token_id=YES, side=Side.SELL, price=cents(50), size=shares(9), exchange_ms=late, received_ns=ns(d.ms))
    )
    d.level(Side.BUY, 30, 5)
    assert d.filled == {}


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[tuple[int, str, int]], list[int]]:
    """What happens at one level after we joined: adds behind us, cancels ahead, trades; and an order of arrival."""
    kinds = st.tuples(st.integers(1, 400), st.sampled_from(["trade", "add", "cancel"]), st.integers(1, 60))
    steps = draw(st.lists(kinds, min_size=1, max_size=25))
    return steps, draw(st.permutations(range(2 * len(steps))))


@given(history=histories(), ahead=st.integers(0, 100))
def test_in_no_order_of_arrival_more_is_filled_than_an_equal_order_would_have_had(
    history: tuple[list[tuple[int, str, int]], list[int]], ahead: int
) -> None:
    steps, order = history
    d = Desk(bids={50: ahead} if ahead else {}, asks={52: 60})
    d.rest(Side.BUY, 50, 10_000)
    events: list[MarketEvent] = []
    before, behind, real, ms = ahead, 0, 0, d.ms + 1
    for gap_ms, kind, size in steps:
        ms += gap_ms
        if kind == "trade":
            through = size - min(before, size)
            before, behind, real = before - (size - through), behind - min(behind, through), real + through
            events.append(print_at(ms + 20, size, ms + 20))
        elif kind == "add":
            behind += size
        else:
            before -= min(before, size)
        events.append(
            BookDelta(
                token_id=YES,
                side=Side.BUY,
                price=cents(50),
                size=shares(before + behind),
                exchange_ms=ms,
                received_ns=ns(ms),
            )
        )
    events += events[: len(order) - len(events)]  # some are told twice
    for index in order:
        if index < len(events):
            d.see(events[index])
    assert d.filled.get(OURS, 0) <= real
