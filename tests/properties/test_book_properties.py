"""Whatever the order of arrival, the final book is the one of exchange order."""

from hypothesis import given
from hypothesis import strategies as st

from tbot.core.book import Book, BookState
from tbot.core.market import TokenId
from tbot.core.messages import BookDelta, BookSnapshot, Level, Side, TickSizeChanged
from tbot.core.units import MICRO, Nanos, Price, Size

TOKEN = TokenId("yes")
TICK = Price(100_000)
Event = BookDelta | BookSnapshot | TickSizeChanged

some_price = st.integers(1, 9).map(lambda n: Price(n * TICK))
some_size = st.integers(0, 3).map(lambda n: Size(n * MICRO))
some_level = st.builds(Level, some_price, some_size)
some_side = st.lists(some_level, max_size=4, unique_by=lambda level: level.price).map(tuple)
some_ms = st.integers(0, 12)
some_tick = st.sampled_from([TICK, Price(10_000)])
some_snapshot = st.builds(
    BookSnapshot,
    token_id=st.just(TOKEN),
    bids=some_side,
    asks=some_side,
    exchange_ms=some_ms,
    received_ns=st.just(Nanos(0)),
    tick=st.none() | some_tick,
)
some_delta = st.builds(
    BookDelta,
    token_id=st.just(TOKEN),
    side=st.sampled_from(Side),
    price=some_price,
    size=some_size,
    exchange_ms=some_ms,
    received_ns=st.just(Nanos(0)),
)
some_tick_change = st.builds(
    TickSizeChanged,
    token_id=st.just(TOKEN),
    tick=some_tick,
    exchange_ms=some_ms,
    received_ns=st.just(Nanos(0)),
)


def rank(event: Event) -> tuple[int, int]:
    """Sort as the exchange means it: within a millisecond updates, then a tick change, then the snapshot."""
    order = 0 if isinstance(event, BookDelta) else 1 if isinstance(event, TickSizeChanged) else 2
    return event.exchange_ms, order


def identity(event: Event) -> tuple[object, ...]:
    """Two events with one identity tie, and the exchange does not say which came last."""
    level = (event.side, event.price) if isinstance(event, BookDelta) else ()
    return (rank(event), *level)


some_events = st.lists(
    st.one_of(some_delta, some_delta, some_delta, some_snapshot, some_tick_change), max_size=25, unique_by=identity
)


def built(events: list[Event]) -> Book:
    book = Book(TICK)
    for event in events:
        if isinstance(event, BookDelta):
            book.apply_delta(event)
        elif isinstance(event, TickSizeChanged):
            book.change_tick(event)
        else:
            book.apply_snapshot(event)
    return book


def shape(book: Book) -> tuple[object, ...]:
    return (book.levels(Side.BUY), book.levels(Side.SELL), book.state, book.tick, book.best_bid, book.best_ask)


def naive(events: list[Event]) -> tuple[dict[Price, Size], dict[Price, Size]]:
    """Build the book the plain way, from events in exchange order."""
    bids: dict[Price, Size] = {}
    asks: dict[Price, Size] = {}
    for event in events:
        if isinstance(event, BookDelta):
            (bids if event.side is Side.BUY else asks)[event.price] = event.size
            continue
        levels = (event.bids, event.asks) if isinstance(event, BookSnapshot) else ((), ())
        bids, asks = ({level.price: level.size for level in side} for side in levels)
    return bids, asks


@given(some_events, st.data())
def test_any_arrival_order_gives_the_book_of_exchange_order(events: list[Event], data: st.DataObject) -> None:
    arrived = data.draw(st.permutations(events))
    assert shape(built(arrived)) == shape(built(sorted(events, key=rank)))


@given(some_events)
def test_exchange_order_gives_the_plain_book(events: list[Event]) -> None:
    ordered = sorted(events, key=rank)
    for side, levels in zip(Side, naive(ordered), strict=True):
        wanted = {price: size for price, size in levels.items() if size}
        assert {level.price: level.size for level in built(ordered).levels(side)} == wanted


@given(some_events, st.data())
def test_every_event_twice_changes_nothing(events: list[Event], data: st.DataObject) -> None:
    twice = data.draw(st.permutations([*events, *events]))
    assert shape(built(twice)) == shape(built(sorted(events, key=rank)))


@given(some_events)
def test_tops_depth_and_state_agree_with_the_levels(events: list[Event]) -> None:
    book = built(events)
    bids = [level.price for level in book.levels(Side.BUY)]
    asks = [level.price for level in book.levels(Side.SELL)]
    assert bids == sorted(bids)
    assert asks == sorted(asks, reverse=True)
    assert book.best_bid == max(bids, default=None)
    assert book.best_ask == min(asks, default=None)
    assert book.depth(Side.BUY, 3) == book.levels(Side.BUY)[::-1][:3]
    if book.state is BookState.OK:
        assert book.best_bid is not None
        assert book.best_ask is not None
        assert book.best_bid < book.best_ask


def test_the_judge_sees_a_book_that_applies_in_arrival_order() -> None:
    late = BookDelta(token_id=TOKEN, side=Side.BUY, price=TICK, size=Size(1), exchange_ms=1, received_ns=Nanos(0))
    newest = BookDelta(token_id=TOKEN, side=Side.BUY, price=TICK, size=Size(2), exchange_ms=2, received_ns=Nanos(0))
    assert naive([newest, late]) != naive(sorted([newest, late], key=rank))
