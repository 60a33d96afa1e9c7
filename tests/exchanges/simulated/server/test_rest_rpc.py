"""A node of the chain: it tells the balances and approvals that orders are checked against, and takes approvals."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from eth_abi.abi import decode, encode
from eth_account import Account as EthAccount
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from hypothesis import given, settings
from hypothesis import strategies as gen

from tbot.core.units import MICRO
from tbot.exchanges.simulated.contracts import (
    COLLATERAL_TOKEN,
    CONDITIONAL_TOKENS,
    EXCHANGE_V2,
    EXCHANGE_V2_NEG_RISK,
    POSITION_MANAGER,
)
from tbot.exchanges.simulated.raw_transactions import rlp_decode, rlp_encode
from tbot.exchanges.simulated.server import ServerSettings
from tbot.exchanges.simulated.wallets import DEPOSIT_BEACON, DEPOSIT_FACTORY

NEG_RISK_ADAPTER = "0xd91E80cF2E7be2e162c6513ceD06f1dD0dA35296"
STRANGER = to_checksum_address("0x" + "5e" * 20)
MAX = (1 << 256) - 1


@pytest.fixture
async def node(make_world: Any) -> Any:
    async with make_world(settings=ServerSettings(has_control=True)) as world:
        yield Node(world)


def calldata(signature: str, *values: Any) -> str:
    kinds = [kind for kind in signature.partition("(")[2][:-1].split(",") if kind]
    return "0x" + (keccak(signature.encode())[:4] + encode(kinds, values)).hex()


class Node:
    """Asks the node as any library does: by other code than the server's."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.alice = world.alice.account

    async def post(self, body: Any) -> Any:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = await (await self.world.rest()).ask("POST", "/rpc", raw)
        assert answer.status == 200
        return answer.json

    async def ask(self, method: str, *params: Any) -> Any:
        answer = await self.post({"jsonrpc": "2.0", "id": 7, "method": method, "params": list(params)})
        assert (answer["jsonrpc"], answer["id"]) == ("2.0", 7)
        return answer.get("result", answer.get("error"))

    async def call(self, to: str, signature: str, *values: Any, gives: str = "uint256") -> Any:
        found = await self.ask("eth_call", {"to": to, "data": calldata(signature, *values)}, "latest")
        return decode([gives], bytes.fromhex(found[2:]))[0] if isinstance(found, str) else found

    async def allowance(self, owner: str, spender: str = EXCHANGE_V2) -> Any:
        return await self.call(COLLATERAL_TOKEN, "allowance(address,address)", owner, spender)

    async def is_approved(self, owner: str, token: str = CONDITIONAL_TOKENS, spender: str = EXCHANGE_V2) -> Any:
        return await self.call(token, "isApprovedForAll(address,address)", owner, spender, gives="bool")

    async def control(self, verb: str, **body: Any) -> None:
        answer = await self.world.control(verb, **body)
        assert answer.status == 200, answer.body

    async def send(self, to: str, data: str, *, key: str = "", **fields: Any) -> Any:
        nonce = int(await self.ask("eth_getTransactionCount", self.alice.address, "pending"), 16)
        tx = {"to": to, "value": 0, "data": data, "gas": 60_000, "nonce": nonce, "chainId": 137, "gasPrice": 1} | fields
        if "maxFeePerGas" in tx:
            del tx["gasPrice"]
        signed = EthAccount.sign_transaction(tx, key or self.alice.private_key)
        answer = await self.ask("eth_sendRawTransaction", "0x" + bytes(signed.raw_transaction).hex())
        if isinstance(answer, str):
            assert answer == "0x" + bytes(signed.hash).hex()
        return answer


# --- reading ---------------------------------------------------------------------------------------------------------


async def test_approvals_are_those_that_orders_are_checked_against(node: Node, autojump_clock: Any) -> None:
    for wallet in node.world.server.keys.wallets_of(node.alice.address):
        assert (await node.allowance(wallet), await node.is_approved(wallet)) == (MAX, True)
    assert (await node.allowance(STRANGER), await node.is_approved(STRANGER)) == (0, False)
    wallet = node.alice.address
    await node.control("allowance", account=wallet, asset_type="COLLATERAL", spender=EXCHANGE_V2, allowance="7")
    await node.control("allowance", account=wallet, asset_type="CONDITIONAL", allowance="0")
    assert (await node.allowance(wallet), await node.allowance(wallet, EXCHANGE_V2_NEG_RISK)) == (7 * MICRO, MAX)
    asked = [
        (CONDITIONAL_TOKENS, EXCHANGE_V2),
        (CONDITIONAL_TOKENS, EXCHANGE_V2_NEG_RISK),
        (POSITION_MANAGER, STRANGER),
    ]
    assert [await node.is_approved(wallet, *each) for each in asked] == [False, False, True]
    # A fill uses up what the engine, and so the node, counts.
    await node.world.bob.placed("BUY", "0.60", "10", token=node.world.rain.no)
    await node.world.alice.placed("BUY", "0.40", "10")
    told = (await node.world.alice.ask("GET", "/balance-allowance?asset_type=COLLATERAL&signature_type=0")).json
    assert str(await node.allowance(wallet)) == told["allowances"][EXCHANGE_V2] == str(3 * MICRO - 96_000)


async def test_balances_are_of_what_is_mined(node: Node, autojump_clock: Any) -> None:
    rain, coin, wallet = node.world.rain, node.world.coin, node.alice.address
    await node.world.bob.placed("BUY", "0.60", "10", token=rain.no)
    await node.world.alice.placed("BUY", "0.40", "10")
    cash = ("balanceOf(address)", wallet)
    tokens = ("balanceOf(address,uint256)", wallet, int(rain.yes))
    assert await node.call(COLLATERAL_TOKEN, *cash) == 10_000 * MICRO
    assert await node.call(CONDITIONAL_TOKENS, *tokens) == 0
    await trio.sleep(3)
    assert await node.call(COLLATERAL_TOKEN, *cash) == 9_996 * MICRO - 96_000
    for holder, amount in ((CONDITIONAL_TOKENS, 10), (NEG_RISK_ADAPTER, 10), (POSITION_MANAGER, 0)):
        assert await node.call(holder, *tokens) == amount * MICRO
    await node.control("split", account=wallet, market=coin.market_id, size="3")
    both = ([wallet, STRANGER, wallet], [int(coin.yes), int(coin.yes), int(coin.no)])
    batch = await node.call(POSITION_MANAGER, "balanceOfBatch(address[],uint256[])", *both, gives="uint256[]")
    assert batch == (3 * MICRO, 0, 3 * MICRO)
    assert await node.call(COLLATERAL_TOKEN, "decimals()") == 6
    beacon = await node.call(DEPOSIT_FACTORY, "BEACON()", gives="address")
    assert beacon == DEPOSIT_BEACON.lower()


async def test_the_chain_goes_on(node: Node, autojump_clock: Any) -> None:
    assert (await node.ask("eth_chainId"), await node.ask("net_version")) == ("0x89", "137")
    first = await node.ask("eth_getBlockByNumber", "latest", False)
    assert (first["number"], int(first["timestamp"], 16)) == (await node.ask("eth_blockNumber"), 1_767_225_600)
    await trio.sleep(2)
    second = await node.ask("eth_getBlockByNumber", "latest", False)
    assert (int(second["number"], 16) - int(first["number"], 16), second["parentHash"]) == (1, first["hash"])


# --- approving -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fees", [{}, {"maxFeePerGas": 2, "maxPriorityFeePerGas": 1, "type": 2}], ids=["legacy", "1559"]
)
async def test_an_address_approves_by_its_own_transactions(
    node: Node, autojump_clock: Any, fees: dict[str, Any]
) -> None:
    wallet = node.alice.address
    for asset in ("COLLATERAL", "CONDITIONAL"):
        await node.control("allowance", account=wallet, asset_type=asset, allowance="0")
    refused = await node.world.alice.place("BUY", "0.40", "10")
    assert "the allowance is not enough" in refused.error
    approve = calldata("approve(address,uint256)", EXCHANGE_V2, 5 * MICRO)
    assert await node.ask("eth_estimateGas", {"from": wallet, "to": COLLATERAL_TOKEN, "data": approve, "value": "0x0"})
    sent = await node.send(COLLATERAL_TOKEN, approve, **fees)
    receipt = await node.ask("eth_getTransactionReceipt", sent)
    assert (receipt["status"], receipt["transactionHash"], receipt["from"]) == ("0x1", sent, wallet.lower())
    assert await node.allowance(wallet) == 5 * MICRO
    await node.world.alice.placed("BUY", "0.40", "10")
    grant = calldata("setApprovalForAll(address,bool)", EXCHANGE_V2, True)
    await node.send(CONDITIONAL_TOKENS, grant, **fees)
    assert await node.is_approved(wallet) is True
    await node.send(CONDITIONAL_TOKENS, calldata("setApprovalForAll(address,bool)", EXCHANGE_V2, False), **fees)
    assert await node.is_approved(wallet) is False
    assert await node.ask("eth_getTransactionCount", wallet, "latest") == "0x3"
    assert await node.ask("eth_getTransactionReceipt", "0x" + "00" * 32) is None


async def test_a_transaction_counts_once_and_only_for_its_signer(node: Node, autojump_clock: Any) -> None:
    approve = calldata("approve(address,uint256)", EXCHANGE_V2, 5 * MICRO)
    first = await node.send(COLLATERAL_TOKEN, approve)
    assert await node.allowance(node.world.bob.account.address) == MAX
    again = await node.send(COLLATERAL_TOKEN, approve, nonce=0)
    assert (again["code"], again["message"]) == (-32000, "nonce too low: next nonce 1, tx nonce 0")
    assert "nonce too high" in (await node.send(COLLATERAL_TOKEN, approve, nonce=5))["message"]
    assert "invalid chain id" in (await node.send(COLLATERAL_TOKEN, approve, chainId=1))["message"]
    assert "insufficient funds" in (await node.send(COLLATERAL_TOKEN, approve, key="0x" + "77" * 32))["message"]
    assert (await node.ask("eth_getTransactionReceipt", first))["status"] == "0x1"


@pytest.mark.parametrize(
    ("to", "data"),
    [
        (COLLATERAL_TOKEN, calldata("transfer(address,uint256)", STRANGER, 1)),
        (CONDITIONAL_TOKENS, calldata("approve(address,uint256)", EXCHANGE_V2, 1)),
        (STRANGER, calldata("approve(address,uint256)", EXCHANGE_V2, 1)),
        (COLLATERAL_TOKEN, "0x"),
    ],
)
async def test_nothing_else_can_be_done_here(node: Node, autojump_clock: Any, to: str, data: str) -> None:
    estimate = await node.ask("eth_estimateGas", {"from": node.alice.address, "to": to, "data": data})
    sent = await node.send(to, data)
    read = await node.ask("eth_call", {"to": to, "data": data}, "latest")
    assert {answer["code"] for answer in (estimate, sent, read)} == {3}
    assert all(answer["message"].startswith("execution reverted") for answer in (estimate, sent, read))
    assert await node.ask("eth_getTransactionCount", node.alice.address, "latest") == "0x0"


# --- the protocol ----------------------------------------------------------------------------------------------------


async def test_a_batch_is_answered_one_by_one_in_order(node: Node, autojump_clock: Any) -> None:
    rest: dict[str, Any] = {"jsonrpc": "2.0", "params": []}
    asked = [{"id": number, "method": method, **rest} for number, method in BATCH]
    told = await node.post(asked)
    assert [(each["id"], "result" in each) for each in told] == [(9, True), (3, False), ("x", True)]
    assert told[1]["error"] == {"code": -32601, "message": "the method eth_mine does not exist/is not available"}


BATCH = ((9, "eth_chainId"), (3, "eth_mine"), ("x", "eth_gasPrice"))

BROKEN: list[tuple[Any, int]] = [
    (b"{", -32700),
    (b"\xff", -32700),
    (b"[" * 5_000, -32700),
    ([], -32600),
    ([{"id": 1, "method": "eth_chainId"}] * 101, -32600),
    (5, -32600),
    ({"id": 1}, -32600),
    ({"id": 1, "method": "eth_chainId", "params": {}}, -32600),
    ({"id": 1, "method": "eth_call", "params": []}, -32602),
    ({"id": 1, "method": "eth_call", "params": [{"to": "0x1", "data": "0x"}]}, -32602),
    ({"id": 1, "method": "eth_call", "params": [{"to": COLLATERAL_TOKEN, "data": "0xzz"}]}, -32602),
    ({"id": 1, "method": "eth_call", "params": [{"to": COLLATERAL_TOKEN, "data": "0x70a08231"}]}, 3),
    ({"id": 1, "method": "eth_getTransactionCount", "params": ["me"]}, -32602),
    ({"id": 1, "method": "eth_getTransactionReceipt", "params": [5]}, -32602),
    ({"id": 1, "method": "eth_sendRawTransaction", "params": ["0x"]}, -32000),
    ({"id": 1, "method": "eth_sendRawTransaction", "params": ["0xzz"]}, -32000),
    ({"id": 1, "method": "eth_sendRawTransaction", "params": ["0x" + "c1" * 2_000]}, -32000),
    ({"id": 1, "method": "eth_sendRawTransaction", "params": ["0x" + "00" * 5_000]}, -32000),
    ({"id": 1, "method": "eth_estimateGas", "params": [{"to": COLLATERAL_TOKEN, "value": "much"}]}, -32602),
]


@pytest.mark.parametrize(("body", "code"), BROKEN, ids=lambda value: str(value)[:40])
async def test_what_is_broken_is_answered_by_code(node: Node, autojump_clock: Any, body: Any, code: int) -> None:
    answer = await node.post(body)
    assert (answer["jsonrpc"], answer["error"]["code"]) == ("2.0", code)


async def test_every_cut_and_changed_transaction_is_refused(node: Node, autojump_clock: Any) -> None:
    """No change of one byte, and no loss, gives a transaction of somebody else who is known here."""
    data = calldata("approve(address,uint256)", EXCHANGE_V2, 5 * MICRO)
    tx = {"to": COLLATERAL_TOKEN, "value": 0, "data": data, "gas": 9, "nonce": 0, "chainId": 137, "gasPrice": 1}
    raw = bytes(EthAccount.sign_transaction(tx, node.alice.private_key).raw_transaction)
    changed = [raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :] for at in range(len(raw))]
    bodies = [
        {"jsonrpc": "2.0", "id": 1, "method": "eth_sendRawTransaction", "params": ["0x" + each.hex()]}
        for each in (*changed, *(raw[:end] for end in range(0, len(raw), 7)), raw + b"\0")
    ]
    for first in range(0, len(bodies), 100):
        assert {answer["error"]["code"] for answer in await node.post(bodies[first : first + 100])} == {-32000}
    assert await node.allowance(node.alice.address) == MAX
    assert isinstance(await node.ask("eth_sendRawTransaction", "0x" + raw.hex()), str)


Nested = gen.recursive(gen.binary(max_size=70), lambda inner: gen.lists(inner, max_size=4), max_leaves=9)


@settings(max_examples=30)
@given(item=Nested)
def test_rlp_is_read_as_it_is_written(item: Any) -> None:
    def depth(of: Any) -> int:
        return 0 if isinstance(of, bytes) else 1 + max(map(depth, of), default=0)

    if depth(item) < 5:
        assert rlp_decode(rlp_encode(item)) == item


@settings(max_examples=60)
@given(data=gen.binary(max_size=80))
def test_any_bytes_are_rlp_or_refused(data: bytes) -> None:
    try:
        item = rlp_decode(data)
    except ValueError:
        return
    assert rlp_encode(item) == data
