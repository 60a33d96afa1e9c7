"""V2 and V3 orders, signed on the fast path: EIP-712 with everything that repeats computed once.

Both protocols sign the same struct; the domain tells them apart, and the asset decides which domain it is: a position
id is traded on the exchange of V3 whatever the market says, a CTF token on one of the two of V2.

The generic route (typed-data library, a new key object per order) costs about 0.4 ms; packing the eleven words by hand
over a cached key costs about 25 us, most of it the curve. A start-up probe compares the result byte for byte with the
exchange's own client (see `conformance`), and all published vectors are reproduced in the tests.

The order id is the EIP-712 digest of the plain order, for every signature type, so it is known before anything is sent.
Source: contract addresses and struct (docs and py-clob-client-v2 1.2.1, read 2026-11-22).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec
from tiny_keccak import keccak256

from tbot.core.market import TokenId
from tbot.core.messages import ExchangeOrderId, OrderType, Side
from tbot.errors import ConfigError
from tbot.exchanges.polymarket.amounts import Amounts
from tbot.exchanges.polymarket.asset_ids import asset_number, is_position_id
from tbot.exchanges.polymarket.keys import SigningKey, address_bytes, checksum_address

EXCHANGE: Final = "0xE111180000d2663C0091e4f400237545B87B996B"
EXCHANGE_NEG_RISK: Final = "0xe2222d279d744050d28e00520010520000310F59"
EXCHANGE_V3: Final = {
    137: "0xe3333700cA9d93003F00f0F71f8515005F6c00Aa",
    80002: "0x9fE6e61422AdB6F610d8597F9684b16912D50C3D",
}
CHAIN_IDS: Final = tuple(EXCHANGE_V3)
SALT_BITS: Final = 53  # the salt travels as a JSON number, which is exact up to 2**53 - 1

ORDER_TYPE: Final = (
    b"Order(uint256 salt,address maker,address signer,uint256 tokenId,uint256 makerAmount,uint256 takerAmount,"
    b"uint8 side,uint8 signatureType,uint256 timestamp,bytes32 metadata,bytes32 builder)"
)
DOMAIN_TYPE: Final = b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
WRAPPER_TYPE: Final = (
    b"TypedDataSign(Order contents,string name,string version,uint256 chainId,address verifyingContract,bytes32 salt)"
    + ORDER_TYPE
)
DEPOSIT_WALLET = 3  # the signature type of smart accounts: signed inside a wrapper (ERC-7739)
ZERO_WORD: Final = bytes(32)

_ORDER_TYPE_HASH: Final = keccak256(ORDER_TYPE)
_SIDE_WORDS: Final = {Side.BUY: ZERO_WORD, Side.SELL: bytes(31) + b"\x01"}
_BOOL_JSON: Final = {False: "false", True: "true"}


class SignedOrder(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A signed order and its id.

    Attributes:
        order_id: The EIP-712 digest, 0x and 64 hex digits.
        body: Compact JSON, the exact bytes of `POST /order`.
    """

    order_id: ExchangeOrderId
    body: bytes


class ExchangeContract(NamedTuple):
    """Where an order settles: version and contract of its EIP-712 domain."""

    version: str
    address: str


class _Target(NamedTuple):
    # What the orders of one asset have in common: the domain, and the words of the wallets and the asset.
    domain: bytes
    words: bytes


class OrderSigner:
    """Signs the orders of one wallet on one chain."""

    def __init__(
        self,
        key: SigningKey,
        *,
        chain_id: int,
        owner: str,
        signature_type: int = 0,
        funder: str = "",
        metadata: bytes = ZERO_WORD,
        builder: bytes = ZERO_WORD,
    ) -> None:
        """Precompute whatever does not change from order to order.

        Args:
            key: Key of the account that signs.
            chain_id: 137 or 80002.
            owner: API key the orders are sent with.
            signature_type: 0 EOA, 1 proxy, 2 safe, 3 deposit wallet.
            funder: Wallet that pays; "" = the key's own address.
            metadata: 32 free bytes.
            builder: Builder code, 32 bytes; zero = none.

        Raises:
            ConfigError: A chain without contracts, or a wallet that does not fit the signature type.
        """
        if chain_id not in CHAIN_IDS:
            raise ConfigError(f"chain_id {chain_id}: expected one of {CHAIN_IDS}")
        if signature_type and not funder:
            raise ConfigError(f"funder: signature type {signature_type} needs the address of the wallet that pays")
        maker = address_bytes(funder) if funder else key.address_bytes
        if signature_type == 0 and maker != key.address_bytes:
            raise ConfigError("funder: with signature type 0 it must be the key's own address, or empty")
        signer = maker if signature_type == DEPOSIT_WALLET else key.address_bytes
        self._key = key
        self._wrapper_tail = _wrapper_tail(chain_id, maker) if signature_type == DEPOSIT_WALLET else None
        self._chain_id = chain_id
        self._targets: dict[tuple[TokenId, bool], _Target] = {}
        self._wallet_words = _word(maker) + _word(signer)
        type_word = _word_of_int(signature_type)
        self._middle_words = {side: word + type_word for side, word in _SIDE_WORDS.items()}
        self._tail_words = metadata + builder
        self._head_json = f'"maker":"{checksum_address(maker)}","signer":"{checksum_address(signer)}","tokenId":"'
        self._type_json = f'","signatureType":{signature_type},"timestamp":"'
        self._tail_json = f'","metadata":"0x{metadata.hex()}","builder":"0x{builder.hex()}","signature":"0x'
        self._owner_json = f'"}},"owner":"{owner}","orderType":"'

    def sign(
        self,
        *,
        token_id: TokenId,
        side: Side,
        amounts: Amounts,
        order_type: OrderType,
        is_post_only: bool,
        is_neg_risk: bool,
        salt: int,
        timestamp_ms: int,
        expiration_s: int = 0,
    ) -> SignedOrder:
        """Sign one order; about 25 us.

        Args:
            token_id: Decimal id of the outcome token, or position id; it decides between V2 and V3.
            side: BUY or SELL.
            amounts: What is given and wanted, millionths.
            order_type: Time in force; sent beside the signed struct, not in it.
            is_post_only: Refuse to take.
            is_neg_risk: Chooses between the two contracts of V2; means nothing to a position id.
            salt: 0 to 2**53 - 1; makes the order unique.
            timestamp_ms: Creation time, Unix milliseconds.
            expiration_s: Unix seconds for GTD, else 0; kept by the operator, not signed.

        Raises:
            BadFrame: The token id is no asset id.
        """
        target = self._targets.get((token_id, is_neg_risk)) or self._learn(token_id, is_neg_risk=is_neg_risk)
        domain = target.domain
        contents = keccak256(
            _ORDER_TYPE_HASH
            + salt.to_bytes(32, "big")
            + target.words
            + amounts.maker.to_bytes(32, "big")
            + amounts.taker.to_bytes(32, "big")
            + self._middle_words[side]
            + timestamp_ms.to_bytes(32, "big")
            + self._tail_words
        )
        digest = keccak256(b"\x19\x01" + domain + contents)
        signature = self._signature(digest, domain, contents)
        text = (
            f'{{"order":{{"salt":{salt},{self._head_json}{token_id}","makerAmount":"{amounts.maker}",'
            f'"takerAmount":"{amounts.taker}","side":"{side}","expiration":"{expiration_s}{self._type_json}'
            f"{timestamp_ms}{self._tail_json}{signature.hex()}{self._owner_json}{order_type}"
            f'","deferExec":false,"postOnly":{_BOOL_JSON[is_post_only]}}}'
        )
        return SignedOrder(order_id=ExchangeOrderId("0x" + digest.hex()), body=text.encode())

    def _learn(self, token_id: TokenId, *, is_neg_risk: bool) -> _Target:
        contract = exchange_contract(token_id, is_neg_risk=is_neg_risk, chain_id=self._chain_id)
        domain = _domain_separator(self._chain_id, contract)
        target = _Target(domain, self._wallet_words + _word_of_int(asset_number(token_id)))
        self._targets[token_id, is_neg_risk] = target
        return target

    def _signature(self, digest: bytes, domain: bytes, contents: bytes) -> bytes:
        if self._wrapper_tail is None:
            return self._key.sign(digest)
        # A smart account checks a signature over its own wrapper of the order; the parts it needs to rebuild that
        # wrapper travel behind the 65 bytes.
        wrapped = keccak256(keccak256(WRAPPER_TYPE) + contents + self._wrapper_tail)
        signature = self._key.sign(keccak256(b"\x19\x01" + domain + wrapped))
        return signature + domain + contents + ORDER_TYPE + len(ORDER_TYPE).to_bytes(2, "big")


def exchange_contract(token_id: TokenId, *, is_neg_risk: bool, chain_id: int) -> ExchangeContract:
    """Name the contract that the orders of an asset are signed for.

    Args:
        token_id: Asset id; a position id is traded on V3, whatever its market.
        is_neg_risk: Of the market; counts for CTF tokens only.
        chain_id: 137 or 80002.

    Raises:
        BadFrame: Not an asset id.
    """
    if is_position_id(token_id):
        return ExchangeContract("3", EXCHANGE_V3[chain_id])
    return ExchangeContract("2", EXCHANGE_NEG_RISK if is_neg_risk else EXCHANGE)


def _domain_separator(chain_id: int, contract: ExchangeContract) -> bytes:
    name, version = keccak256(b"Polymarket CTF Exchange"), keccak256(contract.version.encode())
    place = _word_of_int(chain_id) + _word(address_bytes(contract.address))
    return keccak256(keccak256(DOMAIN_TYPE) + name + version + place)


def _wrapper_tail(chain_id: int, wallet: bytes) -> bytes:
    name, version = keccak256(b"DepositWallet"), keccak256(b"1")
    return name + version + _word_of_int(chain_id) + _word(wallet) + ZERO_WORD


def _word(address: bytes) -> bytes:
    return bytes(12) + address


def _word_of_int(value: int) -> bytes:
    return value.to_bytes(32, "big")
