"""The rate gate: every request passes it, cancels before orders before reads.

Arithmetic is `core.ratelimit`; here is only the waiting. A 429 closes its own lane and the lesser ones: when orders are
refused we may still cancel, and when a cancel is refused nothing else should hurry. An order also waits while too few
cancel tokens are left, so that whatever we place can be cancelled. Waiting ends at a moment the caller names; a request
that cannot pass by then is told so at once, while there is still time to want something else.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable
from enum import IntEnum

import trio

from tbot.core.ratelimit import TokenBucket
from tbot.core.units import NANOS_PER_S, Nanos
from tbot.errors import RateLimited
from tbot.exchanges.polymarket.settings import LimitSettings

RETRY_AFTER_S_MAX = 120.0  # a longer ban would outlive every order; ask again earlier
BEATS_PER_S, BEATS_BURST = 1.0, 4.0  # one each 5 s is due, two when the id must be corrected
# Woken a hair late rather than early: float seconds are coarser than the nanoseconds of the buckets.
_WAKE_LATE_S = 1e-6


class Lane(IntEnum):
    """Kinds of requests; the smaller goes first."""

    CANCEL = 0
    BEAT = 1  # the dead-man switch: late is as bad as not at all
    ORDER = 2
    READ = 3


class TooLate(RateLimited):
    """The moment by which the request should have left is past; it was not sent."""


class RateGate:
    """Lets requests pass in the order of their lanes, as fast as the buckets allow."""

    def __init__(self, limits: LimitSettings, now_ns: Callable[[], Nanos]) -> None:
        """Start with full buckets.

        Args:
            limits: Rates; each lane has its bucket.
            now_ns: Wall time; must advance with Trio's clock.
        """
        self._buckets = {
            Lane.CANCEL: TokenBucket(limits.cancels_per_s, limits.cancels_burst),
            Lane.BEAT: TokenBucket(BEATS_PER_S, BEATS_BURST),
            Lane.ORDER: TokenBucket(limits.orders_per_s, limits.orders_burst),
            Lane.READ: TokenBucket(limits.reads_per_s, limits.reads_burst),
        }
        self._reserve = int(limits.cancels_reserve)
        self._now_ns = now_ns
        self._waiting: list[tuple[Lane, int]] = []
        self._arrivals = 0
        self._changed = trio.Event()

    async def enter(self, lane: Lane, cost: int = 1, *, by_ns: Nanos) -> None:
        """Wait for our turn. Always a checkpoint.

        Args:
            lane: Kind of request.
            cost: Tokens: ids of a batch, else 1.
            by_ns: Last moment at which the request may leave.

        Raises:
            TooLate: That moment is past.
            RateLimited: It will be past before there are tokens.
        """
        await trio.lowlevel.checkpoint()
        self._arrivals += 1
        ticket = (lane, self._arrivals)
        bisect.insort(self._waiting, ticket)
        try:
            while (wait_ns := self._pass(ticket, cost, by_ns, self._now_ns())) is not None:
                with trio.move_on_after(wait_ns / NANOS_PER_S + _WAKE_LATE_S):
                    await self._changed.wait()
        finally:
            self._waiting.remove(ticket)
            self._wake()

    def close(self, lane: Lane, retry_after_s: float) -> None:
        """Let nothing of a lane, or of a lesser one, pass for a while: the exchange refused."""
        until_ns = Nanos(self._now_ns() + int(min(retry_after_s, RETRY_AFTER_S_MAX) * NANOS_PER_S))
        for each in Lane:
            # Heartbeats go on: silence would cost every order, and one in some seconds is no load.
            if each >= lane and each is not Lane.BEAT:
                self._buckets[each].drain(until_ns)
        self._wake()

    def learn(self, lane: Lane, remaining: int) -> None:
        """Lower a lane's count to what the exchange says is left."""
        self._buckets[lane].learn(remaining, self._now_ns())

    # Take the tokens and return None, or return how long to wait before asking again.
    def _pass(self, ticket: tuple[Lane, int], cost: int, by_ns: Nanos, now_ns: Nanos) -> int | None:
        lane = ticket[0]
        ready_ns = self._ready_ns(lane, cost, now_ns)
        wait_s = (ready_ns - now_ns) / NANOS_PER_S
        if now_ns > by_ns:
            raise TooLate(f"{lane.name}: its moment passed in the queue", retry_after_s=wait_s)
        if ready_ns > by_ns:
            raise RateLimited(f"{lane.name}: no token for {wait_s:.3f} s", retry_after_s=wait_s)
        if self._waiting[0] != ticket:
            return by_ns - now_ns  # whoever is before us wakes us when it leaves
        if ready_ns > now_ns:
            return ready_ns - now_ns
        taken = self._buckets[lane].take(cost, now_ns)
        assert taken, "a bucket that is ready gives"
        return None

    def _ready_ns(self, lane: Lane, cost: int, now_ns: Nanos) -> Nanos:
        ready_ns = self._buckets[lane].ready_ns(cost, now_ns)
        if lane is Lane.ORDER:
            return max(ready_ns, self._buckets[Lane.CANCEL].ready_ns(self._reserve, now_ns))
        return ready_ns

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
