"""An order that found nothing to take is over, in whatever order and however often that is told."""

from __future__ import annotations

from itertools import product

import pytest

from tbot.core.messages import (
    OrderState,
    OrderUpdate,
    OutcomeUnknown,
    RejectCode,
    Rejected,
    Side,
    SubmitOrder,
)
from tbot.core.orders import OrderStatus
from tbot.core.units import Size
from tests.core.coordinators import Desk, eid, submits, trading_desk

Words = tuple[str, ...]


def say(desk: Desk, order: SubmitOrder, word: str) -> None:
    if word == "event":
        desk.absorb(
            OrderUpdate(
                exchange_order_id=eid(order),
                token_id=order.token_id,
                state=OrderState.CANCELED,
                size_matched=Size(0),
                as_of_ns=desk.now,
                reason="CANCELED_no orders found to match with FAK order.",
            )
        )
    elif word == "refused":
        code = RejectCode.NOT_FILLED
        desk.absorb(Rejected(client_order_id=order.client_order_id, code=code, reason="killed", at_ns=desk.now))
    else:
        desk.absorb(OutcomeUnknown(exchange_order_id=eid(order), was_cancel=False, reason="?", at_ns=desk.now))


def told(*words: str) -> Desk:
    """A desk whose one take was signed, and of which these words were said, time passing between them."""
    desk = trading_desk()
    (order,) = submits(desk.take(Side.BUY, 0.55))
    desk.prepare(order)
    for word in words:
        desk.wait(0.1)
        say(desk, order, word)
    return desk


ORDERS = [words for words in product(("refused", "event"), repeat=3) if "event" in words]


@pytest.mark.parametrize("words", ORDERS, ids=" ".join)
def test_refusal_and_event_end_it_once(words: Words) -> None:
    desk = told(*words)
    (order,) = desk.core.orders
    assert order.status is (OrderStatus.CANCELED if words[0] == "event" else OrderStatus.REJECTED)
    assert (order.is_over, order.size_open, order.notional_open, desk.core.is_quiet) == (True, 0, 0, True)
    counts = desk.core.account.counts
    assert counts.get("rejected", 0) + counts.get("canceled", 0) == 1
    assert len(submits(desk.take(Side.BUY, 0.55))) == 1, "the next take is free to go"


@pytest.mark.parametrize("words", [("doubt", "event"), ("event", "doubt"), ("event", "doubt", "event")], ids=" ".join)
def test_event_settles_what_the_reply_left_open(words: Words) -> None:
    desk = told(*words)
    (order,) = desk.core.orders
    assert (order.status, order.size_open) == (OrderStatus.CANCELED, 0)
    (doubted,) = told("doubt").core.orders
    assert doubted.status is OrderStatus.UNKNOWN, "without it"


def test_event_of_an_order_of_somebody_else_changes_nothing() -> None:
    desk = trading_desk()
    (order,) = submits(desk.take(Side.BUY, 0.55))
    say(desk, order, "event")  # not signed yet: its id is nobody's
    assert desk.status(order) is OrderStatus.INTENDED
