"""What is known of one connection of the market feed: whether it stands, and whether its silence is usual. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tbot.core.market import Market, TokenId
from tbot.tasks.feed_settings import FeedSettings

# One new gap moves the usual one by a sixteenth: some seconds of a busy connection, minutes of a quiet one.
GAP_WEIGHT = 1 / 16


class Line:
    """One connection and the tokens it carries.

    Attributes:
        number: 0 for the first.
        tokens: What it is to carry, in order of subscription; markets come and go.
        session: Number of the connection made, 0 before the first.
        is_connected: Whether it stands.
        since_s: Since when it stands, or does not.
        data_s: When data of any of its tokens came last.
        gap_s: Its usual time between data, learnt; None = not yet.
    """

    def __init__(self, number: int, tokens: Iterable[TokenId], now_s: float) -> None:
        """Begin disconnected."""
        self.number = number
        self.tokens = tuple(tokens)
        self.session = 0
        self.is_connected = False
        self.since_s = self.data_s = now_s
        self.gap_s: float | None = None

    def has_room(self, tokens_max: int) -> bool:
        """Whether both tokens of one more market fit on it."""
        return len(self.tokens) + 2 <= tokens_max

    def connected(self, now_s: float) -> None:
        """Begin a connection; what was learnt of its rate stays."""
        self.session += 1
        self.is_connected = True
        self.since_s = self.data_s = now_s

    def lost(self, now_s: float) -> None:
        """End the connection, or note one more attempt that failed."""
        self.since_s = now_s if self.is_connected else self.since_s
        self.is_connected = False

    def heard(self, now_s: float) -> None:
        """Note data."""
        gap_s = now_s - self.data_s
        self.gap_s = gap_s if self.gap_s is None else self.gap_s + (gap_s - self.gap_s) * GAP_WEIGHT
        self.data_s = now_s

    def is_silent(self, now_s: float, settings: FeedSettings) -> bool:
        """Whether the silence is unusual: a reason to look, never one to act."""
        if self.gap_s is None:
            return False
        return now_s - self.data_s >= max(settings.traffic_s, settings.traffic_gaps * self.gap_s)


def lines_of(markets: Sequence[Market], tokens_max: int, now_s: float) -> list[Line]:
    """Spread markets over as few connections as may carry them, both tokens of a market on the same one.

    Args:
        markets: In the order of the connections.
        tokens_max: Most tokens on one; at least 2.
        now_s: Now.
    """
    tokens = [token for market in markets for token in market.tokens]
    size = tokens_max - tokens_max % 2
    return [Line(n, tokens[start : start + size], now_s) for n, start in enumerate(range(0, len(tokens), size))]
