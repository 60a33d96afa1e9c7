"""States: only the newest matters. Views of markets and accounts, exposure, snapshot."""

from __future__ import annotations

import msgspec

from tbot.core.market import Market, MarketId, TokenId
from tbot.core.messages.exchange import (
    Level,
)
from tbot.core.messages.vocabulary import (
    ClientOrderId,
    ExchangeOrderId,
    Message,
    Side,
    StrategyName,
)
from tbot.core.units import Nanos, Notional, Price, Size

# Market feed -> strategy, coordinator.


class MarketView(Message, frozen=True, kw_only=True):
    """What a strategy may know of one market, in YES space (the NO book is its mirror).

    Attributes:
        market_id: The market.
        market: Its terms in force; of these, the tick is the one below.
        bids: Best first, at most `DEPTH_LEVELS`, of the YES token.
        asks: Best first, of the YES token.
        tick: Current tick.
        is_stale: The book must not be acted on; the other fields are the last known.
        traded_buy: Running total of micro-shares bought by takers (YES space), never reset within a run.
        traded_sell: Running total sold by takers.
        exchange_ms: Newest exchange time in the book.
        at_ns: When the view was made.
    """

    market_id: MarketId
    market: Market
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    tick: Price
    is_stale: bool
    traded_buy: Size
    traded_sell: Size
    exchange_ms: int
    at_ns: Nanos


class TopOfBook(Message, frozen=True, kw_only=True):
    """What the coordinator must know of one token's market: limits, marks and health.

    Attributes:
        best_bid: None = no bid.
        best_ask: None = no ask.
        is_stale: Quotes on this token must be pulled.
    """

    token_id: TokenId
    best_bid: Price | None
    best_ask: Price | None
    tick: Price
    is_stale: bool
    at_ns: Nanos


class MarketChanged(Message, frozen=True, kw_only=True):
    """The terms on which a market trades from now on: fee, smallest order, whether it takes orders at all."""

    market: Market
    at_ns: Nanos


# Coordinator -> strategy, shell, checkpointer, ui.


class RestingOrder(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One of our orders as seen by strategies and the operator."""

    client_order_id: ClientOrderId
    exchange_order_id: ExchangeOrderId | None
    strategy: StrategyName
    token_id: TokenId
    side: Side
    price: Price
    size: Size
    size_filled: Size
    status: str
    created_ns: Nanos


class AccountView(Message, frozen=True, kw_only=True):
    """What a strategy may know of its own account in one token.

    Attributes:
        size: Shares held, confirmed and pending, micro-shares.
        size_sellable: Shares that can be sold now: settled, less those in open SELL orders of other strategies.
        entry: Average cost per share held, micro-dollars; 0 when flat.
        room_buy: Most micro-shares more that limits allow to buy; orders at rest are not counted against it.
        cash_free: Micro-dollars that may be spent: cash and exposure left; orders at rest are not counted against it.
        is_trading: False while recovering or halted.
    """

    token_id: TokenId
    size: Size
    size_sellable: Size
    entry: Price
    room_buy: Size
    cash_free: Notional
    is_trading: bool
    at_ns: Nanos


class OrderExposure(Message, frozen=True, kw_only=True):
    """State, one an order: it may rest on the exchange from now on; taken away when it surely does not.

    The desk's shell cancels what is left of these when the desk goes down.
    """

    exchange_order_id: ExchangeOrderId


class PositionRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One token of the bot's ledger, for reports: sizes in micro-shares, money in micro-dollars."""

    token_id: TokenId
    size: Size
    size_pending: Size
    cost: Notional
    realized: Notional
    mark: Price


class Snapshot(Message, frozen=True, kw_only=True):
    """The coordinator's whole state for people and judges; made when asked or once a second.

    Attributes:
        mode: RECOVERING, TRADING, HALTED, STOPPING or STOPPED.
        halt_reason: "" unless halted.
        exchange_takes: What the exchange lets us send now, and why: "nothing (restarting)"; "" = everything.
        cash: The ledger's collateral, micro-dollars.
        pnl: Realized plus unrealized, fees paid deducted, micro-dollars.
        counts: Counters of orders and fills, e.g. ("submitted", 12).
        notes: Newest findings worth a human's eye.
    """

    mode: str
    halt_reason: str
    exchange_takes: str
    positions: tuple[PositionRow, ...]
    orders: tuple[RestingOrder, ...]
    cash: Notional
    pnl: Notional
    fees: Notional
    counts: tuple[tuple[str, int], ...]
    notes: tuple[str, ...]
    at_ns: Nanos
