"""The rate gate: every request passes it, cancels before heartbeats before orders before reads.

Arithmetic is `core.ratelimit`; here is only the waiting. Two kinds of limits hold at once: the buckets of the signer,
whose sizes the exchange tells by the name of a tier, and windows per path, which count requests of this address.

Who goes first matters only where something is shared. So there is no single queue, whose head would hold up requests
that need nothing of what it waits for: a request passes when each of its buckets holds what it costs beside all that
those before it want of that bucket. Orders that wait for order tokens keep no read waiting, and no read delays them.

A 429 closes its own lane and the lesser ones: when orders are refused we may still cancel, and when a cancel is refused
nothing else should hurry. An order also waits while the cancel tokens left are fewer than the orders that may rest, so
that whatever we place can be cancelled at once, and beyond 0.8 of the burst it does not pass at all. Waiting ends at a
moment the caller names; a request that cannot pass by then is told so at once, while there is still time to want
something else.

Buckets fill on Trio's time. The machine's clock may be set: back, and what counts on it would give nothing for as long
as the step; ahead, and it would give a burst that the exchange never granted.

Source: docs.polymarket.com (rate limits), read 2026-11-22.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from enum import IntEnum
from math import inf
from typing import Final, NamedTuple

import trio

from tbot.core.exchange_mode import believed_wait_s
from tbot.core.ratelimit import TokenBucket
from tbot.core.units import NANOS_PER_S, Nanos
from tbot.errors import RateLimited
from tbot.exchanges.polymarket.resting import RestingOrders
from tbot.exchanges.polymarket.settings import LimitSettings

BEATS_PER_S, BEATS_BURST = 1.0, 4.0  # one each 5 s is due, two when the id must be corrected
# Open orders never need more than this share of the cancel burst: cancelling all of them is always affordable.
OPEN_SHARE = 0.8
# Until the next order may be tried when too many rest: only cancels and fills change that.
CROWDED_S = 1.0


class Tier(NamedTuple):
    """What a signer may send, by the name in the `Poly-RateLimit-Tier` header."""

    orders_per_s: float
    orders_burst: float
    cancels_per_s: float
    cancels_burst: float


TIERS: Final = {
    "standard": Tier(40, 60, 80, 120),
    "copper": Tier(60, 90, 120, 180),
    "bronze": Tier(80, 120, 160, 240),
    "silver": Tier(200, 300, 400, 600),
    "gold": Tier(400, 600, 800, 1_200),
    "platinum": Tier(450, 675, 900, 1_350),
    "diamond": Tier(525, 787, 1_050, 1_575),
    "elite": Tier(600, 900, 1_200, 1_800),
}
# Requests per second and burst of an address, by method and path. A window of n in 10 s is a bucket of n / 20 a second
# and n / 2 at once: in no 10 s do more pass. Where ten minutes are limited as well, the refill keeps to that.
WINDOWS: Final[dict[tuple[str, str], tuple[float, float]]] = {
    ("POST", "/order"): (195, 2_500),
    ("POST", "/orders"): (33, 1_000),
    ("DELETE", "/order"): (195, 2_500),
    ("DELETE", "/orders"): (23, 1_000),
    ("DELETE", "/cancel-all"): (9.5, 125),
    ("GET", "/data/orders"): (25, 250),
    ("GET", "/data/trades"): (25, 250),
    ("GET", "/balance-allowance"): (10, 100),
    ("GET", "/balance-allowance/update"): (2.5, 25),
    ("GET", "/tick-size"): (10, 100),
    ("GET", "/book"): (75, 750),
    ("POST", "/books"): (25, 250),
    ("GET", "/auth/derive-api-key"): (5, 50),
    ("POST", "/auth/api-key"): (5, 50),
}
# All requests to the CLOB together, likewise: 9,000 in 10 s. Only the largest tiers could come near it.
EVERYTHING: Final = (450.0, 4_500.0)
# Woken a hair late rather than early: float seconds are coarser than the nanoseconds of the buckets.
_WAKE_LATE_S = 1e-6


class Lane(IntEnum):
    """Kinds of requests; the smaller goes first."""

    CANCEL = 0
    BEAT = 1  # the dead-man switch: late is as bad as not at all
    ORDER = 2
    READ = 3


class _Ticket(NamedTuple):
    # One that waits, in the order of passing: by lane, then by arrival.
    lane: Lane
    number: int
    takes: tuple[tuple[TokenBucket, int], ...]

    def wants(self, bucket: TokenBucket) -> int:
        return sum(cost for each, cost in self.takes if each is bucket)


class TooLate(RateLimited):
    """The moment by which the request should have left is past; it was not sent."""


class RateGate:
    """Lets requests pass as fast as the buckets allow, in the order of their lanes where they share one.

    Attributes:
        resting: Orders that may rest, those on their way included; kept by whoever sends them.
        tier: The tier the exchange told last; "" = none yet.
        tier_limits: The limits of the signer in force: configured, then told.
    """

    def __init__(self, limits: LimitSettings, now_ns: Callable[[], Nanos]) -> None:
        """Start with full buckets.

        Args:
            limits: Rates; each lane has its bucket.
            now_ns: Wall time, in which the last moments of requests are told; read once for each of them.
        """
        self._buckets = {
            Lane.CANCEL: TokenBucket(limits.cancels_per_s, limits.cancels_burst),
            Lane.BEAT: TokenBucket(BEATS_PER_S, BEATS_BURST),
            Lane.ORDER: TokenBucket(limits.orders_per_s, limits.orders_burst),
            Lane.READ: TokenBucket(limits.reads_per_s, limits.reads_burst),
        }
        self._windows = {path: TokenBucket(rate, burst) for path, (rate, burst) in WINDOWS.items()}
        self._own_limits = _chosen(limits)
        self._everything = TokenBucket(*EVERYTHING)
        self._reserve = int(limits.cancels_reserve)
        self.resting = RestingOrders()
        self.tier = ""
        self.tier_limits = Tier(limits.orders_per_s, limits.orders_burst, limits.cancels_per_s, limits.cancels_burst)
        self._now_ns = now_ns
        self._waiting: list[_Ticket] = []
        self._arrivals = 0
        self._changed = trio.Event()

    async def enter(self, lane: Lane, cost: int = 1, *, by_ns: Nanos, path: tuple[str, str] = ("", "")) -> None:
        """Wait for our turn. Always a checkpoint.

        Args:
            lane: Kind of request.
            cost: Tokens: ids of a batch, else 1.
            by_ns: Last moment at which the request may leave.
            path: Method and path; counts against its window, if there is one.

        Raises:
            TooLate: That moment is past.
            RateLimited: It will be past before there are tokens.
        """
        await trio.lowlevel.checkpoint()
        ticket = self._ticket(lane, cost, path)
        until_ns = Nanos(_trio_ns() + by_ns - self._now_ns())
        bisect.insort(self._waiting, ticket)
        try:
            while (wait_ns := self._pass(ticket, until_ns, _trio_ns())) is not None:
                with trio.move_on_after(wait_ns / NANOS_PER_S + _WAKE_LATE_S):
                    await self._changed.wait()
        finally:
            self._waiting.remove(ticket)
            self._wake()

    def close(self, lane: Lane, retry_after_s: float) -> None:
        """Let nothing of a lane, or of a lesser one, pass for a while: the exchange refused."""
        until_ns = Nanos(_trio_ns() + int(believed_wait_s(retry_after_s) * NANOS_PER_S))
        for each in Lane:
            # Heartbeats go on: silence would cost every order, and one in some seconds is no load.
            if each >= lane and each is not Lane.BEAT:
                self._buckets[each].drain(until_ns)
        self._wake()

    def learn_tier(self, name: str) -> None:
        """Take the limits of a tier from now on, none above what the settings chose; unknown names change nothing."""
        tier = TIERS.get(name.strip().lower())
        if tier is None or name == self.tier:
            return
        now_ns, held = _trio_ns(), Tier(*map(min, tier, self._own_limits))
        self.tier, self.tier_limits = name, held
        self._buckets[Lane.ORDER].resize(held.orders_per_s, held.orders_burst, now_ns)
        self._buckets[Lane.CANCEL].resize(held.cancels_per_s, held.cancels_burst, now_ns)
        self._wake()

    @property
    def open_orders_max(self) -> int:
        """Most orders that may rest, so that cancelling all of them is always affordable."""
        return max(1, int(self._buckets[Lane.CANCEL].burst * OPEN_SHARE))

    def available(self, lane: Lane) -> int:
        """Return the tokens of a lane that may be taken now."""
        return self._buckets[lane].available(_trio_ns())

    def burst(self, lane: Lane) -> int:
        """Return the most tokens a lane ever has: no request may cost more."""
        return self._buckets[lane].burst

    def learn(self, lane: Lane, remaining: int) -> None:
        """Lower a lane's count to what the exchange says is left; below zero it is a debt."""
        self._buckets[lane].learn(remaining, _trio_ns())
        self._wake()

    def _ticket(self, lane: Lane, cost: int, path: tuple[str, str]) -> _Ticket:
        self._arrivals += 1
        window = self._windows.get(path)
        shared = [self._everything] if window is None else [self._everything, window]
        return _Ticket(lane, self._arrivals, ((self._buckets[lane], cost), *((each, 1) for each in shared)))

    # Take the tokens and return None, or return how long to wait before asking again.
    def _pass(self, ticket: _Ticket, until_ns: Nanos, now_ns: Nanos) -> int | None:
        alone_ns = self._alone_ns(ticket, now_ns)
        wait_s = (alone_ns - now_ns) / NANOS_PER_S
        if now_ns > until_ns:
            raise TooLate(f"{ticket.lane.name}: its moment passed in the queue", retry_after_s=wait_s)
        if alone_ns > until_ns:
            raise RateLimited(f"{ticket.lane.name}: no token for {wait_s:.3f} s", retry_after_s=wait_s)
        ready_ns = self._ready_ns(ticket, now_ns)
        if ready_ns is None or ready_ns > now_ns:
            # Whoever is before us wakes us when it leaves, and so does whatever changes a bucket.
            return (until_ns if ready_ns is None else min(ready_ns, until_ns)) - now_ns
        taken = all(bucket.take(cost, now_ns) for bucket, cost in ticket.takes)
        assert taken, "a bucket that is ready gives"
        return None

    # When it could pass if nobody were before it.
    def _alone_ns(self, ticket: _Ticket, now_ns: Nanos) -> Nanos:
        if ticket.lane is Lane.ORDER and self.resting.count > self.open_orders_max:
            raise RateLimited(f"ORDER: {self.resting.count} orders may rest already", retry_after_s=CROWDED_S)
        ready_ns = _first_ns(self._needs(ticket), now_ns)
        if ready_ns is None:
            raise RateLimited(f"{ticket.lane.name}: more tokens than it ever has", retry_after_s=CROWDED_S)
        return ready_ns

    # When it may pass; None = only when somebody before it has left, as no bucket ever holds enough for both.
    def _ready_ns(self, ticket: _Ticket, now_ns: Nanos) -> Nanos | None:
        before = self._waiting[: bisect.bisect_left(self._waiting, ticket)]
        needs = self._needs(ticket)
        return _first_ns([(b, cost + sum(each.wants(b) for each in before)) for b, cost in needs], now_ns)

    # What must be there: what it takes, and for an order as many cancels as what rests may need, which stay.
    def _needs(self, ticket: _Ticket) -> list[tuple[TokenBucket, int]]:
        if ticket.lane is not Lane.ORDER:
            return list(ticket.takes)
        cancels = self._buckets[Lane.CANCEL]
        return [*ticket.takes, (cancels, min(max(self._reserve, self.resting.count_all), cancels.burst))]

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def _trio_ns() -> Nanos:
    return Nanos(int(trio.current_time() * NANOS_PER_S))


# The first moment at which all of these are there at once; None = one is more than its bucket ever holds.
def _first_ns(needs: Sequence[tuple[TokenBucket, int]], now_ns: Nanos) -> Nanos | None:
    if any(cost > bucket.burst for bucket, cost in needs):
        return None
    return max(bucket.ready_ns(cost, now_ns) for bucket, cost in needs)


def _chosen(limits: LimitSettings) -> Tier:
    # A limit that stands at its default was not chosen: it follows the tier, up as well as down.
    default = LimitSettings()
    return Tier(*(inf if (own := getattr(limits, name)) == getattr(default, name) else own for name in Tier._fields))
