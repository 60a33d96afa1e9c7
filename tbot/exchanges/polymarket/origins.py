"""Which connection of which run a line of our own recordings came by: between two of them data may be missing."""

from __future__ import annotations

from typing import Final

from tbot.core.units import NANOS_PER_S

HOUR_NS: Final = 3600 * NANOS_PER_S
# A connection that stands answers every ten seconds, and what it answers is recorded as well.
SILENCE_NS_MAX: Final = 60 * NANOS_PER_S


class Origins:
    """Follows the lines of a recording, which may span several files."""

    def __init__(self) -> None:
        """Begin before the first line."""
        self._connection = 0
        self._received_ns = 0
        self._is_new_file = False
        self._connections: dict[str, int] = {}  # of the newest frame of each token

    def begin_file(self) -> None:
        """Note that the next line is the first of a file."""
        self._is_new_file = True

    def note(self, connection: int, received_ns: int) -> bool:
        """Take the origin of a line, and say whether it begins another run.

        A run goes on in the next file when an hour begins, and only then; the next run counts its connections from one
        again.

        Args:
            connection: Number within the run; 0 = not told.
            received_ns: When it was read, Unix nanoseconds; 0 = not told.
        """
        if not received_ns:
            return False
        before_ns, self._received_ns, self._connection = self._received_ns, received_ns, connection
        is_new_file, self._is_new_file = self._is_new_file, False
        is_next_hour = received_ns // HOUR_NS - before_ns // HOUR_NS == 1
        if not (is_new_file and before_ns) or (is_next_hour and received_ns - before_ns <= SILENCE_NS_MAX):
            return False
        self._connections.clear()
        return True

    def has_crossed(self, token_id: str) -> bool:
        """Say, once, whether a token comes by another connection than before."""
        before = self._connections.get(token_id, self._connection)
        self._connections[token_id] = self._connection
        return before != self._connection
