"""When the same signed bytes are sent again: a pure rule over what is known of an order in doubt.

A copy makes at most one order with the first, so sending it is the quick way to an end: either it becomes the order
that was wanted, or "Duplicated" tells that the first one arrived. Signing anew would be a second order. Each copy
follows a look-up by id that found nothing; between copies the wait doubles; and none leaves after the horizon within
which the first could have landed. An order that is not wanted any more is never sent again; nor is one whose cancel was
ever sent, because the copy could come after the cancel.

Whatever a copy was refused for proves nothing about the first. But where the refusal is a judgement of the order, the
next copy would get the same one: then only look-ups go on.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from tbot.core.account import Account, Mode
from tbot.core.exchange_mode import believed_wait_s, may_submit
from tbot.core.messages import ExchangeOrderId, OutcomeUnknown, RejectCode, ResendOrder
from tbot.core.orders import Order, OrderStatus
from tbot.core.reconcile import LANDING_HORIZON_NS
from tbot.core.units import NANOS_PER_MS, NANOS_PER_S, Nanos

# Counted from the signature; no copy is decided later.
RESEND_WITHIN_NS: Final = LANDING_HORIZON_NS
# A copy that waited longer than this in the dispatcher is not sent: what is wanted may have changed.
RESEND_DEADLINE_NS: Final = Nanos(2 * NANOS_PER_S)
RESEND_FIRST_NS: Final = Nanos(500 * NANOS_PER_MS)
RESEND_MOST_NS: Final = Nanos(8 * NANOS_PER_S)
# Half of what the dispatcher has on the wire at once: new orders and their takes keep the other half.
RESENDS_AT_ONCE: Final = 4
# Refusals about the moment, not about the order: a later copy may fare better.
_OF_THE_MOMENT: Final = (
    RejectCode.RATE_LIMITED,
    RejectCode.RESTARTING,
    RejectCode.POST_ONLY_MODE,
    RejectCode.CANCEL_ONLY,
    RejectCode.TRADING_DISABLED,
    RejectCode.UNAVAILABLE,
    RejectCode.MARKET_NOT_READY,
    RejectCode.EXPIRED_UNSENT,
)


def due_resends(
    account: Account, kept: dict[ExchangeOrderId, Order], *, alive_since_ns: Nanos, now_ns: Nanos
) -> Iterator[Order]:
    """Yield the orders whose bytes may leave once more now, oldest first.

    Args:
        account: Everything known.
        kept: Resting orders that the plans of this turn want as they are.
        alive_since_ns: Who asked for an order decided before this is gone: it is cancelled, never sent again.
        now_ns: Wall clock.
    """
    if account.mode is not Mode.TRADING:
        return
    on_their_way = sum(order.is_resending for order in account.orders.working())
    due = (
        order
        for order in account.orders.active()
        if order.created_ns > alive_since_ns and _is_open(order, now_ns) and _is_wanted(account, order, kept, now_ns)
    )
    yield from islice(due, max(0, RESENDS_AT_ONCE - on_their_way))


def resend_of(order: Order, now_ns: Nanos) -> ResendOrder:
    """Make the command of a due order."""
    assert order.exchange_order_id is not None, "only a prepared order has bytes"
    return ResendOrder(
        client_order_id=order.client_order_id,
        exchange_order_id=order.exchange_order_id,
        body=order.body,
        prepared_ns=order.prepared_ns,
        deadline_ns=Nanos(min(now_ns + RESEND_DEADLINE_NS, _latest_ns(order))),
        at_ns=now_ns,
    )


def apply_resend(order: Order, command: ResendOrder) -> None:
    """Book that a copy leaves: what was looked up before says nothing about it."""
    order.is_resending = True
    order.resends += 1
    order.resent_ns = command.at_ns
    order.absent = 0


def hear_doubt(order: Order, message: OutcomeUnknown) -> None:
    """Take in that a submit, or a copy of it, got no answer that settles it."""
    order.is_resending = False
    wait_ns = max(_wait_ns(order.resends), int(believed_wait_s(message.retry_after_s) * NANOS_PER_S))
    order.resend_after_ns = Nanos(message.at_ns + wait_ns)
    if message.code is not None and message.code not in _OF_THE_MOMENT:
        order.body = b""  # it was received before, or judged: another copy would hear the same


def _latest_ns(order: Order) -> int:
    """Return when its bytes are too old: a take's moment is soon over, and an order with an end is dead by then."""
    if order.is_immediate:
        return order.deadline_ns
    horizon_ns = order.prepared_ns + RESEND_WITHIN_NS
    return min(horizon_ns, order.expires_ns) if order.expires_ns else horizon_ns


def _wait_ns(resends: int) -> int:
    return min(RESEND_FIRST_NS << min(resends, 10), RESEND_MOST_NS)


def _is_open(order: Order, now_ns: Nanos) -> bool:
    """Tell whether the answer was doubtful, and the exchange, asked since, has not shown a trace of the order."""
    is_traceless = not (order.was_accepted or order.size_claimed or order.size_filled)
    return (
        order.status is OrderStatus.UNKNOWN
        and bool(order.body)
        and not order.is_resending
        and is_traceless
        and order.absent > 0
        and 0 < order.resend_after_ns <= now_ns
    )


def _is_wanted(account: Account, order: Order, kept: dict[ExchangeOrderId, Order], now_ns: Nanos) -> bool:
    if order.is_doomed or order.cancel_after_ns or order.exchange_order_id is None:
        return False
    if not may_submit(account.exchange_mode, is_post_only=not order.is_immediate, now_ns=now_ns):
        return False
    if order.is_immediate:
        return now_ns <= _latest_ns(order)
    return order.exchange_order_id in kept and now_ns < _latest_ns(order)
