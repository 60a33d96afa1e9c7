"""Faults that are switched on: by a script, by the dice of time, or by a request. Arithmetic on the time handed in."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from tbot.core.units import NANOS_PER_S, Nanos
from tbot.exchanges.simulated.fault_catalogue import CATALOGUE, Aim, Draw, Fault

FOREVER_NS = Nanos(1 << 62)


class FaultOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault asked for: a line of a script, or the body of `POST /control/fault`.

    Attributes:
        name: Which; docs/faults.md describes them all.
        at_s: Seconds until it begins, from the start of the exchange in a script, from now in a request.
        seconds: How long it lasts; None = as long as the catalogue says, and for a fault that strikes single requests
            or events until `count` of them were struck.
        count: How many requests or events it strikes; None = all within `seconds`, or one when no time is given.
        target: Whom or what it strikes; "" = anybody.
    """

    name: Fault
    at_s: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
    seconds: Annotated[float, Meta(gt=0, le=1e6)] | None = None
    count: Annotated[int, Meta(gt=0, le=1_000_000)] | None = None
    target: str = ""

    def __post_init__(self) -> None:
        """Refuse what could have no effect."""
        entry = CATALOGUE[self.name]
        if entry.draw is Draw.TIME and self.count is not None:
            raise ValueError(f"expected no count for {self.name}, which lasts for a time")
        if entry.draw is Draw.TIME and not entry.length_s and self.seconds is not None:
            raise ValueError(f"expected no seconds for {self.name}, which is over at once")
        if entry.aim is Aim.NOTHING and self.target:
            raise ValueError(f"expected no target for {self.name}, which concerns everybody")


class Switch:
    """One fault that is on."""

    def __init__(self, order: FaultOrder, now_ns: Nanos) -> None:
        """Switch on now."""
        entry = CATALOGUE[order.name]
        is_time = entry.draw is Draw.TIME
        seconds = entry.length_s if order.seconds is None and is_time else order.seconds
        self.fault = order.name
        self.target = order.target
        self.until_ns = FOREVER_NS if seconds is None else Nanos(now_ns + int(seconds * NANOS_PER_S))
        self.left = order.count if is_time or order.count or order.seconds is not None else 1

    def concerns(self, keys: tuple[str, ...]) -> bool:
        """Tell whether one of the keys is its target, or it has none."""
        return not self.target or self.target in keys


class Switchboard:
    """All faults that are on, oldest first."""

    def __init__(self) -> None:
        """Begin with none."""
        self._on: list[Switch] = []

    def on(self, order: FaultOrder, now_ns: Nanos) -> Switch:
        """Switch one on, besides those that are on already."""
        switch = Switch(order, now_ns)
        self._on.append(switch)
        return switch

    def off(self, fault: Fault) -> tuple[Switch, ...]:
        """Switch a fault off and give what was on."""
        return self._remove([switch for switch in self._on if switch.fault is fault])

    def off_unless(self, draw: Draw) -> None:
        """Switch off everything that strikes at other things."""
        self._remove([switch for switch in self._on if CATALOGUE[switch.fault].draw is not draw])

    def ended(self, now_ns: Nanos) -> tuple[Switch, ...]:
        """Take those whose time is over."""
        return self._remove([switch for switch in self._on if switch.until_ns <= now_ns])

    def take(self, draw: Draw, keys: tuple[str, ...]) -> Fault | None:
        """Let the oldest switch that strikes at this strike once."""
        for switch in self._on:
            if CATALOGUE[switch.fault].draw is draw and switch.concerns(keys):
                if switch.left is not None:
                    switch.left -= 1
                    if not switch.left:
                        self._on.remove(switch)
                return switch.fault
        return None

    def strikes_at(self, draw: Draw) -> bool:
        """Tell whether any switch that is on strikes at this, whatever its target."""
        return any(CATALOGUE[switch.fault].draw is draw for switch in self._on)

    def find(self, fault: Fault, keys: tuple[str, ...] = ()) -> Switch | None:
        """Give the oldest switch of a fault that concerns one of the keys."""
        return next((switch for switch in self._on if switch.fault is fault and switch.concerns(keys)), None)

    def of(self, fault: Fault) -> tuple[Switch, ...]:
        """Give every switch of a fault."""
        return tuple(switch for switch in self._on if switch.fault is fault)

    def next_end_ns(self) -> Nanos | None:
        """When the next one ends by itself."""
        return min((switch.until_ns for switch in self._on if switch.until_ns < FOREVER_NS), default=None)

    def _remove(self, gone: list[Switch]) -> tuple[Switch, ...]:
        if gone:
            self._on = [switch for switch in self._on if switch not in gone]
        return tuple(gone)
