"""Token buckets by tier: the documented table, debt, warnings."""

from __future__ import annotations

import pytest

from tbot.core.units import NANOS_PER_S, Nanos
from tbot.exchanges.simulated.http import HttpRefusal
from tbot.exchanges.simulated.quota import ALLOWANCES, Quotas, QuotaSettings, Tier

START = Nanos(1_790_000_000 * NANOS_PER_S)
TABLE = {
    Tier.STANDARD: (40, 60, 80, 120),
    Tier.COPPER: (60, 90, 120, 180),
    Tier.BRONZE: (80, 120, 160, 240),
    Tier.SILVER: (200, 300, 400, 600),
    Tier.GOLD: (400, 600, 800, 1200),
    Tier.PLATINUM: (450, 675, 900, 1350),
    Tier.DIAMOND: (525, 787, 1050, 1575),
    Tier.ELITE: (600, 900, 1200, 1800),
}


@pytest.mark.parametrize("tier", list(Tier))
def test_tier_has_its_documented_buckets_and_debt(tier: Tier) -> None:
    a = ALLOWANCES[tier]
    assert (a.orders_per_s, a.orders_burst, a.cancels_per_s, a.cancels_burst) == TABLE[tier]
    quotas = Quotas(QuotaSettings(tiers={"0xA": tier}))
    bucket = quotas.cancels("0xA")
    bucket.take(1, START)
    headers = dict(bucket.charge(5_000, START))
    left = int(headers["Poly-RateLimit-Remaining"])
    assert headers["Poly-RateLimit-Tier"] == tier
    assert left == 0 if tier in (Tier.PLATINUM, Tier.DIAMOND, Tier.ELITE) else left < 0
    assert dict(quotas.orders("0xB").take(1, START))["Poly-RateLimit-Tier"] == "Standard"


def test_batch_over_the_burst_never_passes_and_takes_nothing() -> None:
    bucket = Quotas(QuotaSettings()).cancels("0xA")
    for wait_s in (0, 1_000):
        with pytest.raises(HttpRefusal):
            bucket.take(121, Nanos(START + wait_s * NANOS_PER_S))
    assert dict(bucket.take(120, Nanos(START + 1_000 * NANOS_PER_S)))["Poly-RateLimit-Remaining"] == "0"


def test_warning_mode_lets_everything_pass_and_says_so() -> None:
    bucket = Quotas(QuotaSettings(is_warning_only=True)).orders("0xA")
    assert "Poly-RateLimit-Warning" not in dict(bucket.take(60, START))
    assert dict(bucket.take(1, START))["Poly-RateLimit-Warning"] == "true"
    assert dict(bucket.take(1, Nanos(START + NANOS_PER_S))).get("Poly-RateLimit-Warning") is None
