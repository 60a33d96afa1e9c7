"""Signatures against vectors made by the official clients; every flipped bit is noticed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbot.core.messages import OrderType, Side
from tbot.core.units import Price
from tbot.exchanges.simulated.accounts import PlayAccount, proxy_wallet, safe_wallet
from tbot.exchanges.simulated.http import HttpRefusal
from tbot.exchanges.simulated.verify import OrderVerifier, hmac_text
from tbot.exchanges.simulated.wire_in import PostOrder, SignedOrder, decode, wish_of

TEST_ADDRESS = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"


def posted(body: Any) -> PostOrder:
    return decode(json.dumps(body).encode(), PostOrder, refusal="Invalid order payload")


def test_official_orders_recover_to_their_signer_and_id(vectors: Any) -> None:
    cases = vectors("orders_v2.json")
    assert len(cases) == 78
    for case in cases:
        verifier, order = OrderVerifier(case["chain_id"]), posted(case["body"]).order
        assert verifier.order_id(order, is_neg_risk=case["neg_risk"]) == case["order_hash"], case["name"]
        assert verifier.signer(order, is_neg_risk=case["neg_risk"]) == TEST_ADDRESS, case["name"]


def test_official_orders_mean_the_price_and_size_their_user_typed(vectors: Any) -> None:
    for case in vectors("orders_v2.json"):
        body = posted(case["body"])
        wish = wish_of(body.order, body.order_type, tick=Price(round(float(case["tick_size"]) * 1e6)))
        typed = (round(float(case["price"]) * 1e6), round(float(case["size"]) * 1e6), 0)
        assert (wish.price, wish.size, wish.budget) == typed, case["name"]


@pytest.mark.parametrize("signature_type", [0, 3])
def test_any_flipped_bit_of_the_signature_is_noticed(vectors: Any, signature_type: int) -> None:
    cases = (case["body"] for case in vectors("orders_v2.json"))
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


@given(cents=st.integers(1, 99), hundredths=st.integers(100, 10_000_000))
def test_market_sale_keeps_its_price_and_counts_shares(cents: int, hundredths: int) -> None:
    shares = hundredths * 10_000
    wish = wish_of(order(Side.SELL, shares, shares * cents // 100), OrderType.FOK, tick=Price(10_000))
    assert (wish.price, wish.size, wish.budget) == (cents * 10_000, shares, 0)


def test_market_price_off_the_grid_stays_off_the_grid() -> None:
    wish = wish_of(order(Side.BUY, 56_300_000, 100_000_000), OrderType.FAK, tick=Price(10_000))
    assert wish.price == 563_000
