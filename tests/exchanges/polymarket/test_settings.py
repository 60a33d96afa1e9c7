"""How the exchange's own settings are read from a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tbot.config import TradingSettings, load
from tbot.errors import ConfigError

LIVE = Path(__file__).parents[3] / "conf/live.toml"


def naming(folder: Path, *names: str) -> Path:
    path = folder / "live.toml"
    ids = ", ".join(f'"{name}"' for name in names)
    path.write_text(LIVE.read_text().replace("condition_ids = []", f"condition_ids = [{ids}]"))
    return path


def test_a_condition_id_of_the_catalogue_is_made_long(tmp_path: Path) -> None:
    short, long = "0x" + "0180b1da1c43860784710ab55abe08479a" + "0" * 28, "0x" + "ab" * 32
    settings = load(naming(tmp_path, short, long), TradingSettings).exchange
    assert settings.condition_ids == (short + "00", long)


@pytest.mark.parametrize("name", ["0x12", "will-it-rain", "0x" + "ab" * 33, "0x" + "zz" * 32, ""])
def test_what_is_no_condition_id_is_refused_in_words(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="condition_ids: expected 0x and 64 hex digits, or the 62") as refusal:
        load(naming(tmp_path, name), TradingSettings)
    assert f"found {name!r}" in str(refusal.value)
