"""How markets pause, close and open again; for good: at once for traders, for holders when the payout is on chain."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tbot.core.market import MarketId
from tbot.core.units import Nanos, Price
from tbot.exchanges.simulated.cancelling import Cancelling
from tbot.exchanges.simulated.chain_log import ChainLog
from tbot.exchanges.simulated.checks import TEXT_MARKET_NOT_READY
from tbot.exchanges.simulated.collateral import objection_to_payout
from tbot.exchanges.simulated.operations import (
    CloseMarket,
    Done,
    EndReason,
    MarketRules,
    PauseMarket,
    Refused,
    ReopenMarket,
    ResolveMarket,
)
from tbot.exchanges.simulated.orderbook import UnifiedBook
from tbot.exchanges.simulated.settlement import Agenda, ReleaseOrder, ReportPayout
from tbot.exchanges.simulated.turn import Turn

Change = CloseMarket | ResolveMarket | PauseMarket | ReopenMarket
TEXT_RESOLVED = "market is resolved"
TEXT_NOT_OPEN = "market is not open"
_END_OF_HELD = TEXT_MARKET_NOT_READY, EndReason.MARKET_RESOLVED


class Resolving:
    """Pauses, opens and closes markets and reports their payouts.

    Args:
        books: Of every market; the engine's own, not a copy.
        chain: Told when a market was resolved.
        cancels: Clears the books.
        agenda: Remembers payouts on their way, and which orders are held until when.
        delay_ns: From the resolution to its payout; 0 = they are one.

    Attributes:
        announced: What one YES will pay in markets resolved whose payout is on its way.
    """

    def __init__(
        self,
        books: Mapping[MarketId, UnifiedBook],
        chain: ChainLog,
        cancels: Cancelling,
        agenda: Agenda,
        delay_ns: int,
    ) -> None:
        self._books = books
        self._chain = chain
        self._cancels = cancels
        self._agenda = agenda
        self._delay_ns = delay_ns
        self.announced: dict[MarketId, Price] = {}

    def change(self, operation: Change, turn: Turn) -> Done | Refused:
        """Do what the operation says."""
        match operation:
            case PauseMarket():
                return self._pause(operation.market_id)
            case ReopenMarket():
                return self._reopen(operation.market_id)
            case CloseMarket() | ResolveMarket():
                return self._close(operation, turn)

    def _pause(self, market_id: MarketId) -> Done | Refused:
        book = self._books[market_id]
        if not book.rules.is_accepting_orders:
            return Refused(text=TEXT_NOT_OPEN)
        book.rules = msgspec.structs.replace(book.rules, is_accepting_orders=False, is_paused=True)
        return Done()

    def _reopen(self, market_id: MarketId) -> Done | Refused:
        book = self._books[market_id]
        if self._as_announced(book.rules).yes_payout is not None:
            return Refused(text=TEXT_RESOLVED)
        book.rules = msgspec.structs.replace(book.rules, is_accepting_orders=True, is_paused=False)
        return Done()

    def _close(self, operation: CloseMarket | ResolveMarket, turn: Turn) -> Done | Refused:
        """End trading and every order, also those held; a resolution also decides what the tokens will pay."""
        book = self._books[operation.market_id]
        if isinstance(operation, ResolveMarket):
            text = self._objection(book, operation.yes_payout)
            if text:
                return Refused(text=text)
        book.rules = msgspec.structs.replace(book.rules, is_accepting_orders=False, is_paused=False)
        if isinstance(operation, ResolveMarket):
            self._decide(book, operation.yes_payout, turn)
        self._cancels.clear(operation.market_id, EndReason.MARKET_RESOLVED, turn)
        # At once: when its delay is over the market may be open again.
        ended = self._cancels.clear_held(operation.market_id, _END_OF_HELD, turn)
        self._agenda.drop({ReleaseOrder(order_id=order_id) for order_id in ended})
        return Done()

    def report(self, market_id: MarketId, turn: Turn) -> None:
        """Pay out from now on what was announced."""
        self._pay(self._books[market_id], self.announced.pop(market_id), turn)

    # What was announced cannot be taken back, so it counts like what is paid.
    def _objection(self, book: UnifiedBook, yes_payout: Price) -> str:
        markets = {market_id: self._as_announced(b.rules) for market_id, b in self._books.items()}
        return objection_to_payout(markets.values(), markets[book.rules.market_id], yes_payout)

    def _as_announced(self, rules: MarketRules) -> MarketRules:
        payout = self.announced.get(rules.market_id)
        return rules if payout is None else msgspec.structs.replace(rules, yes_payout=payout)

    def _decide(self, book: UnifiedBook, yes_payout: Price, turn: Turn) -> None:
        if not self._delay_ns:
            self._pay(book, yes_payout, turn)
            return
        market_id = book.rules.market_id
        self.announced[market_id] = yes_payout
        self._agenda.enter(Nanos(turn.now_ns + self._delay_ns), ReportPayout(market_id=market_id))

    def _pay(self, book: UnifiedBook, yes_payout: Price, turn: Turn) -> None:
        book.rules = msgspec.structs.replace(book.rules, yes_payout=yes_payout)
        self._chain.resolved[book.rules.market_id] = turn.now_ns
        turn.tell_resolved(book, yes_payout)
