"""`tbot exchange` as a process: what it prints first, how it ends, and what keeps it from starting."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import pytest

from tbot.commands.exchange import _tell_crash

ROOT = Path(__file__).parents[2]
PLAY = "PLAY KEYS: everybody knows them."

pytestmark = pytest.mark.slow


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tbot", "exchange", *arguments]


def start(*arguments: str, cwd: Path = ROOT) -> subprocess.Popen[str]:
    paths = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command(*arguments), cwd=cwd, env=paths, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_json_comes_first_and_a_signal_ends_it_with_0(number: signal.Signals) -> None:
    with start("--json", "--seed", "3") as process:
        assert process.stdout is not None
        announced = json.loads(process.stdout.readline())
        with urlopen(announced["rest_url"] + "/markets") as answer:
            assert json.load(answer)["count"] >= 4
        process.send_signal(number)
        rest, complaints = process.communicate(timeout=20)
    assert (process.returncode, rest) == (0, "")
    assert complaints.startswith(PLAY)
    assert len(announced["accounts"]) == 10


def test_people_get_a_page_with_addresses_and_the_warning() -> None:
    with start("--port", "0") as process:
        assert process.stderr is not None
        warning = process.stderr.readline()  # comes after the page
        process.send_signal(signal.SIGINT)
        page, _ = process.communicate(timeout=20)
    assert warning.startswith(PLAY)
    assert "REST            http://127.0.0.1:" in page
    assert "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266" in page


def test_it_starts_anywhere_with_the_settings_that_come_with_it(tmp_path: Path) -> None:
    with start("--port", "0", cwd=tmp_path) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith(PLAY)
        process.send_signal(signal.SIGINT)
        page, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "7 markets with synthetic traders" in page
    assert "shipped/exchange.toml, which come with tbot (conf/exchange.toml would replace them)" in page


def test_bug_is_told_at_once_on_one_line_with_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    def buggy() -> None:
        raise LookupError("no\nsuch\x1b[2Jthing")

    for bug in (buggy, group_of(buggy)):
        with pytest.raises(Exception, match=r".") as crash:
            bug()
        _tell_crash(crash.value)
        line = capsys.readouterr().err
        assert re.fullmatch(
            r"tbot exchange: met a bug: LookupError: no suchthing \(test_exchange.py:\d+, buggy\)\n", line
        )


def group_of(inner: Callable[[], None]) -> Callable[[], None]:
    """Raise like a nursery."""

    def raise_group() -> None:
        try:
            inner()
        except LookupError as error:
            raise ExceptionGroup("nursery", [error]) from None

    return raise_group


def test_listening_beyond_loopback_is_said_loudly(tmp_path: Path) -> None:
    config = tmp_path / "open.toml"
    text = (ROOT / "conf/exchange.toml").read_text()
    config.write_text(text.replace("127.0.0.1", "0.0.0.0").replace("has_control = true", "has_control = false"))
    with start("--config", str(config)) as process:
        assert process.stderr is not None
        process.stderr.readline()
        assert process.stderr.readline().startswith("IT LISTENS ON 0.0.0.0")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert process.returncode == 0


def test_busy_port_is_one_sentence_and_2() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(command("--port", port), cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--port", "65536"), "expected a port from 0 to 65535, found '65536'"),
        (("--seed", "x"), "expected a whole number"),
        (("--config", "/nonexistent.toml"), "expected a readable settings file"),
    ],
)
def test_what_cannot_start_says_so_in_one_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    done = subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
