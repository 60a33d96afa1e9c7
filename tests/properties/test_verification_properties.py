"""A true stream verifies whatever the order of arrival; a lost or altered update is seen."""

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tbot.core.market import Market, MarketId, TokenId
from tbot.core.messages import BookDelta, BookSnapshot, Level, MarketEvent, Side, TradePrint
from tbot.core.units import MICRO, Nanos, Price, Size, text_from_micro
from tbot.core.verification import LAG_MS, Finding, Increment, MarketVerifier, SnapshotCheck, Verdict

YES, NO = TokenId("yes"), TokenId("no")
CENT = Price(10_000)
MARKET = Market(market_id=MarketId("0xm"), slug="", yes=YES, no=NO, tick=CENT)
Event = BookDelta | BookSnapshot | TradePrint
NOW = Nanos(0)


@dataclass
class Truth:
    """The exchange's side, with a hash written from the rule and not from the bot's code."""

    rng: random.Random
    is_neg_risk: bool = False
    last_trade: str = "0.500"
    bids: dict[int, int] = field(default_factory=lambda: {40: 5, 41: 6, 30: 1})
    asks: dict[int, int] = field(default_factory=lambda: {60: 5, 61: 6, 70: 1})

    def sides(self, token_id: TokenId) -> tuple[dict[int, int], dict[int, int]]:
        if token_id == YES:
            return self.bids, self.asks
        return {100 - p: s for p, s in self.asks.items()}, {100 - p: s for p, s in self.bids.items()}

    def hash(self, token_id: TokenId, ms: int) -> str:
        bids, asks = self.sides(token_id)
        content = {
            "market": "0xm",
            "asset_id": token_id,
            "timestamp": str(ms),
            "hash": "",
            "bids": [{"price": text_from_micro(p * 10_000), "size": str(bids[p])} for p in sorted(bids)],
            "asks": [{"price": text_from_micro(p * 10_000), "size": str(asks[p])} for p in sorted(asks, reverse=True)],
            "min_order_size": "5",
            "tick_size": "0.01",
            "neg_risk": self.is_neg_risk,
            "last_trade_price": self.last_trade,
        }
        return hashlib.sha1(json.dumps(content, separators=(",", ":")).encode()).hexdigest()

    def snapshot(self, token_id: TokenId, ms: int) -> BookSnapshot:
        bids, asks = (
            tuple(Level(Price(p * 10_000), Size(s * MICRO)) for p, s in side.items()) for side in self.sides(token_id)
        )
        return BookSnapshot(
            token_id=token_id,
            bids=bids,
            asks=asks,
            exchange_ms=ms,
            received_ns=NOW,
            book_hash=self.hash(token_id, ms),
        )

    def change(self, ms: int, count: int) -> list[BookDelta]:
        """Change some distinct levels within a millisecond, told for both tokens once all are done."""
        levels = self.rng.sample(
            [(Side.BUY, p) for p in range(20, 45)] + [(Side.SELL, p) for p in range(55, 80)], count
        )
        for side, price in levels:
            book = self.bids if side is Side.BUY else self.asks
            if book.pop(price, None) is None or self.rng.random() < 0.5:
                book[price] = self.rng.randint(1, 10**6)
        return [self._told(token_id, side, p, ms) for side, p in levels for token_id in (YES, NO)]

    def trade(self, ms: int) -> TradePrint:
        price = self.rng.randint(40, 60)
        self.last_trade = f"{price / 100:.3f}"
        token_id, told = self.rng.choice(((YES, price), (NO, 100 - price)))
        return TradePrint(
            token_id=token_id,
            price=Price(told * 10_000),
            size=Size(MICRO),
            taker_side=Side.BUY,
            exchange_ms=ms,
            received_ns=NOW,
        )

    def _told(self, token_id: TokenId, side: Side, price: int, ms: int) -> BookDelta:
        size = (self.bids if side is Side.BUY else self.asks).get(price, 0)
        bids, asks = self.sides(token_id)
        return BookDelta(
            token_id=token_id,
            side=side if token_id == YES else (Side.SELL if side is Side.BUY else Side.BUY),
            price=Price((price if token_id == YES else 100 - price) * 10_000),
            size=Size(size * MICRO),
            exchange_ms=ms,
            received_ns=NOW,
            best_bid=Price(max(bids) * 10_000) if bids else None,
            best_ask=Price(min(asks) * 10_000) if asks else None,
            book_hash=self.hash(token_id, ms),
        )


def stream(seed: int, *, length: int = 60, is_neg_risk: bool = False) -> list[Event]:
    truth = Truth(random.Random(seed), is_neg_risk=is_neg_risk)
    events: list[Event] = [truth.snapshot(token_id, 1000) for token_id in MARKET.tokens]
    for i in range(length):
        ms = 1001 + 7 * i
        if truth.rng.random() < 0.1:
            events.append(truth.trade(ms))
        events += truth.change(ms, truth.rng.randint(1, 3))
        if truth.rng.random() < 0.1:
            events += [truth.snapshot(token_id, ms) for token_id in MARKET.tokens]
    return events


def shuffled(events: list[Event], seed: int, jitter_ms: int = LAG_MS) -> list[Event]:
    rng = random.Random(seed)
    return sorted(events, key=lambda event: event.exchange_ms + rng.uniform(0, jitter_ms))


def verified(events: list[Event], verifier: MarketVerifier | None = None) -> list[Finding]:
    verifier = verifier or MarketVerifier(MARKET)
    return [finding for event in events for finding in verifier.add(event)] + verifier.flush()


def verdicts(findings: list[Finding]) -> set[Verdict]:
    return {finding.verdict for finding in findings if isinstance(finding, Increment)}


seeds = st.integers(0, 10**6)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(seeds, st.booleans())
def test_a_true_stream_verifies_in_any_order_of_arrival(seed: int, is_neg_risk: bool) -> None:
    findings = verified(shuffled(stream(seed, is_neg_risk=is_neg_risk), seed))
    assert verdicts(findings) == {Verdict.HASH}
    for finding in findings:
        if isinstance(finding, Increment):
            assert (finding.is_best_equal, finding.is_mirror, finding.corrections) == (True, True, ())
        else:
            assert finding.is_equal in (True, None)
            assert finding.is_hash_ours


def is_missed(lost: BookDelta, kept: Sequence[MarketEvent]) -> bool:
    """Tell whether some hash of its token is told before the lost level is written again; else nobody can know."""
    later = [
        event
        for event in kept
        if isinstance(event, BookDelta) and event.token_id == lost.token_id and event.exchange_ms >= lost.exchange_ms
    ]
    if not later:
        return False
    first_ms = min(event.exchange_ms for event in later)
    return all((e.side, e.price) != (lost.side, lost.price) for e in later if e.exchange_ms == first_ms)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(seeds, st.data())
def test_a_lost_update_is_seen(seed: int, data: st.DataObject) -> None:
    events = [event for event in stream(seed) if not isinstance(event, BookSnapshot) or event.exchange_ms == 1000]
    deltas = [event for event in events if isinstance(event, BookDelta) and event.exchange_ms < 1300]
    lost = data.draw(st.sampled_from(deltas))
    kept = [event for event in events if event is not lost]
    assume(is_missed(lost, kept))
    assert Verdict.MISMATCH in verdicts(verified(shuffled(kept, seed)))


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(seeds, st.data())
def test_an_altered_update_is_seen(seed: int, data: st.DataObject) -> None:
    events = stream(seed)
    altered = data.draw(st.sampled_from([event for event in events if isinstance(event, BookDelta)]))
    wrong = msgspec.structs.replace(altered, size=Size(altered.size + 1))
    kept: list[Event] = [wrong if event is altered else event for event in events]
    assert Verdict.MISMATCH in verdicts(verified(shuffled(kept, seed)))


def test_short_streams_verify_and_show_what_is_lost() -> None:
    for seed in range(3):
        events = stream(seed, length=12)
        assert verdicts(verified(shuffled(events, seed))) == {Verdict.HASH}
        lost = next(event for event in events if isinstance(event, BookDelta))
        assert Verdict.MISMATCH in verdicts(verified([event for event in events if event is not lost]))


def test_a_mismatch_lasts_until_a_snapshot() -> None:
    truth = Truth(random.Random(1))
    verifier = MarketVerifier(MARKET)
    events: list[Event] = [truth.snapshot(token_id, 1000) for token_id in MARKET.tokens]
    truth.change(1001, 1)  # lost
    verified([*events, *truth.change(1002, 1)], verifier)
    assert verifier.doubted_ms(YES) == 1002
    healing = verified([truth.snapshot(YES, 1003)], verifier)
    assert [f.is_equal for f in healing if isinstance(f, SnapshotCheck)] == [False]
    assert verifier.doubted_ms(YES) is None
    assert verifier.doubted_ms(NO) == 1002


def test_the_hash_tells_which_of_two_writes_to_one_level_was_the_later() -> None:
    truth = Truth(random.Random(1))
    verifier = MarketVerifier(MARKET)
    start = [truth.snapshot(token_id, 1000) for token_id in MARKET.tokens]
    truth.bids[40] = 7
    first = truth._told(YES, Side.BUY, 40, 1001)
    truth.bids[40] = 8
    second = truth._told(YES, Side.BUY, 40, 1001)
    truth.bids[41] = 9
    findings = verified([*start, second, first, truth._told(YES, Side.BUY, 41, 1002)], verifier)
    assert verdicts(findings) == {Verdict.HASH}
    assert [f.corrections for f in findings if isinstance(f, Increment)] == [(), (second,)]


def test_without_hashes_best_prices_decide_and_without_those_the_mirror() -> None:
    events = [
        msgspec.structs.replace(event, book_hash="") if isinstance(event, BookDelta) else event for event in stream(3)
    ]
    assert verdicts(verified(events)) == {Verdict.BEST}
    bare = [
        msgspec.structs.replace(event, best_bid=None, best_ask=None) if isinstance(event, BookDelta) else event
        for event in events
    ]
    assert verdicts(verified(bare)) == {Verdict.MIRROR}


@pytest.mark.parametrize("reason", ["no snapshot", "too late"])
def test_nothing_is_claimed_where_nothing_can_be_told(reason: str) -> None:
    events = stream(5)
    start, deltas = events[:2], [event for event in events if isinstance(event, BookDelta)]
    arrived: list[Event] = [*deltas] if reason == "no snapshot" else [*start, *deltas[4:], *deltas[:2]]
    verifier = MarketVerifier(MARKET)
    findings = verified(arrived, verifier)
    if reason == "no snapshot":
        assert verdicts(findings) == {Verdict.UNKNOWN}
    else:
        assert verifier.late == 2
        assert Verdict.UNKNOWN in verdicts(findings)


def test_spaced_hashes_still_cover_the_stream() -> None:
    findings = verified(stream(6), MarketVerifier(MARKET, hash_gap_ms=50))
    assert verdicts(findings) == {Verdict.HASH, Verdict.BEST}


def test_the_judge_of_these_tests_does_not_use_the_last_trade_of_the_bot() -> None:
    truth = Truth(random.Random(1))
    assert truth.hash(YES, 1) != replace(truth, last_trade="0.510").hash(YES, 1)
