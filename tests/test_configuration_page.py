"""The page about settings names every setting of the gateway with its true default, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from tbot.exchanges.polymarket.settings import LimitSettings, PolymarketSettings, TimeoutSettings

PAGE = (Path(__file__).parent.parent / "docs/configuration.md").read_text()
SECTIONS: dict[str, type[msgspec.Struct]] = {
    "### Where and who": PolymarketSettings,
    "### `[timeouts]`": TimeoutSettings,
    "### `[limits]`": LimitSettings,
}


def rows_of(heading: str) -> dict[str, str]:
    """Read a section's table: setting to default, as printed."""
    section = re.split(r"^##", PAGE.split(heading, 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", section, flags=re.MULTILINE))


@pytest.mark.parametrize("heading", SECTIONS)
def test_page_names_every_setting_with_its_default(heading: str) -> None:
    fields = {
        field.name: field.default
        for field in msgspec.structs.fields(SECTIONS[heading])
        if field.name not in ("timeouts", "limits")
    }
    told = rows_of(heading)
    assert set(told) == set(fields)
    for name, default in fields.items():
        if default is msgspec.NODEFAULT:
            assert told[name] == "required"
        elif not isinstance(default, tuple):
            text = '""' if default == "" else str(default)
            assert told[name] == f"`{text}`", name
