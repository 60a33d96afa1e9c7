"""The last cancels of a desk that went down: as often as the exchange allows, in time, and what may rest is told."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import pairwise

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as gen
from trio.testing import MockClock

from tbot.core.messages import (
    Canceled,
    CancelRefused,
    CancelReply,
    ExchangeOrderId,
    OrderExposure,
    OutcomeUnknown,
    Throttled,
)
from tbot.errors import Disconnected
from tbot.log import set_up
from tbot.tasks.conflator import Conflator
from tbot.tasks.withdrawal import (
    AGAIN_S,
    ATTEMPT_S,
    CLOSE_WITHIN_S,
    LAST_TRY_S,
    REFUSALS_MAX,
    WITHDRAW_WITHIN_S,
    Exposures,
    withdraw,
)
from tests.tasks.fake_exchange import FakeExchange, now_ns
from tests.tasks.log_lines import lines_of

A, B = ExchangeOrderId("0xa"), ExchangeOrderId("0xb")
WAY_S = 0.05
# What the exchange answers to one cancel: a reply, seconds to wait, or nothing at all.
Word = str | float
GONE, UNKNOWN_ID, NO_ANSWER, HUNG, CUT = "gone", "unknown id", "no answer", "hung", "cut"


class Exchange(FakeExchange):
    """Answers each cancel of an order by the next of its words; the last stands for all that follow.

    Attributes:
        asked: When each order was asked for, and the word that was told; None = the request was not answered.
    """

    def __init__(self, words: dict[ExchangeOrderId, list[Word]], *, is_closing_hung: bool = False) -> None:
        super().__init__()
        self.words = words
        self.is_closing_hung = is_closing_hung
        self.asked: dict[ExchangeOrderId, list[tuple[float, Word | None]]] = {order_id: [] for order_id in words}

    async def cancel(self, order_ids: Sequence[ExchangeOrderId]) -> tuple[CancelReply, ...]:
        told = {order_id: self._next(order_id) for order_id in order_ids}
        for order_id in order_ids:
            self.asked[order_id].append((trio.current_time(), None))
        if HUNG in told.values():
            await trio.sleep_forever()
        await trio.sleep(WAY_S)
        if CUT in told.values():
            raise Disconnected("cut by the test")
        for order_id, word in told.items():
            self.asked[order_id][-1] = (self.asked[order_id][-1][0], word)
        return tuple(_reply(order_id, word) for order_id, word in told.items())

    def _next(self, order_id: ExchangeOrderId) -> Word:
        words = self.words[order_id]
        return words.pop(0) if len(words) > 1 else words[0]

    async def aclose(self) -> None:
        if self.is_closing_hung:
            await trio.sleep_forever()
        await super().aclose()


def _reply(order_id: ExchangeOrderId, word: Word) -> CancelReply:
    if isinstance(word, float):
        return Throttled(exchange_order_id=order_id, retry_after_s=word, at_ns=now_ns())
    if word == NO_ANSWER:
        return OutcomeUnknown(exchange_order_id=order_id, was_cancel=True, reason="502", at_ns=now_ns())
    if word == UNKNOWN_ID:
        return CancelRefused(exchange_order_id=order_id, reason="not found", at_ns=now_ns())
    return Canceled(exchange_order_id=order_id, at_ns=now_ns())


def exposed(exchange: Exchange) -> Exposures:
    exposures: Exposures = Conflator()
    for order_id in exchange.words:
        exposures.put(order_id, OrderExposure(exchange_order_id=order_id))
    return exposures


def withdrawn(exchange: Exchange) -> tuple[float, list[ExchangeOrderId], str]:
    """Withdraw in virtual time: how long it took, what was left, and what was told of it."""
    terminal, exposures = io.StringIO(), exposed(exchange)

    async def main() -> float:
        began = trio.current_time()
        await withdraw(lambda: exchange, exposures)
        return trio.current_time() - began

    with set_up(file=None, terminal=terminal, level="warning"):
        took_s = trio.run(main, clock=MockClock(autojump_threshold=0))
    (line,) = lines_of(terminal, "desk.withdrawn")
    return took_s, list(exposures.keys()), line


@pytest.mark.parametrize("wait_s", [4.0, 4.9, 5.0, 30.0, 3_600.0])
def test_a_wait_that_is_asked_for_does_not_cost_the_last_cancel(wait_s: float) -> None:
    exchange = Exchange({A: [wait_s, GONE]})
    took_s, left, _ = withdrawn(exchange)
    (first, _), (second, _) = exchange.asked[A]
    assert second - first == pytest.approx(min(wait_s, WITHDRAW_WITHIN_S - LAST_TRY_S), abs=2 * WAY_S)
    assert left == []
    assert took_s <= WITHDRAW_WITHIN_S


def test_a_wait_of_one_order_holds_no_other_up() -> None:
    exchange = Exchange({A: [3.0, GONE], B: [NO_ANSWER, NO_ANSWER, GONE]})
    withdrawn(exchange)
    assert exchange.asked[B][-1][0] - exchange.asked[B][0][0] <= 2 * (AGAIN_S + WAY_S) + 0.01
    assert exchange.asked[A][-1][0] - exchange.asked[A][0][0] >= 3.0


@pytest.mark.parametrize("word", [HUNG, CUT])
def test_a_request_without_an_end_is_given_up_for_another(word: str) -> None:
    exchange = Exchange({A: [word, GONE]})
    took_s, left, _ = withdrawn(exchange)
    assert left == []
    assert took_s <= ATTEMPT_S + AGAIN_S + 2 * WAY_S


def test_what_may_still_rest_is_told_by_its_id() -> None:
    exchange = Exchange({A: [NO_ANSWER], B: [GONE]}, is_closing_hung=True)
    took_s, left, told = withdrawn(exchange)
    assert left == [A]
    assert A in told
    assert B not in told
    assert took_s <= WITHDRAW_WITHIN_S + CLOSE_WITHIN_S + 0.01


some_word = gen.sampled_from([GONE, UNKNOWN_ID, NO_ANSWER, HUNG, CUT]) | gen.floats(0.0, 8.0)
some_words = gen.lists(some_word, min_size=1, max_size=8)


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(words=gen.lists(some_words, min_size=1, max_size=25))
def test_whatever_is_answered_each_order_is_tried_to_the_end_and_none_is_forgotten(words: list[list[Word]]) -> None:
    exchange = Exchange({ExchangeOrderId(f"0x{number}"): list(each) for number, each in enumerate(words)})
    took_s, left, _ = withdrawn(exchange)
    assert took_s <= WITHDRAW_WITHIN_S + 0.01
    for order_id, asked in exchange.asked.items():
        answers = [word for _, word in asked]
        assert (order_id in left) is (answers[-1] != GONE and answers.count(UNKNOWN_ID) < REFUSALS_MAX)
        last_try_s = asked[0][0] + WITHDRAW_WITHIN_S - LAST_TRY_S
        assert order_id not in left or asked[-1][0] >= last_try_s - 0.001
        for (at, word), (again, _) in pairwise(asked):
            assert not isinstance(word, float) or again - at >= word or again >= last_try_s - 0.001
