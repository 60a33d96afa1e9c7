"""The catalogue: found by every filter a bot uses, page by page, in the JSON types that production serves."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
import trio.testing

from tbot.core.units import Price
from tbot.exchanges.simulated.operations import ResolveMarket
from tests.captures import CAPTURES, needs

Clock = trio.testing.MockClock
GAMMA_PAGE = "rest/gamma-markets-2026-03-11/markets_page_00005.json.gz"
FED_EVENT = "rest/negrisk-fed-decision-june-2026/gamma-event.json.gz"


async def test_market_is_shown_in_the_types_of_production(autojump_clock: Clock, world: Any) -> None:
    await world.alice.placed("BUY", "0.40", "20")
    (rain,) = (await world.get(f"/gamma/markets?slug={world.rain.slug}")).json
    assert json.loads(rain["outcomes"]) == ["Yes", "No"]
    assert json.loads(rain["clobTokenIds"]) == [world.rain.yes, world.rain.no]
    assert json.loads(rain["outcomePrices"]) == ["0.7", "0.3"]
    assert (rain["bestBid"], rain["bestAsk"], rain["spread"]) == (0.4, 1, 0.6)
    assert (rain["liquidity"], rain["liquidityNum"]) == ("8", 8)
    assert (rain["version"], rain["conditionId"]) == ("v1", world.rain.market_id)
    (coin,) = (await world.get(f"/gamma/markets?slug={world.coin.slug}")).json
    assert (coin["version"], coin["clobTokenIds"]) == ("v2", None)
    assert coin["positionIds"] == [world.coin.yes, world.coin.no]
    assert coin["conditionId"] + "00" == world.coin.market_id
    assert coin["resolutionStatus"] == "active"


async def test_volume_counts_what_was_traded(autojump_clock: Clock, world: Any) -> None:
    await world.alice.placed("BUY", "0.40", "20")
    await world.bob.placed("BUY", "0.60", "10", token=world.rain.no)
    market = (await world.get(f"/gamma/markets/slug/{world.rain.slug}")).json
    assert (market["volume"], market["volumeNum"], market["volume24hr"]) == ("6", 6, 6)
    assert market["lastTradePrice"] == 0.4, "of YES, whoever took what"
    assert market["events"][0]["openInterest"] == 10
    await trio.sleep(86_400)
    market = (await world.get(f"/gamma/markets/slug/{world.rain.slug}")).json
    assert (market["volumeNum"], market["volume24hr"]) == (6, 0)


def yes_or_no(market: dict[str, Any]) -> str:
    """Tell whose price `lastTradePrice` is by the side of the half that the quotes are on; "" = cannot be told."""
    bid, ask, last = (market.get(key) for key in ("bestBid", "bestAsk", "lastTradePrice"))
    if not (bid and ask and last) or ask - bid > 0.2:
        return ""
    of_yes, of_no = (abs(price - (bid + ask) / 2) for price in (last, 1 - last))
    return "" if abs(of_yes - of_no) < 0.1 else "YES" if of_yes < of_no else "NO"


@pytest.mark.parametrize(("outcome", "price"), [("yes", "0.15"), ("no", "0.89")])
async def test_last_price_is_of_yes(autojump_clock: Clock, world: Any, outcome: str, price: str) -> None:
    await world.alice.placed("BUY", "0.11", "20")
    await world.alice.placed("BUY", "0.85", "20", token=world.rain.no)
    await world.bob.placed("BUY", price, "10", token=getattr(world.rain, outcome))
    assert yes_or_no((await world.get(f"/gamma/markets/slug/{world.rain.slug}")).json) == "YES"


@needs(FED_EVENT, GAMMA_PAGE)
def test_last_prices_captured_are_of_yes() -> None:
    event, page = (json.loads(gzip.decompress((CAPTURES / name).read_bytes())) for name in (FED_EVENT, GAMMA_PAGE))
    told = [yes_or_no(market) for market in (*event["markets"], *page["markets"])]
    assert told.count("NO") == 0
    assert told.count("YES") >= 30


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", "rain mayor coin"),
        ("closed=false&active=true&archived=false", "rain mayor coin"),
        ("closed=true", ""),
        ("active=false", ""),
        ("condition_ids={rain.market_id}&condition_ids={coin.market_id}", "rain coin"),
        ("clob_token_ids={mayor.no}", "mayor"),
        ("position_ids={coin.yes}", "coin"),
        ("position_ids={rain.yes}", ""),
        ("version=v2", "coin"),
        ("tag_id=101", "rain mayor coin"),
        ("tag_id=999", ""),
        ("liquidity_min=5", "rain"),
        ("liquidity_num_max=5", "mayor coin"),
        ("volume_num_min=1", ""),
        ("end_date_min=2000-01-01", "rain mayor coin"),
        ("end_date_max=2000-01-01T00:00:00Z", ""),
        ("order=liquidityNum,id&ascending=false", "rain coin mayor"),
        ("limit=1&offset=1", "mayor"),
        ("limit=2", "rain mayor"),
    ],
)
async def test_filters_choose_markets(autojump_clock: Clock, world: Any, query: str, found: str) -> None:
    await world.alice.placed("BUY", "0.40", "20")
    asked = query.format(rain=world.rain, mayor=world.mayor, coin=world.coin)
    answer = (await world.get(f"/gamma/markets?{asked}")).json
    assert [market["slug"] for market in answer] == [getattr(world, name).slug for name in found.split()]


@pytest.mark.parametrize(
    "target",
    [
        "/gamma/markets/keyset?offset=1",
        "/gamma/markets/keyset?limit=0",
        "/gamma/markets/keyset?limit=101",
        "/gamma/markets/keyset?after_cursor=nonsense",
        "/gamma/events/keyset?offset=0",
        "/gamma/markets?order=color",
        "/gamma/markets?closed=maybe",
        "/gamma/markets?liquidity_min=nan",
        "/gamma/markets?end_date_min=soon",
        "/gamma/markets?limit=-1",
        "/gamma/public-search",
    ],
)
async def test_what_cannot_be_read_is_refused_with_422(autojump_clock: Clock, world: Any, target: str) -> None:
    answer = await world.get(target)
    assert answer.status == 422
    assert answer.json["type"] == "validation error"


@pytest.mark.parametrize("kind", ["markets", "events"])
async def test_keyset_pages_give_everything_once(autojump_clock: Clock, world: Any, kind: str) -> None:
    seen: list[str] = []
    cursor: str | None = ""
    for _ in range(9):
        answer = (await world.get(f"/gamma/{kind}/keyset?limit=1&after_cursor={cursor}")).json
        seen += [item["id"] for item in answer[kind]]
        cursor = answer.get("next_cursor")
        if cursor is None:
            break
    assert cursor is None
    assert seen == [item["id"] for item in (await world.get(f"/gamma/{kind}")).json]
    assert len(set(seen)) == 3


async def test_single_things_are_found_by_id_and_slug(autojump_clock: Clock, world: Any) -> None:
    for kind in ("markets", "events"):
        for item in (await world.get(f"/gamma/{kind}")).json:
            assert (await world.get(f"/gamma/{kind}/{item['id']}")).json["slug"] == item["slug"]
            assert (await world.get(f"/gamma/{kind}/slug/{item['slug']}")).json["id"] == item["id"]
        for tail, text in (("1", "id not found"), ("slug/none", "slug not found")):
            answer = await world.get(f"/gamma/{kind}/{tail}")
            assert (answer.status, answer.json) == (404, {"type": "not found error", "error": text})


async def test_search_and_tags_lead_to_events(autojump_clock: Clock, world: Any) -> None:
    words = world.rain.slug.replace("-", "%20")
    found = (await world.get(f"/gamma/public-search?q={words}")).json
    assert [market["slug"] for market in found["events"][0]["markets"]] == [world.rain.slug]
    assert found["pagination"] == {"hasMore": False, "totalResults": 1}
    (tag,) = (await world.get("/gamma/tags")).json
    assert len((await world.get(f"/gamma/events?tag_slug={tag['slug']}&tag_id={tag['id']}")).json) == 3


async def test_resolved_market_is_closed_and_tells_its_outcome(autojump_clock: Clock, world: Any) -> None:
    world.exchange.apply(ResolveMarket(market_id=world.rain.market_id, yes_payout=Price(1_000_000)))
    (rain,) = (await world.get("/gamma/markets?closed=true")).json
    assert (rain["slug"], rain["closed"], rain["acceptingOrders"]) == (world.rain.slug, True, False)
    assert json.loads(rain["outcomePrices"]) == ["1", "0"]
    assert rain["umaResolutionStatus"] == "resolved"


def differing(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, tuple[str, str]]:
    def kind(value: Any) -> str:
        return "number" if type(value) in (int, float) else type(value).__name__

    shared = ours.keys() & theirs.keys()
    return {k: (kind(ours[k]), kind(theirs[k])) for k in shared if kind(ours[k]) != kind(theirs[k])}


@needs(FED_EVENT)
async def test_types_are_those_of_captured_answers(autojump_clock: Clock, world: Any) -> None:
    theirs = json.loads(gzip.decompress((CAPTURES / FED_EVENT).read_bytes()))
    await world.alice.placed("BUY", "0.40", "20", token=world.mayor.yes)
    (ours,) = (await world.get(f"/gamma/events?slug={world.mayor.event or world.mayor.slug}")).json
    assert differing(ours, theirs) == {}
    assert ours.keys() - theirs.keys() == set()
    market = theirs["markets"][0]
    # The market here has no fee; recorded markets without one have null as well.
    assert differing(ours["markets"][0], market).keys() <= {"feeType"}
    assert ours["markets"][0]["feesEnabled"] is False
    # `version` came with Protocol V2, after the capture.
    assert ours["markets"][0].keys() - market.keys() - {"resolutionSource"} == {"version"}
