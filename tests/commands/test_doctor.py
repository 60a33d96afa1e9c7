"""`tbot doctor`: what it says without an exchange, and all green against `tbot exchange` as a process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tbot.commands.disk import judge_fsync, judge_room
from tbot.commands.doctor import COLUMN_MAX, diagnose, judge_strategies, lines_of, page
from tbot.config import TradingSettings, load
from tbot.core.market import Market, MarketId, TokenId
from tbot.core.messages import CancelAll, Halt, Resume
from tbot.core.units import NANOS_PER_S, Nanos, Price
from tbot.exchanges.polymarket.examination import Reach
from tbot.exchanges.polymarket.judgement import Finding, Light, red
from tbot.exchanges.polymarket.keys import TEST_KEY_HEX, SigningKey
from tbot.exchanges.polymarket.settings import PolymarketSettings
from tbot.store.journal import Store
from tbot.store.rows import RecordRow

ROOT = Path(__file__).parents[2]
LIVE = ROOT / "conf/live.toml"
MARKET = "0xca219e9f3bd8fa24dc51a8e7bc4dd90f13be0edfeffc8ccea89cf3ce5dd8cbb2"
NEG_RISK = "0xb61964ff9167b442200e7379e69b31e22446c1e0e0ce397a499c4b78f274c290"
POSITIONS = "0x0180b1da1c43860784710ab55abe08479a000000000000000000000000000000"


async def signs_well(_: PolymarketSettings) -> tuple[str, ...]:
    return ("order buy: body",)


def written(folder: Path, urls: dict[str, str]) -> Path:
    """Write conf/live.toml with a loopback exchange and three of its markets."""
    urls = {"geoblock_url": ""} | urls
    lines = "".join(f'{name} = "{url}"\n' for name, url in urls.items())
    ids = json.dumps([MARKET, NEG_RISK, POSITIONS])
    text = LIVE.read_text().replace("condition_ids = []", f"condition_ids = {ids}\n{lines}")
    path = folder / "live.toml"
    path.write_text(text.replace('state = "state/live"', f'state = "{folder / "state"}"'))
    return path


def nobody(folder: Path) -> Path:
    urls = {"rest_url": "http://127.0.0.1:1", "ws_market_url": "ws://127.0.0.1:1", "ws_user_url": "ws://127.0.0.1:1"}
    return written(folder, urls)


def reds(found: tuple[Finding, ...]) -> list[str]:
    return [each.check for each in found if each.light is Light.RED]


def test_the_shipped_settings_load_and_name_the_real_exchange() -> None:
    settings = load(LIVE, TradingSettings)
    assert (settings.mode, settings.exchange.rest_url) == ("live", "https://clob.polymarket.com")
    assert settings.limits.exposure_max <= 100_000_000


def test_unreadable_settings_are_the_only_line(tmp_path: Path) -> None:
    config = tmp_path / "live.toml"
    config.write_text(LIVE.read_text().replace('mode = "live"', 'mode = "lively"'))
    (finding,) = diagnose(config, {}, Reach())
    assert (finding.check, finding.light) == ("settings", Light.RED)
    assert f"{config}:4: mode: expected one of" in finding.found


def test_a_host_that_must_not_get_our_requests_is_never_asked(tmp_path: Path) -> None:
    urls = {"rest_url": "https://clob.example", "ws_market_url": "ws://127.0.0.1:1", "ws_user_url": "ws://127.0.0.1:1"}
    (finding,) = diagnose(written(tmp_path, urls), {"TBOT_PRIVATE_KEY": TEST_KEY_HEX}, Reach(probe=signs_well))
    assert (finding.check, finding.light) == ("settings", Light.RED)
    assert "clob.example" in finding.found


def test_an_exchange_that_does_not_answer_is_one_red_line(tmp_path: Path) -> None:
    found = diagnose(nobody(tmp_path), {"TBOT_PRIVATE_KEY": TEST_KEY_HEX}, Reach(probe=signs_well))
    assert reds(found) == ["requests"]


@pytest.mark.parametrize("environ", [{}, {"TBOT_PRIVATE_KEY": "0x" + "zz" * 32}])
def test_a_missing_or_broken_key_is_named_and_not_shown(tmp_path: Path, environ: dict[str, str]) -> None:
    found = diagnose(nobody(tmp_path), environ, Reach(probe=signs_well))
    assert reds(found) == ["key", "requests"]
    assert "TBOT_PRIVATE_KEY" in page(found)
    assert "zzzz" not in page(found)


def test_a_state_folder_open_to_others_is_its_own_line(tmp_path: Path) -> None:
    config = nobody(tmp_path)
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o755)
    found = diagnose(config, {"TBOT_PRIVATE_KEY": TEST_KEY_HEX}, Reach(probe=signs_well))
    assert reds(found) == ["state folder", "requests"]


@pytest.mark.parametrize(("owner", "red_lines"), [("wallet", []), ("paper account", ["state folder"])])
def test_the_state_of_another_account_is_refused_as_a_start_would(
    tmp_path: Path, owner: str, red_lines: list[str]
) -> None:
    config = nobody(tmp_path)
    whose = f"{owner} {SigningKey.from_hex(TEST_KEY_HEX).address.lower()}" if owner == "wallet" else owner
    Store.open(tmp_path / "state", f"{whose} on http://127.0.0.1:1").close()
    before = (tmp_path / "state/journal.sqlite").read_bytes()
    found = diagnose(config, {"TBOT_PRIVATE_KEY": TEST_KEY_HEX}, Reach(probe=signs_well))
    assert reds(found) == [*red_lines, "requests"]
    assert ("holds the state of 'paper account on" in page(found)) is bool(red_lines)
    assert (tmp_path / "state/journal.sqlite").read_bytes() == before


def test_a_halt_of_the_journal_is_told_with_its_moment_its_reason_and_what_to_type(tmp_path: Path) -> None:
    config = nobody(tmp_path)
    owner = f"wallet {SigningKey.from_hex(TEST_KEY_HEX).address.lower()} on http://127.0.0.1:1"

    def told() -> Finding | None:
        found = diagnose(config, {"TBOT_PRIVATE_KEY": TEST_KEY_HEX}, Reach(probe=signs_well))
        return next((each for each in found if each.check == "halt"), None)

    assert told() is None, "there is no journal to ask"
    at = Nanos(1_790_000_000 * NANOS_PER_S)
    lights = []
    for seq, message in enumerate(
        (CancelAll(at_ns=at), Halt(reason="loss limit", at_ns=at), Resume(at_ns=at)), start=1
    ):
        with closing(Store.open(tmp_path / "state", owner)) as store:
            row = RecordRow(seq=seq, at_ns=at, kind=type(message).__name__, payload=msgspec.msgpack.encode(message))
            store.write([row])
        finding = told()
        assert finding is not None
        lights.append(finding.light)
        if finding.light is Light.RED:
            assert finding.found == "halted since 2026-09-21 14:13:20 UTC: loss limit"
            assert f"tbot resume --config {config}" in finding.remedy
    assert lights == [Light.GREEN, Light.RED, Light.GREEN]


def test_slow_and_full_disks_are_red() -> None:
    assert (judge_fsync(0.01).light, judge_fsync(0.2).light) == (Light.GREEN, Light.RED)
    assert (judge_room(10 << 30).light, judge_room(1 << 29).light) == (Light.GREEN, Light.RED)


def test_sizes_that_no_market_takes_are_red_and_those_that_some_do_not_are_told(tmp_path: Path) -> None:
    config, lights = nobody(tmp_path), []
    market = Market(market_id=MarketId("1"), slug="rain", yes=TokenId("2"), no=TokenId("3"), tick=Price(10_000))
    for base in ("5", "4", "3"):
        config.write_text(LIVE.read_text().replace('base_size = "5"', f'base_size = "{base}"'))
        finding = judge_strategies(load(config, TradingSettings), [market])
        lights.append(finding.light)
        assert ("the smallest order of rain has 5" in finding.found) is (base != "5")
    assert lights == [Light.GREEN, Light.YELLOW, Light.RED]
    assert judge_strategies(load(config, TradingSettings), []).light is Light.YELLOW


def test_names_from_outside_cannot_move_the_terminal() -> None:
    assert "\x1b" not in page([red("market \x1b[2J", "\x1b]0;x\x07", "\x1b[31m")])


def test_a_long_name_moves_no_other_line() -> None:
    short, long = red("feed", "no book", "Look."), red("market 0x" + "0" * 64, "unknown", "Take it out.")
    first, _, second, _ = lines_of([short, long]).splitlines()
    assert first == lines_of([short, red("x" * COLUMN_MAX, "", "Do.")]).splitlines()[0]
    assert second == f"NO  {long.check}  unknown"


@pytest.mark.slow
def test_the_play_account_of_the_local_exchange_is_ready(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tbot"]
    with subprocess.Popen([*command, "exchange", "--json"], cwd=ROOT, stdout=subprocess.PIPE, text=True) as exchange:
        assert exchange.stdout is not None
        announced: dict[str, Any] = json.loads(exchange.stdout.readline())
        urls = {name: announced[name] for name in ("rest_url", "ws_market_url", "ws_user_url", "geoblock_url")}
        config = written(tmp_path, urls)
        environ = os.environ | {"TBOT_PRIVATE_KEY": announced["accounts"][0]["private_key"]}
        arguments = [*command, "doctor", "--config", str(config)]
        asked = subprocess.run(
            [*arguments, "--json"], cwd=ROOT, env=environ, capture_output=True, text=True, check=False
        )
        keyless = {k: v for k, v in environ.items() if k != "TBOT_PRIVATE_KEY"}
        refused = subprocess.run(arguments, cwd=ROOT, env=keyless, capture_output=True, text=True, check=False)
        exchange.send_signal(signal.SIGINT)
        exchange.communicate(timeout=20)
    told = json.loads(asked.stdout)
    assert (asked.returncode, told["is_ready"], asked.stderr) == (0, True, ""), told
    checks = {each["check"]: each["light"] for each in told["findings"]}
    for spender in ("Exchange V2", "Neg-risk Exchange V2"):
        assert checks[f"allowance pUSD to {spender}"] == checks[f"allowance Conditional Tokens to {spender}"] == "green"
    assert checks["allowance PositionManager to Exchange V3"] == checks["feed"] == checks["signing"] == "green"
    assert checks["geoblock"] == "green"
    assert {name for name, light in checks.items() if light != "green"} <= {"rate tier"}
    assert refused.returncode == 1
    assert "NO  key" in refused.stdout
