"""Keys and signed requests: who gets in, and what everybody else hears."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import trio
from eth_account import Account as EthAccount
from eth_account.messages import encode_typed_data

from tbot.core.units import MICRO, NANOS_PER_S, Size
from tbot.exchanges.simulated.operations import Done, SplitPair
from tbot.exchanges.simulated.server import ServerSettings
from tbot.exchanges.simulated.wallets import deposit_wallet

FIELDS = [
    {"name": "address", "type": "address"},
    {"name": "timestamp", "type": "string"},
    {"name": "nonce", "type": "uint256"},
    {"name": "message", "type": "string"},
]
KEY = "0x" + "77" * 32
ADDRESS = EthAccount.from_key(KEY).address


def l1(world: Any, *, nonce: int = 0, skew_s: int = 0, key: str = KEY) -> dict[str, str]:
    timestamp = str(world.now_ns() // NANOS_PER_S + skew_s)
    message = {
        "address": ADDRESS,
        "timestamp": timestamp,
        "nonce": nonce,
        "message": "This message attests that I control the given wallet",
    }
    domain = {"name": "ClobAuthDomain", "version": "1", "chainId": 137}
    signed = EthAccount.sign_message(encode_typed_data(domain, {"ClobAuth": FIELDS}, message), key)
    return {
        "POLY_ADDRESS": ADDRESS,
        "POLY_SIGNATURE": "0x" + signed.signature.hex(),
        "POLY_TIMESTAMP": timestamp,
        "POLY_NONCE": str(nonce),
    }


async def test_key_is_created_once_and_derived_for_ever(world: Any, autojump_clock: Any) -> None:
    client = await world.rest()
    refused = await client.ask("GET", "/auth/derive-api-key", headers=l1(world))
    assert (refused.status, refused.error) == (400, "Could not derive api key!")
    created = await client.ask("POST", "/auth/api-key", headers=l1(world))
    assert sorted(created.json) == ["apiKey", "passphrase", "secret"]
    again = await client.ask("POST", "/auth/api-key", headers=l1(world))
    assert (again.status, again.error) == (400, "Could not create api key")
    assert (await client.ask("GET", "/auth/derive-api-key", headers=l1(world))).json == created.json
    other = await client.ask("POST", "/auth/api-key", headers=l1(world, nonce=1))
    assert other.json["apiKey"] != created.json["apiKey"]


@pytest.mark.parametrize(
    "change",
    [
        {"POLY_ADDRESS": "0x" + "11" * 20},
        {"POLY_ADDRESS": "nobody"},
        {"POLY_SIGNATURE": "0x" + "00" * 65},
        {"POLY_SIGNATURE": "0x12"},
        {"POLY_SIGNATURE": "no hex"},
        {"POLY_NONCE": "1"},
        {"POLY_NONCE": "-1"},
        {"POLY_NONCE": "9" * 80},
        {"POLY_TIMESTAMP": "yesterday"},
        {"POLY_TIMESTAMP": "1767225601"},
    ],
    ids=str,
)
async def test_wrong_l1_headers_are_refused(world: Any, autojump_clock: Any, change: dict[str, str]) -> None:
    client = await world.rest()
    answer = await client.ask("POST", "/auth/api-key", headers=l1(world) | change)
    assert (answer.status, answer.json) == (401, {"error": "Invalid L1 Request headers"})


async def test_l1_signature_of_another_key_is_refused(world: Any, autojump_clock: Any) -> None:
    client = await world.rest()
    assert (await client.ask("POST", "/auth/api-key", headers=l1(world, key="0x" + "78" * 32))).status == 401


async def test_signed_request_gets_in(world: Any, autojump_clock: Any) -> None:
    answer = await world.alice.ask("GET", "/auth/api-keys")
    assert answer.json == {"apiKeys": [world.alice.credentials.api_key]}
    assert (await world.alice.ask("GET", "/auth/ban-status/closed-only")).json == {"closed_only": False}
    assert (await world.alice.ask("GET", "/notifications?signature_type=0")).json == []
    assert (await world.alice.ask("DELETE", "/notifications?ids=1,2")).json == "OK"
    assert (await world.get("/notifications")).status == 401


@pytest.mark.parametrize(
    "name", ["POLY_ADDRESS", "POLY_SIGNATURE", "POLY_TIMESTAMP", "POLY_API_KEY", "POLY_PASSPHRASE"]
)
@pytest.mark.parametrize("kind", ["missing", "wrong"])
async def test_any_wrong_l2_header_is_refused(world: Any, autojump_clock: Any, name: str, kind: str) -> None:
    headers = world.alice.l2("GET", "/auth/api-keys")
    if kind == "missing":
        del headers[name]
    else:
        headers[name] = headers[name][:-1] + ("0" if headers[name][-1] != "0" else "1")
    answer = await (await world.rest()).ask("GET", "/auth/api-keys", headers=headers)
    assert (answer.status, answer.json) == (401, {"error": "Unauthorized/Invalid api key"})


async def test_hmac_covers_method_path_and_exact_body(world: Any, autojump_clock: Any) -> None:
    body = b'{"orderID":"0x1"}'
    client = await world.rest()
    for method, path, sent in (
        ("POST", "/order", body),
        ("DELETE", "/orders", body),
        ("DELETE", "/order", body + b" "),
    ):
        answer = await client.ask(method, path, sent, world.alice.l2("DELETE", "/order", body))
        assert answer.status == 401, (method, path)


async def test_query_is_not_signed(world: Any, autojump_clock: Any) -> None:
    assert (await world.alice.ask("GET", "/data/orders?next_cursor=MA%3D%3D")).status == 200


@pytest.mark.parametrize(("skew_s", "status"), [(-10, 200), (10, 200), (-11, 401), (11, 401)])
async def test_clock_may_be_ten_seconds_off(world: Any, autojump_clock: Any, skew_s: int, status: int) -> None:
    headers = world.alice.l2("GET", "/auth/api-keys", skew_s=skew_s)
    assert (await (await world.rest()).ask("GET", "/auth/api-keys", headers=headers)).status == status


async def test_skew_limit_can_be_set(make_world: Any, autojump_clock: Any) -> None:
    async with make_world(settings=ServerSettings(skew_s_max=1.0)) as world:
        headers = world.alice.l2("GET", "/auth/api-keys", skew_s=2)
        assert (await (await world.rest()).ask("GET", "/auth/api-keys", headers=headers)).status == 401


async def test_deleted_key_is_dead(world: Any, autojump_clock: Any) -> None:
    assert (await world.alice.ask("DELETE", "/auth/api-key")).json == "OK"
    assert (await world.alice.ask("GET", "/auth/api-keys")).status == 401


async def test_wallets_of_a_deleted_key_stay_on_chain(world: Any, autojump_clock: Any) -> None:
    owner = world.alice.account.address
    asked = (f"/data-api/v2/approvals?user={owner}", f"/relayer/deployed?type=WALLET&address={deposit_wallet(owner)}")
    before = [(await world.get(path)).json for path in asked]
    assert (await world.alice.ask("DELETE", "/auth/api-key")).json == "OK"
    assert [(await world.get(path)).json for path in asked] == before
    assert before[1] == {"deployed": True}
    assert all(row["approved"] for row in before[0]["data"]["contracts"])


# --- balances and the dead-man switch --------------------------------------------------------------------------------


async def test_balances_in_base_units_by_wallet(world: Any, autojump_clock: Any) -> None:
    answer = (await world.alice.ask("GET", "/balance-allowance?asset_type=COLLATERAL&signature_type=0")).json
    assert answer["balance"] == "10000000000"
    assert len(answer["allowances"]) == 3
    proxy = (await world.alice.ask("GET", "/balance-allowance?asset_type=COLLATERAL&signature_type=1")).json
    assert proxy["balance"] == "0"
    await world.bob.placed("BUY", "0.50", "20", token=world.rain.no)
    await world.alice.placed("BUY", "0.50", "20")
    asked = f"/balance-allowance?asset_type=CONDITIONAL&token_id={world.rain.yes}&signature_type=0"
    assert (await world.alice.ask("GET", asked)).json["balance"] == "0"
    await trio.sleep(2.5)
    assert (await world.alice.ask("GET", asked)).json["balance"] == "20000000"
    assert (await world.alice.ask("GET", asked.replace("allowance", "allowance/update"))).status == 200


async def test_a_token_is_held_by_the_contract_of_its_kind_alone(world: Any, autojump_clock: Any) -> None:
    size = Size(20 * MICRO)
    for rules in (world.rain, world.coin):
        split = SplitPair(account=world.alice.account.address, market_id=rules.market_id, size=size)
        assert isinstance(world.exchange.apply(split), Done)

    async def balance(kind: str, token: str) -> int:
        asked = f"/balance-allowance?asset_type={kind}&token_id={token}&signature_type=0"
        return int((await world.alice.ask("GET", asked)).json["balance"])

    for token, holder, other in (
        (world.rain.yes, "CONDITIONAL", "CONDITIONAL-V2"),
        (world.coin.no, "CONDITIONAL-V2", "CONDITIONAL"),
    ):
        assert (await balance(holder, token), await balance(other, token)) == (size, 0)


@pytest.mark.parametrize(
    "query", ["", "?asset_type=GOLD", "?asset_type=CONDITIONAL&token_id=1", "?asset_type=COLLATERAL&signature_type=9"]
)
async def test_bad_balance_question_is_refused(world: Any, autojump_clock: Any, query: str) -> None:
    assert (await world.alice.ask("GET", f"/balance-allowance{query}")).status == 400


async def test_heartbeat_ids_form_a_chain(world: Any, autojump_clock: Any) -> None:
    first = (await world.alice.ask("POST", "/v1/heartbeats", {"heartbeat_id": ""})).json["heartbeat_id"]
    wrong = await world.alice.ask("POST", "/v1/heartbeats", {"heartbeat_id": ""})
    assert (wrong.status, wrong.json) == (400, {"error_msg": "Invalid Heartbeat ID", "heartbeat_id": first})
    second = (await world.alice.ask("POST", "/v1/heartbeats", {"heartbeat_id": first})).json["heartbeat_id"]
    assert second not in ("", first)


async def test_silence_after_a_heartbeat_cancels_everything_of_that_member(world: Any, autojump_clock: Any) -> None:
    await world.alice.placed("BUY", "0.50", "10")
    await world.bob.placed("BUY", "0.40", "10")
    await trio.sleep(60)  # never armed, never swept
    beat = (await world.alice.ask("POST", "/v1/heartbeats", {"heartbeat_id": ""})).json["heartbeat_id"]
    for _ in range(4):
        await trio.sleep(5)
        beat = (await world.alice.ask("POST", "/v1/heartbeats", {"heartbeat_id": beat})).json["heartbeat_id"]
    assert (await world.alice.ask("GET", "/data/orders")).json["count"] == 1
    await trio.sleep(16)
    assert (await world.alice.ask("GET", "/data/orders")).json["count"] == 0
    assert (await world.bob.ask("GET", "/data/orders")).json["count"] == 1


def with_second_key(world: Any) -> Any:
    """Alice again, with another API key of the same address."""
    other = copy.copy(world.alice)
    other.credentials = world.server.keys.create(other.account.address, 1)
    other._salt = 1_000
    return other


async def test_silence_of_one_key_leaves_the_orders_of_another(world: Any, autojump_clock: Any) -> None:
    second = with_second_key(world)
    for trader in (world.alice, second):
        await trader.placed("BUY", "0.40", "10")
    beat = ""
    await world.alice.ask("POST", "/v1/heartbeats", {"heartbeat_id": ""})
    for _ in range(5):
        beat = (await second.ask("POST", "/v1/heartbeats", {"heartbeat_id": beat})).json["heartbeat_id"]
        await trio.sleep(5)
    (left,) = (await world.alice.ask("GET", "/data/orders")).json["data"]
    assert left["owner"] == second.credentials.api_key
    await trio.sleep(16)
    assert (await world.alice.ask("GET", "/data/orders")).json["data"] == []


async def test_order_that_no_heartbeat_of_its_key_protects_outlives_those_of_the_other(
    world: Any, autojump_clock: Any
) -> None:
    second = with_second_key(world)
    order_id = await world.alice.placed("BUY", "0.40", "10")
    await second.ask("POST", "/v1/heartbeats", {"heartbeat_id": ""})
    await trio.sleep(30)
    assert (await world.alice.ask("GET", f"/data/order/{order_id}")).json["status"] == "LIVE"


async def test_orders_and_trades_name_the_key_that_sent_them_and_the_user_sees_all(
    world: Any, autojump_clock: Any
) -> None:
    second, first_key = with_second_key(world), world.alice.credentials.api_key
    socket = await world.alice.user_socket()
    resting = await second.placed("BUY", "0.40", "10")
    await world.bob.placed("BUY", "0.60", "10", token=world.rain.no)
    (trade,) = (await world.alice.ask("GET", "/data/trades")).json["data"]
    assert [leg["owner"] for leg in trade["maker_orders"]] == [second.credentials.api_key]
    assert trade["owner"] == world.bob.credentials.api_key
    events = await world.heard(socket)
    assert {event["owner"] for event in events} == {second.credentials.api_key}
    assert (await world.alice.ask("GET", f"/data/order/{resting}")).json["owner"] != first_key
    # Cancels and lists go by the user, as documented, whichever key asks.
    order_id = await second.placed("BUY", "0.30", "10")
    assert (await world.alice.ask("DELETE", "/cancel-all")).json["canceled"] == [order_id]
