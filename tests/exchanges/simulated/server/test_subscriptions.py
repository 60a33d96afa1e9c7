"""Both channels against the official client's own idea of its subscription, whatever it changes, in any order."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
import trio

pytestmark = pytest.mark.slow  # importing the official client takes two seconds

CHANGES = 25


async def send_all(socket: Any, frames: list[dict[str, Any]]) -> None:
    for frame in frames:
        await socket.send_message(json.dumps(frame))
    await trio.sleep(0.1)


async def place_everywhere(world: Any) -> None:
    """Leave no trace but the events: the same order in every market, and taken back."""
    for rules in (world.rain, world.mayor):
        for token in (rules.yes, rules.no):
            await world.alice.placed("BUY", "0.40", "10", token=token)
    await world.alice.ask("DELETE", "/cancel-all")


@pytest.mark.parametrize("seed", range(2))
async def test_user_channel_follows_the_official_client(world: Any, autojump_clock: Any, seed: int) -> None:
    from polymarket._internal.streams.clob.user_protocol import UserSubscription, derive_state, diff_state_frames

    rng = random.Random(seed)
    markets = (world.rain.market_id, world.mayor.market_id)
    kinds = [UserSubscription(), *(UserSubscription((market,)) for market in markets), UserSubscription(markets)]
    state = derive_state([UserSubscription()])
    socket = await world.alice.user_socket()
    for _ in range(CHANGES):
        before, state = state, derive_state(rng.sample(kinds, rng.randint(1, 2)))
        await send_all(socket, diff_state_frames(before, state))
        await place_everywhere(world)
        told = {frame["market"] for frame in await world.heard(socket)}
        assert told == set(markets if state.include_all_markets else state.markets), (before, state)


@pytest.mark.parametrize("seed", range(2))
async def test_market_channel_follows_the_official_client(world: Any, autojump_clock: Any, seed: int) -> None:
    from polymarket._internal.streams.clob.market_protocol import (
        MarketSubscription,
        build_initial_frame,
        derive_state,
        diff_state_frames,
    )

    rng = random.Random(seed)
    tokens: list[Any] = [world.rain.yes, world.rain.no, world.mayor.yes, world.mayor.no]

    def any_state() -> Any:
        wanted = [MarketSubscription(tuple(rng.sample(tokens, rng.randint(1, 3))), rng.random() < 0.4) for _ in "ab"]
        return derive_state(wanted[: rng.randint(1, 2)])

    state = any_state()
    socket = await world.websocket("/ws/market")
    await send_all(socket, [build_initial_frame(state)])
    await world.heard(socket)
    for _ in range(CHANGES):
        before, state = state, any_state()
        await send_all(socket, diff_state_frames(before, state))
        added = set(state.asset_ids) - set(before.asset_ids)
        dumps = [frame for frame in await world.heard(socket) if isinstance(frame, list)]
        assert [{book["asset_id"] for book in dump} for dump in dumps] == ([added] if added else []), (before, state)
        await place_everywhere(world)
        frames = await world.heard(socket)
        changed = {frame["market"] for frame in frames if frame["event_type"] == "price_change"}
        assert changed == {m.market_id for m in (world.rain, world.mayor) if {m.yes, m.no} & set(state.asset_ids)}
        best = {frame["asset_id"] for frame in frames if frame["event_type"] == "best_bid_ask"}
        assert best == (set(state.asset_ids) if state.custom_feature_enabled else set())
