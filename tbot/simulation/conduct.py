"""The judge over the journal: was every order wanted, allowed and sent as it was decided?

The journal holds what the bot heard, what it decided, and beside each submit the views that caused it. So its conduct
can be checked against its own word, and its word against what reached the exchange.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from tbot.core.market import TokenId
from tbot.core.messages import (
    Accepted,
    CancelOrder,
    ClientOrderId,
    ExchangeOrderId,
    Flatten,
    Halt,
    Message,
    OrderType,
    OutcomeUnknown,
    Prepared,
    Quotes,
    RejectCode,
    Rejected,
    ResendOrder,
    Resume,
    Side,
    StrategyName,
    SubmitOrder,
    Take,
    Throttled,
    TopOfBook,
    Withdraw,
)
from tbot.core.units import MICRO, NANOS_PER_S, Nanos
from tbot.exchanges.simulated.events import OrderView

# The horizon within which a first POST may land: bytes older than that are not sent again.
COPIES_WITHIN_NS = 60 * NANOS_PER_S
_IMMEDIATE = (OrderType.FAK, OrderType.FOK)

# Refusals that concern every order, and how long they hold where they name no time, seconds.
SHUT_S = {RejectCode.RESTARTING: 2.0, RejectCode.CANCEL_ONLY: 15.0, RejectCode.TRADING_DISABLED: 20.0}

# Budgets of immediate buys are signed in whole cents.
CENT = 10_000
EXPIRY_MARGIN_NS = 60 * NANOS_PER_S

Decisions = Mapping[ClientOrderId, SubmitOrder]


def check_conduct(history: Iterable[Message]) -> Iterator[str]:
    """Walk through the journal and name every order that nobody wanted, or that was not allowed then.

    Args:
        history: Facts, commands and causes, in order of record.
    """
    walk = _Walk()
    for message in history:
        yield from walk.step(message)


def compare_decisions(
    orders: Sequence[OrderView], prepared: Mapping[ExchangeOrderId, Prepared], decisions: Decisions
) -> Iterator[str]:
    """Hold every order the exchange ever took against the decision it was made from.

    Args:
        orders: All orders of the account.
        prepared: What was made durable before sending.
        decisions: The submits of the journal.
    """
    seen: dict[ClientOrderId, ExchangeOrderId] = {}
    for order in orders:
        record = prepared.get(order.order_id)
        if record is None:
            yield f"order {order.order_id[:12]}: reached the exchange without having been made durable before"
            continue
        first = seen.setdefault(record.client_order_id, order.order_id)
        if first != order.order_id:
            yield f"order {record.client_order_id}: was sent twice, as {first[:12]} and as {order.order_id[:12]}"
        decision = decisions.get(record.client_order_id)
        if decision is None:
            yield f"order {record.client_order_id}: reached the exchange, no decision is on record"
        elif not _is_as_decided(order, decision):
            yield f"order {record.client_order_id}: is {_described(order)} at the exchange, decided was {decision}"


def _is_as_decided(order: OrderView, decision: SubmitOrder) -> bool:
    ours = (decision.token_id, decision.side, decision.price, decision.order_type, decision.is_post_only)
    if (order.token_id, order.side, order.price, order.order_type, order.is_post_only) != ours:
        return False
    if order.side is Side.BUY and order.order_type in _IMMEDIATE:
        return abs(order.budget - decision.price * decision.size // MICRO) <= CENT
    return order.size == decision.size and _ends_as_decided(order, decision)


def _ends_as_decided(order: OrderView, decision: SubmitOrder) -> bool:
    """Hold the end of a GTD order, a minute before the expiration it states, against the one decided."""
    if order.order_type is not OrderType.GTD:
        return not order.expires_ns
    return 0 <= order.expires_ns - EXPIRY_MARGIN_NS - decision.expires_ns < NANOS_PER_S


def _described(order: OrderView) -> str:
    return f"{order.order_type.value} {order.side.value} {order.size or order.budget} at {order.price}"


class _Door:
    """What the exchange's own refusals told of it: until when no order is to be tried."""

    def __init__(self) -> None:
        self._until_ns = self._since_ns = Nanos(0)
        self._life = ""

    def note(self, message: Message, sent_ns: Mapping[ClientOrderId, Nanos]) -> None:
        """Take in a refusal, or the acceptance of what was sent since, which ends what refusals told."""
        match message:
            case Rejected() | Throttled() if message.code in SHUT_S:
                wait_s = min(message.retry_after_s or SHUT_S[message.code], 120.0)
                self._until_ns = Nanos(message.at_ns + int(wait_s * NANOS_PER_S))
                self._since_ns = message.at_ns
            case Rejected() if message.code is RejectCode.POST_ONLY_MODE:
                self._until_ns = Nanos(0)
            case Accepted():
                if sent_ns.get(message.client_order_id, 0) >= self._since_ns:
                    self._until_ns = Nanos(0)
            case _:
                pass

    def is_shut(self, order: SubmitOrder) -> bool:
        """Tell whether an order was decided too early; another life has heard of nothing yet."""
        life = order.client_order_id.partition("-")[0]
        if life != self._life:
            self._life, self._until_ns = life, Nanos(0)
        return order.at_ns < self._until_ns


class _Walk:
    """What was wanted and allowed up to some record."""

    def __init__(self) -> None:
        self._quotes: dict[tuple[StrategyName, TokenId], Quotes] = {}
        self._tops: dict[TokenId, TopOfBook] = {}
        self._takes: list[Take] = []
        self._withdrawn_ns: dict[StrategyName, Nanos] = {}
        self._submits: dict[ClientOrderId, SubmitOrder] = {}
        self._prepared: dict[ClientOrderId, Prepared] = {}
        self._ended: dict[ExchangeOrderId, str] = {}
        self._sent_ns: dict[ClientOrderId, Nanos] = {}
        self._door = _Door()
        self._is_halted = False
        self._is_flattening = False

    def step(self, message: Message) -> Iterator[str]:
        """Take one record in; findings about it come out."""
        match message:
            case Quotes():
                self._quotes[message.strategy, message.token_id] = message
            case TopOfBook():
                self._tops[message.token_id] = message
            case Take():
                self._takes.append(message)
            case Withdraw():
                self._withdrawn_ns[message.strategy] = message.at_ns
                self._takes = [take for take in self._takes if take.strategy != message.strategy]
            case Halt() | Flatten():
                self._is_halted = True
                self._is_flattening = self._is_flattening or isinstance(message, Flatten)
            case Resume():
                self._is_halted = self._is_flattening = False
            case SubmitOrder():
                self._submits[message.client_order_id] = message
                yield from (f"order {message.client_order_id}: {fault}" for fault in self._faults(message))
            case ResendOrder():
                self._sent_ns[message.client_order_id] = message.at_ns
                yield from (f"order {message.client_order_id}: {fault}" for fault in self._copy_faults(message))
            case Prepared():
                submit = self._submits.get(message.client_order_id)
                self._prepared.setdefault(message.client_order_id, message)
                self._sent_ns[message.client_order_id] = message.at_ns
                if submit is not None and message.at_ns > submit.deadline_ns:
                    yield f"order {message.client_order_id}: was signed after its deadline"
            case _:
                self._note_end(message)
                self._door.note(message, self._sent_ns)

    def _note_end(self, message: Message) -> None:
        """Remember after what no order is sent again."""
        match message:
            case CancelOrder():
                self._ended.setdefault(message.exchange_order_id, "its cancel was sent")
            case Accepted():
                self._ended.setdefault(message.exchange_order_id, "it was accepted")
            case OutcomeUnknown() if message.code is RejectCode.DUPLICATE:
                self._ended.setdefault(message.exchange_order_id, "the exchange told that it had it")
            case _:
                pass

    def _copy_faults(self, copy: ResendOrder) -> Iterator[str]:
        submit, first = self._submits.get(copy.client_order_id), self._prepared.get(copy.client_order_id)
        theirs = (copy.exchange_order_id, copy.body)
        if submit is None or first is None or (first.exchange_order_id, first.body) != theirs:
            yield "was sent again as other bytes than those that were durable before"
            return
        if copy.exchange_order_id in self._ended:
            yield f"was sent again after {self._ended[copy.exchange_order_id]}"
        if max(copy.at_ns, copy.deadline_ns) - first.at_ns > COPIES_WITHIN_NS:
            yield "was sent again though too old"
        if submit.order_type in _IMMEDIATE and copy.at_ns > submit.deadline_ns:
            yield "is a take, and was sent again after its deadline"
        yield from (f"was sent again: {fault}" for fault in self._standing_faults(submit, copy.at_ns))

    def _standing_faults(self, order: SubmitOrder, now_ns: Nanos) -> Iterator[str]:
        """Name what forbids that an order decided before is still wanted."""
        if self._is_halted:
            yield "after a halt"
        top = self._tops.get(order.token_id)
        if top is None or top.is_stale:
            yield "on a stale book"
        quotes = self._quotes.get((order.strategy, order.token_id))
        if not order.is_post_only:
            return
        if quotes is None or quotes.valid_until_ns < now_ns:
            yield "on quotes that had lapsed"
        elif not any(q.side is order.side for q in quotes.quotes):
            yield "for no quote"
        elif quotes.at_ns < self._withdrawn_ns.get(order.strategy, 0):
            yield "after its strategy was withdrawn"

    def _faults(self, order: SubmitOrder) -> Iterator[str]:
        is_operator = self._is_flattening and order.side is Side.SELL and order.order_type is OrderType.FAK
        if self._is_halted and not is_operator:
            yield "was decided after a halt"
        if self._door.is_shut(order):
            yield "was decided while the exchange took no orders"
        top = self._tops.get(order.token_id)
        if top is None or top.is_stale:
            yield "was decided on a stale book"
        if order.is_post_only:
            yield from self._quote_faults(order)
        elif not is_operator and not self._use_take(order):
            yield "serves no take"

    def _quote_faults(self, order: SubmitOrder) -> Iterator[str]:
        quotes = self._quotes.get((order.strategy, order.token_id))
        if quotes is None:
            yield "serves no quote"
            return
        wanted = ((quote.side, quote.price, quote.size) for quote in quotes.quotes)
        if (order.side, order.price, order.size) not in wanted:
            yield "serves no quote"
        if quotes.at_ns < self._withdrawn_ns.get(order.strategy, 0):
            yield "was decided after its strategy was withdrawn"
        if quotes.valid_until_ns < order.at_ns:
            yield "was decided on quotes that had lapsed"

    def _use_take(self, order: SubmitOrder) -> bool:
        """Find the take that an order serves; each serves once."""
        for take in self._takes:
            wanted = (take.strategy, take.token_id, take.side, take.size, take.price_worst)
            ours = (order.strategy, order.token_id, order.side, order.size, order.price)
            if wanted == ours and order.at_ns <= take.deadline_ns:
                self._takes.remove(take)
                return True
        return False
