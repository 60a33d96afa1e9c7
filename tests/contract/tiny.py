"""The smallest exchange that is different: whole books only, signed positions, final trades, no dead-man switch.

It exists to keep the contract honest: whatever the suite asks must not be Polymarket in disguise.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

import msgspec
import trio

from tbot.core.market import FeeSchedule, Market, MarketId, TokenId
from tbot.core.messages import (
    Accepted,
    AccountEvent,
    BookSnapshot,
    Canceled,
    CancelRefused,
    CancelReply,
    ExchangeOrderId,
    ExchangeReport,
    Fill,
    Level,
    MarketEvent,
    OpenOrder,
    OrderLookup,
    OrderState,
    OrderType,
    OrderUpdate,
    OutcomeUnknown,
    RejectCode,
    Rejected,
    Role,
    Settlement,
    Side,
    SubmitOrder,
    SubmitReply,
    TradeId,
)
from tbot.core.units import MICRO, NANOS_PER_MS, Nanos, Notional, Price, Size, is_on_grid, notional_floor
from tbot.errors import Disconnected, InvariantViolated
from tbot.exchanges.gateway import Bucket, Capabilities, PreparedOrder
from tests.contract.stage import now_ns

PERPETUAL = TokenId("PERP")
FEE_MICRO = 500  # five basis points of the notional, for takers
LATENCY_S = 0.02
PONG_S = 10.0


class Resting(msgspec.Struct):
    """One order of the tiny exchange."""

    id: ExchangeOrderId
    is_ours: bool
    side: Side
    price: Price
    size: Size
    matched: int = 0
    state: OrderState = OrderState.LIVE


M = TypeVar("M")


class TinySession(Generic[M]):
    """Events as they come; a sign of life after ten quiet seconds."""

    def __init__(self, receiver: trio.MemoryReceiveChannel[M]) -> None:
        self._receiver = receiver

    async def receive(self) -> tuple[M, ...]:
        """Wait for one event."""
        with trio.move_on_after(PONG_S):
            try:
                return (await self._receiver.receive(),)
            except trio.EndOfChannel:
                raise Disconnected("the tiny exchange hung up") from None
        return ()

    async def subscribe(self, token_ids: Sequence[TokenId]) -> None:
        """There is only one way to get another book, or one again: connect."""
        await trio.lowlevel.checkpoint()
        raise Disconnected("connect anew")

    async def unsubscribe(self, token_ids: Sequence[TokenId]) -> None:
        """Likewise."""
        await self.subscribe(token_ids)

    async def resubscribe(self, token_ids: Sequence[TokenId]) -> None:
        """Likewise."""
        await self.subscribe(token_ids)


class TinyGateway:
    """Gateway and exchange in one: a list of orders."""

    def __init__(self) -> None:
        self.market = Market(
            market_id=MarketId("perp"),
            slug="perpetual",
            yes=PERPETUAL,
            no=TokenId("none"),
            tick=Price(10_000),
            fee=FeeSchedule(rate_micro=FEE_MICRO),
        )
        self.orders: dict[ExchangeOrderId, Resting] = {}
        self.fills: list[Fill] = []
        self.markets: list[trio.MemorySendChannel[MarketEvent]] = []
        self.accounts: list[trio.MemorySendChannel[AccountEvent]] = []
        self.clock_ms = 0
        self.capabilities = Capabilities(
            order_types=frozenset((OrderType.GTC, OrderType.FAK)),
            has_post_only=True,
            has_deltas=False,
            has_positions_signed=True,
            cancel_batch_max=1,
            dead_man_s=0.0,
            buckets=(Bucket(name="orders", rate_per_s=10.0, burst=10.0),),
            open_orders_max=10,
        )

    async def load_markets(self) -> tuple[Market, ...]:
        """Only one."""
        await trio.sleep(LATENCY_S)
        return (self.market,)

    def remember(self, markets: Sequence[Market]) -> None:
        """There is only one."""

    async def reread(self, market_id: MarketId) -> Market:
        """Nothing ever changes."""
        await trio.sleep(LATENCY_S)
        return self.market

    async def can_trade(self) -> str:
        """Always."""
        await trio.sleep(LATENCY_S)
        return ""

    def tick_at(self, token_id: TokenId, price: Price) -> Price:
        """Finer near zero: this exchange has price bands."""
        return Price(1_000) if price < 100_000 else self.market.tick

    def fee(self, token_id: TokenId, price: Price, size: Size, role: Role) -> Notional:
        """Basis points of the notional, rounded up."""
        return Notional(0 if role is Role.MAKER else math.ceil(price * size * FEE_MICRO / MICRO**2))

    @asynccontextmanager
    async def open_market(self, token_ids: Sequence[TokenId]) -> AsyncIterator[TinySession[MarketEvent]]:
        """Subscribe; the book comes first."""
        send, receive = trio.open_memory_channel[MarketEvent](100)
        self.markets.append(send)
        send.send_nowait(self.book())
        yield TinySession(receive)
        send.close()

    @asynccontextmanager
    async def open_account(self) -> AsyncIterator[TinySession[AccountEvent]]:
        """Subscribe."""
        send, receive = trio.open_memory_channel[AccountEvent](100)
        self.accounts.append(send)
        yield TinySession(receive)
        send.close()

    async def books(self, token_ids: Sequence[TokenId]) -> tuple[BookSnapshot, ...]:
        """The same snapshot by request."""
        await trio.sleep(LATENCY_S)
        return (self.book(),)

    def prepare(self, order: SubmitOrder, now_ns: Nanos) -> PreparedOrder:
        """Name it after its client order id and moment."""
        if order.order_type not in self.capabilities.order_types:
            raise InvariantViolated("no such order type here")
        if not is_on_grid(order.price, self.tick_at(order.token_id, order.price)):
            raise InvariantViolated("price off the grid")
        order_id = ExchangeOrderId(f"tiny-{order.client_order_id}-{now_ns}")
        return PreparedOrder(
            client_order_id=order.client_order_id,
            exchange_order_id=order_id,
            body=msgspec.json.encode(order),
            prepared_ns=now_ns,
            deadline_ns=order.deadline_ns,
        )

    async def submit(self, order: PreparedOrder) -> SubmitReply:
        """Match it against the list."""
        await trio.sleep(LATENCY_S)
        wanted = msgspec.json.decode(order.body, type=SubmitOrder)
        if order.exchange_order_id in self.orders:
            return OutcomeUnknown(
                exchange_order_id=order.exchange_order_id,
                was_cancel=False,
                reason="sent before",
                at_ns=now_ns(),
                code=RejectCode.DUPLICATE,
            )
        code = self._objection(wanted)
        if code is not None:
            return Rejected(client_order_id=order.client_order_id, code=code, reason=code, at_ns=now_ns())
        taken = self.place(
            order.exchange_order_id, wanted.side, wanted.price, wanted.size, wanted.order_type, ours=True
        )
        state = OrderState.MATCHED if taken.matched else OrderState.LIVE
        return Accepted(client_order_id=order.client_order_id, exchange_order_id=taken.id, state=state, at_ns=now_ns())

    async def submit_batch(self, orders: Sequence[PreparedOrder]) -> tuple[SubmitReply, ...]:
        """One order after the other."""
        return tuple([await self.submit(order) for order in orders])

    async def cancel(self, order_ids: Sequence[ExchangeOrderId]) -> tuple[CancelReply, ...]:
        """One id after the other."""
        await trio.sleep(LATENCY_S)
        return tuple(self._cancel(order_id) for order_id in order_ids)

    async def report(
        self, since_ns: Nanos, lookups: Sequence[ExchangeOrderId], balances_of: Sequence[TokenId] = ()
    ) -> ExchangeReport:
        """Everything at one moment; the position may be negative."""
        requested_ns = now_ns()
        await trio.sleep(LATENCY_S)
        ours = [o for o in self.orders.values() if o.is_ours and o.state is OrderState.LIVE]
        position = sum(f.size if f.side is Side.BUY else -f.size for f in self.fills)
        flow = sum(f.notional if f.side is Side.SELL else -f.notional for f in self.fills)
        return ExchangeReport(
            requested_ns=requested_ns,
            received_ns=now_ns(),
            open_orders=tuple(
                OpenOrder(
                    exchange_order_id=o.id,
                    token_id=PERPETUAL,
                    side=o.side,
                    price=o.price,
                    size=o.size,
                    size_matched=Size(o.matched),
                )
                for o in ours
            ),
            fills=tuple(f for f in self.fills if f.received_ns >= since_ns),
            lookups=tuple(self._lookup(order_id) for order_id in lookups),
            balances=((PERPETUAL, Size(position)),),
            cash=Notional(1_000 * MICRO + flow - sum(f.fee for f in self.fills)),
        )

    async def refresh_balance(self, asset: TokenId) -> None:
        """Nothing is remembered that could be old."""
        await trio.sleep(LATENCY_S)

    async def protect(self) -> None:
        """No such switch here."""
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Nothing to close."""
        await trio.lowlevel.checkpoint()

    # --- the exchange -----------------------------------------------------------------------------------------------

    def book(self) -> BookSnapshot:
        """Sum the list."""
        sides: dict[Side, dict[Price, int]] = {Side.BUY: {}, Side.SELL: {}}
        for o in self.orders.values():
            if o.state is OrderState.LIVE:
                sides[o.side][o.price] = sides[o.side].get(o.price, 0) + o.size - o.matched
        self.clock_ms = max(self.clock_ms + 1, now_ns() // NANOS_PER_MS)
        return BookSnapshot(
            token_id=PERPETUAL,
            bids=tuple(Level(price, Size(size)) for price, size in sides[Side.BUY].items()),
            asks=tuple(Level(price, Size(size)) for price, size in sides[Side.SELL].items()),
            exchange_ms=self.clock_ms,
            received_ns=now_ns(),
        )

    def place(
        self, order_id: ExchangeOrderId, side: Side, price: Price, size: Size, order_type: OrderType, *, ours: bool
    ) -> Resting:
        """Match and rest."""
        taker = Resting(order_id, ours, side, price, size)
        for maker in self._makers(side, price):
            fill = min(taker.size - taker.matched, maker.size - maker.matched)
            if fill:
                self._trade(taker, maker, Size(fill))
        if taker.matched == taker.size:
            taker.state = OrderState.MATCHED
        elif order_type is OrderType.FAK:
            taker.state = OrderState.CANCELED
        self.orders[order_id] = taker
        self._tell_order(taker)
        self._tell_book()
        return taker

    def hang_up(self) -> None:
        """Cut all connections."""
        for market in self.markets:
            market.close()
        for account in self.accounts:
            account.close()

    def _makers(self, side: Side, price: Price) -> list[Resting]:
        sign = 1 if side is Side.BUY else -1
        found = [o for o in self.orders.values() if o.state is OrderState.LIVE and o.side is side.opposite]
        return sorted((o for o in found if sign * o.price <= sign * price), key=lambda o: sign * o.price)

    def _objection(self, order: SubmitOrder) -> RejectCode | None:
        crosses = bool(self._makers(order.side, order.price))
        if order.is_post_only and crosses:
            return RejectCode.POST_ONLY_WOULD_CROSS
        return RejectCode.NOT_FILLED if order.order_type is OrderType.FAK and not crosses else None

    def _trade(self, taker: Resting, maker: Resting, size: Size) -> None:
        trade_id = TradeId(f"t{len(self.fills)}")
        for order, role in ((taker, Role.TAKER), (maker, Role.MAKER)):
            order.matched += size
            if order.matched == order.size:
                order.state = OrderState.MATCHED
            if order.is_ours:
                self._tell_fill(order, role, maker.price, size, trade_id)
        self._tell_order(maker)

    def _tell_fill(self, order: Resting, role: Role, price: Price, size: Size, trade_id: TradeId) -> None:
        fill = Fill(
            trade_id=trade_id,
            exchange_order_id=order.id,
            token_id=PERPETUAL,
            side=order.side,
            size=size,
            notional=notional_floor(price, size),
            fee=self.fee(PERPETUAL, price, size, role),
            role=role,
            settlement=Settlement.CONFIRMED,
            exchange_ms=self.clock_ms,
            received_ns=now_ns(),
        )
        self.fills.append(fill)
        for account in self.accounts:
            account.send_nowait(fill)

    def _tell_order(self, order: Resting) -> None:
        for account in self.accounts if order.is_ours else ():
            account.send_nowait(
                OrderUpdate(
                    exchange_order_id=order.id,
                    token_id=PERPETUAL,
                    state=order.state,
                    size_matched=Size(order.matched),
                    as_of_ns=now_ns(),
                )
            )

    def _tell_book(self) -> None:
        for market in self.markets:
            market.send_nowait(self.book())

    def _cancel(self, order_id: ExchangeOrderId) -> CancelReply:
        order = self.orders.get(order_id)
        if order is None or order.state is not OrderState.LIVE:
            return CancelRefused(exchange_order_id=order_id, reason="not open", at_ns=now_ns())
        order.state = OrderState.CANCELED
        self._tell_order(order)
        self._tell_book()
        return Canceled(exchange_order_id=order_id, at_ns=now_ns())

    def _lookup(self, order_id: ExchangeOrderId) -> OrderLookup:
        order = self.orders.get(order_id)
        if order is None:
            return OrderLookup(exchange_order_id=order_id, state=None, size_matched=Size(0))
        return OrderLookup(exchange_order_id=order_id, state=order.state, size_matched=Size(order.matched))


class TinyStage:
    """The tiny exchange and its other trader."""

    def __init__(self) -> None:
        self.gateway = TinyGateway()
        self.market = self.gateway.market

    async def other_rests(self, token_id: TokenId, side: Side, price: Price, size: Size) -> None:
        """Place at once."""
        self._place(side, price, size, OrderType.GTC)
        await trio.lowlevel.checkpoint()

    async def other_takes(self, token_id: TokenId, side: Side, price: Price, size: Size) -> None:
        """Take at once."""
        self._place(side, price, size, OrderType.FAK)
        await trio.lowlevel.checkpoint()

    async def cut_connections(self) -> None:
        """Hang up."""
        self.gateway.hang_up()
        await trio.lowlevel.checkpoint()

    def _place(self, side: Side, price: Price, size: Size, order_type: OrderType) -> None:
        order_id = ExchangeOrderId(f"other-{len(self.gateway.orders)}")
        self.gateway.place(order_id, side, price, size, order_type, ours=False)
