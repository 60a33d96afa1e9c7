"""The exchange around the engine: time, streams, the dead-man switch, misbehaviour, and a log that outlives a kill."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from tbot.core.messages import ExchangeOrderId, OrderState, Settlement, Side
from tbot.core.units import MICRO, NANOS_PER_S, Nanos, Price, Size
from tbot.exchanges.simulated.events import BookShown, LevelsChanged, OrderChanged, TradeChanged, TradePrinted
from tbot.exchanges.simulated.exchange import LocalExchange
from tbot.exchanges.simulated.faults import Faults, FaultSettings
from tbot.exchanges.simulated.flow import FlowSettings
from tbot.exchanges.simulated.operations import Account, EndReason, Operation, Placed, PlaceOrder, SplitPair
from tbot.exchanges.simulated.settings import DEFAULT_MARKETS, AccountSettings, ExchangeSettings
from tbot.exchanges.simulated.streams import Stream, StreamEnded

RAIN, COMET = DEFAULT_MARKETS
ANN, BOB = Account("ann"), Account("bob")
EPOCH_NS = 1_790_000_000 * NANOS_PER_S
QUIET = ExchangeSettings(accounts=(AccountSettings(name=ANN), AccountSettings(name=BOB)), flow=None)


def now_ns() -> Nanos:
    return Nanos(EPOCH_NS + int(trio.current_time() * NANOS_PER_S))


@asynccontextmanager
async def running(
    exchange_settings: ExchangeSettings = QUIET, faults: FaultSettings | None = None
) -> AsyncIterator[LocalExchange]:
    exchange = LocalExchange(exchange_settings, seed=1, now_ns=now_ns, faults=Faults(faults or FaultSettings(), seed=1))
    async with trio.open_nursery() as nursery:
        await nursery.start(exchange.run)
        yield exchange
        nursery.cancel_scope.cancel()


def bid(account: Account, cents: int, shares: int = 10, name: str = "") -> PlaceOrder:
    return PlaceOrder(
        account=account,
        order_id=ExchangeOrderId(name or f"{account}-{cents}"),
        token_id=RAIN.yes,
        side=Side.BUY,
        price=Price(cents * 10_000),
        size=Size(shares * MICRO),
    )


def offer(account: Account, cents: int, shares: int = 10) -> PlaceOrder:
    return msgspec.structs.replace(bid(account, cents, shares, f"{account}-{cents}-sell"), side=Side.SELL)


def trade(exchange: LocalExchange, cents: int = 50) -> None:
    exchange.apply(SplitPair(account=ANN, market_id=RAIN.market_id, size=Size(10 * MICRO)))
    assert isinstance(exchange.place(offer(ANN, cents)), Placed)
    assert isinstance(exchange.place(bid(BOB, cents)), Placed)


# --- time ------------------------------------------------------------------------------------------------------------


async def test_settlement_runs_by_itself(autojump_clock: MockClock) -> None:
    async with running() as exchange:
        trade(exchange)
        with exchange.account_stream(BOB) as stream:
            with trio.fail_after(2.01):
                (event,) = await stream.receive()
            assert isinstance(event, TradeChanged)
            assert event.trade.settlement is Settlement.MINED
            assert event.at_ns <= now_ns()


async def test_a_scheduled_operation_lands_even_if_nobody_waits(autojump_clock: MockClock) -> None:
    async with running() as exchange:
        later = exchange.schedule(bid(ANN, 40), Nanos(now_ns() + 3 * NANOS_PER_S))
        sooner = exchange.schedule(bid(BOB, 40), Nanos(now_ns() + NANOS_PER_S))
        assert isinstance(await sooner.wait(), Placed)
        assert later.reply is None
        assert exchange.open_orders(ANN) == ()
        await trio.sleep(2.1)
        assert len(exchange.open_orders(ANN)) == 1


async def test_an_idle_exchange_sleeps_and_is_woken(autojump_clock: MockClock) -> None:
    async with running() as exchange:
        assert exchange.next_ns() is None
        await trio.sleep(10_000)
        trade(exchange)
        await trio.sleep(6)
        assert exchange.engine.trades[0].settlement is Settlement.CONFIRMED


async def test_the_dead_man_switch_watches_only_who_armed_it(autojump_clock: MockClock) -> None:
    async with running() as exchange:
        exchange.place(bid(ANN, 40))
        exchange.place(bid(BOB, 40))
        exchange.heartbeat(ANN)
        await trio.sleep(9.9)
        assert len(exchange.open_orders(ANN)) == 1
        await trio.sleep(5.2)
        assert exchange.open_orders(ANN) == ()
        assert len(exchange.open_orders(BOB)) == 1
        order = exchange.order(ExchangeOrderId("ann-40"))
        assert order is not None
        assert order.reason is EndReason.HEARTBEAT
        exchange.place(bid(ANN, 41))
        await trio.sleep(60)
        assert len(exchange.open_orders(ANN)) == 1  # it fired once and is armed anew only by a heartbeat


# --- streams ---------------------------------------------------------------------------------------------------------


async def test_streams_carry_only_what_concerns_them(autojump_clock: MockClock) -> None:
    async with running() as exchange:
        with (
            exchange.market_stream([RAIN.yes]) as rain,
            exchange.market_stream([COMET.no]) as comet,
            exchange.account_stream(BOB) as bob,
        ):
            trade(exchange)
            public = rain.receive_nowait()
            assert {type(e) for e in public} == {LevelsChanged, BookShown}
            await trio.sleep(0.03)  # a print is told some 20 ms after its level changed
            (printed,) = rain.receive_nowait()
            assert isinstance(printed, TradePrinted)
            assert printed.exchange_ms - public[-1].exchange_ms in range(18, 26)
            assert [e.book.token_id for e in public if isinstance(e, BookShown)] == [RAIN.yes]
            assert comet.receive_nowait() == ()
            private = bob.receive_nowait()
            assert {e.account for e in private} == {BOB}
            assert {type(e) for e in private} == {OrderChanged, TradeChanged}


async def test_subscriptions_change_while_open(autojump_clock: MockClock) -> None:
    async with running() as exchange:
        with exchange.market_stream([COMET.yes]) as stream:
            stream.add(exchange.pairs([RAIN.no, COMET.yes]))
            exchange.place(bid(ANN, 40))
            assert len(stream.receive_nowait()) == 1
            stream.remove([RAIN.no, RAIN.yes])
            exchange.place(bid(ANN, 41))
            assert stream.receive_nowait() == ()
            assert stream.tokens == (COMET.yes,)
            with pytest.raises(KeyError):
                exchange.pairs([RAIN.market_id])  # type: ignore[list-item]


async def test_a_slow_reader_is_cut_off(autojump_clock: MockClock) -> None:
    async with running(msgspec.structs.replace(QUIET, stream_capacity=5)) as exchange:
        with exchange.market_stream([RAIN.yes]) as slow, exchange.market_stream([RAIN.yes]) as fast:
            for cents in range(30, 36):
                exchange.place(bid(ANN, cents))
                assert len(await fast.receive()) == 1
            with pytest.raises(StreamEnded, match="slow reader"):
                slow.receive_nowait()
            assert not slow.is_open


async def test_a_cut_ends_every_stream_and_new_ones_work(autojump_clock: MockClock) -> None:
    async with running() as exchange:
        with exchange.market_stream([RAIN.yes]) as market, exchange.account_stream(ANN) as account:
            exchange.cut_connections("cable")
            for stream in (market, account):
                with pytest.raises(StreamEnded, match="cable"):
                    await stream.receive()
        with exchange.market_stream([RAIN.yes]) as market:
            exchange.place(bid(ANN, 40))
            assert len(await market.receive()) == 1
        with pytest.raises(StreamEnded, match="closed by its reader"):
            market.receive_nowait()
        assert exchange.faults.faults_injected == {"connection_cut": 1}


async def test_a_stream_waits_until_there_is_something(autojump_clock: MockClock) -> None:
    stream: Stream[int] = Stream(10)
    async with trio.open_nursery() as nursery:

        async def push_later() -> None:
            await trio.sleep(5)
            stream.push(1)
            stream.push(2)

        nursery.start_soon(push_later)
        assert await stream.receive() == (1, 2)
    assert trio.current_time() == pytest.approx(5)
    assert stream.depth == 0


# --- misbehaviour ----------------------------------------------------------------------------------------------------


async def test_a_silence_swallows_events_and_ends_with_whole_books(autojump_clock: MockClock) -> None:
    async with running() as exchange:
        with exchange.market_stream([RAIN.yes, RAIN.no]) as frozen:
            exchange.silence(20)
            exchange.place(bid(ANN, 40))
            with exchange.market_stream([RAIN.yes]) as fresh:
                exchange.place(bid(ANN, 41))
                assert len(fresh.receive_nowait()) == 1  # a new connection is not frozen
            await trio.sleep(19.9)
            assert frozen.receive_nowait() == ()
            await trio.sleep(0.2)
            shown = frozen.receive_nowait()
            assert [e.book for e in shown if isinstance(e, BookShown)] == [
                exchange.book(RAIN.yes),
                exchange.book(RAIN.no),
            ]
            exchange.place(bid(ANN, 42))
            assert len(frozen.receive_nowait()) == 1


async def test_cuts_and_silences_come_at_their_rates(autojump_clock: MockClock) -> None:
    async with running(faults=FaultSettings(cuts_per_hour=20, silences_per_hour=20)) as exchange:
        await trio.sleep(3_600)
        counts = exchange.faults.faults_injected
        assert 8 <= counts["connection_cut"] <= 35
        assert 8 <= counts["silent_feed"] <= 35


@pytest.mark.parametrize(
    ("faults", "copies"),
    [(FaultSettings(), 1), (FaultSettings(account_drop=1.0), 0), (FaultSettings(account_duplicate=1.0), 2)],
)
async def test_private_events_are_dropped_or_doubled(
    faults: FaultSettings, copies: int, autojump_clock: MockClock
) -> None:
    async with running(faults=faults) as exchange:
        with exchange.account_stream(ANN) as stream:
            exchange.place(bid(ANN, 40))
            assert len(stream.receive_nowait()) == copies


async def test_delayed_private_events_arrive_late(autojump_clock: MockClock) -> None:
    async with running(faults=FaultSettings(account_delay=1.0)) as exchange:
        with exchange.account_stream(ANN) as stream:
            exchange.place(bid(ANN, 40))
            assert stream.receive_nowait() == ()
            with trio.fail_after(3.1):
                assert len(await stream.receive()) == 1


async def test_dropped_market_events_leave_no_trace(autojump_clock: MockClock) -> None:
    async with running(faults=FaultSettings(market_drop=1.0)) as exchange:
        with exchange.market_stream([RAIN.yes]) as stream:
            exchange.place(bid(ANN, 40))
            assert stream.receive_nowait() == ()
            assert stream.is_open


async def test_a_failing_settlement_is_undone(autojump_clock: MockClock) -> None:
    async with running(faults=FaultSettings(settlement_fail=1.0)) as exchange:
        before = exchange.balances(BOB)
        trade(exchange)
        await trio.sleep(10)
        assert exchange.engine.trades[0].settlement is Settlement.FAILED
        assert exchange.balances(BOB) == before
        assert exchange.faults.faults_injected["ghost_fill"] >= 1


# --- the log ---------------------------------------------------------------------------------------------------------

Log = list[tuple[Nanos, Operation]]
CROWDED = ExchangeSettings(accounts=(AccountSettings(name=ANN),), flow=FlowSettings())


class HandClock:
    def __init__(self) -> None:
        self.now = Nanos(EPOCH_NS)

    def __call__(self) -> Nanos:
        return self.now


def lived(seed: int, steps: int) -> tuple[LocalExchange, Log, HandClock]:
    """Run a crowded exchange for some steps, keeping its log as bytes would."""
    clock, log = HandClock(), Log()
    exchange = LocalExchange(
        CROWDED,
        seed=seed,
        now_ns=clock,
        faults=Faults(FaultSettings(settlement_fail=0.2), seed=seed),
        on_operation=lambda at, operation: log.append((at, operation)),
    )
    for _ in range(steps):
        clock.now = max(clock.now, exchange.next_ns() or clock.now)
        exchange.step()
    return exchange, log, clock


def reborn(log: Log, clock: HandClock) -> LocalExchange:
    stored = msgspec.msgpack.decode(msgspec.msgpack.encode(log), type=Log)
    return LocalExchange.replay(stored, CROWDED, seed=9, now_ns=clock, faults=Faults(FaultSettings(), seed=9))


@given(st.integers(0, 2**32), st.integers(1, 150))
@settings(max_examples=8, deadline=None)
def test_a_replayed_exchange_is_the_one_that_was_killed(seed: int, steps: int) -> None:
    exchange, log, clock = lived(seed, steps)
    assert reborn(log, clock).engine.digest() == exchange.engine.digest()


def test_a_log_cut_off_anywhere_is_continued() -> None:
    _, log, clock = lived(seed=3, steps=40)
    for cut in (0, 1, 3, 9, len(log) // 2):
        exchange = reborn(log[:cut], clock)
        assert exchange.markets() == DEFAULT_MARKETS
        assert exchange.balances(ANN).cash == 10_000 * MICRO
        assert exchange.engine.ledger.deposits == reborn(log, clock).engine.ledger.deposits


def test_the_crowd_goes_on_after_a_restart() -> None:
    _, log, clock = lived(seed=3, steps=400)
    exchange = reborn(log, clock)
    trades = len(exchange.engine.trades)
    before = exchange.engine.top(RAIN.market_id)
    for _ in range(800):
        clock.now = max(clock.now, exchange.next_ns() or clock.now)
        exchange.step()
    after = exchange.engine.top(RAIN.market_id)
    assert len(exchange.engine.trades) > trades
    assert all(a is not None and b is not None and abs(a - b) < 80_000 for a, b in zip(before, after, strict=True))
    assert all(o.state is OrderState.LIVE for o in exchange.open_orders(Account("maker-1")))


PROGRAM = """
import sys
sys.path[:0] = sys.argv[1:]
from test_exchange import lived
print(lived(seed=11, steps=300)[0].engine.digest())
"""


@pytest.mark.slow
def test_two_processes_with_one_seed_agree() -> None:
    here = Path(__file__).resolve().parent
    command = [sys.executable, "-c", PROGRAM, str(here), str(here.parents[2])]
    digests = [
        subprocess.run(command, env={"PYTHONHASHSEED": salt}, capture_output=True, text=True, check=True).stdout
        for salt in ("1", "2")
    ]
    assert digests[0] == digests[1]
    assert len(digests[0].strip()) == 64
