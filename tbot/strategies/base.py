"""What a strategy is: a pure object that says what it would like, and when it wants to be asked again.

A strategy owns no task, no clock and no orders. It is handed what is known and the time, and returns the whole set of
orders it wants; the coordinator decides what may happen. The same object runs live, in simulation and in replay.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from tbot.core.market import Market, MarketId, TokenId
from tbot.core.messages import AccountView, MarketView, Quotes, StrategyName, Take
from tbot.core.risk import RiskLimits
from tbot.core.units import Nanos


class StrategyView(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a strategy may know at one moment; never edited by it.

    Attributes:
        views: Newest view of each market heard of so far.
        accounts: Newest account view of each token heard of so far.
    """

    views: Mapping[MarketId, MarketView]
    accounts: Mapping[TokenId, AccountView]


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What a strategy wants.

    Attributes:
        quotes: The whole set of resting orders of each token named; a token not named keeps its last set until that
            lapses.
        takes: Marketable orders wanted now.
        wake_at_ns: When to ask again if nothing is heard before; later than the moment of asking.
    """

    quotes: tuple[Quotes, ...]
    takes: tuple[Take, ...]
    wake_at_ns: Nanos


class Misfit(msgspec.Struct, frozen=True, kw_only=True):
    """Settings that do not fit the terms of a market.

    Attributes:
        reason: One sentence: which setting, what is expected and why, what was found.
        is_total: Nothing can be quoted there; else only some of what is wanted.
    """

    reason: str
    is_total: bool


class Strategy(Protocol):
    """A pure decision maker, built with its markets and settings.

    Its memory lives in the object and changes only in `decide`: the same calls give the same decisions.
    """

    @property
    def name(self) -> StrategyName:
        """Owner of its orders; unique in the process."""
        ...

    @property
    def market_ids(self) -> tuple[MarketId, ...]:
        """Markets whose views, and whose tokens' account views, it wants."""
        ...

    def misfit(self, market: Market, limits: RiskLimits) -> Misfit | None:
        """Say what of it a market does not take on these terms, within these limits; None = nothing.

        Asked before the start and whenever terms change; what does not fit is not quoted, here it is told.
        """
        ...

    def decide(self, view: StrategyView, now_ns: Nanos) -> Decision:
        """Say what is wanted now. Called on every change of a view and at `wake_at_ns`; cheap, no side effects.

        Args:
            view: What is known; a market or account not heard of yet is missing.
            now_ns: Wall time, never running backwards between calls.
        """
        ...
