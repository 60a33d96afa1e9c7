"""The exchange of the desk's bench: moves prices, and takes the time from a price told to the order it brings in.

It is the local exchange with its own server, in a process of its own, over loopback sockets. Two bots trade here, each
on markets of its own, and are moved in turns, so that both meet the same machine. A tick lifts the best bid of one
market to `BID_HIGH`; the bot is to rest a bid of its own, and to cancel it when the best bid has fallen back.

Both moments are read here, by one clock: the one in which the frame with the new price is handed to the socket, and the
one in which the last bytes of `POST /order` were read. What the exchange itself needs to make or to judge either is not
counted; what the kernel needs to wake either process is.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import trio

from tbot.core.market import MarketId, TokenId
from tbot.core.messages import ExchangeOrderId, OrderType, Side
from tbot.core.units import MICRO, Notional, Price, Size
from tbot.exchanges.simulated.exchange import LocalExchange
from tbot.exchanges.simulated.operations import Account, CancelOrders, Deposit, MarketRules, Placed, PlaceOrder
from tbot.exchanges.simulated.quota import QuotaSettings
from tbot.exchanges.simulated.server import ServerSettings
from tbot.exchanges.simulated.standalone import StandaloneExchange, StandaloneSettings
from tbot.tasks.clock import WallClock

BID_LOW, BID_HIGH = Price(450_000), Price(480_000)
# What either bot is to rest.
BOT_BID, BOT_SIZE = Price(400_000), Size(5 * MICRO)
CROWD = Account("crowd")
BOTS = ("ours", "plain")
# A tick without an order after this is counted as missed.
PATIENCE_S = 2.0
# Time for the cancel, and for whatever either bot does after its order, to be over before the other one's turn.
PAUSE_S = 0.03
WARM_UP_TICKS_MAX = 12
# With a new state all balances are read from the chain first: for 200 tokens that takes the minute it may.
START_S = 150.0
# A machine too busy for more than this has shown enough.
MEASURE_S = 45.0


@dataclass
class Stopwatch:
    """The two moments of a tick, nanoseconds of this process' clock; None = not yet."""

    told_ns: int | None = None
    asked_ns: int | None = None
    is_armed: bool = False
    asked: trio.Event = field(default_factory=trio.Event)

    def arm(self) -> None:
        """Begin a tick."""
        self.told_ns = self.asked_ns = None
        self.is_armed, self.asked = True, trio.Event()

    def tell(self) -> None:
        """Note the frame; only the first one of a tick counts."""
        if self.is_armed and self.told_ns is None:
            self.told_ns = time.perf_counter_ns()

    def ask(self, received_ns: int) -> None:
        """Note the order."""
        if self.is_armed and self.told_ns is not None and received_ns > self.told_ns:
            self.asked_ns, self.is_armed = received_ns, False
            self.asked.set()


class Watched(trio.abc.HalfCloseableStream):
    """A socket whose traffic is seen as it passes."""

    def __init__(self, stream: trio.SocketStream, watch: Stopwatch) -> None:
        """Wrap a stream, which is owned from here on."""
        self._stream = stream
        self._watch = watch
        self._received_ns = 0
        self._is_order = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Read, and note when, and whether an order begins here."""
        data = await self._stream.receive_some(max_bytes)
        self._received_ns = time.perf_counter_ns()
        self._is_order = self._is_order or data.startswith(b"POST /order ")
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Answer; an order that is answered had arrived with the last bytes read."""
        if self._is_order:
            self._watch.ask(self._received_ns)
            self._is_order = False
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait as the socket does."""
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """End this side."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close the socket."""
        await self._stream.aclose()


class Telling(Watched):
    """Likewise of the market channel: what it sends, but for answers to PING, are prices."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send, and note it."""
        if len(data) > len("PONG") + 16:
            self._watch.tell()
        await self._stream.send_all(data)


class TickExchange:
    """The exchange, its sockets and the hand that moves prices."""

    def __init__(self, assets: int) -> None:
        """List `assets` tokens for each bot.

        Args:
            assets: Of each bot; even, as every market has two.
        """
        markets = [_rules(number) for number in range(assets)]
        self.markets = {"ours": markets[: assets // 2], "plain": markets[assets // 2 :]}
        settings = StandaloneSettings(
            markets=tuple(markets),
            has_traders=False,
            server=ServerSettings(quota=QuotaSettings(scale=10_000.0)),
        )
        self._whole = StandaloneExchange(settings, seed=1, now_ns=WallClock().now_ns)
        self._exchange: LocalExchange = self._whole.exchange
        self._watch = Stopwatch()
        self._count = 0
        self._exchange.apply(Deposit(account=CROWD, cash=Notional(10**6 * MICRO)))
        for rules in markets:
            self._rest(rules.yes, BID_LOW)
            self._rest(rules.no, BID_LOW)

    async def run(self, ticks: int) -> dict[str, list[int]]:
        """Serve, announce, wait for both bots, move prices.

        Args:
            ticks: Of each bot, as far as there is time.

        Returns:
            Nanoseconds of each tick by bot; -1 = no order came.
        """
        found: dict[str, list[int]] = {bot: [] for bot in BOTS}
        async with trio.open_nursery() as nursery:
            await nursery.start(self._exchange.run)
            rest = await self._listen(nursery, Watched, self._whole.server.serve_rest)
            told = await self._listen(nursery, Telling, self._whole.server.serve_websocket)
            user = await self._listen(nursery, Watched, self._whole.server.serve_websocket)
            self._announce(rest, told, user)
            for bot in BOTS:
                await self._warm_up(bot, min(ticks, WARM_UP_TICKS_MAX))
            with trio.move_on_after(MEASURE_S):
                for number in range(ticks):
                    for bot in BOTS if number % 2 else reversed(BOTS):
                        found[bot].append(await self._tick(bot, number))
            nursery.cancel_scope.cancel()
        return found

    async def _listen(self, nursery: trio.Nursery, kind: type[Watched], serve: Any) -> str:
        async def handle(stream: trio.SocketStream) -> None:
            await serve(kind(stream, self._watch))

        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        await nursery.start(trio.serve_listeners, handle, listeners)
        host, port = listeners[0].socket.getsockname()
        return f"{host}:{port}"

    def _announce(self, rest: str, told: str, user: str) -> None:
        for bot, account in zip(BOTS, self._whole.accounts, strict=False):
            announcement = {
                "bot": bot,
                "rest_url": f"http://{rest}",
                "ws_market_url": f"ws://{told}/ws/market",
                "ws_user_url": f"ws://{user}/ws/user",
                "private_key": account.private_key,
                "credentials": msgspec.to_builtins(account.api_credentials),
                "condition_ids": [rules.market_id for rules in self.markets[bot]],
                "yes": [rules.yes for rules in self.markets[bot]],
                "no": [rules.no for rules in self.markets[bot]],
                "bid_high": BID_HIGH,
                "bot_bid": BOT_BID,
                "bot_size": BOT_SIZE,
            }
            _say(announcement)

    # Until its first order a bot may still be starting; some more let every cache and pool of it settle.
    async def _warm_up(self, bot: str, ticks: int) -> None:
        answered = 0
        with trio.fail_after(START_S):
            while answered < ticks:
                answered += await self._tick(bot, answered, patience_s=0.5) >= 0

    async def _tick(self, bot: str, number: int, *, patience_s: float = PATIENCE_S) -> int:
        rules = self.markets[bot][number % len(self.markets[bot])]
        self._watch.arm()
        order_id = self._rest(rules.yes, BID_HIGH)
        with trio.move_on_after(patience_s):
            await self._watch.asked.wait()
        told_ns, asked_ns = self._watch.told_ns, self._watch.asked_ns
        self._watch.is_armed = False
        await trio.sleep(PAUSE_S)
        self._exchange.apply(CancelOrders(account=CROWD, order_ids=(order_id,)))
        await trio.sleep(PAUSE_S)
        return -1 if told_ns is None or asked_ns is None else asked_ns - told_ns

    def _rest(self, token_id: TokenId, price: Price) -> ExchangeOrderId:
        self._count += 1
        order_id = ExchangeOrderId(f"0x{self._count:064x}")
        reply = self._exchange.place(
            PlaceOrder(
                account=CROWD,
                order_id=order_id,
                token_id=token_id,
                side=Side.BUY,
                price=price,
                size=Size(100 * MICRO),
                budget=Notional(0),
                order_type=OrderType.GTC,
            )
        )
        assert isinstance(reply, Placed), reply
        return order_id


def _rules(number: int) -> MarketRules:
    # Token ids as long as real ones; those that begin with zeros would be positions of another protocol.
    yes, no = (TokenId(f"71{number:06d}{'0' * 68}{outcome}") for outcome in (1, 2))
    return MarketRules(market_id=MarketId(f"0x{number + 1:064x}"), slug=f"market-{number}", yes=yes, no=no)


def _say(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def main(argv: Sequence[str]) -> None:
    """Run with two numbers: assets of each bot, ticks of each bot."""
    assets, ticks = map(int, argv)
    exchange = TickExchange(assets)
    _say(trio.run(exchange.run, ticks))


if __name__ == "__main__":
    main(sys.argv[1:])
