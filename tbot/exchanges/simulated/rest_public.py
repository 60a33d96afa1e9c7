"""Public routes: service, markets, books, parameters. No authentication, no effect."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import TypeVar

import trio

from tbot.core.market import TokenId
from tbot.core.units import MICRO
from tbot.exchanges.simulated.catalog import Listing
from tbot.exchanges.simulated.events import BookView
from tbot.exchanges.simulated.http import HttpRefusal, Reply, Request, Response, Routes, json_response
from tbot.exchanges.simulated.operations import MarketRules
from tbot.exchanges.simulated.state import ServerState
from tbot.exchanges.simulated.wire_books import RestBook, rest_book
from tbot.exchanges.simulated.wire_in import BOOKS_PER_REQUEST_MAX, BookRequest, decode
from tbot.exchanges.simulated.wire_markets import (
    FullMarket,
    clob_market,
    fee_bps_shown,
    full_market,
    json_number,
    simplified_market,
)

T = TypeVar("T")

FIRST_CURSOR = "MA=="
LAST_CURSOR = "LTE="
MARKETS_PER_PAGE = 500
PROTOCOL_VERSION = 2

_NO_BOOK = "No orderbook exists for the requested token id"


class PublicRoutes:
    """Everything one may ask without a key."""

    def __init__(self, state: ServerState) -> None:
        """Read from this server's exchange."""
        self._state = state

    def routes(self) -> Routes:
        """Give the routing table."""
        return {
            ("GET", "/ok"): self._ok,
            ("GET", "/time"): self._time,
            ("GET", "/version"): self._version,
            ("GET", "/markets"): self._markets,
            ("GET", "/simplified-markets"): self._simplified_markets,
            ("GET", "/sampling-markets"): self._sampling_markets,
            ("GET", "/sampling-simplified-markets"): self._sampling_simplified_markets,
            ("GET", "/markets/{}"): self._market,
            ("GET", "/clob-markets/{}"): self._clob_market,
            ("GET", "/markets-by-token/{}"): self._market_by_token,
            ("GET", "/book"): self._book,
            ("POST", "/books"): self._books,
            ("GET", "/tick-size"): self._tick_size,
            ("GET", "/tick-size/{}"): self._tick_size,
            ("GET", "/neg-risk"): self._neg_risk,
            ("GET", "/fee-rate"): self._fee_rate,
            ("GET", "/fees/builder-fees/{}"): self._builder_fees,
        }

    async def _ok(self, _: Request) -> Reply:
        return Response(body=b"OK", content_type="text/plain")

    async def _time(self, _: Request) -> Reply:
        return json_response(int(self._state.now_s))

    async def _version(self, _: Request) -> Reply:
        return json_response({"version": PROTOCOL_VERSION})

    async def _markets(self, request: Request) -> Reply:
        return _page_of_markets(request, [full_market(listing) for listing in self._listings()])

    async def _simplified_markets(self, request: Request) -> Reply:
        return _page_of_markets(request, [simplified_market(full_market(listing)) for listing in self._listings()])

    async def _sampling_markets(self, request: Request) -> Reply:
        return _page_of_markets(request, self._sampled())

    async def _sampling_simplified_markets(self, request: Request) -> Reply:
        return _page_of_markets(request, [simplified_market(market) for market in self._sampled()])

    # Sampled are the markets that have liquidity rewards, as long as they trade.
    def _sampled(self) -> list[FullMarket]:
        with_rewards = (each for each in self._listings() if each.subject.rewards is not None and not each.is_closed)
        return [full_market(listing) for listing in with_rewards]

    async def _market(self, request: Request) -> Reply:
        return json_response(full_market(self._listing(request.tail)))

    async def _clob_market(self, request: Request) -> Reply:
        return json_response(clob_market(self._listing(request.tail)))

    async def _market_by_token(self, request: Request) -> Reply:
        rules = self._state.directory.rules(request.tail)
        if rules is None:
            raise HttpRefusal("market not found", status=404)
        # The smaller number comes first, whatever its outcome: a documented trap.
        primary, secondary = sorted((rules.yes, rules.no), key=lambda token: (len(token), token))
        answer = {"condition_id": rules.market_id, "primary_token_id": primary, "secondary_token_id": secondary}
        return json_response(answer)

    async def _book(self, request: Request) -> Reply:
        return json_response(rest_book(asked_book(self._state, request)))

    async def _books(self, request: Request) -> Reply:
        known = [TokenId(entry.token_id) for entry in books_asked(self._state, request)]
        # A book asked for many times is shown once, and others get their turn after each.
        shown: dict[TokenId, RestBook] = {}
        for token_id in dict.fromkeys(known):
            shown[token_id] = rest_book(self._state.exchange.book(token_id))
            await trio.lowlevel.checkpoint()
        return json_response([shown[token_id] for token_id in known])

    async def _tick_size(self, request: Request) -> Reply:
        return json_response({"minimum_tick_size": json_number(asked_book(self._state, request).tick)})

    async def _neg_risk(self, request: Request) -> Reply:
        return json_response({"neg_risk": asked_book(self._state, request).is_neg_risk})

    async def _fee_rate(self, request: Request) -> Reply:
        rules = self._rules(asked_book(self._state, request).market_id)
        return json_response({"base_fee": fee_bps_shown(rules)})

    # Nobody can register a builder here, so no code is known.
    async def _builder_fees(self, _: Request) -> Reply:
        raise HttpRefusal("builder code not found", status=404)

    def _rules(self, market_id: str) -> MarketRules:
        rules = self._state.directory.market(market_id)
        if rules is None:
            raise HttpRefusal("market not found", status=404)
        return rules

    def _listings(self) -> tuple[Listing, ...]:
        return self._state.catalog.listings(self._state.now_ns())

    def _listing(self, market_id: str) -> Listing:
        return self._state.catalog.listing(self._rules(market_id).market_id, self._state.now_ns())


def asked_book(state: ServerState, request: Request) -> BookView:
    """Find the book a request names, in its path or its query.

    Raises:
        HttpRefusal: 400 no id, 404 unknown id.
    """
    token_id = request.tail or request.query.get("token_id", "")
    if not token_id.isdigit():
        raise HttpRefusal("Invalid token id")
    if state.directory.rules(token_id) is None:
        raise HttpRefusal(_NO_BOOK, status=404)
    return state.exchange.book(TokenId(token_id))


def books_asked(state: ServerState, request: Request) -> list[BookRequest]:
    """Read which books a request names in its body, without those of unknown tokens.

    Raises:
        HttpRefusal: 400, it is no list of them, or too long.
    """
    asked = decode(request.body, list[BookRequest], refusal="Invalid payload")
    if len(asked) > BOOKS_PER_REQUEST_MAX:
        raise HttpRefusal("Payload exceeds the limit")
    return [entry for entry in asked if state.directory.rules(entry.token_id) is not None]


def _page_of_markets(request: Request, markets: Sequence[object]) -> Response:
    return json_response(page(markets, request.query.get("next_cursor", ""), size=MARKETS_PER_PAGE))


def page(
    items: Sequence[T], cursor: str, *, size: int, show: Callable[[T], object] = lambda item: item
) -> dict[str, object]:
    """Cut one page out of a list: the cursor is the base64 of an offset, "MA==" or "" first, "LTE=" after the last.

    Args:
        items: All there are.
        cursor: Of the page.
        size: Items a page.
        show: Makes what is told of an item, of this page only.

    Raises:
        HttpRefusal: 400, the cursor is none of ours.
    """
    start = _offset(cursor or FIRST_CURSOR)
    part = [] if start < 0 else items[start : start + size]
    end = start + len(part)
    is_last = start < 0 or end >= len(items)
    next_cursor = LAST_CURSOR if is_last else base64.b64encode(str(end).encode()).decode()
    data = [show(item) for item in part]
    return {"limit": size, "next_cursor": next_cursor, "count": len(part), "data": data}


def _offset(cursor: str) -> int:
    try:
        text = base64.b64decode(cursor, validate=True).decode("ascii")
        # Nine digits are more than any list here, and few enough for `int`.
        return int(text[:9]) if text.removeprefix("-").isdigit() else _refuse_cursor()
    except (binascii.Error, ValueError):
        return _refuse_cursor()


def _refuse_cursor() -> int:
    raise HttpRefusal("invalid next_cursor")


def top_of(view: BookView) -> tuple[int, int]:
    """Give best bid and ask; an empty side counts as the price nobody can better."""
    bid = view.bids[0].price if view.bids else 0
    ask = view.asks[0].price if view.asks else MICRO
    return bid, ask
