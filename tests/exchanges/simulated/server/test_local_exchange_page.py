"""The page on the local exchange names every request that is served, no other, and its examples work."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tbot.exchanges.simulated.rest_control import ControlRoutes
from tbot.exchanges.simulated.server import ServerSettings
from tbot.exchanges.simulated.standalone import Announcement

PAGE = (Path(__file__).parents[4] / "docs/local-exchange.md").read_text()


async def test_every_route_is_on_the_page_and_nothing_else(make_world: Any, autojump_clock: Any) -> None:
    async with make_world(settings=ServerSettings(has_control=True)) as world:
        served = {f"{method} {path}" for method, path in world.server.routes}
        told = set(re.findall(r"`((?:GET|POST|DELETE) /[^`]*)`", PAGE)) - {"POST /control/..."}
        assert told == {route for route in served if "/control/" not in route}


async def test_every_example_is_taken(make_world: Any, autojump_clock: Any) -> None:
    async with make_world(settings=ServerSettings(has_control=True)) as world:
        names = {"account": world.alice.account.address, "market": world.rain.market_id}
        seen = set()
        for line in re.findall(r"^curl \$url(/control/.*)$", PAGE, re.MULTILINE):
            verb, _, body = line.partition("-d ")
            path = verb.split()[0]
            method = "GET" if not body else "DELETE" if "-X DELETE" in verb else "POST"
            seen.add((method, path))
            text = re.sub(
                r"\$(\w+)", lambda found: names[found[1]], body.split("#")[0].strip()[1:-1].replace('\\"', '"')
            )
            answer = await (await world.rest()).ask(method, path, text.encode())
            if path == "/control/convert":  # its market is left out there
                assert json.loads(text)["markets"] == ["0x..."]
                assert (answer.status, answer.error) == (404, "market not found")
            else:
                assert answer.status == 200, (line, answer.body)
        assert seen == set(ControlRoutes(world.server._state).routes())


@pytest.mark.slow  # importing the official client takes two seconds
async def test_what_the_official_client_could_ask_for_is_served_or_named_as_not(
    make_world: Any, autojump_clock: Any
) -> None:
    from py_clob_client_v2 import endpoints

    section = PAGE.partition("## What is not served")[2]
    named = [path.rstrip(".").removesuffix("{}") for path in re.findall(r"`(/[^`]*)`", section)]
    async with make_world() as world:
        served = {path.removesuffix("{}") for _, path in world.server.routes}
    paths = {path for name, path in vars(endpoints).items() if name.isupper()}
    assert len(paths) > 50
    assert {path for path in paths if path not in served and not path.startswith(tuple(named))} == set()
    assert not any(path.startswith(tuple(named)) for path in served if path.startswith(("/auth", "/markets", "/rfq")))


def test_every_address_is_on_the_page() -> None:
    urls = [field.name for field in msgspec.structs.fields(Announcement) if field.name.endswith("_url")]
    assert set(re.findall(r"^\| `(\w+_url)`", PAGE, re.MULTILINE)) == set(urls)
