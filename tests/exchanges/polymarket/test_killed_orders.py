"""FAK and FOK orders that find nothing, from the exchange's words through our gateway to the bot's messages."""

from __future__ import annotations

from collections.abc import Callable

import httpx2
import pytest
import trio
from trio.testing import MockClock

from tbot.core.messages import (
    AccountEvent,
    OrderState,
    OrderType,
    OrderUpdate,
    OutcomeUnknown,
    RejectCode,
    Rejected,
    Side,
)
from tbot.core.units import Nanos
from tbot.exchanges.simulated.checks import TEXT_FAK, TEXT_FOK
from tbot.exchanges.simulated.operations import EngineSettings
from tests.contract.stage import Orders, now_ns
from tests.exchanges.polymarket.answers import ID, known_id, submit_to
from tests.exchanges.polymarket.local import polymarket

KILLS = {OrderType.FAK: TEXT_FAK, OrderType.FOK: TEXT_FOK}


def told(code: int, named: Callable[[httpx2.Request], str], **words: object) -> Callable[..., httpx2.Response]:
    return lambda request: httpx2.Response(code, json={"orderID": named(request), **words})


@pytest.mark.parametrize("text", KILLS.values())
@pytest.mark.parametrize(
    ("status", "words"),
    [(400, ("error",)), (400, ("errorMsg",)), (200, ("errorMsg", "status", "success"))],
)
async def test_a_kill_under_the_orders_own_id_is_a_refusal(
    autojump_clock: MockClock, text: str, status: int, words: tuple[str, ...]
) -> None:
    body = {word: {"status": "", "success": False}.get(word, text) for word in words}
    reply = await submit_to(told(status, known_id, **body))
    assert isinstance(reply, Rejected)
    assert (reply.code, reply.reason) == (RejectCode.NOT_FILLED, text)


@pytest.mark.parametrize(
    "answer",
    [
        told(400, lambda _: ID, error=TEXT_FAK),  # of another order
        told(400, known_id, error="invalid signature"),  # no word about the book
        told(400, known_id, error=TEXT_FAK, status="delayed"),
        told(400, known_id, error=TEXT_FOK, status="live"),
        told(500, known_id, error=TEXT_FOK),
        told(400, known_id, error=""),
        told(200, known_id, errorMsg="there are no matching orders", success=False),
    ],
)
async def test_any_other_reason_beside_an_id_stays_a_doubt(
    autojump_clock: MockClock, answer: Callable[..., httpx2.Response]
) -> None:
    assert isinstance(await submit_to(answer), OutcomeUnknown)


@pytest.mark.parametrize("order_type", KILLS)
@pytest.mark.parametrize("has_kill_events", [False, True])
async def test_the_served_exchange_kills_in_words_the_gateway_understands(
    autojump_clock: MockClock, order_type: OrderType, has_kill_events: bool
) -> None:
    async with polymarket(engine=EngineSettings(has_kill_events=has_kill_events)) as stage:
        order = stage.gateway.prepare(Orders(stage.market).make(Side.BUY, 45, order_type=order_type), now_ns())
        order_id = order.exchange_order_id
        events: list[AccountEvent] = []
        async with stage.gateway.open_account() as session:
            reply = await stage.gateway.submit(order)
            with trio.move_on_after(1):
                while True:
                    events += await session.receive()
        assert isinstance(reply, Rejected)
        assert (reply.code, reply.reason) == (RejectCode.NOT_FILLED, KILLS[order_type])
        assert len(events) == has_kill_events
        for update in events:
            assert isinstance(update, OrderUpdate)
            assert (update.exchange_order_id, update.state, update.size_matched) == (order_id, OrderState.CANCELED, 0)
            assert update.reason == f"CANCELED_{KILLS[order_type]}"[:120]
        report = await stage.gateway.report(Nanos(0), [order_id])
        assert (report.open_orders, report.fills, [found.state for found in report.lookups]) == ((), (), [None])
