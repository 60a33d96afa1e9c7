"""Who signed this? EIP-712 orders, L1 headers and L2 HMACs, checked independently of the bot's signer.

Orders are V2 or V3 by their token; both have the same struct, under the domain of another contract.
Typed data goes through an encoder of its own, driven by the type text, so an error in the bot's hand-packed fast path
cannot cancel out against the same error here. Nothing of the bot's exchange client is imported.

Sources: docs.polymarket.com (order structs, authentication), official client py-clob-client-v2 1.2.1; read 2026-11-22.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from functools import lru_cache

from tbot.core.messages import ExchangeOrderId, Side
from tbot.errors import ConfigError
from tbot.exchanges.simulated.contracts import CHAINS, EXCHANGE_V3, ExchangeContract, contract_of
from tbot.exchanges.simulated.http import HttpRefusal
from tbot.exchanges.simulated.typed_data import StructType, TypedMessage
from tbot.exchanges.simulated.wire_in import SignatureType, SignedOrder

ATTESTATION = "This message attests that I control the given wallet"

_ORDER_FIELDS = (
    "uint256 salt,address maker,address signer,uint256 tokenId,uint256 makerAmount,uint256 takerAmount,"
    "uint8 side,uint8 signatureType,uint256 timestamp,bytes32 metadata,bytes32 builder"
)
_AUTH_FIELDS = "address address,string timestamp,uint256 nonce,string message"
_WRAP_FIELDS = "Order contents,string name,string version,uint256 chainId,address verifyingContract,bytes32 salt"

_ECDSA_BYTES = 65

_ORDER = StructType("Order", _ORDER_FIELDS)
_AUTH = StructType("ClobAuth", _AUTH_FIELDS)
_WRAP = StructType("TypedDataSign", _WRAP_FIELDS, _ORDER)
_DOMAIN = StructType("EIP712Domain", "string name,string version,uint256 chainId,address verifyingContract")
_UINT256_END = 1 << 256
_AUTH_DOMAIN = StructType("EIP712Domain", "string name,string version,uint256 chainId")


class OrderVerifier:
    """Checks order signatures of one chain."""

    def __init__(self, chain_id: int) -> None:
        """Fix the chain.

        Raises:
            ConfigError: The exchange contracts are on no such chain.
        """
        if chain_id not in CHAINS:
            raise ConfigError(f"chain_id: expected one of {', '.join(map(str, CHAINS))}, found {chain_id}")
        self._chain_id = chain_id

    @property
    def chain_id(self) -> int:
        """Give the chain that signatures are for."""
        return self._chain_id

    @property
    def exchange_v3(self) -> str:
        """The exchange contract of positions on this chain."""
        return EXCHANGE_V3[self._chain_id]

    def spender_of(self, token_id: str, *, is_neg_risk: bool) -> str:
        """Name the contract that an order of a token lets move what it gives, checksummed."""
        return contract_of(token_id, is_neg_risk=is_neg_risk, chain_id=self._chain_id).address

    def order_id(self, order: SignedOrder, *, is_neg_risk: bool) -> ExchangeOrderId:
        """Compute the order id: the EIP-712 digest of the plain order, for every signature type."""
        return _id_of(self._plain(order, is_neg_risk=is_neg_risk))

    def signer(self, order: SignedOrder, *, is_neg_risk: bool) -> str:
        """Recover the address of the key that signed an order, checksummed.

        A valid signature under a wrong contract, chain or field recovers to some other address: the caller compares.

        Raises:
            HttpRefusal: The signature cannot be one.
        """
        return self.signer_and_id(order, is_neg_risk=is_neg_risk)[0]

    def signer_and_id(self, order: SignedOrder, *, is_neg_risk: bool) -> tuple[str, ExchangeOrderId]:
        """Give both, for the price of hashing the order once; see `signer`.

        Raises:
            HttpRefusal: The signature cannot be one.
        """
        message = self._plain(order, is_neg_risk=is_neg_risk)
        raw = bytes.fromhex(order.signature[2:])
        if order.signature_type is not SignatureType.POLY_1271:
            return _recover(message, raw), _id_of(message)
        if raw[_ECDSA_BYTES:] != _trailer(message):
            raise HttpRefusal("invalid signature")
        return _recover(self._wrapped(order, is_neg_risk=is_neg_risk), raw[:_ECDSA_BYTES]), _id_of(message)

    def attester(self, *, address: str, timestamp: str, nonce: int, signature: str) -> str:
        """Recover who signed a ClobAuth message (L1 headers), checksummed.

        Raises:
            HttpRefusal: 401, the signature cannot be one.
        """
        domain = {"name": "ClobAuthDomain", "version": "1", "chainId": self._chain_id}
        values = {"address": address, "timestamp": timestamp, "nonce": nonce, "message": ATTESTATION}
        try:
            raw = bytes.fromhex(signature.removeprefix("0x"))
            return TypedMessage(domain=_AUTH_DOMAIN.hash(domain), contents=_AUTH.hash(values)).signer(raw)
        except ValueError as error:
            raise HttpRefusal("Invalid L1 Request headers", status=401) from error

    def _domain(self, order: SignedOrder, *, is_neg_risk: bool) -> bytes:
        contract = contract_of(order.token_id, is_neg_risk=is_neg_risk, chain_id=self._chain_id)
        return _domain_hash(contract, self._chain_id)

    def _plain(self, order: SignedOrder, *, is_neg_risk: bool) -> TypedMessage:
        return TypedMessage(domain=self._domain(order, is_neg_risk=is_neg_risk), contents=_ORDER.hash(_values(order)))

    def _wrapped(self, order: SignedOrder, *, is_neg_risk: bool) -> TypedMessage:
        """Nest the order as a deposit wallet signs it (ERC-7739), under the exchange's domain."""
        values = {
            "contents": _values(order),
            "name": "DepositWallet",
            "version": "1",
            "chainId": self._chain_id,
            "verifyingContract": order.signer,
            "salt": bytes(32),
        }
        return TypedMessage(domain=self._domain(order, is_neg_risk=is_neg_risk), contents=_WRAP.hash(values))


def hmac_text(secret: str, *, timestamp: str, method: str, path: str, body: bytes) -> str:
    """Compute the L2 signature over the exact bytes of a request.

    Args:
        secret: URL-safe base64; missing padding is added.
        timestamp: Unix seconds, as in the header.
        method: Upper case.
        path: Without the query.
        body: As sent; empty adds nothing.

    Returns:
        URL-safe base64 with padding.
    """
    key = base64.urlsafe_b64decode(secret + "=" * (-len(secret) % 4))
    mac = hmac.new(key, f"{timestamp}{method}{path}".encode() + body, hashlib.sha256)
    return base64.urlsafe_b64encode(mac.digest()).decode()


def is_same_text(left: str, right: str) -> bool:
    """Compare secrets in constant time."""
    return hmac.compare_digest(left.encode(), right.encode())


@lru_cache(maxsize=16)
def _domain_hash(contract: ExchangeContract, chain_id: int) -> bytes:
    values = {
        "name": "Polymarket CTF Exchange",
        "version": contract.version,
        "chainId": chain_id,
        "verifyingContract": contract.address,
    }
    return _DOMAIN.hash(values)


def _values(order: SignedOrder) -> dict[str, object]:
    """Give the order's fields as the encoder wants them.

    Raises:
        HttpRefusal: A number beyond 256 bits.
    """
    numbers = {
        "salt": order.salt,
        "tokenId": int(order.token_id),
        "makerAmount": int(order.maker_amount),
        "takerAmount": int(order.taker_amount),
        "timestamp": int(order.timestamp or "0"),
    }
    if max(numbers.values()) >= _UINT256_END:
        raise HttpRefusal("Invalid order payload")
    return {
        **numbers,
        "maker": order.maker,
        "signer": order.signer,
        "side": 0 if order.side is Side.BUY else 1,
        "signatureType": int(order.signature_type),
        "metadata": bytes.fromhex(order.metadata[2:]),
        "builder": bytes.fromhex(order.builder[2:]),
    }


def _id_of(message: TypedMessage) -> ExchangeOrderId:
    return ExchangeOrderId("0x" + message.digest().hex())


def _trailer(message: TypedMessage) -> bytes:
    """What follows the ECDSA part of a wrapped signature: domain separator, contents hash, type string, its length."""
    text = _ORDER.text.encode()
    return message.domain + message.contents + text + len(text).to_bytes(2, "big")


def _recover(message: TypedMessage, signature: bytes) -> str:
    """Recover the signing address.

    Raises:
        HttpRefusal: No signature a contract takes.
    """
    try:
        return message.signer(signature)
    except ValueError as error:
        raise HttpRefusal("invalid signature") from error
