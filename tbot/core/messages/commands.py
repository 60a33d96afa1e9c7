"""What the coordinator decided, said to the dispatcher and the reconciler."""

from __future__ import annotations

from tbot.core.market import TokenId
from tbot.core.messages.intents import (
    Halt,
)
from tbot.core.messages.vocabulary import (
    ClientOrderId,
    ExchangeOrderId,
    Message,
    OrderType,
    Side,
    StrategyName,
)
from tbot.core.units import Nanos, Price, Size

# Coordinator -> dispatcher, reconciler.


class SubmitOrder(Message, frozen=True, kw_only=True):
    """Send one order. Only `core.risk` makes orders that get here.

    Attributes:
        slot_level: Level of the quote it serves; -1 for a take.
        deadline_ns: Not signed after this: the market it was meant for is gone.
        expires_ns: A GTD order ends then on the exchange, whatever becomes of us, a second later at most; 0 = no end.
    """

    client_order_id: ClientOrderId
    strategy: StrategyName
    token_id: TokenId
    side: Side
    price: Price
    size: Size
    order_type: OrderType
    is_post_only: bool
    slot_level: int
    deadline_ns: Nanos
    at_ns: Nanos
    reason: str = ""
    expires_ns: Nanos = Nanos(0)


class ResendOrder(Message, frozen=True, kw_only=True):
    """Send the very same signed bytes once more: what became of them is open, and the order is still wanted.

    Attributes:
        body: As prepared; sent twice, they make at most one order.
        prepared_ns: When they were signed.
        deadline_ns: Not sent after this.
    """

    client_order_id: ClientOrderId
    exchange_order_id: ExchangeOrderId
    body: bytes
    prepared_ns: Nanos
    deadline_ns: Nanos
    at_ns: Nanos


class CancelOrder(Message, frozen=True, kw_only=True):
    """Cancel one order by the exchange's id."""

    client_order_id: ClientOrderId
    exchange_order_id: ExchangeOrderId
    at_ns: Nanos
    reason: str = ""


class RequestReport(Message, frozen=True, kw_only=True):
    """State, newest wins: the coordinator wants a report now, with the fate of these orders.

    Attributes:
        since_ns: Fills wanted from this moment on, for trades that settle slowly; 0 = the reconciler's own overlap.
        token_ids: Tokens whose balances are wanted now; of others the exchange's side tells as many as it can afford.
        refresh: Assets (`CASH` among them) that the exchange should read from the chain anew before it tells them.
    """

    order_ids: tuple[ExchangeOrderId, ...]
    since_ns: Nanos
    reason: str
    at_ns: Nanos
    token_ids: tuple[TokenId, ...] = ()
    refresh: tuple[TokenId, ...] = ()


Command = SubmitOrder | ResendOrder | CancelOrder | RequestReport | Halt
