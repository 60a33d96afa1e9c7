"""Both channels over memory pipes and a real websocket server side, in virtual time."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as gen
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream

from tbot.core.market import MarketId, TokenId
from tbot.core.messages import (
    AccountGap,
    BookDelta,
    BookSnapshot,
    Fill,
    MarketEvent,
    MarketNews,
    OrderUpdate,
    TickSizeChanged,
)
from tbot.core.units import Nanos, Notional, Price
from tbot.errors import BadFrame, ConfigError, Disconnected, ExchangeUnavailable, RateLimited, TimedOut
from tbot.exchanges.polymarket.bad_frames import tokens_named
from tbot.exchanges.polymarket.fills import Ownership
from tbot.exchanges.polymarket.keys import ApiCredentials
from tbot.exchanges.polymarket.settings import TimeoutSettings
from tbot.exchanges.polymarket.sockets import (
    ClosedAtOnce,
    MarketChannel,
    Socket,
    UserChannel,
    market_changes,
    market_hello,
    open_socket,
    tcp_connector,
    user_hello,
)

URL = "ws://exchange.test/ws/market"
YES, NO = TokenId("1"), TokenId("2")
TIMEOUTS = TimeoutSettings()
NOW = Nanos(7)
CREDENTIALS = ApiCredentials(api_key="our-key", secret="s3cret", passphrase="hush")

Serve = Callable[[WebSocketConnection], Awaitable[None]]


class Peer:
    """The far side: accepts streams and runs a script over each."""

    def __init__(self, nursery: trio.Nursery, serve: Serve) -> None:
        self.hellos: list[Any] = []
        self.pings: list[float] = []
        self.heard: list[str] = []  # after the first frame, without the pings
        self.connections = 0
        self._nursery = nursery
        self._serve = serve

    async def connect(self) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        self.connections += 1
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self._accept, theirs)
        return ours

    async def _accept(self, stream: trio.abc.Stream) -> None:
        async with trio.open_nursery() as nursery:
            request = await wrap_server_stream(nursery, stream)
            connection = await request.accept()
            self.hellos.append(json.loads(await connection.get_message()))
            nursery.start_soon(self._hear, connection)
            await self._serve(connection)
            nursery.cancel_scope.cancel()

    async def _hear(self, connection: WebSocketConnection) -> None:
        with suppress(ConnectionClosed):
            while True:
                text = await connection.get_message()
                if text != "PING":
                    self.heard.append(str(text))
                else:
                    self.pings.append(trio.current_time())
                    await connection.send_message("PONG")


@asynccontextmanager
async def peer_of(serve: Serve) -> AsyncIterator[Peer]:
    async with trio.open_nursery() as nursery:
        yield Peer(nursery, serve)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def market_of(
    peer: Peer, ticks: list[TickSizeChanged | BookSnapshot] | None = None
) -> AsyncIterator[MarketChannel]:
    hello = partial(market_hello, (YES, NO))
    learned = ticks if ticks is not None else []
    async with open_socket(URL, peer.connect, hello, TIMEOUTS, settle_s=2) as socket:
        yield MarketChannel(socket, (YES, NO), lambda: NOW, learned.append)


def book(token: str = YES, ms: int = 1_767_225_600_000) -> dict[str, Any]:
    return {
        "event_type": "book",
        "market": "0xab",
        "asset_id": token,
        "timestamp": str(ms),
        "hash": "h",
        "bids": [{"price": "0.48", "size": "30"}],
        "asks": [{"price": "0.52", "size": "25"}],
        "tick_size": "0.01",
        "last_trade_price": "",
    }


def change(*tokens: str) -> dict[str, Any]:
    rows = [
        {"asset_id": t, "price": "0.5", "size": "0", "side": "BUY", "hash": "x", "best_bid": "0.48", "best_ask": "1"}
        for t in tokens
    ]
    return {"event_type": "price_change", "market": "0xab", "timestamp": "1767225600001", "price_changes": rows}


async def data(session: MarketChannel) -> tuple[MarketEvent, ...]:
    while True:
        if events := await session.receive():
            return events


async def read_to_the_end(peer: Peer, seen: list[MarketEvent] | None = None) -> None:
    async with market_of(peer) as session:
        while True:
            events = await session.receive()
            if seen is not None:
                seen += events


async def forever(connection: WebSocketConnection) -> None:
    await trio.sleep_forever()


def sending(*frames: object) -> Serve:
    async def serve(connection: WebSocketConnection) -> None:
        for frame in frames:
            await connection.send_message(frame if isinstance(frame, str | bytes) else json.dumps(frame))
        await trio.sleep_forever()

    return serve


async def test_snapshots_then_changes_of_our_tokens_only(autojump_clock: trio.testing.MockClock) -> None:
    frames = ([book(YES), book(NO), book("9")], change(YES, NO, "9"))
    async with peer_of(sending(*frames)) as peer, market_of(peer) as session:
        books = await data(session)
        assert [type(event) for event in books] == [BookSnapshot, BookSnapshot]
        deltas = await data(session)
        assert [event.token_id for event in deltas if isinstance(event, BookDelta)] == [YES, NO]
        assert all(event.received_ns == NOW for event in (*books, *deltas) if not isinstance(event, AccountGap))
    assert peer.hellos == [{"type": "market", "assets_ids": ["1", "2"], "custom_feature_enabled": True}]


async def test_ping_each_ten_seconds_and_never_before_the_subscription(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with peer_of(forever) as peer:
        start = trio.current_time()
        async with market_of(peer) as session:
            for _ in range(5):
                assert await session.receive() == ()
        assert peer.hellos
        assert peer.pings[0] - start == pytest.approx(10, abs=0.1)
        assert [b - a for a, b in zip(peer.pings, peer.pings[1:], strict=False)] == pytest.approx([10] * 4, abs=0.1)


async def test_silent_connection_is_noticed(autojump_clock: trio.testing.MockClock) -> None:
    async def mute(connection: WebSocketConnection) -> None:
        connection.send_message = _swallow  # type: ignore[method-assign, assignment]
        await trio.sleep_forever()

    async def _swallow(_text: str) -> None:
        await trio.lowlevel.checkpoint()

    async with peer_of(mute) as peer:
        start = trio.current_time()
        with pytest.raises(Disconnected, match="sign of life"):
            await read_to_the_end(peer)
        assert trio.current_time() - start == pytest.approx(2 + TIMEOUTS.silence_s, abs=0.1)


async def test_stalled_handshake_ends_in_time(autojump_clock: trio.testing.MockClock) -> None:
    ours, _theirs = trio.testing.memory_stream_pair()

    async def connect() -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return ours

    start = trio.current_time()
    with pytest.raises(TimedOut, match="no connection within 10 s"):
        async with open_socket(URL, connect, lambda: "{}", TIMEOUTS, settle_s=2):
            pytest.fail("there is no connection")
    assert trio.current_time() - start == pytest.approx(10, abs=0.1)
    with pytest.raises(trio.ClosedResourceError):
        await ours.send_all(b"x")


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", Disconnected, "403"),
        (b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 4\r\n\r\noops", Disconnected, "502"),
        (b"HTTP/1.1 429 Slow\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n", RateLimited, "429"),
        (b"HTTP/1.1 429 Slow\r\nretry-after: 70000\r\ncontent-length: 0\r\n\r\n", RateLimited, "429"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", ExchangeUnavailable, None),
    ],
)
async def test_refused_handshake_is_unavailable(
    autojump_clock: trio.testing.MockClock, answer: bytes, kind: type[Exception], says: str | None
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()

    async def connect() -> trio.abc.Stream:
        await theirs.send_all(answer)
        return ours

    with pytest.raises(kind, match=says) as refusal:
        async with open_socket(URL, connect, lambda: "{}", TIMEOUTS, settle_s=2):
            pytest.fail("there is no connection")
    if isinstance(refusal.value, RateLimited):
        assert refusal.value.retry_after_s == (120 if b"70000" in answer else 7)


async def test_no_route_is_unavailable(autojump_clock: trio.testing.MockClock) -> None:
    async def connect() -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        raise OSError("no route to host")

    with pytest.raises(Disconnected, match="no route"):
        async with open_socket(URL, connect, lambda: "{}", TIMEOUTS, settle_s=2):
            pytest.fail("there is no connection")


async def test_connection_cut_inside_a_frame(autojump_clock: trio.testing.MockClock) -> None:
    async def cut(connection: WebSocketConnection) -> None:
        await connection.send_message(json.dumps(book()))
        await connection._stream.send_all(b"\x81\x7e\x10\x00half of a frame")
        await connection._stream.aclose()

    async with peer_of(cut) as peer:
        seen: list[MarketEvent] = []
        with pytest.raises(Disconnected):
            await read_to_the_end(peer, seen)
        assert [type(event) for event in seen] == [BookSnapshot]


async def test_orderly_close_is_a_disconnect_and_the_caller_can_reconnect(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def serve(connection: WebSocketConnection) -> None:
        await connection.send_message(json.dumps([book()]))
        await trio.sleep(5)
        await connection.aclose(1001, "restarting")

    async with peer_of(serve) as peer:
        for _ in range(3):
            seen: list[MarketEvent] = []
            with pytest.raises(Disconnected, match="1001"):
                await read_to_the_end(peer, seen)
            assert [type(event) for event in seen] == [BookSnapshot]
        assert peer.connections == 3


@pytest.mark.parametrize(
    "frame", ['{"event_type":"book"}', "[1]", "{", b"\x00\x01", json.dumps(book() | {"timestamp": "soon"})]
)
async def test_bad_frame_is_raised_and_the_session_goes_on(
    autojump_clock: trio.testing.MockClock, frame: str | bytes
) -> None:
    async with peer_of(sending(frame, change(YES))) as peer, market_of(peer) as session:
        with pytest.raises(BadFrame):
            await data(session)
        assert isinstance((await data(session))[0], BookDelta)


async def test_bad_frame_costs_only_the_tokens_it_names(autojump_clock: trio.testing.MockClock) -> None:
    bad = book(YES) | {"bids": [{"price": "7", "size": "1"}]}
    async with peer_of(sending([bad, book(NO)], change(YES, NO))) as peer, market_of(peer) as session:
        assert [event.token_id for event in await data(session) if isinstance(event, BookSnapshot)] == [NO]
        with pytest.raises(BadFrame) as refusal:
            await data(session)
        assert refusal.value.token_ids == (YES,)
        assert len(await data(session)) == 2


async def test_bad_frame_of_tokens_not_ours_is_no_affair_of_ours(autojump_clock: trio.testing.MockClock) -> None:
    bad = book("9") | {"bids": "none"}
    async with peer_of(sending(bad, change(YES))) as peer, market_of(peer) as session:
        assert isinstance((await data(session))[0], BookDelta)


@pytest.mark.parametrize(
    ("frame", "named"),
    [
        ("{", ()),
        ("[1]", ()),
        ('{"event_type":"book"}', ()),
        ('{"asset_id":7}', ()),
        ('{"asset_id":"1","bids":1}', ("1",)),
        ('{"price_changes":[{"asset_id":"1"},{"asset_id":"2"},{"asset_id":"1"}]}', ("1", "2")),
        ('{"price_changes":[{"asset_id":"1"},{}]}', ()),
        ('{"price_changes":[]}', ()),
        ('{"price_changes":5}', ()),
    ],
)
def test_tokens_are_named_only_when_it_is_certain(frame: str, named: tuple[str, ...]) -> None:
    assert tokens_named(frame) == named


FRAMES = gen.recursive(
    gen.none() | gen.booleans() | gen.integers() | gen.text(max_size=8) | gen.sampled_from([YES, NO, "9", "0.5"]),
    lambda inner: (
        gen.lists(inner, max_size=4)
        | gen.dictionaries(
            gen.sampled_from(["event_type", "asset_id", "price_changes", "bids", "asks", "timestamp", "price", "size"]),
            inner | gen.sampled_from(["book", "price_change", "last_trade_price", "tick_size_change"]),
            max_size=7,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(text=FRAMES.map(json.dumps) | gen.text(max_size=60) | gen.text(max_size=60).map("[{}".__add__))
def test_any_text_gives_events_or_a_typed_error_and_the_session_goes_on(text: str) -> None:
    session = MarketChannel(OneText(text, json.dumps(book(NO))), (YES, NO), lambda: NOW, lambda _: None)

    async def read_all() -> list[MarketEvent]:
        seen: list[MarketEvent] = []
        for _ in range(20):
            with suppress(BadFrame):
                seen += await session.receive()
        return seen

    last = trio.run(read_all)[-1]
    assert isinstance(last, BookSnapshot)
    assert last.token_id == NO


class OneText(Socket):
    """A socket that brings given texts and then signs of life."""

    def __init__(self, *texts: str) -> None:
        self._texts = list(texts)

    async def text(self) -> str:
        await trio.lowlevel.checkpoint()
        text = self._texts.pop(0) if self._texts else ""
        return text if text.lstrip()[:1] in ("{", "[") else ""


async def test_many_tokens_are_subscribed_in_frames_of_a_hundred(autojump_clock: trio.testing.MockClock) -> None:
    tokens = [TokenId(str(n)) for n in range(200)]
    async with peer_of(forever) as peer:
        hello, more = partial(market_hello, tokens), market_changes("subscribe", tokens[100:])
        async with open_socket(URL, peer.connect, hello, TIMEOUTS, settle_s=2, more=more):
            pass
    assert peer.hellos[0]["assets_ids"] == tokens[:100]
    (rest,) = map(json.loads, peer.heard)
    assert rest == {"operation": "subscribe", "assets_ids": tokens[100:], "custom_feature_enabled": True}


async def test_resubscribing_leaves_first_or_the_book_would_not_come(autojump_clock: trio.testing.MockClock) -> None:
    async with peer_of(sending(book())) as peer, market_of(peer) as session:
        await data(session)
        await session.resubscribe((NO,))
        await trio.sleep(0.1)
        assert [json.loads(text)["operation"] for text in peer.heard] == ["unsubscribe", "subscribe"]
        assert all(json.loads(text)["assets_ids"] == [NO] for text in peer.heard)


async def test_remarks_and_unknown_events_are_passed_over(autojump_clock: trio.testing.MockClock) -> None:
    frames: tuple[object, ...] = (
        "NO NEW ASSETS",
        "",
        [],
        {"event_type": "best_bid_ask"},
        {"event_type": "new_market", "assets_ids": ["3", "4"]},
        {"event_type": "new_kind_of_event"},
        [{"event_type": "another"}, book()],
    )
    async with peer_of(sending(*frames)) as peer, market_of(peer) as session:
        assert [type(event) for event in await data(session)] == [BookSnapshot]
        assert session.unknown == 2


async def test_new_tick_is_learned_before_it_is_read(autojump_clock: trio.testing.MockClock) -> None:
    frame = {"event_type": "tick_size_change", "asset_id": YES, "new_tick_size": "0.001", "timestamp": "1767225600003"}
    learned: list[TickSizeChanged | BookSnapshot] = []
    async with peer_of(sending(frame, book() | {"tick_size": "0.01"})) as peer, market_of(peer, learned) as session:
        (change,) = await data(session)
        assert isinstance(change, TickSizeChanged)
        assert learned == [change]
        await data(session)  # a whole book names the tick as well, one after a trade does not
        assert [(told.token_id, told.tick) for told in learned] == [(YES, Price(1_000)), (YES, Price(10_000))]


async def test_news_of_our_markets_are_hints_and_those_of_others_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    resolved = {"event_type": "market_resolved", "market": "0xab", "assets_ids": [YES, NO], "winning_outcome": "Yes"}
    listed = {"event_type": "new_market", "market": "0xcd", "assets_ids": ["3", "4"], "question": "?"}
    broken = {"event_type": "market_resolved", "market": "0xab", "assets_ids": "none"}
    async with peer_of(sending(listed, resolved, broken, book())) as peer, market_of(peer) as session:
        (news,) = await data(session)
        assert news == MarketNews(market_id=MarketId("0xab"), token_ids=(YES, NO), what="resolved", received_ns=NOW)
        with pytest.raises(BadFrame):
            await data(session)
        assert [type(event) for event in await data(session)] == [BookSnapshot]


async def test_error_of_the_reader_is_not_wrapped_in_a_group(autojump_clock: trio.testing.MockClock) -> None:
    async def stumble(peer: Peer) -> None:
        async with market_of(peer) as session:
            await data(session)
            raise KeyError("mine")

    async with peer_of(sending(book())) as peer:
        with pytest.raises(KeyError, match="mine"):
            await stumble(peer)


async def test_cancelled_reader_leaves_at_once(autojump_clock: trio.testing.MockClock) -> None:
    async with peer_of(forever) as peer:
        start = trio.current_time()
        with trio.move_on_after(3) as scope:
            async with market_of(peer) as session:
                await data(session)
        assert scope.cancelled_caught
        assert trio.current_time() - start == pytest.approx(3, abs=0.01)


async def test_slow_reader_gets_everything_in_order(autojump_clock: trio.testing.MockClock) -> None:
    frames = [book(ms=1_767_225_600_000 + n) for n in range(300)]
    async with peer_of(sending(*frames)) as peer, market_of(peer) as session:
        await trio.sleep(60)
        seen: list[int] = []
        while len(seen) < 300:
            seen += [e.exchange_ms for e in await data(session) if isinstance(e, BookSnapshot)]
        assert seen == [1_767_225_600_000 + n for n in range(300)]


# --- user channel ----------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("count", [0, 201])
def test_too_many_or_no_tokens_are_refused(count: int) -> None:
    with pytest.raises(ConfigError, match="tokens"):
        market_hello([TokenId(str(n)) for n in range(count)])


@pytest.mark.parametrize("url", ["https://x/ws", "ws://", "nonsense"])
def test_address_that_is_no_socket_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="ws://"):
        tcp_connector(url)


async def test_tcp_connector_reaches_a_listener() -> None:
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, _echo, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        stream = await tcp_connector(f"ws://127.0.0.1:{port}/ws")()
        await stream.send_all(b"hello")
        assert await stream.receive_some(5) == b"hello"
        await stream.aclose()
        nursery.cancel_scope.cancel()


async def _echo(stream: trio.SocketStream) -> None:
    async for chunk in stream:
        await stream.send_all(chunk)
