"""The task round a strategy: when it asks, what it sends, what is left when it dies."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from tbot.core.market import Market, MarketId, TokenId
from tbot.core.messages import (
    AccountView,
    MarketView,
    Message,
    Quotes,
    Side,
    StrategyName,
    Take,
    Withdraw,
)
from tbot.core.risk import RiskLimits
from tbot.core.units import NANOS_PER_S, Nanos, Notional, Price, Size
from tbot.strategies.base import Decision, StrategyView
from tbot.tasks.conflator import Hub
from tbot.tasks.inbox import Inbox
from tbot.tasks.strategy import StrategyTask
from tbot.tasks.supervisor import Child, Policy, one_for_one, supervise
from tests.core.coordinators import LIMITS
from tests.tasks.fake_exchange import CENT, MARKET, NO, YES, cents, now_ns, shares

NAME = StrategyName("x")
REFRESH_NS = 5 * NANOS_PER_S


class Recording:
    """A strategy that quotes nothing, remembers how it was asked, and may be told to take or to fail."""

    def __init__(self, on_ask: Callable[[int], None] = lambda _: None, *, takes: bool = False) -> None:
        self.name = NAME
        self.market_ids = (MARKET.market_id,)
        self.asked: list[tuple[float, StrategyView]] = []
        self.on_ask = on_ask
        self.takes = takes

    def misfit(self, market: Market, limits: RiskLimits) -> None:
        return None

    def decide(self, view: StrategyView, now_ns: Nanos) -> Decision:
        self.asked.append((trio.current_time(), view))
        self.on_ask(len(self.asked))
        quotes = Quotes(
            strategy=NAME,
            token_id=YES,
            quotes=(),
            chase_ticks=len(self.asked),
            valid_until_ns=Nanos(now_ns + REFRESH_NS),
            at_ns=now_ns,
        )
        take = Take(
            strategy=NAME,
            token_id=YES,
            side=Side.SELL,
            size=shares(5),
            price_worst=cents(40),
            deadline_ns=Nanos(now_ns + NANOS_PER_S),
            reason="exit",
            at_ns=now_ns,
        )
        return Decision(quotes=(quotes,), takes=(take,) if self.takes else (), wake_at_ns=Nanos(now_ns + REFRESH_NS))


def market_view(exchange_ms: int = 1, market_id: MarketId = MARKET.market_id) -> MarketView:
    return MarketView(
        market_id=market_id,
        market=MARKET,
        bids=(),
        asks=(),
        tick=CENT,
        is_stale=False,
        traded_buy=Size(0),
        traded_sell=Size(0),
        exchange_ms=exchange_ms,
        at_ns=Nanos(0),
    )


def account_view(token_id: TokenId) -> AccountView:
    return AccountView(
        token_id=token_id,
        size=Size(0),
        size_sellable=Size(0),
        entry=Price(0),
        room_buy=Size(0),
        cash_free=Notional(0),
        is_trading=True,
        at_ns=Nanos(0),
    )


class Desk:
    def __init__(self, make: Callable[[], Recording]) -> None:
        self.made: list[Recording] = []
        self.make = make
        self.views: Hub[MarketId, MarketView] = Hub("views")
        self.accounts: Hub[TokenId, AccountView] = Hub("accounts")
        self.inbox = Inbox({"operator": 1, "facts": 1})
        self.stop = trio.Event()
        self.task = StrategyTask(
            name=NAME,
            make=self.make_one,
            markets={MARKET.market_id: MARKET},
            views=self.views,
            accounts=self.accounts,
            coordinator=self.inbox,
            limits=LIMITS,
            now_ns=now_ns,
        )

    def make_one(self) -> Recording:
        self.made.append(self.make())
        return self.made[-1]

    def sent(self) -> tuple[Message, ...]:
        return self.inbox.take_nowait()


@asynccontextmanager
async def desk(make: Callable[[], Recording] = Recording) -> AsyncIterator[Desk]:
    rig = Desk(make)
    policy = Policy(rng=random.Random(1))
    async with trio.open_nursery() as nursery:
        body = one_for_one([Child("x", rig.task.run, wedged_after_s=10.0)], policy)
        nursery.start_soon(supervise, body, rig.stop, policy)
        await trio.sleep(0.1)
        yield rig
        rig.stop.set()


async def test_strategy_is_not_asked_before_anything_is_known(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        await trio.sleep(30)
        assert rig.made[0].asked == []


async def test_strategy_is_asked_at_each_change_with_all_that_is_known(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.views.publish(MARKET.market_id, market_view())
        rig.accounts.publish(NO, account_view(NO))
        await trio.sleep(0.1)
        rig.accounts.publish(YES, account_view(YES))
        await trio.sleep(0.1)
        (_, first), (_, second) = rig.made[0].asked
        assert (list(first.views), list(first.accounts)) == ([MARKET.market_id], [NO])
        assert list(second.accounts) == [NO, YES]


async def test_changes_that_came_together_are_asked_about_once_and_only_the_newest_counts(
    autojump_clock: MockClock,
) -> None:
    async with desk() as rig:
        for exchange_ms in range(100):
            rig.views.publish(MARKET.market_id, market_view(exchange_ms))
        await trio.sleep(0.1)
        ((_, view),) = rig.made[0].asked
        assert view.views[MARKET.market_id].exchange_ms == 99


async def test_markets_it_did_not_ask_for_do_not_wake_it(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.views.publish(MarketId("other"), market_view(1, MarketId("other")))
        rig.accounts.publish(TokenId("other"), account_view(TokenId("other")))
        await trio.sleep(1)
        assert rig.made[0].asked == []


async def test_strategy_is_asked_again_when_it_wanted_to_be_and_not_in_between(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.views.publish(MARKET.market_id, market_view())
        await trio.sleep(21)
        times = [at for at, _ in rig.made[0].asked]
        assert [time - times[0] for time in times] == pytest.approx([0, 5, 10, 15, 20], abs=0.001)


async def test_quotes_are_states_and_takes_are_facts(autojump_clock: MockClock) -> None:
    async with desk(lambda: Recording(takes=True)) as rig:
        rig.views.publish(MARKET.market_id, market_view())
        await trio.sleep(0.1)
        take, quotes = rig.sent()
        assert isinstance(take, Take)
        assert isinstance(quotes, Quotes)


async def test_take_waits_for_room_and_quotes_do_not(autojump_clock: MockClock) -> None:
    async with desk(lambda: Recording(takes=True)) as rig:
        rig.views.publish(MARKET.market_id, market_view())
        await trio.sleep(5.5)  # asked twice; the second take found the lane full
        assert rig.inbox.statistics().lanes["facts"].senders == 1
        takes = [message for message in rig.sent() if isinstance(message, Take)]
        assert len(takes) == 2


async def test_crash_withdraws_and_the_restarted_strategy_has_no_memory(autojump_clock: MockClock) -> None:
    def fail_second(count: int) -> None:
        if count == 2:
            raise ZeroDivisionError

    async with desk(lambda: Recording(fail_second)) as rig:
        rig.views.publish(MARKET.market_id, market_view(1))
        await trio.sleep(0.1)
        rig.views.publish(MARKET.market_id, market_view(2))
        await trio.sleep(0.4)
        old_quotes, *rest = rig.sent()
        assert len(rig.made) == 2
        # The old quotes were never read and are replaced; the new ones come after the withdrawal.
        assert isinstance(old_quotes, Withdraw)
        (new_quotes,) = rest
        assert isinstance(new_quotes, Quotes)
        assert new_quotes.chase_ticks == 1
        ((_, view),) = rig.made[1].asked
        assert view.views[MARKET.market_id].exchange_ms == 2


async def test_stop_withdraws_last(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.views.publish(MARKET.market_id, market_view())
        await trio.sleep(0.1)
        asked_at = trio.current_time()
        rig.stop.set()
    assert trio.current_time() == asked_at
    assert [type(message) for message in rig.sent()] == [Quotes, Withdraw]


async def test_wedged_strategy_is_restarted_and_its_quotes_withdrawn(autojump_clock: MockClock) -> None:
    rig = Desk(Recording)
    strikes = [True]

    async def chaos(_: str) -> None:
        if strikes and trio.current_time() > 5:
            strikes.pop()
            await trio.sleep_forever()

    policy = Policy(rng=random.Random(1), chaos=chaos)
    async with trio.open_nursery() as nursery:
        body = one_for_one([Child("x", rig.task.run, wedged_after_s=3.0)], policy)
        nursery.start_soon(supervise, body, rig.stop, policy)
        await trio.sleep(20)
        assert policy.restarts == {"x": 1}
        assert [type(message) for message in rig.sent()] == [Withdraw]
        rig.stop.set()


async def test_strategy_that_never_rests_is_a_crash(autojump_clock: MockClock) -> None:
    class Restless(Recording):
        def decide(self, view: StrategyView, now_ns: Nanos) -> Decision:
            super().decide(view, now_ns)
            return Decision(quotes=(), takes=(), wake_at_ns=now_ns)

    async with desk(Restless) as rig:
        rig.views.publish(MARKET.market_id, market_view())
        await trio.sleep(300)
        assert len(rig.made) == 6  # and then it stays off


async def test_strategy_outlives_no_coordinator(autojump_clock: MockClock) -> None:
    async with desk(lambda: Recording(takes=True)) as rig:
        rig.inbox.close()
        rig.views.publish(MARKET.market_id, market_view())
        await trio.sleep(0.05)
        assert len(rig.made[0].asked) == 1  # its take broke; nothing hangs
