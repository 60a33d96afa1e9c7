"""What anybody may know of Polymarket: markets, books, prints. No key, no account, nothing that could send an order.

The gateway of an account is built on it; paper trading has this and nothing more.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import httpx2
import msgspec
import structlog
import trio

from tbot.core.market import Market, MarketId, TokenId, fee_taker_floor, is_same_asset
from tbot.core.messages import BookSnapshot, Role, TickSizeChanged
from tbot.core.units import NANOS_PER_S, Nanos, Notional, Price, Size
from tbot.errors import BadFrame, ConfigError, ExchangeUnavailable, InvariantViolated
from tbot.exchanges.polymarket.asset_ids import VERSION_SPOKEN
from tbot.exchanges.polymarket.auth import RequestSigner
from tbot.exchanges.polymarket.bad_frames import tokens_named
from tbot.exchanges.polymarket.catalog import load_market, read_in_full, reread_market
from tbot.exchanges.polymarket.clock import SAMPLES
from tbot.exchanges.polymarket.connection import RestConnection, RunWide
from tbot.exchanges.polymarket.gamma import markets_named
from tbot.exchanges.polymarket.settings import PolymarketSettings
from tbot.exchanges.polymarket.sockets import Connect, MarketChannel, Tap, open_market_socket, tcp_connector
from tbot.exchanges.polymarket.translate import book_snapshot
from tbot.exchanges.polymarket.wire import BookBody, decode

log = structlog.get_logger()

CLOCK_EVERY_NS = 20 * NANOS_PER_S
# A measure is no reason to wait long for books.
CLOCK_S = 2.0
# Stamps that cannot be true are a reason to measure at once, but no more often than this.
LOOK_EVERY_S = 5.0

_BOOK = msgspec.json.Decoder(BookBody)


class PublicMarkets:
    """The public side of the exchange; one instance belongs to one restart unit.

    Attributes:
        gate: Rate limits of every request of this unit.
        clock: The exchange's clock as far as it is known.
        rest: Requests; private ones only with a signer.
        market_ids: The configured markets; those named by slug only once they were loaded.
    """

    def __init__(
        self,
        settings: PolymarketSettings,
        *,
        now_ns: Callable[[], Nanos],
        signer: RequestSigner | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
        connect: Connect | None = None,
        tap: Tap | None = None,
        can_sign: Callable[[Market], bool] = lambda _: True,
        shared: RunWide | None = None,
    ) -> None:
        """Prepare everything; nothing is connected yet.

        Args:
            settings: Where, and which markets.
            now_ns: Wall time.
            signer: Signs private requests; None where there is no account.
            transport: For tests and simulations; None = sockets.
            connect: Opens a stream for the market channel, likewise.
            tap: Gets the raw texts of the market channel; None = nobody does.
            can_sign: Whether orders may be signed for the contract of a market; where there is no key, none is signed.
            shared: What the run keeps beyond this instance; None = nothing is kept.

        Raises:
            ConfigError: An address that must not get our requests.
        """
        self._settings = settings
        self._now_ns = now_ns
        self._connection = RestConnection(settings, now_ns=now_ns, signer=signer, transport=transport, shared=shared)
        self.clock, self.gate, self.rest = self._connection.clock, self._connection.gate, self._connection.rest
        self._tap, self._can_sign = tap, can_sign
        self._connect = connect or tcp_connector(settings.ws_market_url)
        self._markets: dict[TokenId, Market] = {}
        self._looked_s = -math.inf
        self._unverified: set[MarketId] = set()
        self._ticks_at: dict[MarketId, tuple[int, bool]] = {}  # (exchange_ms, by a book) of the tick told last
        self.market_ids = tuple(map(MarketId, settings.condition_ids))
        self._are_named_found = not settings.slugs

    @property
    def markets(self) -> Mapping[TokenId, Market]:
        """The loaded markets by token, with the tick told last."""
        return self._markets

    # --- reference data -----------------------------------------------------------------------------------------

    async def load_markets(self) -> tuple[Market, ...]:
        """Read the configured markets.

        Raises:
            ExchangeUnavailable: Try again later.
            ConfigError: A configured market does not exist, or cannot be traded by us.
        """
        await self._find_named()
        markets = [await load_market(self.rest, each) for each in self.market_ids]
        self._markets = {token: market for market in markets for token in market.tokens}
        self._unverified.clear()
        return tuple(markets)

    def remember(self, markets: Sequence[Market]) -> None:
        """Go on with markets loaded before; each is read in full at its next `reread`. Names need no catalogue then."""
        self._markets = {token: market for market in markets for token in market.tokens}
        self.market_ids = tuple(market.market_id for market in markets)
        self._unverified = set(self.market_ids)
        self._are_named_found = True

    async def reread(self, market_id: MarketId) -> Market:
        """Read the terms of a market anew, or load one more; a tick told meanwhile is believed.

        Raises:
            ExchangeUnavailable: Try again later.
            ConfigError: It does not exist, is of a kind or on a contract that we cannot trade, or names other tokens
                than before; what was known of it stays.
        """
        known = self._loaded(market_id)
        if known is None or known.market_id in self._unverified:
            new = await load_market(self.rest, market_id, known)
        else:
            new = await reread_market(self.rest, known)
        told = self._loaded(market_id)
        if known is not None and told is not None and told.tick != known.tick:
            new = msgspec.structs.replace(new, tick=told.tick)
        self._take(new)
        return new

    async def refresh(self, token_id: TokenId) -> None:
        """Read a token's market and the order version anew: an order was refused for what we believed of them.

        Other markets are read when an order in them is refused: in many markets there is no time for all of them.

        Raises:
            ExchangeUnavailable: Try again later; also where it was read, but its sources name two contracts.
            ConfigError: The market is of a kind or on a contract now that we cannot trade, or names other tokens.
        """
        known = self.market(token_id)
        market, is_agreed = await read_in_full(self.rest, known.market_id, known)
        self._take(market)
        with suppress(ExchangeUnavailable):  # it is told only, and the market was read
            version = await self.rest.version()
            if version != VERSION_SPOKEN:
                log.critical("order.version", wanted=version, spoken=VERSION_SPOKEN)
        if not is_agreed:
            raise ExchangeUnavailable(f"market {market.market_id}: its parameters and the neg-risk answer differ")

    async def can_trade(self) -> str:
        """Return "" when nothing but the account could speak against trading from here, else the reason.

        Raises:
            ExchangeUnavailable: Try again later.
        """
        if self._settings.geoblock_url:
            place = await self.rest.is_blocked_here(self._settings.geoblock_url)
            if place.blocked:
                return f"the exchange does not serve this place ({place.country[:2] or 'unknown country'})"
        version = await self.rest.version()
        if version != VERSION_SPOKEN:
            return f"the exchange wants orders of protocol {version}, we speak {VERSION_SPOKEN}"
        for _ in range(SAMPLES):
            await self.measure_clock()
        if self.clock.is_beyond_use:
            skew_s = abs(self.clock.difference_ns) / NANOS_PER_S
            return (
                f"this machine's clock differs from the exchange's by {skew_s:.0f} s or more: set it, then restart tbot"
            )
        return ""

    async def measure_clock(self) -> None:
        """Ask the exchange for its time once; a difference is logged when it appears, and again when it is a fault.

        Raises:
            ExchangeUnavailable: It did not answer.
        """
        await self._connection.measure_clock()

    async def keep_time(self) -> None:
        """Measure the clock again when that was long ago; without an answer the old measure stays.

        Two machines drift apart, and stamps of a time to come are refused.
        """
        # Measured at a time to come: our clock was set back.
        if not 0 <= self._now_ns() - self.clock.measured_ns < CLOCK_EVERY_NS:
            with suppress(ExchangeUnavailable), trio.move_on_after(CLOCK_S):
                await self.measure_clock()

    def market(self, token_id: TokenId) -> Market:
        """Return the market of a token.

        Raises:
            InvariantViolated: A token that was never loaded.
        """
        market = self._markets.get(token_id)
        if market is None:
            raise InvariantViolated(f"token {token_id[:80]} belongs to no loaded market")
        return market

    def tick_at(self, token_id: TokenId, price: Price) -> Price:
        """Return the tick in force, as loaded or as told since.

        Raises:
            InvariantViolated: A token that was never loaded.
        """
        return self.market(token_id).tick

    def fee(self, token_id: TokenId, price: Price, size: Size, role: Role) -> Notional:
        """Return the fee of one fill in micro-dollars; makers pay none, and of foreign markets nothing is known."""
        market = self._markets.get(token_id)
        return Notional(0) if role is Role.MAKER or market is None else fee_taker_floor(price, size, market.fee)

    # --- books --------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def open_market(self, token_ids: Sequence[TokenId]) -> AsyncIterator[MarketChannel]:
        """Connect and subscribe; a snapshot of every book comes first.

        Raises:
            ExchangeUnavailable: On entry, when no connection could be made.
        """
        await self.keep_time()
        url, timeouts = self._settings.ws_market_url, self._settings.timeouts
        async with open_market_socket(url, self._connect, token_ids, timeouts) as socket:
            on_raw = None if self._tap is None else self._tap()
            yield MarketChannel(
                socket,
                token_ids,
                self._now_ns,
                self._learn_tick,
                on_raw=on_raw,
                latest_ms=self.clock.latest_ms,
                on_future=self._look_at_clocks,
            )

    async def books(self, token_ids: Sequence[TokenId]) -> tuple[BookSnapshot, ...]:
        """Read whole books by request, in the order asked; those not to be had or read, or of later, are left out.

        Raises:
            ExchangeUnavailable: Try again later.
        """
        rows = await self.rest.books(token_ids)
        received_ns = self._now_ns()
        found = {book.token_id: book for row in rows if (book := _readable(row, received_ns)) is not None}
        books = [found[each] for each in token_ids if each in found]
        if any(book.exchange_ms > self.clock.latest_ms(received_ns) for book in books):
            await self._look_at_clocks()
        latest_ms = self.clock.latest_ms(received_ns)
        for book in books:
            if book.exchange_ms > latest_ms:
                log.warning("books.future", token_id=book.token_id, ahead_ms=book.exchange_ms - latest_ms)
        possible = tuple(book for book in books if book.exchange_ms <= latest_ms)
        for book in possible:
            self._learn_tick(book)
        return possible

    async def aclose(self) -> None:
        """Close the connections of requests; sessions end with their own contexts."""
        await self._connection.aclose()

    # Something is stamped with a time to come: ours may have been set back, and the last measures would not know.
    async def _look_at_clocks(self) -> None:
        if trio.current_time() >= self._looked_s + LOOK_EVERY_S:
            await self._connection.measure_anew()
            self._looked_s = trio.current_time()

    def _loaded(self, market_id: MarketId) -> Market | None:
        return next((market for market in self._markets.values() if market.market_id == market_id), None)

    # Orders and positions are of the tokens loaded first, so terms of others are never taken; a contract that we can
    # sign for is. A market that was refused, or is remembered, is believed when all of its answers agree.
    def _take(self, new: Market) -> None:
        loaded = (self._loaded(new.market_id), *map(self._markets.get, new.tokens))
        if not all(is_same_asset(known, new) for known in loaded if known is not None):
            self._unverified.add(new.market_id)
            raise ConfigError(f"market {new.market_id} names other tokens than when it was loaded")
        if loaded[0] is not None and loaded[0].is_neg_risk != new.is_neg_risk and not self._can_sign(new):
            self._unverified.add(new.market_id)
            raise ConfigError(
                f"market {new.market_id} is traded on a contract now that the signing probe of the start does not "
                "cover; nothing is signed for it"
            )
        self._unverified.discard(new.market_id)
        self._markets |= dict.fromkeys(new.tokens, new)

    # Names are looked up once: what they mean does not change, and the catalogue may be down at the next refresh.
    async def _find_named(self) -> None:
        if not self._are_named_found:
            named = await markets_named(self.rest, self._settings, self._now_ns)
            self.market_ids = tuple(dict.fromkeys((*self.market_ids, *named)))
            self._are_named_found = True

    # The latest word by the exchange's time counts, as in `core.book`: frames come late, and this tick is the feed's.
    def _learn_tick(self, event: TickSizeChanged | BookSnapshot) -> None:
        market = self._markets.get(event.token_id)
        if market is None or event.tick is None:
            return
        told_at = (event.exchange_ms, isinstance(event, BookSnapshot))
        if told_at < self._ticks_at.get(market.market_id, told_at):
            return
        self._ticks_at[market.market_id] = told_at
        if market.tick != event.tick:
            changed = msgspec.structs.replace(market, tick=event.tick)
            self._markets |= dict.fromkeys(market.tokens, changed)


def _readable(row: bytes, received_ns: Nanos) -> BookSnapshot | None:
    try:
        return book_snapshot(decode(_BOOK, row), received_ns)
    except BadFrame as error:
        named = tokens_named(row.decode(errors="replace"))
        log.warning("books.unreadable", token_id=named[0] if named else "", error=str(error)[:200])
        return None
