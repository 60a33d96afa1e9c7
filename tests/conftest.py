"""What every test starts from: no log line leaves the process unless the test sets logs up itself."""

from __future__ import annotations

from tbot import log


def pytest_configure() -> None:
    """Fall silent once; whoever sets logs up in a test closes them, which silences them again."""
    log.silence()
