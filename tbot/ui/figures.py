"""Numbers as people read them: money, shares, prices and times as short text."""

from __future__ import annotations

import math

from tbot.core.units import MICRO, Price, Size, decimal_from_micro

_HOUR_S = 3600.0


def money_text(value: int) -> str:
    """Print micro-dollars to the cent with thousands: 987_120_000 -> "987.12"; never "-0.00"."""
    return f"{decimal_from_micro(value):z,.2f}"


def money_signed_text(value: int) -> str:
    """Print a gain or loss with its sign, so that colour is never needed to tell them apart."""
    return f"{decimal_from_micro(value):z+,.2f}"


def price_text(price: Price, tick: Price) -> str:
    """Print a price with the decimals of its tick, so that a column of prices lines up; finer digits are kept."""
    # A book may hold levels off a tick that just became coarser, so the price has a say too.
    decimals = max(_decimals(tick), _decimals(price))
    return f"{decimal_from_micro(price):.{decimals}f}"


def size_text(size: Size) -> str:
    """Print shares in at most seven characters below a billion: "12.5", "12,345", "1.2M".

    Rounds toward zero: nobody should read more than there is.
    """
    sign, shares = "-" if size < 0 else "", abs(size)
    if shares >= MICRO * MICRO:
        return f"{sign}{shares // MICRO // 100_000 / 10:,.1f}M"
    if shares >= 1000 * MICRO:
        return f"{sign}{shares // MICRO:,}"
    cents = shares // (MICRO // 100)
    return sign + f"{cents // 100}.{cents % 100:02d}".rstrip("0").rstrip(".")


def clock_text(seconds: float, *, longest_s: float) -> str:
    """Print a duration as mm:ss, or hh:mm:ss where the longest one shown beside it needs hours."""
    whole = max(int(seconds), 0)
    minutes, rest = divmod(whole, 60)
    if max(longest_s, seconds) < _HOUR_S:
        return f"{minutes:02d}:{rest:02d}"
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest:02d}"


def progress_text(elapsed_s: float, duration_s: float, *, of: str = " of ") -> str:
    """Print how much of a run is over; of one without an end only how long it has been."""
    if math.isinf(duration_s):
        return clock_text(elapsed_s, longest_s=elapsed_s)
    elapsed, duration = (clock_text(seconds, longest_s=duration_s) for seconds in (elapsed_s, duration_s))
    return f"{elapsed}{of}{duration}"


def age_text(seconds: float) -> str:
    """Print an age briefly: "0.2 s", "12 s", "5 m", "3 h"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} m" if seconds < 100 * 60 else f"{seconds / _HOUR_S:.0f} h"


def _decimals(value: int) -> int:
    return len(f"{value % MICRO:06d}".rstrip("0"))
