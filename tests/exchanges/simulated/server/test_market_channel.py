"""The market channel, frame by frame."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from typing import Any

import trio

from tbot.core.units import Price
from tbot.exchanges.simulated.faults import FaultSettings
from tbot.exchanges.simulated.operations import ChangeTick
from tests.exchanges.simulated.server.frame_shapes import shape

V3 = {"version": "3", "verifyingContract": "0xe3333700cA9d93003F00f0F71f8515005F6c00Aa"}


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


async def test_a_book_of_positions_tells_its_version_as_by_request(world: Any, autojump_clock: Any) -> None:
    await world.alice.placed("BUY", "0.40", "10", token=world.coin.yes, domain=V3)
    socket = await world.market_socket(world.coin.yes, world.rain.yes)
    coin, rain = json.loads(await socket.get_message())
    asked = (await world.get(f"/book?token_id={world.coin.yes}")).json
    assert coin["version"] == "v2"
    assert {key: asked[key] for key in coin if key != "event_type"} | {"event_type": "book"} == coin
    assert "version" not in rain


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
