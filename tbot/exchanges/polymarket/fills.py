"""Our orders and trades: their words to ours. Pure.

Whose part of a trade is ours: as taker the top level; as maker only those `maker_orders` that name our API key or our
wallet, each with its own token, side and price. A trade of two of our own orders gives both. The key alone would not
do: an order outlives the key that sent it, and moves the wallet's money whichever key is used next.

What a fill was worth, exactly as on chain: a maker's leg trades at the maker's own price, and its counter amount is
floor(size x price). The taker pays or gets the same in a normal leg; in a mint or merge leg (the maker's token is the
other outcome) the pair is worth one dollar a share, so the taker's part is size - floor(size x maker price), at most a
micro-dollar above what his own price says. Trades that list no legs, or not all, are valued floor(size x price).

All of it is whole millionths on chain. A number with more decimals is an average of several prices, or was a float on
the way, and is read to the nearest millionth: no fill of ours is worth losing for its digits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from tbot.core.market import TokenId
from tbot.core.messages import (
    AccountEvent,
    AccountGap,
    ExchangeOrderId,
    Fill,
    OpenOrder,
    OrderLookup,
    OrderState,
    OrderUpdate,
    Role,
    Settlement,
    Side,
    TradeId,
    TradeStatus,
)
from tbot.core.units import NANOS_PER_MS, Nanos, Notional, Price, Size, notional_ceil, notional_floor
from tbot.errors import BadFrame
from tbot.exchanges.polymarket.translate import ms_from_text, price_nearest_from_text, size_nearest_from_text
from tbot.exchanges.polymarket.wire import MakerOrder, OrderFrame, OrderRow, TradeRow

FILLED_WITHIN = 10_000  # the exchange takes an order as filled when less than 0.01 share is missing

ORDER_STATES: dict[str, OrderState] = {
    "LIVE": OrderState.LIVE,
    "UNMATCHED": OrderState.LIVE,  # its taker delay ended without a match: it was put on the book
    "MATCHED": OrderState.MATCHED,
    "DELAYED": OrderState.DELAYED,
    "INVALID": OrderState.INVALID,
}
# Answers of POST /order; "matched" may be partial, which amounts tell later.
PLACEMENT_STATES: dict[str, OrderState] = {
    name.lower(): state for name, state in ORDER_STATES.items() if name != "INVALID"
}
SETTLEMENTS: dict[str, Settlement] = {
    "MATCHED": Settlement.MATCHED,
    "MATCHED_NOT_BROADCASTED": Settlement.MATCHED,
    "MINED": Settlement.MINED,
    "CONFIRMED": Settlement.CONFIRMED,
    "RETRYING": Settlement.RETRYING,
    "FAILED": Settlement.FAILED,
}

FeeOf = Callable[[TokenId, Price, Size], Notional]


class Ownership(msgspec.Struct, frozen=True, kw_only=True):
    """What marks a maker order as ours.

    Attributes:
        api_key: Owner of orders sent with our credentials.
        wallet: Lower-case address of the wallet that pays; "" = not known.
    """

    api_key: str
    wallet: str

    def has(self, order: MakerOrder) -> bool:
        """Tell whether a maker order is ours."""
        if order.owner and order.owner == self.api_key:
            return True
        return bool(self.wallet) and (order.maker_address or "").lower() == self.wallet


def order_events(frame: OrderFrame, received_ns: Nanos) -> tuple[AccountEvent, ...]:
    """Translate a pushed order; an unknown status asks for a report instead.

    Raises:
        BadFrame: A number that cannot be.
    """
    state = OrderState.CANCELED if frame.type == "CANCELLATION" else order_state(frame)
    if state is None:
        return (AccountGap(reason=f"order status {frame.status[:40]!r}", received_ns=received_ns),)
    return (
        OrderUpdate(
            exchange_order_id=ExchangeOrderId(frame.id),
            token_id=frame.asset_id,
            state=state,
            size_matched=matched_size(frame),
            as_of_ns=received_ns,
            reason=frame.status[:120] if state is OrderState.CANCELED else "",
        ),
    )


def order_state(row: OrderRow) -> OrderState | None:
    """Say where an order stands; None for a word we do not know.

    A resting order is finished by its amounts, not by the word MATCHED, which is also used for a partial match.

    Raises:
        BadFrame: A number that cannot be.
    """
    word = row.status.upper().removeprefix("ORDER_STATUS_")
    if word.startswith("CANCELED"):
        return OrderState.CANCELED
    state = ORDER_STATES.get(word or "LIVE")
    rests = row.order_type not in ("FAK", "FOK")
    if rests and state in (OrderState.LIVE, OrderState.MATCHED):
        return OrderState.MATCHED if _is_filled(row) else OrderState.LIVE
    return state


def matched_size(row: OrderRow) -> Size:
    """Return the cumulative size matched; a killed order says "".

    Raises:
        BadFrame: Not a size.
    """
    return size_nearest_from_text(row.size_matched) if row.size_matched else Size(0)


def open_order(row: OrderRow) -> OpenOrder:
    """Translate a row of the list of open orders.

    Raises:
        BadFrame: A number that cannot be.
    """
    return OpenOrder(
        exchange_order_id=ExchangeOrderId(row.id),
        token_id=row.asset_id,
        side=row.side,
        price=price_nearest_from_text(row.price),
        size=size_nearest_from_text(row.original_size),
        size_matched=matched_size(row),
    )


def order_lookup(order_id: ExchangeOrderId, row: OrderRow | None) -> OrderLookup:
    """Translate the answer about one id; None = they do not know it.

    A status we do not know counts as LIVE: the order exists, and believing it open is the careful reading.

    Raises:
        BadFrame: A number that cannot be.
    """
    if row is None:
        return OrderLookup(exchange_order_id=order_id, state=None, size_matched=Size(0))
    state = order_state(row) or OrderState.LIVE
    return OrderLookup(exchange_order_id=order_id, state=state, size_matched=matched_size(row))


def trade_events(trade: TradeRow, ours: Ownership, fee_of: FeeOf, received_ns: Nanos) -> tuple[AccountEvent, ...]:
    """Translate a pushed trade into our fills.

    A trade that does not say which part is ours still tells its settlement, and asks for a report.

    Raises:
        BadFrame: A number that cannot be.
    """
    fills = tuple(fills_of(trade, ours, fee_of, received_ns))
    if fills:
        return fills
    trade_id = TradeId(trade.id)
    return (
        TradeStatus(trade_id=trade_id, settlement=settlement_of(trade), received_ns=received_ns),
        AccountGap(reason=f"trade {trade.id[:40]} names no order of ours", received_ns=received_ns),
    )


def fills_of(trade: TradeRow, ours: Ownership, fee_of: FeeOf, received_ns: Nanos) -> Iterator[Fill]:
    """Yield our fills of one trade: the maker legs that are ours, then the taker's part if we were the taker.

    Args:
        trade: Pushed or listed.
        ours: What marks an order as ours.
        fee_of: Taker fee of a token at a price and size.
        received_ns: When our read returned.

    Raises:
        BadFrame: A number that cannot be.
    """
    made: dict[ExchangeOrderId, Fill] = {}
    for leg in trade.maker_orders or ():
        if ours.has(leg):
            fill = _maker_fill(trade, leg, received_ns)
            before = made.get(fill.exchange_order_id)
            made[fill.exchange_order_id] = fill if before is None else _sum(before, fill)
    yield from made.values()
    if was_taker(trade, ours):
        yield _taker_fill(trade, fee_of, received_ns)


def was_taker(trade: TradeRow, ours: Ownership) -> bool:
    """Tell whether a trade says for certain that we were its taker."""
    return trade.trader_side == "TAKER" or (not trade.trader_side and trade.owner == ours.api_key)


def settlement_of(trade: TradeRow) -> Settlement:
    """Say where a trade's settlement stands; a word we do not know claims the least, MATCHED."""
    return SETTLEMENTS.get(trade.status.upper().removeprefix("TRADE_STATUS_"), Settlement.MATCHED)


def _is_filled(row: OrderRow) -> bool:
    original = size_nearest_from_text(row.original_size)
    return original > 0 and original - matched_size(row) < FILLED_WITHIN


def _maker_fill(trade: TradeRow, leg: MakerOrder, received_ns: Nanos) -> Fill:
    side, size = leg.side or _maker_side(trade, leg), size_nearest_from_text(leg.matched_amount)
    return Fill(
        trade_id=TradeId(trade.id),
        exchange_order_id=ExchangeOrderId(leg.order_id),
        token_id=leg.asset_id,
        side=side,
        size=size,
        notional=_maker_notional(side, price_nearest_from_text(leg.price), size),
        fee=Notional(0),
        role=Role.MAKER,
        settlement=settlement_of(trade),
        exchange_ms=_matched_ms(trade, received_ns),
        received_ns=received_ns,
    )


# One trade may name an order of ours in several entries; a fill is known by trade and order, so it is all of them.
def _sum(one: Fill, other: Fill) -> Fill:
    size, notional = Size(one.size + other.size), Notional(one.notional + other.notional)
    return msgspec.structs.replace(one, size=size, notional=notional)


def _taker_fill(trade: TradeRow, fee_of: FeeOf, received_ns: Nanos) -> Fill:
    token_id, price, size = trade.asset_id, price_nearest_from_text(trade.price), size_nearest_from_text(trade.size)
    return Fill(
        trade_id=TradeId(trade.id),
        exchange_order_id=ExchangeOrderId(trade.taker_order_id),
        token_id=token_id,
        side=trade.side,
        size=size,
        notional=_taker_notional(trade, price, size),
        fee=fee_of(token_id, price, size),
        role=Role.TAKER,
        settlement=settlement_of(trade),
        exchange_ms=_matched_ms(trade, received_ns),
        received_ns=received_ns,
    )


def _maker_side(trade: TradeRow, leg: MakerOrder) -> Side:
    # Same token: they stood against each other. Other token: both bought (mint) or both sold (merge).
    return trade.side.opposite if leg.asset_id == trade.asset_id else trade.side


def _taker_notional(trade: TradeRow, price: Price, size: Size) -> Notional:
    legs = [
        (leg.asset_id == trade.asset_id, price_nearest_from_text(leg.price), size_nearest_from_text(leg.matched_amount))
        for leg in trade.maker_orders or ()
    ]
    if sum(leg_size for _, _, leg_size in legs) != size:
        return notional_floor(price, size)
    total = 0
    for is_same_token, leg_price, leg_size in legs:
        money = _maker_notional(trade.side.opposite if is_same_token else trade.side, leg_price, leg_size)
        total += money if is_same_token else leg_size - money
    return Notional(total)


# Exact to the unit: the contract counts a fill in what the maker gives and rounds what he gets down, so the shares a
# buying maker got tell what he gave, and that is never less than their price.
def _maker_notional(side: Side, price: Price, size: Size) -> Notional:
    return notional_ceil(price, size) if side is Side.BUY else notional_floor(price, size)


def _matched_ms(trade: TradeRow, received_ns: Nanos) -> int:
    # A fill must not be lost for want of a readable time: our own clock stands in.
    try:
        return ms_from_text(trade.timestamp or trade.match_time or trade.matchtime)
    except BadFrame:
        return received_ns // NANOS_PER_MS
