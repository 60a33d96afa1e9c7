"""The two secrets of an account: the key that signs orders and the credentials that sign requests.

Both live in objects that cannot be printed, pickled or encoded, so that no log line, traceback or checkpoint can carry
them. They leave only as signatures, or as the one frame of the user channel that must hold the credentials.
"""

from __future__ import annotations

import re
from typing import Final, NoReturn

from coincurve import PrivateKey
from tiny_keccak import keccak256

from tbot.errors import ConfigError

# The first key of the well-known anvil test set: public, worthless, and the key of every published vector.
TEST_KEY_HEX = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
_HEADER_TEXT: Final = re.compile(r"[!-~]*")


class _Unprintable:
    """Base of objects that hold a secret: no text form, no pickle, no copy."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} ***>"

    def __format__(self, _spec: str) -> str:
        return repr(self)

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds a secret and is never serialized")


class SigningKey(_Unprintable):
    """A secp256k1 key that signs 32-byte digests.

    Attributes:
        address: The key's own account (EOA), with checksum capitals.
        address_bytes: The same as 20 bytes.
    """

    __slots__ = ("_key", "address", "address_bytes")

    def __init__(self, secret: bytes) -> None:
        """Derive the address once; the curve is the slow part.

        Raises:
            ConfigError: Not a valid key; the message does not quote it.
        """
        if len(secret) != 32:  # the library would pad a short one, and trade from a wallet nobody meant
            raise ConfigError("signing key: expected 32 bytes")
        try:
            self._key = PrivateKey(secret)
        except ValueError:
            # `from None`: the chained traceback must not carry the bytes either.
            raise ConfigError("signing key: expected 32 bytes that form a secp256k1 private key") from None
        public = self._key.public_key.format(compressed=False)
        self.address_bytes = keccak256(public[1:])[-20:]
        self.address = checksum_address(self.address_bytes)

    @classmethod
    def from_hex(cls, text: str) -> SigningKey:
        """Read a key from 64 hex digits, with or without 0x.

        Raises:
            ConfigError: Not a valid key.
        """
        try:
            secret = bytes.fromhex(text.strip().removeprefix("0x"))
        except ValueError:
            raise ConfigError("signing key: expected 64 hex digits") from None
        return cls(secret)

    def sign(self, digest: bytes) -> bytes:
        """Sign a digest; deterministic (RFC 6979), low s, v of 27 or 28 in the last of 65 bytes."""
        signature = self._key.sign_recoverable(digest, hasher=None)
        return signature[:64] + bytes((signature[64] + 27,))


class ApiCredentials(_Unprintable):
    """What the exchange gives for signing requests; belongs to the EOA whatever wallet trades.

    Attributes:
        api_key: The public part, a UUID: owner of our orders.
        secret: Base64url text of the HMAC key.
        passphrase: Sent in a header of each private request.
    """

    __slots__ = ("api_key", "passphrase", "secret")

    def __init__(self, *, api_key: str, secret: str, passphrase: str) -> None:
        """Keep the three parts.

        Raises:
            ConfigError: One of them cannot stand in a header; the message does not quote it.
        """
        demand_header_text("API key", api_key)
        demand_header_text("API secret", secret)
        demand_header_text("API passphrase", passphrase)
        self.api_key = api_key
        self.secret = secret
        self.passphrase = passphrase


def demand_header_text(name: str, value: str) -> None:
    """Refuse what no header of a request can carry: the library would say so by quoting it.

    Args:
        name: What it is, or which variable brought it.
        value: The secret itself.

    Raises:
        ConfigError: The message does not quote it.
    """
    if not _HEADER_TEXT.fullmatch(value):
        raise ConfigError(
            f"{name}: expected printable ASCII without blanks, as the exchange issued it; "
            "look for a stray blank, quote or line end"
        )


def checksum_address(address: bytes) -> str:
    """Print 20 bytes as an address with EIP-55 capitals."""
    digits = address.hex()
    shades = keccak256(digits.encode()).hex()
    return "0x" + "".join(c.upper() if shade >= "8" else c for c, shade in zip(digits, shades, strict=False))


def address_bytes(text: str) -> bytes:
    """Read an address.

    Raises:
        ConfigError: Not 0x and 40 hex digits.
    """
    try:
        raw = bytes.fromhex(text.removeprefix("0x"))
    except ValueError as error:
        raise ConfigError(f"address {text[:50]!r}: expected 0x and 40 hex digits") from error
    if len(raw) != 20:
        raise ConfigError(f"address {text[:50]!r}: expected 0x and 40 hex digits")
    return raw
