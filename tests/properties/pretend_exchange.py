"""A tiny exchange that tells the truth late, twice, out of order or not at all: the coordinator's opponent.

It keeps its own account of what is true, and shares nothing with the bot but messages. Every method is one thing that
can happen; what the bot hears of it waits in `replies` and `pushes` until a test delivers it, or drops it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tbot.core.market import TokenId
from tbot.core.messages import (
    Accepted,
    AccountEvent,
    Canceled,
    CancelOrder,
    CancelRefused,
    DispatcherFact,
    ExchangeOrderId,
    ExchangeReport,
    Fill,
    OpenOrder,
    OrderLookup,
    OrderState,
    OrderType,
    OrderUpdate,
    OutcomeUnknown,
    RejectCode,
    Rejected,
    ResendOrder,
    Role,
    Settlement,
    Side,
    SubmitOrder,
    Throttled,
    TradeId,
    TradeStatus,
)
from tbot.core.units import MICRO, NANOS_PER_MS, Nanos, Notional, Price, Size, notional_ceil
from tests.core.coordinators import eid

TRADES_OVERLAP_NS = 60 * 10**9
LANDS_WITHIN_NS = 50 * 10**9


@dataclass
class TrueOrder:
    """An order as it really is: under way, open, or over."""

    command: SubmitOrder
    signed_ns: Nanos
    state: OrderState | None = None  # None = the request is still under way
    matched: int = 0

    @property
    def remaining(self) -> int:
        """Micro-shares that can still trade."""
        return self.command.size - self.matched if self.state in (None, OrderState.LIVE) else 0


@dataclass
class TrueTrade:
    """One fill and how far it settled."""

    fill: Fill
    settlement: Settlement = Settlement.MATCHED

    def told(self, now_ns: Nanos) -> Fill:
        """Say it with its settlement as it stands."""
        f = self.fill
        return Fill(
            trade_id=f.trade_id, exchange_order_id=f.exchange_order_id, token_id=f.token_id, side=f.side, size=f.size,
            notional=f.notional, fee=f.fee, role=f.role, settlement=self.settlement, exchange_ms=f.exchange_ms,
            received_ns=now_ns,
        )  # fmt: skip


@dataclass
class PretendExchange:
    """The truth, and what has not been told yet."""

    cash_start: int
    orders: dict[ExchangeOrderId, TrueOrder] = field(default_factory=dict)
    trades: list[TrueTrade] = field(default_factory=list)
    replies: list[DispatcherFact] = field(default_factory=list)
    pushes: list[AccountEvent] = field(default_factory=list)
    lost: dict[ExchangeOrderId, SubmitOrder] = field(default_factory=dict)

    # Orders.

    def send(self, command: SubmitOrder, now_ns: Nanos) -> None:
        """A signed order leaves; it lands with `land`, or never."""
        self.orders[eid(command)] = TrueOrder(command, now_ns)

    def under_way(self) -> list[TrueOrder]:
        """List requests that have neither landed nor been lost."""
        return [o for o in self.orders.values() if o.state is None]

    def open(self) -> list[TrueOrder]:
        """List orders on the book."""
        return [o for o in self.orders.values() if o.state is OrderState.LIVE]

    def land(self, order: TrueOrder, now_ns: Nanos, *, is_reply_lost: bool) -> None:
        """The request arrives. An immediate order finds buyers for half of it, and the rest is gone."""
        order.state = OrderState.LIVE
        if order.command.order_type is OrderType.FAK:
            self.match(order, order.command.size // 20_000 * 10_000, now_ns)
            order.state = OrderState.MATCHED
            self._push_order(order, now_ns)
        self._reply(order.command, order.state, now_ns, is_reply_lost=is_reply_lost)

    def lose(self, order: TrueOrder, now_ns: Nanos, *, is_refused: bool) -> None:
        """The request never becomes an order: refused with an answer, or lost without one."""
        self.lost[eid(order.command)] = self.orders.pop(eid(order.command)).command
        if is_refused:
            code, cid = RejectCode.OTHER, order.command.client_order_id
            self.replies.append(Rejected(client_order_id=cid, code=code, reason="no", at_ns=now_ns))
        else:
            self.doubt(order, now_ns)

    def copy(self, command: ResendOrder, now_ns: Nanos, *, outcome: str) -> None:
        """The same bytes arrive once more, told or "silent", be they the first to land or not; or they are "lost"."""
        order_id = command.exchange_order_id
        order = self.orders.get(order_id)
        if order is None and outcome != "lost":
            order = self.orders[order_id] = TrueOrder(self.lost[order_id], now_ns)
        if order is not None and order.state is None and outcome != "lost":
            self.land(order, now_ns, is_reply_lost=outcome == "silent")
            return
        is_told = order is not None and outcome == "answered"
        self.replies.append(
            OutcomeUnknown(
                exchange_order_id=order_id,
                was_cancel=False,
                reason="a copy",
                at_ns=now_ns,
                code=RejectCode.DUPLICATE if is_told else None,
            )
        )

    def doubt(self, order: TrueOrder, now_ns: Nanos, *, was_cancel: bool = False) -> None:
        """The caller waited long enough."""
        self.replies.append(
            OutcomeUnknown(exchange_order_id=eid(order.command), was_cancel=was_cancel, reason="timeout", at_ns=now_ns)
        )

    def cancel(self, command: CancelOrder, now_ns: Nanos, *, outcome: str) -> None:
        """A cancel arrives ("answered", "silent"), is held back ("throttled"), or is lost ("lost")."""
        order_id = command.exchange_order_id
        order = self.orders.get(order_id)
        if outcome == "throttled":
            self.replies.append(Throttled(exchange_order_id=order_id, retry_after_s=1.5, at_ns=now_ns))
            return
        is_open = order is not None and order.state is OrderState.LIVE
        if order is not None and is_open and outcome != "lost":
            order.state = OrderState.CANCELED
            self._push_order(order, now_ns)
        if outcome != "answered":
            unknown = OutcomeUnknown(exchange_order_id=order_id, was_cancel=True, reason="timeout", at_ns=now_ns)
            self.replies.append(unknown)
        elif is_open:
            self.replies.append(Canceled(exchange_order_id=order_id, at_ns=now_ns))
        else:
            self.replies.append(CancelRefused(exchange_order_id=order_id, reason="not found", at_ns=now_ns))

    def match(self, order: TrueOrder, size: int, now_ns: Nanos) -> None:
        """Somebody trades with an order; takers get a cent of improvement."""
        command, is_maker = order.command, order.command.order_type is OrderType.GTC
        price = command.price if is_maker else command.price + (10_000 if command.side is Side.SELL else -10_000)
        order.matched += size
        fill = Fill(
            trade_id=TradeId(f"t{len(self.trades)}"),
            exchange_order_id=eid(command),
            token_id=command.token_id,
            side=command.side,
            size=Size(size),
            notional=Notional(price * size // MICRO),
            fee=Notional(0 if is_maker else 1_000),
            role=Role.MAKER if is_maker else Role.TAKER,
            settlement=Settlement.MATCHED,
            exchange_ms=now_ns // NANOS_PER_MS,
            received_ns=now_ns,
        )
        self.trades.append(TrueTrade(fill))
        self.pushes.append(fill)
        if order.remaining == 0:
            order.state = OrderState.MATCHED
        self._push_order(order, now_ns)

    def settle(self, trade: TrueTrade, settlement: Settlement, now_ns: Nanos, *, is_repeat: bool) -> None:
        """A trade goes on; told by its status alone, or by the whole fill again."""
        trade.settlement = settlement
        status = TradeStatus(trade_id=trade.fill.trade_id, settlement=settlement, received_ns=now_ns)
        self.pushes.append(trade.told(now_ns) if is_repeat else status)

    # Reading.

    def listing(self) -> tuple[OpenOrder, ...]:
        """Answer which orders are open."""
        return tuple(
            OpenOrder(
                exchange_order_id=eid(o.command), token_id=o.command.token_id, side=o.command.side,
                price=o.command.price, size=o.command.size, size_matched=Size(o.matched),
            )
            for o in self.open()
        )  # fmt: skip

    def report(
        self,
        listing: tuple[OpenOrder, ...],
        lookups: tuple[ExchangeOrderId, ...],
        *,
        requested_ns: Nanos,
        since_ns: int,
        tokens: tuple[TokenId, ...],
        now_ns: Nanos,
    ) -> ExchangeReport:
        """Read everything else now; `listing` was read when the report was asked for."""
        settled = [t for t in self.trades if t.fill.exchange_ms * NANOS_PER_MS >= since_ns - TRADES_OVERLAP_NS]
        return ExchangeReport(
            requested_ns=requested_ns,
            received_ns=now_ns,
            open_orders=listing,
            fills=tuple(t.told(now_ns) for t in settled),
            lookups=tuple(self._look_up(order_id) for order_id in lookups),
            balances=tuple((token, Size(self.available(token))) for token in tokens),
            cash=Notional(self.cash(is_settled=True)),
        )

    def cash(self, *, is_settled: bool) -> int:
        """Count the collateral, with or without what is still coming in."""
        total = self.cash_start
        for trade in self._standing():
            fill = trade.fill
            total -= fill.fee
            if fill.side is Side.BUY:
                total -= fill.notional
            elif not (is_settled and _is_pending(trade)):
                total += fill.notional
        return total

    def owned(self, token: TokenId) -> int:
        """Count the shares of a token."""
        fills = [t.fill for t in self._standing() if t.fill.token_id == token]
        return sum(f.size if f.side is Side.BUY else -f.size for f in fills)

    def available(self, token: TokenId) -> int:
        """Count the shares that could be sold: on chain already."""
        pending = [t.fill for t in self._standing() if _is_pending(t) and t.fill.token_id == token]
        return self.owned(token) - sum(f.size for f in pending if f.side is Side.BUY)

    def sells_open(self, token: TokenId) -> int:
        """Count the shares promised to open sells."""
        orders = [o for o in self.orders.values() if o.command.token_id == token and o.command.side is Side.SELL]
        return sum(o.remaining for o in orders)

    def untold(self, order: TrueOrder, known: dict[tuple[TradeId, ExchangeOrderId], bool]) -> tuple[int, int]:
        """Say how many shares, and for how much, traded or may trade beyond the fills in `known`."""
        key = eid(order.command)
        fills = [t.fill for t in self._standing() if t.fill.exchange_order_id == key]
        fills = [f for f in fills if (f.trade_id, key) not in known]
        rest = notional_ceil(Price(order.command.price), Size(order.remaining))
        return order.remaining + sum(f.size for f in fills), rest + sum(f.notional for f in fills)

    def _standing(self) -> list[TrueTrade]:
        return [t for t in self.trades if t.settlement is not Settlement.FAILED]

    def _look_up(self, order_id: ExchangeOrderId) -> OrderLookup:
        order = self.orders.get(order_id)
        if order is None or order.state is None:
            return OrderLookup(exchange_order_id=order_id, state=None, size_matched=Size(0))
        return OrderLookup(exchange_order_id=order_id, state=order.state, size_matched=Size(order.matched))

    def _reply(self, command: SubmitOrder, state: OrderState, now_ns: Nanos, *, is_reply_lost: bool) -> None:
        if is_reply_lost:
            self.doubt(self.orders[eid(command)], now_ns)
            return
        cid, order_id = command.client_order_id, eid(command)
        self.replies.append(Accepted(client_order_id=cid, exchange_order_id=order_id, state=state, at_ns=now_ns))

    def _push_order(self, order: TrueOrder, now_ns: Nanos) -> None:
        assert order.state is not None
        self.pushes.append(
            OrderUpdate(
                exchange_order_id=eid(order.command),
                token_id=order.command.token_id,
                state=order.state,
                size_matched=Size(order.matched),
                as_of_ns=now_ns,
            )
        )


def _is_pending(trade: TrueTrade) -> bool:
    return trade.settlement in (Settlement.MATCHED, Settlement.RETRYING)
