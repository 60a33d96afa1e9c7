"""What the operator decides about an account, and approvals: who is refused, in which words, and how it ends."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
import trio
from eth_account import Account as EthAccount
from eth_account.messages import encode_typed_data
from eth_utils.crypto import keccak

from tbot.core.units import MICRO, Notional
from tbot.exchanges.simulated.contracts import (
    COLLATERAL_TOKEN,
    CONDITIONAL_TOKENS,
    EXCHANGE_V2,
    EXCHANGE_V2_NEG_RISK,
    EXCHANGE_V3,
)
from tbot.exchanges.simulated.operations import Account
from tbot.exchanges.simulated.wallets import deposit_wallet

V3 = EXCHANGE_V3[137]
MAX = (1 << 256) - 1


async def limit(
    world: Any, allowance: str, *, asset: str = "COLLATERAL", spender: str | None = None, who: Any = None
) -> None:
    wallet = who or world.alice.account.address
    answer = await world.control("allowance", account=wallet, asset_type=asset, spender=spender, allowance=allowance)
    assert answer.status == 200, answer.body


async def shown(world: Any, query: str = "asset_type=COLLATERAL", kind: int = 0) -> dict[str, int]:
    answer = await world.alice.ask("GET", f"/balance-allowance?{query}&signature_type={kind}")
    return {spender: int(left) for spender, left in answer.json["allowances"].items()}


# --- standing --------------------------------------------------------------------------------------------------------


async def test_closed_only_account_may_sell_and_cancel_and_not_buy(ruled: Any, autojump_clock: Any) -> None:
    alice = ruled.alice
    await ruled.control("split", account=alice.account.address, market=ruled.rain.market_id, size="20")
    before = await alice.placed("BUY", "0.30", "10")
    await ruled.control("standing", account=alice.account.address, standing="closed_only")
    assert (await alice.ask("GET", "/auth/ban-status/closed-only")).json == {"closed_only": True}
    refused = await alice.place("BUY", "0.40", "10")
    assert (refused.status, refused.error) == (400, f"'{alice.account.address}' address in closed only mode")
    await alice.placed("SELL", "0.60", "10")
    assert (await alice.ask("DELETE", "/order", {"orderID": before})).json["canceled"] == [before]
    await ruled.bob.placed("BUY", "0.40", "10")
    await ruled.control("standing", account=alice.account.address)
    assert (await alice.ask("GET", "/auth/ban-status/closed-only")).json == {"closed_only": False}
    await alice.placed("BUY", "0.40", "10")


async def test_banned_account_places_nothing_alone_or_in_a_batch_and_still_cancels(
    ruled: Any, autojump_clock: Any
) -> None:
    alice = ruled.alice
    before = await alice.placed("BUY", "0.30", "10")
    await ruled.control("standing", account=alice.account.address.lower(), standing="banned")
    text = f"'{alice.account.address}' address banned"
    assert (await alice.place("BUY", "0.40", "10")).error == text
    (leg,) = (await alice.ask("POST", "/orders", [alice.order("SELL", "0.40", "10")])).json
    assert leg["errorMsg"] == text
    assert (await alice.ask("DELETE", "/cancel-all")).json["canceled"] == [before]


async def test_new_account_may_only_use_its_deposit_wallet(ruled: Any, autojump_clock: Any) -> None:
    alice = ruled.alice
    await ruled.control("standing", account=alice.account.address, needs_deposit_wallet=True)
    for kind in (0, 1, 2):
        answer = await alice.place("BUY", "0.40", "10", signatureType=kind)
        assert answer.error == "maker address not allowed, please use the deposit wallet flow"
    # One of the right kind gets as far as its signature.
    wallet = deposit_wallet(alice.account.address)
    answer = await alice.place("BUY", "0.40", "10", signatureType=3, maker=wallet, signer=wallet)
    assert answer.error == "invalid signature"


# --- allowances ------------------------------------------------------------------------------------------------------


async def test_without_limit_until_somebody_says_otherwise(ruled: Any, autojump_clock: Any) -> None:
    assert await shown(ruled) == {EXCHANGE_V2: MAX, EXCHANGE_V2_NEG_RISK: MAX, V3: MAX}


@pytest.mark.parametrize("market", ["rain", "mayor"])
async def test_each_kind_of_market_needs_the_approval_of_its_own_contract(
    ruled: Any, autojump_clock: Any, market: str
) -> None:
    spender = {"rain": EXCHANGE_V2, "mayor": EXCHANGE_V2_NEG_RISK}[market]
    other = {"rain": ruled.mayor, "mayor": ruled.rain}[market]
    token = getattr(ruled, market).yes
    await limit(ruled, "0", spender=spender)
    refused = await ruled.alice.place("BUY", "0.40", "10", token=token)
    text = f"not enough balance / allowance: the allowance is not enough -> spender: {spender}, allowance: 0"
    sums = "sum of matched orders: 0, order amount (inc. fees): 4000000"
    assert (refused.status, refused.error) == (400, f"{text}, {sums}")
    await ruled.alice.placed("BUY", "0.40", "10", token=other.yes)
    assert (await shown(ruled))[spender] == 0
    await limit(ruled, "max", spender=spender)
    await ruled.alice.placed("BUY", "0.40", "10", token=token)


async def test_data_api_tells_the_same_approvals(ruled: Any, autojump_clock: Any) -> None:
    wallet = ruled.alice.account.address
    await limit(ruled, "7", spender=EXCHANGE_V2)
    await limit(ruled, "0", asset="CONDITIONAL", spender=EXCHANGE_V2_NEG_RISK)
    rows = (await ruled.get(f"/data-api/v2/approvals?user={wallet}")).json["data"]["contracts"]
    told = {(row["token"], row["spender"]): (row["approved"], row["amount"]) for row in rows}
    assert told[COLLATERAL_TOKEN, EXCHANGE_V2] == (True, str(7 * MICRO))
    assert told[COLLATERAL_TOKEN, V3] == (True, "max")
    assert told[CONDITIONAL_TOKENS, EXCHANGE_V2_NEG_RISK] == (False, None)
    assert told[CONDITIONAL_TOKENS, EXCHANGE_V2] == (True, None)


async def test_sale_needs_the_approval_of_tokens_and_a_purchase_does_not(ruled: Any, autojump_clock: Any) -> None:
    await ruled.control("split", account=ruled.alice.account.address, market=ruled.rain.market_id, size="20")
    await limit(ruled, "0", asset="CONDITIONAL")
    refused = await ruled.alice.place("SELL", "0.60", "10")
    assert refused.error.endswith(f"the allowance is not enough -> spender: {EXCHANGE_V2}, allowance: 0")
    await ruled.alice.placed("BUY", "0.40", "10")
    query = f"asset_type=CONDITIONAL&token_id={ruled.rain.yes}"
    assert (await shown(ruled, query))[EXCHANGE_V2] == 0


async def test_amount_is_used_up_by_what_was_traded_and_comes_back_when_it_failed(
    ruled: Any, autojump_clock: Any
) -> None:
    await limit(ruled, "10")
    await ruled.bob.placed("BUY", "0.60", "100", token=ruled.rain.no)
    await ruled.control("fault", name="ghost_fill", count=1)
    for settled in (10 * MICRO, 6 * MICRO - 96_000):  # four dollars and a fee, once they are settled
        await ruled.alice.placed("BUY", "0.40", "10")
        assert (await shown(ruled))[EXCHANGE_V2] == 6 * MICRO - 96_000
        await trio.sleep(20)
        assert (await shown(ruled))[EXCHANGE_V2] == settled
    assert "the allowance is not enough" in (await ruled.alice.place("BUY", "0.40", "15")).error
    await ruled.alice.placed("BUY", "0.40", "10")


async def test_resting_orders_end_with_their_approval_and_no_others(ruled: Any, autojump_clock: Any) -> None:
    await ruled.control("split", account=ruled.alice.account.address, market=ruled.rain.market_id, size="20")
    dear, cheap = await ruled.alice.placed("BUY", "0.40", "20"), await ruled.alice.placed("BUY", "0.20", "20")
    sale = await ruled.alice.placed("SELL", "0.60", "10")
    await limit(ruled, "5")
    states = [(await ruled.alice.ask("GET", f"/data/order/{o}")).json["status"] for o in (dear, cheap, sale)]
    assert states == ["CANCELED_NOT_ENOUGH_BALANCE", "LIVE", "LIVE"]


async def test_open_orders_of_every_market_of_a_contract_count_against_its_allowance(
    ruled: Any, autojump_clock: Any
) -> None:
    await limit(ruled, "5", spender=EXCHANGE_V2_NEG_RISK)
    first = await ruled.alice.placed("BUY", "0.40", "10", token=ruled.mayor.yes)
    for token in (ruled.mayor.yes, ruled.mayor.no):
        refused = await ruled.alice.place("BUY", "0.41", "10", token=token)
        text = f"the allowance is not enough -> spender: {EXCHANGE_V2_NEG_RISK}, allowance: {5 * MICRO}, "
        sums = "sum of active orders: 4000000, sum of matched orders: 0, order amount (inc. fees): 4100000"
        assert (refused.status, refused.error) == (400, f"not enough balance / allowance: {text}{sums}")
    await ruled.alice.placed("BUY", "0.41", "10")  # of another contract
    await ruled.alice.placed("BUY", "0.10", "10", token=ruled.mayor.yes)
    assert (await ruled.alice.place("BUY", "0.10", "10", token=ruled.mayor.yes)).status == 400
    await ruled.alice.ask("DELETE", "/order", {"orderID": first})
    await ruled.alice.placed("BUY", "0.40", "10", token=ruled.mayor.yes)


@pytest.mark.parametrize("seed", range(6))
async def test_no_more_than_the_allowance_is_ever_moved(ruled: Any, autojump_clock: Any, seed: int) -> None:
    dice, wallet = random.Random(seed), Account(ruled.alice.account.address)
    start = ruled.exchange.balances(wallet).cash
    await ruled.control("split", account=ruled.bob.account.address, market=ruled.rain.market_id, size="500")
    await limit(ruled, "9")
    for _ in range(14):
        if dice.random() < 0.2:
            await limit(ruled, "9", spender=EXCHANGE_V2)
            start = ruled.exchange.balances(wallet).cash
        who, side = (ruled.alice, "BUY") if dice.random() < 0.6 else (ruled.bob, "SELL")
        await who.place(side, f"0.{dice.randint(38, 43)}", str(dice.randint(5, 14)))
        moved = start - ruled.exchange.balances(wallet).cash
        left = (await shown(ruled))[EXCHANGE_V2]
        assert 9 * MICRO - moved == left >= 0
        assert sum(o.price * (o.size - o.size_matched) // MICRO for o in ruled.exchange.open_orders(wallet)) <= left


async def test_allowance_has_to_cover_the_fee_too(ruled: Any, autojump_clock: Any) -> None:
    await ruled.bob.placed("BUY", "0.60", "100", token=ruled.rain.no)
    await limit(ruled, "4.09")  # the fee of ten shares at 0.40 is 0.096
    refused = await ruled.alice.place("BUY", "0.40", "10")
    sums = "sum of matched orders: 0, order amount (inc. fees): 4096000"
    assert refused.error.endswith(f"spender: {EXCHANGE_V2}, allowance: 4090000, {sums}")
    await limit(ruled, "4.096")
    await ruled.alice.placed("BUY", "0.40", "10")
    assert (await shown(ruled))[EXCHANGE_V2] == 0


@pytest.mark.parametrize(("price", "size", "words"), [("0.405", "10", "minimum tick size"), ("0.40", "1", "minimum")])
async def test_what_is_wrong_with_the_order_itself_is_told_before_its_approval(
    ruled: Any, autojump_clock: Any, price: str, size: str, words: str
) -> None:
    await limit(ruled, "0")
    error = (await ruled.alice.place("BUY", price, size)).error
    assert words in error
    assert "allowance" not in error


async def test_same_order_again_is_a_duplicate_whatever_became_of_its_approval(ruled: Any, autojump_clock: Any) -> None:
    body = ruled.alice.order("BUY", "0.40", "10")
    assert (await ruled.alice.ask("POST", "/order", body)).status == 200
    await limit(ruled, "0")
    assert (await ruled.alice.ask("POST", "/order", body)).error.endswith("is invalid. Duplicated.")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"allowance": "-1"}, "expected an allowance of dollars or max, of tokens 0 or max; found '-1'"),
        ({"allowance": "x"}, "expected an amount such as 12.5, found 'x'"),
        ({"asset_type": "CONDITIONAL", "allowance": "5"}, "of tokens 0 or max; found '5'"),
        ({"spender": "0"}, "at `$.spender`"),
    ],
)
async def test_allowance_that_no_contract_could_hold_is_refused(
    ruled: Any, autojump_clock: Any, changes: dict[str, str], text: str
) -> None:
    body = {"account": ruled.alice.account.address, "asset_type": "COLLATERAL", "allowance": "1"} | changes
    answer = await ruled.control("allowance", **body)
    assert (answer.status, text in answer.error) == (400, True), answer.error


# --- approvals through the relayer -----------------------------------------------------------------------------------

BATCH = {
    "Batch": [
        {"name": "wallet", "type": "address"},
        {"name": "nonce", "type": "uint256"},
        {"name": "deadline", "type": "uint256"},
        {"name": "calls", "type": "Call[]"},
    ],
    "Call": [
        {"name": "target", "type": "address"},
        {"name": "value", "type": "uint256"},
        {"name": "data", "type": "bytes"},
    ],
}


def call_of(signature: str, target: str, spender: str, amount: int) -> dict[str, str]:
    words = bytes.fromhex(spender[2:]).rjust(32, b"\0") + amount.to_bytes(32, "big")
    return {"target": target, "value": "0", "data": "0x" + (keccak(signature.encode())[:4] + words).hex()}


def submission(world: Any, calls: list[dict[str, str]], **changes: Any) -> dict[str, Any]:
    """Sign a batch of calls of alice's deposit wallet; `nonce`, `deadline`, `wallet`, `key` can be changed."""
    owner = world.alice.account.address
    wallet, nonce = changes.get("wallet", deposit_wallet(owner)), changes.get("nonce", 0)
    deadline = changes.get("deadline", int(world.now_ns() / 1e9) + 600)
    domain = {"name": "DepositWallet", "version": "1", "chainId": 137, "verifyingContract": wallet}
    signed_calls = [{**each, "value": int(each["value"]), "data": bytes.fromhex(each["data"][2:])} for each in calls]
    message = {"wallet": wallet, "nonce": nonce, "deadline": deadline, "calls": signed_calls}
    signed = EthAccount.sign_message(
        encode_typed_data(domain, BATCH, message), changes.get("key", world.alice.account.private_key)
    )
    return {
        "type": "WALLET",
        "from": owner,
        "to": "0x00000000000Fb5C9ADea0298D729A0CB3823Cc07",
        "nonce": str(nonce),
        "signature": "0x" + str(signed.signature.hex()).removeprefix("0x"),
        "metadata": "",
        "depositWalletParams": {"depositWallet": wallet, "deadline": str(deadline), "calls": calls},
    }


async def submit(world: Any, body: dict[str, Any]) -> Any:
    client = await world.rest()
    return await client.ask("POST", "/relayer/submit", json.dumps(body).encode())


APPROVE, FOR_ALL = "approve(address,uint256)", "setApprovalForAll(address,bool)"


async def test_deposit_wallet_approves_by_a_signed_batch(ruled: Any, autojump_clock: Any) -> None:
    owner = ruled.alice.account.address
    wallet = deposit_wallet(owner)
    ruled.exchange.deposit(Account(wallet), Notional(100 * MICRO))
    for asset in ("COLLATERAL", "CONDITIONAL"):
        await limit(ruled, "0", asset=asset, who=wallet)
    calls = [
        call_of(APPROVE, COLLATERAL_TOKEN, EXCHANGE_V2, MAX),
        call_of(APPROVE, COLLATERAL_TOKEN, EXCHANGE_V2_NEG_RISK, 7 * MICRO),
        call_of(FOR_ALL, CONDITIONAL_TOKENS, EXCHANGE_V2, 1),
    ]
    answer = await submit(ruled, submission(ruled, calls))
    assert (answer.status, answer.json["state"]) == (200, "STATE_NEW"), answer.body
    done = (await ruled.get(f"/relayer/v1/account/transactions/{answer.json['transactionID']}")).json
    assert (done["state"], len(done["transaction_hash"])) == ("STATE_CONFIRMED", 66)
    assert await shown(ruled, kind=3) == {EXCHANGE_V2: MAX, EXCHANGE_V2_NEG_RISK: 7 * MICRO, V3: 0}
    tokens = await shown(ruled, f"asset_type=CONDITIONAL&token_id={ruled.rain.yes}", kind=3)
    assert tokens == {EXCHANGE_V2: MAX, EXCHANGE_V2_NEG_RISK: 0}
    params = (await ruled.get(f"/relayer/v1/account/transactions/params?address={owner}&type=WALLET")).json
    assert params == {"address": owner, "nonce": "1"}
    again = await submit(ruled, submission(ruled, calls))
    assert (again.status, again.error) == (400, "batch nonce 0 does not match on-chain nonce 1")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"key": "0x" + "77" * 32}, "invalid signature"),
        ({"wallet": "0x" + "11" * 20}, "invalid signature"),
        ({"nonce": 3}, "batch nonce 3 does not match on-chain nonce 0"),
        ({"deadline": 5}, "batch deadline has passed"),
    ],
)
async def test_batch_that_its_wallet_would_refuse_changes_nothing(
    ruled: Any, autojump_clock: Any, changes: dict[str, Any], error: str
) -> None:
    await limit(ruled, "0", who=deposit_wallet(ruled.alice.account.address))
    calls = [call_of(APPROVE, COLLATERAL_TOKEN, EXCHANGE_V2, MAX)]
    answer = await submit(ruled, submission(ruled, calls, **changes))
    assert (answer.status, answer.error) == (400, error)
    assert (await shown(ruled, kind=3))[EXCHANGE_V2] == 0


async def test_batch_with_another_call_is_refused_as_a_whole(ruled: Any, autojump_clock: Any) -> None:
    await limit(ruled, "0", who=deposit_wallet(ruled.alice.account.address))
    transfer = call_of("transfer(address,uint256)", COLLATERAL_TOKEN, EXCHANGE_V2, 5)
    calls = [call_of(APPROVE, COLLATERAL_TOKEN, EXCHANGE_V2, MAX), transfer]
    answer = await submit(ruled, submission(ruled, calls))
    assert answer.error.startswith("unsupported call")
    assert (await shown(ruled, kind=3))[EXCHANGE_V2] == 0
