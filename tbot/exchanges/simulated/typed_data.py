"""EIP-712 by the letter: struct types as text, values by name, digests, and who signed one.

Driven by the type text like any general encoder, and so unlike the bot's signer, which packs the words of its struct by
hand: an error there cannot cancel out against the same error here. Only what Polymarket signs is supported: uint,
address, bytes32, bytes, string, and structs inside another, one or a list. Tests compare it with eth-account's encoder,
which it replaced because that took ten times as long as everything else an order costs here.

Sources: EIP-712; EIP-2 (low half of the curve's order).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import cast

import msgspec
from coincurve import PublicKey
from eth_utils.address import to_checksum_address
from tiny_keccak import keccak256

_WORD = 32
_ECDSA_BYTES = 65
_UINT256_END = 1 << 256
# The contract knows no other recovery ids, and refuses the second of the two signatures every signature can be turned
# into: the upper half of the curve's order.
_RECOVERY_IDS = (27, 28)
_S_MAX = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0

Values = Mapping[str, object]


class StructType:
    """One struct type.

    Args:
        name: As in the type text.
        fields: `"uint256 salt,address maker"`.
        inner: The struct types that fields name.
    """

    def __init__(self, name: str, fields: str, *inner: StructType) -> None:
        self.text = f"{name}({fields})"
        self._inner = {kind.text.partition("(")[0]: kind for kind in inner}
        pairs = (field.split(" ") for field in fields.split(","))
        self._fields = tuple((self._encoder(kind), field) for kind, field in pairs)
        # Referenced types follow in alphabetical order.
        referenced = "".join(self._inner[each].text for each in sorted(self._inner))
        self._type_hash = keccak256((self.text + referenced).encode())

    def hash(self, values: Values) -> bytes:
        """Hash a struct.

        Raises:
            ValueError: A number beyond 256 bits, or an address or bytes32 of another length.
        """
        words = [encode(values[name]) for encode, name in self._fields]
        return keccak256(self._type_hash + b"".join(words))

    def _encoder(self, kind: str) -> Callable[[object], bytes]:
        inner = self._inner.get(kind.removesuffix("[]"))
        if inner is None:
            return _ENCODERS["uint" if kind.startswith("uint") else kind]
        # Typed for any value, as the others are; what it is given it looks up by name.
        one = cast("Callable[[object], bytes]", inner.hash)
        return _list_of(one) if kind.endswith("[]") else one


def _list_of(encode: Callable[[object], bytes]) -> Callable[[object], bytes]:
    def encode_all(values: object) -> bytes:
        assert isinstance(values, list)
        return keccak256(b"".join(map(encode, values)))

    return encode_all


class TypedMessage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is signed.

    Attributes:
        domain: Hash of the domain: where the signature counts.
        contents: Hash of the struct.
    """

    domain: bytes
    contents: bytes

    def digest(self) -> bytes:
        """Return the 32 bytes under the signature."""
        return keccak256(b"\x19\x01" + self.domain + self.contents)

    def signer(self, signature: bytes) -> str:
        """Recover the checksummed address of the key that signed.

        Raises:
            ValueError: Wrong length, values out of range, no point of the curve, the malleable twin of a signature.
        """
        return signer_of(self.digest(), signature)


def signer_of(digest: bytes, signature: bytes) -> str:
    """Recover the checksummed address of the key that signed a digest of 32 bytes.

    Raises:
        ValueError: Wrong length, values out of range, no point of the curve, the malleable twin of a signature.
    """
    is_whole = len(signature) == _ECDSA_BYTES
    if not is_whole or signature[-1] not in _RECOVERY_IDS or int.from_bytes(signature[32:64], "big") > _S_MAX:
        raise ValueError("no signature a contract takes")
    compact = signature[:-1] + bytes([signature[-1] - _RECOVERY_IDS[0]])
    key = PublicKey.from_signature_and_message(compact, digest, hasher=None)
    return checksummed(keccak256(key.format(compressed=False)[1:])[12:])


# The same few keys sign everything, and the capitals cost as much as half a recovery.
@lru_cache(maxsize=4_096)
def checksummed(address: bytes) -> str:
    """Spell an address of 20 bytes with its checksum."""
    return str(to_checksum_address(address))


def _uint(value: object) -> bytes:
    assert isinstance(value, int)
    if not 0 <= value < _UINT256_END:
        raise ValueError("a number beyond 256 bits")
    return value.to_bytes(_WORD, "big")


def _address(value: object) -> bytes:
    assert isinstance(value, str)
    raw = bytes.fromhex(value.removeprefix("0x"))
    if len(raw) != 20:
        raise ValueError("an address of another length than 20 bytes")
    return raw.rjust(_WORD, b"\0")


def _bytes32(value: object) -> bytes:
    assert isinstance(value, bytes)
    if len(value) != _WORD:
        raise ValueError("a bytes32 of another length")
    return value


def _bytes(value: object) -> bytes:
    assert isinstance(value, bytes)
    return keccak256(value)


def _string(value: object) -> bytes:
    assert isinstance(value, str)
    return keccak256(value.encode())


_ENCODERS: Mapping[str, Callable[[object], bytes]] = {
    "uint": _uint,
    "address": _address,
    "bytes32": _bytes32,
    "bytes": _bytes,
    "string": _string,
}
