"""A desk that starts again asks anew what it may trade: what became untradable is left out, and the rest goes on."""

from __future__ import annotations

import dataclasses
import io
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import msgspec
import pytest
import trio
from trio.testing import MockClock

from tbot.core.market import Market
from tbot.core.messages import OrderType, Side, StrategyName
from tbot.core.units import Nanos
from tbot.errors import ConfigError, Disconnected, ExchangeUnavailable, RateLimited
from tbot.exchanges.simulated.operations import SplitPair
from tbot.exchanges.simulated.translate import market_of
from tbot.log import set_up
from tbot.strategies.base import Decision, StrategyView
from tbot.tasks.admission import REFUSED_FOR_S, admit
from tbot.tasks.feed_settings import FeedSettings
from tests.tasks.bot_stage import ANY, OTHER, STEADY, US, Stage, Steady, shares
from tests.tasks.fake_exchange import MARKET, FakeExchange
from tests.tasks.log_lines import lines_of

SECOND = StrategyName("second")
CLOSED = ConfigError("market b2: the exchange does not know it (404)")


class SteadyToo(Steady):
    """The same in another market."""

    name = SECOND

    def decide(self, view: StrategyView, now_ns: Nanos) -> Decision:
        (quotes,) = super().decide(view, now_ns).quotes
        return Decision(
            quotes=(msgspec.structs.replace(quotes, strategy=SECOND),),
            takes=(),
            wake_at_ns=super().decide(view, now_ns).wake_at_ns,
        )


class Pair(Stage):
    """Two markets, each with a strategy."""

    def __init__(self) -> None:
        super().__init__()
        self.second = market_of(self.exchange.markets()[1])
        self.exchange.apply(SplitPair(account=OTHER, market_id=self.second.market_id, size=shares(10_000)))
        self.place_second(Side.BUY, 30)
        self.place_second(Side.SELL, 60)
        strategies = {STEADY: lambda: Steady(self.market), SECOND: lambda: SteadyToo(self.second)}
        self.parts = dataclasses.replace(self.parts, markets=(self.market, self.second), strategies=strategies)

    @property
    def reading(self) -> tuple[int, str]:
        """The key under which readings of the second market are meddled with."""
        return (ANY, f"reread {self.second.market_id}")

    def place_second(self, side: Side, price: int, size: int = 100, order_type: OrderType = OrderType.GTC) -> None:
        self._place(OTHER, side, price, size, order_type, token_id=self.second.yes)

    def resting_in(self, market: Market) -> int:
        return sum(order.token_id in market.tokens for order in self.exchange.open_orders(US))


@asynccontextmanager
async def pair() -> AsyncIterator[Pair]:
    stage = Pair()
    with closing(stage.store):
        async with trio.open_nursery() as nursery:
            await nursery.start(stage.exchange.run)
            nursery.start_soon(stage.run)
            await trio.sleep(3)
            assert (stage.resting_in(stage.market), stage.resting_in(stage.second)) == (2, 2)
            yield stage
            stage.stop.set()
            with trio.move_on_after(60):
                await stage.ended.wait()
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("refusal", [CLOSED, ExchangeUnavailable("undecodable answer")], ids=["unknown", "nonsense"])
async def test_a_market_that_cannot_be_traded_at_a_restart_is_left_out_and_the_others_trade_on(
    autojump_clock: MockClock, refusal: Exception
) -> None:
    terminal = io.StringIO()
    with set_up(file=None, terminal=terminal, level="warning"):
        async with pair() as stage:
            stage.place_second(Side.SELL, 40, size=15, order_type=OrderType.FAK)  # we hold 15 shares of it
            await trio.sleep(5)
            stage.meddling[stage.reading] = refusal
            stage.crash("dispatcher")
            await trio.sleep(60)
            assert (stage.failure, stage.policy.restarts) == (None, {"dispatcher": 1})
            assert (stage.resting_in(stage.market), stage.resting_in(stage.second)) == (2, 0)
            snapshot = stage.parts.snapshots.peek("snapshot")
            assert snapshot is not None
            assert {row.token_id: row.size for row in snapshot.positions}[stage.second.yes] == shares(15)
            (told,) = lines_of(terminal, "market.untradable")
            assert str(refusal) in told
            assert stage.second.slug in told
            del stage.meddling[stage.reading]
            await trio.sleep(FeedSettings().terms_s + 3)
            assert stage.resting_in(stage.second) == 2, "a good answer lets it trade again"
            assert stage.failure is None


async def test_an_order_of_a_left_out_market_that_could_not_be_withdrawn_is_cancelled_by_the_next_desk(
    autojump_clock: MockClock,
) -> None:
    async with pair() as stage:
        stage.meddling[stage.reading] = CLOSED
        stage.meddling |= {(2, "cancel"): Disconnected("gone"), (ANY, "can_trade"): Disconnected("gone")}
        stage.crash("dispatcher")
        await trio.sleep(2)
        assert stage.resting_in(stage.second) == 2, "the shell of the desk could not withdraw them"
        stage.place_second(Side.SELL, 41, size=4, order_type=OrderType.FAK)
        del stage.meddling[ANY, "can_trade"]
        await trio.sleep(20)
        assert stage.resting_in(stage.second) == 0
        assert stage.resting_in(stage.market) == 2
        live, replayed = stage.state()
        assert live == replayed
        assert live.ledger is not None
        assert stage.second.yes in [tape.token_id for tape in live.ledger.tapes], "its fill was heard of"


async def test_a_refusal_of_a_moment_costs_a_wait_and_nothing_else(autojump_clock: MockClock) -> None:
    async with pair() as stage:
        stage.forbidden = "the exchange wants orders of protocol 7, we speak 2"
        stage.crash("dispatcher")
        await trio.sleep(REFUSED_FOR_S / 2)
        stage.forbidden = ""
        await trio.sleep(15)
        assert (stage.failure, len(stage.resting())) == (None, 4)


async def test_a_refusal_that_lasts_ends_the_bot_with_its_reason(autojump_clock: MockClock) -> None:
    async with pair() as stage:
        stage.forbidden = "this place is blocked"
        stage.crash("dispatcher")
        await trio.sleep(REFUSED_FOR_S + 30)
        assert isinstance(stage.failure, ConfigError)
        assert "this place is blocked" in str(stage.failure)
        assert stage.resting() == []


async def test_one_market_is_asked_for_at_most_three_times_and_the_wait_it_asks_for_is_kept(
    autojump_clock: MockClock,
) -> None:
    exchange = FakeExchange()
    exchange.terms_errors = [RateLimited("slow down", retry_after_s=4.0)] * 5
    admission = await admit(exchange, (MARKET,), random.Random(1))
    first, second, third = exchange.terms_reads
    assert min(second - first, third - second) >= 4.0
    assert admission.markets == (msgspec.structs.replace(MARKET, is_accepting_orders=False),)
    assert admission.left_out == {MARKET.market_id: "slow down"}


async def test_what_changed_while_the_desk_was_down_is_told(autojump_clock: MockClock) -> None:
    exchange, terminal = FakeExchange(), io.StringIO()
    exchange.terms = msgspec.structs.replace(MARKET, is_accepting_orders=False, is_closed=True, is_resolved=True)
    with set_up(file=None, terminal=terminal, level="warning"):
        admission = await admit(exchange, (MARKET,), random.Random(1))
    assert (admission.markets, admission.left_out) == ((exchange.terms,), {})
    (told,) = lines_of(terminal, "market.changed")
    assert "closed for good" in told
