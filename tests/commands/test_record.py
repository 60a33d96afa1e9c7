"""`tbot record` against `tbot exchange`: what is recorded verifies, and a bad start is refused in a sentence."""

import json
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from trio.testing import MockClock

from tbot.cli import main
from tbot.commands.frames import survey
from tbot.commands.record import RecordSettings, tokens_of
from tbot.errors import ConfigError
from tbot.exchanges.polymarket.pipes import stream_transport
from tests.exchanges.polymarket.local import polymarket
from tests.exchanges.polymarket.test_examination import Answer, Tampered, at, never

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


async def asked(tokens: list[str], *, has_market: bool = False, answer: Answer = never) -> tuple[str, ...]:
    async with polymarket() as stage:
        yes, no = stage.market.tokens
        names = tuple({"YES": yes, "NO": no}.get(each, each) for each in tokens)
        exchange = msgspec.structs.replace(
            stage._settings, condition_ids=(stage.market.market_id,) if has_market else ()
        )
        transport = Tampered(stream_transport(stage._piped(stage.server.serve_rest)), answer)
        found = await tokens_of(RecordSettings(token_ids=names, exchange=exchange), transport)
        return tuple({yes: "YES", no: "NO"}.get(each, each) for each in found)


async def test_tokens_that_the_exchange_does_not_have_are_told_and_left_out(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await asked(["YES", "404", "YES", "405"]) == ("YES",)
    told = capsys.readouterr().err
    assert told.startswith("tbot record: token_ids: the exchange has no book of 404 and 1 more;")
    assert (told.count("\n"), told.endswith("; the others are recorded\n")) == (1, True)
    assert await asked(["404"], has_market=True) == ("YES", "NO")
    assert "no book of 404; " in capsys.readouterr().err
    assert await asked(["NO"], has_market=True) == ("NO", "YES")
    assert capsys.readouterr().err == ""


async def test_without_any_token_that_exists_nothing_is_recorded(autojump_clock: MockClock) -> None:
    refusal = pytest.RaisesExc(
        ConfigError, match=r"^token_ids: the exchange has no book of 404 and 1 more; `tbot markets"
    )
    with pytest.RaisesGroup(refusal, flatten_subgroups=True):
        await asked(["404", "405"])


async def test_tokens_that_nobody_can_check_are_recorded(autojump_clock: MockClock) -> None:
    assert await asked(["YES", "404"], answer=at("/books", {"error": "down"}, 503)) == ("YES", "404")


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
                f'token_ids = ["404", "{token}"]\n[exchange]\ncondition_ids = ["{by_id}"]\nslugs = ["{slug}"]\n'
                + "".join(f'{key} = "{value}"\n' for key, value in where.items())
                + f'[recorder]\nfolder = "{tmp_path / "out"}"\n'
            )
            record = [*command, "record", "--config", str(config), "--duration", "6s"]
            done = subprocess.run(record, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        finally:
            exchange.terminate()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tbot record: token_ids: the exchange has no book of 404; `tbot markets show`" in done.stderr
    reports = [survey(path) for path in (tmp_path / "out").iterdir()]
    assert sum(report.assets for report in reports) == 6
    assert sum(report.decode_errors for report in reports) == 0
    assert sum(report.increments for report in reports) > 0
    assert all(report.hash_verified == report.increments for report in reports)
    assert all(report.snapshots_equal == report.snapshots for report in reports)
