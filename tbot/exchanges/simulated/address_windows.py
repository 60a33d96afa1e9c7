"""Rate limits per address as production's content network states them: so many requests of a kind in a sliding window.

Source: docs.polymarket.com (rate limits), read 2026-11-22. Arithmetic on the time handed in; no clock. What is over a
limit is not refused there at once: it is slowed down, and answered 429 when that takes too long.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Annotated

import msgspec

from tbot.core.units import NANOS_PER_S, Nanos

Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]

WINDOW_NS = 10 * NANOS_PER_S
LONG_WINDOW_NS = 600 * NANOS_PER_S

# What is remembered of all addresses together, some 60 MB. Beyond, the address heard of longest ago is forgotten.
STAMPS_MAX = 1_000_000
ADDRESSES_MAX = 4_096


class WindowSet(StrEnum):
    """Which limits hold."""

    OFF = "off"
    PRODUCTION = "production"


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """Requests that are counted together.

    Attributes:
        name: For settings and messages.
        per_10_s: How many pass in any ten seconds.
        per_10_min: How many pass in any ten minutes; 0 = as many as the ten seconds allow.
        method: "" = any.
        paths: As served; one that ends in "*" stands for all that begin so.
    """

    name: str
    per_10_s: int
    per_10_min: int = 0
    method: str = ""
    paths: tuple[str, ...]

    def counts(self, method: str, path: str) -> bool:
        """Tell whether a request is of this kind."""
        if self.method not in ("", method):
            return False
        return any(path.startswith(p[:-1]) if p.endswith("*") else path == p for p in self.paths)

    @property
    def stamps_max(self) -> int:
        """Requests to remember."""
        return max(self.per_10_s, self.per_10_min)


def _any(name: str, per_10_s: int, *paths: str) -> Kind:
    return Kind(name=name, per_10_s=per_10_s, paths=paths)


def _of(method: str, name: str, per_10_s: int, path: str, per_10_min: int = 0) -> Kind:
    return Kind(name=name, per_10_s=per_10_s, per_10_min=per_10_min, method=method, paths=(path,))


GAMMA, DATA, RELAYER, CONTROL = "/gamma/", "/data-api/", "/relayer/", "/control/"
"""Where services lie that have other limits than the CLOB, or none."""

# Nodes of the chain are none of production's services.
RPC = "/rpc"

KINDS: tuple[Kind, ...] = (
    _any("everything", 15_000, "*"),
    _any("ok", 100, "/ok"),
    _any("book", 1_500, "/book"),
    _any("price", 1_500, "/price"),
    _any("midpoint", 1_500, "/midpoint"),
    _any("books", 500, "/books"),
    _any("prices", 500, "/prices"),
    _any("midpoints", 500, "/midpoints"),
    _any("prices_history", 1_000, "/prices-history"),
    _any("tick_size", 200, "/tick-size", "/tick-size/*"),
    # Documented by paths that trading has as well, but trading has limits of its own and this would undercut them: it
    # is for reading.
    Kind(
        name="ledger",
        per_10_s=900,
        method="GET",
        paths=("/data/orders", "/data/trades", "/data/order/*", "/notifications"),
    ),
    _any("data_orders", 500, "/data/orders"),
    _any("data_trades", 500, "/data/trades"),
    _any("notifications", 125, "/notifications"),
    _any("auth", 100, "/auth/api-key", "/auth/api-keys", "/auth/derive-api-key"),
    _any("balance_allowance", 200, "/balance-allowance"),
    _any("balance_allowance_update", 50, "/balance-allowance/update"),
    _of("POST", "post_order", 5_000, "/order", 120_000),
    _of("DELETE", "delete_order", 5_000, "/order", 120_000),
    _of("POST", "post_orders", 2_000, "/orders", 21_000),
    _of("DELETE", "delete_orders", 2_000, "/orders", 15_000),
    _of("DELETE", "cancel_all", 250, "/cancel-all", 6_000),
    _of("DELETE", "cancel_market_orders", 1_500, "/cancel-market-orders", 21_000),
    _any("gamma", 4_000, "/gamma/*"),
    _any("gamma_events", 500, "/gamma/events*"),
    _any("gamma_markets", 300, "/gamma/markets*"),
    _any("gamma_lists", 900, "/gamma/events*", "/gamma/markets*"),
    _any("gamma_tags", 200, "/gamma/tags*"),
    _any("gamma_search", 350, "/gamma/public-search"),
    _any("data", 800, "/data-api/*"),
    _any("data_trades_v2", 300, "/data-api/v2/trades"),
    _any("data_positions_v2", 200, "/data-api/v2/positions"),
    _any("data_activity_v2", 200, "/data-api/v2/activity"),
)
"""The documented table, as far as such requests are served here."""

CLOB = Kind(name="clob", per_10_s=9_000, paths=())
"""What is of no other service."""


class WindowSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rate limits per address.

    Attributes:
        limits: Which set holds: "production" or "off".
        per_10_s: Other numbers than the set's, by name of the kind.
        scale: Multiplies every number of the set; more than 1 for load tests.
        delay_s_max: How long a request over a limit is held back before it is answered 429; 0 = not at all.
    """

    limits: WindowSet = WindowSet.OFF
    per_10_s: dict[str, Count] = msgspec.field(default_factory=dict)
    scale: Annotated[float, msgspec.Meta(gt=0, le=1e4)] = 1.0
    delay_s_max: Annotated[float, msgspec.Meta(ge=0, le=60)] = 1.0

    def __post_init__(self) -> None:
        """Refuse numbers for what nobody counts."""
        if unknown := sorted(set(self.per_10_s) - {kind.name for kind in (*KINDS, CLOB)}):
            raise ValueError(f"expected per_10_s of kinds that are counted, found {unknown[0]!r}")

    def kinds(self) -> Iterator[Kind]:
        """Give the kinds with the numbers that hold."""
        for kind in () if self.limits is WindowSet.OFF else (*KINDS, CLOB):
            yield msgspec.structs.replace(
                kind,
                per_10_s=self.per_10_s.get(kind.name, max(1, int(kind.per_10_s * self.scale))),
                per_10_min=int(kind.per_10_min * self.scale),
            )


class AddressWindows:
    """What every address has asked for lately."""

    def __init__(self, settings: WindowSettings) -> None:
        """Start with no address known."""
        kinds = tuple(settings.kinds())
        self._kinds = tuple(kind for kind in kinds if kind.paths)
        self._clob = tuple(kind for kind in kinds if not kind.paths)
        self._kinds_of = lru_cache(1_024)(self._find_kinds)
        # By address and kind, the moments at which requests passed, oldest first; the address heard of last is last.
        self._passed: OrderedDict[str, dict[str, deque[Nanos]]] = OrderedDict()
        self._stamps = 0

    @property
    def stamps(self) -> int:
        """Moments remembered, of all addresses."""
        return self._stamps

    def enter(self, address: str, method: str, path: str, now_ns: Nanos) -> int:
        """Let a request pass and count it, or tell how long it must wait.

        Returns:
            0 = it passed; else nanoseconds until it would pass if nobody else asked for anything, and nothing counts.
        """
        kinds = self._kinds_of(method, path)
        if not kinds:
            return 0
        logs = self._passed.setdefault(address, {})
        self._passed.move_to_end(address)
        wait_ns = max(_wait_ns(logs.get(kind.name, ()), kind, now_ns) for kind in kinds)
        if not wait_ns:
            for kind in kinds:
                self._count(logs.setdefault(kind.name, deque()), kind, now_ns)
            self._forget()
        return wait_ns

    def _find_kinds(self, method: str, path: str) -> tuple[Kind, ...]:
        if path.startswith(CONTROL) or path == RPC:
            return ()  # not a request that production knows
        kinds = tuple(kind for kind in self._kinds if kind.counts(method, path))
        return kinds if path.startswith((GAMMA, DATA, RELAYER)) else (*kinds, *self._clob)

    def _count(self, log: deque[Nanos], kind: Kind, now_ns: Nanos) -> None:
        window_ns = LONG_WINDOW_NS if kind.per_10_min else WINDOW_NS
        log.append(now_ns)
        self._stamps += 1
        while log[0] <= now_ns - window_ns or len(log) > kind.stamps_max:
            log.popleft()
            self._stamps -= 1

    def _forget(self) -> None:
        while len(self._passed) > 1 and (self._stamps > STAMPS_MAX or len(self._passed) > ADDRESSES_MAX):
            _, logs = self._passed.popitem(last=False)
            self._stamps -= sum(map(len, logs.values()))


# A request passes when the n-th last that passed is as old as the window: then fewer than n are in it.
def _wait_ns(log: Sequence[Nanos], kind: Kind, now_ns: Nanos) -> int:
    wait_ns = 0
    for count, window_ns in ((kind.per_10_s, WINDOW_NS), (kind.per_10_min, LONG_WINDOW_NS)):
        if count and len(log) >= count:
            wait_ns = max(wait_ns, log[-count] + window_ns - now_ns)
    return wait_ns
