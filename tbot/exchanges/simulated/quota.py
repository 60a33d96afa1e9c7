"""Rate limits per signer as production states them: token buckets with headers, a batch all or nothing.

Source: docs.polymarket.com rate limits, "Standard" tier; read 2026-11-22. Arithmetic on the time handed in; no clock.
"""

from __future__ import annotations

import math
from typing import Annotated

import msgspec

from tbot.core.units import NANOS_PER_S, Nanos
from tbot.exchanges.simulated.http import HttpRefusal

Header = tuple[str, str]
Rate = Annotated[float, msgspec.Meta(gt=0)]


class QuotaSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Both buckets of a signer; the defaults are the Standard tier.

    Attributes:
        tier: Name told in the headers.
        orders_per_s: Refill of the order bucket.
        orders_burst: Its capacity; a batch that costs more can never pass.
        cancels_per_s: Refill of the cancel bucket.
        cancels_burst: Its capacity.
    """

    tier: str = "Standard"
    orders_per_s: Rate = 40.0
    orders_burst: Rate = 60.0
    cancels_per_s: Rate = 80.0
    cancels_burst: Rate = 120.0


class Bucket:
    """One token bucket. Its level may go below zero through `charge`."""

    def __init__(self, *, tier: str, rate_per_s: float, burst: float) -> None:
        """Start full."""
        self._tier = tier
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._level = burst
        self._at_ns = Nanos(0)

    def take(self, cost: int, now_ns: Nanos) -> tuple[Header, ...]:
        """Pay for a request, wholly or not at all, and give the headers of its answer.

        Raises:
            HttpRefusal: 429 with `Retry-After`; nothing was taken.
        """
        self._refill(now_ns)
        if cost > self._level:
            wait_s = (min(cost, self._burst) - self._level) / self._rate_per_s
            headers = (*self._headers(now_ns, wait_s), ("Retry-After", str(max(1, math.ceil(wait_s)))))
            raise HttpRefusal("Too Many Requests", status=429, headers=headers)
        self._level -= cost
        return self._headers(now_ns, 0.0)

    def charge(self, cost: int) -> None:
        """Take tokens for work already done, below zero if need be: a mass cancel is priced by what it cancelled."""
        self._level -= cost

    def _refill(self, now_ns: Nanos) -> None:
        passed_s = max(0, now_ns - self._at_ns) / NANOS_PER_S
        self._level = min(self._burst, self._level + passed_s * self._rate_per_s)
        self._at_ns = now_ns

    def _headers(self, now_ns: Nanos, wait_s: float) -> tuple[Header, ...]:
        return (
            ("Poly-RateLimit-Remaining", str(math.floor(self._level))),
            ("Poly-RateLimit-Reset", str(math.ceil(now_ns / NANOS_PER_S + wait_s))),
            ("Poly-RateLimit-Tier", self._tier),
        )


class Quotas:
    """The buckets of every signer that ever called."""

    def __init__(self, settings: QuotaSettings) -> None:
        """Start with no signer known."""
        self._settings = settings
        self._orders: dict[str, Bucket] = {}
        self._cancels: dict[str, Bucket] = {}

    def orders(self, address: str) -> Bucket:
        """Give the order bucket of a signer."""
        s = self._settings
        new = Bucket(tier=s.tier, rate_per_s=s.orders_per_s, burst=s.orders_burst)
        return self._orders.setdefault(address, new)

    def cancels(self, address: str) -> Bucket:
        """Give the cancel bucket of a signer."""
        s = self._settings
        new = Bucket(tier=s.tier, rate_per_s=s.cancels_per_s, burst=s.cancels_burst)
        return self._cancels.setdefault(address, new)
