"""Seeded misbehaviour: what goes wrong, decided here and nowhere else.

Each kind of decision draws from its own generator, so that one more submit does not change which fills are dropped.
Every fault that is injected is counted by kind; a run reports the counts, and a run that reports none proves little.
"""

from __future__ import annotations

import random
from enum import StrEnum
from typing import Annotated, TypeVar

import msgspec

from tbot.core.units import NANOS_PER_S, Nanos
from tbot.exchanges.simulated.operations import Course

Rate = Annotated[float, msgspec.Meta(ge=0, le=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]


class SubmitFault(StrEnum):
    """What becomes of a submit on its way."""

    NONE = "none"
    LOST_BEFORE = "lost_before"  # never arrives; the caller times out
    LOST_AFTER = "lost_after"  # arrives and takes effect; the answer is lost
    LATE = "late"  # the caller times out, and then it arrives
    HTTP_5XX_AFTER_ACCEPT = "http_5xx_after_accept"  # takes effect; the answer is a server error
    RATE_LIMITED = "rate_limited"  # refused before the engine


class CancelFault(StrEnum):
    """What becomes of a cancel on its way."""

    NONE = "none"
    LOST_BEFORE = "lost_before"
    LOST_AFTER = "lost_after"
    RATE_LIMITED = "rate_limited"


class ReportFault(StrEnum):
    """What becomes of a sweep of reads."""

    NONE = "none"
    UNAVAILABLE = "unavailable"


class AccountFault(StrEnum):
    """What becomes of one private event."""

    NONE = "none"
    DROP = "drop"
    DUPLICATE = "duplicate"
    DELAY = "delay"


class MarketFault(StrEnum):
    """What becomes of one public event; a dropped one leaves the reader's book silently wrong."""

    NONE = "none"
    DROP = "drop"


class FaultSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rates of faults, each the share of requests or events concerned (0 to 1), all 0 by default.

    Attributes:
        market_drop: Leave at 0 unless the reader under test verifies its book by other means: nothing in the feed
            tells of the loss before the next trade.
        cuts_per_hour: All connections cut, this often on average.
        silences_per_hour: Market streams stay open but carry no data for `silence_s`, this often on average.
        silence_s: Length of a silence; its end shows whole books.
        late_s: How long after sending a late submit lands.
        delay_s: Longest delay of a delayed private event.
        retry_after_s: Told with every rate limit.
    """

    submit_lost_before: Rate = 0.0
    submit_lost_after: Rate = 0.0
    submit_late: Rate = 0.0
    submit_http_5xx: Rate = 0.0
    submit_rate_limited: Rate = 0.0
    cancel_lost_before: Rate = 0.0
    cancel_lost_after: Rate = 0.0
    cancel_rate_limited: Rate = 0.0
    report_unavailable: Rate = 0.0
    account_drop: Rate = 0.0
    account_duplicate: Rate = 0.0
    account_delay: Rate = 0.0
    market_drop: Rate = 0.0
    settlement_retry: Rate = 0.0
    settlement_fail: Rate = 0.0
    cuts_per_hour: Seconds = 0.0
    silences_per_hour: Seconds = 0.0
    silence_s: Seconds = 20.0
    late_s: Seconds = 30.0
    delay_s: Seconds = 3.0
    retry_after_s: Seconds = 1.0


F = TypeVar("F", bound=StrEnum)


class Faults:
    """The dice. Each method makes one decision and counts it when it is a fault.

    Args:
        settings: Rates.
        seed: Same seed, same decisions in the same order, in every process.
    """

    def __init__(self, settings: FaultSettings, seed: int) -> None:
        self.settings = settings
        self.faults_injected: dict[str, int] = {}
        self._dice = {kind: random.Random(f"{seed}/{kind}") for kind in _KINDS}
        self._tables = _tables(settings)

    def on_submit(self) -> SubmitFault:
        """Decide the fate of one submit."""
        return self._decide("submit", SubmitFault)

    def on_cancel(self) -> CancelFault:
        """Decide the fate of one cancel request, whatever the number of its ids."""
        return self._decide("cancel", CancelFault)

    def on_report(self) -> ReportFault:
        """Decide the fate of one sweep of reads."""
        return self._decide("report", ReportFault)

    def on_account_event(self) -> AccountFault:
        """Decide the fate of one private event."""
        return self._decide("account", AccountFault)

    def on_market_event(self) -> MarketFault:
        """Decide the fate of one public event on its way to one reader."""
        return self._decide("market", MarketFault)

    def on_settlement(self) -> Course:
        """Decide how the trades of one taker order settle."""
        return self._decide("settlement", Course)

    def event_delay_ns(self) -> int:
        """Draw the delay of a delayed private event."""
        return int(self._dice["delay"].uniform(0.1, 1.0) * self.settings.delay_s * NANOS_PER_S)

    def next_cut_ns(self, now_ns: Nanos) -> Nanos | None:
        """Draw when all connections are cut next; None = never."""
        return self._next("cut", self.settings.cuts_per_hour, now_ns)

    def next_silence_ns(self, now_ns: Nanos) -> Nanos | None:
        """Draw when the market streams fall silent next; None = never."""
        return self._next("silence", self.settings.silences_per_hour, now_ns)

    def calm(self) -> None:
        """Decide for no fault from now on, and plan none; what is under way takes its course."""
        self.settings = FaultSettings()
        self._tables = _tables(self.settings)

    def count(self, kind: str) -> None:
        """Count one injected fault that was decided elsewhere, such as a scripted cut."""
        self.faults_injected[kind] = self.faults_injected.get(kind, 0) + 1

    def _decide(self, kind: str, values: type[F]) -> F:
        table = self._tables[kind]
        if not table:
            return next(iter(values))
        draw = self._dice[kind].random()
        for name, rate in table:
            if draw < rate:
                self.count(f"{kind}_{name.lower()}")
                return values(name)
            draw -= rate
        return next(iter(values))

    def _next(self, kind: str, per_hour: float, now_ns: Nanos) -> Nanos | None:
        if not per_hour:
            return None
        return Nanos(now_ns + int(self._dice[kind].expovariate(per_hour / 3600) * NANOS_PER_S))


_KINDS = ("submit", "cancel", "report", "account", "market", "settlement", "delay", "cut", "silence")


# The first member of each enum is "no fault"; the table lists the others with their rates, and is empty when all are 0
# so that a run without faults draws nothing.
def _tables(s: FaultSettings) -> dict[str, tuple[tuple[str, float], ...]]:
    rates: dict[str, tuple[tuple[StrEnum, float], ...]] = {
        "submit": (
            (SubmitFault.LOST_BEFORE, s.submit_lost_before),
            (SubmitFault.LOST_AFTER, s.submit_lost_after),
            (SubmitFault.LATE, s.submit_late),
            (SubmitFault.HTTP_5XX_AFTER_ACCEPT, s.submit_http_5xx),
            (SubmitFault.RATE_LIMITED, s.submit_rate_limited),
        ),
        "cancel": (
            (CancelFault.LOST_BEFORE, s.cancel_lost_before),
            (CancelFault.LOST_AFTER, s.cancel_lost_after),
            (CancelFault.RATE_LIMITED, s.cancel_rate_limited),
        ),
        "report": ((ReportFault.UNAVAILABLE, s.report_unavailable),),
        "account": (
            (AccountFault.DROP, s.account_drop),
            (AccountFault.DUPLICATE, s.account_duplicate),
            (AccountFault.DELAY, s.account_delay),
        ),
        "market": ((MarketFault.DROP, s.market_drop),),
        "settlement": ((Course.RETRY, s.settlement_retry), (Course.FAIL, s.settlement_fail)),
    }
    return {
        kind: tuple((str(fault), rate) for fault, rate in rows) if any(rate for _, rate in rows) else ()
        for kind, rows in rates.items()
    }
