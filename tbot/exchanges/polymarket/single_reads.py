"""What one report reads by id, one request each: bounded, and what does not fit is read by the next.

A report that asked for everything at once would hold the next look at orders and trades back, or look like a wedged
task.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Generic, TypeVar

from tbot.core.messages import ExchangeOrderId
from tbot.errors import BadFrame, RateLimited

# With the balances of a start (100), at the round trips of a slow day (80 ms), a report ends before it looks wedged.
LOOKUPS_MOST: Final = 30
ROWS_MOST: Final = 30
# A report that read all it may for its rows is asked for again at once: it goes on from there.
GO_ON_S: Final = 0.1

T = TypeVar("T")


class Lookups:
    """Orders to be asked for by id: first wanted, first told; each stays until it is told."""

    def __init__(self) -> None:
        """Begin with none."""
        self._waiting: dict[ExchangeOrderId, None] = {}

    def turn(self, wanted: Iterable[ExchangeOrderId]) -> list[ExchangeOrderId]:
        """Take more orders in, behind those that wait, and say which are to be asked for now."""
        for order_id in wanted:
            self._waiting.setdefault(order_id)
        return list(self._waiting)[:LOOKUPS_MOST]

    def told(self, order_ids: Iterable[ExchangeOrderId]) -> None:
        """Forget orders that were told; who wants to know again asks again."""
        for order_id in order_ids:
            self._waiting.pop(order_id, None)


class RowReads(Generic[T]):
    """Answers to rows of a list that do not say enough, by the row itself: one that changed is another row."""

    def __init__(self, read: Callable[[str], Awaitable[T]], is_last: Callable[[bytes, T], bool]) -> None:
        """Begin without answers.

        Args:
            read: Asks by id; `BadFrame` is an answer too.
            is_last: Whether an answer stays true as long as its row is listed as it is.
        """
        self._read = read
        self._is_last = is_last
        self._answers: dict[bytes, T | BadFrame] = {}

    async def read(self, rows: Iterable[tuple[bytes, str]]) -> None:
        """Read rows by their ids, but for those with an answer.

        Raises:
            RateLimited: There are more than one report may read; the answers so far stay for the next, which goes on.
        """
        reads = 0
        for row, row_id in rows:
            if row in self._answers:
                continue
            if reads >= ROWS_MOST:
                raise RateLimited(f"more than {ROWS_MOST} rows to be read by id: going on", retry_after_s=GO_ON_S)
            reads += 1
            try:
                self._answers[row] = await self._read(row_id)
            except BadFrame as error:
                self._answers[row] = error

    def answer(self, row: bytes) -> T:
        """Give the answer to a row that was read.

        Raises:
            BadFrame: It cannot be read by its id either.
        """
        answer = self._answers[row]
        if isinstance(answer, BadFrame):
            raise BadFrame(str(answer))
        return answer

    def end(self, rows: Iterable[bytes]) -> None:
        """End a report of these rows: forget the answers that may change, and those to rows that are listed no more."""
        answers = {row: self._answers[row] for row in rows if row in self._answers}
        self._answers = {
            row: answer
            for row, answer in answers.items()
            if not isinstance(answer, BadFrame) and self._is_last(row, answer)
        }
