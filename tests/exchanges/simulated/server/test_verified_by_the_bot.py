"""The bot's own judge of books goes along with the exchange's hashes, whose last trade price no frame tells."""

from __future__ import annotations

import json
from typing import Any

from trio.testing import MockClock

from tbot.core.messages import ExchangeOrderId, OrderType, Side
from tbot.core.units import MICRO, Notional, Price, Size
from tbot.exchanges.polymarket.survey import CaptureSurvey
from tbot.exchanges.simulated.operations import Account, Deposit, PlaceOrder, SplitPair

# Maker, then taker: a mint, a sale, a merge, a purchase; each leaves ten of the maker's shares in the book.
MATCHES = [
    (("BUY", "no", 13), ("BUY", "yes", 87)),
    (("BUY", "yes", 84), ("SELL", "yes", 84)),
    (("SELL", "no", 15), ("SELL", "yes", 85)),
    (("SELL", "yes", 86), ("BUY", "yes", 86)),
]


async def test_books_verify_after_every_kind_of_match(world: Any, autojump_clock: MockClock) -> None:
    for name in ("maker", "taker"):
        world.exchange.apply(Deposit(account=Account(name), cash=Notional(1_000 * MICRO)))
        size = Size(100 * MICRO)
        world.exchange.apply(SplitPair(account=Account(name), market_id=world.rain.market_id, size=size))
    socket = await world.market_socket(world.rain.yes, world.rain.no)
    frames = await world.heard(socket)
    for count, (maker, taker) in enumerate(MATCHES):
        for name, (side, outcome, cents), shares in (("maker", maker, 20), ("taker", taker, 10)):
            world.exchange.apply(
                PlaceOrder(
                    account=Account(name),
                    order_id=ExchangeOrderId(f"{name}{count}"),
                    token_id=getattr(world.rain, outcome),
                    side=Side(side),
                    price=Price(cents * 10_000),
                    size=Size(shares * MICRO),
                    order_type=OrderType.GTC,
                )
            )
        frames += await world.heard(socket)
    survey = CaptureSurvey()
    for frame in frames:
        survey.add(json.dumps(frame).encode())
    found = survey.report()
    assert (found.events["last_trade_price"], found.decode_errors) == (len(MATCHES), 0)
    # Maker and taker come in one millisecond, which is one increment of either token.
    assert found.increments == found.hash_verified == 2 * len(MATCHES)
    assert found.snapshots == found.snapshots_equal == 2 * len(MATCHES)
