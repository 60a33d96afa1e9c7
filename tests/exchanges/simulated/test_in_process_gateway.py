"""The gateway in one process beyond the contract: latency, reordering, and every way a request can get lost."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio
from trio.testing import MockClock

from tbot.core.market import TokenId
from tbot.core.messages import (
    Accepted,
    BookDelta,
    BookSnapshot,
    Canceled,
    ExchangeOrderId,
    Fill,
    MarketEvent,
    OrderState,
    OrderType,
    OutcomeUnknown,
    RejectCode,
    Rejected,
    Role,
    Settlement,
    Side,
    Throttled,
    TickSizeChanged,
)
from tbot.core.units import MICRO, NANOS_PER_S, Nanos, Price, Size
from tbot.errors import ConfigError, ExchangeUnavailable, InvariantViolated
from tbot.exchanges.gateway import Gateway, PreparedOrder
from tbot.exchanges.simulated.faults import Faults, FaultSettings
from tbot.exchanges.simulated.gateway import InProcessGateway
from tbot.exchanges.simulated.operations import ChangeTick, Mode
from tbot.exchanges.simulated.transit import LatencySettings
from tests.contract.stage import Orders, now_ns
from tests.contract.stages import US, InProcessStage


@asynccontextmanager
async def staged(faults: FaultSettings | None = None) -> AsyncIterator[InProcessStage]:
    stage = InProcessStage(faults)
    async with trio.open_nursery() as nursery:
        await nursery.start(stage.exchange.run)
        yield stage
        nursery.cancel_scope.cancel()


def prepared(stage: InProcessStage, cents: int = 40) -> PreparedOrder:
    return stage.gateway.prepare(Orders(stage.market).make(Side.BUY, cents), now_ns())


def test_the_class_keeps_the_protocol() -> None:
    keeps: type[Gateway] = InProcessGateway
    assert keeps is InProcessGateway


# --- submits ---------------------------------------------------------------------------------------------------------


async def test_an_order_takes_two_ways(autojump_clock: MockClock) -> None:
    async with staged() as stage:
        began = trio.current_time()
        assert isinstance(await stage.gateway.submit(prepared(stage)), Accepted)
        assert 0.030 <= trio.current_time() - began <= 0.091


LOST = [
    # faults, whether it rests after the time-out, and after a minute
    (FaultSettings(submit_lost_before=1.0), False, False),
    (FaultSettings(submit_lost_after=1.0), True, True),
    (FaultSettings(submit_late=1.0), False, True),
]


@pytest.mark.parametrize(("faults", "rests_at_once", "rests_in_the_end"), LOST)
async def test_a_lost_submit_is_an_unknown_outcome(
    faults: FaultSettings, rests_at_once: bool, rests_in_the_end: bool, autojump_clock: MockClock
) -> None:
    async with staged(faults) as stage:
        order = prepared(stage)
        began = trio.current_time()
        reply = await stage.gateway.submit(order)
        assert trio.current_time() - began == pytest.approx(5.0)
        assert isinstance(reply, OutcomeUnknown)
        assert (reply.exchange_order_id, reply.was_cancel) == (order.exchange_order_id, False)
        assert bool(stage.exchange.open_orders(US)) is rests_at_once
        await trio.sleep(60)
        assert bool(stage.exchange.open_orders(US)) is rests_in_the_end
        assert sum(stage.exchange.faults.faults_injected.values()) == 1


async def test_a_late_order_lands_thirty_seconds_after_it_was_sent(autojump_clock: MockClock) -> None:
    async with staged(FaultSettings(submit_late=1.0)) as stage:
        order, sent_ns = prepared(stage), now_ns()
        await stage.gateway.submit(order)
        await trio.sleep(60)
        view = stage.exchange.order(order.exchange_order_id)
        assert view is not None
        assert (view.created_ns - sent_ns) / NANOS_PER_S == pytest.approx(30, abs=0.1)


async def test_a_server_error_after_acceptance_leaves_the_order_on_the_book(autojump_clock: MockClock) -> None:
    async with staged(FaultSettings(submit_http_5xx=1.0)) as stage:
        reply = await stage.gateway.submit(prepared(stage))
        assert isinstance(reply, OutcomeUnknown)
        assert trio.current_time() < 1
        assert len(stage.exchange.open_orders(US)) == 1


async def test_a_rate_limited_order_is_surely_not_on_the_book(autojump_clock: MockClock) -> None:
    async with staged(FaultSettings(submit_rate_limited=1.0)) as stage:
        reply = await stage.gateway.submit(prepared(stage))
        assert isinstance(reply, Rejected)
        assert reply.code is RejectCode.RATE_LIMITED
        await trio.sleep(60)
        assert stage.exchange.open_orders(US) == ()


async def test_an_order_in_flight_outlives_its_sender(autojump_clock: MockClock) -> None:
    async with staged() as stage:
        order = prepared(stage)
        with trio.move_on_after(0.001):
            await stage.gateway.submit(order)
        assert stage.exchange.open_orders(US) == ()
        await trio.sleep(1)
        assert [o.order_id for o in stage.exchange.open_orders(US)] == [order.exchange_order_id]


async def test_resending_the_same_bytes_after_doubt_tells_that_the_first_arrived(autojump_clock: MockClock) -> None:
    async with staged(FaultSettings(submit_http_5xx=1.0)) as stage:
        order = prepared(stage)
        await stage.gateway.submit(order)
        stage.exchange.faults = Faults(FaultSettings(), seed=1)
        again = await stage.gateway.submit(order)
        assert isinstance(again, OutcomeUnknown)
        assert "Duplicated" in again.reason


# --- batches and modes -----------------------------------------------------------------------------------------------


def several(stage: InProcessStage, *cents: int) -> list[PreparedOrder]:
    make = Orders(stage.market).make
    return [stage.gateway.prepare(make(Side.BUY, price, is_post_only=True), now_ns()) for price in cents]


@pytest.mark.parametrize(("faults", "rests_at_once", "rests_in_the_end"), LOST)
async def test_a_lost_batch_leaves_each_of_its_orders_in_doubt(
    faults: FaultSettings, rests_at_once: bool, rests_in_the_end: bool, autojump_clock: MockClock
) -> None:
    async with staged(faults) as stage:
        orders = several(stage, 40, 39, 38)
        replies = await stage.gateway.submit_batch(orders)
        assert [r.exchange_order_id for r in replies if isinstance(r, OutcomeUnknown)] == [
            order.exchange_order_id for order in orders
        ]
        assert len(stage.exchange.open_orders(US)) == 3 * rests_at_once
        await trio.sleep(60)
        assert len(stage.exchange.open_orders(US)) == 3 * rests_in_the_end
        assert sum(stage.exchange.faults.faults_injected.values()) == 1, "one request, one fault"


async def test_a_partial_batch_leaves_every_second_order_in_doubt(autojump_clock: MockClock) -> None:
    async with staged(FaultSettings(batch_partial=1.0)) as stage:
        orders = several(stage, 40, 39, 38)
        replies = await stage.gateway.submit_batch(orders)
        assert [type(reply) for reply in replies] == [Accepted, OutcomeUnknown, Accepted]
        assert {order.order_id for order in stage.exchange.open_orders(US)} == {
            orders[0].exchange_order_id,
            orders[2].exchange_order_id,
        }


MODES = [
    (Mode.RESTARTING, RejectCode.RESTARTING, RejectCode.RESTARTING),
    (Mode.DISABLED, RejectCode.TRADING_DISABLED, RejectCode.TRADING_DISABLED),
    (Mode.CANCEL_ONLY, RejectCode.CANCEL_ONLY, None),
    (Mode.POST_ONLY, RejectCode.POST_ONLY_MODE, None),
]


@pytest.mark.parametrize(("mode", "code", "cancel_code"), MODES)
async def test_each_mode_is_told_by_its_name_as_on_the_wire(
    mode: Mode, code: RejectCode, cancel_code: RejectCode | None, autojump_clock: MockClock
) -> None:
    async with staged() as stage:
        rests = prepared(stage)
        assert isinstance(await stage.gateway.submit(rests), Accepted)
        stage.exchange.modes.hold(mode)
        (refused,) = [await stage.gateway.submit(prepared(stage, 35))]
        assert isinstance(refused, Rejected)
        assert refused.code is code
        (reply,) = await stage.gateway.cancel([rests.exchange_order_id])
        if cancel_code is None:
            assert isinstance(reply, Canceled)
        else:
            assert isinstance(reply, Throttled)
            assert reply.code is cancel_code
            assert reply.retry_after_s > 0


async def test_post_only_mode_tells_how_long_it_lasts_and_takes_what_only_makes(autojump_clock: MockClock) -> None:
    async with staged() as stage:
        stage.exchange.modes.restart(now_ns(), restarting_s=5, post_only_s=30)
        down = await stage.gateway.submit(several(stage, 40)[0])
        assert isinstance(down, Rejected)
        assert (down.code, down.retry_after_s) == (RejectCode.RESTARTING, 1.0)
        await trio.sleep(6)
        orders = [*several(stage, 41), prepared(stage, 42)]
        making, taking = await stage.gateway.submit_batch(orders)
        assert isinstance(making, Accepted)
        assert isinstance(taking, Rejected)
        assert taking.code is RejectCode.POST_ONLY_MODE
        assert 20 < taking.retry_after_s <= 30


async def test_rate_limits_name_their_wait(autojump_clock: MockClock) -> None:
    async with staged(FaultSettings(submit_rate_limited=1.0, cancel_rate_limited=1.0, retry_after_s=7.0)) as stage:
        (reply,) = await stage.gateway.submit_batch(several(stage, 40))
        assert isinstance(reply, Rejected)
        assert (reply.code, reply.retry_after_s) == (RejectCode.RATE_LIMITED, 7.0)
        (cancel,) = await stage.gateway.cancel([several(stage, 40)[0].exchange_order_id])
        assert isinstance(cancel, Throttled)
        assert (cancel.code, cancel.retry_after_s) == (RejectCode.RATE_LIMITED, 7.0)


REFUSED = [
    (10_000, 40, RejectCode.NOT_ENOUGH_BALANCE),
    (4, 40, RejectCode.TOO_SMALL),
]


@pytest.mark.parametrize(("shares", "cents", "code"), REFUSED)
async def test_refusals_have_codes(shares: int, cents: int, code: RejectCode, autojump_clock: MockClock) -> None:
    async with staged() as stage:
        order = stage.gateway.prepare(Orders(stage.market).make(Side.BUY, cents, shares), now_ns())
        reply = await stage.gateway.submit(order)
        assert isinstance(reply, Rejected)
        assert reply.code is code


async def test_what_the_exchange_cannot_do_is_refused_before_sending(autojump_clock: MockClock) -> None:
    async with staged() as stage:
        orders = Orders(stage.market)
        with pytest.raises(InvariantViolated):
            stage.gateway.prepare(orders.make(Side.BUY, 40, token_id=TokenId("unheard-of")), now_ns())
        with pytest.raises(InvariantViolated):
            stage.gateway.prepare(orders.make(Side.BUY, 40, order_type=OrderType.GTD), now_ns())
        odd = msgspec.structs.replace(orders.make(Side.BUY, 40), size=Size(5_001))
        with pytest.raises(InvariantViolated):
            stage.gateway.prepare(odd, now_ns())
        with pytest.raises(ConfigError):
            await stage.gateway.books([TokenId("unheard-of")])


# --- cancels, reports ------------------------------------------------------------------------------------------------

CANCELS = [
    (FaultSettings(), Canceled, True),
    (FaultSettings(cancel_lost_before=1.0), OutcomeUnknown, False),
    (FaultSettings(cancel_lost_after=1.0), OutcomeUnknown, True),
    (FaultSettings(cancel_rate_limited=1.0, retry_after_s=3.0), Throttled, False),
]


@pytest.mark.parametrize(("faults", "kind", "is_gone"), CANCELS)
async def test_a_cancel_is_answered_or_doubtful(
    faults: FaultSettings, kind: type[object], is_gone: bool, autojump_clock: MockClock
) -> None:
    async with staged(faults) as stage:
        order = prepared(stage)
        await stage.gateway.submit(order)
        (reply,) = await stage.gateway.cancel([order.exchange_order_id])
        assert type(reply) is kind
        if isinstance(reply, OutcomeUnknown):
            assert reply.was_cancel
        if isinstance(reply, Throttled):
            assert reply.retry_after_s == 3.0
        assert (stage.exchange.open_orders(US) == ()) is is_gone


async def test_an_unavailable_report_is_an_error_not_an_empty_answer(autojump_clock: MockClock) -> None:
    async with staged(FaultSettings(report_unavailable=1.0)) as stage:
        with pytest.raises(ExchangeUnavailable):
            await stage.gateway.report(Nanos(0), [])


async def test_a_report_reads_at_several_moments(autojump_clock: MockClock) -> None:
    async with staged() as stage:
        order = prepared(stage)
        await stage.gateway.submit(order)
        async with trio.open_nursery() as nursery:

            async def fill_in_between() -> None:
                await trio.sleep(0.05)
                await stage.other_takes(stage.market.yes, Side.SELL, Price(400_000), Size(10 * MICRO))

            nursery.start_soon(fill_in_between)
            report = await stage.gateway.report(Nanos(0), [order.exchange_order_id])
        assert len(report.open_orders) == 1
        assert len(report.fills) == 1
        assert report.lookups[0].state is OrderState.MATCHED


# --- sessions --------------------------------------------------------------------------------------------------------


async def collected(stage: InProcessStage, tokens: list[TokenId]) -> list[MarketEvent]:
    events: list[MarketEvent] = []
    async with stage.gateway.open_market(tokens) as session, trio.open_nursery() as nursery:

        async def make_noise() -> None:
            for number in range(60):
                await stage.other_rests(stage.market.yes, Side.BUY, Price((20 + number % 20) * 10_000), Size(5 * MICRO))
                await trio.sleep(0.002)

        nursery.start_soon(make_noise)
        with trio.move_on_after(1.0):
            while True:
                events += await session.receive()
    return events


async def test_arrival_order_differs_a_little_from_exchange_order(autojump_clock: MockClock) -> None:
    async with staged() as stage:
        events = [e for e in await collected(stage, [stage.market.yes]) if isinstance(e, BookDelta | BookSnapshot)]
        times = [e.exchange_ms for e in events]
        assert isinstance(events[0], BookSnapshot)
        assert times != sorted(times)
        assert max(a - b for a, b in itertools.pairwise(times)) <= 8
        assert all(12 <= e.received_ns // 10**6 - e.exchange_ms <= 20 for e in events[1:])


async def test_level_changes_of_tokens_not_subscribed_are_left_out(autojump_clock: MockClock) -> None:
    async with staged() as stage:
        events = await collected(stage, [stage.market.no])
        assert {e.token_id for e in events if isinstance(e, BookDelta | BookSnapshot)} == {stage.market.no}


async def test_a_frozen_session_still_shows_life(autojump_clock: MockClock) -> None:
    async with staged() as stage, stage.gateway.open_market([stage.market.yes]) as session:
        assert await session.receive() != ()
        stage.exchange.silence(25)
        await stage.other_rests(stage.market.yes, Side.BUY, Price(400_000), Size(5 * MICRO))
        assert await session.receive() == ()
        assert await session.receive() == ()
        (snapshot,) = await session.receive()
        assert isinstance(snapshot, BookSnapshot)
        assert len(snapshot.bids) == 1


async def test_impatient_readers_still_get_signs_of_life(autojump_clock: MockClock) -> None:
    async with staged() as stage, stage.gateway.open_account() as session:
        seen = None
        for _ in range(25):
            with trio.move_on_after(0.5):
                seen = await session.receive()
        assert seen == ()


async def test_a_tick_change_is_followed_by_books_on_the_new_grid(autojump_clock: MockClock) -> None:
    async with staged() as stage, stage.gateway.open_market(stage.market.tokens) as session:
        assert len(await session.receive()) == 2
        stage.exchange.apply(ChangeTick(market_id=stage.market.market_id, tick=Price(1_000)))
        events = await session.receive()
        assert [type(e) for e in events] == [TickSizeChanged, TickSizeChanged, BookSnapshot, BookSnapshot]
        assert stage.gateway.tick_at(stage.market.yes, Price(500_000)) == 1_000


async def test_one_trade_with_two_of_our_orders_is_two_fills(autojump_clock: MockClock) -> None:
    async with staged() as stage, stage.gateway.open_account() as session:
        orders = Orders(stage.market)
        ids = []
        for token_id in stage.market.tokens:
            order = stage.gateway.prepare(orders.make(Side.BUY, 50, token_id=token_id), now_ns())
            assert isinstance(await stage.gateway.submit(order), Accepted)
            ids.append(order.exchange_order_id)
        fills = []
        with trio.move_on_after(1):
            while True:
                fills += [e for e in await session.receive() if isinstance(e, Fill)]
        assert [(f.exchange_order_id, f.token_id, f.role) for f in fills] == [
            (ids[1], stage.market.no, Role.TAKER),
            (ids[0], stage.market.yes, Role.MAKER),
        ]
        assert len({f.trade_id for f in fills}) == 1


async def test_a_ghost_fill_is_told_as_failed_and_its_money_is_back(autojump_clock: MockClock) -> None:
    async with staged(FaultSettings(settlement_fail=1.0)) as stage, stage.gateway.open_account() as session:
        before = (await stage.gateway.report(Nanos(0), [])).cash
        await stage.gateway.submit(prepared(stage))
        await stage.other_takes(stage.market.yes, Side.SELL, Price(400_000), Size(10 * MICRO))
        told = []
        with trio.move_on_after(20):
            while True:
                told += [e.settlement for e in await session.receive() if isinstance(e, Fill)]
        assert told == [Settlement.MATCHED, Settlement.RETRYING, Settlement.FAILED]
        assert (await stage.gateway.report(Nanos(0), [])).cash == before


# --- determinism -----------------------------------------------------------------------------------------------------


def test_ids_are_functions_of_run_and_order_and_moment(autojump_clock: MockClock) -> None:
    async def main() -> list[ExchangeOrderId]:
        stage = InProcessStage()
        await trio.lowlevel.checkpoint()
        order = Orders(stage.market).make(Side.BUY, 40)
        gateways = [
            InProcessGateway(
                stage.exchange, US, run_id=run, rng=random.Random(1), now_ns=now_ns, latency=LatencySettings()
            )
            for run in ("a", "a", "b")
        ]
        return [gateway.prepare(order, Nanos(7)).exchange_order_id for gateway in gateways]

    first, again, other = trio.run(main, clock=autojump_clock)
    assert first == again != other
    assert len(first) == 66
