"""The Data API: what wallets have and did, page by page, once it is settled; and what is refused."""

from __future__ import annotations

import random
from typing import Any
from urllib.parse import urlencode

import pytest
import trio

from tbot.exchanges.simulated.wallets import deposit_wallet, proxy_wallet, safe_wallet

STRANGER = "0x" + "11" * 20


async def get(world: Any, path: str, **query: Any) -> Any:
    asked = {name: value.account.address if hasattr(value, "account") else value for name, value in query.items()}
    return await world.get(f"/data-api/v2/{path}?{urlencode(asked)}")


async def rows(world: Any, path: str, **query: Any) -> Any:
    answer = await get(world, path, **query)
    assert answer.status == 200, answer.body
    return answer.json["data"]


async def control(world: Any, verb: str, trader: Any = None, **body: Any) -> None:
    named = body if trader is None else {"account": trader.account.address, **body}
    answer = await world.control(verb, **named)
    assert answer.status == 200, answer.body


async def met(world: Any) -> None:
    """Alice buys 20 YES at 0.40 in two lots from Bob, who pays 0.60 for NO each time; all is settled."""
    await world.alice.placed("BUY", "0.40", "20")
    for _ in range(2):
        await world.bob.placed("BUY", "0.60", "10", token=world.rain.no)
    await trio.sleep(3)


async def test_position_has_what_was_bought_and_what_it_cost(world: Any, autojump_clock: Any) -> None:
    await met(world)
    await world.bob.placed("BUY", "0.45", "10")
    await world.alice.placed("SELL", "0.45", "5")
    await trio.sleep(3)
    (yes,) = await rows(world, "positions", user=world.alice)
    assert (yes["token_id"], yes["condition_id"]) == (world.rain.yes, world.rain.market_id)
    assert (yes["outcome"], yes["outcome_index"], yes["opposite_token_id"]) == ("Yes", 0, world.rain.no)
    assert (yes["current_size"], yes["avg_price"], yes["total_size"]) == (15, 0.4, 20)
    assert (yes["entry_cost_usdc"], yes["total_cost_usdc"]) == (6, 8)
    # The midpoint: 0.45 bid by Bob, nothing asked.
    assert (yes["current_price"], yes["current_value"]) == (0.725, 10.875)
    assert (yes["realized_pnl"], yes["unrealized_pnl"], yes["total_pnl"]) == (0.25, 4.875, 5.125)
    assert (yes["percent_pnl"], yes["percent_realized_pnl"]) == (64.0625, 3.125)
    assert (yes["status"], yes["redeemable"], yes["mergeable"]) == ("OPEN", False, False)
    assert yes["proxy_wallet"] == world.alice.account.address
    own = {row["outcome"]: row for row in await rows(world, "positions", user=world.bob)}
    assert {name: row["current_size"] for name, row in own.items()} == {"Yes": 5, "No": 20}
    assert all(row["mergeable"] for row in own.values())
    # A taker's fee is told apart: 0.04 x 0.6 x 0.4 x 20.
    assert (own["No"]["entry_cost_usdc"], own["No"]["entry_fees_usdc"]) == (12, 0.192)


async def test_nothing_is_there_before_it_is_settled(world: Any, autojump_clock: Any) -> None:
    await world.alice.placed("BUY", "0.40", "20")
    await world.bob.placed("BUY", "0.60", "10", token=world.rain.no)
    assert len((await world.alice.ask("GET", "/data/trades")).json["data"]) == 1
    for path in ("positions", "trades"):
        assert await rows(world, path, user=world.alice, **({"taker_only": "false"} if path == "trades" else {})) == []
    await trio.sleep(3)
    assert len(await rows(world, "positions", user=world.alice)) == 1
    assert len(await rows(world, "trades", user=world.alice, taker_only="false")) == 1


async def test_wallet_is_named_in_any_case_and_strangers_have_nothing(world: Any, autojump_clock: Any) -> None:
    await met(world)
    shown = await rows(world, "positions", user=world.alice)
    address = world.alice.account.address
    for spelling in (address.lower(), "0x" + address[2:].upper()):
        assert await rows(world, "positions", user=spelling) == shown
    assert await rows(world, "positions", user=STRANGER) == []
    assert await rows(world, "value", user=STRANGER) == {"proxy_wallet": STRANGER, "value": 0}


async def test_life_of_a_position_to_its_end(ruled: Any, autojump_clock: Any) -> None:
    market = ruled.rain.market_id
    await control(ruled, "split", ruled.alice, market=market, size="10")
    await control(ruled, "merge", ruled.alice, market=market, size="4")
    pair = await rows(ruled, "positions", user=ruled.alice, status="MERGEABLE")
    assert [(row["avg_price"], row["current_size"]) for row in pair] == [(0.5, 6), (0.5, 6)]
    await control(ruled, "resolve", market=market, outcome="NO")
    assert await rows(ruled, "positions", user=ruled.alice, status="OPEN") == []
    won, lost = await rows(ruled, "positions", user=ruled.alice, sort_by="PRICE")
    assert (won["outcome"], won["status"], won["current_price"], won["unrealized_pnl"]) == ("No", "REDEEMABLE", 1, 3)
    assert (lost["outcome"], lost["status"], lost["current_value"]) == ("Yes", "REDEEMABLE", 0)
    assert await rows(ruled, "positions", user=ruled.alice, status="REDEEMABLE_LOST") == [lost]
    assert (await rows(ruled, "value", user=ruled.alice))["value"] == 6
    await control(ruled, "redeem", ruled.alice, market=market)
    assert await rows(ruled, "positions", user=ruled.alice) == []
    gone = await rows(ruled, "positions", user=ruled.alice, status="CLOSED")
    assert [(row["outcome"], row["realized_pnl"], row["status"]) for row in gone] == [
        ("No", 3, "CLOSED"),
        ("Yes", -3, "CLOSED"),
    ]


async def test_dust_is_hidden_unless_asked_for(ruled: Any, autojump_clock: Any) -> None:
    await control(ruled, "split", ruled.alice, market=ruled.rain.market_id, size="0.09")
    assert await rows(ruled, "positions", user=ruled.alice) == []
    asked = await rows(ruled, "positions", user=ruled.alice, filter_type="TOKENS", filter_amount="0")
    assert [row["current_size"] for row in asked] == [0.09, 0.09]


async def test_market_shows_everybody_who_holds_it(ruled: Any, autojump_clock: Any) -> None:
    for trader, size in ((ruled.alice, "10"), (ruled.bob, "20")):
        await control(ruled, "split", trader, market=ruled.coin.market_id, size=size)
    # Of a V2 market the catalogue tells 31 bytes; both spellings find it.
    for spelling in (ruled.coin.market_id, ruled.coin.market_id[:-2]):
        found = await rows(ruled, "positions", condition_id=spelling, sort_by="TOKENS")
        assert [row["current_size"] for row in found] == [20, 20, 10, 10]
        assert {row["condition_id"] for row in found} == {ruled.coin.market_id}


@pytest.mark.parametrize(
    ("query", "sizes"),
    [
        ({}, [20, 20, 10, 10]),
        ({"sort_by": "TOKENS", "sort_direction": "ASC"}, [10, 10, 20, 20]),
        ({"title": "MAYOR%elec"}, [20, 20]),
        ({"title": "mayor_re"}, [20, 20]),
        ({"title": "elec%mayor"}, []),
        ({"event_id": 30001}, [10, 10]),
        ({"event_id": "30001,30002"}, [20, 20, 10, 10]),
        ({"filter_type": "CASH", "filter_amount": "5.01"}, [20, 20]),
        ({"filter_type": "TOKENS", "filter_amount": "10.5"}, [20, 20]),
        ({"start": 9_000_000_000}, []),
        ({"end": 1}, []),
    ],
)
async def test_filters(ruled: Any, autojump_clock: Any, query: dict[str, Any], sizes: list[int]) -> None:
    for rules, size in ((ruled.rain, "10"), (ruled.mayor, "20")):
        await control(ruled, "split", ruled.alice, market=rules.market_id, size=size)
    assert [row["current_size"] for row in await rows(ruled, "positions", user=ruled.alice, **query)] == sizes


async def test_trades_are_told_to_takers_and_to_makers_who_ask(world: Any, autojump_clock: Any) -> None:
    await met(world)
    assert await rows(world, "trades", user=world.alice) == []
    made = await rows(world, "trades", user=world.alice, taker_only="false")
    assert [(row["side"], row["price"], row["size"], row["outcome"]) for row in made] == [("BUY", 0.4, 10, "Yes")] * 2
    taken = await rows(world, "trades", user=world.bob)
    assert [(row["side"], row["price"], row["size"], row["outcome"]) for row in taken] == [("BUY", 0.6, 10, "No")] * 2
    recorded = (await world.bob.ask("GET", "/data/trades")).json["data"]
    assert {row["transaction_hash"] for row in taken} == {record["transaction_hash"] for record in recorded}
    assert len(await rows(world, "trades")) == 2
    assert len(await rows(world, "trades", taker_only="false")) == 4
    assert await rows(world, "trades", condition_id=world.mayor.market_id) == []
    assert await rows(world, "trades", side="SELL") == []
    assert len(await rows(world, "trades", filter_type="CASH", filter_amount="6")) == 2
    assert await rows(world, "trades", filter_type="CASH", filter_amount="6.01") == []


async def test_activity_tells_everything_that_moved(ruled: Any, autojump_clock: Any) -> None:
    market = ruled.rain.market_id
    await control(ruled, "split", ruled.bob, market=market, size="7")
    await met(ruled)
    await control(ruled, "merge", ruled.bob, market=market, size="2")
    await control(ruled, "resolve", market=market, outcome="50-50")
    await control(ruled, "redeem", ruled.bob, market=market)
    told = await rows(ruled, "activity", user=ruled.bob)
    assert [(row["type"], row["size"], row["usdc_size"], row["outcome_index"]) for row in told] == [
        ("REDEEM", 5, 2.5, 0),
        ("REDEEM", 25, 12.5, 1),
        ("MERGE", 2, 2, 999),
        ("TRADE", 10, 6, 1),
        ("TRADE", 10, 6, 1),
        ("SPLIT", 7, 7, 999),
    ]
    rising = await rows(ruled, "activity", user=ruled.bob, sort_direction="ASC", type="SPLIT,MERGE")
    assert [row["type"] for row in rising] == ["SPLIT", "MERGE"]
    paid_in = await rows(ruled, "activity", user=ruled.bob, exclude_deposits_withdrawals="false", type="DEPOSIT")
    assert [(row["usdc_size"], row["condition_id"]) for row in paid_in] == [(10_000, "")]
    assert await rows(ruled, "activity", user=ruled.bob, condition_id=ruled.mayor.market_id) == []


async def test_approvals_are_those_of_wallets_somebody_owns(world: Any, autojump_clock: Any) -> None:
    owner = world.alice.account.address
    for wallet in (owner, proxy_wallet(owner), safe_wallet(owner), deposit_wallet(owner)):
        told = await rows(world, "approvals", user=wallet)
        assert (told["address"], told["chain_id"], len(told["contracts"])) == (wallet.lower(), 137, 17)
        assert all(row["approved"] for row in told["contracts"])
        assert {(row["standard"], row["amount"]) for row in told["contracts"]} == {("ERC20", "max"), ("ERC1155", None)}
    told = await rows(world, "approvals", user=STRANGER)
    assert not any(row["approved"] for row in told["contracts"])
    assert {row["amount"] for row in told["contracts"]} == {"0", None}
    assert len({(row["token"], row["spender"]) for row in told["contracts"]}) == 17


# --- markets ---------------------------------------------------------------------------------------------------------


async def test_resolution_is_told_with_its_payouts_and_time(ruled: Any, autojump_clock: Any) -> None:
    market = ruled.rain.market_id
    (before,) = await rows(ruled, "resolutions", condition_id=market)
    assert (before["status"], before["payouts"], before["resolved_at"]) == ("initialized", None, None)
    await trio.sleep(100)
    await control(ruled, "resolve", market=market, outcome="50-50")
    await trio.sleep(100)
    (after,) = await rows(ruled, "resolutions", condition_id=market)
    assert (after["status"], after["payouts"], after["reporter"]) == ("resolved", [500_000, 500_000], "EOA")
    assert after["resolved_at"] == after["last_update_timestamp"] == 1_767_225_600 + 100
    assert await rows(ruled, "resolutions", question_id=after["question_id"]) == [after]
    assert len(await rows(ruled, "resolutions", event_id="30001,30002")) == 2
    await control(ruled, "resolve", market=ruled.mayor.market_id, outcome="NO")
    (mayor,) = await rows(ruled, "resolutions", condition_id=ruled.mayor.market_id)
    assert (mayor["payouts"], mayor["market_type"]) == ([0, 1_000_000], "INCREMENTAL_NEGRISK")


async def test_tokens_are_told_apart(ruled: Any, autojump_clock: Any) -> None:
    await control(ruled, "resolve", market=ruled.rain.market_id, outcome="YES")
    asked = f"{ruled.rain.no},00{ruled.coin.yes}"
    rain, coin = await rows(ruled, "tokens", token_id=asked)
    assert (rain["token_id"], rain["module"], rain["outcome"], rain["outcome_index"]) == (
        ruled.rain.no,
        "v1_ctf",
        "No",
        1,
    )
    assert (rain["resolved"], rain["final_price"], rain["closed"]) == (True, 0, True)
    assert (coin["module"], coin["structural_condition_id"], coin["resolved"]) == (
        "binary",
        ruled.coin.market_id,
        False,
    )
    both = await rows(ruled, "tokens", condition=ruled.coin.market_id[:-2])
    assert [row["opposite_token_id"] for row in both] == [ruled.coin.no, ruled.coin.yes]


async def test_open_interest_and_volume_are_those_of_the_books(ruled: Any, autojump_clock: Any) -> None:
    await control(ruled, "split", ruled.alice, market=ruled.mayor.market_id, size="7")
    await met(ruled)
    assert await rows(ruled, "oi") == [{"condition_id": "GLOBAL", "value": 27}]
    assert await rows(ruled, "oi", condition_id=ruled.rain.market_id) == [
        {"condition_id": ruled.rain.market_id, "value": 20}
    ]
    volume = await rows(ruled, "live-volume", event_id=30001)
    assert volume == {
        "taker_volume_total": 20,
        "conditions": [{"condition_id": ruled.rain.market_id, "taker_volume": 20}],
    }


# --- pages -----------------------------------------------------------------------------------------------------------


async def all_pages(world: Any, path: str, between: Any = None, **query: Any) -> list[Any]:
    """Walk through every page; something may happen in between."""
    found: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        body = (await get(world, path, **query, **cursor)).json
        found += body["data"]
        pagination = body["pagination"]
        assert pagination["has_more"] is (pagination["next_cursor"] is not None)
        assert pagination["limit"] == query.get("limit", 100)
        assert pagination["offset"] + len(body["data"]) >= len(body["data"])
        if not pagination["has_more"]:
            return found
        assert len(body["data"]) == pagination["limit"]
        cursor = {"cursor": pagination["next_cursor"]}
        if between is not None:
            await between()


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 6, 7])
async def test_pages_together_are_the_whole_list(ruled: Any, autojump_clock: Any, limit: int) -> None:
    for rules in (ruled.rain, ruled.mayor, ruled.coin):
        for trader in (ruled.alice, ruled.bob):
            await control(ruled, "split", trader, market=rules.market_id, size="10")
    await met(ruled)
    for path, query in (
        ("positions", {"user": ruled.alice}),
        ("activity", {"user": ruled.alice}),
        ("trades", {"taker_only": "false"}),
    ):
        whole = await rows(ruled, path, **query)
        assert len(whole) in (4, 5, 6)
        assert await all_pages(ruled, path, limit=limit, **query) == whole


async def test_rows_that_come_while_one_pages_neither_repeat_nor_hide_others(ruled: Any, autojump_clock: Any) -> None:
    for _ in range(5):
        await control(ruled, "split", ruled.alice, market=ruled.rain.market_id, size="1")
    before = await rows(ruled, "activity", user=ruled.alice)

    async def split_again() -> None:
        await control(ruled, "split", ruled.alice, market=ruled.rain.market_id, size="3")

    assert await all_pages(ruled, "activity", split_again, limit=1, user=ruled.alice) == before


# --- refusals --------------------------------------------------------------------------------------------------------

CONDITION = "0x" + "a1" * 32
ROUTES = ("positions", "trades", "activity", "value", "approvals", "resolutions", "tokens", "oi", "live-volume")


@pytest.mark.parametrize(
    ("path", "query", "parameter"),
    [
        ("positions", {}, "user"),
        ("positions", {"user": "0x1"}, "user"),
        ("positions", {"user": "0x" + "g" * 40}, "user"),
        ("positions", {"condition_id": f"{CONDITION},0x{'b2' * 32}"}, "user"),
        ("positions", {"condition_id": "0x" + "a1" * 31, "user": STRANGER}, "condition_id"),
        ("positions", {"condition_id": ",".join(f"0x{n:064x}" for n in range(21)), "user": STRANGER}, "condition_id"),
        ("positions", {"condition_id": CONDITION, "event_id": 1, "user": STRANGER}, "event_id"),
        ("positions", {"event_id": "0", "user": STRANGER}, "event_id"),
        ("positions", {"event_id": 1 << 31, "user": STRANGER}, "event_id"),
        ("positions", {"condition_id": CONDITION, "status": "MERGEABLE"}, "user"),
        ("positions", {"status": "LOST", "user": STRANGER}, "status"),
        ("positions", {"status": "CLOSED", "include_archived": "true", "user": STRANGER}, "include_archived"),
        ("positions", {"sort_by": "LUCK", "user": STRANGER}, "sort_by"),
        ("positions", {"sort_direction": "UP", "user": STRANGER}, "sort_direction"),
        ("positions", {"limit": 0, "user": STRANGER}, "limit"),
        ("positions", {"limit": 1001, "user": STRANGER}, "limit"),
        ("positions", {"limit": "ten", "user": STRANGER}, "limit"),
        ("positions", {"limit": "٣", "user": STRANGER}, "limit"),
        ("positions", {"cursor": "what?", "user": STRANGER}, "cursor"),
        ("positions", {"cursor": "bm90aGluZw==", "user": STRANGER}, "cursor"),
        ("positions", {"filter_type": "CASH", "user": STRANGER}, "filter_amount"),
        ("positions", {"start": "yesterday", "user": STRANGER}, "start"),
        ("positions", {"title": "x" * 201, "user": STRANGER}, "title"),
        ("trades", {"side": "buy"}, "side"),
        ("trades", {"taker_only": "perhaps"}, "taker_only"),
        ("trades", {"filter_type": "CASH"}, "filter_amount"),
        ("trades", {"filter_amount": "1"}, "filter_amount"),
        ("trades", {"filter_type": "CASH", "filter_amount": "nan"}, "filter_amount"),
        ("trades", {"filter_type": "CASH", "filter_amount": "-1"}, "filter_amount"),
        ("trades", {"start": "yesterday"}, "start"),
        ("trades", {"end": 253_402_300_800}, "end"),
        ("activity", {}, "user"),
        ("activity", {"user": STRANGER, "type": "DREAM"}, "type"),
        ("value", {}, "user"),
        ("approvals", {"user": "me"}, "user"),
        ("resolutions", {}, "condition_id"),
        ("resolutions", {"condition_id": CONDITION, "question_id": CONDITION}, "condition_id"),
        ("resolutions", {"condition_id": "0x01" + "a1" * 30}, "condition_id"),
        ("tokens", {}, "token_id"),
        ("tokens", {"token_id": "x1"}, "token_id"),
        ("tokens", {"token_id": ",".join(map(str, range(1, 52)))}, "token_id"),
        ("tokens", {"condition": ",".join(f"0x{n:064x}" for n in range(11))}, "condition_id"),
        ("oi", {"condition_id": "0x1"}, "condition_id"),
        ("live-volume", {}, "event_id"),
    ],
)
async def test_what_cannot_be_read_is_refused(
    world: Any, autojump_clock: Any, path: str, query: dict[str, Any], parameter: str
) -> None:
    await met(world)
    answer = await get(world, path, **query)
    assert answer.status == 400, answer.body
    told = answer.json
    assert set(told) == {"error", "code", "retryable", "trace_id", "parameter"}
    assert (told["parameter"], told["retryable"], told["code"]) == (parameter, False, "invalid_parameter")
    assert parameter in told["error"]


async def test_cursor_of_another_question_is_refused(ruled: Any, autojump_clock: Any) -> None:
    for trader in (ruled.alice, ruled.bob):
        await control(ruled, "split", trader, market=ruled.rain.market_id, size="10")
    cursor = (await get(ruled, "positions", user=ruled.alice, limit=1)).json["pagination"]["next_cursor"]
    assert len(await rows(ruled, "positions", user=ruled.alice, limit=5, cursor=cursor)) == 1
    for changed in ({"user": ruled.bob}, {"user": ruled.alice, "sort_by": "TOKENS"}):
        answer = await get(ruled, "positions", cursor=cursor, **changed)
        assert (answer.status, answer.json["parameter"]) == (400, "cursor")


async def test_no_query_brings_the_exchange_down(world: Any, autojump_clock: Any) -> None:
    await met(world)
    rng = random.Random(11)
    names = (
        *("user", "condition_id", "condition", "event_id", "status", "title", "filter_type", "filter_amount", "type"),
        *(
            "sort_by",
            "sort_direction",
            "start",
            "end",
            "cursor",
            "limit",
            "side",
            "taker_only",
            "include_archived",
            "token_id",
        ),
        "question_id",
    )
    values = (
        *("", "0", "-1", "1" * 400, "0x" + "f" * 64, world.alice.account.address, CONDITION, "%" * 150, "_%" * 100),
        *("\x00", "CASH", "OPEN", "true", "1e400", "inf", "ASC", "W10=", "WyJhIiwiYiIsLTFd", "٣", "\ud7ff"),
    )
    client = await world.rest()
    for _ in range(150):
        query = urlencode([(rng.choice(names), rng.choice(values)) for _ in range(rng.randint(0, 4))])
        path = rng.choice(ROUTES)
        answer = await client.ask("GET", f"/data-api/v2/{path}?{query}")
        assert answer.status in (200, 400), (path, query, answer.body)
        assert b"Traceback" not in answer.body


@pytest.mark.parametrize("path", ["positions", "trades", "activity", "resolutions", "tokens", "oi", "value"])
async def test_either_spelling_selects_the_same(world: Any, autojump_clock: Any, path: str) -> None:
    await world.bob.placed("BUY", "0.60", "100", token=world.rain.no)
    await world.alice.placed("BUY", "0.40", "10")
    await trio.sleep(5)
    user = {} if path in ("resolutions", "tokens", "oi") else {"user": world.alice.account.address}
    market, other = world.rain.market_id, world.mayor.market_id

    async def ask(**query: str) -> Any:
        answer = await world.get(f"/data-api/v2/{path}?{urlencode({**user, **query})}")
        assert answer.status == 200, answer.body
        return answer.json

    assert await ask(condition=market) == await ask(condition_id=market)
    assert await ask(condition=market) != await ask(condition=other)


async def test_event_may_be_asked_for_by_either_name(world: Any, autojump_clock: Any) -> None:
    number = world.server._state.catalog.events(world.now_ns())[0].number
    told = [(await world.get(f"/data-api/v2/live-volume?{name}={number}")).json for name in ("event", "event_id")]
    assert told[0] == told[1]
    assert told[0]["data"]["conditions"]


@pytest.mark.parametrize("asked", ["GET /v2/leaderboard 404", "GET /positions 404", "POST /v2/positions 405"])
async def test_what_is_not_there_is_told_in_the_shape_of_the_data_api(
    world: Any, autojump_clock: Any, asked: str
) -> None:
    method, path, status = asked.split()
    answer = await (await world.rest()).ask(method, f"/data-api{path}", b"")
    code = {"404": "not_found", "405": "method_not_allowed"}[status]
    assert (answer.status, answer.json["code"], answer.json["retryable"]) == (int(status), code, False)
    assert set(answer.json) == {"error", "code", "retryable", "trace_id"}
    elsewhere = await (await world.rest()).ask("GET", "/nowhere", b"")
    assert (elsewhere.status, elsewhere.json) == (404, {"error": "not found"})


async def test_no_two_rows_of_a_taker_share_a_hash_and_each_has_the_price_of_its_whole_match(
    world: Any, autojump_clock: Any
) -> None:
    orders = []
    for prices in (("0.40", "0.41"), ("0.42",), ("0.37", "0.41", "0.43")):
        for price in prices:
            await world.alice.placed("BUY", price, "10")
        orders.append(await world.bob.placed("BUY", "0.70", str(10 * len(prices)), token=world.rain.no))
    await trio.sleep(3)
    taken = await rows(world, "trades", user=world.bob)
    assert [(row["size"], row["price"]) for row in taken] == [(30, 17_900_000 / 30_000_000), (10, 0.58), (20, 0.595)]
    assert len({row["transaction_hash"] for row in taken}) == len(taken)
    told = {row["taker_order_id"]: row for row in (await world.bob.ask("GET", "/data/trades")).json["data"]}
    assert [told[order]["transaction_hash"] for order in orders] == [row["transaction_hash"] for row in taken[::-1]]
    assert [told[order]["price"] for order in orders] == ["0.595", "0.58", "0.596666"]
    made = await rows(world, "trades", user=world.alice, taker_only="false")
    assert {(row["size"], row["price"]) for row in made[:3]} == {(10, 0.37), (10, 0.41), (10, 0.43)}
