"""The pure exchange: one unified book a market, matching, settlement and balances, without clock, task or socket.

`Engine.apply(operation, now_ns)` is the only way to change it; time is handed in. The same operations at the same
moments give the same engine, event for event.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator

import msgspec

from tbot.core.market import MarketId, TokenId
from tbot.core.messages import ExchangeOrderId, OrderState, OrderType, Settlement, Side, TradeId
from tbot.core.units import Nanos, Price, Size
from tbot.exchanges.simulated.allowances import Allowances
from tbot.exchanges.simulated.cancelling import Cancelling
from tbot.exchanges.simulated.chain_log import ChainLog
from tbot.exchanges.simulated.checks import (
    IMMEDIATE,
    TEXT_CRASHED,
    TEXT_PAYLOAD,
    Candidate,
    given_by,
    objection_after_hold,
    refusal,
)
from tbot.exchanges.simulated.collateral import Movement
from tbot.exchanges.simulated.events import Balances, BookView, Event, OrderChange, OrderView, Trade
from tbot.exchanges.simulated.ledger import Ledger
from tbot.exchanges.simulated.listing import Listing
from tbot.exchanges.simulated.memory import Memory
from tbot.exchanges.simulated.operations import (
    ANY_MARKET,
    ANY_TOKEN,
    EVER,
    Account,
    Advance,
    Approve,
    CancelEvery,
    CancelOrders,
    ChangeMode,
    ChangeTick,
    CloseMarket,
    Done,
    EndReason,
    EngineSettings,
    MarketRules,
    Mode,
    OpenMarket,
    Operation,
    PauseMarket,
    Placed,
    PlaceOrder,
    Refused,
    ReopenMarket,
    Reply,
    ResolveMarket,
)
from tbot.exchanges.simulated.orderbook import DUST, Order, Standing, UnifiedBook
from tbot.exchanges.simulated.planning import Match, MatchPlan, plan_match, sizes_by_price
from tbot.exchanges.simulated.resolving import Resolving
from tbot.exchanges.simulated.resting import OrderTable, asset_of
from tbot.exchanges.simulated.settlement import (
    Agenda,
    ExpireOrder,
    ReleaseOrder,
    ReportPayout,
    SettleTrade,
    StartGame,
    Step,
)
from tbot.exchanges.simulated.ticks import tick_after
from tbot.exchanges.simulated.trades import Deal, TradeLog, make_deal, parties
from tbot.exchanges.simulated.turn import Turn, view_of
from tbot.exchanges.simulated.turnover import Turnover


class Engine:
    """The state of one exchange.

    Args:
        settings: Settlement delays, expiry rules, what is not known of production, how long it remembers what is over.
        crowd: Accounts of synthetic traders, whose records are forgotten soon.

    Attributes:
        listing: Opens markets, and knows since when.
        memory: Forgets.
        mode: What it does at all now.
        on_crash: Told of a bug met by a timed step, which is given up; without it the error is raised.
    """

    def __init__(
        self,
        settings: EngineSettings = EngineSettings(),  # noqa: B008 - frozen
        *,
        crowd: Collection[Account] = (),
    ) -> None:
        self.settings = settings
        self.ledger = Ledger()
        self.chain = ChainLog()
        self.now_ns = Nanos(0)
        self.mode = Mode.NORMAL
        self.on_crash: Callable[[Exception], None] | None = None
        self._books: dict[MarketId, UnifiedBook] = {}
        self._market_of: dict[TokenId, MarketId] = {}
        self._orders = OrderTable(has_global_reservation=settings.has_global_reservation)
        self._cancels = Cancelling(self._books, self._orders)
        self._trades = TradeLog()
        self.memory = Memory(settings, crowd, orders=self._orders, trades=self._trades, chain=self.chain)
        self.allowances = Allowances(self._orders)
        self._agenda = Agenda()
        self.listing = Listing(self._books, self._market_of, self._agenda)
        delay_ns = settings.resolution_delay_ns
        self._resolving = Resolving(self._books, self.chain, self._cancels, self._agenda, delay_ns)
        self._sequence = 0
        self._steps = 0

    # --- changing ---------------------------------------------------------------------------------------------------

    def apply(self, operation: Operation, now_ns: Nanos) -> tuple[Reply, tuple[Event, ...]]:
        """Do what time made due, then the operation.

        Args:
            operation: What to do.
            now_ns: A moment before that of an earlier operation counts as that one: a wall clock may step back.

        Returns:
            The answer to the caller, and everything there is to tell, in order.
        """
        self.now_ns = max(now_ns, self.now_ns)
        if isinstance(operation, ChangeMode):
            self.mode = operation.mode  # at once: it holds for what is due in this very moment
        events = list(self._run_due())
        turn = self._turn(self.now_ns)
        reply = self._perform(operation, turn)
        self._follow_up(turn)
        events += turn.end()
        self.memory.tend(turn)
        return reply, tuple(events)

    def _turn(self, now_ns: Nanos) -> Turn:
        self._steps += 1
        return Turn(now_ns, self._steps)

    def advance(self, now_ns: Nanos) -> tuple[Event, ...]:
        """Do what time made due."""
        return self.apply(Advance(), now_ns)[1]

    def next_due_ns(self) -> Nanos | None:
        """When time will do something next; None = nothing is under way."""
        return self._agenda.next_due_ns()

    # --- reading ----------------------------------------------------------------------------------------------------

    @property
    def trades(self) -> tuple[Trade, ...]:
        """The raw trade log: every trade it remembers, oldest first, as it stands now."""
        return tuple(self._trades)

    @property
    def turnover(self) -> Turnover:
        """Sums over every trade ever made."""
        return self._trades.turnover

    def trade(self, trade_id: TradeId) -> Trade:
        """Look up one trade.

        Raises:
            KeyError: It was never made, or is forgotten.
        """
        return self._trades[trade_id]

    def trades_of(self, account: Account, since_ns: Nanos = EVER) -> tuple[Trade, ...]:
        """List trades of one account matched at or after a moment, oldest first."""
        return self._trades.of(account, since_ns)

    def markets(self) -> tuple[MarketRules, ...]:
        """List every market in order of listing."""
        return tuple(book.rules for book in self._books.values())

    def market_of(self, token_id: TokenId) -> MarketId:
        """Name the market of a token.

        Raises:
            KeyError: No market has it.
        """
        return self._market_of[token_id]

    def rules(self, market_id: MarketId) -> MarketRules:
        """Tell the present rules of a market.

        Raises:
            KeyError: It was never listed.
        """
        return self._books[market_id].rules

    def rules_of(self, token_id: TokenId) -> MarketRules | None:
        """Tell the present rules of a token's market; None = no market has it."""
        market_id = self._market_of.get(token_id)
        return None if market_id is None else self._books[market_id].rules

    def top(self, market_id: MarketId) -> tuple[Price | None, Price | None]:
        """Tell best bid and ask of the YES token."""
        return self._books[market_id].top

    def book(self, token_id: TokenId) -> BookView:
        """Show the whole book of one token.

        Raises:
            KeyError: No market has it.
        """
        return view_of(self._books[self._market_of[token_id]], token_id)

    def standing(self, market_id: MarketId) -> Standing:
        """Tell how the book of YES stands; far cheaper than showing it."""
        return self._books[market_id].standing()

    def order(self, order_id: ExchangeOrderId) -> OrderView | None:
        """Look up one order in any state; None = never taken."""
        order = self._orders.get(order_id)
        return None if order is None else order.view()

    def would_take(self, place: PlaceOrder) -> bool:
        """Tell whether an order would be taken now and match, or be held before it may."""
        market_id = self._market_of.get(place.token_id)
        candidate = None if market_id is None else self._candidate(place, self._books[market_id])
        return candidate is not None and candidate.plan.crosses and not refusal(candidate)

    def verdict(self, order_id: ExchangeOrderId) -> Placed | Refused:
        """Tell what became of an order taken: the answer to its sender, final once it is not held any more.

        Raises:
            KeyError: It was never taken.
        """
        return self._orders[order_id].verdict()

    def open_orders(self, account: Account) -> tuple[OrderView, ...]:
        """List the open orders of one account, oldest first."""
        return tuple(order.view() for order in self._orders.open_of(account))

    def open_ids(
        self, accounts: Iterable[Account], *, market_id: MarketId = ANY_MARKET, token_id: TokenId = ANY_TOKEN
    ) -> list[ExchangeOrderId]:
        """Name the open orders of some accounts, or those of one market or token, oldest first."""
        return self._orders.open_ids(accounts, market_id, token_id)

    def top_of_size(self, market_id: MarketId, size_min: Size) -> tuple[Price | None, Price | None]:
        """Tell best bid and ask of YES among the orders that have so much left."""
        book = self._books[market_id]
        return book.bids.best_of(size_min), book.asks.best_of(size_min)

    def orders_of(self, account: Account) -> tuple[OrderView, ...]:
        """List every order an account ever placed, in any state, oldest first."""
        return tuple(order.view() for order in self._orders if order.place.account == account)

    def available(self, account: Account, asset: TokenId) -> int:
        """Tell what an account can trade with; `ledger.CASH` is collateral. Open orders are not deducted."""
        return self.ledger.available(account, asset)

    def balances(self, account: Account) -> Balances:
        """Tell everything an account can trade with, and what is still on its way in."""
        return self.ledger.balances(account, self._market_of)

    def digest(self) -> str:
        """Hash all books, orders, trades and balances: equal digests, equal engines."""
        books = [(b.rules, b.bids.levels(), b.asks.levels(), b.exchange_ms) for b in self._books.values()]
        orders = [order.view() for order in self._orders]
        ledgers = (self.ledger.state(), self.allowances.state(), self._resolving.announced)
        state = (books, orders, self.trades, ledgers, self.mode, self.now_ns, self.next_due_ns())
        return hashlib.sha256(msgspec.msgpack.encode(state)).hexdigest()

    # --- operations -------------------------------------------------------------------------------------------------

    def _perform(self, operation: Operation, turn: Turn) -> Reply:
        if isinstance(operation, Movement):
            return self._move_collateral(operation, turn)
        match operation:
            case PlaceOrder():
                return self._place(operation, turn)
            case CancelOrders():
                return self._cancels.by_id(operation, self.mode, turn)
            case CancelEvery():
                return self._cancels.every(operation, self.mode, turn)
            case Advance() | ChangeMode():
                return Done()
            case Approve():
                turn.weaken(operation.account)
                return self.allowances.grant(operation)
            case OpenMarket():
                return self.listing.open(operation, turn)
            case CloseMarket() | ResolveMarket() | PauseMarket() | ReopenMarket():
                return self._resolving.change(operation, turn)
            case ChangeTick():
                return self.listing.change_tick(operation, turn)

    def _place(self, place: PlaceOrder, turn: Turn) -> Placed | Refused:
        market_id = self._market_of.get(place.token_id)
        if market_id is None:
            return Refused(text=TEXT_PAYLOAD)
        book = self._books[market_id]
        candidate = self._candidate(place, book)
        text = refusal(candidate)
        if text:
            turn.tell_refusal(candidate, text)
            return Refused(text=text)
        delay_ns = max(place.delay_ns, book.rules.taker_delay_ns)
        if candidate.plan.crosses and delay_ns:
            self._hold(self._enter(place, book), candidate, delay_ns, turn)
        else:
            deal = self._deal(candidate, turn)
            order = self._enter(place, book)
            turn.tell_order(OrderChange.PLACEMENT, order, book)
            self._execute(order, candidate.plan, deal, book, turn)
        return self.verdict(place.order_id)

    def _candidate(self, place: PlaceOrder, book: UnifiedBook) -> Candidate:
        plan = plan_match(place, book, self.settings)
        return Candidate(
            order=place,
            book=book,
            settings=self.settings,
            now_ns=self.now_ns,
            plan=plan,
            is_duplicate=place.order_id in self._orders,
            mode=self.mode,
            balance=self.ledger.available(place.account, asset_of(place)),
            matched=self.ledger.leaving(place.account, asset_of(place)),
            reserved=self._orders.reserved_for(place, book.rules.market_id, plan.passed),
            allowance=self.allowances.left_for(place),
            spending=self._orders.spending_for(place, plan.passed),
        )

    # All amounts are made and checked here, before anything changes.
    def _deal(self, candidate: Candidate, turn: Turn) -> Deal | None:
        book = candidate.book
        deal = make_deal(
            self._trades, candidate.order, candidate.plan, book, exchange_ms=turn.ms(book), now_ns=turn.now_ns
        )
        if deal is not None:
            self.ledger.check(deal.trade)
        return deal

    def _enter(self, place: PlaceOrder, book: UnifiedBook) -> Order:
        self._sequence += 1
        order = Order(place, rules=book.rules, sequence=self._sequence, created_ns=self.now_ns)
        self._orders.enter(order)
        return order

    # Only what would take is held, so that makers may cancel before it does; a post-only order never gets here.
    def _hold(self, order: Order, candidate: Candidate, delay_ns: int, turn: Turn) -> None:
        order.state, order.was_held = OrderState.DELAYED, True
        self._orders.hold(order, given_by(candidate))
        self._agenda.enter(Nanos(turn.now_ns + delay_ns), ReleaseOrder(order_id=order.place.order_id))
        turn.tell_order(OrderChange.PLACEMENT, order, candidate.book)

    def _release(self, order: Order, turn: Turn) -> None:
        book = self._books[order.market_id]
        self._orders.release(order)
        candidate = self._candidate(order.place, book)
        objection = objection_after_hold(candidate)
        if objection is not None:
            self._cancels.end_held(order, objection, turn)
            return
        deal = self._deal(candidate, turn)
        order.state = OrderState.LIVE
        if not candidate.plan.crosses:
            turn.tell_order(OrderChange.UNMATCHED, order, book)
        self._execute(order, candidate.plan, deal, book, turn)

    def _execute(self, order: Order, plan: MatchPlan, deal: Deal | None, book: UnifiedBook, turn: Turn) -> None:
        if deal is not None:
            self._trade(order, deal, book, turn)
            self._agenda.enter_course(deal.trade.trade_id, order.place.course, self.settings, turn.now_ns)
        self._finish_taker(order, plan, book, turn)

    def _finish_taker(self, order: Order, plan: MatchPlan, book: UnifiedBook, turn: Turn) -> None:
        place = order.place
        for own in plan.passed:
            self._cancels.cancel(own, EndReason.SELF_TRADE, turn)
        if plan.matches:
            order.state = OrderState.MATCHED
            if place.order_type not in IMMEDIATE and order.remaining >= DUST:
                order.state = OrderState.LIVE
            turn.tell_order(OrderChange.UPDATE, order, book)
        if place.order_type in IMMEDIATE:
            if not plan.is_complete:
                order.state, order.reason = OrderState.CANCELED, EndReason.KILLED
                turn.tell_order(OrderChange.CANCELLATION, order, book)
        elif order.state is OrderState.LIVE:
            self._rest(order, book, turn)

    def _rest(self, order: Order, book: UnifiedBook, turn: Turn) -> None:
        place = order.place
        order.come_to_rest()
        book.side(is_bid=order.is_bid).add(order)
        self._orders.rest(order)
        turn.touch(book, order)
        if place.order_type is OrderType.GTD:
            due_ns = Nanos(place.expires_ns - self.settings.expiry_margin_ns)
            self._agenda.enter(due_ns, ExpireOrder(order_id=place.order_id))

    def _trade(self, taker: Order, deal: Deal, book: UnifiedBook, turn: Turn) -> None:
        trade = deal.trade
        self._trades.add(trade)
        self.ledger.book(trade)
        self.allowances.book(trade)
        for party in parties(trade):
            turn.weaken(party)
        taker.note_match(trade.size, trade.notional, trade.trade_id)
        for match in deal.matches:
            self._fill_maker(match, trade.trade_id, book, turn)
        book.note_last(deal.matches[-1].maker, trade.side)
        turn.tell_trade(trade, book)
        for price, size in sizes_by_price(deal.matches):
            turn.print_trade(trade, price, size, book)

    def _fill_maker(self, match: Match, trade_id: TradeId, book: UnifiedBook, turn: Turn) -> None:
        maker = match.maker
        maker.note_match(match.size, match.notional, trade_id)
        book.side(is_bid=maker.is_bid).reduce(maker, match.size)
        turn.touch(book, maker)
        maker.making_left -= match.notional if maker.place.side is Side.BUY else match.size
        if maker.is_dust:
            maker.state = OrderState.MATCHED
            self._cancels.leave(maker, book)
        else:
            self._orders.reserve(maker)
        turn.tell_order(OrderChange.UPDATE, maker, book)

    # --- collateral -------------------------------------------------------------------------------------------------

    def _move_collateral(self, operation: Movement, turn: Turn) -> Done | Refused:
        turn.weaken(operation.account)
        markets = {rules.market_id: rules for rules in self.markets()}
        return self.chain.move(self.ledger, markets, operation, turn.now_ns)

    # --- time -------------------------------------------------------------------------------------------------------

    def _run_due(self) -> Iterator[Event]:
        while (due := self._agenda.pop_due(self.now_ns)) is not None:
            due_ns, step = due
            turn = self._turn(due_ns)
            try:
                self._run_step(step, turn)
                self._follow_up(turn)
            # As at the server's edge: a bug met by one timed step must not end the exchange under everybody else.
            except Exception as crash:
                if self.on_crash is None:
                    raise
                self.on_crash(crash)
                self._give_up(step, turn)
            yield from turn.end()
            self.memory.tend(turn)

    def _give_up(self, step: Step, turn: Turn) -> None:
        if isinstance(step, ReleaseOrder) and (order := self._orders[step.order_id]).state is OrderState.DELAYED:
            self._cancels.end_held(order, (TEXT_CRASHED, EndReason.KILLED), turn)

    def _run_step(self, step: Step, turn: Turn) -> None:
        match step:
            case SettleTrade():
                self._settle(step, turn)
            case ExpireOrder():
                order = self._orders.get(step.order_id)  # None when it was over long ago
                if order is not None and order.state is OrderState.LIVE:
                    self._cancels.cancel(order, EndReason.EXPIRED, turn)
            case ReleaseOrder():
                self._release(self._orders[step.order_id], turn)
            case StartGame():
                self._cancels.clear(step.market_id, EndReason.GAME_STARTED, turn)
            case ReportPayout():
                self._resolving.report(step.market_id, turn)

    # What every change may bring about: orders without cover, a price at the edge.
    def _follow_up(self, turn: Turn) -> None:
        for account in turn.weakened:
            uncovered = (*self._orders.uncovered(account, self.ledger), *self.allowances.uncovered(account))
            for order in dict.fromkeys(uncovered):
                self._cancels.cancel(order, EndReason.NOT_ENOUGH_BALANCE, turn)
        for book in turn.books_touched():
            tick = tick_after(book, self.settings)
            if tick != book.rules.tick:
                turn.change_tick(book, tick)

    def _settle(self, step: SettleTrade, turn: Turn) -> None:
        trade = self._trades.settle(step.trade_id, step.settlement, turn.now_ns)
        self.allowances.settle(trade)
        if step.settlement is Settlement.MINED:
            self.ledger.settle(trade)
            self.chain.settle(trade.trade_id, turn.now_ns)
        elif step.settlement is Settlement.FAILED:
            self.ledger.reverse(trade)
        turn.tell_trade(trade, self._books[trade.market_id])
