"""Wall time, virtual time, and the way from one to Trio's."""

from __future__ import annotations

import time

import trio
from hypothesis import given
from hypothesis import strategies as gen
from trio.testing import MockClock

from tbot.core.units import Nanos
from tbot.tasks.clock import Clock, SteadyClock, VirtualClock, WallClock, trio_deadline

EPOCH = Nanos(1_767_225_600_000_000_000)


def test_wall_clock_is_the_machine_clock() -> None:
    clock: Clock = WallClock()
    before = time.time_ns()
    assert before <= clock.now_ns() <= time.time_ns()


class Machine:
    """A machine that has run for a while, and whose clock is set now and then."""

    def __init__(self) -> None:
        self.up_ns, self.set_ns = 7 * 10**12, EPOCH - 7 * 10**12

    def wall_ns(self) -> int:
        return self.up_ns + self.set_ns


some_days = gen.lists(
    gen.tuples(gen.integers(0, 10**12) | gen.integers(0, 5_000), gen.integers(-(10**13), 10**13) | gen.just(0)),
    max_size=40,
)


@given(some_days)
def test_a_steady_clock_goes_on_at_its_pace_however_the_machine_s_is_set(days: list[tuple[int, int]]) -> None:
    machine = Machine()
    clock: Clock = SteadyClock(machine.wall_ns, lambda: machine.up_ns)
    now_ns, began_ns = clock.now_ns(), machine.up_ns
    assert now_ns == EPOCH
    for wait_ns, set_by_ns in days:
        machine.set_ns += set_by_ns
        assert 0 <= clock.now_ns() - now_ns <= 1
        machine.up_ns += wait_ns
        before_ns, now_ns = now_ns, clock.now_ns()
        assert now_ns >= before_ns
        assert abs(now_ns - EPOCH - (machine.up_ns - began_ns)) <= (machine.up_ns - began_ns) // 2_000


@given(gen.integers(-(10**10), 10**10), gen.integers(1, 1_000))
def test_a_steady_clock_makes_up_for_a_step_in_the_end_and_stays_there(step_ns: int, every_s: int) -> None:
    machine = Machine()
    clock = SteadyClock(machine.wall_ns, lambda: machine.up_ns)
    machine.set_ns += step_ns
    for _ in range(abs(step_ns) * 2_000 // (every_s * 10**9) + 2):
        machine.up_ns += every_s * 10**9
        clock.now_ns()
    assert clock.now_ns() == machine.wall_ns()
    machine.up_ns += 10**9
    assert clock.now_ns() == machine.wall_ns()


@given(
    paused_ns=gen.integers(0, 10**15), error_ns=gen.integers(-(10**12), 10**12), within_ns=gen.integers(1, 3 * 10**9)
)
def test_a_steady_clock_catches_up_with_a_machine_that_another_clock_bears_out_and_with_no_other(
    paused_ns: int, error_ns: int, within_ns: int
) -> None:
    machine = Machine()
    clock = SteadyClock(machine.wall_ns, lambda: machine.up_ns)
    machine.set_ns += paused_ns
    before_ns = clock.now_ns()
    is_expected = paused_ns > within_ns and abs(error_ns) <= within_ns
    assert clock.catch_up(machine.wall_ns() + error_ns, within_ns) == is_expected
    assert clock.now_ns() == (machine.wall_ns() if is_expected else before_ns)
    began_ns = clock.now_ns()
    machine.up_ns += 10**12
    assert abs(clock.now_ns() - began_ns - 10**12) <= 10**12 // 2_000, "at its pace again"


def test_a_steady_clock_of_this_machine_tells_its_time() -> None:
    clock = SteadyClock()
    assert abs(clock.now_ns() - time.time_ns()) < 10**9
    assert clock.now_ns() <= clock.now_ns()


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
