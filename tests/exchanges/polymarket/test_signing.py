"""Published vectors are reproduced byte for byte, and keys do not leak."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tbot.core.market import TokenId
from tbot.core.messages import OrderType, Side
from tbot.core.units import Price, Size, micro_from_text
from tbot.errors import BadFrame, ConfigError
from tbot.exchanges.polymarket.amounts import amounts_of
from tbot.exchanges.polymarket.asset_ids import balance_type, is_position_id
from tbot.exchanges.polymarket.auth import RequestSigner, l1_headers
from tbot.exchanges.polymarket.keys import TEST_KEY_HEX, ApiCredentials, SigningKey, checksum_address
from tbot.exchanges.polymarket.signing import OrderSigner, SignedOrder, exchange_contract

VECTORS = Path(__file__).parent / "vectors"
ORDERS = json.loads((VECTORS / "orders_v2.json").read_text())
CASES = ORDERS["cases"] + json.loads((VECTORS / "orders_v3.json").read_text())["cases"]
ASSETS = json.loads((VECTORS / "asset_ids.json").read_text())["cases"]
UNIFIED = json.loads((VECTORS / "wire_body_unified_sdk.json").read_text())["cases"]
AUTH = json.loads((VECTORS / "auth.json").read_text())
KEY = SigningKey.from_hex(TEST_KEY_HEX)


def sign_case(case: dict[str, Any], key: SigningKey = KEY) -> SignedOrder:
    order, body = case["body"]["order"], case["body"]
    side, order_type = Side(case["side"]), OrderType(body["orderType"])
    price, size = Price(micro_from_text(case["price"])), Size(micro_from_text(case["size"]))
    tick = Price(micro_from_text(case["tick_size"]))
    signer = OrderSigner(
        key,
        chain_id=case["chain_id"],
        owner=body["owner"],
        signature_type=case["signature_type"],
        funder=order["maker"],
        metadata=bytes.fromhex(order["metadata"][2:]),
        builder=bytes.fromhex(order["builder"][2:]),
    )
    return signer.sign(
        token_id=TokenId(order["tokenId"]),
        side=side,
        amounts=amounts_of(order_type=order_type, side=side, price=price, size=size, tick=tick),
        order_type=order_type,
        is_post_only=body["postOnly"],
        is_neg_risk=case["neg_risk"],
        salt=order["salt"],
        timestamp_ms=int(order["timestamp"]),
        expiration_s=int(order["expiration"]),
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_order_vector_is_reproduced_byte_for_byte(case: dict[str, Any]) -> None:
    signed = sign_case(case)
    assert signed.order_id == case["order_hash"]
    assert signed.body == json.dumps(case["body"], separators=(",", ":")).encode()


def test_vectors_cover_every_kind_of_order() -> None:
    for protocol in (2, 3):
        cases = [case for case in CASES if case["protocol"] == protocol]
        assert {case["signature_type"] for case in cases} == {0, 1, 2, 3}
        assert {case["chain_id"] for case in cases} == {137, 80002}
        assert len({case["tick_size"] for case in cases}) == 6
        assert {case["body"]["orderType"] for case in cases} == {"GTC", "GTD"}
    assert {case["neg_risk"] for case in CASES if case["protocol"] == 2} == {False, True}


@pytest.mark.parametrize("case", [c for c in CASES if c["protocol"] == 3][:4], ids=lambda case: case["name"])
def test_a_position_is_signed_for_its_own_exchange_whatever_the_market_says(case: dict[str, Any]) -> None:
    signed = [sign_case(case | {"neg_risk": flag}) for flag in (False, True)]
    assert signed[0] == signed[1]
    assert signed[0].order_id == case["order_hash"]


@pytest.mark.parametrize("case", UNIFIED, ids=lambda case: case["name"])
def test_body_says_the_same_as_the_unified_client_s(case: dict[str, Any]) -> None:
    twin = next(each for each in CASES if each["name"] == case["name"])
    ours = json.loads(sign_case(twin).body)
    assert ours == {"postOnly": False} | case["body"]  # which leaves the flag out when it is false


def test_wrapped_signature_has_the_length_the_contract_takes_apart() -> None:
    wrapped = [json.loads(sign_case(case).body) for case in CASES if case["signature_type"] == 3]
    assert {len(body["order"]["signature"]) for body in wrapped} == {2 + 2 * 317}


@pytest.mark.parametrize("case", ASSETS, ids=lambda case: case["asset_id"][-6:])
def test_asset_id_tells_its_protocol(case: dict[str, Any]) -> None:
    token_id = TokenId(case["asset_id"])
    assert is_position_id(token_id) is case["is_position_id"]
    assert balance_type(token_id) == ("CONDITIONAL-V2" if case["is_position_id"] else "CONDITIONAL")
    contract = exchange_contract(token_id, is_neg_risk=True, chain_id=137)
    assert contract.version == ("3" if case["is_position_id"] else "2")


@pytest.mark.parametrize("text", ["", "0x12", "-1", "1.5", "²", "9" * 79, str(1 << 256)])
def test_what_is_no_asset_id_is_refused(text: str) -> None:
    with pytest.raises(BadFrame, match="asset id"):
        is_position_id(TokenId(text))


def test_another_key_gives_another_signature() -> None:
    case = ORDERS["cases"][1]
    other = SigningKey(bytes(31) + b"\x02")
    case = msgspec.json.decode(msgspec.json.encode(case))
    case["body"]["order"]["maker"] = other.address
    assert sign_case(case, other).body != sign_case(ORDERS["cases"][1]).body


@pytest.mark.parametrize("case", AUTH["l1"], ids=lambda case: f"{case['chain_id']}-{case['timestamp']}-{case['nonce']}")
def test_l1_vector_is_reproduced(case: dict[str, Any]) -> None:
    headers = l1_headers(KEY, chain_id=case["chain_id"], timestamp_s=case["timestamp"], nonce=case["nonce"])
    assert headers == case["headers"]


@pytest.mark.parametrize("case", AUTH["l2"], ids=lambda case: f"{case['method']} {case['path']}")
def test_l2_vector_is_reproduced(case: dict[str, Any]) -> None:
    credentials = ApiCredentials(api_key=case["api_key"], secret=case["secret"], passphrase=case["passphrase"])
    body = (case["body"] or "").encode()
    headers = RequestSigner(KEY.address, credentials).headers(
        case["method"], case["path"], body, timestamp_s=int(case["timestamp"])
    )
    assert headers == case["headers"]


def test_secret_without_padding_is_accepted() -> None:
    case = AUTH["l2"][0]
    padded = ApiCredentials(api_key="k", secret=case["secret"], passphrase="p")
    bare = ApiCredentials(api_key="k", secret=case["secret"].rstrip("="), passphrase="p")
    one, two = (
        RequestSigner(KEY.address, c).headers("GET", "/data/orders", b"", timestamp_s=1) for c in (padded, bare)
    )
    assert one == two


SECRETS = [
    pytest.param(KEY, TEST_KEY_HEX[2:], id="key"),
    pytest.param(ApiCredentials(api_key="id", secret="s3cret", passphrase="hush"), "s3cret", id="credentials"),
]


@pytest.mark.parametrize(("holder", "secret"), SECRETS)
def test_secret_has_no_text_form(holder: object, secret: str) -> None:
    for text in (repr(holder), str(holder), f"{holder}", f"{holder!s:>40}"):
        assert secret not in text
        assert "***" in text


@pytest.mark.parametrize(("holder", "_secret"), SECRETS)
def test_secret_is_never_serialized(holder: object, _secret: str) -> None:
    with pytest.raises(TypeError):
        pickle.dumps(holder)
    with pytest.raises(TypeError):
        copy.copy(holder)
    with pytest.raises(TypeError):
        msgspec.json.encode(holder)
    with pytest.raises(TypeError):
        vars(holder)


@pytest.mark.parametrize("text", ["", "zz", "0x12", "00" * 32, "ff" * 32, "ab" * 33])
def test_bad_key_is_refused_without_quoting_it(text: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        SigningKey.from_hex(text)
    assert not text or text not in str(refusal.value)
    assert refusal.value.__context__ is None or refusal.value.__suppress_context__


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"chain_id": 1}, "chain_id"),
        ({"signature_type": 2}, "funder"),
        ({"funder": "0x" + "11" * 20}, "funder"),
        ({"signature_type": 1, "funder": "0x123"}, "address"),
        ({"signature_type": 1, "funder": "no hex"}, "address"),
    ],
)
def test_wallet_that_does_not_fit_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        OrderSigner(KEY, **{"chain_id": 137, "owner": "o", **changes})


def test_address_capitals_follow_eip_55() -> None:
    for address in ("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"):
        assert checksum_address(bytes.fromhex(address[2:])) == address


def test_unreadable_api_secret_is_refused() -> None:
    with pytest.raises(ConfigError, match="API secret"):
        RequestSigner(KEY.address, ApiCredentials(api_key="k", secret="é!", passphrase="p"))
