"""A stranger's first two commands install exactly what was tested, and the gates that guard the tree do shut."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import tbot

ROOT = Path(__file__).parent.parent
LOCKED = re.compile(
    r"(?P<name>[a-z0-9-]+)(?:\[[a-z0-9,-]+\])?==(?P<version>[^ ;]+)(?: ; (?P<marker>[^\\]+?))? \\?"
    r"(?P<hashes>(?:\s--hash=sha256:[0-9a-f]{64}\s?\\?)+)"
)
# The bot's side of the wire to the local exchange: there the bot's own arithmetic belongs.
BOT_SIDE = ("gateway.py", "translate.py")


def project() -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return table


def direct() -> list[Requirement]:
    return [Requirement(line) for line in [*project()["dependencies"], *project()["optional-dependencies"]["dev"]]]


def lock_text() -> str:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return "\n".join(line for line in lines if not line.startswith("#"))


def locked(text: str) -> dict[str, str]:
    """Names and versions of a lock; raises when any of it is not a pinned and hashed package."""
    entries = [" ".join(entry.split()) for entry in re.split(r"\n(?=\S)", text)]
    parsed = [LOCKED.fullmatch(entry) for entry in entries]
    loose = [entry[:60] for entry, match in zip(entries, parsed, strict=True) if match is None]
    assert not loose, f"not pinned and hashed: {loose}"
    here = [match for match in parsed if match and (match["marker"] is None or Marker(match["marker"]).evaluate())]
    return {match["name"]: match["version"] for match in here}


def unmet(wanted: list[Requirement], lock: dict[str, str]) -> list[str]:
    """The requirements that a lock does not satisfy."""
    return [
        str(need)
        for need in wanted
        if (need.marker is None or need.marker.evaluate({"extra": ""}))
        and not need.specifier.contains(lock.get(canonicalize_name(need.name), "0.dev0"))
    ]


def test_every_locked_package_is_pinned_and_hashed() -> None:
    assert len(locked(lock_text())) > 50


def test_the_lock_satisfies_every_direct_dependency() -> None:
    assert unmet(direct(), locked(lock_text())) == []


def test_the_lock_satisfies_what_its_packages_need_in_turn() -> None:
    lock = locked(lock_text())
    for name in lock:
        needs = [Requirement(line) for line in metadata.requires(name) or []]
        assert unmet(needs, lock) == [], name


def test_the_judge_of_locks_sees_a_missing_an_old_and_an_unhashed_package() -> None:
    lock = locked(lock_text())
    assert unmet([Requirement("trio==0.35.*")], {key: lock[key] for key in lock if key != "trio"}) == ["trio==0.35.*"]
    assert unmet([Requirement("trio==0.35.*")], {**lock, "trio": "0.34.0"}) == ["trio==0.35.*"]
    with pytest.raises(AssertionError, match="not pinned and hashed"):
        locked(lock_text() + "\nextra==1.0\n")


def test_the_lock_names_no_index_so_that_pip_keeps_its_own() -> None:
    assert "://" not in lock_text()
    assert "--index-url" not in lock_text()


def test_trio_is_pinned_to_one_minor_version() -> None:
    # The deterministic simulation seeds the scheduler through a private name of trio.
    (pin,) = [need for need in direct() if need.name == "trio"]
    assert str(pin.specifier) == "==0.35.*"


def test_every_direct_dependency_has_its_reason_on_record() -> None:
    reasons = (ROOT / "docs/decisions/0011-dependencies.md").read_text()
    assert [need.name for need in direct() if f"`{need.name}`" not in reasons] == []


def test_the_installed_version_is_the_one_in_the_source() -> None:
    assert metadata.version("tbot") == tbot.__version__


def readme_commands() -> list[str]:
    return re.findall(r"^python3\.11 .*$", (ROOT / "README.md").read_text(), re.MULTILINE)


def test_the_readme_has_two_commands_and_ci_runs_the_second() -> None:
    sim, test = readme_commands()
    assert sim.endswith(".venv/bin/just setup sim")
    assert test.endswith(".venv/bin/just setup test")
    assert test in (ROOT / ".ci/run").read_text().splitlines()


def test_every_just_recipe_that_the_documents_name_exists() -> None:
    recipes = set(re.findall(r"^([a-z][a-z-]*)[^:\n]*:(?!=)", (ROOT / "justfile").read_text(), re.MULTILINE))
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    named = {name for page in pages for name in re.findall(r"`(?:[.\w/]*/)?just ([a-z-]+)", page.read_text())}
    assert named
    assert sorted(named - recipes) == []


def test_every_link_between_documents_leads_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())]
    assert links
    assert [f"{page.name}: {link}" for page, link in links if not (page.parent / link).exists()] == []


def test_the_local_exchange_takes_only_names_from_market() -> None:
    # Import contracts see modules, not names; the fee formula stands in the same module as the ids.
    for file in sorted((ROOT / "tbot/exchanges/simulated").glob("*.py")):
        if file.name in BOT_SIDE:
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "tbot.core.market":
                assert {alias.name for alias in node.names} <= {"MarketId", "TokenId"}, file.name


SABOTAGE = {
    "core asks the time": ("core/units.py", "import time"),
    "a strategy waits": ("strategies/base.py", "import trio"),
    "the exchange shares our arithmetic": ("exchanges/simulated/matching.py", "import tbot.core.positions"),
    "a task reads the config": ("tasks/clock.py", "import tbot.config"),
    "the gateway knows its test": ("exchanges/polymarket/wire.py", "import tbot.exchanges.simulated.matching"),
    "a module without a place": ("manager.py", ""),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", SABOTAGE)
def test_import_contracts_break_when_a_rule_does(tmp_path: Path, case: str) -> None:
    shutil.copytree(ROOT / "tbot", tmp_path / "tbot")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    name, line = SABOTAGE[case]
    with (tmp_path / "tbot" / name).open("a") as file:
        file.write(f"\n{line}\n")
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command; lint_imports_command()",
        "--no-cache",
    ]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert re.search(r"[1-9] broken", run.stdout), run.stdout + run.stderr
