"""Settings of `tbot sim`: what conf/sim.toml may say."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from tbot.core.risk import RiskLimits
from tbot.core.units import MICRO, Notional
from tbot.exchanges.simulated.faults import FaultSettings
from tbot.exchanges.simulated.flow import FlowSettings
from tbot.exchanges.simulated.operations import EngineSettings, MarketRules
from tbot.exchanges.simulated.server import ServerSettings
from tbot.exchanges.simulated.settings import DEFAULT_MARKETS
from tbot.exchanges.simulated.transit import LatencySettings
from tbot.strategies.liquidity import LiquiditySettings
from tbot.strategies.roster import check_names
from tbot.tasks.checkpointer import CheckpointSettings
from tbot.tasks.feed_settings import FeedSettings

# Every kind of misfortune often enough to be met in an hour, rare enough that trading goes on.
CHAOS_FAULTS = FaultSettings(
    submit_lost_before=0.004,
    submit_lost_after=0.004,
    submit_late=0.002,
    submit_http_5xx=0.004,
    submit_rate_limited=0.01,
    cancel_lost_before=0.005,
    cancel_lost_after=0.005,
    cancel_rate_limited=0.01,
    report_unavailable=0.05,
    account_drop=0.03,
    account_duplicate=0.05,
    account_delay=0.05,
    settlement_retry=0.03,
    settlement_fail=0.02,
    cuts_per_hour=12.0,
    silences_per_hour=6.0,
    silence_s=20.0,
    batch_partial=0.02,
    restarts_per_hour=1.0,
)


class SimulationSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of conf/sim.toml.

    Attributes:
        cash: The bot's opening collateral, dollars.
        limits: What the bot may risk.
        strategies: Which strategies trade, each on every market.
        feed: The market feed's clocks.
        checkpoint: How often the state is saved.
        latency: Distance to the exchange at `--speed max`.
        markets: What the local exchange lists.
        engine: Its settlement times.
        traders: Its synthetic traders.
        server: Where it listens at `--speed real`; port 0 = any free one.
        chaos: What goes wrong with `--chaos`; nothing without.
    """

    limits: RiskLimits
    strategies: Annotated[tuple[LiquiditySettings, ...], Meta(min_length=1)]
    cash: Annotated[Notional, Meta(gt=0)] = Notional(1_000 * MICRO)
    feed: FeedSettings = FeedSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    latency: LatencySettings = LatencySettings()
    markets: Annotated[tuple[MarketRules, ...], Meta(min_length=1)] = DEFAULT_MARKETS
    engine: EngineSettings = EngineSettings()
    traders: FlowSettings = FlowSettings()
    server: ServerSettings = ServerSettings()
    chaos: FaultSettings = CHAOS_FAULTS

    def __post_init__(self) -> None:
        """Refuse strategies that could not be told apart."""
        check_names(self.strategies)
