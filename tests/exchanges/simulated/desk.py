"""A small exchange for tests: one market, three traders, and orders in one line each."""

from __future__ import annotations

from tbot.core.market import MarketId, TokenId
from tbot.core.messages import ExchangeOrderId, OrderType, Side
from tbot.core.units import MICRO, NANOS_PER_S, Nanos, Notional, Price, Size
from tbot.exchanges.simulated.events import Event
from tbot.exchanges.simulated.ledger import CASH
from tbot.exchanges.simulated.matching import Engine
from tbot.exchanges.simulated.operations import (
    Account,
    Course,
    Deposit,
    EngineSettings,
    MarketRules,
    OpenMarket,
    Operation,
    Placed,
    PlaceOrder,
    Refused,
    Reply,
    SplitPair,
)

START = Nanos(1_790_000_000 * NANOS_PER_S)
YES, NO = TokenId("yes"), TokenId("no")
RAIN = MarketRules(market_id=MarketId("rain"), slug="rain", yes=YES, no=NO, fee_rate_micro=40_000)
SNOW = MarketRules(market_id=MarketId("snow"), slug="snow", yes=TokenId("snow-yes"), no=TokenId("snow-no"))
ANN, BOB, EVE = Account("ann"), Account("bob"), Account("eve")


class Bench:
    """An engine with a clock. Ann and Bob have $1,000 and 200 pairs of each market; Eve has $10."""

    def __init__(
        self, rules: MarketRules = RAIN, *, settings: EngineSettings | None = None, crowd: tuple[Account, ...] = ()
    ) -> None:
        self.engine = Engine(settings or EngineSettings(), crowd=crowd)
        self.now_ns = START
        self.events: list[Event] = []
        self._count = 0
        for market in (rules, SNOW):
            self.do(OpenMarket(rules=market))
        for account in (ANN, BOB):
            self.do(Deposit(account=account, cash=Notional(1_400 * MICRO)))
            for market in (rules, SNOW):
                self.do(SplitPair(account=account, market_id=market.market_id, size=Size(200 * MICRO)))
        self.do(Deposit(account=EVE, cash=Notional(10 * MICRO)))

    def do(self, operation: Operation, after_s: float = 0.0) -> Reply:
        """Apply one operation, keeping what it told."""
        self.now_ns = Nanos(self.now_ns + int(after_s * NANOS_PER_S))
        reply, events = self.engine.apply(operation, self.now_ns)
        self.events += events
        return reply

    def wait(self, seconds: float) -> tuple[Event, ...]:
        """Let time pass."""
        self.now_ns = Nanos(self.now_ns + int(seconds * NANOS_PER_S))
        events = self.engine.advance(self.now_ns)
        self.events += events
        return events

    def place(
        self,
        account: Account,
        side: Side,
        token_id: TokenId,
        price: str,
        shares: float = 0,
        *,
        dollars: float = 0,
        order_type: OrderType = OrderType.GTC,
        is_post_only: bool = False,
        life_s: float = 0,
        course: Course = Course.CONFIRM,
        order_id: str = "",
    ) -> Placed | Refused:
        """Place an order and return the answer; the price is dollars as text."""
        self._count += 1
        reply = self.do(
            PlaceOrder(
                account=account,
                order_id=ExchangeOrderId(order_id or f"{account}-{self._count}"),
                token_id=token_id,
                side=side,
                price=Price(round(float(price) * MICRO)),
                size=Size(round(shares * MICRO)),
                budget=Notional(round(dollars * MICRO)),
                order_type=order_type,
                is_post_only=is_post_only,
                expires_ns=Nanos(self.now_ns + int(life_s * NANOS_PER_S)) if life_s else Nanos(0),
                course=course,
            )
        )
        assert isinstance(reply, Placed | Refused)
        return reply

    def rest(self, account: Account, side: Side, token_id: TokenId, price: str, shares: float) -> ExchangeOrderId:
        """Place an order that must be taken, and return its id."""
        reply = self.place(account, side, token_id, price, shares)
        assert isinstance(reply, Placed), reply
        return reply.order_id

    def owned(self, account: Account, asset: TokenId = CASH) -> float:
        """Tell a balance in shares or dollars, unsettled amounts included."""
        return self.engine.ledger.owned(account, asset) / MICRO

    def available(self, account: Account, asset: TokenId = CASH) -> float:
        """Tell what can be traded with."""
        return self.engine.available(account, asset) / MICRO
