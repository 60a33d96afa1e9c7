"""The relayer, as far as trading asks for it: does this wallet exist, and approvals of deposit wallets.

Other transactions of a chain are done by `POST /control/...` here, approvals of an own address at
`rest_rpc`. Whoever asks needs no relayer key: a batch is signed by the owner of its wallet, and nothing
but that counts.
"""

from __future__ import annotations

import hashlib
import uuid
from collections import OrderedDict

import msgspec
from eth_utils.address import to_checksum_address

from tbot.exchanges.simulated.http import HttpRefusal, Reply, Request, Routes, json_response
from tbot.exchanges.simulated.operations import Account
from tbot.exchanges.simulated.relayed import TEXT_SIGNATURE, Submission, approval_of, signer_of
from tbot.exchanges.simulated.state import ServerState
from tbot.exchanges.simulated.wire_in import SignatureType, decode

RELAYER_PATH = "/relayer"
"""Where the relayer lies on the server."""

TRANSACTIONS_KEPT = 1_000

_KINDS = {
    "PROXY": (SignatureType.POLY_PROXY,),
    "SAFE": (SignatureType.POLY_GNOSIS_SAFE,),
    "WALLET": (SignatureType.POLY_1271,),
    "": (SignatureType.POLY_PROXY, SignatureType.POLY_GNOSIS_SAFE, SignatureType.POLY_1271),
}


class Submitted(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to a submission."""

    id: str = msgspec.field(name="transactionID")
    state: str = "STATE_NEW"
    hash: str = msgspec.field(name="transactionHash", default="")


class Transaction(msgspec.Struct, frozen=True, kw_only=True):
    """One transaction as it stands; here it took effect when it was submitted."""

    transaction_id: str
    transaction_hash: str
    state: str = "STATE_CONFIRMED"


class RelayerRoutes:
    """Knows the wallets of everybody who ever had an API key, since that is whom the exchange knows."""

    def __init__(self, state: ServerState) -> None:
        """Ask this server's key ring."""
        self._state = state
        self._keys = state.keys
        self._nonces: dict[str, int] = {}
        self._done: OrderedDict[str, Transaction] = OrderedDict()

    def routes(self) -> Routes:
        """Give the routing table."""
        return {
            ("GET", f"{RELAYER_PATH}/deployed"): self._deployed,
            ("GET", f"{RELAYER_PATH}/v1/account/transactions/params"): self._params,
            ("GET", f"{RELAYER_PATH}/v1/account/transactions/{{}}"): self._transaction,
            ("POST", f"{RELAYER_PATH}/submit"): self._submit,
        }

    async def _deployed(self, request: Request) -> Reply:
        kinds = _KINDS.get(request.query.get("type", ""))
        if kinds is None:
            raise HttpRefusal("invalid type")
        address = request.query.get("address", "")
        if not address:
            raise HttpRefusal("invalid address")
        return json_response({"deployed": self._keys.has_wallet(address, kinds)})

    async def _params(self, request: Request) -> Reply:
        if request.query.get("type") != "WALLET":
            raise HttpRefusal("invalid type")
        owner = request.query.get("address", "")
        return json_response({"address": owner, "nonce": str(self._nonces.get(owner.lower(), 0))})

    async def _transaction(self, request: Request) -> Reply:
        done = self._done.get(request.tail)
        if done is None:
            raise HttpRefusal("transaction not found", status=404)
        return json_response(done)

    async def _submit(self, request: Request) -> Reply:
        body = decode(request.body, Submission, refusal="invalid payload")
        owner = body.owner.lower()
        self._check(body, owner)
        wallet = Account(to_checksum_address(body.deposit_wallet_params.deposit_wallet))
        approvals = [
            approval_of(wallet, target=call.target, data=bytes.fromhex(call.data[2:]), value=int(call.value))
            for call in body.deposit_wallet_params.calls
        ]
        for approve in approvals:
            self._state.exchange.apply(approve)
        self._nonces[owner] = self._nonces.get(owner, 0) + 1
        return json_response(Submitted(id=self._note(wallet, body.nonce)))

    def _check(self, body: Submission, owner: str) -> None:
        batch, nonce = body.deposit_wallet_params, self._nonces.get(owner, 0)
        signer = signer_of(body, self._state.verifier.chain_id)
        wallet = self._keys.wallet_of(signer, SignatureType.POLY_1271)
        if not self._keys.has_owner(signer) or (signer.lower(), wallet.lower()) != (
            owner,
            batch.deposit_wallet.lower(),
        ):
            raise HttpRefusal(TEXT_SIGNATURE)
        if int(body.nonce) != nonce:
            raise HttpRefusal(f"batch nonce {body.nonce} does not match on-chain nonce {nonce}")
        if int(batch.deadline) < self._state.now_s:
            raise HttpRefusal("batch deadline has passed")

    def _note(self, wallet: str, nonce: str) -> str:
        digest = hashlib.sha256(f"relayed:{wallet}:{nonce}".encode()).digest()
        done = Transaction(
            transaction_id=str(uuid.UUID(bytes=digest[:16], version=4)), transaction_hash="0x" + digest.hex()
        )
        self._done[done.transaction_id] = done
        if len(self._done) > TRANSACTIONS_KEPT:
            self._done.popitem(last=False)
        return done.transaction_id
