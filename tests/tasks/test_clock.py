"""Wall time, virtual time, and the way from one to Trio's."""

from __future__ import annotations

import time

import trio
from hypothesis import given
from hypothesis import strategies as gen
from trio.testing import MockClock

from tbot.core.units import Nanos
from tbot.tasks.clock import Clock, VirtualClock, WallClock, trio_deadline

EPOCH = Nanos(1_767_225_600_000_000_000)


def test_wall_clock_is_the_machine_clock() -> None:
    clock: Clock = WallClock()
    before = time.time_ns()
    assert before <= clock.now_ns() <= time.time_ns()


async def test_virtual_clock_moves_with_trio(autojump_clock: MockClock) -> None:
    clock: Clock = VirtualClock(EPOCH)
    start = clock.now_ns()
    await trio.sleep(1.5)
    assert clock.now_ns() - start == 1_500_000_000


@given(wait_ns=gen.integers(-(10**9), 10**15), started_s=gen.floats(0, 10**6))
def test_deadline_is_never_before_its_moment(wait_ns: int, started_s: float) -> None:
    async def main() -> None:
        clock = VirtualClock(EPOCH)
        await trio.sleep(started_s)
        now = clock.now_ns()
        await trio.sleep_until(trio_deadline(Nanos(now + wait_ns), now))
        late_ns = clock.now_ns() - (now + max(wait_ns, 0))
        assert 0 <= late_ns < 10_000

    trio.run(main, clock=MockClock(autojump_threshold=0))
