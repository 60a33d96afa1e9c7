"""The judge along the way: invariants seen from the exchange's side, whatever the bot believes.

It looks at every order of the bot in the moment before the exchange takes it, and at the whole account once a second.
Nothing is computed with the bot's own arithmetic.
"""

from __future__ import annotations

import msgspec

from tbot.core.market import TokenId
from tbot.core.messages import Side
from tbot.core.units import MICRO, NANOS_PER_S, Nanos, Notional, Price, Size
from tbot.exchanges.simulated.events import OrderView
from tbot.exchanges.simulated.exchange import LocalExchange
from tbot.exchanges.simulated.operations import Account, Operation, PlaceOrder

# A feed that went dark must be noticed within 5 s; the orders on their way then arrive a moment later.
DARK_SUBMIT_NS = 6 * NANOS_PER_S
# Orders may rest a little longer: a wedged desk falls to the dead-man switch, 10 s plus a sweep of 5 s plus margin.
DARK_REST_NS = 20 * NANOS_PER_S
# An operator's halt reaches the coordinator at once; what was on the wire may still land, late ones after 30 s.
HALT_GRACE_NS = NANOS_PER_S
LOSS_GRACE_NS = 5 * NANOS_PER_S
FINDINGS_MAX = 100


class Bounds(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the bot was told not to exceed, in millionths; see `core.risk.RiskLimits`."""

    position_size_max: Size
    exposure_max: Notional
    loss_max: Notional


class Watch:
    """Collects findings against one account."""

    def __init__(self, account: Account, bounds: Bounds, deposited: Notional) -> None:
        """Begin without an exchange; `bind` gives it one."""
        self.findings: list[str] = []
        self.account = account
        self.bounds = bounds
        self.deposited = deposited
        self.halted_ns: Nanos | None = None
        self._exchange: LocalExchange | None = None
        self._dark_since_ns: Nanos | None = None
        self._poor_since_ns: Nanos | None = None

    def bind(self, exchange: LocalExchange) -> None:
        """Watch this exchange from now on."""
        self._exchange = exchange

    def on_operation(self, now_ns: Nanos, operation: Operation) -> None:
        """Look at an operation before the exchange applies it."""
        if self._exchange is None or not isinstance(operation, PlaceOrder) or operation.account != self.account:
            return
        resting = self._exchange.open_orders(self.account)
        self._crossed(operation, resting)
        self._beyond_limits(operation, resting)
        if self._dark_since_ns is not None and now_ns - self._dark_since_ns > DARK_SUBMIT_NS:
            self._find(
                f"order {operation.order_id[:12]} sent {_s(now_ns - self._dark_since_ns)} after the feed went dark"
            )
        if self.halted_ns is not None and now_ns - self.halted_ns > HALT_GRACE_NS:
            self._find(f"order {operation.order_id[:12]} sent {_s(now_ns - self.halted_ns)} after the halt")
        if self._poor_since_ns is not None and now_ns - self._poor_since_ns > LOSS_GRACE_NS:
            self._find(f"order {operation.order_id[:12]} sent with the loss limit passed")

    def look(self, now_ns: Nanos) -> None:
        """Look at the account as it stands; to be called once a second."""
        assert self._exchange is not None
        dark_since = self._exchange.dark_since_ns()
        self._dark_since_ns = dark_since
        orders = self._exchange.open_orders(self.account)
        if dark_since is not None and orders and now_ns - dark_since > DARK_REST_NS:
            self._find(f"{len(orders)} orders still rest {_s(now_ns - dark_since)} after the feed went dark")
        if self.bounds.loss_max and self._loss() > self.bounds.loss_max:
            self._poor_since_ns = self._poor_since_ns or now_ns
        else:
            self._poor_since_ns = None

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

    def _beyond_limits(self, order: PlaceOrder, resting: tuple[OrderView, ...]) -> None:
        if order.side is not Side.BUY:
            return
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
            bids = self._exchange.book(token_id).bids
            if bids:
                worth += self._held(token_id) * bids[0].price // MICRO
        return self._spent() - worth

    def _find(self, text: str) -> None:
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(text)


def _cost(price: Price, size: Size) -> int:
    return -(-price * size // MICRO)


def _s(nanos: int) -> str:
    return f"{nanos / NANOS_PER_S:.1f} s"
