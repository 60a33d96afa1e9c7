"""Polymarket behind the gateway protocol: sockets for what is pushed, REST for the rest.

One instance belongs to one restart unit. It keeps three things between calls: the loaded markets (with the tick told
last), the orders it signed and did not send yet, and the id of the next heartbeat.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

import httpx2
import msgspec
import structlog

from tbot.core.market import Market, MarketId, TokenId, fee_taker_floor
from tbot.core.messages import (
    BookSnapshot,
    CancelReply,
    ExchangeOrderId,
    ExchangeReport,
    Role,
    SubmitOrder,
    SubmitReply,
    TickSizeChanged,
)
from tbot.core.units import NANOS_PER_S, Nanos, Notional, Price, Size
from tbot.errors import ExchangeUnavailable, InvariantViolated
from tbot.exchanges.gateway import Bucket, Capabilities, PreparedOrder
from tbot.exchanges.polymarket.auth import RequestSigner
from tbot.exchanges.polymarket.catalog import load_market
from tbot.exchanges.polymarket.clock import SAMPLES, ExchangeClock
from tbot.exchanges.polymarket.dead_man import DeadManSwitch
from tbot.exchanges.polymarket.fills import Ownership
from tbot.exchanges.polymarket.http import Http
from tbot.exchanges.polymarket.keys import ApiCredentials, SigningKey
from tbot.exchanges.polymarket.limits import OPEN_SHARE, RateGate
from tbot.exchanges.polymarket.order_entry import CANCEL_IDS_MAX, ORDER_TYPES, OrderEntry
from tbot.exchanges.polymarket.reports import Reporter, undecodable_is_unavailable
from tbot.exchanges.polymarket.rest import Rest
from tbot.exchanges.polymarket.settings import PolymarketSettings
from tbot.exchanges.polymarket.signing import SALT_BITS, OrderSigner
from tbot.exchanges.polymarket.sockets import (
    ASSETS_MAX,
    ASSETS_PER_FRAME,
    SETTLE_MARKET_S,
    SETTLE_USER_S,
    ClosedAtOnce,
    Connect,
    MarketChannel,
    UserChannel,
    market_changes,
    market_hello,
    open_socket,
    tcp_connector,
    user_hello,
)
from tbot.exchanges.polymarket.translate import book_snapshot

log = structlog.get_logger()

VERSION_SPOKEN = 2
# The exchange cancels everything 10 s after the last heartbeat, once one was sent (docs, read 2026-11-22).
DEAD_MAN_S = 10.0
# Our stamps follow the exchange's clock; a difference beyond this says that something is wrong with ours.
CLOCK_SKEW_S_MAX = 30
CLOCK_EVERY_NS = 20 * NANOS_PER_S


class PolymarketConnections(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach the exchange; None = real sockets to the addresses of the settings.

    Attributes:
        transport: Carries the REST requests.
        market: Opens a stream for the market channel.
        user: Opens a stream for the user channel.
    """

    transport: httpx2.AsyncBaseTransport | None = None
    market: Connect | None = None
    user: Connect | None = None


class PolymarketGateway:
    """An account on Polymarket (see `exchanges.gateway.Gateway`)."""

    def __init__(
        self,
        settings: PolymarketSettings,
        *,
        key: SigningKey,
        credentials: ApiCredentials,
        now_ns: Callable[[], Nanos],
        rng: random.Random,
        connections: PolymarketConnections | None = None,
    ) -> None:
        """Prepare everything; nothing is connected yet.

        Args:
            settings: Where, which wallet, which markets.
            key: Signs orders.
            credentials: Sign requests.
            now_ns: Wall time.
            rng: Gives the salts of orders; one seeded differently at each start makes them differ.
            connections: For tests and simulations.

        Raises:
            ConfigError: Settings that do not fit together, or an address that must not get our requests.
        """
        reach = connections or PolymarketConnections()
        if reach.transport is None:
            settings.check_reach()
        timeouts = settings.timeouts
        self._settings = settings
        self._credentials = credentials
        self._now_ns = now_ns
        self._rng = rng
        self._clock = ExchangeClock(now_ns)
        self._gate = RateGate(settings.limits, now_ns)
        self._ours = Ownership(api_key=credentials.api_key, wallet=(settings.funder or key.address).lower())
        self._http = Http(
            settings.rest_url,
            gate=self._gate,
            timeouts=timeouts,
            now_ns=self._clock.now_ns,
            signer=RequestSigner(key.address, credentials),
            transport=reach.transport,
        )
        self.rest = Rest(self._http, timeouts=timeouts, now_ns=now_ns)
        self._reporter = Reporter(
            self.rest,
            ours=self._ours,
            fee_of=self._fee_taker,
            signature_type=settings.signature_type,
            now_ns=now_ns,
        )
        self._connect_market = reach.market or tcp_connector(settings.ws_market_url)
        self._connect_user = reach.user or tcp_connector(settings.ws_user_url)
        self._markets: dict[TokenId, Market] = {}
        self._entry = self._order_entry(key)
        self._switch = DeadManSwitch(self.rest)
        self._capabilities = _capabilities(settings)

    @property
    def capabilities(self) -> Capabilities:
        """What this exchange can do."""
        return self._capabilities

    def _order_entry(self, key: SigningKey) -> OrderEntry:
        settings = self._settings
        signer = OrderSigner(
            key,
            chain_id=settings.chain_id,
            owner=self._credentials.api_key,
            signature_type=settings.signature_type,
            funder=settings.funder,
        )
        return OrderEntry(
            self.rest,
            signer,
            self._gate,
            market_of=self._market,
            refresh=self._refresh,
            salt=lambda: self._rng.getrandbits(SALT_BITS),
            now_ns=self._now_ns,
            offset_ns=lambda: self._clock.offset_ns,
            patience_s=settings.timeouts.patience_s,
        )

    # --- reference data -----------------------------------------------------------------------------------------

    async def load_markets(self) -> tuple[Market, ...]:
        """Read the configured markets.

        Raises:
            ExchangeUnavailable: Try again later.
            ConfigError: A configured market does not exist, or cannot be traded by us.
        """
        markets = [await load_market(self.rest, MarketId(each)) for each in self._settings.condition_ids]
        self._markets = {token: market for market in markets for token in market.tokens}
        return tuple(markets)

    async def can_trade(self) -> str:
        """Return "" when this account may trade from here, else the reason in one sentence.

        Raises:
            ExchangeUnavailable: Try again later.
            AuthenticationFailed: The credentials are refused.
        """
        if self._settings.geoblock_url:
            place = await self.rest.is_blocked_here(self._settings.geoblock_url)
            if place.blocked:
                return f"the exchange does not serve this place ({place.country[:2] or 'unknown country'})"
        version = await self.rest.version()
        if version != VERSION_SPOKEN:
            return f"the exchange wants orders of protocol {version}, we speak {VERSION_SPOKEN}"
        for _ in range(SAMPLES):
            await self._measure_clock()
        skew_s = abs(self._clock.offset_ns) / NANOS_PER_S
        if skew_s > CLOCK_SKEW_S_MAX:
            return f"this machine's clock differs from the exchange's by {skew_s:.0f} s: set it"
        return "the account may only reduce positions" if await self.rest.is_closed_only() else ""

    def tick_at(self, token_id: TokenId, price: Price) -> Price:
        """Return the tick in force, as loaded or as told since.

        Raises:
            InvariantViolated: A token that was never loaded.
        """
        return self._market(token_id).tick

    def fee(self, token_id: TokenId, price: Price, size: Size, role: Role) -> Notional:
        """Return the fee of one fill in micro-dollars; makers pay none.

        Raises:
            InvariantViolated: A token that was never loaded.
        """
        return Notional(0) if role is Role.MAKER else self._fee_taker(token_id, price, size)

    # --- sessions -----------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def open_market(self, token_ids: Sequence[TokenId]) -> AsyncIterator[MarketChannel]:
        """Connect and subscribe; a snapshot of every book comes first.

        Raises:
            ExchangeUnavailable: On entry, when no connection could be made.
        """
        hello = partial(market_hello, tuple(token_ids))
        url, timeouts = self._settings.ws_market_url, self._settings.timeouts
        more = market_changes("subscribe", token_ids[ASSETS_PER_FRAME:])
        connect, settle_s = self._connect_market, SETTLE_MARKET_S
        async with open_socket(url, connect, hello, timeouts, settle_s=settle_s, more=more) as socket:
            yield MarketChannel(socket, token_ids, self._now_ns, self._learn_tick)

    @asynccontextmanager
    async def open_account(self) -> AsyncIterator[UserChannel]:
        """Connect to the account channel.

        Raises:
            ExchangeUnavailable: On entry, when no connection could be made.
            AuthenticationFailed: On entry, when the credentials are refused.
        """
        hello = partial(user_hello, self._credentials, tuple(map(MarketId, self._settings.condition_ids)))
        url, timeouts = self._settings.ws_user_url, self._settings.timeouts
        async with AsyncExitStack() as stack:
            opening = open_socket(url, self._connect_user, hello, timeouts, settle_s=SETTLE_USER_S)
            try:
                socket = await stack.enter_async_context(opening)
            except ClosedAtOnce as error:
                closed = error
            else:
                yield UserChannel(socket, self._ours, self._fee_taker, self._now_ns)
                return
            # The socket does not say why it was closed; REST answers 401 when it is the credentials.
            await self.rest.is_closed_only()
            raise closed

    async def books(self, token_ids: Sequence[TokenId]) -> tuple[BookSnapshot, ...]:
        """Read whole books by request, in the order asked; those the exchange does not have are left out.

        Raises:
            ExchangeUnavailable: Try again later.
        """
        bodies = {body.asset_id: body for body in await self.rest.books(token_ids)}
        received_ns = self._now_ns()
        with undecodable_is_unavailable("/books"):
            return tuple(book_snapshot(bodies[each], received_ns) for each in token_ids if each in bodies)

    # --- orders -------------------------------------------------------------------------------------------------

    def prepare(self, order: SubmitOrder, now_ns: Nanos) -> PreparedOrder:
        """Sign an order without sending it; about 40 us.

        Raises:
            InvariantViolated: The order breaks a rule of the market that the plan should have kept.
        """
        return self._entry.prepare(order, now_ns)

    async def submit(self, order: PreparedOrder) -> SubmitReply:
        """Send the prepared bytes; see `OrderEntry.submit`."""
        return await self._entry.submit(order)

    async def cancel(self, order_ids: Sequence[ExchangeOrderId]) -> tuple[CancelReply, ...]:
        """Cancel orders, one reply an id, in order; doubts and rate limits are values."""
        return await self._entry.cancel(order_ids)

    async def protect(self) -> None:
        """Tell the dead-man switch that we live.

        Raises:
            ExchangeUnavailable: It was not told.
            AnotherSender: Another program tells it too, with the same credentials.
        """
        await self._switch.beat()

    async def aclose(self) -> None:
        """Close the connections of requests; sessions end with their own contexts."""
        await self._http.aclose()

    # --- report -------------------------------------------------------------------------------------------------

    async def report(self, since_ns: Nanos, lookups: Sequence[ExchangeOrderId]) -> ExchangeReport:
        """Read open orders, fills since a moment, the fate of single orders, and balances of the loaded markets.

        Raises:
            ExchangeUnavailable: Nothing is known; try again later.
            AuthenticationFailed: The credentials are refused.
        """
        if self._now_ns() >= self._clock.measured_ns + CLOCK_EVERY_NS:
            with suppress(ExchangeUnavailable):  # the report will say so itself
                await self._measure_clock()  # which also keeps a connection warm
        report = await self._reporter.report(since_ns, lookups, self._markets)
        self._entry.learn_open([order.exchange_order_id for order in report.open_orders], report.requested_ns)
        return report

    # --- private ------------------------------------------------------------------------------------------------

    async def _measure_clock(self) -> None:
        sent_ns = self._now_ns()
        was_off = self._clock.is_off
        self._clock.learn(await self.rest.time_s(), sent_ns=sent_ns, received_ns=self._now_ns())
        if self._clock.is_off and not was_off:
            log.warning("clock.off", offset_s=round(self._clock.offset_ns / NANOS_PER_S, 1))

    async def _refresh(self) -> None:
        await self.load_markets()
        version = await self.rest.version()
        if version != VERSION_SPOKEN:
            log.critical("order.version", wanted=version, spoken=VERSION_SPOKEN)

    def _fee_taker(self, token_id: TokenId, price: Price, size: Size) -> Notional:
        # Trades of the same account in markets that are not ours to trade are told too; nothing is known of their fee.
        market = self._markets.get(token_id)
        return Notional(0) if market is None else fee_taker_floor(price, size, market.fee)

    def _market(self, token_id: TokenId) -> Market:
        market = self._markets.get(token_id)
        if market is None:
            raise InvariantViolated(f"token {token_id[:80]} belongs to no loaded market")
        return market

    def _learn_tick(self, event: TickSizeChanged) -> None:
        market = self._markets.get(event.token_id)
        if market is not None:
            changed = msgspec.structs.replace(market, tick=event.tick)
            self._markets |= dict.fromkeys(market.tokens, changed)


async def obtain_credentials(
    settings: PolymarketSettings,
    *,
    key: SigningKey,
    now_ns: Callable[[], Nanos],
    transport: httpx2.AsyncBaseTransport | None = None,
) -> ApiCredentials:
    """Derive the API credentials of a key, or create them when it has none yet: the step before a gateway.

    Args:
        settings: Where, and on which chain.
        key: Key of the EOA.
        now_ns: Wall time.
        transport: For tests and simulations; None = sockets.

    Raises:
        AuthenticationFailed: The exchange refuses this key.
        ConfigError: An address that must not get our requests.
        ExchangeUnavailable: Try again later.
    """
    if transport is None:
        settings.check_reach()
    gate = RateGate(settings.limits, now_ns)
    http = Http(settings.rest_url, gate=gate, timeouts=settings.timeouts, now_ns=now_ns, transport=transport)
    try:
        rest = Rest(http, timeouts=settings.timeouts, now_ns=now_ns)
        return await rest.obtain_credentials(key, chain_id=settings.chain_id)
    finally:
        await http.aclose()


def _capabilities(settings: PolymarketSettings) -> Capabilities:
    limits = settings.limits
    return Capabilities(
        order_types=ORDER_TYPES,
        has_post_only=True,
        has_deltas=True,
        has_positions_signed=False,
        # A batch above the burst could never pass.
        cancel_batch_max=max(1, min(CANCEL_IDS_MAX, int(limits.cancels_burst))),
        dead_man_s=DEAD_MAN_S,
        buckets=(
            Bucket(name="orders", rate_per_s=limits.orders_per_s, burst=limits.orders_burst),
            Bucket(name="cancels", rate_per_s=limits.cancels_per_s, burst=limits.cancels_burst),
            Bucket(name="reads", rate_per_s=limits.reads_per_s, burst=limits.reads_burst),
        ),
        open_orders_max=max(1, int(limits.cancels_burst * OPEN_SHARE)),
        session_tokens_max=ASSETS_MAX,
    )
