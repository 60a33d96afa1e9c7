"""Bot and exchange as two parts over real sockets, in real time."""

from __future__ import annotations

import pytest

from tbot.simulation.run import Plan, run
from tests.simulation.stage import settings_of


@pytest.mark.slow
def test_bot_trades_over_loopback_and_every_cent_is_accounted_for() -> None:
    report = run(Plan(settings=settings_of(), seed=3, duration_s=20.0, speed="real"))

    assert report.violations == ()
    assert report.fills.maker > 0
    assert report.orders.accepted > 0
    assert report.restarts == {}
