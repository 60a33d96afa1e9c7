"""When the terms of which market are read again. Pure: no waiting, no clock; durations are Trio seconds."""

from __future__ import annotations

from collections.abc import Sequence

from tbot.core.market import Market, MarketId
from tbot.tasks.feed_settings import FeedSettings


class TermsSchedule:
    """Each market about every `terms_s`, sooner after news of it, and soon again after an answer that did not come."""

    def __init__(self, markets: Sequence[Market], settings: FeedSettings, now_s: float) -> None:
        """Begin with markets that were just read; the next readings are spread over the time until they are due."""
        self._settings = settings
        self._read_s = {m.market_id: now_s - settings.terms_s * i / len(markets) for i, m in enumerate(markets)}

    def add(self, market_id: MarketId, now_s: float) -> None:
        """Take one more market, just read."""
        self._read_s[market_id] = now_s

    def remove(self, market_id: MarketId) -> None:
        """Forget a market."""
        self._read_s.pop(market_id, None)

    def due(self, now_s: float) -> MarketId | None:
        """Name the market to be read now, the longest unread first; None = none is due."""
        oldest = min(self._read_s, key=self._read_s.__getitem__, default=None)
        is_due = oldest is not None and now_s - self._read_s[oldest] >= self._settings.terms_s
        return oldest if is_due else None

    def asked(self, market_id: MarketId, now_s: float) -> None:
        """Note that a market is being read."""
        self._read_s[market_id] = now_s

    def unanswered(self, market_id: MarketId, now_s: float) -> None:
        """Note that it could not be read: it is due again after `canary_s`."""
        if market_id in self._read_s:
            self._read_s[market_id] = now_s - self._settings.terms_s + self._settings.canary_s

    def hurry(self, market_id: MarketId) -> None:
        """Have it read next."""
        if market_id in self._read_s:
            self._read_s[market_id] = float("-inf")
