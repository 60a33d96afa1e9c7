"""The local exchange behind the bot's `Gateway` protocol: in one process, in virtual time, with latency and faults.

A request in flight belongs to the network, not to its sender: an order sent by a task that crashes meanwhile still
lands, as it would on production.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import msgspec
import trio

from tbot.core.market import Market, MarketId, TokenId, fee_taker_floor
from tbot.core.messages import (
    AccountEvent,
    BookSnapshot,
    CancelReply,
    ExchangeOrderId,
    ExchangeReport,
    Gap,
    MarketEvent,
    MarketNews,
    OrderType,
    OutcomeUnknown,
    RejectCode,
    Rejected,
    Role,
    Side,
    SubmitOrder,
    SubmitReply,
    Throttled,
)
from tbot.core.units import NANOS_PER_S, Nanos, Notional, Price, Size, is_on_grid, notional_floor
from tbot.errors import ConfigError, ExchangeUnavailable, InvariantViolated
from tbot.exchanges.gateway import Bucket, Capabilities, PreparedOrder
from tbot.exchanges.simulated.checks import CLOSED_MODES, objection_to_placing
from tbot.exchanges.simulated.events import AccountEvent as TheirAccountEvent
from tbot.exchanges.simulated.events import MarketEvent as TheirMarketEvent
from tbot.exchanges.simulated.exchange import LocalExchange
from tbot.exchanges.simulated.fault_catalogue import Fault
from tbot.exchanges.simulated.modes import RETRY_RESTARTING_S
from tbot.exchanges.simulated.operations import (
    EVER,
    Account,
    CancelOrders,
    CancelResult,
    EngineSettings,
    MarketRules,
    Mode,
    Placed,
    PlaceOrder,
    Refused,
)
from tbot.exchanges.simulated.sessions import Session
from tbot.exchanges.simulated.tickets import Ticket
from tbot.exchanges.simulated.transit import LatencySettings, TransitSettings
from tbot.exchanges.simulated.translate import (
    MODE_CODES,
    Desk,
    account_events,
    cancel_reply,
    fills_of,
    lookup_of,
    market_events,
    market_of,
    open_order_of,
    schedule_of,
    snapshot_of,
    submit_reply,
)

CENT = 10_000
"""Budgets of FAK/FOK BUY orders have two decimals."""

_Leg = tuple[PreparedOrder, PlaceOrder]

# No market has a finer tick, so a price off this grid is wrong whatever changed meanwhile.
TICK_FINEST = Price(100)
BUCKETS = (
    # The Standard tier of Polymarket's signer buckets (2026-11); reads are limited by address only.
    Bucket(name="orders", rate_per_s=40.0, burst=60.0),
    Bucket(name="cancels", rate_per_s=80.0, burst=120.0),
    Bucket(name="reads", rate_per_s=50.0, burst=100.0),
)


class InProcessGateway:
    """One account's way to a `LocalExchange` in the same process.

    Args:
        exchange: Its `run` must be running: requests in flight are its work.
        account: Whose orders these are.
        run_id: Makes order ids of different runs differ.
        rng: For latency; its own, so that traffic does not change other dice.
        now_ns: The clock.
        latency: Ways and deadlines.
    """

    def __init__(
        self,
        exchange: LocalExchange,
        account: Account,
        *,
        run_id: str,
        rng: random.Random,
        now_ns: Callable[[], Nanos],
        latency: LatencySettings,
    ) -> None:
        self._exchange = exchange
        self._account = account
        self._run_id = run_id
        self._rng = rng
        self._now_ns = now_ns
        self._latency = latency
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(PlaceOrder)
        self._capabilities = Capabilities(
            order_types=frozenset(OrderType),
            has_post_only=True,
            has_deltas=True,
            has_positions_signed=False,
            cancel_batch_max=100,
            dead_man_s=exchange.settings.dead_man_s,
            buckets=BUCKETS,
            open_orders_max=96,
            submit_batch_max=15,
            order_life_s_min=_life_s_min(exchange.engine.settings),
        )

    @property
    def capabilities(self) -> Capabilities:
        """What this exchange can do."""
        return self._capabilities

    async def load_markets(self) -> tuple[Market, ...]:
        """Read every market of the exchange."""
        await self._travel()
        markets = tuple(market_of(rules) for rules in self._exchange.markets())
        await self._travel()
        return markets

    def remember(self, markets: Sequence[Market]) -> None:
        """Nothing is kept here that the exchange does not know."""

    async def reread(self, market_id: MarketId) -> Market:
        """Read the terms of a market anew."""
        await self._travel()
        market = market_of(self._exchange.engine.rules(market_id))
        await self._travel()
        return market

    async def can_trade(self) -> str:
        """Everybody may trade here."""
        await self._travel()
        return ""

    def tick_at(self, token_id: TokenId, price: Price) -> Price:
        """Return the tick of the token's market; it is the same at every price."""
        return self._rules(token_id).tick

    def fee(self, token_id: TokenId, price: Price, size: Size, role: Role) -> Notional:
        """Return the fee of one fill, micro-dollars; makers pay nothing."""
        if role is Role.MAKER:
            return Notional(0)
        return fee_taker_floor(price, size, schedule_of(self._rules(token_id)))

    @asynccontextmanager
    async def open_market(self, token_ids: Sequence[TokenId]) -> AsyncIterator[Session[TheirMarketEvent, MarketEvent]]:
        """Connect and subscribe; a snapshot of every book comes first.

        Raises:
            ConfigError: A token is of no market.
        """
        for token_id in token_ids:
            self._rules(token_id)
        await self._travel()
        with self._exchange.market_stream(token_ids) as stream:
            now_ns, desk = self._now_ns(), self._desk(token_ids)

            def heard(event: TheirMarketEvent, received_ns: Nanos) -> tuple[MarketEvent, ...]:
                told = market_events(desk, event, received_ns)
                return tuple(m for m in told if isinstance(m, Gap | MarketNews) or not stream.is_frozen(m.token_id))

            yield Session(
                stream,
                translate=heard,
                first=tuple(snapshot_of(self._exchange.book(t), now_ns) for t in token_ids),
                transit=TransitSettings(way_ms=self._latency.feed_ms),
                pong_s=self._latency.pong_s,
                rng=self._rng,
                now_ns=self._now_ns,
                faults=self._exchange.faults,
            )

    @asynccontextmanager
    async def open_account(self) -> AsyncIterator[Session[TheirAccountEvent, AccountEvent]]:
        """Connect to the account channel; nothing is sent before something happens."""
        await self._travel()
        with self._exchange.account_stream(self._account) as stream:
            yield Session(
                stream,
                translate=partial(account_events, self._desk(())),
                first=(),
                transit=TransitSettings(way_ms=self._latency.feed_ms),
                pong_s=self._latency.pong_s,
                rng=self._rng,
                now_ns=self._now_ns,
                faults=self._exchange.faults,
            )

    async def books(self, token_ids: Sequence[TokenId]) -> tuple[BookSnapshot, ...]:
        """Read whole books by request.

        Raises:
            ConfigError: A token is of no market.
        """
        for token_id in token_ids:
            self._rules(token_id)
        await self._travel()
        views = tuple(self._exchange.book(token_id) for token_id in token_ids)
        await self._travel()
        received_ns = self._now_ns()
        return tuple(snapshot_of(view, received_ns) for view in views)

    def prepare(self, order: SubmitOrder, now_ns: Nanos) -> PreparedOrder:
        """Name and encode an order without sending it. The same order prepared later is another one.

        Raises:
            InvariantViolated: Unknown token, price off every grid, size not in lots, or an order type we do not take.
        """
        rules = self._exchange.engine.rules_of(order.token_id)
        if rules is None or order.order_type not in self._capabilities.order_types:
            raise InvariantViolated(f"{order.client_order_id}: no such token or order type here")
        lot = market_of(rules).size_lot
        if (order.order_type is OrderType.GTD) != bool(order.expires_ns):
            raise InvariantViolated(
                f"{order.client_order_id}: a {order.order_type} order that ends at {order.expires_ns}"
            )
        # The tick may have changed since the plan, which is no fault of ours: the engine answers that race.
        if not is_on_grid(order.price, TICK_FINEST) or order.size <= 0 or order.size % lot:
            raise InvariantViolated(f"{order.client_order_id}: price {order.price} or size {order.size} off the grid")
        # The moment of signing is part of the id: the same order prepared again is a new order, as with a new salt.
        name = f"{self._run_id}/{order.client_order_id}/{now_ns}"
        order_id = ExchangeOrderId("0x" + hashlib.sha256(name.encode()).hexdigest())
        body = self._encoder.encode(self._place(order, order_id))
        return PreparedOrder(
            client_order_id=order.client_order_id,
            exchange_order_id=order_id,
            body=body,
            prepared_ns=now_ns,
            deadline_ns=order.deadline_ns,
        )

    async def submit(self, order: PreparedOrder) -> SubmitReply:
        """Send the prepared bytes; every doubt is an `OutcomeUnknown`."""
        (reply,) = await self.submit_batch((order,))
        return reply

    async def submit_batch(self, orders: Sequence[PreparedOrder]) -> tuple[SubmitReply, ...]:
        """Send prepared orders with one request: one fault strikes them all, each is judged by itself."""
        legs = tuple((order, self._decoder.decode(order.body)) for order in orders)
        with trio.move_on_after(self._latency.timeout_s):
            return await self._submit(legs)
        return tuple(self._unknown(o.exchange_order_id, "no answer in time", was_cancel=False) for o in orders)

    async def cancel(self, order_ids: Sequence[ExchangeOrderId]) -> tuple[CancelReply, ...]:
        """Cancel orders with one request; one reply an id, in order."""
        with trio.move_on_after(self._latency.timeout_s):
            return await self._cancel(tuple(order_ids), self._exchange.faults.on_cancel())
        return tuple(self._unknown(order_id, "no answer in time", was_cancel=True) for order_id in order_ids)

    async def report(
        self, since_ns: Nanos, lookups: Sequence[ExchangeOrderId], balances_of: Sequence[TokenId] = ()
    ) -> ExchangeReport:
        """Sweep open orders, trades, single orders and balances, one request after the other.

        The answers are of different moments, as on production: something may happen between two of them.

        Raises:
            ExchangeUnavailable: The exchange does not answer reads now.
        """
        requested_ns = self._now_ns()
        exchange, account = self._exchange, self._account
        await self._travel()
        if exchange.faults.on_report():
            raise ExchangeUnavailable("the exchange does not answer reads now")
        open_orders = tuple(open_order_of(order) for order in exchange.open_orders(account))
        await self._round_trip()
        trades = exchange.trades(account, since_ns)
        if lookups:
            await self._round_trip()
        found = tuple(lookup_of(order_id, exchange.order(order_id)) for order_id in lookups)
        await self._round_trip()
        balances = exchange.shown_balances(account)
        await self._travel()
        received_ns, desk = self._now_ns(), self._desk(())
        return ExchangeReport(
            requested_ns=requested_ns,
            received_ns=received_ns,
            open_orders=open_orders,
            fills=tuple(fill for trade in trades for fill in fills_of(trade, desk, received_ns)),
            lookups=found,
            balances=balances.tokens_settled,
            cash=balances.cash_settled,
        )

    async def refresh_balance(self, asset: TokenId) -> None:
        """Bring the exchange's memory of our balances up to date: it keeps one for all assets of a wallet."""
        await self._travel()
        self._exchange.refresh_balances(self._account)
        await self._travel()

    async def protect(self) -> None:
        """Arm or renew the dead-man switch."""
        await self._travel()
        self._exchange.heartbeat(self._account)
        await self._travel()

    async def aclose(self) -> None:
        """Nothing stays open between calls."""
        await trio.lowlevel.checkpoint()

    async def _submit(self, legs: tuple[_Leg, ...]) -> tuple[SubmitReply, ...]:
        exchange = self._exchange
        keys = self._keys(place for _, place in legs)
        fault = exchange.faults.on_submit(*keys)
        if fault is Fault.POST_LOST:
            await trio.sleep_forever()
        is_limited = fault is Fault.POST_RATE_LIMITED
        refusals = [self._limited(order) if is_limited else self._mode_refusal(order, place) for order, place in legs]
        if all(refusal is not None for refusal in refusals):
            await self._round_trip()
        elif fault is Fault.TICK_CHANGE_IN_FLIGHT:
            for token_id in dict.fromkeys(place.token_id for _, place in legs):
                exchange.coarsen(token_id)
        is_partial = len(legs) > 1 and exchange.faults.on_batch(*keys)
        landed = [
            refusal or (None if is_partial and number % 2 else self._land(place, fault))
            for number, (refusal, (_, place)) in enumerate(zip(refusals, legs, strict=True))
        ]
        if fault in (Fault.POST_RESTS_UNANSWERED, Fault.POST_LANDS_LATE):
            await trio.sleep_forever()
        return await self._answers(legs, landed, fault)

    def _land(self, place: PlaceOrder, fault: Fault | None) -> Ticket:
        """Let one order reach the engine."""
        exchange, late_s = self._exchange, self._exchange.faults.settings.late_s
        lands_ns = self._lands_ns(late_s if fault is Fault.POST_LANDS_LATE else 0.0)
        return exchange.schedule(exchange.delayed(place, partial(self._keys, (place,))), lands_ns)

    async def _answers(
        self, legs: tuple[_Leg, ...], landed: Sequence[Ticket | Rejected | None], fault: Fault | None
    ) -> tuple[SubmitReply, ...]:
        """Wait for the engine's word on each order of a request; None = it could not be inserted."""
        told = [await each.wait() if isinstance(each, Ticket) else each for each in landed]
        if any(isinstance(each, Ticket) for each in landed):
            await self._travel()
        replies: list[SubmitReply] = []
        for (order, _), each in zip(legs, told, strict=True):
            if isinstance(each, Rejected):
                replies.append(msgspec.structs.replace(each, at_ns=self._now_ns()))
            elif each is None or fault is Fault.ERROR_AFTER_ACCEPT:
                reason = "could not insert order" if each is None else "HTTP 502"
                replies.append(self._unknown(order.exchange_order_id, reason, was_cancel=False))
            else:
                assert isinstance(each, Placed | Refused)
                replies.append(submit_reply(each, order, self._now_ns()))
        return tuple(replies)

    async def _cancel(self, order_ids: tuple[ExchangeOrderId, ...], fault: Fault | None) -> tuple[CancelReply, ...]:
        if fault is Fault.CANCEL_LOST:
            await trio.sleep_forever()
        mode = self._exchange.modes.current(self._now_ns())
        is_limited = fault is Fault.CANCEL_RATE_LIMITED
        if is_limited or mode in CLOSED_MODES:
            await self._round_trip()
            code = RejectCode.RATE_LIMITED if is_limited else MODE_CODES[mode]
            wait_s = self._exchange.faults.settings.retry_after_s if is_limited else RETRY_RESTARTING_S
            at_ns = self._now_ns()
            return tuple(
                Throttled(exchange_order_id=i, retry_after_s=wait_s, at_ns=at_ns, code=code) for i in order_ids
            )
        ticket = self._exchange.schedule(CancelOrders(account=self._account, order_ids=order_ids), self._lands_ns(0.0))
        if fault is Fault.CANCEL_UNANSWERED:
            await trio.sleep_forever()
        result = await ticket.wait()
        await self._travel()
        assert isinstance(result, CancelResult)
        at_ns = self._now_ns()
        return tuple(cancel_reply(order_id, result, at_ns) for order_id in order_ids)

    def _mode_refusal(self, order: PreparedOrder, place: PlaceOrder) -> Rejected | None:
        """Say why the exchange takes no such order now; None = it does."""
        mode, ends_s = self._exchange.modes.phase(self._now_ns())
        text = objection_to_placing(place, mode)
        if not text:
            return None
        waits_s = {Mode.POST_ONLY: ends_s, Mode.RESTARTING: RETRY_RESTARTING_S}
        return self._rejected(order, MODE_CODES[mode], text, waits_s.get(mode, 0.0))

    def _limited(self, order: PreparedOrder) -> Rejected:
        retry_after_s = self._exchange.faults.settings.retry_after_s
        return self._rejected(order, RejectCode.RATE_LIMITED, "too many requests", retry_after_s)

    def _rejected(self, order: PreparedOrder, code: RejectCode, reason: str, retry_after_s: float = 0.0) -> Rejected:
        return Rejected(
            client_order_id=order.client_order_id,
            code=code,
            reason=reason,
            at_ns=self._now_ns(),
            retry_after_s=retry_after_s,
        )

    def _keys(self, places: Iterable[PlaceOrder]) -> tuple[str, ...]:
        """Name what an injected fault may be aimed at."""
        tokens = tuple(dict.fromkeys(place.token_id for place in places))
        return (self._account, *tokens, *(self._rules(token).market_id for token in tokens))

    # FAK/FOK BUY orders have a budget of collateral in whole cents, all others a number of shares.
    def _place(self, order: SubmitOrder, order_id: ExchangeOrderId) -> PlaceOrder:
        has_budget = order.side is Side.BUY and order.order_type in (OrderType.FAK, OrderType.FOK)
        budget = notional_floor(order.price, order.size) // CENT * CENT
        return PlaceOrder(
            account=self._account,
            order_id=order_id,
            token_id=order.token_id,
            side=order.side,
            price=order.price,
            size=Size(0) if has_budget else order.size,
            budget=Notional(budget if has_budget else 0),
            order_type=order.order_type,
            is_post_only=order.is_post_only,
            expires_ns=self._stated_ns(order),
        )

    def _stated_ns(self, order: SubmitOrder) -> Nanos:
        """State an expiration in whole seconds, as on the wire, and as much later as the engine ends orders early."""
        if not order.expires_ns:
            return EVER
        ends_ns = order.expires_ns + self._exchange.engine.settings.expiry_margin_ns
        return Nanos(-(-ends_ns // NANOS_PER_S) * NANOS_PER_S)

    def _unknown(self, order_id: ExchangeOrderId, reason: str, *, was_cancel: bool) -> OutcomeUnknown:
        return OutcomeUnknown(exchange_order_id=order_id, was_cancel=was_cancel, reason=reason, at_ns=self._now_ns())

    def _rules(self, token_id: TokenId) -> MarketRules:
        rules = self._exchange.engine.rules_of(token_id)
        if rules is None:
            raise ConfigError(f"no market of this exchange has the token {token_id}; correct the settings")
        return rules

    def _desk(self, token_ids: Sequence[TokenId]) -> Desk:
        markets = self._exchange.markets()
        fees = {token: schedule_of(rules) for rules in markets for token in (rules.yes, rules.no)}
        return Desk(account=self._account, tokens=tuple(token_ids), fees=fees)

    def _lands_ns(self, late_s: float) -> Nanos:
        return Nanos(self._now_ns() + int((self._one_way_s() + late_s) * NANOS_PER_S))

    def _one_way_s(self) -> float:
        return self._rng.uniform(*self._latency.request_ms) / 1000

    async def _travel(self) -> None:
        await trio.sleep(self._one_way_s())

    async def _round_trip(self) -> None:
        await trio.sleep(self._one_way_s() + self._one_way_s())


def _life_s_min(settings: EngineSettings) -> float:
    """Tell the shortest life of a GTD order, with ten seconds for its way here."""
    return (settings.expiry_min_ns - settings.expiry_margin_ns) / NANOS_PER_S + 10.0
