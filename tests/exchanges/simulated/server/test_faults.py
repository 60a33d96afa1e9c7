"""Injected faults as a client meets them over HTTP: lost, late, and half-told outcomes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio

from tbot.exchanges.simulated.faults import FaultSettings
from tests.exchanges.simulated.server.fault_checks import open_count


async def test_submit_lost_on_the_way_in_is_never_answered_and_never_lands(
    make_world: Any, autojump_clock: Any
) -> None:
    async with make_world(faults=FaultSettings(submit_lost_before=1.0)) as world:
        with trio.move_on_after(60) as waited:
            await world.alice.place("BUY", "0.50", "10")
        assert waited.cancelled_caught
        assert open_count(world) == 0


async def test_submit_whose_answer_is_lost_rests(make_world: Any, autojump_clock: Any) -> None:
    async with make_world(faults=FaultSettings(submit_lost_after=1.0)) as world:
        with pytest.raises(EOFError):
            await world.alice.place("BUY", "0.50", "10")
        assert open_count(world) == 1


async def test_late_submit_lands_after_its_sender_gave_up(make_world: Any, autojump_clock: Any) -> None:
    async with make_world(faults=FaultSettings(submit_late=1.0, late_s=30.0)) as world:
        with trio.move_on_after(5):
            await world.alice.place("BUY", "0.50", "10")
        assert open_count(world) == 0
        await trio.sleep(26)
        assert open_count(world) == 1


async def test_server_error_after_acceptance_leaves_an_order(make_world: Any, autojump_clock: Any) -> None:
    async with make_world(faults=FaultSettings(submit_http_5xx=1.0)) as world:
        answer = await world.alice.place("BUY", "0.50", "10")
        assert (answer.status, answer.error) == (500, "could not insert order")
        assert open_count(world) == 1


async def test_rate_limited_submit_never_lands(make_world: Any, autojump_clock: Any) -> None:
    async with make_world(faults=FaultSettings(submit_rate_limited=1.0, retry_after_s=2.5)) as world:
        answer = await world.alice.place("BUY", "0.50", "10")
        assert (answer.status, answer.headers["retry-after"]) == (429, "3")
        assert open_count(world) == 0


@pytest.mark.parametrize(
    ("fault", "left"), [("cancel_lost_before", 1), ("cancel_lost_after", 0), ("cancel_rate_limited", 1)]
)
async def test_cancel_faults(make_world: Any, autojump_clock: Any, fault: str, left: int) -> None:
    async with make_world(faults=msgspec.structs.replace(FaultSettings(), **{fault: 1.0})) as world:
        order_id = await world.alice.placed("BUY", "0.50", "10")
        try:
            with trio.move_on_after(60):
                answer = await world.alice.ask("DELETE", "/order", {"orderID": order_id})
                assert answer.status == 429
        except EOFError:
            assert fault == "cancel_lost_after"
        assert open_count(world) == left


async def test_unavailable_report_is_a_server_error(make_world: Any, autojump_clock: Any) -> None:
    async with make_world(faults=FaultSettings(report_unavailable=1.0)) as world:
        assert (await world.alice.ask("GET", "/data/orders")).status == 500
        assert world.faults.faults_injected == {"reads_unavailable": 1}


async def test_failed_settlement_is_told_and_never_gets_a_hash(make_world: Any, autojump_clock: Any) -> None:
    async with make_world(faults=FaultSettings(settlement_fail=1.0)) as world:
        socket = await world.alice.user_socket()
        await world.bob.placed("BUY", "0.42", "100", token=world.rain.no)
        await world.alice.placed("BUY", "0.60", "50")
        frames = await world.heard(socket, seconds=30)
        trades = [frame for frame in frames if frame["event_type"] == "trade"]
        assert [trade["status"] for trade in trades] == ["MATCHED", "RETRYING", "FAILED"]
        assert {trade["transaction_hash"] for trade in trades} == {""}
