"""The judge along the way: invariants seen from the exchange's side, whatever the bot believes.

It looks at every order of the bot in the moment before the exchange takes it, and at the whole account once a second.
Nothing is computed with the bot's own arithmetic. An order is judged by the moment it was signed: how long the network
keeps it is not the bot's doing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from tbot.core.market import TokenId
from tbot.core.messages import ExchangeOrderId, OrderType, Side
from tbot.core.units import MICRO, NANOS_PER_S, Nanos, Notional, Price, Size
from tbot.exchanges.simulated.events import OrderView
from tbot.exchanges.simulated.exchange import LocalExchange
from tbot.exchanges.simulated.operations import Account, Advance, Operation, PlaceOrder

# From the first change a dark feed did not carry: noticed within 5 s, and what was decided before is signed in 1 s.
DARK_SUBMIT_NS = 6 * NANOS_PER_S
# Orders may rest a little longer: a wedged desk falls to the dead-man switch, 10 s plus a sweep of 5 s plus margin.
DARK_REST_NS = 20 * NANOS_PER_S
# An operator's halt reaches the coordinator at once; what is being signed then is not stopped.
HALT_GRACE_NS = NANOS_PER_S
# A lost cancel is known after 5 s and sent again; a hung desk is found after 10 s, and its shell cancels.
HALT_REST_NS = 30 * NANOS_PER_S
LOSS_GRACE_NS = 5 * NANOS_PER_S
# Bytes leave again within a minute of their signature, and a request may be on its way for half a minute.
ARRIVES_NS = 95 * NANOS_PER_S
# A heartbeat task that hangs is restarted after 20 s, and the switch had disarmed itself 10 s after its last beat.
UNPROTECTED_NS = 15 * NANOS_PER_S
FINDINGS_MAX = 100

_RESTING = (OrderType.GTC, OrderType.GTD)


class Bounds(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the bot was told not to exceed, in millionths; see `core.risk.RiskLimits`.

    Attributes:
        quotes_side_max: Most quotes that all strategies together want on one side of one token; 0 = unknown.
    """

    order_size_max: Size
    position_size_max: Size
    exposure_max: Notional
    loss_max: Notional
    open_orders_max: int
    quotes_side_max: int = 0


class Watch:
    """Collects findings against one account."""

    def __init__(
        self,
        account: Account,
        bounds: Bounds,
        deposited: Notional,
        *,
        signed_ns: Mapping[ExchangeOrderId, Nanos],
        is_feed_hung: Callable[[], bool] = lambda: False,
    ) -> None:
        """Begin without an exchange; `bind` gives it one.

        Args:
            account: The bot's.
            bounds: Its limits.
            deposited: All collateral it ever got, micro-dollars.
            signed_ns: When each order was signed that is durable by now.
            is_feed_hung: Whether the market feed hangs because the judge's side wedged it.
        """
        self.findings: list[str] = []
        self.account = account
        self.bounds = bounds
        self.deposited = deposited
        self.halted_ns: Nanos | None = None
        self._signed_ns = signed_ns
        self._is_feed_hung = is_feed_hung
        self._exchange: LocalExchange | None = None
        self._missed_ns: Nanos | None = None  # the first change that no stream carried to the bot
        self._poor_since_ns: Nanos | None = None
        self._unprotected_since_ns: Nanos | None = None

    def bind(self, exchange: LocalExchange) -> None:
        """Watch this exchange from now on."""
        self._exchange = exchange

    def on_operation(self, now_ns: Nanos, operation: Operation) -> None:
        """Look at an operation before the exchange applies it."""
        if self._exchange is None:
            return
        if isinstance(operation, PlaceOrder) and operation.account == self.account:
            self._age(now_ns, operation.order_id)
            # The same bytes sent again are refused as a duplicate: they can make no second order.
            if self._exchange.order(operation.order_id) is None:
                self._order(now_ns, operation, self._exchange.open_orders(self.account))
        self._note_darkness(now_ns, operation)

    def look(self, now_ns: Nanos) -> None:
        """Look at the account as it stands; to be called once a second."""
        assert self._exchange is not None
        orders = self._exchange.open_orders(self.account)
        self._note_darkness(now_ns, None)
        if orders and self._missed_ns is not None and now_ns - self._missed_ns > DARK_REST_NS:
            self._find(f"{len(orders)} orders still rest {_s(now_ns - self._missed_ns)} after the feed went dark")
        self._rest_after_halt(now_ns, orders)
        self._rest_unprotected(now_ns, orders)
        is_poor = self.bounds.loss_max > 0 and self._loss() > self.bounds.loss_max
        self._poor_since_ns = (self._poor_since_ns or now_ns) if is_poor else None

    def _note_darkness(self, now_ns: Nanos, operation: Operation | None) -> None:
        # Silence alone hides nothing: the feed compares its books, and finds them true until something happens.
        assert self._exchange is not None
        if self._exchange.dark_since_ns() is None:
            self._missed_ns = None
        elif self._missed_ns is None and operation is not None and not isinstance(operation, Advance):
            self._missed_ns = now_ns

    def _order(self, now_ns: Nanos, order: PlaceOrder, resting: tuple[OrderView, ...]) -> None:
        signed_ns = self._signed_ns.get(order.order_id)
        if signed_ns is None:
            self._find(f"order {order.order_id[:12]} was sent before it was durable")
        self._timing(now_ns if signed_ns is None else signed_ns, order)
        self._crossed(order, resting)
        self._too_many(order, resting)
        if order.side is Side.BUY:
            self._beyond_limits(order, resting)

    def _age(self, now_ns: Nanos, order_id: ExchangeOrderId) -> None:
        age_ns = now_ns - self._signed_ns.get(order_id, now_ns)
        if age_ns > ARRIVES_NS:
            self._find(f"order {order_id[:12]} arrives {_s(age_ns)} after it was signed")

    def _timing(self, signed_ns: Nanos, order: PlaceOrder) -> None:
        name = f"order {order.order_id[:12]} signed"
        is_dark = self._missed_ns is not None and signed_ns - self._missed_ns > DARK_SUBMIT_NS
        if self._missed_ns is not None and is_dark and not self._is_feed_hung():
            self._find(f"{name} {_s(signed_ns - self._missed_ns)} after the feed went dark")
        if self.halted_ns is not None and signed_ns - self.halted_ns > HALT_GRACE_NS:
            self._find(f"{name} {_s(signed_ns - self.halted_ns)} after the halt")
        if self._poor_since_ns is not None and signed_ns - self._poor_since_ns > LOSS_GRACE_NS:
            self._find(f"{name} with the loss limit passed")

    def _crossed(self, order: PlaceOrder, resting: tuple[OrderView, ...]) -> None:
        assert self._exchange is not None
        market = self._exchange.engine.market_of(order.token_id)
        for other in resting:
            if other.market_id != market or (other.token_id == order.token_id) == (other.side is order.side):
                continue
            # Both as prices of the new order's own token: an order on the other outcome is mirrored.
            price = other.price if other.token_id == order.token_id else Price(MICRO - other.price)
            if order.price >= price if order.side is Side.BUY else order.price <= price:
                self._find(f"order {order.order_id[:12]} crosses our own {other.order_id[:12]}")

    def _too_many(self, order: PlaceOrder, resting: tuple[OrderView, ...]) -> None:
        bounds = self.bounds
        if order.size > bounds.order_size_max:
            self._find(f"order size limit passed: {order.size} (micro-shares)")
        if order.order_type not in _RESTING:
            return
        if len(resting) + 1 > bounds.open_orders_max:
            self._find(f"open orders limit passed: {len(resting)} rest")
        same = sum(o.token_id == order.token_id and o.side is order.side for o in resting)
        if bounds.quotes_side_max and same + 1 > bounds.quotes_side_max:
            self._find(f"order {order.order_id[:12]} is one more than the {same} quotes that were wanted on its side")

    def _beyond_limits(self, order: PlaceOrder, resting: tuple[OrderView, ...]) -> None:
        buys = [o for o in resting if o.side is Side.BUY]
        wanted = order.budget or _cost(order.price, order.size)
        open_cost = sum(_cost(o.price, Size(o.size - o.size_matched)) for o in buys) + wanted
        held, spent, cash = self._held(order.token_id), self._spent(), self.deposited - self._spent()
        same = sum(o.size - o.size_matched for o in buys if o.token_id == order.token_id)
        if held + same + order.size > self.bounds.position_size_max:
            self._find(f"position limit passed: {held} held, {same} resting, {order.size} more (micro-shares)")
        # Money lost by trading is not exposure; the loss limit bounds it.
        if spent + open_cost > self.bounds.exposure_max + self.bounds.loss_max:
            self._find(f"exposure limit passed: {spent} spent, {open_cost} if all buys fill (micro-dollars)")
        if open_cost > cash:
            self._find(f"buys of {open_cost} rest on {cash} of cash (micro-dollars)")

    def _rest_after_halt(self, now_ns: Nanos, orders: tuple[OrderView, ...]) -> None:
        if self.halted_ns is None:
            return
        late = [o for o in orders if now_ns - max(o.created_ns, self.halted_ns) > HALT_REST_NS]
        if late:
            self._find(f"{len(late)} orders still rest {_s(now_ns - self.halted_ns)} after the halt")

    def _rest_unprotected(self, now_ns: Nanos, orders: tuple[OrderView, ...]) -> None:
        assert self._exchange is not None
        if not orders or self._exchange.is_protected(self.account):
            self._unprotected_since_ns = None
            return
        self._unprotected_since_ns = self._unprotected_since_ns or now_ns
        if now_ns - self._unprotected_since_ns > UNPROTECTED_NS:
            self._find(f"{len(orders)} orders rest without a dead-man switch")

    def _held(self, token_id: TokenId) -> int:
        assert self._exchange is not None
        balances = self._exchange.balances(self.account)
        return dict(balances.tokens).get(token_id, Size(0)) + dict(balances.tokens_pending).get(token_id, Size(0))

    def _spent(self) -> Notional:
        assert self._exchange is not None
        balances = self._exchange.balances(self.account)
        return Notional(self.deposited - balances.cash - balances.cash_pending)

    def _loss(self) -> int:
        """What is missing, with everything held sold at the best bid."""
        assert self._exchange is not None
        worth = 0
        for token_id in (t for m in self._exchange.markets() for t in (m.yes, m.no)):
            held = self._held(token_id)
            bids = self._exchange.book(token_id).bids if held else ()
            if bids:
                worth += held * bids[0].price // MICRO
        return self._spent() - worth

    def _find(self, text: str) -> None:
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(text)


def _cost(price: Price, size: Size) -> int:
    return -(-price * size // MICRO)


def _s(nanos: int) -> str:
    return f"{nanos / NANOS_PER_S:.1f} s"
