"""Connections of the in-process gateway: exchange streams seen through latency, jitter and reordering."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import trio

from tbot.core.market import TokenId
from tbot.core.units import NANOS_PER_MS, NANOS_PER_S, Nanos
from tbot.errors import Disconnected
from tbot.exchanges.simulated.events import AccountEvent as TheirAccountEvent
from tbot.exchanges.simulated.events import MarketEvent as TheirMarketEvent
from tbot.exchanges.simulated.events import TradePrinted
from tbot.exchanges.simulated.fault_catalogue import Fault
from tbot.exchanges.simulated.faults import Faults
from tbot.exchanges.simulated.streams import Stream, StreamEnded
from tbot.exchanges.simulated.transit import Transit, TransitSettings

# A stall is looked at this often.
LOOK_S = 0.25

Theirs = TypeVar("Theirs", bound=TheirMarketEvent | TheirAccountEvent)
Ours = TypeVar("Ours")


class Session(Generic[Theirs, Ours]):
    """One connection: `receive` gives what has arrived by now, in order of arrival.

    Events of one operation travel together; those of different operations may overtake each other by the jitter, as
    measured on production.

    Args:
        stream: The exchange's side.
        translate: Their event and our receive time -> our messages.
        first: Messages that wait already, such as the books of a new subscription.
        transit: How long an event is on its way.
        pong_s: A quiet connection shows a sign of life this often.
        faults: Cut the connection, or stall it.
    """

    def __init__(
        self,
        stream: Stream[Theirs],
        *,
        translate: Callable[[Theirs, Nanos], tuple[Ours, ...]],
        first: tuple[Ours, ...],
        transit: TransitSettings,
        pong_s: float,
        rng: random.Random,
        now_ns: Callable[[], Nanos],
        faults: Faults,
    ) -> None:
        self._stream = stream
        self._faults = faults
        self._translate = translate
        self._first = first
        self._pong_ns = int(pong_s * NANOS_PER_S)
        self._now_ns = now_ns
        self._transit: Transit[Theirs] = Transit(transit, rng)
        self._last = (0, 0)
        self._pong_due_ns = now_ns() + self._pong_ns

    async def receive(self) -> tuple[Ours, ...]:
        """Wait for the next messages; () is a sign of life without data.

        Raises:
            Disconnected: The exchange ended the connection.
        """
        await trio.lowlevel.checkpoint()
        while True:
            messages = self._arrived()
            now_ns = self._now_ns()
            if messages or now_ns >= self._pong_due_ns:
                self._pong_due_ns = now_ns + self._pong_ns
                return messages
            arrives_ns = self._transit.next_ns()
            due_ns = self._pong_due_ns if arrives_ns is None else min(self._pong_due_ns, arrives_ns)
            with trio.move_on_after((due_ns + 1 - now_ns) / NANOS_PER_S):
                await self._wait()

    async def subscribe(self, token_ids: Sequence[TokenId]) -> None:
        """Refuse: the in-process exchange knows no change of a subscription.

        Raises:
            Disconnected: Always; a new connection shows whole books.
        """
        await trio.lowlevel.checkpoint()
        raise Disconnected(f"the subscription of {len(token_ids)} tokens cannot be changed here")

    async def unsubscribe(self, token_ids: Sequence[TokenId]) -> None:
        """Refuse, as `subscribe` does."""
        await self.subscribe(token_ids)

    async def resubscribe(self, token_ids: Sequence[TokenId]) -> None:
        """Refuse, as `subscribe` does."""
        await self.subscribe(token_ids)

    async def _wait(self) -> None:
        if self._faults.is_on(Fault.SLOW_READER) and self._stream.is_open:
            await trio.sleep(LOOK_S)
        else:
            await self._stream.wait()

    def _arrived(self) -> tuple[Ours, ...]:
        self._pull()
        messages, self._first = list(self._first), ()
        now_ns = self._now_ns()
        while (event := self._transit.take(now_ns)) is not None:
            messages += self._translate(event, now_ns)
        return tuple(messages)

    def _pull(self) -> None:
        # What has arrived stays arrived; what has not waits at the exchange, which cuts a reader too far behind.
        if self._stream.is_open and self._faults.is_on(Fault.SLOW_READER):
            return
        try:
            events = self._stream.receive_nowait()
        except StreamEnded as ended:
            raise Disconnected(str(ended)) from ended
        for event in events:
            if self._faults.on_frame():
                raise Disconnected("cut in the middle of a frame")
            self._transit.send((event,), self._arrival_ns(event))

    def _arrival_ns(self, event: Theirs) -> Nanos:
        # A print is told alone, long after its operation.
        if isinstance(event, TradePrinted):
            return Nanos(event.exchange_ms * NANOS_PER_MS + self._transit.draw_ns())
        if event.exchange_ms != self._last[0]:
            self._last = (event.exchange_ms, self._transit.draw_ns())
        return Nanos(event.at_ns + self._last[1])
