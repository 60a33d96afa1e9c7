"""Trades that may be ours and cannot be read: waited for a while, then left out of reports and asked for again. Pure.

A report that fails tells nothing at all, neither of orders nor of other trades, so one row must not fail all of them
for good. What is left out is a fill unknown to us until its row can be read; balances tell of it meanwhile.
"""

from __future__ import annotations

from itertools import islice
from typing import Final, NamedTuple

# With the reconciler's waits between failed reports these are some ten seconds: rows grow whole, and look-ups by id
# catch up with lists, much sooner.
FAILURES_MAX: Final = 5
# Each costs a request in every report.
ASKED_EACH: Final = 3
OWED_MAX: Final = 100


class TradeKey(NamedTuple):
    """What a listed trade is known by.

    Attributes:
        text: Its id, or the beginning of its row where it names none.
        is_id: Which of both: only ids can be asked for.
    """

    text: str
    is_id: bool


class UnreadTrades:
    """What could not be read so far."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._failures: dict[TradeKey, int] = {}

    def is_left_out(self, key: TradeKey) -> bool:
        """Tell whether reports go on without it."""
        return self._failures.get(key, 0) > FAILURES_MAX

    def fail(self, key: TradeKey) -> bool:
        """Note that it could not be read once more.

        Returns:
            Whether this was once too often: it is left out from now on.
        """
        if key not in self._failures and len(self._failures) >= OWED_MAX:
            self._failures.pop(next(iter(self._failures)))
        self._failures[key] = self._failures.get(key, 0) + 1
        return self._failures[key] == FAILURES_MAX + 1

    def forget(self, key: TradeKey) -> None:
        """Note that it could be read."""
        self._failures.pop(key, None)

    def due(self, listed: frozenset[TradeKey]) -> tuple[TradeKey, ...]:
        """Choose which of those left out to ask for by their ids now; each comes in its turn.

        Args:
            listed: Those that the list of this report holds, which are asked for anyway.
        """
        owed = (key for key in self._failures if key.is_id and self.is_left_out(key) and key not in listed)
        due = tuple(islice(owed, ASKED_EACH))
        for key in due:
            self._failures[key] = self._failures.pop(key)  # to the end of the queue
        return due
