"""What follows from a refused order, by the code of the refusal: a pause of its side, or a halt."""

from __future__ import annotations

from typing import Final

from tbot.core.messages import RejectCode, Rejected, Shortfall
from tbot.core.units import NANOS_PER_MS, Nanos, text_from_micro

# How long a side waits after a refusal before it asks again; a refusal is an answer about this moment only.
HOLD_MS: Final[dict[RejectCode, int]] = {
    RejectCode.POST_ONLY_WOULD_CROSS: 250,
    RejectCode.NOT_ENOUGH_BALANCE: 5_000,
    RejectCode.RATE_LIMITED: 1_000,
    RejectCode.UNAVAILABLE: 2_000,
    # The market's parameters are read anew meanwhile, and the next order is planned and signed from those.
    RejectCode.VERSION_MISMATCH: 5_000,
    # The market asks for more than it said; the terms in force are heard of within this time.
    RejectCode.TOO_SMALL: 30_000,
    RejectCode.EXPIRED_UNSENT: 0,
    # These are about everything we send (see `core.exchange_mode`), not about one side.
    RejectCode.RESTARTING: 0,
    RejectCode.CANCEL_ONLY: 0,
    RejectCode.TRADING_DISABLED: 0,
}
HOLD_MS_OTHER: Final = 1_000

# The same order would be refused for ever, and the account is not what we think it is: a person has to look.
HALTS: Final[dict[RejectCode, str]] = {
    RejectCode.NOT_AUTHORIZED: "the exchange refuses our credentials",
    RejectCode.BAD_SIGNATURE: "the exchange refuses our signatures",
    RejectCode.BANNED: "the exchange has banned this account",
    RejectCode.CLOSED_ONLY: "the account may only reduce positions",
    RejectCode.BLOCKED: "the exchange, or the network in front of it, does not serve this place",
}


def held_until_ns(refusal: Rejected) -> Nanos:
    """Return when the refused order's side may ask again."""
    return Nanos(refusal.at_ns + HOLD_MS.get(refusal.code, HOLD_MS_OTHER) * NANOS_PER_MS)


def halt_reason(refusal: Rejected) -> str:
    """Return why trading must stop, or "" when it need not."""
    what = HALTS.get(refusal.code)
    return f"{what}: {refusal.reason}" if what else ""


def describe_shortfall(shortfall: Shortfall) -> str:
    """Say the exchange's own sum in one line, dollars or shares as the order gives."""
    parts = {
        "balance": shortfall.balance,
        "in open orders": shortfall.active,
        "matched, not settled": shortfall.matched,
        "order": shortfall.wanted,
    }
    return ", ".join(f"{name} {text_from_micro(amount)}" for name, amount in parts.items() if amount is not None)
