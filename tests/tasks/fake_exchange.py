"""An exchange of one market for the tests of the feeds: its books, its connections, and every way they can fail."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

import trio

from tbot.core.market import Market, MarketId, TokenId
from tbot.core.messages import (
    AccountEvent,
    BookDelta,
    BookSnapshot,
    CancelReply,
    ExchangeOrderId,
    ExchangeReport,
    Level,
    MarketEvent,
    Role,
    Side,
    SubmitOrder,
    SubmitReply,
)
from tbot.core.units import MICRO, Nanos, Notional, Price, Size, complement
from tbot.errors import ExchangeUnavailable
from tbot.exchanges.gateway import Capabilities, PreparedOrder

EPOCH = Nanos(1_767_225_600_000_000_000)
CENT = Price(10_000)
YES, NO = TokenId("yes"), TokenId("no")
MARKET = Market(market_id=MarketId("m"), slug="rain-tomorrow", yes=YES, no=NO, tick=CENT)
PONG_S = 10.0
WAY_S = 0.05

Event = TypeVar("Event")


def now_ns() -> Nanos:
    return Nanos(EPOCH + round(trio.current_time() * 1e9))


def cents(value: int) -> Price:
    return Price(value * CENT)


def shares(value: int) -> Size:
    return Size(value * MICRO)


class FakeSession(Generic[Event]):
    """A connection: what the test pushes, errors included, and a pong when nothing is pushed."""

    def __init__(self, again: Callable[[Sequence[TokenId]], tuple[Event, ...]] = lambda _: ()) -> None:
        self.subscribed: list[tuple[TokenId, ...]] = []
        self.unsubscribed: list[tuple[TokenId, ...]] = []
        self.resubscribed: list[tuple[TokenId, ...]] = []
        self._again = again
        self.push, self._arrived = trio.open_memory_channel[tuple[Event, ...] | Exception](1000)
        self.is_dead = False  # neither data nor pongs, and the connection does not end

    async def receive(self) -> tuple[Event, ...]:
        while True:
            with trio.move_on_after(PONG_S):
                events = await self._arrived.receive()
                if isinstance(events, Exception):
                    raise events
                return events
            if not self.is_dead:
                return ()

    async def subscribe(self, token_ids: Sequence[TokenId]) -> None:
        await trio.sleep(WAY_S)
        self.subscribed.append(tuple(token_ids))
        if books := self._again(token_ids):
            self.push.send_nowait(books)

    async def unsubscribe(self, token_ids: Sequence[TokenId]) -> None:
        await trio.sleep(WAY_S)
        self.unsubscribed.append(tuple(token_ids))

    async def resubscribe(self, token_ids: Sequence[TokenId]) -> None:
        await trio.sleep(WAY_S)
        self.resubscribed.append(tuple(token_ids))
        if books := self._again(token_ids):
            self.push.send_nowait(books)


class FakeExchange:
    """One market with mirrored books; a `Gateway` whose orders are never used."""

    def __init__(self, *, dead_man_s: float = 10.0) -> None:
        self.bids = {cents(40): shares(100)}
        self.asks = {cents(60): shares(100)}
        self.ms = 1_000
        self.pushed_at = 0.0  # Trio time of the last data told
        self.connects: list[float] = []
        self.refusals: list[Exception | None] = []  # of the next attempts to connect; None = let it through
        self.books_error: Exception | None = None
        self.book_reads = 0
        self.terms = MARKET
        self.terms_reads: list[float] = []  # Trio time of each
        self.terms_errors: list[Exception | None] = []  # of the next readings; None = let it through
        self.is_deaf = False  # subscribing anew brings no book
        self.protects: list[float] = []
        self.protect_errors: list[Exception | None] = []
        self.session: FakeSession[MarketEvent] = FakeSession()
        self.account: FakeSession[AccountEvent] = FakeSession()
        self._capabilities = Capabilities(
            order_types=frozenset(),
            has_post_only=True,
            has_deltas=True,
            has_positions_signed=False,
            cancel_batch_max=10,
            dead_man_s=dead_man_s,
            buckets=(),
            open_orders_max=10,
        )

    def change(self, side: Side, price: Price, size: Size, *, is_pushed: bool = True) -> None:
        """Change a level of YES, and so of NO; tell it or, as a frozen feed does, not."""
        self.ms += 1
        levels = self.bids if side is Side.BUY else self.asks
        levels.pop(price, None)
        if size:
            levels[price] = size
        if is_pushed:
            self.push(*self.deltas(side, price, size))

    def deltas(self, side: Side, price: Price, size: Size) -> tuple[BookDelta, BookDelta]:
        """Tell one change of YES for both tokens."""
        return (
            BookDelta(token_id=YES, side=side, price=price, size=size, exchange_ms=self.ms, received_ns=now_ns()),
            BookDelta(
                token_id=NO,
                side=side.opposite,
                price=complement(price),
                size=size,
                exchange_ms=self.ms,
                received_ns=now_ns(),
            ),
        )

    def push(self, *events: MarketEvent) -> None:
        self.pushed_at = trio.current_time()
        self.session.push.send_nowait(events)

    def fail(self, error: Exception) -> None:
        """Let the market session raise."""
        self.session.push.send_nowait(error)

    def snapshot(self, token_id: TokenId) -> BookSnapshot:
        bids, asks = self.bids, self.asks
        if token_id == NO:
            bids, asks = ({complement(price): size for price, size in side.items()} for side in (asks, bids))
        return BookSnapshot(
            token_id=token_id,
            bids=tuple(Level(price, size) for price, size in bids.items()),
            asks=tuple(Level(price, size) for price, size in asks.items()),
            exchange_ms=self.ms,
            received_ns=now_ns(),
        )

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    def _again(self, token_ids: Sequence[TokenId]) -> tuple[MarketEvent, ...]:
        return () if self.is_deaf else tuple(self.snapshot(token_id) for token_id in token_ids)

    async def _connect(self) -> None:
        self.connects.append(trio.current_time())
        await trio.sleep(WAY_S)
        if self.refusals and (error := self.refusals.pop(0)) is not None:
            raise error

    @asynccontextmanager
    async def open_market(self, token_ids: Sequence[TokenId]) -> AsyncIterator[FakeSession[MarketEvent]]:
        await self._connect()
        self.session = FakeSession(self._again)
        self.push(*(self.snapshot(token_id) for token_id in token_ids))
        yield self.session

    @asynccontextmanager
    async def open_account(self) -> AsyncIterator[FakeSession[AccountEvent]]:
        await self._connect()
        self.account = FakeSession()
        yield self.account

    async def books(self, token_ids: Sequence[TokenId]) -> tuple[BookSnapshot, ...]:
        self.book_reads += 1
        await trio.sleep(WAY_S)
        if self.books_error is not None:
            raise self.books_error
        snapshots = tuple(self.snapshot(token_id) for token_id in token_ids)
        await trio.sleep(WAY_S)
        return snapshots

    async def refresh_balance(self, asset: TokenId) -> None:
        await trio.sleep(WAY_S)

    async def protect(self) -> None:
        await trio.sleep(WAY_S)
        if self.protect_errors and (error := self.protect_errors.pop(0)) is not None:
            raise error
        self.protects.append(trio.current_time())

    async def load_markets(self) -> tuple[Market, ...]:
        return (MARKET,)

    def remember(self, markets: Sequence[Market]) -> None:
        assert markets == (MARKET,)

    async def reread(self, market_id: MarketId) -> Market:
        self.terms_reads.append(trio.current_time())
        await trio.sleep(WAY_S)
        if self.terms_errors and (error := self.terms_errors.pop(0)) is not None:
            raise error
        return self.terms

    async def can_trade(self) -> str:
        return ""

    def tick_at(self, token_id: TokenId, price: Price) -> Price:
        return CENT

    def fee(self, token_id: TokenId, price: Price, size: Size, role: Role) -> Notional:
        return Notional(0)

    def prepare(self, order: SubmitOrder, now_ns: Nanos) -> PreparedOrder:
        raise AssertionError("a feed sends no orders")

    async def submit(self, order: PreparedOrder) -> SubmitReply:
        raise AssertionError("a feed sends no orders")

    async def submit_batch(self, orders: Sequence[PreparedOrder]) -> tuple[SubmitReply, ...]:
        return tuple([await self.submit(order) for order in orders])

    async def cancel(self, order_ids: Sequence[ExchangeOrderId]) -> tuple[CancelReply, ...]:
        raise AssertionError("a feed cancels no orders")

    async def report(
        self, since_ns: Nanos, lookups: Sequence[ExchangeOrderId], balances_of: Sequence[TokenId] = ()
    ) -> ExchangeReport:
        raise ExchangeUnavailable("no reports here")

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
