"""The catalogue as a table, and its faults as the in-process gateway meets them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from tbot.core.messages import (
    Accepted,
    BookDelta,
    BookSnapshot,
    ExchangeOrderId,
    Fill,
    OrderState,
    OrderType,
    OutcomeUnknown,
    RejectCode,
    Rejected,
    Side,
    Throttled,
    TickSizeChanged,
)
from tbot.core.units import MICRO, Price, Size
from tbot.errors import Disconnected
from tbot.exchanges.gateway import PreparedOrder
from tbot.exchanges.simulated.fault_catalogue import CATALOGUE, Aim, Draw, Fault, as_markdown, by_draw
from tbot.exchanges.simulated.fault_switches import FaultOrder
from tbot.exchanges.simulated.faults import FaultSettings
from tbot.exchanges.simulated.sessions import Session
from tests.contract.stage import Orders, now_ns
from tests.contract.stages import US, InProcessStage

DOCS = Path(__file__).parents[3] / "docs/faults.md"

Check = Callable[[InProcessStage], Awaitable[None]]


def test_catalogue_names_a_rate_a_report_and_an_end_for_every_fault() -> None:
    assert set(CATALOGUE) == set(Fault)
    rates = [entry.rate for entry in CATALOGUE.values()]
    assert len(set(rates)) == len(rates)
    defaults = FaultSettings()
    for fault, entry in CATALOGUE.items():
        assert getattr(defaults, entry.rate) == 0.0, fault
        assert (entry.draw is Draw.TIME) == entry.rate.endswith("_per_hour"), fault
        assert re.search(r"^[\w.-]+/[\w.-]+#\d+|^docs\.polymarket\.com", entry.report), fault
        assert entry.does.endswith(".")
        assert entry.ends
    assert sorted(fault for draw in Draw for fault in by_draw(draw)) == sorted(Fault)


def test_documentation_holds_the_catalogue_word_for_word() -> None:
    assert as_markdown() in DOCS.read_text()


@pytest.mark.parametrize("fault", list(Fault))
def test_every_fault_can_be_scripted_in_a_settings_file(fault: Fault) -> None:
    entry = CATALOGUE[fault]
    line: dict[str, object] = {"name": str(fault), "at_s": 5}
    line |= {"target": "x"} if entry.aim is not Aim.NOTHING else {}
    line |= {"seconds": 3} if entry.draw is not Draw.TIME or entry.length_s else {}
    settings = msgspec.convert({"script": [line]}, FaultSettings)
    assert settings.script[0].name is fault


@asynccontextmanager
async def staged(faults: FaultSettings | None = None) -> AsyncIterator[InProcessStage]:
    stage = InProcessStage(faults)
    async with trio.open_nursery() as nursery:
        await nursery.start(stage.exchange.run)
        yield stage
        nursery.cancel_scope.cancel()


async def heard(session: Session[Any, Any], seconds: float) -> list[Any]:
    told: list[Any] = []
    with trio.move_on_after(seconds):
        while True:
            told.extend(await session.receive())
    return told


def order(stage: InProcessStage, cents: int = 40, **changes: Any) -> PreparedOrder:
    made = Orders(stage.market).make(Side.BUY, cents)
    return stage.gateway.prepare(msgspec.structs.replace(made, **changes), now_ns())


async def rests(stage: InProcessStage, cents: int) -> None:
    await stage.other_rests(stage.market.yes, Side.SELL, Price(cents * 10_000), Size(10 * MICRO))


async def test_restart_refuses_everything_then_takes_only_post_only(autojump_clock: MockClock) -> None:
    async with staged() as stage:
        stage.exchange.misbehave(FaultOrder(name=Fault.ENGINE_RESTART, seconds=30))
        refused = await stage.gateway.submit(order(stage))
        assert isinstance(refused, Rejected)
        assert refused.code is RejectCode.RESTARTING
        (throttled,) = await stage.gateway.cancel([ExchangeOrderId("0x1")])
        assert isinstance(throttled, Throttled)
        await trio.sleep(31)
        assert isinstance(await stage.gateway.submit(order(stage)), Rejected)
        post_only = order(stage, 41, is_post_only=True)
        assert isinstance(await stage.gateway.submit(post_only), Accepted)
        await trio.sleep(120)
        assert isinstance(await stage.gateway.submit(order(stage, 42)), Accepted)


async def test_delayed_fak_is_accepted_and_filled_later(autojump_clock: MockClock) -> None:
    async with staged() as stage, stage.gateway.open_account() as session:
        await rests(stage, 50)
        stage.exchange.misbehave(FaultOrder(name=Fault.DELAYED_FAK))
        prepared = order(stage, 50, order_type=OrderType.FAK)
        reply = await stage.gateway.submit(prepared)
        assert isinstance(reply, Accepted)
        assert reply.state is OrderState.DELAYED
        assert not any(isinstance(event, Fill) for event in await heard(session, 2.5))
        assert any(isinstance(event, Fill) for event in await heard(session, 1))


async def test_tick_changes_under_an_order_and_comes_back(autojump_clock: MockClock) -> None:
    async with staged() as stage, stage.gateway.open_market(stage.market.tokens) as session:
        stage.exchange.misbehave(FaultOrder(name=Fault.TICK_CHANGE_IN_FLIGHT))
        refused = await stage.gateway.submit(order(stage, 45))
        assert isinstance(refused, Rejected)
        assert refused.code is RejectCode.OFF_GRID
        told = [e for e in await heard(session, 12) if isinstance(e, TickSizeChanged)]
        assert [event.tick for event in told if event.token_id == stage.market.yes] == [100_000, 10_000]


async def test_phantom_locks_and_stale_balances_reach_a_report(autojump_clock: MockClock) -> None:
    async with staged() as stage:
        await rests(stage, 50)
        stage.exchange.misbehave(FaultOrder(name=Fault.STALE_BALANCE, seconds=30))
        before = (await stage.gateway.report(now_ns(), ())).cash
        await stage.gateway.submit(order(stage, 50))
        assert (await stage.gateway.report(now_ns(), ())).cash == before
        await trio.sleep(30)
        assert (await stage.gateway.report(now_ns(), ())).cash < before
        stage.exchange.misbehave(FaultOrder(name=Fault.PHANTOM_LOCK, target=US))
        refused = await stage.gateway.submit(order(stage, 41))
        assert isinstance(refused, Rejected)
        assert refused.code is RejectCode.NOT_ENOUGH_BALANCE


async def test_crossed_and_frozen_books_reach_a_session(autojump_clock: MockClock) -> None:
    async with staged() as stage, stage.gateway.open_market(stage.market.tokens) as session:
        await rests(stage, 55)
        await heard(session, 1)
        stage.exchange.misbehave(FaultOrder(name=Fault.CROSSED_SNAPSHOT, target=stage.market.yes))
        shown = [e for e in await heard(session, 4) if isinstance(e, BookSnapshot)]
        crossed, healed = [book for book in shown if book.token_id == stage.market.yes]
        assert crossed.bids[0].price == crossed.asks[0].price
        assert healed.bids == ()
        stage.exchange.misbehave(FaultOrder(name=Fault.FROZEN_ASSET, target=stage.market.yes, seconds=20))
        await rests(stage, 60)
        assert {e.token_id for e in await heard(session, 15) if isinstance(e, BookDelta)} == {stage.market.no}
        (book,) = [e for e in await heard(session, 6) if isinstance(e, BookSnapshot)]
        assert (book.token_id, [level.price for level in book.asks]) == (stage.market.yes, [550_000, 600_000])


async def test_stalled_session_loses_nothing_and_a_cut_one_ends(autojump_clock: MockClock) -> None:
    async with staged() as stage, stage.gateway.open_market(stage.market.tokens) as session:
        await heard(session, 1)
        stage.exchange.misbehave(FaultOrder(name=Fault.SLOW_READER, seconds=5))
        for cents in range(50, 60):
            await rests(stage, cents)
        assert await heard(session, 4.5) == []
        assert len(await heard(session, 2)) == 20
        stage.exchange.misbehave(FaultOrder(name=Fault.CUT_MID_FRAME))
        await rests(stage, 61)
        with pytest.raises(Disconnected, match="in the middle of a frame"):
            await heard(session, 5)


async def test_lost_late_and_half_told_submits_can_be_switched(autojump_clock: MockClock) -> None:
    async with staged() as stage:
        for fault in (Fault.POST_LOST, Fault.POST_RESTS_UNANSWERED, Fault.POST_LANDS_LATE, Fault.ERROR_AFTER_ACCEPT):
            stage.exchange.misbehave(FaultOrder(name=fault, target=stage.market.yes))
        replies = [await stage.gateway.submit(order(stage, cents)) for cents in range(40, 45)]
        assert [isinstance(reply, OutcomeUnknown) for reply in replies] == [True] * 4 + [False]
        await trio.sleep(40)
        prices = sorted(view.price for view in stage.exchange.open_orders(US))
        assert prices == [410_000, 420_000, 430_000, 440_000]
