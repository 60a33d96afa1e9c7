"""Delay series with jitter from a given generator.

Full jitter (any delay between 0 and the growing ceiling) spreads clients that lost the same exchange at the same
moment better than half jitter does, at the price of an early retry now and then:
https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/ (read 2026-11-22).
"""

from __future__ import annotations

import random
from typing import Annotated

import msgspec

# 2.0**64 seconds is beyond any cap; without the bound a long outage would overflow the float.
_DOUBLINGS_MAX = 64


class Backoff(msgspec.Struct, frozen=True, kw_only=False, forbid_unknown_fields=True, gc=False):
    """Exponential back-off; also the struct of its settings.

    Attributes:
        base_s: Ceiling of the first delay, seconds.
        cap_s: Ceiling of all delays, seconds.
    """

    base_s: Annotated[float, msgspec.Meta(gt=0)] = 0.25
    cap_s: Annotated[float, msgspec.Meta(gt=0)] = 30.0

    def ceiling(self, attempt: int) -> float:
        """Return the longest delay of an attempt, seconds: base x 2 ** attempt, at most the cap."""
        doublings = min(max(attempt, 0), _DOUBLINGS_MAX)
        return min(self.cap_s, self.base_s * 2.0**doublings)

    def delay(self, attempt: int, rng: random.Random) -> float:
        """Draw the delay before an attempt, uniform between 0 and the ceiling.

        Args:
            attempt: 0 for the first retry after a success.
            rng: Seeded generator; one number is drawn.

        Returns:
            Seconds.
        """
        return rng.uniform(0.0, self.ceiling(attempt))
