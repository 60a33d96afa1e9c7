"""`tbot record` against `tbot exchange`: what is recorded verifies, and a bad start is refused in a sentence."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tbot.cli import main
from tbot.commands.frames import survey

ROOT = Path(__file__).parents[2]


def test_no_tokens_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "record.toml"
    config.write_text("token_ids = []\n")
    assert main(["record", "--config", str(config)]) == 2
    assert "exchange.condition_ids or exchange.slugs: expected at least one" in capsys.readouterr().err


def test_an_address_that_is_not_the_exchanges_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "record.toml"
    config.write_text('token_ids = ["1"]\n[exchange]\nws_market_url = "wss://evil.example/ws"\n')
    assert main(["record", "--config", str(config)]) == 2
    assert "ws_market_url: 'evil.example' is not among the hosts" in capsys.readouterr().err


@pytest.mark.slow
def test_a_recording_of_the_local_exchange_verifies(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tbot"]
    config = tmp_path / "record.toml"
    with subprocess.Popen([*command, "exchange", "--json"], cwd=ROOT, stdout=subprocess.PIPE, text=True) as exchange:
        assert exchange.stdout is not None
        try:
            announced = json.loads(exchange.stdout.readline())
            text = (ROOT / "conf/exchange.toml").read_text()
            token, *_ = re.findall(r'yes = "(\d+)"', text)
            _, by_id, *_ = re.findall(r'market_id = "(0x\w+)"', text)
            _, _, slug, *_ = re.findall(r'^slug = "(.+)"', text, flags=re.MULTILINE)
            where = {key: announced[key] for key in ("rest_url", "ws_market_url", "ws_user_url", "gamma_url")}
            config.write_text(
                f'token_ids = ["{token}"]\n[exchange]\ncondition_ids = ["{by_id}"]\nslugs = ["{slug}"]\n'
                + "".join(f'{key} = "{value}"\n' for key, value in where.items())
                + f'[recorder]\nfolder = "{tmp_path / "out"}"\n'
            )
            record = [*command, "record", "--config", str(config), "--duration", "6s"]
            done = subprocess.run(record, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        finally:
            exchange.terminate()
    assert done.returncode == 0, done.stdout + done.stderr
    reports = [survey(path) for path in (tmp_path / "out").iterdir()]
    assert sum(report.assets for report in reports) == 6
    assert sum(report.decode_errors for report in reports) == 0
    assert sum(report.increments for report in reports) > 0
    assert all(report.hash_verified == report.increments for report in reports)
    assert all(report.snapshots_equal == report.snapshots for report in reports)
