"""Long random walks through days of trading: `Trading` shrinks what it finds, a walk goes deeper."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from tbot.core.messages import Quote, Side
from tests.properties.trading_day import CANCELS, COPIES, LANDINGS, OPERATOR, QUOTES_MAX, Trading, quote_of

# How often each thing happens on a long walk, and how its arguments are drawn.
WALK: dict[str, tuple[int, Callable[[random.Random], dict[str, Any]]]] = {
    "quote": (18, lambda r: {"token": r.randrange(3), "quotes": some_quotes(r), "chase": r.randrange(4), "valid": 50}),
    "take": (6, lambda r: {"token": r.randrange(3), "side": r.choice(list(Side)), "cents": r.randint(45, 55)}),
    "top": (4, lambda r: {"token": r.randrange(3), "bid": r.randint(40, 52), "ask": 53, "is_stale": r.random() < 0.1}),
    "command": (1, lambda r: {"kind": r.choice(OPERATOR)}),
    "wait": (15, lambda r: {"ms": r.choice((1, 100, 1_000, 2_500))}),
    "sign": (40, lambda r: {"which": r.randrange(99), "is_late": r.random() < 0.1}),
    "land": (40, lambda r: {"which": r.randrange(99), "outcome": r.choice(LANDINGS)}),
    "copy": (25, lambda r: {"which": r.randrange(99), "outcome": r.choice(COPIES)}),
    "cancel": (25, lambda r: {"which": r.randrange(99), "outcome": r.choice(CANCELS)}),
    "reply": (60, lambda _: {}),
    "match": (15, lambda r: {"which": r.randrange(99), "percent": r.choice((10, 50, 100))}),
    "settle": (15, lambda r: {"which": r.randrange(99), "step": r.randrange(99), "is_repeat": r.random() < 0.5}),
    "push": (60, lambda r: {"which": r.randrange(3), "times": r.choice((0, 1, 1, 1, 1, 2))}),
    "gap": (1, lambda _: {}),
    "ask_report": (20, lambda _: {}),
    "give_report": (20, lambda _: {}),
    "crash": (1, lambda r: {"is_prepared_known": r.random() < 0.5}),
    "checkpoint": (1, lambda _: {}),
}


def walk(seed: int, steps: int) -> Trading:
    """Let a long random day happen, its invariants judged after every step."""
    rng = random.Random(seed)
    day = Trading()
    names, weights = list(WALK), [weight for weight, _ in WALK.values()]
    for name in rng.choices(names, weights, k=steps):
        if day.can(name):
            getattr(day, name)(**WALK[name][1](rng))
            day.all_is_well()
    day.teardown()
    return day


def some_quotes(rng: random.Random) -> list[Quote]:
    """Draw up to three quotes about the middle."""
    return [
        quote_of(rng.choice(list(Side)), rng.randint(42, 58), rng.choice((5, 10, 20)), level)
        for level in range(rng.randrange(QUOTES_MAX + 1))
    ]
