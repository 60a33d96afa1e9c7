"""What every test starts from: no log line leaves the process unless the test asks for it, and no example is timed."""

from __future__ import annotations

import hypothesis

from tbot import log


def pytest_configure() -> None:
    """Fall silent once; whoever sets logs up in a test closes them, which silences them again."""
    log.silence()
    # A test judges what is done, not how busy the machine is; what hangs is met by faulthandler.
    hypothesis.settings.register_profile("untimed", deadline=None)
    hypothesis.settings.load_profile("untimed")
