"""Long lists gone through a part at a time, so that no single request keeps everybody else waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import trio

S = TypeVar("S")
T = TypeVar("T")

ITEMS_PER_TURN = 200
"""How much is gone through before others get their turn: about a millisecond of work."""


async def gathered(items: Sequence[S], make: Callable[[S], Iterable[T]]) -> list[T]:
    """Make any number of things of each item, in order."""
    made: list[T] = []
    for start in range(0, len(items), ITEMS_PER_TURN):
        made += [each for item in items[start : start + ITEMS_PER_TURN] for each in make(item)]
        await trio.lowlevel.checkpoint()
    return made
