"""The catalogue of the local exchange: every market and event with its number, its words, its size and its price.

What the exchange lists is numbered in order of listing and never renumbered. Sums are taken when they are asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from tbot.core.market import MarketId, TokenId
from tbot.core.messages import Level
from tbot.core.units import MICRO, Nanos, Notional, Price, complement
from tbot.exchanges.simulated.contracts import is_position_id
from tbot.exchanges.simulated.descriptions import Description, Descriptions, Subject, moment_at
from tbot.exchanges.simulated.events import BookView
from tbot.exchanges.simulated.exchange import LocalExchange
from tbot.exchanges.simulated.operations import MarketRules

# Numbers begin where no two kinds meet, so that a client that mixes them up finds nothing instead of something else.
_FIRST_MARKET, _FIRST_EVENT, _FIRST_TAG = 500_001, 30_001, 101


class Tag(msgspec.Struct, frozen=True, kw_only=True):
    """A word that markets can be found by."""

    tag_id: int
    slug: str


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """One market as the catalogue knows it now.

    Attributes:
        number: The catalogue's id.
        opened: Since when it takes orders; at the earliest since the exchange does.
        resolved: When its outcome came into force; None = it has none yet.
        event_slug: Of the event it belongs to; its own when it stands alone.
        bid: Best bid on YES; None = none.
        ask: Best ask on YES; None = none.
        last_price: Of the last trade, in YES as all captured pages tell it; None before the first.
        liquidity: Collateral behind the resting orders.
        volume: Collateral turned over.
        volume_day: The same within the last 24 hours.
        open_interest: Collateral locked in pairs.
    """

    number: int
    opened: datetime
    resolved: datetime | None
    rules: MarketRules
    subject: Subject
    tags: tuple[Tag, ...]
    event_slug: str
    bid: Price | None
    ask: Price | None
    last_price: Price | None
    liquidity: Notional
    volume: Notional
    volume_day: Notional
    open_interest: Notional

    @property
    def is_closed(self) -> bool:
        """Tell whether trading in it is over."""
        return self.rules.is_closed

    @property
    def is_v2(self) -> bool:
        """Tell whether its outcomes are position ids."""
        return is_position_id(self.rules.yes)

    @property
    def game_start(self) -> datetime | None:
        """Give the start of its game; None = there is none."""
        return datetime.fromtimestamp(self.rules.game_start_s, UTC) if self.rules.game_start_s else None

    @property
    def price(self) -> Price:
        """Give what one YES is worth: its payout once resolved, else the midpoint; an empty side counts as the end."""
        if self.rules.yes_payout is not None:
            return self.rules.yes_payout
        return Price(((self.bid or 0) + (MICRO if self.ask is None else self.ask)) // 2)

    def price_of(self, token_id: TokenId) -> Price:
        """Give what one share of an outcome is worth, as `price`."""
        return self.price if token_id == self.rules.yes else complement(self.price)

    @property
    def spread(self) -> Price:
        """Give the distance of best bid and ask; a dollar when both sides are empty."""
        return Price((MICRO if self.ask is None else self.ask) - (self.bid or 0))


class EventListing(msgspec.Struct, frozen=True, kw_only=True):
    """One event and its markets, in order of listing."""

    number: int
    subject: Subject
    tags: tuple[Tag, ...]
    listings: tuple[Listing, ...]

    @property
    def opened(self) -> datetime:
        """Give when the first of its markets was listed."""
        return min(listing.opened for listing in self.listings)

    @property
    def is_closed(self) -> bool:
        """Tell whether trading is over in all of its markets."""
        return all(listing.is_closed for listing in self.listings)

    @property
    def resolved(self) -> datetime | None:
        """Give when the last of its markets was resolved; None = not all of them are."""
        moments = [listing.resolved for listing in self.listings if listing.resolved is not None]
        return max(moments) if len(moments) == len(self.listings) else None

    @property
    def is_neg_risk(self) -> bool:
        """Tell whether exactly one of its markets wins."""
        return any(listing.rules.is_neg_risk for listing in self.listings)


class Catalog:
    """Reads the exchange; changes nothing."""

    def __init__(self, exchange: LocalExchange, described: Sequence[Description], *, opened_ns: Nanos) -> None:
        """Describe this exchange's markets.

        Args:
            exchange: Whose markets.
            described: Words for markets and events; what is left out is made from slugs.
            opened_ns: When the exchange began.
        """
        self.opened_ns = opened_ns
        self._engine = exchange.engine
        self._descriptions = Descriptions(described, opened_ns=opened_ns)
        self._tag_ids: dict[str, int] = {}
        self._event_numbers: dict[str, int] = {}

    def describe(self, description: Description) -> None:
        """Take over the words of a market that is listed now."""
        self._descriptions.add(description)

    def subject(self, rules: MarketRules) -> Subject:
        """Describe one market."""
        return self._descriptions.market(rules)

    def listings(self, now_ns: Nanos) -> tuple[Listing, ...]:
        """List every market in order of listing, with sums as of now."""
        markets = self._engine.markets()
        return tuple(self._listing(_FIRST_MARKET + index, rules, now_ns) for index, rules in enumerate(markets))

    def listing(self, market_id: MarketId, now_ns: Nanos) -> Listing:
        """Find one market.

        Raises:
            KeyError: It was never listed.
        """
        for index, rules in enumerate(self._engine.markets()):
            if rules.market_id == market_id:
                return self._listing(_FIRST_MARKET + index, rules, now_ns)
            self._tags(self.subject(rules))  # numbered in order of listing, whichever is asked for first
        raise KeyError(market_id)

    def events(self, now_ns: Nanos) -> tuple[EventListing, ...]:
        """List every event in order of listing; a market that stands alone is an event of its own."""
        grouped: dict[str, list[Listing]] = {}
        for listing in self.listings(now_ns):
            grouped.setdefault(listing.event_slug, []).append(listing)
        return tuple(self._event(slug, tuple(listings)) for slug, listings in grouped.items())

    def place(self, market_id: MarketId, now_ns: Nanos) -> tuple[EventListing, Listing]:
        """Find one market and its event.

        Raises:
            KeyError: It was never listed.
        """
        for event in self.events(now_ns):
            for listing in event.listings:
                if listing.rules.market_id == market_id:
                    return event, listing
        raise KeyError(market_id)

    def tags(self, now_ns: Nanos) -> tuple[Tag, ...]:
        """List every tag that a market or an event has."""
        found = {tag.tag_id: tag for event in self.events(now_ns) for tag in event.tags}
        found |= {tag.tag_id: tag for listing in self.listings(now_ns) for tag in listing.tags}
        return tuple(found[tag_id] for tag_id in sorted(found))

    def _listing(self, number: int, rules: MarketRules, now_ns: Nanos) -> Listing:
        subject = self.subject(rules)
        bid, ask = self._engine.top(rules.market_id)
        view = self._engine.book(rules.yes)
        resolved_ns = self._engine.chain.resolved.get(rules.market_id)
        return Listing(
            number=number,
            opened=moment_at(max(self.opened_ns, self._engine.listing.since_ns[rules.market_id])),
            resolved=None if resolved_ns is None else moment_at(resolved_ns),
            rules=rules,
            subject=subject,
            tags=self._tags(subject),
            event_slug=rules.event or rules.slug,
            bid=bid,
            ask=ask,
            last_price=view.last_price,
            liquidity=_liquidity(view),
            volume=self._engine.turnover.notional(rules.market_id),
            volume_day=self._engine.turnover.notional_of_day(rules.market_id, now_ns),
            open_interest=self._engine.ledger.locked(rules.market_id),
        )

    def _event(self, slug: str, listings: tuple[Listing, ...]) -> EventListing:
        alone = listings[0].subject
        # Of a single market, market and event are one subject: the question is the title of both.
        subject = self._descriptions.event(slug) if listings[0].rules.event else alone
        number = self._event_numbers.setdefault(slug, _FIRST_EVENT + len(self._event_numbers))
        return EventListing(number=number, subject=subject, tags=self._tags(subject), listings=listings)

    def _tags(self, subject: Subject) -> tuple[Tag, ...]:
        return tuple(Tag(tag_id=self._tag_id(slug), slug=slug) for slug in subject.tags)

    def _tag_id(self, slug: str) -> int:
        return self._tag_ids.setdefault(slug, _FIRST_TAG + len(self._tag_ids))


def neg_risk_event_id(event: str) -> str:
    """Give the id that all outcomes of a neg-risk event share, "" for none; on chain its last byte is zero."""
    return "0x" + hashlib.sha256(f"event:{event}".encode()).hexdigest()[:62] + "00" if event else ""


def question_id(rules: MarketRules) -> str:
    """Give a market's question id: of an event's market the event's id with its outcome, else a hash of its own."""
    digest = hashlib.sha256(f"question:{rules.market_id}".encode()).hexdigest()
    return neg_risk_event_id(rules.event)[:-2] + digest[:2] if rules.event else "0x" + digest


def opposite(rules: MarketRules, token_id: TokenId) -> TokenId:
    """Give the other outcome of a market."""
    return rules.no if token_id == rules.yes else rules.yes


def market_of(listings: Sequence[Listing], market_id: MarketId) -> Listing | None:
    """Find a market by its condition id; None = not listed."""
    return next((listing for listing in listings if listing.rules.market_id == market_id), None)


# What a resting order binds: its price a share when it buys, the rest of the dollar when it sells.
def _liquidity(view: BookView) -> Notional:
    def worth(levels: Sequence[Level], *, is_bid: bool) -> int:
        return sum(level.size * (level.price if is_bid else MICRO - level.price) for level in levels)

    return Notional((worth(view.bids, is_bid=True) + worth(view.asks, is_bid=False)) // MICRO)
