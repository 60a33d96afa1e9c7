"""The first signal ends a run in order, the second at once; and what a hard stop leaves, the next start picks up."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tbot import app, log
from tbot.cli import main
from tbot.exchanges.simulated.gateway import InProcessGateway
from tbot.simulation.world import World
from tbot.tasks.coordinator import CoordinatorTask
from tbot.tasks.signals import STOP_SIGNALS, STOPPED, STOPPING, StopSignals
from tbot.ui.progress import Progress

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "conf" / "sim.toml"
# Orders rest, and some are filled, a few seconds after the start; a loaded machine takes its time to get there.
TRADING_S = 60.0
ORDERLY_S = 20.0


# --- the handler ------------------------------------------------------------------------------------------------------


class Ended(BaseException):
    """Stands for the end of the process."""


@pytest.fixture(autouse=True)
def _no_exit(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def end(code: int) -> None:
        raise Ended(code)

    monkeypatch.setattr("tbot.tasks.signals.os._exit", end)
    yield
    log.silence()


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_first_signal_asks_and_second_ends(number: signal.Signals, capfd: pytest.CaptureFixture[str]) -> None:
    async def run() -> None:
        event = trio.Event()
        with stops.setting(event):
            signal.raise_signal(number)
            await event.wait()
            with pytest.raises(Ended, match=str(128 + number)):
                signal.raise_signal(number)

    stops = StopSignals()
    with stops.handled():
        trio.run(run)
    assert capfd.readouterr().err == STOPPING + STOPPED


def test_signal_before_the_run_is_remembered() -> None:
    async def run() -> None:
        event = trio.Event()
        with stops.setting(event):
            assert event.is_set()

    stops = StopSignals()
    with stops.handled():
        signal.raise_signal(signal.SIGTERM)
        trio.run(run)


def test_signal_after_the_run_lets_the_report_be_written() -> None:
    async def run() -> None:
        with stops.setting(trio.Event()):
            await trio.lowlevel.checkpoint()

    stops = StopSignals()
    with stops.handled():
        trio.run(run)
        signal.raise_signal(signal.SIGINT)
        assert stops.count == 1


def test_signal_reaches_a_loop_that_is_blocked() -> None:
    async def run() -> None:
        with stops.setting(trio.Event()):
            signal.raise_signal(signal.SIGINT)
            with pytest.raises(Ended):
                signal.raise_signal(signal.SIGTERM)  # and no checkpoint in between
            await trio.lowlevel.checkpoint()

    stops = StopSignals()
    with stops.handled():
        trio.run(run)


def test_closed_stderr_does_not_keep_a_signal_from_working(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> int:
        raise OSError

    async def run() -> None:
        event = trio.Event()
        with stops.setting(event):
            signal.raise_signal(signal.SIGINT)
            await event.wait()

    monkeypatch.setattr("tbot.tasks.signals.os.write", fail)
    stops = StopSignals()
    with stops.handled():
        trio.run(run)


def test_handlers_are_given_back() -> None:
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    with StopSignals().handled():
        assert [signal.getsignal(number) for number in STOP_SIGNALS] != before
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before


# --- a run in virtual time --------------------------------------------------------------------------------------------


def test_signal_ends_a_run_early_and_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Impatient(Progress):
        """Sends a signal when the run is 10 seconds old."""

        def tick(self) -> None:
            self.ticks = getattr(self, "ticks", 0) + 1
            if self.ticks == 10:
                signal.raise_signal(signal.SIGINT)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(app, "Progress", Impatient)
    arguments = ["sim", "--speed", "max", "--duration", "1h", "--config", str(CONFIG), "--json", "-"]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert 10 <= report["duration_s"] <= 10 + ORDERLY_S
    assert report["violations"] == []
    assert report["orders"]["submitted"] > 0
    assert "no violations" in err


def test_signal_stops_a_wedged_bot_within_twenty_seconds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The coordinator hangs and no cancel is answered: what is left is the dead-man switch."""

    async def hang(*_: Any) -> None:
        await trio.sleep_forever()

    class Wedging(Progress):
        """Wedges the desk, then sends the signal."""

        def tick(self) -> None:
            self.ticks = getattr(self, "ticks", 0) + 1
            if self.ticks == 10:
                monkeypatch.setattr(CoordinatorTask, "_turn", hang)
                monkeypatch.setattr(InProcessGateway, "cancel", hang)
                times.append(trio.current_time())
                signal.raise_signal(signal.SIGINT)

    times: list[float] = []
    worlds: list[World] = []
    around = app._before_people

    @asynccontextmanager
    async def watched(world: World, *arguments: Any) -> AsyncIterator[None]:
        async with around(world, *arguments):
            worlds.append(world)
            yield
        times.append(trio.current_time())

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(app, "Progress", Wedging)
    monkeypatch.setattr(app, "_before_people", watched)
    assert main(["sim", "--speed", "max", "--duration", "1h", "--config", str(CONFIG)]) == 1
    asked_at, ended_at = times
    assert ended_at - asked_at <= ORDERLY_S
    (world,) = worlds
    assert world.exchange.open_orders(world.account) == ()


# --- a run over sockets -----------------------------------------------------------------------------------------------


class Run:
    """`tbot sim` at real speed in a process group of its own, as a terminal starts it."""

    def __init__(self, folder: Path, *arguments: str, duration: str = "10m", stdout: int = subprocess.PIPE) -> None:
        command = [sys.executable, "-m", "tbot", "sim", "--seed", "3", "--duration", duration, "--config", str(CONFIG)]
        self.log = folder / "sim.log.jsonl"
        self.process = subprocess.Popen(
            [*command, *arguments],
            cwd=folder,
            stdout=stdout,
            stderr=subprocess.PIPE if stdout == subprocess.PIPE else stdout,
            text=True,
            start_new_session=True,
        )

    def wait_for(self, event: str, count: int = 1) -> None:
        """Wait until the log has an event."""
        deadline = time.monotonic() + TRADING_S
        while not self.log.exists() or self.log.read_text().count(event) < count:
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline, f"{event} never came"
            time.sleep(0.05)

    def signal(self, number: signal.Signals) -> None:
        """Signal the whole group, as Ctrl+C does."""
        os.killpg(self.process.pid, number)

    def end(self) -> tuple[int, str, str, float]:
        """Return exit code, stdout, stderr and the seconds it took."""
        began = time.monotonic()
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err, time.monotonic() - began


@pytest.mark.slow
@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_first_signal_over_sockets_ends_in_order(tmp_path: Path, number: signal.Signals) -> None:
    run = Run(tmp_path, "--json", "report.json")
    run.wait_for("order.submit", 3)
    run.signal(number)
    code, out, err, took_s = run.end()
    assert (code, err) == (0, STOPPING)
    assert "no violations" in out
    assert took_s <= ORDERLY_S
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["violations"] == []
    assert report["orders"]["accepted"] > 0


@pytest.mark.slow
def test_second_signal_is_a_hard_stop_that_the_next_start_recovers_from(tmp_path: Path) -> None:
    for number in STOP_SIGNALS:
        run = Run(tmp_path, "--state", "st")
        run.log = tmp_path / "st" / "sim.log.jsonl"
        seen = run.log.read_text().count("order.submit") if run.log.exists() else 0
        run.wait_for("order.submit", seen + 3)
        run.signal(number)
        time.sleep(0.2)
        run.signal(number)
        code, _, err, took_s = run.end()
        assert code == 128 + number
        assert err == STOPPING + STOPPED
        assert took_s <= 2
    last = Run(tmp_path, "--state", "st", "--json", "-", duration="8s")
    code, out, err, _ = last.end()
    assert code == 0, err
    report = json.loads(out)
    assert report["violations"] == []
    assert report["orders"]["unknown"] > 0  # found resting, and settled by asking


@pytest.mark.slow
def test_signal_during_the_signing_probe_starts_nothing(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert run.process.stdout is not None
    assert run.process.stdout.readline().startswith("tbot sim:")
    run.signal(signal.SIGINT)
    code, _, err, took_s = run.end()
    assert code in (0, 130)  # 0: the probe was just over, so the run began and ended in order
    assert "Traceback" not in err
    assert took_s <= ORDERLY_S
    assert code == 0 or err.endswith("tbot: interrupted before anything was started\n")


@pytest.mark.slow
@pytest.mark.parametrize(("environment", "has_colours"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_terminal_gets_colours_unless_they_are_unwanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], has_colours: bool
) -> None:
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "50", **environment}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    if not environment:
        monkeypatch.delenv("NO_COLOR", raising=False)
    ours, theirs = pty.openpty()
    run = Run(tmp_path, duration="3s", stdout=theirs)
    os.close(theirs)
    said = b"".join(iter(lambda: read(ours), b""))
    os.close(ours)
    assert run.process.wait() == 0
    assert b"no violations" in said
    assert bool(re.search(rb"\x1b\[[0-9;]*3[0-7]", said)) is has_colours


def read(descriptor: int) -> bytes:
    """Read from a terminal whose other side may be gone, which is an error there and an end here."""
    try:
        return os.read(descriptor, 65_536)
    except OSError:
        return b""
