"""The whole bot on the local exchange served as Polymarket: every byte real, in virtual time, without a crowd."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing

import trio

from tbot.core.messages import ExchangeOrderId, Snapshot
from tbot.core.units import MICRO, Notional
from tbot.exchanges.gateway import Gateway
from tbot.exchanges.polymarket.connection import RunWide
from tbot.exchanges.polymarket.gateway import PolymarketConnections, PolymarketGateway
from tbot.exchanges.polymarket.keys import ApiCredentials, SigningKey
from tbot.exchanges.polymarket.pipes import Connect, stream_transport
from tbot.exchanges.polymarket.settings import PolymarketSettings
from tbot.exchanges.simulated.accounts import PlayAccount
from tbot.exchanges.simulated.fault_catalogue import Fault
from tbot.exchanges.simulated.fault_switches import FaultOrder
from tbot.exchanges.simulated.operations import Account
from tbot.exchanges.simulated.server import LocalServer, ServerSettings
from tbot.simulation.reach import delayed_pipe
from tests.contract.stage import now_ns
from tests.tasks.bot_stage import CASH, Stage


class WireStage(Stage):
    """A bot whose gateways are those of Polymarket, joined to the local exchange's server by pipes with delays.

    Attributes:
        before: What rested when `mark` was called last.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        super().__init__()
        self.server = LocalServer(self.exchange, ServerSettings(), secret=b"seed 1", now_ns=now_ns)
        play = PlayAccount.from_rng(random.Random(1))
        issued = self.server.enroll(play, Notional(CASH * MICRO))
        self.us = Account(play.address)
        self.api_key = issued.api_key
        self._credentials = ApiCredentials(api_key=issued.api_key, secret=issued.secret, passphrase=issued.passphrase)
        self._key = SigningKey.from_hex(play.private_key)
        self._dice = random.Random(2)
        self.nursery = nursery
        self.before: set[ExchangeOrderId] = set()
        self._settings = PolymarketSettings(
            condition_ids=(str(self.rules.market_id),),
            rest_url="http://exchange.test",
            ws_market_url="ws://exchange.test/ws/market",
            ws_user_url="ws://exchange.test/ws/user",
            geoblock_url="http://exchange.test/api/geoblock",
        )
        self._shared = RunWide.begin(self._settings, now_ns)

    def open_gateway(self) -> Gateway:
        self.gateways += 1
        channel = self._piped(self.server.serve_websocket)
        return PolymarketGateway(
            self._settings,
            key=self._key,
            credentials=self._credentials,
            now_ns=now_ns,
            rng=random.Random(self.gateways),
            connections=PolymarketConnections(
                transport=stream_transport(self._piped(self.server.serve_rest)), market=channel, user=channel
            ),
            shared=self._shared,
        )

    def begin(self, fault: Fault, *, seconds: float | None = None, count: int | None = None, target: str = "") -> None:
        """Let a fault begin now."""
        self.exchange.misbehave(FaultOrder(name=fault, seconds=seconds, count=count, target=target))

    def mark(self) -> None:
        """Remember what rests now."""
        self.before = set(self.resting())

    @property
    def snapshot(self) -> Snapshot:
        """What the bot says of itself, at most a second old."""
        snapshot = self.parts.snapshots.peek("snapshot")
        assert snapshot is not None
        return snapshot

    def _piped(self, serve: Callable[[trio.abc.Stream], Awaitable[None]]) -> Connect:
        async def connect() -> trio.abc.Stream:
            await trio.lowlevel.checkpoint()
            near, far = delayed_pipe(self.nursery, self._dice)
            self.nursery.start_soon(serve, far)
            return near

        return connect


@asynccontextmanager
async def wired() -> AsyncIterator[WireStage]:
    """Run the bot until both quotes rest, and stop it in the end; the server must come through without a bug."""
    async with trio.open_nursery() as nursery:
        stage = WireStage(nursery)
        with closing(stage.store):
            await nursery.start(stage.exchange.run)
            first = stage.open_gateway()
            stage.parts = dataclasses.replace(stage.parts, markets=await first.load_markets())
            assert await first.can_trade() == ""
            await first.aclose()
            nursery.start_soon(stage.run)
            with trio.fail_after(10):
                while len(stage.resting()) < 2:  # noqa: ASYNC110 - the exchange tells nobody
                    await trio.sleep(0.1)
            await trio.sleep(3)
            yield stage
            stage.stop.set()
            with trio.move_on_after(60):
                await stage.ended.wait()
            nursery.cancel_scope.cancel()
    assert stage.server.crashes == []
