"""The exchange's dead-man switch: every answer carries the id of the next beat, and only one sender can hold it.

A wrong id is told the right one, which is taken up and sent at once. After a start, or after an answer that was lost,
that is normal. But an id that was confirmed to us can only be wrong because somebody else has sent a beat since: twice
in a row means a second bot on the same credentials, and each keeps alive, or cancels, the orders of the other.

Source: docs.polymarket.com (heartbeats), read 2026-11-22.
"""

from __future__ import annotations

from typing import Final

import msgspec

from tbot.errors import AnotherSender, BadFrame, ExchangeUnavailable
from tbot.exchanges.polymarket.http import Answer
from tbot.exchanges.polymarket.rest import Rest, raise_for_status
from tbot.exchanges.polymarket.wire import Complaint, HeartbeatAnswer, decode

STRIKES_MAX: Final = 2
# A refusal tells the right id; a second one in the same turn means that it was used up meanwhile.
TRIES: Final = 2

_COMPLAINT = msgspec.json.Decoder(Complaint)
_ANSWER = msgspec.json.Decoder(HeartbeatAnswer)


class DeadManSwitch:
    """Keeps the chain of ids."""

    def __init__(self, rest: Rest) -> None:
        """Begin with no id: the exchange tells the one it expects."""
        self._rest = rest
        self._next_id = ""
        self._is_confirmed = False
        self._strikes = 0

    async def beat(self) -> None:
        """Tell the switch that we live.

        Raises:
            ExchangeUnavailable: It was not told.
            AnotherSender: An id that was ours was used by somebody else, twice in a row.
        """
        is_confirmed, self._is_confirmed = self._is_confirmed, False
        for attempt in range(TRIES):
            answer = await self._rest.heartbeat(self._next_id)
            told_id = _expected_id(answer)
            if told_id is None:
                self._take(answer)
                if attempt == 0:
                    self._strikes = 0
                return
            self._strikes += is_confirmed
            self._next_id, is_confirmed = told_id, True
            if self._strikes >= STRIKES_MAX:
                self._strikes = 0
                raise AnotherSender("another program sends heartbeats with our API credentials; stop one of the two")
        raise ExchangeUnavailable("the switch was not told: its id changed under us")

    def _take(self, answer: Answer) -> None:
        raise_for_status(answer, is_private=True)
        try:
            self._next_id = decode(_ANSWER, answer.content).heartbeat_id
        except BadFrame as error:
            raise ExchangeUnavailable(f"undecodable answer: {error}") from error
        self._is_confirmed = True


def _expected_id(answer: Answer) -> str | None:
    """Return the id that a refusal asks for; None = it was no such refusal."""
    if answer.status != 400:
        return None
    try:
        told = decode(_COMPLAINT, answer.content)
    except BadFrame:
        return None
    return told.heartbeat_id if "heartbeat" in told.text.lower() else None
