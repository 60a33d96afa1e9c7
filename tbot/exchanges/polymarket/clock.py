"""The exchange's clock as far as it can be known from here: ours, plus a difference that is measured.

Requests and orders carry a time, and one that is seconds off is refused. `GET /time` answers in whole seconds, so one
measurement may be half a second wrong, more when the line was slow; the median of five forgets the odd slow one. A
difference that this measure cannot tell from none is taken for none: a machine that keeps time should be believed.
A difference beyond `SKEW_S_MAX` is no drift but a fault, theirs or ours: it is told and not followed, or one broken
answer would put any time at all on our orders. But where we are behind and the machine's own clock bears theirs out, it
was we who stood still, as in a paused virtual machine, and the run's clock catches up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from statistics import median_low

from tbot.core.units import NANOS_PER_MS, NANOS_PER_S, Nanos

SAMPLES = 5
# A difference up to this is corrected on everything that is signed. Beyond it something is wrong with a clock that a
# correction would only hide, from logs and from the age of data.
SKEW_S_MAX = 30.0
# Half a second of rounding and as much for the line.
TOLERANCE_NS = NANOS_PER_S
# What is pushed may be stamped so much ahead of the time it is received, for all we know of both clocks: a second of
# difference that is not followed, and one for whoever stamps it, which is not who answers `GET /time`.
AHEAD_NS = 2 * NANOS_PER_S
# The machine's clock bears theirs out within this, and half the round trip.
BORNE_OUT_NS = 2 * NANOS_PER_S
# Samples are cut to this, an hour, so that no number however long goes further than here.
_SAMPLE_NS_MAX = 3_600 * NANOS_PER_S


class ExchangeClock:
    """Wall time by the exchange's clock.

    Attributes:
        offset_ns: What is added to ours; 0 while the difference is too small to be told, and what it was last while it
            is too large to be followed.
        caught_up_ns: How far ours was set ahead so far, as it was the one that had stood still.
        difference_ns: As measured: theirs minus ours, cut at an hour.
        measured_ns: When it was last measured, by our clock; 0 = never.
    """

    def __init__(self, now_ns: Callable[[], Nanos], catch_up: Callable[[int, int], bool] | None = None) -> None:
        """Begin with our own time.

        Args:
            now_ns: Our wall time.
            catch_up: Sets it ahead to the machine's where that is borne out (`SteadyClock.catch_up`); None = it cannot.
        """
        self._now_ns = now_ns
        self._catch_up = catch_up
        self._samples: deque[int] = deque(maxlen=SAMPLES)
        self.offset_ns = self.difference_ns = self.caught_up_ns = 0
        self.measured_ns = Nanos(0)

    @property
    def is_off(self) -> bool:
        """Whether our clock differs by more than a second."""
        return abs(self.difference_ns) > TOLERANCE_NS

    @property
    def is_beyond_use(self) -> bool:
        """Whether our clock differs by so much that nobody should trade with it."""
        return abs(self.difference_ns) > SKEW_S_MAX * NANOS_PER_S + TOLERANCE_NS

    def now_ns(self) -> Nanos:
        """Return the time to put on requests and orders."""
        return Nanos(self._now_ns() + self.offset_ns)

    def latest_ms(self, received_ns: Nanos) -> int:
        """Return the latest time that what was received then may be stamped with; a later one cannot be true.

        Anything is believed up to an hour ahead while the clocks were never compared.

        Args:
            received_ns: By our clock.

        Returns:
            Unix milliseconds.
        """
        # A clock of theirs that is behind is no reason: the one that stamps may be right.
        ahead_ns = max(0, self.difference_ns) if self.measured_ns else _SAMPLE_NS_MAX
        return (received_ns + ahead_ns + AHEAD_NS) // NANOS_PER_MS

    def learn(self, their_s: int, *, sent_ns: Nanos, received_ns: Nanos) -> None:
        """Take one answer of `GET /time` in.

        Args:
            their_s: Unix seconds, cut off; any number.
            sent_ns: Our time before the request.
            received_ns: Our time after it.
        """
        middle_ns = (sent_ns + received_ns) // 2
        ahead_ns = their_s * NANOS_PER_S + NANOS_PER_S // 2 - middle_ns
        self._samples.append(max(-_SAMPLE_NS_MAX, min(ahead_ns, _SAMPLE_NS_MAX)))
        self.difference_ns = median_low(self._samples)
        if not self.is_beyond_use:
            self.offset_ns = self.difference_ns if self.is_off else 0
        self.measured_ns = received_ns
        if self.is_beyond_use and self._is_caught_up(received_ns + ahead_ns, (received_ns - sent_ns) // 2):
            self._samples.clear()
            caught_up_ns = self._now_ns()
            shift_ns = caught_up_ns - received_ns
            self.caught_up_ns += shift_ns
            self.learn(their_s, sent_ns=Nanos(sent_ns + shift_ns), received_ns=caught_up_ns)

    def _is_caught_up(self, theirs_ns: int, doubt_ns: int) -> bool:
        """Have our clock catch up with theirs, if the machine's bears it out."""
        return self._catch_up is not None and self._catch_up(theirs_ns, BORNE_OUT_NS + doubt_ns)
