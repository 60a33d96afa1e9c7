"""What the coordinator owns: orders, ledger, halt and counters, and how they are saved and restored.

Durable parts go into a checkpoint and are rebuilt by replaying the journal after it. Quotes, tops of book and timers
are not durable: after a restart the strategies and the feed say them anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum

import msgspec

from tbot.core.exchange_mode import OPEN, ExchangeMode, is_restricted, permit_text
from tbot.core.market import CASH, Market, MarketName, TokenId, difference, name_of
from tbot.core.messages import (
    AccountView,
    ExchangeReport,
    Fill,
    PositionRow,
    Quotes,
    RejectCode,
    Role,
    Settlement,
    Side,
    Snapshot,
    StrategyName,
    Take,
    TopOfBook,
)
from tbot.core.orders import Order, Orders
from tbot.core.positions import Ledger, LedgerState
from tbot.core.risk import RiskFacts, RiskLimits
from tbot.core.units import NANOS_PER_MS, NANOS_PER_S, Nanos, Notional, Price, Size, text_from_micro

NOTES_KEPT = 50
# Late facts of a settled order are still understood for this long.
REMEMBER_NS = 3_600 * NANOS_PER_S
# And at least this much longer than any report reaches back: a forgotten trade that is told again would book twice.
REMEMBER_BEFORE_REPORT_NS = 600 * NANOS_PER_S
# Trades settle within a minute, in the worst recorded hour within some. One that has not after this is given up waiting
# for: else it would hold reports, memory and the comparison of balances back for ever.
SETTLE_WITHIN_NS = 900 * NANOS_PER_S
# The exchange's clock may be ahead of ours by less than this. No trade is told for the first time an hour late.
CLOCK_SKEW_NS = 60 * NANOS_PER_S


class Mode(StrEnum):
    """What the coordinator may do. RECOVERING and HALTED: cancels yes, submits no."""

    RECOVERING = "RECOVERING"
    TRADING = "TRADING"
    HALTED = "HALTED"
    STOPPING = "STOPPING"


class CoordinatorState(msgspec.Struct, frozen=True, kw_only=True):
    """The durable state after one record of the journal; the content of a checkpoint.

    Attributes:
        ledger: None until the first report told the opening cash.
        opened_ns: When the ledger began; older fills of orders that are not ours are history, already in the cash.
        next_order: Counter of client order ids.
        loss_reference: Profit at cost from which the loss limit counts, micro-dollars.
        reported_ns: Request time of the newest report; every fill before it is known.
        news_ns: When a fill was last booked, or a settlement moved.
        offsets: What the exchange holds beyond the ledger and why is known: it was there before, or a person accepted
            it. Millionths, by token and `CASH`.
        drift: Unexplained difference in the newest report that could be compared.
        drift_since_ns: Request time of the report that found this very difference first, or of the first after which
            the exchange was asked without a break to read it anew, and did not.
        drift_refreshed: What of it the exchange has read from the chain anew since.
        drift_told: Tokens whose balances were told, and in order, since cash alone is more than it should be.
        forgotten_ns: Trades first heard of before this may be forgotten.
        halt_profit: Profit when a loss halted it, micro-dollars; None = it is not, or something else did.
        accepted: The part of `offsets` that a person accepted when ending a halt, until the exchange agrees again.
        halted_ns: Since when trading is halted; 0 = it is not, or it was before this was kept.
        markets: Those traded, by name.
        sighted: Tokens whose balance was told before anything of ours was sent there.
    """

    orders: tuple[Order, ...]
    ledger: LedgerState | None
    halt_reason: str
    flatten_ticks: int | None
    takes: tuple[Take, ...]
    counts: dict[str, int]
    next_order: int
    opened_ns: Nanos
    loss_reference: Notional
    reported_ns: Nanos = Nanos(0)
    news_ns: Nanos = Nanos(0)
    offsets: dict[TokenId, int] = {}
    drift: dict[TokenId, int] = {}
    drift_since_ns: Nanos = Nanos(0)
    drift_refreshed: tuple[TokenId, ...] = ()
    drift_told: tuple[TokenId, ...] = ()
    forgotten_ns: Nanos = Nanos(0)
    halted_ns: Nanos = Nanos(0)
    halt_profit: Notional | None = None
    accepted: dict[TokenId, int] = {}
    markets: tuple[MarketName, ...] = ()
    sighted: tuple[TokenId, ...] = ()


EMPTY_STATE = CoordinatorState(
    orders=(),
    ledger=None,
    halt_reason="",
    flatten_ticks=None,
    takes=(),
    counts={},
    next_order=1,
    opened_ns=Nanos(0),
    loss_reference=Notional(0),
)


class Account:
    """The mutable truth of one account; only the coordinator changes it."""

    def __init__(self, markets: Sequence[Market], limits: RiskLimits, state: CoordinatorState = EMPTY_STATE) -> None:
        """Restore the durable parts; the rest starts empty."""
        self.limits = limits
        self._open_orders_wanted = limits.open_orders_max
        self.markets = tuple(markets)
        self.market_of: dict[TokenId, Market] = {t: m for m in markets for t in m.tokens}
        self.orders = Orders(msgspec.msgpack.decode(msgspec.msgpack.encode(state.orders), type=tuple[Order, ...]))
        self.ledger = Ledger.restore(state.ledger) if state.ledger is not None else None
        self.halt_reason = state.halt_reason
        self.halted_ns = state.halted_ns
        self.halt_profit = state.halt_profit
        self.accepted: dict[TokenId, int] = dict(state.accepted)
        self._names = tuple(map(name_of, markets))
        self.flatten_ticks = state.flatten_ticks
        self.takes: list[Take] = list(state.takes)
        self.counts: dict[str, int] = dict(state.counts)
        self.next_order = state.next_order
        self.opened_ns = state.opened_ns
        self.loss_reference = state.loss_reference
        self.reported_ns = state.reported_ns
        self.news_ns = state.news_ns
        self.offsets: dict[TokenId, int] = dict(state.offsets)
        self.drift: dict[TokenId, int] = dict(state.drift)
        self.drift_since_ns = state.drift_since_ns
        self.drift_refreshed: tuple[TokenId, ...] = state.drift_refreshed
        self.drift_told: tuple[TokenId, ...] = state.drift_told
        self.forgotten_ns = state.forgotten_ns
        self.sighted: dict[TokenId, None] = dict.fromkeys(state.sighted)
        self.loss_unrealized = Notional(0)
        self.is_recovering = True
        self.is_stopping = False
        self.quotes: dict[tuple[StrategyName, TokenId], Quotes] = {}
        self.tops: dict[TokenId, TopOfBook] = {}
        self.bids_seen: dict[TokenId, Price] = {}
        self.refusals: dict[str, int] = {}
        self.holds: dict[tuple[StrategyName, TokenId, Side], Nanos] = {}
        # Since when tokens are traded on another contract; not durable: what rests when a desk goes down is withdrawn.
        self.contract_ns: dict[TokenId, Nanos] = {}
        # What the exchange lets us send; not durable: the first refusal after a restart tells it again.
        self.exchange_mode = OPEN
        self._takes_told = permit_text(OPEN)
        self.notes: deque[str] = deque(maxlen=NOTES_KEPT)
        self._unread: deque[str] = deque(maxlen=NOTES_KEPT)

    @property
    def mode(self) -> Mode:
        """The strictest of what applies."""
        if self.is_stopping:
            return Mode.STOPPING
        if self.halt_reason:
            return Mode.HALTED
        return Mode.RECOVERING if self.is_recovering else Mode.TRADING

    def state(self) -> CoordinatorState:
        """Copy out the durable parts."""
        return CoordinatorState(
            orders=tuple(msgspec.structs.replace(order) for order in self.orders),
            ledger=self.ledger.state() if self.ledger is not None else None,
            halt_reason=self.halt_reason,
            flatten_ticks=self.flatten_ticks,
            takes=tuple(self.takes),
            counts=dict(self.counts),
            next_order=self.next_order,
            opened_ns=self.opened_ns,
            loss_reference=self.loss_reference,
            reported_ns=self.reported_ns,
            news_ns=self.news_ns,
            offsets=dict(self.offsets),
            drift=dict(self.drift),
            drift_since_ns=self.drift_since_ns,
            drift_refreshed=self.drift_refreshed,
            drift_told=self.drift_told,
            forgotten_ns=self.forgotten_ns,
            halted_ns=self.halted_ns,
            halt_profit=self.halt_profit,
            accepted=dict(self.accepted),
            markets=self._names,
            sighted=tuple(self.sighted),
        )

    def count(self, name: str, by: int = 1) -> None:
        """Advance a counter of the report."""
        self.counts[name] = self.counts.get(name, 0) + by

    def count_fill(self, fill: Fill, *, is_ours: bool) -> None:
        """Count a fill by side and role, and note one of an order that nobody here sent."""
        self.count("fills_buy" if fill.side is Side.BUY else "fills_sell")
        self.count("fills_maker" if fill.role is Role.MAKER else "fills_taker")
        self.count("volume_micro", fill.notional)
        if not is_ours:
            self.count("foreign_fills")
            self.note(f"fill {fill.trade_id} of an order that is not ours: {fill.exchange_order_id}")

    def note(self, text: str) -> None:
        """Keep a finding for people; counted, so that none goes unseen."""
        self.count("notes")
        self._tell(text)

    def news(self) -> tuple[str, ...]:
        """Return the notes since the last call, oldest first, for the log."""
        fresh = tuple(self._unread)
        self._unread.clear()
        return fresh

    def _tell(self, text: str) -> None:
        self.notes.append(text)
        self._unread.append(text)

    def enter_mode(self, mode: ExchangeMode) -> bool:
        """Take note of what the exchange lets us send now; True when the restriction is another one than before."""
        before, self.exchange_mode = self.exchange_mode, mode
        is_news = (mode.permit, mode.code) != (before.permit, before.code)
        # Rate limits come and go by the second: neither is told.
        if mode.code is not RejectCode.RATE_LIMITED and (takes := permit_text(mode)) != self._takes_told:
            # Not counted: counts are durable, and a replay begun at a checkpoint does not know the mode before it.
            self._takes_told = takes
            self._tell(f"the exchange takes: {takes}")
        return is_news

    def afford(self, open_orders_max: int) -> None:
        """Let no more orders rest than the exchange lets us cancel at once, whatever the settings say."""
        fewer = min(self._open_orders_wanted, open_orders_max)
        self.limits = msgspec.structs.replace(self.limits, open_orders_max=max(1, fewer))

    def halt(self, reason: str, at_ns: Nanos, profit: Notional | None = None) -> None:
        """Stop trading until a person resumes; the first reason stands."""
        if not self.halt_reason:
            self.halt_reason, self.halted_ns, self.halt_profit = reason, at_ns, profit
            self.note(f"halted: {reason}")

    def resume(self, profit: Notional | None) -> None:
        """Trade again; after a loss the limit counts from a profit, None = from that of now."""
        if self.halt_reason:
            self.note(f"resumed after: {self.halt_reason}")
        if profit is not None:
            self.loss_reference, self.loss_unrealized = profit, Notional(0)
        elif self.halt_profit is not None:  # who ends another halt has said nothing about what is lost
            self.rebase_loss()
        self.halt_reason, self.halted_ns, self.halt_profit, self.flatten_ticks = "", Nanos(0), None, None

    def open_ledger(self, report: ExchangeReport) -> bool:
        """Begin the books with the exchange's cash, once no earlier trade can change it and every balance was told.

        Balances may come in several reports, as nothing is traded meanwhile.

        Returns:
            False while trades from before are pending, or a balance is not told or not read; the next report is asked.
        """
        if any(fill.settlement in (Settlement.MATCHED, Settlement.RETRYING) for fill in report.fills):
            return False
        self.offsets |= {token: int(size) for token, size in report.balances if token not in report.unread}
        if self.untold() or CASH in report.unread:
            return False
        self.ledger = Ledger(report.cash)
        self.opened_ns = report.requested_ns
        self.sighted = dict.fromkeys(self.offsets)
        self.offsets = {token: size for token, size in self.offsets.items() if size}
        return True

    def untold(self) -> tuple[TokenId, ...]:
        """Name the tokens whose balances must be told before the ledger is opened, or before they are traded."""
        told = self.offsets if self.ledger is None else self.sighted
        return tuple(token for token in self.market_of if token not in told)

    def sight(self, report: ExchangeReport) -> None:
        """Take the first balance told of a token for what was there before: its market joined after the ledger began.

        Nothing of ours is sent there before that. So what the ledger knows of it are trades of others on the account,
        and what is there beyond them was there. Less than they explain is a loss, and stays one.
        """
        if self.ledger is None or not (waiting := dict.fromkeys(self.untold())):
            return
        ours = dict.fromkeys(order.token_id for order in self.orders)
        traded = dict.fromkeys(self.ledger.tokens()) if self.unsettled_since_ns() is not None else {}
        for token, size in report.balances:
            if token not in waiting or token in traded or token in report.unread:
                continue
            before = size - self.ledger.position(token).size
            if before > 0 and token not in ours:
                self.offsets[token] = before
                self.note(f"{text_from_micro(before)} of {token[:12]} were there before: counted as held, never sold")
            self.sighted[token] = None

    def forget(self, now_ns: Nanos) -> None:
        """Drop orders and trades that are over for so long that nobody speaks of them any more."""
        self.orders.rest()
        before_ns = Nanos(min(now_ns - REMEMBER_NS, self.fills_known_ns() - REMEMBER_BEFORE_REPORT_NS))
        self.forgotten_ns = Nanos(max(self.forgotten_ns, before_ns))
        self.orders.forget(before_ns)
        if self.ledger is not None:
            self.ledger.forget(before_ns)

    def is_forgotten(self, fill: Fill) -> bool:
        """Tell whether a fill that is not in the ledger was there once: a desk that starts anew asks far back."""
        is_old = fill.exchange_ms * NANOS_PER_MS < self.forgotten_ns + CLOCK_SKEW_NS
        return is_old and self.ledger is not None and not self.ledger.has_fill(fill.trade_id, fill.exchange_order_id)

    def refuse(self, limit: str) -> None:
        """Count a refusal of our own, by its name; for people, so not durable."""
        self.refusals[limit] = self.refusals.get(limit, 0) + 1

    def marks(self) -> Mapping[TokenId, Price]:
        """Closing-side prices: the best bid last seen, so that a book empty for a moment is no total loss."""
        return self.bids_seen

    def profit(self) -> Notional:
        """Realized plus unrealized at closing prices, fees paid deducted, micro-dollars."""
        return self.ledger.pnl(self.marks()) if self.ledger is not None else Notional(0)

    def loss(self) -> Notional:
        """Micro-dollars lost since trading was last started by hand."""
        return Notional(self.loss_reference + self.loss_unrealized - self.profit())

    def rebase_loss(self) -> None:
        """Count the loss from here on.

        Marks are not durable, so the part of the reference that hangs on them is not either: after a crash the limit
        counts from the cost of what was held, which halts too early rather than too late when we were under water.
        """
        self.loss_reference = self.ledger.pnl({}) if self.ledger is not None else Notional(0)
        self.loss_unrealized = Notional(self.profit() - self.loss_reference)

    def relist(self, market: Market, at_ns: Nanos) -> None:
        """Go on under new terms of a market; orders and positions stay, what may not rest any more is cancelled."""
        before = self.market_of.get(market.yes)
        if before is not None and before != market:
            self.market_of |= dict.fromkeys(market.tokens, market)
            self.markets = tuple(self.market_of[m.yes] for m in self.markets)
            if before.is_neg_risk != market.is_neg_risk:
                self.contract_ns |= dict.fromkeys(market.tokens, at_ns)
            if changes := difference(before, market):
                self._tell(f"{market.slug}: {changes}")  # not counted: terms are no facts, a replay has none

    def takes_orders(self, token_id: TokenId) -> bool:
        """Whether the market of a token is ours to trade, and takes orders now."""
        market = self.market_of.get(token_id)
        return market is not None and market.is_accepting_orders

    def is_outdated(self, order: Order) -> bool:
        """Whether an order is from before its market moved to another contract, so signed for the one it left."""
        return order.created_ns <= self.contract_ns.get(order.token_id, -1)

    def held(self, token_id: TokenId) -> Size:
        """Micro-shares held, pending ones included."""
        return self.ledger.position(token_id).size if self.ledger is not None else Size(0)

    def sellable(self, token_id: TokenId) -> Size:
        """Settled micro-shares that no open SELL has promised away, as far as the exchange has them."""
        if self.ledger is None:
            return Size(0)
        promised = sum(o.size_open for o in self.orders.working() if o.token_id == token_id and o.side is Side.SELL)
        return Size(max(self._settled(token_id) - promised, 0))

    def _settled(self, token_id: TokenId) -> Size:
        """Settled micro-shares, less those that the exchange does not have and a person knows to be missing."""
        settled = self.ledger.settled(token_id) if self.ledger is not None else 0
        return Size(max(settled + min(self.offsets.get(token_id, 0), 0), 0))

    def _cash(self) -> Notional:
        """Micro-dollars to spend, less those that a person knows to be missing."""
        cash = self.ledger.cash if self.ledger is not None else 0
        return Notional(max(cash + min(self.offsets.get(CASH, 0), 0), 0))

    def buys_open(self) -> Notional:
        """Micro-dollars that all open buys could still spend."""
        return Notional(sum(o.notional_open for o in self.orders.working() if o.side is Side.BUY))

    def cost_held(self) -> Notional:
        """Micro-dollars paid for everything held; an oversold token takes nothing off the others."""
        if self.ledger is None:
            return Notional(0)
        return Notional(sum(max(self.ledger.position(t).cost, 0) for t in self.ledger.tokens()))

    def fills_known_ns(self) -> Nanos:
        """Return the moment before which no fill and no settlement is missing; 0 = never asked.

        Reports reach back to the one before, so only a trade that has not settled keeps the moment further back: its
        end may have been told while nobody listened.
        """
        unsettled = self.unsettled_since_ns()
        return self.reported_ns if unsettled is None else Nanos(min(unsettled, self.reported_ns))

    def unsettled_since_ns(self) -> Nanos | None:
        """Return when the oldest trade still waited for was first heard of; None when there is none."""
        return self.ledger.unsettled_since_ns(self._given_up_ns(self.reported_ns)) if self.ledger is not None else None

    def take_report(self, requested_ns: Nanos) -> None:
        """Note that everything up to a moment is known, and name the trades that should have settled by then."""
        before_ns, self.reported_ns = self.reported_ns, requested_ns
        if self.ledger is None:
            return
        for trade_id in self.ledger.overdue(self._given_up_ns(before_ns), self._given_up_ns(requested_ns)):
            self.count("overdue")
            self.note(f"trade {trade_id} has not settled in {SETTLE_WITHIN_NS // (60 * NANOS_PER_S)} minutes: in doubt")

    def _given_up_ns(self, reported_ns: Nanos) -> Nanos:
        return Nanos(max(0, reported_ns - SETTLE_WITHIN_NS))

    def risk_facts(self, token_id: TokenId) -> RiskFacts | None:
        """Gather what the limits look at; None while the book, the ledger or what was there before is unknown."""
        top = self.tops.get(token_id)
        if top is None or self.ledger is None or token_id not in self.sighted:
            return None
        market = self.market_of[token_id]
        return RiskFacts(
            market=market,
            top=top,
            # What was there before the ledger is not ours to sell, but it is a risk all the same.
            held=Size(self.held(token_id) + max(self.offsets.get(token_id, 0), 0)),
            sellable=self.sellable(token_id),
            cost_held=self.cost_held(),
            buys_open=self.buys_open(),
            cash=self._cash(),
            rivals=self.orders.open_in(market.tokens),
            active_count=len(self.orders.active()),
        )

    def views(self, now_ns: Nanos) -> Iterator[AccountView]:
        """Make the view of every token for the strategies."""
        is_trading = self.mode is Mode.TRADING
        cash, exposure_room = self._cash(), max(self.limits.exposure_max - self.cost_held(), 0)
        for token_id in self.market_of:
            yield self._view(token_id, is_trading, cash, Notional(exposure_room), now_ns)

    def _view(
        self, token_id: TokenId, is_trading: bool, cash: Notional, exposure_room: Notional, now_ns: Nanos
    ) -> AccountView:
        ledger = self.ledger
        held = self.held(token_id)
        return AccountView(
            token_id=token_id,
            size=held,
            size_sellable=self._settled(token_id),
            entry=ledger.position(token_id).entry if ledger is not None and held > 0 else Price(0),
            room_buy=Size(max(self.limits.position_size_max - held - max(self.offsets.get(token_id, 0), 0), 0)),
            cash_free=Notional(min(cash, exposure_room)),
            is_trading=is_trading,
            at_ns=now_ns,
        )

    def snapshot(self, now_ns: Nanos) -> Snapshot:
        """Describe everything to people and judges."""
        ledger = self.ledger
        return Snapshot(
            mode=self.mode.value,
            halt_reason=self.halt_reason,
            exchange_takes=permit_text(self.exchange_mode) if is_restricted(self.exchange_mode, now_ns) else "",
            positions=tuple(self._rows()),
            orders=tuple(o.view() for o in self.orders.active()),
            cash=ledger.cash if ledger is not None else Notional(0),
            pnl=self.profit(),
            fees=ledger.fees if ledger is not None else Notional(0),
            counts=tuple(self.counts.items()),
            notes=tuple(self.notes),
            at_ns=now_ns,
        )

    def _rows(self) -> Iterator[PositionRow]:
        marks = self.marks()
        for token_id in self.market_of if self.ledger is not None else ():
            assert self.ledger is not None
            position = self.ledger.position(token_id)
            yield PositionRow(
                token_id=token_id,
                size=position.size,
                size_pending=position.size_pending,
                cost=position.cost,
                realized=position.realized,
                mark=marks.get(token_id, Price(0)),
            )
