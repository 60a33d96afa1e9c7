"""An order from price and size to the body of its request: our fast path against both clients of the exchange.

The peers keep their signers and builders between orders, as a careful user of those clients would, and are spared the
order id, which ours computes as well, and their own look-ups of the market. All sign with coincurve. The salt and the
time are fixed, so all must give the same request, and that is checked before anything is timed.
"""

from __future__ import annotations

import json
from decimal import Decimal

from eth_account import Account
from polymarket._internal.actions.orders.limit import _compute_limit_order_amounts
from polymarket._internal.actions.orders.orders import create_signed_order
from polymarket._internal.actions.orders.post import build_post_order_request
from polymarket._internal.actions.orders.typed_data import build_order_signature, build_order_typed_data
from polymarket._internal.actions.orders.types import BYTES32_ZERO, UnsignedOrder
from polymarket.models.types import TokenId as PeerTokenId
from polymarket.types import EvmAddress, HexString
from py_clob_client_v2.config import get_contract_config
from py_clob_client_v2.order_builder.builder import ROUNDING_CONFIG, OrderBuilder
from py_clob_client_v2.order_utils import ExchangeOrderBuilderV2, SignatureTypeV2
from py_clob_client_v2.order_utils.model.order_data_v2 import OrderDataV2, SignedOrderV2, order_to_json_v2
from py_clob_client_v2.signer import Signer

from bench.measure import Case
from tbot.core.market import TokenId
from tbot.core.messages import OrderType, Side
from tbot.core.units import Price, Size
from tbot.exchanges.polymarket.amounts import amounts_of
from tbot.exchanges.polymarket.keys import TEST_KEY_HEX, SigningKey
from tbot.exchanges.polymarket.signing import OrderSigner

CHAIN_ID = 137
TOKEN = "71321045679252212594626385532706912750332728571942532289631379312455583992563"
OWNER = "11111111-2222-4333-8444-555555555555"
SALT = 479249096354
TIMESTAMP_MS = 1767225600000
TICK = Price(10_000)


class Ours:
    """Signs one order with the bot's signer."""

    def __init__(self) -> None:
        """Precompute what the bot precomputes."""
        self._signer = OrderSigner(SigningKey.from_hex(TEST_KEY_HEX), chain_id=CHAIN_ID, owner=OWNER)

    def __call__(self) -> bytes:
        """Return the body of the request."""
        price, size = Price(560_000), Size(21_040_000)
        signed = self._signer.sign(
            token_id=TokenId(TOKEN),
            side=Side.BUY,
            amounts=amounts_of(order_type=OrderType.GTC, side=Side.BUY, price=price, size=size, tick=TICK),
            order_type=OrderType.GTC,
            is_post_only=False,
            is_neg_risk=False,
            salt=SALT,
            timestamp_ms=TIMESTAMP_MS,
        )
        return signed.body


class Peer:
    """Signs the same order with py-clob-client-v2."""

    def __init__(self) -> None:
        """Build what can be kept between orders."""
        signer = Signer(TEST_KEY_HEX, chain_id=CHAIN_ID)
        self._address = signer.address()
        self._amounts = OrderBuilder(signer, SignatureTypeV2.EOA, self._address)
        contract = get_contract_config(CHAIN_ID).exchange_v2
        self._builder = ExchangeOrderBuilderV2(contract, CHAIN_ID, signer, generate_salt=lambda: str(SALT))

    def __call__(self) -> bytes:
        """Return the body of the request."""
        side, maker, taker = self._amounts.get_order_amounts("BUY", 21.04, 0.56, ROUNDING_CONFIG["0.01"])
        data = OrderDataV2(
            maker=self._address,
            tokenId=TOKEN,
            makerAmount=str(maker),
            takerAmount=str(taker),
            side=side,
            signer=self._address,
            signatureType=SignatureTypeV2.EOA,
            timestamp=str(TIMESTAMP_MS),
        )
        unsigned = self._builder.build_order(data)
        typed = self._builder.build_order_typed_data(unsigned)
        signed = SignedOrderV2(**vars(unsigned), signature=self._builder.build_order_signature(typed))
        body = json.dumps(order_to_json_v2(signed, OWNER, "GTC"), separators=(",", ":"), ensure_ascii=False)
        return body.encode()


class UnifiedPeer:
    """Signs the same order with polymarket-client: the steps of its client from the draft on."""

    def __init__(self) -> None:
        """Keep the account."""
        self._account = Account.from_key(TEST_KEY_HEX)
        self._address = EvmAddress(self._account.address)
        self._exchange = EvmAddress(get_contract_config(CHAIN_ID).exchange_v2)

    def __call__(self) -> bytes:
        """Return the body of the request."""
        given, wanted = _compute_limit_order_amounts(
            price=Decimal("0.56"), size=Decimal("21.04"), side="BUY", tick_size=Decimal("0.01")
        )
        unsigned = UnsignedOrder(
            chain_id=CHAIN_ID,
            builder=BYTES32_ZERO,
            exchange_address=self._exchange,
            expiration=0,
            maker=self._address,
            maker_amount=given,
            metadata=BYTES32_ZERO,
            order_type="GTC",
            salt=SALT,
            side="BUY",
            signature_type=0,
            signer=self._address,
            taker_amount=wanted,
            timestamp=TIMESTAMP_MS,
            token_id=PeerTokenId(TOKEN),
        )
        message = self._account.sign_typed_data(full_message=build_order_typed_data(unsigned))
        signature = build_order_signature(unsigned, HexString("0x" + message.signature.hex().removeprefix("0x")))
        _, body = build_post_order_request(create_signed_order(unsigned, signature), owner_api_key=OWNER)
        return json.dumps(body, separators=(",", ":")).encode()


def case() -> Case:
    """Build the row against py-clob-client-v2."""
    ours, peer = Ours(), Peer()
    assert ours() == peer(), "the two signers disagree: no speed matters"
    return Case(name="sign an order", peer_name="py-clob-client-v2", ours=ours, peer=peer)


def unified_case() -> Case:
    """Build the row against polymarket-client."""
    ours, peer = Ours(), UnifiedPeer()
    # The same fields in another order; that client leaves out a flag that is false.
    assert json.loads(ours()) == {"postOnly": False} | json.loads(peer()), "the two signers disagree"
    return Case(name="sign an order", peer_name="polymarket-client", ours=ours, peer=peer)
