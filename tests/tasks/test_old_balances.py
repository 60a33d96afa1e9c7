"""A whole bot whose exchange tells balances from an old cache: they are read anew, and only a real loss halts it."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import pytest
import trio
from trio.testing import MockClock

from tbot.core.account import CoordinatorState
from tbot.core.messages import ExchangeReport, Side
from tbot.exchanges.simulated.exchange import LocalExchange
from tbot.exchanges.simulated.fault_catalogue import Fault
from tbot.exchanges.simulated.fault_switches import FaultOrder
from tbot.exchanges.simulated.operations import Account, SplitPair
from tbot.tasks.coordinator import decode_entry
from tests.exchanges.polymarket.local import polymarket
from tests.tasks.bot_stage import STEADY, US, Stage, Steady, cents, shares, staged

pytestmark = pytest.mark.slow

OLD_S = 50.0
FAULT = FaultOrder(name=Fault.STALE_BALANCE, seconds=OLD_S)


class OverWire(Stage):
    """The same bot, but in front of the exchange's server: every byte as on the real one."""

    def __init__(self, exchange: LocalExchange) -> None:
        super().__init__()
        self.exchange = exchange


@dataclasses.dataclass
class Bot:
    """A bot that quotes.

    Attributes:
        stage: Its tasks and journal.
        exchange: Where it trades.
        account: Its account there.
    """

    stage: Stage
    exchange: LocalExchange
    account: Account

    def reports(self) -> list[ExchangeReport]:
        """The journal's reports."""
        entries = (decode_entry(row.payload) for row in self.stage.store.records(limit=1_000_000))
        return [entry for entry in entries if isinstance(entry, ExchangeReport)]

    def state(self) -> CoordinatorState:
        return self.stage.state()[1]

    def resting(self) -> int:
        return len(self.exchange.open_orders(self.account))

    async def halted_within(self, seconds: float) -> float:
        """Wait for a halt; returns how long it took."""
        began = trio.current_time()
        with trio.fail_after(seconds):
            while not self.state().halt_reason:  # noqa: ASYNC110 - the bot tells nobody
                await trio.sleep(0.25)
        return trio.current_time() - began


@asynccontextmanager
async def in_process() -> AsyncIterator[Bot]:
    async with staged() as stage:
        yield Bot(stage, stage.exchange, US)


@asynccontextmanager
async def over_wire() -> AsyncIterator[Bot]:
    async with polymarket() as wire, trio.open_nursery() as nursery:
        stage = OverWire(wire.exchange)
        await wire.other_rests(wire.market.yes, Side.BUY, cents(30), shares(100))
        await wire.other_rests(wire.market.yes, Side.SELL, cents(60), shares(100))
        (market, *_) = await wire.gateway.load_markets()
        stage.market, stage.rules = market, wire.exchange.markets()[0]
        stage.parts = dataclasses.replace(
            stage.parts,
            markets=(market,),
            open_gateway=lambda: wire.gateway_of(wire.credentials),
            strategies={STEADY: lambda: Steady(market)},
        )
        with closing(stage.store):
            nursery.start_soon(stage.run)
            yield Bot(stage, wire.exchange, Account(wire.key.address))
            stage.stop.set()
            with trio.move_on_after(60):
                await stage.ended.wait()


@pytest.fixture(params=[in_process, over_wire])
async def bot(request: pytest.FixtureRequest, autojump_clock: MockClock) -> AsyncIterator[Bot]:
    async with request.param() as made:
        await trio.sleep(4)
        assert made.resting() == 2
        yield made


async def test_fills_that_the_cache_does_not_know_cost_nothing_but_a_question(
    bot: Bot, autojump_clock: MockClock
) -> None:
    bot.exchange.misbehave(FAULT)
    await trio.sleep(6)  # so that balances were told, and are remembered
    first, *_ = opening = bot.reports()
    assert (len(first.refreshed), first.unread) == (3, ()), "the ledger begins with what is on chain"
    for _ in range(3):
        bot.stage.hit_our_bids(5)
        await trio.sleep(20)
    assert bot.state().halt_reason == ""
    assert bot.resting() == 2
    reports = bot.reports()[len(opening) :]
    assert any(report.refreshed for report in reports)
    assert len([asset for report in reports for asset in report.refreshed]) <= 2 * 3, "cash and shares, once a fill"
    await trio.sleep(60)
    assert (bot.state().halt_reason, bot.state().drift, bot.state().offsets) == ("", {}, {})


@pytest.mark.parametrize("is_old", [False, True])
async def test_what_is_really_missing_halts_as_fast_as_ever(
    bot: Bot, autojump_clock: MockClock, *, is_old: bool
) -> None:
    if is_old:
        bot.exchange.misbehave(FAULT)
        await trio.sleep(6)
        bot.stage.hit_our_bids(5)
        await trio.sleep(20)
        assert bot.state().halt_reason == ""
        bot.exchange.refresh_balances(bot.account)  # somebody else's question: what is told next is true
    bot.exchange.apply(SplitPair(account=bot.account, market_id=bot.stage.rules.market_id, size=shares(7)))
    took_s = await bot.halted_within(12)
    assert took_s < 9  # five seconds to the next report, then two more, a second apart
    reason, slug = bot.state().halt_reason, bot.stage.market.slug
    assert f"7 of {slug} YES, 7 of {slug} NO, $-7" in reason
    await trio.sleep(5)
    assert bot.resting() == 0
