"""The latent fair value of one market: what nobody sees, informed traders know, and rival makers learn late.

A random walk in log-odds, so that it never leaves (0, 1), with news jumps. Regimes alternate between quiet and busy;
in a busy one everything happens more often.

Where it goes in the long run is a choice. A market that `is_resolving` has an outcome, drawn by its first price, and
all news is evidence of it: a step of variance v in log-odds has mean +v/2 when YES will win, -v/2 when NO. That is how
a Bayesian's odds move, so the price stays a martingale to whoever does not know the outcome (no rule on past
prices earns from the drift) and still ends where it must. A market far from its end is pulled weakly to where it began
instead, so that a long run stays tradable.
"""

from __future__ import annotations

import math
import random
from typing import Annotated

import msgspec

from tbot.core.units import NANOS_PER_S, Nanos

LOGIT_MAX = 2.6
"""Fair values stay within about 0.07 and 0.93: nearer the edges real markets change their tick."""

Positive = Annotated[float, msgspec.Meta(gt=0)]


class FairValueSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the fair value of a market moves.

    Attributes:
        starts: First fair values in dollars, one a market, repeated when there are more markets.
        volatility: Standard deviation in log-odds over an hour; 0.4 at a price of 0.50 is 10 cents.
        reversion_per_hour: Share of the distance to the start that is pulled back in an hour.
        news_per_hour: Jumps an hour and market.
        news_size: Standard deviation of a jump in log-odds; 0.25 at 0.50 is 6 cents.
        quiet_s: Mean length of a quiet regime.
        busy_s: Mean length of a busy regime.
        busy_factor: How much more often things happen in a busy regime.
        is_resolving: Drift towards an outcome drawn at the start, instead of back to the start.
    """

    starts: tuple[Annotated[float, msgspec.Meta(gt=0.07, lt=0.93)], ...] = (0.44, 0.61)
    volatility: float = 0.4
    reversion_per_hour: float = 0.5
    news_per_hour: Positive = 30.0
    news_size: float = 0.25
    quiet_s: Positive = 600.0
    busy_s: Positive = 120.0
    busy_factor: Positive = 2.5
    is_resolving: bool = False


class FairValue:
    """The fair value of one market over time.

    Args:
        settings: How it moves.
        start: First value in dollars.
        rng: Its own generator.
    """

    def __init__(self, settings: FairValueSettings, *, start: float, rng: random.Random) -> None:
        self._settings = settings
        self._rng = rng
        self._home = logit(start)
        # Drawn only where it matters: a seed keeps its meaning in all other markets.
        self.is_yes = settings.is_resolving and rng.random() < start
        self._logit = self._home
        self._at_ns: Nanos | None = None
        self._regime_ends_ns = Nanos(0)
        self.is_busy = False

    @property
    def price(self) -> float:
        """Dollars for one YES share."""
        return 1.0 / (1.0 + math.exp(-self._logit))

    @property
    def pace(self) -> float:
        """How much more often than in a quiet regime things happen now."""
        return self._settings.busy_factor if self.is_busy else 1.0

    def adopt(self, price: float) -> None:
        """Go on from a price found on the book: the exchange was restarted under its traders."""
        self._logit = _clamp(logit(price))

    def advance(self, now_ns: Nanos) -> None:
        """Walk on to a moment."""
        if self._at_ns is None:
            self._at_ns = now_ns
        hours = (now_ns - self._at_ns) / NANOS_PER_S / 3600
        self._at_ns = now_ns
        if now_ns >= self._regime_ends_ns:
            self._change_regime(now_ns)
        deviation = self._settings.volatility * math.sqrt(hours * self.pace)
        self._move(deviation, pull=self._pull(hours))

    def jump(self) -> None:
        """Take in a piece of news."""
        self._move(self._settings.news_size)

    def _pull(self, hours: float) -> float:
        if self._settings.is_resolving:
            return 0.0
        return (self._home - self._logit) * min(1.0, self._settings.reversion_per_hour * hours)

    def _move(self, deviation: float, *, pull: float = 0.0) -> None:
        evidence = deviation * deviation / 2 if self._settings.is_resolving else 0.0
        drift = evidence if self.is_yes else -evidence
        self._logit = _clamp(self._logit + pull + drift + self._rng.gauss(0.0, deviation))

    # The first regime is quiet and begins at the first step.
    def _change_regime(self, now_ns: Nanos) -> None:
        self.is_busy = bool(self._regime_ends_ns) and not self.is_busy
        mean_s = self._settings.busy_s if self.is_busy else self._settings.quiet_s
        self._regime_ends_ns = Nanos(now_ns + int(self._rng.expovariate(1 / mean_s) * NANOS_PER_S))


def logit(price: float) -> float:
    """Log-odds of a price in dollars."""
    return math.log(price / (1.0 - price))


def _clamp(value: float) -> float:
    return min(max(value, -LOGIT_MAX), LOGIT_MAX)
