"""Our clock is set while the gateway runs: it trades on, or waits, and never ends for it (see also `test_stamps`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgspec
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as gen

from tbot.core.market import Market
from tbot.core.messages import (
    Accepted,
    BookSnapshot,
    Canceled,
    RejectCode,
    Rejected,
    Side,
    SubmitReply,
    Throttled,
)
from tbot.core.units import MICRO, NANOS_PER_S, Nanos, Price, Size
from tbot.errors import BadFrame, ExchangeUnavailable
from tbot.exchanges.polymarket.clock import SAMPLES
from tbot.exchanges.polymarket.connection import RECHECK_S, RunWide
from tbot.exchanges.polymarket.gateway import PolymarketGateway
from tbot.exchanges.polymarket.settings import PolymarketSettings
from tbot.tasks.clock import SteadyClock
from tests.contract.stage import Orders, now_ns
from tests.exchanges.polymarket.answers import ID
from tests.exchanges.polymarket.local import PolymarketStage, polymarket


class Machine:
    """A gateway on a machine whose clock is set at will, in front of the local exchange."""

    def __init__(self, stage: PolymarketStage) -> None:
        self.set_s = 0.0
        self.stage = stage
        self.gateway: PolymarketGateway = stage.gateway_of(stage.credentials, self.now_ns)
        self.orders = Orders(stage.market)
        self.times = Counter[str]()
        self._count_times()

    def now_ns(self) -> Nanos:
        """Tell our time."""
        return Nanos(now_ns() + int(self.set_s * NANOS_PER_S))

    async def start(self) -> Market:
        """Do what a bot does before it trades."""
        market = (await self.gateway.load_markets())[0]
        assert await self.gateway.can_trade() == ""
        self.times.clear()
        return market

    async def submit(self, cents: int = 40) -> SubmitReply:
        """Send an order that is signed now."""
        now = self.now_ns()
        deadline_ns = Nanos(now + 5 * NANOS_PER_S)
        order = msgspec.structs.replace(self.orders.make(Side.BUY, cents), deadline_ns=deadline_ns, at_ns=now)
        return await self.gateway.submit(self.gateway.prepare(order, now))

    def _count_times(self) -> None:
        told = self.gateway.rest.time_s

        async def time_s() -> int:
            self.times["time"] += 1
            return await told()

        self.gateway.rest.time_s = time_s  # type: ignore[method-assign]


@asynccontextmanager
async def machine() -> AsyncIterator[Machine]:
    async with polymarket() as stage:
        ours = Machine(stage)
        await ours.start()
        yield ours
        await ours.gateway.aclose()


async def cancels(ours: Machine) -> object:
    (reply,) = await ours.gateway.cancel([ID])
    return reply


@pytest.mark.slow
@settings(deadline=None, max_examples=8)
@given(gen.lists(gen.tuples(gen.floats(0.1, 30), gen.floats(-29, 29)), min_size=1, max_size=6))
def test_a_bot_trades_on_through_any_steps_that_we_follow(steps: list[tuple[float, float]]) -> None:
    async def play() -> None:
        async with machine() as ours:
            for wait_s, set_s in steps:
                await trio.sleep(wait_s)
                ours.set_s = set_s
                placed = await ours.submit()
                assert isinstance(placed, Accepted), placed
                listed = (await ours.gateway.report(Nanos(0), [])).open_orders
                assert [order.exchange_order_id for order in listed] == [placed.exchange_order_id]
                await ours.gateway.protect()
                assert [type(each) for each in await ours.gateway.cancel([placed.exchange_order_id])] == [Canceled]

    trio.run(play, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.parametrize("step_s", [-3_600.0, -45.0, 45.0, 3_600.0])
async def test_a_step_beyond_what_we_follow_ends_nothing_and_heals_when_it_is_undone(
    autojump_clock: trio.testing.MockClock, step_s: float
) -> None:
    async with machine() as ours:
        ours.set_s = step_s
        with pytest.raises(ExchangeUnavailable):
            await ours.gateway.report(Nanos(0), [ID])
        with pytest.raises(ExchangeUnavailable):
            await ours.gateway.protect()
        refused = await ours.submit()
        assert isinstance(refused, Rejected)
        assert refused.code is RejectCode.UNAVAILABLE  # not of those after which a bot halts
        assert isinstance(await cancels(ours), Throttled)
        ours.set_s = 0.0
        assert isinstance(await ours.submit(), Accepted)
        await ours.gateway.report(Nanos(0), [])


# --- a machine that stood still ---------------------------------------------------------------------------------------


class Paused(Machine):
    """A gateway in a virtual machine that is paused at will: of a pause its uptime counts nothing."""

    def __init__(self, stage: PolymarketStage) -> None:
        self.paused_s = 0.0
        super().__init__(stage)
        self.clock = SteadyClock(super().now_ns, lambda: now_ns() - int(self.paused_s * NANOS_PER_S))
        shared = RunWide.begin(PolymarketSettings(), self.clock.now_ns, self.clock.catch_up)
        self.gateway = stage.gateway_of(stage.credentials, self.clock.now_ns, shared)

    def now_ns(self) -> Nanos:
        """Tell our time."""
        return self.clock.now_ns()

    def behind_s(self) -> float:
        """Return how far our time is behind the exchange's."""
        return (now_ns() - self.now_ns()) / NANOS_PER_S


@asynccontextmanager
async def paused(pause_s: float) -> AsyncIterator[Paused]:
    """Run a gateway right after a pause."""
    async with polymarket() as stage:
        ours = Paused(stage)
        await ours.start()
        await trio.sleep(30)
        ours.now_ns()
        await trio.sleep(pause_s)
        ours.paused_s = pause_s
        with suppress(ExchangeUnavailable):
            await ours.gateway.rest.version()  # on a connection that was closed meanwhile
        assert ours.behind_s() == pytest.approx(pause_s, abs=0.1)
        yield ours
        await ours.gateway.aclose()


@pytest.mark.parametrize("pause_s", [40.0, 3_600.0, 10_000.0])
async def test_a_bot_whose_machine_stood_still_goes_on_by_the_right_time(
    autojump_clock: trio.testing.MockClock, pause_s: float
) -> None:
    async with paused(pause_s) as ours:
        first = await cancels(ours)  # whose deadline is of the old time
        assert ours.behind_s() == pytest.approx(0, abs=0.1)
        assert isinstance(first, Throttled)
        assert first.code is RejectCode.RATE_LIMITED, "it was not sent, and goes out with the next"
        assert not isinstance(await cancels(ours), Throttled)
        assert isinstance(await ours.submit(), Accepted)
        await ours.gateway.report(Nanos(0), [ID])
        assert await ours.gateway.can_trade() == ""


async def test_a_machine_that_stood_still_is_waited_for_until_its_own_clock_is_set(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with paused(3_600.0) as ours:
        ours.set_s = -3_000.0
        assert isinstance(await cancels(ours), Throttled)
        assert ours.behind_s() == pytest.approx(3_600, abs=1)
        assert "restart" in await ours.gateway.can_trade()
        ours.set_s = 0.0
        await trio.sleep(RECHECK_S)
        with suppress(ExchangeUnavailable):
            await ours.gateway.report(Nanos(0), [ID])
        assert ours.behind_s() == pytest.approx(0, abs=0.1)
        await ours.gateway.report(Nanos(0), [ID])


async def test_a_right_clock_does_not_follow_a_machine_s_that_is_set_wrong(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with paused(0.0) as ours:
        ours.set_s = 3_600.0
        for _ in range(2 * SAMPLES):
            await ours.gateway._public.measure_clock()
        assert ours.behind_s() == pytest.approx(0, abs=0.1)
        assert isinstance(await ours.submit(), Accepted)


# --- stamps of a time to come -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("step_s", [-3.0, -8.0, -25.0])
async def test_a_feed_is_believed_at_once_after_our_clock_was_set_back(
    autojump_clock: trio.testing.MockClock, step_s: float
) -> None:
    async with machine() as ours, ours.gateway.open_market(ours.stage.market.tokens) as session:
        with trio.move_on_after(1):
            while True:
                await session.receive()
        ours.set_s = step_s
        await ours.stage.other_rests(ours.stage.market.yes, Side.SELL, Price(700_000), Size(10 * MICRO))
        with trio.fail_after(2):
            while not await session.receive():
                pass
        ours.set_s = 0.0


async def test_books_by_request_are_believed_at_once_after_our_clock_was_set_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with machine() as ours:
        ours.set_s = -8.0
        await ours.stage.other_rests(ours.stage.market.yes, Side.SELL, Price(700_000), Size(10 * MICRO))
        assert [type(book) for book in await ours.gateway.books([ours.stage.market.yes])] == [BookSnapshot]


async def test_a_feed_that_is_ahead_for_good_is_measured_now_and_then(autojump_clock: trio.testing.MockClock) -> None:
    """Stamps of a year to come are no fault of our clock: they are refused, and cost a measure in five seconds."""
    async with machine() as ours, ours.gateway.open_market(ours.stage.market.tokens) as session:
        with trio.move_on_after(1):
            while True:
                await session.receive()
        ours.times.clear()
        session._latest_ms = lambda _received_ns: 0
        refused = 0
        for second in range(20):
            price = Price(700_000 + second * 10_000)
            await ours.stage.other_rests(ours.stage.market.yes, Side.SELL, price, Size(10 * MICRO))
            with trio.move_on_after(1):
                try:
                    assert await session.receive() == ()
                except BadFrame:
                    refused += 1
        assert refused >= 15  # a sign of life may come between
        assert SAMPLES <= ours.times["time"] <= 5 * SAMPLES
