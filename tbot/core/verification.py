"""Is our book theirs? Every increment of a market held against what the exchange says of it. Pure, no clock.

An increment is all that changed in one token's book within one millisecond of the exchange. Its frames carry the hash
of the whole book afterwards, so a single lost update shows at once; only the best prices and the mirror (YES at p is NO
at 1 - p) are left where there is no usable hash. Frames arrive out of order, a fifth of them in a dense capture and up
to 100 ms late, so events wait until newer ones are `LAG_MS` ahead, and a book of the verifier's own trails in exchange
order. On that capture 9,124 of 9,138 increments verify by hash, and every later snapshot equals the rebuilt book.

Two things a frame does not say are found by trying. The market's last trade: the hash of one more guess costs 1.5 us.
And which of two writes to one level in one millisecond was the later: when the hash of a later increment only fits with
the other one, that one is right, and is returned as a correction for whoever took the order of arrival.

Cost: hashing a book of 40 levels a side takes about 20 us, ten times an update (measured 2026-11-25, one core of a
shared virtual machine); `hash_gap_ms` spaces the hashes of a token that agrees, doubtful ones are hashed each time.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from enum import StrEnum
from itertools import product
from typing import Final

import msgspec

from tbot.core.book_hash import HashRule, HashStem
from tbot.core.market import Market, TokenId
from tbot.core.messages import (
    BookDelta,
    BookSnapshot,
    Gap,
    MarketEvent,
    MarketNews,
    Side,
    TickSizeChanged,
    TradePrint,
)
from tbot.core.trailing_book import TrailingBook
from tbot.core.units import MICRO, Price, complement, text_from_micro

# More than twice the lateness measured: 100 ms in 5,544 events.
LAG_MS: Final = 250
# Guessing the last trade among all prices costs 0.2 ms a cent grid; once a second is plenty, as prints name it.
SEARCH_GAP_MS: Final = 1000
PRINTS_MAX: Final = 8


class Verdict(StrEnum):
    """What an increment was found to be."""

    HASH = "HASH"  # the whole book hashes as the exchange says
    BEST = "BEST"  # no usable hash, but the best prices are those told
    MIRROR = "MIRROR"  # neither, but YES and NO mirror each other
    MISMATCH = "MISMATCH"  # what could be compared differs
    UNKNOWN = "UNKNOWN"  # no snapshot yet, too late, or nothing told


class Increment(msgspec.Struct, frozen=True, kw_only=True):
    """One token's increment, judged.

    Attributes:
        exchange_ms: The millisecond.
        verdict: By the strongest evidence at hand.
        is_best_equal: Whether the best prices told are ours; None = not told, or no book.
        is_mirror: Whether what changed is mirrored in the other token's book; None = one of them is unknown.
        is_crossed: Whether our book is crossed afterwards.
        corrections: Writes that were the later of their millisecond after all; apply them to a book built in arrival
            order.
    """

    token_id: TokenId
    exchange_ms: int
    verdict: Verdict
    is_best_equal: bool | None = None
    is_mirror: bool | None = None
    is_crossed: bool = False
    corrections: tuple[BookDelta, ...] = ()


class SnapshotCheck(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A snapshot held against the book rebuilt until then.

    Attributes:
        is_equal: Whether every level was the same; None = there was no book to compare.
        is_hash_ours: Whether its own hash follows from its levels; None = it carried none.
    """

    token_id: TokenId
    exchange_ms: int
    is_equal: bool | None
    is_hash_ours: bool | None


Finding = Increment | SnapshotCheck


class MarketVerifier:
    """Verifies both books of one market. Mutable and pure; owned by whoever reads the market's events.

    Attributes:
        late: Events that came after their moment had been judged; they count, unverified.
    """

    def __init__(self, market: Market, *, lag_ms: int = LAG_MS, hash_gap_ms: int = 0, version: str = "") -> None:
        """Begin without books.

        Args:
            market: Its rules are a first guess: the first snapshot shows which hold.
            lag_ms: How long events wait for late ones, milliseconds of the exchange.
            hash_gap_ms: Least time between two hashes of a token that agrees; 0 = hash every increment.
            version: Protocol version named by the market's books, "" = none.
        """
        self.late = 0
        self._market = market
        self._lag_ms = lag_ms
        self._hash_gap_ms = hash_gap_ms
        self._rule = HashRule(size_min=market.size_min, is_neg_risk=market.is_neg_risk, version=version)
        self._prints: list[str] = []
        self._searched_ms = -SEARCH_GAP_MS
        self._waiting: list[tuple[int, int, int, _Event]] = []
        self._count = self._newest_ms = self._settled_ms = 0
        self._tokens = {token_id: TrailingBook(market, token_id) for token_id in market.tokens}

    def add(self, event: MarketEvent) -> list[Finding]:
        """Take one event and judge what has waited long enough; events of other tokens are left out.

        Raises:
            BadFrame: An event among those judged is impossible; it is dropped.
        """
        if isinstance(event, Gap):
            return self._lose(event)
        if isinstance(event, MarketNews) or event.token_id not in self._tokens:
            return []
        # Production stamps it some 20 ms after the change whose hash covers it, so it is a guess worth having at once.
        if isinstance(event, TradePrint):
            self._note_print(event)
        self._count += 1
        self._newest_ms = max(self._newest_ms, event.exchange_ms)
        heapq.heappush(self._waiting, (event.exchange_ms, _RANKS[type(event)], self._count, event))
        until_ms = self._newest_ms - self._lag_ms
        return list(self._settle(until_ms)) if self._waiting[0][0] <= until_ms else []

    def flush(self) -> list[Finding]:
        """Judge all that waits: at the end, or when nothing newer came for a while.

        Raises:
            BadFrame: As `add`.
        """
        return list(self._settle(self._newest_ms))

    def learn(self, rule: HashRule) -> None:
        """Take the market's values as a complete book states them."""
        self._rule = rule

    def reset(self) -> None:
        """Begin a connection: no book is known, nothing waits; what was learnt of the market stays."""
        self._waiting.clear()
        self._newest_ms = self._settled_ms = 0
        self._tokens = {token_id: TrailingBook(self._market, token_id) for token_id in self._tokens}

    def doubted_ms(self, token_id: TokenId) -> int | None:
        """Return since which exchange time the book is not theirs, None while it is or nobody can tell.

        A single mismatch may be two steps of their engine within one millisecond; one that lasts is a lost update.
        """
        return self._tokens[token_id].doubted_ms

    def _lose(self, gap: Gap) -> list[Finding]:
        found = self.flush()
        for token_id in gap.token_ids or self._tokens:
            if token_id in self._tokens:
                self._tokens[token_id].book.mark_stale()
        return found

    def _settle(self, until_ms: int) -> Iterator[Finding]:
        while self._waiting and self._waiting[0][0] <= until_ms:
            exchange_ms = self._waiting[0][0]
            events: list[_Event] = []
            while self._waiting and self._waiting[0][0] == exchange_ms:
                events.append(heapq.heappop(self._waiting)[3])
            is_late = exchange_ms <= self._settled_ms
            self.late += len(events) if is_late else 0
            self._settled_ms = max(self._settled_ms, exchange_ms)
            yield from self._moment(exchange_ms, events, is_late)

    def _moment(self, exchange_ms: int, events: list[_Event], is_late: bool) -> Iterator[Finding]:
        deltas: list[BookDelta] = []
        rest: list[BookSnapshot | TickSizeChanged] = []
        for event in events:
            match event:
                case BookDelta():
                    deltas.append(event)
                case TradePrint():
                    self._note_print(event)  # again: of many on their way this one is the likeliest from now on
                case _:
                    rest.append(event)
        changed: dict[TokenId, list[BookDelta]] = {}
        for delta in deltas:
            changed.setdefault(delta.token_id, []).append(delta)
        for token_id, group in changed.items():
            self._tokens[token_id].change(group)
        for token_id in sorted(changed):
            yield self._judge(self._tokens[token_id], exchange_ms, changed[token_id], is_late)
        for event in rest:
            token = self._tokens[event.token_id]
            if isinstance(event, BookSnapshot):
                yield self._compare(token, event, is_late)
            else:
                token.book.change_tick(event)

    def _judge(self, token: TrailingBook, exchange_ms: int, group: list[BookDelta], is_late: bool) -> Increment:
        if is_late or token.book.is_stale:
            return Increment(token_id=token.token_id, exchange_ms=exchange_ms, verdict=Verdict.UNKNOWN)
        is_crossed = token.book.is_crossed
        best, mirror = token.is_best_told(group), self._is_mirror(token, group)
        verdict = _weaker(best, mirror)
        corrections: tuple[BookDelta, ...] | None = None
        is_due = token.doubted_ms is not None or exchange_ms - token.hashed_ms >= self._hash_gap_ms
        if is_due and token.is_rule_proven and (hashes := _hashes(group)):
            corrections = self._fit(token, exchange_ms, hashes)
            verdict = Verdict.HASH if corrections is not None else Verdict.MISMATCH
        if verdict is not Verdict.UNKNOWN:
            token.note(exchange_ms, is_ours=verdict is not Verdict.MISMATCH, is_hashed=verdict is Verdict.HASH)
        return Increment(
            token_id=token.token_id,
            exchange_ms=exchange_ms,
            verdict=verdict,
            is_best_equal=best,
            is_mirror=mirror,
            is_crossed=is_crossed,
            corrections=corrections or (),
        )

    def _fit(self, token: TrailingBook, exchange_ms: int, hashes: frozenset[str]) -> tuple[BookDelta, ...] | None:
        """Make our book hash like theirs, by another last trade or other late writes; None = it cannot be."""
        if self._fits(token.stem(exchange_ms), token, hashes):
            token.settle_ties(exchange_ms)
            return ()
        for choice in token.choices():
            token.write(choice)
            if self._fits(token.stem(exchange_ms), token, hashes):
                token.settle_ties(exchange_ms)
                return choice
        token.write(token.tied())
        if exchange_ms - self._searched_ms >= SEARCH_GAP_MS:
            self._searched_ms = exchange_ms
            if self._learn_last_trade(token.stem(exchange_ms), token.book.tick, hashes):
                return ()
        return None

    def _fits(self, stem: HashStem, token: TrailingBook, hashes: frozenset[str]) -> bool:
        for text in (self._rule.last_trade_text, *reversed(self._prints)):
            rule = msgspec.structs.replace(self._rule, last_trade_text=text)
            if stem.digest(rule, token.book.tick) in hashes:
                self._rule = rule
                return True
        return False

    def _learn_last_trade(self, stem: HashStem, tick: Price, hashes: frozenset[str]) -> bool:
        texts = ["", *(_last_trade_text(Price(price)) for price in range(tick, MICRO, tick))]
        for text in texts:
            rule = msgspec.structs.replace(self._rule, last_trade_text=text)
            if stem.digest(rule, tick) in hashes:
                self._rule = rule
                return True
        return False

    def _compare(self, token: TrailingBook, snapshot: BookSnapshot, is_late: bool) -> SnapshotCheck:
        is_known = not (token.book.is_stale or is_late)
        before = token.book.levels(Side.BUY), token.book.levels(Side.SELL)
        token.adopt(snapshot)
        after = token.book.levels(Side.BUY), token.book.levels(Side.SELL)
        is_hash_ours = None
        if snapshot.book_hash and not is_late:
            is_hash_ours = token.is_rule_proven = self._learn(token, snapshot)
        return SnapshotCheck(
            token_id=token.token_id,
            exchange_ms=snapshot.exchange_ms,
            is_equal=before == after if is_known else None,
            is_hash_ours=is_hash_ours,
        )

    def _learn(self, token: TrailingBook, snapshot: BookSnapshot) -> bool:
        """Find the values under which the snapshot's own hash follows from its levels."""
        stem, wanted = token.stem(snapshot.exchange_ms), frozenset({snapshot.book_hash})
        if snapshot.last_trade_text is not None:
            self._rule = msgspec.structs.replace(self._rule, last_trade_text=snapshot.last_trade_text)
        if self._fits(stem, token, wanted):
            return True
        first = self._rule
        for is_neg_risk, version in product((first.is_neg_risk, not first.is_neg_risk), (first.version, *_VERSIONS)):
            self._rule = msgspec.structs.replace(first, is_neg_risk=is_neg_risk, version=version)
            if self._learn_last_trade(stem, token.book.tick, wanted):
                return True
        self._rule = first
        return False

    # The last trade is a value of the market, and which token's price it is depends on the trade.
    def _note_print(self, trade: TradePrint) -> None:
        texts = [_last_trade_text(price) for price in (complement(trade.price), trade.price)]
        self._prints = [*(text for text in self._prints if text not in texts), *texts][-PRINTS_MAX:]

    def _is_mirror(self, token: TrailingBook, group: list[BookDelta]) -> bool | None:
        other = self._tokens.get(self._market.other(token.token_id))
        if other is None or other.book.is_stale:
            return None
        ours, theirs = token.book.size_at, other.book.size_at
        for delta in group:
            if ours(delta.side, delta.price) != theirs(delta.side.opposite, complement(delta.price)):
                return False
        return True


_Event = BookSnapshot | BookDelta | TradePrint | TickSizeChanged
# Within a millisecond the snapshot is the later truth.
_RANKS: Final[dict[type, int]] = {TradePrint: 0, BookDelta: 1, TickSizeChanged: 2, BookSnapshot: 3}
_VERSIONS: Final = ("", "v2")


# Asked, never iterated.
def _hashes(group: list[BookDelta]) -> frozenset[str]:
    return frozenset(delta.book_hash for delta in group if delta.book_hash)


def _weaker(best: bool | None, mirror: bool | None) -> Verdict:
    if best is not None:
        return Verdict.BEST if best else Verdict.MISMATCH
    if mirror is not None:
        return Verdict.MIRROR if mirror else Verdict.MISMATCH
    return Verdict.UNKNOWN


def _last_trade_text(price: Price) -> str:
    """Write three decimals, as the exchange does for a last trade alone: 0.13 -> "0.130"."""
    whole, _, fraction = text_from_micro(price).partition(".")
    return f"{whole}.{fraction.ljust(3, '0')}"
