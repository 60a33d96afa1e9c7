"""Makes a coordinator on two markets, and tells it things: a stage for tests of everything it decides."""

from __future__ import annotations

import msgspec

from tbot.core.account import EMPTY_STATE, Account, CoordinatorState, Mode
from tbot.core.coordinator import Coordinator
from tbot.core.market import FeeSchedule, Market, MarketId, TokenId
from tbot.core.messages import (
    Accepted,
    Canceled,
    CancelOrder,
    ClientOrderId,
    Command,
    ExchangeOrderId,
    ExchangeReport,
    Fact,
    Fill,
    MarketChanged,
    Message,
    OpenOrder,
    OrderLookup,
    OrderState,
    OrderType,
    OrderUpdate,
    OutcomeUnknown,
    Prepared,
    Quote,
    Quotes,
    RejectCode,
    Rejected,
    RequestReport,
    Role,
    Settlement,
    Side,
    StrategyName,
    SubmitOrder,
    Take,
    TopOfBook,
    TradeId,
)
from tbot.core.orders import Order, OrderStatus
from tbot.core.risk import RiskLimits
from tbot.core.units import MICRO, NANOS_PER_MS, NANOS_PER_S, Nanos, Notional, Price, Size

YES, NO, OTHER_YES, OTHER_NO = (TokenId(t) for t in ("yes", "no", "other-yes", "other-no"))
CENT = Price(10_000)
MARKET = Market(market_id=MarketId("rain"), slug="rain", yes=YES, no=NO, tick=CENT, fee=FeeSchedule(rate_micro=40_000))
OTHER = Market(market_id=MarketId("snow"), slug="snow", yes=OTHER_YES, no=OTHER_NO, tick=CENT)
MARKETS = (MARKET, OTHER)
LIMITS = RiskLimits(
    order_size_max=Size(1_000 * MICRO),
    position_size_max=Size(2_000 * MICRO),
    exposure_max=Notional(5_000 * MICRO),
    collar=Price(100_000),
    loss_max=Notional(100 * MICRO),
    open_orders_max=30,
)
MAKER = StrategyName("maker")
TAKER = StrategyName("taker")
CASH = Notional(10_000 * MICRO)
BEGIN = Nanos(1_800_000_000 * NANOS_PER_S)

MATCHED = Settlement.MATCHED

Said = Fact | TopOfBook | Quotes | MarketChanged
_states = msgspec.msgpack.Decoder(CoordinatorState)


def shares(count: float) -> Size:
    """Shares -> micro-shares."""
    return Size(round(count * MICRO))


def dollars(amount: float) -> Price:
    """Dollars -> micro-dollars."""
    return Price(round(amount * MICRO))


def money(amount: float) -> Notional:
    """Dollars -> micro-dollars, as an amount."""
    return Notional(round(amount * MICRO))


def bid(price: float, size: float = 10, *, level: int = 0, worst: float = 0.99) -> Quote:
    """One wanted buy."""
    return Quote(side=Side.BUY, level=level, price=dollars(price), size=shares(size), price_worst=dollars(worst))


def ask(price: float, size: float = 10, *, level: int = 0, worst: float = 0.01) -> Quote:
    """One wanted sell."""
    return Quote(side=Side.SELL, level=level, price=dollars(price), size=shares(size), price_worst=dollars(worst))


def saved(state: CoordinatorState) -> CoordinatorState:
    """Take a state through the checkpoint's encoding and back."""
    return _states.decode(msgspec.msgpack.encode(state))


class Desk:
    """A coordinator with a clock, a journal, and shorthand for everything others say to it."""

    def __init__(
        self,
        *,
        limits: RiskLimits = LIMITS,
        state: CoordinatorState = EMPTY_STATE,
        epoch: int = 1,
        markets: tuple[Market, ...] = MARKETS,
    ) -> None:
        self.now = BEGIN
        self.limits = limits
        self.markets = markets
        self.core = Coordinator(Account(markets, limits, state), epoch=epoch)
        self.journal: list[tuple[Message, Nanos]] = []
        self.commands: list[Command] = []
        self.trades = 0

    # Time and turns.

    def wait(self, seconds: float) -> Desk:
        """Let time pass, then decide."""
        self.now = Nanos(self.now + round(seconds * NANOS_PER_S))
        self.decide()
        return self

    def decide(self, **room: int) -> tuple[Command, ...]:
        """Decide, and keep what came of it on record as the task does."""
        commands = self.core.decide(self.now, **room)
        self.journal += [(c, self.now) for c in commands if not isinstance(c, RequestReport)]
        self.commands += commands
        return commands

    def tell(self, *messages: Said) -> tuple[Command, ...]:
        """Say something and let it decide."""
        for message in messages:
            self.absorb(message)
        return self.decide()

    def absorb(self, message: Said) -> None:
        """Say something without a decision."""
        self.core.absorb(message, self.now)
        if not isinstance(message, TopOfBook | Quotes | MarketChanged):
            self.journal.append((message, self.now))

    def crash(self) -> Desk:
        """Die, and come back from the journal alone."""
        desk = self.replayed(0, EMPTY_STATE)
        desk.recover()
        return desk

    def replayed(self, first: int, state: CoordinatorState) -> Desk:
        """Rebuild from a checkpoint and the records after it."""
        desk = Desk(limits=self.limits, state=saved(state), epoch=self.core.epoch + 1, markets=self.markets)
        desk.now, desk.trades, desk.journal = self.now, self.trades, list(self.journal)
        for message, at_ns in self.journal[first:]:
            desk.core.replay(message, at_ns)
        return desk

    def recover(self, *prepared: Prepared) -> None:
        """Begin a new life."""
        self.journal += [(fact, self.now) for fact in self.core.recover(prepared, self.now)]

    # What the feed and the strategies say.

    def top(self, token: TokenId, best_bid: float | None, best_ask: float | None, *, is_stale: bool = False) -> None:
        """Tell one token's book."""
        self.absorb(
            TopOfBook(
                token_id=token,
                best_bid=None if best_bid is None else dollars(best_bid),
                best_ask=None if best_ask is None else dollars(best_ask),
                tick=CENT,
                is_stale=is_stale,
                at_ns=self.now,
            )
        )

    def quote(
        self, *quotes: Quote, token: TokenId = YES, chase: int = 0, valid_s: float = 600, by: StrategyName = MAKER
    ) -> tuple[SubmitOrder, ...]:
        """Want these orders on a token; returns what is submitted for it."""
        wanted = Quotes(
            strategy=by,
            token_id=token,
            quotes=quotes,
            chase_ticks=chase,
            valid_until_ns=Nanos(self.now + round(valid_s * NANOS_PER_S)),
            at_ns=self.now,
        )
        return submits(self.tell(wanted))

    def take(
        self, side: Side, price: float, size: float = 10, *, token: TokenId = YES, valid_s: float = 1
    ) -> tuple[Command, ...]:
        """Want to trade now."""
        take = Take(
            strategy=TAKER,
            token_id=token,
            side=side,
            size=shares(size),
            price_worst=dollars(price),
            deadline_ns=Nanos(self.now + round(valid_s * NANOS_PER_S)),
            reason="test",
            at_ns=self.now,
        )
        return self.tell(take)

    # What the dispatcher says.

    def prepare(self, order: SubmitOrder) -> None:
        """Sign an order."""
        self.absorb(prepared(order.client_order_id, self.now))

    def accept(self, order: SubmitOrder, state: OrderState = OrderState.LIVE) -> None:
        """Sign an order and have it accepted."""
        self.prepare(order)
        self.absorb(accepted(order.client_order_id, self.now, state))

    def reject(self, order: SubmitOrder, code: RejectCode = RejectCode.OTHER) -> None:
        """Have an order refused."""
        self.absorb(Rejected(client_order_id=order.client_order_id, code=code, reason="test", at_ns=self.now))

    def lose_reply(self, order: SubmitOrder | CancelOrder) -> None:
        """Send something and hear nothing back."""
        was_cancel = isinstance(order, CancelOrder)
        if isinstance(order, SubmitOrder):
            self.prepare(order)
        self.absorb(
            OutcomeUnknown(exchange_order_id=eid(order), was_cancel=was_cancel, reason="timeout", at_ns=self.now)
        )

    def canceled(self, order: SubmitOrder | CancelOrder) -> None:
        """Have a cancel confirmed, without a word on what had matched."""
        self.absorb(Canceled(exchange_order_id=eid(order), at_ns=self.now))

    # What the exchange says.

    def live(self, *quotes: Quote, token: TokenId = YES, chase: int = 0) -> tuple[SubmitOrder, ...]:
        """Quote and have every order accepted."""
        orders = self.quote(*quotes, token=token, chase=chase)
        for order in orders:
            self.accept(order)
        return orders

    def update(self, order: SubmitOrder, state: OrderState, matched: float = 0) -> None:
        """Push the state of an order."""
        self.absorb(
            OrderUpdate(
                exchange_order_id=eid(order),
                token_id=order.token_id,
                state=state,
                size_matched=shares(matched),
                as_of_ns=self.now,
            )
        )

    def fill_of(
        self,
        order: SubmitOrder,
        size: float,
        *,
        price: float | None = None,
        settlement: Settlement = Settlement.MATCHED,
    ) -> Fill:
        """Make a fill of an order at its price, in a new trade."""
        self.trades += 1
        paid = order.price if price is None else dollars(price)
        is_maker = order.order_type is OrderType.GTC
        return Fill(
            trade_id=TradeId(f"t{self.trades}"),
            exchange_order_id=eid(order),
            token_id=order.token_id,
            side=order.side,
            size=shares(size),
            notional=Notional(paid * shares(size) // MICRO),
            fee=Notional(0 if is_maker else 1_000),
            role=Role.MAKER if is_maker else Role.TAKER,
            settlement=settlement,
            exchange_ms=self.now // NANOS_PER_MS,
            received_ns=self.now,
        )

    def fill(
        self,
        order: SubmitOrder,
        size: float,
        *,
        price: float | None = None,
        settlement: Settlement = Settlement.MATCHED,
    ) -> Fill:
        """Trade against an order."""
        fill = self.fill_of(order, size, price=price, settlement=settlement)
        self.absorb(fill)
        return fill

    def report(
        self,
        *open_orders: OpenOrder,
        ago_s: float = 0,
        fills: tuple[Fill, ...] = (),
        lookups: tuple[OrderLookup, ...] = (),
        cash: int | None = None,
        balances: tuple[tuple[TokenId, Size], ...] | None = None,
        is_refreshed: bool = True,
    ) -> tuple[Command, ...]:
        """Answer a question; by default the money agrees with the ledger, and every balance is told.

        What the last question wanted to be read anew was, unless the exchange did not.
        """
        asked = questions(tuple(self.commands))[-1:]
        to_read = tuple(asset for question in asked for asset in question.refresh)
        ledger = self.core.account.ledger
        agreed = ledger.cash if ledger is not None else CASH
        return self.tell(
            ExchangeReport(
                requested_ns=Nanos(self.now - round(ago_s * NANOS_PER_S)),
                received_ns=self.now,
                open_orders=open_orders,
                fills=fills,
                lookups=lookups,
                balances=self._agreed() if balances is None else balances,
                cash=Notional(agreed if cash is None else cash),
                refreshed=to_read if is_refreshed else (),
                unread=() if is_refreshed else to_read,
            )
        )

    def _agreed(self) -> tuple[tuple[TokenId, Size], ...]:
        account = self.core.account
        held = {t: account.ledger.position(t).size if account.ledger else 0 for t in account.market_of}
        return tuple((token, Size(size + account.offsets.get(token, 0))) for token, size in held.items())

    # Reading.

    def order(self, command: SubmitOrder | CancelOrder) -> Order:
        """Find the order of a command."""
        order = self.core.orders.of_client(command.client_order_id)
        assert order is not None
        return order

    def status(self, command: SubmitOrder | CancelOrder) -> OrderStatus:
        """Read an order's status."""
        return self.order(command).status

    def mode(self) -> Mode:
        """Read the mode."""
        return self.core.account.mode

    def is_quiet(self) -> bool:
        """Tell whether no order of ours can be on the exchange."""
        return self.core.is_quiet

    @property
    def counts(self) -> dict[str, int]:
        """Read the counters."""
        return self.core.account.counts


def trading_desk(*, limits: RiskLimits = LIMITS, holding: float = 0) -> Desk:
    """A desk that recovered, knows every book (0.50 / 0.54) and holds settled YES shares bought at 0.40."""
    desk = Desk(limits=limits)
    desk.recover()
    desk.report()
    for token in (YES, NO, OTHER_YES, OTHER_NO):
        desk.top(token, 0.50, 0.54)
    if holding:
        (order,) = desk.live(bid(0.40, holding))
        desk.fill(order, holding, settlement=Settlement.CONFIRMED)
        desk.quote()
    desk.wait(10)
    return desk


def eid(order: SubmitOrder | CancelOrder | ClientOrderId) -> ExchangeOrderId:
    """The exchange's id of an order of ours, here simply made from ours."""
    return ExchangeOrderId(f"x{order if isinstance(order, str) else order.client_order_id}")


def prepared(client_order_id: ClientOrderId, at_ns: Nanos) -> Prepared:
    """Signed and durable."""
    return Prepared(
        client_order_id=client_order_id, exchange_order_id=eid(client_order_id), body=b"signed", at_ns=at_ns
    )


def accepted(client_order_id: ClientOrderId, at_ns: Nanos, state: OrderState = OrderState.LIVE) -> Accepted:
    """The exchange took it."""
    order_id = eid(client_order_id)
    return Accepted(client_order_id=client_order_id, exchange_order_id=order_id, state=state, at_ns=at_ns)


def some_order(
    number: int = 1,
    *,
    status: OrderStatus = OrderStatus.LIVE,
    side: Side = Side.BUY,
    order_type: OrderType = OrderType.GTC,
    fact_ns: int = 0,
) -> Order:
    """Ten shares of YES at 0.50, as our table holds them."""
    return Order(
        client_order_id=ClientOrderId(f"1-{number}"),
        exchange_order_id=ExchangeOrderId(f"x1-{number}"),
        strategy=MAKER,
        token_id=YES,
        side=side,
        price=Price(500_000),
        size=Size(10 * MICRO),
        order_type=order_type,
        slot_level=0,
        created_ns=Nanos(0),
        fact_ns=Nanos(fact_ns),
        status=status,
    )


def listed(order: SubmitOrder, matched: float = 0) -> OpenOrder:
    """List an order as open."""
    return OpenOrder(
        exchange_order_id=eid(order),
        token_id=order.token_id,
        side=order.side,
        price=order.price,
        size=order.size,
        size_matched=shares(matched),
    )


def lookup(order: SubmitOrder, state: OrderState | None, matched: float = 0) -> OrderLookup:
    """Answer a question about one order; None = never heard of it."""
    return OrderLookup(exchange_order_id=eid(order), state=state, size_matched=shares(matched))


def submits(commands: tuple[Command, ...]) -> tuple[SubmitOrder, ...]:
    """Pick the submits."""
    return tuple(c for c in commands if isinstance(c, SubmitOrder))


def cancels(commands: tuple[Command, ...]) -> tuple[CancelOrder, ...]:
    """Pick the cancels."""
    return tuple(c for c in commands if isinstance(c, CancelOrder))


def questions(commands: tuple[Command, ...]) -> tuple[RequestReport, ...]:
    """Pick the questions."""
    return tuple(c for c in commands if isinstance(c, RequestReport))
