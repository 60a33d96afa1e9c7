"""What an owner signs to let the relayer act for a deposit wallet: a batch of calls, of which approvals are understood.

Sources: docs.polymarket.com (deposit wallets), official client polymarket-client 0.14.0; read 2026-11-26.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from tbot.exchanges.simulated.allowances import UNLIMITED
from tbot.exchanges.simulated.contracts import COLLATERAL_TOKEN, CONDITIONAL_TOKENS, POSITION_MANAGER, AssetType
from tbot.exchanges.simulated.http import HttpRefusal
from tbot.exchanges.simulated.operations import Account, Approve
from tbot.exchanges.simulated.typed_data import StructType, TypedMessage
from tbot.exchanges.simulated.wire_in import Address, Digits, HexText

TEXT_SIGNATURE = "invalid signature"
TEXT_CALL = "unsupported call: only approvals are relayed here, the rest is done by POST /control/..."

_CALL = StructType("Call", "address target,uint256 value,bytes data")
_BATCH = StructType("Batch", "address wallet,uint256 nonce,uint256 deadline,Call[] calls", _CALL)
_DOMAIN = StructType("EIP712Domain", "string name,string version,uint256 chainId,address verifyingContract")

_APPROVE = keccak(b"approve(address,uint256)")[:4]
_SET_APPROVAL_FOR_ALL = keccak(b"setApprovalForAll(address,bool)")[:4]
_TOKENS = {CONDITIONAL_TOKENS.lower(): AssetType.CONDITIONAL, POSITION_MANAGER.lower(): AssetType.CONDITIONAL_V2}
_WORDS_BYTES = 4 + 32 + 32


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


def approval_of(call: RelayedCall, wallet: Account) -> Approve:
    """Read an approval of this wallet; of tokens it is `UNLIMITED` or 0.

    Raises:
        HttpRefusal: 400, it is another call.
    """
    data, target = bytes.fromhex(call.data[2:]), call.target.lower()
    if len(data) != _WORDS_BYTES or int(call.value):
        raise HttpRefusal(TEXT_CALL)
    spender, amount = str(to_checksum_address(data[16:36])), int.from_bytes(data[36:], "big")
    if data[:4] == _APPROVE and target == COLLATERAL_TOKEN.lower():
        return Approve(account=wallet, asset=AssetType.COLLATERAL, spender=spender, amount=str(amount))
    if data[:4] == _SET_APPROVAL_FOR_ALL and target in _TOKENS:
        granted = UNLIMITED if amount else 0
        return Approve(account=wallet, asset=_TOKENS[target], spender=spender, amount=str(granted))
    raise HttpRefusal(TEXT_CALL)
