"""Tells the exchange's dead-man switch that we live, as long as we do.

Hung is worse than crashed: a bot whose decisions stand still must fall silent, so that the exchange cancels its orders.
When the switch has fallen, for that or any other reason, all orders are gone without a word: the coordinator is told to
ask. When somebody else keeps it up with the same credentials, neither bot is protected: trading halts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
import trio

from tbot.core.messages import AccountGap, Halt
from tbot.core.units import Nanos
from tbot.errors import AnotherSender, ExchangeUnavailable
from tbot.exchanges.gateway import Gateway
from tbot.tasks.inbox import FACTS, Inbox
from tbot.tasks.supervisor import PULSE_S, TaskContext

log = structlog.get_logger()

ALIVE_S = 3.0
# Half of the exchange's patience (10 s on Polymarket), so one lost beat and its repetition still come in time.
INTERVAL_SHARE = 0.5
INTERVAL_S_MAX = 5.0
# Together at most the other half: a beat that hangs, a pause, a beat that arrives.
TIMEOUT_SHARE = 0.2
RETRY_SHARE = 0.1
# How often the coordinator's progress is looked at when a beat is due, seconds.
LOOK_S = 0.25
# For a place in the coordinator's inbox, seconds.
TELL_S = 0.5


class Progress:
    """The moment somebody last got on; written by one task, read by another."""

    def __init__(self) -> None:
        """Begin without any progress."""
        self._at_s = -math.inf

    def mark(self) -> None:
        """Note progress now."""
        self._at_s = trio.current_time()

    def is_fresh(self, within_s: float = ALIVE_S) -> bool:
        """Tell whether the last progress is at most this many seconds old."""
        return trio.current_time() - self._at_s <= within_s


@dataclass(kw_only=True)
class Heartbeat:
    """Body of the heartbeat's task; `run` is given to the supervisor, one object an incarnation.

    Attributes:
        gateway: Whose dead-man switch it is.
        coordinator: Is told in the facts lane when the switch fell, or is not ours alone.
        coordinator_alive: Tells whether the coordinator got on lately (within `ALIVE_S`).
        now_ns: The clock.
    """

    gateway: Gateway
    coordinator: Inbox
    coordinator_alive: Callable[[], bool]
    now_ns: Callable[[], Nanos]
    _heard_s: float = field(default=math.inf, init=False)  # of the last beat that was heard; inf = not armed

    async def run(self, ctx: TaskContext) -> None:
        """Beat until stopped; where there is no switch, wait."""
        ctx.started()
        dead_man_s = self.gateway.capabilities.dead_man_s
        if dead_man_s > 0:
            await ctx.until_stopped(lambda: self._beat_again_and_again(ctx, dead_man_s))
        else:
            await ctx.until_stopped(trio.sleep_forever, pulse=True)

    async def _beat_again_and_again(self, ctx: TaskContext, dead_man_s: float) -> None:
        interval_s = min(dead_man_s * INTERVAL_SHARE, INTERVAL_S_MAX)
        due = trio.current_time()
        while True:
            await ctx.beat()
            began = trio.current_time()
            await self._watch(dead_man_s)
            if began >= due and self.coordinator_alive():
                was_told = await self._protect(dead_man_s * TIMEOUT_SHARE)
                due = began + interval_s if was_told else trio.current_time() + dead_man_s * RETRY_SHARE
            until_due_s = due - trio.current_time()
            await trio.sleep(min(until_due_s, PULSE_S) if until_due_s > 0 else LOOK_S)

    async def _protect(self, timeout_s: float) -> bool:
        try:
            with trio.fail_after(timeout_s):
                await self.gateway.protect()
        except (ExchangeUnavailable, trio.TooSlowError) as error:
            log.warning("heartbeat.missed", reason=str(error) or "no answer in time")
            return False
        except AnotherSender as error:
            log.critical("heartbeat.another_sender")
            await self._tell(Halt(reason=str(error), at_ns=self.now_ns()))
            return False
        self._heard_s = trio.current_time()
        return True

    async def _watch(self, dead_man_s: float) -> None:
        """Say once that the switch has fallen; it is armed again by the next beat."""
        if trio.current_time() - self._heard_s <= dead_man_s:
            return
        log.error("heartbeat.lost", silent_s=round(trio.current_time() - self._heard_s, 1))
        gap = AccountGap(reason="the exchange's dead-man switch fell: all orders are gone", received_ns=self.now_ns())
        if await self._tell(gap):
            self._heard_s = math.inf

    async def _tell(self, fact: AccountGap | Halt) -> bool:
        # A coordinator that takes nothing is the reason for the silence, more often than not; ask again later.
        with trio.move_on_after(TELL_S) as scope:
            await self.coordinator.send(FACTS, fact)
        return not scope.cancelled_caught
