"""Paper trading behind the gateway protocol: public data of a real exchange, an account that exists only here.

It is made from a source of public data, which holds no key: nothing in here can sign or send an order. Public events
pass through on their way to the market feed, so that fills follow from the very prints and books the bot saw.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import msgspec
import trio

from tbot.core.market import CASH, Market, MarketId, TokenId
from tbot.core.messages import (
    AccountEvent,
    BookSnapshot,
    Canceled,
    CancelRefused,
    CancelReply,
    ExchangeOrderId,
    ExchangeReport,
    MarketEvent,
    OpenOrder,
    OrderLookup,
    OrderType,
    Role,
    SubmitOrder,
    SubmitReply,
)
from tbot.core.units import Nanos, Notional, Price, Size
from tbot.errors import BadFrame, Disconnected, InvariantViolated
from tbot.exchanges.gateway import Bucket, Capabilities, MarketSession, PreparedOrder
from tbot.exchanges.paper.exchange import EVENTS_MAX, PaperExchange
from tbot.exchanges.polymarket.amounts import amounts_of
from tbot.exchanges.polymarket.order_rules import ORDER_LIFE_S_MIN

PONG_S = 10.0
# The Standard tier, as for real: a bot tuned on paper must not find other limits live.
BUCKETS = (
    Bucket(name="orders", rate_per_s=40.0, burst=60.0),
    Bucket(name="cancels", rate_per_s=80.0, burst=120.0),
    Bucket(name="reads", rate_per_s=20.0, burst=60.0),
)
CAPABILITIES = Capabilities(
    order_types=frozenset(OrderType),
    has_post_only=True,
    has_deltas=True,
    has_positions_signed=False,
    cancel_batch_max=60,
    # Orders end with the process; there is nothing that could outlive it.
    dead_man_s=0.0,
    buckets=BUCKETS,
    open_orders_max=96,
    submit_batch_max=15,
    # As for real, so that settings found good on paper are good live.
    order_life_s_min=ORDER_LIFE_S_MIN,
)


class PublicData(Protocol):
    """What of an exchange can be had without an account (see `exchanges.gateway.Gateway` for each)."""

    async def load_markets(self) -> tuple[Market, ...]:
        """Read the configured markets."""
        ...

    def remember(self, markets: Sequence[Market]) -> None:
        """Go on with markets loaded before."""
        ...

    async def reread(self, market_id: MarketId) -> Market:
        """Read the terms of a market anew, or load one more."""
        ...

    async def can_trade(self) -> str:
        """Return "" when nothing speaks against trading from here, else the reason in one sentence."""
        ...

    def tick_at(self, token_id: TokenId, price: Price) -> Price:
        """Return the tick in force at a price."""
        ...

    def fee(self, token_id: TokenId, price: Price, size: Size, role: Role) -> Notional:
        """Return the fee of one fill in micro-dollars."""
        ...

    def open_market(self, token_ids: Sequence[TokenId]) -> AbstractAsyncContextManager[MarketSession]:
        """Connect and subscribe; a snapshot of every book comes first."""
        ...

    async def books(self, token_ids: Sequence[TokenId]) -> tuple[BookSnapshot, ...]:
        """Read whole books by request."""
        ...

    async def aclose(self) -> None:
        """Close what was opened."""
        ...


class WatchedSession:
    """A market session of the source whose events the paper exchange sees first.

    Attributes:
        tokens: Those it follows now.
    """

    def __init__(self, session: MarketSession, exchange: PaperExchange, tokens: Sequence[TokenId]) -> None:
        """Watch one session of these tokens."""
        self._session = session
        self._exchange = exchange
        self.tokens = dict.fromkeys(tokens)

    async def receive(self) -> tuple[MarketEvent, ...]:
        """Wait for the next events, in order of arrival.

        Raises:
            Disconnected: The connection ended.
            BadFrame: A frame could not be decoded; the session goes on.
        """
        try:
            events = await self._session.receive()
        except BadFrame as error:
            # It may have been an update of any of them.
            self._exchange.distrust(tuple(map(TokenId, error.token_ids)) or tuple(self.tokens))
            raise
        self._exchange.observe(events)
        return events

    async def subscribe(self, token_ids: Sequence[TokenId]) -> None:
        """Follow more tokens on this session.

        Raises:
            Disconnected: The connection ended.
        """
        self.tokens |= dict.fromkeys(token_ids)
        await self._session.subscribe(token_ids)

    async def unsubscribe(self, token_ids: Sequence[TokenId]) -> None:
        """Follow tokens no more; nothing fills in them without their prints.

        Raises:
            Disconnected: The connection ended.
        """
        self._exchange.distrust(token_ids)
        for token_id in token_ids:
            self.tokens.pop(token_id, None)
        await self._session.unsubscribe(token_ids)

    async def resubscribe(self, token_ids: Sequence[TokenId]) -> None:
        """Subscribe anew to tokens of this session.

        Raises:
            Disconnected: The connection ended.
        """
        await self._session.resubscribe(token_ids)


class PaperAccountSession:
    """Private events of the paper account."""

    def __init__(self) -> None:
        """Begin with nothing to tell."""
        self._waiting: deque[AccountEvent] = deque()
        self._wake = trio.Event()

    def tell(self, event: AccountEvent) -> None:
        """Take one event; it is read later."""
        self._waiting.append(event)
        self._wake.set()

    async def receive(self) -> tuple[AccountEvent, ...]:
        """Wait for the next events; () is a sign of life without data.

        Raises:
            Disconnected: The reader fell too far behind.
        """
        await trio.lowlevel.checkpoint()
        if not self._waiting:
            self._wake = trio.Event()
            with trio.move_on_after(PONG_S):
                await self._wake.wait()
        if len(self._waiting) > EVENTS_MAX:
            raise Disconnected(f"more than {EVENTS_MAX} events were left waiting")
        events = tuple(self._waiting)
        self._waiting.clear()
        return events


class PaperGateway:
    """A paper account on a real exchange's markets.

    Args:
        source: Public data; owned, closed with the gateway.
        exchange: Outlives the gateway; its `run` must be running.
        now_ns: Wall time.
        session_tokens_max: Most tokens one market session of the source serves; 0 = any number.
    """

    def __init__(
        self,
        source: PublicData,
        exchange: PaperExchange,
        *,
        now_ns: Callable[[], Nanos],
        session_tokens_max: int = 0,
    ) -> None:
        self._source = source
        self._exchange = exchange
        self._now_ns = now_ns
        self._encoder = msgspec.json.Encoder()
        self._decoder = msgspec.json.Decoder(SubmitOrder)
        self._latency_s = exchange.settings.latency_ms / 1000
        self._tokens: tuple[TokenId, ...] = ()
        self._sessions: list[WatchedSession] = []  # those that stand
        self._capabilities = msgspec.structs.replace(CAPABILITIES, session_tokens_max=session_tokens_max)

    @property
    def capabilities(self) -> Capabilities:
        """What a paper account can do."""
        return self._capabilities

    async def load_markets(self) -> tuple[Market, ...]:
        """Read the configured markets from the source.

        Raises:
            ExchangeUnavailable: Try again later.
            ConfigError: A configured market does not exist.
        """
        markets = await self._source.load_markets()
        self._list(markets)
        return markets

    def remember(self, markets: Sequence[Market]) -> None:
        """Go on with markets loaded before."""
        self._source.remember(markets)
        self._list(markets)

    async def reread(self, market_id: MarketId) -> Market:
        """Read the terms of a market anew, or load one more; the paper account trades under them from now on.

        Raises:
            ExchangeUnavailable: Try again later.
            ConfigError: It cannot be traded by us any more.
        """
        market = await self._source.reread(market_id)
        self._exchange.list_markets((market,))
        return market

    async def can_trade(self) -> str:
        """Return "" when the source's place and clock would allow trading, else the reason.

        Raises:
            ExchangeUnavailable: Try again later.
        """
        return await self._source.can_trade()

    def tick_at(self, token_id: TokenId, price: Price) -> Price:
        """Return the tick in force at a price."""
        return self._source.tick_at(token_id, price)

    def fee(self, token_id: TokenId, price: Price, size: Size, role: Role) -> Notional:
        """Return the fee of one fill in micro-dollars."""
        return self._source.fee(token_id, price, size, role)

    @asynccontextmanager
    async def open_market(self, token_ids: Sequence[TokenId]) -> AsyncIterator[WatchedSession]:
        """Connect and subscribe; a snapshot of every book comes first.

        Raises:
            ExchangeUnavailable: On entry, when no connection could be made.
        """
        async with self._source.open_market(token_ids) as session:
            watched = WatchedSession(session, self._exchange, token_ids)
            self._sessions.append(watched)
            try:
                yield watched
            finally:
                self._sessions.remove(watched)
                # Prints are missed from here on; the first snapshot of the next connection tells where the market went.
                self._exchange.distrust(tuple(watched.tokens))

    @asynccontextmanager
    async def open_account(self) -> AsyncIterator[PaperAccountSession]:
        """Listen to the paper account."""
        await trio.lowlevel.checkpoint()
        session = PaperAccountSession()
        with self._exchange.listening(session.tell):
            yield session

    async def books(self, token_ids: Sequence[TokenId]) -> tuple[BookSnapshot, ...]:
        """Read whole books by request.

        Raises:
            ExchangeUnavailable: Try again later.
        """
        books = await self._source.books(token_ids)
        # One that ends the doubt of the market feed ends ours; without a connection there are no prints to fill by.
        self._exchange.observe([book for book in books if any(book.token_id in each.tokens for each in self._sessions)])
        return books

    def prepare(self, order: SubmitOrder, now_ns: Nanos) -> PreparedOrder:
        """Name and encode an order without placing it. The same order prepared later is another one.

        What could be signed live can be prepared here: the tick in force may have changed since the plan, and is asked
        for when the order is placed.

        Raises:
            InvariantViolated: A price or size that no amounts express, or an order type we do not take.
        """
        if order.order_type not in CAPABILITIES.order_types:
            raise InvariantViolated(f"order type {order.order_type} is not offered (see capabilities)")
        if (order.order_type is OrderType.GTD) != bool(order.expires_ns):
            raise InvariantViolated(
                f"{order.client_order_id}: a {order.order_type} order that ends at {order.expires_ns}"
            )
        tick = self.tick_at(order.token_id, order.price)
        amounts_of(order_type=order.order_type, side=order.side, price=order.price, size=order.size, tick=tick)
        name = f"paper/{order.client_order_id}/{now_ns}"
        return PreparedOrder(
            client_order_id=order.client_order_id,
            exchange_order_id=ExchangeOrderId("0x" + hashlib.sha256(name.encode()).hexdigest()),
            body=self._encoder.encode(order),
            prepared_ns=now_ns,
            deadline_ns=order.deadline_ns,
        )

    async def submit(self, order: PreparedOrder) -> SubmitReply:
        """Place the order after a way's latency, and answer after another."""
        await trio.sleep(self._latency_s)
        reply = self._exchange.place(self._decoder.decode(order.body), order.exchange_order_id)
        await trio.sleep(self._latency_s)
        return reply

    async def submit_batch(self, orders: Sequence[PreparedOrder]) -> tuple[SubmitReply, ...]:
        """Place orders after a way's latency, one after the other, and answer all after another."""
        await trio.sleep(self._latency_s)
        replies = [self._exchange.place(self._decoder.decode(order.body), order.exchange_order_id) for order in orders]
        await trio.sleep(self._latency_s)
        return tuple(replies)

    async def cancel(self, order_ids: Sequence[ExchangeOrderId]) -> tuple[CancelReply, ...]:
        """Cancel orders after a way's latency; prints that arrive meanwhile fill them."""
        await trio.sleep(self._latency_s)
        refusals = [(order_id, self._exchange.cancel(order_id)) for order_id in order_ids]
        await trio.sleep(self._latency_s)
        at_ns = self._now_ns()
        return tuple(
            CancelRefused(exchange_order_id=order_id, reason=reason, at_ns=at_ns)
            if reason
            else Canceled(exchange_order_id=order_id, at_ns=at_ns)
            for order_id, reason in refusals
        )

    async def report(
        self, since_ns: Nanos, lookups: Sequence[ExchangeOrderId], balances_of: Sequence[TokenId] = ()
    ) -> ExchangeReport:
        """Read the paper account, all at one moment."""
        requested_ns = self._now_ns()
        await trio.sleep(self._latency_s)
        account = self._exchange.account
        report = ExchangeReport(
            requested_ns=requested_ns,
            received_ns=self._now_ns(),
            open_orders=tuple(
                OpenOrder(
                    exchange_order_id=order.exchange_order_id,
                    token_id=order.token_id,
                    side=order.side,
                    price=order.price,
                    size=order.size,
                    size_matched=Size(order.matched),
                )
                for order in account.open_orders()
            ),
            fills=account.fills(since_ns),
            lookups=tuple(self._lookup(order_id) for order_id in lookups),
            balances=tuple((token, Size(account.usable(token))) for token in self._tokens),
            cash=Notional(account.usable(CASH)),
        )
        await trio.sleep(self._latency_s)
        return report

    async def refresh_balance(self, asset: TokenId) -> None:
        """Nothing to read anew: the account is kept here and always tells its newest."""
        await trio.sleep(2 * self._latency_s)

    async def protect(self) -> None:
        """No dead-man switch: the orders end with the process."""
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Close the source."""
        await self._source.aclose()

    def _list(self, markets: Sequence[Market]) -> None:
        self._exchange.list_markets(markets)
        self._tokens = tuple(token for market in markets for token in market.tokens)

    def _lookup(self, order_id: ExchangeOrderId) -> OrderLookup:
        order = self._exchange.account.order(order_id)
        if order is None:
            return OrderLookup(exchange_order_id=order_id, state=None, size_matched=Size(0))
        return OrderLookup(exchange_order_id=order_id, state=order.state, size_matched=Size(order.matched))
