"""How much was traded in each market, in all and lately: running totals over the engine's trades."""

from __future__ import annotations

from bisect import bisect_right
from itertools import islice

from tbot.core.market import MarketId
from tbot.core.units import NANOS_PER_S, Nanos, Notional
from tbot.exchanges.simulated.matching import Engine

DAY_NS = 86_400 * NANOS_PER_S


class Turnover:
    """Collateral turned over by each market. Counts every match once, also one whose settlement failed later."""

    def __init__(self, engine: Engine) -> None:
        """Count the trades of this engine; call `update` before reading."""
        self._engine = engine
        self._counted = 0
        self._times: dict[MarketId, list[Nanos]] = {}
        self._totals: dict[MarketId, list[Notional]] = {}

    def update(self) -> None:
        """Count what was traded since the last update."""
        trades = self._engine.trades
        for trade in islice(trades, self._counted, None):
            totals = self._totals.setdefault(trade.market_id, [])
            totals.append(Notional((totals[-1] if totals else 0) + trade.notional))
            self._times.setdefault(trade.market_id, []).append(trade.matched_ns)
        self._counted = len(trades)

    def total(self, market_id: MarketId) -> Notional:
        """Give everything traded in a market, micro-dollars."""
        totals = self._totals.get(market_id)
        return totals[-1] if totals else Notional(0)

    def since(self, market_id: MarketId, moment_ns: Nanos) -> Notional:
        """Give what was traded in a market after a moment, micro-dollars."""
        before = bisect_right(self._times.get(market_id, ()), moment_ns)
        return Notional(self.total(market_id) - (self._totals[market_id][before - 1] if before else 0))
