"""One token's book as the market feed believes it, and the reasons to doubt it. Pure: no waiting, no clock.

Two kinds of doubt:

- a *fault* is latched: updates may have been lost, and only a snapshot as new as the fault ends it. After a freeze it
  must be a pushed one: a book read by request would be right once, and then as frozen as before;
- a *condition* is looked at anew each time: a crossed book, no proof of truth for too long. Others may be
  only a frame on its way, and become a fault when they last: the two books of a market disagree, the best
  prices told beside a change are not ours.
"""

from __future__ import annotations

from enum import Enum

from tbot.core.book import Book
from tbot.core.market import Market, TokenId
from tbot.core.messages import BookDelta, BookSnapshot, Side
from tbot.core.units import ONE_DOLLAR, Price
from tbot.tasks.feed_line import Line

NOT_TOLD: tuple[Price | None, Price | None] = (None, None)
DISCONNECTED = "disconnected"
NO_SNAPSHOT = "no snapshot yet"
FROZEN = "frozen feed"
MISMATCHED = "not the book that the exchange tells of"


class Verdict(Enum):
    """What a book read by request says of ours."""

    EQUAL = "equal"  # the same levels: just quiet
    BEHIND = "behind"  # theirs is not older, and differs: ours missed something, unless it is on its way
    UNCLEAR = "unclear"  # theirs is older than ours, or ours changed meanwhile: nothing can be learnt


class TokenBook:
    """One token's book and the reasons to doubt it.

    Attributes:
        live: Book of this connection.
        shown: Book that views are made of: the live one once it has a snapshot, until then the last known.
        fault: Why the book is stale until a snapshot; "" = no fault.
        fault_s: When a fault was found last; only a book asked for later can end it.
        fault_ms: Newest exchange time by then; only a snapshot as new can end it.
        doubted_s: Since when there is a fault or a crossed book; None = neither.
        data_s: When the last data of this token came.
        told: Best bid and ask told beside the newest change; None = not told.
        disputed_s: Since when those are not ours; None = they are.
        verified_s: When the book was last known to be true: data, or an equal look.
        asked_s: When it was last asked for by request.
        misses: Looks in a row that found it behind.
        missed_s: When the first of them was answered.
        missed_ms: Exchange time of the book read then: one that came to know it since was only late.
        live_ms_at_miss: Exchange time of ours then.
        mismatched_s: Since when its increments differ from what is told of them; None = they do not.
        line: The connection that carries it.
        frozen_s: When it was last found frozen.
        heals_failed: Books read by request in a row that left it doubtful.
        retried_s: When it was then subscribed anew, its book not having come yet; None = it was not, or it came.
    """

    __slots__ = (
        "asked_s",
        "data_s",
        "disputed_s",
        "doubted_s",
        "fault",
        "fault_ms",
        "fault_s",
        "frozen_s",
        "heals_failed",
        "is_shown_stale",
        "line",
        "live",
        "live_ms_at_miss",
        "market",
        "mismatched_s",
        "missed_ms",
        "missed_s",
        "misses",
        "retried_s",
        "shown",
        "token_id",
        "told",
        "verified_s",
    )

    def __init__(self, market: Market, token_id: TokenId, line: Line, now_s: float) -> None:
        """Begin stale and empty."""
        self.line = line
        self.market = market
        self.token_id = token_id
        self.live = self.shown = Book(market.tick)
        self.fault = DISCONNECTED
        self.fault_ms = -1
        self.doubted_s: float | None = now_s
        self.data_s = self.verified_s = self.fault_s = now_s
        self.asked_s = float("-inf")
        self.told: tuple[Price | None, Price | None] = NOT_TOLD
        self.disputed_s: float | None = None
        self.misses = self.heals_failed = 0
        self.missed_s = self.frozen_s = float("-inf")
        self.missed_ms = self.live_ms_at_miss = -1
        self.retried_s: float | None = None
        self.mismatched_s: float | None = None
        self.is_shown_stale = True

    @property
    def is_doubtful(self) -> bool:
        """Whether a fault is latched or the book is crossed or without a snapshot."""
        return bool(self.fault) or self.live.is_stale or self.live.is_crossed

    def is_stale(self, now_s: float, truth_s: float) -> bool:
        """Tell whether the book must not be acted on."""
        return self.is_doubtful or now_s - self.verified_s > truth_s

    def distrust(self, reason: str, now_s: float) -> None:
        """Latch a fault; the first reason stays until it is healed, the newest moment counts."""
        self.fault = self.fault or reason
        self.fault_s, self.fault_ms = now_s, self.live.exchange_ms
        self.doubted_s = now_s if self.doubted_s is None else self.doubted_s

    def renew(self, now_s: float) -> None:
        """Begin a connection: an empty live book, the old one shown until the first snapshot."""
        self.live = Book(self.shown.tick)
        self.fault, self.fault_ms = NO_SNAPSHOT, -1
        self.told = NOT_TOLD
        self.doubted_s = self.data_s = self.verified_s = self.fault_s = now_s
        self.misses = self.heals_failed = 0
        self.retried_s = None

    def adopt(self, snapshot: BookSnapshot) -> bool:
        """Apply a snapshot; end the fault when it is new enough.

        Returns:
            False when it is older than what we know: nothing changed.

        Raises:
            BadFrame: It is impossible; nothing changed.
        """
        if not self.live.apply_snapshot(snapshot):
            return False
        if snapshot.exchange_ms >= self.live.exchange_ms:
            self.told = NOT_TOLD
        if snapshot.exchange_ms >= self.fault_ms:
            self.fault, self.shown, self.retried_s = "", self.live, None
        return True

    def begin_anew(self) -> None:
        """Forget the levels and their times, one of which may be wrong: the next snapshot is the truth, however old."""
        self.live = Book(self.shown.tick)
        self.fault_ms = -1
        self.told = NOT_TOLD

    def heal(self, snapshot: BookSnapshot) -> bool:
        """Adopt a book read by request, and count how many in a row were of no help.

        Returns:
            Whether it was adopted.

        Raises:
            BadFrame: It is impossible; nothing changed.
        """
        is_adopted = self.adopt(snapshot)
        self.heals_failed = self.heals_failed + 1 if self.is_doubtful else 0
        return is_adopted

    def give_up(self, now_s: float) -> None:
        """Call the token frozen whatever was wrong with it before: reading its book does not heal it."""
        self.fault, self.heals_failed, self.misses = FROZEN, 0, 0
        # No look found it silent together with its connection, which may be as good as ever.
        self.missed_s = float("-inf")
        self.distrust(FROZEN, now_s)

    def change(self, delta: BookDelta) -> None:
        """Apply a level change, and keep the best prices told with the newest one.

        Raises:
            BadFrame: It is impossible; nothing changed.
        """
        if delta.exchange_ms >= self.live.exchange_ms:
            self.told = (_told(delta.best_bid), _told(delta.best_ask))
        self.live.apply_delta(delta)

    @property
    def is_disputed(self) -> bool:
        """Whether the best prices told with the newest change are not ours: another change was lost, or is late."""
        bid, ask = self.told
        return (bid is not None and bid != self.live.best_bid) or (ask is not None and ask != self.live.best_ask)

    def compare(self, snapshot: BookSnapshot, asked_s: float) -> Verdict:
        """Compare every level with a book read by request.

        Args:
            snapshot: The answer.
            asked_s: When it was asked for.

        Raises:
            BadFrame: It is impossible.
        """
        theirs = Book(self.live.tick)
        theirs.apply_snapshot(snapshot)
        if all(theirs.levels(side) == self.live.levels(side) for side in Side):
            return Verdict.EQUAL
        is_newer = snapshot.exchange_ms > self.live.exchange_ms
        # Data of the same moment that came while we waited may be newer than the answer.
        is_same = snapshot.exchange_ms == self.live.exchange_ms and self.data_s <= asked_s
        return Verdict.BEHIND if is_newer or is_same else Verdict.UNCLEAR

    def miss(self, snapshot: BookSnapshot, now_s: float) -> int:
        """Count a look that found the book behind; return how many in a row did.

        One whose book has come to know the earlier answer was only late then, so counting begins anew.
        """
        if self.misses and self.live.exchange_ms >= self.missed_ms > self.live_ms_at_miss:
            self.misses = 0
        if not self.misses:
            self.missed_s, self.missed_ms, self.live_ms_at_miss = now_s, snapshot.exchange_ms, self.live.exchange_ms
        self.misses += 1
        return self.misses


# An empty side is told as 0 or 1 dollar by some frames, and not at all by others.
def _told(price: Price | None) -> Price | None:
    return price if price is not None and 0 < price < ONE_DOLLAR else None
