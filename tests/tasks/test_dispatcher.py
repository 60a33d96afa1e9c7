"""Signed, durable, told, sent: in this order, cancels ahead of everything, and nothing that is too late."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio
from trio.testing import MockClock

from tbot.core.decide import COMMANDS_MAX
from tbot.core.messages import (
    Accepted,
    Canceled,
    CancelReply,
    ClientOrderId,
    ExchangeOrderId,
    Message,
    OrderExposure,
    OrderType,
    OutcomeUnknown,
    Prepared,
    RejectCode,
    Rejected,
    ResendOrder,
    SubmitReply,
)
from tbot.core.units import NANOS_PER_S, Nanos
from tbot.errors import AuthenticationFailed, InvariantViolated
from tbot.exchanges.gateway import PreparedOrder
from tbot.tasks.conflator import Conflator
from tbot.tasks.coordinator import CANCELS, DISPATCH_LANES, SUBMITS
from tbot.tasks.dispatcher import ANSWER_S, SUBMITS_IN_FLIGHT, Dispatcher
from tbot.tasks.inbox import Inbox
from tbot.tasks.journal import JournalClient
from tbot.tasks.supervisor import TaskContext
from tests.tasks.fake_exchange import WAY_S, now_ns
from tests.tasks.order_entry import Journal, OrderEntry, cancel, journal, order


class Desk:
    def __init__(self, gateway: OrderEntry, journal: Journal) -> None:
        self.gateway, self.journal = gateway, journal
        self.inbox, self.coordinator = Inbox(DISPATCH_LANES), Inbox()
        self.exposures: Conflator[ExchangeOrderId, OrderExposure] = Conflator()
        self.ctx = TaskContext("dispatcher", trio.Event())
        self.dispatcher = Dispatcher(
            inbox=self.inbox,
            coordinator=self.coordinator,
            gateway=gateway,
            journal=journal.client,
            exposures=self.exposures,
            now_ns=now_ns,
        )

    def submit(self, *numbers: int, life_s: float = 2.0) -> None:
        for number in numbers:
            self.inbox.send_nowait(SUBMITS, order(number, life_s=life_s))

    def resend(self, *numbers: int, life_s: float = 2.0) -> None:
        for number in numbers:
            copy = ResendOrder(
                client_order_id=ClientOrderId(f"1-{number}"),
                exchange_order_id=ExchangeOrderId(f"x-1-{number}"),
                body=b"as signed",
                prepared_ns=now_ns(),
                deadline_ns=Nanos(now_ns() + int(life_s * NANOS_PER_S)),
                at_ns=now_ns(),
            )
            self.inbox.send_nowait(SUBMITS, copy)

    def cancel(self, *numbers: int) -> None:
        for number in numbers:
            self.inbox.send_nowait(CANCELS, cancel(number))

    def heard(self) -> tuple[Message, ...]:
        return self.coordinator.take_nowait()

    def prepared(self) -> list[str]:
        """Orders on disk, by a look that disturbs nothing."""
        return [row.client_order_id for row in self.journal.store.load().prepared]


@asynccontextmanager
async def dispatching(gateway: OrderEntry | None = None) -> AsyncIterator[Desk]:
    async with journal() as running, trio.open_nursery() as nursery:
        rig = Desk(gateway or OrderEntry(), running)
        nursery.start_soon(rig.dispatcher.run, rig.ctx)
        await rig.ctx.is_started.wait()
        yield rig
        rig.journal.disk.gate.set()
        rig.gateway.submit_gate.set()
        rig.ctx.stop.set()


def kinds(messages: Sequence[Message]) -> list[str]:
    return [type(message).__name__ for message in messages]


async def test_submit_is_durable_then_told_then_sent(autojump_clock: MockClock) -> None:
    class Witness(OrderEntry):
        async def submit(self, order: PreparedOrder) -> SubmitReply:
            seen.append((kinds(rig.heard()), rig.prepared(), order.exchange_order_id in rig.exposures.take_nowait()))
            return await super().submit(order)

    seen: list[tuple[list[str], list[str], bool]] = []
    async with dispatching(Witness()) as rig:
        rig.submit(1)
        await trio.sleep(1)
        assert seen == [(["Prepared"], ["1-1"], True)]
        assert kinds(rig.heard()) == ["Accepted"]


async def test_disk_that_never_commits_never_lets_an_order_out(autojump_clock: MockClock) -> None:
    async with dispatching() as rig:
        rig.journal.disk.gate = trio.Event()
        rig.submit(1, 2, 3)
        await trio.sleep(60)
        assert (rig.gateway.posts, rig.heard(), len(rig.exposures)) == ([], (), 0)
        # When the disk comes back their moment has passed: known, told, and never sent.
        rig.journal.disk.gate.set()
        await trio.sleep(1)
        assert sorted(kinds(rig.heard())) == ["Prepared"] * 3 + ["Rejected"] * 3
        assert rig.gateway.posts == []


async def test_crash_between_commit_and_post_leaves_a_known_order(autojump_clock: MockClock) -> None:
    async with journal() as running:
        rig = Desk(OrderEntry(), running)
        rig.coordinator = Inbox({"operator": 1, "facts": 1})
        rig.dispatcher.coordinator = rig.coordinator
        rig.coordinator.send_nowait("facts", order(9))  # full: it dies while it tells the coordinator
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.dispatcher.run, rig.ctx)
            await rig.ctx.is_started.wait()
            rig.submit(1)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        assert rig.gateway.posts == []
        assert rig.prepared() == ["1-1"]


async def test_cancels_do_not_wait_for_submits_that_hang(autojump_clock: MockClock) -> None:
    async with dispatching() as rig:
        rig.gateway.submit_gate = trio.Event()
        rig.submit(*range(COMMANDS_MAX))
        await trio.sleep(1)
        assert rig.gateway.in_flight == SUBMITS_IN_FLIGHT
        began = trio.current_time()
        rig.cancel(0, 1)
        await trio.sleep(2 * WAY_S)
        assert [at for at, _ in rig.gateway.pulled] == pytest.approx([began])
        assert kinds(rig.heard()[-2:]) == ["Canceled", "Canceled"]


async def test_cancels_of_one_wake_up_go_out_before_its_submits_and_in_batches(autojump_clock: MockClock) -> None:
    calls: list[str] = []

    class Listening(OrderEntry):
        async def submit(self, order: PreparedOrder) -> SubmitReply:
            calls.append("submit")
            return await super().submit(order)

        async def cancel(self, order_ids: Sequence[ExchangeOrderId]) -> tuple[CancelReply, ...]:
            calls.append(f"cancel {len(order_ids)}")
            return await super().cancel(order_ids)

    async with dispatching(Listening()) as rig:
        rig.submit(100, 101)
        rig.cancel(*range(25))
        await trio.sleep(1)
    assert sorted(calls[:3]) == ["cancel 10", "cancel 10", "cancel 5"]
    assert calls[3:] == ["submit", "submit"]


async def test_submits_go_out_in_order_and_never_more_than_eight_at_once(autojump_clock: MockClock) -> None:
    async with dispatching() as rig:
        rig.submit(*range(COMMANDS_MAX))
        await trio.sleep(1)
        assert rig.gateway.in_flight_max == SUBMITS_IN_FLIGHT
        rounds = [{name for at, name in rig.gateway.posts if at == moment} for moment in dict(rig.gateway.posts)]
        wanted = [{f"x-1-{number}" for number in range(first, first + 8)} for first in range(0, COMMANDS_MAX, 8)]
        assert rounds == wanted


async def test_order_that_waited_past_its_deadline_is_refused_unsent(autojump_clock: MockClock) -> None:
    async with dispatching() as rig:
        rig.gateway.submit_gate = trio.Event()
        rig.submit(*range(SUBMITS_IN_FLIGHT), life_s=60)
        rig.submit(50, life_s=2)
        await trio.sleep(3)
        rig.gateway.submit_gate.set()
        await trio.sleep(1)
        (refused,) = (m for m in rig.heard() if isinstance(m, Rejected))
        assert (refused.client_order_id, refused.code) == ("1-50", RejectCode.EXPIRED_UNSENT)
        assert refused.reason == "waited 3050 ms"
        assert "1-50" not in rig.prepared()
        assert len(rig.gateway.posts) == SUBMITS_IN_FLIGHT


async def test_stop_finishes_what_is_on_the_wire_and_sends_nothing_more(autojump_clock: MockClock) -> None:
    async with dispatching() as rig:
        rig.gateway.submit_gate = trio.Event()
        rig.submit(*range(SUBMITS_IN_FLIGHT + 5), life_s=60)
        await trio.sleep(1)
        rig.ctx.stop.set()
        await trio.sleep(1)
        rig.gateway.submit_gate.set()
    assert len(rig.gateway.posts) == SUBMITS_IN_FLIGHT
    assert kinds(rig.heard()).count("Accepted") == SUBMITS_IN_FLIGHT


@pytest.mark.parametrize("method", ["submit", "cancel"])
async def test_refused_credentials_end_the_task(autojump_clock: MockClock, method: str) -> None:
    with pytest.RaisesGroup(AuthenticationFailed, flatten_subgroups=True):
        async with dispatching() as rig:
            rig.gateway.errors[method] = [AuthenticationFailed("401")]
            (rig.submit if method == "submit" else rig.cancel)(1)
            await trio.sleep(5)
            raise AssertionError("it should have ended")
    # A submit that raised may have left all the same, and only its exposure tells the desk's shell.
    assert len(rig.exposures) == (1 if method == "submit" else 0)


async def test_order_that_cannot_be_signed_ends_the_task_before_anything_left(autojump_clock: MockClock) -> None:
    with pytest.RaisesGroup(InvariantViolated, flatten_subgroups=True):
        async with dispatching() as rig:
            rig.inbox.send_nowait(SUBMITS, order(1, size=0))
            await trio.sleep(5)
    assert (rig.gateway.posts, rig.heard()) == ([], ())


@pytest.mark.parametrize("method", ["submit", "cancel"])
async def test_gateway_that_never_answers_is_a_crash_not_a_place_lost(autojump_clock: MockClock, method: str) -> None:
    class Mute(OrderEntry):
        async def submit(self, order: PreparedOrder) -> SubmitReply:
            await trio.sleep_forever()
            raise AssertionError

        async def cancel(self, order_ids: Sequence[ExchangeOrderId]) -> tuple[CancelReply, ...]:
            await trio.sleep_forever()
            raise AssertionError

    with pytest.RaisesGroup(trio.TooSlowError, flatten_subgroups=True):
        async with dispatching(Mute()) as rig:
            (rig.submit if method == "submit" else rig.cancel)(1)
            await trio.sleep(ANSWER_S + 1)
            raise AssertionError("it should have crashed")


async def test_dead_coordinator_or_journal_ends_the_task(autojump_clock: MockClock) -> None:
    with pytest.RaisesGroup(trio.BrokenResourceError, flatten_subgroups=True):
        async with dispatching() as rig:
            rig.coordinator.close()
            rig.submit(1)
            await trio.sleep(5)
    assert rig.gateway.posts == []


async def test_replies_to_a_coordinator_that_left_in_order_harm_nobody(autojump_clock: MockClock) -> None:
    async with dispatching() as rig:
        with rig.coordinator:
            rig.submit(1)
            rig.cancel(2)
            await trio.sleep(WAY_S / 2)
            assert [type(m) for m in rig.heard()] == [Prepared]
        await trio.sleep(1)
        assert not rig.ctx.stop.is_set()
        assert len(rig.gateway.posts) == len(rig.gateway.pulled) == 1


async def test_idle_dispatcher_beats_and_so_does_one_whose_submits_hang(autojump_clock: MockClock) -> None:
    async with dispatching() as rig:
        rig.gateway.submit_gate = trio.Event()
        rig.submit(1)
        for _ in range(10):
            await trio.sleep(1)
            assert trio.current_time() - rig.ctx.beat_at <= 1.0


async def test_every_outcome_is_told_once(autojump_clock: MockClock) -> None:
    async with dispatching() as rig:
        rig.submit(*range(20))
        rig.cancel(*range(30, 40))
        await trio.sleep(2)
        heard = rig.heard()
        for kind, count in ((Prepared, 20), (Accepted, 20), (Canceled, 10)):
            assert sum(isinstance(m, kind) for m in heard) == count


# --- the same bytes once more ---------------------------------------------------------------------------------------


async def test_copy_goes_out_as_it_was_signed_and_is_not_prepared_again(autojump_clock: MockClock) -> None:
    sent: list[PreparedOrder] = []

    class Listening(OrderEntry):
        async def submit(self, order: PreparedOrder) -> SubmitReply:
            sent.append(order)
            return await super().submit(order)

    async with dispatching(Listening()) as rig:
        rig.resend(1)
        await trio.sleep(1)
        assert kinds(rig.heard()) == ["Accepted"]
        assert rig.prepared() == []
        assert len(rig.exposures) == 1, "it may land, so the shell must know it"
    (order,) = sent
    assert (order.exchange_order_id, order.body) == ("x-1-1", b"as signed")


async def test_refusal_of_a_copy_is_a_doubt_with_its_reason(autojump_clock: MockClock) -> None:
    class Refusing(OrderEntry):
        async def submit(self, order: PreparedOrder) -> SubmitReply:
            return Rejected(
                client_order_id=order.client_order_id,
                code=RejectCode.RATE_LIMITED,
                reason="slowly",
                at_ns=now_ns(),
                retry_after_s=3,
            )

    async with dispatching(Refusing()) as rig:
        rig.resend(1)
        await trio.sleep(1)
        (doubt,) = rig.heard()
    assert isinstance(doubt, OutcomeUnknown)
    assert (doubt.exchange_order_id, doubt.was_cancel) == ("x-1-1", False)
    assert (doubt.code, doubt.retry_after_s) == (RejectCode.RATE_LIMITED, 3)


@pytest.mark.parametrize("end", ["deadline", "cancel"])
async def test_copy_that_waited_is_not_sent_after_its_deadline_or_a_cancel(autojump_clock: MockClock, end: str) -> None:
    async with dispatching() as rig:
        rig.gateway.submit_gate = trio.Event()
        rig.submit(*range(SUBMITS_IN_FLIGHT), life_s=60)
        rig.resend(50, life_s=2)
        await trio.sleep(1)
        if end == "cancel":
            rig.cancel(50)
        await trio.sleep(0.5 if end == "cancel" else 1.5)
        rig.heard()
        rig.gateway.submit_gate.set()
        await trio.sleep(1)
        (doubt,) = (m for m in rig.heard() if isinstance(m, OutcomeUnknown))
    assert doubt.code is RejectCode.EXPIRED_UNSENT
    assert doubt.exchange_order_id == "x-1-50"
    assert len(rig.gateway.posts) == SUBMITS_IN_FLIGHT


async def test_every_copy_is_answered_once(autojump_clock: MockClock) -> None:
    async with dispatching() as rig:
        rig.submit(*range(16))
        rig.resend(*range(100, 116))
        await trio.sleep(3)
        heard = rig.heard()
    assert kinds(heard).count("Accepted") == 32


# --- batches ---------------------------------------------------------------------------------------------------------


class Batching(OrderEntry):
    """Takes several at once, and notes what the desk knew of them when they came."""

    def __init__(self) -> None:
        super().__init__(submit_batch_max=4)
        self.seen: list[tuple[list[str], list[str]]] = []
        self.rig: Desk | None = None

    async def submit_batch(self, orders: Sequence[PreparedOrder]) -> tuple[SubmitReply, ...]:
        assert self.rig is not None
        exposed = set(self.rig.exposures.take_nowait())
        assert {order.exchange_order_id for order in orders} <= exposed
        self.seen.append((kinds(self.rig.heard()), sorted(self.rig.prepared())))
        return await super().submit_batch(orders)


async def test_every_order_of_a_batch_is_durable_and_told_before_it_leaves(autojump_clock: MockClock) -> None:
    gateway = Batching()
    async with dispatching(gateway) as rig:
        gateway.rig = rig
        rig.submit(1, 2, 3)
        await trio.sleep(1)
        assert gateway.seen == [(["Prepared"] * 3, ["1-1", "1-2", "1-3"])]
        assert [m.client_order_id for m in rig.heard() if isinstance(m, Accepted)] == ["1-1", "1-2", "1-3"]


async def test_disk_that_fails_for_one_order_lets_none_of_its_batch_out(autojump_clock: MockClock) -> None:
    with pytest.RaisesGroup(trio.BrokenResourceError, flatten_subgroups=True):
        async with dispatching(OrderEntry(submit_batch_max=4)) as rig:
            rig.dispatcher.journal = _FailsFor(rig.journal.client, "1-2")
            rig.submit(1, 2, 3)
            await trio.sleep(5)
    assert rig.gateway.posts == []


class _FailsFor(JournalClient):
    def __init__(self, inner: JournalClient, name: str) -> None:
        super().__init__(inner._queue, inner._lag_s)
        self.name = name

    async def commit_prepared(self, client_order_id: ClientOrderId, payload: bytes, *, at_ns: Nanos) -> None:
        if client_order_id == self.name:
            raise trio.BrokenResourceError("planted")
        await super().commit_prepared(client_order_id, payload, at_ns=at_ns)


async def test_resting_orders_go_together_up_to_the_most_and_in_order(autojump_clock: MockClock) -> None:
    async with dispatching(OrderEntry(submit_batch_max=4)) as rig:
        rig.submit(*range(9))
        await trio.sleep(1)
    assert sorted(rig.gateway.batches) == [tuple(f"x-1-{n}" for n in group) for group in (range(4), range(4, 8))]
    assert len(rig.gateway.posts) == 9


async def test_takes_and_copies_go_alone(autojump_clock: MockClock) -> None:
    async with dispatching(OrderEntry(submit_batch_max=4)) as rig:
        rig.submit(1)
        rig.inbox.send_nowait(SUBMITS, msgspec.structs.replace(order(2), order_type=OrderType.FAK))
        rig.inbox.send_nowait(SUBMITS, msgspec.structs.replace(order(3), order_type=OrderType.FAK))
        rig.resend(4)
        rig.submit(5, 6)
        await trio.sleep(1)
    assert rig.gateway.batches == [("x-1-5", "x-1-6")]
    assert len(rig.gateway.posts) == 6


async def test_orders_of_a_batch_that_waited_too_long_are_left_out(autojump_clock: MockClock) -> None:
    async with dispatching(OrderEntry(submit_batch_max=4)) as rig:
        rig.journal.disk.gate = trio.Event()
        rig.submit(1, 2, life_s=60)
        rig.submit(3, life_s=1)
        await trio.sleep(2)
        rig.journal.disk.gate.set()
        await trio.sleep(1)
        (refused,) = (m for m in rig.heard() if isinstance(m, Rejected))
    assert (refused.client_order_id, refused.code) == ("1-3", RejectCode.EXPIRED_UNSENT)
    assert rig.gateway.batches == [("x-1-1", "x-1-2")]


async def test_batch_that_is_never_answered_is_a_crash(autojump_clock: MockClock) -> None:
    with pytest.RaisesGroup(trio.TooSlowError, flatten_subgroups=True):
        async with dispatching(OrderEntry(submit_batch_max=4)) as rig:
            rig.gateway.submit_gate = trio.Event()
            rig.submit(1, 2)
            await trio.sleep(ANSWER_S + 1)
            raise AssertionError("it should have crashed")


# --- limits learnt ---------------------------------------------------------------------------------------------------


async def test_limit_learnt_from_an_answer_is_told_once_and_first(
    autojump_clock: MockClock,
) -> None:
    class Shrinking(OrderEntry):
        async def submit(self, order: PreparedOrder) -> SubmitReply:
            reply = await super().submit(order)
            self._capabilities = msgspec.structs.replace(self._capabilities, open_orders_max=4)
            return reply

    async with dispatching(Shrinking()) as rig:
        rig.submit(1)
        await trio.sleep(1)
        assert kinds(rig.heard()) == ["Prepared", "LimitLearned", "Accepted"]
        rig.submit(2)
        rig.cancel(1)
        await trio.sleep(1)
        assert "LimitLearned" not in kinds(rig.heard())
