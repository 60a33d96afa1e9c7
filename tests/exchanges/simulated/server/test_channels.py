"""The market and the user channel, frame by frame."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from typing import Any, cast

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, lockstep_stream_pair
from trio_websocket import ConnectionClosed, ConnectionRejected, wrap_client_stream

from tbot.core.units import Price
from tbot.exchanges.simulated.faults import FaultSettings
from tbot.exchanges.simulated.operations import ChangeTick


class Book:
    """A client's copy of one book: applies frames, and computes the hash the next frame must carry."""

    def __init__(self, first: dict[str, Any], *, is_neg_risk: bool = False) -> None:
        self.first, self.is_neg_risk = first, is_neg_risk
        self.tick, self.last = first["tick_size"], first["last_trade_price"]
        self.sides: dict[str, dict[str, str]] = {}
        self.reset(first)

    def reset(self, frame: dict[str, Any]) -> None:
        for side, levels in (("BUY", frame["bids"]), ("SELL", frame["asks"])):
            self.sides[side] = {level["price"]: level["size"] for level in levels}

    def apply(self, change: dict[str, Any]) -> None:
        self.sides[change["side"]].pop(change["price"], None)
        if change["size"] != "0":
            self.sides[change["side"]][change["price"]] = change["size"]

    def levels(self, side: str) -> list[dict[str, str]]:
        prices = sorted(self.sides[side], key=float, reverse=side == "SELL")
        return [{"price": price, "size": self.sides[side][price]} for price in prices]

    def hash(self, timestamp: str) -> str:
        book = {
            "market": self.first["market"],
            "asset_id": self.first["asset_id"],
            "timestamp": timestamp,
            "hash": "",
            "bids": self.levels("BUY"),
            "asks": self.levels("SELL"),
            "min_order_size": "5",
            "tick_size": self.tick,
            "neg_risk": self.is_neg_risk,
            "last_trade_price": self.last,
        }
        return hashlib.sha1(json.dumps(book, separators=(",", ":")).encode()).hexdigest()


def kinds(frames: list[Any]) -> list[str]:
    return [frame["event_type"] for frame in frames]


def shape(frame: Any) -> Any:
    """Keys and JSON types, to compare frames of different content."""
    if isinstance(frame, dict):
        return {key: shape(value) for key, value in sorted(frame.items())}
    if isinstance(frame, list):
        return [shape(frame[0])] if frame else []
    return type(frame).__name__


# --- market channel --------------------------------------------------------------------------------------------------


async def test_first_frame_is_an_array_of_books(world: Any, autojump_clock: Any) -> None:
    await world.alice.placed("BUY", "0.40", "10")
    await world.alice.placed("BUY", "0.42", "20")
    socket = await world.market_socket(world.rain.yes, world.rain.no)
    (dump,) = await world.heard(socket)
    assert [book["asset_id"] for book in dump] == [world.rain.yes, world.rain.no]
    assert dump[0]["bids"] == [{"price": "0.4", "size": "10"}, {"price": "0.42", "size": "20"}]
    assert dump[1]["asks"] == [{"price": "0.6", "size": "10"}, {"price": "0.58", "size": "20"}]
    # Key order as captured from production.
    assert list(dump[0]) == [
        "market",
        "asset_id",
        "timestamp",
        "hash",
        "bids",
        "asks",
        "tick_size",
        "event_type",
        "last_trade_price",
    ]
    assert all(book["hash"] == Book(book).hash(book["timestamp"]) for book in dump)


async def test_one_order_changes_both_outcomes_in_one_frame(world: Any, autojump_clock: Any) -> None:
    socket = await world.market_socket(world.rain.yes)
    await world.heard(socket)
    await world.alice.placed("BUY", "0.40", "10")
    (frame,) = await world.heard(socket)
    timestamp = frame["timestamp"]
    view = (await world.get(f"/book?token_id={world.rain.yes}")).json
    mirror = (await world.get(f"/book?token_id={world.rain.no}")).json
    assert frame == {
        "market": world.rain.market_id,
        "price_changes": [
            {
                "asset_id": world.rain.yes,
                "price": "0.4",
                "size": "10",
                "side": "BUY",
                "hash": view["hash"],
                "best_bid": "0.4",
                "best_ask": "1",
            },
            {
                "asset_id": world.rain.no,
                "price": "0.6",
                "size": "10",
                "side": "SELL",
                "hash": mirror["hash"],
                "best_bid": "0",
                "best_ask": "0.6",
            },
        ],
        "timestamp": timestamp,
        "event_type": "price_change",
    }


async def test_cancelled_level_goes_to_zero(world: Any, autojump_clock: Any) -> None:
    order_id = await world.alice.placed("BUY", "0.40", "10")
    socket = await world.market_socket(world.rain.yes)
    await world.heard(socket)
    await world.alice.ask("DELETE", "/order", {"orderID": order_id})
    (frame,) = await world.heard(socket)
    assert [change["size"] for change in frame["price_changes"]] == ["0", "0"]


async def test_trade_sends_changes_print_and_the_books_subscribed(world: Any, autojump_clock: Any) -> None:
    await world.bob.placed("BUY", "0.42", "100", token=world.rain.no)
    both = await world.market_socket(world.rain.yes, world.rain.no)
    one = await world.market_socket(world.rain.yes)
    await world.heard(both)
    await world.heard(one)
    await world.alice.placed("BUY", "0.60", "50")
    frames = await world.heard(both)
    assert sorted(kinds(frames)) == ["book", "book", "last_trade_price", "price_change"]
    printed = next(frame for frame in frames if frame["event_type"] == "last_trade_price")
    assert {key: printed[key] for key in ("asset_id", "price", "size", "side", "fee_rate_bps")} == {
        "asset_id": world.rain.yes,
        "price": "0.58",
        "size": "50",
        "side": "BUY",
        "fee_rate_bps": "1000",
    }
    books = [frame for frame in frames if frame["event_type"] == "book"]
    assert list(books[0]) == ["market", "asset_id", "bids", "asks", "hash", "timestamp", "event_type"]
    for book in books:
        assert book["hash"] == (await world.get(f"/book?token_id={book['asset_id']}")).json["hash"]
    assert sorted(kinds(await world.heard(one))) == ["book", "last_trade_price", "price_change"]


async def test_every_hash_is_that_of_the_clients_own_rebuilt_book(world: Any, autojump_clock: Any) -> None:
    socket = await world.market_socket(world.rain.yes, world.rain.no)
    (dump,) = await world.heard(socket)
    books = {book["asset_id"]: Book(book) for book in dump}
    # Many operations at one moment, so that events wait in the stream while the exchange moves on.
    orders = [
        world.alice.order(side, price, "10", token=token)
        for side, price, token in (
            ("BUY", "0.40", world.rain.yes),
            ("BUY", "0.41", world.rain.yes),
            ("BUY", "0.55", world.rain.no),
            ("BUY", "0.45", world.rain.yes),
            ("BUY", "0.58", world.rain.no),
            ("BUY", "0.42", world.rain.yes),
        )
    ]
    await world.bob.ask("POST", "/orders", [])
    await world.alice.ask("POST", "/orders", orders)
    checked = 0
    frames = await world.heard(socket)
    # Both trades mint, and of a mint the book tells the maker's price, the complement of what is printed.
    prints = [f"{1 - float(frame['price']):.3f}" for frame in frames if frame["event_type"] == "last_trade_price"]
    assert len(prints) == 2
    assert len({frame["timestamp"] for frame in frames if frame["event_type"] == "price_change"}) == 1
    for frame, after in pairwise([*frames, {"event_type": "end"}]):
        if frame["event_type"] == "price_change":
            if after["event_type"] == "book":  # of a trade, whose print comes later
                last = prints.pop(0)
                for book in books.values():
                    book.last = last
            for change in frame["price_changes"]:
                books[change["asset_id"]].apply(change)
            for change in frame["price_changes"]:
                assert change["hash"] == books[change["asset_id"]].hash(frame["timestamp"])
                checked += 1
        elif frame["event_type"] == "book":
            book = books[frame["asset_id"]]
            assert (frame["bids"], frame["asks"]) == (book.levels("BUY"), book.levels("SELL"))
            assert frame["hash"] == book.hash(frame["timestamp"])
    assert checked >= 12


async def test_lost_event_shows_in_the_next_hash(make_world: Any, autojump_clock: Any) -> None:
    async with make_world(faults=FaultSettings(market_drop=0.5)) as world:
        socket = await world.market_socket(world.rain.yes)
        ((dump,),) = await world.heard(socket)
        book = Book(dump)
        verdicts = []
        for cents in range(10, 30):
            await world.alice.placed("BUY", f"0.{cents}", "10")
            for frame in await world.heard(socket):
                (change,) = [c for c in frame["price_changes"] if c["asset_id"] == world.rain.yes]
                book.apply(change)
                verdicts.append(change["hash"] == book.hash(frame["timestamp"]))
        dropped = world.faults.faults_injected["lost_market_events"]
        assert len(verdicts) + dropped == 20
        # True until the first loss, false ever after: this reader never resynchronises.
        assert verdicts == sorted(verdicts, reverse=True)
        assert not verdicts[-1]


async def test_tick_change_is_told_for_both_tokens_and_followed_by_books(world: Any, autojump_clock: Any) -> None:
    socket = await world.market_socket(world.rain.yes)
    await world.heard(socket)
    world.exchange.apply(ChangeTick(market_id=world.rain.market_id, tick=Price(1_000)))
    frames = await world.heard(socket)
    changes = [frame for frame in frames if frame["event_type"] == "tick_size_change"]
    assert [frame["asset_id"] for frame in changes] == [world.rain.yes, world.rain.no]
    assert {(frame["old_tick_size"], frame["new_tick_size"]) for frame in changes} == {("0.01", "0.001")}
    assert kinds(frames)[-1] == "book"
    await world.alice.placed("BUY", "0.401", "10")
    (frame,) = await world.heard(socket)
    for change in frame["price_changes"]:
        assert change["hash"] == (await world.get(f"/book?token_id={change['asset_id']}")).json["hash"]


async def test_subscription_grows_and_shrinks_on_the_open_socket(world: Any, autojump_clock: Any) -> None:
    socket = await world.market_socket(world.rain.yes)
    await world.heard(socket)
    more = {"operation": "subscribe", "assets_ids": [world.mayor.yes, world.rain.yes, "12345"]}
    await socket.send_message(json.dumps(more))
    ((book,),) = await world.heard(socket)  # what is active already is not sent again, what is unknown never
    assert book["asset_id"] == world.mayor.yes
    await world.alice.placed("BUY", "0.40", "10", token=world.mayor.yes)
    assert kinds(await world.heard(socket)) == ["price_change"]
    await socket.send_message(json.dumps({"operation": "unsubscribe", "assets_ids": [world.mayor.yes]}))
    await trio.sleep(0.1)
    await world.alice.placed("BUY", "0.41", "10", token=world.mayor.yes)
    assert await world.heard(socket) == []


async def test_dump_can_be_declined_and_may_be_empty(world: Any, autojump_clock: Any) -> None:
    assert await world.heard(await world.market_socket(world.rain.yes, initial_dump=False)) == []
    assert await world.heard(await world.market_socket("12345")) == [[]]


async def test_later_subscription_that_adds_nothing_is_met_with_silence(world: Any, autojump_clock: Any) -> None:
    socket = await world.market_socket(world.rain.yes)
    await world.heard(socket)
    for tokens in ([world.rain.yes], ["12345"], []):
        await socket.send_message(json.dumps({"operation": "subscribe", "assets_ids": tokens}))
    assert await world.heard(socket) == []


async def test_null_is_the_default_of_every_optional_key(world: Any, autojump_clock: Any) -> None:
    keys = ("initial_dump", "custom_feature_enabled", "level")
    socket = await world.market_socket(world.rain.yes, **dict.fromkeys(keys))
    ((book,),) = await world.heard(socket)
    assert book["asset_id"] == world.rain.yes
    await world.alice.placed("BUY", "0.40", "10")
    assert kinds(await world.heard(socket)) == ["price_change"]


async def closed_with(socket: Any) -> int:
    with trio.fail_after(100):
        try:
            while True:
                await socket.get_message()
        except ConnectionClosed as end:
            assert end.reason is not None
            return int(end.reason.code)


@pytest.mark.parametrize("path", ["/ws/market", "/ws/user"])
@pytest.mark.parametrize("first", ["PING", "{", "{}", '{"type":"other"}', "[]", b"\x00"])
async def test_anything_before_a_subscription_closes_with_1008(
    world: Any, autojump_clock: Any, path: str, first: str | bytes
) -> None:
    socket = await world.websocket(path)
    await socket.send_message(first)
    assert await closed_with(socket) == 1008


async def test_silence_before_a_subscription_closes_with_1008(world: Any, autojump_clock: Any) -> None:
    assert await closed_with(await world.websocket("/ws/market")) == 1008


async def test_ping_is_answered_and_its_absence_ends_the_connection(world: Any, autojump_clock: Any) -> None:
    socket = await world.market_socket(world.rain.yes)
    await socket.get_message()
    for _ in range(5):
        await trio.sleep(20)
        await socket.send_message("PING")
        assert await socket.get_message() == "PONG"
    assert await closed_with(socket) == 1006
    assert trio.current_time() == pytest.approx(130)


async def test_unreadable_change_is_answered_and_survived(world: Any, autojump_clock: Any) -> None:
    socket = await world.market_socket(world.rain.yes)
    await socket.get_message()
    for text in ("nonsense", '{"operation":"explode"}', "[1]"):
        await socket.send_message(text)
        assert await socket.get_message() == "INVALID OPERATION"
    await socket.send_message("PING")
    assert await socket.get_message() == "PONG"


async def test_unknown_path_is_rejected(world: Any, autojump_clock: Any) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(ConnectionRejected), flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            ours, theirs = trio.testing.memory_stream_pair()
            nursery.start_soon(world.server.serve_websocket, theirs)
            await wrap_client_stream(nursery, cast("Any", ours), "exchange", "/ws/other")


async def test_cut_connections_end_without_a_closing_frame(world: Any, autojump_clock: Any) -> None:
    market, user = await world.market_socket(world.rain.yes), await world.alice.user_socket()
    await market.get_message()
    world.exchange.cut_connections("connection reset")
    assert [await closed_with(market), await closed_with(user)] == [1006, 1006]


async def test_silent_feed_still_answers_ping_and_ends_with_books(world: Any, autojump_clock: Any) -> None:
    socket = await world.market_socket(world.rain.yes)
    await socket.get_message()
    world.exchange.silence(20)
    await world.alice.placed("BUY", "0.40", "10")
    await socket.send_message("PING")
    assert await socket.get_message() == "PONG"
    with trio.move_on_after(19) as quiet:
        await socket.get_message()
    assert quiet.cancelled_caught
    (book,) = await world.heard(socket, seconds=2)
    assert (book["event_type"], book["bids"]) == ("book", [{"price": "0.4", "size": "10"}])


async def test_reader_that_does_not_read_is_cut(world: Any, autojump_clock: Any) -> None:
    ours, theirs = lockstep_stream_pair()
    ended = trio.Event()

    async def serve() -> None:
        await world.server.serve_websocket(theirs)
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        socket = await wrap_client_stream(nursery, cast("Any", ours), "exchange", "/ws/market", message_queue_size=1)
        await socket.send_message(json.dumps({"type": "market", "assets_ids": [world.rain.yes]}))
        for cents in range(10, 20):
            await world.alice.placed("BUY", f"0.{cents}", "10")
        with trio.fail_after(60):
            await ended.wait()
        nursery.cancel_scope.cancel()


# --- user channel ----------------------------------------------------------------------------------------------------


async def test_order_events_have_the_documented_fields(world: Any, autojump_clock: Any, vectors: Any) -> None:
    socket = await world.alice.user_socket()
    order_id = await world.alice.placed("BUY", "0.57", "10")
    (frame,) = await world.heard(socket)
    key = world.alice.credentials.api_key
    assert frame == {
        "event_type": "order",
        "type": "PLACEMENT",
        "id": order_id,
        "owner": key,
        "order_owner": key,
        "market": world.rain.market_id,
        "asset_id": world.rain.yes,
        "outcome": "Yes",
        "side": "BUY",
        "price": "0.57",
        "original_size": "10",
        "size_matched": "0",
        "associate_trades": None,
        "order_type": "GTC",
        "expiration": "0",
        "status": "LIVE",
        "maker_address": world.alice.account.address,
        "created_at": "1767225600",
        "timestamp": frame["timestamp"],
    }
    assert list(frame) == list(vectors("ws_frames.json")["server_sends"]["user"][0])
    await world.alice.ask("DELETE", "/order", {"orderID": order_id})
    (frame,) = await world.heard(socket)
    assert (frame["type"], frame["status"], frame["size_matched"]) == ("CANCELLATION", "CANCELED", "0")


async def test_trade_is_told_to_both_sides_at_each_settlement_step(
    world: Any, autojump_clock: Any, vectors: Any
) -> None:
    maker, taker = await world.bob.user_socket(), await world.alice.user_socket()
    maker_id = await world.bob.placed("BUY", "0.42", "100", token=world.rain.no)
    taker_id = await world.alice.placed("BUY", "0.60", "50")
    to_taker = await world.heard(taker, seconds=10)
    trades = [frame for frame in to_taker if frame["event_type"] == "trade"]
    assert [frame["status"] for frame in trades] == ["MATCHED", "MINED", "CONFIRMED"]
    assert len({frame["id"] for frame in trades}) == 1
    assert [bool(frame["transaction_hash"]) for frame in trades] == [False, True, True]
    first = trades[0]
    assert (first["trader_side"], first["taker_order_id"], first["price"]) == ("TAKER", taker_id, "0.58")
    assert list(first) == list(vectors("ws_frames.json")["server_sends"]["user"][1])
    assert shape(first) == shape(vectors("ws_frames.json")["server_sends"]["user"][1])
    to_maker = await world.heard(maker, seconds=1)
    told = next(frame for frame in to_maker if frame["event_type"] == "trade")
    assert (told["trader_side"], told["owner"]) == ("MAKER", world.bob.credentials.api_key)
    (leg,) = told["maker_orders"]
    assert (leg["order_id"], leg["asset_id"], leg["side"], leg["price"]) == (maker_id, world.rain.no, "BUY", "0.42")
    update = next(frame for frame in to_maker if frame["event_type"] == "order" and frame["type"] == "UPDATE")
    assert (update["size_matched"], update["associate_trades"]) == ("50", [told["id"]])


async def test_market_frames_have_the_shape_a_reference_parser_accepts(
    world: Any, autojump_clock: Any, vectors: Any
) -> None:
    await world.alice.placed("BUY", "0.48", "30")
    await world.bob.placed("BUY", "0.48", "25", token=world.rain.no)
    socket = await world.market_socket(world.rain.yes)
    frames = await world.heard(socket)
    await world.bob.placed("BUY", "0.52", "10", token=world.rain.no)
    world.exchange.apply(ChangeTick(market_id=world.rain.market_id, tick=Price(1_000)))
    frames += await world.heard(socket)
    ours = {frame["event_type"]: shape(frame) for frame in frames[1:]}
    dump, *others = vectors("ws_frames.json")["server_sends"]["market"]
    assert shape(frames[0]) == shape(dump)
    for frame in others:
        if frame["event_type"] in ("price_change", "last_trade_price", "tick_size_change"):
            assert ours[frame["event_type"]] == shape(frame)


@pytest.mark.parametrize("name", ["apiKey", "secret", "passphrase"])
async def test_wrong_credentials_close_the_user_channel(world: Any, autojump_clock: Any, name: str) -> None:
    credentials = world.alice.credentials
    auth = {"apiKey": credentials.api_key, "secret": credentials.secret, "passphrase": credentials.passphrase}
    socket = await world.websocket("/ws/user")
    await socket.send_message(json.dumps({"type": "user", "auth": auth | {name: "wrong"}}))
    assert await closed_with(socket) == 1008


async def test_user_channel_tells_own_events_of_chosen_markets_only(world: Any, autojump_clock: Any) -> None:
    socket = await world.alice.user_socket(markets=[world.rain.market_id])
    await world.bob.placed("BUY", "0.40", "10")
    await world.alice.placed("BUY", "0.40", "10", token=world.mayor.yes)
    await world.alice.placed("BUY", "0.41", "10")
    assert [frame["market"] for frame in await world.heard(socket)] == [world.rain.market_id]
    await socket.send_message(json.dumps({"operation": "subscribe", "markets": [world.mayor.market_id]}))
    await trio.sleep(0.1)
    await world.alice.placed("BUY", "0.42", "10", token=world.mayor.yes)
    assert len(await world.heard(socket)) == 1


# --- hostile input and determinism -----------------------------------------------------------------------------------


@given(data=st.binary(max_size=300), is_upgraded=st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_bytes_end_the_connection_and_nothing_else(make_world: Any, data: bytes, is_upgraded: bool) -> None:
    upgrade = (
        b"GET /ws/market HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )

    async def main() -> None:
        async with make_world() as world, trio.open_nursery() as nursery:
            ours, theirs = trio.testing.memory_stream_pair()
            nursery.start_soon(world.server.serve_websocket, theirs)
            await ours.send_all((upgrade if is_upgraded else b"") + data)
            with trio.fail_after(100):
                while await ours.receive_some():
                    pass
            assert (await world.get("/ok")).status == 200

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_same_calls_give_the_same_bytes(make_world: Any) -> None:
    async def main() -> list[Any]:
        async with make_world() as world:
            market, user = await world.market_socket(world.rain.yes), await world.bob.user_socket()
            await world.bob.placed("BUY", "0.42", "100", token=world.rain.no)
            answer = await world.alice.place("BUY", "0.60", "50")
            return [answer.body, await world.heard(market, seconds=8), await world.heard(user, seconds=1)]

    first, second = (trio.run(main, clock=MockClock(autojump_threshold=0)) for _ in range(2))
    assert first == second
