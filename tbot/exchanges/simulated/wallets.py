"""Where the money of an address may lie: its proxy wallet, its Gnosis Safe and its deposit wallet.

All three are CREATE2 addresses, functions of the owner's address alone. A deposit wallet is a beacon proxy with
immutable arguments (the factory and the owner as a wallet id), built as Solady's LibClone builds it; the older UUPS
kind, whose address differs, is not derived here and has to be registered.

Sources: factories and the beacon as the official client polymarket-client 0.14.0 has them, read 2026-11-22; its
addresses for two owners are test vectors.
"""

from __future__ import annotations

from functools import lru_cache

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

PROXY_FACTORY = "0xaB45c5A4B0c941a2F231C04C3f49182e1A254052"
SAFE_FACTORY = "0xaacFeEa03eb1561C4e67d661e40682Bd20E3541b"
DEPOSIT_FACTORY = "0x00000000000Fb5C9ADea0298D729A0CB3823Cc07"
DEPOSIT_BEACON = "0x7A18EDfe055488A3128f01F563e5B479D92ffc3a"
_PROXY_CODE_HASH = bytes.fromhex("d21df8dc65880a8606f09fe0ce3df9b8869287ab0b058be05aa9e8af6330a00b")
_SAFE_CODE_HASH = bytes.fromhex("2bce2127ff07fb632d16c8347c4ebf501f4841168bed00d9e6ef715ddb6fcecf")

# Creation code of a beacon proxy before and after the beacon's address; the run-time code is 0x52 bytes long, to which
# the length of the immutable arguments is added.
_BEACON_HEAD = 0x6100523D8160233D3973
_BEACON_TAIL = bytes.fromhex(
    "60195155f3363d3d373d3d363d602036600436635c60da"
    "1b60e01b36527fa3f0ad74e5423aebfd80d3ef4346578335a9a72aeaee59ff6c"
    "b3582b35133d50545afa5036515af43d6000803e604d573d6000fd5b3d6000f3"
)
_HEAD_BYTES = 10
_LENGTH_SHIFT = 56
_WORD = 32
_CACHED = 1_024


@lru_cache(maxsize=_CACHED)
def proxy_wallet(owner: str) -> str:
    """Derive the Polymarket proxy wallet of an address."""
    return _create2(PROXY_FACTORY, salt=keccak(_bytes(owner)), code_hash=_PROXY_CODE_HASH)


@lru_cache(maxsize=_CACHED)
def safe_wallet(owner: str) -> str:
    """Derive the Gnosis Safe of an address."""
    return _create2(SAFE_FACTORY, salt=keccak(_word(owner)), code_hash=_SAFE_CODE_HASH)


@lru_cache(maxsize=_CACHED)
def deposit_wallet(owner: str) -> str:
    """Derive the deposit wallet (beacon proxy) of an address."""
    arguments = _word(DEPOSIT_FACTORY) + _word(owner)
    head = (_BEACON_HEAD + (len(arguments) << _LENGTH_SHIFT)).to_bytes(_HEAD_BYTES, "big")
    code = head + _bytes(DEPOSIT_BEACON) + _BEACON_TAIL + arguments
    return _create2(DEPOSIT_FACTORY, salt=keccak(arguments), code_hash=keccak(code))


def _create2(factory: str, *, salt: bytes, code_hash: bytes) -> str:
    return to_checksum_address(keccak(b"\xff" + _bytes(factory) + salt + code_hash)[12:])


def _bytes(address: str) -> bytes:
    return bytes.fromhex(address[2:])


def _word(address: str) -> bytes:
    return _bytes(address).rjust(_WORD, b"\0")
