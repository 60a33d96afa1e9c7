"""WebSocket frames made by hand, right or wrong, and what opens and subscribes a channel."""

from __future__ import annotations

import json
import struct
from typing import Any

UPGRADE = (
    b"GET %s HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
)


def frame(payload: bytes, *, opcode: int = 1, is_last: bool = True, is_masked: bool = True, reserved: int = 0) -> bytes:
    """Build a frame by hand, right or wrong."""
    head = bytes([(0x80 if is_last else 0) | (reserved << 4) | opcode])
    mask_bit = 0x80 if is_masked else 0
    if len(payload) < 126:
        head += bytes([mask_bit | len(payload)])
    elif len(payload) < 1 << 16:  # a longer form than necessary is an error of its own
        head += bytes([mask_bit | 126]) + struct.pack(">H", len(payload))
    else:
        head += bytes([mask_bit | 127]) + struct.pack(">Q", len(payload))
    return head + (bytes(4) if is_masked else b"") + payload


def subscription(world: Any, path: bytes) -> bytes:
    """Build the subscription of a channel that production accepts."""
    if path == b"/ws/market":
        return json.dumps({"type": "market", "assets_ids": [world.rain.yes]}).encode()
    keys = world.alice.credentials
    auth = {"apiKey": keys.api_key, "secret": keys.secret, "passphrase": keys.passphrase}
    return json.dumps({"type": "user", "auth": auth}).encode()
