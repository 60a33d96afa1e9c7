"""What the exchange lets us send now, as its refusals tell: restarts, post-only and cancel-only times, rate limits.

The exchange announces none of it; a refused order or cancel is the only sign. So the mode is a function of the replies
the coordinator takes in anyway, and a replay of those walks through the same modes. Each restriction has a moment from
which it may be tried again: then one order goes first, and only its acceptance opens the door for the others.

Sources: docs.polymarket.com (restarts, trading restrictions, error codes), read 2026-11-22.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from tbot.core.messages import RejectCode
from tbot.core.units import NANOS_PER_S, Nanos


class Permit(StrEnum):
    """What may be sent. Cancels are always tried: an order that should not rest is worth one more refusal."""

    ALL = "all"
    POST_ONLY = "post-only"
    CANCELS = "cancels only"
    NOTHING = "nothing"


class ExchangeMode(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The restriction in force.

    Attributes:
        permit: What may be sent.
        until_ns: When it may be tried again; 0 = no restriction.
        is_restart: The engine restarts: what follows is a time of post-only orders.
        is_probed: Whether one order must be accepted before the others may follow; else time alone ends it.
        since_ns: When it was told; an order sent before says nothing about it.
        code: The refusal that told it; None = no restriction.
    """

    permit: Permit = Permit.ALL
    until_ns: Nanos = Nanos(0)
    is_restart: bool = False
    is_probed: bool = False
    since_ns: Nanos = Nanos(0)
    code: RejectCode | None = None


OPEN: Final = ExchangeMode()
# A restart takes about 90 s, and 2 minutes of post-only orders follow it.
POST_ONLY_AFTER_RESTART_NS: Final = Nanos(120 * NANOS_PER_S)
# Hints longer than this are not believed blindly: asking again costs one refusal, and an order that should not rest
# must not go on resting for an hour because of one number.
WAIT_S_MAX: Final = 120.0

_PERMITS: Final[dict[RejectCode, Permit]] = {
    RejectCode.RESTARTING: Permit.NOTHING,
    RejectCode.TRADING_DISABLED: Permit.NOTHING,
    RejectCode.CANCEL_ONLY: Permit.CANCELS,
    RejectCode.POST_ONLY_MODE: Permit.POST_ONLY,
    RejectCode.RATE_LIMITED: Permit.CANCELS,
}
# How long a restriction holds when the refusal names no time, seconds.
_WAIT_S: Final[dict[RejectCode, float]] = {
    RejectCode.RESTARTING: 2.0,
    RejectCode.TRADING_DISABLED: 20.0,
    RejectCode.CANCEL_ONLY: 15.0,
    RejectCode.POST_ONLY_MODE: 15.0,
}


def believed_wait_s(asked_s: float) -> float:
    """Return how long to wait when the exchange asks for it: finite, not negative, at most `WAIT_S_MAX` seconds.

    Args:
        asked_s: Anything a header or a body can be read as, infinity and "not a number" included; 0 = named none.
    """
    # In this order: of "not a number" and 0, `max` returns the first.
    return min(max(0.0, asked_s), WAIT_S_MAX)


def permit_text(mode: ExchangeMode) -> str:
    """Say what may be sent and why, for people: "nothing (restarting)"; "all" without a restriction."""
    return mode.permit.value + (f" ({mode.code.value})" if mode.code is not None else "")


def mode_refused(mode: ExchangeMode, code: RejectCode, retry_after_s: float, at_ns: Nanos) -> ExchangeMode:
    """Return the mode after a refusal; a code that restricts nothing changes nothing.

    Args:
        mode: Before it.
        code: Of the refused order or cancel.
        retry_after_s: As the exchange asked; 0 = it named none.
        at_ns: When it was refused.
    """
    permit = _PERMITS.get(code)
    wait_s = believed_wait_s(retry_after_s) or _WAIT_S.get(code, 0.0)
    if permit is None or not wait_s:
        return mode
    if code is RejectCode.RATE_LIMITED and mode.permit not in (Permit.ALL, permit):
        return mode  # says nothing about the engine, so what is known of it stands
    until_ns = Nanos(max(at_ns + int(wait_s * NANOS_PER_S), mode.until_ns if mode.code is code else 0))
    return ExchangeMode(
        permit=permit,
        until_ns=until_ns,
        is_restart=code is RejectCode.RESTARTING,
        is_probed=code not in (RejectCode.POST_ONLY_MODE, RejectCode.RATE_LIMITED),
        since_ns=at_ns,
        code=code,
    )


def mode_accepted(mode: ExchangeMode, *, is_post_only: bool, sent_ns: Nanos, at_ns: Nanos) -> ExchangeMode:
    """Return the mode after an accepted order: the engine is up, and takes this kind of order.

    Args:
        mode: Before it.
        is_post_only: Of the order.
        sent_ns: When it was signed; one sent before the restriction was told proves nothing.
        at_ns: When it was accepted.
    """
    if sent_ns < mode.since_ns or (mode.permit is Permit.POST_ONLY and is_post_only):
        return mode
    if mode.is_restart:
        until_ns = Nanos(at_ns + POST_ONLY_AFTER_RESTART_NS)
        return ExchangeMode(permit=Permit.POST_ONLY, until_ns=until_ns, since_ns=at_ns, code=RejectCode.POST_ONLY_MODE)
    return OPEN


def may_submit(mode: ExchangeMode, *, is_post_only: bool, now_ns: Nanos) -> bool:
    """Tell whether an order may be sent now; see `submits_room` for how many."""
    if now_ns >= mode.until_ns:
        # After a restart takes are refused for a while: the first to try the door is an order that may pass it.
        return is_post_only or not mode.is_restart
    return mode.permit is Permit.ALL or (mode.permit is Permit.POST_ONLY and is_post_only)


def is_restricted(mode: ExchangeMode, now_ns: Nanos) -> bool:
    """Tell whether anything is still left out: a restriction that time alone ends is over then, though none said so."""
    return mode.is_probed or not may_submit(mode, is_post_only=False, now_ns=now_ns)


def submits_room(mode: ExchangeMode, *, in_flight: int, now_ns: Nanos) -> int | None:
    """Return how many orders may be sent now; None = no limit of this kind.

    Args:
        mode: In force.
        in_flight: Orders whose reply has not come.
        now_ns: Wall clock.
    """
    if not mode.is_probed:
        return None
    return 1 if now_ns >= mode.until_ns and not in_flight else 0
