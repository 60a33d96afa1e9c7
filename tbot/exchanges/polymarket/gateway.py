"""Polymarket behind the gateway protocol: sockets for what is pushed, REST for the rest.

One instance belongs to one restart unit. It keeps three things between calls: the loaded markets (with the tick told
last), the orders it signed and did not send yet, and the id of the next heartbeat.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial

import httpx2
import msgspec

from tbot.core.market import CASH, Market, MarketId, TokenId
from tbot.core.messages import (
    BookSnapshot,
    CancelReply,
    ExchangeOrderId,
    ExchangeReport,
    Role,
    SubmitOrder,
    SubmitReply,
)
from tbot.core.units import Nanos, Notional, Price, Size
from tbot.exchanges.gateway import Bucket, Capabilities, PreparedOrder
from tbot.exchanges.polymarket.auth import RequestSigner
from tbot.exchanges.polymarket.conformance import is_probed
from tbot.exchanges.polymarket.connection import RunWide
from tbot.exchanges.polymarket.dead_man import DeadManSwitch
from tbot.exchanges.polymarket.fills import Ownership
from tbot.exchanges.polymarket.keys import ApiCredentials, SigningKey
from tbot.exchanges.polymarket.limits import Lane, RateGate
from tbot.exchanges.polymarket.order_entry import CANCEL_IDS_MAX, ORDER_TYPES, ORDERS_MAX, OrderEntry
from tbot.exchanges.polymarket.order_rules import ORDER_LIFE_S_MIN
from tbot.exchanges.polymarket.public import PublicMarkets
from tbot.exchanges.polymarket.reports import Reporter
from tbot.exchanges.polymarket.settings import PolymarketSettings
from tbot.exchanges.polymarket.signing import SALT_BITS, OrderSigner
from tbot.exchanges.polymarket.sockets import (
    ASSETS_MAX,
    SETTLE_USER_S,
    ClosedAtOnce,
    Connect,
    MarketChannel,
    Tap,
    UserChannel,
    open_socket,
    tcp_connector,
    user_hello,
)

# The exchange cancels everything 10 s after the last heartbeat, once one was sent (docs, read 2026-11-22).
DEAD_MAN_S = 10.0


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
        tap: Tap | None = None,
        shared: RunWide | None = None,
    ) -> None:
        """Prepare everything; nothing is connected yet.

        Args:
            settings: Where, which wallet, which markets.
            key: Signs orders.
            credentials: Sign requests.
            now_ns: Wall time.
            rng: Gives the salts of orders; one seeded differently at each start makes them differ.
            connections: For tests and simulations.
            tap: Gets the raw texts of the market channel, never those of the user channel, which hold secrets.
            shared: One for all gateways of a run; None = this one is alone.

        Raises:
            ConfigError: Settings that do not fit together, or an address that must not get our requests.
        """
        reach = connections or PolymarketConnections()
        self._settings = settings
        self._credentials = credentials
        self._now_ns = now_ns
        self._rng = rng
        self._public = PublicMarkets(
            settings,
            now_ns=now_ns,
            signer=RequestSigner(key.address, credentials),
            transport=reach.transport,
            connect=reach.market,
            tap=tap,
            can_sign=lambda market: is_probed(market, settings),
            shared=shared,
        )
        self.rest = self._public.rest
        self._ours = Ownership(api_key=credentials.api_key, wallet=(settings.funder or key.address).lower())
        self._reporter = Reporter(
            self.rest,
            ours=self._ours,
            fee_of=self._fee_taker,
            signature_type=settings.signature_type,
            now_ns=now_ns,
        )
        self._connect_user = reach.user or tcp_connector(settings.ws_user_url)
        self._entry = self._order_entry(key)
        self._switch = DeadManSwitch(self.rest)

    @property
    def capabilities(self) -> Capabilities:
        """What this exchange can do: by the settings at first, by the tier the exchange names from then on."""
        return _capabilities(self._settings, self._public.gate)

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
            self._public.gate,
            market_of=self._public.market,
            refresh=self._public.refresh,
            salt=lambda: self._rng.getrandbits(SALT_BITS),
            now_ns=self._now_ns,
            offset_ns=lambda: self._public.clock.offset_ns,
        )

    # --- reference data -----------------------------------------------------------------------------------------

    async def load_markets(self) -> tuple[Market, ...]:
        """Read the configured markets.

        Raises:
            ExchangeUnavailable: Try again later.
            ConfigError: A configured market does not exist, or cannot be traded by us.
        """
        return await self._public.load_markets()

    def remember(self, markets: Sequence[Market]) -> None:
        """Go on with markets loaded before; each is read in full at its next `reread`."""
        self._public.remember(markets)

    async def reread(self, market_id: MarketId) -> Market:
        """Read the terms of a market anew, or load one more; orders are signed, and fees reckoned, by them from now on.

        Raises:
            ExchangeUnavailable: Try again later.
            ConfigError: It is of a kind now that we cannot trade.
        """
        return await self._public.reread(market_id)

    async def can_trade(self) -> str:
        """Return "" when this account may trade from here, else the reason in one sentence.

        Raises:
            ExchangeUnavailable: Try again later.
            AuthenticationFailed: The credentials are refused.
        """
        reason = await self._public.can_trade()
        if reason:
            return reason
        return "the account may only reduce positions" if await self.rest.is_closed_only() else ""

    def tick_at(self, token_id: TokenId, price: Price) -> Price:
        """Return the tick in force, as loaded or as told since.

        Raises:
            InvariantViolated: A token that was never loaded.
        """
        return self._public.tick_at(token_id, price)

    def fee(self, token_id: TokenId, price: Price, size: Size, role: Role) -> Notional:
        """Return the fee of one fill in micro-dollars; makers pay none."""
        return self._public.fee(token_id, price, size, role)

    # --- sessions -----------------------------------------------------------------------------------------------

    def open_market(self, token_ids: Sequence[TokenId]) -> AbstractAsyncContextManager[MarketChannel]:
        """Connect and subscribe; a snapshot of every book comes first.

        Raises:
            ExchangeUnavailable: On entry, when no connection could be made.
        """
        return self._public.open_market(token_ids)

    @asynccontextmanager
    async def open_account(self) -> AsyncIterator[UserChannel]:
        """Connect to the account channel.

        Raises:
            ExchangeUnavailable: On entry, when no connection could be made.
            AuthenticationFailed: On entry, when the credentials are refused.
        """
        hello = partial(user_hello, self._credentials, self._public.market_ids)
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
        return await self._public.books(token_ids)

    # --- orders -------------------------------------------------------------------------------------------------

    def prepare(self, order: SubmitOrder, now_ns: Nanos) -> PreparedOrder:
        """Sign an order without sending it; about 40 us.

        Raises:
            InvariantViolated: The order breaks a rule of the market that the plan should have kept.
        """
        return self._entry.prepare(order, now_ns)

    async def submit(self, order: PreparedOrder) -> SubmitReply:
        """Send the prepared bytes; see `OrderEntry.submit`."""
        (reply,) = await self._entry.submit([order])
        return reply

    async def submit_batch(self, orders: Sequence[PreparedOrder]) -> tuple[SubmitReply, ...]:
        """Send several prepared orders; see `OrderEntry.submit`."""
        return await self._entry.submit(orders)

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
        await self._public.aclose()

    # --- report -------------------------------------------------------------------------------------------------

    async def report(
        self, since_ns: Nanos, lookups: Sequence[ExchangeOrderId], balances_of: Sequence[TokenId] = ()
    ) -> ExchangeReport:
        """Read open orders, fills since a moment, the fate of single orders, and some balances of the loaded markets.

        Raises:
            ExchangeUnavailable: Nothing is known; try again later.
            AuthenticationFailed: The credentials are refused.
        """
        await self._public.keep_time()  # which also keeps a connection warm
        markets = dict(self._public.markets)  # one that joins meanwhile is of the next report
        report = await self._reporter.report(since_ns, lookups, markets, balances_of)
        self._entry.learn_open([order.exchange_order_id for order in report.open_orders], report.requested_ns)
        return report

    async def refresh_balance(self, asset: TokenId) -> None:
        """Make the exchange read a balance from the chain anew; `CASH` is the collateral.

        Raises:
            ExchangeUnavailable: It did not; try again later.
            AuthenticationFailed: The credentials are refused.
        """
        token_id = None if asset == CASH else asset
        await self.rest.refresh_balance(token_id, signature_type=self._settings.signature_type)

    # --- private ------------------------------------------------------------------------------------------------

    def _fee_taker(self, token_id: TokenId, price: Price, size: Size) -> Notional:
        return self._public.fee(token_id, price, size, Role.TAKER)


def _capabilities(settings: PolymarketSettings, gate: RateGate) -> Capabilities:
    limits, tier = settings.limits, gate.tier_limits
    return Capabilities(
        order_types=ORDER_TYPES,
        has_post_only=True,
        has_deltas=True,
        has_positions_signed=False,
        # A batch above the burst could never pass.
        cancel_batch_max=max(1, min(CANCEL_IDS_MAX, gate.burst(Lane.CANCEL))),
        dead_man_s=DEAD_MAN_S,
        buckets=(
            Bucket(name="orders", rate_per_s=tier.orders_per_s, burst=tier.orders_burst),
            Bucket(name="cancels", rate_per_s=tier.cancels_per_s, burst=tier.cancels_burst),
            Bucket(name="reads", rate_per_s=limits.reads_per_s, burst=limits.reads_burst),
        ),
        open_orders_max=gate.open_orders_max,
        session_tokens_max=ASSETS_MAX,
        order_life_s_min=ORDER_LIFE_S_MIN,
        submit_batch_max=max(1, min(ORDERS_MAX, gate.burst(Lane.ORDER))),
    )
