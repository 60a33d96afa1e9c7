"""The crowd trades like the recorded markets, within a factor of two, and several regimes stand side by side."""

from __future__ import annotations

from collections import Counter

import pytest

from bench import calibration
from bench.calibration import SIMULATED_S, burst_capture, crowd, facts
from tbot.core.units import MICRO, Nanos
from tbot.exchanges.simulated.events import LevelsChanged
from tbot.exchanges.simulated.flow import Flow, FlowSettings
from tbot.exchanges.simulated.matching import Engine
from tbot.exchanges.simulated.operations import OpenMarket
from tbot.exchanges.simulated.regimes import RegimeName
from tbot.exchanges.simulated.settings import DEFAULT_MARKETS
from tests.captures import needs

FACTOR = 2.0


def strays(regime: RegimeName, *, seed: int) -> list[str]:
    """List every quantile that is more than a factor of two away from the recorded one."""
    ours = crowd(regime, seed=seed).table()
    found = []
    for what, recorded in facts()[regime].items():
        for name, real, synthetic in zip(("p50", "p90"), recorded, ours[what], strict=True):
            if not real / FACTOR <= synthetic <= real * FACTOR:
                found.append(f"{regime}: {name} of {what} is {synthetic:g}, recorded {real:g}")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("regime", list(SIMULATED_S))
@pytest.mark.parametrize("seed", [1, 2])
def test_p50_and_p90_are_within_a_factor_of_two_of_the_recording(regime: RegimeName, seed: int) -> None:
    assert strays(regime, seed=seed) == []


@pytest.mark.slow
def test_another_regime_than_the_recorded_one_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    swapped = {**facts(), "quiet": facts()["busy"]}
    monkeypatch.setattr(f"{__name__}.facts", lambda: swapped)
    assert any("update gap" in stray for stray in strays("quiet", seed=1))


@pytest.mark.slow
@needs(calibration.BURST)
def test_the_facts_are_what_the_recording_says() -> None:
    measured = burst_capture().table()
    for what, (p50, p90) in facts()["burst"].items():
        assert measured[what] == pytest.approx((p50, p90), rel=0.01), what


def test_regimes_go_to_markets_by_turns() -> None:
    quiet, busy = DEFAULT_MARKETS
    engine = Engine()
    flow = Flow.seeded(5, FlowSettings(regimes=("quiet", "busy")), DEFAULT_MARKETS)
    for operation in (*(OpenMarket(rules=rules) for rules in DEFAULT_MARKETS), *flow.opening()):
        engine.apply(operation, Nanos(1))
    updates: Counter[str] = Counter()
    while flow.next_ns < 10 * 1_000_000_000:
        now_ns = Nanos(max(flow.next_ns, 1))
        for operation in flow.step(engine, now_ns):
            updates.update(e.market_id for e in engine.apply(operation, now_ns)[1] if isinstance(e, LevelsChanged))
    bid, ask = engine.book(quiet.yes), engine.book(busy.yes)
    assert len(bid.bids) >= 4
    assert max(level.size for level in ask.bids) > 10_000 * MICRO
    assert updates[busy.market_id] > 3 * updates[quiet.market_id] > 0
