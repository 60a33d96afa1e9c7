"""The watch at the exchange's door counts orders, not attempts."""

from __future__ import annotations

from tbot.core.messages import ExchangeOrderId, Side
from tbot.core.units import MICRO, NANOS_PER_S, Nanos, Notional, Price, Size
from tbot.exchanges.simulated.exchange import LocalExchange
from tbot.exchanges.simulated.faults import Faults, FaultSettings
from tbot.exchanges.simulated.operations import Account, PlaceOrder, Refused
from tbot.exchanges.simulated.settings import AccountSettings, ExchangeSettings
from tbot.simulation.watch import Bounds, Watch

BOT = Account("bot")
NOW_NS = Nanos(1_790_000_000 * NANOS_PER_S)
BOUNDS = Bounds(
    order_size_max=Size(100 * MICRO),
    position_size_max=Size(1_000 * MICRO),
    exposure_max=Notional(1_000 * MICRO),
    loss_max=Notional(100 * MICRO),
    open_orders_max=10,
    quotes_side_max=1,
)


def watched() -> tuple[LocalExchange, Watch]:
    signed = {ExchangeOrderId(name): NOW_NS for name in ("first", "second")}
    watch = Watch(BOT, BOUNDS, Notional(1_000 * MICRO), signed_ns=signed, is_feed_hung=lambda: False)
    exchange = LocalExchange(
        ExchangeSettings(accounts=(AccountSettings(name=BOT, cash_usd=1_000),), flow=None),
        seed=1,
        now_ns=lambda: NOW_NS,
        faults=Faults(FaultSettings(), seed=1),
        on_operation=watch.on_operation,
    )
    watch.bind(exchange)
    return exchange, watch


def order(name: str, exchange: LocalExchange) -> PlaceOrder:
    return PlaceOrder(
        account=BOT,
        order_id=ExchangeOrderId(name),
        token_id=exchange.markets()[0].yes,
        side=Side.BUY,
        price=Price(400_000),
        size=Size(10 * MICRO),
    )


def test_the_same_bytes_sent_again_are_no_order_more() -> None:
    exchange, watch = watched()
    exchange.place(order("first", exchange))
    assert isinstance(exchange.place(order("first", exchange)), Refused)
    assert watch.findings == []


def test_bytes_that_arrive_long_after_they_were_signed_are_found() -> None:
    for age_s, is_found in ((90, False), (100, True)):
        exchange, watch = watched()
        exchange.place(order("first", exchange))
        watch.on_operation(Nanos(NOW_NS + age_s * NANOS_PER_S), order("first", exchange))
        assert any("after it was signed" in found for found in watch.findings) is is_found


def test_an_order_more_than_wanted_is_found() -> None:
    exchange, watch = watched()
    exchange.place(order("first", exchange))
    exchange.place(order("second", exchange))
    assert any("one more than the 1 quotes" in found for found in watch.findings)
