"""`tbot live` starts only when everything agrees, and then trades: here on the local exchange, with a throwaway key."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from contextlib import closing
from pathlib import Path
from urllib.request import Request, urlopen

import msgspec
import pytest
import structlog
import trio

from tbot import log
from tbot.commands import live
from tbot.commands.live import LiveOptions, trade_live
from tbot.core.messages import CancelRefused, CancelReply, ExchangeOrderId, Halt
from tbot.core.units import NANOS_PER_S, Nanos
from tbot.errors import ConfigError
from tbot.exchanges.polymarket.judgement import Finding
from tbot.exchanges.polymarket.keys import TEST_KEY_HEX, ApiCredentials, SigningKey
from tbot.store.journal import Store
from tbot.store.rows import RecordRow
from tbot.tasks.clock import SteadyClock, WallClock
from tbot.trading import owner_of_state, settings_of
from tests.commands.test_paper import ROOT, local_exchange, tbot
from tests.commands.test_paper import written as paper_settings

KEY = "0x" + hashlib.sha256(b"a throwaway key of the tests").hexdigest()
WALLET = SigningKey.from_hex(KEY).address


def written(folder: Path, announced: dict[str, str]) -> Path:
    path = paper_settings(folder, announced)
    path.write_text(re.sub(r"\n\[paper\](?:\n.+)*", "", path.read_text().replace('mode = "paper"', 'mode = "live"')))
    return path


def command(path: Path, confirm: str, *more: str) -> list[str]:
    return tbot("live", "--config", str(path), "--confirm", confirm, *more)


def environ(key: str | None = KEY) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TBOT_")}
    return inherited if key is None else inherited | {"TBOT_PRIVATE_KEY": key}


def run(path: Path, confirm: str, *more: str, key: str | None = KEY) -> subprocess.CompletedProcess[str]:
    typed = command(path, confirm, *more)
    return subprocess.run(typed, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120, env=environ(key))


def refused(done: subprocess.CompletedProcess[str], why: str) -> None:
    assert (done.returncode, done.stdout) == (2, "")
    assert why in done.stderr
    assert done.stderr.count("\n") == 1
    assert KEY[2:] not in done.stderr


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    nowhere = {
        "rest_url": "http://127.0.0.1:9",
        "ws_market_url": "ws://127.0.0.1:9/",
        "ws_user_url": "ws://127.0.0.1:9/",
    }
    return written(tmp_path_factory.mktemp("live"), nowhere)


@pytest.mark.slow
def test_both_switches_and_a_key_of_ones_own_must_agree(settings: Path) -> None:
    refused(run(settings, "000000"), "--confirm: expected the last 6 hex digits of the wallet that trades")
    refused(run(settings, WALLET[-6:], key=None), "TBOT_PRIVATE_KEY: missing secret")
    refused(run(settings, "b92266", key=TEST_KEY_HEX), "is a public test key")
    refused(run(ROOT / "conf/paper.toml", WALLET[-6:]), 'mode: expected "live" for tbot live, found "paper"')
    assert not (settings.parent / "state").exists()


def test_no_recipe_passes_the_confirmation() -> None:
    assert "--confirm" not in (ROOT / "justfile").read_text()
    assert "tbot live" not in (ROOT / "justfile").read_text()


PASS = "hush-hush-hush"


@pytest.mark.parametrize("spoilt", [PASS + "\r", f" {PASS}", PASS + "\u00e9"])
def test_credentials_that_no_request_carries_are_refused_and_not_quoted(settings: Path, spoilt: str) -> None:
    given = {"TBOT_API_KEY": "key-1-of-us", "TBOT_API_SECRET": "c2VjcmV0c2VjcmV0", "TBOT_API_PASSPHRASE": spoilt}
    options = LiveOptions(config=settings, confirm=WALLET[-6:], duration_s=1.0)
    with pytest.raises(ConfigError, match=r"^TBOT_API_PASSPHRASE: expected printable ASCII") as refusal:
        trade_live(options, {"TBOT_PRIVATE_KEY": KEY} | given)
    assert PASS not in str(refusal.value)
    assert not (settings.parent / "state").exists()


def test_a_wallet_that_nobody_named_is_asked_for_first(settings: Path, tmp_path: Path) -> None:
    path = tmp_path / "live.toml"
    path.write_text(settings.read_text().replace("[exchange]", "[exchange]\nsignature_type = 1"))
    for confirm in (WALLET[-6:], "000000"):
        with pytest.raises(ConfigError, match=r"^exchange\.funder: missing, expected the wallet that holds the money"):
            trade_live(LiveOptions(config=path, confirm=confirm, duration_s=1.0), {"TBOT_PRIVATE_KEY": KEY})


def test_a_life_of_orders_that_the_exchange_does_not_take_starts_nothing(settings: Path, tmp_path: Path) -> None:
    path = tmp_path / "live.toml"
    path.write_text(settings.read_text().replace("[limits]", "[limits]\norder_life_s = 60"))
    with pytest.raises(ConfigError, match=r"^limits\.order_life_s: expected 0 or at least 130, found 60$"):
        trade_live(LiveOptions(config=path, confirm=WALLET[-6:], duration_s=1.0), {"TBOT_PRIVATE_KEY": KEY})
    assert not (settings.parent / "state").exists()


@pytest.mark.parametrize("are_given", [True, False])
def test_no_secret_reaches_the_log_of_a_live_bot(
    settings: Path, monkeypatch: pytest.MonkeyPatch, *, are_given: bool
) -> None:
    given = {"TBOT_API_KEY": "key-1-of-us", "TBOT_API_SECRET": "c2VjcmV0c2VjcmV0", "TBOT_API_PASSPHRASE": PASS}
    issued = ApiCredentials(api_key="key-1-of-us", secret="c2VjcmV0c2VjcmV0", passphrase=PASS)

    class Passed:
        """An examination without a finding: nothing here leaves the machine."""

        credentials = issued

        def __init__(self, *_args: object, **_more: object) -> None:
            pass

        async def findings(self) -> tuple[Finding, ...]:
            return ()

    def gossip(*_args: object, **_more: object) -> None:
        structlog.get_logger().warning("library.logged", text=f"Illegal header value b'{PASS}' {KEY} {issued.secret}")
        raise ConfigError("enough")

    monkeypatch.setattr(live, "Examination", Passed)
    monkeypatch.setattr(live, "PolymarketGateway", gossip)
    options = LiveOptions(config=settings, confirm=WALLET[-6:], duration_s=1.0)
    with pytest.raises(ConfigError, match="enough"):
        trade_live(options, {"TBOT_PRIVATE_KEY": KEY} | (given if are_given else {}))
    state = settings.parent / "state"
    text = (state / "live.log.jsonl").read_text()
    shutil.rmtree(state)
    assert "Illegal header value b'***' *** ***" in text


@pytest.mark.slow
def test_it_trades_on_the_local_exchange_and_leaves_nothing_resting(tmp_path: Path) -> None:
    with local_exchange() as announced:
        path = written(tmp_path, announced)
        poor = run(path, WALLET[-6:], "--duration", "3s")
        assert (poor.returncode, poor.stderr.count("\n")) == (2, 1)
        assert "not trading: balance: $0.00, the limits allow $50.00 at risk. Deposit" in poor.stderr
        body = json.dumps({"account": WALLET, "cash": "500"}).encode()
        with urlopen(Request(announced["rest_url"] + "/control/deposit", data=body, method="POST")) as answer:
            assert answer.status == 200
        done = run(path, WALLET[-6:], "--duration", "13s")
        halt(path)
        halted = run(path, WALLET[-6:], "--duration", "3s")
        typed = tbot("resume", "--config", str(path), "--confirm", WALLET[-6:])
        resumed = subprocess.run(typed, cwd=ROOT, capture_output=True, text=True, check=False, env=environ())
        body = json.dumps({"blocked": True, "country": "US"}).encode()
        with urlopen(Request(announced["rest_url"] + "/control/place", data=body, method="POST")) as answer:
            assert answer.status == 200
        blocked = run(path, WALLET[-6:], "--duration", "3s")
    assert done.returncode == 0, done.stderr
    assert f"REAL MONEY of {WALLET}" in done.stdout
    assert "TRADING" in done.stdout
    orders = re.search(r"live: \d+ s, (\d+) orders", done.stdout)
    assert orders is not None
    assert int(orders[1]) > 0
    assert halted.returncode == 3, halted.stderr
    *_, why, what = halted.stdout.splitlines()
    assert why == "live: HALTED, and so after a restart: by hand"
    assert f"`tbot resume --config {path}`" in what
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.endswith("Resumed: the next tbot live trades.\n")
    for refusal in (poor, blocked):  # what it says stands on the other stream, once
        assert "REAL MONEY" in refusal.stdout
        assert "$0.00, the limits" not in refusal.stdout
        assert "does not serve this place" not in refusal.stdout
    assert blocked.returncode == 2
    assert blocked.stderr == (
        "tbot: not trading: geoblock: the exchange does not serve this place (US). "
        "Do not trade from here: tbot refuses to, and never routes around it.\n"
    )
    text = (tmp_path / "state/live.log.jsonl").read_text()
    assert KEY[2:] not in text


def halt(path: Path) -> None:
    """Let the journal of a stopped bot say that a person halted it."""
    settings = settings_of(path, "live")
    with closing(Store.open(Path(settings.state), owner_of_state(settings, WALLET))) as store:
        fact = Halt(reason="by hand", at_ns=Nanos(1))
        seq = store.tail().record_seq + 1
        store.write([RecordRow(seq=seq, at_ns=Nanos(1), kind="Halt", payload=msgspec.msgpack.encode(fact))])


class SlowClock(WallClock):
    """This machine's clock, 20 s slow: the exchange refuses what is signed by it."""

    def now_ns(self) -> Nanos:
        return Nanos(super().now_ns() - 20 * NANOS_PER_S)


@pytest.mark.slow
def test_a_new_gateway_goes_on_with_the_clock_and_the_rate_limits_of_the_one_before(tmp_path: Path) -> None:
    """As the one that cancels what is left when the desk goes down: it has no time to measure first."""

    async def cancelled(path: Path) -> tuple[CancelReply, float]:
        settings, key = settings_of(path, "live"), SigningKey.from_hex(KEY)
        with log.set_up(file=tmp_path / "log", terminal=None, secrets=()) as logs:
            _, open_gateway = await live._prepare(
                settings, key, None, None, logs, clock=SteadyClock(SlowClock().now_ns), has_traded=True
            )
        ids = [ExchangeOrderId(f"0x{number:064x}") for number in range(1, 101)]
        replies: list[CancelReply] = []
        began = trio.current_time()
        for _ in range(2):
            gateway = open_gateway()
            replies += await gateway.cancel(ids)
            await gateway.aclose()
        return replies[0], trio.current_time() - began

    with local_exchange() as announced:
        path = written(tmp_path, announced)
        (tmp_path / "state").mkdir()
        reply, took_s = trio.run(cancelled, path)
    assert isinstance(reply, CancelRefused), reply
    assert took_s > 0.9  # 80 cancels more than the burst of 120, at 80 a second
