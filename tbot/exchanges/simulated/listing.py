"""How markets come to be listed, and what is set by hand of those that are."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tbot.core.market import MarketId, TokenId
from tbot.core.units import NANOS_PER_S, Nanos
from tbot.exchanges.simulated.contracts import condition_of, is_position_id
from tbot.exchanges.simulated.operations import ChangeTick, Done, MarketRules, OpenMarket, Refused
from tbot.exchanges.simulated.orderbook import UnifiedBook
from tbot.exchanges.simulated.settlement import Agenda, StartGame
from tbot.exchanges.simulated.turn import Turn

# What an address can carry as it is, so that the routes by slug find it.
_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]*")
_CONDITION = re.compile(r"0x[0-9a-f]{64}")
_TOKEN = re.compile(r"[1-9][0-9]{0,77}")
_TOKEN_END = 1 << 256


class Listing:
    """Opens books.

    Args:
        books: Of every market; the engine's own, not a copy, as the other two.
        market_of: The market of every token.
        agenda: What is due.

    Attributes:
        since_ns: When each market was listed.
    """

    def __init__(self, books: dict[MarketId, UnifiedBook], market_of: dict[TokenId, MarketId], agenda: Agenda) -> None:
        self._books = books
        self._market_of = market_of
        self._agenda = agenda
        self.since_ns: dict[MarketId, Nanos] = {}

    def open(self, operation: OpenMarket, turn: Turn) -> Done | Refused:
        """List a market, unless it or one of its tokens is listed."""
        rules = operation.rules
        if rules.market_id in self._books or any(token in self._market_of for token in rules.tokens):
            return Refused(text=f"market {rules.market_id} or one of its tokens is listed already")
        book = self._books[rules.market_id] = UnifiedBook(rules)
        for token_id in rules.tokens:
            self._market_of[token_id] = rules.market_id
        self.since_ns[rules.market_id] = turn.now_ns
        start_ns = Nanos(rules.game_start_s * NANOS_PER_S)
        if rules.clears_book_at_start and start_ns > turn.now_ns:
            self._agenda.enter(start_ns, StartGame(market_id=rules.market_id))
        turn.tell_opened(book)
        return Done()

    def change_tick(self, operation: ChangeTick, turn: Turn) -> Done:
        """Set the tick of a market."""
        book = self._books[operation.market_id]
        book.tick_listed = operation.tick
        turn.change_tick(book, operation.tick)
        return Done()


def check_markets(markets: Sequence[MarketRules]) -> None:
    """Check that clients can find every market and make orders for it.

    Raises:
        ValueError: One of them no client could trade, or two share an id, a token or a slug, or
            one has the slug of an event.
    """
    for rules in markets:
        check_market(rules)
    names = [name for rules in markets for name in (rules.market_id, rules.yes, rules.no)]
    if len(set(names)) < len(names):
        raise ValueError("expected every market_id, yes and no once, found one twice")
    slugs = [rules.slug for rules in markets]
    if twice := [slug for slug in slugs if slugs.count(slug) > 1]:
        raise ValueError(f"expected every slug once, found {twice[0]!r} twice")
    events = {rules.event for rules in markets}
    if shared := [slug for slug in slugs if slug in events]:
        raise ValueError(f"expected every slug once, found {shared[0]!r} of a market and of an event")


def check_market(rules: MarketRules) -> None:
    """Check that clients can find a market and make orders for it.

    Raises:
        ValueError: A slug, a condition, a token or its event is none, or a position is not of the market's condition.
    """
    for slug in (rules.slug, rules.event):
        if slug and _SLUG.fullmatch(slug) is None:
            raise ValueError(f"expected a slug of letters, digits and any of -._~ behind the first, found {slug!r}")
    for token_id in rules.tokens:
        if _TOKEN.fullmatch(token_id) is None or int(token_id) >= _TOKEN_END:
            raise ValueError(f"{rules.slug}: expected a token of digits below 2**256, found {token_id!r}")
        if is_position_id(token_id) and condition_of(token_id) != rules.market_id:
            raise ValueError(f"{rules.slug}: expected market_id {condition_of(token_id)}, found {rules.market_id}")
    if is_position_id(rules.yes) != is_position_id(rules.no):
        raise ValueError(f"{rules.slug}: expected two tokens or two positions, found one of each")
    if _CONDITION.fullmatch(rules.market_id) is None:
        raise ValueError(
            f"{rules.slug}: expected market_id of 0x and 64 hexadecimal digits in lower case, found {rules.market_id!r}"
        )
    if rules.event and not rules.is_neg_risk:
        raise ValueError(
            f"{rules.slug}: expected is_neg_risk = true, since it is an outcome of the event {rules.event}; found false"
        )
