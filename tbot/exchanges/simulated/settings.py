"""Settings of the local exchange, and the two markets it lists by default."""

from __future__ import annotations

from typing import Annotated

import msgspec

from tbot.core.market import MarketId, TokenId
from tbot.exchanges.simulated.flow import FlowSettings
from tbot.exchanges.simulated.operations import EngineSettings, MarketRules

DEFAULT_MARKETS = (
    MarketRules(
        market_id=MarketId("0x" + "a1" * 32),
        slug="rain-in-springfield-tomorrow",
        yes=TokenId("7100000000000000000000000000000000000000000000000000000000000000000000000001"),
        no=TokenId("7100000000000000000000000000000000000000000000000000000000000000000000000002"),
        fee_rate_micro=40_000,
    ),
    MarketRules(
        market_id=MarketId("0x" + "b2" * 32),
        slug="comet-returns-this-year",
        yes=TokenId("7200000000000000000000000000000000000000000000000000000000000000000000000001"),
        no=TokenId("7200000000000000000000000000000000000000000000000000000000000000000000000002"),
        fee_rate_micro=50_000,
    ),
)


class AccountSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One account that exists from the start.

    Attributes:
        cash_usd: Collateral in whole dollars.
    """

    name: str
    cash_usd: Annotated[int, msgspec.Meta(ge=0)] = 10_000


class ExchangeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The local exchange.

    Attributes:
        accounts: Accounts with their first deposit, besides those of the synthetic traders.
        flow: Synthetic traders; None = an exchange on which only real callers trade.
        stream_capacity: Events one slow reader may leave waiting. A minute of the busiest regime is about 5,000.
        dead_man_s: Open orders are cancelled when an armed account was not heard for this long.
        sweep_s: How often that is checked.
    """

    markets: tuple[MarketRules, ...] = DEFAULT_MARKETS
    accounts: tuple[AccountSettings, ...] = ()
    engine: EngineSettings = EngineSettings()
    flow: FlowSettings | None = FlowSettings()
    stream_capacity: int = 8_192
    dead_man_s: float = 10.0
    sweep_s: float = 5.0
