"""Orders and trades of an account as Polymarket spells them, by REST and on the user channel.

Types are what real records show: numbers as text, `created_at` a number by REST and text on the channel, seconds and
milliseconds where each belongs. Statuses come without the `ORDER_STATUS_` prefix of some documents: the official
client compares the bare word.
"""

from __future__ import annotations

import msgspec

from tbot.core.messages import OrderState, OrderType, Settlement, Side
from tbot.core.units import MICRO, NANOS_PER_S, Nanos, text_from_micro
from tbot.exchanges.simulated.checks import KILLS, TEXT_FAK, TEXT_FOK
from tbot.exchanges.simulated.events import MakerLeg, OrderChange, OrderChanged, OrderView, Trade, TradeChanged
from tbot.exchanges.simulated.operations import Account, CancelResult, EndReason, MarketRules, Placed
from tbot.exchanges.simulated.state import Directory
from tbot.exchanges.simulated.wire_books import transaction_hash
from tbot.exchanges.simulated.wire_markets import fee_bps_shown

_PLACED = {OrderState.LIVE: "live", OrderState.MATCHED: "matched"}

# Engine cancels carry their reason in the status word; every other end is a plain CANCELED.
_CANCELED = {
    EndReason.EXPIRED: "CANCELED_EXPIRED_ORDER",
    EndReason.NOT_ENOUGH_BALANCE: "CANCELED_NOT_ENOUGH_BALANCE",
    EndReason.MARKET_RESOLVED: "CANCELED_MARKET_RESOLVED",
    # Captured once, from an order that the exchange cancelled on the full hour (2026-03-24).
    EndReason.GAME_STARTED: "INVALID",
    EndReason.OFF_GRID: "INVALID",
}

_ON_CHAIN = frozenset({Settlement.MINED, Settlement.CONFIRMED})


class PlacedAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Answer to one posted order, also a refused leg of a batch. Amounts are decimals, "" when nothing matched."""

    error_msg: str = ""
    order_id: str = msgspec.field(name="orderID", default="")
    taking_amount: str = ""
    making_amount: str = ""
    status: str = ""
    transactions_hashes: tuple[str, ...] = ()
    trade_ids: tuple[str, ...] = msgspec.field(name="tradeIDs", default=())
    success: bool = True


class CancelAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to every kind of cancel."""

    canceled: tuple[str, ...]
    not_canceled: dict[str, str]


class OpenOrder(msgspec.Struct, frozen=True, kw_only=True):
    """One order by REST."""

    id: str
    status: str
    owner: str
    maker_address: str
    market: str
    asset_id: str
    side: Side
    original_size: str
    size_matched: str
    price: str
    outcome: str
    expiration: str
    order_type: OrderType
    associate_trades: tuple[str, ...]
    created_at: int


class OrderFrame(msgspec.Struct, frozen=True, kw_only=True):
    """One `order` event of the user channel."""

    event_type: str = "order"
    type: str
    id: str
    owner: str
    order_owner: str
    market: str
    asset_id: str
    outcome: str
    side: Side
    price: str
    original_size: str
    size_matched: str
    associate_trades: tuple[str, ...] | None
    order_type: OrderType
    expiration: str
    status: str
    maker_address: str
    created_at: str
    timestamp: str


class MakerOrder(msgspec.Struct, frozen=True, kw_only=True):
    """One resting order's part of a trade, in the maker's own token."""

    order_id: str
    owner: str
    maker_address: str
    matched_amount: str
    price: str
    fee_rate_bps: str
    asset_id: str
    outcome: str
    outcome_index: int
    side: Side


class TradeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One trade by REST, told from the taker's side; `trader_side` is the reader's role."""

    id: str
    taker_order_id: str
    market: str
    asset_id: str
    side: Side
    size: str
    fee_rate_bps: str
    price: str
    status: Settlement
    match_time: str
    match_time_nano: str
    last_update: str
    outcome: str
    bucket_index: int = 0
    owner: str
    maker_address: str
    transaction_hash: str
    trader_side: str
    maker_orders: tuple[MakerOrder, ...]


class TradeFrame(msgspec.Struct, frozen=True, kw_only=True):
    """One `trade` event of the user channel; the same trade is told again at each settlement status."""

    event_type: str = "trade"
    type: str = "TRADE"
    id: str
    status: Settlement
    taker_order_id: str
    market: str
    asset_id: str
    outcome: str
    side: Side
    size: str
    price: str
    fee_rate_bps: str
    bucket_index: int = 0
    owner: str
    trade_owner: str
    maker_address: str
    trader_side: str
    maker_orders: tuple[MakerOrder, ...]
    transaction_hash: str
    match_time: str
    last_update: str
    timestamp: str


def placed_answer(reply: Placed, side: Side) -> PlacedAnswer:
    """Answer an accepted order. Matched amounts are what was given (making) and received (taking), before fee."""
    if reply.state is OrderState.DELAYED:
        return delayed_answer(reply.order_id)
    money, shares = reply.notional_matched, reply.size_matched
    making, taking = (money, shares) if side is Side.BUY else (shares, money)
    return PlacedAnswer(
        order_id=reply.order_id,
        taking_amount=text_from_micro(taking) if shares else "",
        making_amount=text_from_micro(making) if shares else "",
        status="unmatched" if reply.is_unmatched else _PLACED[reply.state],
        trade_ids=reply.trade_ids,
    )


def refused_answer(text: str, order_id: str = "") -> PlacedAnswer:
    """Answer a refused order. One that was killed at the book is named nevertheless."""
    return PlacedAnswer(error_msg=text, order_id=order_id if text in KILLS else "", success=False)


def refused_alone(answer: PlacedAnswer) -> dict[str, str]:
    """Cut a refusal down to what a single order is answered (recorded of killed ones, 2026-07 to 2026-09)."""
    told = {"error": answer.error_msg, "orderID": answer.order_id}
    return {name: text for name, text in told.items() if text}


def delayed_answer(order_id: str) -> PlacedAnswer:
    """Answer an order that waits before it meets the book."""
    return PlacedAnswer(order_id=order_id, status="delayed", taking_amount="0", making_amount="0")


def blocked_answer(text: str) -> PlacedAnswer:
    """Answer a leg of a batch that was not taken (post-only mode): it claims success, and has no id. So production."""
    return PlacedAnswer(error_msg=text)


def cancel_answer(result: CancelResult) -> CancelAnswer:
    """Answer a cancel."""
    return CancelAnswer(canceled=result.canceled, not_canceled=dict(result.not_canceled))


def open_order(order: OrderView, directory: Directory) -> OpenOrder:
    """Show an order by REST."""
    return OpenOrder(
        id=order.order_id,
        status=status_word(order),
        owner=directory.owner(order.account, order.owner),
        maker_address=directory.address(order.account),
        market=order.market_id,
        asset_id=order.token_id,
        side=order.side,
        original_size=_original_size(order),
        size_matched=text_from_micro(order.size_matched),
        price=text_from_micro(order.price),
        outcome=directory.outcome(order.token_id),
        expiration=_seconds(order.expires_ns),
        order_type=order.order_type,
        associate_trades=order.trade_ids,
        created_at=order.created_ns // NANOS_PER_S,
    )


def order_frame(event: OrderChanged, directory: Directory) -> OrderFrame:
    """Make the frame of an order event."""
    order = event.order
    owner = directory.owner(order.account, order.owner)
    sentence = _killed_by(order)
    is_unmatched = event.change is OrderChange.UNMATCHED
    return OrderFrame(
        type="UPDATE" if is_unmatched else event.change.value,
        id=order.order_id,
        owner=owner,
        order_owner=owner,
        market=order.market_id,
        asset_id=order.token_id,
        outcome="" if sentence else directory.outcome(order.token_id),
        side=order.side,
        price=text_from_micro(order.price),
        original_size=_original_size(order),
        size_matched="" if sentence else text_from_micro(order.size_matched),
        associate_trades=order.trade_ids or (() if sentence else None),
        order_type=order.order_type,
        expiration=_seconds(order.expires_ns),
        status="UNMATCHED" if is_unmatched else status_word(order),
        maker_address=directory.address(order.account),
        created_at="" if sentence else _seconds(order.created_ns),
        timestamp=str(event.exchange_ms - event.exchange_ms % 1_000 if sentence else event.exchange_ms),
    )


def trade_record(trade: Trade, readers: tuple[Account, ...], directory: Directory, rules: MarketRules) -> TradeRecord:
    """Show a trade by REST to somebody who took part through one of the accounts given."""
    return TradeRecord(
        id=trade.trade_id,
        taker_order_id=trade.taker_order_id,
        market=trade.market_id,
        asset_id=trade.token_id,
        side=trade.side,
        size=text_from_micro(trade.size),
        fee_rate_bps=str(fee_bps_shown(rules)),
        price=text_from_micro(trade.price),
        status=trade.settlement,
        match_time=_seconds(trade.matched_ns),
        match_time_nano=str(trade.matched_ns),
        last_update=_seconds(trade.history[-1][1]),
        outcome=directory.outcome(trade.token_id),
        owner=directory.owner(trade.taker_account, trade.taker_owner),
        maker_address=directory.address(trade.taker_account),
        transaction_hash=_settled_hash(trade),
        trader_side=_role(trade, readers),
        maker_orders=tuple(_maker_order(leg, directory) for leg in trade.legs),
    )


def trade_frame(event: TradeChanged, directory: Directory, rules: MarketRules) -> TradeFrame:
    """Make the frame of a trade event. `owner` is the key of the reader's order, `trade_owner` that of the taker's."""
    record = trade_record(event.trade, (event.account,), directory, rules)
    return TradeFrame(
        id=record.id,
        status=record.status,
        taker_order_id=record.taker_order_id,
        market=record.market,
        asset_id=record.asset_id,
        outcome=record.outcome,
        side=record.side,
        size=record.size,
        price=record.price,
        fee_rate_bps=record.fee_rate_bps,
        owner=directory.owner(event.account, _sender(event)),
        trade_owner=record.owner,
        maker_address=record.maker_address,
        trader_side=record.trader_side,
        maker_orders=record.maker_orders,
        transaction_hash=record.transaction_hash,
        match_time=record.match_time,
        last_update=record.last_update,
        timestamp=str(event.exchange_ms),
    )


def status_word(order: OrderView) -> str:
    """Name the state of an order."""
    sentence = _killed_by(order)
    if sentence:
        return f"CANCELED_{sentence}"
    if order.state is OrderState.CANCELED:
        return _CANCELED.get(order.reason, "CANCELED")
    return order.state.value


# A FAK or FOK order that found nothing at the end of its taker delay: the user channel gives the whole sentence as its
# status, leaves half of the event empty and tells whole seconds (one captured FOK, nautilus_trader #3987, 2026-05; a
# FAK's sentence is among the statuses that live bots had to read, 2026-05).
def _killed_by(order: OrderView) -> str:
    if order.reason is not EndReason.KILLED or order.size_matched:
        return ""
    return TEXT_FOK if order.order_type is OrderType.FOK else TEXT_FAK


def _maker_order(leg: MakerLeg, directory: Directory) -> MakerOrder:
    return MakerOrder(
        order_id=leg.order_id,
        owner=directory.owner(leg.account, leg.owner),
        maker_address=directory.address(leg.account),
        matched_amount=text_from_micro(leg.size),
        price=text_from_micro(leg.price),
        fee_rate_bps="0",
        asset_id=leg.token_id,
        outcome=directory.outcome(leg.token_id),
        outcome_index=directory.outcome_index(leg.token_id),
        side=leg.side,
    )


def _sender(event: TradeChanged) -> str:
    trade = event.trade
    if event.account == trade.taker_account:
        return trade.taker_owner
    return next(leg.owner for leg in trade.legs if leg.account == event.account)


def _role(trade: Trade, readers: tuple[Account, ...]) -> str:
    return "TAKER" if trade.taker_account in readers else "MAKER"


# A hash appears with the block, as since the V2 exchange; a failed trade never gets one.
def _settled_hash(trade: Trade) -> str:
    return transaction_hash(trade.trade_id) if trade.settlement in _ON_CHAIN else ""


# What a budget order shows as its size is not documented; the shares its budget buys at the limit are a fair reading.
def _original_size(order: OrderView) -> str:
    return text_from_micro(order.size or order.budget * MICRO // order.price)


def _seconds(moment_ns: Nanos) -> str:
    return str(moment_ns // NANOS_PER_S)
