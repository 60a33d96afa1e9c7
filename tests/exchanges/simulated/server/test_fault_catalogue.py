"""Every fault of the catalogue, switched on by request and met by a client over the wire."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from tbot.exchanges.simulated.fault_catalogue import CATALOGUE, Draw, Fault
from tbot.exchanges.simulated.fault_switches import FaultOrder
from tbot.exchanges.simulated.faults import FaultSettings
from tests.exchanges.simulated.server.fault_checks import CHECKS, CONTROL, control, open_count, shown


@pytest.mark.parametrize("fault", list(Fault))
async def test_fault_does_what_the_catalogue_says_and_is_counted(
    make_world: Any, autojump_clock: Any, fault: Fault
) -> None:
    async with make_world(settings=CONTROL) as world:
        assert (await shown(world, fault))["count"] == 0
        await CHECKS[fault](world)
        row = await shown(world, fault)
        assert row["count"] >= 1
        assert CATALOGUE[fault].draw is Draw.TIME or row["on"] == []


async def test_switched_faults_are_shown_and_can_be_ended(make_world: Any, autojump_clock: Any) -> None:
    async with make_world(settings=CONTROL) as world:
        await control(world, name="silent_feed", seconds=100)
        await control(world, name="post_lost", seconds=50, count=3, target=world.rain.market_id)
        (silent,) = (await shown(world, Fault.SILENT_FEED))["on"]
        assert silent == {"target": "", "left": None, "left_s": 100.0}
        (lost,) = (await shown(world, Fault.POST_LOST))["on"]
        assert lost == {"target": world.rain.market_id, "left": 3, "left_s": 50.0}
        for name in ("silent_feed", "post_lost"):
            client = await world.rest()
            assert (await client.ask("DELETE", "/control/fault", json.dumps({"name": name}).encode())).status == 200
            assert (await shown(world, Fault(name)))["on"] == []
        assert (await world.alice.place("BUY", "0.40", "10")).status == 200


async def test_lifted_silence_ends_with_whole_books(make_world: Any, autojump_clock: Any) -> None:
    async with make_world(settings=CONTROL) as world:
        socket = await world.market_socket(world.rain.yes)
        await world.heard(socket)
        await control(world, name="silent_feed", seconds=1000)
        await world.alice.placed("BUY", "0.40", "10")
        await (await world.rest()).ask("DELETE", "/control/fault", b'{"name":"silent_feed"}')
        (book,) = await world.heard(socket)
        assert book["bids"] == [{"price": "0.4", "size": "10"}]


async def test_fault_strikes_nobody_but_its_target(make_world: Any, autojump_clock: Any) -> None:
    async with make_world(settings=CONTROL) as world:
        await control(world, name="error_after_accept", target=world.mayor.yes)
        assert (await world.alice.place("BUY", "0.40", "10")).status == 200
        assert (await world.alice.place("BUY", "0.40", "10", token=world.mayor.yes)).status == 500
        assert (await world.alice.place("BUY", "0.40", "10", token=world.mayor.yes)).status == 200


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"name":"gremlins"}', "Invalid enum value 'gremlins' - at `$.name`"),
        (b'{"name":"silent_feed","count":1}', "expected no count for silent_feed, which lasts for a time"),
        (b'{"name":"connection_cut","seconds":5}', "expected no seconds for connection_cut, which is over at once"),
        (b'{"name":"silent_feed","target":"7"}', "expected no target for silent_feed, which concerns everybody"),
        (b'{"name":"frozen_asset","target":"7"}', "expected a token of this exchange as target, found '7'"),
        (b'{"name":"post_lost","seconds":-1}', "at `$.seconds`"),
        (b'{"name":"post_lost","at_s":1e300}', "at `$.at_s`"),
        (b"[]", "Expected `object`, got `array`"),
    ],
)
async def test_order_for_a_fault_that_could_not_be_is_refused(
    make_world: Any, autojump_clock: Any, body: bytes, text: str
) -> None:
    async with make_world(settings=CONTROL) as world:
        answer = await (await world.rest()).ask("POST", "/control/fault", body)
        assert (answer.status, text in answer.error) == (400, True), answer.error


async def test_script_begins_each_fault_at_its_time(make_world: Any, autojump_clock: Any) -> None:
    script = (
        FaultOrder(name=Fault.ENGINE_RESTART, at_s=60, seconds=30),
        FaultOrder(name=Fault.POST_LOST, at_s=10, count=1),
    )
    async with make_world(faults=FaultSettings(script=script)) as world:
        assert (await world.alice.place("BUY", "0.40", "10")).status == 200
        await trio.sleep(11)
        with trio.move_on_after(10):
            await world.alice.place("BUY", "0.41", "10")
        assert open_count(world) == 1
        assert (await world.alice.place("BUY", "0.42", "10")).status == 200
        await trio.sleep(40)
        assert (await world.alice.place("BUY", "0.43", "10")).status == 425
        assert world.faults.faults_injected == {"post_lost": 1, "engine_restart": 1}
