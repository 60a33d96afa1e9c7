"""`tbot sim` as a stranger meets it: what it prints where, its exit codes, and what it refuses in one sentence."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tbot import app, log
from tbot.cli import main
from tbot.core.coordinator import Coordinator
from tbot.core.messages import Fill
from tbot.core.units import Nanos
from tbot.simulation import run as simulation
from tbot.simulation.run import Plan
from tbot.store import database
from tbot.store.folder import StateFolder

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "conf" / "sim.toml"
KEY = "0x" + "4f3edf983ac636a65a842ce7c78d9aa706d3b113bce9c46f30d7d21715b23b1d"
SECRETS = {
    "POLYMARKET_PRIVATE_KEY": KEY,
    "POLYMARKET_API_KEY": "b349bff6-7af8-0470-ed25-22a2a5e1c154",
    "POLYMARKET_API_SECRET": "c2VjcmV0LW9mLXRoZS1lbnZpcm9ubWVudC0wMDAwMDA=",
    "POLYMARKET_PASSPHRASE": "passphrase-of-the-environment",
    "PRIVATE_KEY": KEY,
    "PK": KEY,
}
NASTY = "rain\\u001b[2J\\u001b]0;owned\\u0007\\u202eyes\\nAudit      every order agrees"


class Shell:
    """Runs the command in this process, in a folder of its own, and keeps what it said."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capture = folder, capture
        self.out = self.err = ""

    def sim(self, *arguments: str, seconds: int = 10, config: Path = CONFIG) -> int:
        """Simulate at max speed unless told otherwise."""
        speed = () if "--speed" in arguments else ("--speed", "max")
        return self.tbot("sim", "--duration", f"{seconds}s", "--config", str(config), *speed, *arguments)

    def tbot(self, *arguments: str) -> int:
        try:
            code = main(arguments)
        except SystemExit as error:
            code = int(error.code or 0)
        self.out, self.err = self._capture.readouterr()
        return code

    def config(self, text: str) -> Path:
        """Write settings that differ from those of the repository by what is appended."""
        path = self.folder / "my.toml"
        path.write_text(CONFIG.read_text() + text)
        return path


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    monkeypatch.chdir(tmp_path)
    yield Shell(tmp_path, capsys)
    log.silence()


def outside(*arguments: str) -> list[str]:
    """Give the command line of a run in a process of its own."""
    return [sys.executable, "-m", "tbot", "sim", "--config", str(CONFIG), *arguments]


# --- a run -----------------------------------------------------------------------------------------------------------


def test_run_explains_itself_and_ends_with_zero(shell: Shell) -> None:
    assert shell.sim("--seed", "7", seconds=20) == 0
    assert shell.err == ""
    for words in ("in virtual time, seed 7", "sim.log.jsonl", "Orders", "Fills", "Money", "Audit", "no violations"):
        assert words in shell.out
    assert "\x1b" not in shell.out  # it is no terminal


def test_run_without_settings_of_ones_own_takes_those_that_come_with_tbot(shell: Shell) -> None:
    assert shell.tbot("sim", "--duration", "5s", "--speed", "max") == 0
    assert "shipped/sim.toml, which come with tbot (conf/sim.toml would replace them)" in shell.out


def test_json_to_stdout_is_one_object_and_nothing_else(shell: Shell) -> None:
    assert shell.sim("--seed", "7", "--json", "-") == 0
    report = json.loads(shell.out)
    assert "Audit" in shell.err
    assert report["violations"] == []


def test_json_has_everything_that_was_promised(shell: Shell) -> None:
    assert shell.sim("--seed", "7", "--chaos", "--json", "report.json", seconds=120) == 0
    report = json.loads((shell.folder / "report.json").read_text())
    assert list(report) == [
        *("seed", "speed", "duration_s", "wall_s", "digest", "orders", "fills", "volume_usd", "pnl_usd", "fees_usd"),
        *("positions", "restarts", "faults_injected", "reconnects", "violations"),
    ]
    assert (report["seed"], report["speed"], report["duration_s"]) == (7, "max", 120.0)
    assert len(report["digest"]) == 64
    assert {"submitted", "accepted", "rejected", "canceled", "filled"} <= set(report["orders"])
    assert {"buy", "sell", "maker", "taker"} <= set(report["fills"])
    assert report["fills"]["buy"] + report["fills"]["sell"] == report["fills"]["maker"] + report["fills"]["taker"] > 0
    assert report["volume_usd"] > 0
    assert sum(report["restarts"].values()) > 0
    assert sum(report["faults_injected"].values()) > 0
    assert report["wall_s"] > 0
    assert sorted(os.listdir(shell.folder)) == ["report.json", "sim.log.jsonl"]


def test_json_replaces_an_older_report_and_goes_through_a_device(shell: Shell) -> None:
    (shell.folder / "report.json").write_text("old" * 100_000)
    assert shell.sim("--json", "report.json", seconds=5) == 0
    assert json.loads((shell.folder / "report.json").read_text())["seed"] == 7
    assert shell.sim("--json", os.devnull, seconds=5) == 0
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_report_that_cannot_be_written_is_told_and_the_summary_still_there(shell: Shell) -> None:
    assert shell.sim("--json", "/dev/full", seconds=5) == 1
    assert "Audit" in shell.out
    assert shell.err == (
        "tbot: --json /dev/full: the run is over, but its report could not be written: "
        "[Errno 28] No space left on device\n"
    )


def test_same_seed_gives_the_same_digest_in_another_process_and_another_seed_another(shell: Shell) -> None:
    def digest(seed: int) -> str:
        assert shell.sim("--seed", str(seed), "--json", "-") == 0
        return str(json.loads(shell.out)["digest"])

    command = outside("--seed", "5", "--duration", "10s", "--speed", "max", "--json", "-")
    done = subprocess.run(command, cwd=shell.folder, capture_output=True, check=True)
    assert json.loads(done.stdout)["digest"] == digest(5)
    assert digest(6) != digest(5)


def test_log_is_private_and_of_this_run_only(shell: Shell) -> None:
    path = shell.folder / "sim.log.jsonl"
    path.write_text("left over\n")
    assert shell.sim(seconds=5) == 0
    lines = path.read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines[:1]] == ["task.start"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_kept_state_keeps_its_log_beside_it(shell: Shell) -> None:
    for _ in range(2):
        assert shell.sim("--seed", "7", "--state", "st", seconds=2) == 0
    assert not (shell.folder / "sim.log.jsonl").exists()
    text = (shell.folder / "st" / "sim.log.jsonl").read_text()
    assert text.count("coordinator.recovered") == 2
    assert "log st/sim.log.jsonl" in shell.out


def test_help_and_version_are_answers(shell: Shell) -> None:
    assert shell.tbot("--version") == 0
    assert shell.out.startswith("tbot ")
    assert shell.tbot("sim", "--help") == 0
    for flag in ("--seed", "--duration", "--speed", "--chaos", "--config", "--state", "--json"):
        assert flag in shell.out


# --- refusals --------------------------------------------------------------------------------------------------------

FLAGS = [
    # arguments, a part of the sentence
    (("sim", "--sped", "max"), "unrecognized arguments: --sped max"),
    (("sim", "--spee", "max"), "unrecognized arguments: --spee max"),
    (("markets", "show", "rain", "--js"), "unrecognized arguments: --js"),
    (("sim", "--speed", "fast"), "invalid choice: 'fast'"),
    (("sim", "--duration", "2x"), "expected 1s to 168h such as 90s, 2m or 1h, found '2x'"),
    (("sim", "--duration", "0s"), "found '0s'"),
    (("sim", "--duration", "169h"), "found '169h'"),
    (("sim", "--duration", "nan"), "found 'nan'"),
    (("sim", "--duration", "-5s"), "expected one argument"),
    (("sim", "--seed", "seven"), "expected a whole number of at most 18 digits, found 'seven'"),
    (("sim", "--seed", "1" * 19), "expected a whole number"),
    (("sim", "--seed", "٣"), "expected a whole number"),
    (("sim", "--seed"), "expected one argument"),
    (("sim", "extra\x1b[31m"), "unrecognized arguments: extra;"),
    (("paperr",), "invalid choice: 'paperr'"),
    ((), "the following arguments are required: COMMAND"),
]


@pytest.mark.parametrize(("arguments", "part"), FLAGS, ids=[" ".join(a) for a, _ in FLAGS])
def test_bad_flag_is_one_sentence_and_two(shell: Shell, arguments: tuple[str, ...], part: str) -> None:
    assert shell.tbot(*arguments) == 2
    refused(shell, part)


def refused(shell: Shell, part: str) -> None:
    """One line on stderr, nothing else, nothing begun."""
    assert part in shell.err
    assert shell.err.count("\n") == 1
    assert shell.err[:-1].isprintable()
    assert shell.out == ""
    assert not (shell.folder / "sim.log.jsonl").exists()


SETTINGS = [
    # what is appended to the settings of the repository, a part of the sentence
    ("noise_sahres = 1\n", ": traders.takers.noise_sahres: unknown key, expected noise_shares, found noise_sahres"),
    ("[feed]\nquiet_s = 'x'\n", ": feed.quiet_s: expected float"),
    ("[limits2]\n", ": limits2: unknown key, expected limits, found limits2"),
    ("[latency]\nrequest_ms = [1.0]\n", ": latency.request_ms: expected array of length 2"),
    ("[engine\n", ": syntax error, column"),
    ('"\\u001b[31mred" = 1\n', ": unknown key"),
    ("[[markets]]\nmarket_id = 'm'\nslug = 's'\nyes = 'y'\nno = 'n'\ntick = '0'\n", ": markets[0].tick: expected"),
    ("[[strategies]]\nkind = 'liquidity'\nname = 'a b'\n", ": strategies[1].name: expected str matching regex"),
    ("[[strategies]]\nkind = 'liquidity'\nq_max = '1e9'\n", ": strategies[1].q_max: expected a decimal in quotes"),
    ("[[strategies]]\nkind = 'liquidity'\nq_max = '1000000001'\n", ": strategies[1].q_max: expected at most"),
    ("[[markets]]\nmarket_id = 'm'\nslug = 's'\nyes = 'y'\nno = 'n'\nfee = 1\n", ": markets[0].fee: unknown key"),
]


@pytest.mark.parametrize(("text", "part"), SETTINGS, ids=[part[2:40] for _, part in SETTINGS])
def test_bad_setting_is_named_with_file_and_line(shell: Shell, text: str, part: str) -> None:
    path = shell.config(text)
    assert shell.sim(config=path) == 2
    where, _, rest = shell.err.removeprefix(f"tbot: {path}:").partition(":")
    assert int(where) > len(CONFIG.read_text().splitlines())
    refused(shell, part.removeprefix(": "))
    assert rest


@pytest.mark.parametrize(("name", "part"), [("liquidity", '"liquidity" twice'), ("operator", "the operator's own")])
def test_strategies_that_could_not_be_told_apart_are_refused(shell: Shell, name: str, part: str) -> None:
    path = shell.config(f"[[strategies]]\nkind = 'liquidity'\nname = '{name}'\n")
    assert shell.sim(config=path) == 2
    refused(shell, part)


def test_missing_settings_are_named(shell: Shell) -> None:
    assert shell.sim(config=shell.folder / "none.toml") == 2
    refused(shell, "none.toml: expected a readable settings file, found: No such file or directory")


OUTPUTS = [
    ("no/where.json", "found no folder"),
    (".", "expected a file, found a folder"),
    ("plain/report.json", "found no folder"),
]


@pytest.mark.parametrize(("target", "part"), OUTPUTS, ids=[t for t, _ in OUTPUTS])
def test_output_is_checked_before_the_start(shell: Shell, target: str, part: str) -> None:
    (shell.folder / "plain").touch()
    assert shell.sim("--json", target) == 2
    refused(shell, part)


@pytest.fixture
def state(shell: Shell) -> Path:
    """A state that a run of seed 7 has left."""
    assert shell.sim("--seed", "7", "--state", "st", seconds=2) == 0
    return shell.folder / "st"


def test_state_of_another_seed_is_refused(shell: Shell, state: Path) -> None:
    before = contents(state)
    assert shell.sim("--seed", "8", "--state", "st") == 2
    assert "seed 7" in shell.err
    assert "seed 8" in shell.err
    assert "name another state folder" in shell.err
    assert contents(state) == before


def test_damaged_state_is_refused_and_left_alone(shell: Shell, state: Path) -> None:
    (state / "journal.sqlite").write_bytes(b"SQLite format 3\x00" + b"no more" * 100)
    before = contents(state)
    assert shell.sim("--state", "st") == 2
    assert "journal.sqlite is damaged" in shell.err
    assert contents(state) == before


def test_damaged_exchange_log_is_refused(shell: Shell, state: Path) -> None:
    path = state / "exchange.log"
    data = bytearray(path.read_bytes())
    data[20] ^= 0xFF
    path.write_bytes(data)
    assert shell.sim("--state", "st") == 2
    assert "exchange.log: damaged at byte 0" in shell.err


def test_bot_without_its_exchange_is_refused(shell: Shell, state: Path) -> None:
    (state / "exchange.log").unlink()
    assert shell.sim("--state", "st") == 2
    assert "the exchange's log is missing or empty" in shell.err


def test_exchange_without_its_bot_is_refused(shell: Shell, state: Path) -> None:
    for file in state.glob("journal.sqlite*"):
        file.unlink()
    assert shell.sim("--state", "st") == 2
    assert "the bot's journal is missing or empty" in shell.err


def test_state_in_use_is_refused(shell: Shell, state: Path) -> None:
    running = StateFolder.open(state)
    try:
        assert shell.sim("--state", "st") == 2
        assert "st is in use by another tbot" in shell.err
    finally:
        running.close()


def test_state_that_others_can_read_is_refused(shell: Shell, state: Path) -> None:
    state.chmod(0o755)
    assert shell.sim("--state", "st") == 2
    assert "st can be read or written by other users: run `chmod 700 st`" in shell.err


def test_state_that_is_no_folder_is_refused_and_gets_no_log(shell: Shell) -> None:
    (shell.folder / "st").write_text("mine")
    assert shell.sim("--state", "st") == 2
    assert "st is not a folder" in shell.err
    assert os.listdir(shell.folder) == ["st"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# --- it ran, and something is wrong ----------------------------------------------------------------------------------


class Forgetful(Coordinator):
    """Drops every second fill."""

    def absorb(self, message: Any, now_ns: Nanos) -> None:
        if not (isinstance(message, Fill) and len(self.orders) % 2):
            super().absorb(message, now_ns)

    replay = Coordinator.replay


def test_violation_is_told_and_ends_with_one(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "Plan", partial(Plan, make_coordinator=Forgetful))
    assert shell.sim("--json", "report.json", seconds=60) == 1
    assert "VIOLATION" in shell.out
    assert json.loads((shell.folder / "report.json").read_text())["violations"] != []


def test_bot_that_gives_up_is_told_with_the_summary_and_ends_with_one(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Loop:
        def __init__(self) -> None:
            self.counts: dict[str, int] = {}

        def is_hung(self, task: str) -> bool:
            return False

        def disarm(self) -> None: ...

        async def __call__(self, task: str) -> None:
            if task == "dispatcher":
                raise ZeroDivisionError("planted")

    monkeypatch.setattr(simulation, "_chaos", lambda _: Loop())
    assert shell.sim(seconds=60) == 1
    assert "the bot gave up: RestartLimit: dispatcher: ZeroDivisionError: planted" in shell.out
    assert "dispatcher x5" in shell.out


def test_full_disk_ends_with_one_sentence_and_nothing_left_at_the_exchange(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect: Callable[[str], sqlite3.Connection] = database._connect

    def small(uri: str) -> sqlite3.Connection:
        connection = connect(uri)
        connection.execute("PRAGMA max_page_count = 40")
        return connection

    monkeypatch.setattr(database, "_connect", small)
    assert shell.sim("--state", "st", seconds=120) == 1
    assert "database or disk is full" in shell.out + shell.err
    assert "Traceback" not in shell.err
    log_text = (shell.folder / "st" / "sim.log.jsonl").read_text()
    assert '"left":0' in log_text
    assert '"left":1' not in log_text
    # What was recorded until then is whole, and the next start with more room goes on from it.
    monkeypatch.undo()
    with closing(sqlite3.connect(shell.folder / "st" / "journal.sqlite")) as connection:
        assert connection.execute("PRAGMA quick_check").fetchone() == ("ok",)


# --- text from outside, secrets, readers that leave ------------------------------------------------------------------


def test_market_with_a_nasty_name_never_moves_the_terminal(shell: Shell) -> None:
    market = f'[[markets]]\nmarket_id = "m"\nslug = "{NASTY}"\nyes = "y"\nno = "n"\n'
    assert shell.sim("--seed", "3", seconds=120, config=shell.config(market)) == 0
    said = shell.out + shell.err
    assert "YES of rainyes Audit" in said or "NO of rainyes Audit" in said
    assert all(char == "\n" or char.isprintable() for char in said)
    assert sum(line.startswith("Audit") for line in shell.out.splitlines()) == 1
    assert shell.sim("--json", "-", seconds=120, config=shell.config(market)) == 0
    assert shell.out.isascii()
    assert {p["market"] for p in json.loads(shell.out)["positions"]} == {json.loads(f'"{NASTY}"')}


def test_key_in_the_environment_is_ignored_and_appears_nowhere(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shell.sim("--json", "-") == 0
    without = json.loads(shell.out)["digest"]
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    assert shell.sim("--json", "-", "--state", "st") == 0
    assert json.loads(shell.out)["digest"] == without
    kept = b"".join(path.read_bytes() for path in (shell.folder / "st").iterdir())
    everything = kept + (shell.out + shell.err).encode()
    for value in SECRETS.values():
        raw = value.removeprefix("0x")
        assert raw.encode() not in everything
        if value is KEY:
            assert bytes.fromhex(raw) not in everything


def test_reader_that_leaves_early_changes_nothing(shell: Shell) -> None:
    command = outside("--duration", "20s", "--speed", "max")
    with subprocess.Popen(command, cwd=shell.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"tbot sim:")
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_closed_standard_streams_are_no_place_for_our_files(shell: Shell) -> None:
    command = outside("--duration", "5s", "--speed", "max", "--state", "st", "--json", "r.json")
    closed = subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command], cwd=shell.folder, check=False)
    assert closed.returncode == 0
    assert json.loads((shell.folder / "r.json").read_text())["violations"] == []
    assert b"tbot sim" not in b"".join(contents(shell.folder / "st").values())
