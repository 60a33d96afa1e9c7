"""When the price grid of a market changes by itself.

The documents say: a market's tick changes "when the book's price reaches the limits: price > 0.96 or price < 0.04"
(market channel, read 2026-11). They do not say which price; taken here is the one that the exchange shows as the price:
the midpoint, or the last trade where the spread is wider than ten cents or a side is empty, so that a lonely far quote
changes nothing. Captured books have a tick of a cent at a midpoint of 0.98 and of a tenth of a cent minutes later, so
production is slower than this; how slow is not known. That a market goes back is said by third parties only.
"""

from __future__ import annotations

from tbot.core.units import MICRO, Price
from tbot.exchanges.simulated.operations import EngineSettings
from tbot.exchanges.simulated.orderbook import UnifiedBook

CENT, FINE = Price(10_000), Price(1_000)
EDGE_LOW, EDGE_HIGH = Price(40_000), Price(960_000)
SPREAD_SHOWN_MAX = 100_000


def shown_price(book: UnifiedBook) -> int | None:
    """Tell the price of YES that the exchange would show, micro-dollars; None = there is none."""
    bid, ask = book.bids.best(), book.asks.best()
    if bid is not None and ask is not None and ask - bid <= SPREAD_SHOWN_MAX:
        return (bid + ask) // 2
    return book.last_price_yes


def tick_after(book: UnifiedBook, settings: EngineSettings) -> Price:
    """Tell which tick a market should have now.

    Args:
        book: After the operation.
        settings: Whether ticks change, and whether they change back.
    """
    tick, price = book.rules.tick, shown_price(book)
    if book.tick_listed != CENT or price is None or not settings.has_tick_change:
        return tick
    assert 0 < price < MICRO
    if price > EDGE_HIGH or price < EDGE_LOW:
        return FINE
    return CENT if settings.has_tick_return else tick
