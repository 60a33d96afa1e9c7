"""The paper account pays what it takes, sells only what is settled, and outlives its process."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from tbot.core.market import CASH, FeeSchedule, Market, MarketId, TokenId, fee_taker_floor
from tbot.core.messages import (
    Accepted,
    AccountEvent,
    BookSnapshot,
    ClientOrderId,
    ExchangeOrderId,
    Fill,
    Level,
    OrderState,
    OrderType,
    RejectCode,
    Rejected,
    Role,
    Side,
    StrategyName,
    SubmitOrder,
    SubmitReply,
    TradePrint,
)
from tbot.core.units import MICRO, NANOS_PER_MS, Nanos, Notional, Price, Size
from tbot.exchanges.paper.account import Entry, PaperAccount
from tbot.exchanges.paper.exchange import PaperExchange
from tbot.exchanges.paper.settings import PaperSettings
from tests.contract.stage import now_ns

YES, NO = TokenId("yes"), TokenId("no")
MARKET = Market(
    market_id=MarketId("m"), slug="m", yes=YES, no=NO, tick=Price(10_000), fee=FeeSchedule(rate_micro=50_000)
)


def cents(value: int) -> Price:
    return Price(value * 10_000)


def shares(value: int) -> Size:
    return Size(value * MICRO)


class Desk:
    """A paper exchange with one book, and everything it told and wrote."""

    def __init__(self, entries: tuple[Entry, ...] = (), cash: int = 100) -> None:
        self.entries: list[Entry] = list(entries)
        settings = PaperSettings(cash=Notional(cash * MICRO))
        self.exchange = PaperExchange(settings, now_ns=now_ns, entries=entries, on_entry=self.entries.append)
        self.exchange.list_markets([MARKET])
        self.told: list[AccountEvent] = []
        self.count = 0

    def show(self, bids: dict[int, int], asks: dict[int, int]) -> None:
        self.exchange.observe(
            [
                BookSnapshot(
                    token_id=YES,
                    bids=tuple(Level(cents(p), shares(s)) for p, s in bids.items()),
                    asks=tuple(Level(cents(p), shares(s)) for p, s in asks.items()),
                    exchange_ms=now_ns() // NANOS_PER_MS + 1_000 * self.count,
                    received_ns=Nanos(now_ns() + 1_000 * self.count * NANOS_PER_MS),
                )
            ]
        )

    def trade(self, taker: Side, price: int, size: int) -> None:
        event = TradePrint(
            token_id=YES,
            price=cents(price),
            size=shares(size),
            taker_side=taker,
            exchange_ms=now_ns() // NANOS_PER_MS + 1_000 * self.count,
            received_ns=Nanos(now_ns() + 1_000 * self.count * NANOS_PER_MS),
        )
        self.exchange.observe([event])

    def send(
        self,
        side: Side,
        price: int,
        size: int,
        order_type: OrderType = OrderType.GTC,
        *,
        is_post_only: bool = False,
        token_id: TokenId = YES,
    ) -> SubmitReply:
        self.count += 1
        order = SubmitOrder(
            client_order_id=ClientOrderId(f"c-{self.count}"),
            strategy=StrategyName("s"),
            token_id=token_id,
            side=side,
            price=cents(price),
            size=shares(size),
            order_type=order_type,
            is_post_only=is_post_only,
            slot_level=0,
            deadline_ns=Nanos(now_ns() + 10**9),
            at_ns=now_ns(),
        )
        with self.exchange.listening(self.told.append):
            return self.exchange.place(order, ExchangeOrderId(f"x-{self.count}"))

    def fills(self) -> list[Fill]:
        return list(self.exchange.account.fills(Nanos(0)))


def code_of(reply: SubmitReply) -> RejectCode | None:
    return reply.code if isinstance(reply, Rejected) else None


async def test_a_taker_pays_displayed_depth_and_the_fee() -> None:
    desk = Desk()
    desk.show({48: 100}, {50: 10, 51: 100})
    reply = desk.send(Side.BUY, 51, 30)
    assert isinstance(reply, Accepted)
    assert reply.state is OrderState.MATCHED
    assert [(f.size, f.notional, f.role) for f in desk.fills()] == [
        (shares(10), 5 * MICRO, Role.TAKER),
        (shares(20), 10_200_000, Role.TAKER),
    ]
    fees = sum(fee_taker_floor(cents(p), shares(s), MARKET.fee) for p, s in ((50, 10), (51, 20)))
    assert fees > 0
    assert desk.exchange.account.usable(CASH) == 100 * MICRO - 15_200_000 - fees


async def test_depth_is_not_taken_twice() -> None:
    desk = Desk()
    desk.show({48: 100}, {50: 10})
    desk.send(Side.BUY, 50, 10)
    assert code_of(desk.send(Side.BUY, 50, 10, OrderType.FAK)) is RejectCode.NOT_FILLED


async def test_a_buy_of_the_other_outcome_meets_the_mirrored_bids() -> None:
    desk = Desk()
    desk.show({48: 100}, {50: 10})
    desk.send(Side.BUY, 52, 20, token_id=NO)
    assert [(f.token_id, f.size, f.notional) for f in desk.fills()] == [(NO, shares(20), 10_400_000)]


async def test_orders_the_exchange_would_refuse_are_refused() -> None:
    desk = Desk(cash=10)
    assert code_of(desk.send(Side.BUY, 50, 10)) is RejectCode.MARKET_NOT_READY
    desk.show({48: 100}, {50: 100})
    assert code_of(desk.send(Side.BUY, 50, 10, is_post_only=True)) is RejectCode.POST_ONLY_WOULD_CROSS
    assert code_of(desk.send(Side.BUY, 47, 4)) is RejectCode.TOO_SMALL
    assert code_of(desk.send(Side.BUY, 50, 1, OrderType.FAK)) is RejectCode.TOO_SMALL
    assert code_of(desk.send(Side.BUY, 47, 100)) is RejectCode.NOT_ENOUGH_BALANCE
    assert code_of(desk.send(Side.SELL, 60, 10)) is RejectCode.NOT_ENOUGH_BALANCE
    assert code_of(desk.send(Side.BUY, 50, 19, OrderType.FOK)) is None
    assert code_of(desk.send(Side.BUY, 100, 5)) is RejectCode.OFF_GRID


async def test_resting_buys_of_one_market_share_its_cash() -> None:
    desk = Desk(cash=10)
    desk.show({40: 100}, {60: 100})
    assert code_of(desk.send(Side.BUY, 45, 10)) is None
    assert code_of(desk.send(Side.BUY, 45, 10, token_id=NO, is_post_only=True)) is None
    assert code_of(desk.send(Side.BUY, 44, 10)) is RejectCode.NOT_ENOUGH_BALANCE


async def test_bought_tokens_can_be_sold_once_they_are_settled(autojump_clock: MockClock) -> None:
    desk = Desk()
    async with trio.open_nursery() as nursery:
        await nursery.start(desk.exchange.run)
        desk.show({48: 100}, {50: 100})
        desk.send(Side.BUY, 50, 20)
        assert code_of(desk.send(Side.SELL, 55, 20)) is RejectCode.NOT_ENOUGH_BALANCE
        await trio.sleep(desk.exchange.settings.settle_s + 0.1)
        assert code_of(desk.send(Side.SELL, 55, 20)) is None
        nursery.cancel_scope.cancel()


async def test_a_killed_process_leaves_balances_and_no_resting_order() -> None:
    desk = Desk()
    desk.show({48: 100}, {50: 100})
    desk.send(Side.BUY, 50, 20)
    desk.send(Side.BUY, 45, 20)
    before = desk.exchange.account
    assert len(before.open_orders()) == 1
    again = Desk(tuple(desk.entries), cash=5_000)
    after = again.exchange.account
    assert after.open_orders() == ()
    assert after.usable(CASH) == before.usable(CASH)
    assert after.fills(Nanos(0)) == before.fills(Nanos(0))
    again.show({48: 100}, {40: 100})
    assert len(after.fills(Nanos(0))) == 1, "what rested before the kill is filled no more"


async def test_entries_make_the_same_account_again() -> None:
    desk = Desk()
    desk.show({48: 100}, {50: 100})
    desk.send(Side.BUY, 50, 20)
    desk.send(Side.BUY, 49, 20)
    desk.trade(Side.SELL, 49, 15)
    desk.exchange.cancel(ExchangeOrderId("x-2"))
    again = PaperAccount(desk.entries)
    assert again.usable(CASH) == desk.exchange.account.usable(CASH)
    assert again.fills(Nanos(0)) == desk.exchange.account.fills(Nanos(0))
    order = again.order(ExchangeOrderId("x-2"))
    assert order is not None
    assert (order.state, order.matched) == (OrderState.CANCELED, 15 * MICRO)


async def test_orders_that_can_no_longer_be_paid_are_cancelled() -> None:
    desk = Desk(cash=10)
    desk.show({40: 10}, {60: 100})
    desk.send(Side.BUY, 45, 20)
    desk.send(Side.BUY, 60, 1, OrderType.FAK)
    assert [o.exchange_order_id for o in desk.exchange.account.open_orders()] == ["x-1"]
    desk.send(Side.BUY, 60, 2, OrderType.FAK)
    assert desk.exchange.account.usable(CASH) >= 0
