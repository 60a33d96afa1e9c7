"""Signatures refused while nobody could say whether their market moved to another contract. Pure.

A market that moves makes its next order's signature invalid, which is no fault of ours and stops nothing but its sides
for a moment; a signature that is no good for any contract stops the bot. The sources that tell one from the other may
be away, or behind one another, just when the market moves.
"""

from __future__ import annotations

from typing import Final

from tbot.core.market import MarketId
from tbot.core.units import NANOS_PER_S, Nanos

# Caches catch up sooner, and so many orders refused with several seconds between them harm nobody.
DOUBT_NS: Final = 60 * NANOS_PER_S


class ContractDoubts:
    """Since when it is unknown of each market whether it moved."""

    def __init__(self) -> None:
        """Begin with none."""
        # When each began, and when it was last noted.
        self._times: dict[MarketId, tuple[Nanos, Nanos]] = {}

    def is_young(self, market_id: MarketId, now_ns: Nanos) -> bool:
        """Note a refused signature of which it is unknown, and tell whether the market has the benefit of the doubt.

        It lasts for `DOUBT_NS` from the first; one so long after the last begins anew.
        """
        began_ns, noted_ns = self._times.get(market_id, (now_ns, now_ns))
        if now_ns - noted_ns > DOUBT_NS:
            began_ns = now_ns
        self._times[market_id] = (began_ns, now_ns)
        return now_ns - began_ns <= DOUBT_NS

    def settle(self, market_id: MarketId) -> None:
        """Note that its contract is known."""
        self._times.pop(market_id, None)
