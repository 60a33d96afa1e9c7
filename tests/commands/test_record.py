"""`tbot record` against `tbot exchange`: what is recorded verifies, and a bad start is refused in a sentence."""

import json
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
    assert "expected at least one token" in capsys.readouterr().err


@pytest.mark.slow
def test_a_recording_of_the_local_exchange_verifies(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tbot"]
    config = tmp_path / "record.toml"
    with subprocess.Popen([*command, "exchange", "--json"], cwd=ROOT, stdout=subprocess.PIPE, text=True) as exchange:
        assert exchange.stdout is not None
        try:
            url = json.loads(exchange.stdout.readline())["ws_market_url"]
            tokens = [
                line.split('"')[1] for line in (ROOT / "conf/exchange.toml").read_text().splitlines() if "yes =" in line
            ]
            config.write_text(
                f'token_ids = {json.dumps(tokens)}\nws_market_url = "{url}"\n'
                f'[recorder]\nfolder = "{tmp_path / "out"}"\n'
            )
            record = [*command, "record", "--config", str(config), "--duration", "6s"]
            done = subprocess.run(record, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        finally:
            exchange.terminate()
    assert done.returncode == 0, done.stdout + done.stderr
    reports = [survey(path) for path in (tmp_path / "out").iterdir()]
    assert sum(report.decode_errors for report in reports) == 0
    assert sum(report.increments for report in reports) > 0
    assert all(report.hash_verified == report.increments for report in reports)
    assert all(report.snapshots_equal == report.snapshots for report in reports)
