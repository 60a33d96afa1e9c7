"""Tells the exchange's dead-man switch that we live, as long as we do.

Hung is worse than crashed: a bot whose decisions stand still must fall silent, so that the exchange cancels its orders.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import structlog
import trio

from tbot.errors import ExchangeUnavailable
from tbot.exchanges.gateway import Gateway
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


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """Body of the heartbeat's task; `run` is given to the supervisor.

    Attributes:
        gateway: Whose dead-man switch it is.
        coordinator_alive: Tells whether the coordinator got on lately (within `ALIVE_S`).
    """

    gateway: Gateway
    coordinator_alive: Callable[[], bool]

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
        return True
