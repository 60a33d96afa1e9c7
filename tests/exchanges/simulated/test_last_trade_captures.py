"""The last trade price of a market, as the hashes of captured books hold it: frames do not tell it, but it is hashed.

A trade's books are stamped some 21 ms before its print, which pairs them. Sizes with a fraction below a hundredth tell
mints: only there is the size what the maker's money, in whole millionths, buys of the other outcome.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tbot.core.book_hash import HashRule, HashStem, level_text
from tbot.core.market import MarketId, TokenId
from tbot.core.messages import Side
from tbot.core.units import MICRO, Price, Size, complement, micro_from_text, text_from_micro
from tbot.exchanges.simulated.orderbook import last_trade_text
from tests.captures import CAPTURES, needs
from tests.exchanges.simulated.desk import ANN, BOB, NO, YES, Bench

CAPTURE = "ws/btc5m-2026-04-21-burst/market-ws.jsonl.gz"
CENT = Price(10_000)
PRINT_MS, SLACK_MS = 21, 20

pytestmark = needs(CAPTURE)


class Told(msgspec.Struct, frozen=True):
    """One captured trade: price in the taker's token, and the last trade price that its books hash."""

    side: Side
    price: Price
    size: Size
    last: Price

    @property
    def is_mint_by_size(self) -> bool:
        """Whether only a buying maker's whole millionths of a dollar give this size."""
        theirs = complement(self.price)
        given = -(-self.size * theirs // MICRO)
        return self.side is Side.BUY and self.size % 10_000 != 0 and given * MICRO // theirs == self.size


@pytest.fixture(scope="module")
def trades() -> list[Told]:
    with gzip.open(CAPTURES / CAPTURE, "rt") as lines:
        frames = [json.loads(line)["payload"] for line in lines]
    lasts = {(frame["market"], int(frame["timestamp"])): frame for frame in frames if frame["event_type"] == "book"}
    prints = [frame for frame in frames if frame["event_type"] == "last_trade_price"]
    return list(_paired(lasts, sorted(prints, key=lambda frame: int(frame["timestamp"]))))


def _paired(books: dict[tuple[str, int], dict[str, Any]], prints: list[dict[str, Any]]) -> Iterator[Told]:
    for frame in prints:
        wanted_ms = int(frame["timestamp"]) - PRINT_MS
        near = [key for key in books if key[0] == frame["market"] and abs(key[1] - wanted_ms) <= SLACK_MS]
        book = books.pop(min(near, key=lambda key: abs(key[1] - wanted_ms)))
        price, size = (micro_from_text(frame[key]) for key in ("price", "size"))
        yield Told(Side(frame["side"]), Price(price), Size(size), _hashed(book))


def _hashed(book: dict[str, Any]) -> Price:
    """Find the last trade price, of a cent, under which a captured book has its own hash."""
    bids, asks = (
        b",".join(level_text(Price(micro_from_text(e["price"])), Size(micro_from_text(e["size"]))) for e in book[side])
        for side in ("bids", "asks")
    )
    stem = HashStem(MarketId(book["market"]), TokenId(book["asset_id"]), int(book["timestamp"]), bids, asks)
    for price in map(Price, range(CENT, MICRO, CENT)):
        rule = HashRule(size_min=Size(5 * MICRO), last_trade_text=last_trade_text(price))
        if stem.digest(rule, CENT) == book["hash"]:
            return price
    raise AssertionError(f"no price of a cent gives {book['hash']}")


def test_last_price_is_that_of_the_print_or_its_complement(trades: list[Told]) -> None:
    found = Counter((t.side, "print" if t.last == t.price else "complement") for t in trades)
    assert all(t.last in (t.price, complement(t.price)) for t in trades)
    assert found == {
        (Side.BUY, "print"): 3, (Side.BUY, "complement"): 44, (Side.SELL, "print"): 23, (Side.SELL, "complement"): 1
    }  # fmt: skip


def test_a_mint_is_told_as_production_tells_it(trades: list[Told]) -> None:
    """Of 36, one has the print's own price: 4.551723 is one unit short of a sale too, so it may be both in one."""
    mints = [t for t in trades if t.is_mint_by_size]
    assert len(mints) == 36
    assert sum(_ours(t) == last_trade_text(t.last) for t in mints) == 35


def _ours(trade: Told) -> str:
    bench = Bench()
    bench.rest(ANN, Side.BUY, NO, text_from_micro(complement(trade.price)), 10)
    bench.place(BOB, Side.BUY, YES, text_from_micro(trade.price), 10)
    return bench.engine.book(YES).last_trade_text
