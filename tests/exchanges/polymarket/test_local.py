"""The gateway against the local exchange's server, which checks every signature and sum by code of its own."""

from __future__ import annotations

import random
from functools import partial

import msgspec
import pytest
import trio
import trio.testing

from tbot.core.market import TokenId
from tbot.core.messages import (
    Accepted,
    BookSnapshot,
    Canceled,
    ClientOrderId,
    Fill,
    Gap,
    MarketEvent,
    MarketNews,
    OrderType,
    OutcomeUnknown,
    RejectCode,
    Rejected,
    Role,
    Side,
    StrategyName,
    SubmitOrder,
    Throttled,
    TickSizeChanged,
)
from tbot.core.units import MICRO, NANOS_PER_S, Nanos, Price, Size
from tbot.errors import AuthenticationFailed
from tbot.exchanges.gateway import MarketSession
from tbot.exchanges.polymarket.keys import ApiCredentials
from tbot.exchanges.polymarket.limits import Lane
from tbot.exchanges.simulated.new_markets import ListOrder
from tbot.exchanges.simulated.operations import (
    Account,
    ChangeTick,
    CloseMarket,
    OpenMarket,
    PauseMarket,
    ReopenMarket,
    ResolveMarket,
)
from tests.contract.stage import now_ns
from tests.exchanges.polymarket.local import PolymarketStage, polymarket


def order_of(
    number: int, token_id: TokenId, side: Side, cents: int, *, size: int, order_type: OrderType = OrderType.GTC
) -> SubmitOrder:
    return SubmitOrder(
        client_order_id=ClientOrderId(f"c-{number}"),
        strategy=StrategyName("s"),
        token_id=token_id,
        side=side,
        price=Price(cents * 10_000),
        size=Size(size),
        order_type=order_type,
        is_post_only=False,
        slot_level=0,
        deadline_ns=Nanos(now_ns() + 5 * NANOS_PER_S),
        at_ns=now_ns(),
    )


async def test_refused_credentials_are_told_on_entry(autojump_clock: trio.testing.MockClock) -> None:
    async with polymarket() as stage:
        wrong = ApiCredentials(api_key=stage.credentials.api_key, secret="AAAA", passphrase="nonsense")
        gateway = stage.gateway_of(wrong)
        with pytest.raises(AuthenticationFailed):
            await gateway.open_account().__aenter__()
        with pytest.raises(AuthenticationFailed):
            await gateway.report(Nanos(0), [])
        await gateway.aclose()


async def test_credentials_are_obtained_by_the_key_alone(autojump_clock: trio.testing.MockClock) -> None:
    async with polymarket() as stage:
        obtained = await stage.obtain_credentials()
        assert obtained.api_key == stage.credentials.api_key
        assert obtained.secret == stage.credentials.secret


async def test_bytes_sent_twice_make_one_order_and_an_honest_doubt(autojump_clock: trio.testing.MockClock) -> None:
    async with polymarket() as stage:
        order = order_of(1, stage.market.yes, Side.BUY, 40, size=10 * MICRO)
        prepared = stage.gateway.prepare(order, now_ns())
        assert isinstance(await stage.gateway.submit(prepared), Accepted)
        again = await stage.gateway.submit(prepared)
        assert isinstance(again, OutcomeUnknown)
        assert "Duplicated" in again.reason
        assert len((await stage.gateway.report(Nanos(0), [])).open_orders) == 1


async def test_changed_tick_is_in_force_for_both_outcomes(autojump_clock: trio.testing.MockClock) -> None:
    async with polymarket() as stage, stage.gateway.open_market(stage.market.tokens) as session:
        assert stage.gateway.tick_at(stage.market.no, Price(500_000)) == 10_000
        await trio.sleep(0.01)  # the book of a millisecond is its last word
        stage.exchange.apply(ChangeTick(market_id=stage.market.market_id, tick=Price(1_000)))
        with trio.fail_after(5):
            while not any(isinstance(event, TickSizeChanged) for event in await session.receive()):
                pass
        assert stage.gateway.tick_at(stage.market.yes, Price(500_000)) == 1_000
        assert stage.gateway.tick_at(stage.market.no, Price(500_000)) == 1_000


async def test_a_restart_of_the_engine_is_told_by_name_and_ends(autojump_clock: trio.testing.MockClock) -> None:
    async with polymarket() as stage:
        gateway, numbers = stage.gateway, iter(range(100))

        async def send(*, is_post_only: bool) -> str:
            order = order_of(next(numbers), stage.market.yes, Side.BUY, 40, size=10 * MICRO)
            order = msgspec.structs.replace(order, is_post_only=is_post_only)
            reply = await gateway.submit(gateway.prepare(order, now_ns()))
            return reply.code.value if isinstance(reply, Rejected) else type(reply).__name__

        rests = gateway.prepare(order_of(99, stage.market.yes, Side.BUY, 30, size=10 * MICRO), now_ns())
        assert isinstance(await gateway.submit(rests), Accepted)
        stage.exchange.modes.restart(now_ns(), restarting_s=5, post_only_s=30)
        assert await send(is_post_only=True) == "restarting"
        (throttled,) = await gateway.cancel([rests.exchange_order_id])
        assert isinstance(throttled, Throttled)
        assert throttled.code is RejectCode.RESTARTING
        await trio.sleep(6)
        assert await send(is_post_only=False) == "restarting"  # not even sent: it could be refused though all is well
        assert await send(is_post_only=True) == "Accepted"
        assert await send(is_post_only=False) == "post_only_mode"
        assert isinstance((await gateway.cancel([rests.exchange_order_id]))[0], Canceled)
        await trio.sleep(121)
        assert await send(is_post_only=False) == "Accepted"


async def test_orders_that_never_rest_take_no_place(autojump_clock: trio.testing.MockClock) -> None:
    async with polymarket() as stage:
        await stage.other_rests(stage.market.yes, Side.SELL, Price(500_000), Size(100 * MICRO))
        for number, order_type in enumerate((OrderType.FAK, OrderType.GTC)):
            order = order_of(number, stage.market.yes, Side.BUY, 50, size=10 * MICRO, order_type=order_type)
            assert isinstance(await stage.gateway.submit(stage.gateway.prepare(order, now_ns())), Accepted)
            assert len(stage.gateway._entry.open_orders) == number
        await trio.sleep(1)
        await stage.gateway.report(Nanos(0), [])  # the second was filled as well, which only a report tells
        assert stage.gateway._entry.open_orders == {}


async def test_everything_is_cancelled_at_once_when_the_bucket_is_too_poor_for_a_list(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with polymarket() as stage:
        gateway, sent = stage.gateway, []
        for number in range(30):
            order = order_of(number, stage.market.yes, Side.BUY, 1 + number, size=5 * MICRO)
            sent.append(gateway.prepare(order, now_ns()))
            assert isinstance(await gateway.submit(sent[-1]), Accepted)
        ids = [order.exchange_order_id for order in sent]
        gateway._public.gate.learn(Lane.CANCEL, 5)
        start = trio.current_time()
        assert not gateway._entry._is_cheaper_to_cancel_all(ids)  # nobody has shown yet that we are alone here
        await gateway.report(Nanos(0), [])
        gateway._public.gate.learn(Lane.CANCEL, 5)
        replies = await gateway.cancel(ids)
        assert [reply.exchange_order_id for reply in replies] == ids
        assert all(isinstance(reply, Canceled) for reply in replies)
        assert trio.current_time() - start < 0.2
        assert (await gateway.report(Nanos(0), [])).open_orders == ()
        assert gateway._entry.open_orders == {}


async def trade_a_while(stage: PolymarketStage, rng: random.Random) -> list[Fill]:
    """Let both sides trade at random, on both outcomes, with odd sizes; return what the account channel told."""
    told: list[Fill] = []

    async def listen(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with stage.gateway.open_account() as session:
            task_status.started()
            while True:
                told.extend(event for event in await session.receive() if isinstance(event, Fill))

    async with trio.open_nursery() as nursery:
        await nursery.start(listen)
        for number in range(60):
            token = rng.choice(stage.market.tokens)
            side, cents = rng.choice(list(Side)), rng.randrange(30, 70)
            size = rng.randrange(500, 3_000) * 10_000
            if rng.random() < 0.5:
                await stage.other_rests(token, side, Price(cents * 10_000), Size(size))
            else:
                order_type = rng.choice([OrderType.GTC, OrderType.FAK])
                order = order_of(number, token, side, cents, size=size, order_type=order_type)
                await stage.gateway.submit(stage.gateway.prepare(order, now_ns()))
            await trio.sleep(0.5)
        await trio.sleep(20)
        nursery.cancel_scope.cancel()
    return told


@pytest.mark.parametrize("seed", range(3))
async def test_every_fill_equals_the_exchanges_own_record_to_the_unit(
    autojump_clock: trio.testing.MockClock, seed: int
) -> None:
    async with polymarket() as stage:
        us = Account(stage.key.address)
        before = await stage.gateway.report(Nanos(0), [])
        told = await trade_a_while(stage, random.Random(seed))
        report = await stage.gateway.report(Nanos(0), [])
        trades = stage.exchange.trades(us)
        recorded = {
            (trade.trade_id, leg.order_id, leg.token_id, leg.side, leg.size, leg.notional, 0)
            for trade in trades
            for leg in trade.legs
            if leg.account == us
        } | {
            (t.trade_id, t.taker_order_id, t.token_id, t.side, t.size, t.notional, t.fee)
            for t in trades
            if t.taker_account == us
        }
        assert set(Role) == {fill.role for fill in report.fills}
        assert {facts(fill) for fill in report.fills} == recorded
        assert {facts(fill) for fill in told} == recorded
        assert report.cash == before.cash + sum(cash_of(fill) for fill in report.fills)


def facts(fill: Fill) -> tuple[object, ...]:
    return (fill.trade_id, fill.exchange_order_id, fill.token_id, fill.side, fill.size, fill.notional, fill.fee)


def cash_of(fill: Fill) -> int:
    return (fill.notional if fill.side is Side.SELL else -fill.notional) - fill.fee


def test_same_seed_gives_the_same_session_to_the_byte() -> None:
    async def session(seed: int) -> list[Fill]:
        async with polymarket() as stage:
            return await trade_a_while(stage, random.Random(seed))

    def run(seed: int) -> list[Fill]:
        clock = trio.testing.MockClock(autojump_threshold=0)
        return trio.run(partial(session, seed), clock=clock)

    first = run(1)
    assert first == run(1)
    assert first != run(2)


async def test_terms_are_read_again_with_as_few_requests_as_what_changed_allows(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with polymarket() as stage:
        market_id = stage.market.market_id
        (before, *_) = await stage.gateway.load_markets()
        assert await stage.gateway.reread(market_id) == before
        stage.exchange.apply(ChangeTick(market_id=market_id, tick=Price(1_000)))
        assert await stage.gateway.reread(market_id) == msgspec.structs.replace(before, tick=Price(1_000))
        assert stage.gateway.tick_at(stage.market.no, Price(500_000)) == 1_000
        stage.exchange.apply(CloseMarket(market_id=market_id))
        after = await stage.gateway.reread(market_id)
        assert (after.is_accepting_orders, after.is_closed) == (False, True)
        assert await stage.gateway.reread(market_id) == after
        assert (await stage.gateway.load_markets())[0] == after
        stage.exchange.apply(ReopenMarket(market_id=market_id))
        assert await stage.gateway.reread(market_id) == msgspec.structs.replace(before, tick=Price(1_000))
        stage.exchange.apply(PauseMarket(market_id=market_id))
        after = await stage.gateway.reread(market_id)
        assert (after.is_accepting_orders, after.is_closed) == (False, False)
        assert (await stage.gateway.load_markets())[0] == after


@pytest.mark.parametrize("yes_payout", [0, MICRO, MICRO // 2])
async def test_a_decided_market_is_told_from_one_that_is_only_closed(
    autojump_clock: trio.testing.MockClock, yes_payout: int
) -> None:
    async with polymarket() as stage:
        market_id = stage.market.market_id
        await stage.gateway.load_markets()
        stage.exchange.apply(CloseMarket(market_id=market_id))
        assert not (await stage.gateway.reread(market_id)).is_resolved
        stage.exchange.apply(ResolveMarket(market_id=market_id, yes_payout=Price(yes_payout)))
        after = await stage.gateway.reread(market_id)
        assert (after.is_closed, after.is_resolved) == (True, True)
        assert (await stage.gateway.load_markets())[0] == after


async def test_a_market_that_moves_to_another_contract_refuses_one_order_and_takes_the_next(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with polymarket() as stage:
        book = stage.exchange.engine._books[stage.market.market_id]
        book.rules = msgspec.structs.replace(book.rules, is_neg_risk=True)
        codes: list[object] = []

        async def send(number: int) -> None:
            order = order_of(number, stage.market.yes, Side.BUY, 40, size=10 * MICRO)
            reply = await stage.gateway.submit(stage.gateway.prepare(order, now_ns()))
            codes.append(reply.code if isinstance(reply, Rejected) else type(reply))

        async with trio.open_nursery() as nursery:
            for number in range(3):  # refused together: one reading explains all of them
                nursery.start_soon(send, number)
        await send(3)
        assert codes == [RejectCode.VERSION_MISMATCH] * 3 + [Accepted]


async def test_a_signature_that_is_no_good_for_any_contract_stays_a_reason_to_halt(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with polymarket() as stage:
        order = stage.gateway.prepare(order_of(1, stage.market.yes, Side.BUY, 40, size=10 * MICRO), now_ns())
        forged = msgspec.structs.replace(order, body=order.body.replace(b'"makerAmount":"4', b'"makerAmount":"5'))
        reply = await stage.gateway.submit(forged)
        assert isinstance(reply, Rejected)
        assert reply.code is RejectCode.BAD_SIGNATURE


async def test_a_resolved_market_is_told_to_the_session(autojump_clock: trio.testing.MockClock) -> None:
    async with polymarket() as stage, stage.gateway.open_market(stage.market.tokens) as session:
        stage.exchange.apply(ResolveMarket(market_id=stage.market.market_id, yes_payout=Price(0)))
        with trio.fail_after(5):
            while not any(isinstance(event, MarketNews) for event in await session.receive()):
                pass


async def test_a_market_listed_while_we_trade_is_told_and_can_be_followed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    rules = ListOrder(slug="snow-on-sunday", tick="0.001").rules()
    async with polymarket() as stage:
        tokens = (*stage.market.tokens, *rules.tokens)
        async with stage.gateway.open_market(tokens) as early, stage.gateway.open_market(tokens[:2]) as late:
            stage.exchange.apply(OpenMarket(rules=rules))
            told = [event for event in await heard(early) if isinstance(event, MarketNews)]
            assert [(news.market_id, news.token_ids, news.what) for news in told] == [
                (rules.market_id, rules.tokens, "listed")
            ]
            assert not [event for event in await heard(late) if isinstance(event, MarketNews | Gap)], "no affair of its"
            await late.subscribe(rules.tokens)
            books = [event for event in await heard(late) if isinstance(event, BookSnapshot)]
            assert {book.token_id for book in books} >= set(rules.tokens)


async def heard(session: MarketSession) -> list[MarketEvent]:
    """Collect what a session tells within two seconds."""
    events: list[MarketEvent] = []
    with trio.move_on_after(2):
        while True:
            events += await session.receive()
    return events
