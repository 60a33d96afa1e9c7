"""A market is described once: the catalogue, the CLOB's full and its compact objects say the same of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from tbot.core.market import MarketId, TokenId
from tbot.core.units import MICRO, Notional, Price, Size
from tbot.exchanges.simulated.descriptions import Description, RewardTerms
from tbot.exchanges.simulated.operations import CloseMarket, OpenMarket

REWARDS = RewardTerms(
    size_min=Size(100 * MICRO), spread_max=Price(35_000), age_s_min=30, daily_rate=Notional(5 * MICRO)
)
DESCRIBED = (
    Description(
        slug="rain-tomorrow", title="Will it rain?", text="Ask the gauge.", tags=("weather", "springfield"),
        ends="2026-02-03T12:00:00Z", icon="https://example.org/rain.png", rewards=REWARDS,
    ),
    Description(slug="coin-up-or-down", rewards=RewardTerms()),
    Description(slug="cup", title="Who wins the cup?", tags=("sports",), icon="https://example.org/cup.png"),
)  # fmt: skip


@pytest.fixture
async def world(make_world: Any) -> AsyncIterator[Any]:
    async with make_world(described=DESCRIBED) as opened:
        cup = {"is_neg_risk": True, "event": "cup", "game_start_s": 1_767_312_000, "seconds_delay": 3}
        for digit in "34":
            rules = msgspec.structs.replace(
                opened.mayor, market_id=MarketId("0x" + digit * 64), slug=f"cup-{digit}", yes=TokenId(f"{digit}1"),
                no=TokenId(f"{digit}2"), **cup, clears_book_at_start=digit == "3",
            )  # fmt: skip
            opened.exchange.apply(OpenMarket(rules=rules))
        yield opened


@pytest.mark.parametrize("asked_first", ["/clob-markets/0x" + "4" * 64, "/gamma/tags"])
async def test_tags_are_numbered_in_order_of_listing(world: Any, autojump_clock: Any, asked_first: str) -> None:
    assert (await world.get(asked_first)).status == 200
    numbers = {tag["slug"]: tag["id"] for tag in (await world.get("/gamma/tags")).json}
    assert numbers == {"weather": "101", "springfield": "102", "general": "103", "sports": "104"}


async def test_three_ways_to_ask_for_a_market_agree(world: Any, autojump_clock: Any) -> None:
    await world.alice.placed("BUY", "0.40", "20")
    await world.bob.placed("BUY", "0.60", "10", token=world.rain.no)
    catalogue = (await world.get("/gamma/markets?include_tag=true&limit=100")).json
    full = {market["market_slug"]: market for market in (await world.get("/markets")).json["data"]}
    assert len(catalogue) == len(full) == 5
    for gamma in catalogue:
        clob = full[gamma["slug"]]
        short = (await world.get(f"/clob-markets/{clob['condition_id']}")).json
        assert clob["condition_id"].startswith(gamma["conditionId"])
        assert [(clob[a], gamma[b]) for a, b in SAME if clob[a] != gamma[b]] == []
        assert clob["end_date_iso"] == gamma["endDate"]
        assert clob["end_date_iso"][:10] == gamma["endDateIso"]
        assert clob["tags"] == [tag["label"] for tag in gamma["tags"]]
        assert clob["accepting_order_timestamp"] == short["aot"] == gamma["acceptingOrdersTimestamp"]
        assert clob["game_start_time"] == short.get("gst")
        start = gamma.get("gameStartTime")
        assert short.get("gst") == (start and start.replace(" ", "T").replace("+00", "Z"))
        assert short.get("cbos", False) == gamma["clearBookOnStart"]
        assert clob["seconds_delay"] == short.get("sd", 0) == gamma.get("secondsDelay", 0)
        assert (clob["minimum_tick_size"], clob["minimum_order_size"]) == (short["mts"], short["mos"])
        assert (clob["neg_risk_market_id"] or None) == gamma.get("negRiskMarketID")
        assert (clob["neg_risk_request_id"] or None) == gamma.get("negRiskRequestID")
        assert [str(token["price"]) for token in clob["tokens"]] == json.loads(gamma["outcomePrices"])
        terms = short.get("r", {"mi": 0, "ma": 0})
        assert (clob["rewards"]["min_size"], clob["rewards"]["max_spread"]) == (terms["mi"], terms["ma"])
        assert (gamma["rewardsMinSize"], gamma["rewardsMaxSpread"]) == (terms["mi"], terms["ma"])
        rates = [each["rewardsDailyRate"] for each in gamma.get("clobRewards", ())]
        assert [each["rewards_daily_rate"] for each in clob["rewards"]["rates"] or ()] == rates


SAME = (
    ("question", "question"),
    ("description", "description"),
    ("icon", "icon"),
    ("image", "image"),
    ("question_id", "questionID"),
    ("neg_risk", "negRisk"),
    ("active", "active"),
    ("closed", "closed"),
    ("archived", "archived"),
    ("accepting_orders", "acceptingOrders"),
    ("minimum_order_size", "orderMinSize"),
    ("minimum_tick_size", "orderPriceMinTickSize"),
    ("maker_base_fee", "makerBaseFee"),
    ("taker_base_fee", "takerBaseFee"),
)


async def test_words_and_terms_are_those_of_the_settings(world: Any, autojump_clock: Any) -> None:
    rain = (await world.get(f"/markets/{world.rain.market_id}")).json
    assert (rain["question"], rain["description"], rain["tags"]) == (
        "Will it rain?",
        "Ask the gauge.",
        ["Weather", "Springfield"],
    )
    assert (rain["end_date_iso"], rain["icon"]) == ("2026-02-03T12:00:00Z", "https://example.org/rain.png")
    (rate,) = rain["rewards"]["rates"]
    assert (rate["rewards_daily_rate"], rain["rewards"]["min_size"], rain["rewards"]["max_spread"]) == (5, 100, 3.5)
    short = (await world.get(f"/clob-markets/{world.rain.market_id}")).json
    assert short["r"] == {"mi": 100, "ma": 3.5, "moas": 30}
    cup = (await world.get("/markets/0x" + "3" * 64)).json
    assert (cup["icon"], cup["tags"], cup["game_start_time"]) == (DESCRIBED[2].icon, ["Sports"], "2026-01-02T00:00:00Z")
    assert cup["rewards"] == {"rates": None, "min_size": 0, "max_spread": 0}


async def test_sampled_are_the_markets_with_rewards_while_they_trade(world: Any, autojump_clock: Any) -> None:
    async def sampled(path: str) -> list[Any]:
        return list((await world.get(path)).json["data"])

    whole = {market["condition_id"]: market for market in (await world.get("/markets")).json["data"]}
    expected = [whole[rules.market_id] for rules in (world.rain, world.coin)]
    assert await sampled("/sampling-markets") == expected
    keys = ("condition_id", "rewards", "tokens", "active", "closed", "archived", "accepting_orders")
    assert await sampled("/sampling-simplified-markets") == [{k: market[k] for k in keys} for market in expected]
    world.exchange.apply(CloseMarket(market_id=world.rain.market_id))
    assert [market["condition_id"] for market in await sampled("/sampling-markets")] == [world.coin.market_id]
