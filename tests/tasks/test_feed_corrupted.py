"""One frame with one wrong field, through the real gateway: the quotes are pulled in time, or the book is theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
import pytest
import trio
from trio.testing import MockClock

from tbot.core.market import Market
from tbot.core.messages import Side
from tbot.exchanges.simulated import channels
from tbot.tasks.feed_books import DEPTH_LEVELS
from tests.exchanges.polymarket.local import OTHER
from tests.tasks.test_feed_faults import CENT, PULLED_WITHIN_S, Rig, busy, feed

Frame = dict[str, object]
Spoil = Callable[[Frame], None]


class Wire:
    """The exchange's side of the market channel, where the next change of a price can be spoiled."""

    def __init__(self) -> None:
        self.spoil: Spoil | None = None
        self.spoiled = 0

    def passed(self, text: str) -> str:
        if self.spoil is None or '"price_changes"' not in text:
            return text
        frame = msgspec.json.decode(text)
        self.spoil(frame)
        self.spoil = None
        self.spoiled += 1
        return msgspec.json.encode(frame).decode()


@contextmanager
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    spoiler, send = Wire(), channels.Connection.send_text

    async def send_text(self: channels.Connection, text: str) -> None:
        await send(self, spoiler.passed(text))

    with monkeypatch.context() as patched:
        patched.setattr(channels.Connection, "send_text", send_text)
        yield spoiler


def later(ms: int) -> Spoil:
    def spoil(frame: Frame) -> None:
        frame["timestamp"] = str(int(str(frame["timestamp"])) + ms)

    return spoil


def digit_more(frame: Frame) -> None:
    frame["timestamp"] = f"{frame['timestamp']}0"


def digit_less(frame: Frame) -> None:
    frame["timestamp"] = str(frame["timestamp"])[:-1]


def every(field: str, value: str) -> Spoil:
    def spoil(frame: Frame) -> None:
        rows = frame["price_changes"]
        assert isinstance(rows, list)
        for row in rows:
            row[field] = value

    return spoil


def one(field: str, value: str) -> Spoil:
    def spoil(frame: Frame) -> None:
        rows = frame["price_changes"]
        assert isinstance(rows, list)
        rows[0][field] = value

    return spoil


SPOILS = {
    "far future": later(10**12),
    "an hour ahead": later(3_600_000),
    "5 s ahead": later(5_000),
    "1.5 s ahead": later(1_500),
    "1 s behind": later(-1_000),
    "an hour behind": later(-3_600_000),
    "a digit more": digit_more,
    "a digit less": digit_less,
    "price": one("price", "0.33"),
    "price beyond the spread": one("price", "0.55"),
    "no price": one("price", "4O"),
    "size": one("size", "1000"),
    "gone": one("size", "0"),
    "negative size": one("size", "-1"),
    "side": one("side", "SELL"),
    "no side": one("side", "BOTH"),
    "hash": one("hash", "0" * 40),
    "hashes": every("hash", "f" * 40),
    "best bid": one("best_bid", "0.01"),
    "best bids": every("best_bid", "0.01"),
}


async def judge(rig: Rig, market: Market) -> None:
    """Fail when a book was shown as good for over five seconds and was not the exchange's."""
    right_s = trio.current_time()
    while True:
        if rig.views.states[market.market_id].is_stale or is_theirs(rig, market):
            right_s = trio.current_time()
        assert trio.current_time() - right_s <= PULLED_WITHIN_S, "trusted and wrong"
        await trio.sleep(0.05)


def is_theirs(rig: Rig, market: Market) -> bool:
    book, view = rig.stage.exchange.book(market.yes), rig.views.states[market.market_id]
    bids = sorted(book.bids, key=lambda level: -level.price)[:DEPTH_LEVELS]
    asks = sorted(book.asks, key=lambda level: level.price)[:DEPTH_LEVELS]
    return (bids, asks) == (list(view.bids), list(view.asks))


async def fall(rig: Rig, market: Market) -> None:
    """Withdraw every bid of 40 cents and more, and bid 30."""
    exchange = rig.stage.exchange
    ours = exchange.open_orders(OTHER)
    falling = [o.order_id for o in ours if (o.token_id, o.side) == (market.yes, Side.BUY) and o.price >= 40 * CENT]
    exchange.cancel(OTHER, falling)
    await rig.rests(market, 30)


async def story(rig: Rig, line: Wire, spoil: Spoil, *, is_quiet: bool) -> None:
    """Trade, have one change told wrongly, let the market fall at once, and trade on or not."""
    rain = rig.markets[0]
    assert await rig.stage.gateway.can_trade() == ""
    await busy(rig, rain, 2)
    line.spoil = spoil
    async with trio.open_nursery() as nursery:
        nursery.start_soon(judge, rig, rain)
        await rig.rests(rain, 41)
        await trio.sleep(0.2)
        await fall(rig, rain)
        if not is_quiet:
            await busy(rig, rain, 9)
        await trio.sleep(9)
        nursery.cancel_scope.cancel()
    assert line.spoiled == 1
    await rig.until(lambda: not rig.stale() and is_theirs(rig, rain), within_s=5)


@pytest.mark.slow
@pytest.mark.parametrize("is_quiet", [False, True])
@pytest.mark.parametrize("name", SPOILS)
async def test_one_wrong_field_is_pulled_or_harmless(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, name: str, *, is_quiet: bool
) -> None:
    with wire(monkeypatch) as line:
        async with feed() as rig:
            await story(rig, line, SPOILS[name], is_quiet=is_quiet)


async def test_time_that_cannot_be_pulls_its_token_at_once_and_no_other(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with wire(monkeypatch) as line:
        async with feed() as rig:
            rain, other = rig.markets[:2]
            assert await rig.stage.gateway.can_trade() == ""
            rig.inbox.pulled.clear()
            line.spoil = SPOILS["an hour ahead"]
            await rig.rests(rain, 41)
            assert await rig.until(lambda: rain.yes in rig.pulled(), within_s=5) <= 0.5
            await fall(rig, rain)
            await rig.until(lambda: not rig.stale() and is_theirs(rig, rain), within_s=2)
            assert not set(rig.pulled()) & set(other.tokens)
            told = await rig.told()
            assert (told.connects, told.bad_frames) == (1, 1)
