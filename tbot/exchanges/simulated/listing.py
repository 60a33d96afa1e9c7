"""How markets come to be listed, and what is set by hand of those that are."""

from __future__ import annotations

from tbot.core.market import MarketId, TokenId
from tbot.core.units import NANOS_PER_S, Nanos
from tbot.exchanges.simulated.operations import ChangeTick, Done, OpenMarket, Refused
from tbot.exchanges.simulated.orderbook import UnifiedBook
from tbot.exchanges.simulated.settlement import Agenda, StartGame
from tbot.exchanges.simulated.turn import Turn


class Listing:
    """Opens books.

    Args:
        books: Of every market; the engine's own, not a copy, as the other two.
        market_of: The market of every token.
        agenda: What is due.
    """

    def __init__(self, books: dict[MarketId, UnifiedBook], market_of: dict[TokenId, MarketId], agenda: Agenda) -> None:
        self._books = books
        self._market_of = market_of
        self._agenda = agenda

    def open(self, operation: OpenMarket, turn: Turn) -> Done | Refused:
        """List a market, unless it or one of its tokens is listed."""
        rules = operation.rules
        if rules.market_id in self._books or any(token in self._market_of for token in rules.tokens):
            return Refused(text=f"market {rules.market_id} or one of its tokens is listed already")
        book = self._books[rules.market_id] = UnifiedBook(rules)
        for token_id in rules.tokens:
            self._market_of[token_id] = rules.market_id
        start_ns = Nanos(rules.game_start_s * NANOS_PER_S)
        if rules.clears_book_at_start and start_ns > turn.now_ns:
            self._agenda.enter(start_ns, StartGame(market_id=rules.market_id))
        turn.tell_opened(book)
        return Done()

    def change_tick(self, operation: ChangeTick, turn: Turn) -> Done:
        """Set the tick of a market."""
        book = self._books[operation.market_id]
        book.tick_listed = operation.tick
        turn.change_tick(book, operation.tick)
        return Done()
