"""What a stranger can do to the node of the chain: nothing but be refused, entry by entry.

One odd value costs no other entry its answer, and a signature counts under one hash only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_account import Account as EthAccount
from eth_utils.crypto import keccak

from tbot.exchanges.simulated.contracts import COLLATERAL_TOKEN, EXCHANGE_V2
from tbot.exchanges.simulated.raw_transactions import Item, rlp_decode, rlp_encode

METHODS = (
    "eth_blockNumber",
    "eth_call",
    "eth_chainId",
    "eth_estimateGas",
    "eth_gasPrice",
    "eth_getBlockByNumber",
    "eth_getTransactionCount",
    "eth_getTransactionReceipt",
    "eth_sendRawTransaction",
    "net_version",
)
ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    10**30,
    1e308,
    "",
    "0x",
    "0",
    "-0x1",
    "0x-1",
    " 0x1",
    "0x1\n",
    "0x1_0",
    "0x0",
    "0x" + "f" * 64,
    "0x" + "f" * 65,
    "0x" + "f" * 5_000,
    "9" * 5_000,
    "0x" + "00" * 20,
    COLLATERAL_TOKEN,
    "\u0661\u0662",
    [],
    [[[]]],
    {},
)
FIELDS = ("to", "data", "input", "value", "from")
CODES = {3, -32_000, -32_600, -32_602}
APPROVE = "0x" + (keccak(b"approve(address,uint256)")[:4] + encode(["address", "uint256"], [EXCHANGE_V2, 5])).hex()


async def ask(world: Any, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    answer = await (await world.rest()).ask("POST", "/rpc", json.dumps(entries).encode())
    assert answer.status == 200, answer.body
    told: list[dict[str, Any]] = answer.json
    return told


def entries_of(*calls: tuple[str, list[Any]]) -> list[dict[str, Any]]:
    return [
        {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        for number, (method, params) in enumerate(calls)
    ]


# --- every method with every kind of parameter ------------------------------------------------------------------------


def odd_calls() -> Iterator[tuple[str, list[Any]]]:
    call = {"from": EXCHANGE_V2, "to": COLLATERAL_TOKEN, "data": APPROVE, "value": "0x0"}
    for method in METHODS:
        yield method, []
        for value in ODD:
            yield method, [value]
            yield from ((method, [{**call, field: value}, "latest"]) for field in FIELDS)


async def test_every_entry_is_answered_whatever_it_says(world: Any, autojump_clock: Any) -> None:
    all_calls = list(odd_calls())
    for begin in range(0, len(all_calls), 100):
        calls = all_calls[begin : begin + 100]
        told = await ask(world, entries_of(*calls))
        assert [each["id"] for each in told] == list(range(len(calls)))
        errors = [each["error"]["code"] for each in told if "result" not in each]
        assert set(errors) <= CODES


@pytest.mark.parametrize("value", ["-0x1", "0x", "1", " 0x0", "0x0\n", "0x" + "f" * 65, "0x" + "f" * 5_000])
async def test_a_quantity_is_hex_of_256_bits(world: Any, autojump_clock: Any, value: str) -> None:
    call = {"from": EXCHANGE_V2, "to": COLLATERAL_TOKEN, "data": APPROVE, "value": value}
    good = ("eth_estimateGas", [{**call, "value": "0x0"}])
    told = await ask(world, entries_of(good, ("eth_estimateGas", [call]), good))
    assert [each.get("error", {}).get("code") for each in told] == [None, -32_602, None]


# --- one signature, one hash ------------------------------------------------------------------------------------------


def spelled_otherwise(fields: list[Item]) -> Iterator[list[Item]]:
    """Every field in another way that says the same."""
    for at, field in enumerate(fields):
        others: list[Item] = [b""] if field == [] else [b"\0" + field] if isinstance(field, bytes) else []
        if field == b"":
            others.append([])
        yield from ([*fields[:at], other, *fields[at + 1 :]] for other in others)


def approval_with_a_short_signature(key: str, fees: dict[str, int]) -> Any:
    """Sign until r or s is short: that leaves room for zeros before it."""
    for gas in count(60_000):
        tx = {"to": COLLATERAL_TOKEN, "value": 0, "data": APPROVE, "gas": gas, "nonce": 0, "chainId": 137} | fees
        signed = EthAccount.sign_transaction(tx, key)
        if min(signed.r, signed.s) < 1 << 248:
            return signed
    raise AssertionError("one of 128 has one")


@pytest.mark.parametrize(
    "fees", [{"gasPrice": 1}, {"maxFeePerGas": 2, "maxPriorityFeePerGas": 1, "type": 2}], ids=["legacy", "1559"]
)
async def test_a_signature_counts_under_one_hash(world: Any, autojump_clock: Any, fees: dict[str, int]) -> None:
    signed = approval_with_a_short_signature(world.alice.account.private_key, fees)
    raw, prefix = bytes(signed.raw_transaction), b"\x02" if "type" in fees else b""
    fields = rlp_decode(raw.removeprefix(prefix))
    assert isinstance(fields, list)
    twins = {prefix + rlp_encode(each) for each in spelled_otherwise(fields)} - {raw}
    assert len(twins) > len(fields)
    sent = entries_of(*(("eth_sendRawTransaction", ["0x" + each.hex()]) for each in (*sorted(twins), raw)))
    *refused, taken = await ask(world, sent)
    assert [each["error"]["code"] for each in refused] == [-32_000] * len(twins)
    assert taken["result"] == "0x" + bytes(signed.hash).hex()
    (receipt,) = await ask(world, entries_of(("eth_getTransactionReceipt", [taken["result"]])))
    assert receipt["result"]["transactionHash"] == taken["result"]
