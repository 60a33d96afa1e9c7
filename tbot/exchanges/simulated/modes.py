"""Restricted modes: what the exchange refuses while its engine restarts or its operators hold trading.

Source: docs.polymarket.com (restarts, trading restrictions), read 2026-11-22. The body of a 425 is not documented;
its text is the one users met (Polymarket/py-clob-client#273, March 2026).
"""

from __future__ import annotations

import math

from tbot.core.units import NANOS_PER_S, Nanos
from tbot.exchanges.simulated.checks import (
    TEXT_CANCEL_ONLY,
    TEXT_DISABLED,
    TEXT_POST_ONLY_MODE,
    TEXT_RESTARTING,
)
from tbot.exchanges.simulated.http import HttpRefusal, json_response
from tbot.exchanges.simulated.operations import Mode

RETRY_RESTARTING_S = 1
_FOREVER_NS = Nanos(1 << 62)


class PostOnlyMode(HttpRefusal):
    """An order that could take, refused: 503 with a code and the seconds left, as text and as header."""

    def __init__(self, retry_after_s: int) -> None:
        """Make the answer."""
        super().__init__(TEXT_POST_ONLY_MODE, status=503)
        body = {"error": TEXT_POST_ONLY_MODE, "code": "post_only_mode", "retry_after_seconds": retry_after_s}
        self.response = json_response(body, status=503, headers=(("Retry-After", str(retry_after_s)),))


class Modes:
    """The modes that lie ahead, each with its end. Owned by one server; time is handed in."""

    def __init__(self) -> None:
        """Begin in normal mode."""
        self._plan: list[tuple[Nanos, Mode]] = []

    def hold(self, mode: Mode) -> None:
        """Stay in a mode until told otherwise."""
        self._plan = [(_FOREVER_NS, mode)]

    def restart(self, now_ns: Nanos, *, restarting_s: float, post_only_s: float) -> None:
        """Go through a restart of the engine: down, then post-only, then normal."""
        up_ns = Nanos(now_ns + int(restarting_s * NANOS_PER_S))
        self._plan = [(up_ns, Mode.RESTARTING), (Nanos(up_ns + int(post_only_s * NANOS_PER_S)), Mode.POST_ONLY)]

    def end_restart(self, now_ns: Nanos) -> None:
        """End a restart that is under way, with its post-only time; a mode that is held stays."""
        if self._phase(now_ns)[0] != _FOREVER_NS:
            self._plan = []

    def current(self, now_ns: Nanos) -> Mode:
        """Tell the mode at a moment."""
        return self._phase(now_ns)[1]

    def phase(self, now_ns: Nanos) -> tuple[Mode, float]:
        """Tell the mode at a moment, and the seconds it tells to wait: whole ones, 1 when nobody knows its end."""
        ends_ns, mode = self._phase(now_ns)
        is_endless = ends_ns == _FOREVER_NS
        return mode, float(RETRY_RESTARTING_S if is_endless else math.ceil((ends_ns - now_ns) / NANOS_PER_S))

    def next_ns(self, now_ns: Nanos) -> Nanos | None:
        """When the mode ends; None = it stays until told otherwise."""
        ends_ns = self._phase(now_ns)[0]
        return None if ends_ns == _FOREVER_NS else ends_ns

    def check_orders(self, now_ns: Nanos) -> None:
        """Check that orders may be sent at all.

        Raises:
            HttpRefusal: 425 or 503.
        """
        self.check_cancels(now_ns)
        if self.current(now_ns) is Mode.CANCEL_ONLY:
            raise HttpRefusal(TEXT_CANCEL_ONLY, status=503)

    def check_taking(self, now_ns: Nanos) -> None:
        """Check that an order that is not post-only may be sent.

        Raises:
            PostOnlyMode: Not now.
        """
        mode, seconds = self.phase(now_ns)
        if mode is Mode.POST_ONLY:
            raise PostOnlyMode(int(seconds))

    def check_cancels(self, now_ns: Nanos) -> None:
        """Check that cancels may be sent.

        Raises:
            HttpRefusal: 425 or 503.
        """
        match self.current(now_ns):
            case Mode.RESTARTING:
                raise HttpRefusal(TEXT_RESTARTING, status=425, headers=(("Retry-After", str(RETRY_RESTARTING_S)),))
            case Mode.DISABLED:
                raise HttpRefusal(TEXT_DISABLED, status=503)
            case _:
                return

    def _phase(self, now_ns: Nanos) -> tuple[Nanos, Mode]:
        ahead = ((ends_ns, mode) for ends_ns, mode in self._plan if now_ns < ends_ns)
        return next(ahead, (_FOREVER_NS, Mode.NORMAL))
