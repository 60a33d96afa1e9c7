"""The market channel when frames overtake each other, as on production: what changes is the order, and nothing else."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import trio
from trio.testing import MockClock, lockstep_stream_pair
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from bench.calibration import BURST, CAPTURES
from tbot.config import load
from tbot.core.messages import ExchangeOrderId, OrderType, Side
from tbot.core.units import MICRO, Notional, Price, Size
from tbot.exchanges.simulated.channels import ChannelSettings
from tbot.exchanges.simulated.fault_catalogue import Fault
from tbot.exchanges.simulated.faults import FaultSettings
from tbot.exchanges.simulated.operations import Account, CancelOrders, Deposit, PlaceOrder, SplitPair
from tbot.exchanges.simulated.server import ServerSettings
from tbot.exchanges.simulated.standalone import StandaloneSettings
from tbot.exchanges.simulated.transit import TransitSettings
from tests.captures import needs

ROOT = Path(__file__).parents[4]
SHIPPED = load(ROOT / "conf/exchange.toml", StandaloneSettings).server.channels.market_transit
OFF = TransitSettings()
FACTOR = 2.0

RECORDED = {"share": 0.231, "p50": 2, "p90": 14, "max": 89}
"""Of the 5,544 events of the BTC recording: how many were late, and how many ms behind the newest of their market."""


def lateness(frames: list[dict[str, Any]]) -> dict[str, float]:
    """Measure how late frames come, ms behind the newest of their market."""
    newest: dict[str, int] = {}
    late = []
    for frame in frames:
        ms, market = int(frame["timestamp"]), frame["market"]
        if ms < newest.get(market, 0):
            late.append(newest[market] - ms)
        newest[market] = max(ms, newest.get(market, 0))
    late.sort()
    if not late:
        return {"share": 0, "p50": 0, "p90": 0, "max": 0}
    quantiles = {"p50": late[len(late) // 2], "p90": late[int(len(late) * 0.9)], "max": late[-1]}
    return {"share": len(late) / len(frames), **quantiles}


class Reader:
    """A client's copy of the books: the newest writer of a level wins, by exchange time or by arrival."""

    def __init__(self, *, is_by_time: bool) -> None:
        self._is_by_time = is_by_time
        self._count = 0
        self._levels: dict[tuple[str, str, str], tuple[tuple[int, int, int], str]] = {}
        self._floors: dict[str, tuple[int, int, int]] = {}

    def hear(self, frame: Any) -> None:
        """Take one frame; a book counts after the changes of its own millisecond."""
        for book in frame if isinstance(frame, list) else [frame] if frame["event_type"] == "book" else []:
            self._reset(book)
        if isinstance(frame, dict) and frame["event_type"] == "price_change":
            for change in frame["price_changes"]:
                level = (change["asset_id"], change["side"], change["price"])
                self._write(level, self._stamp(frame, is_book=False), change["size"])

    def book(self, token_id: str) -> dict[tuple[str, str], str]:
        """Tell side and price -> size."""
        return {
            (side, price): size
            for (asset, side, price), (stamp, size) in self._levels.items()
            if asset == token_id and size != "0" and stamp >= self._floors.get(asset, (0, 0, 0))
        }

    def _reset(self, book: dict[str, Any]) -> None:
        stamp = self._stamp(book, is_book=True)
        if stamp < self._floors.get(book["asset_id"], (0, 0, 0)):
            return
        self._floors[book["asset_id"]] = stamp
        for side, levels in (("BUY", book["bids"]), ("SELL", book["asks"])):
            for level in levels:
                self._write((book["asset_id"], side, level["price"]), stamp, level["size"])

    def _write(self, level: tuple[str, str, str], stamp: tuple[int, int, int], size: str) -> None:
        if level not in self._levels or stamp >= self._levels[level][0]:
            self._levels[level] = (stamp, size)

    def _stamp(self, frame: dict[str, Any], *, is_book: bool) -> tuple[int, int, int]:
        self._count += 1
        return (int(frame["timestamp"]), int(is_book), 0) if self._is_by_time else (self._count, 0, 0)


class Crowd:
    """Two accounts that place, take and cancel at random, 500 frames or so a second."""

    def __init__(self, world: Any, seed: int) -> None:
        self._world, self._rng = world, random.Random(seed)
        self._count = 0
        self._open: list[tuple[Account, ExchangeOrderId]] = []
        for name in ("maker", "taker"):
            world.exchange.apply(Deposit(account=Account(name), cash=Notional(10_000_000 * MICRO)))
            size = Size(1_000_000 * MICRO)
            world.exchange.apply(SplitPair(account=Account(name), market_id=world.rain.market_id, size=size))

    async def burst(self, frames: int) -> None:
        """Trade until about so many frames were caused."""
        for _ in range(frames):
            await trio.sleep(self._rng.expovariate(500))
            if self._open and self._rng.random() < 0.45:
                account, order_id = self._open.pop(self._rng.randrange(len(self._open)))
                self._world.exchange.apply(CancelOrders(account=account, order_ids=(order_id,)))
            else:
                self._place()

    def _place(self) -> None:
        self._count += 1
        order_id = ExchangeOrderId(f"0x{self._count:064x}")
        account = Account(self._rng.choice(("maker", "taker")))
        side = self._rng.choice(list(Side))
        cents = self._rng.randint(35, 50) if side is Side.BUY else self._rng.randint(50, 65)
        order = PlaceOrder(
            account=account,
            order_id=order_id,
            token_id=self._world.rain.yes,
            side=side,
            price=Price(cents * 10_000),
            size=Size(self._rng.randint(5, 200) * MICRO),
            budget=Notional(0),
            order_type=OrderType.GTC,
            is_post_only=False,
        )
        self._world.exchange.apply(order)
        self._open.append((account, order_id))


def served(transit: TransitSettings) -> ServerSettings:
    return ServerSettings(channels=ChannelSettings(market_transit=transit))


def in_virtual_time(main: Callable[[], Any]) -> Any:
    return trio.run(main, clock=MockClock(autojump_threshold=0))


def truth(world: Any, token_id: str) -> dict[tuple[str, str], str]:
    view = world.exchange.book(token_id)
    levels = (("BUY", view.bids), ("SELL", view.asks))
    return {(side, f"{level.price / MICRO:g}"): f"{level.size / MICRO:g}" for side, half in levels for level in half}


async def heard(make_world: Any, transit: TransitSettings, *, frames: int, seed: int = 1) -> list[Any]:
    async with make_world(settings=served(transit)) as world:
        socket = await world.market_socket(world.rain.yes, world.rain.no, custom_feature_enabled=True)
        told = []
        crowd = Crowd(world, seed)
        await world.heard(socket)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(crowd.burst, frames)
            told += await world.heard(socket, seconds=frames / 500 + 2)
        return told


@pytest.mark.slow
def test_frames_are_late_as_recorded_and_in_order_unless_asked(make_world: Any) -> None:
    measured = lateness(in_virtual_time(lambda: heard(make_world, SHIPPED, frames=1_500)))
    for what, recorded in RECORDED.items():
        assert recorded / FACTOR <= measured[what] <= recorded * FACTOR, (what, measured)
    # Best prices bear the millisecond after their book's, as production's do, so books of that time come behind them.
    told = in_virtual_time(lambda: heard(make_world, OFF, frames=100))
    assert lateness([frame for frame in told if frame["event_type"] in ("book", "price_change")])["share"] == 0


@pytest.mark.slow
@needs(BURST)
def test_the_numbers_are_what_the_recording_says() -> None:
    with gzip.open(CAPTURES / BURST, "rt") as lines:
        measured = lateness([json.loads(line)["payload"] for line in lines])
    assert measured == pytest.approx(RECORDED, abs=0.001)


def test_only_the_order_changes_and_it_is_the_same_every_time(make_world: Any) -> None:
    ordered = in_virtual_time(lambda: heard(make_world, OFF, frames=40))
    first, second = (in_virtual_time(lambda: heard(make_world, SHIPPED, frames=40)) for _ in range(2))
    assert first == second != ordered
    assert sorted(map(msgspec.json.encode, first)) == sorted(map(msgspec.json.encode, ordered))


def test_the_newest_by_exchange_time_is_the_exchanges_book_and_by_arrival_it_is_not(make_world: Any) -> None:
    async def main() -> list[tuple[bool, bool]]:
        verdicts = []
        async with make_world(settings=served(SHIPPED)) as world:
            readers = [Reader(is_by_time=True), Reader(is_by_time=False)]
            socket = await world.market_socket(world.rain.yes, world.rain.no)
            crowd = Crowd(world, 3)
            for _ in range(3):
                await crowd.burst(60)
                for frame in await world.heard(socket):
                    for reader in readers:
                        reader.hear(frame)
                tokens = (world.rain.yes, world.rain.no)
                right = [all(reader.book(token) == truth(world, token) for token in tokens) for reader in readers]
                verdicts.append((right[0], right[1]))
        return verdicts

    verdicts = in_virtual_time(main)
    assert all(by_time for by_time, _ in verdicts)
    assert not all(by_arrival for _, by_arrival in verdicts)


async def test_subscriptions_change_while_frames_are_on_their_way(make_world: Any, autojump_clock: Any) -> None:
    async with make_world(settings=served(SHIPPED)) as world:
        socket, reader, crowd = await world.market_socket(world.rain.yes), Reader(is_by_time=True), Crowd(world, 4)
        for operation in ("subscribe", "unsubscribe", "subscribe"):
            await crowd.burst(30)
            await socket.send_message(json.dumps({"operation": operation, "assets_ids": [world.rain.no]}))
            await crowd.burst(30)
        for frame in await world.heard(socket):
            reader.hear(frame)
        for token_id in (world.rain.yes, world.rain.no):
            assert reader.book(token_id) == truth(world, token_id)


async def read_until_closed(socket: WebSocketConnection) -> list[Any]:
    told = []
    try:
        while True:
            told.append(json.loads(await socket.get_message()))
    except ConnectionClosed:
        return told


async def test_frame_cut_in_the_middle_ends_the_connection(make_world: Any, autojump_clock: Any) -> None:
    async with make_world(settings=served(SHIPPED), faults=FaultSettings(frame_cut=0.03)) as world:
        socket, crowd = await world.market_socket(world.rain.yes), Crowd(world, 5)
        world.nursery.start_soon(crowd.burst, 200)
        with trio.fail_after(10):
            told = await read_until_closed(socket)
        assert told
        assert world.faults.faults_injected[Fault.CUT_MID_FRAME] == 1


async def test_reader_that_does_not_read_is_cut(make_world: Any, autojump_clock: Any) -> None:
    async with make_world(settings=served(SHIPPED)) as world, trio.open_nursery() as nursery:
        ours, theirs = lockstep_stream_pair()
        ended = trio.Event()

        async def serve() -> None:
            await world.server.serve_websocket(theirs)
            ended.set()

        nursery.start_soon(serve)
        socket = await wrap_client_stream(nursery, cast("Any", ours), "exchange", "/ws/market", message_queue_size=1)
        await socket.send_message(json.dumps({"type": "market", "assets_ids": [world.rain.yes]}))
        await Crowd(world, 6).burst(50)
        with trio.fail_after(60):
            await ended.wait()
        nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_what_is_on_its_way_is_bounded(make_world: Any, autojump_clock: Any) -> None:
    slow = ChannelSettings(market_transit=TransitSettings(way_ms=(50_000, 50_000)), silence_s_max=1_000)
    async with make_world(settings=ServerSettings(channels=slow)) as world:
        socket, crowd = await world.market_socket(world.rain.yes), Crowd(world, 7)
        await world.heard(socket)
        # Nothing arrives for 50 s: frames fill their bound, then events the stream's, which ends.
        world.nursery.start_soon(crowd.burst, 12_000)
        with trio.fail_after(52):
            assert len(await read_until_closed(socket)) < 10
