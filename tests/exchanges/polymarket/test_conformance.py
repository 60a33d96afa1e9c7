"""The start-up probe passes for every kind of wallet, and sees a single flipped character in each part."""

from __future__ import annotations

import os
import sys

import anyio
import pytest
import trio

from tbot.core.market import Market, MarketId, TokenId
from tbot.core.units import Price
from tbot.errors import AuthenticationFailed, ConfigError
from tbot.exchanges.polymarket import conformance
from tbot.exchanges.polymarket.conformance import Parts, ProbeRequest, check_conformance, probe_ours, probe_request
from tbot.exchanges.polymarket.keys import TEST_KEY_HEX
from tbot.exchanges.polymarket.settings import PolymarketSettings

MARKET = "0x" + "ab" * 32
WALLET = "0xbc0ff067b7740eff76c1ca93c875ba6b890d6b50"


def settings_of(signature_type: int, chain_id: int = 137) -> PolymarketSettings:
    funder = WALLET if signature_type else ""
    return PolymarketSettings(condition_ids=(MARKET,), chain_id=chain_id, signature_type=signature_type, funder=funder)


@pytest.mark.slow
@pytest.mark.parametrize(("signature_type", "chain_id"), [(0, 137), (1, 137), (2, 137), (3, 137), (0, 80002)])
async def test_our_signing_equals_the_official_clients(signature_type: int, chain_id: int) -> None:
    parts = await check_conformance(settings_of(signature_type, chain_id))
    assert len(parts) == 9


async def test_one_flipped_character_in_any_part_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = probe_ours(probe_request(settings_of(0)))

    async def known(_request: ProbeRequest) -> Parts:
        await trio.lowlevel.checkpoint()
        return theirs

    monkeypatch.setattr(conformance, "_run_reference", known)
    await check_conformance(settings_of(0))
    for part in theirs:

        def flipped(asked: ProbeRequest, part: str = part) -> Parts:
            parts = probe_ours(asked)
            text = parts[part]
            middle = len(text) // 2
            parts[part] = text[:middle] + ("0" if text[middle] != "0" else "1") + text[middle + 1 :]
            return parts

        with pytest.raises(AuthenticationFailed, match=part):
            await check_conformance(settings_of(0), ours=flipped)


@pytest.mark.parametrize("chain_id", [137, 80002])
@pytest.mark.parametrize("signature_type", [0, 1, 2, 3])
def test_every_contract_that_a_market_may_move_to_is_probed(signature_type: int, chain_id: int) -> None:
    for yes, no in (("71", "72"), (conformance._POSITION, str(int(conformance._POSITION) + 1))):
        for is_neg_risk in (False, True):
            market = Market(
                market_id=MarketId(MARKET),
                slug="",
                yes=TokenId(yes),
                no=TokenId(no),
                tick=Price(10_000),
                is_neg_risk=is_neg_risk,
            )
            assert conformance.is_probed(market, settings_of(signature_type, chain_id))


async def test_a_part_nobody_checked_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(_request: ProbeRequest) -> Parts:
        await trio.lowlevel.checkpoint()
        return {}

    monkeypatch.setattr(conformance, "_run_reference", silent)
    with pytest.raises(AuthenticationFailed, match="every part"):
        await check_conformance(settings_of(0))


async def test_worker_gets_the_test_key_and_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TBOT_TEST_SECRET", "do-not-inherit")
    seen: dict[str, object] = {}
    run_process = anyio.run_process

    async def spy(command: list[str], **options: object) -> object:
        seen.update(options, command=command)
        listing = "import os, sys; sys.stdin.read(); print(dict(os.environ))"
        return await run_process([command[0], "-I", "-c", listing], **options)  # type: ignore[arg-type]

    monkeypatch.setattr(anyio, "run_process", spy)
    with pytest.raises(ConfigError, match="no usable answer"):
        await check_conformance(settings_of(0))
    assert os.environ["TBOT_TEST_SECRET"] not in str(seen)
    assert seen["env"] == {}
    assert TEST_KEY_HEX.encode() in seen["input"]  # type: ignore[operator]


async def test_reference_that_cannot_run_is_a_clear_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conformance, "REFERENCE", "/nonexistent/reference.py")
    with pytest.raises(ConfigError, match="the reference failed"):
        await check_conformance(settings_of(0))
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(ConfigError, match="did not run"):
        await check_conformance(settings_of(0))
