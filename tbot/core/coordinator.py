"""Sole owner of order truth: `absorb(message, now)`, then `decide(now) -> commands`.

`absorb` takes a message in, `decide` says what to do about everything known, and every decision is applied to our own
state as the command it returns. So the journal of absorbed facts and returned commands rebuilds the state exactly:
replay is `absorb` for facts and `apply` for commands. A restart is facts too: `recover` absorbs what a crash means for
each order and returns it for the journal, so that a replay over several lives walks the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, assert_never

from tbot.core import drift
from tbot.core.account import Account, CoordinatorState
from tbot.core.decide import COMMANDS_MAX, OPERATOR, TAKE_LEVEL, decide, serves, wake_ns
from tbot.core.exchange_mode import believed_wait_s, mode_accepted, mode_refused
from tbot.core.messages import (
    Accepted,
    AccountGap,
    CancelAll,
    Canceled,
    CancelOrder,
    CancelRefused,
    Command,
    ExchangeReport,
    Fact,
    Fill,
    Flatten,
    Halt,
    LimitLearned,
    MarketChanged,
    Message,
    OrderState,
    OrderUpdate,
    OutcomeUnknown,
    Prepared,
    Quotes,
    RejectCode,
    Rejected,
    RequestReport,
    ResendOrder,
    Resume,
    Settlement,
    Stop,
    SubmitOrder,
    Take,
    Throttled,
    TopOfBook,
    TradeId,
    TradeStatus,
    Withdraw,
)
from tbot.core.orders import (
    LISTED_TWICE,
    Order,
    OrderEvent,
    Orders,
    OrderStatus,
    crash_facts,
    order_from_command,
    shares,
)
from tbot.core.reconcile import Correction, corrections, foreign_orders
from tbot.core.refusals import describe_shortfall, halt_reason, held_until_ns
from tbot.core.resend import apply_resend, hear_doubt
from tbot.core.units import NANOS_PER_MS, NANOS_PER_S, Nanos, Notional, Size

CANCEL_RETRY_NS = 2 * NANOS_PER_S
TAKES_MAX = 16
# A flatten order that found no buyer is tried again after this.
FLATTEN_EVERY_NS = NANOS_PER_S

State = TopOfBook | Quotes | MarketChanged


class Coordinator:
    """Composes orders, ledger, limits and plan. No clock, no socket, no await."""

    def __init__(self, account: Account, *, epoch: int) -> None:
        """Start in RECOVERING; `recover` must be called once before the first decision.

        Args:
            account: Restored state.
            epoch: Number of this incarnation, part of every client order id so that none is used twice.
        """
        self.account = account
        self.epoch = epoch
        self.recovering_since_ns = Nanos(0)
        self.report_asked_ns = Nanos(0)
        self._absorbers: dict[type[Any], Callable[[Any, Nanos], None]] = {
            Accepted: self._accepted,
            AccountGap: self._account_gap,
            CancelAll: self._cancel_all,
            CancelRefused: self._cancel_refused,
            Canceled: self._canceled,
            ExchangeReport: self._report,
            Fill: self._fill,
            Flatten: self._flatten,
            Halt: self._halt,
            LimitLearned: lambda message, _: self.account.afford(message.open_orders_max),
            MarketChanged: self._market_changed,
            OrderUpdate: self._order_update,
            OutcomeUnknown: self._outcome_unknown,
            Prepared: self._prepared,
            Quotes: self._quotes,
            Rejected: self._rejected,
            Resume: self._resume,
            Stop: self._stop,
            Take: self._take,
            Throttled: self._throttled,
            TopOfBook: self._top,
            TradeStatus: self._trade_status,
            Withdraw: self._withdraw,
        }

    @property
    def orders(self) -> Orders:
        """Every order we remember."""
        return self.account.orders

    @property
    def is_quiet(self) -> bool:
        """Whether no order of ours can be on the exchange."""
        return not any(order.is_active for order in self.orders)

    def absorb(self, message: Fact | State, now_ns: Nanos) -> None:
        """Take one message in; repeated and late messages change nothing twice."""
        self._absorbers[type(message)](message, now_ns)

    def decide(
        self, now_ns: Nanos, *, cancels_max: int = COMMANDS_MAX, submits_max: int = COMMANDS_MAX
    ) -> tuple[Command, ...]:
        """Return the commands for what is known now, already applied to our own state.

        Args:
            now_ns: Wall clock.
            cancels_max: Free places in the dispatcher's cancel lane; what does not fit is decided again next turn.
            submits_max: Likewise for submits.
        """
        return tuple(decide(self, now_ns, cancels_max=cancels_max, submits_max=submits_max))

    def wake_ns(self, now_ns: Nanos) -> Nanos:
        """Return the next moment at which `decide` may say something new without a message."""
        return wake_ns(self, now_ns)

    def apply(self, command: Command, now_ns: Nanos) -> None:
        """Book a decision into our own state, at the moment it was made or when it is replayed."""
        match command:
            case SubmitOrder():
                self._apply_submit(command)
            case ResendOrder():
                if (order := self.orders.of_client(command.client_order_id)) is not None:
                    apply_resend(order, command)
                    self.account.count("resent")
            case CancelOrder():
                self._apply_cancel(command, now_ns)
            case Halt():
                self._halt(command, now_ns)
            case RequestReport():
                self.report_asked_ns = command.at_ns
            case _:
                assert_never(command)

    def replay(self, message: Message, now_ns: Nanos) -> None:
        """Rebuild state from one journal record."""
        if isinstance(message, SubmitOrder | ResendOrder | CancelOrder | RequestReport):
            self.apply(message, now_ns)
        elif not isinstance(message, TopOfBook | Quotes | MarketChanged):  # causing views are in the journal for people
            self._absorbers[type(message)](message, now_ns)

    def recover(self, prepared: Sequence[Prepared], now_ns: Nanos) -> tuple[Fact, ...]:
        """Begin a new life after a replay: what was in flight when we died is in doubt, what was not signed never was.

        Takes die with the life that asked for them; the strategies say anew what they want.

        Args:
            prepared: Every submit made durable since before the checkpoint.
            now_ns: Wall clock; reports asked for before it do not count.

        Returns:
            The facts absorbed by this, in order; they belong into the journal before anything else.
        """
        self.account.is_recovering = True
        self.account.is_stopping = False
        self.recovering_since_ns = now_ns
        self.report_asked_ns = Nanos(0)
        facts: list[Fact] = []
        for fact in self._aftermath(prepared, now_ns):
            self.absorb(fact, now_ns)
            facts.append(fact)
        return tuple(facts)

    def state(self) -> CoordinatorState:
        """Copy out what a checkpoint needs."""
        return self.account.state()

    def _aftermath(self, prepared: Sequence[Prepared], now_ns: Nanos) -> Iterator[Fact]:
        # Yielded one by one and absorbed between: an order prepared here is in doubt a moment later.
        for record in prepared:
            order = self.orders.of_client(record.client_order_id)
            if order is not None and order.exchange_order_id is None:
                yield record
        for order in self.orders.active():
            yield from crash_facts(order, now_ns)
        for strategy in dict.fromkeys(take.strategy for take in self.account.takes):
            yield Withdraw(strategy=strategy, at_ns=now_ns)

    # Commands, applied.

    def _apply_submit(self, command: SubmitOrder) -> None:
        self.orders.add(order_from_command(command))
        self.account.next_order += 1
        self.account.count("submitted")
        if command.strategy == OPERATOR:
            key = (command.strategy, command.token_id, command.side)
            self.account.holds[key] = Nanos(command.at_ns + FLATTEN_EVERY_NS)
        elif command.slot_level == TAKE_LEVEL:
            served = next((take for take in self.account.takes if serves(command, take)), None)
            if served is not None:
                self.account.takes.remove(served)

    def _apply_cancel(self, command: CancelOrder, now_ns: Nanos) -> None:
        order = self.orders.of_client(command.client_order_id)
        if order is None:
            return
        order.was_unknown = order.status is OrderStatus.UNKNOWN
        order.step(OrderEvent.SEND_CANCEL)
        order.cancel_after_ns = Nanos(now_ns + CANCEL_RETRY_NS)

    # Operator.

    def _halt(self, message: Halt, _: Nanos) -> None:
        self.account.halt(message.reason, message.at_ns, message.profit)

    def _resume(self, message: Resume, _: Nanos) -> None:
        self.account.resume(message.profit)
        drift.accept(self.account, dict(message.accepted))

    def _cancel_all(self, _: CancelAll, __: Nanos) -> None:
        for order in self.orders.active():
            order.is_doomed = True

    def _flatten(self, message: Flatten, _: Nanos) -> None:
        self.account.halt("flatten", message.at_ns)
        self.account.flatten_ticks = message.slippage_ticks

    def _stop(self, _: Stop, __: Nanos) -> None:
        self.account.is_stopping = True

    # Strategies and feed.

    def _quotes(self, message: Quotes, _: Nanos) -> None:
        if message.token_id in self.account.market_of:
            self.account.quotes[message.strategy, message.token_id] = message

    def _withdraw(self, message: Withdraw, _: Nanos) -> None:
        for key in [k for k in self.account.quotes if k[0] == message.strategy]:
            del self.account.quotes[key]
        self.account.takes[:] = [t for t in self.account.takes if t.strategy != message.strategy]

    def _take(self, message: Take, now_ns: Nanos) -> None:
        takes = self.account.takes
        takes[:] = [t for t in takes if t.deadline_ns >= now_ns]
        if len(takes) < TAKES_MAX and message.token_id in self.account.market_of:
            takes.append(message)
        else:
            self.account.refuse("takes")

    def _top(self, message: TopOfBook, _: Nanos) -> None:
        if message.token_id not in self.account.market_of:
            return
        self.account.tops[message.token_id] = message
        if message.best_bid is not None:
            self.account.bids_seen[message.token_id] = message.best_bid

    def _market_changed(self, message: MarketChanged, _: Nanos) -> None:
        self.account.relist(message.market, message.at_ns)

    # Dispatcher.

    def _prepared(self, message: Prepared, _: Nanos) -> None:
        order = self.orders.of_client(message.client_order_id)
        if order is None or order.exchange_order_id is not None:
            return
        self.orders.name(order, message.exchange_order_id)
        order.prepared_ns, order.body = message.at_ns, message.body
        order.fact_ns = message.at_ns
        order.step(OrderEvent.PREPARE)

    def _accepted(self, message: Accepted, _: Nanos) -> None:
        order = self.orders.of_client(message.client_order_id)
        if order is None:
            return
        order.is_resending = False
        self._mark_accepted(order)
        self._step(order, OrderEvent.ACCEPT, message.at_ns)
        before = self.account.exchange_mode
        is_post_only, sent_ns = not order.is_immediate, order.sent_ns
        after = mode_accepted(before, is_post_only=is_post_only, sent_ns=sent_ns, at_ns=message.at_ns)
        if self.account.enter_mode(after) and before.is_probed:
            self.report_asked_ns = Nanos(0)  # the engine is back: what stands there now?

    def _rejected(self, message: Rejected, _: Nanos) -> None:
        order = self.orders.of_client(message.client_order_id)
        if order is None:
            return
        self._refused(message.code, message.retry_after_s, message.at_ns)  # true of the exchange, whatever the order is
        if message.code is RejectCode.DUPLICATE:
            self._step(order, OrderEvent.DOUBT, message.at_ns)  # these very bytes were taken before
        elif self._step(order, OrderEvent.REJECT, message.at_ns):
            order.reason = message.reason
            self.account.count("rejected")
            self.account.holds[order.strategy, order.token_id, order.side] = held_until_ns(message)
            self._read_refusal(message)

    def _canceled(self, message: Canceled, _: Nanos) -> None:
        order = self.orders.of_exchange(message.exchange_order_id)
        if order is not None:
            self._end(order, OrderEvent.CANCEL, message.at_ns)

    def _cancel_refused(self, message: CancelRefused, _: Nanos) -> None:
        order = self.orders.of_exchange(message.exchange_order_id)
        if order is not None:
            self._step(order, OrderEvent.REFUSE_CANCEL, message.at_ns)

    def _outcome_unknown(self, message: OutcomeUnknown, _: Nanos) -> None:
        order = self.orders.of_exchange(message.exchange_order_id)
        if order is None:
            return
        if not message.was_cancel:
            hear_doubt(order, message)
        if message.code is not None:
            self._refused(message.code, message.retry_after_s, message.at_ns)
        # Only a question still open turns into a doubt; an order seen since, or given up, is beyond this answer.
        asked = (OrderStatus.LIVE, OrderStatus.CANCELING) if message.was_cancel else (OrderStatus.PREPARED,)
        if order.status in asked and self._step(order, OrderEvent.DOUBT, message.at_ns):
            self.account.count("unknown")

    def _refused(self, code: RejectCode, retry_after_s: float, at_ns: Nanos) -> None:
        self.account.enter_mode(mode_refused(self.account.exchange_mode, code, retry_after_s, at_ns))

    def _read_refusal(self, message: Rejected) -> None:
        if reason := halt_reason(message):
            self.account.halt(reason, message.at_ns)
        if message.shortfall is not None:
            self.account.note(f"not enough balance: {describe_shortfall(message.shortfall)}")

    def _throttled(self, message: Throttled, _: Nanos) -> None:
        self._refused(message.code, message.retry_after_s, message.at_ns)
        order = self.orders.of_exchange(message.exchange_order_id)
        if order is None:
            return
        # The cancel never left, so the order is what it was before; that may have been a doubt.
        event = OrderEvent.REFUSE_CANCEL if order.was_unknown else OrderEvent.HOLD_CANCEL
        if self._step(order, event, message.at_ns):
            order.cancel_after_ns = Nanos(message.at_ns + int(believed_wait_s(message.retry_after_s) * NANOS_PER_S))

    # Exchange.

    def _account_gap(self, _: AccountGap, __: Nanos) -> None:
        self.report_asked_ns = Nanos(0)  # ask again now; the reconciler also polls by itself

    def _order_update(self, message: OrderUpdate, _: Nanos) -> None:
        order = self.orders.of_exchange(message.exchange_order_id)
        if order is None:
            return
        self.orders.wake(order)
        order.size_claimed = Size(max(order.size_claimed, message.size_matched))
        if message.state in (OrderState.CANCELED, OrderState.INVALID):
            order.has_final_word = True
            self._end(order, OrderEvent.CANCEL, message.as_of_ns)
        elif message.state is OrderState.MATCHED and order.is_immediate:
            order.has_final_word = True  # whatever did not match at once is gone
        elif message.state is OrderState.LIVE and message.as_of_ns >= order.fact_ns:
            self._mark_accepted(order)
            self._step(order, OrderEvent.SEE_LIVE, message.as_of_ns)
        self._finish(order, message.as_of_ns)

    def _fill(self, message: Fill, now_ns: Nanos) -> None:
        ledger, order = self.account.ledger, self.orders.of_exchange(message.exchange_order_id)
        is_history = order is None and message.exchange_ms * NANOS_PER_MS < self.account.opened_ns
        if ledger is None or is_history:
            return  # from before this ledger; its cash is, or will be, in the opening balance
        if self.account.is_forgotten(message):
            return  # booked long ago
        self._settle(message.trade_id, message.settlement, now_ns)  # first: a repeated fill may tell a reversal
        is_first = not ledger.has_fill(message.trade_id, message.exchange_order_id)
        if ledger.book(message):
            self.account.news_ns = now_ns
            self.account.count_fill(message, is_ours=order is not None)
            if order is not None:
                self._fill_order(order, message)
        elif is_first and order is not None:
            order.size_reversed = Size(order.size_reversed + message.size)  # its trade failed before we heard of it
            self._finish(order, message.received_ns)

    def _fill_order(self, order: Order, fill: Fill) -> None:
        order.size_filled = Size(order.size_filled + fill.size)
        order.notional_filled = Notional(order.notional_filled + fill.notional)
        order.size_claimed = Size(max(order.size_claimed, order.size_filled + order.size_reversed))
        order.fact_ns = Nanos(max(order.fact_ns, fill.received_ns))
        self._finish(order, order.fact_ns)
        if order.status is OrderStatus.LOST:
            self._step(order, OrderEvent.DOUBT, order.fact_ns)  # so it did land
        if order.is_beyond_target():
            reason = f"order {order.client_order_id} filled {shares(order.size_filled)} of {shares(order.size)}"
            self.account.halt(f"filled beyond target: {reason}", fill.received_ns)

    def _trade_status(self, message: TradeStatus, now_ns: Nanos) -> None:
        self._settle(message.trade_id, message.settlement, now_ns)

    def _settle(self, trade_id: TradeId, settlement: Settlement, now_ns: Nanos) -> None:
        ledger = self.account.ledger
        if ledger is None:
            return
        before = ledger.settlement_of(trade_id)
        for fill in ledger.settle(trade_id, settlement):
            self.account.count("reversed")
            self.account.note(f"trade {trade_id} failed on chain: {shares(fill.size)} shares undone")
            order = self.orders.of_exchange(fill.exchange_order_id)
            if order is not None:
                order.size_filled = Size(order.size_filled - fill.size)
                order.notional_filled = Notional(order.notional_filled - fill.notional)
                order.size_reversed = Size(order.size_reversed + fill.size)
        if ledger.settlement_of(trade_id) is not before:
            self.account.news_ns = now_ns

    # Reports.

    def _report(self, message: ExchangeReport, now_ns: Nanos) -> None:
        account = self.account
        if account.ledger is None and not account.open_ledger(message):
            return
        for fill in message.fills:
            self._fill(fill, now_ns)
        if message.requested_ns > account.reported_ns:  # told twice, absence would count twice
            before_ns = account.reported_ns
            account.take_report(message.requested_ns)
            for correction in corrections(message, self.orders, now_ns):
                self._correct(correction, message.requested_ns)
            account.counts["foreign_orders"] = len(foreign_orders(message, self.orders))
            account.sight(message)
            drift.compare(account, message, before_ns=before_ns)
        if account.is_recovering and message.requested_ns >= self.recovering_since_ns:
            account.is_recovering = False
        account.forget(now_ns)

    def _correct(self, correction: Correction, requested_ns: Nanos) -> None:
        order = correction.order
        self.orders.wake(order)
        order.missing = correction.missing
        order.absent = correction.absent
        order.size_claimed = correction.size_claimed
        order.has_final_word = correction.has_final_word
        if correction.still_listed == LISTED_TWICE > order.still_listed:
            self.account.note(f"order {order.client_order_id} is {order.status.value}, but listed as open")
        order.still_listed = correction.still_listed
        if correction.event is OrderEvent.CANCEL:
            self._end(order, OrderEvent.CANCEL, requested_ns)
        elif correction.event is not None and order.step(correction.event):
            order.fact_ns = requested_ns
            order.reason = correction.reason
            self.account.count("corrected")
            if order.status is OrderStatus.LIVE:
                self._mark_accepted(order)
        self._finish(order, requested_ns)

    # Shared steps.

    def _step(self, order: Order, event: OrderEvent, at_ns: Nanos) -> bool:
        """Step the machine and note when; a step that changes nothing is no news either."""
        if not order.step(event):
            return False
        order.fact_ns = Nanos(max(order.fact_ns, at_ns))
        if order.status is OrderStatus.LIVE:
            order.missing = order.absent = 0
        return True

    def _end(self, order: Order, event: OrderEvent, at_ns: Nanos) -> None:
        if self._step(order, event, at_ns):
            self.account.count("filled" if event is OrderEvent.FILL_UP else "canceled")

    def _finish(self, order: Order, at_ns: Nanos) -> None:
        event = order.ending
        if event is not None:
            self._end(order, event, at_ns)

    def _mark_accepted(self, order: Order) -> None:
        if not order.was_accepted:
            order.was_accepted = True
            self.account.count("accepted")
