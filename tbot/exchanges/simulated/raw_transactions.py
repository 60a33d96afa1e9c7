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

RAW_BYTES_MAX = 1_024
"""Longest transaction looked at: an approval has less than 200 bytes."""

_TEXT, _LONG_TEXT, _LIST, _LONG_LIST = 0x80, 0xB7, 0xC0, 0xF7
_FEE_MARKET = 2
# Access lists, the deepest there is, are three lists deep.
_DEPTH_MAX = 5
_LEGACY_FIELDS, _FEE_MARKET_FIELDS = 9, 12
_ACCESS_LIST = 8
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
    return _fee_market(raw) if raw[:1] == bytes([_FEE_MARKET]) else _legacy(raw)


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
    item, end = _item(data, 0, len(data), _DEPTH_MAX)
    if end != len(data) or rlp_encode(item) != data:
        raise ValueError("no RLP in its shortest form")
    return item


def _legacy(raw: bytes) -> RawTransaction:
    nonce, price, gas, to, value, data, v, r, s = _texts(_fields(raw, _LEGACY_FIELDS))
    chain_id, parity = divmod(_number(v) - _CHAIN_OFFSET, 2)
    if chain_id < 1:
        raise ValueError("only replay-protected (EIP-155) transactions allowed over RPC")
    signed = rlp_encode([nonce, price, gas, to, value, data, _bytes(chain_id), b"", b""])
    return _read(raw, signed, (parity, r, s), chain_id=chain_id, call=(nonce, to, value, data))


# An access list that is not empty is not taken, as nobody needs it. An empty text is none: the same signature would
# count under two hashes, and whoever sent one of them would wait for ever for its receipt.
def _fee_market(raw: bytes) -> RawTransaction:
    items = _fields(raw[1:], _FEE_MARKET_FIELDS)
    if items.pop(_ACCESS_LIST) != []:
        raise ValueError("transaction type not supported")
    chain, nonce, tip, fee, gas, to, value, data, parity, r, s = _texts(items)
    signed = bytes([_FEE_MARKET]) + rlp_encode([chain, nonce, tip, fee, gas, to, value, data, []])
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
    if parity not in (0, 1) or len(to) not in (0, 20):
        raise ValueError("invalid sender")
    # As numbers, so that each is written in one way only.
    compact = b"".join(_number(each).to_bytes(_WORD, "big") for each in (r, s)) + bytes([parity + _RECOVERY_ID])
    return RawTransaction(
        hash="0x" + keccak256(raw).hex(),
        sender=signer_of(keccak256(signed), compact),
        chain_id=chain_id,
        nonce=_number(nonce),
        to="0x" + to.hex() if to else "",
        value=_number(value),
        data=data,
    )


def _fields(data: bytes, count: int) -> list[Item]:
    item = rlp_decode(data)
    if isinstance(item, bytes) or len(item) != count:
        raise ValueError("transaction type not supported")
    return item


def _texts(items: list[Item]) -> list[bytes]:
    texts = [item for item in items if isinstance(item, bytes)]
    if len(texts) != len(items):
        raise ValueError("transaction type not supported")
    return texts


# What lies in a list ends where the list does, at `limit`; the data are not copied for it.
def _item(data: bytes, start: int, limit: int, depth: int) -> tuple[Item, int]:
    if start >= limit or not depth:
        raise ValueError("RLP ends too early")
    first = data[start]
    if first < _TEXT:
        return data[start : start + 1], start + 1
    is_list = first >= _LIST
    begin, end = _extent(data, start, short=_LIST if is_list else _TEXT, long=_LONG_LIST if is_list else _LONG_TEXT)
    if end > limit:
        raise ValueError("RLP ends too early")
    if not is_list:
        return data[begin:end], end
    items: list[Item] = []
    while begin < end:
        item, begin = _item(data, begin, end, depth - 1)
        items.append(item)
    return items, end


def _extent(data: bytes, start: int, *, short: int, long: int) -> tuple[int, int]:
    first, begin = data[start], start + 1
    length = first - short
    if first > long:
        begin += first - long
        length = int.from_bytes(data[start + 1 : begin], "big")
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
