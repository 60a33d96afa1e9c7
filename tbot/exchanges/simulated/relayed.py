"""What an owner signs to let the relayer act for a deposit wallet: a batch of calls, of which approvals are understood.

Sources: docs.polymarket.com (deposit wallets), official client polymarket-client 0.14.0; read 2026-11-26.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from tbot.exchanges.simulated.allowances import UNLIMITED
from tbot.exchanges.simulated.contracts import SELECTOR_BYTES, AssetType, asset_held_by, selector_of
from tbot.exchanges.simulated.http import HttpRefusal
from tbot.exchanges.simulated.operations import Account, Approve
from tbot.exchanges.simulated.typed_data import StructType, TypedMessage, checksummed
from tbot.exchanges.simulated.wire_in import Address, Digits, HexText

TEXT_SIGNATURE = "invalid signature"
TEXT_CALL = "unsupported call: only approvals are relayed here, the rest is done by POST /control/..."

_CALL = StructType("Call", "address target,uint256 value,bytes data")
_BATCH = StructType("Batch", "address wallet,uint256 nonce,uint256 deadline,Call[] calls", _CALL)
_DOMAIN = StructType("EIP712Domain", "string name,string version,uint256 chainId,address verifyingContract")

_APPROVE = selector_of("approve(address,uint256)")
_SET_APPROVAL_FOR_ALL = selector_of("setApprovalForAll(address,bool)")
_CALL_BYTES = SELECTOR_BYTES + 32 + 32


class RelayedCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a batch."""

    target: Address
    data: HexText
    value: Digits = "0"


class WalletBatch(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The signed part of a batch; `deadline` in Unix seconds."""

    deposit_wallet: Address
    deadline: Digits
    calls: Annotated[list[RelayedCall], msgspec.Meta(min_length=1, max_length=64)]


class Submission(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Body of `POST /submit` for a deposit wallet."""

    type: Literal["WALLET"]
    owner: Address = msgspec.field(name="from")
    nonce: Digits
    signature: HexText
    deposit_wallet_params: WalletBatch


def signer_of(body: Submission, chain_id: int) -> str:
    """Recover who signed a batch, checksummed.

    Raises:
        HttpRefusal: 400, the signature cannot be one.
    """
    batch = body.deposit_wallet_params
    domain = {
        "name": "DepositWallet",
        "version": "1",
        "chainId": chain_id,
        "verifyingContract": batch.deposit_wallet,
    }
    values = {
        "wallet": batch.deposit_wallet,
        "nonce": int(body.nonce),
        "deadline": int(batch.deadline),
        "calls": [
            {"target": call.target, "value": int(call.value), "data": bytes.fromhex(call.data[2:])}
            for call in batch.calls
        ],
    }
    try:
        message = TypedMessage(domain=_DOMAIN.hash(domain), contents=_BATCH.hash(values))
        return message.signer(bytes.fromhex(body.signature[2:]))
    except ValueError as error:
        raise HttpRefusal(TEXT_SIGNATURE) from error


def approval_of(wallet: Account, *, target: str, data: bytes, value: int) -> Approve:
    """Read a call of a wallet as an approval; of tokens it is `UNLIMITED` or 0.

    Raises:
        HttpRefusal: 400, it is another call.
    """
    asset, selector = asset_held_by(target), data[:SELECTOR_BYTES]
    is_cash = asset is AssetType.COLLATERAL
    if asset is None or value or len(data) != _CALL_BYTES:
        raise HttpRefusal(TEXT_CALL)
    if selector != (_APPROVE if is_cash else _SET_APPROVAL_FOR_ALL):
        raise HttpRefusal(TEXT_CALL)
    spender, amount = checksummed(data[16:36]), int.from_bytes(data[36:], "big")
    if not is_cash:
        amount = UNLIMITED if amount else 0
    return Approve(account=wallet, asset=asset, spender=spender, amount=str(amount))
