"""How the task round the coordinator begins, stops, and begins again from what was kept."""

from __future__ import annotations

import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tbot.core.messages import (
    Canceled,
    CancelOrder,
    ClientOrderId,
    ExchangeOrderId,
    Halt,
    Prepared,
    RequestReport,
    SubmitOrder,
    Withdraw,
)
from tbot.core.units import NANOS_PER_S, Nanos
from tbot.errors import StateCorrupt
from tbot.store.rows import CheckpointRow, Loaded
from tbot.tasks.checkpointer import SLOT_KEY
from tbot.tasks.coordinator import encode_state, rebuild
from tbot.tasks.heartbeat import ALIVE_S
from tbot.tasks.inbox import FACTS, OPERATOR
from tests.core.coordinators import LIMITS, MARKETS, YES, trading_desk
from tests.tasks.coordinator_desk import MAKER, Desk, accepted, coordinating, kinds
from tests.tasks.fake_exchange import MARKET, cents, now_ns
from tests.tasks.order_entry import journal, report


async def test_first_report_moves_it_from_recovering_to_trading(autojump_clock: MockClock) -> None:
    async with coordinating() as rig:
        rig.top()
        rig.quote(39)
        await trio.sleep(3)
        assert rig.snapshot.mode == "RECOVERING"
        assert rig.sent() == []
        (question,) = rig.reconciler.take_nowait()
        assert isinstance(question, RequestReport)
        await rig.inbox.send(FACTS, report(now_ns()))
        await trio.sleep(1.1)
        assert rig.snapshot.mode == "TRADING"
        assert [m.price for m in rig.submits()] == [cents(39)]


async def test_report_asked_for_before_the_start_does_not_begin_trading(autojump_clock: MockClock) -> None:
    async with coordinating() as rig:
        await rig.inbox.send(FACTS, report(Nanos(now_ns() - NANOS_PER_S)))
        await trio.sleep(2)
        assert rig.snapshot.mode == "RECOVERING"


async def test_stop_cancels_waits_for_the_answer_and_leaves_quiet(autojump_clock: MockClock) -> None:
    async with coordinating() as rig:
        await rig.begin_trading()
        rig.quote(39)
        await trio.sleep(0.001)
        name = await rig.accept(rig.submits()[0])
        await trio.sleep(0.001)
        rig.ctx.stop.set()
        await trio.sleep(2)
        (pull,) = rig.sent()
        assert isinstance(pull, CancelOrder)
        rig.quote(39)  # a strategy that was not told
        await trio.sleep(1)
        assert not rig.has_left()
        await rig.inbox.send(FACTS, Canceled(exchange_order_id=name, at_ns=now_ns()))
        await trio.sleep(0.2)
        assert rig.has_left()
        assert rig.submits() == []
        assert (rig.snapshot.mode, rig.snapshot.orders) == ("STOPPING", ())
        newest = rig.checkpoints.peek(SLOT_KEY)
        assert newest is not None
        assert newest.seq == rig.records()[-1].seq
        await rig.inbox.send(FACTS, accepted(ClientOrderId("late")))  # harms nobody


async def test_stop_passes_by_an_operator_who_filled_his_lane(autojump_clock: MockClock) -> None:
    async with coordinating() as rig:
        await wait_all_tasks_blocked()
        rig.ctx.stop.set()
        for _ in range(16):
            rig.inbox.send_nowait(OPERATOR, Halt(reason="a person", at_ns=now_ns()))
        await trio.sleep(1)
        assert rig.has_left()
        assert rig.kinds() == ["Stop"] + ["Halt"] * 16


async def test_stop_does_not_forget_an_order_that_was_only_decided(autojump_clock: MockClock) -> None:
    async with coordinating() as rig:
        await rig.begin_trading()
        rig.quote(39)
        await trio.sleep(0.001)
        rig.ctx.stop.set()
        await trio.sleep(5)
        assert not rig.has_left()
        (submit,) = rig.submits()
        name = await rig.accept(submit)
        await trio.sleep(0.2)
        assert kinds(rig.sent()) == ["CancelOrder"]
        await rig.inbox.send(FACTS, Canceled(exchange_order_id=name, at_ns=now_ns()))
        await trio.sleep(0.2)
        assert rig.has_left()


async def test_restart_goes_on_counting_and_knows_every_order(autojump_clock: MockClock) -> None:
    async with journal() as running:
        first = Desk(running)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first.task.run, first.ctx)
            await first.ctx.is_started.wait()
            await first.begin_trading()
            first.quote(39, 38)
            await trio.sleep(0.001)
            known, signed = first.submits()
            await first.accept(known)
            # The other was made durable, and the coordinator never heard of it.
            await running.client.commit_prepared(signed.client_order_id, encoded(signed), at_ns=now_ns())
            await trio.sleep(0.001)
            nursery.cancel_scope.cancel()
        second = Desk(running)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(second.task.run, second.ctx)
            await second.ctx.is_started.wait()
            # Nothing old is acted on: no book, no quotes, and what is in doubt is asked for.
            await trio.sleep(1.1)
            assert second.core.account.quotes == {}
            assert second.core.account.tops == {}
            names = {f"x-{order.client_order_id}" for order in (known, signed)}
            (question,) = (m for m in second.reconciler.take_nowait() if isinstance(m, RequestReport))
            assert set(question.order_ids) == names
            assert set(second.exposures.take_nowait()) == names
            assert second.submits() == []
            nursery.cancel_scope.cancel()
        assert [row.seq for row in second.records()] == list(range(1, len(second.records()) + 1))
        assert second.core.epoch == first.core.epoch + 1


async def test_journal_alone_gives_the_same_state(autojump_clock: MockClock) -> None:
    async with coordinating() as rig:
        await rig.begin_trading()
        for bids in ((39, 38), (38,), (37, 36, 35), ()):
            rig.quote(*bids)
            await trio.sleep(0.5)
            for message in rig.sent():
                if isinstance(message, SubmitOrder):
                    await rig.accept(message)
                elif isinstance(message, CancelOrder):
                    await rig.inbox.send(FACTS, Canceled(exchange_order_id=message.exchange_order_id, at_ns=now_ns()))
            await trio.sleep(0.001)
        loaded = rig.journal.store.load()
        assert rebuild(loaded, (MARKET,), rig.limits).state() == rig.core.state()


async def test_wedged_turn_falls_silent(autojump_clock: MockClock) -> None:
    async with coordinating() as rig:
        await rig.begin_trading()
        rig.journal.disk.gate = trio.Event()
        for _ in range(1_500):  # more than the journal's queue holds: the turn waits for the disk
            with trio.move_on_after(0.001):
                await rig.inbox.send(FACTS, Withdraw(strategy=MAKER, at_ns=now_ns()))
        await trio.sleep(ALIVE_S + 0.1)
        assert not rig.progress.is_fresh()


async def test_row_of_another_version_is_refused_with_a_remedy() -> None:
    async with journal() as running:
        await running.client.append("Nonsense", b"\xc1", seq=1, at_ns=now_ns())
        rig = Desk(running)
        with pytest.raises(StateCorrupt, match="start with the version that wrote it"):
            await rig.task.run(rig.ctx)


def test_a_checkpoint_in_a_form_that_was_never_released_is_refused_and_not_half_read() -> None:
    """Ledgers once held the filled totals of orders; nothing reads them, and nothing drops them in silence."""
    state = msgspec.msgpack.decode(encode_state(trading_desk(holding=20).core.state()))
    whole = CheckpointRow(seq=1, at_ns=Nanos(1), payload=msgspec.msgpack.encode(state))
    state["ledger"]["filled"] = [["x1-1", 20_000_000]]
    old = CheckpointRow(seq=1, at_ns=Nanos(1), payload=msgspec.msgpack.encode(state))
    loaded = Loaded(epoch=2, checkpoint=whole, records=(), prepared=(), record_seq=1)
    assert rebuild(loaded, MARKETS, LIMITS).account.held(YES) == 20_000_000
    with pytest.raises(StateCorrupt, match=r"unknown field `filled`.*start with the version that wrote it"):
        rebuild(msgspec.structs.replace(loaded, checkpoint=old), MARKETS, LIMITS)


def encoded(submit: SubmitOrder) -> bytes:
    name = ExchangeOrderId(f"x-{submit.client_order_id}")
    return msgspec.msgpack.encode(
        Prepared(client_order_id=submit.client_order_id, exchange_order_id=name, body=b"", at_ns=now_ns())
    )
