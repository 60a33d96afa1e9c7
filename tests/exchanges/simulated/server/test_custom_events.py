"""What a connection with custom features is told, and one without is not."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
import trio

from tbot.core.market import MarketId, TokenId
from tbot.core.units import MICRO, Price
from tbot.exchanges.simulated.operations import OpenMarket, ResolveMarket
from tests.exchanges.simulated.server.conftest import EPOCH_S, RAIN

CUP = msgspec.structs.replace(
    RAIN,
    market_id=MarketId("0x" + "c3" * 32),
    slug="cup-final",
    yes=TokenId("1001"),
    no=TokenId("1002"),
    event="cup",
    game_start_s=EPOCH_S + 3_600,
    rebate_share_micro=200_000,
)
CUSTOM = {"best_bid_ask", "new_market", "market_resolved"}


def of_kind(frames: list[Any], kind: str) -> list[Any]:
    return [frame for frame in frames if frame["event_type"] == kind]


async def custom_socket(world: Any, *tokens: str) -> Any:
    socket = await world.market_socket(*tokens, custom_feature_enabled=True)
    await world.heard(socket)
    return socket


async def test_best_prices_come_for_the_subscribed_tokens_when_they_change(world: Any, autojump_clock: Any) -> None:
    both = await custom_socket(world, world.rain.yes, world.rain.no)
    one = await custom_socket(world, world.rain.no)
    await world.alice.placed("BUY", "0.40", "10")
    frames = await world.heard(both)
    assert [frame["event_type"] for frame in frames] == ["price_change", "best_bid_ask", "best_bid_ask"]
    assert [(f["asset_id"], f["best_bid"], f["best_ask"], f["spread"]) for f in frames[1:]] == [
        (world.rain.yes, "0.4", "1", "0.6"),
        (world.rain.no, "0", "0.6", "0.6"),
    ]
    assert [f["asset_id"] for f in of_kind(await world.heard(one), "best_bid_ask")] == [world.rain.no]
    await world.alice.placed("BUY", "0.40", "10")
    await world.alice.placed("BUY", "0.39", "10")
    assert of_kind(await world.heard(both), "best_bid_ask") == []


async def test_best_prices_come_after_each_trade(world: Any, autojump_clock: Any) -> None:
    await world.bob.placed("BUY", "0.42", "100", token=world.rain.no)
    socket = await custom_socket(world, world.rain.yes)
    await world.alice.placed("BUY", "0.58", "50")
    (frame,) = of_kind(await world.heard(socket), "best_bid_ask")
    assert (frame["best_bid"], frame["best_ask"]) == ("0", "0.58")


async def test_new_market_goes_to_every_custom_connection_whatever_it_subscribed(
    world: Any, autojump_clock: Any
) -> None:
    custom, plain = await custom_socket(world, world.mayor.yes), await world.market_socket(world.mayor.yes)
    await world.heard(plain)
    world.exchange.apply(OpenMarket(rules=CUP))
    (frame,) = await world.heard(custom)
    assert (frame["event_type"], frame["market"], frame["slug"]) == ("new_market", CUP.market_id, "cup-final")
    assert (frame["assets_ids"], frame["clob_token_ids"]) == (["1001", "1002"], ["1001", "1002"])
    assert (frame["game_start_time"], frame["event_message"]["slug"]) == ("2026-01-01 01:00:00+00", "cup")
    assert frame["fee_schedule"] == {"exponent": "1", "rate": "0.04", "taker_only": True, "rebate_rate": "0.2"}
    shown = (await world.get("/gamma/markets?slug=cup-final")).json[0]
    assert shown["feeSchedule"] == {"exponent": 1, "rate": 0.04, "takerOnly": True, "rebateRate": 0.2}
    assert shown["feeType"] == "general_fees"  # no word tells that it is for play
    assert await world.heard(plain) == []
    # It was announced, not subscribed.
    await world.alice.placed("BUY", "0.40", "10", token=CUP.yes)
    assert await world.heard(custom) == []


@pytest.mark.parametrize(
    ("payout", "winner", "outcome"),
    [(MICRO, RAIN.yes, "Yes"), (0, RAIN.no, "No"), (MICRO // 2, "", "")],
)
async def test_resolution_is_told_to_subscribers_of_the_market(
    world: Any, autojump_clock: Any, payout: int, winner: str, outcome: str
) -> None:
    socket, other = await custom_socket(world, world.rain.no), await custom_socket(world, world.mayor.yes)
    world.exchange.apply(ResolveMarket(market_id=world.rain.market_id, yes_payout=Price(payout)))
    (frame,) = await world.heard(socket)
    assert (frame["event_type"], frame["winning_asset_id"], frame["winning_outcome"]) == (
        "market_resolved",
        winner,
        outcome,
    )
    assert await world.heard(other) == []


async def test_the_flag_belongs_to_the_connection_and_can_be_switched(world: Any, autojump_clock: Any) -> None:
    socket = await world.market_socket(world.rain.yes)
    await world.heard(socket)
    prices = iter(["0.40", "0.41", "0.42", "0.43"])

    async def kinds_after(**change: Any) -> set[str]:
        if change:
            frame = {"operation": "subscribe", "assets_ids": [world.rain.yes], **change}
            await socket.send_message(json.dumps(frame))
            await trio.sleep(0.1)
        await world.alice.placed("BUY", next(prices), "10")
        told = await world.heard(socket)
        # The answer to a subscription that adds nothing is an empty list, never the book of an active asset.
        return {frame["event_type"] for frame in told if frame != []}

    assert await kinds_after() == {"price_change"}
    assert await kinds_after(custom_feature_enabled=True) == {"price_change", "best_bid_ask"}
    assert await kinds_after(custom_feature_enabled=False) == {"price_change"}
    await kinds_after(custom_feature_enabled=True)


@pytest.mark.parametrize("level", [1, 2, 3])
async def test_every_level_is_answered_alike(world: Any, autojump_clock: Any, level: int) -> None:
    socket = await world.market_socket(world.rain.yes, level=level)
    ((book,),) = await world.heard(socket)
    assert book["event_type"] == "book"


async def test_custom_events_change_nothing_for_a_plain_connection(world: Any, autojump_clock: Any) -> None:
    socket = await world.market_socket(world.rain.yes, world.rain.no)
    await world.heard(socket)
    await world.bob.placed("BUY", "0.42", "100", token=world.rain.no)
    await world.alice.placed("BUY", "0.60", "50")
    world.exchange.apply(OpenMarket(rules=CUP))
    world.exchange.apply(ResolveMarket(market_id=world.rain.market_id, yes_payout=Price(0)))
    assert not {frame["event_type"] for frame in await world.heard(socket)} & CUSTOM
