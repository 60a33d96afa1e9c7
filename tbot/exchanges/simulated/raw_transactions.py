"""Signed transactions as a chain takes them: their bytes, what they call, and who signed.

The two kinds that wallets send: legacy ones bound to a chain (EIP-155) and those with a fee market (EIP-1559).
Sources: the Ethereum yellow paper, appendix B (RLP); EIP-155, EIP-1559, EIP-2718.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec
from tiny_keccak import keccak256

from tbot.exchanges.simulated.typed_data import signer_of

Item: TypeAlias = "bytes | list[Item]"

RAW_BYTES_MAX = 4_096
"""Longest transaction looked at: an approval has less than 200 bytes."""

_TEXT, _LONG_TEXT, _LIST, _LONG_LIST = 0x80, 0xB7, 0xC0, 0xF7
_FEE_MARKET = 2
# Access lists, the deepest there is, are three lists deep.
_DEPTH_MAX = 5
_LEGACY_FIELDS, _FEE_MARKET_FIELDS = 9, 12
_WORD = 32
_RECOVERY_ID = 27
# v of a legacy signature is this plus twice the chain's id plus the parity.
_CHAIN_OFFSET = 35


class RawTransaction(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction that was read.

    Attributes:
        sender: Who signed it, checksummed.
        to: The contract, in lower case; "" = it makes a new one.
        value: Of the chain's own coin, in its smallest unit.
    """

    hash: str
    sender: str
    chain_id: int
    nonce: int
    to: str
    value: int
    data: bytes


def read_transaction(raw: bytes) -> RawTransaction:
    """Read a signed transaction.

    Raises:
        ValueError: It is none, of another kind, or its signature cannot be one.
    """
    if len(raw) > RAW_BYTES_MAX:
        raise ValueError("oversized data")
    is_typed = raw[:1] == bytes([_FEE_MARKET])
    fields = _fields(raw[1:] if is_typed else raw, _FEE_MARKET_FIELDS if is_typed else _LEGACY_FIELDS)
    return _fee_market(raw, fields) if is_typed else _legacy(raw, fields)


def rlp_encode(item: Item) -> bytes:
    """Write bytes, or lists of them, as RLP."""
    if isinstance(item, bytes):
        return item if len(item) == 1 and item[0] < _TEXT else _head(len(item), _TEXT, _LONG_TEXT) + item
    body = b"".join(map(rlp_encode, item))
    return _head(len(body), _LIST, _LONG_LIST) + body


def rlp_decode(data: bytes) -> Item:
    """Read RLP.

    Raises:
        ValueError: It is none, or not in its one shortest form.
    """
    item, end = _item(data, 0, _DEPTH_MAX)
    if end != len(data) or rlp_encode(item) != data:
        raise ValueError("no RLP in its shortest form")
    return item


def _legacy(raw: bytes, fields: list[bytes]) -> RawTransaction:
    nonce, price, gas, to, value, data, v, r, s = fields
    chain_id, parity = divmod(_number(v) - _CHAIN_OFFSET, 2)
    if chain_id < 1:
        raise ValueError("only replay-protected (EIP-155) transactions allowed over RPC")
    signed = rlp_encode([nonce, price, gas, to, value, data, _bytes(chain_id), b"", b""])
    return _read(raw, signed, (parity, r, s), chain_id=chain_id, call=(nonce, to, value, data))


def _fee_market(raw: bytes, fields: list[bytes]) -> RawTransaction:
    chain, nonce, _, _, _, to, value, data, _, parity, r, s = fields
    signed = bytes([_FEE_MARKET]) + rlp_encode([*fields[:8], []])
    return _read(raw, signed, (_number(parity), r, s), chain_id=_number(chain), call=(nonce, to, value, data))


def _read(
    raw: bytes,
    signed: bytes,
    signature: tuple[int, bytes, bytes],
    *,
    chain_id: int,
    call: tuple[bytes, bytes, bytes, bytes],
) -> RawTransaction:
    (parity, r, s), (nonce, to, value, data) = signature, call
    if parity not in (0, 1) or len(r) > _WORD or len(s) > _WORD or len(to) not in (0, 20):
        raise ValueError("invalid sender")
    compact = r.rjust(_WORD, b"\0") + s.rjust(_WORD, b"\0") + bytes([parity + _RECOVERY_ID])
    return RawTransaction(
        hash="0x" + keccak256(raw).hex(),
        sender=signer_of(keccak256(signed), compact),
        chain_id=chain_id,
        nonce=_number(nonce),
        to="0x" + to.hex() if to else "",
        value=_number(value),
        data=data,
    )


# An empty access list stands among the fields of a fee market; one that is not empty is not taken, as nobody needs it.
def _fields(data: bytes, count: int) -> list[bytes]:
    item = rlp_decode(data)
    if isinstance(item, bytes) or len(item) != count:
        raise ValueError("transaction type not supported")
    fields = [b"" if field == [] else field for field in item]
    if not all(isinstance(field, bytes) for field in fields):
        raise ValueError("transaction type not supported")
    return [field for field in fields if isinstance(field, bytes)]


def _item(data: bytes, start: int, depth: int) -> tuple[Item, int]:
    if start >= len(data) or not depth:
        raise ValueError("RLP ends too early")
    first = data[start]
    if first < _TEXT:
        return data[start : start + 1], start + 1
    is_list = first >= _LIST
    begin, end = _extent(data, start, short=_LIST if is_list else _TEXT, long=_LONG_LIST if is_list else _LONG_TEXT)
    if not is_list:
        return data[begin:end], end
    items: list[Item] = []
    while begin < end:
        item, begin = _item(data[:end], begin, depth - 1)
        items.append(item)
    return items, end


def _extent(data: bytes, start: int, *, short: int, long: int) -> tuple[int, int]:
    first, begin = data[start], start + 1
    length = first - short
    if first > long:
        begin += first - long
        length = int.from_bytes(data[start + 1 : begin], "big")
    if begin + length > len(data):
        raise ValueError("RLP ends too early")
    return begin, begin + length


def _head(length: int, short: int, long: int) -> bytes:
    if length <= long - short:
        return bytes([short + length])
    size = _bytes(length)
    return bytes([long + len(size)]) + size


def _number(field: bytes) -> int:
    if field[:1] == b"\0" or len(field) > _WORD:
        raise ValueError("a number with leading zeros or beyond 256 bits")
    return int.from_bytes(field, "big")


def _bytes(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")
