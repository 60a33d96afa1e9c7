"""Where recordings of the real exchange are, for the tests that need them.

They are large and not ours to publish, so the repository has none: `TBOT_CAPTURES`, or else a folder
`shared/data/polymarket` beside the repository, may have them.
"""

from __future__ import annotations

import pytest

from bench.calibration import CAPTURES

__all__ = ["CAPTURES", "needs"]


def needs(*names: str) -> pytest.MarkDecorator:
    """Skip a test, and say why, unless all these files or folders of the recordings are there."""
    missing = [name for name in names if not (CAPTURES / name).exists()]
    return pytest.mark.skipif(
        bool(missing),
        reason=f"no recordings: neither TBOT_CAPTURES nor ../shared/data/polymarket has {', '.join(missing[:1])}",
    )
