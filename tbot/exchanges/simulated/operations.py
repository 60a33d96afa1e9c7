"""What one can do to the exchange: every state change is one of these values.

`Engine.apply(operation, now_ns)` is the only way to change the engine, so an append-only log of (now_ns, operation),
applied again to a fresh engine, gives the same engine. That is how the local exchange outlives a killed process.

Units as everywhere: prices micro-dollars, sizes micro-shares, cash micro-dollars, times Unix nanoseconds.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, NewType

import msgspec
from msgspec import Meta

from tbot.core.market import MarketId, TokenId
from tbot.core.messages import ExchangeOrderId, Message, OrderState, OrderType, Side, TradeId
from tbot.core.units import MICRO, NANOS_PER_MS, NANOS_PER_S, Nanos, Notional, Price, Size
from tbot.exchanges.simulated.contracts import AssetType

Account = NewType("Account", str)

EVER = Nanos(0)
"""Before everything that happened."""

ANY_MARKET = MarketId("")
ANY_TOKEN = TokenId("")
ANY_OWNER = ""


class Course(StrEnum):
    """How the settlement of a trade goes: decided with the operation that makes the trade."""

    CONFIRM = "CONFIRM"  # MATCHED, MINED, CONFIRMED
    RETRY = "RETRY"  # MATCHED, RETRYING, MINED, CONFIRMED
    FAIL = "FAIL"  # MATCHED, RETRYING, FAILED: a ghost fill
    STUCK = "STUCK"  # MATCHED, RETRYING, and never more


class EndReason(StrEnum):
    """Why an order ended without being filled."""

    NONE = ""
    USER = "USER"
    KILLED = "KILLED"  # remainder of a FAK order
    EXPIRED = "EXPIRED"
    NOT_ENOUGH_BALANCE = "NOT_ENOUGH_BALANCE"
    MARKET_RESOLVED = "MARKET_RESOLVED"
    MARKET_PAUSED = "MARKET_PAUSED"  # its market took no orders when a taker delay released it
    HEARTBEAT = "HEARTBEAT"
    GAME_STARTED = "GAME_STARTED"
    OFF_GRID = "OFF_GRID"  # the tick changed while a taker delay held the order
    SELF_TRADE = "SELF_TRADE"  # it would have met an order of its own account


class FeeRounding(StrEnum):
    """How a fee comes to five decimals of a dollar."""

    FLOOR = "floor"
    HALF_UP = "half_up"
    HALF_EVEN = "half_even"


class SelfTrade(StrEnum):
    """What happens when an order would meet one of its own account."""

    ALLOW = "allow"
    REJECT_NEWEST = "reject_newest"
    CANCEL_OLDEST = "cancel_oldest"


class Mode(StrEnum):
    """What is allowed now."""

    NORMAL = "normal"
    RESTARTING = "restarting"  # nothing: 425
    POST_ONLY = "post_only"  # post-only orders and cancels, for a while after each restart
    CANCEL_ONLY = "cancel_only"
    DISABLED = "disabled"  # not even cancels


class MarketRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One binary market as the exchange knows it.

    Attributes:
        slug: Short human name; may hold anything, as on the real exchange.
        tick: Smallest price step; a dollar is a whole number of them.
        size_min: Smallest GTC/GTD order.
        notional_min: Smallest marketable order.
        fee_rate_micro: Taker fee rate in millionths: size x rate x (p x (1 - p)) ** exponent.
        fee_exponent: Exponent of p x (1 - p).
        rebate_share_micro: Share of the taker fees that is told to go back to makers, in millionths; nothing is paid.
            Production's is 0.2 for crypto, 0.15 for sports, else 0.25.
        is_accepting_orders: False while paused and once closed.
        is_paused: Whether it takes no orders only for a while; its orders rest on.
        yes_payout: What one YES pays once the market is resolved, the rest of a dollar goes to NO; None before. Only a
            closed market has one.
        event: Slug of the neg-risk event it is one outcome of, exactly one of which wins; "" = stands alone.
        seconds_delay: How long an order that would take is held before it may, its sender being answered at once
            (sports).
        taker_delay_ms: Likewise, but its sender waits for the outcome (fast crypto and finance markets). A market has
            one of the two at most.
        game_start_s: When the game starts, Unix seconds; 0 = there is no game.
        clears_book_at_start: Whether all open orders are cancelled when the game starts.
    """

    market_id: Annotated[MarketId, Meta(min_length=1)]
    slug: Annotated[str, Meta(min_length=1, max_length=200)]
    yes: Annotated[TokenId, Meta(min_length=1)]
    no: Annotated[TokenId, Meta(min_length=1)]
    tick: Annotated[Price, Meta(gt=0, le=MICRO // 2)] = Price(10_000)
    size_min: Annotated[Size, Meta(gt=0)] = Size(5 * MICRO)
    notional_min: Annotated[Notional, Meta(ge=0)] = Notional(MICRO)
    fee_rate_micro: Annotated[int, Meta(ge=0, le=MICRO)] = 0
    fee_exponent: Annotated[int, Meta(ge=0, le=4)] = 1
    rebate_share_micro: Annotated[int, Meta(ge=0, le=MICRO)] = 250_000
    is_neg_risk: bool = False
    is_accepting_orders: bool = True
    is_paused: bool = False
    yes_payout: Annotated[Price, Meta(ge=0, le=MICRO)] | None = None
    event: str = ""
    seconds_delay: Annotated[int, Meta(ge=0, le=60)] = 0
    taker_delay_ms: Annotated[int, Meta(ge=0, le=5_000)] = 0
    game_start_s: Annotated[int, Meta(ge=0, le=9_000_000_000)] = 0
    clears_book_at_start: bool = False

    @property
    def tokens(self) -> tuple[TokenId, TokenId]:
        """Both tokens, YES first."""
        return self.yes, self.no

    @property
    def is_closed(self) -> bool:
        """Whether trading is over; until it is resolved the staff may open it again."""
        return not (self.is_accepting_orders or self.is_paused)

    @property
    def taker_delay_ns(self) -> int:
        """How long an order that would take is held; 0 = not at all."""
        return self.seconds_delay * NANOS_PER_S or self.taker_delay_ms * NANOS_PER_MS

    def __post_init__(self) -> None:
        """Refuse a market that cannot be traded."""
        if self.tick <= 0 or MICRO % self.tick:
            raise ValueError("tick must divide a dollar into whole steps")
        if self.yes == self.no:
            raise ValueError("yes and no must be two tokens")
        if self.seconds_delay and self.taker_delay_ms:
            raise ValueError("seconds_delay and taker_delay_ms exclude each other: keep one")
        if self.is_paused and self.is_accepting_orders:
            raise ValueError("a paused market takes no orders")
        if self.yes_payout is not None and not self.is_closed:
            raise ValueError("yes_payout is of a closed market: it needs is_accepting_orders = false, and no is_paused")
        if self.clears_book_at_start and not self.game_start_s:
            raise ValueError("clears_book_at_start needs game_start_s")


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Timing of the engine, nanoseconds, what is not known of production, and its memory.

    Attributes:
        mined_after_ns: From match to MINED; from then on bought tokens can be sold.
        confirmed_after_ns: From match to CONFIRMED.
        retry_after_ns: From match to RETRYING when the first transaction fails; MINED or FAILED follow as much later.
        expiry_margin_ns: A GTD order dies this long before its stated expiration.
        expiry_min_ns: The stated expiration must be at least this far ahead.
        has_tick_change: Whether a market on a cent grid goes to a tenth of a cent near 0 and 1.
        has_tick_return: Whether it goes back to cents once its price has left the edge. Not documented.
        has_share_minimum_for_immediate: Whether FAK and FOK orders too must be of `size_min` shares at their limit. One
            example of the documentation reads so; traders do trade $1 lots below five shares.
        has_kill_events: Whether the user channel also tells of a FAK or FOK order that is killed as it comes in. Only
            events of orders that had been accepted, and were held, are recorded.
        has_global_reservation: Whether a dollar backs the buys of one market only; False = of each market once.
        self_trade: What becomes of an order that would meet one of its own account. No rule is documented.
        fee_rounding: Of the taker's fee. Documented is only that it is rounded; floor agrees with fees charged.
        resolution_delay_ns: From the operation that resolves a market, which closes it at once, to its payout.
        crowd_kept_ns: How long orders that are over, trades and movements of the synthetic crowd alone are remembered.
        clients_kept_ns: How long those in which somebody else took part are; 0 = for ever.
        clients_kept_max: How many of those orders, and of those trades, at most; 0 = any number.
    """

    mined_after_ns: int = 2_000_000_000
    confirmed_after_ns: int = 5_000_000_000
    retry_after_ns: int = 4_000_000_000
    expiry_margin_ns: int = 60_000_000_000
    expiry_min_ns: int = 180_000_000_000
    has_tick_change: bool = True
    has_tick_return: bool = False
    has_share_minimum_for_immediate: bool = False
    has_kill_events: bool = False
    has_global_reservation: bool = False
    self_trade: SelfTrade = SelfTrade.ALLOW
    fee_rounding: FeeRounding = FeeRounding.FLOOR
    resolution_delay_ns: Annotated[int, Meta(ge=0)] = 0
    crowd_kept_ns: Annotated[int, Meta(ge=60_000_000_000)] = 1_800_000_000_000
    clients_kept_ns: Annotated[int, Meta(ge=0)] = 86_400_000_000_000
    clients_kept_max: Annotated[int, Meta(ge=0)] = 100_000


# --- operations ------------------------------------------------------------------------------------------------------


class OpenMarket(Message, frozen=True, kw_only=True):
    """List a market; orders are taken from now on."""

    rules: MarketRules


class CloseMarket(Message, frozen=True, kw_only=True):
    """Stop taking orders, cancel all that rest and end all that a delay holds."""

    market_id: MarketId


class PauseMarket(Message, frozen=True, kw_only=True):
    """Take no orders for a while; those that rest stay, and may be cancelled.

    One that a delay holds stays held and, if the market is not open again by then, ends when it is released.
    """

    market_id: MarketId


class ReopenMarket(Message, frozen=True, kw_only=True):
    """Take orders again in a market that was paused or closed; refused once it was resolved."""

    market_id: MarketId


class ResolveMarket(Message, frozen=True, kw_only=True):
    """Close a market for good and say what its tokens are worth; a second time is refused.

    Attributes:
        yes_payout: What one YES pays; one NO pays the rest of a dollar.
    """

    market_id: MarketId
    yes_payout: Annotated[Price, Meta(ge=0, le=MICRO)]


class ChangeTick(Message, frozen=True, kw_only=True):
    """Change the price grid of both outcomes; resting orders stay as they are."""

    market_id: MarketId
    tick: Price


class Deposit(Message, frozen=True, kw_only=True):
    """Bring collateral into an account; negative withdraws, at most what is not bound in unsettled trades."""

    account: Account
    cash: Notional


class SplitPair(Message, frozen=True, kw_only=True):
    """Turn collateral into as many YES and NO tokens, settled at once."""

    account: Account
    market_id: MarketId
    size: Size


class MergePair(Message, frozen=True, kw_only=True):
    """Turn YES and NO tokens back into collateral, settled at once."""

    account: Account
    market_id: MarketId
    size: Size


class RedeemTokens(Message, frozen=True, kw_only=True):
    """Turn all spendable tokens of a resolved market into what they pay; losing ones into nothing."""

    account: Account
    market_id: MarketId


class ConvertPositions(Message, frozen=True, kw_only=True):
    """Turn NO of some outcomes of a neg-risk event into YES of all others, settled at once.

    NO of k outcomes pays k - 1 dollars whatever happens, and one more unless one of the k wins: that is what the YES of
    the others pay. So `size` of each becomes `size` YES of every other outcome and (k - 1) x `size` of collateral.

    Attributes:
        market_ids: Whose NO is given, at least one; all of one event.
    """

    account: Account
    market_ids: tuple[MarketId, ...]
    size: Size


class PlaceOrder(Message, frozen=True, kw_only=True):
    """Place one order.

    Attributes:
        order_id: Given by the caller, the hash of the signed order on Polymarket; a second use is refused.
        price: Limit, or the worst price of a FAK/FOK order.
        size: Shares: the target of GTC, GTD and every SELL; 0 for FAK/FOK BUY.
        budget: Collateral a FAK/FOK BUY may spend; 0 for all others.
        expires_ns: Stated expiration of a GTD order, 0 for all others.
        course: How the trades made by this order at once will settle.
        owner: API key that sent it; "" = it came without one.
        spender: Exchange contract that is to move what it gives; "" = it is not signed and needs no approval.
        delay_ns: If it would take, how long it is held before it may, its sender being answered at once; 0 = as its
            market says.
    """

    account: Account
    order_id: ExchangeOrderId
    token_id: TokenId
    side: Side
    price: Price
    size: Size = Size(0)
    budget: Notional = Notional(0)
    order_type: OrderType = OrderType.GTC
    is_post_only: bool = False
    expires_ns: Nanos = EVER
    course: Course = Course.CONFIRM
    owner: str = ""
    spender: str = ""
    delay_ns: Annotated[int, Meta(ge=0)] = 0


class Approve(Message, frozen=True, kw_only=True):
    """Let a contract move so much of an account's asset from now on, and no more.

    Attributes:
        spender: Address of the contract.
        amount: Base units as decimal digits, of up to 256 bits as on chain; of tokens all or none.
    """

    account: Account
    asset: AssetType
    spender: str
    amount: str


class CancelOrders(Message, frozen=True, kw_only=True):
    """Cancel orders of one account by id; ids of others are answered as not found.

    Attributes:
        reason: USER, or why the exchange itself does it.
    """

    account: Account
    order_ids: tuple[ExchangeOrderId, ...]
    reason: EndReason = EndReason.USER


class CancelEvery(Message, frozen=True, kw_only=True):
    """Cancel every open order of an account, or those of one market or token.

    Attributes:
        market_id: `ANY_MARKET` = all markets.
        token_id: `ANY_TOKEN` = both outcomes.
        reason: USER, or HEARTBEAT when the dead-man switch did it.
        owner: API key that sent them; `ANY_OWNER` = whichever.
    """

    account: Account
    market_id: MarketId = ANY_MARKET
    token_id: TokenId = ANY_TOKEN
    reason: EndReason = EndReason.USER
    owner: str = ANY_OWNER


class ChangeMode(Message, frozen=True, kw_only=True):
    """Restrict what the engine does from now on, or lift that."""

    mode: Mode


class Advance(Message, frozen=True, kw_only=True):
    """Do nothing but what time does: settlement steps and expiries due until now."""


Operation = (
    OpenMarket
    | CloseMarket
    | PauseMarket
    | ReopenMarket
    | ResolveMarket
    | ChangeTick
    | Deposit
    | SplitPair
    | MergePair
    | RedeemTokens
    | ConvertPositions
    | Approve
    | PlaceOrder
    | CancelOrders
    | CancelEvery
    | ChangeMode
    | Advance
)

# --- replies ---------------------------------------------------------------------------------------------------------


class Placed(Message, frozen=True, kw_only=True):
    """The order was taken.

    Attributes:
        state: LIVE when it rests untouched, MATCHED when anything matched at once, DELAYED while it is held.
        size_matched: Shares matched at once.
        notional_matched: Collateral matched at once, before fee.
        trade_ids: Trades made at once.
        is_unmatched: It was held in order to take, found nothing left, and rests.
    """

    order_id: ExchangeOrderId
    state: OrderState
    size_matched: Size = Size(0)
    notional_matched: Notional = Notional(0)
    trade_ids: tuple[TradeId, ...] = ()
    is_unmatched: bool = False


class Refused(Message, frozen=True, kw_only=True):
    """Nothing happened; the text is what Polymarket answers in this case."""

    text: str


class CancelResult(Message, frozen=True, kw_only=True):
    """What became of a cancel: ids cancelled, and (id, reason) of those that could not be."""

    canceled: tuple[ExchangeOrderId, ...]
    not_canceled: tuple[tuple[ExchangeOrderId, str], ...] = ()


class Done(Message, frozen=True, kw_only=True):
    """The operation took effect and has no other answer."""


Reply = Placed | Refused | CancelResult | Done
