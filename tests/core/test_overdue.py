"""A trade that never becomes final is waited for a quarter of an hour, then it is a visible doubt and pins nothing."""

from __future__ import annotations

import msgspec

from tbot.core.account import SETTLE_WITHIN_NS, Mode
from tbot.core.messages import RequestReport, Settlement
from tbot.core.units import MICRO, NANOS_PER_S, Notional, Size
from tests.core.coordinators import YES, Desk, bid, shares, trading_desk

WITHIN_S = SETTLE_WITHIN_NS // NANOS_PER_S


def desk_with_a_trade_that_hangs() -> Desk:
    desk = trading_desk()
    (order,) = desk.live(bid(0.45))
    desk.fill(order, 10)
    return desk


def last_question(desk: Desk) -> RequestReport | None:
    desk.core.report_asked_ns = desk.now - 2 * NANOS_PER_S  # type: ignore[assignment]
    asked = [command for command in desk.decide() if isinstance(command, RequestReport)]
    return asked[-1] if asked else None


def test_trade_is_waited_for_and_then_named_once() -> None:
    desk = desk_with_a_trade_that_hangs()
    began = desk.now
    desk.now += (WITHIN_S - 1) * NANOS_PER_S  # type: ignore[assignment]
    desk.report(balances=((YES, Size(0)),))
    assert desk.core.account.fills_known_ns() == began
    question = last_question(desk)
    assert question is not None
    assert question.reason == "a trade does not settle"
    desk.now += 2 * NANOS_PER_S  # type: ignore[assignment]
    for _ in range(2):
        desk.report(balances=((YES, shares(10)),))
        desk.now += NANOS_PER_S  # type: ignore[assignment]
    assert desk.core.account.fills_known_ns() > began + SETTLE_WITHIN_NS
    assert last_question(desk) is None
    assert desk.counts["overdue"] == 1
    (note,) = [note for note in desk.core.account.notes if "in doubt" in note]
    assert note.startswith("trade t1 has not settled in 15 minutes")


def test_balances_are_compared_again_and_show_what_the_trade_was_worth() -> None:
    desk = desk_with_a_trade_that_hangs()
    desk.now += (WITHIN_S + 1) * NANOS_PER_S  # type: ignore[assignment]
    for _ in range(4):
        desk.report(balances=((YES, Size(0)),), cash=10_000 * MICRO)  # it never happened, says the exchange
        desk.now += 3 * NANOS_PER_S  # type: ignore[assignment]
    assert desk.mode() is Mode.HALTED
    assert "ledger and exchange disagree" in desk.core.account.halt_reason


def test_late_word_of_its_end_is_still_understood() -> None:
    desk = desk_with_a_trade_that_hangs()
    (fill,) = [message for message, _ in desk.journal if hasattr(message, "trade_id")]
    desk.now += (WITHIN_S + 1) * NANOS_PER_S  # type: ignore[assignment]
    desk.report(balances=((YES, shares(10)),))
    desk.absorb(msgspec.structs.replace(fill, settlement=Settlement.FAILED, received_ns=desk.now))  # type: ignore[arg-type]
    ledger = desk.core.account.ledger
    assert ledger is not None
    assert ledger.position(YES).size == 0
    assert ledger.cash == Notional(10_000 * MICRO)
