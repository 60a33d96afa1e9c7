"""The Data API's routes about markets: how they were resolved, what their tokens are, what is open and was traded."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tbot.core.units import MICRO
from tbot.exchanges.simulated.catalog import EventListing, Listing, question_id
from tbot.exchanges.simulated.data_queries import DataRefusal, asked_markets, conditions, listed, refuse_unless_one
from tbot.exchanges.simulated.http import Reply, Request, Routes, json_response
from tbot.exchanges.simulated.rest_data import DATA_PATH
from tbot.exchanges.simulated.state import ServerState
from tbot.exchanges.simulated.wire_data_markets import wire_resolution, wire_token
from tbot.exchanges.simulated.wire_markets import json_number

TOKENS_MAX, TOKEN_CONDITIONS_MAX = 50, 10
GLOBAL = "GLOBAL"
"""Stands for all markets together."""

_TOKEN = re.compile(r"[0-9]{1,78}")


class DataMarketRoutes:
    """What markets are and became."""

    def __init__(self, state: ServerState) -> None:
        """Read from this server's exchange."""
        self._state = state

    def routes(self) -> Routes:
        """Give the routing table."""
        table = {
            "/v2/resolutions": self._resolutions,
            "/v2/tokens": self._tokens,
            "/v2/oi": self._open_interest,
            "/v2/live-volume": self._live_volume,
        }
        return {("GET", DATA_PATH + path): handler for path, handler in table.items()}

    async def _resolutions(self, request: Request) -> Reply:
        refuse_unless_one(request, "condition_id", "event_id", "question_id")
        # Other routes know the 31 bytes of a V2 market as well; this one does not, in production either.
        if any(len(text) == 64 for text in listed(request, "condition_id")):
            raise DataRefusal("condition_id must be a 32-byte hex string", parameter="condition_id")
        questions = listed(request, "question_id")
        resolved = self._state.exchange.engine.chain.resolved
        found = (m for _, m in self._asked(request) if not questions or question_id(m.rules) in questions)
        return json_response({"data": [wire_resolution(m, resolved.get(m.rules.market_id)) for m in found]})

    async def _tokens(self, request: Request) -> Reply:
        refuse_unless_one(request, "token_id", "condition_id")
        wanted = frozenset(text.lstrip("0") or "0" for text in listed(request, "token_id"))
        if len(wanted) > TOKENS_MAX or any(_TOKEN.fullmatch(text) is None for text in wanted):
            raise DataRefusal(f"token_id accepts at most {TOKENS_MAX} decimal numbers", parameter="token_id")
        if len(conditions(request) or ()) > TOKEN_CONDITIONS_MAX:
            raise DataRefusal(f"condition_id accepts at most {TOKEN_CONDITIONS_MAX} values", parameter="condition_id")
        rows = [
            wire_token(token_id, market, event)
            for event, market in self._asked(request)
            for token_id in market.rules.tokens
            if not wanted or token_id in wanted
        ]
        return json_response({"data": rows})

    async def _open_interest(self, request: Request) -> Reply:
        markets = [market for _, market in self._asked(request)]
        if conditions(request) is None:
            whole = sum(market.open_interest for market in markets)
            return json_response({"data": [{"condition_id": GLOBAL, "value": json_number(whole)}]})
        rows = [{"condition_id": m.rules.market_id, "value": json_number(m.open_interest)} for m in markets]
        return json_response({"data": rows})

    async def _live_volume(self, request: Request) -> Reply:
        refuse_unless_one(request, "event_id")
        turnover = self._state.exchange.engine.turnover
        shares = {market.rules.market_id: turnover.shares(market.rules.market_id) for _, market in self._asked(request)}
        rows = [{"condition_id": market, "taker_volume": json_number(size)} for market, size in shares.items()]
        return json_response({"data": {"taker_volume_total": sum(shares.values()) / MICRO, "conditions": rows}})

    def _asked(self, request: Request) -> Iterator[tuple[EventListing, Listing]]:
        return asked_markets(self._state.catalog.events(self._state.now_ns()), request)
