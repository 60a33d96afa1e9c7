"""The newest-wins slot in front of an inbox, and the fan-out of states to several of them.

A state replaces the one of the same key that still waits, so a slow reader skips states instead of falling behind.
Only states may be conflated, never changes: apply changes first, then publish the state (see `market_feed`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import trio

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Conflator(Generic[K, V]):
    """Slots keyed by what they describe; writers never wait.

    Attributes:
        merged: How many states were replaced before they were read.
    """

    def __init__(self, on_put: Callable[[], None] | None = None) -> None:
        """Begin empty.

        Args:
            on_put: Called after every `put`, so that one reader can wait for several sources.
        """
        self.merged = 0
        self._slots: dict[K, V] = {}
        self._readers = trio.lowlevel.ParkingLot()
        self._on_put = on_put

    def __len__(self) -> int:
        """Count the states that wait."""
        return len(self._slots)

    def put(self, key: K, value: V) -> None:
        """Replace the waiting state of this key, or add one. Never waits.

        States are read in the order of their newest put: an old key that is put again moves to the end, so a state
        about several others ("withdraw all") is never overtaken by a later one of theirs.
        """
        if key in self._slots:
            del self._slots[key]
            self.merged += 1
        self._slots[key] = value
        self._readers.unpark()
        if self._on_put is not None:
            self._on_put()

    def keys(self) -> tuple[K, ...]:
        """Name what waits, in the order of the newest puts."""
        return tuple(self._slots)

    def peek(self, key: K) -> V | None:
        """Return the state that waits under a key and leave it there; None when none does."""
        return self._slots.get(key)

    def discard(self, key: K) -> None:
        """Forget the state that waits under a key, if any."""
        self._slots.pop(key, None)

    def take_nowait(self) -> dict[K, V]:
        """Take everything that waits, which may be nothing."""
        taken, self._slots = self._slots, {}
        return taken

    async def take(self) -> dict[K, V]:
        """Wait for at least one state and take all. Always a checkpoint; nothing is lost when it is cancelled."""
        await trio.lowlevel.checkpoint()
        while not self._slots:
            await self._readers.park()
        return self.take_nowait()


class Hub(Generic[K, V]):
    """Fan-out of states to named subscribers; a new subscriber begins with all current states.

    Attributes:
        topic: First half of the keys in the subscribers' boxes, so that one box can serve several hubs.
    """

    def __init__(self, topic: str) -> None:
        """Begin with no state and no subscriber."""
        self.topic = topic
        self._states: dict[K, V] = {}
        self._boxes: dict[str, tuple[Conflator[Any, Any], Collection[K] | None]] = {}

    @property
    def states(self) -> Mapping[K, V]:
        """The newest state of each key; do not edit."""
        return self._states

    def publish(self, key: K, value: V) -> None:
        """Make this the newest state of a key, for all subscribers. Never waits."""
        self._states[key] = value
        for box, keys in self._boxes.values():
            if keys is None or key in keys:
                box.put((self.topic, key), value)

    def invalidate(self) -> None:
        """Forget all states, also those that wait in boxes: a publisher starts anew, nothing old may be acted on."""
        for key in self._states:
            for box, _ in self._boxes.values():
                box.discard((self.topic, key))
        self._states.clear()

    @contextmanager
    def subscribe(self, name: str, box: Conflator[Any, Any], keys: Collection[K] | None = None) -> Iterator[None]:
        """Deliver states into a box, as `(topic, key) -> state`, until the context ends.

        Args:
            name: Of the subscriber.
            box: The subscriber's own conflator.
            keys: The keys wanted; None for all.

        Raises:
            RuntimeError: The name is taken: two incarnations of one task are alive.
        """
        if name in self._boxes:
            raise RuntimeError(f"{name} subscribed twice to {self.topic}")
        for key, value in self._states.items():
            if keys is None or key in keys:
                box.put((self.topic, key), value)
        self._boxes[name] = (box, keys)
        try:
            yield
        finally:
            del self._boxes[name]
