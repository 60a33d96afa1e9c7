"""What the exchange says when it refuses, as codes: a table of texts, because texts are all it sends.

Compared by "contains", in lower case, in this order; ids, prices and amounts are embedded in the texts.
Source: polymarket docs, error pages and recorded answers (read 2026-11-22).
"""

from __future__ import annotations

from tbot.core.messages import RejectCode

REJECT_TEXTS: tuple[tuple[str, RejectCode], ...] = (
    ("order_version_mismatch", RejectCode.VERSION_MISMATCH),
    ("invalid order version", RejectCode.VERSION_MISMATCH),
    ("duplicated", RejectCode.DUPLICATE),
    ("post-only mode", RejectCode.UNAVAILABLE),
    ("cancel-only", RejectCode.UNAVAILABLE),
    ("trading is currently disabled", RejectCode.UNAVAILABLE),
    ("trading is disabled", RejectCode.UNAVAILABLE),
    ("post-only order", RejectCode.POST_ONLY_WOULD_CROSS),
    ("crosses the book", RejectCode.POST_ONLY_WOULD_CROSS),
    ("crosses book", RejectCode.POST_ONLY_WOULD_CROSS),
    ("not enough balance", RejectCode.NOT_ENOUGH_BALANCE),
    ("allowance is not enough", RejectCode.NOT_ENOUGH_BALANCE),
    ("breaks minimum tick size", RejectCode.OFF_GRID),
    ("lower than the minimum", RejectCode.TOO_SMALL),
    ("min size: $", RejectCode.TOO_SMALL),
    ("fok orders are fully filled or killed", RejectCode.NOT_FILLED),
    ("no orders found to match", RejectCode.NOT_FILLED),
    ("not yet ready to process", RejectCode.MARKET_NOT_READY),
)
# The engine holds the order or broke while it had it: it may rest or trade yet.
DOUBTFUL_TEXTS = ("order match delayed", "could not insert order")


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
