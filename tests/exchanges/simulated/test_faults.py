"""The dice: rates, independence, counting, and silence when nothing is asked for."""

from __future__ import annotations

import pytest

from tbot.core.units import NANOS_PER_S, Nanos
from tbot.exchanges.simulated.fault_catalogue import Draw, Fault, by_draw
from tbot.exchanges.simulated.faults import Faults, FaultSettings
from tbot.exchanges.simulated.operations import Course

START = Nanos(1_790_000_000 * NANOS_PER_S)
EVERYTHING = FaultSettings(
    submit_lost_before=0.1,
    submit_lost_after=0.1,
    submit_late=0.1,
    submit_http_5xx=0.1,
    submit_rate_limited=0.1,
    cancel_lost_before=0.2,
    cancel_lost_after=0.2,
    cancel_rate_limited=0.2,
    report_unavailable=0.3,
    account_drop=0.1,
    account_duplicate=0.1,
    account_delay=0.1,
    market_drop=0.1,
    settlement_retry=0.2,
    settlement_fail=0.1,
    cuts_per_hour=6,
    silences_per_hour=6,
)


def test_nothing_goes_wrong_by_default() -> None:
    faults = Faults(FaultSettings(), seed=1)
    faults.begin(START)
    for _ in range(50):
        assert faults.on_submit() is faults.on_cancel() is faults.on_account_event() is None
        assert not any([faults.on_report(), faults.on_market_event(), faults.on_frame(), faults.on_heartbeat("key")])
        assert faults.on_settlement() is Course.CONFIRM
    assert faults.next_ns() is None
    assert faults.faults_injected == {}


def test_every_kind_of_fault_happens_at_about_its_rate_and_is_counted() -> None:
    faults = Faults(EVERYTHING, seed=3)
    submits = [faults.on_submit() for _ in range(4_000)]
    cancels = [faults.on_cancel() for _ in range(4_000)]
    courses = [faults.on_settlement() for _ in range(4_000)]
    lost = [*(f for f in by_draw(Draw.SUBMIT) if f is not Fault.TICK_CHANGE_IN_FLIGHT), *by_draw(Draw.CANCEL)]
    for fault in lost:
        assert (submits + cancels).count(fault) == pytest.approx(800 if fault in cancels else 400, rel=0.2)
        assert faults.faults_injected[fault] == (submits + cancels).count(fault)
    assert submits.count(None) == pytest.approx(2_000, rel=0.2)
    assert courses.count(Course.FAIL) == pytest.approx(400, rel=0.2)


def test_the_same_seed_decides_the_same_and_another_differently() -> None:
    first, again, other = (Faults(EVERYTHING, seed=seed) for seed in (5, 5, 6))
    drawn = [[f.on_submit() for _ in range(50)] for f in (first, again, other)]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


def test_one_kind_of_decision_does_not_change_another() -> None:
    alone, busy = Faults(EVERYTHING, seed=5), Faults(EVERYTHING, seed=5)
    for _ in range(17):
        busy.on_account_event()
        busy.on_report()
    assert [alone.on_submit() for _ in range(50)] == [busy.on_submit() for _ in range(50)]


def test_cuts_come_at_their_rate_and_always_later() -> None:
    faults = Faults(EVERYTHING, seed=2)
    now, cuts = START, 0
    faults.begin(now)
    while now < START + 100 * 3600 * NANOS_PER_S:
        due = faults.next_ns()
        assert due is not None
        assert due > now
        now = due
        cuts += [order.name for order in faults.due(now)].count(Fault.CONNECTION_CUT)
    assert cuts == pytest.approx(600, rel=0.15)


def test_delays_stay_within_their_bounds() -> None:
    faults = Faults(EVERYTHING, seed=2)
    delays = [faults.event_delay_ns() for _ in range(100)]
    assert 0.3 * NANOS_PER_S <= min(delays) <= max(delays) <= 3 * NANOS_PER_S
