"""When a paper order would have been filled: one market's displayed book, and our orders waiting in it. Pure.

Whoever joins a level stands behind all that is displayed there. What is ahead shrinks by the prints of that level, and
by nothing else until the level shows less than we think is ahead; even that holds only for prints of `print_lag_ms`
later, since a level that shrank by a trade is shown before the trade is printed. A print beyond our price would have
met us first; an opposite level at our price or better would have traded with us instead of resting. So every fill here
is one that an equal real order would have had, as far as public data tell; the reverse does not hold.

News arrive late, in any order and sometimes twice. So everything is judged by the time the exchange gives it: what is
of before an order was placed does not trade with it, and may put more ahead of it; what was told already says nothing.

Both outcomes share one book (BUY NO at q is SELL YES at 1 - q), so all prices here are those of YES.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from tbot.core.book import Book
from tbot.core.market import Market, TokenId
from tbot.core.messages import (
    BookDelta,
    BookSnapshot,
    ExchangeOrderId,
    Gap,
    Level,
    MarketEvent,
    MarketNews,
    Side,
    TickSizeChanged,
    TradePrint,
)
from tbot.core.units import NANOS_PER_MS, Nanos, Price, Size, complement
from tbot.errors import BadFrame


class Hit(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A resting order of ours was met: `size` micro-shares at its own price."""

    order_id: ExchangeOrderId
    size: Size


# A print is stamped up to 29 ms after the book that its trade left behind (71 of them in the densest recording), and
# the exchange's time is known no better than this: what is stamped so little after a placement may be of before it.
STAMP_MS: Final = 50
# A frame told twice comes twice within seconds; this many prints are remembered of each market.
PRINTS_MAX: Final = 1_024


@dataclass(kw_only=True, slots=True)
class _Waiting:
    """An order and what has to trade before it does.

    Attributes:
        placed_ms: By the exchange's time; nothing up to this moment counts.
        left: Micro-shares still to be filled.
        joined: Micro-shares that stood ahead then, as far as told.
        passed: Micro-shares that got through to us so far.
        gates: (from when on prints count, micro-shares that must trade after that before we do). Each is a bound by
            itself, whatever the others say; the first is of the placement.
    """

    order_id: ExchangeOrderId
    is_bid: bool
    price: Price
    placed_ms: int
    left: int
    joined: int
    gates: list[tuple[int, int]]
    passed: int = 0

    def is_before(self, at_ms: int) -> bool:
        """Whether something of this time may be of before the placement."""
        return at_ms <= self.placed_ms + STAMP_MS

    def trade(self, at_ms: int, volume: int) -> int:
        """Let a print of our level pass; return how much of it reaches us."""
        self.gates = [(since_ms, ahead - volume if at_ms > since_ms else ahead) for since_ms, ahead in self.gates]
        reached, self.passed = self.passed, max(self.passed, *(-ahead for _, ahead in self.gates))
        return min(volume, self.passed - reached)

    def bound(self, since_ms: int, shown: int) -> None:
        """Note that no more than this can be ahead; prints after `since_ms` come off it."""
        ahead = shown - self.passed
        if not any(since <= since_ms and left <= ahead for since, left in self.gates):
            kept = [gate for gate in self.gates if gate[0] < since_ms or gate[1] < ahead]
            self.gates = [*kept, (since_ms, ahead)]

    def stand_behind(self, shown: int) -> None:
        """Learn late how much stood there when we were placed; the most of what was told of before counts."""
        more, self.joined = max(0, shown - self.joined), max(self.joined, shown)
        (since_ms, ahead), *rest = self.gates
        self.gates = [(since_ms, ahead + more), *rest]


class PaperMarket:
    """One market: what is displayed, what of it we have taken, and our orders in it."""

    def __init__(self, market: Market, *, print_lag_ns: int) -> None:
        """Begin without a book; nothing trades before the first snapshot.

        Args:
            market: Reference data.
            print_lag_ns: Longest way of a print behind the change of its level.
        """
        self._market = market
        self._print_lag_ms = print_lag_ns // NANOS_PER_MS
        self._book = Book(market.tick)
        self._waiting: dict[ExchangeOrderId, _Waiting] = {}
        # What our takers took of levels that are still displayed, so that it is not taken twice.
        self._taken: dict[tuple[Side, Price], int] = {}
        # How much the exchange's clock is ahead of ours at least: something came with a stamp so much ahead.
        self._ahead_ms = 0
        self._prints: dict[TradePrint, None] = {}  # without the time of their receipt, oldest first

    @property
    def market(self) -> Market:
        """Reference data, with the tick told last."""
        return msgspec.structs.replace(self._market, tick=self._book.tick)

    def relist(self, market: Market) -> None:
        """Go on under new terms; book and waiting orders stay."""
        self._market = market

    @property
    def is_open(self) -> bool:
        """Whether the book is known well enough to trade on."""
        return not self._book.is_stale

    def price_yes(self, token_id: TokenId, price: Price) -> Price:
        """Give a price of either token as one of YES."""
        return price if token_id == self._market.yes else complement(price)

    def is_bid(self, token_id: TokenId, side: Side) -> bool:
        """Tell on which side of the YES book an order of either token stands."""
        return (token_id == self._market.yes) is (side is Side.BUY)

    def offers(self, *, is_bid: bool, price: Price) -> tuple[Level, ...]:
        """List what a taker could take now, best first; what it took before is not offered again.

        Args:
            is_bid: Side of the taker.
            price: Its limit.
        """
        return tuple(level for level in self._opposite(is_bid=is_bid, price=price) if level.size > 0)

    def take(self, *, is_bid: bool, price: Price, size: Size) -> None:
        """Remember that a displayed level was taken from."""
        key = (Side.SELL if is_bid else Side.BUY, price)
        self._taken[key] = self._taken.get(key, 0) + size

    def rest(self, order_id: ExchangeOrderId, *, is_bid: bool, price: Price, size: Size, now_ns: Nanos) -> None:
        """Let an order wait behind all that is displayed at its price.

        Args:
            order_id: The order.
            is_bid: Its side.
            price: Its price.
            size: Micro-shares to be filled.
            now_ns: When it was placed, by the clock that stamps receipts.
        """
        ahead = self._book.size_at(Side.BUY if is_bid else Side.SELL, price)
        placed_ms = now_ns // NANOS_PER_MS + self._ahead_ms
        self._waiting[order_id] = _Waiting(
            order_id=order_id,
            is_bid=is_bid,
            price=price,
            placed_ms=placed_ms,
            left=size,
            joined=ahead,
            gates=[(placed_ms + STAMP_MS, ahead)],
        )

    def remove(self, order_id: ExchangeOrderId) -> None:
        """Take an order out; one that does not wait is ignored."""
        self._waiting.pop(order_id, None)

    def observe(self, event: MarketEvent) -> tuple[Hit, ...]:
        """Take one public event, in order of arrival, and say whom it hit.

        Raises:
            BadFrame: A snapshot or change that no book can take; the book is stale until the next snapshot.
        """
        if not isinstance(event, Gap | MarketNews):
            self._ahead_ms = max(self._ahead_ms, event.exchange_ms - event.received_ns // NANOS_PER_MS)
        match event:
            case TradePrint():
                return tuple(self._on_print(event)) if self._is_news(event) else ()
            case BookSnapshot() | BookDelta() | TickSizeChanged():
                return self._on_book(event)
            case Gap():
                if not event.token_ids or self._market.yes in event.token_ids:
                    self.distrust()
                return ()
            case MarketNews():
                return ()  # whether orders still rest is for the terms to say, when they are read

    def distrust(self) -> None:
        """Trade nothing before the next snapshot: updates may have been lost."""
        self._book.mark_stale()

    # --- prints -----------------------------------------------------------------------------------------------------

    # Two trades alike in one millisecond would look the same; to miss one costs a fill, to count one twice invents it.
    def _is_news(self, event: TradePrint) -> bool:
        bare = msgspec.structs.replace(event, received_ns=Nanos(0))
        if bare in self._prints:
            return False
        self._prints[bare] = None
        if len(self._prints) > PRINTS_MAX:
            del self._prints[next(iter(self._prints))]
        return True

    def _on_print(self, event: TradePrint) -> Iterator[Hit]:
        price = self.price_yes(event.token_id, event.price)
        hits_bids = not self.is_bid(event.token_id, event.taker_side)
        volume = int(event.size)
        for order in self._in_priority(is_bid=hits_bids):
            if order.is_before(event.exchange_ms):
                continue
            if order.price == price:
                # All of ours at this level see the same print pass, less what those of ours before them got.
                reaching = order.trade(event.exchange_ms, volume)
            else:
                reaching = volume if _is_better(order.price, price, is_bid=hits_bids) else 0
            got = min(reaching, order.left)
            volume -= got
            yield from self._hit(order, got)

    def _in_priority(self, *, is_bid: bool) -> list[_Waiting]:
        side = [order for order in self._waiting.values() if order.is_bid is is_bid]
        return sorted(side, key=lambda order: -order.price if is_bid else order.price)

    def _hit(self, order: _Waiting, size: int) -> Iterator[Hit]:
        if not size:
            return
        order.left -= size
        if not order.left:
            del self._waiting[order.order_id]
        yield Hit(order_id=order.order_id, size=Size(size))

    # --- book -------------------------------------------------------------------------------------------------------

    def _on_book(self, event: BookSnapshot | BookDelta | TickSizeChanged) -> tuple[Hit, ...]:
        # The NO book mirrors this one: it says nothing new.
        if event.token_id != self._market.yes:
            return ()
        try:
            self._apply(event)
        except BadFrame:
            self.distrust()
            raise
        self._forget_gone()
        self._note_queue(event)
        return tuple(self._crossed(event)) if self.is_open else ()

    def _apply(self, event: BookSnapshot | BookDelta | TickSizeChanged) -> None:
        match event:
            case BookSnapshot():
                self._book.apply_snapshot(event)
            case BookDelta():
                self._book.apply_delta(event)
            case TickSizeChanged():
                self._book.change_tick(event)

    def _forget_gone(self) -> None:
        sizes = {key: self._book.size_at(*key) for key in self._taken}
        self._taken = {key: min(taken, sizes[key]) for key, taken in self._taken.items() if sizes[key]}

    # What an event says of its own time stays true, however late it comes.
    def _note_queue(self, event: BookSnapshot | BookDelta | TickSizeChanged) -> None:
        for order in self._waiting.values():
            shown = _shown(event, Side.BUY if order.is_bid else Side.SELL, order.price)
            if shown is None:
                continue
            if order.is_before(event.exchange_ms):
                order.stand_behind(shown)
            else:
                order.bound(event.exchange_ms + self._print_lag_ms, shown)

    # Only what this event tells, and still holds: a level of before a placement may be gone, and that news on its way.
    def _crossed(self, event: BookSnapshot | BookDelta | TickSizeChanged) -> Iterator[Hit]:
        for order in self._in_priority(is_bid=True) + self._in_priority(is_bid=False):
            if order.is_before(event.exchange_ms):
                continue
            side = Side.SELL if order.is_bid else Side.BUY
            for level in self.offers(is_bid=order.is_bid, price=order.price):
                if _shown(event, side, level.price) != self._book.size_at(side, level.price):
                    continue
                size = Size(min(order.left, level.size))
                self.take(is_bid=order.is_bid, price=level.price, size=size)
                yield from self._hit(order, size)
                if not order.left:
                    break

    def _opposite(self, *, is_bid: bool, price: Price) -> Iterator[Level]:
        side = Side.SELL if is_bid else Side.BUY
        for level in self._levels(side):
            if level.price > price if is_bid else level.price < price:
                return
            yield Level(level.price, Size(level.size - self._taken.get((side, level.price), 0)))

    def _levels(self, side: Side) -> Sequence[Level]:
        return tuple(reversed(self._book.levels(side)))


def _shown(event: BookSnapshot | BookDelta | TickSizeChanged, side: Side, price: Price) -> Size | None:
    """Tell how much an event says to rest at a price; None = it does not speak of it."""
    match event:
        case BookDelta():
            return event.size if (event.side, event.price) == (side, price) else None
        case BookSnapshot():
            levels = event.bids if side is Side.BUY else event.asks
            return next((level.size for level in levels if level.price == price), Size(0))
        case TickSizeChanged():
            return None


def _is_better(price: Price, than: Price, *, is_bid: bool) -> bool:
    """Tell whether an order at `price` has priority over one at `than`."""
    return price > than if is_bid else price < than
