"""What the paper account begins with, and how far away it pretends to be."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from tbot.core.units import MICRO, Notional


class PaperSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The paper account.

    Attributes:
        cash: Play money of a new account, micro-dollars; a kept account goes on with what it has.
        latency_ms: From asking to taking effect, and back again as long: an order or a cancel needs both ways. Prints
            that arrive meanwhile still fill what is being cancelled.
        print_lag_ms: A level that shrank may have traded, and its print comes this much later at the latest (measured:
            the print lags its level by some 20 ms, and arrives within 50). Only then is the shrinking believed to be
            cancels, of which we might be the gainers.
        settle_s: From match to final settlement; bought tokens can be sold and proceeds be spent from then on.
    """

    cash: Annotated[Notional, Meta(gt=0)] = Notional(1_000 * MICRO)
    latency_ms: Annotated[float, Meta(ge=0, le=10_000)] = 75.0
    print_lag_ms: Annotated[float, Meta(ge=0, le=60_000)] = 250.0
    settle_s: Annotated[float, Meta(gt=0, le=3_600)] = 4.0
