"""The synthetic crowd: seeded traders who arrive by Poisson clocks and act on one engine.

Pure: `step(view, now_ns)` gives the operations of the soonest arrival, `next_ns` says when the next one is due.

What makes a bad strategy lose money, in order of weight:

- Informed traders know the fair value and race for stale quotes a fraction of a second after news; rival makers learn
  it after seconds. Whoever leaves a quote there in between, or leans against the news, pays.
- Takers pay the spread and the fee, and nobody knows more from past prices: a chaser buys at the top of the run.
- Chasers overshoot, makers bring the price back: momentum reverses within the minute.
- Noise takers, alone or in herds, are what honest makers live on.

Each market has its own regime by name (`regimes.py`), some of them calibrated on recordings: docs/calibration.md.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Annotated

import msgspec

from tbot.core.units import MICRO, NANOS_PER_S, Nanos, Notional, Size
from tbot.exchanges.simulated.fair_value import FairValue, FairValueSettings
from tbot.exchanges.simulated.operations import EVER, Account, Deposit, MarketRules, Operation, SplitPair
from tbot.exchanges.simulated.regimes import CALIBRATED, Regime, RegimeName
from tbot.exchanges.simulated.traders import (
    Hand,
    MakerSettings,
    TakerSettings,
    TicketSettings,
    View,
    buy_tickets,
    requote,
    take_informed,
    take_momentum,
    take_noise,
)

NOISE = Account("noise")
INFORMED = Account("informed")
CHASER = Account("chaser")

# How fast the average of the mid that chasers look at follows, seconds.
AVERAGE_S = 20.0


class FlowSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The crowd.

    Attributes:
        fair: How fair values move, and where they start; `starts` counts for every regime.
        makers: Makers of moderate markets.
        takers: Takers of moderate markets.
        tickets: Ticket buyers of moderate markets.
        regimes: One name a market, repeated when there are more: "moderate" = as set here, which the simulation can
            afford for hours; "quiet", "busy" and "burst" are calibrated on recordings.
        wealth_usd: Collateral of each synthetic account, in whole dollars; they never run dry in a day.
        pairs: YES and NO pairs each of them starts with in every market, in whole shares.
    """

    fair: FairValueSettings = FairValueSettings()
    makers: MakerSettings = MakerSettings()
    takers: TakerSettings = TakerSettings()
    tickets: TicketSettings = TicketSettings()
    regimes: Annotated[tuple[RegimeName, ...], msgspec.Meta(min_length=1)] = ("moderate",)
    wealth_usd: int = 5_000_000
    pairs: int = 500_000

    def regime(self, market: int) -> Regime:
        """Tell how the n-th market trades."""
        given = Regime(fair=self.fair, makers=self.makers, takers=self.takers, tickets=self.tickets)
        return CALIBRATED.get(self.regimes[market % len(self.regimes)], given)


class Arrival(StrEnum):
    """What can be due."""

    NEWS = "NEWS"
    NOISE = "NOISE"
    INFORMED = "INFORMED"
    REACTION = "REACTION"  # an informed trader who heard the news
    MAKER = "MAKER"
    CHASER = "CHASER"
    TICKETS = "TICKETS"


class Flow:
    """The crowd of one exchange.

    Args:
        rng: Everything random comes from it.
        settings: Who is there.
        markets: Where they trade.
        start_ns: Nobody acts before; a moment in the past means at once.
    """

    def __init__(
        self, rng: random.Random, settings: FlowSettings, markets: Sequence[MarketRules], *, start_ns: Nanos = EVER
    ) -> None:
        self._rng = rng
        self._settings = settings
        self._markets = tuple(markets)
        self._regimes = tuple(settings.regime(number) for number in range(len(self._markets)))
        starts = settings.fair.starts
        self._fair = [
            FairValue(regime.fair, start=starts[i % len(starts)], rng=random.Random(rng.getrandbits(64)))
            for i, regime in enumerate(self._regimes)
        ]
        self._beliefs: dict[tuple[int, int], float] = {}
        # What somebody decided at a look and has not sent yet: real makers send one message after the other.
        self._outbox: dict[tuple[Arrival, int, int], deque[Operation]] = {}
        self._averages: dict[int, tuple[Nanos, float]] = {}
        self._is_started = False
        self._due: list[tuple[Nanos, int, Arrival, int, int]] = []
        self._count = 0
        self.next_ns = start_ns

    @classmethod
    def seeded(cls, seed: int, settings: FlowSettings, markets: Sequence[MarketRules]) -> Flow:
        """Make a crowd whose every act follows from one number."""
        return cls(random.Random(f"{seed}/flow"), settings, markets)

    def opening(self) -> list[Operation]:
        """Give the operations that fund every synthetic account."""
        operations: list[Operation] = []
        for account in (NOISE, INFORMED, CHASER):
            operations += self._fund(account, range(len(self._markets)))
        for market, regime in enumerate(self._regimes):
            for rank in range(regime.makers.count):
                operations += self._fund(self._maker(market, rank), [market])
            if regime.tickets.looks_per_s:
                operations += self._fund(_ticket_buyer(market), [market])
        return operations

    def accounts(self) -> tuple[Account, ...]:
        """Name every synthetic account."""
        return tuple(operation.account for operation in self.opening() if isinstance(operation, Deposit))

    def fair_price(self, market: int) -> float:
        """Reveal the latent fair value of the n-th market, dollars: for tests and reports, never for a bot."""
        return self._fair[market].price

    def step(self, view: View, now_ns: Nanos) -> tuple[Operation, ...]:
        """Let the soonest arrival act; call again while `next_ns` is due.

        Args:
            view: The engine, with every earlier operation applied.
            now_ns: At or after `next_ns`.
        """
        if not self._is_started:
            self._start(view, now_ns)
            return ()
        _, _, arrival, market, rank = heapq.heappop(self._due)
        self._fair[market].advance(now_ns)
        operations = tuple(self._send(arrival, market, rank, view, now_ns))
        self._again(arrival, market, rank, now_ns)
        self.next_ns = self._due[0][0]
        return operations

    def _fund(self, account: Account, markets: Sequence[int]) -> Iterator[Operation]:
        yield Deposit(account=account, cash=Notional(self._settings.wealth_usd * MICRO))
        for market in markets:
            market_id = self._markets[market].market_id
            yield SplitPair(account=account, market_id=market_id, size=Size(self._settings.pairs * MICRO))

    # Makers are numbered through: an account of its own in each market keeps each list of open orders short.
    def _maker(self, market: int, rank: int) -> Account:
        before = sum(regime.makers.count for regime in self._regimes[:market])
        return Account(f"maker-{before + rank + 1}")

    # Traders of a restarted exchange find its book and go on from there.
    def _start(self, view: View, now_ns: Nanos) -> None:
        self._is_started = True
        for market, rules in enumerate(self._markets):
            bid, ask = view.top(rules.market_id)
            if bid is not None and ask is not None:
                self._fair[market].adopt((bid + ask) / 2 / MICRO)
            for rank in range(self._regimes[market].makers.count):
                self._enter(Arrival.MAKER, market, rank, now_ns, wait_s=0.05 * (rank + 1))
            for arrival in (Arrival.NEWS, Arrival.NOISE, Arrival.INFORMED, Arrival.CHASER, Arrival.TICKETS):
                self._again(arrival, market, 0, now_ns)
        self.next_ns = self._due[0][0]

    # With a pause between messages one goes out now and the rest at this trader's next turns, before it looks again.
    def _send(self, arrival: Arrival, market: int, rank: int, view: View, now_ns: Nanos) -> Iterator[Operation]:
        if not self._pause_s(arrival, market):
            yield from self._act(arrival, market, rank, view, now_ns)
            return
        waiting = self._outbox.setdefault((arrival, market, rank), deque())
        if not waiting:
            waiting.extend(self._act(arrival, market, rank, view, now_ns))
        if waiting:
            yield waiting.popleft()

    def _act(self, arrival: Arrival, market: int, rank: int, view: View, now_ns: Nanos) -> Iterator[Operation]:
        regime, fair = self._regimes[market], self._fair[market]
        hand = self._hand(arrival, market, rank, now_ns)
        match arrival:
            case Arrival.NOISE:
                return take_noise(view, hand, settings=regime.takers, rng=self._rng)
            case Arrival.CHASER:
                average = self._average(view, market, now_ns)
                return take_momentum(view, hand, average=average, settings=regime.takers, rng=self._rng)
            case Arrival.MAKER:
                return self._requote(view, hand, market, rank)
            case Arrival.TICKETS:
                return buy_tickets(view, hand, settings=regime.tickets, rng=self._rng)
            case Arrival.NEWS:
                fair.jump()
                self._react(market, now_ns)
                return iter(())
            case Arrival.INFORMED | Arrival.REACTION:
                return take_informed(view, hand, fair=fair.price, settings=regime.takers, rng=self._rng)

    def _hand(self, arrival: Arrival, market: int, rank: int, now_ns: Nanos) -> Hand:
        match arrival:
            case Arrival.MAKER:
                account = self._maker(market, rank)
            case Arrival.TICKETS:
                account = _ticket_buyer(market)
            case _:
                account = {Arrival.NOISE: NOISE, Arrival.CHASER: CHASER}.get(arrival, INFORMED)
        return Hand(account=account, market_id=self._markets[market].market_id, now_ns=now_ns, serial=self._count)

    # An exponential average over time, brought up to date whenever a chaser looks.
    def _average(self, view: View, market: int, now_ns: Nanos) -> float | None:
        bid, ask = view.top(self._markets[market].market_id)
        known = self._averages.get(market)
        if bid is None or ask is None:
            return None if known is None else known[1]
        mid = (bid + ask) / 2 / MICRO
        before_ns, average = known or (now_ns, mid)
        weight = math.exp((before_ns - now_ns) / NANOS_PER_S / AVERAGE_S)
        self._averages[market] = (now_ns, weight * average + (1 - weight) * mid)
        return average

    def _requote(self, view: View, hand: Hand, market: int, rank: int) -> Iterator[Operation]:
        settings = self._regimes[market].makers
        tick = view.rules(hand.market_id).tick / MICRO
        belief = self._fair[market].price + self._rng.gauss(0.0, settings.error_ticks * tick)
        quoted = self._beliefs.get((market, rank))
        if quoted is not None and abs(belief - quoted) < settings.tolerance_ticks * tick:
            belief = quoted
        self._beliefs[market, rank] = belief
        return requote(view, hand, belief=belief, rank=rank, settings=settings, rng=self._rng)

    # Several informed traders race for stale quotes after news.
    def _react(self, market: int, now_ns: Nanos) -> None:
        takers = self._regimes[market].takers
        fastest, slowest = takers.reaction_s
        for _ in range(takers.racers):
            self._enter(Arrival.REACTION, market, 0, now_ns, wait_s=self._rng.uniform(fastest, slowest))

    def _again(self, arrival: Arrival, market: int, rank: int, now_ns: Nanos) -> None:
        if self._outbox.get((arrival, market, rank)):
            wait_s = self._rng.expovariate(1 / self._pause_s(arrival, market))
            self._enter(arrival, market, rank, now_ns, wait_s=wait_s)
            return
        takers = self._regimes[market].takers
        if arrival is Arrival.NOISE and takers.herding and self._rng.random() < takers.herding:
            self._enter(arrival, market, rank, now_ns, wait_s=self._rng.expovariate(1 / takers.herding_s))
        elif per_s := self._per_s(arrival, market):
            wait_s = self._rng.expovariate(self._fair[market].pace * per_s)
            self._enter(arrival, market, rank, now_ns, wait_s=wait_s)

    def _per_s(self, arrival: Arrival, market: int) -> float:
        r = self._regimes[market]
        return {
            Arrival.NEWS: r.fair.news_per_hour / 3600,
            Arrival.NOISE: r.takers.noise_per_s,
            Arrival.INFORMED: r.takers.informed_per_s,
            Arrival.CHASER: r.takers.chasers_per_s,
            Arrival.MAKER: 1 / r.makers.lag_s,
            Arrival.TICKETS: r.tickets.looks_per_s,
        }.get(arrival, 0.0)

    def _pause_s(self, arrival: Arrival, market: int) -> float:
        r = self._regimes[market]
        return {Arrival.MAKER: r.makers.pause_s, Arrival.TICKETS: r.tickets.pause_s}.get(arrival, 0.0)

    def _enter(self, arrival: Arrival, market: int, rank: int, now_ns: Nanos, *, wait_s: float) -> None:
        self._count += 1
        due_ns = Nanos(now_ns + int(wait_s * NANOS_PER_S))
        heapq.heappush(self._due, (due_ns, self._count, arrival, market, rank))


def _ticket_buyer(market: int) -> Account:
    return Account(f"tickets-{market + 1}")
