"""Play accounts and API keys of the local exchange.

THE KEYS MADE HERE ARE FOR PLAY. They come from a seeded generator, so anybody with the seed has them: money sent to one
of these addresses on a real chain is lost. No key from the environment is ever read.

API keys are functions of (address, nonce, server secret), so that a restarted exchange with the same secret gives the
same keys, as production does.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import random
import uuid
from collections.abc import Iterable

import msgspec
from coincurve import PrivateKey
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from tbot.exchanges.simulated.http import HttpRefusal, Request
from tbot.exchanges.simulated.verify import OrderVerifier, hmac_text, is_same_text
from tbot.exchanges.simulated.wallets import deposit_wallet, proxy_wallet, safe_wallet
from tbot.exchanges.simulated.wire_in import SignatureType

PLAY_NOTICE = "PLAY KEYS: made from a seed, known to everyone who has it. Never send real money to these addresses."

_UNAUTHORIZED = "Unauthorized/Invalid api key"
_BAD_L1 = "Invalid L1 Request headers"
_NONCE_MAX = (1 << 256) - 1


class ApiCredentials(msgspec.Struct, frozen=True, kw_only=True):
    """L2 credentials. The secret signs requests; printing the object shows none of it."""

    api_key: str
    secret: str
    passphrase: str

    def __repr__(self) -> str:
        return f"ApiCredentials(api_key={self.api_key!r})"


class PlayAccount(msgspec.Struct, frozen=True, kw_only=True):
    """A throwaway key of the local exchange.

    Attributes:
        address: Its address, checksummed.
        private_key: 0x and 64 hex digits. FOR PLAY: see the module.
    """

    address: str
    private_key: str

    def __repr__(self) -> str:
        return f"PlayAccount({self.address}, PLAY KEY: NEVER FUND)"

    @classmethod
    def from_rng(cls, rng: random.Random) -> PlayAccount:
        """Make an account from the next 32 bytes of a seeded generator."""
        return cls.from_key(rng.randbytes(32))

    @classmethod
    def from_key(cls, key: bytes) -> PlayAccount:
        """Make an account of a known test key (32 bytes)."""
        public = PrivateKey(key).public_key.format(compressed=False)
        return cls(address=to_checksum_address(keccak(public[1:])[12:]), private_key="0x" + key.hex())


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """Who makes a request: an API key and the address it belongs to."""

    api_key: str
    address: str


class KeyRing:
    """All API keys, and which wallet belongs to whom. Owns its tables; synchronous."""

    def __init__(self, *, server_secret: bytes, verifier: OrderVerifier, skew_s_max: float = 10.0) -> None:
        """Start without keys.

        Args:
            server_secret: Seed of all API keys.
            verifier: Of the exchange's chain.
            skew_s_max: Largest difference between a request's timestamp and our clock, either way, seconds.
        """
        self._server_secret = server_secret
        self._verifier = verifier
        self._skew_s_max = skew_s_max
        self._credentials: dict[str, ApiCredentials] = {}
        self._owner: dict[str, str] = {}
        # Every address that ever had a key, with those in force, oldest first.
        self._owners: dict[str, dict[str, None]] = {}
        # Whose a wallet is, as what kind: by its address in lower case.
        self._holders: dict[str, dict[SignatureType, str]] = {}
        self._deposit_wallets: dict[str, str] = {}
        self._first_key: dict[str, str] = {}

    def create(self, address: str, nonce: int) -> ApiCredentials:
        """Make the key of an address and nonce.

        Raises:
            HttpRefusal: 400, it exists already.
        """
        credentials = self._derived(address, nonce)
        if credentials.api_key in self._credentials:
            raise HttpRefusal("Could not create api key")
        self._credentials[credentials.api_key] = credentials
        self._owner[credentials.api_key] = address
        self._owners.setdefault(address, {})[credentials.api_key] = None
        for kind in SignatureType:
            wallet = self.wallet_of(address, kind)
            self._first_key.setdefault(wallet, credentials.api_key)
            self._holders.setdefault(wallet.lower(), {})[kind] = address
        return credentials

    def derive(self, address: str, nonce: int) -> ApiCredentials:
        """Give the existing key of an address and nonce.

        Raises:
            HttpRefusal: 400, there is none.
        """
        credentials = self._derived(address, nonce)
        if credentials.api_key not in self._credentials:
            raise HttpRefusal("Could not derive api key!")
        return credentials

    def delete(self, api_key: str) -> None:
        """Forget a key, not its owner, whose wallets are on chain all the same; unknown ones are ignored."""
        self._credentials.pop(api_key, None)
        owner = self._owner.pop(api_key, None)
        if owner is not None:
            del self._owners[owner][api_key]

    def keys_of(self, address: str) -> tuple[str, ...]:
        """Name the keys of an address, oldest first."""
        return tuple(self._owners.get(address, ()))

    def has_owner(self, address: str) -> bool:
        """Tell whether an address, spelled with its checksum, ever had a key."""
        return address in self._owners

    def key_of(self, wallet: str) -> str:
        """Name the API key that owns orders of a wallet, or the key it would get: synthetic traders have owners too."""
        key = self._first_key.get(wallet)
        if key is None:
            key = self._first_key[wallet] = self._derived(wallet, 0).api_key
        return key

    def register_deposit_wallet(self, wallet: str, *, owner: str) -> None:
        """Say who owns a deposit wallet that is not the derived one: an older kind, or one with a new owner."""
        self._deposit_wallets[to_checksum_address(wallet)] = owner
        if owner in self._owners:
            self._holders.setdefault(wallet.lower(), {})[SignatureType.POLY_1271] = owner
        for key in self.keys_of(owner)[:1]:
            self._first_key[to_checksum_address(wallet)] = key

    def wallet_of(self, address: str, signature_type: SignatureType) -> str:
        """Name the wallet of a kind that an address owns."""
        match signature_type:
            case SignatureType.EOA:
                return address
            case SignatureType.POLY_PROXY:
                return proxy_wallet(address)
            case SignatureType.POLY_GNOSIS_SAFE:
                return safe_wallet(address)
            case SignatureType.POLY_1271:
                registered = (w for w, owner in self._deposit_wallets.items() if owner == address)
                return next(registered, None) or deposit_wallet(address)

    def wallets_of(self, address: str) -> tuple[str, ...]:
        """Name every wallet an address trades from, its own first."""
        return tuple(self.wallet_of(address, kind) for kind in SignatureType)

    def has_wallet(self, wallet: str, kinds: Iterable[SignatureType] = SignatureType) -> bool:
        """Tell whether an owner of a key, deleted or not, has this wallet, in whichever case it is spelled."""
        holders = self._holders.get(wallet.lower(), {})
        # One that another took the place of is nobody's any more.
        owned = (self.wallet_of(holders[kind], kind) for kind in kinds if kind in holders)
        return any(wallet.lower() == each.lower() for each in owned)

    def has_key(self, api_key: str) -> bool:
        """Tell whether an API key is in force."""
        return api_key in self._credentials

    def login(self, *, api_key: str, secret: str, passphrase: str) -> Member | None:
        """Check the credentials of the user channel; None when they are wrong."""
        known = self._credentials.get(api_key)
        if known is None or not (is_same_text(secret, known.secret) and is_same_text(passphrase, known.passphrase)):
            return None
        return Member(api_key=api_key, address=self._owner[api_key])

    def authenticate(self, request: Request, *, now_s: float) -> Member:
        """Check the L2 headers of a request.

        Args:
            request: As received; the HMAC covers its path without the query and its exact body.
            now_s: Unix seconds.

        Raises:
            HttpRefusal: 401, whatever is wrong: the answer does not help to guess.
        """
        headers = request.headers
        known = self._credentials.get(headers.get("poly_api_key", ""))
        timestamp = headers.get("poly_timestamp", "")
        if known is None or not self._is_timely(timestamp, now_s):
            raise HttpRefusal(_UNAUTHORIZED, status=401)
        expected = hmac_text(
            known.secret, timestamp=timestamp, method=request.method, path=request.path, body=request.body
        )
        member = Member(api_key=known.api_key, address=self._owner[known.api_key])
        claims = (
            (headers.get("poly_signature", ""), expected),
            (headers.get("poly_passphrase", ""), known.passphrase),
            (headers.get("poly_address", "").lower(), member.address.lower()),
        )
        if not all(is_same_text(given, wanted) for given, wanted in claims):
            raise HttpRefusal(_UNAUTHORIZED, status=401)
        return member

    def attested(self, request: Request, *, now_s: float) -> tuple[str, int]:
        """Check the L1 headers of a request; give the address and the nonce.

        Raises:
            HttpRefusal: 401.
        """
        headers = request.headers
        address, nonce = headers.get("poly_address", ""), headers.get("poly_nonce", "0")
        timestamp = headers.get("poly_timestamp", "")
        if not (_is_address(address) and _is_nonce(nonce) and self._is_timely(timestamp, now_s)):
            raise HttpRefusal(_BAD_L1, status=401)
        signer = self._verifier.attester(
            address=address, timestamp=timestamp, nonce=int(nonce), signature=headers.get("poly_signature", "")
        )
        if signer.lower() != address.lower():
            raise HttpRefusal(_BAD_L1, status=401)
        return signer, int(nonce)

    def _is_timely(self, timestamp: str, now_s: float) -> bool:
        is_number = timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 12
        return is_number and abs(int(timestamp) - now_s) <= self._skew_s_max

    def _derived(self, address: str, nonce: int) -> ApiCredentials:
        def words(purpose: str) -> bytes:
            text = f"{purpose}:{address}:{nonce}".encode()
            return hmac.new(self._server_secret, text, hashlib.sha256).digest()

        return ApiCredentials(
            api_key=str(uuid.UUID(bytes=words("key")[:16], version=4)),
            secret=base64.urlsafe_b64encode(words("secret")).decode(),
            passphrase=words("passphrase").hex(),
        )


def _is_address(text: str) -> bool:
    return len(text) == 42 and text.startswith("0x") and _is_of(text[2:], "0123456789abcdefABCDEF")


def _is_nonce(text: str) -> bool:
    return 0 < len(text) <= 78 and _is_of(text, "0123456789") and int(text) <= _NONCE_MAX


def _is_of(text: str, letters: Iterable[str]) -> bool:
    return all(letter in letters for letter in text)
