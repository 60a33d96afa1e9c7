"""Finding the exchange's frames in the lines of anybody's recording. Pure.

Recorders wrap frames each in their own way: raw, under some key, as an object or as a text, one event a line or the
whole array. And they mix feeds: what is not of the market channel is foreign, which is no error.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from tbot.errors import BadFrame
from tbot.exchanges.polymarket.wire import UNDECODABLE

BY_REQUEST: Final = "book by request"
_OBJECTS: Final = re.compile(r"\s*\[?\s*\{")
_SIDES: Final = ("bids", "asks", "buys", "sells")


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """What one line of a recording holds.

    Attributes:
        frames: Objects of the market channel, by event type; books read by request are `BY_REQUEST`.
        foreign: Objects of other feeds.
        is_remark: Whether it is plain text such as PONG, or empty.
        connection: In our own recordings the number of the connection within its run; 0 = not told.
        received_ns: Likewise when it was read, Unix nanoseconds; 0 = not told.
    """

    frames: tuple[tuple[str, dict[str, Any]], ...] = ()
    foreign: int = 0
    is_remark: bool = False
    connection: int = 0
    received_ns: int = 0


REMARK: Final = Line(is_remark=True)


def line_content(text: bytes) -> Line:
    """Unwrap one line.

    Raises:
        BadFrame: It is cut or no JSON.
    """
    text = text.strip()
    if not text or text in (b"PONG", b"PING", b"NO NEW ASSETS"):
        return REMARK
    try:
        value = msgspec.json.decode(text)
    except UNDECODABLE as error:
        raise BadFrame(f"not JSON: {str(error)[:100]}") from error
    found = _frames(value)
    if found is None and isinstance(value, dict):
        found = _wrapped(value)
    if found is None:
        is_remark = isinstance(value, str) or _is_wrapped_remark(value)
        return REMARK if is_remark else Line(foreign=len(value) if isinstance(value, list) else 1)
    known = tuple((kind, item) for item in found if (kind := _kind(item)))
    connection, received_ns = _origin(value)
    return Line(frames=known, foreign=len(found) - len(known), connection=connection, received_ns=received_ns)


def _origin(value: Any) -> tuple[int, int]:
    told = (value.get("connection"), value.get("received_ns")) if isinstance(value, dict) else ()
    match told:
        case (int(connection), int(received_ns)):
            return connection, received_ns
    return 0, 0


def _wrapped(wrapper: dict[str, Any]) -> list[Any] | None:
    broken: BadFrame | None = None
    for value in wrapper.values():
        try:
            inner = _parsed(value) if isinstance(value, str) else value
        except BadFrame as error:
            broken = error
            continue
        if (found := _frames(inner)) is not None:
            return found
    if broken is not None:
        raise broken
    return None


# A label such as "[ws-1] rx" begins like JSON and is none; what begins with an object was meant to be a frame.
def _parsed(text: str) -> Any:
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        return msgspec.json.decode(text)
    except UNDECODABLE as error:
        if _OBJECTS.match(text) is None:
            return None
        raise BadFrame(f"a wrapped text is not JSON: {str(error)[:100]}") from error


def _frames(value: Any) -> list[Any] | None:
    """Give the objects if any of them is a frame, [] for an empty dump."""
    items = value if isinstance(value, list) else [value]
    return items if any(_kind(item) for item in items) else None


def _kind(item: Any) -> str:
    if not isinstance(item, dict):
        return ""
    kind = item.get("event_type")
    if isinstance(kind, str) and kind:
        return kind
    return BY_REQUEST if "asset_id" in item and sum(side in item for side in _SIDES) > 1 else ""


# A recorder writes down PONG and empty messages as well, wrapped like the rest.
def _is_wrapped_remark(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    texts = [value.get(key) for key in ("frame", "payload", "data", "message", "raw", "text")]
    return any(isinstance(text, str) and text.lstrip()[:1] not in ("{", "[") for text in texts)
