"""Decoding a `price_change` frame of about 600 bytes: ours against `json.loads` and against polymarket-client's models.

Against `json.loads` both end with the same fields of every change, as text; ours has also checked the type of each.
Against the models both end with what the decoder gives; theirs holds `Decimal`s then, and what ours makes of its texts
is measured in `bench.feed`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from polymarket.models.clob.market_events import MarketPriceChangeEvent, PriceChange, parse_market_event

from bench.measure import Case
from tbot.exchanges.polymarket.wire import PriceChangeFrame, WireChange, market_decoder

YES = "71321045679252212594626385532706912750332728571942532289631379312455583992563"
NO = "52114319501245915516055106046884209969926127482827954674443846427813813222426"
MARKET = "0x5f65177b394277fd294cd75650044e32ba009a95022d88a0c1d565897d72f8f1"
NOW_MS = 1_767_225_600_000
Change = tuple[str, str, str, str, str, str]


def frame() -> str:
    """Write a frame of average length: one order's change, told for both outcomes."""
    changes = (
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
    )
    return frame_of(MARKET, changes, timestamp_ms=NOW_MS)


def frame_of(market_id: str, changes: Iterable[dict[str, str]], *, timestamp_ms: int) -> str:
    """Write a `price_change` frame as the exchange does."""
    content = {
        "market": market_id,
        "price_changes": list(changes),
        "timestamp": str(timestamp_ms),
        "event_type": "price_change",
    }
    return json.dumps(content, separators=(",", ":"))


class Ours:
    """Decodes with the bot's decoder."""

    def __init__(self, text: str) -> None:
        """Keep the decoder, as the feed does."""
        self._decoder = market_decoder()
        self._text = text

    def __call__(self) -> list[Change]:
        """Return the changes."""
        return [(c.asset_id, c.side, c.price, c.size, c.best_bid, c.best_ask) for c in self.changes()]

    def changes(self) -> tuple[WireChange, ...]:
        """Return them as they were decoded."""
        found = self._decoder.decode(self._text)[0]
        assert isinstance(found, PriceChangeFrame)
        assert found.price_changes is not None
        return found.price_changes


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


class Models:
    """Decodes with polymarket-client, which makes numbers of the texts."""

    def __init__(self, text: str) -> None:
        """Nothing to keep."""
        self._text = text

    def changes(self) -> tuple[PriceChange, ...]:
        """Return the changes as its event holds them."""
        event = parse_market_event(json.loads(self._text))
        assert isinstance(event, MarketPriceChangeEvent)
        return event.payload.price_changes


def case() -> Case:
    """Build the row against `json.loads`."""
    text = frame()
    ours, peer = Ours(text), Peer(text)
    assert ours() == peer(), "the two decoders disagree: no speed matters"
    return Case(name=f"decode a frame of {len(text)} B", peer_name="json.loads and dicts", ours=ours, peer=peer)


def models_case() -> Case:
    """Build the row against polymarket-client's models."""
    text = frame()
    ours, peer = Ours(text), Models(text)
    theirs = [(c.asset_id, c.side, str(c.price), str(c.size), str(c.best_bid), str(c.best_ask)) for c in peer.changes()]
    assert ours() == theirs, "the two decoders disagree: no speed matters"
    name, peer_name = f"decode a frame of {len(text)} B", "polymarket-client's models (Decimals)"
    return Case(name=name, peer_name=peer_name, ours=ours.changes, peer=peer.changes)
