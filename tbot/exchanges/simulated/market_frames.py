"""From market events to frames with true book hashes. Pure.

A hash belongs to the whole book after its operation, stamped with its millisecond: where several share one, each frame
captured on 2026-04-21 has its own. So events are taken in groups of one market and operation: first the books are
brought up to date, then the frames of the group are made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby

import msgspec

from tbot.core.market import MarketId, TokenId
from tbot.core.messages import Side
from tbot.core.units import Nanos
from tbot.exchanges.simulated.catalog import EventListing, Listing
from tbot.exchanges.simulated.events import (
    BookShown,
    LevelsChanged,
    MarketEvent,
    MarketOpened,
    MarketResolved,
    TickChanged,
    TopChanged,
    TradePrinted,
)
from tbot.exchanges.simulated.matching import Engine
from tbot.exchanges.simulated.orderbook import Standing
from tbot.exchanges.simulated.wire_books import (
    BookState,
    book_after_trade,
    last_trade_price,
    price_changes,
    tick_size_changes,
)
from tbot.exchanges.simulated.wire_custom import best_bid_asks, new_market, resolved_market

FindListing = Callable[[MarketId, Nanos], tuple[EventListing, Listing]]


class MarketFrames:
    """Follows the markets of one subscriber."""

    def __init__(self, engine: Engine, place: FindListing) -> None:
        """Follow nothing yet.

        Args:
            engine: Books and rules are read from it.
            place: Finds a market in the catalogue, for frames that carry its number and words.
        """
        self._engine = engine
        self._place = place
        self._books: dict[TokenId, BookState] = {}
        self._last_trade: dict[MarketId, str] = {}

    def follow(self, market_id: MarketId) -> None:
        """Take both books of a market as they are now; every event from now on must come through `frames`."""
        rules = self._engine.rules(market_id)
        for token_id in (rules.yes, rules.no):
            view = self._engine.book(token_id)
            self._books[token_id] = BookState(view)
            self._last_trade[market_id] = view.last_trade_text

    def frames(self, events: Iterable[MarketEvent]) -> list[msgspec.Struct]:
        """Turn events into frames, one or two an event, in order.

        Args:
            events: Everything that waited, oldest first, of followed markets; `MarketOpened` of any.
        """
        made: list[msgspec.Struct] = []
        touched: dict[MarketId, bool] = {}
        for (market_id, _), group in groupby(events, key=lambda event: (event.market_id, event.step)):
            members = list(group)
            made += self._group(market_id, members)
            has_whole = any(isinstance(event, BookShown) for event in members)
            if market_id in self._last_trade:
                touched[market_id] = touched.get(market_id, False) or has_whole
        # The books the exchange really has, not those this subscriber heard of: when an injected fault swallowed an
        # event, the next hash must disagree with what the subscriber believes.
        for market_id, has_whole in touched.items():
            # Changes of levels keep the two outcomes each other's mirror, so YES answers for both; whole books come one
            # at a time and may not.
            if has_whole or not self._is_true(market_id):
                self.follow(market_id)
        return made

    def _is_true(self, market_id: MarketId) -> bool:
        book = self._books[self._engine.rules(market_id).yes]
        believed = Standing(
            bids=book.sizes(Side.BUY),
            asks=book.sizes(Side.SELL),
            tick=book.view.tick,
            last_trade_text=self._last_trade[market_id],
        )
        return believed == self._engine.standing(market_id)

    def _group(self, market_id: MarketId, events: list[MarketEvent]) -> list[msgspec.Struct]:
        for event in events:
            self._update(event)
        made: list[msgspec.Struct] = []
        for event in events:
            match event:
                case LevelsChanged():
                    made += price_changes(event, self._hashes(market_id, event.exchange_ms))
                case BookShown():
                    made.append(book_after_trade(event.book))
                case TradePrinted():
                    made.append(last_trade_price(event, self._engine.rules(market_id)))
                case TickChanged():
                    made += tick_size_changes(event, self._engine.rules(market_id))
                case TopChanged():
                    made += best_bid_asks(event)
                case MarketOpened():
                    made.append(new_market(event, *self._place(market_id, event.at_ns)))
                case MarketResolved():
                    made.append(resolved_market(event, self._place(market_id, event.at_ns)[1]))
        return made

    def _update(self, event: MarketEvent) -> None:
        match event:
            case LevelsChanged():
                for change in event.changes:
                    self._books[change.token_id].set_level(change.side, change.price, change.size)
            case BookShown():
                self._books[event.book.token_id].reset(event.book)
                self._last_trade[event.market_id] = event.book.last_trade_text
            case TickChanged():
                rules = self._engine.rules(event.market_id)
                for token_id in (rules.yes, rules.no):
                    self._books[token_id].set_tick(event.tick)
            case TradePrinted() | TopChanged() | MarketOpened() | MarketResolved():
                pass  # these change no level; what a trade takes comes in the same group

    def _hashes(self, market_id: MarketId, exchange_ms: int) -> dict[TokenId, str]:
        rules = self._engine.rules(market_id)
        text = self._last_trade[market_id]
        return {
            token_id: self._books[token_id].hash_at(exchange_ms, last_trade_text=text)
            for token_id in (rules.yes, rules.no)
        }
