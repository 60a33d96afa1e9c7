"""A whole bot whose POSTs go wrong: each order it wanted rests once in the end, and none is signed in its stead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import pytest
import trio
from trio.testing import MockClock

from tbot.core import decide, resend
from tbot.core.coordinator import Coordinator
from tbot.core.messages import CancelAll, Halt, OutcomeUnknown, Prepared, ResendOrder, SubmitReply
from tbot.core.orders import OrderStatus
from tbot.core.units import NANOS_PER_S, Nanos
from tbot.exchanges.gateway import PreparedOrder
from tbot.exchanges.simulated.fault_catalogue import Fault
from tbot.exchanges.simulated.fault_switches import FaultOrder
from tbot.exchanges.simulated.operations import CancelOrders, PlaceOrder
from tbot.simulation.conduct import check_conduct
from tbot.tasks import desk
from tbot.tasks.coordinator import decode_entry
from tbot.tasks.dispatcher import Dispatcher
from tests.contract.stage import EPOCH_NS, now_ns
from tests.tasks.bot_stage import US, Stage, staged

pytestmark = pytest.mark.slow


def history(stage: Stage) -> list[object]:
    """The journal from its first record."""
    return [decode_entry(row.payload) for row in stage.store.records(limit=1_000_000)]


def copies(stage: Stage) -> list[ResendOrder]:
    return [message for message in history(stage) if isinstance(message, ResendOrder)]


def times_placed(stage: Stage) -> Counter[str]:
    """How often each order's bytes reached the engine."""
    return Counter(order.order_id for order in stage.placed_after(-1))


def judged(stage: Stage) -> list[str]:
    """Everything wrong with what the bot decided, and with what arrived of it."""
    return [*check_conduct(history(stage)), *doubled(stage), *grown_old(stage)]  # type: ignore[arg-type]


def doubled(stage: Stage) -> Iterator[str]:
    """Bids in the book beyond the two that are wanted, found from what the engine was told."""
    resting: set[str] = set()
    for _, operation in stage.operations:
        if isinstance(operation, PlaceOrder) and operation.account == US:
            resting.add(operation.order_id)
        elif isinstance(operation, CancelOrders) and operation.account == US:
            resting.difference_update(operation.order_ids)
        if len(resting) > 2:
            yield f"{len(resting)} orders rest at once"


def grown_old(stage: Stage) -> Iterator[str]:
    """Bytes that arrived when they should have been let go."""
    signed = {m.exchange_order_id: m.at_ns for m in history(stage) if isinstance(m, Prepared)}
    for at, operation in stage.operations:
        if isinstance(operation, PlaceOrder) and operation.order_id in signed:
            age_s = at - (signed[operation.order_id] - EPOCH_NS) / NANOS_PER_S
            if age_s > 95:
                yield f"order {operation.order_id[:12]} arrives {age_s:.0f} s after it was signed"


def hit_posts(stage: Stage, fault: Fault, count: int = 1) -> None:
    stage.exchange.faults.switch(FaultOrder(name=fault, count=count), now_ns())


async def quotes_within(stage: Stage, seconds: float) -> float:
    """Wait until both quotes rest; returns how long it took."""
    began = trio.current_time()
    with trio.fail_after(seconds):
        while len(stage.resting()) != 2:  # noqa: ASYNC110 - the exchange tells nobody
            await trio.sleep(0.1)
    return trio.current_time() - began


async def stop(stage: Stage) -> None:
    stage.stop.set()
    await stage.ended.wait()
    assert stage.resting() == []


async def test_post_that_never_lands_is_sent_again_and_rests(autojump_clock: MockClock) -> None:
    async with staged() as stage:
        hit_posts(stage, Fault.POST_LOST)
        assert await quotes_within(stage, 12) > 5, "the answer is waited for first"
        await trio.sleep(90)
        assert len(stage.resting()) == 2
        assert times_placed(stage) == dict.fromkeys(stage.resting(), 1)
        assert {copy.exchange_order_id for copy in copies(stage)} == set(stage.resting())
        assert judged(stage) == []
        await stop(stage)


async def test_post_that_rests_unanswered_is_found_by_a_look_up_and_not_sent_again(autojump_clock: MockClock) -> None:
    async with staged() as stage:
        hit_posts(stage, Fault.POST_RESTS_UNANSWERED)
        await trio.sleep(90)
        assert len(stage.resting()) == 2
        assert times_placed(stage) == dict.fromkeys(stage.resting(), 1)
        assert copies(stage) == []
        await stop(stage)


async def test_post_that_was_taken_and_answered_by_an_error_rests_once(autojump_clock: MockClock) -> None:
    async with staged() as stage:
        hit_posts(stage, Fault.ERROR_AFTER_ACCEPT)
        await quotes_within(stage, 3)
        await trio.sleep(90)
        assert len(stage.resting()) == 2
        assert times_placed(stage) == dict.fromkeys(stage.resting(), 1)
        assert judged(stage) == []
        await stop(stage)


async def test_post_that_lands_late_after_its_copy_is_refused_as_a_duplicate(autojump_clock: MockClock) -> None:
    async with staged() as stage:
        hit_posts(stage, Fault.POST_LANDS_LATE)
        await quotes_within(stage, 12)
        await trio.sleep(120)  # the first bytes land 30 s after they left
        assert len(stage.resting()) == 2
        assert times_placed(stage) == dict.fromkeys(stage.resting(), 2)
        assert judged(stage) == []
        await stop(stage)


async def test_posts_lost_for_a_whole_minute_are_sent_again_ever_more_rarely(autojump_clock: MockClock) -> None:
    async with staged() as stage:
        stage.exchange.faults.switch(FaultOrder(name=Fault.POST_LOST, seconds=90.0), now_ns())
        await trio.sleep(90)
        first = next(iter(Counter(copy.exchange_order_id for copy in copies(stage))))
        ages_s = [(c.at_ns - c.prepared_ns) / 1e9 for c in copies(stage) if c.exchange_order_id == first]
        assert 3 <= len(ages_s) <= 9
        assert max(ages_s) < 60
        assert judged(stage) == []
        await trio.sleep(120)  # the old ones are given up a minute after their last copy, and then wanted anew
        assert len(stage.resting()) == 2
        await stop(stage)


@pytest.mark.parametrize("end", ["halt", "cancel all", "crash"])
async def test_nothing_is_sent_again_once_it_is_not_wanted(autojump_clock: MockClock, end: str) -> None:
    async with staged() as stage:
        hit_posts(stage, Fault.POST_LOST)
        await trio.sleep(4)
        match end:
            case "halt":
                await stage.parts.operator.send(Halt(reason="test", at_ns=now_ns()))
            case "cancel all":
                await stage.parts.operator.send(CancelAll(at_ns=now_ns()))
            case _:
                stage.crash("coordinator")
        await trio.sleep(150)
        assert copies(stage) == []
        assert judged(stage) == []
        assert len(stage.resting()) == (0 if end == "halt" else 2), "those given up are replaced, not doubled"
        await stop(stage)


async def test_engine_restart_between_post_and_copy(autojump_clock: MockClock) -> None:
    async with staged() as stage:
        hit_posts(stage, Fault.POST_LOST)
        await trio.sleep(4)
        stage.exchange.modes.restart(now_ns(), restarting_s=20, post_only_s=30)
        await quotes_within(stage, 60)
        await trio.sleep(90)
        assert len(stage.resting()) == 2
        assert max(times_placed(stage).values()) == 1
        assert judged(stage) == []
        await stop(stage)


# --- the judge can fail ----------------------------------------------------------------------------------------------


class SignsAnew(Coordinator):
    """Takes a doubt for a refusal, and so signs a new order for what is wanted still."""

    def _outcome_unknown(self, message: OutcomeUnknown, now_ns: Nanos) -> None:
        order = self.orders.of_exchange(message.exchange_order_id)
        super()._outcome_unknown(message, now_ns)
        if order is not None and not message.was_cancel:
            order.status = OrderStatus.REJECTED


class Insists(Dispatcher):
    """Sends the same bytes until they are answered, however old they are."""

    async def _send(self, signed: Sequence[PreparedOrder]) -> tuple[SubmitReply, ...]:
        replies = await super()._send(signed)
        for _ in range(40):
            if not any(isinstance(reply, OutcomeUnknown) for reply in replies):
                break
            await trio.sleep(1)
            replies = await super()._send(signed)
        return replies


async def test_coordinator_that_signs_a_new_order_in_doubt_is_found(autojump_clock: MockClock) -> None:
    async with staged(make_coordinator=SignsAnew) as stage:
        hit_posts(stage, Fault.POST_LANDS_LATE)
        await trio.sleep(60)
        assert any("rest at once" in finding for finding in judged(stage))


async def test_dispatcher_that_sends_again_past_the_horizon_is_found(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "Dispatcher", Insists)
    async with staged() as stage:
        stage.exchange.faults.switch(FaultOrder(name=Fault.POST_LOST, seconds=110.0), now_ns())
        await trio.sleep(130)
        assert any("after it was signed" in finding for finding in judged(stage))


@pytest.mark.parametrize("is_planted", [False, True])
async def test_coordinator_deaf_to_the_modes_is_found(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, *, is_planted: bool
) -> None:
    if is_planted:
        monkeypatch.setattr(decide, "may_submit", lambda *_, **__: True)
        monkeypatch.setattr(decide, "submits_room", lambda *_, **__: None)
    async with staged() as stage:
        await trio.sleep(3)
        stage.hit_our_bids(20)
        stage.exchange.modes.restart(now_ns(), restarting_s=20, post_only_s=30)
        await trio.sleep(40)
        assert any("took no orders" in finding for finding in judged(stage)) is is_planted


async def test_coordinator_that_copies_past_the_horizon_is_found(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resend, "RESEND_WITHIN_NS", 600 * NANOS_PER_S)
    async with staged() as stage:
        stage.exchange.faults.switch(FaultOrder(name=Fault.POST_LOST, seconds=90.0), now_ns())
        await trio.sleep(100)
        assert any("too old" in found for found in judged(stage))
