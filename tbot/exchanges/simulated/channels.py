"""The market and the user channel over WebSocket, for any stream.

A connection has one reader (client frames, PING) and pumps (exchange events); whoever sends holds the connection's
turn, so frames go out whole; in the order of the exchange, unless some are set to take a longer way. A client that does
not read is cut: by the bounded stream of the exchange, or when one frame takes too long. The exchange never waits for
anybody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import Protocol, TypeVar

import msgspec
import trio
from msgspec import structs
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream
from wsproto.utilities import ProtocolError

from tbot.core.market import TokenId
from tbot.core.units import NANOS_PER_S, Nanos
from tbot.exchanges.simulated.accounts import Member
from tbot.exchanges.simulated.events import AccountEvent, TradeChanged
from tbot.exchanges.simulated.http import HttpRefusal
from tbot.exchanges.simulated.market_frames import MarketFrames
from tbot.exchanges.simulated.operations import Account
from tbot.exchanges.simulated.state import ServerState
from tbot.exchanges.simulated.streams import MarketStream, StreamEnded
from tbot.exchanges.simulated.transit import Transit, TransitSettings
from tbot.exchanges.simulated.wire_account import order_frame, trade_frame
from tbot.exchanges.simulated.wire_books import BookFirst, PriceChange, book_first
from tbot.exchanges.simulated.wire_custom import BestBidAsk
from tbot.exchanges.simulated.wire_in import (
    MARKETS_PER_READER_MAX,
    MarketSubscription,
    SubscriptionChange,
    UserSubscription,
    decode,
)

T = TypeVar("T", bound=msgspec.Struct)

MARKET_PATH = "/ws/market"
USER_PATH = "/ws/user"

POLICY_VIOLATION = 1008
# What production was seen to answer to a frame it cannot read; clients ignore texts that are not JSON.
INVALID = "INVALID OPERATION"
# Frames of one connection that may be on their way: twenty times what the densest recording had (500 a second, 90 ms).
# Beyond, events wait in the stream, whose own bound cuts a reader that stays behind.
ON_WAY_MAX = 1_024

ENDINGS = (
    ConnectionClosed,
    StreamEnded,
    ProtocolError,
    trio.TooSlowError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)
"""The ways in which a connection ends: the client left, was cut, broke the protocol, or does not read."""


class ChannelSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Patience of the channels, seconds, and the way of their frames.

    Attributes:
        handshake_s: For the upgrade and then for the first subscription.
        silence_s_max: A client must send something (PING) at least this often; production wants one every 10 s.
        write_s: For the client to take one frame.
        close_s: For the closing handshake.
        message_bytes_max: Largest client frame.
        market_transit: How long frames of the market channel are on their way, which reorders them.
    """

    handshake_s: float = 10.0
    silence_s_max: float = 30.0
    write_s: float = 10.0
    close_s: float = 1.0
    message_bytes_max: int = 1 << 20
    market_transit: TransitSettings = TransitSettings()


class Channel(Protocol):
    """One kind of subscription."""

    async def run(self) -> None:
        """Serve until the client leaves (`ConnectionClosed`) or this returns, after which the connection is closed."""
        ...


async def serve_websocket(stream: trio.abc.Stream, state: ServerState, settings: ChannelSettings) -> None:
    """Serve one connection until either side ends it; the stream is closed on return.

    Args:
        stream: Any byte stream; owned from here on.
        state: The server's.
        settings: Patience.
    """
    async with stream:
        try:
            async with trio.open_nursery() as nursery:
                await _serve(nursery, stream, state, settings)
                nursery.cancel_scope.cancel()
        except* ENDINGS:
            pass  # the client sees its connection closed, and that is all there is to say


async def _serve(nursery: trio.Nursery, stream: trio.abc.Stream, state: ServerState, settings: ChannelSettings) -> None:
    with trio.fail_after(settings.handshake_s):
        request = await wrap_server_stream(
            nursery,
            stream,
            message_queue_size=64,
            max_message_size=settings.message_bytes_max,
            receive_buffer_size=1 << 16,
        )
        make = CHANNELS.get(request.path.partition("?")[0])
        if make is None:
            await request.reject(404, body=b'{"error":"not found"}')
            return
        connection = Connection(await request.accept(), settings)
    await make(connection, state).run()


class Connection:
    """One accepted WebSocket: text in, JSON out, PING answered."""

    def __init__(self, socket: WebSocketConnection, settings: ChannelSettings) -> None:
        """Own the socket from here on."""
        self.settings = settings
        self._socket = socket
        self.turn = trio.Lock()

    async def receive(self) -> str:
        """Wait for the next client text; PING is answered on the way.

        Raises:
            ConnectionClosed: The client left.
            TooSlowError: It was silent for too long.
        """
        while True:
            text = await self._next()
            if text != "PING":
                return text
            await self.send_text("PONG")

    async def receive_first(self, kind: type[T]) -> T | None:
        """Wait for the subscription; None, and the connection closed, for anything else, a PING included."""
        with trio.move_on_after(self.settings.handshake_s):
            try:
                return decode(await self._next(), kind, refusal=INVALID)
            except HttpRefusal:
                pass  # answered like silence, below: the close code is all that production tells
        await self.close(POLICY_VIOLATION)
        return None

    async def send(self, value: object) -> None:
        """Send a value as JSON."""
        await self.send_text(msgspec.json.encode(value).decode())

    async def send_text(self, text: str) -> None:
        """Send a text.

        Raises:
            TooSlowError: The client does not read. The frame may be cut, so the connection must end.
        """
        with trio.fail_after(self.settings.write_s):
            await self._socket.send_message(text)

    async def close(self, code: int) -> None:
        """Close with a handshake, or without when the client does not answer it."""
        with trio.move_on_after(self.settings.close_s):
            await self._socket.aclose(code)

    async def _next(self) -> str:
        with trio.fail_after(self.settings.silence_s_max):
            message = await self._socket.get_message()
        return message if isinstance(message, str) else ""


class MarketChannel:
    """Public books and prints of the subscribed tokens."""

    def __init__(self, connection: Connection, state: ServerState) -> None:
        """Serve this connection."""
        self._connection = connection
        self._state = state
        self._frames = MarketFrames(state.exchange.engine, state.catalog.place)
        self._transit: Transit[msgspec.Struct] = Transit(connection.settings.market_transit, state.feed_dice())

    async def run(self) -> None:
        """Serve until the client leaves."""
        first = await self._connection.receive_first(MarketSubscription)
        if first is None:
            return
        with self._state.exchange.market_stream(()) as stream:
            stream.has_custom = bool(first.custom_feature_enabled)
            await self._begin(stream, first)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pump, stream)
                await self._obey(stream)

    async def _pump(self, stream: MarketStream) -> None:
        while True:
            await self._wait(stream)
            async with self._connection.turn:
                await self._flush(stream)

    async def _wait(self, stream: MarketStream) -> None:
        """Wait for an event, as long as there is room for its frames, or for the next frame to arrive."""
        arrives_ns = self._transit.next_ns()
        # One nanosecond more, so that rounding to Trio's float seconds cannot wake us just too early.
        wait_s = inf if arrives_ns is None else max(0.0, (arrives_ns + 1 - self._state.now_ns()) / NANOS_PER_S)
        with trio.move_on_after(wait_s):
            if len(self._transit) < ON_WAY_MAX:
                await stream.wait()
            else:
                await trio.sleep_forever()

    async def _obey(self, stream: MarketStream) -> None:
        while True:
            try:
                change = decode(await self._connection.receive(), SubscriptionChange, refusal=INVALID)
            except HttpRefusal:
                await self._connection.send_text(INVALID)
                continue
            if change.operation == "subscribe":
                # The flag is the connection's, not an asset's; a frame without it leaves it as it is.
                if change.custom_feature_enabled is not None:
                    stream.has_custom = change.custom_feature_enabled
                await self._subscribe(stream, change.assets_ids)
            else:
                stream.remove(map(TokenId, change.assets_ids))

    async def _begin(self, stream: MarketStream, first: MarketSubscription) -> None:
        """Send the books asked for first; without any the dump is empty, not absent."""
        async with self._connection.turn:
            books = self._add(stream, first.assets_ids)
            if first.initial_dump is not False:
                await self._connection.send(books)

    async def _subscribe(self, stream: MarketStream, tokens: list[str]) -> None:
        """Add tokens and send their books; what happened before goes out first. Others are met with silence."""
        async with self._connection.turn:
            await self._flush(stream)
            if books := self._add(stream, tokens):
                await self._connection.send(books)

    # One moment, no waiting: every event after these books reaches the stream, and none before.
    def _add(self, stream: MarketStream, tokens: list[str]) -> list[BookFirst]:
        exchange = self._state.exchange
        known = [TokenId(token) for token in dict.fromkeys(tokens) if self._state.directory.rules(token) is not None]
        new = [token_id for token_id in known if not stream.has_token(token_id)]
        for token_id, market_id in exchange.pairs(new):
            if not stream.has_market(market_id):
                self._frames.follow(market_id)
            stream.add([(token_id, market_id)])
        return [book_first(exchange.book(token_id)) for token_id in new]

    async def _flush(self, stream: MarketStream) -> None:
        if len(self._transit) < ON_WAY_MAX:
            self._set_out(stream)
        while (frame := self._transit.take(self._state.now_ns())) is not None:
            await self._connection.send(frame)

    # Taking the events and rendering them is one moment too, or the hashes would speak of a later book.
    def _set_out(self, stream: MarketStream) -> None:
        now_ns = self._state.now_ns()
        for frame in self._frames.frames(stream.receive_nowait()):
            if (wanted := wanted_part(frame, stream)) is not None:
                self._transit.send((wanted,), Nanos(now_ns + self._transit.draw_ns()))


def wanted_part(frame: msgspec.Struct, stream: MarketStream) -> msgspec.Struct | None:
    """Give what a subscriber gets of a frame; None = nothing.

    A change of levels speaks of both outcomes, whichever is subscribed; a best price of one only. What concerns a
    frozen token is left out, and all of a change when no token that it is sent for is left.
    """
    match frame:
        case PriceChange():
            kept = tuple(c for c in frame.price_changes if not stream.is_frozen(TokenId(c.asset_id)))
            if not any(stream.has_token(TokenId(change.asset_id)) for change in kept):
                return None
            return frame if len(kept) == len(frame.price_changes) else structs.replace(frame, price_changes=kept)
        case BestBidAsk():
            token_id = TokenId(frame.asset_id)
            return frame if stream.has_token(token_id) and not stream.is_frozen(token_id) else None
        case _:
            asset_id = getattr(frame, "asset_id", "")
            return None if stream.is_frozen(TokenId(asset_id)) else frame


class UserChannel:
    """Orders and trades of the owner of an API key, over all wallets of its address."""

    def __init__(self, connection: Connection, state: ServerState) -> None:
        """Serve this connection."""
        self._connection = connection
        self._state = state
        # Condition ids asked for; none = all, at whatever moment, as the official client counts on: to go from some
        # markets to all it unsubscribes the last of them, and to go back it subscribes some (polymarket-client 0.14.0).
        self._markets: dict[str, None] = {}

    async def run(self) -> None:
        """Serve until the client leaves; wrong credentials close the connection without a word."""
        first = await self._connection.receive_first(UserSubscription)
        if first is None:
            return
        auth = first.auth
        member = self._state.keys.login(api_key=auth.api_key, secret=auth.secret, passphrase=auth.passphrase)
        if member is None:
            await self._connection.close(POLICY_VIOLATION)
            return
        self._markets = dict.fromkeys(first.markets or ())
        await self._serve(member)

    async def _serve(self, member: Member) -> None:
        async with trio.open_nursery() as nursery:
            for account in self._state.accounts_of(member):
                await nursery.start(self._pump, account)
            await self._obey()

    async def _pump(self, account: Account, *, task_status: trio.TaskStatus[None]) -> None:
        with self._state.exchange.account_stream(account) as stream:
            task_status.started()
            while True:
                await stream.wait()
                async with self._connection.turn:
                    for event in stream.receive_nowait():
                        if self._is_wanted(event):
                            await self._connection.send(self._frame(event))

    async def _obey(self) -> None:
        while True:
            try:
                change = decode(await self._connection.receive(), SubscriptionChange, refusal=INVALID)
            except HttpRefusal:
                await self._connection.send_text(INVALID)
                continue
            wanted = self._changed(change)
            if len(wanted) > MARKETS_PER_READER_MAX:
                await self._connection.send_text(INVALID)
            else:
                self._markets = wanted

    def _changed(self, change: SubscriptionChange) -> dict[str, None]:
        named = dict.fromkeys(change.markets)
        if change.operation == "subscribe":
            return self._markets | named
        return {market: None for market in self._markets if market not in named}

    def _is_wanted(self, event: AccountEvent) -> bool:
        market_id = event.trade.market_id if isinstance(event, TradeChanged) else event.order.market_id
        return not self._markets or market_id in self._markets

    def _frame(self, event: AccountEvent) -> msgspec.Struct:
        directory = self._state.directory
        if isinstance(event, TradeChanged):
            return trade_frame(event, directory, self._state.exchange.engine.rules(event.trade.market_id))
        return order_frame(event, directory)


CHANNELS: Mapping[str, Callable[[Connection, ServerState], Channel]] = {
    MARKET_PATH: MarketChannel,
    USER_PATH: UserChannel,
}
