"""What an answer to a submit or a cancel means. Pure: bytes and status in, one of our messages out.

`Rejected` claims that the order is surely not on the book, so it needs proof: a status that only the front door gives,
or a decoded refusal. Everything else is `OutcomeUnknown`, which a report settles. "Duplicated" is unknown too: it
proves that the very same order arrived before, and so perhaps rests.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tbot.core.messages import (
    Accepted,
    Canceled,
    CancelRefused,
    CancelReply,
    ExchangeOrderId,
    OutcomeUnknown,
    RejectCode,
    Rejected,
    SubmitReply,
    Throttled,
)
from tbot.core.units import Nanos
from tbot.errors import BadFrame
from tbot.exchanges.gateway import PreparedOrder
from tbot.exchanges.polymarket.fills import PLACEMENT_STATES
from tbot.exchanges.polymarket.http import Answer
from tbot.exchanges.polymarket.rejects import is_doubtful, reject_code, shortfall_of
from tbot.exchanges.polymarket.retry_after import RETRY_AFTER_S_DEFAULT
from tbot.exchanges.polymarket.wire import RAWS, CancelAnswer, OrderAnswer, decode

# Given before the matching engine sees anything, whatever the body says. A 403 whose body is none of the exchange's own
# comes from the edge in front of it, which serves some places, and some callers, not at all.
REFUSED_AT_THE_DOOR: dict[int, RejectCode] = {
    401: RejectCode.NOT_AUTHORIZED,
    403: RejectCode.BLOCKED,
    404: RejectCode.OTHER,
    413: RejectCode.MALFORMED,
    425: RejectCode.RESTARTING,
    429: RejectCode.RATE_LIMITED,
}
# A refusal only when its body says so in JSON; a bare 503 may come from a proxy that lost the answer.
REFUSED_IN_WORDS = frozenset({200, 400, 422, 503})
# What a 503 of the exchange itself says.
REFUSED_BY_MODE = frozenset(
    {RejectCode.POST_ONLY_MODE, RejectCode.CANCEL_ONLY, RejectCode.TRADING_DISABLED, RejectCode.RATE_LIMITED}
)
# A cancel that these answer was not looked at; the order stands as before. What cannot be cancelled is named in the
# body of a 200, never by a status: any other status is a doubt.
CANCEL_NOT_TAKEN = frozenset({*REFUSED_AT_THE_DOOR, 503})

# Refusals that concern a request as a whole, whatever orders are in it.
_ABOUT_REQUESTS = frozenset(
    {
        RejectCode.NOT_AUTHORIZED,
        RejectCode.BLOCKED,
        RejectCode.BANNED,
        RejectCode.CLOSED_ONLY,
        RejectCode.MALFORMED,
        RejectCode.RATE_LIMITED,
        RejectCode.RESTARTING,
        RejectCode.POST_ONLY_MODE,
        RejectCode.CANCEL_ONLY,
        RejectCode.TRADING_DISABLED,
    }
)

_REASON_MAX = 200
_ORDER = msgspec.json.Decoder(OrderAnswer)
_CANCEL = msgspec.json.Decoder(CancelAnswer)


def submit_replies(orders: Sequence[PreparedOrder], answer: Answer, at_ns: Nanos) -> list[SubmitReply]:
    """Read the answer to `POST /order` or, for several, to `POST /orders`; one reply an order, in order.

    The legs of a batch stand for themselves and are answered by place. A refusal of the request as a whole is believed
    where it is about the request: of a refusal about one order nobody knows what became of the others.
    """
    if len(orders) == 1:
        return [submit_reply(orders[0], answer, at_ns)]
    if answer.status != 200:
        return [_of_the_whole(order, submit_reply(order, answer, at_ns)) for order in orders]
    try:
        legs = decode(RAWS, answer.content)
    except BadFrame as error:
        return [submit_unknown(order, f"200, undecodable: {error}", at_ns) for order in orders]
    if len(legs) != len(orders):
        reason = f"{len(legs)} answers to {len(orders)} orders"
        return [submit_unknown(order, reason, at_ns) for order in orders]
    parts = [Answer(status=200, content=bytes(leg), retry_after_s=answer.retry_after_s) for leg in legs]
    return [submit_reply(order, part, at_ns) for order, part in zip(orders, parts, strict=True)]


def refused_as_a_whole(orders: Sequence[PreparedOrder], answer: Answer, at_ns: Nanos) -> RejectCode | None:
    """Return why a batch was refused as a whole, which does not say what became of any order; None = it was not."""
    if len(orders) == 1 or answer.status == 200:
        return None
    reply = submit_reply(orders[0], answer, at_ns)
    return reply.code if isinstance(reply, Rejected) else None


def _of_the_whole(order: PreparedOrder, reply: SubmitReply) -> SubmitReply:
    if not isinstance(reply, Rejected) or reply.code in _ABOUT_REQUESTS:
        return reply
    return submit_unknown(order, f"a batch was refused: {reply.reason}", reply.at_ns)


def submit_reply(order: PreparedOrder, answer: Answer, at_ns: Nanos) -> SubmitReply:
    """Read the answer to `POST /order`."""
    if answer.status in REFUSED_AT_THE_DOOR:
        return rejected(order, door_code(answer), f"{answer.status} {answer.complaint}", at_ns, _wait_s(answer))
    if answer.status not in REFUSED_IN_WORDS:
        return submit_unknown(order, f"{answer.status} {answer.complaint}", at_ns)
    try:
        told = decode(_ORDER, answer.content)
    except BadFrame as error:
        return submit_unknown(order, f"{answer.status}, undecodable: {error}", at_ns)
    return _verdict(order, told, answer, at_ns)


def door_code(answer: Answer) -> RejectCode:
    """Classify a refusal given before the engine saw anything."""
    code = REFUSED_AT_THE_DOOR[answer.status]
    if answer.status == 403 and not answer.is_foreign:
        return reject_code(answer.complaint)
    return code


def _verdict(order: PreparedOrder, told: OrderAnswer, answer: Answer, at_ns: Nanos) -> SubmitReply:
    status = answer.status
    state = PLACEMENT_STATES.get((told.status or "").lower())
    if status == 200 and told.success and not told.text and told.orderID and state is not None:
        if told.orderID.lower() != order.exchange_order_id:
            return submit_unknown(order, f"answered with another order id: {told.orderID[:80]}", at_ns)
        return Accepted(
            client_order_id=order.client_order_id,
            exchange_order_id=order.exchange_order_id,
            state=state,
            at_ns=at_ns,
        )
    if not told.text or _is_named(order, told) or is_doubtful(told.text) or state is not None:
        # No reason, or a reason beside an id or a status: neither a yes nor a no.
        is_copy = reject_code(told.text) is RejectCode.DUPLICATE
        reason = f"{status} {told.status or ''} {told.text}".strip()
        return submit_unknown(order, reason, at_ns, RejectCode.DUPLICATE if is_copy else None)
    code = reject_code(f"{told.code or ''} {told.text}")
    if status == 503 and code not in REFUSED_BY_MODE:
        # Any server on the way answers 503, in JSON as well; only the exchange's own words prove that it was it.
        return submit_unknown(order, f"{status} {told.text}", at_ns)
    return rejected(order, code, told.text, at_ns, _wait_s(answer))


# A FAK or FOK order that was killed at the book is refused under its own name, which leaves nothing open (recorded by
# several bots, 2026-07 to 2026-09; nautilus_trader has it among its tests).
def _is_named(order: PreparedOrder, told: OrderAnswer) -> bool:
    is_own = (told.orderID or "").lower() == order.exchange_order_id
    return bool(told.orderID) and not (is_own and reject_code(told.text) is RejectCode.NOT_FILLED)


def rejected(order: PreparedOrder, code: RejectCode, reason: str, at_ns: Nanos, retry_after_s: float = 0.0) -> Rejected:
    """Say that the order is surely not on the book."""
    return Rejected(
        client_order_id=order.client_order_id,
        code=code,
        reason=reason[:_REASON_MAX],
        at_ns=at_ns,
        retry_after_s=retry_after_s,
        shortfall=shortfall_of(reason) if code is RejectCode.NOT_ENOUGH_BALANCE else None,
    )


def _wait_s(answer: Answer) -> float:
    return answer.retry_after_s or 0.0


def submit_unknown(
    order: PreparedOrder, reason: str, at_ns: Nanos, code: RejectCode | None = None, retry_after_s: float = 0.0
) -> OutcomeUnknown:
    """Say that the order may rest; with a code, that a copy of it was refused."""
    return OutcomeUnknown(
        exchange_order_id=order.exchange_order_id,
        was_cancel=False,
        reason=reason[:_REASON_MAX],
        at_ns=at_ns,
        code=code,
        retry_after_s=retry_after_s,
    )


def again_refused(order: PreparedOrder, reason: str, refusal: Rejected) -> OutcomeUnknown:
    """Say that a copy of bytes sent before was refused, which leaves open what became of the first."""
    return submit_unknown(order, reason, refusal.at_ns, refusal.code, refusal.retry_after_s)


def cancel_replies(order_ids: Sequence[ExchangeOrderId], answer: Answer, at_ns: Nanos) -> list[CancelReply]:
    """Read the answer to a cancel of one or many ids; one reply an id, in order."""
    if answer.status in CANCEL_NOT_TAKEN:
        wait_s = RETRY_AFTER_S_DEFAULT if answer.retry_after_s is None else answer.retry_after_s
        code = mode_code(answer) if answer.status == 503 else door_code(answer)
        return cancels_throttled(order_ids, wait_s, at_ns, code)
    if answer.status != 200:
        return cancels_unknown(order_ids, f"{answer.status} {answer.complaint}", at_ns)
    try:
        told = decode(_CANCEL, answer.content)
    except BadFrame as error:
        return cancels_unknown(order_ids, f"undecodable: {error}", at_ns)
    return [_cancel_verdict(each, told, at_ns) for each in order_ids]


def _cancel_verdict(order_id: ExchangeOrderId, told: CancelAnswer, at_ns: Nanos) -> CancelReply:
    if order_id in (told.canceled or ()):
        return Canceled(exchange_order_id=order_id, at_ns=at_ns)
    reason = (told.not_canceled or {}).get(order_id)
    if reason is not None:
        return CancelRefused(exchange_order_id=order_id, reason=reason[:_REASON_MAX], at_ns=at_ns)
    return cancels_unknown((order_id,), "the answer does not name this order", at_ns)[0]


def mode_code(answer: Answer) -> RejectCode:
    """Say what an answer of 425, 429 or 503 tells of the exchange as a whole."""
    if answer.status != 503:
        return REFUSED_AT_THE_DOOR[answer.status]
    code = reject_code(answer.complaint)
    return code if code is not RejectCode.OTHER else RejectCode.UNAVAILABLE


def cancels_throttled(
    order_ids: Sequence[ExchangeOrderId], retry_after_s: float, at_ns: Nanos, code: RejectCode
) -> list[CancelReply]:
    """Say that cancels were not sent, or not looked at."""
    return [
        Throttled(exchange_order_id=each, retry_after_s=retry_after_s, at_ns=at_ns, code=code) for each in order_ids
    ]


def cancels_unknown(order_ids: Sequence[ExchangeOrderId], reason: str, at_ns: Nanos) -> list[CancelReply]:
    """Say that cancels left and nothing usable came back."""
    return [
        OutcomeUnknown(exchange_order_id=each, was_cancel=True, reason=reason[:_REASON_MAX], at_ns=at_ns)
        for each in order_ids
    ]
