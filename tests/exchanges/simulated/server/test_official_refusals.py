"""py-clob-client-v2 is refused in the words of production, to the letter: money, standing, orders, cancels."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.request import Request, urlopen

import pytest
from py_clob_client_v2.client import ClobClient
from py_clob_client_v2.clob_types import AssetType, BalanceAllowanceParams, OrderArgsV2, OrderPayload, OrderType
from py_clob_client_v2.exceptions import PolyApiException

from tbot.core.units import Price
from tbot.exchanges.simulated.contracts import EXCHANGE_V2, EXCHANGE_V2_NEG_RISK, EXCHANGE_V3
from tbot.exchanges.simulated.operations import ChangeTick, EngineSettings, MarketRules
from tests.exchanges.simulated.server.official import (
    COIN,
    COMET,
    ISOTOPES,
    QUIMBY,
    RAIN,
    House,
    in_thread,
    limit,
    market_order,
    open_house,
    refusal,
)

SLOW = EngineSettings(mined_after_ns=3_600_000_000_000, confirmed_after_ns=3_700_000_000_000)
NO_BALANCE = "not enough balance / allowance: the balance is not enough -> balance: "
NO_ALLOWANCE = "not enough balance / allowance: the allowance is not enough -> spender: "
NOBODYS = "0x" + "5e" * 32

pytestmark = pytest.mark.slow


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with open_house(SLOW) as opened:
        yield opened


def control(house: House, verb: str, **body: Any) -> None:
    request = Request(f"{house.url}/control/{verb}", data=json.dumps(body).encode(), method="POST")
    with urlopen(request) as answer:
        assert json.load(answer) == {"ok": True}


def told(order: Callable[[], object]) -> str:
    """The text of a 400, which is all that the client shows of a refusal."""
    code, text = refusal(order)
    assert code == 400
    return text


def no_of(market: MarketRules, price: float, size: float) -> OrderArgsV2:
    return OrderArgsV2(token_id=market.no, side="BUY", price=price, size=size)


# --- money -----------------------------------------------------------------------------------------------------------


async def test_a_balance_that_is_not_enough_is_summed_up(house: House) -> None:
    def session() -> None:
        client, rival = house.client(house.accounts[0]), house.client(house.accounts[1])

        def buying(price: float, size: float) -> str:
            return told(lambda: client.create_and_post_order(limit(RAIN, "BUY", price, size)))

        assert buying(0.4, 100_000) == f"{NO_BALANCE}10000000000, order amount: 40000000000"
        selling = told(lambda: client.create_and_post_order(limit(RAIN, "SELL", 0.6, 10)))
        assert selling == f"{NO_BALANCE}0, order amount: 10000000"
        resting = client.create_and_post_order(limit(RAIN, "BUY", 0.3, 20_000))["orderID"]
        sums = "sum of active orders: 6000000000, sum of matched orders: 0, order amount (inc. fees): 5000000000"
        assert buying(0.5, 10_000) == f"{NO_BALANCE}10000000000, {sums}"
        assert buying(0.5, 30_000) == f"{NO_BALANCE}10000000000, order amount: 15000000000"
        client.cancel_order(OrderPayload(orderID=resting))
        # What it would take costs a fee on top: 0.05 x 20,000 x 0.5 x 0.5.
        rival.create_and_post_order(no_of(RAIN, 0.5, 20_000))
        sums = "sum of matched orders: 0, order amount (inc. fees): 10250000000"
        assert buying(0.5, 20_000) == f"{NO_BALANCE}10000000000, {sums}"
        client.create_and_post_order(limit(RAIN, "BUY", 0.5, 8_000), defer_exec=True)
        sums = "sum of matched orders: 4100000000, order amount (inc. fees): 8000000000"
        assert buying(0.4, 20_000) == f"{NO_BALANCE}10000000000, {sums}"

    await in_thread(session)


@pytest.mark.parametrize(
    ("market", "spender"),
    [(RAIN, EXCHANGE_V2), (QUIMBY, EXCHANGE_V2_NEG_RISK), (COIN, EXCHANGE_V3[137])],
    ids=["normal", "neg-risk", "position"],
)
async def test_an_approval_that_is_missing_names_its_contract(house: House, market: MarketRules, spender: str) -> None:
    def session() -> None:
        client = house.client(house.accounts[0])
        kind = "CONDITIONAL-V2" if market is COIN else "CONDITIONAL"
        control(house, "split", account=client.get_address(), market=market.market_id, size="50")

        def allowed() -> tuple[str, str]:
            collateral = BalanceAllowanceParams(asset_type=AssetType.COLLATERAL)
            tokens = BalanceAllowanceParams(asset_type=kind, token_id=market.yes)
            asked = [client.get_balance_allowance(each)["allowances"] for each in (collateral, tokens)]
            return asked[0][spender], asked[1][spender]

        def refused(side: str) -> str:
            return told(lambda: client.create_and_post_order(limit(market, side, 0.4, 20)))

        assert allowed() == (str((1 << 256) - 1),) * 2
        for asset in ("COLLATERAL", kind):
            control(house, "allowance", account=client.get_address(), asset_type=asset, allowance="0")
        assert allowed() == ("0", "0")
        sums = "sum of matched orders: 0, order amount (inc. fees): 8000000"
        assert refused("BUY") == f"{NO_ALLOWANCE}{spender}, allowance: 0, {sums}"
        assert refused("SELL") == f"{NO_ALLOWANCE}{spender}, allowance: 0"
        control(house, "allowance", account=client.get_address(), asset_type="COLLATERAL", allowance="10")
        client.create_and_post_order(limit(market, "BUY", 0.3, 20))
        sums = "sum of active orders: 6000000, sum of matched orders: 0, order amount (inc. fees): 8000000"
        assert refused("BUY") == f"{NO_ALLOWANCE}{spender}, allowance: 10000000, {sums}"
        for asset in ("COLLATERAL", kind):
            control(house, "allowance", account=client.get_address(), asset_type=asset, allowance="max")
        assert client.create_and_post_order(limit(market, "BUY", 0.4, 20))["status"] == "live"
        assert client.create_and_post_order(limit(market, "SELL", 0.6, 20))["status"] == "live"

    await in_thread(session)


async def test_who_may_not_trade_is_told_why(house: House) -> None:
    def session() -> None:
        client = house.client(house.accounts[0])
        who = client.get_address()

        def buying() -> str:
            return told(lambda: client.create_and_post_order(limit(RAIN, "BUY", 0.4, 5)))

        for standing, text in (("closed_only", "address in closed only mode"), ("banned", "address banned")):
            control(house, "standing", account=who, standing=standing)
            assert buying() == f"'{who}' {text}"
        control(house, "standing", account=who, needs_deposit_wallet=True)
        assert buying() == "maker address not allowed, please use the deposit wallet flow"
        control(house, "standing", account=who)
        assert client.create_and_post_order(limit(RAIN, "BUY", 0.4, 5))["status"] == "live"

    await in_thread(session)


# --- an order itself -------------------------------------------------------------------------------------------------


def signed(client: ClobClient, price: float, size: float) -> tuple[Any, str]:
    """An order, and the id that the exchange knows it by."""
    order = client.create_order(limit(RAIN, "BUY", price, size))
    # The id is the hash of what was signed: two refusals of the same order have the same one.
    with pytest.raises(PolyApiException) as caught:
        client.post_order(order, OrderType.FOK)
    return order, caught.value.error_msg["orderID"]


async def test_sizes_and_amounts_are_refused_with_their_numbers(house: House) -> None:
    def session() -> None:
        client = house.client(house.accounts[0])
        order, order_id = signed(client, 0.5, 4)
        assert (
            told(lambda: client.post_order(order)) == f"order {order_id} is invalid. Size (4) lower than the minimum: 5"
        )
        almost = told(lambda: client.create_and_post_order(limit(RAIN, "BUY", 0.5, 4.99)))
        assert almost.endswith(" is invalid. Size (4.99) lower than the minimum: 5")
        cheap = market_order(RAIN, "BUY", 0.99, OrderType.FAK, price=0.5)
        assert told(lambda: client.create_and_post_market_order(cheap, order_type=OrderType.FAK)) == (
            "invalid amount for a marketable BUY order ($0.99), min size: $1"
        )
        # On a fine grid this client gives market buys more decimals than the exchange takes.
        fine = market_order(COMET, "BUY", 10, OrderType.FAK, price=0.613)
        assert told(lambda: client.create_and_post_market_order(fine, order_type=OrderType.FAK)) == (
            "invalid amounts, the market buy orders maker amount supports a max accuracy of 2 decimals,"
            " taker amount a max of 4 decimals"
        )
        late = limit(RAIN, "BUY", 0.4, 5, expiration=int(time.time()) + 100)
        assert told(lambda: client.create_and_post_order(late, order_type=OrderType.GTD)) == "invalid expiration"
        assert told(lambda: client.create_and_post_order(late)) == "invalid expiration"

    await in_thread(session)


async def test_a_tick_that_grew_since_it_was_read_is_told(house: House) -> None:
    def before() -> tuple[ClobClient, Any]:
        client = house.client(house.accounts[0])
        assert client.get_tick_size(COMET.yes) == "0.001"
        return client, client.create_order(limit(COMET, "BUY", 0.563, 10))

    client, order = await in_thread(before)
    house.exchange.apply(ChangeTick(market_id=COMET.market_id, tick=Price(10_000)))

    def after() -> None:
        text = told(lambda: client.post_order(order))
        order_id = text.split()[1]
        assert text == f"order {order_id} is invalid. Price (0.563) breaks minimum tick size rule: 0.01"
        assert (len(order_id), order_id[:2]) == (66, "0x")
        rounded = client.create_and_post_order(limit(COMET, "BUY", 0.56, 10))
        assert rounded["status"] == "live"

    await in_thread(after)


async def test_a_copy_is_a_duplicate_whatever_became_of_the_first(house: House) -> None:
    def session() -> None:
        client, rival = house.client(house.accounts[0]), house.client(house.accounts[1])
        order = client.create_order(limit(RAIN, "BUY", 0.4, 10))
        order_id = client.post_order(order)["orderID"]
        duplicated = f"order {order_id} is invalid. Duplicated."
        assert told(lambda: client.post_order(order)) == duplicated
        client.cancel_order(OrderPayload(orderID=order_id))
        assert told(lambda: client.post_order(order)) == duplicated
        order = client.create_order(limit(RAIN, "BUY", 0.4, 10))
        order_id = client.post_order(order)["orderID"]
        rival.create_and_post_order(no_of(RAIN, 0.6, 10), defer_exec=True)
        assert client.get_order(order_id)["status"] == "MATCHED"
        assert told(lambda: client.post_order(order)) == f"order {order_id} is invalid. Duplicated."
        assert told(lambda: client.post_order(order, OrderType.FOK)) == f"order {order_id} is invalid. Duplicated."

    await in_thread(session)


async def test_a_killed_order_is_named_and_never_existed(house: House) -> None:
    def session() -> None:
        client = house.client(house.accounts[0])
        order = client.create_market_order(market_order(RAIN, "BUY", 10, OrderType.FAK, price=0.4))
        texts = {
            OrderType.FAK: "no orders found to match with FAK order. FAK orders are partially filled or killed if no "
            "match is found.",
            OrderType.FOK: "order couldn't be fully filled. FOK orders are fully filled or killed.",
        }
        ids = set()
        for order_type, text in texts.items():
            with pytest.raises(PolyApiException) as caught:
                client.post_order(order, order_type)
            answer = caught.value.error_msg
            assert (caught.value.status_code, answer.keys(), answer["error"]) == (400, {"error", "orderID"}, text)
            ids.add(answer["orderID"])
        (order_id,) = ids
        assert refusal(lambda: client.get_order(order_id)) == (404, "order not found")
        assert client.cancel_order(OrderPayload(orderID=order_id)) == {
            "canceled": [],
            "not_canceled": {order_id: "Order not found or already canceled"},
        }

    await in_thread(session)


# --- cancels ---------------------------------------------------------------------------------------------------------


async def test_every_cancel_in_vain_has_its_reason(house: House) -> None:
    def session() -> None:
        client, rival = house.client(house.accounts[0]), house.client(house.accounts[1])

        def cancelled(order_id: str) -> str:
            answer = client.cancel_order(OrderPayload(orderID=order_id))
            assert answer["canceled"] == []
            assert list(answer["not_canceled"]) == [order_id]
            return str(answer["not_canceled"][order_id])

        over = "order can't be found - already canceled or matched"
        unknown = "Order not found or already canceled"
        first = client.create_and_post_order(limit(RAIN, "BUY", 0.4, 10))["orderID"]
        client.cancel_order(OrderPayload(orderID=first))
        second = client.create_and_post_order(limit(RAIN, "BUY", 0.4, 10))["orderID"]
        rival.create_and_post_order(no_of(RAIN, 0.6, 10), defer_exec=True)
        theirs = rival.create_and_post_order(no_of(RAIN, 0.3, 10))["orderID"]
        rival.create_and_post_order(no_of(ISOTOPES, 0.5, 10))
        held = client.create_and_post_order(limit(ISOTOPES, "BUY", 0.5, 10), defer_exec=True)
        assert held["status"] == "delayed"
        reasons = {
            first: over,
            second: over,
            held["orderID"]: over,
            theirs: unknown,
            NOBODYS: unknown,
        }
        assert {order_id: cancelled(order_id) for order_id in reasons} == reasons
        assert client.cancel_orders(list(reasons)) == {"canceled": [], "not_canceled": reasons}
        assert next(order["id"] for order in rival.get_open_orders()) == theirs
        assert refusal(lambda: client.cancel_order(OrderPayload(orderID="0x5e"))) == (400, "Invalid orderID")
        many = [f"0x{number:064x}" for number in range(1_001)]
        assert refusal(lambda: client.cancel_orders(many)) == (400, "Too many orders in payload, max allowed: 1000")

    await in_thread(session)
