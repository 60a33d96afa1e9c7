"""Decoding a `price_change` frame of about 600 bytes: typed structs against `json.loads` and dicts.

Both read the same fields of every change, as text; ours has also checked the type of each.
"""

from __future__ import annotations

import json
from typing import Any

from bench.measure import Case
from tbot.exchanges.polymarket.wire import FrameDecoder, MarketFrame, PriceChangeFrame

YES = "71321045679252212594626385532706912750332728571942532289631379312455583992563"
NO = "52114319501245915516055106046884209969926127482827954674443846427813813222426"
Change = tuple[str, str, str, str, str, str]


def frame() -> str:
    """Write a frame as the exchange does: one order's change, told for both outcomes."""
    changes = [
        {
            "asset_id": asset_id,
            "price": price,
            "size": "219.217767",
            "side": side,
            "hash": "bf32b3746fff40c76c98021b7f3f07261169dd26",
            "best_bid": bid,
            "best_ask": ask,
        }
        for asset_id, side, price, bid, ask in (
            (YES, "BUY", "0.47", "0.47", "0.49"),
            (NO, "SELL", "0.53", "0.51", "0.53"),
        )
    ]
    content = {
        "market": "0x5f65177b394277fd294cd75650044e32ba009a95022d88a0c1d565897d72f8f1",
        "price_changes": changes,
        "timestamp": "1767225600000",
        "event_type": "price_change",
    }
    return json.dumps(content, separators=(",", ":"))


class Ours:
    """Decodes with the bot's decoder."""

    def __init__(self, text: str) -> None:
        """Keep the decoder, as the feed does."""
        self._decoder: FrameDecoder[MarketFrame] = FrameDecoder(MarketFrame)
        self._text = text

    def __call__(self) -> list[Change]:
        """Return the changes."""
        found = self._decoder.decode(self._text)[0]
        assert isinstance(found, PriceChangeFrame)
        assert found.price_changes is not None
        return [(c.asset_id, c.side, c.price, c.size, c.best_bid, c.best_ask) for c in found.price_changes]


class Peer:
    """Decodes with the standard library."""

    def __init__(self, text: str) -> None:
        """Nothing to keep."""
        self._text = text

    def __call__(self) -> list[Change]:
        """Return the changes."""
        found: dict[str, Any] = json.loads(self._text)
        assert found["event_type"] == "price_change"
        return [
            (c["asset_id"], c["side"], c["price"], c["size"], c["best_bid"], c["best_ask"])
            for c in found["price_changes"]
        ]


def case() -> Case:
    """Build the row."""
    text = frame()
    ours, peer = Ours(text), Peer(text)
    assert ours() == peer(), "the two decoders disagree: no speed matters"
    return Case(name=f"decode a frame of {len(text)} B", peer_name="json.loads and dicts", ours=ours, peer=peer)
