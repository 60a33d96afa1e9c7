"""The catalogue's routes: markets, events, tags and search. No authentication, no effect."""

from __future__ import annotations

from collections.abc import Sequence

from tbot.exchanges.simulated.catalog import EventListing, Listing
from tbot.exchanges.simulated.gamma_filters import (
    GammaRefusal,
    chosen_events,
    chosen_markets,
    keyset_page,
    offset_page,
)
from tbot.exchanges.simulated.http import Reply, Request, Routes, json_response
from tbot.exchanges.simulated.state import ServerState
from tbot.exchanges.simulated.wire_gamma import GammaMarket, GammaPress

GAMMA_PATH = "/gamma"
"""Where the catalogue lies on the server: its paths meet those of the CLOB, so it has a root of its own."""


class GammaRoutes:
    """Finds markets and events."""

    def __init__(self, state: ServerState) -> None:
        """Read from this server's catalogue."""
        self._state = state
        self._press = GammaPress(state.catalog)

    def routes(self) -> Routes:
        """Give the routing table."""
        table = {
            "/markets": self._markets,
            "/markets/keyset": self._markets_keyset,
            "/markets/{}": self._market,
            "/markets/slug/{}": self._market_by_slug,
            "/events": self._events,
            "/events/keyset": self._events_keyset,
            "/events/{}": self._event,
            "/events/slug/{}": self._event_by_slug,
            "/tags": self._tags,
            "/public-search": self._search,
        }
        return {("GET", GAMMA_PATH + path): handler for path, handler in table.items()}

    async def _markets(self, request: Request) -> Reply:
        page = offset_page(chosen_markets(self._listings(), request), request)
        return json_response(self._shown(page, request))

    async def _markets_keyset(self, request: Request) -> Reply:
        page, cursor = keyset_page(chosen_markets(self._listings(), request), request, lambda market: market.number)
        return json_response({"markets": self._shown(page, request)} | _next(cursor))

    async def _market(self, request: Request) -> Reply:
        return self._one_market([m for m in self._listings() if str(m.number) == request.tail], "id", request)

    async def _market_by_slug(self, request: Request) -> Reply:
        return self._one_market([m for m in self._listings() if m.rules.slug == request.tail], "slug", request)

    async def _events(self, request: Request) -> Reply:
        page = offset_page(chosen_events(self._all_events(), request), request)
        return json_response([self._press.event(event, self._state.now_ns()) for event in page])

    async def _events_keyset(self, request: Request) -> Reply:
        page, cursor = keyset_page(chosen_events(self._all_events(), request), request, lambda event: event.number)
        shown = [self._press.event(event, self._state.now_ns()) for event in page]
        return json_response({"events": shown} | _next(cursor))

    async def _event(self, request: Request) -> Reply:
        return self._one_event([e for e in self._all_events() if str(e.number) == request.tail], "id")

    async def _event_by_slug(self, request: Request) -> Reply:
        return self._one_event([e for e in self._all_events() if e.subject.slug == request.tail], "slug")

    async def _tags(self, request: Request) -> Reply:
        tags = self._state.catalog.tags(self._state.now_ns())
        return json_response([self._press.tag(tag) for tag in offset_page(tags, request)])

    async def _search(self, request: Request) -> Reply:
        words = request.query.get("q", "").lower().split()
        if not words:
            raise GammaRefusal("q is required")
        found = [event for event in self._all_events() if all(word in _text_of(event) for word in words)]
        shown = [self._press.event(event, self._state.now_ns()) for event in found]
        return json_response({"events": shown, "pagination": {"hasMore": False, "totalResults": len(shown)}})

    def _listings(self) -> tuple[Listing, ...]:
        return self._state.catalog.listings(self._state.now_ns())

    def _all_events(self) -> tuple[EventListing, ...]:
        return self._state.catalog.events(self._state.now_ns())

    def _shown(self, listings: Sequence[Listing], request: Request) -> list[GammaMarket]:
        events = {event.listings[0].event_slug: event for event in self._all_events()}
        has_tags = request.query.get("include_tag") == "true"
        now_ns = self._state.now_ns()
        return [self._press.market(m, events[m.event_slug], now_ns, has_tags=has_tags) for m in listings]

    def _one_market(self, found: list[Listing], name: str, request: Request) -> Reply:
        if not found:
            raise GammaRefusal(f"{name} not found", status=404)
        return json_response(self._shown(found, request)[0])

    def _one_event(self, found: list[EventListing], name: str) -> Reply:
        if not found:
            raise GammaRefusal(f"{name} not found", status=404)
        return json_response(self._press.event(found[0], self._state.now_ns()))


def _next(cursor: str | None) -> dict[str, str]:
    return {} if cursor is None else {"next_cursor": cursor}


def _text_of(event: EventListing) -> str:
    questions = " ".join(listing.subject.title for listing in event.listings)
    return f"{event.subject.title} {questions} {event.subject.slug}".lower()
