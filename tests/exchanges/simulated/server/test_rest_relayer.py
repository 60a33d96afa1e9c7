"""Which wallets exist, by address and by kind."""

from __future__ import annotations

from typing import Any

import pytest
import trio.testing

from tbot.exchanges.simulated.wallets import deposit_wallet, proxy_wallet, safe_wallet

Clock = trio.testing.MockClock
WALLETS = {"PROXY": proxy_wallet, "SAFE": safe_wallet, "WALLET": deposit_wallet}


@pytest.mark.parametrize("kind", WALLETS)
async def test_wallet_of_a_member_exists_as_its_own_kind_only(autojump_clock: Clock, world: Any, kind: str) -> None:
    owner = world.alice.account.address
    for other, wallet in WALLETS.items():
        answer = await world.get(f"/relayer/deployed?address={wallet(owner).lower()}&type={kind}")
        assert answer.json == {"deployed": other == kind}
        assert (await world.get(f"/relayer/deployed?address={wallet(owner)}")).json == {"deployed": True}


async def test_strangers_wallet_and_a_bare_address_do_not_exist(autojump_clock: Clock, world: Any) -> None:
    for address in (proxy_wallet("0x" + "11" * 20), world.alice.account.address):
        assert (await world.get(f"/relayer/deployed?address={address}")).json == {"deployed": False}


@pytest.mark.parametrize(("query", "error"), [("", "invalid address"), ("?address=0x1&type=MOON", "invalid type")])
async def test_question_that_cannot_be_read_is_refused(
    autojump_clock: Clock, world: Any, query: str, error: str
) -> None:
    answer = await world.get(f"/relayer/deployed{query}")
    assert (answer.status, answer.json) == (400, {"error": error})
