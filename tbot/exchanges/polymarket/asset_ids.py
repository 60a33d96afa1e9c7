"""What an asset id says about itself: which protocol its orders follow, and who holds its tokens.

The id decides, not a setting and not the sender: a CTF token id is a hash, a position id of Polymarket's newer protocol
has fields. Most significant first: 8 bits module, 128 base hash, 16 arity, 64 reserved (always zero), 16 resolution
chain, 16 condition index, 8 outcome. Source: docs.polymarket.com (position ids), read 2026-11-22.
"""

from __future__ import annotations

from typing import Final

from tbot.core.market import TokenId
from tbot.errors import BadFrame

VERSION_SPOKEN: Final = 2
"""What `GET /version` must say: the order protocol of CTF tokens. Positions have theirs, whatever it says."""

_MODULE_SHIFT: Final = 248
_RESERVED: Final = ((1 << 64) - 1) << 40
_ID_END: Final = 1 << 256


def asset_number(token_id: str) -> int:
    """Read an asset id as the number that is signed.

    Raises:
        BadFrame: Not a plain decimal number of 256 bits.
    """
    if token_id.isascii() and token_id.isdigit() and len(token_id) <= 78 and (number := int(token_id)) < _ID_END:
        return number
    raise BadFrame(f"asset id {token_id[:80]!r}: expected a decimal number of at most 256 bits")


def is_position_id(token_id: TokenId) -> bool:
    """Tell whether an asset is a position, traded by V3 orders; the others are CTF tokens, traded by V2 orders.

    The official rule looks only at the reserved bits, which a hash leaves zero by a chance of 2**-64. A module is asked
    for as well: none is number 0, and small numbers are the made-up ids of tests.

    Raises:
        BadFrame: Not an asset id.
    """
    number = asset_number(token_id)
    return number >> _MODULE_SHIFT != 0 and not number & _RESERVED


def balance_type(token_id: TokenId | None) -> str:
    """Name the kind of asset in questions about balances; None = the collateral.

    Raises:
        BadFrame: Not an asset id.
    """
    if token_id is None:
        return "COLLATERAL"
    return "CONDITIONAL-V2" if is_position_id(token_id) else "CONDITIONAL"
