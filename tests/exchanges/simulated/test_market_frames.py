"""The frames of the market channel against the straightforward computation: every book rebuilt and encoded anew."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec
import pytest

from tbot.core.market import MarketId, TokenId
from tbot.core.messages import ExchangeOrderId, Level, OrderType, Side
from tbot.core.units import MICRO, Nanos, Notional, Price, Size
from tbot.exchanges.simulated.catalog import EventListing, Listing
from tbot.exchanges.simulated.events import BookShown, BookView, LevelsChanged, MarketEvent, TickChanged
from tbot.exchanges.simulated.market_frames import MarketFrames
from tbot.exchanges.simulated.matching import Engine
from tbot.exchanges.simulated.operations import (
    Account,
    CancelOrders,
    ChangeTick,
    Deposit,
    OpenMarket,
    Operation,
    PlaceOrder,
)
from tbot.exchanges.simulated.settings import DEFAULT_MARKETS
from tbot.exchanges.simulated.wire_books import PriceChange, rest_book

RULES = DEFAULT_MARKETS[0]
START_NS = 1_790_000_000_000_000_000


@dataclass(kw_only=True)
class Plain:
    """What a subscriber was told, kept as plain levels and hashed as a whole REST book."""

    engine: Engine
    levels: dict[tuple[TokenId, Side], dict[Price, Size]] = field(default_factory=dict)
    ticks: dict[TokenId, Price] = field(default_factory=dict)
    last_trade_text: str = ""

    def follow(self) -> None:
        for token_id in (RULES.yes, RULES.no):
            self._take(self.engine.book(token_id))

    def update(self, event: MarketEvent) -> None:
        if isinstance(event, LevelsChanged):
            for change in event.changes:
                self.levels[change.token_id, change.side][change.price] = change.size
        elif isinstance(event, BookShown):
            self._take(event.book)
        elif isinstance(event, TickChanged):
            self.ticks = dict.fromkeys(self.ticks, event.tick)

    def hash_of(self, token_id: TokenId, exchange_ms: int) -> str:
        bids, asks = (
            tuple(Level(price, size) for price, size in sorted(self.levels[token_id, side].items()) if size)
            for side in (Side.BUY, Side.SELL)
        )
        view = msgspec.structs.replace(
            self.engine.book(token_id),
            bids=bids[::-1],
            asks=asks,
            tick=self.ticks[token_id],
            exchange_ms=exchange_ms,
            last_trade_text=self.last_trade_text,
        )
        return rest_book(view).hash

    # A whole book speaks of one token, but the last trade is the market's.
    def _take(self, view: BookView) -> None:
        self.levels[view.token_id, Side.BUY] = {level.price: level.size for level in view.bids}
        self.levels[view.token_id, Side.SELL] = {level.price: level.size for level in view.asks}
        self.ticks[view.token_id] = view.tick
        self.last_trade_text = view.last_trade_text


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("swallowed", [0.0, 0.2])
def test_hashes_equal_those_of_books_rebuilt_after_every_batch(seed: int, swallowed: float) -> None:
    rng = random.Random(seed)
    engine = _engine()
    frames, plain = MarketFrames(engine, _unlisted), Plain(engine=engine)
    frames.follow(RULES.market_id)
    plain.follow()
    waiting: list[MarketEvent] = []
    checked = 0
    for number, operation in enumerate(_operations(rng, 150)):
        # Three operations a millisecond: each has a hash of its own, as captured.
        events = engine.apply(operation, Nanos(START_NS + number // 3 * 1_000_000))[1]
        waiting += [event for event in events if isinstance(event, MarketEvent) and rng.random() >= swallowed]
        if rng.random() < 0.4:
            checked += _check(frames, plain, waiting)
            waiting = []
    assert checked > 50


def _check(frames: MarketFrames, plain: Plain, events: list[MarketEvent]) -> int:
    expected: list[str] = []
    for step in dict.fromkeys(event.step for event in events):
        group = [event for event in events if event.step == step]
        for event in group:
            plain.update(event)
        for event in group:
            if isinstance(event, LevelsChanged):
                expected += [plain.hash_of(change.token_id, event.exchange_ms) for change in event.changes]
    made = [frame for frame in frames.frames(events) if isinstance(frame, PriceChange)]
    assert [change.hash for frame in made for change in frame.price_changes] == expected
    if events:
        plain.follow()
    return len(expected)


def _unlisted(market_id: MarketId, now_ns: Nanos) -> tuple[EventListing, Listing]:
    raise AssertionError(f"nothing is opened or resolved here: {market_id} at {now_ns}")


def _engine() -> Engine:
    engine = Engine()
    engine.apply(OpenMarket(rules=RULES), Nanos(START_NS))
    for account in ("maker", "taker"):
        engine.apply(Deposit(account=Account(account), cash=Notional(10**9 * MICRO)), Nanos(START_NS))
    return engine


# Makers bid for both outcomes, takers reach through several levels, some orders are cancelled, the grid changes.
def _operations(rng: random.Random, count: int) -> Iterator[Operation]:
    resting: list[ExchangeOrderId] = []
    for _ in range(count):
        chance = rng.random()
        if chance < 0.25 and resting:
            order_id = resting.pop(rng.randrange(len(resting)))
            yield CancelOrders(account=Account("maker"), order_ids=(order_id,))
        elif chance < 0.3:
            yield ChangeTick(market_id=RULES.market_id, tick=Price(rng.choice((1_000, 10_000))))
        else:
            is_take = chance > 0.85
            order_id = ExchangeOrderId(f"0x{rng.getrandbits(64):x}")
            if not is_take:
                resting.append(order_id)
            yield PlaceOrder(
                account=Account("taker" if is_take else "maker"),
                order_id=order_id,
                token_id=rng.choice((RULES.yes, RULES.no)),
                side=Side.BUY,
                price=Price(600_000 if is_take else 490_000 - rng.randrange(12) * 10_000),
                size=Size(0 if is_take else rng.randint(5, 50) * MICRO),
                budget=Notional(rng.randint(5, 40) * MICRO if is_take else 0),
                order_type=OrderType.FAK if is_take else OrderType.GTC,
            )
