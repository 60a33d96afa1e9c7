"""`tbot paper` as a stranger meets it: against a local exchange process, over loopback."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tbot.commands.frames import survey
from tbot.commands.paper import PaperOptions, trade_on_paper
from tbot.errors import ConfigError

ROOT = Path(__file__).parents[2]
SETTINGS = (ROOT / "conf/paper.toml").read_text()


def tbot(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tbot", *arguments]


@contextmanager
def local_exchange(*more: str) -> Iterator[dict[str, Any]]:
    command = tbot("exchange", "--json", "--port", "0", "--seed", "7", *more)
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()
            process.wait(10)


def written(folder: Path, announced: dict[str, Any]) -> Path:
    markets = re.findall(r'market_id = "(0x\w+)"', (ROOT / "conf/exchange.toml").read_text())[:2]
    where = {
        "condition_ids": markets,
        "rest_url": announced["rest_url"],
        "ws_market_url": announced["ws_market_url"],
        "ws_user_url": announced["ws_user_url"],
        "geoblock_url": announced.get("geoblock_url", ""),
    }
    text = SETTINGS.replace("state/paper", str(folder / "state"))
    exchange = "[exchange]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in where.items()) + "\n"
    path = folder / "paper.toml"
    path.write_text(re.sub(r"\[exchange\]\n(?:[^\n\[].*\n)*", exchange, text))
    return path


def run(path: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        tbot("paper", "--config", str(path), *more), cwd=ROOT, capture_output=True, text=True, check=False, timeout=90
    )


def test_settings_of_a_live_bot_are_refused(tmp_path: Path) -> None:
    done = run(ROOT / "conf/live.toml")
    assert (done.returncode, done.stdout) == (2, "")
    assert 'mode: expected "paper" for tbot paper, found "live"' in done.stderr
    assert done.stderr.count("\n") == 1


def test_no_market_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "paper.toml"
    path.write_text(SETTINGS)
    done = run(path)
    assert done.returncode == 2
    assert "expected at least one market, found none" in done.stderr


def test_a_life_of_orders_that_the_exchange_does_not_take_starts_nothing(tmp_path: Path) -> None:
    nowhere = {
        "rest_url": "http://127.0.0.1:9",
        "ws_market_url": "ws://127.0.0.1:9/",
        "ws_user_url": "ws://127.0.0.1:9/",
    }
    path = written(tmp_path, nowhere)
    path.write_text(path.read_text().replace("[limits]", "[limits]\norder_life_s = 60"))
    with pytest.raises(ConfigError, match=r"^limits\.order_life_s: expected 0 or at least 130, found 60$"):
        trade_on_paper(PaperOptions(config=path, duration_s=1.0))
    assert not (tmp_path / "state").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ('order_size_max = "20"', 'order_size_max = "4"', 'limits.order_size_max: expected at least "5", the smallest'),
        ('base_size = "5"', 'base_size = "3"', 'strategy "liquidity": base_size "3" makes orders of 3 shares'),
    ],
    ids=["limit", "strategy"],
)
def test_orders_smaller_than_every_market_takes_are_refused_with_the_reason(
    tmp_path: Path, before: str, after: str, told: str
) -> None:
    with local_exchange() as announced:
        path = written(tmp_path, announced)
        assert before in path.read_text()
        path.write_text(path.read_text().replace(before, after))
        done = run(path, "--duration", "3s")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert told in done.stderr
    assert "TRADING" not in done.stdout


def sizes(folder: Path) -> int:
    """Count the bytes recorded so far."""
    return sum(each.stat().st_size for each in folder.glob("*"))


@pytest.mark.slow
def test_it_quotes_survives_a_kill_and_goes_on_with_its_money(tmp_path: Path) -> None:
    with local_exchange() as announced:
        path = written(tmp_path, announced)
        settings = path.read_text()
        path.write_text(f'{settings}\n[recorder]\nfolder = "{tmp_path / "raw"}"\nframe_s = 1.0\n')
        first = subprocess.Popen(
            tbot("paper", "--config", str(path)), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        account = tmp_path / "state/paper.log"
        deadline = time.perf_counter() + 40
        while not (account.exists() and b"OrderTaken" in account.read_bytes() and sizes(tmp_path / "raw")):
            assert time.perf_counter() < deadline, "no order within 40 s"
            assert first.poll() is None, first.communicate()
            time.sleep(0.2)
        first.send_signal(signal.SIGKILL)
        first.communicate()
        gone = tmp_path / "gone"
        path.write_text(f'{settings}\n[recorder]\nfolder = "{gone}"\nframe_s = 5.0\n')
        command = tbot("paper", "--config", str(path), "--duration", "13s")
        again = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert again.stdout is not None
        assert again.stdout.readline().startswith("tbot paper: live books"), again.communicate()
        gone.rmdir()
        gone.touch()  # nothing can be recorded here, and that must not hurt
        out, err = again.communicate(timeout=90)
    assert again.returncode == 0, err
    assert "TRADING" in out
    assert re.search(r"paper: \d+ s, \d+ orders", out)
    assert account.read_bytes().count(b"AccountOpened") == 1
    assert b"the process ended while it rested" in account.read_bytes()
    report = survey(next((tmp_path / "raw").iterdir()))
    assert (report.decode_errors, report.assets) == (0, 4)
    assert "recording ended: File exists" in out
