"""`tbot keys`: what it shows, what it never shows, and how long it waits for new credentials."""

from __future__ import annotations

import json
from pathlib import Path

import httpx2
import pytest
import trio

from tbot.cli import main
from tbot.commands.keys import shown
from tbot.core.units import NANOS_PER_S
from tbot.errors import AuthenticationFailed, ConfigError
from tbot.exchanges.polymarket.credentials import GRACE_S, WAITING, obtain_credentials, wait_until_taken
from tbot.exchanges.polymarket.environment import api_credentials_of
from tbot.exchanges.polymarket.keys import TEST_KEY_HEX, ApiCredentials, SigningKey
from tbot.exchanges.polymarket.settings import PolymarketSettings
from tests.contract.stage import now_ns

LIVE = str(Path(__file__).parents[2] / "conf/live.toml")
KEY = SigningKey.from_hex(TEST_KEY_HEX)
CREDENTIALS = ApiCredentials(api_key="key-1", secret="c2VjcmV0c2VjcmV0", passphrase="hush-hush")
SETTINGS = PolymarketSettings(condition_ids=(), rest_url="http://exchange.test")
ISSUED = {"apiKey": "key-1", "secret": "c2VjcmV0c2VjcmV0", "passphrase": "hush-hush"}


def test_show_names_all_addresses_and_no_secret(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TBOT_PRIVATE_KEY", TEST_KEY_HEX)
    assert main(["keys", "show", "--config", LIVE, "--json"]) == 0
    printed = capsys.readouterr().out
    told = json.loads(printed)
    assert told["account"] == told["trades_from"] == "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
    assert told["safe_wallet"] == "0xd93B25cb943D14d0d34FBaF01Fc93a0f8b5F6E47"
    assert TEST_KEY_HEX.removeprefix("0x") not in printed


@pytest.mark.parametrize(("kind", "wallet"), [(1, "proxy_wallet"), (2, "safe_wallet"), (3, "deposit_wallet")])
def test_a_wallet_that_nobody_named_is_not_traded_from(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: int, wallet: str
) -> None:
    config = tmp_path / "live.toml"
    config.write_text(Path(LIVE).read_text().replace("signature_type = 0", f"signature_type = {kind}"))
    monkeypatch.setenv("TBOT_PRIVATE_KEY", TEST_KEY_HEX)
    assert main(["keys", "show", "--config", str(config), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["trades_from"].startswith("exchange.funder: missing")
    assert told[wallet] in told["trades_from"]


def test_without_a_key_one_sentence_names_the_variable(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TBOT_PRIVATE_KEY", raising=False)
    monkeypatch.delenv("TBOT_PRIVATE_KEY_FILE", raising=False)
    assert main(["keys", "show", "--config", LIVE]) == 2
    complaint = capsys.readouterr().err
    assert "TBOT_PRIVATE_KEY" in complaint
    assert complaint.count("\n") == 1


def test_secret_parts_are_shown_only_when_asked_for() -> None:
    assert shown(CREDENTIALS, is_revealed=False) == {"TBOT_API_KEY": "key-1"}
    assert shown(CREDENTIALS, is_revealed=True)["TBOT_API_SECRET"] == CREDENTIALS.secret


@pytest.mark.parametrize("is_derived_only", [True, False])
async def test_they_are_derived_first_and_created_only_when_wanted(is_derived_only: bool) -> None:
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/time":
            return httpx2.Response(200, json=now_ns() // NANOS_PER_S)
        asked.append(request.method)
        has_none = request.method == "GET"
        return httpx2.Response(400, json={"error": "Could not derive api key!"}) if has_none else _issued()

    transport = httpx2.MockTransport(answer)
    if is_derived_only:
        with pytest.raises(AuthenticationFailed, match="Could not derive"):
            await obtain_credentials(SETTINGS, key=KEY, now_ns=now_ns, is_derived_only=True, transport=transport)
        assert asked == ["GET"]
    else:
        found = await obtain_credentials(SETTINGS, key=KEY, now_ns=now_ns, is_derived_only=False, transport=transport)
        assert (found.api_key, asked) == ("key-1", ["GET", "POST"])


@pytest.mark.parametrize(("refused_s", "is_taken"), [(120.0, True), (GRACE_S + 60, False)])
async def test_new_credentials_are_waited_for_within_bounds(
    refused_s: float, is_taken: bool, autojump_clock: trio.testing.MockClock
) -> None:
    began = trio.current_time()

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/time":
            return httpx2.Response(200, json=now_ns() // NANOS_PER_S)
        is_known = trio.current_time() - began >= refused_s
        return httpx2.Response(200, json={"closed_only": False}) if is_known else httpx2.Response(401, json={})

    told: list[str] = []

    async def wait() -> None:
        transport = httpx2.MockTransport(answer)
        await wait_until_taken(
            SETTINGS, key=KEY, credentials=CREDENTIALS, now_ns=now_ns, on_wait=told.append, transport=transport
        )

    if is_taken:
        await wait()
    else:
        with pytest.raises(AuthenticationFailed):
            await wait()
    assert trio.current_time() - began == pytest.approx(min(refused_s, GRACE_S), abs=6)
    assert told == [WAITING][: 1 if refused_s else 0], "once, and only when there is something to wait for"


def test_credentials_come_whole_from_the_environment_or_not_at_all() -> None:
    whole = {"TBOT_API_KEY": "key-1-of-us", "TBOT_API_SECRET": "c2VjcmV0c2VjcmV0", "TBOT_API_PASSPHRASE": "hush-hush"}
    found = api_credentials_of(whole)
    assert found is not None
    assert found.api_key == "key-1-of-us"
    assert api_credentials_of({}) is None
    with pytest.raises(ConfigError, match="TBOT_API_PASSPHRASE"):
        api_credentials_of({k: v for k, v in whole.items() if "PASSPHRASE" not in k})


def _issued() -> httpx2.Response:
    return httpx2.Response(200, json=ISSUED)
