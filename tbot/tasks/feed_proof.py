"""Every increment of the feed held against what the exchange says of it, market by market. Pure: no waiting, no clock.

`core.verification` judges; here it is fed, told when nothing newer will come, and turned into a doubt of one token that
lasts or passes. It keeps books of its own in exchange order, so it finds what was lost, whatever our books did with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from tbot.core.market import Market, MarketId, TokenId
from tbot.core.messages import BookDelta, BookSnapshot, Gap, MarketEvent
from tbot.core.verification import Increment, MarketVerifier, Verdict
from tbot.errors import BadFrame
from tbot.tasks.feed_settings import FeedSettings

# Events wait for late ones; when none came for this long, seconds, nothing older is on its way.
SETTLED_S = 0.5
# A single mismatch may be two steps of the exchange's engine within one millisecond.
MISMATCHES_MAX = 2


class ProofCounts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became of increments so far.

    Attributes:
        hashed: Verified by the hash of the whole book.
        compared: Verified by the best prices told, or by the other token's book.
        mismatched: Differed.
    """

    hashed: int
    compared: int
    mismatched: int


class FeedProof:
    """The verifiers of all markets."""

    def __init__(self, markets: Sequence[Market], settings: FeedSettings) -> None:
        """Begin without books; nothing is verified when the settings say so."""
        self._is_on = settings.is_verified
        self._hash_gap_ms = int(settings.hash_gap_s * 1000)
        self._verifiers = {market.market_id: self._verifier(market) for market in markets if settings.is_verified}
        self._waiting_s: dict[MarketId, float] = {}  # since when nothing came, of those with events that wait
        self._mismatches: dict[TokenId, int] = {}  # in a row
        self._counts = dict.fromkeys(Verdict, 0)

    @property
    def counts(self) -> ProofCounts:
        """What became of increments so far."""
        counts = self._counts
        return ProofCounts(
            hashed=counts[Verdict.HASH],
            compared=counts[Verdict.BEST] + counts[Verdict.MIRROR],
            mismatched=counts[Verdict.MISMATCH],
        )

    def reset(self, market_ids: Iterable[MarketId]) -> None:
        """Begin a connection of these markets."""
        for market_id in market_ids:
            if market_id in self._verifiers:
                self._verifiers[market_id].reset()
                self._waiting_s.pop(market_id, None)

    def relist(self, market: Market) -> None:
        """Take a market, or its new terms, of which its hashes are made; nothing is verified before a snapshot."""
        self.remove(market)
        if self._is_on:
            self._verifiers[market.market_id] = self._verifier(market)

    def remove(self, market: Market) -> None:
        """Forget a market."""
        self._verifiers.pop(market.market_id, None)
        self._waiting_s.pop(market.market_id, None)
        for token_id in market.tokens:
            self._mismatches.pop(token_id, None)

    def see(self, market: Market, event: MarketEvent, now_s: float) -> tuple[BookDelta, ...]:
        """Take one event and return corrections of our books: writes that were the later of their millisecond."""
        verifier = self._verifiers.get(market.market_id)
        if verifier is None or isinstance(event, Gap):
            return ()
        self._waiting_s[market.market_id] = now_s
        if isinstance(event, BookSnapshot):
            self._mismatches.pop(event.token_id, None)
        try:
            findings = verifier.add(event)
        except BadFrame:
            return ()  # impossible for our books too, which say so
        return self._note(finding for finding in findings if isinstance(finding, Increment))

    def settle(self, now_s: float) -> tuple[BookDelta, ...]:
        """Judge what waits where nothing newer came for a while; corrections as of `see`."""
        due = [market_id for market_id, since_s in self._waiting_s.items() if now_s - since_s >= SETTLED_S]
        corrections: tuple[BookDelta, ...] = ()
        for market_id in due:
            try:
                findings = self._verifiers[market_id].flush()
            except BadFrame:
                continue  # that event is dropped; what waits behind it comes next time
            del self._waiting_s[market_id]
            corrections += self._note(finding for finding in findings if isinstance(finding, Increment))
        return corrections

    def mismatches(self, token_id: TokenId) -> int:
        """Count the increments in a row that differed; 0 = the book is theirs, or nobody can tell."""
        return self._mismatches.get(token_id, 0)

    def _verifier(self, market: Market) -> MarketVerifier:
        return MarketVerifier(market, hash_gap_ms=self._hash_gap_ms)

    def _note(self, increments: Iterable[Increment]) -> tuple[BookDelta, ...]:
        corrections: tuple[BookDelta, ...] = ()
        for increment in increments:
            self._counts[increment.verdict] += 1
            corrections += increment.corrections
            if increment.verdict is Verdict.MISMATCH:
                self._mismatches[increment.token_id] = self._mismatches.get(increment.token_id, 0) + 1
            elif increment.verdict is not Verdict.UNKNOWN:
                self._mismatches.pop(increment.token_id, None)
        return corrections
