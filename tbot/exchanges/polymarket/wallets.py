"""Which wallets belong to a key: its own account, its proxy, its Gnosis Safe and its deposit wallet.

The three contracts are CREATE2 addresses, functions of the key's own address alone, so whether `signature_type` and
`funder` fit the key can be told without asking anybody. A deposit wallet has two derivations: the beacon proxy of today
and the UUPS proxy of the first accounts; both are valid.

Source: factories and code hashes as the official client polymarket-client 0.14.0 has them (read 2026-11-22); its
addresses for two owners are test vectors.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import msgspec
from tiny_keccak import keccak256

from tbot.errors import ConfigError
from tbot.exchanges.polymarket.keys import address_bytes, checksum_address
from tbot.exchanges.polymarket.settings import PolymarketSettings

_PROXY_FACTORY: Final = bytes.fromhex("ab45c5a4b0c941a2f231c04c3f49182e1a254052")
_SAFE_FACTORY: Final = bytes.fromhex("aacfeea03eb1561c4e67d661e40682bd20e3541b")
_DEPOSIT_FACTORY: Final = bytes.fromhex("00000000000fb5c9adea0298d729a0cb3823cc07")
_DEPOSIT_BEACON: Final = bytes.fromhex("7a18edfe055488a3128f01f563e5b479d92ffc3a")
_DEPOSIT_LOGIC: Final = bytes.fromhex("58ca52ebe0dadfdf531cde7062e76746de4db1eb")
_PROXY_CODE_HASH: Final = bytes.fromhex("d21df8dc65880a8606f09fe0ce3df9b8869287ab0b058be05aa9e8af6330a00b")
_SAFE_CODE_HASH: Final = bytes.fromhex("2bce2127ff07fb632d16c8347c4ebf501f4841168bed00d9e6ef715ddb6fcecf")

# Creation code of an ERC-1967 proxy with immutable arguments, before and after the address it points to. The first
# number counts the run-time code; the length of the arguments is added to it.
_BEACON_HEAD: Final = 0x6100523D8160233D3973
_BEACON_TAIL: Final = bytes.fromhex(
    "60195155f3363d3d373d3d363d602036600436635c60da"
    "1b60e01b36527fa3f0ad74e5423aebfd80d3ef4346578335a9a72aeaee59ff6c"
    "b3582b35133d50545afa5036515af43d6000803e604d573d6000fd5b3d6000f3"
)
_UUPS_HEAD: Final = 0x61003D3D8160233D3973
_UUPS_TAIL: Final = bytes.fromhex(
    "60095155f3363d3d373d3d363d7f360894a13ba1a3210667c828492db98dca3e2076"
    "cc3735a920a3ca505d382bbc545af43d6000803e6038573d6000fd5b3d6000f3"
)
_LENGTH_SHIFT: Final = 56


class WalletKind(IntEnum):
    """Who holds the money; the number is the signature type of its orders."""

    EOA = 0
    PROXY = 1
    SAFE = 2
    DEPOSIT = 3

    @property
    def title(self) -> str:
        """What people call it."""
        return _TITLES[self]


_TITLES: Final = {
    WalletKind.EOA: "the key's own account",
    WalletKind.PROXY: "a Polymarket proxy wallet",
    WalletKind.SAFE: "a Gnosis Safe",
    WalletKind.DEPOSIT: "a deposit wallet",
}


class Wallets(msgspec.Struct, frozen=True, kw_only=True):
    """Every address that belongs to a key, with checksum capitals.

    Attributes:
        eoa: The key's own account; API credentials belong to it whatever wallet trades.
        proxy: Of accounts made with an e-mail address.
        safe: Of accounts made with a browser wallet.
        deposit: Of accounts made since May 2026.
        deposit_first: Of the first accounts with a deposit wallet, which was another kind of contract.
    """

    eoa: str
    proxy: str
    safe: str
    deposit: str
    deposit_first: str

    def kind_of(self, address: str) -> WalletKind | None:
        """Tell which wallet of the key an address is; None = none of them."""
        kinds = {
            self.eoa: WalletKind.EOA,
            self.proxy: WalletKind.PROXY,
            self.safe: WalletKind.SAFE,
            self.deposit: WalletKind.DEPOSIT,
            self.deposit_first: WalletKind.DEPOSIT,
        }
        return {known.lower(): kind for known, kind in kinds.items()}.get(address.lower())

    def of(self, kind: WalletKind) -> str:
        """Give the wallet of a kind; the deposit wallet of today."""
        return (self.eoa, self.proxy, self.safe, self.deposit)[kind]


def trading_wallet(eoa: str, settings: PolymarketSettings) -> str:
    """Return the wallet that holds the money: the one named, or the key's own account where orders are signed for that.

    Args:
        eoa: Address of the key.
        settings: Name the kind of wallet, and which one where that is not the key's own.

    Raises:
        ConfigError: A contract wallet that nobody named; the message names the one that it could be.
    """
    kind, funder = WalletKind(settings.signature_type), settings.funder
    if not funder and kind is not WalletKind.EOA:
        raise ConfigError(
            f"exchange.funder: missing, expected the wallet that holds the money for signature_type {kind:d}; "
            f"{kind.title} of this key is {wallets_of(eoa).of(kind)}, and tbot keys show names all"
        )
    return funder or eoa


def wallets_of(eoa: str) -> Wallets:
    """Derive every wallet of an account.

    Args:
        eoa: Address of the key, 0x and 40 hex digits.

    Raises:
        ConfigError: Not an address.
    """
    owner = address_bytes(eoa)
    arguments = _word(_DEPOSIT_FACTORY) + _word(owner)
    beacon = _creation_code(_BEACON_HEAD, _DEPOSIT_BEACON, _BEACON_TAIL, arguments)
    uups = _creation_code(_UUPS_HEAD, _DEPOSIT_LOGIC, _UUPS_TAIL, arguments)
    return Wallets(
        eoa=checksum_address(owner),
        proxy=_create2(_PROXY_FACTORY, salt=keccak256(owner), code_hash=_PROXY_CODE_HASH),
        safe=_create2(_SAFE_FACTORY, salt=keccak256(_word(owner)), code_hash=_SAFE_CODE_HASH),
        deposit=_create2(_DEPOSIT_FACTORY, salt=keccak256(arguments), code_hash=keccak256(beacon)),
        deposit_first=_create2(_DEPOSIT_FACTORY, salt=keccak256(arguments), code_hash=keccak256(uups)),
    )


def _creation_code(head: int, target: bytes, tail: bytes, arguments: bytes) -> bytes:
    return (head + (len(arguments) << _LENGTH_SHIFT)).to_bytes(10, "big") + target + tail + arguments


def _create2(factory: bytes, *, salt: bytes, code_hash: bytes) -> str:
    return checksum_address(keccak256(b"\xff" + factory + salt + code_hash)[12:])


def _word(address: bytes) -> bytes:
    return bytes(12) + address
