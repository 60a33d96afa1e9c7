"""Wallets derived from a key, against addresses that the official client derives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tbot.exchanges.polymarket.judgement import Light, judge_wallet
from tbot.exchanges.polymarket.wallets import WalletKind, wallets_of

CASES = json.loads((Path(__file__).parent / "vectors/wallets.json").read_text())["cases"]


@pytest.mark.parametrize("case", CASES, ids=[case["eoa"][:6] for case in CASES])
def test_every_wallet_is_where_the_official_client_finds_it(case: dict[str, str]) -> None:
    wallets = wallets_of(case["eoa"].lower())
    assert wallets.eoa == case["eoa"]
    assert wallets.proxy == case["poly_proxy"]
    assert wallets.safe == case["gnosis_safe"]
    assert wallets.deposit == case["deposit_wallet_beacon"]
    assert wallets.deposit_first == case["deposit_wallet_uups_legacy"]


@pytest.mark.parametrize("kind", WalletKind)
@pytest.mark.parametrize("said", WalletKind)
def test_a_funder_fits_its_own_signature_type_only(kind: WalletKind, said: WalletKind) -> None:
    wallets = wallets_of(CASES[0]["eoa"])
    finding = judge_wallet(wallets, signature_type=int(said), funder=wallets.of(kind).lower())
    assert finding.light is (Light.GREEN if kind is said else Light.RED)
    assert kind is said or f"signature_type = {int(kind)}" in finding.remedy


def test_the_first_kind_of_deposit_wallet_is_one_too() -> None:
    wallets = wallets_of(CASES[0]["eoa"])
    assert judge_wallet(wallets, signature_type=3, funder=wallets.deposit_first).light is Light.GREEN


def test_a_missing_funder_is_named() -> None:
    finding = judge_wallet(wallets_of(CASES[0]["eoa"]), signature_type=2, funder="")
    assert finding.light is Light.RED
    assert CASES[0]["gnosis_safe"] in finding.remedy


@pytest.mark.parametrize(("said", "light"), [(0, Light.RED), (1, Light.YELLOW), (2, Light.YELLOW), (3, Light.YELLOW)])
def test_a_stranger_as_funder_is_no_key_of_ours_or_a_doubt(said: int, light: Light) -> None:
    stranger = CASES[1]["gnosis_safe"]
    assert judge_wallet(wallets_of(CASES[0]["eoa"]), signature_type=said, funder=stranger).light is light
