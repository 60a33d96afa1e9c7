"""What the exchange says when it refuses, as codes: a table of texts, because texts are all it sends.

Compared by "contains", in lower case, in this order; ids, prices and amounts are embedded in the texts. The words in
capitals are older codes that some documents and clients still quote.
Source: polymarket docs, error pages and recorded answers (read 2026-11-22).
"""

from __future__ import annotations

import re
from typing import Final

from tbot.core.messages import RejectCode, Shortfall
from tbot.core.units import micro_from_text

REJECT_TEXTS: Final[tuple[tuple[str, RejectCode], ...]] = (
    ("order_version_mismatch", RejectCode.VERSION_MISMATCH),
    ("invalid order version", RejectCode.VERSION_MISMATCH),
    ("duplicated", RejectCode.DUPLICATE),
    ("post_only_mode", RejectCode.POST_ONLY_MODE),
    ("post-only mode", RejectCode.POST_ONLY_MODE),
    ("cancel-only", RejectCode.CANCEL_ONLY),
    ("trading is currently disabled", RejectCode.TRADING_DISABLED),
    ("trading is disabled", RejectCode.TRADING_DISABLED),
    ("invalid_post_only_order_type", RejectCode.MALFORMED),
    ("invalid_post_only_order", RejectCode.POST_ONLY_WOULD_CROSS),
    ("post-only order", RejectCode.POST_ONLY_WOULD_CROSS),
    ("crosses the book", RejectCode.POST_ONLY_WOULD_CROSS),
    ("crosses book", RejectCode.POST_ONLY_WOULD_CROSS),
    ("not enough balance", RejectCode.NOT_ENOUGH_BALANCE),
    ("not_enough_balance", RejectCode.NOT_ENOUGH_BALANCE),
    ("allowance is not enough", RejectCode.NOT_ENOUGH_BALANCE),
    ("breaks minimum tick size", RejectCode.OFF_GRID),
    ("invalid_order_min_tick_size", RejectCode.OFF_GRID),
    ("lower than the minimum", RejectCode.TOO_SMALL),
    ("invalid_order_min_size", RejectCode.TOO_SMALL),
    ("min size: $", RejectCode.TOO_SMALL),
    ("fok orders are fully filled or killed", RejectCode.NOT_FILLED),
    ("fok_order_not_filled", RejectCode.NOT_FILLED),
    ("no orders found to match", RejectCode.NOT_FILLED),
    ("not yet ready to process", RejectCode.MARKET_NOT_READY),
    ("market_not_ready", RejectCode.MARKET_NOT_READY),
    ("invalid amounts", RejectCode.BAD_AMOUNTS),
    ("invalid expiration", RejectCode.BAD_EXPIRATION),
    ("invalid_order_expiration", RejectCode.BAD_EXPIRATION),
    ("invalid signature", RejectCode.BAD_SIGNATURE),
    ("maker address not allowed", RejectCode.BAD_SIGNATURE),
    ("signer address has to be", RejectCode.NOT_AUTHORIZED),
    ("order owner has to be", RejectCode.NOT_AUTHORIZED),
    ("invalid api key", RejectCode.NOT_AUTHORIZED),
    ("invalid l1 request headers", RejectCode.NOT_AUTHORIZED),
    ("address banned", RejectCode.BANNED),
    ("in closed only mode", RejectCode.CLOSED_ONLY),
    ("restricted in your region", RejectCode.BLOCKED),
    ("invalid order payload", RejectCode.MALFORMED),
    ("invalid nonce", RejectCode.MALFORMED),
    ("too many orders in payload", RejectCode.MALFORMED),
    ("too many requests", RejectCode.RATE_LIMITED),
)
# The engine holds the order or broke while it had it: it may rest or trade yet. So it may when somebody before the
# engine stopped waiting for it ("context canceled" is a 400 of the front door) or lost the line to it.
DOUBTFUL_TEXTS: Final = (
    "context cancel",
    "timeout",
    "timed out",
    "deadline exceeded",
    "connection reset",
    "upstream",
    "order match delayed",
    "order_delayed",
    "delaying_order_error",
    "execution_error",
    "could not insert order",
    "there are no matching orders",
    "the trade contains rounding issues",
    "price of the taker's order has a discrepancy",
)
# The numbers behind "not enough balance", each beside its name: "balance: 5000000, sum of active orders: 0, ...".
_SUMS: Final = {
    "balance": re.compile(r"\bbalance: ([0-9.]{1,30})"),
    "active": re.compile(r"sum of active orders: ([0-9.]{1,30})"),
    "matched": re.compile(r"sum of matched orders: ([0-9.]{1,30})"),
    "wanted": re.compile(r"order amount(?: \(inc\. fees\))?: ([0-9.]{1,30})"),
}


def reject_code(text: str) -> RejectCode:
    """Classify a refusal; OTHER for words not in the table."""
    lowered = text.lower()
    return next((code for words, code in REJECT_TEXTS if words in lowered), RejectCode.OTHER)


def is_doubtful(text: str) -> bool:
    """Tell whether a complaint leaves open what becomes of the order.

    "Duplicated" is one: it proves that the same order arrived before.
    """
    lowered = text.lower()
    return "duplicated" in lowered or any(words in lowered for words in DOUBTFUL_TEXTS)


def shortfall_of(text: str) -> Shortfall | None:
    """Read the sum behind a refusal for want of balance; None when it tells no number.

    The numbers are base units (millionths) as far as recorded; one with a point is taken for dollars or shares.
    """
    found = {name: _amount(match[1]) for name, pattern in _SUMS.items() if (match := pattern.search(text.lower()))}
    numbers = {name: amount for name, amount in found.items() if amount is not None}
    return Shortfall(**numbers) if numbers else None


def _amount(text: str) -> int | None:
    digits = text.rstrip(".,")
    if digits.isascii() and digits.isdigit():
        return int(digits)
    try:
        return micro_from_text(digits)
    except ValueError:
        return None
