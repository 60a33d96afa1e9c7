"""Windows per address at the server's door: held back, then 429, each address on its own."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import memory_stream_pair

from tbot.exchanges.simulated.address_windows import WindowSet, WindowSettings
from tbot.exchanges.simulated.server import ServerSettings
from tests.exchanges.simulated.server.conftest import RestClient


def limited(**changes: Any) -> ServerSettings:
    windows = {"limits": WindowSet.PRODUCTION, "per_10_s": {"ok": 2, "post_order": 2}, **changes}
    return ServerSettings(windows=WindowSettings(**windows))


async def test_over_the_limit_is_429_as_the_network_answers_it(make_world: Any, autojump_clock: Any) -> None:
    async with make_world(settings=limited(delay_s_max=0)) as world:
        start = trio.current_time()
        assert [(await world.get("/ok")).status for _ in range(3)] == [200, 200, 429]
        refused = await world.get("/ok")
        assert refused.body == b"Too Many Requests"
        assert refused.headers["content-type"].startswith("text/plain")
        assert refused.headers["retry-after"] == "10"
        assert (await world.get("/time")).status == 200
        await trio.sleep(10 - (trio.current_time() - start))
        assert (await world.get("/ok")).status == 200


async def test_a_little_over_the_limit_is_only_slower(make_world: Any, autojump_clock: Any) -> None:
    async with make_world(settings=limited(delay_s_max=4)) as world:
        for _ in range(2):
            await world.get("/ok")
        await trio.sleep(7)
        start = trio.current_time()
        assert (await world.get("/ok")).status == 200
        assert trio.current_time() - start == pytest.approx(3, abs=0.01)
        # Of those that wait at the same time no more pass than there is room for.
        statuses: list[int] = []

        async def ask() -> None:
            statuses.append((await world.get("/ok")).status)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ask)
        assert sorted(statuses) == [200, 429, 429]


async def test_each_address_has_windows_of_its_own(make_world: Any, autojump_clock: Any) -> None:
    async with make_world(settings=limited(delay_s_max=0)) as world:

        async def ask(address: str) -> int:
            ours, theirs = memory_stream_pair()
            world.nursery.start_soon(world.server.serve_rest, theirs, address)
            return (await RestClient(ours).ask("GET", "/ok")).status

        assert [await ask("192.0.2.1") for _ in range(3)] == [200, 200, 429]
        assert await ask("192.0.2.2") == 200


async def test_a_refused_order_costs_no_token_of_the_signer(make_world: Any, autojump_clock: Any) -> None:
    async with make_world(settings=limited(delay_s_max=0)) as world:
        answers = [await world.alice.place("BUY", "0.40", "10") for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 429]
        assert "poly-ratelimit-remaining" not in answers[2].headers
        await trio.sleep(10)
        answer = await world.alice.place("BUY", "0.40", "10")
        assert answer.headers["poly-ratelimit-remaining"] == "59"


async def test_nothing_is_limited_unless_asked_for(world: Any, autojump_clock: Any) -> None:
    client = await world.rest()
    assert {(await client.ask("GET", "/ok")).status for _ in range(120)} == {200}
