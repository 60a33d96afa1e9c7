"""What a recording of the market channel holds, and whether its books add up. Pure."""

from __future__ import annotations

from collections import Counter
from math import gcd
from typing import Any, Final

import msgspec

from tbot.core.book_hash import HashRule
from tbot.core.market import Market, MarketId, TokenId
from tbot.core.messages import BookDelta, BookSnapshot, Gap, MarketEvent
from tbot.core.units import MICRO, Nanos, Price, Size
from tbot.core.verification import Finding, Increment, MarketVerifier, Verdict
from tbot.errors import BadFrame
from tbot.exchanges.polymarket.captures import BY_REQUEST, line_content
from tbot.exchanges.polymarket.origins import Origins
from tbot.exchanges.polymarket.translate import book_snapshot, market_events, micro
from tbot.exchanges.polymarket.wire import UNDECODABLE, BookBody, MarketFrame

# Types that are documented and that no book needs.
UNUSED: Final = frozenset({"best_bid_ask", "new_market", "market_resolved"})
CENT: Final = Price(10_000)
# A market waits for its second token, which the first change names; a recording of one token only never does.
HELD_MAX: Final = 1_000
ERRORS_SHOWN: Final = 5
MS_PER_S: Final = 1_000


class CaptureReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was found. An increment is what changed in one token's book within one millisecond.

    Attributes:
        lines: Lines read.
        frames: Objects of the market channel.
        events: Those by type.
        unknown: Those of types nobody documented, by type.
        foreign: Objects of other feeds.
        remarks: Lines without data, such as PONG.
        decode_errors: Lines and frames that could not be used.
        errors: The first of them, with their lines.
        assets: Tokens with a book.
        first_ms: Oldest exchange time, Unix milliseconds; 0 = none.
        last_ms: Newest.
        snapshots: Snapshots that came when their book was known already.
        snapshots_equal: Those of them that equal the book rebuilt until then.
        increments: Increments of books that were known.
        hash_verified: Those after which the whole book hashes as the exchange says.
        unverifiable: Increments before the first snapshot of their book, or too late to be judged.
        best_mismatches: Increments after which the best prices told are not those of the book.
        mirror_mismatches: Increments whose levels are not mirrored in the other token's book.
        crossed: Increments that leave a crossed book.
        late: Events that arrived too late to be judged in order.
    """

    lines: int
    frames: int
    events: dict[str, int]
    unknown: dict[str, int]
    foreign: int
    remarks: int
    decode_errors: int
    errors: tuple[str, ...]
    assets: int
    first_ms: int
    last_ms: int
    snapshots: int
    snapshots_equal: int
    increments: int
    hash_verified: int
    unverifiable: int
    best_mismatches: int
    mirror_mismatches: int
    crossed: int
    late: int

    @property
    def messages_per_s(self) -> float:
        """Frames per second of the exchange's time, 0 when they span none."""
        span_ms = self.last_ms - self.first_ms
        return self.frames * MS_PER_S / span_ms if span_ms else 0.0


class CaptureSurvey:
    """Reads a recording line by line."""

    def __init__(self) -> None:
        """Begin with nothing read."""
        self._counts: Counter[str] = Counter()
        self._events: Counter[str] = Counter()
        self._unknown: Counter[str] = Counter()
        self._errors: list[str] = []
        self._span_ms: tuple[int, int] | None = None
        self._held: dict[str, list[MarketEvent]] = {}
        self._rules: dict[str, HashRule] = {}
        self._verifiers: dict[str, MarketVerifier] = {}  # by token
        self._started: list[MarketVerifier] = []
        self._origins = Origins()
        self._file, self._line_number = "", 0

    def begin(self, name: str) -> None:
        """Go on with the next file of a recording, which errors name from now on."""
        self._file, self._line_number = f"{name}, ", 0
        self._origins.begin_file()

    def add(self, text: bytes) -> None:
        """Take one line; what cannot be used is counted and the rest goes on."""
        self._counts["lines"] += 1
        self._line_number += 1
        try:
            line = line_content(text)
        except BadFrame as error:
            self._fail(error)
            return
        self._counts["foreign"] += line.foreign
        self._counts["remarks"] += line.is_remark
        if self._origins.note(line.connection, line.received_ns):
            self._end_run()
        for kind, frame in line.frames:
            try:
                self._take(kind, frame)
            except (BadFrame, *UNDECODABLE) as error:
                self._fail(error)

    def fail(self, sentence: str) -> None:
        """Count something that kept the recording from being read on."""
        self._fail(BadFrame(sentence))

    def report(self) -> CaptureReport:
        """Judge what still waits and report; call once, at the end."""
        self._end_run()
        first_ms, last_ms = self._span_ms or (0, 0)
        return CaptureReport(
            **{name: self._counts[name] for name in _COUNTS},
            events=dict(self._events.most_common()),
            unknown=dict(self._unknown.most_common()),
            errors=tuple(self._errors),
            assets=len(self._verifiers),
            first_ms=first_ms,
            last_ms=last_ms,
            late=sum(verifier.late for verifier in self._started),
        )

    # The next run may begin at any time, so its books begin anew.
    def _end_run(self) -> None:
        for market_id in list(self._held):
            self._release(market_id)
        for verifier in self._started:
            try:
                self._count(verifier.flush())
            except BadFrame as error:
                self._fail(error)
            verifier.reset()

    # What came before a new connection may be missing: its first snapshot has nothing to be compared with.
    def _cross(self, market_id: str, token_id: str) -> None:
        if market_id in self._held:
            self._release(market_id)
        if (verifier := self._verifiers.get(token_id)) is not None:
            gap = Gap(token_ids=(TokenId(token_id),), reason="another connection", received_ns=Nanos(0))
            self._count(verifier.add(gap))

    def _fail(self, error: Exception) -> None:
        self._counts["decode_errors"] += 1
        if len(self._errors) < ERRORS_SHOWN:
            self._errors.append(f"{self._file}line {self._line_number}: {error}")

    def _take(self, kind: str, frame: dict[str, Any]) -> None:
        self._counts["frames"] += 1
        self._events[kind] += 1
        if kind == BY_REQUEST:
            book = msgspec.convert(frame, BookBody)
            self._note_rule(book)
            self._follow(book.market, (book_snapshot(book, Nanos(0)),))
        elif kind not in _TAGS:
            self._unknown[kind] += 1
        elif kind not in UNUSED:
            found: MarketFrame = msgspec.convert(frame, MarketFrame)
            self._follow(found.market, tuple(market_events(found, _Everything(), Nanos(0))))

    def _note_rule(self, book: BookBody) -> None:
        if book.min_order_size and book.neg_risk is not None:
            rule = HashRule(
                size_min=Size(micro(book.min_order_size)),
                is_neg_risk=book.neg_risk,
                version=book.version,
                last_trade_text=book.last_trade_price or "",
            )
            self._rules[book.market] = rule

    def _follow(self, market_id: str, events: tuple[MarketEvent, ...]) -> None:
        for event in events:
            if isinstance(event, BookSnapshot | BookDelta):
                first_ms, last_ms = self._span_ms or (event.exchange_ms, event.exchange_ms)
                self._span_ms = min(first_ms, event.exchange_ms), max(last_ms, event.exchange_ms)
            token_id = _token_of(event)
            if self._origins.has_crossed(token_id):
                self._cross(market_id, token_id)
            if (verifier := self._verifiers.get(token_id)) is not None:
                self._count(verifier.add(event))
            else:
                self._held.setdefault(market_id, []).append(event)
        held = self._held.get(market_id, [])
        if len({_token_of(event) for event in held}) > 1 or len(held) >= HELD_MAX:
            self._release(market_id)

    def _release(self, market_id: str) -> None:
        """Start the verifier of a market with the tokens seen, and give it what waited for it."""
        held = self._held.pop(market_id)
        yes, no, *_ = [*dict.fromkeys(map(_token_of, held)), ""]
        market = Market(market_id=MarketId(market_id), slug="", yes=TokenId(yes), no=TokenId(no), tick=_tick_of(held))
        verifier = MarketVerifier(market)
        if (rule := self._rules.get(market_id)) is not None:
            verifier.learn(rule)
        self._started.append(verifier)
        self._verifiers |= {token: verifier for token in (yes, no) if token}
        for event in held:
            self._count(verifier.add(event))

    def _count(self, findings: list[Finding]) -> None:
        for finding in findings:
            if isinstance(finding, Increment):
                self._count_increment(finding)
            elif finding.is_equal is not None:
                self._counts["snapshots"] += 1
                self._counts["snapshots_equal"] += finding.is_equal

    def _count_increment(self, found: Increment) -> None:
        if found.verdict is Verdict.UNKNOWN:
            self._counts["unverifiable"] += 1
            return
        self._counts["increments"] += 1
        self._counts["hash_verified"] += found.verdict is Verdict.HASH
        self._counts["best_mismatches"] += found.is_best_equal is False
        self._counts["mirror_mismatches"] += found.is_mirror is False
        self._counts["crossed"] += found.is_crossed


_COUNTS: Final = (
    *("lines", "frames", "foreign", "remarks", "decode_errors", "snapshots", "snapshots_equal"),
    *("increments", "hash_verified", "unverifiable", "best_mismatches", "mirror_mismatches", "crossed"),
)


class _Everything:
    """Contains every token: a survey has subscribed to none."""

    def __contains__(self, token_id: object) -> bool:
        return True


_TAGS: Final = frozenset(member.__struct_config__.tag for member in MarketFrame.__args__)


def _token_of(event: MarketEvent) -> str:
    return getattr(event, "token_id", "")


def _tick_of(events: list[MarketEvent]) -> Price:
    """Take the tick told first, else the coarsest usual one that all prices are on."""
    prices: list[int] = []
    for event in events:
        if isinstance(event, BookSnapshot):
            if event.tick is not None:
                return event.tick
            prices += [level.price for level in (*event.bids, *event.asks)]
        elif isinstance(event, BookDelta):
            prices.append(event.price)
    step = gcd(CENT, *prices)
    return next((Price(tick) for tick in (CENT, 1_000, 100) if step % tick == 0), Price(MICRO // MICRO))
