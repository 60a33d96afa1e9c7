"""Newest wins, nothing waits, nothing old survives."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as gen
from trio.testing import wait_all_tasks_blocked

from tbot.tasks.conflator import Conflator, Hub


async def test_reader_gets_only_the_newest_state_of_a_key() -> None:
    box: Conflator[str, int] = Conflator()
    for value in range(5):
        box.put("a", value)
    box.put("b", 9)
    assert await box.take() == {"a": 4, "b": 9}
    assert box.merged == 4
    assert box.take_nowait() == {}


async def test_reader_waits_until_a_state_comes() -> None:
    box: Conflator[str, int] = Conflator()
    got: list[dict[str, int]] = []

    async def read() -> None:
        got.append(await box.take())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        assert got == []
        box.put("a", 1)
    assert got == [{"a": 1}]


async def test_two_readers_both_get_something() -> None:
    box: Conflator[str, int] = Conflator()
    got: list[dict[str, int]] = []

    async def read() -> None:
        got.append(await box.take())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        box.put("a", 1)
        await wait_all_tasks_blocked()
        box.put("a", 2)
    assert got == [{"a": 1}, {"a": 2}]


def test_state_put_again_is_read_after_what_was_put_meanwhile() -> None:
    box: Conflator[str, str] = Conflator()
    box.put("quotes", "old")
    box.put("withdraw", "all")
    box.put("quotes", "new")
    assert list(box.take_nowait().values()) == ["all", "new"]


def test_peek_leaves_the_state_and_discard_removes_it() -> None:
    box: Conflator[str, int] = Conflator()
    box.put("a", 1)
    assert (box.peek("a"), box.peek("b"), len(box)) == (1, None, 1)
    box.discard("a")
    box.discard("b")
    assert box.peek("a") is None


def test_every_put_calls_the_wake_up() -> None:
    calls: list[int] = []
    box: Conflator[str, int] = Conflator(on_put=lambda: calls.append(1))
    box.put("a", 1)
    box.put("a", 2)
    assert calls == [1, 1]


def test_new_subscriber_begins_with_the_current_states() -> None:
    hub: Hub[str, int] = Hub("views")
    box: Conflator[tuple[str, str], int] = Conflator()
    hub.publish("m1", 1)
    hub.publish("m1", 2)
    with hub.subscribe("x", box):
        assert box.take_nowait() == {("views", "m1"): 2}
        hub.publish("m2", 3)
        assert box.take_nowait() == {("views", "m2"): 3}
    hub.publish("m2", 4)
    assert box.take_nowait() == {}


def test_subscriber_gets_only_the_keys_it_wants() -> None:
    hub: Hub[str, int] = Hub("views")
    box: Conflator[tuple[str, str], int] = Conflator()
    hub.publish("m1", 1)
    with hub.subscribe("x", box, keys=("m2",)):
        hub.publish("m1", 2)
        hub.publish("m2", 3)
    assert box.take_nowait() == {("views", "m2"): 3}


def test_one_box_serves_two_hubs_without_mixing_their_keys() -> None:
    views: Hub[str, int] = Hub("views")
    accounts: Hub[str, int] = Hub("accounts")
    box: Conflator[tuple[str, str], int] = Conflator()
    with views.subscribe("x", box), accounts.subscribe("x", box):
        views.publish("k", 1)
        accounts.publish("k", 2)
        assert box.take_nowait() == {("views", "k"): 1, ("accounts", "k"): 2}


def test_nothing_old_survives_an_invalidation() -> None:
    hub: Hub[str, int] = Hub("views")
    early: Conflator[tuple[str, str], int] = Conflator()
    late: Conflator[tuple[str, str], int] = Conflator()
    with hub.subscribe("early", early):
        hub.publish("m1", 1)
        hub.invalidate()
        assert early.take_nowait() == {}
        with hub.subscribe("late", late):
            assert late.take_nowait() == {}
    assert hub.states == {}


def test_second_incarnation_of_a_living_subscriber_is_refused() -> None:
    hub: Hub[str, int] = Hub("views")
    with (
        hub.subscribe("x", Conflator()),
        pytest.raises(RuntimeError, match="x subscribed twice"),
        hub.subscribe("x", Conflator()),
    ):
        pass
    with hub.subscribe("x", Conflator()):
        pass


@given(gen.lists(gen.tuples(gen.sampled_from("abc"), gen.integers()) | gen.none(), max_size=40))
def test_last_value_read_of_each_key_is_the_last_one_put(steps: list[tuple[str, int] | None]) -> None:
    box: Conflator[str, int] = Conflator()
    put: dict[str, int] = {}
    read: dict[str, int] = {}
    reads = 0
    for step in [*steps, None]:
        if step is None:
            taken = box.take_nowait()
            reads += len(taken)
            read.update(taken)
        else:
            put[step[0]] = step[1]
            box.put(*step)
    assert read == put
    assert reads + box.merged == sum(step is not None for step in steps)
