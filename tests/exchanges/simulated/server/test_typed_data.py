"""Our EIP-712 encoder says what eth-account's general one says, byte for byte, and recovers the same signers."""

from __future__ import annotations

from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from hypothesis import given, settings
from hypothesis import strategies as st

from tbot.exchanges.simulated.typed_data import StructType, TypedMessage

KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
DOMAIN_FIELDS = "string name,string version,uint256 chainId,address verifyingContract"
PART_FIELDS = "uint256 salt,address maker,uint8 side,bytes32 metadata,bytes data"
WHOLE_FIELDS = "Part contents,string name,uint256 chainId,Part[] others"
DOMAIN = {"name": "Test", "version": "2", "chainId": 137, "verifyingContract": "0x" + "e1" * 20}
PART = StructType("Part", PART_FIELDS)
WHOLE = StructType("Whole", WHOLE_FIELDS, PART)
DOMAIN_HASH = StructType("EIP712Domain", DOMAIN_FIELDS).hash(DOMAIN)

PARTS = st.fixed_dictionaries(
    {
        "salt": st.integers(0, (1 << 256) - 1),
        "maker": st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex()),
        "side": st.integers(0, 255),
        "metadata": st.binary(min_size=32, max_size=32),
        "data": st.binary(max_size=70),
    }
)
VALUES = st.fixed_dictionaries(
    {
        "contents": PARTS,
        "others": st.lists(PARTS, max_size=3),
        "name": st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
        "chainId": st.integers(0, (1 << 64) - 1),
    }
)


def fields(text: str) -> list[dict[str, str]]:
    return [{"type": kind, "name": name} for kind, name in (field.split(" ") for field in text.split(","))]


@settings(max_examples=15, deadline=None)
@given(values=VALUES)
def test_hashes_and_signers_are_those_of_the_general_encoder(values: dict[str, Any]) -> None:
    types = {"Whole": fields(WHOLE_FIELDS), "Part": fields(PART_FIELDS)}
    theirs = encode_typed_data(DOMAIN, types, values)
    ours = TypedMessage(domain=DOMAIN_HASH, contents=WHOLE.hash(values))
    assert (ours.domain, ours.contents) == (theirs.header, theirs.body)
    signed = Account.sign_message(theirs, KEY)
    assert ours.digest() == signed.message_hash
    assert ours.signer(signed.signature) == Account.from_key(KEY).address


@pytest.mark.parametrize(
    ("name", "value"),
    [("salt", 1 << 256), ("salt", -1), ("maker", "0x" + "e1" * 19), ("maker", "0xzz"), ("metadata", bytes(31))],
)
def test_what_no_struct_can_hold_is_refused(name: str, value: object) -> None:
    values = {"salt": 1, "maker": "0x" + "e1" * 20, "side": 0, "metadata": bytes(32), name: value}
    with pytest.raises(ValueError, match=r".+"):
        PART.hash(values)


@pytest.mark.parametrize("raw", [b"", bytes(64), bytes(64) + b"\x1b", b"\xff" * 32 + b"\x01" * 32 + b"\x1b"])
def test_bytes_that_are_no_signature_are_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        TypedMessage(domain=bytes(32), contents=bytes(32)).signer(raw)
