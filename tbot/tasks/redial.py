"""When to connect again: at once after the first loss, then with growing, jittered pauses."""

from __future__ import annotations

import random

from tbot.core.backoff import Backoff
from tbot.errors import RateLimited
from tbot.tasks.child import leaves

# A connection that lasted this long, seconds, was a good one: the next loss counts as a first one.
STEADY_S = 60.0


class Redial:
    """Counts losses in a row and turns them into pauses. Pure arithmetic on the times it is told."""

    def __init__(self, backoff: Backoff, rng: random.Random) -> None:
        """Begin without a loss.

        Args:
            backoff: Pauses from the second loss in a row on.
            rng: Seeded generator of their jitter.
        """
        self._backoff = backoff
        self._rng = rng
        self._losses = 0
        self._up_since: float | None = None

    def connected(self, now_s: float) -> None:
        """Note that the connection stands since now."""
        self._up_since = now_s

    def lost(self, now_s: float, *, at_least_s: float = 0.0) -> float:
        """Note a loss, or a failed attempt, and return the pause before the next attempt.

        Args:
            now_s: Trio time.
            at_least_s: What the exchange asked us to wait, seconds.

        Returns:
            Seconds; 0 after the first loss since the last steady connection.
        """
        if self._up_since is not None and now_s - self._up_since >= STEADY_S:
            self._losses = 0
        self._up_since = None
        self._losses += 1
        pause_s = self._backoff.delay(self._losses - 2, self._rng) if self._losses > 1 else 0.0
        return max(pause_s, at_least_s)


def asked_wait_s(error: BaseException) -> float:
    """Return the longest wait that an exchange asked for in an error or a group of them, seconds; 0 for none."""
    return max((leaf.retry_after_s for leaf in leaves(error) if isinstance(leaf, RateLimited)), default=0.0)
