"""The one way to make requests to the exchange: pool, rate limits and clock, put together from the settings."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import httpx2
import structlog
import trio

from tbot.core.units import NANOS_PER_S, Nanos
from tbot.errors import ExchangeUnavailable
from tbot.exchanges.polymarket.auth import RequestSigner
from tbot.exchanges.polymarket.clock import SAMPLES, ExchangeClock
from tbot.exchanges.polymarket.http import Http
from tbot.exchanges.polymarket.limits import RateGate
from tbot.exchanges.polymarket.rest import Rest
from tbot.exchanges.polymarket.settings import PolymarketSettings

log = structlog.get_logger()

# A request waits for this, and its sender for the request.
RECHECK_WITHIN_S = 2.0
RECHECK_S = 5.0


class RunWide(NamedTuple):
    """What one run keeps of the exchange beyond any one connection or gateway: all that talk to it share this.

    The exchange counts the requests of a signer and of an address, not those of a gateway: one that began with full
    buckets right after another would send a second burst. And the last cancels of a desk have no time to measure first.

    Attributes:
        gate: Rate limits, with what is used of them and the orders that may rest.
        clock: The exchange's clock as far as it is known.
    """

    gate: RateGate
    clock: ExchangeClock

    @classmethod
    def begin(
        cls,
        settings: PolymarketSettings,
        now_ns: Callable[[], Nanos],
        catch_up: Callable[[int, int], bool] | None = None,
    ) -> RunWide:
        """Begin with full buckets and a clock never measured.

        Args:
            settings: Hold the rates.
            now_ns: Wall time of the run.
            catch_up: Sets it ahead where that is borne out; see `ExchangeClock`.
        """
        return cls(RateGate(settings.limits, now_ns), ExchangeClock(now_ns, catch_up))


class RestConnection:
    """A pool of connections with everything that requests need; closed by whoever made it.

    Attributes:
        shared: What it shares with others of the run.
        gate: Rate limits of its requests.
        clock: The exchange's clock as far as it is known; what is signed carries its time.
        rest: The requests; private ones only with a signer.
    """

    def __init__(
        self,
        settings: PolymarketSettings,
        *,
        now_ns: Callable[[], Nanos],
        signer: RequestSigner | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
        url: str = "",
        shared: RunWide | None = None,
    ) -> None:
        """Prepare everything; nothing is connected yet.

        Args:
            settings: Where, how fast, how patient.
            now_ns: Wall time.
            signer: Signs private requests; None where there are none.
            transport: For tests and simulations; None = sockets.
            url: Another address than that of the CLOB.
            shared: What the run keeps beyond this connection; None = nothing is kept.

        Raises:
            ConfigError: An address that must not get our requests.
        """
        if transport is None:
            settings.check_reach()
        self._now_ns = now_ns
        self._recheck: trio.Event | None = None
        self._in_vain_s, self._is_told = -math.inf, False
        self.shared = shared or RunWide.begin(settings, now_ns)
        self.gate, self.clock = self.shared.gate, self.shared.clock
        self._http = Http(
            url or settings.rest_url,
            gate=self.gate,
            timeouts=settings.timeouts,
            now_ns=self.clock.now_ns,
            signer=signer,
            transport=transport,
            doubt=self,
        )
        self.rest = Rest(self._http, timeouts=settings.timeouts, now_ns=now_ns, signed_ns=self.clock.now_ns)

    @property
    def corrected_ns(self) -> int:
        """By how much stamps are corrected now: what is added to our clock, and what it has caught up."""
        return self.clock.offset_ns + self.clock.caught_up_ns

    async def recheck(self) -> bool:
        """Measure the clock anew at once: a signed request was refused, for its stamp or for its credentials.

        When it changes nothing it is not done again for a while: keys that are no good must not cost a stream of
        requests.

        Returns:
            Whether the exchange told its time, and it is one that we follow.
        """
        if trio.current_time() >= self._in_vain_s + RECHECK_S:
            before_ns = self.corrected_ns
            await self.measure_anew()
            self._in_vain_s = trio.current_time() if self.corrected_ns == before_ns else -math.inf
        return self._is_told and not self.clock.is_beyond_use

    async def measure_anew(self) -> None:
        """Measure the clock at once; without an answer the old measure stays.

        As many measures as the median takes, so that an old difference is forgotten. Whoever comes meanwhile waits for
        them.
        """
        if self._recheck is not None:
            await self._recheck.wait()
            return
        self._recheck, self._is_told = trio.Event(), False
        try:
            with suppress(ExchangeUnavailable), trio.move_on_after(RECHECK_WITHIN_S):
                for _ in range(SAMPLES):
                    await self.measure_clock()
                self._is_told = True
        finally:
            self._recheck.set()
            self._recheck = None

    async def measure_clock(self) -> None:
        """Ask the exchange for its time once; a difference is logged when it appears.

        Raises:
            ExchangeUnavailable: It did not answer.
        """
        sent_ns, was_off, was_beyond_use = self._now_ns(), self.clock.is_off, self.clock.is_beyond_use
        caught_up_ns = self.clock.caught_up_ns
        self.clock.learn(await self.rest.time_s(), sent_ns=sent_ns, received_ns=self._now_ns())
        if self.clock.caught_up_ns != caught_up_ns:
            ahead_s = round((self.clock.caught_up_ns - caught_up_ns) / NANOS_PER_S, 1)
            log.warning("clock.caught_up", stood_still_s=ahead_s)
        if self.clock.is_off and not was_off:
            log.warning("clock.off", difference_s=round(self.clock.difference_ns / NANOS_PER_S, 1))
        if self.clock.is_beyond_use and not was_beyond_use:
            log.error("clock.not_followed", difference_s=round(self.clock.difference_ns / NANOS_PER_S, 1))

    async def aclose(self) -> None:
        """Close the pool."""
        await self._http.aclose()
