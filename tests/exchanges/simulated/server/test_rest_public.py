"""What everybody may read, with the exact types of production."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
import trio

from tbot.exchanges.simulated.server import ServerSettings


def hash_of(book: dict[str, Any]) -> str:
    """The published rule: SHA-1 of the compact JSON in this key order, with an empty hash."""
    keys = (
        "market",
        "asset_id",
        "timestamp",
        "hash",
        "bids",
        "asks",
        "min_order_size",
        "tick_size",
        "neg_risk",
        "last_trade_price",
        *(["version"] if "version" in book else []),
    )
    text = json.dumps({key: "" if key == "hash" else book[key] for key in keys}, separators=(",", ":"))
    return hashlib.sha1(text.encode()).hexdigest()


async def test_service_endpoints(world: Any, autojump_clock: Any) -> None:
    ok = await world.get("/ok")
    assert (ok.body, ok.headers["content-type"]) == (b"OK", "text/plain")
    await trio.sleep(90.5)
    assert (await world.get("/time")).json == 1_767_225_690
    assert (await world.get("/version")).json == {"version": 2}


async def test_book_has_the_best_level_last_and_its_true_hash(world: Any, autojump_clock: Any) -> None:
    for price, size in (("0.40", "10"), ("0.42", "20.5"), ("0.41", "15")):
        await world.alice.placed("BUY", price, size)
    await world.bob.placed("BUY", "0.50", "30", token=world.rain.no)
    book = (await world.get(f"/book?token_id={world.rain.yes}")).json
    assert book["bids"] == [
        {"price": "0.4", "size": "10"},
        {"price": "0.41", "size": "15"},
        {"price": "0.42", "size": "20.5"},
    ]
    assert book["asks"] == [{"price": "0.5", "size": "30"}]
    rest = {key: book[key] for key in ("market", "asset_id", "min_order_size", "tick_size", "neg_risk")}
    assert rest == {
        "market": world.rain.market_id,
        "asset_id": world.rain.yes,
        "min_order_size": "5",
        "tick_size": "0.01",
        "neg_risk": False,
    }
    assert book["last_trade_price"] == ""
    assert book["timestamp"].isdigit()
    assert book["hash"] == hash_of(book)


async def test_captured_book_hashes_by_the_same_rule(vectors: Any) -> None:
    for case in vectors("book_hash.json"):
        assert hash_of(case) == case["hash"]


async def test_book_of_a_position_tells_its_version_under_the_hash(world: Any, autojump_clock: Any) -> None:
    book = (await world.get(f"/book?token_id={world.coin.no}")).json
    assert list(book.items())[-1] == ("version", "v2")
    assert book["hash"] == hash_of(book)
    assert "version" not in (await world.get(f"/book?token_id={world.rain.no}")).json
    socket = await world.market_socket(world.coin.no)
    ((first,),) = await world.heard(socket)
    assert first["hash"] == book["hash"]


async def test_books_leaves_unknown_ones_out(world: Any, autojump_clock: Any) -> None:
    client = await world.rest()
    wanted = [{"token_id": token} for token in (world.rain.yes, "1", world.mayor.no)]
    books = (await client.ask("POST", "/books", json.dumps(wanted).encode())).json
    assert [book["asset_id"] for book in books] == [world.rain.yes, world.mayor.no]
    too_many = json.dumps([{"token_id": "1"}] * 501).encode()
    assert (await client.ask("POST", "/books", too_many)).error == "Payload exceeds the limit"
    assert (await client.ask("POST", "/books", b"{}")).error == "Invalid payload"


async def test_compact_market_parameters(world: Any, autojump_clock: Any) -> None:
    answer = await world.get(f"/clob-markets/{world.rain.market_id}")
    assert answer.json == {
        "t": [{"t": world.rain.yes, "o": "Yes"}, {"t": world.rain.no, "o": "No"}],
        "c": world.rain.market_id,
        "mos": 5,
        "mts": 0.01,
        "mbf": 1000,
        "tbf": 1000,
        "ao": True,
        "aot": "2026-01-01T00:00:00Z",
        "ibce": True,
        "fd": {"r": 0.04, "e": 1, "to": True},
        "v": "v1",
    }
    neg_risk = (await world.get(f"/clob-markets/{world.mayor.market_id}")).json
    assert neg_risk["nr"] is True
    assert "fd" not in neg_risk
    # A V2 market is known here by the 32 bytes of the CLOB only, not by the 31 of the catalogue.
    coin = await world.get(f"/clob-markets/{world.coin.market_id}")
    assert (coin.status, "ibce" in coin.json) == (200, False)
    for unknown in ("0x00", world.coin.market_id[:-2]):
        answer = await world.get(f"/clob-markets/{unknown}")
        assert (answer.status, answer.json) == (404, {"error": "market not found"})


async def test_markets_page_and_single_market_agree(world: Any, autojump_clock: Any) -> None:
    listed = (await world.get("/markets?next_cursor=MA==")).json
    assert (listed["count"], listed["next_cursor"]) == (3, "LTE=")
    single = (await world.get(f"/markets/{world.rain.market_id}")).json
    assert single == listed["data"][0]
    assert (single["minimum_tick_size"], single["minimum_order_size"], single["neg_risk"]) == (0.01, 5, False)
    assert [token["outcome"] for token in single["tokens"]] == ["Yes", "No"]
    assert (await world.get("/markets?next_cursor=LTE=")).json["data"] == []


async def test_market_by_token_puts_the_smaller_number_first(world: Any, autojump_clock: Any) -> None:
    answer = (await world.get(f"/markets-by-token/{world.rain.yes}")).json
    assert answer == {
        "condition_id": world.rain.market_id,
        "primary_token_id": world.rain.no,
        "secondary_token_id": world.rain.yes,
    }


async def test_simplified_markets_are_cut_from_the_full_ones(world: Any, autojump_clock: Any) -> None:
    full = (await world.get("/markets")).json["data"]
    simplified = (await world.get("/simplified-markets")).json["data"]
    keys = ("condition_id", "rewards", "tokens", "active", "closed", "archived", "accepting_orders")
    assert simplified == [{key: market[key] for key in keys} for market in full]
    for path in ("/sampling-markets", "/sampling-simplified-markets"):
        assert (await world.get(path)).json == {"limit": 500, "next_cursor": "LTE=", "count": 0, "data": []}


async def test_many_prices_at_once_leave_unknown_tokens_out(world: Any, autojump_clock: Any) -> None:
    await world.alice.placed("BUY", "0.42", "20")
    await world.bob.placed("BUY", "0.50", "30", token=world.rain.no)
    yes, no = world.rain.yes, world.rain.no
    entries = [(yes, "BUY"), (yes, "SELL"), (no, "sell"), ("7", "BUY")]
    body = json.dumps([{"token_id": token, "side": side} for token, side in entries]).encode()
    client = await world.rest()
    expected = {
        "/prices": {yes: {"BUY": "0.42", "SELL": "0.5"}, no: {"SELL": "0.58"}},
        "/midpoints": {yes: "0.46", no: "0.54"},
        "/spreads": {yes: "0.08", no: "0.08"},
        "/last-trades-prices": [],
    }
    for path, answer in expected.items():
        assert (await client.ask("POST", path, body)).json == answer, path
        assert (await client.ask("POST", path, b"[7]")).error == "Invalid payload"
        assert (await client.ask("POST", path, b'[{"token_id": "1", "side": "BUY"}]')).status == 200
        many = json.dumps([{"token_id": "1"}] * 501).encode()
        assert (await client.ask("POST", path, many)).error == "Payload exceeds the limit"
    wrong = json.dumps([{"token_id": yes, "side": "HOLD"}]).encode()
    assert (await client.ask("POST", "/prices", wrong)).error == "Invalid side"


@pytest.mark.parametrize(("price_of_buy", "buy", "sell"), [("bid", "0.42", "0.5"), ("ask", "0.5", "0.42")])
async def test_what_a_side_of_price_means_is_a_setting(
    make_world: Any, price_of_buy: Any, buy: str, sell: str, autojump_clock: Any
) -> None:
    async with make_world(settings=ServerSettings(price_of_buy=price_of_buy)) as world:
        await world.alice.placed("BUY", "0.42", "20")
        await world.bob.placed("BUY", "0.50", "30", token=world.rain.no)
        yes = world.rain.yes
        for side, price in (("BUY", buy), ("SELL", sell)):
            assert (await world.get(f"/price?token_id={yes}&side={side}")).json == {"price": price}
        body = json.dumps([{"token_id": yes, "side": side} for side in ("BUY", "SELL")]).encode()
        told = (await (await world.rest()).ask("POST", "/prices", body)).json
        assert told == {yes: {"BUY": buy, "SELL": sell}}


async def test_last_trade_is_told_with_the_side_of_its_taker(world: Any, autojump_clock: Any) -> None:
    target = f"/last-trade-price?token_id={world.rain.yes}"
    assert (await world.get(target)).json == {"price": "0.5", "side": ""}
    await world.alice.placed("BUY", "0.40", "20")
    await world.bob.placed("BUY", "0.60", "10", token=world.rain.no)
    assert (await world.get(target)).json == {"price": "0.4", "side": "BUY"}, "as books tell it"
    client = await world.rest()
    wanted = [{"token_id": token} for token in (world.rain.yes, world.mayor.yes)]
    told = (await client.ask("POST", "/last-trades-prices", json.dumps(wanted).encode())).json
    assert told == [{"token_id": world.rain.yes, "price": "0.4", "side": "BUY"}]


async def test_parameters_and_prices(world: Any, autojump_clock: Any) -> None:
    await world.alice.placed("BUY", "0.42", "20")
    await world.bob.placed("BUY", "0.50", "30", token=world.rain.no)
    expected = {
        "/tick-size?": {"minimum_tick_size": 0.01},
        "/neg-risk?": {"neg_risk": False},
        "/fee-rate?": {"base_fee": 1000},
        "/midpoint?": {"mid": "0.46"},
        "/spread?": {"spread": "0.08"},
        "/price?side=BUY&": {"price": "0.42"},
        "/price?side=SELL&": {"price": "0.5"},
    }
    for path, answer in expected.items():
        assert (await world.get(f"{path}token_id={world.rain.yes}")).json == answer, path
    assert (await world.get(f"/tick-size/{world.rain.yes}")).json == {"minimum_tick_size": 0.01}


@pytest.mark.parametrize(
    ("target", "status", "text"),
    [
        ("/book", 400, "Invalid token id"),
        ("/book?token_id=abc", 400, "Invalid token id"),
        ("/book?token_id=123", 404, "No orderbook exists for the requested token id"),
        ("/price?token_id=123&side=HOLD", 400, "Invalid side"),
        ("/markets?next_cursor=xyz", 400, "invalid next_cursor"),
        ("/markets-by-token/123", 404, "market not found"),
        ("/fees/builder-fees/0xab", 404, "builder code not found"),
        ("/last-trade-price?token_id=123", 404, "No orderbook exists for the requested token id"),
        ("/nothing", 404, "not found"),
        ("/markets/../ok", 404, "not found"),
        ("//ok", 404, "not found"),
        ("/order", 405, "method not allowed"),
    ],
)
async def test_bad_question_gets_the_documented_error(
    world: Any, autojump_clock: Any, target: str, status: int, text: str
) -> None:
    answer = await world.get(target)
    assert (answer.status, answer.json) == (status, {"error": text})
