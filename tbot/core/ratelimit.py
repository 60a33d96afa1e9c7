"""Token buckets as arithmetic on time: how many may pass now, and when the next may.

No timer and no refill task: a bucket is a level and the moment it was last counted. Everything is an integer, one
token being 10**15 units, because a rate in millionths of a token per second times nanoseconds comes out in exactly
that unit. So nothing drifts, however often the bucket is asked.
"""

from __future__ import annotations

from tbot.core.units import MICRO, NANOS_PER_S, Nanos

_TOKEN = MICRO * NANOS_PER_S


class TokenBucket:
    """One limit: `burst` at once, `rate_per_s` in the long run.

    In no window of time does the cost taken exceed rate x window + burst. The time is that of a clock that nobody sets,
    as Trio's: after a step back nothing would be refilled until the old time has come again.
    """

    def __init__(self, rate_per_s: float, burst: float) -> None:
        """Start full.

        Args:
            rate_per_s: Tokens refilled a second; kept to a millionth, rounded down.
            burst: Capacity in tokens, at least 1.

        Raises:
            ValueError: A rate that refills nothing, or a capacity that no request fits.
        """
        self._rate = int(rate_per_s * MICRO)
        self._capacity = int(burst * MICRO) * NANOS_PER_S
        if self._rate <= 0 or self._capacity < _TOKEN:
            raise ValueError(f"a bucket needs rate > 0 and burst >= 1: {rate_per_s}/s, {burst}")
        self._level = self._capacity
        self._at_ns = Nanos(0)
        self._open_ns = Nanos(0)

    def available(self, now_ns: Nanos) -> int:
        """Return the whole tokens that may pass now; 0 while it is in debt."""
        return max(0, self._level_at(now_ns) // _TOKEN)

    def take(self, cost: int, now_ns: Nanos) -> bool:
        """Take tokens if they are there, all or none.

        Args:
            cost: Tokens, at least 0.
            now_ns: By the one clock of this bucket.

        Returns:
            True when the request may be sent; False changes nothing.

        Raises:
            ValueError: The cost is negative.
        """
        if cost < 0:
            raise ValueError(f"a cost cannot refill: {cost}")
        level = self._level_at(now_ns)
        if level < cost * _TOKEN:
            return False
        if now_ns >= self._open_ns:
            self._level, self._at_ns, self._open_ns = level - cost * _TOKEN, now_ns, Nanos(0)
        return True

    def ready_ns(self, cost: int, now_ns: Nanos) -> Nanos:
        """Return the first moment, not before now, at which the cost can pass if nothing else is taken.

        Raises:
            ValueError: The cost is above the capacity: it can never pass.
        """
        if cost * _TOKEN > self._capacity:
            raise ValueError(f"cost {cost} can never pass a burst of {self._capacity / _TOKEN:g}")
        start = max(now_ns, self._open_ns)
        missing = max(0, cost * _TOKEN - self._level_at(start))
        return Nanos(start - -missing // self._rate)

    @property
    def burst(self) -> int:
        """Whole tokens it holds when full."""
        return self._capacity // _TOKEN

    def resize(self, rate_per_s: float, burst: float, now_ns: Nanos) -> None:
        """Take another limit from now on; what is there is kept, and cut to the new capacity.

        Args:
            rate_per_s: Tokens refilled a second.
            burst: Capacity in tokens.
            now_ns: By the one clock of this bucket.

        Raises:
            ValueError: As for a new bucket.
        """
        level = self._level_at(max(now_ns, self._open_ns))
        fresh = TokenBucket(rate_per_s, burst)
        self._rate, self._capacity = fresh._rate, fresh._capacity
        self._level, self._at_ns = min(level, self._capacity), max(now_ns, self._open_ns)

    def drain(self, until_ns: Nanos) -> None:
        """Let nothing pass before a moment (`Retry-After`), then one token: the exchange says that its own is empty.

        Args:
            until_ns: By the same clock; a moment in the past, or earlier than one already set, changes nothing.
        """
        if until_ns > max(self._open_ns, self._at_ns):
            self._level = min(self._level_at(until_ns), _TOKEN)
            self._at_ns = self._open_ns = until_ns

    def learn(self, remaining: int, now_ns: Nanos) -> None:
        """Lower our count to what the exchange says is left. Never raises it: requests may be under way.

        Args:
            remaining: Tokens left as the exchange counts, e.g. from a response header; below zero it is a debt that
                has to be refilled before anything passes. More than two bursts of debt are not believed.
            now_ns: By the one clock of this bucket.
        """
        level = self._level_at(now_ns)
        told = max(remaining * _TOKEN, -2 * self._capacity)
        if now_ns >= self._open_ns and told < level:
            self._level, self._at_ns = told, now_ns

    def _level_at(self, now_ns: Nanos) -> int:
        if now_ns < self._open_ns:
            return 0
        return min(self._capacity, self._level + max(0, now_ns - self._at_ns) * self._rate)
