"""A book that trails the feed in exchange order, with the writes whose order only a hash can tell.

Two writes to one level in one millisecond carry the same time, and they do arrive in either order. The one that arrived
last is believed first; the others are kept until a later hash proves one of them, the level is written again, or a
snapshot comes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Final

from tbot.core.book import Book
from tbot.core.book_hash import HashStem
from tbot.core.market import Market, TokenId
from tbot.core.messages import BookDelta, BookSnapshot, Side
from tbot.core.units import Price

# Ties tried at once: with more of them in doubt the next snapshot has to tell.
CHOICES_MAX: Final = 16


class TrailingBook:
    """The book of one token and what speaks for or against it. Mutable; owned by the market's verifier.

    Attributes:
        book: The book, changed in exchange order.
        doubted_ms: Since when what was told differs from it; None = it does not.
        hashed_ms: When its hash was theirs last, -1 = never.
        is_rule_proven: Whether the newest snapshot's own hash followed from its levels, so that hashes mean something.
    """

    __slots__ = ("_market", "_ties", "_ties_ms", "book", "doubted_ms", "hashed_ms", "is_rule_proven", "token_id")

    def __init__(self, market: Market, token_id: TokenId) -> None:
        """Begin without levels."""
        self.token_id = token_id
        self.book = Book(market.tick)
        self.doubted_ms: int | None = None
        self.hashed_ms = -1
        self.is_rule_proven = False
        self._market = market
        # Writes of one millisecond to one level, last arrived first.
        self._ties: dict[tuple[Side, Price], list[BookDelta]] = {}
        self._ties_ms = -1

    def change(self, group: list[BookDelta]) -> None:
        """Apply what one millisecond changed, in order of arrival, and remember levels written twice."""
        for delta in group:
            self.book.apply_delta(delta)
            if self._ties:
                self._ties.pop((delta.side, delta.price), None)
        if len(group) > 1:
            self._note_ties(group)

    def _note_ties(self, group: list[BookDelta]) -> None:
        writes: dict[tuple[Side, Price], list[BookDelta]] = {}
        for delta in reversed(group):
            writes.setdefault((delta.side, delta.price), []).append(delta)
        for level, tied in writes.items():
            distinct = list({delta.size: delta for delta in tied}.values())
            if len(distinct) > 1:
                self._ties[level], self._ties_ms = distinct, group[0].exchange_ms

    def adopt(self, snapshot: BookSnapshot) -> None:
        """Take a snapshot: nothing before it is in doubt any more.

        Raises:
            BadFrame: It is impossible; nothing changed.
        """
        self.book.apply_snapshot(snapshot)
        self._ties.clear()
        self.doubted_ms = None

    def stem(self, exchange_ms: int) -> HashStem:
        """Hash the levels as of a moment."""
        return self.book.hash_stem(self._market.market_id, self.token_id, exchange_ms)

    def note(self, exchange_ms: int, *, is_ours: bool, is_hashed: bool) -> None:
        """Note the outcome of one comparison."""
        if is_hashed:
            self.hashed_ms = exchange_ms
        if is_ours:
            self.doubted_ms = None
        elif self.doubted_ms is None:
            self.doubted_ms = exchange_ms

    def tied(self) -> tuple[BookDelta, ...]:
        """Return the writes that arrived last on the levels whose order is not settled."""
        return tuple(writes[0] for writes in self._ties.values())

    def choices(self) -> Iterator[tuple[BookDelta, ...]]:
        """Give every other order of the writes in doubt, as the writes that came last; none when they are too many."""
        count = 1
        for writes in self._ties.values():
            count *= len(writes)
        if 1 < count <= CHOICES_MAX:
            # The first is what the book holds already.
            choices = product(*self._ties.values())
            next(choices)
            yield from choices

    def write(self, deltas: tuple[BookDelta, ...]) -> None:
        """Let these be the later ones of their millisecond."""
        for delta in deltas:
            self.book.apply_delta(delta)

    def settle_ties(self, exchange_ms: int) -> None:
        """Take the order of writes as proven, by a hash of this moment.

        The hashes of their own millisecond fit each of its steps; only a later one says which was the last.
        """
        if exchange_ms > self._ties_ms:
            self._ties.clear()

    def is_best_told(self, group: list[BookDelta]) -> bool | None:
        """Tell whether the best prices are those told beside a change; None = none were told."""
        told = {
            (delta.best_bid, delta.best_ask)
            for delta in group
            if delta.best_bid is not None or delta.best_ask is not None
        }
        return (self.book.best_bid, self.book.best_ask) in told if told else None
