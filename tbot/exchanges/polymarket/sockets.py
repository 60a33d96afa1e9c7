"""The two push channels over trio-websocket.

Shape of a connection: our own nursery holds the library's reader and the task that says PING; both end with the
context. The handshake runs under our own time limit, because the library's does not end one that stalls. The text PING
goes out every 10 s, and never before the subscription, as the exchange closes such a connection. Whoever receives
notices a dead link: nothing at all, not even PONG, for `silence_s`. A send is never cancelled without dropping the
connection, since half a frame would spoil all that follow: here nothing but the end of the connection cancels one.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any, Final, cast
from urllib.parse import urlsplit

import h11
import msgspec
import trio
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    HandshakeError,
    WebSocketConnection,
    wrap_client_stream,
)
from wsproto.utilities import ProtocolError

from tbot.core.market import MarketId, TokenId
from tbot.core.messages import AccountEvent, BookSnapshot, Gap, MarketEvent, MarketNews, TickSizeChanged
from tbot.core.units import Nanos
from tbot.errors import BadFrame, ConfigError, Disconnected, ExchangeUnavailable, RateLimited, TimedOut
from tbot.exchanges.polymarket.bad_frames import pieces_of, tokens_named
from tbot.exchanges.polymarket.fills import FeeOf, Ownership, order_events, trade_events
from tbot.exchanges.polymarket.keys import ApiCredentials
from tbot.exchanges.polymarket.retry_after import RETRY_AFTER_S_DEFAULT, header_wait_s
from tbot.exchanges.polymarket.settings import TimeoutSettings
from tbot.exchanges.polymarket.tls import tls_context
from tbot.exchanges.polymarket.translate import market_events
from tbot.exchanges.polymarket.wire import FrameDecoder, OrderFrame, UserFrame, market_decoder

Connect = Callable[[], Awaitable[trio.abc.Stream]]
Tap = Callable[[], Callable[[str, Nanos], None]]
"""Called for each connection made; what it returns is given every text with the time of its receipt. Never waits."""

# A burst of frames may wait here while we decode one; beyond it TCP holds the sender back.
QUEUE_FRAMES: Final = 64
# A full book of a busy market passes the library's default of 1 MiB, which would end the connection.
FRAME_BYTES_MAX: Final = 16 << 20
# With the default of 4 KiB a 70 KiB book costs four times as much.
READ_BYTES: Final = 1 << 16
# Above some 500 assets the first books were seen missing; clients in the field stay at 200.
ASSETS_MAX: Final = 200
# One long frame of ids was seen ignored; the rest follows in frames of their own.
ASSETS_PER_FRAME: Final = 100
# The exchange does not acknowledge a subscription. On the market channel the first books do it instead, or silence when
# no book is open; on the user channel there is nothing but, if it was refused, the end of the connection.
SETTLE_MARKET_S: Final = 2.0
SETTLE_USER_S: Final = 0.5

# Events of new and resolved markets. The flag is the connection's; a subscription that does not repeat it may end them.
_WITH_NEWS: Final = {"custom_feature_enabled": True}

_LOST = (
    ConnectionClosed,
    HandshakeError,
    ProtocolError,
    h11.ProtocolError,
    OSError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)


class ClosedAtOnce(Disconnected):
    """The exchange closed the connection right after our subscription: refused, or restarting."""


def tcp_connector(url: str, *, context: ssl.SSLContext | None = None) -> Connect:
    """Make a function that opens a stream to a `ws:` or `wss:` address.

    Args:
        url: Address of a channel.
        context: TLS settings; None = the system's certificates.

    Raises:
        ConfigError: Not such an address.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ConfigError(f"socket address {url!r}: expected ws:// or wss:// and a host")
    host, is_tls = parts.hostname, parts.scheme == "wss"
    port = parts.port or (443 if is_tls else 80)

    async def connect() -> trio.abc.Stream:
        stream = await trio.open_tcp_stream(host, port)
        if not is_tls:
            return stream
        tls = context or tls_context()
        return trio.SSLStream(stream, tls, server_hostname=host, https_compatible=True)

    return connect


class Socket:
    """One open connection: texts in, and a PING every now and then out."""

    def __init__(self, connection: WebSocketConnection, timeouts: TimeoutSettings) -> None:
        """Wrap a connection that has shaken hands and subscribed."""
        self._connection = connection
        self._timeouts = timeouts
        self._early: str | bytes | None = None

    async def text(self) -> str:
        """Wait for the next text that carries data; "" = a sign of life without any (PONG, a remark).

        Raises:
            Disconnected: The connection ended, or stayed silent too long.
            BadFrame: A binary message; the connection goes on.
        """
        message, self._early = self._early, None
        if message is None:
            message = await self._message()
        if isinstance(message, bytes):
            raise BadFrame(f"a binary message of {len(message)} bytes")
        # Remarks such as PONG or NO NEW ASSETS are plain text; data begins like JSON.
        return message if message.lstrip()[:1] in ("{", "[") else ""

    async def settle(self, settle_s: float) -> None:
        """Wait a moment for the first message, which is kept, or the end of a connection that was refused.

        Raises:
            ClosedAtOnce: It ended.
        """
        with trio.move_on_after(settle_s):
            try:
                self._early = await self._message()
            except Disconnected as error:
                raise ClosedAtOnce(f"closed right after the subscription: {error}") from error

    async def send(self, text: str) -> None:
        """Send a text; cancelled, it leaves half a frame behind, so the connection must end then.

        Raises:
            Disconnected: The connection ended.
        """
        try:
            await self._connection.send_message(text)
        except _LOST as error:
            raise Disconnected(f"{type(error).__name__}: {error}") from error

    async def beat(self) -> None:
        """Say PING until the connection ends; whoever receives will notice that end."""
        with suppress(*_LOST):
            while True:
                await trio.sleep(self._timeouts.ping_s)
                await self._connection.send_message("PING")

    async def _message(self) -> str | bytes:
        try:
            with trio.fail_after(self._timeouts.silence_s):
                return await self._connection.get_message()
        except trio.TooSlowError as error:
            raise Disconnected(f"not a sign of life for {self._timeouts.silence_s:g} s") from error
        except ConnectionClosed as error:
            raise Disconnected(f"closed: {error.reason}") from error


@asynccontextmanager
async def open_socket(
    url: str,
    connect: Connect,
    hello: Callable[[], str],
    timeouts: TimeoutSettings,
    *,
    settle_s: float,
    more: Sequence[str] = (),
) -> AsyncIterator[Socket]:
    """Connect, shake hands, subscribe and keep the connection alive until the context ends.

    Args:
        url: Names host and path for the handshake; where to connect is the connect function's affair.
        connect: Opens the stream.
        hello: Makes the first frame; called late, so that a frame with secrets is never kept.
        timeouts: Bounds of every wait.
        settle_s: How long to wait for the subscription to take effect, or to be refused.
        more: Frames that follow the first one at once.

    Raises:
        ExchangeUnavailable: No connection, or none in time.
    """
    async with AsyncExitStack() as stack:
        nursery = await _open_nursery(stack)
        try:
            with trio.fail_after(timeouts.handshake_s):
                stream = await connect()
                stack.push_async_callback(trio.aclose_forcefully, stream)
                connection = await _shake_hands(nursery, stream, url)
                for frame in (hello(), *more):
                    await connection.send_message(frame)
        except trio.TooSlowError as error:
            raise TimedOut(f"{url}: no connection within {timeouts.handshake_s:g} s") from error
        except _LOST as error:
            raise unavailable(error) from error
        socket = Socket(connection, timeouts)
        nursery.start_soon(socket.beat)
        await socket.settle(settle_s)
        yield socket


def open_market_socket(
    url: str, connect: Connect, token_ids: Sequence[TokenId], timeouts: TimeoutSettings
) -> AbstractAsyncContextManager[Socket]:
    """Connect to the market channel and subscribe to tokens; see `open_socket`.

    Raises:
        ConfigError: More tokens than one connection serves reliably, or none.
        ExchangeUnavailable: On entry, when no connection could be made in time.
    """
    hello = partial(market_hello, tuple(token_ids))
    more = market_changes("subscribe", token_ids[ASSETS_PER_FRAME:])
    return open_socket(url, connect, hello, timeouts, settle_s=SETTLE_MARKET_S, more=more)


class _StampedAhead(BadFrame):
    # It is told to come from later than now.
    pass


class MarketChannel:
    """A market session: books, changes and prints of some tokens (see `exchanges.gateway.MarketSession`)."""

    def __init__(
        self,
        socket: Socket,
        tokens: Sequence[TokenId],
        now_ns: Callable[[], Nanos],
        learn_tick: Callable[[TickSizeChanged | BookSnapshot], None],
        *,
        on_raw: Callable[[str, Nanos], None] | None = None,
        latest_ms: Callable[[Nanos], int] | None = None,
        on_future: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        """Translate what the socket brings.

        Args:
            socket: Connected and subscribed.
            tokens: Events of others are left out.
            now_ns: Wall time.
            learn_tick: Given each change of a tick and each whole book, which may name one, before the reader is.
            on_raw: Given every text before it is decoded, with the time of its receipt; must not wait.
            latest_ms: Gives the latest time that a frame received then may be stamped with (`ExchangeClock.latest_ms`);
                None = any time will do.
            on_future: Awaited when a frame is stamped later than that, before it is judged again: what `latest_ms` goes
                by may be out of date.
        """
        self._socket = socket
        self._tokens = frozenset(tokens)  # asked, never iterated
        self._now_ns = now_ns
        self._learn_tick = learn_tick
        self._on_raw = on_raw
        self._latest_ms, self._on_future = latest_ms, on_future
        self._decoder = market_decoder()
        self._bad: deque[BadFrame] = deque()

    @property
    def unknown(self) -> int:
        """Events of types we do not use, so far."""
        return self._decoder.unknown

    async def receive(self) -> tuple[MarketEvent, ...]:
        """Wait for the next events, in order of arrival; () is a sign of life without data.

        A message of several frames may be bad in part: what is good of it is returned first.

        Raises:
            Disconnected: The connection ended or went silent.
            BadFrame: A frame could not be decoded; nothing of it counts, and the session goes on. It names the tokens
                when it still says whose it was.
        """
        if self._bad:
            raise self._bad.popleft()
        text = await self._socket.text()
        received_ns = self._now_ns()
        if not text:
            return ()
        if self._on_raw is not None:
            self._on_raw(text, received_ns)
        try:
            events = self._events(text, received_ns)
        except BadFrame as error:
            if isinstance(error, _StampedAhead) and self._on_future is not None:
                await self._on_future()
            events = self._good_events(text, received_ns)
        for event in events:
            if isinstance(event, TickSizeChanged | BookSnapshot):
                self._learn_tick(event)
        if self._bad and not events:
            raise self._bad.popleft()
        return events

    async def subscribe(self, token_ids: Sequence[TokenId]) -> None:
        """Follow more tokens; their books are sent first.

        Raises:
            ConfigError: More tokens than one connection serves reliably; nothing was sent.
            Disconnected: The connection ended.
        """
        tokens = self._tokens | frozenset(token_ids)
        _check_count(len(tokens))
        self._tokens = tokens
        for frame in market_changes("subscribe", token_ids):
            await self._socket.send(frame)

    async def unsubscribe(self, token_ids: Sequence[TokenId]) -> None:
        """Follow tokens no more; what is on its way is left out.

        Raises:
            Disconnected: The connection ended.
        """
        self._tokens -= frozenset(token_ids)
        for frame in market_changes("unsubscribe", token_ids):
            await self._socket.send(frame)

    async def resubscribe(self, token_ids: Sequence[TokenId]) -> None:
        """Unsubscribe, then subscribe: naming an active token again would not send its book.

        Raises:
            Disconnected: The connection ended.
        """
        for operation in ("unsubscribe", "subscribe"):
            for frame in market_changes(operation, token_ids):
                await self._socket.send(frame)

    def _events(self, text: str, received_ns: Nanos) -> tuple[MarketEvent, ...]:
        frames = self._decoder.decode(text)
        events = tuple(event for frame in frames for event in market_events(frame, self._tokens, received_ns))
        self._refuse_future(events, received_ns)
        return events

    # The newest time wins on each level, so a single one of next year would hide all that is told until then.
    def _refuse_future(self, events: tuple[MarketEvent, ...], received_ns: Nanos) -> None:
        if self._latest_ms is None or not events:
            return
        latest_ms = self._latest_ms(received_ns)
        for event in events:
            if not isinstance(event, Gap | MarketNews) and event.exchange_ms > latest_ms:
                raise _StampedAhead(f"stamped {event.exchange_ms - latest_ms} ms later than can be")

    # The slow way, frame by frame, so that a bad one costs only the tokens it names.
    def _good_events(self, text: str, received_ns: Nanos) -> tuple[MarketEvent, ...]:
        events: list[MarketEvent] = []
        for piece in pieces_of(text):
            try:
                events += self._events(piece, received_ns)
            except BadFrame as error:
                named = tokens_named(piece)
                ours = tuple(token for token in named if token in self._tokens)
                if ours or not named:
                    self._bad.append(BadFrame(str(error), token_ids=ours))
        return tuple(events)


class UserChannel:
    """An account session: our orders and trades (see `exchanges.gateway.AccountSession`)."""

    def __init__(self, socket: Socket, ours: Ownership, fee_of: FeeOf, now_ns: Callable[[], Nanos]) -> None:
        """Translate what the socket brings."""
        self._socket = socket
        self._ours = ours
        self._fee_of = fee_of
        self._now_ns = now_ns
        self._decoder: FrameDecoder[UserFrame] = FrameDecoder(UserFrame)

    @property
    def unknown(self) -> int:
        """Events of types we do not use, so far."""
        return self._decoder.unknown

    async def receive(self) -> tuple[AccountEvent, ...]:
        """Wait for the next events; () is a sign of life without data.

        Raises:
            Disconnected: The connection ended or went silent.
            BadFrame: A frame could not be decoded; nothing of it counts, and the session goes on.
        """
        text = await self._socket.text()
        received_ns = self._now_ns()
        if not text:
            return ()
        frames = self._decoder.decode(text)
        return tuple(event for frame in frames for event in self._events(frame, received_ns))

    def _events(self, frame: UserFrame, received_ns: Nanos) -> tuple[AccountEvent, ...]:
        if isinstance(frame, OrderFrame):
            return order_events(frame, received_ns)
        return trade_events(frame, self._ours, self._fee_of, received_ns)


def market_hello(token_ids: Sequence[TokenId]) -> str:
    """Make the first frame of the market channel; it names the first tokens, `market_changes` the others.

    Raises:
        ConfigError: More tokens than one connection serves reliably, or none.
    """
    _check_count(len(token_ids))
    first = list(token_ids[:ASSETS_PER_FRAME])
    return msgspec.json.encode({"type": "market", "assets_ids": first, **_WITH_NEWS}).decode()


def _check_count(count: int) -> None:
    if not 0 < count <= ASSETS_MAX:
        raise ConfigError(f"{count} tokens on one market connection: expected 1 to {ASSETS_MAX}")


def market_changes(operation: str, token_ids: Sequence[TokenId]) -> list[str]:
    """Make the frames that change the subscription of an open market channel.

    Args:
        operation: "subscribe" or "unsubscribe".
        token_ids: Any number of tokens.
    """
    starts = range(0, len(token_ids), ASSETS_PER_FRAME)
    chunks = [list(token_ids[start : start + ASSETS_PER_FRAME]) for start in starts]
    flags = _WITH_NEWS if operation == "subscribe" else {}
    return [msgspec.json.encode({"operation": operation, "assets_ids": chunk, **flags}).decode() for chunk in chunks]


def user_hello(credentials: ApiCredentials, market_ids: Sequence[MarketId]) -> str:
    """Make the first frame of the user channel. It holds the credentials: never log or keep it."""
    auth = {
        "apiKey": credentials.api_key,
        "secret": credentials.secret,
        "passphrase": credentials.passphrase,
    }
    return msgspec.json.encode({"type": "user", "auth": auth, "markets": list(market_ids)}).decode()


def unavailable(error: BaseException) -> ExchangeUnavailable:
    """Turn an exception of the libraries into ours."""
    if isinstance(error, ConnectionRejected):
        if error.status_code == 429:
            header = dict(error.headers or ()).get(b"retry-after", b"").decode("latin-1")
            wait_s = header_wait_s(header, None)
            return RateLimited("handshake: 429", retry_after_s=RETRY_AFTER_S_DEFAULT if wait_s is None else wait_s)
        return Disconnected(f"handshake refused: {error.status_code}")
    return Disconnected(f"{type(error).__name__}: {error}")


async def _open_nursery(stack: AsyncExitStack) -> trio.Nursery:
    """Open a nursery for the tasks of one connection; they are cancelled when the stack unwinds.

    As a callback of the stack its end is never shown the body's error, and so does not wrap it in a group.
    """
    manager = trio.open_nursery()
    nursery = await manager.__aenter__()
    stack.push_async_callback(_reap, manager, nursery)
    return nursery


async def _reap(manager: AbstractAsyncContextManager[trio.Nursery], nursery: trio.Nursery) -> None:
    # A library task that died of a lost connection surfaces here, in a group; callers handle `Disconnected`.
    nursery.cancel_scope.cancel()
    try:
        await manager.__aexit__(None, None, None)
    except BaseExceptionGroup as group:
        lost, rest = group.split(_LOST)
        if rest is not None:
            raise rest from None
        raise unavailable(_first_leaf(group)) from lost


def _first_leaf(group: BaseExceptionGroup[Any]) -> BaseException:
    first = group.exceptions[0]
    return _first_leaf(first) if isinstance(first, BaseExceptionGroup) else first


async def _shake_hands(nursery: trio.Nursery, stream: trio.abc.Stream, url: str) -> WebSocketConnection:
    parts = urlsplit(url)
    return await wrap_client_stream(
        nursery,
        # Typed as a socket, but any stream does: tests and the simulation hand in pipes.
        cast("trio.SocketStream", stream),
        parts.netloc,
        parts.path or "/",
        message_queue_size=QUEUE_FRAMES,
        max_message_size=FRAME_BYTES_MAX,
        receive_buffer_size=READ_BYTES,
    )
