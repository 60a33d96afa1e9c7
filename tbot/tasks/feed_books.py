"""What the market feed believes: one book a token, and why it may or may not be acted on. Pure: no waiting, no clock.

A book is trusted from its first snapshot of a connection until something speaks against it. Two kinds of doubt:

- a *fault* is latched: updates may have been lost, and only a snapshot as new as the fault ends it;
- a *condition* is looked at anew each time: a crossed book, no proof of truth for too long. Others may be
  only a frame on its way, and become a fault when they last: the two books of a market disagree, the best
  prices told beside a change are not ours.

A quiet market and a frozen feed look the same from here, so silence alone is no doubt: a token without data for a
while is compared with the book read by request (the canary). Equal: just quiet. Different and not older, twice: frozen.

Durations are Trio seconds (`now_s`), which nobody sets back; stamps are wall time (`now_ns`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, assert_never

import msgspec

from tbot.core.backoff import Backoff
from tbot.core.book import Book, BookState
from tbot.core.market import Market, TokenId
from tbot.core.messages import (
    BookDelta,
    BookSnapshot,
    Gap,
    Level,
    MarketEvent,
    MarketView,
    Side,
    TickSizeChanged,
    TopOfBook,
    TradePrint,
)
from tbot.core.units import ONE_DOLLAR, Nanos, Price, Size, complement
from tbot.errors import BadFrame

Seconds = Annotated[float, msgspec.Meta(gt=0)]

# Levels a side of a view; strategies look at three and at depth beyond (see `strategies.liquidity`).
DEPTH_LEVELS = 5
# One look that differs may be a frame still on its way; a second one after `confirm_s` is not.
MISSES_MAX = 2

NOT_TOLD: tuple[Price | None, Price | None] = (None, None)
DISCONNECTED = "disconnected"
NO_SNAPSHOT = "no snapshot yet"


class FeedSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Patience of the market feed; all in seconds unless named otherwise.

    Attributes:
        connect_s: Longest way to a subscribed connection.
        link_s: No sign of life, not even a pong, for this long ends the connection (they come every 10 s).
        quiet_s: A token without data for this long is compared with the book read by request.
        canary_s: Between two such looks, and between two attempts to heal one book.
        confirm_s: From a look that differs to the one that confirms it.
        canary_tokens_max: Most tokens in one look; the longest unseen come first.
        books_s: Longest wait for books read by request.
        truth_s: A token without data or an equal look for this long is stale: nobody can tell what is true.
        heal_s: A doubtful book gets this long to heal by itself before it is read by request.
        poll_s: Between reads by request while disconnected.
        is_rest_usable: Whether books read by request may be acted on while disconnected. They are seconds old.
        bad_frames_max: More bad frames than this within a minute end the connection.
        backoff: Pauses between attempts to connect, from the second on.
    """

    connect_s: Seconds = 10.0
    link_s: Seconds = 25.0
    quiet_s: Seconds = 3.0
    canary_s: Seconds = 2.0
    confirm_s: Seconds = 1.0
    canary_tokens_max: Annotated[int, msgspec.Meta(ge=1)] = 100
    books_s: Seconds = 2.0
    truth_s: Seconds = 10.0
    heal_s: Seconds = 0.5
    poll_s: Seconds = 1.0
    is_rest_usable: bool = False
    bad_frames_max: Annotated[int, msgspec.Meta(ge=0)] = 10
    backoff: Backoff = Backoff(0.25, 30.0)


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
        misses: Looks in a row that differed.
    """

    __slots__ = (
        "asked_s",
        "data_s",
        "disputed_s",
        "doubted_s",
        "fault",
        "fault_ms",
        "fault_s",
        "is_shown_stale",
        "live",
        "market",
        "misses",
        "shown",
        "token_id",
        "told",
        "verified_s",
    )

    def __init__(self, market: Market, token_id: TokenId, now_s: float) -> None:
        """Begin stale and empty."""
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
        self.misses = 0
        self.is_shown_stale = True

    @property
    def is_doubtful(self) -> bool:
        """Whether a fault is latched or the book is crossed or without a snapshot."""
        return bool(self.fault) or self.live.state in (BookState.STALE, BookState.CROSSED)

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
        self.misses = 0

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
            self.fault, self.shown = "", self.live
        return True

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

    def differs_from(self, snapshot: BookSnapshot) -> bool:
        """Compare every level with a book read by request."""
        theirs = Book(self.live.tick)
        theirs.apply_snapshot(snapshot)
        return any(theirs.levels(side) != self.live.levels(side) for side in Side)


class FeedBooks:
    """All books of the feed.

    Attributes:
        gaps: Gaps told by the session so far.
        session: Number of the connection, 0 before the first.
        is_connected: Whether it stands.
    """

    def __init__(self, markets: Sequence[Market], settings: FeedSettings, now_s: float) -> None:
        """Begin disconnected; every token is to be published, as stale."""
        self.gaps = 0
        self.session = 0
        self.is_connected = False
        self._settings = settings
        self._markets = {market.market_id: market for market in markets}
        self._books = {t: TokenBook(m, t, now_s) for m in markets for t in m.tokens}
        self._mirror_s: dict[str, float] = {}  # since when the two books of a market disagree
        self._traded = {market.market_id: (Size(0), Size(0)) for market in markets}
        self._touched = dict.fromkeys(self._books)

    @property
    def tokens(self) -> tuple[TokenId, ...]:
        """Every token, YES before NO, in the order of the markets."""
        return tuple(self._books)

    def stale_count(self) -> int:
        """Count the tokens last shown as stale."""
        return sum(book.is_shown_stale for book in self._books.values())

    def connected(self, now_s: float) -> None:
        """Begin a connection: every book waits for its first snapshot."""
        self.session += 1
        self.is_connected = True
        self._mirror_s.clear()
        for book in self._books.values():
            book.renew(now_s)
        self._touch_all()

    def disconnected(self, now_s: float) -> None:
        """End the connection: every book is stale."""
        self.is_connected = False
        self.distrust(self.tokens, DISCONNECTED, now_s)

    def distrust(self, token_ids: Iterable[TokenId], reason: str, now_s: float) -> None:
        """Latch a fault on some books."""
        for token_id in token_ids:
            if (book := self._books.get(token_id)) is not None:
                book.distrust(reason, now_s)
                self._touched[token_id] = None

    def apply(self, event: MarketEvent, now_s: float) -> None:
        """Apply one event of the session; those of other tokens are left out.

        Raises:
            BadFrame: It is impossible; the token is stale now.
        """
        if isinstance(event, Gap):
            self.gaps += 1
            self.distrust(event.token_ids or self.tokens, f"gap: {event.reason}", now_s)
            return
        if (book := self._books.get(event.token_id)) is None:
            return
        self._touched[event.token_id] = None
        book.data_s = book.verified_s = now_s
        book.misses = 0
        try:
            self._apply_to(book, event, now_s)
        except BadFrame:
            book.distrust("impossible level", now_s)
            raise

    def examine(self, now_s: float) -> None:
        """Look at all conditions, also those that only time brings about; call before `changes`."""
        for token_id, book in self._books.items():
            self._examine_token(book, now_s)
            if book.is_stale(now_s, self._settings.truth_s) != book.is_shown_stale:
                self._touched[token_id] = None

    def to_heal(self, now_s: float) -> list[TokenId]:
        """List the doubtful books that had their time to heal by themselves and should be read by request."""
        if not self.is_connected:
            return []
        s = self._settings
        return [
            token_id
            for token_id, book in self._books.items()
            if book.doubted_s is not None and now_s - book.doubted_s >= s.heal_s and now_s - book.asked_s >= s.canary_s
        ]

    def to_verify(self, now_s: float) -> list[TokenId]:
        """List the trusted but quiet books that should be compared with one read by request."""
        if not self.is_connected:
            return []
        due = [(book.asked_s, token_id) for token_id, book in self._books.items() if self._is_look_due(book, now_s)]
        # A stable sort by age only: ids are no reason to prefer a token.
        due.sort(key=lambda entry: entry[0])
        return [token_id for _, token_id in due[: self._settings.canary_tokens_max]]

    def asked(self, token_ids: Iterable[TokenId], now_s: float) -> None:
        """Note that books are being asked for by request."""
        for token_id in token_ids:
            self._books[token_id].asked_s = now_s

    def answer(self, snapshot: BookSnapshot, asked_s: float, now_s: float) -> bool:
        """Use a book read by request while connected: heal a doubtful book, or look at a quiet one.

        Args:
            snapshot: The answer.
            asked_s: When it was asked for.
            now_s: Now.

        Returns:
            True when the feed is surely frozen for this token: it is stale now, connect anew.

        Raises:
            BadFrame: It is impossible; nothing changed.
        """
        book = self._books.get(snapshot.token_id)
        if book is None:
            return False
        if book.is_doubtful:
            if asked_s > book.fault_s and book.adopt(snapshot):
                book.data_s = book.verified_s = now_s
                self._touched[snapshot.token_id] = None
            return False
        # Data that came meanwhile is newer than the answer: nothing can be learnt from it.
        return book.data_s <= asked_s and self._is_frozen(book, snapshot, now_s)

    def show(self, snapshot: BookSnapshot, now_s: float) -> None:
        """Use a book read by request while disconnected: it keeps marks fresh, and is stale unless settings trust it.

        Raises:
            BadFrame: It is impossible; nothing changed.
        """
        book = self._books.get(snapshot.token_id)
        if book is None or self.is_connected:
            return
        shown = Book(book.shown.tick)
        shown.apply_snapshot(snapshot)
        book.shown = shown
        self._touched[snapshot.token_id] = None
        if self._settings.is_rest_usable:
            book.live, book.fault, book.verified_s = shown, "", now_s

    def changes(self, now_s: float, now_ns: Nanos) -> tuple[list[TopOfBook], list[MarketView]]:
        """Take what changed since the last call, once each: tops of tokens, views of markets."""
        touched, self._touched = self._touched, {}
        for token_id in touched:
            self._examine_token(self._books[token_id], now_s)
        touched |= self._touched  # a market whose books disagree touches both
        self._touched = {}
        markets = dict.fromkeys(self._books[token_id].market.market_id for token_id in touched)
        tops = [self._top(self._books[token_id], now_s, now_ns) for token_id in touched]
        return tops, [self._view(self._markets[market_id], now_s, now_ns) for market_id in markets]

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

    def _examine_token(self, book: TokenBook, now_s: float) -> None:
        self._examine_mirror(book.market, now_s)
        self._examine_best(book, now_s)
        if not book.is_doubtful:
            book.doubted_s = None
        elif book.doubted_s is None:
            book.doubted_s = book.fault_s = now_s

    # The two books of a market are told one after the other, so a short disagreement is no news.
    def _examine_mirror(self, market: Market, now_s: float) -> None:
        yes, no = self._books[market.yes], self._books[market.no]
        key = market.market_id
        if yes.live.state is BookState.STALE or no.live.state is BookState.STALE or _is_mirror(yes.live, no.live):
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

    def _is_look_due(self, book: TokenBook, now_s: float) -> bool:
        s = self._settings
        pause_s = s.confirm_s if book.misses else s.canary_s
        return not book.is_doubtful and now_s - book.data_s >= s.quiet_s and now_s - book.asked_s >= pause_s

    def _is_frozen(self, book: TokenBook, snapshot: BookSnapshot, now_s: float) -> bool:
        if not book.differs_from(snapshot):
            book.misses, book.verified_s = 0, now_s
            return False
        if snapshot.exchange_ms < book.live.exchange_ms:
            return False  # a cached answer, older than what the socket told us
        book.misses += 1
        if book.misses < MISSES_MAX:
            return False
        self.distrust((book.token_id,), "frozen feed", now_s)
        return True

    def _touch_all(self) -> None:
        self._touched = dict.fromkeys(self._books)

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
            bids=_best(yes, Side.BUY),
            asks=_best(yes, Side.SELL),
            tick=yes.tick,
            is_stale=any(self._books[t].is_stale(now_s, self._settings.truth_s) for t in market.tokens),
            traded_buy=bought,
            traded_sell=sold,
            exchange_ms=yes.exchange_ms,
            at_ns=now_ns,
        )


# An empty side is told as 0 or 1 dollar by some frames, and not at all by others.
def _told(price: Price | None) -> Price | None:
    return price if price is not None and 0 < price < ONE_DOLLAR else None


def _best(book: Book, side: Side) -> tuple[Level, ...]:
    return book.depth(side, DEPTH_LEVELS)


def _is_mirror(yes: Book, no: Book) -> bool:
    tick = max(yes.tick, no.tick)
    return _is_near(yes.best_ask, no.best_bid, tick) and _is_near(yes.best_bid, no.best_ask, tick)


def _is_near(price: Price | None, mirrored: Price | None, tick: Price) -> bool:
    if price is None or mirrored is None:
        return price is mirrored
    return abs(price - complement(mirrored)) <= tick
