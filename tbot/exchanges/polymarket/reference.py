"""The reference of the start-up probe: the official clients, run as a program of their own.

Run by path with `python -I` and an empty environment (see `conformance`): it reads one JSON request from standard
input, answers on standard output, and never sees more than the public test key that the request holds. It imports
nothing of tbot, so an error of ours cannot repeat itself here. Only this file may import the official clients.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from py_clob_client.clob_types import OrderBookSummary, OrderSummary
from py_clob_client.signer import Signer as SignerOfV1
from py_clob_client.signing.eip712 import sign_clob_auth_message
from py_clob_client.signing.hmac import build_hmac_signature
from py_clob_client.utilities import generate_orderbook_summary_hash
from py_clob_client_v2.config import get_contract_config
from py_clob_client_v2.order_builder.builder import ROUNDING_CONFIG, OrderBuilder
from py_clob_client_v2.order_utils import ExchangeOrderBuilderV2, SignatureTypeV2
from py_clob_client_v2.order_utils.model.order_data_v2 import OrderDataV2, SignedOrderV2, order_to_json_v2
from py_clob_client_v2.signer import Signer


def reference(request: dict[str, Any]) -> dict[str, str]:
    """Compute every part of the probe.

    Args:
        request: What `conformance.ProbeRequest` encodes to.

    Returns:
        Text of each part by name; the same names as `conformance.probe_ours` gives.
    """
    parts: dict[str, str] = {}
    for order in request["orders"]:
        body, order_id = _order(request, order)
        parts[f"order {order['name']}: body"] = body
        parts[f"order {order['name']}: id"] = order_id
    parts["L1 signature"] = _l1(request)
    parts["L2 signature"] = _l2(request)
    parts["book hash"] = _book_hash(request["book"])
    return parts


def _order(request: dict[str, Any], order: dict[str, Any]) -> tuple[str, str]:
    signer = Signer(request["key"], chain_id=request["chain_id"])
    kind = SignatureTypeV2(request["signature_type"])
    funder = request["funder"] or signer.address()
    amounts = OrderBuilder(signer, kind, funder).get_order_amounts(
        order["side"], float(order["size"]), float(order["price"]), ROUNDING_CONFIG[order["tick"]]
    )
    builder = ExchangeOrderBuilderV2(
        _contract(request["chain_id"], order),
        request["chain_id"],
        signer,
        generate_salt=lambda: str(order["salt"]),
        domain_version=str(order["protocol"]),
    )
    data = OrderDataV2(
        maker=funder,
        tokenId=order["token_id"],
        makerAmount=str(amounts[1]),
        takerAmount=str(amounts[2]),
        side=amounts[0],
        signer=funder if kind is SignatureTypeV2.POLY_1271 else signer.address(),
        signatureType=kind,
        timestamp=str(order["timestamp_ms"]),
    )
    unsigned = builder.build_order(data)
    typed = builder.build_order_typed_data(unsigned)
    signed = SignedOrderV2(**vars(unsigned), signature=builder.build_order_signature(typed))
    body = json.dumps(order_to_json_v2(signed, request["owner"], "GTC"), separators=(",", ":"), ensure_ascii=False)
    return body, builder.build_order_hash(typed)


def _contract(chain_id: int, order: dict[str, Any]) -> str:
    contracts = get_contract_config(chain_id)
    if order["protocol"] == 3:
        return str(contracts.exchange_v3)
    return str(contracts.neg_risk_exchange_v2 if order["is_neg_risk"] else contracts.exchange_v2)


def _l1(request: dict[str, Any]) -> str:
    signer = SignerOfV1(request["key"], request["chain_id"])
    return str(sign_clob_auth_message(signer, request["timestamp_s"], 0))


def _l2(request: dict[str, Any]) -> str:
    asked = request["l2"]
    stamp_s = request["timestamp_s"]
    return str(build_hmac_signature(asked["secret"], stamp_s, asked["method"], asked["path"], asked["body"]))


def _book_hash(book: dict[str, Any]) -> str:
    sides = {side: [OrderSummary(price=price, size=size) for price, size in book[side]] for side in ("bids", "asks")}
    return str(generate_orderbook_summary_hash(OrderBookSummary(**{**book, **sides})))


if __name__ == "__main__":
    json.dump(reference(json.load(sys.stdin)), sys.stdout)
