"""Money and time as integers, and every rounding by name.

Price    micro-dollars per share      1 share at $0.56 -> 560_000
Size     micro-shares                 12.5 shares      -> 12_500_000
Notional micro-dollars                $7.00            -> 7_000_000
Nanos    wall-clock nanoseconds since 1970

Six decimals are exact on chain, so millionths lose nothing; integers are exact, hash fast and sort everywhere.
Text on the wire becomes integers once, at the edge (`micro_from_text`), and text again only to send or to print.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import NewType

Price = NewType("Price", int)
Size = NewType("Size", int)
Notional = NewType("Notional", int)
Nanos = NewType("Nanos", int)

MICRO = 1_000_000
ONE_DOLLAR = Price(MICRO)
NANOS_PER_S = 1_000_000_000
NANOS_PER_MS = 1_000_000


# Millionths in one unit of the last decimal, by the number of decimals.
_SCALES = (1_000_000, 100_000, 10_000, 1_000, 100, 10, 1)


def micro_from_text(text: str) -> int:
    """Parse a plain decimal into millionths, exactly.

    Args:
        text: ASCII digits with at most one point and one leading minus, at most 6 significant decimals.

    Raises:
        ValueError: Anything else: exponents, NaN, blanks, other digits, more than 6 decimals.
    """
    whole, _, fraction = text.partition(".")
    digits = whole + fraction
    # Nearly every text there is; the sign, zeros beyond the sixth decimal and mistakes take the longer way.
    if len(fraction) <= 6 and digits.isdigit() and digits.isascii():
        return int(digits) * _SCALES[len(fraction)]
    return _micro_from_odd_text(text)


def micro_nearest_from_text(text: str) -> int:
    """Parse a plain decimal into millionths, to the nearest, halves away from zero.

    Args:
        text: As for `micro_from_text`, with any number of decimals.

    Raises:
        ValueError: Anything else.
    """
    whole, _, fraction = text.partition(".")
    if len(fraction) <= 6 or not (fraction.isascii() and fraction.isdigit()):
        return micro_from_text(text)
    value = micro_from_text(f"{whole}.{fraction[:6]}")
    is_up = fraction[6] >= "5"
    return value + (is_up if not text.startswith("-") else -is_up)


def _micro_from_odd_text(text: str) -> int:
    negative = text.startswith("-")
    whole, _, fraction = text.removeprefix("-").partition(".")
    digits = whole + fraction
    if not digits.isdigit() or not text.isascii():
        raise ValueError(f"not a plain decimal: {text[:40]!r}")
    if fraction[6:].strip("0"):
        raise ValueError(f"more than 6 decimals: {text[:40]!r}")
    value = int((whole or "0") + fraction[:6].ljust(6, "0"))
    return -value if negative else value


def text_from_micro(value: int) -> str:
    """Print millionths as the shortest exact decimal: 500_000 -> "0.5", 78_000_000 -> "78"."""
    sign = "-" if value < 0 else ""
    whole, fraction = divmod(abs(value), MICRO)
    tail = f"{fraction:06d}".rstrip("0")
    return f"{sign}{whole}.{tail}" if tail else f"{sign}{whole}"


def decimal_from_micro(value: int) -> Decimal:
    """Give the exact decimal of a value in millionths; for printing only."""
    return Decimal(value).scaleb(-6)


def notional_floor(price: Price, size: Size) -> Notional:
    """Return price x size rounded down to a micro-dollar: what a seller receives."""
    return Notional(price * size // MICRO)


def notional_ceil(price: Price, size: Size) -> Notional:
    """Return price x size rounded up to a micro-dollar: what a buyer must be able to pay."""
    return Notional(-(-price * size // MICRO))


def price_of_fill_floor(notional: Notional, size: Size) -> Price:
    """Derive the average price of a fill, rounded down; a fill stores size and notional, never its price."""
    return Price(notional * MICRO // size)


def complement(price: Price) -> Price:
    """Mirror a price into the other outcome's book: YES at p is NO at 1 - p."""
    return Price(MICRO - price)


def tick_floor(price: int, tick: Price) -> Price:
    """Round down to the tick grid: bids."""
    return Price(price // tick * tick)


def tick_ceil(price: int, tick: Price) -> Price:
    """Round up to the tick grid: asks."""
    return Price(-(-price // tick) * tick)


def is_on_grid(price: Price, tick: Price) -> bool:
    """Tell whether a price is a whole multiple of the tick and inside [tick, 1 - tick]."""
    return tick <= price <= MICRO - tick and price % tick == 0


def price_clamp(price: int, tick: Price) -> Price:
    """Bring a price on the grid into [tick, 1 - tick]."""
    return Price(min(max(price, tick), MICRO - tick))


def price_of_estimate_floor(estimate: float, tick: Price) -> Price:
    """Turn an estimate in dollars into the tick at or below it, inside [tick, 1 - tick]: bids.

    Raises:
        ValueError: The estimate is not a finite number.
    """
    if not math.isfinite(estimate):
        raise ValueError(f"not a finite estimate: {estimate!r}")
    return price_clamp(tick_floor(math.floor(estimate * MICRO + 1e-6), tick), tick)


def price_of_estimate_ceil(estimate: float, tick: Price) -> Price:
    """Turn an estimate in dollars into the tick at or above it, inside [tick, 1 - tick]: asks.

    Raises:
        ValueError: The estimate is not a finite number.
    """
    if not math.isfinite(estimate):
        raise ValueError(f"not a finite estimate: {estimate!r}")
    return price_clamp(tick_ceil(math.ceil(estimate * MICRO - 1e-6), tick), tick)


def size_lot_floor(size: int, lot: Size) -> Size:
    """Round a size down to whole lots (0.01 share on Polymarket): never order more than meant."""
    return Size(size // lot * lot)


def dollars(value: int) -> float:
    """Give millionths as a float, for estimators and reports; never booked, never sent."""
    return value / MICRO
