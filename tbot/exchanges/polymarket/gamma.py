"""Reads of the catalogue (Gamma): which markets there are. No key, no signature, nothing is changed.

Lists are read by keyset pages, and only so many of them: the catalogue holds tens of thousands of markets. A row that
cannot be read is passed over and counted, so that one strange market does not hide the others.
Source: polymarket API reference, Gamma (read 2026-11-22).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple, TypeVar
from urllib.parse import quote

import msgspec

from tbot.core.market import MarketId
from tbot.core.units import MICRO, NANOS_PER_S, Nanos
from tbot.errors import BadFrame, ConfigError
from tbot.exchanges.polymarket.listings import (
    Listing,
    MarketRow,
    Wanted,
    chosen,
    gamma_spellings,
    is_condition_id,
    listing_of,
)
from tbot.exchanges.polymarket.rest import NotFound, Rest
from tbot.exchanges.polymarket.settings import PolymarketSettings
from tbot.exchanges.polymarket.wire import Wire, decode

T = TypeVar("T")

PAGE_ROWS: Final = 100  # the most they give
# 2,000 markets or events: whoever has not found theirs among so many should ask more narrowly.
PAGES_MAX: Final = 20
# Pages of the full-text search, which are of events, each with all its markets.
SEARCH_PAGES_MAX: Final = 5

_ROW = msgspec.json.Decoder(MarketRow)
_OPEN: Final = {"active": "true", "closed": "false", "archived": "false"}


class EventRow(Wire, frozen=True, kw_only=True):
    """One event with its markets, which are read one by one."""

    slug: str = ""
    markets: tuple[msgspec.Raw, ...] | None = None


class MarketsPage(Wire, frozen=True, kw_only=True):
    """A keyset page; without a cursor it is the last."""

    markets: tuple[msgspec.Raw, ...] = ()
    next_cursor: str | None = None


class EventsPage(Wire, frozen=True, kw_only=True):
    """A keyset page; without a cursor it is the last."""

    events: tuple[EventRow, ...] = ()
    next_cursor: str | None = None


class SearchPages(Wire, frozen=True, kw_only=True, rename="camel"):
    """Whether a search goes on."""

    has_more: bool = False


class SearchPage(Wire, frozen=True, kw_only=True):
    """One page of a full-text search; null when nothing was found."""

    events: tuple[EventRow, ...] | None = None
    pagination: SearchPages | None = None


P = TypeVar("P", MarketsPage, EventsPage)


class Found(NamedTuple):
    """What a search came to.

    Attributes:
        listings: The most liquid first.
        is_partial: There was more to read than we do read.
    """

    listings: tuple[Listing, ...]
    is_partial: bool


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """Where to look; at most one of the three, none = everywhere.

    Attributes:
        text: Words that the catalogue's own search understands.
        event: Slug of one event.
        tag: Slug of a tag, or its number.
    """

    text: str = ""
    event: str = ""
    tag: str = ""


class Gamma:
    """Typed calls over one `Rest`, by absolute address: the catalogue is another host than the CLOB.

    Attributes:
        unreadable: Rows that could not be read so far.
    """

    def __init__(self, rest: Rest, url: str, now_ns: Callable[[], Nanos]) -> None:
        """Wrap it; the connections stay the caller's to close.

        Args:
            rest: Any, with its rate gate.
            url: Address of the catalogue, without a slash at the end.
            now_ns: Wall time.
        """
        self._rest = rest
        self._url = url
        self._now_ns = now_ns
        self.unreadable = 0

    async def find(self, scope: Scope, wanted: Wanted) -> Found:
        """Look for markets that are ready to trade.

        Raises:
            ConfigError: There is no such event.
            ExchangeUnavailable: Try again later.
        """
        if scope.event:
            return Found(chosen(await self.event(scope.event), wanted), is_partial=False)
        if scope.text:
            events, is_partial = await self._searched(scope.text)
        elif scope.tag:
            key = "tag_id" if scope.tag.isdigit() else "tag_slug"
            query = _OPEN | {key: scope.tag}
            events, is_partial = await self._pages("/events/keyset", EventsPage, query, lambda page: page.events)
        else:
            rows, is_partial = await self._pages("/markets/keyset", MarketsPage, _query(wanted), lambda p: p.markets)
            return Found(chosen(self._listings(rows), wanted), is_partial)
        found = (listing for event in events for listing in self._of_event(event))
        return Found(chosen(found, wanted), is_partial)

    async def event(self, slug: str) -> tuple[Listing, ...]:
        """Read every market of one event, open or not.

        Raises:
            ConfigError: There is none of that name.
            ExchangeUnavailable: Try again later.
        """
        try:
            event = await self._rest.get(EventRow, f"{self._url}/events/slug/{quote(slug, safe='')}")
        except NotFound as error:
            raise ConfigError(
                f"event {slug[:120]!r}: the catalogue does not know it; copy the name from its address"
            ) from error
        return tuple(self._of_event(event))

    async def market(self, name: str) -> Listing:
        """Read one market, open or not.

        Args:
            name: Slug or condition id.

        Raises:
            ConfigError: There is none of that name, or its row cannot be read.
            ExchangeUnavailable: Try again later.
        """
        raws = await (self._by_condition(MarketId(name)) if is_condition_id(name) else self._by_slug(name))
        if not raws:
            raise ConfigError(
                f"market {name[:120]!r}: the catalogue does not know it; `tbot markets search` finds names"
            )
        listings = self._listings(raws[:1])
        if not listings:
            raise ConfigError(f"market {name[:120]!r}: the catalogue's row cannot be read; name another market")
        return listings[0]

    async def _by_slug(self, slug: str) -> tuple[msgspec.Raw, ...]:
        try:
            return (await self._rest.get(msgspec.Raw, f"{self._url}/markets/slug/{quote(slug, safe='')}"),)
        except NotFound:
            return ()

    async def _by_condition(self, market_id: MarketId) -> tuple[msgspec.Raw, ...]:
        # Closed markets are listed only when they are asked for.
        for closed in ("false", "true"):
            for spelling in gamma_spellings(market_id):
                query = {"condition_ids": spelling, "closed": closed}
                page = await self._rest.get(MarketsPage, f"{self._url}/markets/keyset", query)
                if page.markets:
                    return page.markets
        return ()

    async def _searched(self, text: str) -> tuple[list[EventRow], bool]:
        events: list[EventRow] = []
        for number in range(1, SEARCH_PAGES_MAX + 1):
            query = {"q": text, "limit_per_type": "50", "events_status": "active", "page": str(number)}
            page = await self._rest.get(SearchPage, f"{self._url}/public-search", query)
            events += page.events or ()
            if not page.events or page.pagination is None or not page.pagination.has_more:
                return events, False
        return events, True

    async def _pages(
        self,
        path: str,
        shape: type[P],
        query: Mapping[str, str],
        rows_of: Callable[[P], Iterable[T]],
    ) -> tuple[list[T], bool]:
        rows: list[T] = []
        asked = {**query, "limit": str(PAGE_ROWS)}
        for _ in range(PAGES_MAX):
            page = await self._rest.get(shape, self._url + path, asked)
            rows += rows_of(page)
            if not page.next_cursor or page.next_cursor == asked.get("after_cursor"):
                return rows, False
            asked["after_cursor"] = page.next_cursor
        return rows, True

    def _of_event(self, event: EventRow) -> list[Listing]:
        return self._listings(event.markets or (), event.slug)

    def _listings(self, raws: Iterable[msgspec.Raw], event_slug: str = "") -> list[Listing]:
        today = datetime.fromtimestamp(self._now_ns() / NANOS_PER_S, UTC).date().isoformat()
        listings = []
        for raw in raws:
            try:
                listings.append(listing_of(decode(_ROW, bytes(raw)), today=today, event_slug=event_slug))
            except BadFrame:
                self.unreadable += 1
        return listings


async def markets_named(rest: Rest, settings: PolymarketSettings, now_ns: Callable[[], Nanos]) -> tuple[MarketId, ...]:
    """Look up the markets that the settings name by slug.

    Raises:
        ConfigError: A name that the catalogue does not know.
        ExchangeUnavailable: Try again later.
    """
    gamma = Gamma(rest, settings.gamma_url, now_ns)
    return tuple([(await gamma.market(slug)).market_id for slug in settings.slugs])


def _query(wanted: Wanted) -> dict[str, str]:
    query = _OPEN | {"order": "liquidityNum", "ascending": "false"}
    if wanted.liquidity_min:
        query["liquidity_num_min"] = f"{wanted.liquidity_min / MICRO:f}"
    if wanted.ends_before is not None:
        query["end_date_max"] = wanted.ends_before.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return query
