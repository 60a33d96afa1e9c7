"""`tbot markets`: find markets to trade, and on which terms they trade. Public data only; no key is needed."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import httpx2
import msgspec
import trio

from tbot.commands.market_pages import Shown, closing, group_lines, page, table, told, told_briefly
from tbot.config import TradingSettings, load
from tbot.core.units import Nanos
from tbot.errors import ExchangeUnavailable
from tbot.exchanges.polymarket.connection import RestConnection
from tbot.exchanges.polymarket.gamma import Gamma, Scope
from tbot.exchanges.polymarket.listings import Listing, Wanted, groups
from tbot.exchanges.polymarket.rest import Rest
from tbot.exchanges.polymarket.settings import PolymarketSettings
from tbot.exchanges.polymarket.terms import ATTEMPTS, read_terms
from tbot.tasks.clock import WallClock
from tbot.ui.terminal import tell

# Each market shown costs one request; a handful at a time leaves room at the gate for all of them.
AT_ONCE: Final = 6


class MarketsOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says.

    Attributes:
        config: Settings of a bot; only the addresses are used.
        is_json: Whether to print JSON.
    """

    config: Path
    is_json: bool


class SearchOptions(MarketsOptions, frozen=True, kw_only=True):
    """What `search` was told.

    Attributes:
        scope: Where to look.
        wanted: What to keep.
        limit: Most markets to show.
    """

    scope: Scope
    wanted: Wanted
    limit: int


class ShowOptions(MarketsOptions, frozen=True, kw_only=True):
    """What `show` was told.

    Attributes:
        name: Slug or condition id.
    """

    name: str


class Markets:
    """Reads catalogue and CLOB over one pool of connections."""

    def __init__(self, rest: Rest, gamma: Gamma, rng: random.Random) -> None:
        """Use these.

        Args:
            rest: Of the CLOB.
            gamma: The catalogue.
            rng: For the pauses between attempts.
        """
        self._rest = rest
        self.gamma = gamma
        self._rng = rng

    async def search(self, options: SearchOptions) -> tuple[tuple[Shown, ...], bool]:
        """Find markets, the most liquid first; also tell whether there may be more than was read or shown.

        Raises:
            ConfigError: There is no such event.
            ExchangeUnavailable: Try again later.
        """
        found = await self.gamma.find(options.scope, options.wanted)
        shown = await self._all(found.listings[: options.limit])
        return shown, found.is_partial or len(found.listings) > options.limit

    async def show(self, name: str) -> tuple[Shown, tuple[Listing, ...]]:
        """Read one market, and the others of its neg-risk group.

        Raises:
            ConfigError: There is no such market.
            ExchangeUnavailable: Try again later.
        """
        listing = await self.gamma.market(name)
        shown = await self._with_terms(listing)
        if not (listing.is_neg_risk and listing.event_slug):
            return shown, ()
        group = groups(await self.gamma.event(listing.event_slug)).get(listing.group_id, ())
        return shown, tuple(each for each in group if each.market_id != listing.market_id)

    async def _all(self, listings: tuple[Listing, ...]) -> tuple[Shown, ...]:
        shown: dict[str, Shown] = {}
        limiter = trio.CapacityLimiter(AT_ONCE)

        async def one(listing: Listing) -> None:
            async with limiter:
                shown[listing.market_id] = await self._with_terms(listing)

        async with trio.open_nursery() as nursery:
            for listing in listings:
                nursery.start_soon(one, listing)
        return tuple(shown[each.market_id] for each in listings)

    async def _with_terms(self, listing: Listing) -> Shown:
        attempts = ATTEMPTS if listing.is_active else 1
        try:
            terms = await read_terms(self._rest, listing.market_id, rng=self._rng, attempts=attempts)
        except ExchangeUnavailable as error:
            return Shown(listing=listing, terms=None, remark=f"terms not told: {error}")
        if terms is None:
            remark = "not yet on the CLOB" if listing.is_active else "not on the CLOB any more"
            return Shown(listing=listing, terms=None, remark=remark)
        return Shown(listing=listing, terms=terms)


def search_markets(options: SearchOptions) -> int:
    """Search and print; 0 also when nothing was found.

    Raises:
        ConfigError: The settings cannot be used, or there is no such event.
        ExchangeUnavailable: Try again later.
    """

    async def search(markets: Markets) -> str:
        shown, has_more = await markets.search(options)
        if options.is_json:
            return _json({"markets": [told(each) for each in shown], "has_more": has_more})
        return table(shown) + closing(len(shown), markets.gamma.unreadable, has_more=has_more)

    return _print(options, search)


def show_market(options: ShowOptions) -> int:
    """Show one market and print; see `search_markets` for errors."""

    async def show(markets: Markets) -> str:
        shown, group = await markets.show(options.name)
        if options.is_json:
            return _json(told(shown) | {"group": [told_briefly(each) for each in group]})
        return page(shown) + group_lines(group)

    return _print(options, show)


@asynccontextmanager
async def reading(
    settings: PolymarketSettings, now_ns: Callable[[], Nanos], transport: httpx2.AsyncBaseTransport | None = None
) -> AsyncIterator[Markets]:
    """Read with one pool of connections, closed at the end.

    Args:
        settings: Where, and how fast.
        now_ns: Wall time.
        transport: For tests; None = sockets.
    """
    connection = RestConnection(settings, now_ns=now_ns, transport=transport)
    try:
        rest = connection.rest
        yield Markets(rest, Gamma(rest, settings.gamma_url, now_ns), random.Random(now_ns()))
    finally:
        await connection.aclose()


def _print(options: MarketsOptions, ask: Callable[[Markets], Awaitable[str]]) -> int:
    settings = load(options.config, TradingSettings).exchange
    settings.check_reach()

    async def answer() -> str:
        async with reading(settings, WallClock().now_ns) as markets:
            return await ask(markets)

    text = trio.run(answer)
    tell(text, sys.stdout)
    return 0


def _json(found: object) -> str:
    return json.dumps(found, indent=2) + "\n"
