"""Estimators shared by strategies: fair value, volatility, imbalance. Floats in dollars; no price is made here."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tbot.core.messages import Level, MarketView
from tbot.core.units import NANOS_PER_S, Nanos, Size, dollars, notional_floor

# Deeper levels tell less of the next trade; halving is the usual choice and no replay has shown a better one yet.
LEVEL_WEIGHTS = (1.0, 0.5, 0.25)


def qualified(levels: Sequence[Level], size_least: Size) -> Sequence[Level]:
    """Skip levels at the top that are too small to mean anything, if a deeper one is large enough.

    Args:
        levels: Best first.
        size_least: Micro-shares a level needs to be taken seriously.

    Returns:
        The levels from the first that qualifies; all of them when none does.
    """
    first = next((n for n, level in enumerate(levels) if level.size >= size_least), 0)
    return levels[first:]


def microprice(bids: Sequence[Level], asks: Sequence[Level]) -> float:
    """Estimate where the next trades center: each price weighted by the size that stands against it.

    Args:
        bids: Best first, at least one.
        asks: Best first, at least one.

    Returns:
        Dollars, between the deepest bid and ask looked at.
    """
    weighted = total = 0.0
    for weight, bid, ask in zip(LEVEL_WEIGHTS, bids, asks, strict=False):
        weighted += weight * (dollars(ask.price) * bid.size + dollars(bid.price) * ask.size)
        total += weight * (bid.size + ask.size)
    return weighted / total


def imbalance(view: MarketView) -> float:
    """Compare the money behind both sides: bids over asks, > 1 when buyers are heavier.

    Shares mislead near 0 and 1, so a side weighs what its owners stand to lose: price x size for bids, (1 - price) x
    size for asks (in YES space).
    """
    bid_money = sum(notional_floor(level.price, level.size) for level in view.bids)
    ask_money = sum(level.size - notional_floor(level.price, level.size) for level in view.asks)
    return bid_money / ask_money if ask_money else math.inf


class Volatility:
    """How far a value wanders: exponentially weighted mean of squared change per second, seen at irregular times."""

    def __init__(self, tau_s: float) -> None:
        """Start calm.

        Args:
            tau_s: Memory; an observation fades by e in this time.
        """
        self._tau_s = tau_s
        self._variance = 0.0
        self._last: tuple[float, Nanos] | None = None

    def observe(self, value: float, at_ns: Nanos) -> None:
        """Take in a value. One that is not later than the last is ignored.

        Args:
            value: Dollars.
            at_ns: When it held.
        """
        if self._last is not None:
            before, before_ns = self._last
            elapsed_s = (at_ns - before_ns) / NANOS_PER_S
            if elapsed_s <= 0:
                return
            share = -math.expm1(-elapsed_s / self._tau_s)
            self._variance += share * ((value - before) ** 2 / elapsed_s - self._variance)
        self._last = (value, at_ns)

    @property
    def sigma(self) -> float:
        """Standard deviation of the change over one second, dollars."""
        return math.sqrt(self._variance)
