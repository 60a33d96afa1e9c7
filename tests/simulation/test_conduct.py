"""The judge over the journal: each rule with a journal that keeps it and one that breaks it."""

from __future__ import annotations

import msgspec
import pytest

from tbot.core.market import MarketId, TokenId
from tbot.core.messages import (
    Accepted,
    CancelOrder,
    ClientOrderId,
    ExchangeOrderId,
    Flatten,
    Halt,
    Message,
    OrderState,
    OrderType,
    OutcomeUnknown,
    Prepared,
    Quote,
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
from tbot.core.units import MICRO, NANOS_PER_S, Nanos, Notional, Price, Size
from tbot.exchanges.simulated.events import OrderView
from tbot.exchanges.simulated.operations import EVER, Account, EndReason
from tbot.simulation.conduct import check_conduct, compare_decisions

replace = msgspec.structs.replace

TOKEN = TokenId("yes")
MAKER = StrategyName("maker")
PRICE = Price(400_000)
SIZE = Size(20 * MICRO)
TOP = TopOfBook(
    token_id=TOKEN, best_bid=PRICE, best_ask=Price(420_000), tick=Price(10_000), is_stale=False, at_ns=Nanos(1)
)
QUOTE = Quote(side=Side.BUY, level=0, price=PRICE, size=SIZE, price_worst=PRICE)
QUOTES = Quotes(
    strategy=MAKER,
    token_id=TOKEN,
    quotes=(QUOTE,),
    chase_ticks=1,
    valid_until_ns=Nanos(3 * NANOS_PER_S),
    at_ns=Nanos(1),
)
SUBMIT = SubmitOrder(
    client_order_id=ClientOrderId("1-1"),
    strategy=MAKER,
    token_id=TOKEN,
    side=Side.BUY,
    price=PRICE,
    size=SIZE,
    order_type=OrderType.GTC,
    is_post_only=True,
    slot_level=0,
    deadline_ns=Nanos(4 * NANOS_PER_S),
    at_ns=Nanos(2 * NANOS_PER_S),
)
TAKE = Take(
    strategy=MAKER,
    token_id=TOKEN,
    side=Side.SELL,
    size=SIZE,
    price_worst=PRICE,
    deadline_ns=Nanos(3 * NANOS_PER_S),
    reason="exit",
    at_ns=Nanos(1),
)
TAKING = replace(SUBMIT, side=Side.SELL, order_type=OrderType.FAK, is_post_only=False, slot_level=-1)
PREPARED = Prepared(
    client_order_id=SUBMIT.client_order_id,
    exchange_order_id=ExchangeOrderId("0xa"),
    body=b"",
    at_ns=SUBMIT.at_ns,
)
ORDER = OrderView(
    order_id=PREPARED.exchange_order_id,
    account=Account("bot"),
    market_id=MarketId("rain"),
    token_id=TOKEN,
    side=Side.BUY,
    price=PRICE,
    size=SIZE,
    budget=Notional(0),
    order_type=OrderType.GTC,
    is_post_only=True,
    expires_ns=EVER,
    created_ns=SUBMIT.at_ns,
    state=OrderState.LIVE,
    size_matched=Size(0),
    reason=EndReason.NONE,
    trade_ids=(),
)
HALT = Halt(reason="enough", at_ns=Nanos(1))

THIRD = ClientOrderId("1-3")
COPY = ResendOrder(
    client_order_id=SUBMIT.client_order_id,
    exchange_order_id=PREPARED.exchange_order_id,
    body=PREPARED.body,
    prepared_ns=PREPARED.at_ns,
    deadline_ns=Nanos(PREPARED.at_ns + 3 * NANOS_PER_S),
    at_ns=Nanos(PREPARED.at_ns + NANOS_PER_S // 2),
)
DOUBT = OutcomeUnknown(
    exchange_order_id=PREPARED.exchange_order_id, was_cancel=False, reason="timeout", at_ns=PREPARED.at_ns
)
CANCEL = CancelOrder(
    client_order_id=SUBMIT.client_order_id, exchange_order_id=PREPARED.exchange_order_id, at_ns=SUBMIT.at_ns
)
ACCEPTED = Accepted(
    client_order_id=SUBMIT.client_order_id,
    exchange_order_id=PREPARED.exchange_order_id,
    state=OrderState.LIVE,
    at_ns=SUBMIT.at_ns,
)
SENT: list[Message] = [TOP, QUOTES, SUBMIT, PREPARED, DOUBT]
AGED = replace(COPY, at_ns=Nanos(63 * NANOS_PER_S), deadline_ns=Nanos(63 * NANOS_PER_S))

REFUSED = Rejected(
    client_order_id=ClientOrderId("1-0"),
    code=RejectCode.CANCEL_ONLY,
    reason="cancels only",
    at_ns=Nanos(1),
    retry_after_s=60.0,
)
THROTTLED = Throttled(
    exchange_order_id=ExchangeOrderId("0x0"), retry_after_s=60.0, at_ns=Nanos(1), code=RejectCode.RESTARTING
)
EARLIER = replace(PREPARED, client_order_id=ClientOrderId("1-0"), at_ns=Nanos(2))

GOOD: dict[str, list[Message]] = {
    "a quote": [TOP, QUOTES, SUBMIT, PREPARED],
    "a take": [TOP, TAKE, TAKING],
    "a copy": [*SENT, COPY],
    "when the time told is over": [replace(REFUSED, retry_after_s=0.5), TOP, QUOTES, SUBMIT],
    "a quote in a post-only time": [THROTTLED, replace(REFUSED, code=RejectCode.POST_ONLY_MODE), TOP, QUOTES, SUBMIT],
    "after one was accepted": [
        REFUSED,
        EARLIER,
        replace(ACCEPTED, client_order_id=ClientOrderId("1-0")),
        TOP,
        QUOTES,
        SUBMIT,
    ],
    "in another life": [
        TOP,
        QUOTES,
        SUBMIT,
        REFUSED,
        replace(SUBMIT, client_order_id=ClientOrderId("2-1")),
    ],
    "after a refusal of one order": [replace(REFUSED, code=RejectCode.TOO_SMALL), TOP, QUOTES, SUBMIT],
    "a copy of a take": [TOP, TAKE, TAKING, PREPARED, DOUBT, COPY],
    "after a halt was ended": [HALT, Resume(at_ns=Nanos(2)), TOP, QUOTES, SUBMIT],
    "a flatten": [Flatten(slippage_ticks=3, at_ns=Nanos(1)), TOP, TAKING],
    "a strategy that came back": [Withdraw(strategy=MAKER, at_ns=Nanos(1)), TOP, QUOTES, SUBMIT],
}
BAD: dict[str, tuple[str, list[Message]]] = {
    "no quote": ("serves no quote", [TOP, SUBMIT]),
    "another price": ("serves no quote", [TOP, QUOTES, replace(SUBMIT, price=Price(410_000))]),
    "another size": ("serves no quote", [TOP, QUOTES, replace(SUBMIT, size=Size(SIZE + 1))]),
    "a lapsed quote": ("lapsed", [TOP, QUOTES, replace(SUBMIT, at_ns=Nanos(4 * NANOS_PER_S))]),
    "a withdrawn strategy": ("withdrawn", [TOP, QUOTES, Withdraw(strategy=MAKER, at_ns=Nanos(2)), SUBMIT]),
    "a stale book": ("stale", [replace(TOP, is_stale=True), QUOTES, SUBMIT]),
    "no book": ("stale", [QUOTES, SUBMIT]),
    "a halt": ("after a halt", [TOP, QUOTES, HALT, SUBMIT]),
    "no take": ("serves no take", [TOP, TAKING]),
    "a take twice": ("serves no take", [TOP, TAKE, TAKING, replace(TAKING, client_order_id=ClientOrderId("1-2"))]),
    "a late take": ("serves no take", [TOP, TAKE, replace(TAKING, at_ns=Nanos(4 * NANOS_PER_S))]),
    "a take of the dead": ("serves no take", [TOP, TAKE, Withdraw(strategy=MAKER, at_ns=Nanos(2)), TAKING]),
    "a buy while flattening": (
        "after a halt",
        [Flatten(slippage_ticks=3, at_ns=Nanos(1)), TOP, replace(TAKING, side=Side.BUY)],
    ),
    "a closed exchange": ("took no orders", [TOP, QUOTES, SUBMIT, REFUSED, replace(SUBMIT, client_order_id=THIRD)]),
    "a restart told by a cancel": ("took no orders", [TOP, QUOTES, SUBMIT, THROTTLED, SUBMIT]),
    "an acceptance of before": (
        "took no orders",
        [
            replace(EARLIER, at_ns=Nanos(0)),
            TOP,
            QUOTES,
            SUBMIT,
            REFUSED,
            replace(ACCEPTED, client_order_id=THIRD),
            SUBMIT,
        ],
    ),
    "a copy of other bytes": ("other bytes", [*SENT, replace(COPY, body=b"signed anew")]),
    "a copy of nothing": ("other bytes", [COPY]),
    "a copy after a cancel": ("after its cancel was sent", [*SENT, CANCEL, COPY]),
    "a copy of what rests": ("after it was accepted", [*SENT, ACCEPTED, COPY]),
    "a copy of a duplicate": ("told that it had it", [*SENT, replace(DOUBT, code=RejectCode.DUPLICATE), COPY]),
    "an old copy": ("too old", [*SENT, replace(QUOTES, valid_until_ns=Nanos(2**62)), AGED]),
    "a late copy of a take": (
        "sent again after its deadline",
        [TOP, TAKE, TAKING, PREPARED, DOUBT, replace(COPY, at_ns=Nanos(5 * NANOS_PER_S))],
    ),
    "a copy after a halt": ("sent again: after a halt", [*SENT, HALT, COPY]),
    "a copy on a stale book": ("sent again: on a stale book", [*SENT, replace(TOP, is_stale=True), COPY]),
    "a copy on lapsed quotes": ("sent again: on quotes", [*SENT, replace(COPY, at_ns=Nanos(4 * NANOS_PER_S))]),
    "a copy for no quote": ("sent again: for no quote", [*SENT, replace(QUOTES, quotes=()), COPY]),
    "a copy of the dead": (
        "sent again: after its strategy",
        [*SENT, Withdraw(strategy=MAKER, at_ns=Nanos(2)), COPY],
    ),
    "a late signature": (
        "after its deadline",
        [TOP, QUOTES, SUBMIT, replace(PREPARED, at_ns=Nanos(5 * NANOS_PER_S))],
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_good_conduct_has_no_findings(name: str) -> None:
    assert list(check_conduct(GOOD[name])) == []


@pytest.mark.parametrize("name", BAD)
def test_bad_conduct_is_named(name: str) -> None:
    finding, history = BAD[name]

    assert any(finding in found for found in check_conduct(history))


PREPARED_OF = {PREPARED.exchange_order_id: PREPARED}
DECISIONS = {SUBMIT.client_order_id: SUBMIT}


def test_order_as_decided_has_no_findings() -> None:
    assert list(compare_decisions([ORDER], PREPARED_OF, DECISIONS)) == []


def test_budget_of_an_immediate_buy_may_differ_by_a_cent() -> None:
    decision = replace(
        SUBMIT, order_type=OrderType.FAK, is_post_only=False, price=Price(333_000), size=Size(10 * MICRO)
    )
    order = replace(
        ORDER,
        order_type=OrderType.FAK,
        is_post_only=False,
        price=decision.price,
        size=Size(0),
        budget=Notional(3_330_000),
    )

    assert list(compare_decisions([order], PREPARED_OF, {SUBMIT.client_order_id: decision})) == []
    late = replace(order, budget=Notional(3_350_000))
    assert list(compare_decisions([late], PREPARED_OF, {SUBMIT.client_order_id: decision})) != []


@pytest.mark.parametrize(
    "change",
    [{"price": Price(410_000)}, {"size": Size(1)}, {"side": Side.SELL}, {"is_post_only": False}, {"token_id": "no"}],
    ids=str,
)
def test_order_that_differs_from_its_decision_is_named(change: dict[str, object]) -> None:
    assert "decided was" in next(compare_decisions([replace(ORDER, **change)], PREPARED_OF, DECISIONS))


def test_end_of_an_order_is_held_against_the_one_decided() -> None:
    ends_ns = Nanos(1_000 * NANOS_PER_S + 1)
    decision = replace(SUBMIT, order_type=OrderType.GTD, expires_ns=ends_ns)
    order = replace(ORDER, order_type=OrderType.GTD)
    for stated_s, is_found in ((1_060, True), (1_061, False), (1_062, True), (1_001, True), (0, True)):
        stated = replace(order, expires_ns=Nanos(stated_s * NANOS_PER_S))
        found = list(compare_decisions([stated], PREPARED_OF, {SUBMIT.client_order_id: decision}))
        assert bool(found) is is_found, stated_s
    assert list(compare_decisions([replace(ORDER, expires_ns=Nanos(7))], PREPARED_OF, DECISIONS)) != []


def test_order_without_decision_or_preparation_is_named() -> None:
    assert "no decision" in next(compare_decisions([ORDER], PREPARED_OF, {}))
    assert "durable" in next(compare_decisions([ORDER], {}, DECISIONS))


def test_order_sent_under_two_names_is_named() -> None:
    again = replace(ORDER, order_id=ExchangeOrderId("0xb"))
    prepared = PREPARED_OF | {again.order_id: replace(PREPARED, exchange_order_id=again.order_id)}

    assert "sent twice" in next(compare_decisions([ORDER, again], prepared, DECISIONS))
