"""Facts from the dispatcher and the reconciler to the coordinator: what became of what we asked."""

from __future__ import annotations

import msgspec

from tbot.core.market import TokenId
from tbot.core.messages.exchange import (
    Fill,
    OrderState,
)
from tbot.core.messages.vocabulary import (
    ClientOrderId,
    ExchangeOrderId,
    Message,
    RejectCode,
    Side,
)
from tbot.core.units import Nanos, Notional, Price, Size

# Dispatcher -> coordinator.


class Prepared(Message, frozen=True, kw_only=True):
    """A submit is signed and durable, and about to be sent; from now on the order may exist.

    Attributes:
        body: The signed bytes, so that the very same order can be asked for or sent again.
    """

    client_order_id: ClientOrderId
    exchange_order_id: ExchangeOrderId
    body: bytes
    at_ns: Nanos


class Accepted(Message, frozen=True, kw_only=True):
    """The exchange took the order.

    Attributes:
        state: LIVE, MATCHED or DELAYED. Amounts are never taken from here; fills come as `Fill`.
    """

    client_order_id: ClientOrderId
    exchange_order_id: ExchangeOrderId
    state: OrderState
    at_ns: Nanos


class Shortfall(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The exchange's own sum behind "not enough balance", in millionths of what the order gives; None = not told.

    Attributes:
        balance: What it counts as ours; its cache lags the chain.
        active: Promised to our resting orders.
        matched: Given in trades that have not settled.
        wanted: What the refused order would give.
    """

    balance: int | None = None
    active: int | None = None
    matched: int | None = None
    wanted: int | None = None


class Rejected(Message, frozen=True, kw_only=True):
    """The order is surely not on the book and never will be.

    Attributes:
        retry_after_s: Wait asked for by the exchange; 0 = none named.
        shortfall: The numbers of a refusal for want of balance, where it told them.
    """

    client_order_id: ClientOrderId
    code: RejectCode
    reason: str
    at_ns: Nanos
    retry_after_s: float = 0.0
    shortfall: Shortfall | None = None


class Canceled(Message, frozen=True, kw_only=True):
    """The exchange confirms that the remainder was cancelled. Fills made before may still be on their way."""

    exchange_order_id: ExchangeOrderId
    at_ns: Nanos


class CancelRefused(Message, frozen=True, kw_only=True):
    """The order could not be cancelled: already matched, already cancelled, delayed or not found. Ask for it."""

    exchange_order_id: ExchangeOrderId
    reason: str
    at_ns: Nanos


class OutcomeUnknown(Message, frozen=True, kw_only=True):
    """A submit or cancel left, and no usable answer came back.

    Attributes:
        exchange_order_id: The order in doubt.
        was_cancel: True when the doubt is about a cancel.
        code: Why a copy of bytes sent before was refused, which proves nothing about the first; `DUPLICATE` = the
            exchange has had them before. None = no copy was sent, or it was not answered either.
        retry_after_s: Wait asked for with that refusal; 0 = none named.
    """

    exchange_order_id: ExchangeOrderId
    was_cancel: bool
    reason: str
    at_ns: Nanos
    code: RejectCode | None = None
    retry_after_s: float = 0.0


class Throttled(Message, frozen=True, kw_only=True):
    """A cancel could not be sent now, or was not looked at; the order still stands as before.

    Attributes:
        exchange_order_id: The order whose cancel was not sent.
        retry_after_s: Wait asked for by the exchange.
        code: Why: a rate limit, a mode of the exchange that concerns orders as well, or a request refused at its door.
    """

    exchange_order_id: ExchangeOrderId
    retry_after_s: float
    at_ns: Nanos
    code: RejectCode = RejectCode.RATE_LIMITED


class LimitLearned(Message, frozen=True, kw_only=True):
    """How much the exchange lets this account do, when an answer tells that it is not what was known before.

    Attributes:
        open_orders_max: Most orders that may rest, so that cancelling all of them is always affordable.
    """

    open_orders_max: int
    at_ns: Nanos


SubmitReply = Accepted | Rejected | OutcomeUnknown
CancelReply = Canceled | CancelRefused | OutcomeUnknown | Throttled
DispatcherFact = Prepared | Accepted | Rejected | Canceled | CancelRefused | OutcomeUnknown | Throttled | LimitLearned

# Reconciler -> coordinator.


class OpenOrder(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An order the exchange lists as open."""

    exchange_order_id: ExchangeOrderId
    token_id: TokenId
    side: Side
    price: Price
    size: Size
    size_matched: Size


class OrderLookup(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The answer to a question about one order id.

    Attributes:
        state: None = the exchange does not know the id.
        size_matched: Cumulative micro-shares, 0 when unknown.
    """

    exchange_order_id: ExchangeOrderId
    state: OrderState | None
    size_matched: Size


class ExchangeReport(Message, frozen=True, kw_only=True):
    """What the exchange says is true, asked in one sweep.

    Attributes:
        requested_ns: Our clock before the first request; a fact newer than this overrules the report.
        open_orders: Every open order of the account.
        fills: Our fills of recent trades, overlapping the last report.
        lookups: Answers for the order ids that `RequestReport` named.
        balances: (token, micro-shares) of the account as the exchange counts them for trading: settled tokens.
            Those that were asked for, and of the others as many as were affordable.
        cash: Settled collateral, micro-dollars.
        refreshed: Assets (`CASH` among them) that the exchange read from the chain anew since the report before.
        unread: Assets that it was to read anew and did not yet; after a minute it is believed all the same.
    """

    requested_ns: Nanos
    received_ns: Nanos
    open_orders: tuple[OpenOrder, ...]
    fills: tuple[Fill, ...]
    lookups: tuple[OrderLookup, ...]
    balances: tuple[tuple[TokenId, Size], ...]
    cash: Notional
    refreshed: tuple[TokenId, ...] = ()
    unread: tuple[TokenId, ...] = ()
