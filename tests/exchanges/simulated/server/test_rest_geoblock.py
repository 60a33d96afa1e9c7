"""The place that callers are in: told as it is set, and orders refused where nobody may trade."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tbot.exchanges.simulated.rest_geoblock import PlaceSettings
from tbot.exchanges.simulated.server import ServerSettings

OPEN = {"blocked": False, "ip": "127.0.0.1", "country": "ZZ", "region": ""}
SHUT = PlaceSettings(blocked=True, country="US", region="NY", ip="192.0.2.7")


async def test_place_is_open_unless_it_is_set_otherwise(world: Any, make_world: Any, autojump_clock: Any) -> None:
    assert (await world.get("/api/geoblock")).json == OPEN
    async with make_world(settings=ServerSettings(place=SHUT)) as shut:
        told = (await shut.get("/api/geoblock")).json
    assert told == {"blocked": True, "ip": "192.0.2.7", "country": "US", "region": "NY"}


async def test_blocked_place_takes_no_orders_but_cancels_and_reads(make_world: Any, autojump_clock: Any) -> None:
    async with make_world(settings=ServerSettings(has_control=True)) as world:
        resting = await world.alice.placed("BUY", "0.40", "20")
        assert (await world.control("place", blocked=True, country="US")).json == {"ok": True}
        for answer in (
            await world.alice.place("BUY", "0.41", "20"),
            await world.alice.ask("POST", "/orders", [world.alice.order("BUY", "0.42", "20")]),
        ):
            assert answer.status == 403
            assert answer.error.startswith("Trading restricted in your region")
        assert [order["id"] for order in (await world.alice.ask("GET", "/data/orders")).json["data"]] == [resting]
        gone = await world.alice.ask("DELETE", "/order", {"orderID": resting})
        assert gone.json["canceled"] == [resting]
        assert (await world.control("place", blocked=False)).json == {"ok": True}
        assert (await world.get("/api/geoblock")).json == OPEN
        await world.alice.placed("BUY", "0.41", "20")


@pytest.mark.parametrize(
    "body", [{"blocked": "yes"}, {"country": "usa"}, {"country": "US\n"}, {"town": "Springfield"}, {"ip": "1" * 46}]
)
async def test_place_that_is_none_is_refused(make_world: Any, autojump_clock: Any, body: dict[str, Any]) -> None:
    async with make_world(settings=ServerSettings(has_control=True)) as world:
        answer = await world.control("place", **body)
        assert (answer.status, next(iter(body)) in answer.error) == (400, True), answer.error
        assert (await world.get("/api/geoblock")).json == OPEN
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(body, PlaceSettings)
