"""The settings file of `tbot exchange` names every setting there is, each with its true default."""

from __future__ import annotations

import re
import tomllib
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tbot.config import load
from tbot.exchanges.simulated.standalone import StandaloneSettings

FILE = Path(__file__).parents[3] / "conf/exchange.toml"
TEXT = FILE.read_text()
DEFAULT = re.compile(r"^#(?=\w+ = )", flags=re.MULTILINE)
EXAMPLE = re.compile(r"^#   (?=\w+ = |\[\[)", flags=re.MULTILINE)
WITH_DEFAULTS = DEFAULT.sub("", TEXT)
# A payout is of a closed market, and by default one is open.
WITH_ALL = EXAMPLE.sub("", WITH_DEFAULTS).replace("is_accepting_orders = true", "is_accepting_orders = false")


def inner(kind: Any) -> Iterator[type[msgspec.Struct]]:
    """The structs within a type: of a tuple, of an option, of an annotation."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind
    for part in typing.get_args(kind):
        yield from inner(part)


def settings(root: type[msgspec.Struct], path: str = "") -> Iterator[tuple[str, bool]]:
    """Every setting by its dotted name, and whether it has a default that a file can say."""
    for field in msgspec.structs.fields(root):
        name = f"{path}{field.encode_name}"
        structs = list(inner(field.type))
        if not structs:
            yield name, field.default is not None and not field.required
        for struct in structs:
            yield from settings(struct, f"{name}.")


def named(table: dict[str, Any], path: str = "") -> Iterator[str]:
    """Every setting that a document names, entries of a list taken together."""
    for key, value in table.items():
        entries = value if isinstance(value, list) and value and isinstance(value[0], dict) else [value]
        for entry in entries:
            if isinstance(entry, dict) and entry:
                yield from named(entry, f"{path}{key}.")
            else:
                yield f"{path}{key}"


def objections(text: str, root: type[msgspec.Struct]) -> list[str]:
    """What a file fails to name, and what it names that is none."""
    told = set(named(tomllib.loads(EXAMPLE.sub("", DEFAULT.sub("", text)))))
    there = {name for name, _ in settings(root)}
    return sorted([f"missing {name}" for name in there - told] + [f"unknown {name}" for name in told - there])


def test_every_setting_is_named_and_no_other() -> None:
    assert objections(TEXT, StandaloneSettings) == []


def test_every_default_is_the_true_one(tmp_path: Path) -> None:
    path = tmp_path / "exchange.toml"
    path.write_text(WITH_DEFAULTS)
    assert load(path, StandaloneSettings) == load(FILE, StandaloneSettings)


def test_every_example_is_one_that_can_be_used(tmp_path: Path) -> None:
    path = tmp_path / "exchange.toml"
    path.write_text(WITH_ALL)
    assert load(path, StandaloneSettings) != load(FILE, StandaloneSettings)


def test_only_what_has_no_default_is_an_example() -> None:
    shown = set(named(tomllib.loads(WITH_DEFAULTS)))
    assert {name for name, has_default in settings(StandaloneSettings) if has_default} - shown == {
        "faults.script.at_s",  # of entries there are none
        "faults.script.target",
    }


def test_every_default_is_explained() -> None:
    lines = [line for line in TEXT.splitlines() if DEFAULT.match(line)]
    assert len(lines) > 100
    assert [line for line in lines if not re.search(r"\S +# \S+ \S+", line)] == []


def test_no_struct_of_it_takes_a_setting_that_is_none() -> None:
    def structs(root: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
        yield root
        for field in msgspec.structs.fields(root):
            for struct in inner(field.type):
                yield from structs(struct)

    lenient = {struct.__name__ for struct in structs(StandaloneSettings) if not forbids(struct)}
    assert lenient == set()


def forbids(struct: type[msgspec.Struct]) -> bool:
    return struct.__struct_config__.forbid_unknown_fields


@pytest.mark.parametrize(
    ("line", "without"),
    [
        ("#self_trade = ", "missing engine.self_trade"),
        ("#looks_per_s = ", "missing traders.tickets.looks_per_s"),
        ("#size_min = ", "missing markets.size_min"),
        ("#   count = ", "missing faults.script.count"),
        ("ws_port = ", "missing server.ws_port"),
    ],
)
def test_a_line_taken_away_is_missed(line: str, without: str) -> None:
    (found,) = [each for each in TEXT.splitlines(keepends=True) if each.startswith(line)]
    assert objections(TEXT.replace(found, ""), StandaloneSettings) == [without]
    strange = TEXT.replace(found, found + re.sub(r"\w+ =", "no_such_thing =", found))
    assert objections(strange, StandaloneSettings) == [f"unknown {without.split()[1].rpartition('.')[0]}.no_such_thing"]
