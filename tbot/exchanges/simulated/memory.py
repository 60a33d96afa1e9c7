"""What the exchange forgets, and when: without that a crowd that trades for days would fill the machine.

Orders that are over and trades that are settled are looked up by clients and by the Data API, for a while. Those in
which only the crowd took part are forgotten soon; those of clients much later, and earlier only when there are very
many. Sums are kept for ever: balances, stakes, turnover. What is forgotten is a function of the operations and their
moments, so a replay remembers the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from typing import TypeVar

from tbot.core.messages import ExchangeOrderId, TradeId
from tbot.core.units import NANOS_PER_S, Nanos
from tbot.exchanges.simulated.chain_log import ChainLog
from tbot.exchanges.simulated.operations import Account, EngineSettings
from tbot.exchanges.simulated.resting import OrderTable
from tbot.exchanges.simulated.settlement import longest_course_ns
from tbot.exchanges.simulated.trades import TradeLog, parties
from tbot.exchanges.simulated.turn import Turn

T = TypeVar("T")

TEND_EVERY_NS = 60 * NANOS_PER_S
"""Forgetting comes in lots, so that whoever keeps sums of its own is asked to catch up once a lot."""


class Memory:
    """Keeps count of what is over, and removes it in time.

    Args:
        settings: How long.
        crowd: Accounts of synthetic traders.
        orders: The engine's own, as the other two.
        trades: Likewise.
        chain: Likewise.

    Attributes:
        readers: Called before anything is forgotten: the last chance to read it.
    """

    def __init__(
        self,
        settings: EngineSettings,
        crowd: Collection[Account],
        *,
        orders: OrderTable,
        trades: TradeLog,
        chain: ChainLog,
    ) -> None:
        self.readers: list[Callable[[], None]] = []
        self._settings = settings
        self._crowd = frozenset(crowd)
        self._orders, self._trades, self._chain = orders, trades, chain
        # (moment, id) of what is over, oldest first: of the crowd and of clients.
        self._ended: dict[bool, deque[tuple[Nanos, ExchangeOrderId]]] = {True: deque(), False: deque()}
        self._made: dict[bool, deque[tuple[Nanos, TradeId]]] = {True: deque(), False: deque()}
        self._next_ns = Nanos(0)

    def tend(self, turn: Turn) -> None:
        """Take note of what a turn ended, and forget what is old by then."""
        for order in turn.ended.values():
            is_crowd = order.place.account in self._crowd
            self._ended[is_crowd].append((turn.now_ns, order.place.order_id))
        for trade in turn.made:
            is_crowd = self._crowd.issuperset(parties(trade))
            self._made[is_crowd].append((turn.now_ns, trade.trade_id))
        if turn.now_ns >= self._next_ns:
            self._next_ns = Nanos(turn.now_ns + TEND_EVERY_NS)
            self._forget(turn.now_ns)

    def begins_ns(self, account: Account, now_ns: Nanos) -> Nanos:
        """Tell since when everything is remembered in which an account took part."""
        return self._begins_ns(now_ns, is_crowd=account in self._crowd)

    def _begins_ns(self, now_ns: Nanos, *, is_crowd: bool) -> Nanos:
        kept_ns = self._settings.crowd_kept_ns if is_crowd else self._settings.clients_kept_ns
        return Nanos(now_ns - kept_ns if kept_ns else 0)

    def _forget(self, now_ns: Nanos) -> None:
        for read in self.readers:
            read()
        # A trade is not over when it is made: its settlement must be.
        settled_ns = Nanos(now_ns - longest_course_ns(self._settings))
        for is_crowd in (True, False):
            begins_ns = self._begins_ns(now_ns, is_crowd=is_crowd)
            most = 0 if is_crowd else self._settings.clients_kept_max
            for order_id in _old(self._ended[is_crowd], begins_ns, most=most, over_ns=now_ns):
                self._orders.forget(order_id)
            for trade_id in _old(self._made[is_crowd], begins_ns, most=most, over_ns=settled_ns):
                self._trades.forget(trade_id)
        # What everybody has read is of no more use to anybody.
        self._chain.forget(self._begins_ns(now_ns, is_crowd=bool(self.readers)))


def _old(queue: deque[tuple[Nanos, T]], begins_ns: Nanos, *, most: int, over_ns: Nanos) -> list[T]:
    old: list[T] = []
    while queue and queue[0][0] < over_ns and (queue[0][0] < begins_ns or 0 < most < len(queue)):
        old.append(queue.popleft()[1])
    return old
