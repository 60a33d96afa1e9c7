"""Public routes: service, markets, books, prices. No authentication, no effect."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import TypeVar

from tbot.core.market import TokenId
from tbot.core.messages import Side
from tbot.core.units import MICRO, Price, text_from_micro
from tbot.exchanges.simulated.events import BookView
from tbot.exchanges.simulated.http import HttpRefusal, Reply, Request, Response, Routes, json_response
from tbot.exchanges.simulated.operations import MarketRules
from tbot.exchanges.simulated.state import ServerState
from tbot.exchanges.simulated.wire_books import rest_book
from tbot.exchanges.simulated.wire_in import BOOKS_PER_REQUEST_MAX, BookRequest, decode
from tbot.exchanges.simulated.wire_markets import FullMarket, clob_market, fee_bps_shown, full_market, json_number

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
            ("GET", "/markets/{}"): self._market,
            ("GET", "/clob-markets/{}"): self._clob_market,
            ("GET", "/markets-by-token/{}"): self._market_by_token,
            ("GET", "/book"): self._book,
            ("POST", "/books"): self._books,
            ("GET", "/tick-size"): self._tick_size,
            ("GET", "/tick-size/{}"): self._tick_size,
            ("GET", "/neg-risk"): self._neg_risk,
            ("GET", "/fee-rate"): self._fee_rate,
            ("GET", "/midpoint"): self._midpoint,
            ("GET", "/price"): self._price,
            ("GET", "/spread"): self._spread,
        }

    async def _ok(self, _: Request) -> Reply:
        return Response(body=b"OK", content_type="text/plain")

    async def _time(self, _: Request) -> Reply:
        return json_response(int(self._state.now_s))

    async def _version(self, _: Request) -> Reply:
        return json_response({"version": PROTOCOL_VERSION})

    async def _markets(self, request: Request) -> Reply:
        markets = [self._full(rules) for rules in self._state.exchange.markets()]
        return json_response(page(markets, request.query.get("next_cursor", ""), size=MARKETS_PER_PAGE))

    async def _market(self, request: Request) -> Reply:
        return json_response(self._full(self._rules(request.tail)))

    async def _clob_market(self, request: Request) -> Reply:
        return json_response(clob_market(self._rules(request.tail)))

    async def _market_by_token(self, request: Request) -> Reply:
        rules = self._state.directory.rules(request.tail)
        if rules is None:
            raise HttpRefusal("market not found", status=404)
        # The smaller number comes first, whatever its outcome: a documented trap.
        primary, secondary = sorted((rules.yes, rules.no), key=lambda token: (len(token), token))
        answer = {"condition_id": rules.market_id, "primary_token_id": primary, "secondary_token_id": secondary}
        return json_response(answer)

    async def _book(self, request: Request) -> Reply:
        return json_response(rest_book(self._view(request)))

    async def _books(self, request: Request) -> Reply:
        wanted = decode(request.body, list[BookRequest], refusal="Invalid payload")
        if len(wanted) > BOOKS_PER_REQUEST_MAX:
            raise HttpRefusal("Payload exceeds the limit")
        known = [TokenId(entry.token_id) for entry in wanted if self._state.directory.rules(entry.token_id)]
        return json_response([rest_book(self._state.exchange.book(token_id)) for token_id in known])

    async def _tick_size(self, request: Request) -> Reply:
        return json_response({"minimum_tick_size": json_number(self._view(request).tick)})

    async def _neg_risk(self, request: Request) -> Reply:
        return json_response({"neg_risk": self._view(request).is_neg_risk})

    async def _fee_rate(self, request: Request) -> Reply:
        rules = self._rules(self._view(request).market_id)
        return json_response({"base_fee": fee_bps_shown(rules)})

    async def _midpoint(self, request: Request) -> Reply:
        bid, ask = _top(self._view(request))
        return json_response({"mid": text_from_micro((bid + ask) // 2)})

    async def _spread(self, request: Request) -> Reply:
        bid, ask = _top(self._view(request))
        return json_response({"spread": text_from_micro(ask - bid)})

    # Sources disagree on what a side means here; this is the API description's reading: BUY is the best bid.
    async def _price(self, request: Request) -> Reply:
        side = request.query.get("side", "").upper()
        if side not in (Side.BUY, Side.SELL):
            raise HttpRefusal("Invalid side")
        bid, ask = _top(self._view(request))
        return json_response({"price": text_from_micro(bid if side == Side.BUY else ask)})

    def _view(self, request: Request) -> BookView:
        """Find the book a request names, in its path or its query.

        Raises:
            HttpRefusal: 400 no id, 404 unknown id.
        """
        token_id = request.tail or request.query.get("token_id", "")
        if not token_id.isdigit():
            raise HttpRefusal("Invalid token id")
        if self._state.directory.rules(token_id) is None:
            raise HttpRefusal(_NO_BOOK, status=404)
        return self._state.exchange.book(TokenId(token_id))

    def _rules(self, market_id: str) -> MarketRules:
        rules = self._state.directory.market(market_id)
        if rules is None:
            raise HttpRefusal("market not found", status=404)
        return rules

    def _full(self, rules: MarketRules) -> FullMarket:
        bid, ask = _top(self._state.exchange.book(rules.yes))
        middle = Price((bid + ask) // 2)
        return full_market(rules, (middle, Price(MICRO - middle)))


def page(items: Sequence[T], cursor: str, *, size: int) -> dict[str, object]:
    """Cut one page out of a list: the cursor is the base64 of an offset, "MA==" or "" first, "LTE=" after the last.

    Raises:
        HttpRefusal: 400, the cursor is none of ours.
    """
    start = _offset(cursor or FIRST_CURSOR)
    part = [] if start < 0 else items[start : start + size]
    end = start + len(part)
    is_last = start < 0 or end >= len(items)
    next_cursor = LAST_CURSOR if is_last else base64.b64encode(str(end).encode()).decode()
    return {"limit": size, "next_cursor": next_cursor, "count": len(part), "data": part}


def _offset(cursor: str) -> int:
    try:
        text = base64.b64decode(cursor, validate=True).decode("ascii")
        # Nine digits are more than any list here, and few enough for `int`.
        return int(text[:9]) if text.removeprefix("-").isdigit() else _refuse_cursor()
    except (binascii.Error, ValueError):
        return _refuse_cursor()


def _refuse_cursor() -> int:
    raise HttpRefusal("invalid next_cursor")


def _top(view: BookView) -> tuple[int, int]:
    """Best bid and ask; an empty side counts as the price nobody can better."""
    bid = view.bids[0].price if view.bids else 0
    ask = view.asks[0].price if view.asks else MICRO
    return bid, ask
