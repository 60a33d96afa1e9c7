"""Restricted modes bind everybody: the crowd, what is held, what was under way, and a log replays what they refused."""

from __future__ import annotations

import msgspec
import pytest

from tbot.core.messages import ExchangeOrderId, OrderState, OrderType, Side
from tbot.core.units import MICRO, NANOS_PER_S, Nanos, Price, Size
from tbot.exchanges.simulated.checks import MODE_TEXTS
from tbot.exchanges.simulated.events import Event, LevelsChanged, OrderChange, OrderChanged, TradePrinted
from tbot.exchanges.simulated.exchange import LocalExchange
from tbot.exchanges.simulated.faults import Faults, FaultSettings
from tbot.exchanges.simulated.flow import FlowSettings
from tbot.exchanges.simulated.operations import (
    Account,
    CancelEvery,
    CancelOrders,
    CancelResult,
    EndReason,
    MarketRules,
    Mode,
    Operation,
    PlaceOrder,
    Refused,
    SplitPair,
)
from tbot.exchanges.simulated.settings import DEFAULT_MARKETS, AccountSettings, ExchangeSettings
from tests.exchanges.simulated.desk import ANN, BOB

RAIN = DEFAULT_MARKETS[0]
START = Nanos(1_790_000_000 * NANOS_PER_S)
CLOSED = (Mode.RESTARTING, Mode.DISABLED)
RESTRICTED = tuple(mode for mode in Mode if mode is not Mode.NORMAL)


ALLOWED = {
    Mode.CANCEL_ONLY: {OrderChange.CANCELLATION},
    Mode.POST_ONLY: {OrderChange.CANCELLATION, OrderChange.PLACEMENT},
}


class House:
    """An exchange on a clock moved by hand, with everything it did and told."""

    def __init__(self, *, has_crowd: bool = False, rain: MarketRules = RAIN) -> None:
        self.now = START
        self.log: list[tuple[Nanos, Operation]] = []
        self.settings = ExchangeSettings(
            markets=(rain, *DEFAULT_MARKETS[1:]),
            accounts=(AccountSettings(name=ANN), AccountSettings(name=BOB)),
            flow=FlowSettings() if has_crowd else None,
        )
        self.exchange = LocalExchange(
            self.settings,
            seed=5,
            now_ns=lambda: self.now,
            faults=Faults(FaultSettings(), seed=5),
            on_operation=lambda at, operation: self.log.append((at, operation)),
        )

    def wait(self, seconds: float) -> list[Event]:
        """Let everything due happen at its time, and give what was told."""
        end, told = Nanos(self.now + int(seconds * NANOS_PER_S)), list[Event]()
        apply = self.exchange.engine.apply

        def heard(operation: Operation, now_ns: Nanos) -> object:
            reply, events = apply(operation, now_ns)
            told.extend(events)
            return reply, events

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.exchange.engine, "apply", heard)
            while (due := self.exchange.next_ns()) is not None and due <= end:
                self.now = max(self.now, due)
                self.exchange.step()
        self.now = end
        return told

    def replayed(self) -> str:
        """Rebuild the exchange from its log and give its digest."""
        stored = msgspec.msgpack.decode(msgspec.msgpack.encode(self.log), type=list[tuple[Nanos, Operation]])
        again = LocalExchange.replay(
            stored, self.settings, seed=9, now_ns=lambda: self.now, faults=Faults(FaultSettings(), seed=9)
        )
        return again.engine.digest()


def order(account: Account, side: Side, cents: int, name: str, *, is_post_only: bool = False) -> PlaceOrder:
    return PlaceOrder(
        account=account,
        order_id=ExchangeOrderId(name),
        token_id=RAIN.yes,
        side=side,
        price=Price(cents * 10_000),
        size=Size(10 * MICRO),
        is_post_only=is_post_only,
    )


@pytest.mark.slow
@pytest.mark.parametrize("mode", RESTRICTED)
def test_the_crowd_keeps_to_the_mode_and_comes_back_after_it(mode: Mode) -> None:
    house = House(has_crowd=True)
    assert any(isinstance(event, TradePrinted) for event in house.wait(60))
    house.exchange.modes.hold(mode)
    told = house.wait(60)
    assert not any(isinstance(event, TradePrinted) for event in told)
    changes = {event.change for event in told if isinstance(event, OrderChanged)}
    allowed = {
        Mode.CANCEL_ONLY: {OrderChange.CANCELLATION},
        Mode.POST_ONLY: {OrderChange.CANCELLATION, OrderChange.PLACEMENT},
    }
    assert changes <= allowed.get(mode, set())
    placed = [
        event.order for event in told if isinstance(event, OrderChanged) and event.change is OrderChange.PLACEMENT
    ]
    assert all(o.is_post_only for o in placed)
    if mode in CLOSED:
        assert not any(isinstance(event, LevelsChanged) for event in told)
    house.exchange.modes.hold(Mode.NORMAL)
    assert any(isinstance(event, TradePrinted) for event in house.wait(120))
    assert house.replayed() == house.exchange.engine.digest()


@pytest.mark.parametrize("mode", RESTRICTED)
def test_an_order_released_into_a_mode_is_refused(mode: Mode) -> None:
    house = House(rain=msgspec.structs.replace(RAIN, seconds_delay=3))
    exchange = house.exchange
    exchange.apply(SplitPair(account=ANN, market_id=RAIN.market_id, size=Size(10 * MICRO)))
    exchange.place(order(ANN, Side.SELL, 50, "maker"))
    exchange.place(order(BOB, Side.BUY, 50, "held"))
    exchange.modes.hold(mode)
    house.wait(4)
    assert exchange.engine.trades == ()
    assert exchange.engine.verdict(ExchangeOrderId("held")) == Refused(text=MODE_TEXTS[mode])
    held, maker = (exchange.order(ExchangeOrderId(name)) for name in ("held", "maker"))
    assert held is not None
    assert maker is not None
    assert (held.state, maker.state) == (OrderState.CANCELED, OrderState.LIVE)
    assert house.replayed() == exchange.engine.digest()


@pytest.mark.parametrize("mode", RESTRICTED)
def test_what_was_under_way_arrives_in_the_mode(mode: Mode) -> None:
    house = House()
    exchange = house.exchange
    exchange.place(order(ANN, Side.BUY, 40, "resting"))
    late = [
        exchange.schedule(order(BOB, Side.BUY, 30, "plain"), Nanos(house.now + NANOS_PER_S)),
        exchange.schedule(order(BOB, Side.BUY, 31, "maker", is_post_only=True), Nanos(house.now + NANOS_PER_S)),
        exchange.schedule(
            CancelOrders(account=ANN, order_ids=(ExchangeOrderId("resting"),)), Nanos(house.now + NANOS_PER_S)
        ),
    ]
    exchange.modes.hold(mode)
    house.wait(2)
    plain, maker, cancel = (ticket.reply for ticket in late)
    assert plain == Refused(text=MODE_TEXTS[mode])
    assert (maker == Refused(text=MODE_TEXTS[mode])) is (mode is not Mode.POST_ONLY)
    assert isinstance(cancel, CancelResult)
    refused = ((ExchangeOrderId("resting"), MODE_TEXTS[mode]),) if mode in CLOSED else ()
    assert cancel.not_canceled == refused
    assert bool(exchange.open_orders(ANN)) is (mode in CLOSED)


@pytest.mark.parametrize("mode", CLOSED)
def test_the_exchange_still_cancels_by_itself(mode: Mode) -> None:
    house = House()
    house.exchange.place(order(ANN, Side.BUY, 40, "resting"))
    house.exchange.modes.hold(mode)
    assert house.exchange.apply(CancelEvery(account=ANN)) == CancelResult(canceled=())
    swept = house.exchange.apply(CancelEvery(account=ANN, reason=EndReason.HEARTBEAT))
    assert swept == CancelResult(canceled=(ExchangeOrderId("resting"),))


def test_a_restart_goes_through_its_modes_in_time() -> None:
    house = House()
    house.exchange.modes.restart(house.now, restarting_s=10, post_only_s=20)
    modes = []
    for _ in range(4):
        house.exchange.step()
        modes.append(house.exchange.engine.mode)
        house.wait(10)
    assert modes == [Mode.RESTARTING, Mode.POST_ONLY, Mode.POST_ONLY, Mode.NORMAL]
    reply = house.exchange.place(msgspec.structs.replace(order(BOB, Side.BUY, 30, "x"), order_type=OrderType.FAK))
    assert isinstance(reply, Refused)
    assert "payload" in reply.text
