"""A fault is aimed at what is there, however it is spelled, or it is refused: none is on that could strike nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tbot.errors import ConfigError
from tbot.exchanges.simulated.fault_catalogue import CATALOGUE, Aim, Fault
from tbot.exchanges.simulated.fault_switches import FaultOrder
from tbot.exchanges.simulated.faults import FaultSettings
from tbot.exchanges.simulated.server import ServerSettings
from tests.exchanges.simulated.server.conftest import MAYOR, RAIN

WALLETS = (Aim.ACCOUNT, Aim.ORDER, Aim.TRADE)
TOKENS = (Aim.TOKEN, Aim.ORDER, Aim.TRADE)
MARKETS = (Aim.ORDER, Aim.TRADE)
AIMED = [fault for fault, entry in CATALOGUE.items() if entry.aim is not Aim.NOTHING]


@pytest.fixture
async def world(make_world: Any) -> AsyncIterator[Any]:
    async with make_world(settings=ServerSettings(has_control=True)) as opened:
        yield opened


async def order(world: Any, **fields: Any) -> Any:
    return await world.control("fault", **fields)


async def targets_on(world: Any, fault: Fault) -> list[str]:
    (row,) = [row for row in (await world.get("/control/faults")).json if row["name"] == fault]
    return [switch["target"] for switch in row["on"]]


def targets(world: Any) -> dict[str, tuple[tuple[Aim, ...], str]]:
    """What there is, by every name one might give it, with the aims it suits and the exchange's own spelling."""
    wallets = world.server.keys.wallets_of(world.alice.account.address)[:2]
    spellings = {spelled: (WALLETS, w) for w in wallets for spelled in (w, w.lower(), "0x" + w[2:].upper())}
    key = world.alice.credentials.api_key
    return {
        **spellings,
        RAIN.yes: (TOKENS, RAIN.yes),
        MAYOR.no: (TOKENS, MAYOR.no),
        RAIN.market_id: (MARKETS, RAIN.market_id),
        RAIN.market_id.upper().replace("0X", "0x"): (MARKETS, RAIN.market_id),
        key: ((Aim.API_KEY,), key),
        key.upper(): ((Aim.API_KEY,), key),
        RAIN.slug: ((), ""),
        "nobody": ((), ""),
        "0xdeadbeef": ((), ""),
        "0x" + "ab" * 20: ((), ""),
        "0x" + "ab" * 32: ((), ""),
        RAIN.yes[:-1]: ((), ""),
        "00000000-0000-4000-8000-000000000000": ((), ""),
    }


@pytest.mark.parametrize("fault", AIMED)
async def test_a_target_is_found_or_refused(world: Any, autojump_clock: Any, fault: Fault) -> None:
    aim = CATALOGUE[fault].aim
    for text, (aims, spelled) in targets(world).items():
        answer = await order(world, name=fault, target=text)
        if aim in aims:
            assert (answer.status, await targets_on(world, fault)) == (200, [spelled]), text
            world.exchange.behave(fault)
        else:
            expected = f"expected {aim} of this exchange as target, found {text!r}"
            assert (answer.status, answer.error) == (400, expected)
            assert await targets_on(world, fault) == []


async def test_a_wallet_in_lower_case_is_struck(world: Any, autojump_clock: Any) -> None:
    address = world.alice.account.address.lower()
    assert (await order(world, name="phantom_lock", target=address)).status == 200
    assert "not enough balance" in (await world.alice.place("BUY", "0.40", "10")).error
    assert (await world.bob.place("BUY", "0.40", "10")).status == 200


@pytest.mark.parametrize(
    ("fault", "target", "is_taken"),
    [
        (Fault.FROZEN_ASSET, RAIN.yes, True),
        (Fault.FROZEN_ASSET, "7", False),
        (Fault.POST_LOST, RAIN.market_id, True),
        (Fault.POST_LOST, RAIN.slug, False),
        # Written before anybody came, so whoever it is meant for may still come.
        (Fault.PHANTOM_LOCK, "0x" + "ab" * 20, True),
        (Fault.PHANTOM_LOCK, "0xdeadbeef", False),
        (Fault.STOLEN_HEARTBEAT, "00000000-0000-4000-8000-000000000000", True),
        (Fault.STOLEN_HEARTBEAT, "nokey", False),
    ],
)
async def test_a_script_is_checked_before_the_exchange_starts(
    make_world: Any, autojump_clock: Any, fault: Fault, target: str, *, is_taken: bool
) -> None:
    faults = FaultSettings(script=(FaultOrder(name=fault, at_s=1, target=target),))
    if is_taken:
        async with make_world(faults=faults):
            return
    with pytest.RaisesGroup(pytest.RaisesExc(ConfigError, match=r"faults.script: expected .*, found")):
        async with make_world(faults=faults):
            pass


async def test_a_script_finds_the_wallet_in_whichever_case(make_world: Any, autojump_clock: Any) -> None:
    async with make_world() as before:
        address = before.alice.account.address.lower()  # the same in every world
    script = (FaultOrder(name=Fault.PHANTOM_LOCK, target=address),)
    async with make_world(faults=FaultSettings(script=script)) as world:
        assert "not enough balance" in (await world.alice.place("BUY", "0.40", "10")).error
