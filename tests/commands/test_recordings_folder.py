"""A folder that recordings cannot go to is refused before anything is started, by each command that records."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tbot.cli import main
from tbot.commands.doctor import diagnose
from tbot.commands.live import LiveOptions, trade_live
from tbot.errors import ConfigError
from tbot.exchanges.polymarket.examination import Reach
from tbot.exchanges.polymarket.judgement import Light
from tbot.exchanges.polymarket.keys import TEST_KEY_HEX
from tbot.store.recordings import check_folder, make_folder
from tests.commands.test_doctor import nobody, signs_well
from tests.commands.test_live import KEY, WALLET
from tests.commands.test_live import written as live_settings
from tests.commands.test_paper import written as paper_settings

NOWHERE = {"rest_url": "http://127.0.0.1:9", "ws_market_url": "ws://127.0.0.1:9/", "ws_user_url": "ws://127.0.0.1:9/"}


def a_file(folder: Path) -> tuple[Path, str]:
    (folder / "out").write_text("a file")
    return folder / "out", "written to"


def below_a_file(folder: Path) -> tuple[Path, str]:
    (folder / "out").write_text("a file")
    return folder / "out" / "deep" / "er", "made"


def a_dead_link(folder: Path) -> tuple[Path, str]:
    (folder / "out").symlink_to(folder / "gone")
    return folder / "out", "written to"


def where_nobody_may(_: Path) -> tuple[Path, str]:
    return Path("/proc/tbot"), "made"


def too_long_a_name(folder: Path) -> tuple[Path, str]:
    return folder / ("x" * 300), "made"


BAD = pytest.mark.parametrize("spoil", [a_file, below_a_file, a_dead_link, where_nobody_may])
Spoil = Callable[[Path], tuple[Path, str]]


def with_recorder(path: Path, folder: Path) -> Path:
    path.write_text(f'{path.read_text()}\n[recorder]\nfolder = "{folder}"\n')
    return path


@BAD
def test_record_says_what_is_wrong_with_its_folder(
    spoil: Spoil, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, verb = spoil(tmp_path)
    config = tmp_path / "record.toml"
    urls = "".join(f"{key} = {json.dumps(url)}\n" for key, url in NOWHERE.items())
    config.write_text(f'token_ids = ["1"]\n[exchange]\n{urls}[recorder]\nfolder = "{folder}"\n')
    assert main(["record", "--config", str(config)]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"tbot: recorder.folder: {folder} cannot be {verb} (")
    assert told.endswith("): name one where you may write\n")


@BAD
def test_paper_and_live_begin_nothing(spoil: Spoil, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, verb = spoil(tmp_path)
    paper = with_recorder(paper_settings(tmp_path, NOWHERE), folder)
    assert main(["paper", "--config", str(paper)]) == 2
    assert f"recorder.folder: {folder} cannot be {verb} (" in capsys.readouterr().err
    live = with_recorder(live_settings(tmp_path, NOWHERE), folder)
    with pytest.raises(ConfigError, match=rf"^recorder\.folder: {folder} cannot be {verb} "):
        trade_live(LiveOptions(config=live, confirm=WALLET[-6:], duration_s=1.0), {"TBOT_PRIVATE_KEY": KEY})
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "state").exists()


@BAD
def test_the_doctor_has_a_line_for_it_where_recording_is_asked_for(spoil: Spoil, tmp_path: Path) -> None:
    config, good = nobody(tmp_path), tmp_path / "deep" / "er"

    def lights() -> list[Light]:
        found = diagnose(config, {"TBOT_PRIVATE_KEY": TEST_KEY_HEX}, Reach(probe=signs_well))
        return [each.light for each in found if each.check == "recordings"]

    assert lights() == []
    text = config.read_text()
    with_recorder(config, good)
    assert lights() == [Light.GREEN]
    assert not good.parent.exists(), "nothing is made for the sake of an answer"
    config.write_text(text)
    with_recorder(config, spoil(tmp_path)[0])
    assert lights() == [Light.RED]


def test_a_name_that_only_fails_when_it_is_made_is_refused_at_the_start_too(tmp_path: Path) -> None:
    folder, verb = too_long_a_name(tmp_path)
    with pytest.raises(ConfigError, match=rf"cannot be {verb} \(File name too long\)"):
        make_folder(folder)


def test_a_folder_that_is_there_or_can_be_made_is_taken_and_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_folder(tmp_path)
    check_folder(tmp_path / "deep" / "er")
    monkeypatch.chdir(tmp_path)
    check_folder(Path("recordings"))
    assert list(tmp_path.iterdir()) == []
    make_folder(tmp_path / "deep" / "er")
    assert [each.name for each in tmp_path.rglob("*")] == ["deep", "er"]
