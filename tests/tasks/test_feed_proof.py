"""Every increment held against what is told of it: single mismatches pass, lasting ones are counted."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from tbot.core.book import Book
from tbot.core.book_hash import book_hash
from tbot.core.market import TokenId
from tbot.core.messages import BookDelta, BookSnapshot, Gap, Level, Side
from tbot.core.units import Nanos, Price, complement
from tbot.tasks.feed_proof import SETTLED_S, FeedProof
from tbot.tasks.feed_settings import FeedSettings
from tests.tasks.fake_exchange import MARKET, NO, YES, cents, shares

EVERY_HASH = FeedSettings(hash_gap_s=0.0)


class Truth:
    """The exchange's books, and what it tells of them."""

    def __init__(self) -> None:
        self.books = {YES: Book(MARKET.tick), NO: Book(MARKET.tick)}
        self.ms = 1_000

    def snapshots(self) -> list[BookSnapshot]:
        bids, asks = (Level(cents(40), shares(10)),), (Level(cents(60), shares(10)),)
        told: list[BookSnapshot] = []
        for token_id in (YES, NO):
            book = BookSnapshot(
                token_id=token_id,
                bids=bids,
                asks=asks,
                exchange_ms=self.ms,
                received_ns=Nanos(0),
                tick=MARKET.tick,
                last_trade_text="0.500",
            )
            self.books[token_id].apply_snapshot(book)
            told.append(_with_hash(book, self.hash(token_id)))
        return told

    def change(self, price: int, size: int) -> list[BookDelta]:
        self.ms += 100
        deltas = [
            BookDelta(
                token_id=token_id,
                side=side,
                price=cents(price) if token_id == YES else complement(cents(price)),
                size=shares(size),
                exchange_ms=self.ms,
                received_ns=Nanos(0),
            )
            for token_id, side in ((YES, Side.BUY), (NO, Side.SELL))
        ]
        for delta in deltas:
            self.books[delta.token_id].apply_delta(delta)
        return [_with_hash(delta, self.hash(delta.token_id)) for delta in deltas]

    def hash(self, token_id: TokenId) -> str:
        book = self.books[token_id]
        return book_hash(
            market_id=MARKET.market_id,
            token_id=token_id,
            exchange_ms=self.ms,
            bids=book.levels(Side.BUY),
            asks=book.levels(Side.SELL),
            size_min=MARKET.size_min,
            tick=MARKET.tick,
            is_neg_risk=MARKET.is_neg_risk,
            last_trade_text="0.500",
        )


def proof_of(truth: Truth, settings: FeedSettings = EVERY_HASH) -> FeedProof:
    proof = FeedProof((MARKET,), settings)
    for book in truth.snapshots():
        proof.see(MARKET, book, 0.0)
    return proof


def tell(proof: FeedProof, *told: BookDelta | BookSnapshot, now_s: float = 0.0) -> None:
    for event in told:
        proof.see(MARKET, event, now_s)


def test_whole_feed_verifies_by_hash() -> None:
    truth = Truth()
    proof = proof_of(truth)
    for size in range(1, 11):
        tell(proof, *truth.change(30, size))
    proof.settle(SETTLED_S)
    assert (proof.counts.hashed, proof.counts.mismatched, proof.mismatches(YES)) == (20, 0, 0)


def test_lost_change_mismatches_until_a_snapshot() -> None:
    truth = Truth()
    proof = proof_of(truth)
    truth.change(31, 5)  # lost
    for size in range(1, 6):
        tell(proof, *truth.change(30, size))
    proof.settle(SETTLED_S)
    assert (proof.mismatches(YES), proof.mismatches(NO)) == (5, 5)
    truth.ms += 1
    tell(proof, *truth.snapshots())
    assert (proof.mismatches(YES), proof.mismatches(NO)) == (0, 0)


def test_last_change_is_judged_when_nothing_newer_comes() -> None:
    truth = Truth()
    proof = proof_of(truth)
    tell(proof, *truth.change(30, 5), now_s=1.0)
    proof.settle(1.0 + SETTLED_S / 2)
    assert proof.counts.hashed == 0
    proof.settle(1.0 + SETTLED_S)
    assert proof.counts.hashed == 2


def test_agreeing_hashes_are_spaced() -> None:
    truth = Truth()
    proof = proof_of(truth, FeedSettings(hash_gap_s=1.0))
    for size in range(1, 51):
        tell(proof, *truth.change(30, size))  # five seconds of the exchange
    proof.settle(SETTLED_S)
    assert 8 <= proof.counts.hashed <= 12
    assert proof.counts.hashed + proof.counts.compared == 100


def test_switched_off_it_sees_nothing() -> None:
    truth = Truth()
    proof = proof_of(truth, FeedSettings(is_verified=False))
    truth.change(31, 5)
    tell(proof, *truth.change(30, 5))
    proof.settle(10.0)
    proof.reset([MARKET.market_id])
    assert (proof.counts.hashed, proof.counts.mismatched, proof.mismatches(YES)) == (0, 0, 0)


def test_gap_and_impossible_events_are_left_to_the_books() -> None:
    truth = Truth()
    proof = proof_of(truth)
    assert proof.see(MARKET, Gap(token_ids=(), reason="lost", received_ns=Nanos(0)), 0.0) == ()
    off_grid = _with_hash(truth.change(30, 5)[0], "x")
    tell(proof, _moved(off_grid), *truth.change(30, 6))
    proof.settle(SETTLED_S)
    proof.settle(SETTLED_S)
    assert proof.counts.hashed + proof.counts.mismatched > 0  # the bad one hides none of those behind it


def _moved(delta: BookDelta) -> BookDelta:
    return msgspec.structs.replace(delta, price=Price(delta.price + 1))


T = TypeVar("T", BookDelta, BookSnapshot)


def _with_hash(event: T, text: str) -> T:
    return msgspec.structs.replace(event, book_hash=text)
