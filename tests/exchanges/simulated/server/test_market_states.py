"""What a market says of itself from its listing to its resolution, in each place where clients read it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import trio.testing

from tbot.core.market import MarketId, TokenId
from tbot.core.units import MICRO, Price
from tbot.exchanges.simulated.operations import (
    CloseMarket,
    MarketRules,
    OpenMarket,
    PauseMarket,
    ReopenMarket,
    ResolveMarket,
)
from tests.captures import CAPTURES, needs
from tests.exchanges.simulated.server.conftest import COIN, EPOCH_S, RAIN

Clock = trio.testing.MockClock
BTC_MARKETS = "outcomes/btc5m-2026-06-08/BTC-5m-markets-2026-06-08.jsonl.gz"
FIXTURES = "fixtures/nautilus"

GAME = msgspec.structs.replace(
    RAIN,
    market_id=MarketId("0x" + "c3" * 32),
    slug="cup-final",
    yes=TokenId("1001"),
    no=TokenId("1002"),
    game_start_s=EPOCH_S + 20,
    clears_book_at_start=True,
)


async def states(world: Any, rules: MarketRules) -> dict[str, tuple[bool, ...]]:
    """Read (active, closed, archived, accepting orders) wherever they are told."""
    gamma = (await world.get(f"/gamma/markets/slug/{rules.slug}")).json
    full = (await world.get(f"/markets/{rules.market_id}")).json
    short = next(
        market
        for market in (await world.get("/simplified-markets")).json["data"]
        if market["condition_id"] == rules.market_id
    )
    # Keys of this one are left out when false.
    assert (await world.get(f"/clob-markets/{rules.market_id}")).json.get("ao", False) == full["accepting_orders"]
    # Gamma never takes its word back that there is a book; the CLOB does.
    assert (gamma["enableOrderBook"], full["enable_order_book"]) == (True, not full["closed"])
    (event,) = gamma["events"]
    assert (event["active"], event["closed"], event["archived"]) == (True, gamma["closed"], False)
    names = ("active", "closed", "archived", "accepting_orders")
    return {
        "gamma": tuple(gamma[name] for name in (*names[:3], "acceptingOrders")),
        "full": tuple(full[name] for name in names),
        "simplified": tuple(short[name] for name in names),
    }


def everywhere(*state: bool) -> dict[str, tuple[bool, ...]]:
    return dict.fromkeys(("gamma", "full", "simplified"), state)


OPEN, OVER = everywhere(True, False, False, True), everywhere(True, True, False, False)
PAUSED = everywhere(True, False, False, False)


@pytest.mark.parametrize("rules", [RAIN, COIN, GAME], ids=lambda rules: str(rules.slug))
async def test_a_market_stays_active_all_its_life(autojump_clock: Clock, world: Any, rules: MarketRules) -> None:
    if rules is GAME:
        world.exchange.apply(OpenMarket(rules=rules))
    assert await states(world, rules) == OPEN, "listed"
    await world.alice.placed("BUY", "0.40", "20")
    await world.bob.placed("BUY", "0.60", "20", token=world.rain.no)
    assert await states(world, rules) == OPEN, "traded"
    await trio.sleep(21)
    assert await states(world, rules) == OPEN, "its game has begun"
    world.exchange.apply(PauseMarket(market_id=rules.market_id))
    assert await states(world, rules) == PAUSED, "paused"
    world.exchange.apply(ReopenMarket(market_id=rules.market_id))
    assert await states(world, rules) == OPEN, "open again"
    world.exchange.apply(CloseMarket(market_id=rules.market_id))
    assert await states(world, rules) == OVER, "closed"
    closed = (await world.get(f"/gamma/markets/slug/{rules.slug}")).json
    assert {"closedTime"}.isdisjoint(closed.keys() | closed["events"][0].keys()), "not resolved yet"
    world.exchange.apply(ResolveMarket(market_id=rules.market_id, yes_payout=Price(MICRO)))
    assert await states(world, rules) == OVER, "resolved"


@pytest.mark.parametrize("payout", [0, MICRO // 2, MICRO])
async def test_its_resolution_is_told_in_words_of_its_own(autojump_clock: Clock, world: Any, payout: int) -> None:
    await trio.sleep(65)
    for rules in (world.rain, world.coin):
        world.exchange.apply(ResolveMarket(market_id=rules.market_id, yes_payout=Price(payout)))
    rain, coin = [(await world.get(f"/gamma/markets/slug/{rules.slug}")).json for rules in (world.rain, world.coin)]
    assert (rain["umaResolutionStatus"], coin["resolutionStatus"]) == ("resolved", "resolved")
    for market in (rain, coin):
        assert market["closedTime"] == "2026-01-01 00:01:05+00"
        assert market["events"][0]["closedTime"] == "2026-01-01T00:01:05Z"
        assert json.loads(market["outcomePrices"])[0] == {0: "0", MICRO // 2: "0.5", MICRO: "1"}[payout]
    full = (await world.get(f"/markets/{world.rain.market_id}")).json
    assert [token["winner"] for token in full["tokens"]] == [payout == MICRO, payout == 0]


async def test_lists_of_closed_markets_are_lists_of_active_ones(autojump_clock: Clock, world: Any) -> None:
    world.exchange.apply(ResolveMarket(market_id=world.rain.market_id, yes_payout=Price(0)))

    async def found(query: str) -> list[str]:
        return [market["slug"] for market in (await world.get(f"/gamma/markets?{query}")).json]

    assert await found("active=true&closed=true") == [world.rain.slug]
    assert await found("active=false") == await found("archived=true") == []
    assert world.rain.slug in await found("active=true")
    assert world.rain.slug not in await found("active=true&closed=false")


def flagged(record: Any) -> Iterator[dict[str, Any]]:
    """Every market inside a recorded answer, of Gamma or of the CLOB."""
    if isinstance(record, dict):
        if "active" in record and "closed" in record and ("conditionId" in record or "condition_id" in record):
            yield record
        record = list(record.values())
    if isinstance(record, list):
        for each in record:
            yield from flagged(each)


@needs(BTC_MARKETS)
def test_recorded_markets_of_gamma_that_are_resolved_are_active() -> None:
    lines = gzip.decompress((CAPTURES / BTC_MARKETS).read_bytes()).splitlines()
    markets = [market for line in lines for market in flagged(json.loads(line))]
    named = ("active", "closed", "archived", "acceptingOrders", "enableOrderBook", "umaResolutionStatus")
    assert {tuple(market[name] for name in named) for market in markets} == {
        (True, True, False, False, True, "resolved")
    }
    assert len(markets) == 292
    assert all("closedTime" in market for market in markets)


@needs(FIXTURES)
def test_recorded_markets_of_the_clob_that_are_closed_are_active_but_one_of_2022() -> None:
    texts = [path.read_text() for path in sorted((CAPTURES / FIXTURES).rglob("*.json"))]
    closed = [m for text in texts for m in flagged(json.loads(text)) if "condition_id" in m and m["closed"]]
    assert len(closed) > 50
    assert [market["end_date_iso"][:4] for market in closed if not market["active"]] == ["2022"]
    assert not any(market["archived"] or market["enable_order_book"] for market in closed)
