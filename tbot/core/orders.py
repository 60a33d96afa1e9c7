"""The life of an order, as a table, and the orders we know.

An order's life and the on-chain settlement of its trades are two machines: this is the first, `core.positions` has the
second. LOST is what evidence of absence leads to; it is not final, because a submit can land late.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

import msgspec

from tbot.core.market import TokenId
from tbot.core.messages import (
    ClientOrderId,
    ExchangeOrderId,
    OrderType,
    OutcomeUnknown,
    RejectCode,
    Rejected,
    RestingOrder,
    Side,
    StrategyName,
    SubmitOrder,
)
from tbot.core.units import MICRO, Nanos, Notional, Price, Size, notional_ceil

# Fills on chain may differ from the order by dust; the exchange compares with 0.01 share too (semantics of fills).
SIZE_TOLERANCE = Size(10_000)
# The budget of an immediate BUY is signed in whole cents, so it may end up to a cent below price x size.
BUDGET_TOLERANCE = Notional(10_000)
# A cancelled order may still be listed once: the exchange's answers lag each other for a moment.
LISTED_TWICE = 2


# Times in force that never rest.
IMMEDIATE: tuple[OrderType, ...] = (OrderType.FAK, OrderType.FOK)


class OrderStatus(StrEnum):
    """Where an order stands, as far as we know."""

    INTENDED = "INTENDED"  # planned and given to the dispatcher
    PREPARED = "PREPARED"  # signed and durable; the POST may have left
    LIVE = "LIVE"  # the exchange has it
    CANCELING = "CANCELING"  # a cancel left, no answer yet
    UNKNOWN = "UNKNOWN"  # may or may not rest; settled by evidence only
    LOST = "LOST"  # surely absent for a long time; a late landing brings it back
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    REJECTED = "REJECTED"


class OrderEvent(StrEnum):
    """What can happen to an order."""

    PREPARE = "PREPARE"
    ACCEPT = "ACCEPT"
    REJECT = "REJECT"
    SEND_CANCEL = "SEND_CANCEL"
    CANCEL = "CANCEL"
    REFUSE_CANCEL = "REFUSE_CANCEL"
    HOLD_CANCEL = "HOLD_CANCEL"
    DOUBT = "DOUBT"
    SEE_LIVE = "SEE_LIVE"
    FILL_UP = "FILL_UP"
    GIVE_UP = "GIVE_UP"


_S, _E = OrderStatus, OrderEvent

# (status, event) -> status. A pair that is not here changes nothing: facts may come late, twice or out of order.
ORDER_STEPS: dict[OrderStatus, dict[OrderEvent, OrderStatus]] = {
    _S.INTENDED: {_E.PREPARE: _S.PREPARED, _E.REJECT: _S.REJECTED, _E.GIVE_UP: _S.REJECTED},
    _S.PREPARED: {
        _E.ACCEPT: _S.LIVE,
        _E.REJECT: _S.REJECTED,
        _E.DOUBT: _S.UNKNOWN,
        _E.SEE_LIVE: _S.LIVE,
        _E.CANCEL: _S.CANCELED,
        _E.FILL_UP: _S.FILLED,
    },
    _S.LIVE: {
        _E.SEND_CANCEL: _S.CANCELING,
        _E.CANCEL: _S.CANCELED,
        _E.DOUBT: _S.UNKNOWN,
        _E.FILL_UP: _S.FILLED,
    },
    _S.CANCELING: {
        _E.CANCEL: _S.CANCELED,
        _E.REFUSE_CANCEL: _S.UNKNOWN,
        _E.HOLD_CANCEL: _S.LIVE,
        _E.DOUBT: _S.UNKNOWN,
        _E.FILL_UP: _S.FILLED,
        _E.GIVE_UP: _S.LOST,
    },
    _S.UNKNOWN: {
        _E.ACCEPT: _S.LIVE,
        _E.SEE_LIVE: _S.LIVE,
        _E.SEND_CANCEL: _S.CANCELING,
        _E.CANCEL: _S.CANCELED,
        _E.FILL_UP: _S.FILLED,
        _E.GIVE_UP: _S.LOST,
    },
    _S.LOST: {
        _E.ACCEPT: _S.LIVE,
        _E.SEE_LIVE: _S.LIVE,
        _E.DOUBT: _S.UNKNOWN,
        _E.CANCEL: _S.CANCELED,
        _E.FILL_UP: _S.FILLED,
    },
    _S.FILLED: {},
    _S.CANCELED: {},
    _S.REJECTED: {},
}

TERMINAL: tuple[OrderStatus, ...] = (_S.FILLED, _S.CANCELED, _S.REJECTED)
# Not expected to trade any more; LOST is here but not terminal.
SETTLED: tuple[OrderStatus, ...] = (*TERMINAL, _S.LOST)
# Nobody has answered for the bytes yet: only here may they be sent again.
SENT_IN_DOUBT: tuple[OrderStatus, ...] = (_S.INTENDED, _S.PREPARED, _S.UNKNOWN)


class Order(msgspec.Struct, kw_only=True):
    """One of our orders; changed by the coordinator alone.

    Attributes:
        size_filled: Micro-shares of booked fills, reversals taken off.
        notional_filled: Micro-dollars of booked fills.
        size_reversed: Micro-shares of fills whose trade failed on chain.
        size_claimed: Most micro-shares the exchange ever said were matched, failed trades included.
        fact_ns: Newest moment we surely knew something; a report asked for before it may not touch the order.
        missing: How many reports in a row did not list it though it should rest.
        absent: How many look-ups by id in a row found nothing.
        still_listed: How many reports in a row list it as open though it is terminal.
        was_accepted: The exchange was heard to have it.
        was_unknown: It was UNKNOWN when the cancel left, so a cancel that never went out leaves it UNKNOWN.
        has_final_word: The exchange has said how much matched in all; until then a cancelled order keeps its room.
        cancel_after_ns: No cancel is sent before this.
        is_doomed: Cancel it whatever the quotes say (CancelAll).
        body: The signed bytes, as long as sending them again may make sense: until there is evidence of the order, or
            a word of the exchange on a copy.
        deadline_ns: Of its command.
        expires_ns: When the exchange ends it (GTD); 0 = never by itself.
        resent_ns: When a copy was decided last; 0 = never.
        resends: How many copies were decided.
        resend_after_ns: No copy is sent before this; 0 = the bytes sent last may be answered yet.
        is_resending: A copy is on its way and not answered.
    """

    client_order_id: ClientOrderId
    strategy: StrategyName
    token_id: TokenId
    side: Side
    price: Price
    size: Size
    order_type: OrderType
    slot_level: int
    created_ns: Nanos
    fact_ns: Nanos
    exchange_order_id: ExchangeOrderId | None = None
    status: OrderStatus = OrderStatus.INTENDED
    prepared_ns: Nanos = Nanos(0)
    size_filled: Size = Size(0)
    notional_filled: Notional = Notional(0)
    size_reversed: Size = Size(0)
    size_claimed: Size = Size(0)
    missing: int = 0
    absent: int = 0
    still_listed: int = 0
    was_accepted: bool = False
    was_unknown: bool = False
    has_final_word: bool = False
    cancel_after_ns: Nanos = Nanos(0)
    is_doomed: bool = False
    reason: str = ""
    body: bytes = b""
    deadline_ns: Nanos = Nanos(0)
    expires_ns: Nanos = Nanos(0)
    resent_ns: Nanos = Nanos(0)
    resends: int = 0
    resend_after_ns: Nanos = Nanos(0)
    is_resending: bool = False

    @property
    def is_active(self) -> bool:
        """Whether it may trade now: everything but settled, and what the exchange lists against its own word."""
        return self.status not in SETTLED or self.still_listed >= LISTED_TWICE

    @property
    def is_over(self) -> bool:
        """Whether nothing more is expected of it: terminal, every claim booked, and not listed."""
        return self.status in TERMINAL and not self.size_open and not self.still_listed

    @property
    def can_cancel(self) -> bool:
        """Whether a cancel makes sense now: it may rest, and no cancel is on its way."""
        waits = self.status in (OrderStatus.LIVE, OrderStatus.UNKNOWN)
        return self.exchange_order_id is not None and (waits or self.still_listed >= LISTED_TWICE)

    @property
    def sent_ns(self) -> Nanos:
        """When its bytes left last, as far as decided: signed, or sent again."""
        return max(self.prepared_ns, self.resent_ns)

    @property
    def is_immediate(self) -> bool:
        """Whether it never rests by itself (FAK, FOK)."""
        return self.order_type in IMMEDIATE

    @property
    def size_pending(self) -> Size:
        """Micro-shares matched by the exchange's word whose fills we have not booked."""
        return Size(max(self.size_claimed - self.size_reversed - self.size_filled, 0))

    @property
    def size_open(self) -> Size:
        """Micro-shares that may still trade; counts fully while the outcome is unknown."""
        is_told = self.has_final_word or self.status in (OrderStatus.FILLED, OrderStatus.REJECTED, OrderStatus.LOST)
        if is_told and self.still_listed < LISTED_TWICE:
            return self.size_pending
        return Size(max(self.size - self.size_filled, self.size_pending))

    @property
    def notional_open(self) -> Notional:
        """Micro-dollars that may still be spent (BUY) at the order's own price."""
        if self._has_budget and self.is_active and not self.has_final_word:
            return Notional(max(self._budget - self.notional_filled, 0))
        return notional_ceil(self.price, self.size_open)

    @property
    def ending(self) -> OrderEvent | None:
        """The event that booked fills and the exchange's final word amount to; None while something is missing."""
        if self._is_complete:
            return OrderEvent.FILL_UP
        return OrderEvent.CANCEL if self.has_final_word and not self.size_pending else None

    @property
    def _has_budget(self) -> bool:
        # FAK and FOK buys have collateral as their target: when cheaper, they get more shares than asked for.
        return self.is_immediate and self.side is Side.BUY

    @property
    def _budget(self) -> Notional:
        return notional_ceil(self.price, self.size)

    @property
    def _is_complete(self) -> bool:
        if self._has_budget:
            dust = notional_ceil(self.price, SIZE_TOLERANCE) + BUDGET_TOLERANCE
            return self.notional_filled > max(self._budget - dust, 0)
        return self.size - self.size_filled < SIZE_TOLERANCE

    def step(self, event: OrderEvent) -> bool:
        """Apply one event of the table; False when it changes nothing."""
        after = ORDER_STEPS[self.status].get(event)
        if after is None:
            return False
        self.status = after
        if after not in SENT_IN_DOUBT:
            self.body = b""
        return True

    def is_beyond_target(self) -> bool:
        """Tell whether more was filled than the order asked for: shares, or collateral for FAK and FOK buys."""
        if self._has_budget:
            return self.notional_filled > self._budget + notional_ceil(self.price, SIZE_TOLERANCE)
        return self.size_filled > self.size + SIZE_TOLERANCE

    def view(self) -> RestingOrder:
        """Describe the order to strategies and people."""
        return RestingOrder(
            client_order_id=self.client_order_id,
            exchange_order_id=self.exchange_order_id,
            strategy=self.strategy,
            token_id=self.token_id,
            side=self.side,
            price=self.price,
            size=self.size,
            size_filled=self.size_filled,
            status=self.status.value,
            created_ns=self.created_ns,
        )


def order_from_command(command: SubmitOrder) -> Order:
    """Make the INTENDED order of a submit command."""
    return Order(
        client_order_id=command.client_order_id,
        strategy=command.strategy,
        token_id=command.token_id,
        side=command.side,
        price=command.price,
        size=command.size,
        order_type=command.order_type,
        slot_level=command.slot_level,
        created_ns=command.at_ns,
        fact_ns=command.at_ns,
        deadline_ns=command.deadline_ns,
        expires_ns=command.expires_ns,
        reason=command.reason,
    )


def crash_facts(order: Order, now_ns: Nanos) -> Iterator[Rejected | OutcomeUnknown]:
    """Say what a crash of ours means for an order: never signed, in doubt, or nothing new.

    Args:
        order: As it stood.
        now_ns: Wall clock of the new life.
    """
    if order.exchange_order_id is None:
        code = RejectCode.EXPIRED_UNSENT
        yield Rejected(client_order_id=order.client_order_id, code=code, reason="never signed", at_ns=now_ns)
        return
    if order.is_resending or order.status is OrderStatus.PREPARED:
        yield _restarted(order.exchange_order_id, now_ns, was_cancel=False)
    if order.status in (OrderStatus.LIVE, OrderStatus.CANCELING):
        yield _restarted(order.exchange_order_id, now_ns, was_cancel=True)


def _restarted(order_id: ExchangeOrderId, now_ns: Nanos, *, was_cancel: bool) -> OutcomeUnknown:
    return OutcomeUnknown(exchange_order_id=order_id, was_cancel=was_cancel, reason="restarted", at_ns=now_ns)


class Orders:
    """All orders we remember, by our id and by the exchange's; those that still matter are listed apart.

    A turn looks only at `working`: an hour of settled orders is remembered for late facts, and must cost nothing.
    """

    def __init__(self, orders: tuple[Order, ...] = ()) -> None:
        """Index the given orders, oldest first."""
        self._by_client: dict[ClientOrderId, Order] = {}
        self._by_exchange: dict[ExchangeOrderId, Order] = {}
        self._working: dict[ClientOrderId, Order] = {}
        for order in orders:
            self.add(order)

    def __iter__(self) -> Iterator[Order]:
        """Iterate oldest first."""
        return iter(tuple(self._by_client.values()))

    def __len__(self) -> int:
        """Count the remembered orders."""
        return len(self._by_client)

    def add(self, order: Order) -> None:
        """Remember an order."""
        self._by_client[order.client_order_id] = order
        self._working[order.client_order_id] = order
        if order.exchange_order_id is not None:
            self._by_exchange[order.exchange_order_id] = order

    def name(self, order: Order, exchange_order_id: ExchangeOrderId) -> None:
        """Learn the exchange's id of an order."""
        order.exchange_order_id = exchange_order_id
        self._by_exchange[exchange_order_id] = order

    def of_client(self, client_order_id: ClientOrderId) -> Order | None:
        """Find by our id."""
        return self._by_client.get(client_order_id)

    def of_exchange(self, exchange_order_id: ExchangeOrderId) -> Order | None:
        """Find by the exchange's id."""
        return self._by_exchange.get(exchange_order_id)

    def working(self) -> list[Order]:
        """List the orders with anything active or open, and perhaps a few more; oldest first."""
        return list(self._working.values())

    def active(self) -> list[Order]:
        """List the orders that may trade, oldest first."""
        return [order for order in self._working.values() if order.is_active]

    def open_in(self, tokens: tuple[TokenId, ...]) -> list[Order]:
        """List orders of these tokens with anything still open, claimed fills included."""
        return [o for o in self._working.values() if o.token_id in tokens and o.size_open > 0]

    def wake(self, order: Order) -> None:
        """Look at an order again that new facts may have opened."""
        self._working[order.client_order_id] = order

    def rest(self) -> None:
        """Stop looking at orders that are over; facts about them still find them."""
        for order in self.working():
            if order.is_over:
                del self._working[order.client_order_id]

    def forget(self, before_ns: Nanos) -> tuple[Order, ...]:
        """Drop settled orders without news since a moment, and return them; their late fills become notes."""
        gone = tuple(o for o in self if o.fact_ns < before_ns and (o.is_over or _is_given_up(o)))
        for order in gone:
            del self._by_client[order.client_order_id]
            self._working.pop(order.client_order_id, None)
            if order.exchange_order_id is not None:
                del self._by_exchange[order.exchange_order_id]
        return gone


def shares(size: int) -> str:
    """Print micro-shares shortly, for reasons and notes."""
    return f"{size / MICRO:g}"


def _is_given_up(order: Order) -> bool:
    return order.status is OrderStatus.LOST and not order.size_open
