"""The task that hears of our own orders and fills, and hands everything on in order.

The channel sends no state when it opens and nothing it missed while it was down, so the coordinator hears of every
hole before it hears anything that came after: it asks for a report then.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
import trio

from tbot.core.backoff import Backoff
from tbot.core.messages import AccountEvent, AccountGap, Message
from tbot.core.units import Nanos
from tbot.errors import BadFrame, Disconnected, ExchangeUnavailable
from tbot.exchanges.gateway import AccountSession, Gateway
from tbot.tasks.conflator import Conflator
from tbot.tasks.inbox import FACTS, Inbox
from tbot.tasks.redial import Redial, asked_wait_s
from tbot.tasks.supervisor import TaskContext, leaves

log = structlog.get_logger()

CONNECT_S = 10.0
# Signs of life come every 10 s; two in a row missing, and a bit.
LINK_S = 25.0
# A coordinator that takes no fact for so long is wedged; better that the desk restarts than that fills pile up here.
SEND_S = 5.0
HEALTH_KEY = "account_feed"


class AccountFeedHealth(Message, frozen=True, kw_only=True):
    """How the account feed is, for people; counts since the task began.

    Attributes:
        is_connected: Whether the connection stands.
        connects: Connections made.
        losses: Connections lost, and attempts that failed.
        events: Events handed on.
        bad_frames: Frames that could not be used.
        reason: Why the last connection ended; "" = none did.
    """

    is_connected: bool
    connects: int
    losses: int
    events: int
    bad_frames: int
    reason: str
    at_ns: Nanos


@dataclass(kw_only=True)
class AccountFeed:
    """Body of the account feed's task; `run` is given to the supervisor, one object an incarnation.

    Attributes:
        gateway: Where our orders are.
        coordinator: Gets account events in the facts lane.
        health: Gets `AccountFeedHealth` under `HEALTH_KEY`.
        backoff: Pauses between attempts to connect, from the second on.
        rng: Their jitter.
        now_ns: The clock.
    """

    gateway: Gateway
    coordinator: Inbox
    health: Conflator[str, AccountFeedHealth]
    backoff: Backoff
    rng: random.Random
    now_ns: Callable[[], Nanos]
    _connects: int = field(default=0, init=False)
    _losses: int = field(default=0, init=False)
    _events: int = field(default=0, init=False)
    _bad_frames: int = field(default=0, init=False)

    async def run(self, ctx: TaskContext) -> None:
        """Hand events on until stopped.

        Raises:
            trio.TooSlowError: The coordinator took no fact for `SEND_S`.
            trio.BrokenResourceError: The coordinator is gone.
            AuthenticationFailed: The exchange refuses our credentials.
        """
        ctx.started()
        # The waits here have deadlines of their own: the link's and the coordinator's.
        await ctx.until_stopped(self._stay_connected, pulse=True)

    async def _stay_connected(self) -> None:
        redial = Redial(self.backoff, self.rng)
        while True:
            connects = self._connects
            reason, wait_s = await self._connection(redial)
            self._losses += 1
            pause_s = redial.lost(trio.current_time(), at_least_s=wait_s)
            log.warning("account.lost", reason=reason, pause_s=round(pause_s, 3))
            self._publish_health(is_connected=False, reason=reason)
            if self._connects > connects:
                await self._send(self._gap(reason))
            await trio.sleep(pause_s)

    async def _connection(self, redial: Redial) -> tuple[str, float]:
        """Live through one connection, or fail to make it; return why it ended and the wait asked for."""
        reason, wait_s = f"no connection within {CONNECT_S:g} s", 0.0
        with trio.move_on_after(CONNECT_S) as scope:
            try:
                async with self.gateway.open_account() as session:
                    scope.deadline = math.inf
                    self._connects += 1
                    redial.connected(trio.current_time())
                    log.info("account.connected", connects=self._connects)
                    self._publish_health(is_connected=True, reason="")
                    await self._send(self._gap("connected: what happened before is not told"))
                    await self._hand_on(session)
            except* ExchangeUnavailable as group:
                reason, wait_s = str(leaves(group)[0]), asked_wait_s(group)
        return reason, wait_s

    async def _hand_on(self, session: AccountSession) -> None:
        while True:
            for event in await self._next(session):
                await self._send(event)
                self._events += 1

    async def _next(self, session: AccountSession) -> tuple[AccountEvent, ...]:
        try:
            with trio.fail_after(LINK_S):
                return await session.receive()
        except trio.TooSlowError:
            raise Disconnected(f"no sign of life for {LINK_S:g} s") from None
        except BadFrame as error:
            self._bad_frames += 1
            log.warning("account.bad_frame", reason=str(error))
            return (self._gap(f"bad frame: {error}"),)

    async def _send(self, event: AccountEvent) -> None:
        with trio.fail_after(SEND_S):
            await self.coordinator.send(FACTS, event)

    def _gap(self, reason: str) -> AccountGap:
        return AccountGap(reason=reason, received_ns=self.now_ns())

    def _publish_health(self, *, is_connected: bool, reason: str) -> None:
        health = AccountFeedHealth(
            is_connected=is_connected,
            connects=self._connects,
            losses=self._losses,
            events=self._events,
            bad_frames=self._bad_frames,
            reason=reason,
            at_ns=self.now_ns(),
        )
        self.health.put(HEALTH_KEY, health)
