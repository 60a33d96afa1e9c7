"""The task round the coordinator: what it absorbs, records and hands on, in which order, and when it holds back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tbot import log
from tbot.core.messages import (
    AccountView,
    Canceled,
    CancelOrder,
    ClientOrderId,
    ExchangeOrderId,
    Halt,
    OrderExposure,
    RejectCode,
    Rejected,
    StrategyName,
    Withdraw,
)
from tbot.core.units import Nanos
from tbot.tasks.conflator import Conflator
from tbot.tasks.coordinator import (
    CANCELS,
    DISPATCH_LANES,
    JOURNAL_SLOW_S,
    SUBMITS,
    decode_entry,
)
from tbot.tasks.inbox import FACTS, OPERATOR
from tests.core.coordinators import LIMITS
from tests.tasks.coordinator_desk import MAKER, coordinating, kinds
from tests.tasks.fake_exchange import cents, now_ns
from tests.tasks.order_entry import report


async def test_one_wake_up_is_absorbed_lane_by_lane_and_decided_on_once(autojump_clock: MockClock) -> None:
    async with coordinating() as rig:
        await wait_all_tasks_blocked()
        rig.core.turns = [[]]
        rig.quote(39)
        rig.inbox.send_nowait(FACTS, report(now_ns()))
        rig.top()
        rig.inbox.send_nowait(FACTS, Withdraw(strategy=StrategyName("other"), at_ns=now_ns()))
        rig.inbox.send_nowait(OPERATOR, Halt(reason="a person", at_ns=now_ns()))
        await trio.sleep(0.001)
        assert rig.core.turns == [["Halt", "ExchangeReport", "Withdraw", "Quotes", "TopOfBook"], []]


async def test_what_people_are_told_is_logged_as_well_and_once(autojump_clock: MockClock, tmp_path: Path) -> None:
    async with coordinating() as rig:
        await rig.begin_trading()
        rig.quote(39)
        await trio.sleep(0.001)
        (submit,) = rig.submits()
        with log.set_up(file=tmp_path / "log", terminal=None):
            code, name = RejectCode.CANCEL_ONLY, submit.client_order_id
            await rig.inbox.send(FACTS, Rejected(client_order_id=name, code=code, reason="no", at_ns=now_ns()))
            await trio.sleep(5)
        logged = [json.loads(text) for text in (tmp_path / "log").read_text().splitlines()]
        told = [entry["text"] for entry in logged if entry["event"] == "coordinator.note"]
        assert told == ["the exchange takes: cancels only (cancel_only)"]
        assert rig.snapshot.exchange_takes == "cancels only (cancel_only)"


@pytest.mark.parametrize("how", ["by hand", "by a refusal"])
async def test_every_halt_is_logged_as_critical_and_once(autojump_clock: MockClock, tmp_path: Path, how: str) -> None:
    halt = Halt(reason="a person", at_ns=now_ns())
    with log.set_up(file=tmp_path / "log", terminal=None):
        async with coordinating() as rig:
            await rig.begin_trading()
            rig.quote(39)
            await trio.sleep(0.001)
            (submit,) = rig.submits()
            refusal = Rejected(
                client_order_id=submit.client_order_id, code=RejectCode.BANNED, reason="no", at_ns=now_ns()
            )
            await rig.inbox.send(FACTS, refusal if how == "by a refusal" else halt)
            await trio.sleep(5)
    logged = [json.loads(text) for text in (tmp_path / "log").read_text().splitlines()]
    (told,) = [entry for entry in logged if entry["event"] == "trading.halted"]
    assert told["level"] == "critical"
    assert told["reason"] == ("the exchange has banned this account: no" if how == "by a refusal" else "a person")


async def test_facts_causes_and_commands_are_recorded_in_order_before_anybody_acts(autojump_clock: MockClock) -> None:
    async with coordinating() as rig:
        await rig.begin_trading()
        rig.quote(39)
        await trio.sleep(0.001)
        (submit,) = rig.submits()
        name = await rig.accept(submit)
        await trio.sleep(0.001)
        rig.quote()
        await trio.sleep(0.001)
        (pull,) = rig.sent()
        assert isinstance(pull, CancelOrder)
        await rig.inbox.send(FACTS, Canceled(exchange_order_id=name, at_ns=now_ns()))
        await trio.sleep(0.001)
        assert rig.kinds() == [
            *("ExchangeReport", "TopOfBook", "Quotes", "SubmitOrder"),
            *("Prepared", "Accepted", "CancelOrder", "Canceled"),
        ]
        assert [row.seq for row in rig.records()] == list(range(1, 9))
        assert decode_entry(rig.records()[3].payload) == submit


async def test_command_does_not_overtake_its_record(autojump_clock: MockClock) -> None:
    async with coordinating() as rig:
        await rig.begin_trading()
        rig.journal.disk.gate = trio.Event()
        rig.inbox.put_state("x", Withdraw(strategy=MAKER, at_ns=now_ns()))
        await trio.sleep(0.001)
        filler = Withdraw(strategy=MAKER, at_ns=now_ns())
        for _ in range(6):  # fill the journal's queue; what does not fit blocks the coordinator
            for _ in range(200):
                await rig.inbox.send(FACTS, filler)
            await trio.sleep(0.001)
        rig.quote(39)
        await trio.sleep(0.001)
        assert rig.sent() == []
        rig.journal.disk.gate.set()
        await trio.sleep(0.001)
        assert rig.kinds()[-1] == "SubmitOrder"
        assert len(rig.submits()) == 1


async def test_while_the_journal_is_slow_only_cancels_go_out(autojump_clock: MockClock) -> None:
    async with coordinating() as rig:
        await rig.begin_trading()
        rig.quote(39)
        await trio.sleep(0.001)
        await rig.accept(rig.submits()[0])
        await trio.sleep(0.001)
        rig.journal.disk.gate = trio.Event()
        rig.inbox.put_state("x", Withdraw(strategy=StrategyName("other"), at_ns=now_ns()))
        await trio.sleep(JOURNAL_SLOW_S / 2)
        rig.quote(39, 38)  # not slow yet
        await trio.sleep(0.001)
        (second,) = rig.submits()
        assert second.price == cents(38)
        await rig.accept(second)
        await trio.sleep(JOURNAL_SLOW_S)
        rig.quote(37)
        await trio.sleep(1)
        pulled = rig.sent()
        assert kinds(pulled) == ["CancelOrder", "CancelOrder"]
        for message in pulled:
            assert isinstance(message, CancelOrder)
            await rig.inbox.send(FACTS, Canceled(exchange_order_id=message.exchange_order_id, at_ns=now_ns()))
        await trio.sleep(3)
        assert rig.sent() == []
        assert rig.progress.is_fresh()  # it still gets on: the exchange may go on trusting us
        rig.journal.disk.gate.set()
        await trio.sleep(1.1)
        assert [m.price for m in rig.submits()] == [cents(37)]


async def test_slow_journal_loses_nothing(autojump_clock: MockClock) -> None:
    async with coordinating() as rig:
        await rig.begin_trading()
        rig.journal.disk.gate = trio.Event()
        for _ in range(20):
            for _ in range(100):
                with trio.move_on_after(1):
                    await rig.inbox.send(FACTS, Withdraw(strategy=MAKER, at_ns=now_ns()))
            rig.journal.disk.gate.set()
            await trio.sleep(0.1)
            rig.journal.disk.gate = trio.Event()
        rig.journal.disk.gate.set()
        await trio.sleep(1)
        assert rig.kinds() == ["ExchangeReport"] + ["Withdraw"] * 2_000
        assert [row.seq for row in rig.records()] == list(range(1, 2_002))


async def test_full_lane_keeps_orders_planned_and_loses_none(autojump_clock: MockClock) -> None:
    wanted = list(range(1, 40))
    async with coordinating(msgspec.structs.replace(LIMITS, open_orders_max=100)) as rig:
        await rig.begin_trading()
        rig.quote(*wanted)
        await trio.sleep(5)  # the dispatcher is away: its lane is full and nothing more is decided
        assert len(rig.core.orders) == DISPATCH_LANES[SUBMITS]
        first = rig.submits()
        assert len(first) == DISPATCH_LANES[SUBMITS]
        await trio.sleep(5)  # it took them, and holds them: neither signed nor refused
        assert rig.submits() == []
        for submit in first:
            await rig.accept(submit)
        await trio.sleep(1.1)
        rest = rig.submits()
        assert sorted(m.price for m in [*first, *rest]) == [cents(price) for price in wanted]


async def test_full_cancel_lane_keeps_cancels_planned(autojump_clock: MockClock) -> None:
    async with coordinating() as rig:
        await rig.begin_trading()
        rig.quote(39, 38)
        await trio.sleep(0.001)
        for submit in rig.submits():
            await rig.accept(submit)
        await trio.sleep(0.001)
        filler = CancelOrder(client_order_id=ClientOrderId("f"), exchange_order_id=ExchangeOrderId("f"), at_ns=now_ns())
        for _ in range(DISPATCH_LANES[CANCELS] - 1):
            rig.dispatcher.send_nowait(CANCELS, filler)
        rig.quote()
        await trio.sleep(3)
        ours = [m for m in rig.sent() if m is not filler]
        assert len(ours) == 1
        await trio.sleep(1.1)
        assert len({m.client_order_id for m in [*ours, *rig.sent()] if isinstance(m, CancelOrder)}) == 2


async def test_exposures_are_told_from_prepared_to_the_end(autojump_clock: MockClock) -> None:
    async with coordinating() as rig:
        await rig.begin_trading()
        rig.quote(39)
        await trio.sleep(0.001)
        (submit,) = rig.submits()
        assert len(rig.exposures) == 0
        name = await rig.accept(submit)
        await trio.sleep(0.001)
        assert rig.exposures.peek(name) == OrderExposure(exchange_order_id=name)
        await rig.inbox.send(FACTS, Canceled(exchange_order_id=name, at_ns=now_ns()))
        await trio.sleep(0.001)
        assert len(rig.exposures) == 0


async def test_views_are_published_when_they_change_and_not_otherwise(autojump_clock: MockClock) -> None:
    async with coordinating() as rig:
        await rig.begin_trading()
        box: Conflator[Any, AccountView] = Conflator()
        with rig.accounts.subscribe("test", box):
            assert len(box.take_nowait()) == 2
            await trio.sleep(10)
            assert box.take_nowait() == {}
            await rig.inbox.send(OPERATOR, Halt(reason="a person", at_ns=now_ns()))
            await trio.sleep(0.001)
            assert [view.is_trading for view in box.take_nowait().values()] == [False, False]


async def test_halt_that_prices_alone_brought_about_is_shown_to_strategies(autojump_clock: MockClock) -> None:
    async with coordinating() as rig:
        await rig.begin_trading()
        core, box = rig.core, Conflator[Any, AccountView]()

        def lose(at_ns: Nanos, **_: int) -> tuple[Halt]:
            halt = Halt(reason="loss limit", at_ns=at_ns)
            core.apply(halt, at_ns)
            return (halt,)

        with rig.accounts.subscribe("test", box):
            box.take_nowait()
            core.decide = lose  # type: ignore[method-assign]
            rig.top()
            await trio.sleep(0.001)
            assert [view.is_trading for view in box.take_nowait().values()] == [False, False]
