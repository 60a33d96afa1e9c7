"""How a market trades, by name: three regimes calibrated on recordings.

- `quiet`: a prop market of a hockey game, an update a second, a trade every half minute (2026-06-07).
- `busy`: the dense market of the same game, thirty updates a second.
- `burst`: a five-minute crypto market in its last minute, some four hundred updates a second (2026-04-21). It costs a
  core of a small machine a good part of itself: for benches and stress, not for long runs.

docs/calibration.md has recordings and ours side by side; tests hold the factor of two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from tbot.exchanges.simulated.fair_value import FairValueSettings
from tbot.exchanges.simulated.traders import MakerSettings, TakerSettings, TicketSettings

RegimeName = Literal["moderate", "quiet", "busy", "burst"]


class Regime(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that makes one market trade as it does."""

    fair: FairValueSettings = FairValueSettings()
    makers: MakerSettings = MakerSettings()
    takers: TakerSettings = TakerSettings()
    tickets: TicketSettings = TicketSettings()


CALIBRATED: Mapping[str, Regime] = {
    "quiet": Regime(
        fair=FairValueSettings(volatility=0.5, news_per_hour=14.0, busy_factor=1.0, is_resolving=True),
        makers=MakerSettings(
            count=2,
            levels=5,
            half_spread_ticks=0.3,
            size_shares=50,
            size_sigma=0.8,
            lag_s=10.0,
            error_ticks=0.05,
            tolerance_ticks=0.5,
            renewals=2,
            pause_s=0.12,
        ),
        takers=TakerSettings(
            noise_per_s=0.02,
            noise_shares=50.0,
            noise_sigma=1.7,
            noise_shares_max=1_500,
            herding=0.1,
            herding_s=3.0,
            noise_slippage_ticks=4,
            informed_per_s=0.02,
            informed_shares=300,
            racers=2,
            chasers_per_s=0.01,
        ),
        tickets=TicketSettings(looks_per_s=0.05, levels=2, wall_shares=3_300, changes=3, pause_s=0.12),
    ),
    "busy": Regime(
        fair=FairValueSettings(volatility=0.8, news_per_hour=90.0, news_size=0.14, busy_factor=1.0, is_resolving=True),
        makers=MakerSettings(
            count=4,
            levels=8,
            half_spread_ticks=0.12,
            size_shares=220,
            size_sigma=1.2,
            lag_s=0.45,
            error_ticks=0.2,
            renewals=2,
            pause_s=0.006,
        ),
        takers=TakerSettings(
            noise_per_s=0.4,
            noise_shares=11.0,
            noise_sigma=2.6,
            noise_shares_max=800,
            herding=0.25,
            herding_s=0.3,
            informed_per_s=1.0,
            informed_shares=1_500,
            reaction_s=(0.02, 0.25),
            racers=6,
        ),
        tickets=TicketSettings(looks_per_s=1.2, wall_shares=11_000, changes=4, pause_s=0.006),
    ),
    "burst": Regime(
        fair=FairValueSettings(volatility=2.0, news_per_hour=60.0, busy_factor=1.0, is_resolving=True),
        makers=MakerSettings(
            count=4,
            levels=3,
            half_spread_ticks=0.0,
            size_shares=170,
            size_sigma=0.5,
            lag_s=0.035,
            error_ticks=0.2,
            renewals=2,
            pause_s=0.0012,
        ),
        takers=TakerSettings(
            noise_per_s=5.5,
            noise_shares=8.0,
            noise_sigma=1.1,
            noise_shares_max=200,
            herding=0.2,
            herding_s=0.03,
            informed_per_s=1.0,
            informed_shares=60,
        ),
        tickets=TicketSettings(looks_per_s=25.0, levels=1, wall_shares=12_300, changes=4, pause_s=0.002),
    ),
}
