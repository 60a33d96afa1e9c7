"""Signatures against vectors made by the official clients; every flipped bit is noticed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbot.core.messages import OrderType, Side
from tbot.core.units import Price
from tbot.errors import ConfigError
from tbot.exchanges.simulated.accounts import PlayAccount
from tbot.exchanges.simulated.contracts import condition_of, is_position_id
from tbot.exchanges.simulated.http import HttpRefusal
from tbot.exchanges.simulated.verify import OrderVerifier, hmac_text
from tbot.exchanges.simulated.wallets import deposit_wallet, proxy_wallet, safe_wallet
from tbot.exchanges.simulated.wire_in import PostOrder, SignedOrder, decode, wish_of

TEST_ADDRESS = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"


def posted(body: Any) -> PostOrder:
    return decode(json.dumps(body).encode(), PostOrder, refusal="Invalid order payload")


@pytest.mark.parametrize(("name", "count"), [("orders_v2.json", 78), ("orders_v3.json", 62)])
def test_official_orders_recover_to_their_signer_and_id(vectors: Any, name: str, count: int) -> None:
    cases = vectors(name)
    assert len(cases) == count
    for case in cases:
        verifier, order = OrderVerifier(case["chain_id"]), posted(case["body"]).order
        assert verifier.order_id(order, is_neg_risk=case["neg_risk"]) == case["order_hash"], case["name"]
        assert verifier.signer(order, is_neg_risk=case["neg_risk"]) == TEST_ADDRESS, case["name"]


@pytest.mark.parametrize("name", ["orders_v2.json", "orders_v3.json"])
def test_official_orders_mean_the_price_and_size_their_user_typed(vectors: Any, name: str) -> None:
    for case in vectors(name):
        body = posted(case["body"])
        wish = wish_of(body.order, body.order_type, tick=Price(round(float(case["tick_size"]) * 1e6)))
        typed = (round(float(case["price"]) * 1e6), round(float(case["size"]) * 1e6), 0)
        assert (wish.price, wish.size, wish.budget) == typed, case["name"]


def test_a_position_is_traded_by_v3_whatever_the_neg_risk_flag(vectors: Any) -> None:
    order = posted(vectors("orders_v3.json")[0]["body"]).order
    verifier = OrderVerifier(137)
    assert verifier.order_id(order, is_neg_risk=True) == verifier.order_id(order, is_neg_risk=False)


def test_positions_are_told_from_tokens_as_official_clients_do(vectors: Any) -> None:
    for case in vectors("asset_ids.json"):
        assert is_position_id(case["asset_id"]) == case["is_position_id"], case["asset_id"]
    assert not is_position_id("1")  # no module has the number 0


@given(number=st.integers(0, (1 << 256) - 1), bit=st.integers(40, 103))
def test_a_reserved_bit_makes_it_no_position(number: int, bit: int) -> None:
    assert not is_position_id(str(number | 1 << bit))


def test_both_positions_of_a_market_have_its_condition() -> None:
    condition = "0x017791f201d5a788e0039e511fc1900e5f000000000000000000000000000000"
    yes = 663574927012476832975694178961957910328055987427402067619466963999000625152
    assert [condition_of(str(yes)), condition_of(str(yes + 1))] == [condition, condition]


@pytest.mark.parametrize("how", ["recovery id 0", "upper half"])
def test_a_signature_no_contract_takes_is_refused(vectors: Any, how: str) -> None:
    body = vectors("orders_v2.json")[0]["body"]
    raw = bytes.fromhex(body["order"]["signature"][2:])
    curve_order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    twin = (curve_order - int.from_bytes(raw[32:64], "big")).to_bytes(32, "big")
    forged = raw[:64] + bytes([raw[64] - 27]) if how == "recovery id 0" else raw[:32] + twin + bytes([55 - raw[64]])
    order = posted({**body, "order": {**body["order"], "signature": "0x" + forged.hex()}}).order
    with pytest.raises(HttpRefusal, match=r"^invalid signature$"):
        OrderVerifier(137).signer(order, is_neg_risk=False)


def test_a_chain_without_contracts_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected one of 137, 80002, found 1"):
        OrderVerifier(1)


@pytest.mark.parametrize("vector", ["orders_v2.json", "orders_v3.json"])
@pytest.mark.parametrize("signature_type", [0, 3])
def test_any_flipped_bit_of_the_signature_is_noticed(vectors: Any, signature_type: int, vector: str) -> None:
    cases = (case["body"] for case in vectors(vector))
    body = next(body for body in cases if body["order"]["signatureType"] == signature_type)
    raw = bytes.fromhex(body["order"]["signature"][2:])
    for position in range(len(raw)):
        flipped = raw[:position] + bytes([raw[position] ^ 1]) + raw[position + 1 :]
        order = posted({**body, "order": {**body["order"], "signature": "0x" + flipped.hex()}}).order
        try:
            signer = OrderVerifier(137).signer(order, is_neg_risk=False)
        except HttpRefusal:
            continue
        assert signer != TEST_ADDRESS, position


def test_official_version_1_orders_are_told_apart(vectors: Any) -> None:
    assert all(posted(body).order.is_v1 for body in vectors("orders_v1.json"))


def test_official_l1_headers_recover_to_their_signer(vectors: Any) -> None:
    for case in vectors("auth.json")["l1"]:
        headers = case["headers"]
        signer = OrderVerifier(case["chain_id"]).attester(
            address=headers["POLY_ADDRESS"],
            timestamp=headers["POLY_TIMESTAMP"],
            nonce=int(headers["POLY_NONCE"]),
            signature=headers["POLY_SIGNATURE"],
        )
        assert signer == TEST_ADDRESS


def test_official_l2_signatures_are_reproduced(vectors: Any) -> None:
    for case in vectors("auth.json")["l2"]:
        text = hmac_text(
            case["secret"],
            timestamp=str(case["timestamp"]),
            method=case["method"],
            path=case["path"],
            body=(case["body"] or "").encode(),
        )
        assert text == case["headers"]["POLY_SIGNATURE"]


def test_published_hmac_check_value() -> None:
    secret = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    body = b'{"hash": "0x123"}'
    text = hmac_text(secret, timestamp="1000000", method="test-sign", path="/orders", body=body)
    assert text == "ZwAdJKvoYRlEKDkNMwd5BuwNNtg93kNaR_oU2HrfVvc="


def test_wallets_derive_as_in_production(vectors: Any) -> None:
    for case in vectors("wallets.json"):
        account = PlayAccount.from_key(bytes.fromhex(case["private_key"][2:]))
        assert account.address == case["eoa"]
        assert proxy_wallet(account.address) == case["poly_proxy"]
        assert safe_wallet(account.address) == case["gnosis_safe"]
        assert deposit_wallet(account.address) == case["deposit_wallet_beacon"]


def test_play_account_shows_no_key_and_says_what_it_is() -> None:
    account = PlayAccount.from_key(b"\x01" * 32)
    assert account.private_key not in repr(account)
    assert "PLAY KEY: NEVER FUND" in repr(account)


# --- amounts ---------------------------------------------------------------------------------------------------------


def order(side: Side, maker: int, taker: int) -> SignedOrder:
    return posted(
        {
            "owner": "",
            "order": {
                "salt": 1,
                "maker": TEST_ADDRESS,
                "signer": TEST_ADDRESS,
                "tokenId": "1",
                "makerAmount": str(maker),
                "takerAmount": str(taker),
                "side": side,
                "signatureType": 0,
                "signature": "0x00",
                "timestamp": "1",
            },
        }
    ).order


@given(cents=st.integers(1, 99), budget_cents=st.integers(100, 10_000_000))
def test_shares_rounded_down_keep_the_price_and_rounded_up_lose_a_tick(cents: int, budget_cents: int) -> None:
    price, money, tick = cents * 10_000, budget_cents * 10_000, Price(10_000)
    down = money * 1_000_000 // price // 100 * 100
    assert wish_of(order(Side.BUY, money, down), OrderType.FAK, tick=tick).price == price
    if money * 1_000_000 % (price * 100):
        up = wish_of(order(Side.BUY, money, down + 100), OrderType.FAK, tick=tick)
        assert up.price == price - tick


@given(st.sampled_from([100_000, 10_000, 5_000, 2_500, 1_000, 100]), st.integers(100, 10_000_000), st.data())
def test_flooring_to_four_decimals_keeps_the_price_on_every_tick(
    tick: int, budget_cents: int, data: st.DataObject
) -> None:
    price = tick * data.draw(st.integers(1, 1_000_000 // tick - 1))
    money = budget_cents * 10_000
    shares = money * 1_000_000 // price // 100 * 100
    assert wish_of(order(Side.BUY, money, shares), OrderType.FAK, tick=Price(tick)).price == price
    sold = money * price // 1_000_000 // 100 * 100
    if sold:
        assert wish_of(order(Side.SELL, money, sold), OrderType.FAK, tick=Price(tick)).price == price


@pytest.mark.parametrize(
    ("money", "shares", "tick"),
    [(1_000_000, 1_041_800, 1_000), (1_000_000, 1_041_500, 1_000), (10_000_000, 19_220_000, 10_000)],
)
def test_amounts_that_no_price_explains_are_off_the_grid(money: int, shares: int, tick: int) -> None:
    price = wish_of(order(Side.BUY, money, shares), OrderType.FAK, tick=Price(tick)).price
    assert price % tick


@given(cents=st.integers(1, 99), hundredths=st.integers(100, 10_000_000))
def test_market_sale_keeps_its_price_and_counts_shares(cents: int, hundredths: int) -> None:
    shares = hundredths * 10_000
    wish = wish_of(order(Side.SELL, shares, shares * cents // 100), OrderType.FOK, tick=Price(10_000))
    assert (wish.price, wish.size, wish.budget) == (cents * 10_000, shares, 0)


def test_market_price_off_the_grid_stays_off_the_grid() -> None:
    wish = wish_of(order(Side.BUY, 56_300_000, 100_000_000), OrderType.FAK, tick=Price(10_000))
    assert wish.price == 563_000
