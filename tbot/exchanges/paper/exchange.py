"""The paper exchange: public events and our orders in, replies and private events out.

It outlives the gateways in front of it, as a real exchange outlives our connections; a crash of the desk finds its
orders where they were. A crash of the process does not: nobody watched the queue meanwhile, so whatever rested is ended
at the next start, as the dead-man switch would have done. All calls are synchronous; only `run` waits.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import trio

from tbot.core.market import Market, TokenId, fee_taker_floor
from tbot.core.messages import (
    Accepted,
    AccountEvent,
    ExchangeOrderId,
    Fill,
    Gap,
    Level,
    MarketEvent,
    MarketNews,
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
    TradeStatus,
)
from tbot.core.orders import IMMEDIATE
from tbot.core.units import (
    MICRO,
    NANOS_PER_MS,
    NANOS_PER_S,
    Nanos,
    Notional,
    Price,
    Size,
    complement,
    is_on_grid,
    notional_ceil,
    notional_floor,
)
from tbot.errors import BadFrame, ConfigError
from tbot.exchanges.paper.account import AccountOpened, Entry, OrderEnded, OrderTaken, PaperAccount, TradeSettled
from tbot.exchanges.paper.queue import Hit, PaperMarket
from tbot.exchanges.paper.settings import PaperSettings

CENT = 10_000
"""Budgets of FAK/FOK BUY orders have two decimals, as on the exchange."""

# Events one session may leave waiting; a reader that far behind is wedged, and a report brings it up to date.
EVENTS_MAX = 4_096

Listener = Callable[[AccountEvent], None]


class PaperExchange:
    """One paper account and the markets it trades in.

    Args:
        settings: Cash, latency, settlement.
        now_ns: Wall time; must advance with Trio's clock.
        entries: What an earlier process wrote, oldest first.
        on_entry: Told every new entry before it takes effect; an append-only file of these is a full backup.
    """

    def __init__(
        self,
        settings: PaperSettings,
        *,
        now_ns: Callable[[], Nanos],
        entries: Iterable[Entry] = (),
        on_entry: Callable[[Entry], None] = lambda _: None,
    ) -> None:
        self.settings = settings
        self.account = PaperAccount(entries)
        self.bad_events = 0
        self._now_ns = now_ns
        self._on_entry = on_entry
        self._markets: dict[TokenId, PaperMarket] = {}
        self._listeners: dict[int, Listener] = {}
        self._listener_count = 0
        self._due: list[tuple[Nanos, TradeId]] = []
        self._ends: list[tuple[Nanos, ExchangeOrderId]] = []
        self._wake = trio.Event()
        self._resume()

    # --- markets ----------------------------------------------------------------------------------------------------

    def list_markets(self, markets: Sequence[Market]) -> None:
        """Trade in these markets; those known already go on under these terms, with what waits in them.

        Orders in a market that is closed end, as they do on the exchange.
        """
        for market in markets:
            if market.yes not in self._markets:
                lag_ns = int(self.settings.print_lag_ms * NANOS_PER_MS)
                self._markets |= dict.fromkeys(market.tokens, PaperMarket(market, print_lag_ns=lag_ns))
            self._market(market.yes).relist(market)
            if market.is_closed:
                for order in self.account.open_orders():
                    if order.token_id in market.tokens:
                        self._end(order.exchange_order_id, "the market is closed")

    def observe(self, events: Sequence[MarketEvent]) -> None:
        """Take public events in order of arrival. One that no book can take is counted; its book is stale then."""
        for event in events:
            for market in self._concerned(event):
                try:
                    hits = market.observe(event)
                except BadFrame:
                    self.bad_events += 1
                    continue
                for hit in hits:
                    self._fill_maker(hit, event.received_ns)

    def distrust(self, token_ids: Sequence[TokenId]) -> None:
        """A connection ended: trade nothing in these markets before the next snapshot."""
        for token_id in token_ids:
            self._market(token_id).distrust()

    # --- orders -----------------------------------------------------------------------------------------------------

    def place(self, order: SubmitOrder, order_id: ExchangeOrderId) -> SubmitReply:
        """Take or refuse one order; its fills are told to the listeners before this returns."""
        now_ns = self._now_ns()
        if self.account.order(order_id) is not None:
            return OutcomeUnknown(
                exchange_order_id=order_id,
                was_cancel=False,
                reason="the same order arrived before",
                at_ns=now_ns,
                code=RejectCode.DUPLICATE,
            )
        market = self._market(order.token_id)
        matches = tuple(self._matches(order, market))
        objection = self._objection(order, market, matches)
        if objection is not None:
            return Rejected(client_order_id=order.client_order_id, code=objection, reason=objection, at_ns=now_ns)
        self._write(_taken(order, order_id, now_ns))
        for level in matches:
            self._fill_taker(order, order_id, market, level)
        state = self._settle_down(order, order_id, market)
        return Accepted(
            client_order_id=order.client_order_id, exchange_order_id=order_id, state=state, at_ns=self._now_ns()
        )

    def cancel(self, order_id: ExchangeOrderId) -> str:
        """Cancel one order; "" = done, else why not."""
        order = self.account.order(order_id)
        if order is None or order.state is not OrderState.LIVE:
            return "order can't be found - already canceled or matched"
        self._end(order_id, "canceled by its owner")
        return ""

    # --- listening --------------------------------------------------------------------------------------------------

    @contextmanager
    def listening(self, listener: Listener) -> Iterator[None]:
        """Tell a listener every private event from now on."""
        self._listener_count += 1
        key = self._listener_count
        self._listeners[key] = listener
        try:
            yield
        finally:
            del self._listeners[key]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Settle trades and end orders when their time comes. Never returns."""
        task_status.started()
        while True:
            self._wake = trio.Event()
            self._settle_due()
            self._end_due()
            moments = [line[0][0] for line in (self._due, self._ends) if line]
            wait_s = (min(moments) - self._now_ns()) / NANOS_PER_S if moments else math.inf
            with trio.move_on_after(max(wait_s, 0.0)):
                await self._wake.wait()

    # --- private ----------------------------------------------------------------------------------------------------

    def _resume(self) -> None:
        now_ns = self._now_ns()
        if not self.account.is_opened:
            self._write(AccountOpened(cash=self.settings.cash, at_ns=now_ns))
        for order in self.account.open_orders():
            reason = "the process ended while it rested"
            self._write(OrderEnded(exchange_order_id=order.exchange_order_id, reason=reason, at_ns=now_ns))
        for fill in self.account.unsettled():
            self._plan_settlement(fill.trade_id)

    def _concerned(self, event: MarketEvent) -> tuple[PaperMarket, ...]:
        if isinstance(event, MarketNews):
            return ()
        token_ids = (event.token_ids or tuple(self._markets)) if isinstance(event, Gap) else (event.token_id,)
        found = {m.market.market_id: m for t in token_ids if (m := self._markets.get(t)) is not None}
        return tuple(found.values())

    def _market(self, token_id: TokenId) -> PaperMarket:
        market = self._markets.get(token_id)
        if market is None:
            raise ConfigError(f"token {token_id[:80]} belongs to no market listed here; correct the settings")
        return market

    def _write(self, entry: Entry) -> None:
        self._on_entry(entry)
        self.account.book(entry)

    def _tell(self, event: AccountEvent) -> None:
        for listener in tuple(self._listeners.values()):
            listener(event)

    # --- judging an order -------------------------------------------------------------------------------------------

    def _objection(self, order: SubmitOrder, market: PaperMarket, matches: tuple[Level, ...]) -> RejectCode | None:
        rules = market.market
        taken = _taken(order, ExchangeOrderId(""), self._now_ns())
        marketable = order.order_type in IMMEDIATE or (order.side is Side.BUY and bool(matches))
        checks = (
            (RejectCode.MARKET_NOT_READY, not (rules.is_accepting_orders and market.is_open)),
            (RejectCode.OFF_GRID, not is_on_grid(order.price, rules.tick)),
            (RejectCode.TOO_SMALL, order.order_type not in IMMEDIATE and order.size < rules.size_min),
            (RejectCode.TOO_SMALL, marketable and notional_ceil(order.price, order.size) < rules.notional_min),
            (RejectCode.NOT_ENOUGH_BALANCE, not self.account.can_cover(taken, tokens=rules.tokens)),
            (RejectCode.POST_ONLY_WOULD_CROSS, order.is_post_only and bool(matches)),
            (RejectCode.NOT_FILLED, order.order_type in IMMEDIATE and not matches),
            (RejectCode.NOT_FILLED, order.order_type is OrderType.FOK and not _is_complete(order, matches)),
        )
        return next((code for code, applies in checks if applies), None)

    def _matches(self, order: SubmitOrder, market: PaperMarket) -> Iterator[Level]:
        """What the order would take now, in its own token's prices."""
        is_yes = order.token_id == market.market.yes
        is_bid = market.is_bid(order.token_id, order.side)
        limit = market.price_yes(order.token_id, order.price)
        shares, budget = int(order.size), _budget(order)
        for level in market.offers(is_bid=is_bid, price=limit):
            price = level.price if is_yes else complement(level.price)
            wanted = shares if budget is None else budget * MICRO // price
            size = min(wanted, level.size)
            if size <= 0:
                return
            shares -= size
            budget = None if budget is None else budget - notional_floor(price, Size(size))
            yield Level(price, Size(size))

    # --- filling ----------------------------------------------------------------------------------------------------

    def _fill_taker(self, order: SubmitOrder, order_id: ExchangeOrderId, market: PaperMarket, level: Level) -> None:
        rules = market.market
        is_bid = market.is_bid(order.token_id, order.side)
        market.take(is_bid=is_bid, price=market.price_yes(order.token_id, level.price), size=level.size)
        fee = fee_taker_floor(level.price, level.size, rules.fee)
        self._fill(order_id, level.price, level.size, fee=fee, role=Role.TAKER, at_ns=self._now_ns())

    def _fill_maker(self, hit: Hit, at_ns: Nanos) -> None:
        order = self.account.order(hit.order_id)
        assert order is not None, "only orders that were taken wait in a market"
        self._fill(hit.order_id, order.price, hit.size, fee=Notional(0), role=Role.MAKER, at_ns=at_ns)
        self._cancel_uncovered(self._market(order.token_id))

    def _fill(
        self, order_id: ExchangeOrderId, price: Price, size: Size, *, fee: Notional, role: Role, at_ns: Nanos
    ) -> None:
        order = self.account.order(order_id)
        assert order is not None, "filled orders were taken before"
        # As on chain, where rounding costs the maker: he pays up and gets down, the taker the other way round.
        is_up = (order.side is Side.BUY) is (role is Role.MAKER)
        notional = notional_ceil(price, size) if is_up else notional_floor(price, size)
        trade_id = TradeId(f"paper-{self.account.trades + 1}")
        fill = Fill(
            trade_id=trade_id,
            exchange_order_id=order_id,
            token_id=order.token_id,
            side=order.side,
            size=size,
            notional=notional,
            fee=fee,
            role=role,
            settlement=Settlement.MATCHED,
            exchange_ms=at_ns // NANOS_PER_MS,
            received_ns=self._now_ns(),
        )
        self._write(fill)
        self._plan_settlement(trade_id)
        self._tell(self._update(order_id))
        self._tell(fill)

    def _settle_down(self, order: SubmitOrder, order_id: ExchangeOrderId, market: PaperMarket) -> OrderState:
        """Let the rest of a GTC or GTD order wait, end that of any other, and say how the exchange would answer."""
        state = self.account.order(order_id)
        assert state is not None, "it was taken just now"
        if state.left and order.order_type not in IMMEDIATE:
            market.rest(
                order_id,
                is_bid=market.is_bid(order.token_id, order.side),
                price=market.price_yes(order.token_id, order.price),
                size=state.left,
                now_ns=self._now_ns(),
            )
            if order.expires_ns:
                heapq.heappush(self._ends, (order.expires_ns, order_id))
                self._wake.set()
        elif state.state is OrderState.LIVE:
            self._end(order_id, "the rest of an order that does not wait")
        self._cancel_uncovered(market)
        return OrderState.MATCHED if state.matched else OrderState.LIVE

    def _cancel_uncovered(self, market: PaperMarket) -> None:
        for order in tuple(self.account.uncovered(market.market.tokens)):
            self._end(order.exchange_order_id, "not enough balance")

    def _end(self, order_id: ExchangeOrderId, reason: str) -> None:
        order = self.account.order(order_id)
        if order is None or order.state is not OrderState.LIVE:
            return
        self._market(order.token_id).remove(order_id)
        self._write(OrderEnded(exchange_order_id=order_id, reason=reason, at_ns=self._now_ns()))
        self._tell(self._update(order_id, reason))

    def _update(self, order_id: ExchangeOrderId, reason: str = "") -> OrderUpdate:
        order = self.account.order(order_id)
        assert order is not None, "only known orders change"
        return OrderUpdate(
            exchange_order_id=order_id,
            token_id=order.token_id,
            state=order.state,
            size_matched=Size(order.matched),
            as_of_ns=self._now_ns(),
            reason=reason,
        )

    def _plan_settlement(self, trade_id: TradeId) -> None:
        due_ns = Nanos(self._now_ns() + int(self.settings.settle_s * NANOS_PER_S))
        heapq.heappush(self._due, (due_ns, trade_id))
        self._wake.set()

    def _end_due(self) -> None:
        while self._ends and self._ends[0][0] <= self._now_ns():
            self._end(heapq.heappop(self._ends)[1], "expired")

    def _settle_due(self) -> None:
        now_ns = self._now_ns()
        while self._due and self._due[0][0] <= now_ns:
            _, trade_id = heapq.heappop(self._due)
            self._write(TradeSettled(trade_id=trade_id, at_ns=now_ns))
            self._tell(TradeStatus(trade_id=trade_id, settlement=Settlement.CONFIRMED, received_ns=now_ns))


def _taken(order: SubmitOrder, order_id: ExchangeOrderId, at_ns: Nanos) -> OrderTaken:
    return OrderTaken(
        exchange_order_id=order_id,
        token_id=order.token_id,
        side=order.side,
        price=order.price,
        size=order.size,
        order_type=order.order_type,
        at_ns=at_ns,
    )


def _budget(order: SubmitOrder) -> int | None:
    """Give what a FAK or FOK BUY may spend; None = the order counts shares."""
    if order.side is Side.SELL or order.order_type not in IMMEDIATE:
        return None
    return notional_floor(order.price, order.size) // CENT * CENT


def _is_complete(order: SubmitOrder, matches: Sequence[Level]) -> bool:
    budget = _budget(order)
    if budget is None:
        return sum(level.size for level in matches) == order.size
    spent = sum(notional_floor(level.price, level.size) for level in matches)
    return bool(matches) and (budget - spent) * MICRO // matches[-1].price < CENT
