"""What the server sends has the shape of what the exchange was recorded to send."""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from tbot.core.market import MarketId, TokenId
from tbot.core.units import MICRO, Price
from tbot.exchanges.simulated.operations import ChangeTick, OpenMarket, ResolveMarket
from tbot.exchanges.simulated.wire_books import RestBook, WireLevel, book_hash
from tests.captures import CAPTURES, needs
from tests.exchanges.simulated.server.conftest import COIN, EPOCH_S, RAIN
from tests.exchanges.simulated.server.frame_shapes import RECORDINGS, SHAPES, derive, faults, kind_of, recorded

needs_recordings = needs(*RECORDINGS)
KNOWN = json.loads(SHAPES.read_text())

ALLOWED: dict[str, dict[str, list[str]]] = {
    "trade": {
        # Shown by the newer documents; the recorded messages are of 2024 and 2025.
        "maker_orders[].outcome_index": ["int"],
        # Matching answers before settlement since April 2026: the hash comes later.
        "transaction_hash": ["empty"],
    },
    # Recorded orders have no trades; a list of ids is what edited messages and the documents show.
    "order": {"associate_trades": ["list"], "associate_trades[]": ["uuid"], "type": ["=UPDATE"]},
    # Of positions, which the recordings do not have.
    "book after subscribing": {"version": ["text"]},
    # Nobody has seen a market that both outcomes share.
    "market_resolved": {"winning_asset_id": ["empty"], "winning_outcome": ["empty"]},
}
"""What documents show and the recorded messages do not."""

CUP = msgspec.structs.replace(
    RAIN,
    market_id=MarketId("0x" + "c3" * 32),
    slug="cup-final",
    yes=TokenId(RAIN.yes[:-1] + "0"),
    no=TokenId(RAIN.no[:-1] + "0"),
    game_start_s=EPOCH_S + 3_600,
)
FREE = msgspec.structs.replace(
    CUP,
    market_id=MarketId("0x" + "d4" * 32),
    yes=TokenId(RAIN.yes[:-1] + "1"),
    no=TokenId(RAIN.no[:-1] + "1"),
    fee_rate_micro=0,
    game_start_s=0,
)


async def _session(world: Any) -> list[dict[str, Any]]:
    """Live through everything a connection can be told of, and return every frame."""
    await world.alice.placed("BUY", "0.40", "10")
    await world.alice.placed("BUY", "0.41", "12.5")
    market = await world.market_socket(world.rain.yes, world.rain.no, COIN.yes, custom_feature_enabled=True)
    alice, bob = await world.alice.user_socket(), await world.bob.user_socket()
    gone = await world.alice.placed("BUY", "0.39", "10")
    await world.alice.ask("DELETE", "/order", {"orderID": gone})
    await world.bob.placed("BUY", "0.60", "15", token=world.rain.no)  # mints with two levels
    await world.bob.placed("BUY", "0.45", "10", token=world.rain.yes)
    await world.alice.placed("BUY", "0.55", "6", token=world.rain.no)
    frames = [*(await world.heard(market)), *(await world.heard(alice, 8)), *(await world.heard(bob))]
    for rules in (CUP, FREE):
        world.exchange.apply(OpenMarket(rules=rules))
    world.exchange.apply(ChangeTick(market_id=world.rain.market_id, tick=Price(1_000)))
    world.exchange.apply(ResolveMarket(market_id=world.rain.market_id, yes_payout=Price(MICRO)))
    world.exchange.apply(ResolveMarket(market_id=COIN.market_id, yes_payout=Price(MICRO // 2)))
    frames += [*(await world.heard(market)), *(await world.heard(alice)), *(await world.heard(bob))]
    return [frame for told in frames for frame in (told if isinstance(told, list) else [told])]


@pytest.fixture(scope="module")
def sent(make_world: Callable[..., Any]) -> list[dict[str, Any]]:
    async def main() -> list[dict[str, Any]]:
        async with make_world() as world:
            return await _session(world)

    return trio.run(main, clock=MockClock(autojump_threshold=0))


def frame_faults(frame: dict[str, Any]) -> list[str]:
    kind = kind_of(frame)
    return [f"{kind}: {fault}" for fault in faults(frame, KNOWN[kind], allowed=ALLOWED.get(kind))]


def test_every_frame_sent_has_the_recorded_shape(sent: list[dict[str, Any]]) -> None:
    assert {kind_of(frame) for frame in sent} == set(KNOWN), "every recorded kind, and no other"
    assert {fault for frame in sent for fault in frame_faults(frame)} == set()


def _mutations(frame: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Plant one mistake after the other in a frame."""
    for key, value in frame.items():
        without = {name: other for name, other in frame.items() if name != key}
        yield f"no {key}", without
        yield f"{key} misspelled", {**without, f"{key}_": value}
        yield f"{key} of another type", {**frame, key: 17.5}
    yield "one key more", {**frame, "sequence": "1"}
    for side in ("bids", "asks"):
        if len(frame.get(side, ())) > 1:
            yield f"{side} best first", {**frame, side: frame[side][::-1]}
    for key in ("price", "best_bid", "old_tick_size"):
        if key in frame:
            yield f"{key} with a trailing zero", {**frame, key: "0.5000"}
            yield f"{key} without its zero", {**frame, key: ".5"}
    # One recorded trade has seconds, so a trade in seconds is no mistake that a shape can see.
    if kind_of(frame) != "trade":
        yield "timestamp in seconds", {**frame, "timestamp": frame["timestamp"][:10]}
    if "price_changes" in frame:
        yield "mirror missing", {**frame, "price_changes": frame["price_changes"][:1]}
        odd = copy.deepcopy(frame)
        odd["price_changes"][1]["hash"] = "0xhash"
        yield "another hash", odd
    if kind_of(frame) in ("best_bid_ask", "price_change", "new_market"):
        yield "another order of keys", dict(reversed(frame.items()))


def test_planted_mistakes_are_seen(sent: list[dict[str, Any]]) -> None:
    unseen = []
    for kind in KNOWN:
        # The longest one, so that books have levels to turn round.
        frame = max((f for f in sent if kind_of(f) == kind), key=lambda f: len(json.dumps(f)))
        unseen += [f"{kind}: {what}" for what, odd in _mutations(frame) if _is_unseen(odd)]
    assert unseen == []


def _is_unseen(frame: dict[str, Any]) -> bool:
    try:
        return frame_faults(frame) == []
    except (KeyError, TypeError):
        return False  # not even its kind can be told


@needs_recordings
@pytest.mark.slow
def test_the_shapes_kept_are_those_of_the_recordings() -> None:
    assert derive(CAPTURES) == KNOWN


@needs_recordings
@pytest.mark.slow
def test_every_frame_recorded_has_the_shape_kept() -> None:
    odd = [fault for frame in recorded(CAPTURES) for fault in frame_faults(frame)]
    assert odd == []


# --- hashes of recorded books ----------------------------------------------------------------------------------------


def _hash(book: dict[str, Any], *, tick_size: str, last_trade_price: str) -> str:
    bids, asks = (
        tuple(WireLevel(price=level["price"], size=level["size"]) for level in book[side]) for side in ("bids", "asks")
    )
    return book_hash(
        RestBook(
            market=book["market"],
            asset_id=book["asset_id"],
            timestamp=book["timestamp"],
            hash="",
            bids=bids,
            asks=asks,
            min_order_size=book.get("min_order_size", "5"),
            tick_size=tick_size,
            neg_risk=book.get("neg_risk", False),
            last_trade_price=last_trade_price,
        )
    )


@needs_recordings
@pytest.mark.slow
def test_hash_of_every_recorded_book_is_recomputed() -> None:
    equal = {"book after subscribing": 0, "book after a trade": 0}
    total = dict(equal)
    for frame in recorded(CAPTURES):
        kind = kind_of(frame)
        if kind not in total:
            continue
        total[kind] += 1
        texts = [frame["last_trade_price"]] if "tick_size" in frame else [f"{cent / 100:.3f}" for cent in range(1, 100)]
        tick = frame.get("tick_size", "0.01")
        equal[kind] += any(_hash(frame, tick_size=tick, last_trade_price=text) == frame["hash"] for text in texts)
    assert total == {"book after subscribing": 196, "book after a trade": 140}
    assert equal == total


@needs_recordings
def test_hash_of_every_recorded_rest_book_of_an_event_is_recomputed() -> None:
    with gzip.open(CAPTURES / "rest/negrisk-fed-decision-june-2026/clob-books.json.gz", "rt") as file:
        books = json.load(file)
    assert len(books) == 10
    for book in books:
        assert _hash(book, tick_size=book["tick_size"], last_trade_price=book["last_trade_price"]) == book["hash"]
