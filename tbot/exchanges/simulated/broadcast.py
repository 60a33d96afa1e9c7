"""Who hears what: engine events to the streams they concern, bent by faults on the way."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from tbot.core.market import MarketId, TokenId
from tbot.core.units import NANOS_PER_MS, Nanos
from tbot.exchanges.simulated.events import (
    AccountEvent,
    BookShown,
    BookView,
    Event,
    MarketEvent,
    OrderChanged,
    TradeChanged,
    TradePrinted,
)
from tbot.exchanges.simulated.fault_catalogue import Fault
from tbot.exchanges.simulated.fault_switches import FOREVER_NS
from tbot.exchanges.simulated.faults import Faults
from tbot.exchanges.simulated.operations import Account
from tbot.exchanges.simulated.streams import AccountStream, MarketStream


class Broadcast:
    """The subscribers of one exchange.

    Args:
        capacity: Events one reader may leave waiting.
        faults: Decides what is dropped, doubled or late.
    """

    def __init__(self, capacity: int, faults: Faults) -> None:
        self._capacity = capacity
        self._faults = faults
        # Dicts keep the order of subscription; sets would make a run depend on memory addresses.
        self._markets: dict[int, MarketStream] = {}
        self._accounts: dict[int, AccountStream] = {}
        self._delayed: list[tuple[Nanos, int, AccountStream, AccountEvent]] = []
        # Prints, which bear a later time than the operation they come from.
        self._later: list[tuple[Nanos, int, MarketEvent]] = []
        self._count = 0
        self._dark_since_ns: Nanos | None = None

    @contextmanager
    def market_stream(self, pairs: Iterable[tuple[TokenId, MarketId]]) -> Iterator[MarketStream]:
        """Open a stream of market events; it ends with the context."""
        stream = MarketStream(self._capacity)
        stream.add(pairs)
        key = self._next_key()
        self._markets[key] = stream
        try:
            yield stream
        finally:
            self._markets.pop(key, None)
            stream.end("closed by its reader")

    @contextmanager
    def account_stream(self, account: Account) -> Iterator[AccountStream]:
        """Open a stream of private events; it ends with the context."""
        stream = AccountStream(account, self._capacity)
        key = self._next_key()
        self._accounts[key] = stream
        try:
            yield stream
        finally:
            self._accounts.pop(key, None)
            stream.end("closed by its reader")

    def publish(self, events: Iterable[Event], now_ns: Nanos) -> None:
        """Push events to everybody they concern."""
        for event in events:
            if isinstance(event, OrderChanged | TradeChanged):
                self._publish_private(event, now_ns)
            elif isinstance(event, TradePrinted) and self._markets:
                due_ns = Nanos(event.exchange_ms * NANOS_PER_MS)
                heapq.heappush(self._later, (due_ns, self._next_key(), event))
            else:
                self._publish_public(event, now_ns)

    def cut(self, reason: str) -> None:
        """End every stream."""
        for market_stream in self._markets.values():
            market_stream.end(reason)
        for account_stream in self._accounts.values():
            account_stream.end(reason)

    def freeze(self, until_ns: Nanos) -> None:
        """Let the market streams open now carry nothing until a moment; what happens meanwhile is lost to them."""
        for stream in self._markets.values():
            stream.frozen_until_ns = until_ns

    def freeze_token(self, token_id: TokenId, until_ns: Nanos) -> None:
        """Let one token carry nothing on the streams that have it now, until a moment; renderers leave it out."""
        for stream in self._markets.values():
            stream.freeze(token_id, until_ns)

    def thaw(self, book: Callable[[TokenId], BookView], now_ns: Nanos) -> None:
        """End the silences that are over, with whole books, so that no reader goes on with a wrong one."""
        for stream in self._markets.values():
            _show(stream, stream.thaw(now_ns), book, now_ns)
            if 0 < stream.frozen_until_ns <= now_ns:
                stream.frozen_until_ns = Nanos(0)
                _show(stream, stream.tokens, book, now_ns)

    def thaw_all(self, book: Callable[[TokenId], BookView], now_ns: Nanos) -> None:
        """End every silence before its time."""
        for stream in self._markets.values():
            stream.frozen_until_ns = min(stream.frozen_until_ns, now_ns)
        self.thaw(book, now_ns)

    def thaw_tokens(self, book: Callable[[TokenId], BookView], now_ns: Nanos) -> None:
        """Let every frozen token go on before its time."""
        for stream in self._markets.values():
            _show(stream, stream.thaw(FOREVER_NS), book, now_ns)

    def dark_since_ns(self, now_ns: Nanos) -> Nanos | None:
        """Since when no market stream carries data, as far as it was asked; None = one does now."""
        if any(stream.is_open and stream.frozen_until_ns <= now_ns for stream in self._markets.values()):
            self._dark_since_ns = None
        elif self._dark_since_ns is None:
            self._dark_since_ns = now_ns
        return self._dark_since_ns

    def next_thaw_ns(self) -> Nanos | None:
        """When the next silence ends."""
        silences = [s.frozen_until_ns for s in self._markets.values() if s.frozen_until_ns]
        tokens = [due for s in self._markets.values() if (due := s.next_thaw_ns()) is not None]
        return min([*silences, *tokens], default=None)

    def next_due_ns(self) -> Nanos | None:
        """When the next delayed event is due."""
        dues = [heap[0][0] for heap in (self._delayed, self._later) if heap]
        return min(dues, default=None)

    def deliver_delayed(self, now_ns: Nanos) -> None:
        """Push the delayed events that are due."""
        while self._delayed and self._delayed[0][0] <= now_ns:
            _, _, stream, event = heapq.heappop(self._delayed)
            stream.push(event)
        while self._later and self._later[0][0] <= now_ns:
            self._publish_public(heapq.heappop(self._later)[2], now_ns)

    def _publish_public(self, event: MarketEvent, now_ns: Nanos) -> None:
        for stream in self._markets.values():
            if now_ns < stream.frozen_until_ns or not stream.wants(event):
                continue
            if self._faults.on_market_event():
                continue
            stream.push(event)

    def _publish_private(self, event: AccountEvent, now_ns: Nanos) -> None:
        for stream in self._accounts.values():
            if stream.account == event.account:
                self._push_private(stream, event, now_ns)

    def _push_private(self, stream: AccountStream, event: AccountEvent, now_ns: Nanos) -> None:
        match self._faults.on_account_event(stream.account):
            case Fault.MISSED_EVENTS:
                return
            case Fault.REORDERED_EVENTS:
                due_ns = Nanos(now_ns + self._faults.event_delay_ns())
                heapq.heappush(self._delayed, (due_ns, self._next_key(), stream, event))
                return
            case Fault.DUPLICATED_EVENTS:
                stream.push(event)
            case _:
                pass
        stream.push(event)

    def _next_key(self) -> int:
        self._count += 1
        return self._count


def _show(
    stream: MarketStream, token_ids: Iterable[TokenId], book: Callable[[TokenId], BookView], now_ns: Nanos
) -> None:
    for view in map(book, token_ids):
        stream.push(BookShown(market_id=view.market_id, book=view, exchange_ms=view.exchange_ms, at_ns=now_ns))
