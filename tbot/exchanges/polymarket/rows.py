"""Lists taken row by row: whose a row is that cannot be read. Pure.

A list is as old as its worst row otherwise: one strange order of somebody's would hide all of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from tbot.errors import BadFrame
from tbot.exchanges.polymarket.wire import Wire, decode

T = TypeVar("T")


class RowHead(msgspec.Struct, frozen=True, kw_only=True):
    """What any row of a list says of itself, as far as it can be read.

    Attributes:
        row_id: Of the order or trade; "" = it does not say.
        tokens: Every token it names, the legs' included; None = it does not say for certain.
    """

    row_id: str = ""
    tokens: tuple[str, ...] | None = None

    def is_foreign(self, ours: Collection[str]) -> bool:
        """Tell whether a row is surely of other markets than ours; as long as we know of none, no row is."""
        return bool(ours) and self.tokens is not None and not any(token in ours for token in self.tokens)


class Listed(NamedTuple, Generic[T]):
    """A row of a list, read once.

    Attributes:
        row: As it came.
        head: What names it.
        said: What it says; None = not enough. A `BadFrame` says why it cannot be read.
    """

    row: bytes
    head: RowHead
    said: T | BadFrame | None

    def is_to_be_asked(self, ours: Collection[str]) -> bool:
        """Tell whether it must be read by its id: it may be of our markets, and does not say what it is itself."""
        is_unsaid = self.said is None or isinstance(self.said, BadFrame)
        return is_unsaid and bool(self.head.row_id) and not self.head.is_foreign(ours)


class _Loose(Wire, frozen=True, kw_only=True):
    id: Any = None
    asset_id: Any = None
    maker_orders: Any = None


_LOOSE = msgspec.json.Decoder(_Loose)


def listed(row: bytes, read: Callable[[bytes], T | None]) -> Listed[T]:
    """Read a row with what reads such rows, and what names it."""
    said: T | BadFrame | None
    try:
        said = read(row)
    except BadFrame as error:
        said = error
    return Listed(row, row_head(row), said)


def row_head(row: bytes) -> RowHead:
    """Read what names a row, whatever the rest of it is."""
    try:
        loose = decode(_LOOSE, row)
    except BadFrame:
        return RowHead()
    return RowHead(row_id=loose.id if isinstance(loose.id, str) else "", tokens=_tokens(loose))


def _tokens(row: _Loose) -> tuple[str, ...] | None:
    legs = [] if row.maker_orders is None else row.maker_orders
    if not isinstance(legs, list):
        return None
    named = [row.asset_id, *(leg.get("asset_id") if isinstance(leg, dict) else None for leg in legs)]
    # Another spelling of a token, a number perhaps, might be ours.
    if not all(isinstance(token, str) and token.isascii() and token.isdigit() for token in named):
        return None
    return tuple(named)
