"""Which exchange contract a token is traded on: the order protocol follows from the token, never from the sender.

Source: docs.polymarket.com (contracts, position ids), official clients py-clob-client-v2 1.2.1 and polymarket-client
0.14.0; read 2026-11-22.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache

import msgspec
from tiny_keccak import keccak256

EXCHANGE_V2 = "0xE111180000d2663C0091e4f400237545B87B996B"
EXCHANGE_V2_NEG_RISK = "0xe2222d279d744050d28e00520010520000310F59"
EXCHANGE_V3 = {
    137: "0xe3333700cA9d93003F00f0F71f8515005F6c00Aa",
    80_002: "0x9fE6e61422AdB6F610d8597F9684b16912D50C3D",
}
SETTLING = frozenset({EXCHANGE_V2, EXCHANGE_V2_NEG_RISK, *EXCHANGE_V3.values()})
"""Every contract that moves what orders give, on either chain."""

COLLATERAL_TOKEN = "0xC011a7E12a19f7B1f670d46F03B03f3342E82DFB"
CONDITIONAL_TOKENS = "0x4D97DCd97eC945f40cF65F87097ACe5EA0476045"
POSITION_MANAGER = "0x006F54F7f9A22e0000CC2AB60031000000ae9fEF"
CHAINS = tuple(EXCHANGE_V3)
SELECTOR_BYTES = 4

# A position id, most significant first: 8 bits module, 128 hash, 16 arity, 64 reserved (always zero), 16 resolution
# chain, 16 condition index, 8 outcome.
_MODULES = (1, 2, 3)
_MODULE_SHIFT = 248
_RESERVED = ((1 << 64) - 1) << 40
_OUTCOME_BITS = 8


class AssetType(StrEnum):
    """What holds an asset, in the words of `/balance-allowance`: each is another contract that gives approvals."""

    COLLATERAL = "COLLATERAL"
    CONDITIONAL = "CONDITIONAL"
    CONDITIONAL_V2 = "CONDITIONAL-V2"


HOLDERS = {
    AssetType.COLLATERAL: COLLATERAL_TOKEN,
    AssetType.CONDITIONAL: CONDITIONAL_TOKENS,
    AssetType.CONDITIONAL_V2: POSITION_MANAGER,
}
"""The contract of each kind of asset."""

_HELD = {address.lower(): kind for kind, address in HOLDERS.items()}


class ExchangeContract(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where an order settles: the version and contract of its EIP-712 domain."""

    version: str
    address: str


@lru_cache(maxsize=1_024)
def is_position_id(token_id: str) -> bool:
    """Tell whether a token is a position of Protocol V2, traded by V3 orders; the others are CTF tokens."""
    number = int(token_id)
    return number >> _MODULE_SHIFT in _MODULES and not number & _RESERVED


def asset_type_of(token_id: str) -> AssetType:
    """Name what holds a token."""
    return AssetType.CONDITIONAL_V2 if is_position_id(token_id) else AssetType.CONDITIONAL


def asset_held_by(contract: str) -> AssetType | None:
    """Tell what a contract holds, in whichever case its address is spelled; None = nothing that is traded."""
    return _HELD.get(contract.lower())


def selector_of(signature: str) -> bytes:
    """Give the bytes by which a call names its function: `selector_of("decimals()")`."""
    return keccak256(signature.encode())[:SELECTOR_BYTES]


def condition_of(position_id: str) -> str:
    """Name the condition of a position as the CLOB spells it: 31 bytes of the id and a zero byte."""
    return f"0x{int(position_id) >> _OUTCOME_BITS << _OUTCOME_BITS:064x}"


def contract_of(token_id: str, *, is_neg_risk: bool, chain_id: int) -> ExchangeContract:
    """Name the exchange contract of a token; the neg-risk flag counts for CTF tokens only."""
    if is_position_id(token_id):
        return ExchangeContract(version="3", address=EXCHANGE_V3[chain_id])
    return ExchangeContract(version="2", address=EXCHANGE_V2_NEG_RISK if is_neg_risk else EXCHANGE_V2)
