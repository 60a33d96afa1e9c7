"""The one interface behind which every exchange lives.

Decisions never see an exchange; tasks see only this protocol. Translation of library exceptions to the error tree
happens inside an implementation, once. What an exchange cannot do is said by `Capabilities`, asked before, never tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from tbot.core.market import Market, MarketId, TokenId
from tbot.core.messages import (
    AccountEvent,
    BookSnapshot,
    CancelReply,
    ClientOrderId,
    ExchangeOrderId,
    ExchangeReport,
    MarketEvent,
    OrderType,
    Role,
    SubmitOrder,
    SubmitReply,
)
from tbot.core.units import Nanos, Notional, Price, Size


class Bucket(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One token bucket of the exchange's rate limits.

    Attributes:
        name: "orders", "cancels" or "reads".
        rate_per_s: Refill.
        burst: Capacity; one request that costs more can never pass.
    """

    name: str
    rate_per_s: float
    burst: float


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What this exchange can do, asked before an order and never found out by trying.

    Attributes:
        order_types: Times in force it takes.
        has_post_only: Whether a resting order can be protected from taking.
        has_deltas: False for feeds that send only snapshots.
        has_positions_signed: True where a position may be negative; False for outcome tokens.
        cancel_batch_max: Most ids in one cancel request.
        order_life_s_min: Shortest life from now that an order with an end (GTD) may have; 0 = any.
        submit_batch_max: Most orders in one submit request; 1 = it knows no batches.
        dead_man_s: The exchange cancels our orders when `protect` was not called for this long; 0 = no such switch.
        buckets: Rate limits per second, weighted by orders.
        open_orders_max: Most orders we let rest, so that cancelling all of them is always affordable.
        session_tokens_max: Most tokens one market session serves reliably; 0 = any number.
    """

    order_types: frozenset[OrderType]
    has_post_only: bool
    has_deltas: bool
    has_positions_signed: bool
    cancel_batch_max: int
    dead_man_s: float
    buckets: tuple[Bucket, ...]
    open_orders_max: int
    session_tokens_max: int = 0
    submit_batch_max: int = 1
    order_life_s_min: float = 0.0


class PreparedOrder(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An order signed but not sent.

    Attributes:
        exchange_order_id: Known before sending; on Polymarket the hash of the signed order.
        body: The exact bytes to send; sending them twice can make at most one order.
        prepared_ns: Wall time of signing.
        deadline_ns: Not sent after this.
    """

    client_order_id: ClientOrderId
    exchange_order_id: ExchangeOrderId
    body: bytes
    prepared_ns: Nanos
    deadline_ns: Nanos


class MarketSession(Protocol):
    """One connection of the market channel, already subscribed; ends with the context that opened it."""

    async def receive(self) -> tuple[MarketEvent, ...]:
        """Wait for the next events, in order of arrival; () is a sign of life without data (a pong).

        Raises:
            Disconnected: The connection ended or its peer stopped answering.
            BadFrame: A frame could not be decoded; the session goes on. It names the tokens concerned if it can.
        """
        ...

    async def subscribe(self, token_ids: Sequence[TokenId]) -> None:
        """Follow more tokens on this session: their books are sent first. Others are not disturbed.

        Raises:
            Disconnected: The connection ended, or this exchange cannot do it: connect anew.
        """
        ...

    async def unsubscribe(self, token_ids: Sequence[TokenId]) -> None:
        """Follow tokens of this session no more; none of their events is given from now on.

        Raises:
            Disconnected: The connection ended, or this exchange cannot do it: connect anew.
        """
        ...

    async def resubscribe(self, token_ids: Sequence[TokenId]) -> None:
        """Subscribe anew to tokens of this session: their books are sent again. Others are not disturbed.

        Raises:
            Disconnected: The connection ended, or this exchange cannot do it: connect anew.
        """
        ...


class AccountSession(Protocol):
    """One connection of the account channel; no initial state is sent, so ask for a report after opening."""

    async def receive(self) -> tuple[AccountEvent, ...]:
        """Wait for the next events; () is a sign of life without data.

        Raises:
            Disconnected: The connection ended or its peer stopped answering.
            BadFrame: A frame could not be decoded; the session goes on.
        """
        ...


class Gateway(Protocol):
    """An exchange, seen from the bot."""

    @property
    def capabilities(self) -> Capabilities:
        """What this exchange can do."""
        ...

    async def load_markets(self) -> tuple[Market, ...]:
        """Read the configured markets.

        Raises:
            ExchangeUnavailable: Try again later.
            ConfigError: A configured market does not exist.
        """
        ...

    def remember(self, markets: Sequence[Market]) -> None:
        """Go on with markets that another gateway of this run loaded, instead of loading them.

        Fills and balances of them are told at once; each is read in full at its next `reread`.
        """
        ...

    async def reread(self, market_id: MarketId) -> Market:
        """Read the terms of a market anew: whether it takes orders, fee, smallest order, tick; or load one more.

        Raises:
            ExchangeUnavailable: Try again later.
            ConfigError: It does not exist, is of a kind or on a contract that we cannot trade, or names other tokens
                than before; what was known of it stays.
        """
        ...

    async def can_trade(self) -> str:
        """Return "" when this account may trade from here, else the reason in one sentence.

        Raises:
            ExchangeUnavailable: Try again later.
        """
        ...

    def tick_at(self, token_id: TokenId, price: Price) -> Price:
        """Return the tick in force at a price; exchanges with price bands have several."""
        ...

    def fee(self, token_id: TokenId, price: Price, size: Size, role: Role) -> Notional:
        """Return the fee of one fill in micro-dollars; negative would be a rebate."""
        ...

    def open_market(self, token_ids: Sequence[TokenId]) -> AbstractAsyncContextManager[MarketSession]:
        """Connect and subscribe; a snapshot of every book comes first.

        Raises:
            ExchangeUnavailable: On entry, when no connection could be made.
        """
        ...

    def open_account(self) -> AbstractAsyncContextManager[AccountSession]:
        """Connect to the account channel.

        Raises:
            ExchangeUnavailable: On entry, when no connection could be made.
            AuthenticationFailed: On entry, when the credentials are refused.
        """
        ...

    async def books(self, token_ids: Sequence[TokenId]) -> tuple[BookSnapshot, ...]:
        """Read whole books by request: the fallback and the canary of the feed.

        Raises:
            ExchangeUnavailable: Try again later.
        """
        ...

    def prepare(self, order: SubmitOrder, now_ns: Nanos) -> PreparedOrder:
        """Sign an order without sending it. Pure and fast (tens of microseconds).

        Raises:
            InvariantViolated: The order breaks a rule of the market that the plan should have kept.
        """
        ...

    async def submit(self, order: PreparedOrder) -> SubmitReply:
        """Send the prepared bytes, by their deadline if they have to wait. Every doubt is an `OutcomeUnknown`.

        Bytes sent before may be sent again: they make at most one order. Then a refusal proves nothing about the first
        ones, and the gateway need not know: whoever sends again takes it so.
        """
        ...

    async def submit_batch(self, orders: Sequence[PreparedOrder]) -> tuple[SubmitReply, ...]:
        """Send several prepared orders in one request, at most `submit_batch_max`; one reply an order, in order.

        Each order stands for itself: some may be accepted and others refused. Without a usable answer to the request
        every order of it is an `OutcomeUnknown`.
        """
        ...

    async def cancel(self, order_ids: Sequence[ExchangeOrderId]) -> tuple[CancelReply, ...]:
        """Cancel orders, one reply an id, in order; doubts and rate limits are values."""
        ...

    async def report(
        self, since_ns: Nanos, lookups: Sequence[ExchangeOrderId], balances_of: Sequence[TokenId] = ()
    ) -> ExchangeReport:
        """Read open orders, fills since a moment, balances, and the fate of single orders.

        Args:
            since_ns: Fills at or after this moment; the caller overlaps.
            lookups: Orders to ask for one by one.
            balances_of: Tokens whose balances go first; as many as is affordable are told, all of them sooner or later.

        Raises:
            ExchangeUnavailable: Nothing is known; try again later.
        """
        ...

    async def refresh_balance(self, asset: TokenId) -> None:
        """Make the exchange read a balance from the chain anew: the next report tells it as it is, not from a memory.

        Args:
            asset: A token, or `CASH` for the collateral.

        Raises:
            ExchangeUnavailable: It did not; try again later.
        """
        ...

    async def protect(self) -> None:
        """Tell the exchange's dead-man switch that we live; a no-op where `dead_man_s` is 0.

        Raises:
            ExchangeUnavailable: It was not told.
            AnotherSender: Somebody else tells it too, with the same credentials.
        """
        ...

    async def aclose(self) -> None:
        """Close what `open` opened. Never waits for the exchange longer than a second."""
        ...
