"""`tbot resume`: it tells a halt from the journal alone, and one record later the next start trades."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock

from tbot.cli.main import main
from tbot.commands.live import CONFIRM_DIGITS
from tbot.commands.resume import ResumeOptions, resume
from tbot.core.messages import CancelAll, Halt, Message, Resume
from tbot.core.units import NANOS_PER_S, Nanos, Notional
from tbot.errors import ConfigError
from tbot.exchanges.polymarket.keys import TEST_KEY_HEX, SigningKey
from tbot.exchanges.simulated.operations import SplitPair
from tbot.store.folder import StateFolder
from tbot.store.journal import Store
from tbot.store.rows import RecordRow
from tbot.tasks.coordinator import decode_entry, rebuild_alone
from tbot.tasks.journal import JournalWriter
from tests.commands.test_doctor import nobody
from tests.core.coordinators import LIMITS
from tests.tasks.bot_stage import US, Stage, shares

WALLET = SigningKey.from_hex(TEST_KEY_HEX).address
OWNER = f"wallet {WALLET.lower()} on http://127.0.0.1:1"
ENVIRON = {"TBOT_PRIVATE_KEY": TEST_KEY_HEX}
DIGITS = WALLET[-CONFIRM_DIGITS:]
AT = Nanos(1_790_000_000 * NANOS_PER_S)
HALT = Halt(reason="loss limit: 30 lost, limit 25", at_ns=AT, profit=None)


def opened(folder: Path, owner: str = OWNER) -> Store:
    return Store.open(folder / "state", owner)


def kept(folder: Path, *messages: Message, owner: str = OWNER) -> None:
    """Leave a journal of these messages."""
    with closing(opened(folder, owner)) as store:
        first = store.tail().record_seq + 1
        store.write(
            [
                RecordRow(seq=seq, at_ns=AT, kind=type(message).__name__, payload=msgspec.msgpack.encode(message))
                for seq, message in enumerate(messages, start=first)
            ]
        )


def records(folder: Path, owner: str = OWNER) -> list[object]:
    with closing(opened(folder, owner)) as store:
        return [decode_entry(row.payload) for row in store.records(limit=1_000_000)]


def asked(config: Path, confirm: str | None = DIGITS) -> int:
    return resume(ResumeOptions(config=config, confirm=confirm), ENVIRON)


def test_a_halt_is_told_and_ends_with_one_record_when_it_is_confirmed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = nobody(tmp_path)
    kept(tmp_path, HALT)
    assert asked(config, DIGITS.upper()) == 0
    told = capsys.readouterr().out
    assert f"wallet {WALLET.lower()}" in told
    assert "Halted since 2026-09-21 14:13:20 UTC: loss limit: 30 lost, limit 25." in told
    assert told.endswith("Resumed: the next tbot live trades.\n")
    *_, last = records(tmp_path)
    assert isinstance(last, Resume)
    assert "trading.resumed" in (tmp_path / "state/live.log.jsonl").read_text()
    with pytest.raises(ConfigError, match="nothing is halted"):
        asked(config)


@pytest.mark.parametrize(
    ("profit", "told"),
    [
        (None, "The loss limit counts on: what is lost stays lost."),
        (-30_000_000, "counts from a profit of $-30.00 on."),
    ],
)
def test_the_page_tells_from_where_the_loss_limit_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], profit: int | None, told: str
) -> None:
    config = nobody(tmp_path)
    kept(tmp_path, Halt(reason="it was so", at_ns=AT, profit=None if profit is None else Notional(profit)))
    assert asked(config) == 0
    assert told in capsys.readouterr().out


@pytest.mark.parametrize("confirm", [None, "", "000000", DIGITS[1:]])
def test_without_the_digits_of_the_wallet_it_only_tells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], confirm: str | None
) -> None:
    config = nobody(tmp_path)
    kept(tmp_path, HALT)
    with pytest.raises(ConfigError, match=rf"--confirm: expected the last 6 hex .*{WALLET}.*nothing was changed"):
        asked(config, confirm)
    assert "loss limit: 30 lost" in capsys.readouterr().out
    assert records(tmp_path) == [HALT]


def test_it_refuses_what_is_no_halted_bot_of_ours(tmp_path: Path) -> None:
    config = nobody(tmp_path)
    with pytest.raises(ConfigError, match="nothing is halted: there is no journal"):
        asked(config)
    assert not (tmp_path / "state").exists()
    kept(tmp_path, CancelAll(at_ns=AT))
    with pytest.raises(ConfigError, match="nothing is halted"):
        asked(config)
    kept(tmp_path, HALT)
    with closing(StateFolder.open(tmp_path / "state")), pytest.raises(ConfigError, match="in use by another tbot"):
        asked(config)
    with pytest.raises(ConfigError, match="holds the state of"):
        resume(ResumeOptions(config=config, confirm=DIGITS), {"TBOT_PRIVATE_KEY": "0x" + "11" * 32})
    assert records(tmp_path) == [CancelAll(at_ns=AT), HALT]


def test_paper_is_resumed_without_a_wallet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, owner = nobody(tmp_path), "paper account on http://127.0.0.1:1"
    config.write_text(config.read_text().replace('mode = "live"', 'mode = "paper"'))
    kept(tmp_path, HALT, owner=owner)
    assert resume(ResumeOptions(config=config, confirm=None), {}) == 0
    assert isinstance(records(tmp_path, owner)[-1], Resume)


def test_the_command_line_tells_what_it_lacks_by_exit_code_two(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TBOT_PRIVATE_KEY", TEST_KEY_HEX)
    config = nobody(tmp_path)
    kept(tmp_path, HALT)
    assert main(["resume", "--config", str(config)]) == 2
    assert "found none; nothing was changed" in capsys.readouterr().err
    assert main(["resume", "--config", str(config), "--confirm", DIGITS]) == 0


# --- a whole bot, halted and resumed ----------------------------------------------------------------------------------


@asynccontextmanager
async def living(stage: Stage, folder: Path) -> AsyncIterator[None]:
    """Let the bot of a stage live once more on its folder."""
    stage.store, stage.stop, stage.ended = opened(folder), trio.Event(), trio.Event()
    stage.parts = dataclasses.replace(stage.parts, journal=JournalWriter(stage.store, stage.disk.run))
    with closing(stage.store):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.run)
            await trio.sleep(5)
            yield
            stage.stop.set()
            await stage.ended.wait()
    assert stage.failure is None


def whole(stage: Stage) -> object:
    """Rebuild from the newest checkpoint, and from nothing: both must be the same."""
    newest, nothing = stage.state()
    assert newest == nothing
    return nothing


@pytest.mark.slow
async def test_what_was_missing_is_accepted_once_and_the_bot_trades_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], autojump_clock: MockClock
) -> None:
    config, stage = nobody(tmp_path), Stage()
    async with trio.open_nursery() as nursery:
        await nursery.start(stage.exchange.run)
        async with living(stage, tmp_path):
            stage.hit_our_bids(5)
            await trio.sleep(20)
            stage.exchange.apply(SplitPair(account=US, market_id=stage.rules.market_id, size=shares(7)))
            await trio.sleep(15)
            assert stage.resting() == []
        async with living(stage, tmp_path):  # a restart alone changes nothing
            await trio.sleep(10)
            assert stage.resting() == []
        assert asked(config) == 0
        told = capsys.readouterr().out
        slug = stage.market.slug
        assert f"taken for true: exchange minus ledger is 7 of {slug} YES, 7 of {slug} NO, $-7." in told
        assert [line.split()[-3:] for line in told.splitlines() if line.startswith(f"{slug} YES")] == [
            ["5.00", "12.00", "7.00"]
        ]
        async with living(stage, tmp_path):
            await trio.sleep(5)
            assert len(stage.resting()) == 2
            stage.hit_our_bids(5)
            await trio.sleep(60)
            assert len(stage.resting()) == 2
            whole(stage)
        with closing(opened(tmp_path)) as store:
            account = rebuild_alone(store.tail(), LIMITS).account
        assert account.halt_reason == ""
        assert account.offsets == {stage.rules.yes: 7_000_000, stage.rules.no: 7_000_000, "cash": -7_000_000}
        nursery.cancel_scope.cancel()
