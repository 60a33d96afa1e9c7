"""Headers that authenticate requests: L1 (a signature of the EOA, to get API keys) and L2 (HMAC, everything private).

Source: polymarket docs, authentication (read 2026-11-22); all published vectors are reproduced in the tests.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from typing import Final

from tiny_keccak import keccak256

from tbot.errors import ConfigError
from tbot.exchanges.polymarket.keys import ApiCredentials, SigningKey

_MESSAGE: Final = keccak256(b"This message attests that I control the given wallet")
_AUTH_TYPE: Final = keccak256(b"ClobAuth(address address,string timestamp,uint256 nonce,string message)")
_DOMAIN_TYPE: Final = keccak256(b"EIP712Domain(string name,string version,uint256 chainId)")
_DOMAIN_NAME: Final = keccak256(b"ClobAuthDomain")
_DOMAIN_VERSION: Final = keccak256(b"1")


def l1_headers(key: SigningKey, *, chain_id: int, timestamp_s: int, nonce: int = 0) -> dict[str, str]:
    """Sign the right to create or derive the API key of an account.

    Args:
        key: Key of the EOA.
        chain_id: 137 or 80002.
        timestamp_s: Unix seconds.
        nonce: Keys are deterministic per (address, nonce).
    """
    domain = keccak256(_DOMAIN_TYPE + _DOMAIN_NAME + _DOMAIN_VERSION + chain_id.to_bytes(32, "big"))
    stamp = keccak256(str(timestamp_s).encode())
    words = _AUTH_TYPE + bytes(12) + key.address_bytes + stamp + nonce.to_bytes(32, "big") + _MESSAGE
    signature = key.sign(keccak256(b"\x19\x01" + domain + keccak256(words)))
    return {
        "POLY_ADDRESS": key.address,
        "POLY_SIGNATURE": "0x" + signature.hex(),
        "POLY_TIMESTAMP": str(timestamp_s),
        "POLY_NONCE": str(nonce),
    }


class RequestSigner:
    """Signs private requests of one account."""

    def __init__(self, address: str, credentials: ApiCredentials) -> None:
        """Decode the HMAC key once.

        Args:
            address: The EOA with checksum capitals, whatever wallet trades.
            credentials: Its API credentials.

        Raises:
            ConfigError: The secret is not base64url.
        """
        secret = credentials.secret
        try:
            self._hmac_key = base64.urlsafe_b64decode(secret + "=" * (-len(secret) % 4))
        except (binascii.Error, ValueError):
            raise ConfigError("API secret: expected base64url text as the exchange issued it") from None
        self._fixed: Mapping[str, str] = {
            "POLY_ADDRESS": address,
            "POLY_API_KEY": credentials.api_key,
            "POLY_PASSPHRASE": credentials.passphrase,
        }

    def headers(self, method: str, path: str, body: bytes, *, timestamp_s: int) -> dict[str, str]:
        """Return the five headers of one request.

        Args:
            method: Upper case.
            path: Begins with a slash, without the query.
            body: The exact bytes sent; an apostrophe in them would be signed differently by the official clients, and
                none of our bodies has one.
            timestamp_s: Unix seconds; the exchange allows a few seconds of skew.
        """
        message = f"{timestamp_s}{method}{path}".encode() + body
        signature = base64.urlsafe_b64encode(hmac.digest(self._hmac_key, message, "sha256")).decode()
        return {**self._fixed, "POLY_SIGNATURE": signature, "POLY_TIMESTAMP": str(timestamp_s)}
