"""A run longer than the ledger remembers single trades: what is told again is not booked again."""

from __future__ import annotations

import pytest

from tbot.core import account
from tbot.core.units import NANOS_PER_S
from tbot.simulation import audit
from tests.simulation.stage import judged, plan_of, with_strikes


@pytest.mark.slow
def test_desk_that_starts_anew_late_books_no_forgotten_trade_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    # An hour in a minute, so that the test takes a second; for the judge's replay as well.
    monkeypatch.setattr(account, "REMEMBER_NS", 60 * NANOS_PER_S)
    monkeypatch.setattr(account, "REMEMBER_BEFORE_REPORT_NS", 10 * NANOS_PER_S)
    monkeypatch.setattr(account, "CLOCK_SKEW_NS", NANOS_PER_S)
    monkeypatch.setattr(audit, "REMEMBERED_NS", 50 * NANOS_PER_S)

    # The new reconciler asks for everything since the process began.
    report = judged(plan_of(duration_s=180.0), with_strikes((150.0, "coordinator")))

    assert report.violations == ()
    assert report.restarts == {"coordinator": 1}
