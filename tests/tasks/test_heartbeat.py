"""The dead-man switch hears us as long as decisions are made, and no longer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from trio.testing import MockClock

from tbot.errors import Disconnected
from tbot.tasks.heartbeat import Heartbeat, Progress
from tbot.tasks.supervisor import TaskContext
from tests.tasks.fake_exchange import FakeExchange


@asynccontextmanager
async def beating(exchange: FakeExchange, progress: Progress) -> AsyncIterator[TaskContext]:
    ctx = TaskContext("heartbeat", trio.Event())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Heartbeat(gateway=exchange, coordinator_alive=progress.is_fresh).run, ctx)
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
