"""Polymarket behind the gateway protocol: sockets for what is pushed, REST for the rest.

One instance belongs to one restart unit. It keeps three things between calls: the loaded markets (with the tick told
last), the orders it signed and did not send yet, and the id of the next heartbeat.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import httpx2
import msgspec

from tbot.core.market import Market, MarketId, TokenId, fee_taker_floor
from tbot.core.messages import (
    BookSnapshot,
    CancelReply,
    ExchangeOrderId,
    ExchangeReport,
    OrderType,
    RejectCode,
    Rejected,
    Role,
    SubmitOrder,
    SubmitReply,
    TickSizeChanged,
)
from tbot.core.units import NANOS_PER_MS, NANOS_PER_S, Nanos, Notional, Price, Size
from tbot.errors import ExchangeUnavailable, InvariantViolated, RateLimited
from tbot.exchanges.gateway import Bucket, Capabilities, PreparedOrder
from tbot.exchanges.polymarket.amounts import amounts_of
from tbot.exchanges.polymarket.auth import RequestSigner
from tbot.exchanges.polymarket.catalog import load_market
from tbot.exchanges.polymarket.fills import Ownership
from tbot.exchanges.polymarket.http import Http, NotSent
from tbot.exchanges.polymarket.keys import ApiCredentials, SigningKey
from tbot.exchanges.polymarket.limits import RateGate, TooLate
from tbot.exchanges.polymarket.outcomes import (
    cancel_replies,
    cancels_throttled,
    cancels_unknown,
    rejected,
    submit_reply,
    submit_unknown,
)
from tbot.exchanges.polymarket.reports import Reporter, undecodable_is_unavailable
from tbot.exchanges.polymarket.rest import Rest
from tbot.exchanges.polymarket.settings import PolymarketSettings
from tbot.exchanges.polymarket.signing import SALT_BITS, OrderSigner
from tbot.exchanges.polymarket.sockets import (
    SETTLE_MARKET_S,
    SETTLE_USER_S,
    ClosedAtOnce,
    Connect,
    MarketChannel,
    UserChannel,
    market_hello,
    open_socket,
    tcp_connector,
    user_hello,
)
from tbot.exchanges.polymarket.translate import book_snapshot

# GTD is left out: `SubmitOrder` states no expiry, and quotes are pulled by us or by the dead-man switch.
ORDER_TYPES = frozenset({OrderType.GTC, OrderType.FAK, OrderType.FOK})
VERSION_SPOKEN = 2
# The exchange cancels everything 10 s after the last heartbeat, once one was sent (docs, read 2026-11-22).
DEAD_MAN_S = 10.0
# Signed requests carry our clock; beyond a few seconds of difference they are refused.
CLOCK_SKEW_S_MAX = 5
# Prepared orders are sent at once or never; more than this many unsent ones are the leftovers of crashes.
UNSENT_MAX = 1024
NOT_SENT_RETRY_S = 0.5


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
            ConfigError: Settings that do not fit together.
        """
        reach = connections or PolymarketConnections()
        timeouts = settings.timeouts
        self._settings = settings
        self._credentials = credentials
        self._now_ns = now_ns
        self._rng = rng
        self._orders = OrderSigner(
            key,
            chain_id=settings.chain_id,
            owner=credentials.api_key,
            signature_type=settings.signature_type,
            funder=settings.funder,
        )
        self._ours = Ownership(api_key=credentials.api_key, wallet=(settings.funder or key.address).lower())
        self._http = Http(
            settings.rest_url,
            gate=RateGate(settings.limits, now_ns),
            timeouts=timeouts,
            now_ns=now_ns,
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
        self._unsent: dict[ExchangeOrderId, Nanos] = {}
        self._heartbeat_id = ""
        self._capabilities = _capabilities(settings)

    @property
    def capabilities(self) -> Capabilities:
        """What this exchange can do."""
        return self._capabilities

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
        skew_s = abs(await self.rest.time_s() - self._now_ns() // NANOS_PER_S)
        if skew_s > CLOCK_SKEW_S_MAX:
            return f"this machine's clock differs from the exchange's by {skew_s} s"
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
        async with open_socket(url, self._connect_market, hello, timeouts, settle_s=SETTLE_MARKET_S) as socket:
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
        if order.order_type not in ORDER_TYPES:
            raise InvariantViolated(f"order type {order.order_type} is not offered (see capabilities)")
        market = self._market(order.token_id)
        signed = self._orders.sign(
            token_id=order.token_id,
            side=order.side,
            amounts=amounts_of(
                order_type=order.order_type, side=order.side, price=order.price, size=order.size, tick=market.tick
            ),
            order_type=order.order_type,
            is_post_only=order.is_post_only,
            is_neg_risk=market.is_neg_risk,
            salt=self._rng.getrandbits(SALT_BITS),
            timestamp_ms=now_ns // NANOS_PER_MS,
        )
        if len(self._unsent) >= UNSENT_MAX:
            self._unsent.pop(next(iter(self._unsent)))
        self._unsent[signed.order_id] = order.deadline_ns
        return PreparedOrder(
            client_order_id=order.client_order_id,
            exchange_order_id=signed.order_id,
            body=signed.body,
            prepared_ns=now_ns,
        )

    async def submit(self, order: PreparedOrder) -> SubmitReply:
        """Send the prepared bytes once; not after the deadline of its command. Doubts are `OutcomeUnknown`.

        Bytes that were, or may have been, sent before can rest already, so for them even a refusal proves nothing and
        is told as unknown.
        """
        deadline_ns = self._unsent.pop(order.exchange_order_id, None)
        if deadline_ns is not None:
            return await self._submit_by(order, deadline_ns)
        reply = await self._submit_by(order, self._patience_ns())
        if isinstance(reply, Rejected):
            return submit_unknown(order, f"sent again, then {reply.code}: {reply.reason}", reply.at_ns)
        return reply

    async def cancel(self, order_ids: Sequence[ExchangeOrderId]) -> tuple[CancelReply, ...]:
        """Cancel orders, one reply an id, in order; doubts and rate limits are values."""
        step = self._capabilities.cancel_batch_max
        replies: list[CancelReply] = []
        for start in range(0, len(order_ids), step):
            replies += await self._cancel_some(order_ids[start : start + step])
        return tuple(replies)

    async def protect(self) -> None:
        """Tell the dead-man switch that we live.

        Raises:
            ExchangeUnavailable: It was not told.
        """
        self._heartbeat_id = await self.rest.heartbeat(self._heartbeat_id)

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
        return await self._reporter.report(since_ns, lookups, self._markets)

    # --- private ------------------------------------------------------------------------------------------------

    async def _submit_by(self, order: PreparedOrder, by_ns: Nanos) -> SubmitReply:
        try:
            answer = await self.rest.post_order(order.body, by_ns=by_ns)
        except TooLate as error:
            return rejected(order, RejectCode.EXPIRED_UNSENT, str(error), self._now_ns())
        except RateLimited as error:
            return rejected(order, RejectCode.RATE_LIMITED, str(error), self._now_ns())
        except NotSent as error:
            return rejected(order, RejectCode.UNAVAILABLE, str(error), self._now_ns())
        except ExchangeUnavailable as error:
            return submit_unknown(order, str(error), self._now_ns())
        return submit_reply(order, answer, self._now_ns())

    async def _cancel_some(self, order_ids: Sequence[ExchangeOrderId]) -> list[CancelReply]:
        try:
            answer = await self.rest.delete_orders(order_ids)
        except RateLimited as error:
            return cancels_throttled(order_ids, error.retry_after_s, self._now_ns())
        except NotSent:
            return cancels_throttled(order_ids, NOT_SENT_RETRY_S, self._now_ns())
        except ExchangeUnavailable as error:
            return cancels_unknown(order_ids, str(error), self._now_ns())
        return cancel_replies(order_ids, answer, self._now_ns())

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

    def _patience_ns(self) -> Nanos:
        return Nanos(self._now_ns() + int(self._settings.timeouts.patience_s * NANOS_PER_S))


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
        ExchangeUnavailable: Try again later.
    """
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
        # A batch above the burst could never pass, and one as large as it would wait for the last token.
        cancel_batch_max=max(1, int(limits.cancels_burst / 2)),
        dead_man_s=DEAD_MAN_S,
        buckets=(
            Bucket(name="orders", rate_per_s=limits.orders_per_s, burst=limits.orders_burst),
            Bucket(name="cancels", rate_per_s=limits.cancels_per_s, burst=limits.cancels_burst),
            Bucket(name="reads", rate_per_s=limits.reads_per_s, burst=limits.reads_burst),
        ),
        open_orders_max=max(1, int(limits.cancels_burst - limits.cancels_reserve)),
    )
