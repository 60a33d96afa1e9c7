"""Orders through the front door: signed requests in, Polymarket's answers out."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tbot.core.units import MICRO, Notional
from tbot.exchanges.simulated.accounts import PlayAccount
from tbot.exchanges.simulated.operations import Account

NOT_FOUND_ID = "0x" + "ee" * 32


async def test_resting_order_is_live_and_listed(world: Any, autojump_clock: Any) -> None:
    answer = await world.alice.place("BUY", "0.56", "21.04")
    assert answer.status == 200
    assert answer.json == {
        "errorMsg": "",
        "orderID": answer.json["orderID"],
        "takingAmount": "",
        "makingAmount": "",
        "status": "live",
        "transactionsHashes": [],
        "tradeIDs": [],
        "success": True,
    }
    listed = (await world.alice.ask("GET", "/data/orders")).json
    assert {key: listed[key] for key in ("limit", "next_cursor", "count")} == {
        "limit": 100,
        "next_cursor": "LTE=",
        "count": 1,
    }
    assert listed["data"] == [
        {
            "id": answer.json["orderID"],
            "status": "LIVE",
            "owner": world.alice.credentials.api_key,
            "maker_address": world.alice.account.address,
            "market": world.rain.market_id,
            "asset_id": world.rain.yes,
            "side": "BUY",
            "original_size": "21.04",
            "size_matched": "0",
            "price": "0.56",
            "outcome": "Yes",
            "expiration": "0",
            "order_type": "GTC",
            "associate_trades": [],
            "created_at": 1_767_225_600,
        }
    ]
    assert (await world.alice.ask("GET", f"/data/order/{answer.json['orderID']}")).json == listed["data"][0]


async def test_mint_match_answers_decimals_and_shows_the_trade_to_both_sides(world: Any, autojump_clock: Any) -> None:
    maker_id = await world.bob.placed("BUY", "0.42", "100", token=world.rain.no)
    answer = await world.alice.place("BUY", "0.60", "50")
    assert (answer.json["status"], answer.json["takingAmount"], answer.json["makingAmount"]) == ("matched", "50", "29")
    (trade_id,) = answer.json["tradeIDs"]
    mine = (await world.alice.ask("GET", f"/data/trades?id={trade_id}")).json["data"][0]
    assert mine["maker_orders"] == [
        {
            "order_id": maker_id,
            "owner": world.bob.credentials.api_key,
            "maker_address": world.bob.account.address,
            "matched_amount": "50",
            "price": "0.42",
            "fee_rate_bps": "0",
            "asset_id": world.rain.no,
            "outcome": "No",
            "outcome_index": 1,
            "side": "BUY",
        }
    ]
    del mine["maker_orders"]
    assert mine == {
        "id": trade_id,
        "taker_order_id": answer.json["orderID"],
        "market": world.rain.market_id,
        "asset_id": world.rain.yes,
        "side": "BUY",
        "size": "50",
        "fee_rate_bps": "1000",
        "price": "0.58",
        "status": "MATCHED",
        "match_time": "1767225600",
        "match_time_nano": mine["match_time_nano"],
        "last_update": "1767225600",
        "outcome": "Yes",
        "bucket_index": 0,
        "owner": world.alice.credentials.api_key,
        "maker_address": world.alice.account.address,
        "transaction_hash": "",
        "trader_side": "TAKER",
    }
    theirs = (await world.bob.ask("GET", "/data/trades")).json["data"][0]
    assert (theirs["id"], theirs["trader_side"], theirs["asset_id"]) == (trade_id, "MAKER", world.rain.yes)


async def test_trade_gets_its_hash_when_mined(world: Any, autojump_clock: Any) -> None:
    await world.bob.placed("BUY", "0.42", "100", token=world.rain.no)
    await world.alice.placed("BUY", "0.60", "50")
    await trio.sleep(2.5)
    trade = (await world.alice.ask("GET", "/data/trades")).json["data"][0]
    assert trade["status"] == "MINED"
    assert len(trade["transaction_hash"]) == 66
    await trio.sleep(4)
    assert (await world.alice.ask("GET", "/data/trades")).json["data"][0]["status"] == "CONFIRMED"


async def test_neg_risk_order_is_signed_for_the_other_contract(world: Any, autojump_clock: Any) -> None:
    assert (await world.alice.place("BUY", "0.30", "10", token=world.mayor.yes)).status == 200
    wrong = {"verifyingContract": "0xE111180000d2663C0091e4f400237545B87B996B"}
    answer = await world.alice.place("BUY", "0.30", "10", token=world.mayor.yes, domain=wrong)
    assert (answer.status, answer.error) == (400, "invalid signature")


async def test_market_buy_spends_its_budget_at_the_better_price(world: Any, autojump_clock: Any) -> None:
    await world.bob.placed("BUY", "0.50", "100", token=world.rain.no)
    answer = await world.alice.place("BUY", "0.52", "0", order_type="FAK", amounts=(10_000_000, 19_230_700))
    assert (answer.json["makingAmount"], answer.json["takingAmount"]) == ("10", "20")


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "off grid": ({"price": "0.563"}, "breaks minimum tick size rule: 0.01"),
    "too small": ({"size": "4"}, "Size (4) lower than the minimum: 5"),
    "beyond balance": ({"size": "20000"}, "not enough balance / allowance"),
    "zero amount": ({"amounts": (0, 5_000_000)}, "Invalid order payload"),
    "amounts that do not fit": ({"amounts": (11_782_401, 21_040_000)}, "but the value submited is '11.782401'"),
    "no such token": ({"token": "12345"}, "Invalid order payload"),
    "gtc with expiration": ({"expiration": "1767229200"}, "invalid expiration"),
    "gtd too near": ({"expiration": "1767225700", "order_type": "GTD"}, "invalid expiration"),
    "gtd without end": ({"order_type": "GTD"}, "invalid expiration"),
    "gtd beyond all years": ({"order_type": "GTD", "expiration": "9" * 30}, "invalid expiration"),
    "fak without a match": ({"order_type": "FAK", "size": "20"}, "no orders found to match with FAK order."),
    "fok without a match": (
        {"order_type": "FOK", "size": "20"},
        "order couldn't be fully filled. FOK orders are fully filled or killed.",
    ),
    "fine shares of a market buy": (
        {"order_type": "FAK", "amounts": (10_000_000, 19_230_769)},
        "taker amount a max of 4 decimals",
    ),
    "post-only fok under a dollar": (
        {"order_type": "FOK", "post_only": True, "price": "0.01", "size": "10"},
        "only GTC and GTD orders can be post-only",
    ),
    "other chain": ({"domain": {"chainId": 80002}}, "invalid signature"),
    "version 1 domain": ({"domain": {"version": "1"}}, "invalid signature"),
    "somebody else's wallet": ({"maker": "0x" + "11" * 20}, "invalid signature"),
    "somebody else's key": ({"signer": "0x" + "11" * 20}, "the order signer address has to be the address of the API"),
    "wrong kind of wallet": ({"signatureType": 1}, "invalid signature"),
    "no deposit wallet": ({"signatureType": 3}, "invalid signature"),
}


@pytest.mark.parametrize("case", REFUSALS, ids=str)
async def test_order_is_refused_with_the_exact_text(world: Any, autojump_clock: Any, case: str) -> None:
    changes, text = REFUSALS[case]
    wish: dict[str, Any] = {"price": "0.56", "size": "21.04", **changes}
    answer = await world.alice.place("BUY", wish.pop("price"), wish.pop("size"), **wish)
    assert answer.status == 400
    assert text in answer.error
    assert (await world.alice.ask("GET", "/data/orders")).json["data"] == []


TEXTS = (
    *("maker", "signer", "tokenId", "makerAmount", "takerAmount"),
    *("expiration", "timestamp", "metadata", "builder", "signature"),
)


@pytest.mark.parametrize("field", TEXTS)
async def test_text_with_a_line_break_at_its_end_is_refused(world: Any, autojump_clock: Any, field: str) -> None:
    body = world.alice.order("BUY", "0.56", "21.04")
    body["order"][field] += "\n"
    answer = await world.alice.ask("POST", "/order", body)
    assert (answer.status, answer.json) == (400, {"error": "Invalid order payload"})
    assert (await world.alice.ask("GET", "/data/orders")).json["data"] == []


async def test_same_order_twice_is_duplicated(world: Any, autojump_clock: Any) -> None:
    body = world.alice.order("BUY", "0.56", "21.04")
    first = await world.alice.ask("POST", "/order", body)
    second = await world.alice.ask("POST", "/order", body)
    assert second.error == f"order {first.json['orderID']} is invalid. Duplicated."


async def test_post_only_that_would_cross_is_refused(world: Any, autojump_clock: Any) -> None:
    await world.bob.placed("BUY", "0.50", "100", token=world.rain.no)
    answer = await world.alice.place("BUY", "0.50", "10", post_only=True)
    assert answer.error == "invalid post-only order: order crosses book"


async def test_owner_must_be_the_api_key(world: Any, autojump_clock: Any) -> None:
    body = world.alice.order("BUY", "0.56", "21.04") | {"owner": world.bob.credentials.api_key}
    answer = await world.alice.ask("POST", "/order", body)
    assert answer.error == "the order owner has to be the owner of the API KEY"


async def test_field_changed_after_signing_is_noticed(world: Any, autojump_clock: Any) -> None:
    for name, value in (("salt", 99), ("makerAmount", "11361600"), ("timestamp", "1"), ("side", "SELL")):
        body = world.alice.order("BUY", "0.56", "21.04")
        body["order"][name] = value
        assert (await world.alice.ask("POST", "/order", body)).error == "invalid signature", name


async def test_version_1_order_is_a_version_mismatch(world: Any, autojump_clock: Any) -> None:
    body = world.alice.order("BUY", "0.56", "21.04")
    for name in ("timestamp", "metadata", "builder"):
        del body["order"][name]
    body["order"] |= {"taker": "0x" + "00" * 20, "nonce": "0", "feeRateBps": "0"}
    answer = await world.alice.ask("POST", "/order", body)
    assert (answer.status, answer.json) == (400, {"error": "order_version_mismatch"})


async def test_batch_answers_one_entry_a_leg_in_order(world: Any, autojump_clock: Any) -> None:
    prices = ("0.50", "0.505", "0.51")
    answer = await world.alice.ask("POST", "/orders", [world.alice.order("BUY", price, "10") for price in prices])
    assert answer.status == 200
    assert [(leg["success"], leg["status"], bool(leg["orderID"])) for leg in answer.json] == [
        (True, "live", True),
        (False, "", False),
        (True, "live", True),
    ]
    assert "breaks minimum tick size rule" in answer.json[1]["errorMsg"]


async def test_sixteen_orders_are_too_many(world: Any, autojump_clock: Any) -> None:
    answer = await world.alice.ask("POST", "/orders", [world.alice.order("BUY", "0.5", "10")] * 16)
    assert answer.error == "Too many orders in payload: 16, max allowed: 15"


async def test_cancels_say_what_was_and_was_not_cancelled(world: Any, autojump_clock: Any) -> None:
    first = await world.alice.placed("BUY", "0.50", "10")
    second = await world.alice.placed("BUY", "0.49", "10")
    others = await world.bob.placed("BUY", "0.48", "10")
    answer = await world.alice.ask("DELETE", "/order", {"orderID": first})
    assert answer.json == {"canceled": [first], "not_canceled": {}}
    answer = await world.alice.ask("DELETE", "/orders", [first, second, second, others, NOT_FOUND_ID])
    assert answer.json["canceled"] == [second]
    assert sorted(answer.json["not_canceled"]) == sorted([first, others, NOT_FOUND_ID])
    assert len((await world.bob.ask("GET", "/data/orders")).json["data"]) == 1


async def test_cancelled_order_is_still_shown_by_id(world: Any, autojump_clock: Any) -> None:
    order_id = await world.alice.placed("BUY", "0.50", "10")
    await world.alice.ask("DELETE", "/order", {"orderID": order_id})
    assert (await world.alice.ask("GET", "/data/orders")).json["data"] == []
    assert (await world.alice.ask("GET", f"/data/order/{order_id}")).json["status"] == "CANCELED"
    assert (await world.alice.ask("GET", f"/data/orders?id={order_id}")).json["data"][0]["status"] == "CANCELED"
    assert (await world.bob.ask("GET", f"/data/order/{order_id}")).status == 404


async def test_mass_cancels_choose_by_market_and_token(world: Any, autojump_clock: Any) -> None:
    yes = await world.alice.placed("BUY", "0.50", "10")
    no = await world.alice.placed("BUY", "0.40", "10", token=world.rain.no)
    other = await world.alice.placed("BUY", "0.40", "10", token=world.mayor.yes)
    answer = await world.alice.ask("DELETE", "/cancel-market-orders", {"asset_id": world.rain.no})
    assert answer.json["canceled"] == [no]
    answer = await world.alice.ask("DELETE", "/cancel-market-orders", {"market": world.rain.market_id})
    assert answer.json["canceled"] == [yes]
    assert (await world.alice.ask("DELETE", "/cancel-market-orders", {})).status == 400
    assert (await world.alice.ask("DELETE", "/cancel-all")).json == {"canceled": [other], "not_canceled": {}}


async def test_malformed_order_id_is_refused(world: Any, autojump_clock: Any) -> None:
    assert (await world.alice.ask("DELETE", "/order", {"orderID": "0xabc"})).error == "Invalid orderID"
    assert (await world.alice.ask("DELETE", "/order", {"id": 7})).error == "Invalid order payload"


async def test_order_burst_ends_in_429_and_refills(world: Any, autojump_clock: Any) -> None:
    body = [world.alice.order("BUY", "0.01", "5") for _ in range(15)]
    for left in (45, 30, 15, 0):
        answer = await world.alice.ask("POST", "/orders", body)
        assert answer.headers["poly-ratelimit-remaining"] == str(left)
        assert answer.headers["poly-ratelimit-tier"] == "Standard"
    refused = await world.alice.ask("POST", "/orders", body)
    assert (refused.status, refused.headers["retry-after"]) == (429, "1")
    assert (await world.bob.place("BUY", "0.01", "5")).status == 200
    await trio.sleep(1)
    assert (await world.alice.ask("POST", "/orders", body)).status == 200


async def test_mass_cancel_needs_one_token_and_may_go_below_zero(world: Any, autojump_clock: Any) -> None:
    ids = [f"0x{number:064x}" for number in range(119)]
    await world.alice.placed("BUY", "0.50", "10")
    await world.alice.placed("BUY", "0.49", "10")
    assert (await world.alice.ask("DELETE", "/orders", ids)).headers["poly-ratelimit-remaining"] == "1"
    answer = await world.alice.ask("DELETE", "/cancel-all")
    assert len(answer.json["canceled"]) == 2
    assert answer.headers["poly-ratelimit-remaining"] == "-2", "the level after what was cancelled is paid for"
    refused = await world.alice.ask("DELETE", "/cancel-all")
    assert refused.status == 429
    assert int(refused.headers["poly-ratelimit-remaining"]) < 0


@pytest.mark.parametrize("version", ["v2", "v3"])
@pytest.mark.parametrize("name", ["sig0-BUY", "sig1-BUY", "sig2-BUY", "sig3-BUY"])
async def test_official_order_of_every_wallet_kind_is_taken(
    world: Any, autojump_clock: Any, vectors: Any, name: str, version: str
) -> None:
    cases = vectors(f"orders_{version}.json")
    case = next(case for case in cases if case["name"] == f"{version}-137-{name}-tick0.01")
    key = vectors("wallets.json")[0]["private_key"]
    anvil = type(world.alice)(world, PlayAccount.from_key(bytes.fromhex(key[2:])))
    wallet = case["body"]["order"]["maker"]
    world.exchange.deposit(Account(wallet), Notional(100 * MICRO))
    socket = await anvil.user_socket()
    answer = await anvil.ask("POST", "/order", case["body"] | {"owner": anvil.credentials.api_key})
    assert (answer.status, answer.json.get("orderID")) == (200, case["order_hash"])
    (listed,) = (await anvil.ask("GET", "/data/orders")).json["data"]
    assert (listed["maker_address"], listed["owner"]) == (wallet, anvil.credentials.api_key)
    (told,) = await world.heard(socket)
    assert (told["id"], told["maker_address"]) == (case["order_hash"], wallet)
    assert (await anvil.ask("DELETE", "/order", {"orderID": case["order_hash"]})).json["not_canceled"] == {}


async def test_older_deposit_wallet_trades_once_it_is_registered(world: Any, autojump_clock: Any, vectors: Any) -> None:
    wallets = vectors("wallets.json")[0]
    anvil = type(world.alice)(world, PlayAccount.from_key(bytes.fromhex(wallets["private_key"][2:])))
    derived = wallets["deposit_wallet_beacon"]
    assert world.server.keys.wallets_of(anvil.account.address)[3] == derived
    older = wallets["deposit_wallet_uups_legacy"]
    world.server.keys.register_deposit_wallet(older, owner=anvil.account.address)
    assert world.server.keys.wallets_of(anvil.account.address)[3] == older
    assert world.server.keys.key_of(older) == anvil.credentials.api_key


@pytest.mark.parametrize(
    ("market", "version", "contract"),
    [
        ("rain", "2", "0xe2222d279d744050d28e00520010520000310F59"),
        ("mayor", "2", "0xE111180000d2663C0091e4f400237545B87B996B"),
        ("coin", "2", "0xE111180000d2663C0091e4f400237545B87B996B"),
        ("rain", "3", "0xe3333700cA9d93003F00f0F71f8515005F6c00Aa"),
    ],
)
async def test_order_signed_for_another_contract_is_refused(
    world: Any, autojump_clock: Any, market: str, version: str, contract: str
) -> None:
    domain = {"version": version, "verifyingContract": contract}
    token = getattr(world, market).yes
    answer = await world.alice.place("BUY", "0.40", "10", token=token, domain=domain)
    assert (answer.status, answer.error) == (400, "invalid signature")


async def test_position_has_a_balance_of_its_own_asset_type(world: Any, autojump_clock: Any) -> None:
    domain = {"version": "3", "verifyingContract": "0xe3333700cA9d93003F00f0F71f8515005F6c00Aa"}
    await world.bob.placed("BUY", "0.50", "20", token=world.coin.no, domain=domain)
    await world.alice.placed("BUY", "0.50", "20", token=world.coin.yes, domain=domain)
    await trio.sleep(2.5)
    asked = f"/balance-allowance?asset_type=CONDITIONAL-V2&token_id={world.coin.yes}"
    answer = (await world.alice.ask("GET", asked)).json
    assert answer["balance"] == "20000000"
    assert list(answer["allowances"]) == ["0xe3333700cA9d93003F00f0F71f8515005F6c00Aa"]
    assert (await world.alice.ask("GET", "/balance-allowance?asset_type=CONDITIONAL-V2")).error == "Invalid token id"


async def test_orders_are_filtered_by_the_condition_as_the_clob_spells_it(world: Any, autojump_clock: Any) -> None:
    domain = {"version": "3", "verifyingContract": "0xe3333700cA9d93003F00f0F71f8515005F6c00Aa"}
    order_id = await world.alice.placed("BUY", "0.30", "20", token=world.coin.yes, domain=domain)
    await world.alice.placed("BUY", "0.30", "20")
    for spelling, found in ((world.coin.market_id, [order_id]), (world.coin.market_id[:-2], [])):
        listed = (await world.alice.ask("GET", f"/data/orders?market={spelling}")).json["data"]
        assert [order["id"] for order in listed] == found


async def test_nothing_is_left_from_version_1(world: Any, autojump_clock: Any) -> None:
    assert (await world.alice.ask("GET", "/data/pre-migration-orders")).json["data"] == []


async def test_wrapped_signature_for_another_order_is_noticed(world: Any, autojump_clock: Any, vectors: Any) -> None:
    cases = {case["name"]: case["body"] for case in vectors("orders_v2.json")}
    key = vectors("wallets.json")[0]["private_key"]
    anvil = type(world.alice)(world, PlayAccount.from_key(bytes.fromhex(key[2:])))
    body = cases["v2-137-sig3-BUY-tick0.01"] | {"owner": anvil.credentials.api_key}
    world.server.keys.register_deposit_wallet(body["order"]["maker"], owner=anvil.account.address)
    stolen = cases["v2-137-sig3-BUY-tick0.1"]["order"]["signature"]
    answer = await anvil.ask("POST", "/order", body | {"order": body["order"] | {"signature": stolen}})
    assert answer.error == "invalid signature"
