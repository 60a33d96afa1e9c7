"""When a paper order would have been filled: one market's displayed book, and our orders waiting in it. Pure.

Whoever joins a level stands behind all that is displayed there. What is ahead shrinks by the prints of that level, and
by nothing else until the level shows less than we think is ahead; even that is believed only after `print_lag_ns`,
since a level that shrank by a trade is shown before the trade is printed. A print beyond our price would have met us
first; an opposite level at our price or better would have traded with us instead of resting. So every fill here is one
that an equal real order would have had, as far as public data tell; the reverse does not hold.

Both outcomes share one book (BUY NO at q is SELL YES at 1 - q), so all prices here are those of YES.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

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
from tbot.core.units import Nanos, Price, Size, complement
from tbot.errors import BadFrame


class Hit(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A resting order of ours was met: `size` micro-shares at its own price."""

    order_id: ExchangeOrderId
    size: Size


@dataclass(kw_only=True, slots=True)
class _Waiting:
    order_id: ExchangeOrderId
    is_bid: bool
    price: Price
    left: int
    ahead: int
    # (from when on it counts, size displayed): bounds on what can be ahead of us.
    bounds: deque[tuple[Nanos, Size]] = field(default_factory=deque)


class PaperMarket:
    """One market: what is displayed, what of it we have taken, and our orders in it."""

    def __init__(self, market: Market, *, print_lag_ns: int) -> None:
        """Begin without a book; nothing trades before the first snapshot.

        Args:
            market: Reference data.
            print_lag_ns: Longest way of a print behind the change of its level.
        """
        self._market = market
        self._print_lag_ns = print_lag_ns
        self._book = Book(market.tick)
        self._waiting: dict[ExchangeOrderId, _Waiting] = {}
        # What our takers took of levels that are still displayed, so that it is not taken twice.
        self._taken: dict[tuple[Side, Price], int] = {}

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

    def rest(self, order_id: ExchangeOrderId, *, is_bid: bool, price: Price, size: Size) -> None:
        """Let an order wait behind all that is displayed at its price."""
        ahead = self._book.size_at(Side.BUY if is_bid else Side.SELL, price)
        self._waiting[order_id] = _Waiting(order_id=order_id, is_bid=is_bid, price=price, left=size, ahead=ahead)

    def remove(self, order_id: ExchangeOrderId) -> None:
        """Take an order out; one that does not wait is ignored."""
        self._waiting.pop(order_id, None)

    def observe(self, event: MarketEvent) -> tuple[Hit, ...]:
        """Take one public event, in order of arrival, and say whom it hit.

        Raises:
            BadFrame: A snapshot or change that no book can take; the book is stale until the next snapshot.
        """
        match event:
            case TradePrint():
                return tuple(self._on_print(event))
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

    def _on_print(self, event: TradePrint) -> Iterator[Hit]:
        price = self.price_yes(event.token_id, event.price)
        hits_bids = not self.is_bid(event.token_id, event.taker_side)
        self._apply_bounds(event.received_ns)
        volume = int(event.size)
        for order in self._in_priority(is_bid=hits_bids):
            if order.price == price:
                # All of ours at this level see the same print pass, less what those of ours before them got.
                reaching, order.ahead = max(0, volume - order.ahead), max(0, order.ahead - volume)
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
        self._note_bounds(event.received_ns)
        return tuple(self._crossed()) if self.is_open else ()

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

    def _note_bounds(self, now_ns: Nanos) -> None:
        self._apply_bounds(now_ns)
        for order in self._waiting.values():
            shown = self._book.size_at(Side.BUY if order.is_bid else Side.SELL, order.price)
            last = order.bounds[-1][1] if order.bounds else None
            if shown < order.ahead and shown != last:
                order.bounds.append((Nanos(now_ns + self._print_lag_ns), shown))

    def _apply_bounds(self, now_ns: Nanos) -> None:
        for order in self._waiting.values():
            while order.bounds and order.bounds[0][0] <= now_ns:
                order.ahead = min(order.ahead, order.bounds.popleft()[1])

    def _crossed(self) -> Iterator[Hit]:
        best_bid, best_ask = self._book.best_bid, self._book.best_ask
        for order in self._in_priority(is_bid=True) + self._in_priority(is_bid=False):
            best = best_ask if order.is_bid else best_bid
            if best is None or _is_better(best, order.price, is_bid=order.is_bid):
                continue
            for level in self.offers(is_bid=order.is_bid, price=order.price):
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


def _is_better(price: Price, than: Price, *, is_bid: bool) -> bool:
    """Tell whether an order at `price` has priority over one at `than`."""
    return price > than if is_bid else price < than
