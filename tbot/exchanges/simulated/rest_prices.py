"""Public routes that boil a book down to a number: price, midpoint, spread, last trade; one token or many at a time."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from tbot.core.market import TokenId
from tbot.core.messages import Side
from tbot.core.units import text_from_micro
from tbot.exchanges.simulated.events import BookView
from tbot.exchanges.simulated.http import HttpRefusal, Reply, Request, Routes, json_response
from tbot.exchanges.simulated.rest_public import asked_book, books_asked, top_of
from tbot.exchanges.simulated.state import ServerState
from tbot.exchanges.simulated.wire_in import BookRequest


class PriceRoutes:
    """The numbers of a book. Of many tokens, unknown ones are left out."""

    def __init__(self, state: ServerState) -> None:
        """Read from this server's exchange."""
        self._state = state
        # Sources disagree on what a side means here: BUY is the best bid to the API description, a guide swaps them.
        self._bid_side = Side.BUY if state.price_of_buy == "bid" else Side.SELL

    def routes(self) -> Routes:
        """Give the routing table."""
        return {
            ("GET", "/price"): self._price,
            ("POST", "/prices"): self._prices,
            ("GET", "/midpoint"): self._midpoint,
            ("POST", "/midpoints"): self._midpoints,
            ("GET", "/spread"): self._spread,
            ("POST", "/spreads"): self._spreads,
            ("GET", "/last-trade-price"): self._last_trade,
            ("POST", "/last-trades-prices"): self._last_trades,
        }

    async def _price(self, request: Request) -> Reply:
        side = _side(request.query.get("side", ""))
        return json_response({"price": self._price_of(asked_book(self._state, request), side)})

    async def _prices(self, request: Request) -> Reply:
        prices: dict[str, dict[str, str]] = {}
        for entry, view in self._wanted(request):
            side = _side(entry.side)
            prices.setdefault(entry.token_id, {})[side] = self._price_of(view, side)
        return json_response(prices)

    async def _midpoint(self, request: Request) -> Reply:
        return json_response({"mid": _midpoint_of(asked_book(self._state, request))})

    async def _midpoints(self, request: Request) -> Reply:
        return json_response({entry.token_id: _midpoint_of(view) for entry, view in self._wanted(request)})

    async def _spread(self, request: Request) -> Reply:
        return json_response({"spread": _spread_of(asked_book(self._state, request))})

    async def _spreads(self, request: Request) -> Reply:
        return json_response({entry.token_id: _spread_of(view) for entry, view in self._wanted(request)})

    async def _last_trade(self, request: Request) -> Reply:
        view = asked_book(self._state, request)
        return json_response({"price": _last_price_of(view) or "0.5", "side": view.last_trade_side or ""})

    async def _last_trades(self, request: Request) -> Reply:
        traded = [(entry, view) for entry, view in self._wanted(request) if view.last_trade_side is not None]
        return json_response(
            [
                {"token_id": entry.token_id, "price": _last_price_of(view), "side": view.last_trade_side}
                for entry, view in traded
            ]
        )

    def _price_of(self, view: BookView, side: Side) -> str:
        bid, ask = top_of(view)
        return text_from_micro(bid if side is self._bid_side else ask)

    def _wanted(self, request: Request) -> Iterator[tuple[BookRequest, BookView]]:
        view_of = cache(self._state.exchange.book)
        for entry in books_asked(self._state, request):
            yield entry, view_of(TokenId(entry.token_id))


def _side(text: str) -> Side:
    try:
        return Side(text.upper())
    except ValueError:
        raise HttpRefusal("Invalid side") from None


# The value that the market's books tell (no answer of these routes is captured), but without the zeros at its end.
def _last_price_of(view: BookView) -> str:
    return view.last_trade_text.rstrip("0")


def _midpoint_of(view: BookView) -> str:
    bid, ask = top_of(view)
    return text_from_micro((bid + ask) // 2)


def _spread_of(view: BookView) -> str:
    bid, ask = top_of(view)
    return text_from_micro(ask - bid)
