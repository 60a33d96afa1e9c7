"""Signing an order: our fast path against the exchange's own client.

The peer keeps its signer and its builder between orders, as a careful user of that client would, and is spared the
order id, which ours computes as well. The salt and the time are fixed, so both must give the same bytes of the same
request, and that is checked before anything is timed.
"""

from __future__ import annotations

import json

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


def case() -> Case:
    """Build the row."""
    ours, peer = Ours(), Peer()
    assert ours() == peer(), "the two signers disagree: no speed matters"
    return Case(name="sign an order", peer_name="py-clob-client-v2", ours=ours, peer=peer)
