"""Rate limits per signer as production states them: token buckets by tier, with headers, a batch all or nothing.

Source: docs.polymarket.com (rate limits), read 2026-11-22. Arithmetic on the time handed in; no clock.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Annotated

import msgspec

from tbot.core.units import NANOS_PER_S, Nanos
from tbot.exchanges.simulated.http import HttpRefusal

Header = tuple[str, str]
WARNING = "Poly-RateLimit-Warning"
Scale = Annotated[float, msgspec.Meta(gt=0, le=1e6)]


class Tier(StrEnum):
    """What a signer's volume of 30 days earns, spelled as in the headers."""

    STANDARD = "Standard"
    COPPER = "Copper"
    BRONZE = "Bronze"
    SILVER = "Silver"
    GOLD = "Gold"
    PLATINUM = "Platinum"
    DIAMOND = "Diamond"
    ELITE = "Elite"


class Allowance(msgspec.Struct, frozen=True, kw_only=True):
    """Both buckets of a tier.

    Attributes:
        orders_per_s: Refill of the order bucket.
        orders_burst: Its capacity; a batch that costs more can never pass.
        cancels_per_s: Refill of the cancel bucket.
        cancels_burst: Its capacity.
        has_debt: Whether a mass cancel may push the cancel bucket below zero; else it stops at zero.
    """

    orders_per_s: float
    orders_burst: float
    cancels_per_s: float
    cancels_burst: float
    has_debt: bool = True


def _row(orders_per_s: int, orders_burst: int, *, has_debt: bool = True) -> Allowance:
    return Allowance(
        orders_per_s=orders_per_s,
        orders_burst=orders_burst,
        cancels_per_s=2 * orders_per_s,
        cancels_burst=2 * orders_burst,
        has_debt=has_debt,
    )


ALLOWANCES: dict[Tier, Allowance] = {
    Tier.STANDARD: _row(40, 60),
    Tier.COPPER: _row(60, 90),
    Tier.BRONZE: _row(80, 120),
    Tier.SILVER: _row(200, 300),
    Tier.GOLD: _row(400, 600),
    Tier.PLATINUM: _row(450, 675, has_debt=False),
    # Its cancel burst is documented as 1575, half a token more than twice the order burst.
    Tier.DIAMOND: msgspec.structs.replace(_row(525, 787, has_debt=False), cancels_burst=1575),
    Tier.ELITE: _row(600, 900, has_debt=False),
}
"""The documented table; in every tier cancels have twice what orders have."""


class QuotaSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rate limits of the signers.

    Attributes:
        tier: Of everybody who is not named below.
        tiers: Tier of single signers, by checksummed address; `POST /control/tier` changes them while it runs.
        scale: Multiplies every rate and burst; more than 1 for load tests.
        is_warning_only: Nothing is refused: what would have been carries `Poly-RateLimit-Warning: true`.
    """

    tier: Tier = Tier.STANDARD
    tiers: dict[str, Tier] = msgspec.field(default_factory=dict)
    scale: Scale = 1.0
    is_warning_only: bool = False


class Bucket:
    """One token bucket. Its level may go below zero through `charge`, and when it only warns."""

    def __init__(
        self, *, tier: str, rate_per_s: float, burst: float, has_debt: bool = True, is_warning_only: bool = False
    ) -> None:
        """Start full."""
        self._tier = tier
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._has_debt = has_debt
        self._is_warning_only = is_warning_only
        self._level = burst
        self._at_ns = Nanos(0)

    def take(self, cost: int, now_ns: Nanos) -> tuple[Header, ...]:
        """Pay for a request, wholly or not at all, and give the headers of its answer.

        Raises:
            HttpRefusal: 429 with `Retry-After`; nothing was taken.
        """
        self._refill(now_ns)
        warning: tuple[Header, ...] = ()
        if cost > self._level:
            if not self._is_warning_only:
                raise self._refusal(cost, now_ns)
            warning = ((WARNING, "true"),)
        self._level -= cost
        return (*self._headers(now_ns, 0.0), *warning)

    def charge(self, cost: int, now_ns: Nanos) -> tuple[Header, ...]:
        """Take tokens for work already done, and give the headers: a mass cancel is priced by what it cancelled."""
        self._level -= cost
        if not self._has_debt:
            self._level = max(self._level, 0.0)
        return self._headers(now_ns, 0.0)

    def _refusal(self, cost: int, now_ns: Nanos) -> HttpRefusal:
        wait_s = (min(cost, self._burst) - self._level) / self._rate_per_s
        headers = (*self._headers(now_ns, wait_s), ("Retry-After", str(max(1, math.ceil(wait_s)))))
        return HttpRefusal("Too Many Requests", status=429, headers=headers)

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
        self._tiers = dict(settings.tiers)
        self._buckets: dict[tuple[str, bool], Bucket] = {}

    def set_tier(self, address: str, tier: Tier) -> None:
        """Put a signer into another tier, with full buckets."""
        self._tiers[address] = tier
        for is_cancel in (False, True):
            self._buckets.pop((address, is_cancel), None)

    def tier_of(self, address: str) -> Tier:
        """Name the tier of a signer."""
        return self._tiers.get(address, self._settings.tier)

    def orders(self, address: str) -> Bucket:
        """Give the order bucket of a signer."""
        return self._bucket(address, is_cancel=False)

    def cancels(self, address: str) -> Bucket:
        """Give the cancel bucket of a signer."""
        return self._bucket(address, is_cancel=True)

    def _bucket(self, address: str, *, is_cancel: bool) -> Bucket:
        bucket = self._buckets.get((address, is_cancel))
        if bucket is None:
            bucket = self._buckets[address, is_cancel] = self._new(address, is_cancel=is_cancel)
        return bucket

    def _new(self, address: str, *, is_cancel: bool) -> Bucket:
        tier = self.tier_of(address)
        allowed, scale = ALLOWANCES[tier], self._settings.scale
        return Bucket(
            tier=tier,
            rate_per_s=scale * (allowed.cancels_per_s if is_cancel else allowed.orders_per_s),
            burst=scale * (allowed.cancels_burst if is_cancel else allowed.orders_burst),
            has_debt=allowed.has_debt,
            is_warning_only=self._settings.is_warning_only,
        )
