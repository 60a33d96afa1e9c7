"""Reads of the catalogue: pages, bounds, bad rows and names, from made-up answers and from the local exchange."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx2
import msgspec
import pytest
import trio

from tbot.commands.markets import Markets, reading
from tbot.core.market import MarketId
from tbot.core.units import Notional
from tbot.errors import ConfigError, ExchangeUnavailable
from tbot.exchanges.polymarket.gamma import PAGES_MAX, SEARCH_PAGES_MAX, Gamma, Scope
from tbot.exchanges.polymarket.listings import MarketRow, Wanted, groups, listing_of
from tbot.exchanges.polymarket.settings import PolymarketSettings
from tbot.exchanges.polymarket.terms import ATTEMPTS, read_terms
from tbot.exchanges.polymarket.wire import decode
from tests.captures import CAPTURES, needs
from tests.contract.stage import now_ns
from tests.exchanges.polymarket.answers import CONDITION, Handler, answering, gateway_of, routed
from tests.exchanges.polymarket.local import PolymarketStage, polymarket

NAMES = PolymarketSettings(rest_url="http://exchange.test", gamma_url="http://exchange.test/gamma")
ROW: dict[str, Any] = {
    "id": "1",
    "conditionId": CONDITION,
    "slug": "rain",
    "question": "Rain?",
    "version": "v1",
    "outcomes": '["Yes", "No"]',
    "clobTokenIds": '["11", "22"]',
    "active": True,
    "closed": False,
    "acceptingOrders": True,
    "enableOrderBook": True,
    "liquidityNum": 12.5,
    "endDate": "2026-12-01T00:00:00Z",
    "somethingNew": {"nobody": ["knows"]},
}
TERMS = {"c": CONDITION, "t": [{"t": "11", "o": "Yes"}, {"t": "22", "o": "No"}], "mos": 5, "mts": 0.01, "ao": True}


def gamma_of(handler: Handler) -> Gamma:
    gateway = gateway_of(handler)
    return Gamma(gateway.rest, "http://gamma.test", now_ns)


def numbered(number: int, **changes: Any) -> dict[str, Any]:
    return ROW | {"conditionId": f"0x{number:064x}", "slug": f"m{number}"} | changes


async def test_pages_are_followed_to_the_last() -> None:
    asked: list[dict[str, str]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(dict(request.url.params))
        more = {"next_cursor": f"c{len(asked)}"} if len(asked) < 3 else {}
        return httpx2.Response(200, json={"markets": [numbered(len(asked))], **more})

    found = await gamma_of(answer).find(Scope(), Wanted())
    assert [each.slug for each in found.listings] == ["m1", "m2", "m3"]
    assert not found.is_partial
    assert [each.get("after_cursor") for each in asked] == [None, "c1", "c2"]
    assert all("offset" not in each and each["limit"] == "100" for each in asked)


async def test_a_list_without_end_is_left_and_said_to_be_partial() -> None:
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.path)
        page = {"markets": [numbered(len(asked))], "next_cursor": f"c{len(asked)}"}
        return httpx2.Response(200, json=page)

    found = await gamma_of(answer).find(Scope(), Wanted())
    assert (len(asked), len(found.listings), found.is_partial) == (PAGES_MAX, PAGES_MAX, True)


async def test_a_search_without_end_is_left_as_well() -> None:
    page = {"events": [{"slug": "weather", "markets": [ROW]}], "pagination": {"hasMore": True, "totalResults": 9}}
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.params["page"])
        return httpx2.Response(200, json=page)

    found = await gamma_of(answer).find(Scope(text="rain"), Wanted())
    assert asked == [str(number) for number in range(1, SEARCH_PAGES_MAX + 1)]
    assert ([each.slug for each in found.listings], found.is_partial) == (["rain"], True)


async def test_one_strange_row_hides_no_other_and_is_counted() -> None:
    rows = [numbered(1, outcomes=7), numbered(2, liquidityNum="plenty"), numbered(3, conditionId=None), numbered(4)]
    gamma = gamma_of(answering(200, {"markets": rows}))
    found = await gamma.find(Scope(), Wanted())
    assert ([each.slug for each in found.listings], gamma.unreadable) == (["m4"], 3)


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"markets": 3}', b"<html>"])
async def test_no_page_at_all_is_a_typed_error(body: bytes) -> None:
    with pytest.raises(ExchangeUnavailable):
        await gamma_of(answering(200, body)).find(Scope(), Wanted())


async def test_what_is_wanted_is_asked_of_them_too() -> None:
    asked: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        return httpx2.Response(200, json={"markets": [], "events": []})

    gamma = gamma_of(answer)
    late = datetime(2026, 12, 31, 1, tzinfo=timezone(timedelta(hours=1)))
    await gamma.find(Scope(), Wanted(liquidity_min=Notional(1_500_000), ends_before=late))
    await gamma.find(Scope(tag="fed"), Wanted())
    await gamma.find(Scope(tag="159"), Wanted())
    first, named, by_number = (dict(each.url.params) for each in asked)
    assert (first["active"], first["closed"], first["order"]) == ("true", "false", "liquidityNum")
    assert (float(first["liquidity_num_min"]), first["end_date_max"]) == (1.5, "2026-12-31T00:00:00Z")
    assert (named["tag_slug"], by_number["tag_id"]) == ("fed", "159")
    assert all("poly_api_key" not in {name.lower() for name in each.headers} for each in asked)


async def test_a_market_is_found_by_either_spelling_and_when_closed() -> None:
    short = "0x" + "cd" * 31

    def answer(request: httpx2.Request) -> httpx2.Response:
        is_it = request.url.params["condition_ids"] == short and request.url.params["closed"] == "true"
        return httpx2.Response(200, json={"markets": [ROW | {"conditionId": short, "closed": True}] if is_it else []})

    assert (await gamma_of(answer).market(short + "00")).market_id == short + "00"
    with pytest.raises(ConfigError, match="does not know it"):
        await gamma_of(answer).market(CONDITION)


async def test_unknown_names_are_one_sentence() -> None:
    gamma = gamma_of(answering(404, {"type": "not found error", "error": "slug not found"}))
    for ask in (gamma.market("nope"), gamma.event("nope")):
        with pytest.raises(ConfigError, match="'nope': the catalogue does not know it"):
            await ask


@pytest.mark.parametrize(
    ("absent", "attempts", "is_there"), [(ATTEMPTS - 1, ATTEMPTS, True), (ATTEMPTS, ATTEMPTS, False), (1, 1, False)]
)
@pytest.mark.parametrize("early", [(404, {"error": "market not found"}), (200, {"t": []}), (200, {"c": "0x1"})])
async def test_terms_of_a_new_market_are_asked_for_again(
    early: tuple[int, object], absent: int, attempts: int, is_there: bool, autojump_clock: trio.testing.MockClock
) -> None:
    asked: list[float] = []

    def answer(_: httpx2.Request) -> httpx2.Response:
        asked.append(trio.current_time())
        status, body = early if len(asked) <= absent else (200, TERMS)
        return httpx2.Response(status, json=body)

    rest = gateway_of(answer).rest
    terms = await read_terms(rest, MarketId(CONDITION), rng=random.Random(1), attempts=attempts)
    assert (terms is not None) is is_there
    assert len(asked) == min(absent + 1, attempts)
    assert len(set(asked)) == len(asked), "time passes between attempts"
    assert asked[-1] - asked[0] <= 10


async def test_slugs_in_the_settings_are_looked_up_once() -> None:
    looked_up: list[str] = []

    def named(request: httpx2.Request) -> httpx2.Response:
        looked_up.append(request.url.path)
        return httpx2.Response(200, json=ROW)

    routes = {
        "/gamma/markets/slug/rain": named,
        f"/clob-markets/{CONDITION}": TERMS,
        f"/markets/{CONDITION}": {"market_slug": "rain"},
        "/tick-size": {"minimum_tick_size": 0.01},
        "/neg-risk": {"neg_risk": False},
    }
    gateway = gateway_of(routed(routes), condition_ids=(), slugs=("rain",), gamma_url="https://exchange.test/gamma")
    markets = await gateway.load_markets()
    assert [market.market_id for market in markets] == [CONDITION]
    assert await gateway.load_markets() == markets
    again = gateway_of(routed(routes), condition_ids=(), slugs=("rain",), gamma_url="https://exchange.test/gamma")
    again.remember(markets)
    assert await again.reread(MarketId(CONDITION)) == markets[0]
    assert looked_up == ["/gamma/markets/slug/rain"]


# --- against the local exchange ------------------------------------------------------------------------------------


@asynccontextmanager
async def at_local() -> AsyncIterator[tuple[PolymarketStage, Markets]]:
    async with polymarket() as stage:
        transport = stage.gateway.rest._http._client._transport
        async with reading(NAMES, now_ns, transport) as markets:
            yield stage, markets


async def test_every_market_of_the_local_exchange_is_found_by_each_of_its_names(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with at_local() as (stage, markets):
        traded = await stage.gateway.load_markets()
        found = await markets.gamma.find(Scope(), Wanted())
        assert {each.market_id for each in found.listings} == {market.market_id for market in traded}
        for market in traded:
            for name in (market.slug, market.market_id):
                shown, group = await markets.show(name)
                assert (shown.listing.market_id, shown.listing.slug) == (market.market_id, market.slug)
                assert shown.listing.tokens == market.tokens
                assert shown.terms is not None
                assert shown.terms.tokens == market.tokens
                assert bool(group) is market.is_neg_risk


# --- against what the exchange really sent -------------------------------------------------------------------------


@needs("rest")
def test_captured_rows_are_read_and_their_group_is_whole() -> None:
    pages = [json.loads(gzip.decompress(path.read_bytes())) for path in (CAPTURES / "rest").glob("gamma-*/*.gz")]
    event = json.loads(gzip.decompress(next((CAPTURES / "rest").glob("negrisk-*/gamma-event.json.gz")).read_bytes()))
    rows = [row for each in (*pages, event) for row in each["markets"]]
    assert len(rows) == 30
    decoder = msgspec.json.Decoder(MarketRow)
    listings = [listing_of(decode(decoder, json.dumps(row)), today="2026-05-17") for row in rows]
    assert all(len(each.tokens) == 2 and each.end is not None and each.liquidity > 0 for each in listings)
    assert [len(group) for name, group in groups(listings).items() if name == event["negRiskMarketID"]] == [5]
    # They were sent before the second protocol, and name none: we cannot know how to sign for them.
    assert not any(each.is_ready for each in listings)
