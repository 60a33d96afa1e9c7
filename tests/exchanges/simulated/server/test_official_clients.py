"""The official clients over loopback sockets, driven as an ordinary user drives them: they cannot tell the difference.

Only keys that everybody knows are handed to them.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.request import Request, urlopen

import pytest
from py_clob_client.client import ClobClient as ClobClientV1
from py_clob_client.clob_types import OrderArgs as OrderArgsV1
from py_clob_client.exceptions import PolyApiException as PolyApiExceptionV1
from py_clob_client_v2.client import ClobClient
from py_clob_client_v2.clob_types import (
    AssetType,
    BalanceAllowanceParams,
    BookParams,
    MarketOrderArgsV2,
    OpenOrderParams,
    OrderArgsV2,
    OrderMarketCancelParams,
    OrderPayload,
    OrderScoringParams,
    OrdersScoringParams,
    OrderType,
    PostOrdersV2Args,
    TradeParams,
)
from py_clob_client_v2.utilities import parse_raw_orderbook_summary

from tbot.exchanges.simulated.operations import MarketRules
from tests.exchanges.simulated.server.official import (
    COIN,
    COMET,
    ISOTOPES,
    NOBODY,
    QUIMBY,
    RAIN,
    TERWILLIGER,
    House,
    in_thread,
    limit,
    market_order,
    open_house,
    refusal,
)

CONDITIONAL_V2 = "CONDITIONAL-V2"

pytestmark = pytest.mark.slow


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with open_house() as opened:
        yield opened


# --- keys and reading ------------------------------------------------------------------------------------------------


async def test_keys_are_made_found_again_and_deleted(house: House) -> None:
    def session() -> None:
        client = ClobClient(house.url, 137, key=house.accounts[0].private_key)
        announced = house.accounts[0].api_credentials
        assert client.create_or_derive_api_key().api_key == announced.api_key
        assert refusal(client.create_api_key) == (400, "Could not create api key")
        assert refusal(lambda: client.derive_api_key(nonce=5)) == (400, "Could not derive api key!")
        fifth = client.create_api_key(nonce=5)
        assert fifth == client.derive_api_key(nonce=5)
        client.set_api_creds(fifth)
        assert client.get_api_keys() == {"apiKeys": [announced.api_key, fifth.api_key]}
        assert client.get_closed_only_mode() == {"closed_only": False}
        assert client.delete_api_key() == "OK"
        assert refusal(client.get_api_keys) == (401, "Unauthorized/Invalid api key")

    await in_thread(session)


async def test_markets_books_and_prices_are_read(house: House) -> None:
    def session() -> None:
        client = house.client(house.accounts[0])
        client.create_and_post_order(limit(RAIN, "BUY", 0.42, 20))
        client.create_and_post_order(OrderArgsV2(token_id=RAIN.no, side="BUY", price=0.5, size=30))
        assert (client.get_ok(), client.get_version()) == ("OK", 2)
        listed = client.get_markets()["data"]
        assert len(listed) == len(client.get_simplified_markets()["data"]) == 7
        assert client.get_market(RAIN.market_id) == listed[0]
        sampled = (client.get_sampling_markets()["data"], client.get_sampling_simplified_markets()["data"])
        assert [[market["condition_id"] for market in part] for part in sampled] == [[RAIN.market_id]] * 2
        assert listed[0]["rewards"]["max_spread"] == client.get_clob_market_info(RAIN.market_id)["r"]["ma"] == 3.5
        assert client.get_clob_market_info(ISOTOPES.market_id)["sd"] == 3
        assert client.get_clob_market_info(ISOTOPES.market_id)["cbos"]
        events = [market["neg_risk_market_id"] for market in listed]
        assert events[:3] == ["", "", ""]
        assert events[3] == events[4] == events[5] != ""
        versions = [client.get_clob_market_info(market["condition_id"])["v"] for market in listed]
        assert versions == ["v1", "v1", "v2", "v1", "v1", "v1", "v1"]
        for token in (RAIN.yes, RAIN.no, COIN.yes):
            book = client.get_order_book(token)
            if token != COIN.yes:  # this client's hash knows no version
                assert client.get_order_book_hash(parse_raw_orderbook_summary(book)) == book["hash"]
            assert book.get("version") == ("v2" if token == COIN.yes else None)
        wanted = [BookParams(token_id=RAIN.yes, side="BUY"), BookParams(token_id=RAIN.yes, side="SELL")]
        assert [book["asset_id"] for book in client.get_order_books(wanted)] == [RAIN.yes, RAIN.yes]
        assert client.get_midpoint(RAIN.yes) == {"mid": "0.46"}
        assert client.get_midpoints(wanted) == {RAIN.yes: "0.46"}
        assert client.get_price(RAIN.yes, "SELL") == {"price": "0.5"}
        assert client.get_prices(wanted) == {RAIN.yes: {"BUY": "0.42", "SELL": "0.5"}}
        assert client.get_spread(RAIN.yes) == {"spread": "0.08"}
        assert client.get_spreads(wanted) == {RAIN.yes: "0.08"}
        assert client.get_last_trade_price(RAIN.yes) == {"price": "0.5", "side": ""}
        assert client.get_last_trades_prices(wanted) == []
        assert (client.get_tick_size(COMET.yes), client.get_neg_risk(QUIMBY.yes)) == ("0.001", True)
        assert client.get_fee_rate_bps(RAIN.yes) == 1000
        assert refusal(lambda: client.get_order_book("123")) == (
            404,
            "No orderbook exists for the requested token id",
        )

    await in_thread(session)


# --- trading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signature_type", [0, 1, 2, 3])
@pytest.mark.parametrize("market", [RAIN, QUIMBY, COIN], ids=["normal", "neg-risk", "position"])
async def test_every_wallet_trades_every_kind_of_market(house: House, signature_type: int, market: MarketRules) -> None:
    """A resting sale of minted tokens would need a split, so the other side buys the other outcome."""

    def session() -> None:
        client = house.client(house.accounts[0], signature_type=signature_type)
        rival = house.client(house.accounts[1], signature_type=3 - signature_type)
        resting = client.create_and_post_order(limit(market, "BUY", 0.4, 25))
        assert (resting["success"], resting["status"], resting["makingAmount"]) == (True, "live", "")
        is_position = market is COIN
        taken = rival.create_and_post_market_order(
            MarketOrderArgsV2(
                token_id=None if is_position else market.no,
                position_id=market.no if is_position else None,
                side="BUY",
                amount=6,
                price=0.6,
                order_type=OrderType.FAK,
            ),
            order_type=OrderType.FAK,
        )
        assert (taken["status"], taken["makingAmount"], taken["takingAmount"]) == ("matched", "6", "10")
        assert len(taken["transactionsHashes"]) == 1
        (trade,) = client.get_trades()
        (leg,) = trade["maker_orders"]
        assert (trade["trader_side"], leg["order_id"], leg["matched_amount"]) == ("MAKER", resting["orderID"], "10")
        assert leg["maker_address"] == client.builder.funder
        kind = CONDITIONAL_V2 if is_position else AssetType.CONDITIONAL
        tokens = client.get_balance_allowance(BalanceAllowanceParams(asset_type=kind, token_id=market.yes))
        assert tokens["balance"] == "10000000"
        assert client.get_balance_allowance(BalanceAllowanceParams(asset_type="COLLATERAL"))["balance"] == "9996000000"
        sold = client.create_and_post_order(limit(market, "SELL", 0.7, 10))
        assert sold["status"] == "live"
        assert client.cancel_all() == {"canceled": [resting["orderID"], sold["orderID"]], "not_canceled": {}}

    await in_thread(session)


async def test_market_orders_walk_the_book(house: House) -> None:
    def session() -> None:
        client, rival = house.client(house.accounts[0]), house.client(house.accounts[1])
        for price in (0.45, 0.4):
            rival.create_and_post_order(OrderArgsV2(token_id=RAIN.no, side="BUY", price=price, size=20))
        bought = client.create_and_post_market_order(
            market_order(RAIN, "BUY", 14, OrderType.FOK), order_type=OrderType.FOK
        )
        assert (bought["status"], bought["makingAmount"]) == ("matched", "14")
        assert float(bought["takingAmount"]) == pytest.approx(20 + 3 / 0.6, abs=1e-4)
        # A value of the market, as books tell it: the last maker's own price, here of the other outcome.
        assert client.get_last_trade_price(RAIN.yes) == {"price": "0.4", "side": "BUY"}
        assert client.get_last_trades_prices([BookParams(token_id=RAIN.yes)]) == [
            {"token_id": RAIN.yes, "price": "0.4", "side": "BUY"}
        ]
        rival.create_and_post_order(limit(RAIN, "BUY", 0.5, 10))
        sold = client.create_and_post_market_order(
            market_order(RAIN, "SELL", 20, OrderType.FAK, price=0.5), order_type=OrderType.FAK
        )
        assert (sold["makingAmount"], sold["takingAmount"]) == ("10", "5")
        ids = [trade["id"] for trade in client.get_trades(TradeParams(market=RAIN.market_id))]
        assert len(ids) == 2  # the first order met two prices, in one trade
        assert [trade["id"] for trade in client.get_trades(TradeParams(id=ids[0]))] == ids[:1]
        assert client.get_trades(TradeParams(market=COMET.market_id)) == []
        assert client.get_trades(TradeParams(before=1_700_000_000)) == []
        assert len(client.get_trades(TradeParams(after=1_700_000_000, asset_id=RAIN.yes))) == 2
        assert len(client.get_trades(TradeParams(maker_address=client.get_address()))) == 2

    await in_thread(session)


async def test_batches_lifetimes_and_every_way_to_cancel(house: House) -> None:
    def session() -> None:
        client = house.client(house.accounts[0])
        good_until = int(time.time()) + 300
        batch = [
            PostOrdersV2Args(client.create_order(limit(RAIN, "BUY", 0.30, 10)), OrderType.GTC),
            PostOrdersV2Args(client.create_order(limit(COIN, "BUY", 0.31, 10, expiration=good_until)), OrderType.GTD),
            PostOrdersV2Args(client.create_order(limit(QUIMBY, "BUY", 0.32, 1)), OrderType.GTC),
        ]
        first, second, third = client.post_orders(batch)
        assert [leg["status"] for leg in (first, second)] == ["live", "live"]
        assert (third["success"], third["orderID"]) == (False, "")
        assert "lower than the minimum: 5" in third["errorMsg"]
        assert client.get_order(second["orderID"])["expiration"] == str(good_until)
        only = client.create_and_post_order(limit(TERWILLIGER, "BUY", 0.2, 5), post_only=True)
        opened = client.get_open_orders()
        assert [order["id"] for order in opened] == [first["orderID"], second["orderID"], only["orderID"]]
        assert [order["order_type"] for order in opened] == ["GTC", "GTD", "GTC"]
        chosen = client.get_open_orders(OpenOrderParams(market=TERWILLIGER.market_id))
        assert [order["id"] for order in chosen] == [only["orderID"]]
        assert client.get_pre_migration_orders() == []
        assert client.is_order_scoring(OrderScoringParams(orderId=only["orderID"])) == {"scoring": False}
        scoring = client.are_orders_scoring(OrdersScoringParams(orderIds=[only["orderID"]]))
        assert scoring == {only["orderID"]: False}
        assert client.cancel_order(OrderPayload(orderID=first["orderID"]))["canceled"] == [first["orderID"]]
        again = client.cancel_order(OrderPayload(orderID=first["orderID"]))
        assert again["not_canceled"] == {first["orderID"]: "order can't be found - already canceled or matched"}
        unknown = "0x" + "00" * 32
        some = client.cancel_orders([second["orderID"], unknown])
        assert some["canceled"] == [second["orderID"]]
        assert some["not_canceled"] == {unknown: "Order not found or already canceled"}
        cleared = client.cancel_market_orders(OrderMarketCancelParams(asset_id=TERWILLIGER.yes))
        assert cleared["canceled"] == [only["orderID"]]
        assert client.cancel_all() == {"canceled": [], "not_canceled": {}}
        beat = client.post_heartbeat("")["heartbeat_id"]
        assert client.post_heartbeat(beat)["heartbeat_id"] != beat

    await in_thread(session)


async def test_refusals_have_the_texts_of_production(house: House) -> None:
    def session() -> None:
        client, rival = house.client(house.accounts[0]), house.client(house.accounts[1])
        rival.create_and_post_order(OrderArgsV2(token_id=RAIN.no, side="BUY", price=0.5, size=20))

        def post(order: OrderArgsV2, kind: str = OrderType.GTC, *, post_only: bool = False) -> tuple[int, str]:
            return refusal(lambda: client.create_and_post_order(order, order_type=kind, post_only=post_only))

        assert post(limit(RAIN, "BUY", 0.5, 20), post_only=True) == (
            400,
            "invalid post-only order: order crosses book",
        )
        assert "lower than the minimum: 5" in post(limit(RAIN, "BUY", 0.4, 4))[1]
        assert post(limit(RAIN, "BUY", 0.4, 5, expiration=int(time.time()) + 100), OrderType.GTD) == (
            400,
            "invalid expiration",
        )
        assert "not enough balance / allowance" in post(limit(RAIN, "SELL", 0.6, 10))[1]
        assert "not enough balance / allowance" in post(limit(RAIN, "BUY", 0.4, 100_000))[1]
        fok = market_order(RAIN, "BUY", 100, OrderType.FOK, price=0.5)
        assert refusal(lambda: client.create_and_post_market_order(fok, order_type=OrderType.FOK)) == (
            400,
            "order couldn't be fully filled. FOK orders are fully filled or killed.",
        )
        fak = market_order(RAIN, "BUY", 10, OrderType.FAK, price=0.4)
        assert refusal(lambda: client.create_and_post_market_order(fak, order_type=OrderType.FAK)) == (
            400,
            "no orders found to match with FAK order. FAK orders are partially filled or killed if no match is found.",
        )
        small = market_order(RAIN, "BUY", 0.5, OrderType.FAK, price=0.5)
        assert refusal(lambda: client.create_and_post_market_order(small, order_type=OrderType.FAK)) == (
            400,
            "invalid amount for a marketable BUY order ($0.5), min size: $1",
        )
        order = client.create_order(limit(RAIN, "BUY", 0.3, 5))
        placed = client.post_order(order)
        assert refusal(lambda: client.post_order(order)) == (400, f"order {placed['orderID']} is invalid. Duplicated.")
        many = [PostOrdersV2Args(order)] * 16
        assert refusal(lambda: client.post_orders(many)) == (
            400,
            "Too many orders in payload: 16, max allowed: 15",
        )
        # A position signed as a CTF token is signed for the wrong contract.
        wrong = OrderArgsV2(token_id=COIN.yes, side="BUY", price=0.4, size=5)
        assert post(wrong) == (400, "invalid signature")

    await in_thread(session)


async def test_life_and_end_of_a_market_through_the_operators_hand(house: House) -> None:
    def control(verb: str, **body: Any) -> None:
        request = Request(f"{house.url}/control/{verb}", data=json.dumps(body).encode(), method="POST")
        with urlopen(request) as answer:
            assert json.load(answer) == {"ok": True}

    def session() -> None:
        client, rival = house.client(house.accounts[0]), house.client(house.accounts[1])
        control("split", account=client.get_address(), market=QUIMBY.market_id, size="50")
        client.create_and_post_order(limit(QUIMBY, "SELL", 0.55, 20))
        bought = rival.create_and_post_market_order(
            market_order(QUIMBY, "BUY", 11, OrderType.FOK), order_type=OrderType.FOK
        )
        assert (bought["makingAmount"], bought["takingAmount"]) == ("11", "20")
        control("mode", mode="post_only")
        code, error = refusal(lambda: rival.create_and_post_order(limit(RAIN, "BUY", 0.4, 5)))
        assert (code, error) == (503, "post-only mode: only post-only orders and cancels are allowed")
        control("mode", mode="normal")
        control("resolve", market=QUIMBY.market_id, outcome="YES")
        winners = {m["market_slug"]: [token["winner"] for token in m["tokens"]] for m in client.get_markets()["data"]}
        assert winners[QUIMBY.slug] == [True, False]
        assert winners[TERWILLIGER.slug] == winners[NOBODY.slug] == [False, True]
        assert winners[RAIN.slug] == [False, False]
        assert refusal(lambda: rival.create_and_post_order(limit(QUIMBY, "BUY", 0.4, 5))) == (
            400,
            "the market is not yet ready to process new orders",
        )
        control("redeem", account=rival.get_address(), market=QUIMBY.market_id)
        fee = 0.04 * 20 * 0.55 * 0.45
        balance = rival.get_balance_allowance(BalanceAllowanceParams(asset_type="COLLATERAL"))["balance"]
        assert int(balance) / 1e6 == pytest.approx(10_000 + 9 - fee, abs=1e-5)

    await in_thread(session)


async def test_version_1_client_is_turned_away_as_in_production(house: House) -> None:
    def session() -> None:
        client = ClobClientV1(house.url, 137, key=house.accounts[0].private_key)
        client.set_api_creds(client.create_or_derive_api_creds())
        for market in (RAIN, QUIMBY):
            order = client.create_order(OrderArgsV1(token_id=market.yes, price=0.4, size=10, side="BUY"))
            with pytest.raises(PolyApiExceptionV1) as caught:
                client.post_order(order)
            assert caught.value.status_code == 400
            assert caught.value.error_msg == {"error": "order_version_mismatch"}
        assert client.get_orders() == []

    await in_thread(session)
