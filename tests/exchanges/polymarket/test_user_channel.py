"""What the user channel makes of its frames, and that its secrets stay inside; in virtual time."""

from __future__ import annotations

import logging
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio.testing
from trio_websocket import WebSocketConnection

from tbot.core.market import MarketId
from tbot.core.messages import (
    Fill,
    OrderUpdate,
)
from tbot.core.units import Notional
from tbot.exchanges.polymarket.fills import Ownership
from tbot.exchanges.polymarket.keys import ApiCredentials
from tbot.exchanges.polymarket.sockets import (
    ClosedAtOnce,
    UserChannel,
    open_socket,
    user_hello,
)
from tests.exchanges.polymarket.socket_peer import (
    NOW,
    TIMEOUTS,
    URL,
    YES,
    Peer,
    peer_of,
    sending,
)

CREDENTIALS = ApiCredentials(api_key="our-key", secret="s3cret", passphrase="hush")


@asynccontextmanager
async def user_of(peer: Peer) -> AsyncIterator[UserChannel]:
    hello = partial(user_hello, CREDENTIALS, (MarketId("0xab"),))
    ours = Ownership(api_key="our-key", wallet="0x22")
    async with open_socket(URL, peer.connect, hello, TIMEOUTS, settle_s=0.5) as socket:
        yield UserChannel(socket, ours, lambda *_: Notional(0), lambda: NOW)


ORDER = {
    "event_type": "order",
    "type": "PLACEMENT",
    "id": "0x11",
    "asset_id": YES,
    "side": "SELL",
    "price": "0.57",
    "original_size": "10",
    "size_matched": "0",
    "order_type": "GTC",
    "status": "LIVE",
    "created_at": "1672290687",
    "timestamp": "1672290687123",
}
TRADE = {
    "event_type": "trade",
    "id": "t1",
    "status": "MATCHED",
    "taker_order_id": "0x33",
    "asset_id": YES,
    "side": "BUY",
    "size": "10",
    "price": "0.57",
    "trader_side": "MAKER",
    "maker_orders": [
        {"order_id": "0x11", "owner": "our-key", "matched_amount": "10", "price": "0.57", "asset_id": YES}
    ],
    "match_time": "1672290701",
}


async def test_account_events_are_translated(autojump_clock: trio.testing.MockClock) -> None:
    async with peer_of(sending(ORDER, TRADE)) as peer, user_of(peer) as session:
        (update,) = await session.receive()
        (fill,) = await session.receive()
        assert isinstance(update, OrderUpdate)
        assert isinstance(fill, Fill)
        assert (fill.exchange_order_id, fill.notional) == ("0x11", 5_700_000)
    assert peer.hellos[0]["markets"] == ["0xab"]
    assert peer.hellos[0]["auth"] == {"apiKey": "our-key", "secret": "s3cret", "passphrase": "hush"}


async def test_end_right_after_the_subscription_is_told_apart(autojump_clock: trio.testing.MockClock) -> None:
    async def refuse(connection: WebSocketConnection) -> None:
        await connection.aclose(1008, "no")

    async with peer_of(refuse) as peer:
        with pytest.raises(ClosedAtOnce, match="1008"):
            async with user_of(peer):
                pytest.fail("it was closed")


async def test_secrets_reach_no_log_and_no_error(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def refuse(connection: WebSocketConnection) -> None:
        await connection.aclose(1008, "no")

    async with peer_of(refuse) as peer:
        with pytest.raises(ClosedAtOnce) as refusal:
            async with user_of(peer):
                pytest.fail("it was closed")
    told = caplog.text + "".join(traceback.format_exception(refusal.value))
    assert CREDENTIALS.secret not in told
    assert CREDENTIALS.passphrase not in told
