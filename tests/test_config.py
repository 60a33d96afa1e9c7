"""Settings files become structs, or one sentence that names file, line, path, what, expected and found."""

from __future__ import annotations

import textwrap
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as gen

from tbot.config import SHIPPED, TradingSettings, describe_file, load, settings_file
from tbot.core.units import MICRO, Notional, Price, Size, text_from_micro
from tbot.errors import ConfigError
from tbot.simulation.settings import SimulationSettings


class Mode(StrEnum):
    REAL = "real"
    MAX = "max"


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the structs of this test."""


class Quoter(Settings, frozen=True, tag="quoter"):
    chase_ticks: Annotated[int, msgspec.Meta(ge=0, le=50)] = 1
    size: Annotated[Size, msgspec.Meta(ge=5 * MICRO)] = Size(5 * MICRO)
    skew: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.5
    edge: Price | None = None


class Taker(Settings, frozen=True, tag="taker"):
    name: str
    style: Literal["calm", "bold"] = "calm"


class Limits(Settings, frozen=True):
    loss_usd_daily: Annotated[Notional, msgspec.Meta(gt=0)]
    steps: tuple[Notional, ...] = ()


class Root(Settings, frozen=True):
    mode: Mode = Mode.REAL
    limits: Limits | None = None
    strategies: tuple[Quoter | Taker, ...] = ()
    by_market: dict[str, Limits] = {}
    pair: tuple[int, str] = (0, "")
    name: str = ""
    tags: frozenset[Annotated[str, msgspec.Meta(max_length=3)]] = frozenset()

    def __post_init__(self) -> None:
        if self.name == "none":
            raise ValueError('Must not be "none"')


GOOD = """
mode = "max"
tags = ["a", "b"]

[limits]
loss_usd_daily = "12.5"
steps = ["0.000001", "1"]

[[strategies]]
type = "quoter"
chase_ticks = 3
size = "7.25"
edge = "0.01"

[[strategies]]
type = "taker"
name = "t"

[by_market.x]
loss_usd_daily = "3"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "sim.toml"
    path.write_text(textwrap.dedent(text))
    return path


def refusal(folder: Path, text: str) -> str:
    path = written(folder, text)
    with pytest.raises(ConfigError) as caught:
        load(path, Root)
    return str(caught.value).removeprefix(f"{path}")


def test_a_file_becomes_the_struct_with_money_in_millionths(tmp_path: Path) -> None:
    assert load(written(tmp_path, GOOD), Root) == Root(
        mode=Mode.MAX,
        tags=frozenset(["a", "b"]),
        limits=Limits(loss_usd_daily=Notional(12_500_000), steps=(Notional(1), Notional(MICRO))),
        strategies=(Quoter(chase_ticks=3, size=Size(7_250_000), edge=Price(10_000)), Taker(name="t")),
        by_market={"x": Limits(loss_usd_daily=Notional(3 * MICRO))},
    )


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    assert load(written(tmp_path, ""), Root) == Root()


ONE_QUOTER = '# why\n\n[[strategies]]\ntype = "quoter"\n'

REFUSALS = {
    "out of range": (ONE_QUOTER + "chase_ticks = 99", ":5: strategies[0].chase_ticks: expected int <= 50, found 99"),
    "wrong type": (ONE_QUOTER + 'chase_ticks = "3"', ':5: strategies[0].chase_ticks: expected int, found "3"'),
    "float for int": (ONE_QUOTER + "chase_ticks = 3.5", ":5: strategies[0].chase_ticks: expected int, found 3.5"),
    "bool for int": (ONE_QUOTER + "chase_ticks = true", ":5: strategies[0].chase_ticks: expected int, found true"),
    "misspelt key": (
        ONE_QUOTER + "chase_tick = 3",
        ":5: strategies[0].chase_tick: unknown key, expected chase_ticks, found chase_tick",
    ),
    "strange key": (
        ONE_QUOTER + "zzz = 3",
        ":5: strategies[0].zzz: unknown key, expected one of type, chase_ticks, size, skew, edge, found zzz",
    ),
    "unknown section": (
        "[zzz]\na = 1",
        ":1: zzz: unknown key, expected one of mode, limits, strategies, by_market, pair, name, tags, found zzz",
    ),
    "missing key": ("\n[limits]\n", ":2: limits.loss_usd_daily: missing, expected a value, found none"),
    "missing type": ("[[strategies]]\nname = 'x'", ":1: strategies[0].type: missing, expected a value, found none"),
    "unknown type": (
        "[[strategies]]\ntype = 'x'",
        ':2: strategies[0].type: expected one of "quoter", "taker", found "x"',
    ),
    "not a table": ("strategies = [3]", ":1: strategies[0]: expected table, found 3"),
    "table for text": ("[mode]\nx = 1", ':1: mode: expected one of "real", "max", found a table'),
    "unknown choice": ("mode = 'fast'", ':1: mode: expected one of "real", "max", found "fast"'),
    "unknown literal": (
        "[[strategies]]\ntype = 'taker'\nname = 'a'\nstyle = 'wild'",
        ':4: strategies[0].style: expected one of "calm", "bold", found "wild"',
    ),
    "money as float": (
        "[limits]\nloss_usd_daily = 12.5",
        ':2: limits.loss_usd_daily: expected a decimal in quotes such as "12.5", found 12.5',
    ),
    "money as int": (
        "[limits]\nloss_usd_daily = 12",
        ':2: limits.loss_usd_daily: expected a decimal in quotes such as "12.5", found 12',
    ),
    "money as words": (
        "[limits]\nloss_usd_daily = '1e3'",
        ':2: limits.loss_usd_daily: expected a decimal in quotes, at most six places, found "1e3"',
    ),
    "money too small": (
        ONE_QUOTER + 'size = "4.5"',
        ':5: strategies[0].size: expected a decimal in quotes >= 5, found "4.5"',
    ),
    "money in a list": (
        "[limits]\nloss_usd_daily = '1'\nsteps = ['1', 2]",
        ':3: limits.steps[1]: expected a decimal in quotes such as "12.5", found 2',
    ),
    "in a free table": (
        "[by_market.a]\nloss_usd_daily = '1'\n[by_market.b]\nloss_usd_daily = '0'",
        ':4: by_market.b.loss_usd_daily: expected a decimal in quotes >= 0.000001, found "0"',
    ),
    "in a set": ("tags = ['a', 'long']", ':1: tags[1]: expected str of length <= 3, found "long"'),
    "fixed pair": ("pair = [1, 2]", ":1: pair[1]: expected str, found 2"),
    "own rule": ('name = "none"', ':1: must not be "none"'),
    "date": ("mode = 2026-01-01", ':1: mode: expected one of "real", "max", found 2026-01-01'),
    "table for a struct without type": ("[limits.steps]", ":1: limits.steps: expected array, found a table"),
    "not finite": (ONE_QUOTER + "skew = nan", ":5: strategies[0].skew: expected a finite number, found nan"),
    "float range": (ONE_QUOTER + "skew = 1.5", ":5: strategies[0].skew: expected float < 1.0, found 1.5"),
    "syntax": ("mode = 'max'\nlimits = \n", ":2: syntax error, column 10: Invalid value"),
    "twice": ("mode = 'max'\nmode = 'real'\n", ":2: syntax error, column 14: Cannot overwrite a value"),
    "unclosed": ("mode = [", ":1: syntax error, column end: Invalid value"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_names_line_path_expected_and_found(tmp_path: Path, case: str) -> None:
    text, message = REFUSALS[case]
    assert refusal(tmp_path, text) == message


DECOY = '[[strategies]]\ntype = "taker"\nname = """\n[[strategies]]\nchase_ticks = 99"""\n'
SAME_FAULT = {
    "inline table": ('\nstrategies = [{type = "quoter", chase_ticks = 99}]', 2),
    "array over lines": ('\n\nstrategies = [\n  # first\n  {type = "quoter", chase_ticks = 99},\n]\n', 3),
    "after text over lines": ('mode = """\nmax"""\n[[strategies]]\ntype = "quoter"\nchase_ticks = 99\n', 5),
    "key inside text": (DECOY + '[[strategies]]\ntype = "quoter"\nchase_ticks = 99', 8),
    "quoted key": ('[["strategies"]]\n"type" = "quoter"\n"chase_ticks" = 99', 3),
    "windows line ends": ('[[strategies]]\r\ntype = "quoter"\r\nchase_ticks = 99\r\n', 3),
    "second of two": ('[[strategies]]\ntype="quoter"\nchase_ticks=1\n[[strategies]]\ntype="quoter"\nchase_ticks=99', 6),
}


@pytest.mark.parametrize("case", SAME_FAULT)
def test_the_line_is_right_however_toml_is_written(tmp_path: Path, case: str) -> None:
    text, line = SAME_FAULT[case]
    path = tmp_path / "sim.toml"
    path.write_bytes(text.encode())
    with pytest.raises(ConfigError, match=rf":{line}: strategies\[\d\]\.chase_ticks: expected int <= 50, found 99$"):
        load(path, Root)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a readable settings file, found: No such file"):
        load(tmp_path / "none.toml", Root)


def test_bytes_that_are_no_text_are_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "sim.toml"
    path.write_bytes(b"mode = '\xff'")
    with pytest.raises(ConfigError, match="expected UTF-8 text, found a stray byte at offset 8"):
        load(path, Root)


def test_unknown_keys_are_refused_even_where_a_struct_itself_would_let_them_pass(tmp_path: Path) -> None:
    class Lax(msgspec.Struct):
        x: int = 0

    with pytest.raises(ConfigError, match=r":1: y: unknown key, expected one of x, found y"):
        load(written(tmp_path, "y = 1"), Lax)


def test_the_settings_in_the_repository_are_good_and_hold_no_secret() -> None:
    conf = Path(__file__).parent.parent / "conf"
    assert load(conf / "sim.toml", SimulationSettings).strategies
    assert [word for path in conf.iterdir() for word in ("key", "secret") if word in path.read_text()] == []


def test_two_strategies_of_one_name_are_refused_for_a_bot_on_the_exchange_too(tmp_path: Path) -> None:
    text = (Path(__file__).parent.parent / "conf/paper.toml").read_text()
    one_more = '[[strategies]]\nkind = "liquidity"\nname = "liquidity"\n\n'
    twice = text.replace("[[strategies]]", one_more + "[[strategies]]", 1)
    with pytest.raises(ConfigError, match='expected strategies of different names, found "liquidity" twice'):
        load(written(tmp_path, twice), TradingSettings)


@given(micro=gen.integers(min_value=1, max_value=10**15))
def test_every_amount_written_is_read_back_exactly(micro: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = written(tmp_path_factory.mktemp("conf"), f'[limits]\nloss_usd_daily = "{text_from_micro(micro)}"')
    limits = load(path, Root).limits
    assert limits is not None
    assert limits.loss_usd_daily == micro


@given(document=gen.text(alphabet="[]{}=\"'\\.#,\n abtypestrategieslimits0123456789-_", max_size=80))
def test_any_text_is_read_or_refused_in_one_sentence(document: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = written(tmp_path_factory.mktemp("conf"), document)
    try:
        load(path, Root)
    except ConfigError as error:
        assert str(error).startswith(f"{path}:")
        assert "\n" not in str(error)


# --- the settings inside the package ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["exchange", "sim"])
def test_package_holds_the_settings_of_conf_and_no_others(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = Path(__file__).parents[1] / "conf"
    assert (SHIPPED / f"{name}.toml").read_bytes() == (conf / f"{name}.toml").read_bytes()
    assert sorted(path.name for path in SHIPPED.iterdir()) == ["exchange.toml", "sim.toml"]
    monkeypatch.chdir(tmp_path)
    assert settings_file(name) == SHIPPED / f"{name}.toml"
    assert "which come with tbot" in describe_file(settings_file(name))


def test_own_settings_are_preferred_and_named_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = Path("conf/sim.toml")
    own.parent.mkdir()
    own.touch()
    assert settings_file("sim") == own
    assert describe_file(own) == "conf/sim.toml"
