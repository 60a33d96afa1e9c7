"""conf/sim.toml: it loads, means what it says, and no knob in it is dead."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tbot.config import load
from tbot.core.risk import RiskLimits
from tbot.core.units import MICRO
from tbot.errors import ConfigError
from tbot.exchanges.simulated.operations import MarketRules
from tbot.simulation import run as simulation
from tbot.simulation.chaos import Chaos, Strike
from tbot.simulation.run import Plan, run
from tbot.simulation.settings import SimulationSettings
from tbot.strategies.liquidity import LiquiditySettings

CONFIG = Path(__file__).parents[1] / "conf" / "sim.toml"
CONF = load(CONFIG, SimulationSettings)
change = msgspec.structs.replace


def with_strategy(**knobs: Any) -> SimulationSettings:
    return change(CONF, strategies=(change(CONF.strategies[0], **knobs),))


def with_limits(**limits: Any) -> SimulationSettings:
    return change(CONF, limits=change(CONF.limits, **limits))


# --- the file ---------------------------------------------------------------------------------------------------------


def test_file_means_what_it_says() -> None:
    document = tomllib.loads(CONFIG.read_text())
    (strategy,) = CONF.strategies
    assert int(document["cash"]) * MICRO == CONF.cash
    for key, value in document["limits"].items():
        assert getattr(CONF.limits, key) == (round(float(value) * MICRO) if isinstance(value, str) else value)
    for key in document["strategies"][0].keys() - {"kind"}:
        value = document["strategies"][0][key]
        is_money = isinstance(value, str) and key != "name"
        assert getattr(strategy, key) == (round(float(value) * MICRO) if is_money else value)
    assert CONF.traders.takers.noise_per_s == document["traders"]["takers"]["noise_per_s"]


def test_every_key_of_the_file_differs_from_its_default_or_has_none() -> None:
    """A line that repeats a default is a line to read and keep in step for nothing; names stand for themselves."""
    defaults = LiquiditySettings()
    written = tomllib.loads(CONFIG.read_text())["strategies"][0]
    repeated = [
        key for key in written if hasattr(defaults, key) and getattr(CONF.strategies[0], key) == getattr(defaults, key)
    ]
    assert set(repeated) <= {"name", "base_size"}  # the two that a reader looks for first


def test_limits_fit_the_strategy() -> None:
    """A strategy whose quotes are refused by the limits trades nothing, and says so nowhere."""
    (strategy,) = CONF.strategies
    largest = strategy.base_size * strategy.layer_growth ** (strategy.layers - 1) * 1.5
    assert largest <= CONF.limits.order_size_max
    assert strategy.q_max <= CONF.limits.position_size_max
    assert CONF.limits.exposure_max <= CONF.cash
    assert len(CONF.markets) * 4 * strategy.layers <= CONF.limits.open_orders_max


# --- ranges -----------------------------------------------------------------------------------------------------------

OUT_OF_RANGE: list[tuple[type[msgspec.Struct], str, Any]] = [
    (RiskLimits, "order_size_max", 0),
    (RiskLimits, "position_size_max", -1),
    (RiskLimits, "exposure_max", 0),
    (RiskLimits, "collar", -1),
    (RiskLimits, "collar", MICRO),
    (RiskLimits, "loss_max", 0),
    (RiskLimits, "open_orders_max", 0),
    (RiskLimits, "open_orders_max", 1_001),
    (RiskLimits, "unheard_of", 1),
    (MarketRules, "market_id", ""),
    (MarketRules, "slug", ""),
    (MarketRules, "slug", "x" * 201),
    (MarketRules, "yes", ""),
    (MarketRules, "no", "y"),
    (MarketRules, "tick", 0),
    (MarketRules, "tick", 30_000),
    (MarketRules, "tick", MICRO),
    (MarketRules, "size_min", 0),
    (MarketRules, "notional_min", -1),
    (MarketRules, "fee_rate_micro", -1),
    (MarketRules, "fee_rate_micro", MICRO + 1),
    (MarketRules, "fee_exponent", 5),
    (MarketRules, "unheard_of", 1),
]
GOOD: dict[type[msgspec.Struct], dict[str, Any]] = {
    RiskLimits: msgspec.to_builtins(CONF.limits),
    MarketRules: {"market_id": "m", "slug": "s", "yes": "y", "no": "n"},
}


@pytest.mark.parametrize(("kind", "field", "value"), OUT_OF_RANGE, ids=[f"{f}={v}"[:30] for _, f, v in OUT_OF_RANGE])
def test_out_of_range_is_refused(kind: type[msgspec.Struct], field: str, value: Any) -> None:
    msgspec.convert(GOOD[kind], kind)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(GOOD[kind] | {field: value}, kind)


def test_loss_limit_cannot_be_switched_off(tmp_path: Path) -> None:
    path = tmp_path / "sim.toml"
    path.write_text(CONFIG.read_text().replace('loss_max = "100"', 'loss_max = "0"'))
    with pytest.raises(ConfigError, match=r"limits.loss_max: expected a decimal in quotes >= 0.000001, found \"0\""):
        load(path, SimulationSettings)


# --- knobs ------------------------------------------------------------------------------------------------------------

# A crowd that drives inventory to where exits are considered, for the knobs that only then mean something.
EXITS = {
    "q_max": 40 * MICRO,
    "soft_cap": 0.25,
    "exit_share": 0.5,
    "exit_loss_ticks": 0,
    "hold_s": 0.5,
    "cool_down_s": 1.0,
}
SEEDS = (7, 1, 3, 4, 5)
# What differs from the settings of the file, or from those with `EXITS`.
KNOBS: dict[str, Any] = {
    "name": "other",
    "base_size": 25 * MICRO,
    "layers": 3,
    "layer_growth": 2.0,
    "step_ticks": 3,
    "chase_ticks": 0,
    "min_edge_ticks": 3,
    "delta_min_ticks": 4,
    "c_sigma": 6.0,
    "gamma": 5.0,
    "kappa_ticks": 5,
    "max_improve_ticks": 0,
    "q_max": 60 * MICRO,
    "soft_cap": 0.3,
    "size_qualified": 200 * MICRO,
    "price_min": 450_000,
    "price_max": 500_000,
    "volatility_tau_s": 60.0,
    "refresh_ms": 900,
}
EXIT_KNOBS: dict[str, Any] = {
    "exit_share": 0.9,
    "exit_loss_ticks": 3,
    "hold_s": 3.0,
    "cool_down_s": 60.0,
    "close_slippage": 0.0,
    "close_slippage_ticks": 0,
}
IMBALANCE = "exit_imbalance"
# Quotes lapse only when they are not renewed: a strategy hangs.
HANG_KNOBS: dict[str, Any] = {"quotes_valid_ms": 1_000}
LIMITS: dict[str, Any] = {
    "order_size_max": 25 * MICRO,
    "position_size_max": 25 * MICRO,
    "exposure_max": 20 * MICRO,
    "loss_max": 1,
    "open_orders_max": 3,
    "order_life_s": 200,
}


def test_every_knob_of_the_strategy_is_tried() -> None:
    assert sorted([*KNOBS, *EXIT_KNOBS, IMBALANCE, *HANG_KNOBS]) == sorted(LiquiditySettings.__struct_fields__)
    assert sorted([*LIMITS, "collar"]) == sorted(RiskLimits.__struct_fields__)


def digest(settings: SimulationSettings, seed: int) -> str:
    return _digest(msgspec.msgpack.encode(settings), seed)


@cache
def _digest(settings: bytes, seed: int) -> str:
    # Settings hold dicts, which cannot be keys of a cache; their bytes can.
    decoded = msgspec.msgpack.decode(settings, type=SimulationSettings)
    report = run(Plan(settings=decoded, seed=seed, duration_s=120.0, speed="max"))
    assert report.violations == ()
    return report.digest


def differ(one: SimulationSettings, other: SimulationSettings) -> bool:
    """Tell whether some evening tells the two apart; a knob of exits needs one on which there is something to exit."""
    return any(digest(one, seed) != digest(other, seed) for seed in SEEDS)


@pytest.mark.slow
@pytest.mark.parametrize(("knob", "value"), KNOBS.items(), ids=KNOBS)
def test_knob_changes_what_the_bot_does(knob: str, value: Any) -> None:
    assert differ(CONF, with_strategy(**{knob: value}))


@pytest.mark.slow
@pytest.mark.parametrize(("knob", "value"), EXIT_KNOBS.items(), ids=EXIT_KNOBS)
def test_exit_knob_changes_what_the_bot_does(knob: str, value: Any) -> None:
    assert differ(with_strategy(**EXITS), with_strategy(**EXITS | {knob: value}))


@pytest.mark.slow
def test_imbalance_knob_changes_what_the_bot_does() -> None:
    by_imbalance = EXITS | {"exit_loss_ticks": 50}
    assert differ(
        with_strategy(**by_imbalance, exit_imbalance=50.0), with_strategy(**by_imbalance, exit_imbalance=1.05)
    )


@pytest.mark.slow
def test_life_of_quotes_changes_what_becomes_of_those_of_a_hung_strategy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "_chaos", lambda _: Chaos([Strike(at_s=30.0, task="liquidity", is_wedge=True)]))
    plan = Plan(settings=CONF, seed=7, duration_s=60.0, speed="max")
    assert run(plan).digest != run(change(plan, settings=with_strategy(**HANG_KNOBS))).digest


@pytest.mark.slow
@pytest.mark.parametrize(("limit", "value"), LIMITS.items(), ids=LIMITS)
def test_limit_changes_what_the_bot_does(limit: str, value: Any) -> None:
    assert differ(CONF, with_limits(**{limit: value}))


@pytest.mark.slow
def test_collar_refuses_exits_that_reach_too_deep() -> None:
    exits = with_strategy(**EXITS)
    assert differ(exits, change(exits, limits=change(exits.limits, collar=0)))
