"""One operation in progress: it collects what changed and turns it into events at its end.

A level touched five times by one operation is told once, with its final total; a market that traded shows both whole
books last, as the later truth of the operation.

Times are as captured on 2026-04-21 (5,544 events): operations share a millisecond (595 of 4,569 of a market hold
several, each with hashes of its own); best prices are mostly stamped a millisecond after the book (102 of 142), and a
print 18 to 25 ms after it (57 of 71).
"""

from __future__ import annotations

import msgspec

from tbot.core.market import MarketId, TokenId
from tbot.core.messages import ExchangeOrderId, OrderState, Settlement, Side
from tbot.core.units import NANOS_PER_MS, Nanos, Price, Size, complement
from tbot.exchanges.simulated.checks import KILLS, Candidate
from tbot.exchanges.simulated.events import (
    BookShown,
    BookView,
    Event,
    LevelChange,
    LevelsChanged,
    MarketOpened,
    MarketResolved,
    OrderChange,
    OrderChanged,
    TickChanged,
    TopChanged,
    Trade,
    TradeChanged,
    TradePrinted,
)
from tbot.exchanges.simulated.operations import Account, EndReason
from tbot.exchanges.simulated.orderbook import Order, UnifiedBook, last_trade_text
from tbot.exchanges.simulated.trades import parties

PRINT_MS_MIN = 18
PRINT_MS_SPREAD = 8
TOP_MS = 1


class Turn:
    """The events of one operation.

    Args:
        now_ns: Moment of the operation; for a timed step the moment it was due.
        step: Its number.

    Attributes:
        ended: Orders that are over since.
        made: Trades that were matched.
    """

    def __init__(self, now_ns: Nanos, step: int) -> None:
        self.now_ns = now_ns
        self._step = step
        self.weakened: dict[Account, None] = {}
        self.ended: dict[ExchangeOrderId, Order] = {}
        self.made: list[Trade] = []
        self._events: list[Event] = []
        self._ms: dict[MarketId, int] = {}
        self._levels: dict[MarketId, dict[tuple[bool, Price], None]] = {}
        self._books: dict[MarketId, UnifiedBook] = {}
        self._shown: dict[MarketId, None] = {}
        self._traded: dict[MarketId, None] = {}

    def ms(self, book: UnifiedBook) -> int:
        """Give the exchange time of this operation in one market, never earlier than an operation before it."""
        market_id = book.rules.market_id
        ms = self._ms.get(market_id)
        if ms is None:
            ms = book.exchange_ms = max(self.now_ns // NANOS_PER_MS, book.exchange_ms)
            self._ms[market_id] = ms
        return ms

    def books_touched(self) -> tuple[UnifiedBook, ...]:
        """Name the books of which a level changed."""
        return tuple(self._books[market_id] for market_id in self._levels)

    def touch(self, book: UnifiedBook, order: Order) -> None:
        """Note that the level of an order changed."""
        book.changed_ms = self.ms(book)
        market_id = book.rules.market_id
        self._books[market_id] = book
        self._levels.setdefault(market_id, {})[order.is_bid, order.price_yes] = None

    def weaken(self, account: Account) -> None:
        """Note that an account has less to cover its orders with than before."""
        self.weakened[account] = None

    def tell_order(self, change: OrderChange, order: Order, book: UnifiedBook) -> None:
        """Tell the owner of an order what became of it."""
        if order.is_over:
            self.ended[order.place.order_id] = order
        self._tell_owner(change, order, book)

    def tell_refusal(self, candidate: Candidate, text: str) -> None:
        """Tell the owner of an order killed as it came in, where settings say so; the engine knows it no further."""
        if candidate.settings.has_kill_events and text in KILLS:
            book = candidate.book
            order = Order(candidate.order, rules=book.rules, sequence=0, created_ns=self.now_ns)
            order.state, order.reason = OrderState.CANCELED, EndReason.KILLED
            self._tell_owner(OrderChange.CANCELLATION, order, book)

    def tell_trade(self, trade: Trade, book: UnifiedBook) -> None:
        """Tell every party of a trade its status, once each."""
        ms = self.ms(book)
        if trade.settlement is Settlement.MATCHED:
            self.made.append(trade)
        for account in parties(trade):
            self._events.append(TradeChanged(account=account, trade=trade, exchange_ms=ms, at_ns=self.now_ns))

    def print_trade(self, trade: Trade, price: Price, size: Size, book: UnifiedBook) -> None:
        """Tell the public of a trade, of what it took at one price: no print captured has an averaged one (of 909)."""
        self._show(book)
        self._traded[book.rules.market_id] = None
        self._events.append(
            TradePrinted(
                market_id=trade.market_id,
                token_id=trade.token_id,
                price=price,
                size=size,
                taker_side=trade.side,
                trade_id=trade.trade_id,
                exchange_ms=self.ms(book) + PRINT_MS_MIN + self._step % PRINT_MS_SPREAD,
                at_ns=self.now_ns,
                step=self._step,
            )
        )

    def change_tick(self, book: UnifiedBook, tick: Price) -> None:
        """Give a market another price grid, and tell the public; old resting levels stay."""
        tick_old = book.rules.tick
        book.rules = msgspec.structs.replace(book.rules, tick=tick)
        self._show(book)
        self._events.append(
            TickChanged(
                market_id=book.rules.market_id,
                tokens=(book.rules.yes, book.rules.no),
                tick_old=tick_old,
                tick=book.rules.tick,
                exchange_ms=self.ms(book),
                at_ns=self.now_ns,
                step=self._step,
            )
        )

    def tell_opened(self, book: UnifiedBook) -> None:
        """Tell the public of a new market."""
        book.changed_ms = self.ms(book)
        self._events.append(
            MarketOpened(
                market_id=book.rules.market_id,
                rules=book.rules,
                exchange_ms=self.ms(book),
                at_ns=self.now_ns,
                step=self._step,
            )
        )

    def tell_resolved(self, book: UnifiedBook, yes_payout: Price) -> None:
        """Tell the public what the tokens of a market are worth."""
        self._events.append(
            MarketResolved(
                market_id=book.rules.market_id,
                yes_payout=yes_payout,
                exchange_ms=self.ms(book),
                at_ns=self.now_ns,
                step=self._step,
            )
        )

    def end(self) -> tuple[Event, ...]:
        """Close the operation and give all its events in order."""
        for market_id, levels in self._levels.items():
            self._events.append(self._levels_changed(self._books[market_id], levels))
        for market_id in self._shown:
            book = self._books[market_id]
            for token_id in (book.rules.yes, book.rules.no):
                view = view_of(book, token_id)
                self._events.append(
                    BookShown(
                        market_id=market_id, book=view, exchange_ms=view.exchange_ms, at_ns=self.now_ns, step=self._step
                    )
                )
        for market_id in self._levels:
            self._tell_top(self._books[market_id])
        return tuple(self._events)

    def _tell_owner(self, change: OrderChange, order: Order, book: UnifiedBook) -> None:
        account, ms = order.place.account, self.ms(book)
        self._events.append(
            OrderChanged(account=account, change=change, order=order.view(), exchange_ms=ms, at_ns=self.now_ns)
        )

    # As captured (2026-04-21, 72 of 72): after every trade, and whenever a best price changes, not a size.
    def _tell_top(self, book: UnifiedBook) -> None:
        market_id, top = book.rules.market_id, book.top
        if top == book.top_told and market_id not in self._traded:
            return
        book.top_told = top
        bid, ask = top
        self._events.append(
            TopChanged(
                market_id=market_id,
                yes=book.rules.yes,
                no=book.rules.no,
                best_bid=bid,
                best_ask=ask,
                exchange_ms=self.ms(book) + TOP_MS,
                at_ns=self.now_ns,
                step=self._step,
            )
        )

    def _show(self, book: UnifiedBook) -> None:
        book.changed_ms = self.ms(book)
        self._books[book.rules.market_id] = book
        self._shown[book.rules.market_id] = None

    def _levels_changed(self, book: UnifiedBook, levels: dict[tuple[bool, Price], None]) -> LevelsChanged:
        bid, ask = book.bids.best(), book.asks.best()
        no_bid = None if ask is None else complement(ask)
        no_ask = None if bid is None else complement(bid)
        yes, no = book.rules.yes, book.rules.no
        changes: list[LevelChange] = []
        for is_bid, price in levels:
            size = book.side(is_bid=is_bid).total(price)
            side = Side.BUY if is_bid else Side.SELL
            changes.append(LevelChange(token_id=yes, side=side, price=price, size=size, best_bid=bid, best_ask=ask))
            mirror, at = side.opposite, complement(price)
            changes.append(LevelChange(token_id=no, side=mirror, price=at, size=size, best_bid=no_bid, best_ask=no_ask))
        return LevelsChanged(
            market_id=book.rules.market_id,
            changes=tuple(changes),
            exchange_ms=self.ms(book),
            at_ns=self.now_ns,
            step=self._step,
        )


def view_of(book: UnifiedBook, token_id: TokenId) -> BookView:
    """Show the whole book of one outcome."""
    bids, asks = book.levels_of(token_id)
    rules, last = book.rules, book.last_price_yes
    return BookView(
        market_id=rules.market_id,
        token_id=token_id,
        bids=bids,
        asks=asks,
        exchange_ms=book.changed_ms,
        tick=rules.tick,
        size_min=rules.size_min,
        is_neg_risk=rules.is_neg_risk,
        last_trade_text=last_trade_text(book.last_trade_price),
        last_trade_side=book.last_trade_side,
        last_price=last if last is None or token_id == rules.yes else complement(last),
    )
