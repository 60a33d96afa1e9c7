"""The shape of WebSocket frames, derived from recordings: keys and their order, types, spelling, order of levels.

A shape is plain data, kept in `frame_shapes.json` because recordings are not ours to publish. Write it anew with
`python -m tests.exchanges.simulated.server.frame_shapes FOLDER`, where FOLDER holds the recordings.

What the sources are worth: market events but the two named below are raw recordings. `tick_size_change`,
`market_resolved` and all of the user channel are single messages of others' tests, whose ids and amounts were edited
and whose keys were sorted: their key sets and spellings count, their key order does not. Messages whose numbers were
edited into another spelling ("100.0", "0xhash001") are left out.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

SHAPES = Path(__file__).with_name("frame_shapes.json")
RECORDINGS = (
    "ws/btc5m-2026-04-21-burst/market-ws.jsonl.gz",
    "ws/updown15m-rest-and-ws/m9-rtds-current-window-rootcause-20260429T0312Z.jsonl.gz",
    "ws/updown15m-rest-and-ws/m9-rtds-current-window-startuplog-20260429T035356Z.jsonl.gz",
    "ws/updown15m-rest-and-ws/m9-rtds-natural-20260429T021025Z-fresh.jsonl.gz",
)
MESSAGES = (
    "fixtures/nautilus/python/ws_messages/tick_size_change.json",
    "fixtures/nautilus/rust/ws_market_resolved_msg.json",
    "fixtures/nautilus/python/ws_messages/order_placement.json",
    "fixtures/nautilus/python/ws_messages/order_cancel.json",
    "fixtures/nautilus/python/ws_messages/user_trade1.json",
    "fixtures/nautilus/python/ws_messages/user_trade2.json",
    "fixtures/nautilus/python/ws_messages/user_trade3.json",
    "fixtures/nautilus/python/ws_messages/user_trade4.json",
)

# The first pattern that fits names the spelling of a text.
SPELLINGS = (
    ("empty", re.compile(r"")),
    ("side", re.compile(r"BUY|SELL")),
    ("bytes32", re.compile(r"0x[0-9a-f]{64}")),
    ("address", re.compile(r"0x[0-9a-fA-F]{40}")),
    ("sha1", re.compile(r"[0-9a-f]{40}")),
    ("uuid", re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")),
    ("asset id", re.compile(r"[1-9][0-9]{60,77}")),
    ("milliseconds", re.compile(r"1[0-9]{12}")),
    ("seconds", re.compile(r"1[0-9]{9}")),
    ("shortest decimal", re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]*[1-9])?")),
    ("decimal of three places", re.compile(r"[01]\.[0-9]{2}0")),
    ("date and time", re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}\+00")),
    ("word", re.compile(r"[A-Z_]+")),
)
KEPT_WHOLE = ("event_type", "type")

Shape = dict[str, Any]


def shape(frame: Any) -> Any:
    """Keys and JSON types, to compare frames of different content."""
    if isinstance(frame, dict):
        return {key: shape(value) for key, value in sorted(frame.items())}
    if isinstance(frame, list):
        return [shape(frame[0])] if frame else []
    return type(frame).__name__


def kind_of(frame: dict[str, Any]) -> str:
    """Name the shape of a frame: its event type, and which of both books it is."""
    event_type = str(frame["event_type"])
    if event_type == "book":
        return "book after subscribing" if "tick_size" in frame else "book after a trade"
    return event_type


def shapes_of(frames: Iterable[dict[str, Any]], *, is_raw: bool) -> dict[str, Shape]:
    """Derive the shape of each kind of frame."""
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for frame in frames:
        groups[kind_of(frame)].append(frame)
    return {kind: _shape(found, is_raw=is_raw) for kind, found in sorted(groups.items())}


def derive(folder: Path) -> dict[str, Shape]:
    """Derive all shapes from a folder of recordings."""
    messages = [json.loads((folder / name).read_text()) for name in MESSAGES]
    return shapes_of(recorded(folder), is_raw=True) | shapes_of(messages, is_raw=False)


def recorded(folder: Path) -> Iterator[dict[str, Any]]:
    """Give every frame of the market channel in the recordings."""
    for name in RECORDINGS:
        with gzip.open(folder / name, "rt") as lines:
            for line in lines:
                yield from _frames_of(json.loads(line))


def faults(frame: dict[str, Any], shape: Shape, *, allowed: dict[str, list[str]] | None = None) -> list[str]:
    """Tell in what a frame differs from its shape.

    Args:
        frame: As sent.
        shape: As derived.
        allowed: Path -> spellings that documents show and recordings lack; a path never recorded is a key more.
    """
    extra = allowed or {}
    ours = _shape([frame], is_raw=True)
    return [
        *_key_faults(ours, shape, extra),
        *(
            f"{path}: {odd}, recorded {shape['spellings'].get(path)}"
            for path, spellings in ours["spellings"].items()
            if (odd := sorted({*spellings} - {*shape["spellings"].get(path, []), *extra.get(path, [])}))
        ),
        *(
            f"{path}: {order}, recorded {shape['orders'].get(path)}"
            for path, order in ours["orders"].items()
            if order not in ("any", shape["orders"].get(path))
        ),
        *(f"{path}: {count} entries" for path, count in ours["lengths"].items() if shape["lengths"].get(path) != count),
    ]


def _key_faults(ours: Shape, shape: Shape, extra: dict[str, list[str]]) -> Iterator[str]:
    new = {path for path in extra if path not in shape["spellings"]}
    for path, variants in ours["keys"].items():
        theirs = shape["keys"].get(path, [])
        for variant in variants:
            mine = [key for key in variant if f"{path}.{key}".lstrip(".") not in new]
            known = mine in theirs if shape["is_key_order_known"] else sorted(mine) in [sorted(keys) for keys in theirs]
            if not known:
                yield f"{path or 'frame'}: keys {mine}, recorded {theirs}"


def _shape(frames: list[dict[str, Any]], *, is_raw: bool) -> Shape:
    keys: dict[str, list[list[str]]] = defaultdict(list)
    spellings: dict[str, set[str]] = defaultdict(set)
    orders: dict[str, set[str]] = defaultdict(set)
    lengths: dict[str, set[int]] = defaultdict(set)
    for frame in frames:
        for path, value in _walk(frame, ""):
            if isinstance(value, dict):
                if list(value) not in keys[path]:
                    keys[path].append(list(value))
            elif isinstance(value, list):
                spellings[path].add("list")
                if path in ("bids", "asks"):
                    orders[path].add(_order(value))
                if path == "price_changes":
                    lengths[path].add(len(value))
            else:
                spellings[path].add(_spelling(path, value))
    return {
        "is_key_order_known": is_raw,
        "keys": {path: sorted(variants) for path, variants in sorted(keys.items())},
        "spellings": {path: sorted(found) for path, found in sorted(spellings.items())},
        "orders": {path: _one(found - {"any"}) for path, found in sorted(orders.items())},
        "lengths": {path: _one(found) for path, found in sorted(lengths.items())},
    }


def _walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _walk(inner, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner, f"{path}[]")


def _spelling(path: str, value: object) -> str:
    if not isinstance(value, str):
        return type(value).__name__
    if path in KEPT_WHOLE:
        return f"={value}"
    return next((name for name, pattern in SPELLINGS if pattern.fullmatch(value)), "text")


def _order(levels: list[dict[str, str]]) -> str:
    prices = [float(level["price"]) for level in levels]
    if len(prices) < 2:
        return "any"
    if prices == sorted(set(prices)):
        return "ascending"
    return "descending" if prices == sorted(set(prices), reverse=True) else "mixed"


def _one(found: set[Any]) -> Any:
    return found.pop() if len(found) == 1 else "any"


def _frames_of(line: dict[str, Any]) -> Iterator[dict[str, Any]]:
    payload = line.get("payload", line)
    if isinstance(payload, str):
        try:
            payload = json.loads(payload)
        except ValueError:
            return  # a text of another feed
    for frame in payload if isinstance(payload, list) else [payload]:
        if isinstance(frame, dict) and "event_type" in frame:
            yield frame


if __name__ == "__main__":
    SHAPES.write_text(json.dumps(derive(Path(sys.argv[1])), indent=1) + "\n")
