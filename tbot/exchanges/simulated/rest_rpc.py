"""A node of the chain, as far as trading asks one: balances, approvals, and transactions that give approvals.

JSON-RPC 2.0, single or in a batch. Whoever signs a transaction must be known here by an API key: nobody else would have
a coin to pay for it. It takes effect when it is sent; a block is two seconds long.

Methods as the official client polymarket-client 0.14.0 uses them, read 2026-11-26; errors as nodes word them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, TypeAlias

import msgspec
import trio
from tiny_keccak import keccak256

from tbot.core.market import TokenId
from tbot.core.units import NANOS_PER_S
from tbot.errors import TbotError
from tbot.exchanges.simulated.contract_calls import ChainView, Reverted, call_contract
from tbot.exchanges.simulated.contracts import AssetType, asset_type_of
from tbot.exchanges.simulated.http import HttpRefusal, Reply, Request, Routes, json_response
from tbot.exchanges.simulated.ledger import CASH
from tbot.exchanges.simulated.operations import Account, Approve
from tbot.exchanges.simulated.raw_transactions import RawTransaction, read_transaction
from tbot.exchanges.simulated.relayed import approval_of
from tbot.exchanges.simulated.state import ServerState
from tbot.exchanges.simulated.wire_in import Address

RPC_PATH = "/rpc"
"""Where the node lies on the server."""

TRANSACTIONS_KEPT = 1_000
BATCH_MAX = 100
LOOK_UPS_MAX = 1_000
"""Balances and approvals that one request, single or a batch, may read: a client asks for some dozens."""

BLOCK_S = 2
GAS = 60_000
GAS_PRICE = 30_000_000_000

PARSE_ERROR, INVALID_REQUEST, NO_METHOD, INVALID_PARAMS = -32_700, -32_600, -32_601, -32_602
REVERTED, REFUSED, TOO_MUCH = 3, -32_000, -32_005

# 256 bits; a longer text is refused before it becomes a number.
Quantity = Annotated[str, msgspec.Meta(pattern=r"^0x[0-9a-fA-F]{1,64}\Z")]


Methods: TypeAlias = "dict[str, Callable[[list[Any]], Any]]"


class RpcRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request."""

    jsonrpc: str = "2.0"
    id: int | str | None = None
    method: str
    params: list[Any] = []


class CallParams(msgspec.Struct, frozen=True, kw_only=True):
    """What a call or a transaction says; fields that change nothing here are left out."""

    to: Address
    data: str = ""
    input: str = ""
    value: Quantity = "0x0"
    sender: Address | None = msgspec.field(name="from", default=None)


class Receipt(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What became of a transaction."""

    transaction_hash: str
    transaction_index: str = "0x0"
    block_hash: str
    block_number: str
    sender: str = msgspec.field(name="from")
    to: str
    cumulative_gas_used: str = hex(GAS)
    gas_used: str = hex(GAS)
    effective_gas_price: str = hex(GAS_PRICE)
    contract_address: None = None
    logs: tuple[()] = ()
    status: str = "0x1"


class RpcError(TbotError):
    """A request that is answered with an error."""

    def __init__(self, code: int, text: str) -> None:
        """Say what is wrong in a node's words."""
        super().__init__(text)
        self.code = code


class LookUps:
    """What one request has read of balances and approvals so far."""

    def __init__(self) -> None:
        """Begin with nothing read."""
        self._left = LOOK_UPS_MAX

    def spend(self) -> None:
        """Count one more.

        Raises:
            RpcError: It is more than a request may read.
        """
        if not self._left:
            raise RpcError(TOO_MUCH, f"limit exceeded: a request may read {LOOK_UPS_MAX} balances")
        self._left -= 1


class RpcRoutes:
    """Reads the engine's ledger and allowances; gives approvals by the operation that the relayer gives them by."""

    def __init__(self, state: ServerState) -> None:
        """Stand beside this server's exchange."""
        self._state = state
        self._nonces: dict[str, int] = {}
        self._receipts: OrderedDict[str, Receipt] = OrderedDict()
        self._methods: Methods = {
            "eth_blockNumber": lambda _: hex(self._block()),
            "eth_chainId": lambda _: hex(state.verifier.chain_id),
            "eth_estimateGas": self._estimate,
            "eth_gasPrice": lambda _: hex(GAS_PRICE),
            "eth_getBlockByNumber": lambda _: self._newest_block(),
            "eth_getTransactionCount": self._count,
            "eth_getTransactionReceipt": self._receipt,
            "eth_sendRawTransaction": self._send,
            "net_version": lambda _: str(state.verifier.chain_id),
        }

    def routes(self) -> Routes:
        """Give the routing table."""
        return {("POST", RPC_PATH): self._serve}

    async def _serve(self, request: Request) -> Reply:
        try:
            asked = msgspec.json.decode(request.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return json_response(_error(None, PARSE_ERROR, "parse error"))
        methods: Methods = {**self._methods, "eth_call": partial(self._call, self._view(LookUps()))}
        if not isinstance(asked, list):
            return json_response(_answer(methods, asked))
        if not 0 < len(asked) <= BATCH_MAX:
            return json_response(_error(None, INVALID_REQUEST, f"expected a batch of 1 to {BATCH_MAX}"))
        answers: list[dict[str, Any]] = []
        for each in asked:
            answers.append(_answer(methods, each))
            # Others get their turn: anybody may send a batch, and as many of them as they like.
            await trio.lowlevel.checkpoint()
        return json_response(answers)

    # --- reading ----------------------------------------------------------------------------------------------------

    def _call(self, view: ChainView, params: list[Any]) -> str:
        call = _call_of(params)
        return "0x" + call_contract(view, call.to, _data(call)).hex()

    def _view(self, look_ups: LookUps) -> ChainView:
        def cash(owner: str) -> int:
            look_ups.spend()
            return self._held(owner, CASH)

        def tokens(owner: str, kind: AssetType, number: int) -> int:
            look_ups.spend()
            return self._tokens(owner, kind, number)

        def allowance(owner: str, asset: AssetType, spender: str) -> int:
            look_ups.spend()
            return self._state.allowance(Account(owner), asset, spender)

        return ChainView(cash=cash, tokens=tokens, allowance=allowance)

    def _held(self, owner: str, asset: TokenId) -> int:
        ledger = self._state.exchange.engine.ledger
        return ledger.available(Account(owner), asset) + ledger.leaving(Account(owner), asset)

    def _tokens(self, owner: str, kind: AssetType, number: int) -> int:
        token_id = TokenId(str(number))
        return self._held(owner, token_id) if kind is asset_type_of(token_id) else 0

    def _block(self) -> int:
        return self._state.now_ns() // (BLOCK_S * NANOS_PER_S)

    def _newest_block(self) -> dict[str, Any]:
        number = self._block()
        return {
            "number": hex(number),
            "hash": _block_hash(number),
            "parentHash": _block_hash(number - 1),
            "timestamp": hex(number * BLOCK_S),
            "gasLimit": hex(30_000_000),
            "gasUsed": hex(0),
            "transactions": [],
        }

    def _count(self, params: list[Any]) -> str:
        return hex(self._nonces.get(_first(params, Address).lower(), 0))

    def _receipt(self, params: list[Any]) -> Receipt | None:
        return self._receipts.get(_first(params, str).lower())

    # --- approving --------------------------------------------------------------------------------------------------

    def _estimate(self, params: list[Any]) -> str:
        call = _call_of(params)
        self._approvable(call.sender or call.to, call.to, _data(call), int(call.value, 16))
        return hex(GAS)

    def _send(self, params: list[Any]) -> str:
        transaction = self._read(_first(params, str))
        self._check(transaction)
        sender, to = transaction.sender, transaction.to
        self._state.exchange.apply(self._approvable(sender, to, transaction.data, transaction.value))
        self._nonces[sender.lower()] = transaction.nonce + 1
        block = self._block()
        self._receipts[transaction.hash] = Receipt(
            transaction_hash=transaction.hash,
            block_hash=_block_hash(block),
            block_number=hex(block),
            sender=sender.lower(),
            to=to,
        )
        if len(self._receipts) > TRANSACTIONS_KEPT:
            self._receipts.popitem(last=False)
        return transaction.hash

    def _read(self, text: str) -> RawTransaction:
        try:
            return read_transaction(bytes.fromhex(text.removeprefix("0x")))
        except ValueError as error:
            raise RpcError(REFUSED, str(error)) from error

    def _check(self, transaction: RawTransaction) -> None:
        sender, expected = transaction.sender, self._nonces.get(transaction.sender.lower(), 0)
        if transaction.chain_id != self._state.verifier.chain_id:
            raise RpcError(REFUSED, f"invalid chain id for signer: have {transaction.chain_id}")
        if not self._state.keys.has_owner(sender):
            raise RpcError(REFUSED, "insufficient funds for gas * price + value: balance 0")
        if transaction.nonce != expected:
            which = "low" if transaction.nonce < expected else "high"
            raise RpcError(REFUSED, f"nonce too {which}: next nonce {expected}, tx nonce {transaction.nonce}")

    def _approvable(self, owner: str, to: str, data: bytes, value: int) -> Approve:
        try:
            return approval_of(Account(owner), target=to, data=data, value=value)
        except HttpRefusal as error:
            raise Reverted(f"execution reverted: {error}") from error


def _answer(methods: Methods, asked: object) -> dict[str, Any]:
    try:
        request = msgspec.convert(asked, RpcRequest)
    except msgspec.ValidationError:
        return _error(None, INVALID_REQUEST, "invalid request")
    method = methods.get(request.method)
    if method is None:
        return _error(request.id, NO_METHOD, f"the method {request.method[:80]} does not exist/is not available")
    try:
        return {"jsonrpc": "2.0", "id": request.id, "result": method(request.params)}
    except RpcError as error:
        return _error(request.id, error.code, str(error))
    except Reverted as error:
        return _error(request.id, REVERTED, str(error))


def _error(number: int | str | None, code: int, text: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "error": {"code": code, "message": text}}


def _first(params: list[Any], kind: Any) -> Any:
    try:
        return msgspec.convert(params[0] if params else None, kind)
    except msgspec.ValidationError as error:
        raise RpcError(INVALID_PARAMS, "invalid argument 0") from error


def _call_of(params: list[Any]) -> CallParams:
    call = _first(params, CallParams)
    assert isinstance(call, CallParams)
    return call


def _data(call: CallParams) -> bytes:
    text = (call.data or call.input).removeprefix("0x")
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise RpcError(INVALID_PARAMS, "invalid argument 0: invalid hex string") from error


def _block_hash(number: int) -> str:
    return "0x" + keccak256(f"block:{number}".encode()).hex()
