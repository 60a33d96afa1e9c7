"""FAK and FOK orders that find nothing, as their senders are told: by REST, in a batch, on the user channel."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from tbot.core.market import MarketId, TokenId
from tbot.exchanges.simulated.checks import TEXT_FAK, TEXT_FOK
from tbot.exchanges.simulated.operations import EngineSettings, OpenMarket
from tests.captures import CAPTURES, needs
from tests.exchanges.simulated.server.conftest import RAIN

KILLED = "fixtures/nautilus/rust/ws_user_order_fok_killed.json"
TEXTS = {"FAK": TEXT_FAK, "FOK": TEXT_FOK}
LOUD = EngineSettings(has_kill_events=True)

SPORT = msgspec.structs.replace(
    RAIN, market_id=MarketId("0x" + "c3" * 32), slug="cup", yes=TokenId("1001"), no=TokenId("1002"), seconds_delay=3
)


@pytest.mark.parametrize("order_type", TEXTS)
async def test_the_refusal_names_the_order_it_killed(world: Any, autojump_clock: MockClock, order_type: str) -> None:
    body = world.alice.order("BUY", "0.50", "20", order_type=order_type)
    first = await world.alice.ask("POST", "/order", body)
    assert (first.status, first.json["error"]) == (400, TEXTS[order_type])
    assert first.json.keys() == {"error", "orderID"}
    # Nothing came of it, so the same bytes may be sent again: filled now, they have the id told before.
    assert (await world.alice.ask("GET", f"/data/order/{first.json['orderID']}")).status == 404
    await world.bob.placed("BUY", "0.50", "20", token=world.rain.no)
    assert (await world.alice.ask("POST", "/order", body)).json["orderID"] == first.json["orderID"]


async def test_no_other_refusal_names_the_order(world: Any, autojump_clock: MockClock) -> None:
    for wish in ({"price": "0.505"}, {"size": "4"}, {"size": "90000"}, {"order_type": "GTD"}):
        asked = {"price": "0.50", "size": "20", **wish}
        answer = await world.alice.place("BUY", asked.pop("price"), asked.pop("size"), **asked)
        assert (answer.status, answer.json.keys()) == (400, {"error"})


async def test_killed_legs_of_a_batch_are_named_too(world: Any, autojump_clock: MockClock) -> None:
    legs = [world.alice.order("BUY", "0.50", "20", order_type=each) for each in ("FAK", "GTC", "FOK")]
    legs.append(world.alice.order("BUY", "0.505", "20"))
    killed, placed, also, refused = (await world.alice.ask("POST", "/orders", legs)).json
    assert [leg["errorMsg"] for leg in (killed, placed, also)] == [TEXT_FAK, "", TEXT_FOK]
    assert [leg["success"] for leg in (killed, placed, also, refused)] == [False, True, False, False]
    assert len({leg["orderID"] for leg in (killed, placed, also)}) == 3
    assert (refused["orderID"], {leg["status"] for leg in (killed, also, refused)}) == ("", {""})


@pytest.mark.parametrize("is_loud", [False, True])
@pytest.mark.parametrize("order_type", TEXTS)
async def test_the_channel_tells_of_kills_on_arrival_only_where_set(
    make_world: Callable[..., Any], autojump_clock: MockClock, order_type: str, is_loud: bool
) -> None:
    async with make_world(engine=LOUD if is_loud else EngineSettings()) as world:
        sockets = [await trader.user_socket() for trader in (world.alice, world.bob)]
        answer = await world.alice.place("BUY", "0.50", "20", order_type=order_type)
        ours, theirs = [await world.heard(socket) for socket in sockets]
        assert theirs == []
        assert len(ours) == is_loud
        for frame in ours:
            assert (frame["id"], frame["type"]) == (answer.json["orderID"], "CANCELLATION")
            assert frame["status"] == f"CANCELED_{TEXTS[order_type]}"
            assert (frame["order_type"], frame["original_size"], frame["price"]) == (order_type, "20", "0.5")


@needs(KILLED)
@pytest.mark.parametrize("is_held", [False, True])
async def test_the_event_is_as_recorded(
    make_world: Callable[..., Any], autojump_clock: MockClock, is_held: bool
) -> None:
    theirs = json.loads((CAPTURES / KILLED).read_text())
    async with make_world(engine=LOUD) as world:
        world.exchange.apply(OpenMarket(rules=SPORT))
        await trio.sleep(0.687)
        socket = await world.alice.user_socket()
        token = SPORT.yes if is_held else world.rain.yes
        maker = await world.bob.placed("BUY", "0.40", "12", token=SPORT.no) if is_held else ""
        await world.alice.place("BUY", "0.60", "12", token=token, order_type="FOK")
        if is_held:
            await world.bob.ask("DELETE", "/order", {"orderID": maker})
        ours = (await world.heard(socket, seconds=4))[-1]
        assert ours.keys() == theirs.keys()
        same = ("side", "original_size", "size_matched", "price", "associate_trades", "outcome", "type", "created_at")
        assert {k: ours[k] for k in same} == {k: theirs[k] for k in same}
        assert [ours[k] for k in ("expiration", "order_type", "status")] == [
            theirs[k] for k in ("expiration", "order_type", "status")
        ]
        assert int(ours["timestamp"]) % 1_000 == int(theirs["timestamp"]) % 1_000 == 0
