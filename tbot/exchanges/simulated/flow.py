"""The synthetic crowd: seeded traders who arrive by Poisson clocks and act on one engine.

Pure: `step(view, now_ns)` gives the operations of the soonest arrival, `next_ns` says when the next one is due.
Informed traders react to news within a fraction of a second, rival makers after seconds: whoever leaves a stale quote
in between pays for it.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator, Sequence
from enum import StrEnum

import msgspec

from tbot.core.units import MICRO, NANOS_PER_S, Nanos, Notional, Size
from tbot.exchanges.simulated.fair_value import FairValue, FairValueSettings
from tbot.exchanges.simulated.operations import EVER, Account, Deposit, MarketRules, Operation, SplitPair
from tbot.exchanges.simulated.traders import (
    Hand,
    MakerSettings,
    TakerSettings,
    View,
    requote,
    take_informed,
    take_noise,
)

NOISE = Account("noise")
INFORMED = Account("informed")


class FlowSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The crowd.

    Attributes:
        wealth_usd: Collateral of each synthetic account, in whole dollars; they never run dry in a day.
        pairs: YES and NO pairs each of them starts with in every market, in whole shares.
    """

    fair: FairValueSettings = FairValueSettings()
    makers: MakerSettings = MakerSettings()
    takers: TakerSettings = TakerSettings()
    wealth_usd: int = 5_000_000
    pairs: int = 500_000


class Arrival(StrEnum):
    """What can be due."""

    NEWS = "NEWS"
    NOISE = "NOISE"
    INFORMED = "INFORMED"
    REACTION = "REACTION"  # an informed trader who heard the news
    MAKER = "MAKER"


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
        starts = settings.fair.starts
        self._fair = [
            FairValue(settings.fair, start=starts[i % len(starts)], rng=random.Random(rng.getrandbits(64)))
            for i in range(len(self._markets))
        ]
        self._beliefs: dict[tuple[int, int], float] = {}
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
        for account in self._accounts():
            operations.append(Deposit(account=account, cash=Notional(self._settings.wealth_usd * MICRO)))
            operations += [
                SplitPair(account=account, market_id=rules.market_id, size=Size(self._settings.pairs * MICRO))
                for rules in self._markets
            ]
        return operations

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
        operations = tuple(self._act(arrival, market, rank, view, now_ns))
        self._again(arrival, market, rank, now_ns)
        self.next_ns = self._due[0][0]
        return operations

    def _accounts(self) -> list[Account]:
        return [NOISE, INFORMED, *(_maker(rank) for rank in range(self._settings.makers.count))]

    # Traders of a restarted exchange find its book and go on from there.
    def _start(self, view: View, now_ns: Nanos) -> None:
        self._is_started = True
        for market, rules in enumerate(self._markets):
            bid, ask = view.top(rules.market_id)
            if bid is not None and ask is not None:
                self._fair[market].adopt((bid + ask) / 2 / MICRO)
            for rank in range(self._settings.makers.count):
                self._enter(Arrival.MAKER, market, rank, now_ns, wait_s=0.05 * (rank + 1))
            for arrival in (Arrival.NEWS, Arrival.NOISE, Arrival.INFORMED):
                self._again(arrival, market, 0, now_ns)
        self.next_ns = self._due[0][0]

    def _act(self, arrival: Arrival, market: int, rank: int, view: View, now_ns: Nanos) -> Iterator[Operation]:
        market_id = self._markets[market].market_id
        account = {Arrival.NOISE: NOISE, Arrival.MAKER: _maker(rank)}.get(arrival, INFORMED)
        hand = Hand(account=account, market_id=market_id, now_ns=now_ns, serial=self._count)
        match arrival:
            case Arrival.NOISE:
                return take_noise(view, hand, settings=self._settings.takers, rng=self._rng)
            case Arrival.MAKER:
                return self._requote(view, hand, market, rank)
            case Arrival.NEWS:
                self._fair[market].jump()
                self._react(market, now_ns)
                return iter(())
            case _:
                fair = self._fair[market].price
                return take_informed(view, hand, fair=fair, settings=self._settings.takers, rng=self._rng)

    def _requote(self, view: View, hand: Hand, market: int, rank: int) -> Iterator[Operation]:
        settings = self._settings.makers
        tick = view.rules(hand.market_id).tick / MICRO
        belief = self._fair[market].price + self._rng.gauss(0.0, settings.error_ticks * tick)
        quoted = self._beliefs.get((market, rank))
        if quoted is not None and abs(belief - quoted) < settings.tolerance_ticks * tick:
            belief = quoted
        self._beliefs[market, rank] = belief
        return requote(view, hand, belief=belief, rank=rank, settings=settings, rng=self._rng)

    # Several informed traders race for stale quotes after news.
    def _react(self, market: int, now_ns: Nanos) -> None:
        fastest, slowest = self._settings.takers.reaction_s
        for _ in range(3):
            self._enter(Arrival.REACTION, market, 0, now_ns, wait_s=self._rng.uniform(fastest, slowest))

    def _again(self, arrival: Arrival, market: int, rank: int, now_ns: Nanos) -> None:
        mean_s = self._mean_s(arrival)
        if mean_s is not None:
            wait_s = self._rng.expovariate(self._fair[market].pace / mean_s)
            self._enter(arrival, market, rank, now_ns, wait_s=wait_s)

    def _mean_s(self, arrival: Arrival) -> float | None:
        s = self._settings
        return {
            Arrival.NEWS: 3600 / s.fair.news_per_hour,
            Arrival.NOISE: 1 / s.takers.noise_per_s,
            Arrival.INFORMED: 1 / s.takers.informed_per_s,
            Arrival.MAKER: s.makers.lag_s,
        }.get(arrival)

    def _enter(self, arrival: Arrival, market: int, rank: int, now_ns: Nanos, *, wait_s: float) -> None:
        self._count += 1
        due_ns = Nanos(now_ns + int(wait_s * NANOS_PER_S))
        heapq.heappush(self._due, (due_ns, self._count, arrival, market, rank))


def _maker(rank: int) -> Account:
    return Account(f"maker-{rank + 1}")
