"""What every gateway promises, whatever the exchange behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeVar

import msgspec
import pytest
import trio
from trio.testing import MockClock

from tbot.core.market import CASH, TokenId
from tbot.core.messages import (
    Accepted,
    AccountEvent,
    BookDelta,
    BookSnapshot,
    Canceled,
    CancelRefused,
    ClientOrderId,
    ExchangeOrderId,
    Fill,
    MarketEvent,
    OrderState,
    OrderType,
    OrderUpdate,
    OutcomeUnknown,
    RejectCode,
    Rejected,
    Role,
    Settlement,
    Side,
    SubmitOrder,
    SubmitReply,
    TradePrint,
    TradeStatus,
)
from tbot.core.units import MICRO, NANOS_PER_S, Nanos, Price, Size
from tbot.errors import Disconnected, InvariantViolated
from tbot.exchanges.gateway import AccountSession, Gateway, MarketSession
from tests.contract.stage import Orders, Stage, now_ns
from tests.contract.stages import STAGES

E = TypeVar("E")
Levels = dict[tuple[TokenId, Side, Price], Size]

SETTLED_S = 15.0
"""By then every trade of an exchange without faults is final."""


@pytest.fixture(params=sorted(STAGES))
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    async with STAGES[request.param]() as staged:
        yield staged


async def send(gateway: Gateway, order: SubmitOrder) -> tuple[ExchangeOrderId, SubmitReply]:
    prepared = gateway.prepare(order, now_ns())
    return prepared.exchange_order_id, await gateway.submit(prepared)


async def account_events(session: AccountSession, within_s: float) -> list[AccountEvent]:
    found: list[AccountEvent] = []
    with trio.move_on_after(within_s):
        while True:
            found += await session.receive()
    return found


async def market_events(session: MarketSession, within_s: float) -> list[MarketEvent]:
    found: list[MarketEvent] = []
    with trio.move_on_after(within_s):
        while True:
            found += await session.receive()
    return found


def of_type(events: list[AccountEvent] | list[MarketEvent], kind: type[E]) -> list[E]:
    return [event for event in events if isinstance(event, kind)]


# --- reference data --------------------------------------------------------------------------------------------------


async def test_capabilities_can_be_kept(stage: Stage, autojump_clock: MockClock) -> None:
    capabilities = stage.gateway.capabilities
    assert OrderType.GTC in capabilities.order_types
    assert capabilities.cancel_batch_max >= 1
    assert capabilities.submit_batch_max >= 1
    assert capabilities.open_orders_max >= 1
    assert all(bucket.burst >= 1 and bucket.rate_per_s > 0 for bucket in capabilities.buckets)
    cancels = [b.burst for b in capabilities.buckets if b.name == "cancels"]
    assert all(capabilities.cancel_batch_max <= burst for burst in cancels)
    assert all(capabilities.open_orders_max <= 0.8 * burst for burst in cancels), "cancelling all is always affordable"
    assert all(capabilities.submit_batch_max <= b.burst for b in capabilities.buckets if b.name == "orders")


async def test_markets_load_and_name_both_tokens(stage: Stage, autojump_clock: MockClock) -> None:
    markets = await stage.gateway.load_markets()
    assert stage.market in markets
    assert len({token for market in markets for token in market.tokens}) == 2 * len(markets)
    assert await stage.gateway.can_trade() == ""


async def test_ticks_divide_the_prices_they_hold_for(stage: Stage, autojump_clock: MockClock) -> None:
    for price in (20_000, 500_000, 980_000):
        assert price % stage.gateway.tick_at(stage.market.yes, Price(price)) == 0


async def test_makers_pay_no_more_than_takers(stage: Stage, autojump_clock: MockClock) -> None:
    price, size = Price(500_000), Size(100 * MICRO)
    taker, maker = (stage.gateway.fee(stage.market.yes, price, size, role) for role in (Role.TAKER, Role.MAKER))
    assert maker <= taker
    assert taker > 0


# --- market feed -----------------------------------------------------------------------------------------------------


def rebuild(events: list[MarketEvent]) -> Levels:
    """Newest time of a level wins; a snapshot counts after the deltas of its millisecond."""
    levels: Levels = {}
    ordered = sorted(
        (e for e in events if isinstance(e, BookSnapshot | BookDelta)),
        key=lambda e: (e.exchange_ms, isinstance(e, BookSnapshot)),
    )
    for event in ordered:
        if isinstance(event, BookDelta):
            levels[event.token_id, event.side, event.price] = event.size
        else:
            levels = {key: size for key, size in levels.items() if key[0] != event.token_id}
            levels |= levels_of(event)
    return {key: size for key, size in levels.items() if size}


def levels_of(snapshot: BookSnapshot) -> Levels:
    bids = {(snapshot.token_id, Side.BUY, level.price): level.size for level in snapshot.bids}
    return bids | {(snapshot.token_id, Side.SELL, level.price): level.size for level in snapshot.asks}


async def test_a_session_begins_with_every_book(stage: Stage, autojump_clock: MockClock) -> None:
    await stage.other_rests(stage.market.yes, Side.BUY, Price(400_000), Size(50 * MICRO))
    async with stage.gateway.open_market([stage.market.yes]) as session:
        first = of_type(await market_events(session, 1.0), BookSnapshot)
    assert [s.token_id for s in first] == [stage.market.yes]
    assert levels_of(first[0]) == {(stage.market.yes, Side.BUY, Price(400_000)): Size(50 * MICRO)}


async def test_events_rebuild_the_book_that_requests_show(stage: Stage, autojump_clock: MockClock) -> None:
    yes = stage.market.yes
    async with stage.gateway.open_market([yes]) as session:
        for cents in (40, 41, 42):
            await stage.other_rests(yes, Side.BUY, Price(cents * 10_000), Size(20 * MICRO))
            await stage.other_rests(yes, Side.SELL, Price((90 - cents) * 10_000), Size(30 * MICRO))
        await stage.other_takes(yes, Side.SELL, Price(420_000), Size(20 * MICRO))
        await stage.other_takes(yes, Side.BUY, Price(480_000), Size(10 * MICRO))
        events = await market_events(session, 2.0)
    assert bool(of_type(events, BookDelta)) is stage.gateway.capabilities.has_deltas
    (asked,) = await stage.gateway.books([yes])
    assert rebuild(events) == levels_of(asked)
    assert asked.bids


async def test_prints_tell_the_takers_side(stage: Stage, autojump_clock: MockClock) -> None:
    if not stage.gateway.capabilities.has_deltas:
        return  # a feed of whole books prints no trades, so nothing is promised
    yes = stage.market.yes
    await stage.other_rests(yes, Side.BUY, Price(400_000), Size(20 * MICRO))
    async with stage.gateway.open_market(stage.market.tokens) as session:
        await stage.other_takes(yes, Side.SELL, Price(400_000), Size(20 * MICRO))
        (told,) = of_type(await market_events(session, 1.0), TradePrint)
    assert (told.token_id, told.taker_side, told.price, told.size) == (yes, Side.SELL, 400_000, 20 * MICRO)


async def test_a_quiet_session_shows_signs_of_life(stage: Stage, autojump_clock: MockClock) -> None:
    async with stage.gateway.open_market([stage.market.yes]) as session:
        await market_events(session, 1.0)
        with trio.fail_after(20):
            assert await session.receive() == ()
    async with stage.gateway.open_account() as account:
        with trio.fail_after(20):
            assert await account.receive() == ()


async def test_a_cut_connection_is_told(stage: Stage, autojump_clock: MockClock) -> None:
    async with (
        stage.gateway.open_market([stage.market.yes]) as session,
        stage.gateway.open_account() as account,
    ):
        await market_events(session, 1.0)
        await stage.cut_connections()
        with pytest.raises(Disconnected):
            await market_events(session, 30.0)
        with pytest.raises(Disconnected):
            await account_events(account, 30.0)
    async with stage.gateway.open_market([stage.market.yes]) as session:
        assert of_type(await market_events(session, 1.0), BookSnapshot)


# --- orders ----------------------------------------------------------------------------------------------------------


async def test_an_order_rests_until_it_is_cancelled(stage: Stage, autojump_clock: MockClock) -> None:
    orders = Orders(stage.market)
    order_id, reply = await send(stage.gateway, orders.make(Side.BUY, 40, is_post_only=True))
    assert isinstance(reply, Accepted)
    assert (reply.exchange_order_id, reply.state) == (order_id, OrderState.LIVE)
    (listed,) = (await stage.gateway.report(Nanos(0), [])).open_orders
    assert (listed.exchange_order_id, listed.side, listed.price) == (order_id, Side.BUY, 400_000)
    assert (listed.size, listed.size_matched, listed.token_id) == (10 * MICRO, 0, stage.market.yes)
    (canceled,) = await stage.gateway.cancel([order_id])
    assert isinstance(canceled, Canceled)
    report = await stage.gateway.report(Nanos(0), [order_id])
    assert report.open_orders == ()
    assert [(x.state, x.size_matched) for x in report.lookups] == [(OrderState.CANCELED, 0)]


async def test_the_order_id_is_known_before_it_is_sent(stage: Stage, autojump_clock: MockClock) -> None:
    order = Orders(stage.market).make(Side.BUY, 40)
    prepared = stage.gateway.prepare(order, now_ns())
    later = stage.gateway.prepare(order, Nanos(now_ns() + NANOS_PER_S))
    assert prepared.client_order_id == order.client_order_id
    assert prepared.exchange_order_id != later.exchange_order_id
    reply = await stage.gateway.submit(prepared)
    assert isinstance(reply, Accepted)
    assert reply.exchange_order_id == prepared.exchange_order_id


async def test_the_same_bytes_make_at_most_one_order(stage: Stage, autojump_clock: MockClock) -> None:
    prepared = stage.gateway.prepare(Orders(stage.market).make(Side.BUY, 40), now_ns())
    assert isinstance(await stage.gateway.submit(prepared), Accepted)
    again = await stage.gateway.submit(prepared)
    assert isinstance(again, OutcomeUnknown), "a refusal would say that the order does not rest, but the first one does"
    assert (again.exchange_order_id, again.was_cancel) == (prepared.exchange_order_id, False)
    assert again.code is RejectCode.DUPLICATE, "evidence that the first ones were received"
    assert len((await stage.gateway.report(Nanos(0), [])).open_orders) == 1


async def test_an_order_with_an_end_ends_then_and_not_before(stage: Stage, autojump_clock: MockClock) -> None:
    capabilities = stage.gateway.capabilities
    if OrderType.GTD not in capabilities.order_types:
        with pytest.raises(InvariantViolated):
            stage.gateway.prepare(
                Orders(stage.market).make(Side.BUY, 40, order_type=OrderType.GTD, life_s=200), now_ns()
            )
        return
    life_s = capabilities.order_life_s_min + 5.25
    ends = Orders(stage.market).make(Side.BUY, 40, order_type=OrderType.GTD, is_post_only=True, life_s=life_s)
    stays = Orders(stage.market).make(Side.BUY, 39, is_post_only=True)
    async with stage.gateway.open_account() as session:
        order_id, reply = await send(stage.gateway, ends)
        stays_id, _ = await send(stage.gateway, msgspec.structs.replace(stays, client_order_id=ClientOrderId("stays")))
        assert isinstance(reply, Accepted)
        early = await account_events(session, life_s - 2)
        assert not [e for e in of_type(early, OrderUpdate) if e.state is OrderState.CANCELED]
        assert len((await stage.gateway.report(Nanos(0), [])).open_orders) == 2
        late = await account_events(session, 5)
    ended = [e for e in of_type(late, OrderUpdate) if e.state is OrderState.CANCELED]
    assert [e.exchange_order_id for e in ended] == [order_id]
    report = await stage.gateway.report(Nanos(0), [order_id])
    assert [o.exchange_order_id for o in report.open_orders] == [stays_id]
    assert [(o.exchange_order_id, o.state) for o in report.lookups] == [(order_id, OrderState.CANCELED)]


async def test_an_end_belongs_to_orders_of_its_kind_alone(stage: Stage, autojump_clock: MockClock) -> None:
    if OrderType.GTD not in stage.gateway.capabilities.order_types:
        return
    for order_type, life_s in ((OrderType.GTD, 0.0), (OrderType.GTC, 600.0), (OrderType.FAK, 600.0)):
        order = Orders(stage.market).make(Side.BUY, 40, order_type=order_type, life_s=life_s)
        with pytest.raises(InvariantViolated):
            stage.gateway.prepare(order, now_ns())


async def test_orders_sent_together_are_judged_one_by_one(stage: Stage, autojump_clock: MockClock) -> None:
    await stage.other_rests(stage.market.yes, Side.SELL, Price(450_000), Size(50 * MICRO))
    make = Orders(stage.market).make
    wanted = [make(Side.BUY, cents, is_post_only=True) for cents in (40, 45, 41, 39)]  # the second would take
    prepared = [stage.gateway.prepare(order, now_ns()) for order in wanted]
    replies = await stage.gateway.submit_batch(prepared)
    assert [type(reply) for reply in replies] == [Accepted, Rejected, Accepted, Accepted]
    assert [r.client_order_id for r in replies if not isinstance(r, OutcomeUnknown)] == [
        o.client_order_id for o in wanted
    ]
    assert isinstance(replies[1], Rejected)
    assert replies[1].code is RejectCode.POST_ONLY_WOULD_CROSS
    listed = {order.exchange_order_id for order in (await stage.gateway.report(Nanos(0), [])).open_orders}
    assert listed == {p.exchange_order_id for n, p in enumerate(prepared) if n != 1}


async def test_the_same_batch_sent_again_makes_no_order_more(stage: Stage, autojump_clock: MockClock) -> None:
    make = Orders(stage.market).make
    prepared = [stage.gateway.prepare(make(Side.BUY, cents), now_ns()) for cents in (40, 41)]
    assert [type(reply) for reply in await stage.gateway.submit_batch(prepared)] == [Accepted, Accepted]
    again = await stage.gateway.submit_batch(prepared)
    assert [reply.code for reply in again if isinstance(reply, OutcomeUnknown)] == [RejectCode.DUPLICATE] * 2
    assert len((await stage.gateway.report(Nanos(0), [])).open_orders) == 2


async def test_a_post_only_order_never_takes(stage: Stage, autojump_clock: MockClock) -> None:
    await stage.other_rests(stage.market.yes, Side.SELL, Price(450_000), Size(50 * MICRO))
    _, reply = await send(stage.gateway, Orders(stage.market).make(Side.BUY, 45, is_post_only=True))
    assert isinstance(reply, Rejected)
    assert reply.code is RejectCode.POST_ONLY_WOULD_CROSS
    report = await stage.gateway.report(Nanos(0), [])
    assert (report.open_orders, report.fills) == ((), ())


async def test_a_price_off_the_grid_is_our_fault_before_it_is_sent(stage: Stage, autojump_clock: MockClock) -> None:
    order = Orders(stage.market).make(Side.BUY, 40)
    off = SubmitOrder(**{f: getattr(order, f) for f in order.__struct_fields__} | {"price": Price(400_001)})
    with pytest.raises(InvariantViolated):
        stage.gateway.prepare(off, now_ns())


async def test_cancels_are_answered_one_by_one_in_order(stage: Stage, autojump_clock: MockClock) -> None:
    order_id, _ = await send(stage.gateway, Orders(stage.market).make(Side.BUY, 40))
    unknown = ExchangeOrderId("0x" + "ab" * 32)
    ids = [unknown, order_id] if stage.gateway.capabilities.cancel_batch_max > 1 else [order_id]
    replies = await stage.gateway.cancel(ids)
    assert [type(reply) for reply in replies] == [CancelRefused, Canceled][-len(ids) :]
    (again,) = await stage.gateway.cancel([order_id])
    assert isinstance(again, CancelRefused)
    assert again.exchange_order_id == order_id


async def test_an_unknown_id_is_answered_as_unknown(stage: Stage, autojump_clock: MockClock) -> None:
    unknown = ExchangeOrderId("0x" + "cd" * 32)
    report = await stage.gateway.report(Nanos(0), [unknown])
    assert [(x.exchange_order_id, x.state, x.size_matched) for x in report.lookups] == [(unknown, None, 0)]


async def test_a_report_states_the_moment_before_it_was_asked(stage: Stage, autojump_clock: MockClock) -> None:
    before = now_ns()
    report = await stage.gateway.report(Nanos(0), [])
    assert before <= report.requested_ns <= report.received_ns


# --- fills -----------------------------------------------------------------------------------------------------------


async def test_a_maker_fill_is_told_in_our_own_terms(stage: Stage, autojump_clock: MockClock) -> None:
    yes = stage.market.yes
    async with stage.gateway.open_account() as session:
        order_id, _ = await send(stage.gateway, Orders(stage.market).make(Side.BUY, 40, 20))
        await stage.other_takes(yes, Side.SELL, Price(400_000), Size(20 * MICRO))
        events = await account_events(session, 1.0)
    fill = of_type(events, Fill)[0]
    assert (fill.exchange_order_id, fill.token_id, fill.side, fill.role) == (order_id, yes, Side.BUY, Role.MAKER)
    assert (fill.size, fill.notional) == (20 * MICRO, 8 * MICRO)
    assert fill.fee == stage.gateway.fee(yes, Price(400_000), fill.size, Role.MAKER)
    updates = [u for u in of_type(events, OrderUpdate) if u.exchange_order_id == order_id]
    assert updates[-1].state is OrderState.MATCHED
    assert max(u.size_matched for u in updates) == 20 * MICRO


async def test_a_taker_fill_gets_the_better_price_and_pays_the_fee(stage: Stage, autojump_clock: MockClock) -> None:
    yes = stage.market.yes
    await stage.other_rests(yes, Side.SELL, Price(450_000), Size(20 * MICRO))
    async with stage.gateway.open_account() as session:
        # A GTC order: a FAK BUY spends a budget on some exchanges and buys more when it is cheaper.
        order_id, reply = await send(stage.gateway, Orders(stage.market).make(Side.BUY, 47, 20))
        events = await account_events(session, 1.0)
    assert isinstance(reply, Accepted)
    assert reply.state is OrderState.MATCHED
    fill = of_type(events, Fill)[0]
    assert (fill.exchange_order_id, fill.side, fill.role) == (order_id, Side.BUY, Role.TAKER)
    assert (fill.size, fill.notional) == (20 * MICRO, 9 * MICRO)
    assert fill.fee == stage.gateway.fee(yes, Price(450_000), fill.size, Role.TAKER)


async def test_what_a_fill_or_kill_order_leaves_never_rests(stage: Stage, autojump_clock: MockClock) -> None:
    await stage.other_rests(stage.market.yes, Side.SELL, Price(450_000), Size(20 * MICRO))
    orders = Orders(stage.market)
    order_id, reply = await send(stage.gateway, orders.make(Side.BUY, 45, 50, order_type=OrderType.FAK))
    assert isinstance(reply, Accepted)
    report = await stage.gateway.report(Nanos(0), [order_id])
    assert report.open_orders == ()
    assert [x.size_matched for x in report.lookups] == [20 * MICRO]
    _, nothing = await send(stage.gateway, orders.make(Side.BUY, 45, 50, order_type=OrderType.FAK))
    assert isinstance(nothing, Rejected)
    assert nothing.code is RejectCode.NOT_FILLED


async def test_every_fill_becomes_final_and_the_report_repeats_it(stage: Stage, autojump_clock: MockClock) -> None:
    started_ns = now_ns()
    async with stage.gateway.open_account() as session:
        order_id, _ = await send(stage.gateway, Orders(stage.market).make(Side.BUY, 40, 20))
        await stage.other_takes(stage.market.yes, Side.SELL, Price(400_000), Size(20 * MICRO))
        events = await account_events(session, SETTLED_S)
    fills = of_type(events, Fill)
    final = [f.settlement for f in fills] + [s.settlement for s in of_type(events, TradeStatus)]
    assert final[-1] is Settlement.CONFIRMED
    assert len({(f.trade_id, f.exchange_order_id) for f in fills}) == 1
    (read,) = (await stage.gateway.report(started_ns, [])).fills
    pushed = fills[0]
    assert (read.trade_id, read.exchange_order_id) == (pushed.trade_id, order_id)
    assert (read.size, read.notional, read.fee, read.side) == (pushed.size, pushed.notional, pushed.fee, pushed.side)
    assert read.settlement is Settlement.CONFIRMED


async def test_balances_follow_settled_fills_to_the_unit(stage: Stage, autojump_clock: MockClock) -> None:
    before = await stage.gateway.report(Nanos(0), [])
    await stage.other_rests(stage.market.yes, Side.SELL, Price(450_000), Size(20 * MICRO))
    await send(stage.gateway, Orders(stage.market).make(Side.BUY, 45, 20))
    await trio.sleep(SETTLED_S)
    after = await stage.gateway.report(Nanos(0), [])
    (fill,) = after.fills
    assert dict(after.balances)[stage.market.yes] - dict(before.balances).get(stage.market.yes, 0) == fill.size
    assert after.cash == before.cash - fill.notional - fill.fee


async def test_balances_read_anew_are_told_as_they_are(stage: Stage, autojump_clock: MockClock) -> None:
    before = await stage.gateway.report(Nanos(0), [])
    for asset in (CASH, *stage.market.tokens):
        await stage.gateway.refresh_balance(asset)
    after = await stage.gateway.report(Nanos(0), [])
    assert (after.balances, after.cash) == (before.balances, before.cash)


async def test_selling_what_one_does_not_have_depends_on_the_exchange(stage: Stage, autojump_clock: MockClock) -> None:
    _, reply = await send(stage.gateway, Orders(stage.market).make(Side.SELL, 60))
    if stage.gateway.capabilities.has_positions_signed:
        assert isinstance(reply, Accepted)
    else:
        assert isinstance(reply, Rejected)
        assert reply.code is RejectCode.NOT_ENOUGH_BALANCE


async def test_a_silent_bot_loses_its_orders(stage: Stage, autojump_clock: MockClock) -> None:
    dead_man_s = stage.gateway.capabilities.dead_man_s
    if not dead_man_s:
        await stage.gateway.protect()
        return
    order_id, _ = await send(stage.gateway, Orders(stage.market).make(Side.BUY, 40))
    for _ in range(4):
        await stage.gateway.protect()
        await trio.sleep(dead_man_s / 2)
    assert len((await stage.gateway.report(Nanos(0), [])).open_orders) == 1
    await trio.sleep(dead_man_s + 6)
    report = await stage.gateway.report(Nanos(0), [order_id])
    assert report.open_orders == ()
    assert report.lookups[0].state is OrderState.CANCELED


async def test_closing_is_quick(stage: Stage, autojump_clock: MockClock) -> None:
    with trio.fail_after(1.5):
        await stage.gateway.aclose()
