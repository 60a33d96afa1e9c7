"""The exchange's events and answers as the bot's messages. Pure; the one place where both vocabularies meet."""

from __future__ import annotations

import msgspec

from tbot.core.market import FeeSchedule, Market, TokenId, fee_taker_floor
from tbot.core.messages import (
    Accepted,
    AccountEvent,
    BookDelta,
    BookSnapshot,
    Canceled,
    CancelRefused,
    CancelReply,
    ExchangeOrderId,
    Fill,
    MarketEvent,
    OpenOrder,
    OrderLookup,
    OrderUpdate,
    OutcomeUnknown,
    RejectCode,
    Rejected,
    Role,
    SubmitReply,
    Throttled,
    TickSizeChanged,
    TradePrint,
)
from tbot.core.units import Nanos, Notional, Size
from tbot.exchanges.gateway import PreparedOrder
from tbot.exchanges.simulated.checks import CLOSED_MODES, MODE_TEXTS
from tbot.exchanges.simulated.events import AccountEvent as TheirAccountEvent
from tbot.exchanges.simulated.events import (
    BookShown,
    BookView,
    LevelsChanged,
    MarketOpened,
    MarketResolved,
    OrderChanged,
    OrderView,
    TickChanged,
    TopChanged,
    Trade,
    TradeChanged,
    TradePrinted,
)
from tbot.exchanges.simulated.events import MarketEvent as TheirMarketEvent
from tbot.exchanges.simulated.modes import RETRY_RESTARTING_S
from tbot.exchanges.simulated.operations import Account, CancelResult, MarketRules, Mode, Placed, Refused

MODE_CODES = {
    Mode.RESTARTING: RejectCode.RESTARTING,
    Mode.POST_ONLY: RejectCode.POST_ONLY_MODE,
    Mode.CANCEL_ONLY: RejectCode.CANCEL_ONLY,
    Mode.DISABLED: RejectCode.TRADING_DISABLED,
}
"""What the bot calls a refusal that is the mode's."""

REJECT_CODES: tuple[tuple[str, RejectCode], ...] = (
    ("crosses book", RejectCode.POST_ONLY_WOULD_CROSS),
    ("not enough balance", RejectCode.NOT_ENOUGH_BALANCE),
    ("minimum tick size", RejectCode.OFF_GRID),
    ("lower than the minimum", RejectCode.TOO_SMALL),
    ("min size", RejectCode.TOO_SMALL),
    ("FAK order", RejectCode.NOT_FILLED),
    ("FOK orders", RejectCode.NOT_FILLED),
    ("not yet ready", RejectCode.MARKET_NOT_READY),
    # Of orders that were under way when the mode began.
    *((MODE_TEXTS[mode], code) for mode, code in MODE_CODES.items()),
)
"""Part of an error text -> what the bot calls it; the first row that fits counts."""

_CLOSED_CODES = {MODE_TEXTS[mode]: MODE_CODES[mode] for mode in CLOSED_MODES}

DUPLICATED = "Duplicated"


class Desk(msgspec.Struct, frozen=True, kw_only=True):
    """Whose view is translated.

    Attributes:
        tokens: Subscribed tokens; level changes of others are left out.
        fees: Fee schedule of each token's market.
    """

    account: Account
    tokens: tuple[TokenId, ...]
    fees: dict[TokenId, FeeSchedule]


def market_of(rules: MarketRules) -> Market:
    """Describe a market to the bot."""
    return Market(
        market_id=rules.market_id,
        slug=rules.slug,
        yes=rules.yes,
        no=rules.no,
        tick=rules.tick,
        size_min=rules.size_min,
        notional_min=rules.notional_min,
        fee=schedule_of(rules),
        is_neg_risk=rules.is_neg_risk,
        is_accepting_orders=rules.is_accepting_orders,
        is_closed=rules.is_closed,
        is_resolved=rules.yes_payout is not None,
    )


def schedule_of(rules: MarketRules) -> FeeSchedule:
    """Tell the taker fee of a market."""
    return FeeSchedule(rate_micro=rules.fee_rate_micro, exponent=rules.fee_exponent)


def snapshot_of(view: BookView, received_ns: Nanos) -> BookSnapshot:
    """Give a whole book."""
    return BookSnapshot(
        token_id=view.token_id,
        bids=view.bids,
        asks=view.asks,
        exchange_ms=view.exchange_ms,
        received_ns=received_ns,
        tick=view.tick,
        last_trade_text=view.last_trade_text,
    )


def market_events(desk: Desk, event: TheirMarketEvent, received_ns: Nanos) -> tuple[MarketEvent, ...]:
    """Translate one public event."""
    match event:
        case LevelsChanged():
            return _deltas(event, desk, received_ns)
        case BookShown():
            return (snapshot_of(event.book, received_ns),)
        case TradePrinted():
            return (
                TradePrint(
                    token_id=event.token_id,
                    price=event.price,
                    size=event.size,
                    taker_side=event.taker_side,
                    exchange_ms=event.exchange_ms,
                    received_ns=received_ns,
                ),
            )
        case TickChanged():
            return tuple(
                TickSizeChanged(
                    token_id=token_id, tick=event.tick, exchange_ms=event.exchange_ms, received_ns=received_ns
                )
                for token_id in event.tokens
                if token_id in desk.tokens
            )
        case TopChanged() | MarketOpened() | MarketResolved():
            return ()  # extras for those that asked for them; the bot knows all of it from the rest


def account_events(desk: Desk, event: TheirAccountEvent, received_ns: Nanos) -> tuple[AccountEvent, ...]:
    """Translate one private event."""
    match event:
        case OrderChanged():
            return (order_update(event.order, received_ns),)
        case TradeChanged():
            return fills_of(event.trade, desk, received_ns)


def order_update(order: OrderView, received_ns: Nanos) -> OrderUpdate:
    """Tell what became of one of our orders."""
    return OrderUpdate(
        exchange_order_id=order.order_id,
        token_id=order.token_id,
        state=order.state,
        size_matched=order.size_matched,
        as_of_ns=received_ns,
        reason=order.reason,
    )


def fills_of(trade: Trade, desk: Desk, received_ns: Nanos) -> tuple[Fill, ...]:
    """Give our share of a trade: one fill for each of our orders in it, on either side."""
    fills = [_taker_fill(trade, desk, received_ns)] if trade.taker_account == desk.account else []
    fills += [
        Fill(
            trade_id=trade.trade_id,
            exchange_order_id=leg.order_id,
            token_id=leg.token_id,
            side=leg.side,
            size=leg.size,
            notional=leg.notional,
            fee=Notional(0),
            role=Role.MAKER,
            settlement=trade.settlement,
            exchange_ms=trade.exchange_ms,
            received_ns=received_ns,
        )
        for leg in trade.legs
        if leg.account == desk.account
    ]
    return tuple(fills)


def open_order_of(order: OrderView) -> OpenOrder:
    """Describe a resting order."""
    return OpenOrder(
        exchange_order_id=order.order_id,
        token_id=order.token_id,
        side=order.side,
        price=order.price,
        size=order.size,
        size_matched=order.size_matched,
    )


def lookup_of(order_id: ExchangeOrderId, order: OrderView | None) -> OrderLookup:
    """Answer a question about one order id."""
    if order is None:
        return OrderLookup(exchange_order_id=order_id, state=None, size_matched=Size(0))
    return OrderLookup(exchange_order_id=order_id, state=order.state, size_matched=order.size_matched)


def submit_reply(reply: Placed | Refused, order: PreparedOrder, at_ns: Nanos) -> SubmitReply:
    """Translate the answer to a submit.

    "Duplicated" is no refusal: it proves that the same order arrived before, and it may rest.
    """
    client_order_id = order.client_order_id
    if isinstance(reply, Refused):
        if DUPLICATED in reply.text:
            return OutcomeUnknown(
                exchange_order_id=order.exchange_order_id,
                was_cancel=False,
                reason=reply.text,
                at_ns=at_ns,
                code=RejectCode.DUPLICATE,
            )
        code = next((code for part, code in REJECT_CODES if part in reply.text), RejectCode.OTHER)
        return Rejected(client_order_id=client_order_id, code=code, reason=reply.text, at_ns=at_ns)
    return Accepted(client_order_id=client_order_id, exchange_order_id=reply.order_id, state=reply.state, at_ns=at_ns)


def cancel_reply(order_id: ExchangeOrderId, result: CancelResult, at_ns: Nanos) -> CancelReply:
    """Translate the answer to a cancel of one id."""
    if order_id in result.canceled:
        return Canceled(exchange_order_id=order_id, at_ns=at_ns)
    text = dict(result.not_canceled)[order_id]
    # The mode began while the cancel was under way: the order may rest still.
    if (code := _CLOSED_CODES.get(text)) is not None:
        return Throttled(exchange_order_id=order_id, retry_after_s=RETRY_RESTARTING_S, at_ns=at_ns, code=code)
    return CancelRefused(exchange_order_id=order_id, reason=text, at_ns=at_ns)


def _deltas(event: LevelsChanged, desk: Desk, received_ns: Nanos) -> tuple[BookDelta, ...]:
    return tuple(
        BookDelta(
            token_id=change.token_id,
            side=change.side,
            price=change.price,
            size=change.size,
            exchange_ms=event.exchange_ms,
            received_ns=received_ns,
            best_bid=change.best_bid,
            best_ask=change.best_ask,
        )
        for change in event.changes
        if change.token_id in desk.tokens
    )


def _taker_fill(trade: Trade, desk: Desk, received_ns: Nanos) -> Fill:
    return Fill(
        trade_id=trade.trade_id,
        exchange_order_id=trade.taker_order_id,
        token_id=trade.token_id,
        side=trade.side,
        size=trade.size,
        notional=trade.notional,
        fee=fee_taker_floor(trade.price, trade.size, desk.fees[trade.token_id]),
        role=Role.TAKER,
        settlement=trade.settlement,
        exchange_ms=trade.exchange_ms,
        received_ns=received_ns,
    )
