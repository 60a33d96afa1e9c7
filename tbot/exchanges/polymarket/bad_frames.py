"""What a bad market message still says: which of its frames are whole, and whose the bad one was."""

from __future__ import annotations

from typing import Any

import msgspec

from tbot.errors import BadFrame
from tbot.exchanges.polymarket.wire import RAWS, decode

_ANY: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Any)


def pieces_of(text: str) -> list[str]:
    """Split a message into its frames; one that is not JSON is one piece."""
    if text.lstrip()[:1] != "[":
        return [text]
    try:
        return [bytes(raw).decode() for raw in decode(RAWS, text)]
    except (BadFrame, UnicodeError):
        return [text]


def tokens_named(piece: str) -> tuple[str, ...]:
    """Name the tokens of a frame, each once; () when it does not say for certain whose it was."""
    try:
        frame = decode(_ANY, piece)
    except BadFrame:
        return ()
    if not isinstance(frame, dict):
        return ()
    if "asset_id" in frame:
        named = [frame["asset_id"]]
    else:
        changes = frame.get("price_changes")
        rows = changes if isinstance(changes, list) else []
        named = [row.get("asset_id") if isinstance(row, dict) else None for row in rows]
    if not all(isinstance(name, str) and name for name in named):
        return ()
    return tuple(dict.fromkeys(named))
