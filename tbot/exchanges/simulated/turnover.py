"""How much was traded in each market, in all and lately: running sums, which outlive the trades they are of."""

from __future__ import annotations

from collections import deque

from tbot.core.market import MarketId
from tbot.core.units import NANOS_PER_S, Nanos, Notional, Size
from tbot.exchanges.simulated.events import Trade

DAY_NS = 86_400 * NANOS_PER_S
_STEP_NS = 60 * NANOS_PER_S


class Turnover:
    """Turnover of each market. Counts every match once, also one whose settlement failed later."""

    def __init__(self) -> None:
        """Start with no trade."""
        self._notional: dict[MarketId, int] = {}
        self._shares: dict[MarketId, int] = {}
        # Of the last day, minute by minute: (minute, collateral).
        self._minutes: dict[MarketId, deque[tuple[int, int]]] = {}

    def count(self, trade: Trade) -> None:
        """Add a trade just matched."""
        market_id = trade.market_id
        self._notional[market_id] = self.notional(market_id) + trade.notional
        self._shares[market_id] = self.shares(market_id) + trade.size
        minute, minutes = trade.matched_ns // _STEP_NS, self._minutes.setdefault(market_id, deque())
        before = minutes.pop()[1] if minutes and minutes[-1][0] == minute else 0
        minutes.append((minute, before + trade.notional))
        while minutes[0][0] < minute - DAY_NS // _STEP_NS:
            minutes.popleft()

    def notional(self, market_id: MarketId) -> Notional:
        """Give the collateral of everything traded in a market, micro-dollars."""
        return Notional(self._notional.get(market_id, 0))

    def shares(self, market_id: MarketId) -> Size:
        """Give the shares of everything traded in a market, micro-shares."""
        return Size(self._shares.get(market_id, 0))

    def notional_of_day(self, market_id: MarketId, now_ns: Nanos) -> Notional:
        """Give the collateral of what was traded in a market in the last 24 hours, to the minute, micro-dollars."""
        begin = (now_ns - DAY_NS) // _STEP_NS
        return Notional(sum(amount for minute, amount in self._minutes.get(market_id, ()) if minute > begin))
