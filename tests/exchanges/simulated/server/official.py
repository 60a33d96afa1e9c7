"""py-clob-client-v2 in front of the served exchange: what its sessions share."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
import trio
from py_clob_client_v2.client import ClobClient
from py_clob_client_v2.clob_types import MarketOrderArgsV2, OrderArgsV2
from py_clob_client_v2.exceptions import PolyApiException

from tbot.config import load
from tbot.core.units import Nanos
from tbot.exchanges.simulated.operations import EngineSettings, MarketRules
from tbot.exchanges.simulated.standalone import Announcement, FundedAccount, StandaloneExchange, StandaloneSettings

ROOT = Path(__file__).parents[4]
RAIN, COMET, COIN, QUIMBY, TERWILLIGER, NOBODY, ISOTOPES = load(ROOT / "conf/exchange.toml", StandaloneSettings).markets
QUICK = EngineSettings(mined_after_ns=50_000_000, confirmed_after_ns=100_000_000)

T = TypeVar("T")


def wall_ns() -> Nanos:
    return Nanos(time.time_ns())


class House:
    """The exchange of conf/exchange.toml without its crowd, served on loopback."""

    def __init__(self, standalone: StandaloneExchange, announcement: Announcement) -> None:
        self.exchange, self.server = standalone.exchange, standalone.server
        self.url = announcement.rest_url
        self.accounts = announcement.accounts

    def client(self, account: FundedAccount, *, signature_type: int = 0) -> ClobClient:
        wallets = account.wallets
        funder = (account.address, wallets.proxy, wallets.safe, wallets.deposit)[signature_type]
        client = ClobClient(self.url, 137, key=account.private_key, signature_type=signature_type, funder=funder)
        client.set_api_creds(client.create_or_derive_api_key())
        return client


@asynccontextmanager
async def open_house(engine: EngineSettings = QUICK) -> AsyncIterator[House]:
    settings = load(ROOT / "conf/exchange.toml", StandaloneSettings)
    settings = msgspec.structs.replace(settings, engine=engine, has_traders=False)
    standalone = StandaloneExchange(settings, seed=1, now_ns=wall_ns)
    async with trio.open_nursery() as nursery:
        announcement: Announcement = await nursery.start(standalone.serve)
        yield House(standalone, announcement)
        nursery.cancel_scope.cancel()
    assert standalone.server.crashes == []


async def in_thread(session: Callable[..., T], *arguments: Any) -> T:
    with trio.fail_after(60):
        return await trio.to_thread.run_sync(session, *arguments)


def refusal(action: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(PolyApiException) as caught:
        action()
    message = caught.value.error_msg
    return caught.value.status_code, message["error"] if isinstance(message, dict) else str(message)


def limit(market: MarketRules, side: str, price: float, size: float, **more: Any) -> OrderArgsV2:
    """An order on YES, routed by the kind of its id as the client wants it."""
    is_position = market is COIN
    return OrderArgsV2(
        token_id=None if is_position else market.yes,
        position_id=market.yes if is_position else None,
        side=side,
        price=price,
        size=size,
        **more,
    )


def market_order(market: MarketRules, side: str, amount: float, order_type: str, **more: Any) -> MarketOrderArgsV2:
    is_position = market is COIN
    return MarketOrderArgsV2(
        token_id=None if is_position else market.yes,
        position_id=market.yes if is_position else None,
        side=side,
        amount=amount,
        order_type=order_type,
        **more,
    )
