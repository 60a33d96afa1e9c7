"""The task round the coordinator: what it absorbs, records and hands on, in which order, and when it holds back."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tbot import log
from tbot.core.account import CoordinatorState
from tbot.core.coordinator import Coordinator
from tbot.core.market import TokenId
from tbot.core.messages import (
    Accepted,
    AccountView,
    Canceled,
    CancelOrder,
    ClientOrderId,
    ExchangeOrderId,
    Halt,
    Message,
    OrderExposure,
    OrderState,
    Prepared,
    Quote,
    Quotes,
    RejectCode,
    Rejected,
    RequestReport,
    Side,
    Snapshot,
    StrategyName,
    SubmitOrder,
    TopOfBook,
    Withdraw,
)
from tbot.core.risk import RiskLimits
from tbot.core.units import NANOS_PER_S, Nanos, Price
from tbot.errors import StateCorrupt
from tbot.store.rows import RecordRow
from tbot.tasks.checkpointer import SLOT_KEY, StateReached
from tbot.tasks.conflator import Conflator, Hub
from tbot.tasks.coordinator import (
    CANCELS,
    DISPATCH_LANES,
    JOURNAL_SLOW_S,
    SUBMITS,
    CoordinatorPorts,
    CoordinatorTask,
    decode_entry,
    rebuild,
)
from tbot.tasks.heartbeat import ALIVE_S, Progress
from tbot.tasks.inbox import FACTS, OPERATOR, Inbox
from tbot.tasks.supervisor import TaskContext
from tests.core.coordinators import LIMITS
from tests.tasks.fake_exchange import CENT, MARKET, YES, cents, now_ns, shares
from tests.tasks.order_entry import Journal, journal, report

MAKER = StrategyName("maker")


class Listening(Coordinator):
    """Notes what it is told and how often it decides."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.turns: list[list[str]] = [[]]

    def absorb(self, message: Any, now_ns: Nanos) -> None:
        self.turns[-1].append(type(message).__name__)
        super().absorb(message, now_ns)

    def decide(self, *args: Any, **kwargs: Any) -> Any:
        self.turns.append([])
        return super().decide(*args, **kwargs)


class Desk:
    """The coordinator's surroundings, with everything it said kept; the test plays the other tasks."""

    def __init__(self, journal: Journal, limits: RiskLimits = LIMITS) -> None:
        self.journal = journal
        self.inbox, self.dispatcher, self.reconciler = Inbox(), Inbox(DISPATCH_LANES), Inbox({OPERATOR: 1})
        self.accounts: Hub[TokenId, AccountView] = Hub("accounts")
        self.exposures: Conflator[ExchangeOrderId, OrderExposure] = Conflator()
        self.checkpoints: Conflator[str, StateReached[CoordinatorState]] = Conflator()
        self.snapshots: Conflator[str, Snapshot] = Conflator()
        self.progress = Progress()
        self.ctx = TaskContext("coordinator", trio.Event())
        self.made: list[Listening] = []
        self.limits = limits
        self.task = CoordinatorTask(
            open_orders_max=1_000,
            ports=CoordinatorPorts(
                inbox=self.inbox,
                dispatcher=self.dispatcher,
                reconciler=self.reconciler,
                accounts=self.accounts,
                exposures=self.exposures,
                checkpoints=self.checkpoints,
                snapshots=self.snapshots,
                journal=journal.client,
                alive=self.progress.mark,
            ),
            markets=(MARKET,),
            limits=limits,
            now_ns=now_ns,
            make=self.make,
        )

    def make(self, *args: Any, **kwargs: Any) -> Coordinator:
        self.made.append(Listening(*args, **kwargs))
        return self.made[-1]

    @property
    def core(self) -> Listening:
        return self.made[-1]

    async def begin_trading(self) -> None:
        """Tell it an empty account and a book."""
        self.top()
        await self.inbox.send(FACTS, report(now_ns()))
        await trio.sleep(0.001)

    def top(self, *, is_stale: bool = False) -> None:
        top = TopOfBook(
            token_id=YES, best_bid=cents(40), best_ask=cents(60), tick=CENT, is_stale=is_stale, at_ns=now_ns()
        )
        self.inbox.put_state(("top", YES), top)

    def has_left(self) -> bool:
        return self.inbox._has_finished

    def quote(self, *bids: int, life_s: float = 60.0) -> None:
        self.inbox.put_state(("quotes", MAKER, YES), quotes(*bids, life_s=life_s))

    async def accept(self, submit: SubmitOrder) -> ExchangeOrderId:
        """Play the dispatcher for an order that goes through."""
        name = ExchangeOrderId(f"x-{submit.client_order_id}")
        signed = Prepared(client_order_id=submit.client_order_id, exchange_order_id=name, body=b"", at_ns=now_ns())
        await self.inbox.send(FACTS, signed)
        await self.inbox.send(FACTS, accepted(submit.client_order_id))
        return name

    def sent(self) -> list[Message]:
        return list(self.dispatcher.take_nowait())

    def submits(self) -> list[SubmitOrder]:
        return [m for m in self.sent() if isinstance(m, SubmitOrder)]

    def records(self) -> tuple[RecordRow, ...]:
        return self.journal.store.records(limit=10_000)

    def kinds(self) -> list[str]:
        return [row.kind for row in self.records()]

    @property
    def snapshot(self) -> Snapshot:
        found = self.snapshots.peek("snapshot")
        assert found is not None
        return found


def quotes(*bids: int, life_s: float = 60.0) -> Quotes:
    return Quotes(
        strategy=MAKER,
        token_id=YES,
        quotes=tuple(
            Quote(side=Side.BUY, level=level, price=cents(bid), size=shares(10), price_worst=Price(990_000))
            for level, bid in enumerate(bids)
        ),
        chase_ticks=0,
        valid_until_ns=Nanos(now_ns() + int(life_s * NANOS_PER_S)),
        at_ns=now_ns(),
    )


def accepted(client_order_id: ClientOrderId) -> Accepted:
    name = ExchangeOrderId(f"x-{client_order_id}")
    return Accepted(client_order_id=client_order_id, exchange_order_id=name, state=OrderState.LIVE, at_ns=now_ns())


@asynccontextmanager
async def coordinating(limits: RiskLimits = LIMITS) -> AsyncIterator[Desk]:
    async with journal() as running, trio.open_nursery() as nursery:
        rig = Desk(running, limits)
        nursery.start_soon(rig.task.run, rig.ctx)
        await rig.ctx.is_started.wait()
        yield rig
        running.disk.gate.set()
        nursery.cancel_scope.cancel()


def kinds(messages: Sequence[Message]) -> list[str]:
    return [type(message).__name__ for message in messages]


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


async def test_report_asked_for_before_the_start_does_not_begin_trading(autojump_clock: MockClock) -> None:
    async with coordinating() as rig:
        await rig.inbox.send(FACTS, report(Nanos(now_ns() - NANOS_PER_S)))
        await trio.sleep(2)
        assert rig.snapshot.mode == "RECOVERING"


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


def encoded(submit: SubmitOrder) -> bytes:
    name = ExchangeOrderId(f"x-{submit.client_order_id}")
    return msgspec.msgpack.encode(
        Prepared(client_order_id=submit.client_order_id, exchange_order_id=name, body=b"", at_ns=now_ns())
    )
