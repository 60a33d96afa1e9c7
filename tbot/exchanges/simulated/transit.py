"""The way of what the exchange pushes: some of it is overtaken, so order of arrival is not order of the exchange.

Pure arithmetic on the time handed in; the in-process gateway and the served channel share it.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterable
from typing import Annotated, Generic, TypeVar

import msgspec

from tbot.core.units import NANOS_PER_MS, Nanos

T = TypeVar("T")

Milliseconds = Annotated[float, msgspec.Meta(ge=0)]

# The normal distribution reaches its ninetieth percentile here, in standard deviations.
_Z90 = 1.2815515655446004


class TransitSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a pushed frame is on its way; the default is no time at all.

    Attributes:
        way_ms: Shortest and longest way of any frame, all in between as likely.
        slow_share: Share of frames, 0 to 1, that take a slow way on top.
        slow_ms_p50: What half of the slow ones take more, at most.
        slow_ms_p90: What nine in ten of them take more, at most.
        slow_ms_max: Longest slow way.
    """

    way_ms: tuple[Milliseconds, Milliseconds] = (0.0, 0.0)
    slow_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    slow_ms_p50: Annotated[float, msgspec.Meta(gt=0)] = 8.0
    slow_ms_p90: Annotated[float, msgspec.Meta(gt=0)] = 20.0
    slow_ms_max: Annotated[float, msgspec.Meta(gt=0, le=60_000)] = 90.0

    def __post_init__(self) -> None:
        """Refuse what is in no order."""
        if self.way_ms[0] > self.way_ms[1]:
            raise ValueError(f"expected way_ms to be shortest, longest, found {self.way_ms}")
        if not self.slow_ms_p50 <= self.slow_ms_p90 <= self.slow_ms_max:
            raise ValueError("expected slow_ms_p50 <= slow_ms_p90 <= slow_ms_max")


class LatencySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far the bot is from the exchange.

    Attributes:
        request_ms: Shortest and longest way of a request or of its answer, each.
        feed_ms: Shortest and longest way of a pushed event; the difference reorders events.
        timeout_s: A submit or cancel without an answer by then has an unknown outcome.
        pong_s: Signs of life on a quiet connection.
    """

    request_ms: tuple[Milliseconds, Milliseconds] = (15.0, 45.0)
    feed_ms: tuple[Milliseconds, Milliseconds] = (12.0, 18.0)
    timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 5.0
    pong_s: Annotated[float, msgspec.Meta(gt=0)] = 10.0


class Transit(Generic[T]):
    """What is on its way to one reader, by moment of arrival; of one moment, what was sent first.

    Args:
        settings: How long a way takes.
        rng: Draws it; its own for each reader, so that one reader does not change what another hears.
    """

    def __init__(self, settings: TransitSettings, rng: random.Random) -> None:
        self._settings = settings
        self._rng = rng
        self._sigma = math.log(settings.slow_ms_p90 / settings.slow_ms_p50) / _Z90
        self._on_way: list[tuple[Nanos, int, T]] = []
        self._count = 0

    def __len__(self) -> int:
        """Count what is on its way."""
        return len(self._on_way)

    def draw_ns(self) -> int:
        """Draw how long one way takes, nanoseconds."""
        settings = self._settings
        ms = self._rng.uniform(*settings.way_ms)
        if settings.slow_share and self._rng.random() < settings.slow_share:
            ms += min(self._rng.lognormvariate(math.log(settings.slow_ms_p50), self._sigma), settings.slow_ms_max)
        return int(ms * NANOS_PER_MS)

    def send(self, items: Iterable[T], arrives_ns: Nanos) -> None:
        """Let items arrive together, in this order."""
        for item in items:
            self._count += 1
            heapq.heappush(self._on_way, (arrives_ns, self._count, item))

    def next_ns(self) -> Nanos | None:
        """When the next one arrives."""
        return self._on_way[0][0] if self._on_way else None

    def take(self, now_ns: Nanos) -> T | None:
        """Take the first of what has arrived by now; None = nothing has."""
        if self._on_way and self._on_way[0][0] <= now_ns:
            return heapq.heappop(self._on_way)[2]
        return None
