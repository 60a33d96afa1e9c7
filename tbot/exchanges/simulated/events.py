"""What the exchange tells: public market events, private account events, and its records.

All are frozen snapshots; nothing handed out by the exchange changes afterwards. `exchange_ms` never falls from one
operation to the next within a market; several may share a millisecond, as on production, and `step` tells those of one
operation from those of the next (0 = shown again by no operation). A book is the state after its operation. A print
bears a later time, and is told then. `at_ns` is the moment of the operation.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from tbot.core.market import MarketId, TokenId
from tbot.core.messages import ExchangeOrderId, Level, Message, OrderState, OrderType, Settlement, Side, TradeId
from tbot.core.units import Nanos, Notional, Price, Size
from tbot.exchanges.simulated.operations import Account, EndReason, MarketRules


class MatchKind(StrEnum):
    """How a taker met a maker."""

    NORMAL = "NORMAL"  # BUY X with SELL X: tokens and collateral change hands
    MINT = "MINT"  # BUY YES with BUY NO: a pair is made from the collateral of both
    MERGE = "MERGE"  # SELL YES with SELL NO: a pair is turned into collateral for both


class MakerLeg(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One resting order's part of a trade.

    Attributes:
        token_id: Token of the maker's order; the opposite of the taker's in mint and merge.
        price: The maker's own limit price.
        size: Micro-shares.
        notional: What the maker gave or got, rounded against him: ceil(size x price) paid by a buying, floor(size x
            price) received by a selling maker. Makers pay no fee.
        taker_notional: The taker's side of this leg: equal in a normal match, size - notional in mint and merge.
        owner: API key that sent the order, "" = none.
    """

    order_id: ExchangeOrderId
    account: Account
    token_id: TokenId
    side: Side
    price: Price
    size: Size
    notional: Notional
    taker_notional: Notional
    kind: MatchKind
    owner: str = ""


class Trade(msgspec.Struct, frozen=True, kw_only=True):
    """One trade: a taker order against all makers it met at once, in one transaction. Raw material of every audit.

    Attributes:
        trade_id: UUID text made from a counter.
        token_id: The taker's token.
        side: The taker's side.
        price: Price of the taker's token, 1 - maker price in mint and merge; of several prices their average by size,
            rounded down to millionths.
        size: Sum over legs.
        notional: Sum of the legs' `taker_notional`, before fee.
        fee: Charged to the taker in collateral: on top of a buy, out of the proceeds of a sale.
        matched_ns: Moment of the match.
        settlement: Where it stands.
        history: Every settlement status with its moment, MATCHED first.
        taker_owner: API key that sent the taker's order, "" = none.
    """

    trade_id: TradeId
    market_id: MarketId
    taker_order_id: ExchangeOrderId
    taker_account: Account
    token_id: TokenId
    side: Side
    price: Price
    size: Size
    notional: Notional
    fee: Notional
    legs: tuple[MakerLeg, ...]
    exchange_ms: int
    matched_ns: Nanos
    settlement: Settlement
    history: tuple[tuple[Settlement, Nanos], ...]
    taker_owner: str = ""


class OrderView(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One order as it stands.

    Attributes:
        size: Target in shares; 0 for a FAK/FOK BUY, which has a budget.
        budget: Target in collateral; 0 for all others.
        size_matched: Cumulative shares; kept after a cancel, and after a trade of it failed.
        reason: Why it was cancelled.
        trade_ids: Its trades, in order.
        owner: API key that sent it, "" = none.
    """

    order_id: ExchangeOrderId
    account: Account
    market_id: MarketId
    token_id: TokenId
    side: Side
    price: Price
    size: Size
    budget: Notional
    order_type: OrderType
    is_post_only: bool
    expires_ns: Nanos
    created_ns: Nanos
    state: OrderState
    size_matched: Size
    reason: EndReason
    trade_ids: tuple[TradeId, ...]
    owner: str = ""


class BookView(msgspec.Struct, frozen=True, kw_only=True):
    """The whole book of one token with every input of Polymarket's book hash.

    Attributes:
        bids: Best first.
        asks: Best first.
        exchange_ms: Moment of the book's last change.
        last_trade_text: Last trade price of the market, which is that of its last maker in his own token, with at least
            three decimals; "" before the first.
        last_trade_side: Side of its taker; None before the first.
        last_price: The same price, of this token.
    """

    market_id: MarketId
    token_id: TokenId
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    exchange_ms: int
    tick: Price
    size_min: Size
    is_neg_risk: bool
    last_trade_text: str
    last_trade_side: Side | None = None
    last_price: Price | None = None


class Balances(msgspec.Struct, frozen=True, kw_only=True):
    """An account as the exchange counts it for trading: what goes out counts when matched, what comes in when MINED.

    Attributes:
        cash: Collateral that can be spent.
        tokens: (token, size that can be sold), every token of every market in listing order.
        cash_pending: Collateral from matched sales not yet MINED.
        tokens_pending: (token, size bought and not yet MINED).
        cash_leaving: Collateral of matched buys not yet MINED.
        tokens_leaving: (token, size sold and not yet MINED).
    """

    cash: Notional
    tokens: tuple[tuple[TokenId, Size], ...]
    cash_pending: Notional
    tokens_pending: tuple[tuple[TokenId, Size], ...]
    cash_leaving: Notional
    tokens_leaving: tuple[tuple[TokenId, Size], ...]

    @property
    def cash_settled(self) -> Notional:
        """Collateral on chain: nothing that is matched and not MINED has moved there."""
        return Notional(self.cash + self.cash_leaving)

    @property
    def tokens_settled(self) -> tuple[tuple[TokenId, Size], ...]:
        """(token, size on chain), in the order of `tokens`."""
        leaving = dict(self.tokens_leaving)
        return tuple((token, Size(size + leaving[token])) for token, size in self.tokens)


# --- market events ---------------------------------------------------------------------------------------------------


class LevelChange(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The new total at one price of one token; size 0 = level gone.

    Attributes:
        best_bid: Of this token after the whole operation; None = no bid.
        best_ask: Likewise.
    """

    token_id: TokenId
    side: Side
    price: Price
    size: Size
    best_bid: Price | None
    best_ask: Price | None


class LevelsChanged(Message, frozen=True, kw_only=True):
    """Every level one operation changed, each change told for both outcomes (YES first, then its mirror)."""

    market_id: MarketId
    changes: tuple[LevelChange, ...]
    exchange_ms: int
    at_ns: Nanos
    step: int = 0


class BookShown(Message, frozen=True, kw_only=True):
    """The whole book of one token, sent for both outcomes after each operation that traded."""

    market_id: MarketId
    book: BookView
    exchange_ms: int
    at_ns: Nanos
    step: int = 0


class TradePrinted(Message, frozen=True, kw_only=True):
    """What a public trade took at one price, told in the taker's token, some milliseconds after its level changed."""

    market_id: MarketId
    token_id: TokenId
    price: Price
    size: Size
    taker_side: Side
    trade_id: TradeId
    exchange_ms: int
    at_ns: Nanos
    step: int = 0


class TickChanged(Message, frozen=True, kw_only=True):
    """The price grid of both outcomes changed; a `BookShown` of both follows."""

    market_id: MarketId
    tokens: tuple[TokenId, TokenId]
    tick_old: Price
    tick: Price
    exchange_ms: int
    at_ns: Nanos
    step: int = 0


class TopChanged(Message, frozen=True, kw_only=True):
    """Best bid and ask of a market, told after each operation that traded or changed one of them.

    Attributes:
        best_bid: Of the YES token; None = no bid.
        best_ask: Likewise.
    """

    market_id: MarketId
    yes: TokenId
    no: TokenId
    best_bid: Price | None
    best_ask: Price | None
    exchange_ms: int
    at_ns: Nanos
    step: int = 0


class MarketOpened(Message, frozen=True, kw_only=True):
    """A market was listed."""

    market_id: MarketId
    rules: MarketRules
    exchange_ms: int
    at_ns: Nanos
    step: int = 0


class MarketResolved(Message, frozen=True, kw_only=True):
    """A market is over; one YES pays `yes_payout`, one NO the rest of a dollar."""

    market_id: MarketId
    yes_payout: Price
    exchange_ms: int
    at_ns: Nanos
    step: int = 0


CustomEvent = TopChanged | MarketOpened | MarketResolved
"""Told only to subscribers that asked for custom features."""

MarketEvent = LevelsChanged | BookShown | TradePrinted | TickChanged | CustomEvent

# --- account events --------------------------------------------------------------------------------------------------


class OrderChange(StrEnum):
    """What an order event reports."""

    PLACEMENT = "PLACEMENT"
    UPDATE = "UPDATE"
    UNMATCHED = "UNMATCHED"  # its taker delay ended without a match: it rests now
    CANCELLATION = "CANCELLATION"


class OrderChanged(Message, frozen=True, kw_only=True):
    """One of the account's orders was placed, matched (cumulative `size_matched`) or cancelled."""

    account: Account
    change: OrderChange
    order: OrderView
    exchange_ms: int
    at_ns: Nanos


class TradeChanged(Message, frozen=True, kw_only=True):
    """A trade in which the account takes part reached a settlement status; told once per status and account."""

    account: Account
    trade: Trade
    exchange_ms: int
    at_ns: Nanos


AccountEvent = OrderChanged | TradeChanged
Event = MarketEvent | AccountEvent
