"""The user channel, frame by frame."""

from __future__ import annotations

import json
from typing import Any

import trio

from tests.exchanges.simulated.server.frame_shapes import shape


async def test_order_events_have_the_documented_fields(world: Any, autojump_clock: Any, vectors: Any) -> None:
    socket = await world.alice.user_socket()
    order_id = await world.alice.placed("BUY", "0.57", "10")
    (frame,) = await world.heard(socket)
    key = world.alice.credentials.api_key
    assert frame == {
        "event_type": "order",
        "type": "PLACEMENT",
        "id": order_id,
        "owner": key,
        "order_owner": key,
        "market": world.rain.market_id,
        "asset_id": world.rain.yes,
        "outcome": "Yes",
        "side": "BUY",
        "price": "0.57",
        "original_size": "10",
        "size_matched": "0",
        "associate_trades": None,
        "order_type": "GTC",
        "expiration": "0",
        "status": "LIVE",
        "maker_address": world.alice.account.address,
        "created_at": "1767225600",
        "timestamp": frame["timestamp"],
    }
    assert list(frame) == list(vectors("ws_frames.json")["server_sends"]["user"][0])
    await world.alice.ask("DELETE", "/order", {"orderID": order_id})
    (frame,) = await world.heard(socket)
    assert (frame["type"], frame["status"], frame["size_matched"]) == ("CANCELLATION", "CANCELED", "0")


async def test_trade_is_told_to_both_sides_at_each_settlement_step(
    world: Any, autojump_clock: Any, vectors: Any
) -> None:
    maker, taker = await world.bob.user_socket(), await world.alice.user_socket()
    maker_id = await world.bob.placed("BUY", "0.42", "100", token=world.rain.no)
    taker_id = await world.alice.placed("BUY", "0.60", "50")
    to_taker = await world.heard(taker, seconds=10)
    trades = [frame for frame in to_taker if frame["event_type"] == "trade"]
    assert [frame["status"] for frame in trades] == ["MATCHED", "MINED", "CONFIRMED"]
    assert len({frame["id"] for frame in trades}) == 1
    assert [bool(frame["transaction_hash"]) for frame in trades] == [False, True, True]
    first = trades[0]
    assert (first["trader_side"], first["taker_order_id"], first["price"]) == ("TAKER", taker_id, "0.58")
    assert list(first) == list(vectors("ws_frames.json")["server_sends"]["user"][1])
    assert shape(first) == shape(vectors("ws_frames.json")["server_sends"]["user"][1])
    to_maker = await world.heard(maker, seconds=1)
    told = next(frame for frame in to_maker if frame["event_type"] == "trade")
    assert (told["trader_side"], told["owner"]) == ("MAKER", world.bob.credentials.api_key)
    (leg,) = told["maker_orders"]
    assert (leg["order_id"], leg["asset_id"], leg["side"], leg["price"]) == (maker_id, world.rain.no, "BUY", "0.42")
    update = next(frame for frame in to_maker if frame["event_type"] == "order" and frame["type"] == "UPDATE")
    assert (update["size_matched"], update["associate_trades"]) == ("50", [told["id"]])


async def test_user_channel_tells_own_events_of_chosen_markets_only(world: Any, autojump_clock: Any) -> None:
    socket = await world.alice.user_socket(markets=[world.rain.market_id])
    await world.bob.placed("BUY", "0.40", "10")
    await world.alice.placed("BUY", "0.40", "10", token=world.mayor.yes)
    await world.alice.placed("BUY", "0.41", "10")
    assert [frame["market"] for frame in await world.heard(socket)] == [world.rain.market_id]
    await socket.send_message(json.dumps({"operation": "subscribe", "markets": [world.mayor.market_id]}))
    await trio.sleep(0.1)
    await world.alice.placed("BUY", "0.42", "10", token=world.mayor.yes)
    assert len(await world.heard(socket)) == 1
