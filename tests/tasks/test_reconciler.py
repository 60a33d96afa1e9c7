"""Asks regularly, at once when told, never twice at a time, never against a closed door, and reaches back."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from tbot.core.backoff import Backoff
from tbot.core.market import TokenId
from tbot.core.messages import ExchangeOrderId, ExchangeReport, RequestReport
from tbot.core.units import NANOS_PER_S, Nanos
from tbot.errors import AuthenticationFailed, Disconnected, RateLimited
from tbot.tasks.inbox import OPERATOR, Inbox
from tbot.tasks.reconciler import OVERLAP_NS, POLL_S, REFRESH_EVERY_S, REFRESH_S_MAX, Reconciler
from tbot.tasks.supervisor import TaskContext
from tests.tasks.fake_exchange import EPOCH, WAY_S, now_ns
from tests.tasks.order_entry import REPORT_WAYS, OrderEntry

BACKOFF = Backoff(0.5, 10.0)
TAKES_S = REPORT_WAYS * WAY_S


class Desk:
    def __init__(self, coordinator: Inbox) -> None:
        self.gateway = OrderEntry()
        self.inbox, self.coordinator = Inbox({OPERATOR: 1}), coordinator
        self.ctx = TaskContext("reconciler", trio.Event())
        self.reconciler = Reconciler(
            inbox=self.inbox,
            coordinator=coordinator,
            gateway=self.gateway,
            backoff=BACKOFF,
            rng=random.Random(1),
            now_ns=now_ns,
            since_ns=EPOCH,
        )

    def ask(self, *order_ids: str, since_ns: int = 0) -> None:
        names = tuple(map(ExchangeOrderId, order_ids))
        request = RequestReport(order_ids=names, since_ns=Nanos(since_ns), reason="doubt", at_ns=now_ns())
        self.inbox.put_state("request", request)

    def times(self) -> list[float]:
        return [at for at, _, _ in self.gateway.asked]


@asynccontextmanager
async def reconciling(*errors: Exception | None, lane: int = 256, is_recovered: bool = True) -> AsyncIterator[Desk]:
    rig = Desk(Inbox({OPERATOR: 1, "facts": lane}))
    rig.gateway.errors["report"] = list(errors)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.reconciler.run, rig.ctx)
        await rig.ctx.is_started.wait()
        if is_recovered:
            rig.ask()  # as the coordinator does when it has recovered
        yield rig
        rig.ctx.stop.set()


async def test_asks_at_once_and_then_every_five_seconds(autojump_clock: MockClock) -> None:
    async with reconciling() as rig:
        await trio.sleep(16)
        steps = [at - rig.times()[0] for at in rig.times()]
        assert steps == pytest.approx([0, POLL_S + TAKES_S, 2 * (POLL_S + TAKES_S), 3 * (POLL_S + TAKES_S)])
        assert [type(m) for m in rig.coordinator.take_nowait()] == [ExchangeReport] * 4


async def test_nothing_is_asked_before_the_coordinator_knows_how_far_back(autojump_clock: MockClock) -> None:
    async with reconciling(is_recovered=False) as rig:
        await trio.sleep(60)
        assert rig.times() == []
        rig.ask(since_ns=EPOCH - 3_600 * NANOS_PER_S)
        await trio.sleep(POLL_S + 1)
        assert next(since for _, since, _ in rig.gateway.asked) == EPOCH - 3_600 * NANOS_PER_S - OVERLAP_NS


async def test_question_is_asked_at_once_with_its_orders(autojump_clock: MockClock) -> None:
    async with reconciling() as rig:
        await trio.sleep(1)
        rig.ask("a", "b")
        await trio.sleep(1)
        at, _, lookups = rig.gateway.asked[-1]
        assert at == pytest.approx(1.0)
        assert lookups == ("a", "b")
        await trio.sleep(POLL_S + 1)
        assert rig.gateway.asked[-1][2] == ()  # answered, so not asked again


async def test_question_that_comes_during_a_report_is_asked_after_it_and_the_newest_counts(
    autojump_clock: MockClock,
) -> None:
    async with reconciling() as rig:
        await trio.sleep(WAY_S)
        for name in ("old", "older", "new"):
            rig.ask(name)
        await trio.sleep(1)
        assert [lookups for _, _, lookups in rig.gateway.asked] == [(), ("new",)]
        assert rig.gateway.in_flight_max == 1


async def test_never_two_reports_at_once_however_often_it_is_asked(autojump_clock: MockClock) -> None:
    async with reconciling() as rig:
        for number in range(100):
            rig.ask(str(number))
            await trio.sleep(WAY_S)
        assert rig.gateway.in_flight_max == 1
        assert rig.times() == sorted(rig.times())
        assert len(rig.times()) == pytest.approx(5 / TAKES_S, abs=2)


async def test_failures_are_spaced_out_and_questions_do_not_hurry_them(autojump_clock: MockClock) -> None:
    async with reconciling(*[Disconnected("down")] * 8) as rig:
        for _ in range(600):
            rig.ask("a")
            await trio.sleep(0.1)
        gaps = [late - early for early, late in zip(rig.times(), rig.times()[1:], strict=False)][:8]
        dice = random.Random(1)
        assert gaps == pytest.approx([BACKOFF.delay(attempt, dice) for attempt in range(8)], abs=1e-3)


async def test_question_asked_while_the_exchange_is_away_is_not_forgotten(autojump_clock: MockClock) -> None:
    async with reconciling(Disconnected("down"), Disconnected("down")) as rig:
        await trio.sleep(0.01)
        rig.ask("a")
        await trio.sleep(4)
        assert [lookups for _, _, lookups in rig.gateway.asked][-1] == ("a",)


async def test_wait_that_the_exchange_asks_for_is_kept(autojump_clock: MockClock) -> None:
    async with reconciling(RateLimited("429", retry_after_s=17.0)) as rig:
        rig.ask("a")
        await trio.sleep(16.9)
        assert len(rig.times()) == 1
        await trio.sleep(0.2)
        assert rig.times()[1] - rig.times()[0] == pytest.approx(17.0)


async def test_success_ends_the_back_off(autojump_clock: MockClock) -> None:
    async with reconciling(*[Disconnected("down")] * 3, None, Disconnected("again")) as rig:
        await trio.sleep(20)
        fifth, sixth = rig.times()[4:6]
        assert sixth - fifth <= 0.5


async def test_reports_reach_back_over_the_last_one(autojump_clock: MockClock) -> None:
    async with reconciling() as rig:
        await trio.sleep(POLL_S + 1)
        (first_at, first, _), (_, second, _) = rig.gateway.asked[:2]
        assert first == EPOCH - OVERLAP_NS
        assert second == EPOCH + round(first_at * NANOS_PER_S) - OVERLAP_NS


async def test_question_can_reach_back_further_but_never_less_far(autojump_clock: MockClock) -> None:
    async with reconciling() as rig:
        await trio.sleep(1)
        rig.ask(since_ns=EPOCH - 3_600 * NANOS_PER_S)
        await trio.sleep(1)
        rig.ask(since_ns=EPOCH + 3_600 * NANOS_PER_S)
        await trio.sleep(1)
        (_, far, _), (_, near, _) = rig.gateway.asked[1:3]
        assert far == EPOCH - 3_600 * NANOS_PER_S - OVERLAP_NS
        assert near == EPOCH + NANOS_PER_S - OVERLAP_NS


async def test_failed_report_does_not_shorten_the_reach_of_the_next(autojump_clock: MockClock) -> None:
    async with reconciling(None, Disconnected("down"), Disconnected("down")) as rig:
        await trio.sleep(12)
        sinces = [since for _, since, _ in rig.gateway.asked]
        assert sinces[1] == sinces[2] == sinces[3]


async def test_refused_credentials_end_the_task(autojump_clock: MockClock) -> None:
    with pytest.RaisesGroup(AuthenticationFailed, flatten_subgroups=True):
        async with reconciling(AuthenticationFailed("401")) as rig:
            await trio.sleep(1)
    assert len(rig.times()) == 1


async def test_full_coordinator_holds_the_next_report_back(autojump_clock: MockClock) -> None:
    async with reconciling(lane=1) as rig:
        await trio.sleep(60)
        assert len(rig.times()) == 2
        assert len(rig.coordinator.take_nowait()) == 2


async def test_stop_ends_it_after_the_report_under_way(autojump_clock: MockClock) -> None:
    async with reconciling() as rig:
        await trio.sleep(WAY_S)
        rig.ask("a")
        rig.ctx.stop.set()
    assert trio.current_time() == pytest.approx(TAKES_S)
    assert len(rig.times()) == 1


async def test_idle_reconciler_beats(autojump_clock: MockClock) -> None:
    async with reconciling() as rig:
        await trio.sleep(3.4)
        assert trio.current_time() - rig.ctx.beat_at <= 1.0


def wants_anew(rig: Desk, *assets: str) -> None:
    tokens = tuple(map(TokenId, assets))
    rig.inbox.put_state(
        "request", RequestReport(order_ids=(), since_ns=Nanos(0), reason="differ", at_ns=now_ns(), refresh=tokens)
    )


async def test_balances_are_read_anew_before_they_are_told_again(autojump_clock: MockClock) -> None:
    async with reconciling() as rig:
        await trio.sleep(1)
        rig.coordinator.take_nowait()
        wants_anew(rig, "yes", "cash")
        await trio.sleep(1)
        assert [asset for _, asset in rig.gateway.refreshed] == ["yes", "cash"]
        assert rig.gateway.refreshed[-1][0] < rig.times()[-1]
        (told,) = rig.coordinator.take_nowait()
        assert isinstance(told, ExchangeReport)
        assert told.refreshed == ("yes", "cash")
        await trio.sleep(POLL_S)
        (told,) = rig.coordinator.take_nowait()
        assert isinstance(told, ExchangeReport)
        assert told.refreshed == ()


async def test_what_was_not_read_anew_is_named_until_it_is_or_a_minute_has_passed(autojump_clock: MockClock) -> None:
    async with reconciling() as rig:
        await trio.sleep(1)
        rig.coordinator.take_nowait()
        rig.gateway.errors["refresh"] = [None, Disconnected("down"), None, None, *[Disconnected("down")] * 30]
        told: list[tuple[TokenId, ...]] = []
        for number in range(80):
            if number != 1:  # a report by itself forgets nothing
                wants_anew(rig, "yes", "no", "cash", *(("late",) if number > 8 else ()))
            await trio.sleep(1)
            told += [m.unread for m in rig.coordinator.take_nowait() if isinstance(m, ExchangeReport)]
        assert told[:4] == [("no", "cash")] * 4, "the first failure is everybody's"
        assert all("late" in unread for unread in told[15:65])
        assert not any("late" in unread for unread in told[72:])


async def test_each_balance_is_read_anew_seldom_however_often_it_differs(autojump_clock: MockClock) -> None:
    async with reconciling() as rig:
        for number in range(60):
            wants_anew(rig, "yes" if number % 2 else "no")
            await trio.sleep(0.5)
        times = [at for at, asset in rig.gateway.refreshed if asset == "yes"]
        assert min(late - early for early, late in pairwise(times)) >= REFRESH_EVERY_S
        assert 5 <= len(times) <= 7


async def test_an_exchange_that_reads_nothing_anew_costs_no_report(autojump_clock: MockClock) -> None:
    async with reconciling() as rig:
        await trio.sleep(1)
        rig.gateway.errors["refresh"] = [Disconnected("down")] * 2
        before = len(rig.times())
        for _ in range(20):
            wants_anew(rig, "yes", "no")
            await trio.sleep(0.5)
        assert len(rig.times()) - before > 15
        assert len(rig.gateway.refreshed) == 2
        told = [m for m in rig.coordinator.take_nowait() if isinstance(m, ExchangeReport)]
        assert all(report.refreshed == () for report in told)


async def test_an_exchange_that_hangs_over_a_balance_holds_no_report_up_for_long(autojump_clock: MockClock) -> None:
    async with reconciling() as rig:
        await trio.sleep(1)
        rig.gateway.refresh_gate = trio.Event()
        wants_anew(rig, "yes")
        asked_at = trio.current_time()
        await trio.sleep(REFRESH_S_MAX + 1)
        assert rig.times()[-1] == pytest.approx(asked_at + REFRESH_S_MAX)
        rig.gateway.refresh_gate.set()


async def test_what_was_read_anew_is_told_by_the_report_that_works(autojump_clock: MockClock) -> None:
    async with reconciling(None, Disconnected("down")) as rig:
        await trio.sleep(1)
        rig.coordinator.take_nowait()
        wants_anew(rig, "yes")
        await trio.sleep(3)
        (told,) = rig.coordinator.take_nowait()
        assert isinstance(told, ExchangeReport)
        assert told.refreshed == ("yes",)
        assert len(rig.gateway.refreshed) == 1
