"""Which orders of ours may rest: what the cancel bucket must always be able to pay for.

Those that left and have not ended, as the sender knows, corrected by what the exchange lists. Its list may lag, and a
bot that starts anew finds orders it did not send itself, so what is listed counts whether it is known or not. Whose
they are decides about cancelling everything at once, and there only an id that was ours counts: another program may use
our credentials.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from tbot.core.messages import ExchangeOrderId
from tbot.core.units import Nanos

# So many ids are remembered, those that rest beside: of an ended order older than all of these nothing is still told.
KNOWN_MAX = 4_096


class RestingOrders:
    """The orders of one account that may rest, whichever gateway of the run sent them."""

    def __init__(self) -> None:
        """Begin with none, and without a list."""
        self._ours: dict[ExchangeOrderId, Nanos] = {}
        # When each that was ever ours was last heard of.
        self._heard: dict[ExchangeOrderId, Nanos] = {}
        # Listed last and never ours.
        self._strange: dict[ExchangeOrderId, None] = {}
        self._was_listed = False

    @property
    def ours(self) -> Mapping[ExchangeOrderId, Nanos]:
        """Those of ours, with the time of their sending; 0 = it was before this run."""
        return self._ours

    @property
    def count(self) -> int:
        """How many of ours may rest."""
        return len(self._ours)

    @property
    def count_all(self) -> int:
        """How many may rest of which we know, strange ones included."""
        return len(self._ours) + len(self._strange)

    @property
    def is_alone(self) -> bool:
        """Whether a list has shown that no order of the account is strange."""
        return self._was_listed and not self._strange

    def sent(self, order_id: ExchangeOrderId, now_ns: Nanos) -> None:
        """Count one that is about to leave."""
        self._ours[order_id] = now_ns
        self._hear(order_id, now_ns)

    def gone(self, order_id: ExchangeOrderId, now_ns: Nanos) -> None:
        """Count one no more: it rests nowhere."""
        self._ours.pop(order_id, None)
        self._hear(order_id, now_ns)

    def claim(self, order_ids: Iterable[ExchangeOrderId]) -> None:
        """Take these for ours: whoever keeps the bot's books names them as its own."""
        for order_id in order_ids:
            if order_id in self._strange:
                del self._strange[order_id]
                self._ours[order_id] = Nanos(0)
            if order_id not in self._heard:
                self._hear(order_id, Nanos(0))

    def correct(self, listed: Collection[ExchangeOrderId], requested_ns: Nanos) -> None:
        """Correct what may rest by a list: of what was heard since it was asked for, it knows nothing.

        Args:
            listed: Every open order of the account, other programs' as well.
            requested_ns: When the list was asked for.
        """
        known = {order_id: self._heard[order_id] for order_id in listed if order_id in self._heard}
        back = {order_id: heard_ns for order_id, heard_ns in known.items() if heard_ns < requested_ns}
        since = {order_id: sent_ns for order_id, sent_ns in self._ours.items() if sent_ns >= requested_ns}
        self._ours = {order_id: self._ours.get(order_id, heard_ns) for order_id, heard_ns in back.items()} | since
        self._strange = dict.fromkeys(order_id for order_id in listed if order_id not in known)
        self._was_listed = True

    def _hear(self, order_id: ExchangeOrderId, now_ns: Nanos) -> None:
        self._heard.pop(order_id, None)
        self._heard[order_id] = now_ns
        if len(self._heard) > KNOWN_MAX:
            # Never one that may rest, however old: the next list would call it strange.
            over = next((each for each in self._heard if each not in self._ours), None)
            if over is not None:
                del self._heard[over]
