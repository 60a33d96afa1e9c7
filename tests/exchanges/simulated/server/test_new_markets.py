"""A market that is listed while everybody trades: announced, described and tradable at once."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio

from tbot.core.market import MarketId, TokenId
from tbot.exchanges.simulated.operations import OpenMarket


async def listed(world: Any, **body: Any) -> Any:
    return await world.control("list", **body)


async def test_a_listed_market_is_announced_described_and_traded(ruled: Any, autojump_clock: Any) -> None:
    await trio.sleep(3_600)
    custom = await ruled.market_socket(ruled.rain.yes, custom_feature_enabled=True)
    await ruled.heard(custom)
    words = {"slug": "snow-on-sunday", "title": "Will it snow on Sunday?", "category": "weather"}
    answer = await listed(ruled, **words, tick="0.001", size_min="10", fee_rate="0.04")
    assert answer.status == 200, answer.body
    ids = answer.json
    assert ids.pop("ok") is True
    (frame,) = await ruled.heard(custom)
    assert (frame["event_type"], frame["market"], frame["question"]) == ("new_market", ids["market"], words["title"])
    assert (frame["assets_ids"], frame["order_price_min_tick_size"]) == ([ids["yes"], ids["no"]], "0.001")
    (shown,) = (await ruled.get("/gamma/markets?slug=snow-on-sunday")).json
    assert (shown["conditionId"], shown["question"], shown["id"]) == (ids["market"], words["title"], frame["id"])
    assert shown["startDate"][:19] == "2026-01-01T01:00:01", "since when it is listed, not since when the exchange is"
    assert shown["endDate"] > shown["startDate"]
    assert (await ruled.get("/gamma/events?slug=snow-on-sunday")).json[0]["tags"][0]["slug"] == "weather"
    clob = (await ruled.get(f"/markets/{ids['market']}")).json
    assert (clob["accepting_orders"], clob["minimum_order_size"], clob["minimum_tick_size"]) == (True, 10, 0.001)
    assert [token["token_id"] for token in clob["tokens"]] == [ids["yes"], ids["no"]]
    await ruled.alice.placed("BUY", "0.405", "20", token=ids["yes"])
    await ruled.bob.placed("BUY", "0.595", "10", token=ids["no"])
    book = (await ruled.get(f"/book?token_id={ids['yes']}")).json
    assert (book["bids"], book["last_trade_price"]) == ([{"price": "0.405", "size": "10"}], "0.405")


async def test_ids_follow_from_the_slug_unless_they_are_given(ruled: Any, autojump_clock: Any) -> None:
    market = "0x" + "5a" * 32
    given = (await listed(ruled, slug="given", market=market, yes="9001", no="9002")).json
    assert given == {"ok": True, "market": market, "yes": "9001", "no": "9002"}
    made = (await listed(ruled, slug="made")).json
    assert len({made["market"], made["yes"], made["no"], market}) == 4
    assert [len(made["market"]), made["yes"].isdigit(), made["no"].isdigit()] == [66, True, True]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"slug": "rain"}, "rain"),
        ({"slug": "snow", "market": "0x12"}, "market_id"),
        ({"slug": "snow", "yes": "one"}, "digits"),
        ({"slug": "snow", "yes": "7", "no": "7"}, "two tokens"),
        ({"slug": "snow", "size_min": "0"}, "size_min"),
        ({"slug": "snow", "fee_rate": "nan"}, "fee_rate"),
        ({"slug": "snow", "fee_rate": "1.1"}, "fee_rate"),
        ({"slug": "snow", "tick": "0.3"}, "tick"),
        ({"slug": "snow", "colour": "white"}, "colour"),
        ({"slug": ""}, "slug"),
        ({"slug": "a b/../c?x=1\n"}, "slug"),
        ({"slug": "snow\n"}, "slug"),
        ({"slug": ".."}, "slug"),
        ({"slug": "schn\u00e9e"}, "slug"),
    ],
)
async def test_what_cannot_be_listed_is_refused_by_name(
    ruled: Any, autojump_clock: Any, body: dict[str, str], named: str
) -> None:
    before = ruled.exchange.markets()
    if body["slug"] == "rain":
        body = {"slug": ruled.rain.slug}
    answer = await listed(ruled, **body)
    assert answer.status == 400
    assert named in answer.error
    assert ruled.exchange.markets() == before


@pytest.mark.parametrize("slug", ["snow-2027", "Snow_1.5~", "7"])
async def test_what_is_listed_is_found_by_its_slug(ruled: Any, autojump_clock: Any, slug: str) -> None:
    market = (await listed(ruled, slug=slug)).json["market"]
    assert (await ruled.get(f"/gamma/markets/slug/{slug}")).json["conditionId"] == market
    assert [m["conditionId"] for m in (await ruled.get(f"/gamma/events/slug/{slug}")).json["markets"]] == [market]


async def test_the_slug_of_an_event_is_not_taken_for_a_market(ruled: Any, autojump_clock: Any) -> None:
    for digit in "34":
        outcome = msgspec.structs.replace(
            ruled.mayor, market_id=MarketId("0x" + digit * 64), slug=f"cup-{digit}", yes=TokenId(f"{digit}1"),
            no=TokenId(f"{digit}2"), event="cup",
        )  # fmt: skip
        ruled.exchange.apply(OpenMarket(rules=outcome))
    before = (await ruled.get("/gamma/events/slug/cup")).json
    assert (len(before["markets"]), before["negRisk"]) == (2, True)
    answer = await listed(ruled, slug="cup", title="Stolen words", category="theft")
    assert (answer.status, "a market or event 'cup' is listed already" in answer.error) == (400, True)
    assert (await ruled.get("/gamma/events/slug/cup")).json == before


async def test_a_market_is_listed_once(ruled: Any, autojump_clock: Any) -> None:
    first = (await listed(ruled, slug="snow")).json
    again = await listed(ruled, slug="sleet", market=first["market"])
    assert (again.status, len(ruled.exchange.markets())) == (400, 4)
    token = await listed(ruled, slug="hail", yes=ruled.rain.no)
    assert (token.status, len(ruled.exchange.markets())) == (400, 4)
