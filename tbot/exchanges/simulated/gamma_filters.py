"""What one may ask of the catalogue: filters, order and pages, as plain functions of listings and a query."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import msgspec

from tbot.core.units import MICRO
from tbot.exchanges.simulated.catalog import EventListing, Listing, question_id
from tbot.exchanges.simulated.descriptions import moment_of
from tbot.exchanges.simulated.http import HttpRefusal, Request, json_response
from tbot.exchanges.simulated.wire_gamma import condition_shown

T = TypeVar("T")

PAGE_DEFAULT, PAGE_MAX = 20, 100
OFFSET_PAGE_MAX = 500

_TRUTH = {"true": True, "1": True, "false": False, "0": False}


class GammaRefusal(HttpRefusal):
    """A refusal in the shape of the catalogue: the text and its kind."""

    def __init__(self, text: str, *, status: int = 422) -> None:
        """Refuse with 422 (a parameter) or 404 (nothing there)."""
        super().__init__(text, status=status)
        kind = "not found error" if status == 404 else "validation error"
        self.response = json_response({"type": kind, "error": text}, status=status)


# Amounts in micro-dollars, moments in Unix seconds: what `order` may name, and what `_min` and `_max` bound.
_MARKET_NUMBERS: dict[str, Callable[[Listing], float]] = {
    "id": lambda listing: listing.number,
    "volume": lambda listing: listing.volume / MICRO,
    "volumeNum": lambda listing: listing.volume / MICRO,
    "volume24hr": lambda listing: listing.volume_day / MICRO,
    "liquidity": lambda listing: listing.liquidity / MICRO,
    "liquidityNum": lambda listing: listing.liquidity / MICRO,
    "endDate": lambda listing: listing.subject.end.timestamp(),
    "startDate": lambda listing: listing.number,
    "createdAt": lambda listing: listing.number,
}
_EVENT_NUMBERS: dict[str, Callable[[EventListing], float]] = {
    "id": lambda event: event.number,
    "volume": lambda event: sum(listing.volume for listing in event.listings) / MICRO,
    "volume24hr": lambda event: sum(listing.volume_day for listing in event.listings) / MICRO,
    "liquidity": lambda event: sum(listing.liquidity for listing in event.listings) / MICRO,
    "endDate": lambda event: event.subject.end.timestamp(),
    "startDate": lambda event: event.number,
    "createdAt": lambda event: event.number,
}
# Query prefix of a pair of bounds -> the number it bounds.
_MARKET_BOUNDS = {
    "volume": "volume",
    "volume_num": "volume",
    "liquidity": "liquidity",
    "liquidity_num": "liquidity",
    "end_date": "endDate",
}
_EVENT_BOUNDS = {"volume": "volume", "liquidity": "liquidity", "end_date": "endDate"}


def chosen_markets(listings: Iterable[Listing], request: Request) -> list[Listing]:
    """Give the markets a query asks for, in the order it asks for.

    Raises:
        GammaRefusal: 422, a parameter cannot be read.
    """
    names = {
        "id": lambda m: (str(m.number),),
        "slug": lambda m: (m.rules.slug,),
        "condition_ids": lambda m: (m.rules.market_id, condition_shown(m)),
        "clob_token_ids": lambda m: (m.rules.yes, m.rules.no),
        "position_ids": lambda m: (m.rules.yes, m.rules.no) if m.is_v2 else (),
        "question_ids": lambda m: (question_id(m.rules),),
        "tag_id": lambda m: tuple(str(tag.tag_id) for tag in m.tags),
        "version": lambda m: ("v2" if m.is_v2 else "v1",),
    }
    kept = _named(listings, request, names)
    kept = _stated(kept, request, lambda market: market.is_closed)
    return _ordered(_bounded(kept, request, _MARKET_BOUNDS, _MARKET_NUMBERS), request, _MARKET_NUMBERS)


def chosen_events(events: Iterable[EventListing], request: Request) -> list[EventListing]:
    """Give the events a query asks for, in the order it asks for.

    Raises:
        GammaRefusal: 422, a parameter cannot be read.
    """
    names = {
        "id": lambda e: (str(e.number),),
        "slug": lambda e: (e.subject.slug,),
        "tag_id": lambda e: tuple(str(tag.tag_id) for tag in e.tags),
        "tag_slug": lambda e: tuple(tag.slug for tag in e.tags),
        "version": lambda e: tuple("v2" if m.is_v2 else "v1" for m in e.listings),
    }
    kept = _named(events, request, names)
    kept = _stated(kept, request, lambda event: event.is_closed)
    title = request.query.get("title_search", "").lower()
    kept = [event for event in kept if title in event.subject.title.lower()]
    return _ordered(_bounded(kept, request, _EVENT_BOUNDS, _EVENT_NUMBERS), request, _EVENT_NUMBERS)


def offset_page(items: Sequence[T], request: Request) -> Sequence[T]:
    """Cut the page of the old kind: `limit` and `offset`; a limit that is too large is cut."""
    limit = min(_whole(request.query.get("limit", str(PAGE_DEFAULT)), "limit"), OFFSET_PAGE_MAX)
    offset = _whole(request.query.get("offset", "0"), "offset")
    return items[offset : offset + limit]


def keyset_page(items: Sequence[T], request: Request, key: Callable[[T], int]) -> tuple[Sequence[T], str | None]:
    """Cut the page after a cursor; also give the cursor of the next page, None = this is the last.

    The cursor is the id of the last item seen and its place then: a list that changes meanwhile is resumed behind that
    item, or at its old place once it is gone.

    Raises:
        GammaRefusal: 422, an offset, a limit out of 1..100, or no cursor of ours.
    """
    query = request.query
    if "offset" in query:
        raise GammaRefusal("offset is not supported on keyset endpoints, use after_cursor")
    limit = _whole(query.get("limit", str(PAGE_DEFAULT)), "limit")
    if not 1 <= limit <= PAGE_MAX:
        raise GammaRefusal(f"limit must be between 1 and {PAGE_MAX}")
    start = _resumed(items, query.get("after_cursor", ""), key)
    end = start + limit
    if end >= len(items):
        return items[start:], None
    text = msgspec.json.encode((key(items[end - 1]), end))
    return items[start:end], base64.urlsafe_b64encode(text).decode()


def _resumed(items: Sequence[T], cursor: str, key: Callable[[T], int]) -> int:
    if not cursor:
        return 0
    try:
        last, place = msgspec.json.decode(base64.urlsafe_b64decode(cursor), type=tuple[int, int])
    except (ValueError, msgspec.DecodeError):
        raise GammaRefusal("invalid after_cursor") from None
    found = (index + 1 for index, item in enumerate(items) if key(item) == last)
    return next(found, max(0, place - 1))


def _named(items: Iterable[T], request: Request, names: dict[str, Callable[[T], tuple[str, ...]]]) -> list[T]:
    kept = list(items)
    for name, has in names.items():
        if wanted := frozenset(request.values(name)):
            kept = [item for item in kept if wanted & frozenset(has(item))]
    return kept


def _stated(items: Iterable[T], request: Request, is_closed: Callable[[T], bool]) -> list[T]:
    asked = {
        name: _truth(request.query[name], name) for name in ("active", "closed", "archived") if name in request.query
    }
    # Everything here is active until the end of days, and nothing is archived.
    if not asked.get("active", True) or asked.get("archived", False):
        return []
    return [item for item in items if asked.get("closed", is_closed(item)) == is_closed(item)]


def _bounded(
    items: list[T], request: Request, bounds: dict[str, str], numbers: dict[str, Callable[[T], float]]
) -> list[T]:
    kept = items
    for prefix, name in bounds.items():
        number = numbers[name]
        for suffix, sign in (("_min", 1), ("_max", -1)):
            text = request.query.get(prefix + suffix)
            if text is not None:
                limit = _moment(text, prefix + suffix) if prefix.endswith("date") else _number(text, prefix + suffix)
                kept = [item for item in kept if sign * (number(item) - limit) >= 0]
    return kept


def _ordered(items: list[T], request: Request, numbers: dict[str, Callable[[T], float]]) -> list[T]:
    is_falling = not _truth(request.query.get("ascending", "true"), "ascending")
    ordered = items
    # Sorts are stable, so the last name comes first.
    for name in reversed([name for name in request.query.get("order", "").split(",") if name]):
        if name not in numbers:
            raise GammaRefusal("order fields are not valid")
        ordered = sorted(ordered, key=numbers[name], reverse=is_falling)
    return ordered


def _truth(text: str, name: str) -> bool:
    if text not in _TRUTH:
        raise GammaRefusal(f"invalid {name}")
    return _TRUTH[text]


def _whole(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise GammaRefusal(f"invalid {name}")
    return int(text)


def _number(text: str, name: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise GammaRefusal(f"invalid {name}") from None
    if math.isnan(number):  # it compares with nothing
        raise GammaRefusal(f"invalid {name}")
    return number


def _moment(text: str, name: str) -> float:
    try:
        return moment_of(text).timestamp()
    except (ValueError, OverflowError):
        raise GammaRefusal(f"invalid {name}") from None
