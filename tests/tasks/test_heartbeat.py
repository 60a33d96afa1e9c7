"""The dead-man switch hears us as long as decisions are made, and no longer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from trio.testing import MockClock

from tbot.core.messages import AccountGap, Halt, Message
from tbot.errors import AnotherSender, Disconnected
from tbot.tasks.heartbeat import Heartbeat, Progress
from tbot.tasks.inbox import FACTS, Inbox
from tbot.tasks.supervisor import TaskContext
from tests.tasks.fake_exchange import FakeExchange, now_ns


@asynccontextmanager
async def beating(
    exchange: FakeExchange, progress: Progress, coordinator: Inbox | None = None
) -> AsyncIterator[TaskContext]:
    ctx = TaskContext("heartbeat", trio.Event())
    heartbeat = Heartbeat(
        gateway=exchange,
        coordinator=coordinator or Inbox(),
        coordinator_alive=progress.is_fresh,
        now_ns=now_ns,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(heartbeat.run, ctx)
        yield ctx
        ctx.stop.set()


async def keep_alive(progress: Progress) -> None:
    while True:
        progress.mark()
        await trio.sleep(1)


async def test_beats_come_every_five_seconds_while_the_coordinator_gets_on(autojump_clock: MockClock) -> None:
    exchange, progress = FakeExchange(), Progress()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_alive, progress)
        await trio.sleep(0.5)
        async with beating(exchange, progress) as ctx:
            await trio.sleep(60)
            assert trio.current_time() - ctx.beat_at <= 1.1
        nursery.cancel_scope.cancel()
    gaps = [later - one for one, later in zip(exchange.protects, exchange.protects[1:], strict=False)]
    assert len(exchange.protects) == 12
    assert all(4.9 <= gap <= 5.3 for gap in gaps)


async def test_wedged_coordinator_silences_the_beats_within_its_limit(autojump_clock: MockClock) -> None:
    exchange, progress = FakeExchange(), Progress()
    async with beating(exchange, progress):
        await trio.sleep(1)
        assert exchange.protects == []  # it has not begun
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_alive, progress)
            await trio.sleep(20)
            nursery.cancel_scope.cancel()
        wedged_at = trio.current_time()
        await trio.sleep(60)
        assert exchange.protects[-1] - wedged_at <= 3.3
        progress.mark()
        await trio.sleep(0.5)
        assert trio.current_time() - exchange.protects[-1] <= 0.5  # and they resume at once


async def test_one_lost_beat_is_repeated_before_the_switch_falls(autojump_clock: MockClock) -> None:
    exchange, progress = FakeExchange(), Progress()
    exchange.protect_errors = [None, Disconnected("lost"), None, None]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_alive, progress)
        async with beating(exchange, progress):
            await trio.sleep(20)
        nursery.cancel_scope.cancel()
    gaps = [later - one for one, later in zip(exchange.protects, exchange.protects[1:], strict=False)]
    assert 5.3 < max(gaps) < 10.0


async def test_beat_that_hangs_is_given_up_in_time(autojump_clock: MockClock) -> None:
    exchange, progress = FakeExchange(), Progress()
    calls: list[float] = []

    async def hang_once() -> None:
        calls.append(trio.current_time())
        if len(calls) == 2:
            await trio.sleep_forever()

    exchange.protect = hang_once  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_alive, progress)
        async with beating(exchange, progress):
            await trio.sleep(20)
        nursery.cancel_scope.cancel()
    assert calls[2] - calls[0] < 10.0


async def test_exchange_without_a_switch_is_left_alone(autojump_clock: MockClock) -> None:
    exchange, progress = FakeExchange(dead_man_s=0.0), Progress()
    async with beating(exchange, progress) as ctx:
        await trio.sleep(60)
        assert exchange.protects == []
        assert trio.current_time() - ctx.beat_at <= 1.1


async def facts_told(coordinator: Inbox) -> list[Message]:
    found: list[Message] = []
    with trio.move_on_after(0.1):
        while True:
            found += await coordinator.take()
    return found


async def test_fallen_switch_is_told_once_for_each_silence(autojump_clock: MockClock) -> None:
    exchange, progress, coordinator = FakeExchange(), Progress(), Inbox()
    exchange.protect_errors = [None, *[Disconnected("away")] * 30]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_alive, progress)
        async with beating(exchange, progress, coordinator):
            await trio.sleep(11)
            (told,) = await facts_told(coordinator)
            assert isinstance(told, AccountGap)
            assert "all orders are gone" in told.reason
            await trio.sleep(40)
            assert await facts_told(coordinator) == []
            assert exchange.protects[-1] > 45  # heard again, and quiet
        nursery.cancel_scope.cancel()


async def test_silence_of_our_own_making_is_told_as_well(autojump_clock: MockClock) -> None:
    exchange, progress, coordinator = FakeExchange(), Progress(), Inbox()
    async with beating(exchange, progress, coordinator):
        progress.mark()
        await trio.sleep(12)
        (told,) = await facts_told(coordinator)
        assert isinstance(told, AccountGap)


async def test_switch_that_was_never_armed_cannot_fall(autojump_clock: MockClock) -> None:
    exchange, progress, coordinator = FakeExchange(), Progress(), Inbox()
    async with beating(exchange, progress, coordinator):
        await trio.sleep(60)
        assert await facts_told(coordinator) == []


async def test_coordinator_that_takes_nothing_is_told_when_it_does(autojump_clock: MockClock) -> None:
    exchange, progress, coordinator = FakeExchange(), Progress(), Inbox({FACTS: 1})
    await coordinator.send(FACTS, Halt(reason="full", at_ns=now_ns()))
    async with beating(exchange, progress, coordinator) as ctx:
        progress.mark()
        await trio.sleep(30)
        assert trio.current_time() - ctx.beat_at <= 2
        taken: list[Message] = [*await coordinator.take()]
        await trio.sleep(2)
        taken += await facts_told(coordinator)
        assert [type(fact).__name__ for fact in taken] == ["Halt", "AccountGap"]


async def test_second_bot_on_the_same_key_halts_trading(autojump_clock: MockClock) -> None:
    exchange, progress, coordinator = FakeExchange(), Progress(), Inbox()
    exchange.protect_errors = [None, AnotherSender("another program sends heartbeats")]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_alive, progress)
        async with beating(exchange, progress, coordinator):
            await trio.sleep(6)
            (told,) = await facts_told(coordinator)
            assert isinstance(told, Halt)
            assert told.reason == "another program sends heartbeats"
        nursery.cancel_scope.cancel()
