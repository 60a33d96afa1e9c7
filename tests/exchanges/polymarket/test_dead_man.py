"""The chain of heartbeat ids: recovery from a wrong one, and a second sender found out."""

from __future__ import annotations

import json

import httpx2
import pytest
import trio.testing

from tbot.errors import AnotherSender, ExchangeUnavailable, TimedOut
from tests.exchanges.polymarket.answers import answering, gateway_of, routed


class Switch:
    """The exchange's side: expects one id, gives the next."""

    def __init__(self) -> None:
        self.expected = ""
        self.heard: list[str] = []
        self.is_losing_answers = False

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.heard.append(json.loads(request.content)["heartbeat_id"])
        if self.heard[-1] != self.expected:
            return httpx2.Response(400, json={"error_msg": "Invalid Heartbeat ID", "heartbeat_id": self.expected})
        self.beat()
        if self.is_losing_answers:
            raise httpx2.ReadTimeout("lost", request=request)
        return httpx2.Response(200, json={"heartbeat_id": self.expected})

    def beat(self) -> None:
        """Somebody was heard."""
        self.expected = f"h-{len(self.heard)}-{self.expected[:8]}"


async def test_ids_are_chained_and_the_right_one_is_taken_up_at_once(autojump_clock: trio.testing.MockClock) -> None:
    switch = Switch()
    switch.expected = "from before"
    gateway = gateway_of(routed({"/v1/heartbeats": switch}))
    await gateway.protect()
    assert switch.heard == ["", "from before"]
    for _ in range(5):
        await gateway.protect()
    assert len(switch.heard) == 7


async def test_second_sender_is_found_out_at_its_second_beat(autojump_clock: trio.testing.MockClock) -> None:
    switch = Switch()
    gateway = gateway_of(routed({"/v1/heartbeats": switch}))
    await gateway.protect()
    switch.beat()
    await gateway.protect()  # once may be chance
    switch.beat()
    with pytest.raises(AnotherSender, match="stop one of the two"):
        await gateway.protect()


async def test_one_stray_beat_accuses_nobody(autojump_clock: trio.testing.MockClock) -> None:
    switch = Switch()
    gateway = gateway_of(routed({"/v1/heartbeats": switch}))
    for _ in range(5):
        await gateway.protect()
        switch.beat()
        await gateway.protect()  # found wrong, taken up
        await gateway.protect()  # right again: the count starts anew


async def test_answers_that_were_lost_accuse_nobody(autojump_clock: trio.testing.MockClock) -> None:
    switch = Switch()
    gateway = gateway_of(routed({"/v1/heartbeats": switch}))
    await gateway.protect()
    for _ in range(4):
        switch.is_losing_answers = True
        with pytest.raises(TimedOut):
            await gateway.protect()
        switch.is_losing_answers = False
        await gateway.protect()  # wrong by our own lost beat, and put right at once
        await gateway.protect()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b""),
        (400, {"error": "no such thing"}),
        (400, b"<html>"),
        (400, {"error_msg": "Invalid Heartbeat ID"}),
        (200, b"nonsense"),
        (200, {"heartbeat_id": 7}),
    ],
)
async def test_beat_not_heard_is_unavailable(autojump_clock: trio.testing.MockClock, status: int, body: object) -> None:
    with pytest.raises(ExchangeUnavailable):
        await gateway_of(answering(status, body)).protect()
