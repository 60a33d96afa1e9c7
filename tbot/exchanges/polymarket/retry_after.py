"""The header `Retry-After`: seconds or a date in, a wait out that can be acted on."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

from tbot.core.exchange_mode import believed_wait_s
from tbot.core.units import NANOS_PER_S, Nanos

RETRY_AFTER_S_DEFAULT = 1.0  # of a 429 that names none


def header_wait_s(text: str, now_ns: Nanos | None) -> float | None:
    """Return the wait a header asks for, seconds, as far as it is believed; None = it names none.

    Args:
        text: Value of the header; "" = there was none.
        now_ns: Wall time, against which a date is held; None = dates are not understood.
    """
    text = text.strip()
    if text.isascii() and text.replace(".", "", 1).isdigit():
        return believed_wait_s(float(text))
    if now_ns is None:
        return None
    try:
        return believed_wait_s(parsedate_to_datetime(text).timestamp() - now_ns / NANOS_PER_S)
    except (ValueError, OverflowError):
        return None
