"""What the market feed believes: one book a token, and which of them may not be acted on. Pure: no waiting, no clock.

A book is trusted from its first snapshot of a connection until something speaks against it (see `token_book`).

A quiet market and a frozen feed look the same from here, so silence alone is no doubt: the books are compared with
those read by request in turn (the canary), a token without data, or on a connection that is silent against its habit,
sooner than one that is busy. Equal: just quiet. Different and not older, twice: frozen. While others of its connection
go on, a frozen token is only subscribed anew; otherwise, or when that does not help, the connection is made anew.

Durations are Trio seconds (`now_s`), which nobody sets back; stamps are wall time (`now_ns`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import assert_never

import msgspec

from tbot.core.book import Book
from tbot.core.market import Market, MarketId, TokenId
from tbot.core.messages import (
    BookDelta,
    BookSnapshot,
    Gap,
    Level,
    MarketEvent,
    MarketNews,
    MarketView,
    Side,
    TickSizeChanged,
    TopOfBook,
    TradePrint,
)
from tbot.core.units import Nanos, Price, Size, complement
from tbot.errors import BadFrame
from tbot.tasks.feed_line import Line, lines_of
from tbot.tasks.feed_proof import MISMATCHES_MAX, FeedProof
from tbot.tasks.feed_settings import FeedSettings
from tbot.tasks.feed_terms import TermsSchedule
from tbot.tasks.token_book import DISCONNECTED, FROZEN, MISMATCHED, TokenBook, Verdict

# Levels a side of a view; strategies look at three and at depth beyond (see `strategies.liquidity`).
DEPTH_LEVELS = 5
# One look that differs may be a frame still on its way; a second one after `confirm_s` is not.
MISSES_MAX = 2
# Books read by request that did not end a doubt; then only a new subscription will.
HEALS_MAX = 3
# A token that freezes again so soon was not cured by subscribing it anew.
FROZEN_AGAIN_S = 60.0


class Cure(msgspec.Struct, frozen=True, kw_only=True):
    """What to do about frozen tokens of one connection.

    Attributes:
        line: The connection.
        token_ids: To be subscribed anew; () = make the whole connection anew.
    """

    line: Line
    token_ids: tuple[TokenId, ...] = ()


class FeedBooks:
    """All books of the feed.

    Attributes:
        gaps: Gaps told by the sessions so far.
        lines: The connections; one may have no token for the time being.
        proof: Verifies every increment.
        terms: When the terms of which market are read again.
    """

    def __init__(
        self, markets: Sequence[Market], settings: FeedSettings, now_s: float, *, tokens_max: int | None = None
    ) -> None:
        """Begin disconnected; every token is to be published, as stale.

        Args:
            markets: What is followed.
            settings: Patience.
            now_s: Now.
            tokens_max: Most tokens on one connection; None = as the settings say.
        """
        self.gaps = 0
        self._tokens_max = tokens_max or settings.shard_tokens_max
        self.lines = lines_of(markets, self._tokens_max, now_s)
        self.proof = FeedProof(markets, settings)
        self.terms = TermsSchedule(markets, settings, now_s)
        self._settings = settings
        self._markets: dict[MarketId, Market] = {}
        self._books: dict[TokenId, TokenBook] = {}
        self._traded: dict[MarketId, tuple[Size, Size]] = {}
        self._mirror_s: dict[str, float] = {}  # since when the two books of a market disagree
        self._touched: dict[TokenId, None] = {}
        self._farewells: tuple[list[TopOfBook], list[MarketView]] = ([], [])
        carrier = {token: line for line in self.lines for token in line.tokens}
        for market in markets:
            self._enlist(market, carrier[market.yes], now_s)

    @property
    def tokens(self) -> tuple[TokenId, ...]:
        """Every token, YES before NO, in the order of the markets."""
        return tuple(self._books)

    @property
    def is_connected(self) -> bool:
        """Whether every connection stands."""
        return all(line.is_connected for line in self.lines if line.tokens)

    def stale_count(self, token_ids: Iterable[TokenId] | None = None) -> int:
        """Count the tokens last shown as stale, of all or of some."""
        return sum(
            self._books[token_id].is_shown_stale for token_id in (self._books if token_ids is None else token_ids)
        )

    def connected(self, line: Line, now_s: float) -> None:
        """Begin a connection: each of its books waits for its first snapshot."""
        line.connected(now_s)
        for token_id in line.tokens:
            book = self._books[token_id]
            book.renew(now_s)
            self._mirror_s.pop(book.market.market_id, None)
            self._touched[token_id] = None
        self.proof.reset(dict.fromkeys(self._books[token_id].market.market_id for token_id in line.tokens))

    def disconnected(self, line: Line, now_s: float) -> None:
        """End a connection: its books are stale, those of others are not concerned."""
        line.lost(now_s)
        self.distrust(line.tokens, DISCONNECTED, now_s)

    def distrust(self, token_ids: Iterable[TokenId], reason: str, now_s: float) -> None:
        """Latch a fault on some books."""
        for token_id in token_ids:
            if (book := self._books.get(token_id)) is not None:
                book.distrust(reason, now_s)
                self._touched[token_id] = None

    def apply(self, line: Line, event: MarketEvent, now_s: float) -> None:
        """Apply one event of a session; those of tokens it does not carry are left out.

        Raises:
            BadFrame: It is impossible; the token is stale now.
        """
        if isinstance(event, Gap):
            self.gaps += 1
            self.distrust(event.token_ids or line.tokens, f"gap: {event.reason}", now_s)
            return
        if isinstance(event, MarketNews):
            for token_id in event.token_ids:
                if (book := self._books.get(token_id)) is not None:
                    self.terms.hurry(book.market.market_id)
            return
        book = self._books.get(event.token_id)
        if book is None or book.line is not line:
            return
        self._touched[event.token_id] = None
        book.data_s = book.verified_s = now_s
        self._correct(self.proof.see(book.market, event, now_s))
        try:
            self._apply_to(book, event, now_s)
        except BadFrame:
            book.distrust("impossible level", now_s)
            raise

    def examine(self, now_s: float) -> None:
        """Look at all conditions, also those that only time brings about; call before `changes`."""
        self._correct(self.proof.settle(now_s))
        for token_id, book in self._books.items():
            self._examine_token(book, now_s)
            if book.is_stale(now_s, self._settings.truth_s) != book.is_shown_stale:
                self._touched[token_id] = None

    def to_ask(self, now_s: float) -> list[TokenId]:
        """List the books to be read by request now, the most urgent first, at most `canary_tokens_max`.

        Doubtful ones come first, if they had their time to heal by themselves, then the others in turn: the quiet ones,
        and now and then the busy ones. Those of lost connections are not acted on, so they come last.
        """
        due = [
            (rank, book.asked_s, token_id)
            for token_id, book in self._books.items()
            if (rank := self._rank(book, now_s)) is not None
        ]
        # A stable sort by urgency and age only: ids are no reason to prefer a token.
        due.sort(key=lambda entry: entry[:2])
        return [token_id for _, _, token_id in due[: self._settings.canary_tokens_max]]

    def sessions_of(self, token_ids: Iterable[TokenId]) -> dict[TokenId, int]:
        """Name the connection that each token belongs to now; 0 = none stands. Tokens not followed are left out."""
        lines = {token_id: self._books[token_id].line for token_id in token_ids if token_id in self._books}
        return {token_id: line.session if line.is_connected else 0 for token_id, line in lines.items()}

    def asked(self, token_ids: Iterable[TokenId], now_s: float) -> None:
        """Note that books are being asked for by request."""
        for token_id in token_ids:
            self._books[token_id].asked_s = now_s

    def answer(self, snapshot: BookSnapshot, asked_s: float, now_s: float) -> None:
        """Use a book read by request: heal a doubtful one, look at a trusted one, show one of a lost connection.

        Args:
            snapshot: The answer.
            asked_s: When it was asked for.
            now_s: Now.

        Raises:
            BadFrame: It is impossible; nothing changed.
        """
        book = self._books.get(snapshot.token_id)
        if book is None:
            return
        if not book.line.is_connected:
            self._show(book, snapshot, now_s)
        elif not book.is_doubtful:
            self._judge(book, snapshot, asked_s, now_s)
        elif book.fault != FROZEN and asked_s > book.fault_s:
            self._heal(book, snapshot, now_s)

    def unanswered(self, token_ids: Iterable[TokenId], now_s: float) -> None:
        """Note that books could not be read: those of lost connections are not fresh any more."""
        books = (book for t in token_ids if (book := self._books.get(t)) is not None)
        self.distrust([book.token_id for book in books if not book.line.is_connected], DISCONNECTED, now_s)

    def cures(self, now_s: float) -> list[Cure]:
        """Say what to do about frozen tokens, once for each attempt."""
        cures: list[Cure] = []
        for line in self.lines:
            books = [self._books[t] for t in line.tokens] if line.is_connected else []
            frozen = [book for book in books if book.fault == FROZEN]
            new = [book for book in frozen if book.retried_s is None]
            if any(self._is_past_hope(book, now_s) for book in frozen):
                cures.append(Cure(line=line))
            elif new:
                cures.append(Cure(line=line, token_ids=tuple(book.token_id for book in new)))
            for book in new:
                book.frozen_s = book.retried_s = now_s
                book.begin_anew()
        return cures

    # --- markets ------------------------------------------------------------------------------------------------

    def market(self, market_id: MarketId) -> Market | None:
        """Return a market with its terms in force; None = it is not followed."""
        return self._markets.get(market_id)

    def relist(self, market: Market, now_s: float) -> None:
        """Take new terms of a market; its books stay, unless its tick changed and nobody told them."""
        before = self._markets[market.market_id]
        self._markets[market.market_id] = market
        if (before.size_min, before.is_neg_risk) != (market.size_min, market.is_neg_risk):  # their hashes hold both
            self.proof.relist(market)
        for token_id in market.tokens:
            book = self._books[token_id]
            book.market = market
            self._touched[token_id] = None
            if before.tick != market.tick != book.live.tick:
                book.distrust("tick size changed unheard", now_s)

    def add(self, market: Market, now_s: float) -> Line:
        """Follow one more market, on the first connection with room, else on one that is still to be made.

        Returns:
            Its connection; the last of `lines` when it is new.
        """
        if market.market_id in self._markets:
            return self._books[market.yes].line
        line = next((each for each in self.lines if each.has_room(self._tokens_max)), None)
        if line is None:
            line = Line(len(self.lines), (), now_s)
            self.lines.append(line)
        line.tokens += market.tokens
        self.proof.relist(market)
        self.terms.add(market.market_id, now_s)
        self._enlist(market, line, now_s)
        return line

    def remove(self, market_id: MarketId, now_s: float, now_ns: Nanos) -> Line | None:
        """Follow a market no more; what is told of it last is that it is stale.

        Returns:
            The connection that carried it; None = nobody followed it.
        """
        market = self._markets.get(market_id)
        if market is None:
            return None
        self.distrust(market.tokens, "followed no more", now_s)
        self._farewells[0].extend(self._top(self._books[token_id], now_s, now_ns) for token_id in market.tokens)
        self._farewells[1].append(self._view(market, now_s, now_ns))
        line = self._books[market.yes].line
        line.tokens = tuple(token_id for token_id in line.tokens if token_id not in market.tokens)
        for token_id in market.tokens:
            del self._books[token_id]
            self._touched.pop(token_id, None)
        del self._markets[market_id], self._traded[market_id]
        self._mirror_s.pop(market_id, None)
        self.proof.remove(market)
        self.terms.remove(market_id)
        return line

    def _enlist(self, market: Market, line: Line, now_s: float) -> None:
        self._markets[market.market_id] = market
        self._traded[market.market_id] = (Size(0), Size(0))
        for token_id in market.tokens:
            self._books[token_id] = TokenBook(market, token_id, line, now_s)
            self._touched[token_id] = None

    # --- publishing ---------------------------------------------------------------------------------------------

    def changes(self, now_s: float, now_ns: Nanos) -> tuple[list[TopOfBook], list[MarketView]]:
        """Take what changed since the last call, once each: tops of tokens, views of markets."""
        touched, self._touched = self._touched, {}
        for token_id in touched:
            self._examine_token(self._books[token_id], now_s)
        touched |= self._touched  # a market whose books disagree touches both
        self._touched = {}
        markets = dict.fromkeys(self._books[token_id].market.market_id for token_id in touched)
        (tops, views), self._farewells = self._farewells, ([], [])
        tops += [self._top(self._books[token_id], now_s, now_ns) for token_id in touched]
        views += [self._view(self._markets[market_id], now_s, now_ns) for market_id in markets]
        return tops, views

    def _apply_to(
        self, book: TokenBook, event: BookSnapshot | BookDelta | TradePrint | TickSizeChanged, now_s: float
    ) -> None:
        match event:
            case BookSnapshot():
                book.adopt(event)
            case BookDelta():
                book.change(event)
            case TradePrint():
                self._count_trade(book, event)
            case TickSizeChanged():
                if book.live.change_tick(event):
                    book.distrust("tick size changed", now_s)
            case _:
                assert_never(event)

    # Buying NO is selling YES, at the mirrored price.
    def _count_trade(self, book: TokenBook, trade: TradePrint) -> None:
        market = book.market
        bought, sold = self._traded[market.market_id]
        if (trade.taker_side is Side.BUY) == (book.token_id == market.yes):
            self._traded[market.market_id] = (Size(bought + trade.size), sold)
        else:
            self._traded[market.market_id] = (bought, Size(sold + trade.size))

    # Of two writes to one level in one millisecond the one that arrived last was believed; a hash says otherwise.
    def _correct(self, corrections: tuple[BookDelta, ...]) -> None:
        for delta in corrections:
            self._books[delta.token_id].live.apply_delta(delta)
            self._touched[delta.token_id] = None

    def _examine_token(self, book: TokenBook, now_s: float) -> None:
        self._examine_mirror(book.market, now_s)
        self._examine_best(book, now_s)
        self._examine_proof(book, now_s)
        if not book.is_doubtful:
            book.doubted_s = None
        elif book.doubted_s is None:
            book.doubted_s = book.fault_s = now_s

    # The two books of a market are told one after the other, so a short disagreement is no news.
    def _examine_mirror(self, market: Market, now_s: float) -> None:
        yes, no = self._books[market.yes], self._books[market.no]
        key = market.market_id
        if yes.live.is_stale or no.live.is_stale or _is_mirror(yes.live, no.live):
            self._mirror_s.pop(key, None)
        elif now_s - self._mirror_s.setdefault(key, now_s) >= self._settings.heal_s and not (yes.fault and no.fault):
            self.distrust(market.tokens, "YES and NO disagree", now_s)

    def _examine_best(self, book: TokenBook, now_s: float) -> None:
        if book.fault or not book.is_disputed:
            book.disputed_s = None
        elif book.disputed_s is None:
            book.disputed_s = now_s
        elif now_s - book.disputed_s >= self._settings.heal_s:
            self.distrust((book.token_id,), "best prices are not those told", now_s)

    def _examine_proof(self, book: TokenBook, now_s: float) -> None:
        mismatches = self.proof.mismatches(book.token_id)
        if book.fault or not mismatches:
            book.mismatched_s = None
        elif book.mismatched_s is None:
            book.mismatched_s = now_s
        elif mismatches >= MISMATCHES_MAX and now_s - book.mismatched_s >= self._settings.heal_s:
            self.distrust((book.token_id,), MISMATCHED, now_s)

    # 0: to be healed, or to be confirmed; 1: to be looked at; 2: of a lost connection; None: not now.
    def _rank(self, book: TokenBook, now_s: float) -> int | None:
        s, age_s = self._settings, now_s - max(book.asked_s, book.line.since_s)
        if not book.line.is_connected:
            return 2 if age_s >= s.poll_s else None
        if book.doubted_s is not None:
            is_old = now_s - book.asked_s >= s.canary_s
            is_due = book.fault != FROZEN and now_s - book.doubted_s >= s.heal_s and is_old
            return 0 if is_due else None
        if book.misses or book.mismatched_s is not None:
            pause_s = s.confirm_s
        elif now_s - book.data_s >= s.quiet_s or book.line.is_silent(now_s, s):
            pause_s = s.canary_s
        else:
            pause_s = s.rotate_s
        return int(pause_s > s.confirm_s) if age_s >= pause_s else None

    def _judge(self, book: TokenBook, snapshot: BookSnapshot, asked_s: float, now_s: float) -> None:
        match book.compare(snapshot, asked_s):
            case Verdict.EQUAL:
                book.misses, book.verified_s = 0, now_s
                if book.mismatched_s is not None:
                    self._correct(self.proof.see(book.market, snapshot, now_s))
            case Verdict.UNCLEAR if self._is_ours_suspect(book, asked_s, now_s):
                self._miss(book, snapshot, now_s)
            case Verdict.UNCLEAR:
                book.misses = 0
            case Verdict.BEHIND:
                self._miss(book, snapshot, now_s)

    def _miss(self, book: TokenBook, snapshot: BookSnapshot, now_s: float) -> None:
        if book.miss(snapshot, now_s) >= MISSES_MAX:
            book.misses = 0
            self.distrust((book.token_id,), FROZEN, now_s)

    # Theirs is older by its stamp, and yet they had the time to learn what we know: it may be our stamp that is wrong.
    # A hash that differs says so too; or nothing proved our book for so long that nobody may act on it any more.
    def _is_ours_suspect(self, book: TokenBook, asked_s: float, now_s: float) -> bool:
        is_known_to_them = book.data_s <= asked_s - self._settings.confirm_s
        is_unproven = book.mismatched_s is not None or now_s - book.verified_s > self._settings.truth_s
        return is_known_to_them and is_unproven

    def _heal(self, book: TokenBook, snapshot: BookSnapshot, now_s: float) -> None:
        if book.heal(snapshot):
            self._correct(self.proof.see(book.market, snapshot, now_s))
            book.data_s = book.verified_s = now_s
        if book.heals_failed >= HEALS_MAX:
            book.give_up(now_s)
        self._touched[snapshot.token_id] = None

    # It keeps marks fresh, and is stale unless the settings trust it.
    def _show(self, book: TokenBook, snapshot: BookSnapshot, now_s: float) -> None:
        shown = Book(book.shown.tick)
        shown.apply_snapshot(snapshot)
        book.shown = shown
        self._touched[book.token_id] = None
        if self._settings.is_rest_usable:
            book.live, book.fault, book.verified_s = shown, "", now_s

    def _is_past_hope(self, book: TokenBook, now_s: float) -> bool:
        if book.retried_s is not None:
            return now_s - book.retried_s >= self._settings.resubscribe_s
        is_alone = book.line.data_s <= book.missed_s
        return is_alone or now_s - book.frozen_s < FROZEN_AGAIN_S

    def _top(self, book: TokenBook, now_s: float, now_ns: Nanos) -> TopOfBook:
        book.is_shown_stale = book.is_stale(now_s, self._settings.truth_s)
        return TopOfBook(
            token_id=book.token_id,
            best_bid=book.shown.best_bid,
            best_ask=book.shown.best_ask,
            tick=book.shown.tick,
            is_stale=book.is_shown_stale,
            at_ns=now_ns,
        )

    # A strategy quotes both tokens by one view, so doubt about either makes the view stale.
    def _view(self, market: Market, now_s: float, now_ns: Nanos) -> MarketView:
        yes = self._books[market.yes].shown
        bought, sold = self._traded[market.market_id]
        return MarketView(
            market_id=market.market_id,
            market=market,
            bids=_best(yes, Side.BUY),
            asks=_best(yes, Side.SELL),
            tick=yes.tick,
            is_stale=any(self._books[t].is_stale(now_s, self._settings.truth_s) for t in market.tokens),
            traded_buy=bought,
            traded_sell=sold,
            exchange_ms=yes.exchange_ms,
            at_ns=now_ns,
        )


def _best(book: Book, side: Side) -> tuple[Level, ...]:
    return book.depth(side, DEPTH_LEVELS)


def _is_mirror(yes: Book, no: Book) -> bool:
    tick = max(yes.tick, no.tick)
    return _is_near(yes.best_ask, no.best_bid, tick) and _is_near(yes.best_bid, no.best_ask, tick)


def _is_near(price: Price | None, mirrored: Price | None, tick: Price) -> bool:
    if price is None or mirrored is None:
        return price is mirrored
    return abs(price - complement(mirrored)) <= tick
