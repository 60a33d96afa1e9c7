"""Decoding a `price_change` frame: ours against nautilus_trader's schemas for Polymarket, where it is installed.

Both are msgspec structs that keep texts as texts. nautilus_trader is large and pins libraries of its own, so it is no
dependency of ours; the row measures it in an environment made for that, and else says how to make one.
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import Any

import msgspec

from bench.decode import Ours, frame
from bench.measure import Case

MODULE = "nautilus_trader"
ABSENT = (
    "nautilus_trader's schemas: not measured, as nautilus_trader is not installed here; to measure, install tbot and "
    '"nautilus_trader[polymarket]" into an environment of their own and run `python -m bench` there'
)


class Peer:
    """Decodes with the decoder of nautilus_trader's data client."""

    def __init__(self, text: str) -> None:
        """Make the decoder as that client does."""
        types = importlib.import_module(f"{MODULE}.adapters.polymarket.websocket.types")
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(types.MARKET_WS_MESSAGE)
        self._text = text.encode()  # its client is handed bytes

    def changes(self) -> list[Any]:
        """Return the changes as its message holds them."""
        found: list[Any] = self._decoder.decode(self._text).price_changes
        return found


def is_installed() -> bool:
    """Tell whether there is anything to measure."""
    return find_spec(MODULE) is not None


def case() -> Case:
    """Build the row.

    Raises:
        ImportError: It is not installed, or without what its Polymarket adapter needs.
    """
    text = frame()
    ours, peer = Ours(text), Peer(text)
    theirs = [(c.asset_id, c.side.value, c.price, c.size, c.best_bid, c.best_ask) for c in peer.changes()]
    assert ours() == theirs, "the two decoders disagree: no speed matters"
    name, peer_name = f"decode a frame of {len(text)} B", "nautilus_trader's schemas"
    return Case(name=name, peer_name=peer_name, ours=ours.changes, peer=peer.changes)
