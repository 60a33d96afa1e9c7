"""Lanes, states, back-pressure, and what is left when the reader dies."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as gen
from trio.testing import MockClock, wait_all_tasks_blocked

from tbot.core.messages import AccountGap, CancelAll, Message, Resume
from tbot.core.units import Nanos
from tbot.tasks.inbox import Inbox


def fact(number: int) -> AccountGap:
    return AccountGap(reason=str(number), received_ns=Nanos(number))


def command(number: int) -> CancelAll:
    return CancelAll(at_ns=Nanos(number))


def state(number: int) -> Resume:
    return Resume(at_ns=Nanos(number))


async def test_lanes_are_emptied_operator_first_and_states_last() -> None:
    inbox = Inbox()
    inbox.put_state("book", state(1))
    await inbox.send("facts", fact(1))
    await inbox.send("facts", fact(2))
    await inbox.send("operator", command(1))
    assert await inbox.take() == (command(1), fact(1), fact(2), state(1))


async def test_state_replaces_the_one_that_waits_and_is_counted() -> None:
    inbox = Inbox()
    inbox.put_state("a", state(1))
    inbox.put_state("b", state(2))
    inbox.put_state("a", state(3))
    assert await inbox.take() == (state(2), state(3))
    assert inbox.statistics().merged == 1


async def test_take_waits_for_the_first_message(autojump_clock: MockClock) -> None:
    inbox = Inbox()
    async with trio.open_nursery() as nursery:

        async def later() -> None:
            await trio.sleep(3)
            inbox.put_state("a", state(1))
            await trio.sleep(3)
            await inbox.send("facts", fact(1))

        nursery.start_soon(later)
        assert await inbox.take() == (state(1),)
        assert trio.current_time() == 3
        assert await inbox.take() == (fact(1),)
        assert trio.current_time() == 6


async def test_take_gives_nothing_at_the_deadline(autojump_clock: MockClock) -> None:
    inbox = Inbox()
    assert await inbox.take(deadline=5.0) == ()
    assert trio.current_time() == 5


async def test_deadline_in_the_past_still_empties_the_lanes(autojump_clock: MockClock) -> None:
    inbox = Inbox()
    await inbox.send("facts", fact(1))
    assert await inbox.take(deadline=-1.0) == (fact(1),)


async def test_sender_waits_while_the_lane_is_full_and_keeps_its_place() -> None:
    inbox = Inbox({"operator": 1, "facts": 2})
    async with trio.open_nursery() as nursery:

        async def send_all() -> None:
            for number in range(6):
                await inbox.send("facts", fact(number))

        nursery.start_soon(send_all)
        await wait_all_tasks_blocked()
        assert inbox.statistics().lanes["facts"].senders == 1
        assert inbox.statistics().lanes["facts"].depth == 2
        await inbox.send("operator", command(1))  # the other lane is free
        assert await inbox.take() == (command(1), fact(0), fact(1), fact(2))
        await wait_all_tasks_blocked()
        assert await inbox.take() == (fact(3), fact(4), fact(5))
    assert inbox.statistics().lanes["facts"].peak == 2


async def test_waiting_sender_breaks_when_the_reader_is_gone() -> None:
    inbox = Inbox({"facts": 1})
    with trio.fail_after(1):
        async with trio.open_nursery() as nursery:

            async def send_two() -> None:
                await inbox.send("facts", fact(1))
                with pytest.raises(trio.BrokenResourceError):
                    await inbox.send("facts", fact(2))

            nursery.start_soon(send_two)
            await wait_all_tasks_blocked()
            with pytest.raises(ValueError, match="reader"), inbox:
                raise ValueError("the reader crashed")


async def test_closed_inbox_breaks_senders_and_drops_states() -> None:
    inbox = Inbox()
    inbox.put_state("a", state(1))
    inbox.close()
    with pytest.raises(trio.BrokenResourceError):
        await inbox.send("facts", fact(1))
    with pytest.raises(trio.BrokenResourceError):
        inbox.send_nowait("operator", command(1))
    inbox.put_state("a", state(2))
    assert inbox.statistics().states == 0
    with pytest.raises(trio.ClosedResourceError):
        inbox.take_nowait()


async def test_late_word_to_a_reader_that_finished_is_dropped_and_breaks_nobody() -> None:
    inbox = Inbox({"facts": 1})
    async with trio.open_nursery() as nursery:
        with inbox:
            await inbox.send("facts", fact(1))
            nursery.start_soon(inbox.send, "facts", fact(2))
            await wait_all_tasks_blocked()
    await inbox.send("facts", fact(3))


def test_full_lane_refuses_without_waiting() -> None:
    inbox = Inbox({"operator": 1})
    inbox.send_nowait("operator", command(1))
    with pytest.raises(trio.WouldBlock):
        inbox.send_nowait("operator", command(2))


async def test_second_reader_is_refused() -> None:
    inbox = Inbox()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.take)
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await inbox.take()
        nursery.cancel_scope.cancel()


async def test_cancelled_take_loses_nothing(autojump_clock: MockClock) -> None:
    inbox = Inbox()
    with trio.move_on_after(1):
        await inbox.take()
    await inbox.send("facts", fact(1))
    with trio.CancelScope() as scope:
        scope.cancel()
        await inbox.take()
    assert inbox.take_nowait() == (fact(1),)


def test_lane_without_room_is_refused() -> None:
    with pytest.raises(AssertionError):
        Inbox({"facts": 0})


@given(
    senders=gen.lists(gen.lists(gen.sampled_from([0.0, 0.1, 1.0]), max_size=12), min_size=1, max_size=4),
    pauses=gen.lists(gen.sampled_from([0.0, 0.1, 1.0]), min_size=1, max_size=6),
    size=gen.integers(1, 4),
)
def test_every_fact_arrives_once_and_in_the_order_of_its_sender(
    senders: list[list[float]], pauses: list[float], size: int
) -> None:
    seen: list[AccountGap] = []

    async def send_all(inbox: Inbox, sender: int, waits: list[float]) -> None:
        for number, wait_s in enumerate(waits):
            await trio.sleep(wait_s)
            await inbox.send("facts", AccountGap(reason=str(sender), received_ns=Nanos(number)))

    async def main() -> None:
        inbox = Inbox({"operator": 1, "facts": size})
        wanted = sum(map(len, senders))
        async with trio.open_nursery() as nursery:
            for sender, waits in enumerate(senders):
                nursery.start_soon(send_all, inbox, sender, waits)
            turn = 0
            while len(seen) < wanted:
                taken: tuple[Message, ...] = await inbox.take()
                seen.extend(message for message in taken if isinstance(message, AccountGap))
                await trio.sleep(pauses[turn % len(pauses)])
                turn += 1

    trio.run(main, clock=MockClock(autojump_threshold=0))
    for sender, waits in enumerate(senders):
        assert [m.received_ns for m in seen if m.reason == str(sender)] == list(range(len(waits)))
