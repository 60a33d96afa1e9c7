"""Order, gaps before everything else, back-pressure with an end."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from tbot.core.backoff import Backoff
from tbot.core.messages import AccountEvent, AccountGap, ExchangeOrderId, Message, OrderState, OrderUpdate
from tbot.core.units import Nanos
from tbot.errors import AuthenticationFailed, BadFrame, Disconnected
from tbot.tasks.account_feed import HEALTH_KEY, AccountFeed, AccountFeedHealth
from tbot.tasks.conflator import Conflator
from tbot.tasks.inbox import Inbox
from tbot.tasks.supervisor import TaskContext
from tests.tasks.fake_exchange import YES, FakeExchange, now_ns, shares


def update(number: int) -> OrderUpdate:
    return OrderUpdate(
        exchange_order_id=ExchangeOrderId(str(number)),
        token_id=YES,
        state=OrderState.LIVE,
        size_matched=shares(number),
        as_of_ns=Nanos(number),
    )


class Desk:
    def __init__(self, inbox: Inbox) -> None:
        self.exchange = FakeExchange()
        self.inbox = inbox
        self.health: Conflator[str, AccountFeedHealth] = Conflator()
        self.ctx = TaskContext("account_feed", trio.Event())
        self.feed = AccountFeed(
            gateway=self.exchange,
            coordinator=inbox,
            health=self.health,
            backoff=Backoff(0.25, 30.0),
            rng=random.Random(1),
            now_ns=now_ns,
        )

    def push(self, *events: AccountEvent) -> None:
        self.exchange.account.push.send_nowait(events)

    def fail(self, error: Exception) -> None:
        self.exchange.account.push.send_nowait(error)


@asynccontextmanager
async def desk(size: int = 256) -> AsyncIterator[Desk]:
    rig = Desk(Inbox({"operator": 1, "facts": size}))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.feed.run, rig.ctx)
        await trio.sleep(0.1)
        yield rig
        rig.ctx.stop.set()


def described(messages: tuple[Message, ...]) -> list[str]:
    return [m.reason[:9] if isinstance(m, AccountGap) else getattr(m, "exchange_order_id", "?") for m in messages]


async def test_gap_comes_before_the_first_event(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.push(update(1), update(2))
        rig.push(update(3))
        await trio.sleep(0.1)
        assert described(rig.inbox.take_nowait()) == ["connected", "1", "2", "3"]


async def test_lost_connection_is_told_as_a_gap_and_so_is_the_next_one(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.push(update(1))
        rig.fail(Disconnected("the cable"))
        rig.exchange.refusals = [Disconnected("down"), Disconnected("down")]
        await trio.sleep(10)
        rig.push(update(2))
        await trio.sleep(0.1)
        assert described(rig.inbox.take_nowait()) == ["connected", "1", "the cable", "connected", "2"]
        health = rig.health.peek(HEALTH_KEY)
        assert health is not None
        assert (health.is_connected, health.connects, health.losses) == (True, 2, 3)


async def test_bad_frame_is_a_gap_and_the_session_goes_on(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.fail(BadFrame("not JSON"))
        rig.push(update(1))
        await trio.sleep(0.1)
        assert described(rig.inbox.take_nowait()) == ["connected", "bad frame", "1"]
        assert len(rig.exchange.connects) == 1


async def test_dead_link_is_noticed_without_any_error(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        rig.exchange.account.is_dead = True
        await trio.sleep(40)
        assert len(rig.exchange.connects) == 2
        assert described(rig.inbox.take_nowait()) == ["connected", "no sign o", "connected"]


async def test_full_lane_holds_events_back_in_order(autojump_clock: MockClock) -> None:
    async with desk(size=2) as rig:
        rig.push(*(update(number) for number in range(5)))
        await trio.sleep(4)
        assert described(rig.inbox.take_nowait()) == ["connected", "0", "1"]
        await trio.sleep(4)
        assert described(rig.inbox.take_nowait()) == ["2", "3", "4"]


async def test_coordinator_that_takes_nothing_for_five_seconds_is_a_crash(autojump_clock: MockClock) -> None:
    with pytest.RaisesGroup(trio.TooSlowError, flatten_subgroups=True):
        async with desk(size=1) as rig:
            rig.push(update(1))
            await trio.sleep(4.9)
            assert not rig.ctx.stop.is_set()
            await trio.sleep(0.2)
            raise AssertionError("the feed should have crashed")


async def test_dead_coordinator_is_a_crash_not_a_wait(autojump_clock: MockClock) -> None:
    with pytest.RaisesGroup(trio.BrokenResourceError, flatten_subgroups=True):
        async with desk() as rig:
            rig.inbox.close()
            rig.push(update(1))
            await trio.sleep(1)


async def test_refused_credentials_are_not_retried(autojump_clock: MockClock) -> None:
    rig = Desk(Inbox())
    rig.exchange.refusals = [AuthenticationFailed("401")]
    with pytest.RaisesGroup(AuthenticationFailed, flatten_subgroups=True):
        await rig.feed.run(rig.ctx)
    assert len(rig.exchange.connects) == 1


async def test_idle_feed_beats(autojump_clock: MockClock) -> None:
    async with desk() as rig:
        await trio.sleep(60)
        assert trio.current_time() - rig.ctx.beat_at <= 1.0
