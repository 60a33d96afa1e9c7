"""Asks the exchange what is true, regularly and whenever the coordinator doubts.

Pushed events are hints; this is the safety net under them. Reports reach back over the last ones, so a fill that was
never pushed is found, and one that was pushed is booked once. Balances that seem to differ are read from the chain anew
by the exchange before a report tells them again.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec
import structlog
import trio

from tbot.core.backoff import Backoff
from tbot.core.drift import REFRESH_WITHIN_NS
from tbot.core.market import TokenId
from tbot.core.messages import ExchangeOrderId, RequestReport
from tbot.core.units import NANOS_PER_S, Nanos
from tbot.errors import ExchangeUnavailable, RateLimited
from tbot.exchanges.gateway import Gateway
from tbot.tasks.inbox import FACTS, Inbox
from tbot.tasks.supervisor import PULSE_S, TaskContext

log = structlog.get_logger()

POLL_S = 5.0
# A trade may be listed seconds after its match; a minute covers every delay seen (busy phases take 50 s to settle).
OVERLAP_NS = 60 * NANOS_PER_S
# The exchange answers such a request by reading the chain: an asset is asked for this seldom, however often it differs.
REFRESH_EVERY_S = 5.0
# A report holds the truth on orders: it does not wait longer than this for balances.
REFRESH_S_MAX = 3.0


@dataclass(kw_only=True)
class Reconciler:
    """Body of the reconciler's task; `run` is given to the supervisor.

    Attributes:
        inbox: Takes `RequestReport` as a state.
        coordinator: Gets `ExchangeReport` as a fact.
        backoff: Waits between failed reports.
        rng: Its jitter.
        since_ns: Fills before this are asked for only if the coordinator says so, who knows what is on record.
    """

    inbox: Inbox
    coordinator: Inbox
    gateway: Gateway
    backoff: Backoff
    rng: random.Random
    now_ns: Callable[[], Nanos]
    since_ns: Nanos
    _request: RequestReport | None = field(default=None, init=False)
    _failures: int = field(default=0, init=False)
    _due: float = field(default=math.inf, init=False)
    _refresh_after: float = field(default=-math.inf, init=False)
    _refresh_due: dict[TokenId, float] = field(default_factory=dict, init=False)
    _refreshed: dict[TokenId, bool] = field(default_factory=dict, init=False)
    _unread: dict[TokenId, float] = field(default_factory=dict, init=False)

    async def run(self, ctx: TaskContext) -> None:
        """Report when asked and every `POLL_S` after the first time, until stopped; after a failure when it is time.

        The coordinator asks as soon as it has recovered. Before that a report would reach back to nobody knows where.

        Raises:
            AuthenticationFailed: The exchange refuses our credentials.
            trio.BrokenResourceError: The coordinator is gone.
        """
        with self.inbox:
            ctx.started()
            while not ctx.stop.is_set():
                await ctx.beat()
                for message in await self.inbox.take(min(self._due, trio.current_time() + PULSE_S)):
                    # Kept until it is answered: an exchange that is away must not cost the question.
                    self._request = message if isinstance(message, RequestReport) else self._request
                is_asked = self._request is not None and not self._failures
                if not ctx.stop.is_set() and (is_asked or trio.current_time() >= self._due):
                    await self._report(self._request)

    async def _report(self, request: RequestReport | None) -> None:
        lookups: tuple[ExchangeOrderId, ...] = request.order_ids if request is not None else ()
        asked = request.since_ns if request is not None and request.since_ns else self.since_ns
        since_ns = Nanos(min(asked, self.since_ns) - OVERLAP_NS)
        try:
            if request is not None and request.refresh:
                await self._refresh(request.refresh)
            report = await self.gateway.report(since_ns, lookups, request.token_ids if request is not None else ())
        except ExchangeUnavailable as error:
            self._fail(error)
            return
        self._request = None
        self._failures = 0
        self._due = trio.current_time() + POLL_S
        self.since_ns = report.requested_ns
        refreshed, self._refreshed = tuple(self._refreshed), {}
        report = msgspec.structs.replace(report, refreshed=refreshed, unread=tuple(self._unread_yet()))
        await self.coordinator.send(FACTS, report)

    async def _refresh(self, assets: Sequence[TokenId]) -> None:
        """Have balances read from the chain anew, each seldom; what does not work now must not cost the report."""
        now = trio.current_time()
        due = [asset for asset in assets if now >= max(self._refresh_due.get(asset, now), self._refresh_after)]
        for asset in assets:
            if asset in due or asset not in self._refresh_due:
                self._unread.setdefault(asset, now)
        fault = f"not within {REFRESH_S_MAX:g} s"
        with trio.move_on_after(REFRESH_S_MAX):
            try:
                for asset in due:
                    self._refresh_due[asset] = trio.current_time() + REFRESH_EVERY_S
                    await self.gateway.refresh_balance(asset)
                    self._refreshed[asset] = True
                    self._unread.pop(asset, None)
                return
            except ExchangeUnavailable as error:
                fault = str(error)
        # The others would meet the same; all of them are asked for again with a later question.
        self._refresh_after = trio.current_time() + REFRESH_EVERY_S
        log.warning("balances.not_refreshed", count=len(due), error=fault)

    def _unread_yet(self) -> Iterator[TokenId]:
        """Name what is still waited for: an exchange that reads nothing for long leaves nobody else to ask."""
        before = trio.current_time() - REFRESH_WITHIN_NS / NANOS_PER_S
        return (asset for asset, since in self._unread.items() if since > before)

    def _fail(self, error: ExchangeUnavailable) -> None:
        wait_s = error.retry_after_s if isinstance(error, RateLimited) else self.backoff.delay(self._failures, self.rng)
        self._failures += 1
        self._due = trio.current_time() + wait_s
        log.warning("report.failed", error=str(error), retry_s=round(wait_s, 3))
