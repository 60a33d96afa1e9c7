"""Our gateway in front of the local exchange's server, joined by memory pipes: every byte real, but no socket."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio
import trio.testing

from tbot.core.market import Market, TokenId
from tbot.core.messages import ExchangeOrderId, OrderType, Side
from tbot.core.units import MICRO, Nanos, Notional, Price, Size
from tbot.exchanges.polymarket.connection import RunWide
from tbot.exchanges.polymarket.credentials import obtain_credentials
from tbot.exchanges.polymarket.gateway import PolymarketConnections, PolymarketGateway
from tbot.exchanges.polymarket.keys import ApiCredentials, SigningKey
from tbot.exchanges.polymarket.pipes import stream_transport
from tbot.exchanges.polymarket.settings import PolymarketSettings
from tbot.exchanges.simulated.accounts import PlayAccount
from tbot.exchanges.simulated.exchange import LocalExchange
from tbot.exchanges.simulated.faults import Faults, FaultSettings
from tbot.exchanges.simulated.operations import Account, EngineSettings, MarketRules, Placed, PlaceOrder, SplitPair
from tbot.exchanges.simulated.server import LocalServer, ServerSettings
from tbot.exchanges.simulated.settings import DEFAULT_MARKETS, AccountSettings, ExchangeSettings
from tbot.exchanges.simulated.translate import market_of
from tests.contract.stage import now_ns

OTHER = Account("other")
Connect = Callable[[], Awaitable[trio.abc.Stream]]


class PolymarketStage:
    """The local exchange served as Polymarket, without its crowd, and our gateway as its client."""

    def __init__(
        self,
        nursery: trio.Nursery,
        served: ServerSettings | None = None,
        markets: tuple[MarketRules, ...] = DEFAULT_MARKETS,
        engine: EngineSettings = EngineSettings(),  # noqa: B008 - frozen
    ) -> None:
        accounts = (AccountSettings(name=OTHER, cash_usd=1_000_000),)
        settings = ExchangeSettings(markets=markets, accounts=accounts, flow=None, engine=engine)
        self.exchange = LocalExchange(settings, seed=1, now_ns=now_ns, faults=Faults(FaultSettings(), seed=1))
        for rules in settings.markets:
            pairs = SplitPair(account=OTHER, market_id=rules.market_id, size=Size(10_000 * MICRO))
            self.exchange.apply(pairs)
        self.server = LocalServer(self.exchange, served or ServerSettings(), secret=b"seed 1", now_ns=now_ns)
        account = PlayAccount.from_rng(random.Random(1))
        issued = self.server.enroll(account, Notional(1_000 * MICRO))
        self.key = SigningKey.from_hex(account.private_key)
        self.credentials = ApiCredentials(api_key=issued.api_key, secret=issued.secret, passphrase=issued.passphrase)
        self._nursery = nursery
        self._settings = PolymarketSettings(
            condition_ids=tuple(str(rules.market_id) for rules in settings.markets),
            rest_url="http://exchange.test",
            ws_market_url="ws://exchange.test/ws/market",
            ws_user_url="ws://exchange.test/ws/user",
            geoblock_url="http://exchange.test/api/geoblock",
        )
        self.gateway = self.gateway_of(self.credentials)
        self.market: Market = market_of(settings.markets[0])
        self._count = 0

    def gateway_of(
        self, credentials: ApiCredentials, now_ns: Callable[[], Nanos] = now_ns, shared: RunWide | None = None
    ) -> PolymarketGateway:
        """Make a client with some credentials, by a clock of its own."""
        return PolymarketGateway(
            self._settings,
            key=self.key,
            credentials=credentials,
            now_ns=now_ns,
            rng=random.Random(1),
            connections=PolymarketConnections(
                transport=stream_transport(self._piped(self.server.serve_rest)),
                market=self._piped(self.server.serve_websocket),
                user=self._piped(self.server.serve_websocket),
            ),
            shared=shared,
        )

    async def obtain_credentials(self) -> ApiCredentials:
        """Get them as a stranger with nothing but the key would."""
        transport = stream_transport(self._piped(self.server.serve_rest))
        return await obtain_credentials(self._settings, key=self.key, now_ns=now_ns, transport=transport)

    async def other_rests(self, token_id: TokenId, side: Side, price: Price, size: Size) -> None:
        """Place at once, without latency."""
        self._place(token_id, side, price, size, OrderType.GTC)
        await trio.lowlevel.checkpoint()

    async def other_takes(self, token_id: TokenId, side: Side, price: Price, size: Size) -> None:
        """Take at once, without latency."""
        self._place(token_id, side, price, size, OrderType.FAK)
        await trio.lowlevel.checkpoint()

    async def cut_connections(self) -> None:
        """Cut all."""
        self.exchange.cut_connections("cut by the test")
        await trio.lowlevel.checkpoint()

    def _piped(self, serve: Callable[[trio.abc.Stream], Awaitable[None]]) -> Connect:
        async def connect() -> trio.abc.Stream:
            await trio.lowlevel.checkpoint()
            ours, theirs = trio.testing.memory_stream_pair()
            self._nursery.start_soon(serve, theirs)
            return ours

        return connect

    def _place(self, token_id: TokenId, side: Side, price: Price, size: Size, order_type: OrderType) -> None:
        self._count += 1
        has_budget = side is Side.BUY and order_type is OrderType.FAK
        reply = self.exchange.place(
            PlaceOrder(
                account=OTHER,
                order_id=ExchangeOrderId(f"other-{self._count}"),
                token_id=token_id,
                side=side,
                price=price,
                size=Size(0) if has_budget else size,
                budget=Notional(price * size // MICRO if has_budget else 0),
                order_type=order_type,
            )
        )
        assert isinstance(reply, Placed), reply


@asynccontextmanager
async def polymarket(
    markets: tuple[MarketRules, ...] = DEFAULT_MARKETS,
    engine: EngineSettings = EngineSettings(),  # noqa: B008 - frozen
) -> AsyncIterator[PolymarketStage]:
    """Run exchange and server beside the test; the server must come through without a bug."""
    async with trio.open_nursery() as nursery:
        stage = PolymarketStage(nursery, markets=markets, engine=engine)
        await nursery.start(stage.exchange.run)
        await stage.gateway.load_markets()
        yield stage
        await stage.gateway.aclose()
        nursery.cancel_scope.cancel()
    assert stage.server.crashes == []
