"""Orders that may rest: none is forgotten because a list lagged, or because another gateway sent it."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as gen

from tbot.core.messages import Accepted, Canceled, ExchangeOrderId, Side
from tbot.core.units import NANOS_PER_S, Nanos
from tbot.exchanges.polymarket.gateway import PolymarketGateway
from tbot.exchanges.polymarket.limits import Lane, RateGate
from tbot.exchanges.polymarket.resting import KNOWN_MAX, RestingOrders
from tbot.exchanges.polymarket.settings import LimitSettings
from tests.contract.stage import Orders, now_ns
from tests.exchanges.polymarket.local import PolymarketStage, polymarket


class Account:
    """An account on an exchange whose lists may lag, and what we know of it."""

    def __init__(self) -> None:
        self.now, self.count = 1, 0
        self.resting: dict[ExchangeOrderId, bool] = {}  # whether it is ours
        self.history = [dict(self.resting)]
        self.known = RestingOrders()

    def act(self, action: str, number: int) -> None:
        """Do one thing."""
        self.now += 1
        ours = [order_id for order_id, is_ours in self.resting.items() if is_ours]
        chosen = ours[number % len(ours)] if ours else None
        match action:
            case "send" | "foreign":
                self.count += 1
                order_id = ExchangeOrderId(f"0x{self.count}")
                self.resting[order_id] = action == "send"
                if action == "send":
                    self.known.sent(order_id, Nanos(self.now))
            case "cancel" if chosen is not None:
                self.known.claim([chosen])
                del self.resting[chosen]
                self.known.gone(chosen, Nanos(self.now))
            case "fill" if chosen is not None:
                del self.resting[chosen]  # of which nobody tells the sender
            case "restart":
                self.known = RestingOrders()
            case "lagging list":
                self.known.correct(tuple(self.history[-1 - number % len(self.history)]), Nanos(self.now))
        self.history.append(dict(self.resting))

    def listed(self) -> None:
        """Hear what is true now."""
        self.now += 1
        self.known.correct(tuple(self.resting), Nanos(self.now))


some_actions = gen.lists(
    gen.tuples(
        gen.sampled_from(["send", "send", "send", "cancel", "fill", "lagging list", "foreign", "restart"]),
        gen.integers(0, 20),
    ),
    max_size=40,
)


@given(some_actions)
def test_all_that_rests_counts_as_soon_as_a_list_is_true(actions: list[tuple[str, int]]) -> None:
    account = Account()
    for action, number in actions:
        account.act(action, number)
    account.listed()
    assert account.known.count_all == len(account.resting)
    if "restart" not in [action for action, _ in actions]:
        assert dict.fromkeys(account.known.ours) == dict.fromkeys(
            o for o, is_ours in account.resting.items() if is_ours
        )
        assert account.known.is_alone == all(account.resting.values())
    assert not (account.known.is_alone and not all(account.resting.values()))
    account.known.claim([order_id for order_id, is_ours in account.resting.items() if is_ours])
    assert account.known.is_alone == all(account.resting.values())


@given(some_actions)
def test_what_was_heard_since_a_list_was_asked_for_overrules_it(actions: list[tuple[str, int]]) -> None:
    account = Account()
    for action, number in actions:
        account.act(action, number)
    asked, listed = account.now, tuple(account.resting)
    account.act("cancel", 0)
    account.act("send", 0)
    account.known.correct(listed, Nanos(asked))
    assert not [order_id for order_id in account.known.ours if order_id not in account.resting]
    assert ExchangeOrderId(f"0x{account.count}") in account.known.ours


def test_memory_of_what_was_ours_is_bounded() -> None:
    known = RestingOrders()
    for number in range(KNOWN_MAX + 10):
        known.sent(ExchangeOrderId(f"0x{number}"), Nanos(number))
        known.gone(ExchangeOrderId(f"0x{number}"), Nanos(number))
    assert len(known._heard) == KNOWN_MAX
    assert known.count == 0


@pytest.mark.parametrize("is_listed_meanwhile", [False, True])
def test_an_order_that_rests_stays_ours_however_many_come_after_it(*, is_listed_meanwhile: bool) -> None:
    known, kept = RestingOrders(), [ExchangeOrderId("kept"), ExchangeOrderId("kept too")]
    for number, order_id in enumerate(kept):
        known.sent(order_id, Nanos(number))
    for number in range(10, KNOWN_MAX + 50):
        known.sent(ExchangeOrderId(f"0x{number}"), Nanos(number))
        known.gone(ExchangeOrderId(f"0x{number}"), Nanos(number))
        if is_listed_meanwhile and number % 1_000 == 0:
            known.correct(kept, Nanos(number + 1))
    known.correct(kept, Nanos(KNOWN_MAX + 50))
    assert list(known.ours) == kept
    assert known.is_alone
    assert len(known._heard) == KNOWN_MAX


async def test_an_order_waits_for_the_cancels_of_those_that_another_run_left(
    autojump_clock: trio.testing.MockClock,
) -> None:
    gate = RateGate(LimitSettings(cancels_per_s=2, cancels_burst=10, cancels_reserve=1), now_ns)
    await gate.enter(Lane.CANCEL, 10, by_ns=now_ns())
    gate.resting.correct([ExchangeOrderId(f"0x{number}") for number in range(6)], now_ns())
    start = trio.current_time()
    await gate.enter(Lane.ORDER, by_ns=Nanos(now_ns() + 10 * NANOS_PER_S))
    assert trio.current_time() - start == pytest.approx(3, abs=0.01)


async def test_more_strange_orders_than_we_could_ever_cancel_do_not_stop_us(
    autojump_clock: trio.testing.MockClock,
) -> None:
    gate = RateGate(LimitSettings(cancels_burst=10, cancels_reserve=1), now_ns)
    gate.resting.correct([ExchangeOrderId(f"0x{number}") for number in range(1_000)], now_ns())
    await gate.enter(Lane.ORDER, by_ns=now_ns())


async def resting(stage: PolymarketStage, gateway: PolymarketGateway, count: int) -> list[ExchangeOrderId]:
    orders, ids = Orders(stage.market), []
    for number in range(count):
        prepared = gateway.prepare(orders.make(Side.BUY, 1 + number), now_ns())
        assert isinstance(await gateway.submit(prepared), Accepted)
        ids.append(prepared.exchange_order_id)
    return ids


async def next_run(stage: PolymarketStage) -> PolymarketGateway:
    """The gateway of a run that has read a report, and may cancel few orders one by one."""
    fresh = stage.gateway_of(stage.credentials)
    await fresh.load_markets()
    await fresh.report(Nanos(0), [])
    fresh._public.gate.learn(Lane.CANCEL, 5)
    return fresh


async def test_orders_of_the_run_before_are_cancelled_at_once_too(autojump_clock: trio.testing.MockClock) -> None:
    async with polymarket() as stage:
        ids = await resting(stage, stage.gateway, 30)
        fresh = await next_run(stage)
        start = trio.current_time()
        assert [type(reply) for reply in await fresh.cancel(ids)] == [Canceled] * 30
        assert trio.current_time() - start < 0.2  # by one request for everything, as nobody else has orders here
        await fresh.aclose()


async def test_everything_is_not_cancelled_while_one_is_somebody_else_s(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with polymarket() as stage:
        ids = await resting(stage, stage.gateway, 30)
        fresh = await next_run(stage)
        await fresh.cancel(ids[1:])
        listed = (await stage.gateway.report(Nanos(0), [])).open_orders
        assert [order.exchange_order_id for order in listed] == ids[:1]
        await fresh.aclose()
