"""May this order be taken? The checks in their order, with the exact texts Polymarket answers (read 2026-11).

Each check looks at one `Candidate` and returns the text of the refusal, or "" when it has no objection.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from tbot.core.messages import OrderType, Side
from tbot.core.units import NANOS_PER_S, Nanos, Size, is_on_grid, notional_ceil, text_from_micro
from tbot.exchanges.simulated.operations import (
    CancelEvery,
    CancelOrders,
    EndReason,
    EngineSettings,
    Mode,
    PlaceOrder,
    SelfTrade,
)
from tbot.exchanges.simulated.orderbook import UnifiedBook, notional_of, shares_for
from tbot.exchanges.simulated.planning import MatchPlan

TEXT_MARKET_NOT_READY = "the market is not yet ready to process new orders"
TEXT_PAYLOAD = "Invalid order payload"
TEXT_POST_ONLY_MODE = "post-only mode: only post-only orders and cancels are allowed"
TEXT_CANCEL_ONLY = "Trading is currently cancel-only. New orders are not accepted, but cancels are allowed."
TEXT_DISABLED = "Trading is currently disabled. Check polymarket.com for updates"
TEXT_RESTARTING = "service not ready"
TEXT_CRASHED = "could not insert order"
TEXT_FAK = "no orders found to match with FAK order. FAK orders are partially filled or killed if no match is found."
TEXT_FOK = "order couldn't be fully filled. FOK orders are fully filled or killed."
TEXT_POST_ONLY = "invalid post-only order: order crosses book"
TEXT_POST_ONLY_TYPE = "invalid post-only order: only GTC and GTD orders can be post-only"
TEXT_SELF_TRADE = "order would match another order of the same account"
"""Our own words: production is not known to refuse this."""
TEXT_EXPIRATION = "invalid expiration"
TEXT_NOT_ENOUGH = "not enough balance / allowance: the {what} is not enough -> "
TEXT_BUDGET_PRECISION = (
    "invalid amounts, the market buy orders maker amount supports a max accuracy of 2 decimals,"
    " taker amount a max of 4 decimals"
)
TEXT_BUY_PRECISION = (
    "invalid amounts, the limit buy orders maker amount supports a max accuracy of 4 decimals,"
    " taker amount a max of 2 decimals"
)
TEXT_SELL_PRECISION = (
    "invalid amounts, the sell orders maker amount supports a max accuracy of 2 decimals,"
    " taker amount a max of 4 decimals"
)

SIZE_LOT = Size(10_000)
"""Order sizes have two decimals, and so have the budgets of FAK/FOK BUY orders."""

MODE_TEXTS = {
    Mode.RESTARTING: TEXT_RESTARTING,
    Mode.POST_ONLY: TEXT_POST_ONLY_MODE,
    Mode.CANCEL_ONLY: TEXT_CANCEL_ONLY,
    Mode.DISABLED: TEXT_DISABLED,
}
CLOSED_MODES = (Mode.RESTARTING, Mode.DISABLED)
"""In these not even cancels are looked at."""

IMMEDIATE = (OrderType.FAK, OrderType.FOK)

KILLS = frozenset({TEXT_FAK, TEXT_FOK})
"""Refusals of an order that came as far as the book and found nothing to take there."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """An order and everything its checks look at.

    Attributes:
        plan: What it would match now.
        is_duplicate: Whether its id was used before.
        balance: Available collateral for a BUY, available tokens for a SELL.
        mode: What the engine does at all now.
        matched: What of the same went out by trades not yet MINED; the balance told has it still.
        reserved: Bound by the account's open orders: buys of this market (or of all), or sells of this token.
        allowance: What the order's contract may still move of what it gives.
        spending: Needed of that by the account's open orders, of whichever market.
    """

    order: PlaceOrder
    book: UnifiedBook
    settings: EngineSettings
    now_ns: Nanos
    plan: MatchPlan
    is_duplicate: bool
    mode: Mode
    balance: int
    matched: int
    reserved: int
    allowance: int
    spending: int

    @property
    def has_budget(self) -> bool:
        """Whether the target is collateral."""
        return self.order.side is Side.BUY and self.order.order_type in IMMEDIATE


def refusal(candidate: Candidate) -> str:
    """Return the first objection, "" when the order may be taken."""
    for check in CHECKS:
        text = check(candidate)
        if text:
            return text
    return ""


def objection_after_hold(candidate: Candidate) -> tuple[str, EndReason] | None:
    """Look at an order again whose taker delay is over; None when it may go on.

    Returns:
        The text of the refusal, and how the order ends.
    """
    for check, reason in CHECKS_AFTER_HOLD:
        text = check(candidate)
        if text:
            return text, reason
    return None


def given_by(candidate: Candidate) -> int:
    """Tell what an order needs of its asset now: shares, or collateral with the fee of what it would take."""
    # A buyer's fee comes on top; without it an account at its limit would end below zero.
    return _amount(candidate.order) + (candidate.plan.fee if candidate.order.side is Side.BUY else 0)


def balance_text(*, balance: int, active: int, matched: int, amount: int, fee: int = 0) -> str:
    """Word the refusal of an order that its account cannot cover, as traders quote it (2026-05 to 2026-10).

    Two checks follow each other, by the numbers that were quoted: of the balance alone, then of what is left of it.

    Args:
        balance: On chain, what matched orders have bound included.
        active: Bound by open orders.
        matched: Bound by trades not yet settled.
        amount: Of the order without its fee.
        fee: What comes on top.
    """
    sums = f"order amount: {amount}" if amount > balance else _sums(active=active, matched=matched, needed=amount + fee)
    return f"{TEXT_NOT_ENOUGH.format(what='balance')}balance: {balance}, {sums}"


def allowance_text(candidate: Candidate) -> str:
    """Word the refusal of an order that its contract may not settle, as traders quote it (2026-04 to 2026-10).

    An approval of tokens is all or nothing, so no sums are told of a sale.
    """
    c, spender = candidate, candidate.order.spender
    told = f"{TEXT_NOT_ENOUGH.format(what='allowance')}spender: {spender}, allowance: {c.allowance}"
    sums = _sums(active=c.spending, matched=c.matched, needed=given_by(c))
    return told if c.order.side is Side.SELL else f"{told}, {sums}"


def objection_to_placing(order: PlaceOrder, mode: Mode) -> str:
    """Tell why an order is not even looked at now; "" = it is."""
    is_let_in = mode is Mode.NORMAL or (mode is Mode.POST_ONLY and order.is_post_only)
    return "" if is_let_in else MODE_TEXTS[mode]


def objection_to_cancelling(operation: CancelOrders | CancelEvery, mode: Mode) -> str:
    """Tell why nobody may cancel now; "" = all may. What the exchange cancels by itself is not asked."""
    is_own = operation.reason is not EndReason.USER
    return "" if is_own or mode not in CLOSED_MODES else MODE_TEXTS[mode]


def _mode(c: Candidate) -> str:
    return objection_to_placing(c.order, c.mode)


def _payload(c: Candidate) -> str:
    o = c.order
    amount, other = (o.budget, o.size) if c.has_budget else (o.size, o.budget)
    return TEXT_PAYLOAD if amount <= 0 or other != 0 else ""


# Of the order itself, so it comes before everything that depends on market and account.
def _post_only_type(c: Candidate) -> str:
    return TEXT_POST_ONLY_TYPE if c.order.is_post_only and c.order.order_type in IMMEDIATE else ""


def _market_open(c: Candidate) -> str:
    return "" if c.book.rules.is_accepting_orders else TEXT_MARKET_NOT_READY


def _price_on_grid(c: Candidate) -> str:
    tick = c.book.rules.tick
    if is_on_grid(c.order.price, tick):
        return ""
    price, step = text_from_micro(c.order.price), text_from_micro(tick)
    return f"order {c.order.order_id} is invalid. Price ({price}) breaks minimum tick size rule: {step}"


def _precision(c: Candidate) -> str:
    if c.has_budget:
        return TEXT_BUDGET_PRECISION if c.order.budget % SIZE_LOT else ""
    if c.order.size % SIZE_LOT == 0:
        return ""
    return TEXT_BUY_PRECISION if c.order.side is Side.BUY else TEXT_SELL_PRECISION


def _size_minimum(c: Candidate) -> str:
    size_min = c.book.rules.size_min
    is_exempt = c.order.order_type in IMMEDIATE and not c.settings.has_share_minimum_for_immediate
    shares = shares_for(c.order.budget, c.order.price) if c.has_budget else c.order.size
    if is_exempt or shares >= size_min:
        return ""
    size, least = text_from_micro(shares), text_from_micro(size_min)
    return f"order {c.order.order_id} is invalid. Size ({size}) lower than the minimum: {least}"


# The dollar minimum holds for every FAK/FOK and for a GTC/GTD BUY that crosses; a post-only order that crosses is
# refused for that.
def _marketable_minimum(c: Candidate) -> str:
    o, rules = c.order, c.book.rules
    crosses_as_buy = o.side is Side.BUY and bool(c.plan.matches) and not o.is_post_only
    value = o.budget if c.has_budget else notional_of(o.size, o.price)
    if not (o.order_type in IMMEDIATE or crosses_as_buy) or value >= rules.notional_min:
        return ""
    least = text_from_micro(rules.notional_min)
    return f"invalid amount for a marketable {o.side} order (${text_from_micro(value)}), min size: ${least}"


def _expiration(c: Candidate) -> str:
    expires_ns = c.order.expires_ns
    if c.order.order_type is not OrderType.GTD:
        return TEXT_EXPIRATION if expires_ns else ""
    # In whole seconds, as clients state it: exactly the least is enough (both SDKs, 2026-07-03).
    ahead_s = expires_ns // NANOS_PER_S - c.now_ns // NANOS_PER_S
    return "" if ahead_s * NANOS_PER_S >= c.settings.expiry_min_ns else TEXT_EXPIRATION


def _duplicate(c: Candidate) -> str:
    return f"order {c.order.order_id} is invalid. Duplicated." if c.is_duplicate else ""


def _balance(c: Candidate) -> str:
    given, amount = given_by(c), _amount(c.order)
    if given <= c.balance - c.reserved:
        return ""
    balance = c.balance + c.matched
    return balance_text(balance=balance, active=c.reserved, matched=c.matched, amount=amount, fee=given - amount)


def _allowance(c: Candidate) -> str:
    return "" if given_by(c) <= c.allowance - c.spending else allowance_text(c)


def _amount(order: PlaceOrder) -> int:
    return order.size if order.side is Side.SELL else order.budget or notional_ceil(order.price, order.size)


# Open orders are named when there are any, matched ones always.
def _sums(*, active: int, matched: int, needed: int) -> str:
    open_orders = f"sum of active orders: {active}, " if active else ""
    return f"{open_orders}sum of matched orders: {matched}, order amount (inc. fees): {needed}"


def _post_only(c: Candidate) -> str:
    return TEXT_POST_ONLY if c.order.is_post_only and c.plan.crosses else ""


def _immediate(c: Candidate) -> str:
    if c.order.order_type is OrderType.FAK and not c.plan.matches:
        return TEXT_FAK
    if c.order.order_type is OrderType.FOK and not c.plan.is_complete:
        return TEXT_FOK
    return ""


# Only what would be met counts: an order that is filled before it comes to its account's own may be taken.
def _self_trade(c: Candidate) -> str:
    if c.settings.self_trade is not SelfTrade.REJECT_NEWEST:
        return ""
    meets_own = any(match.maker.place.account == c.order.account for match in c.plan.matches)
    return TEXT_SELF_TRADE if meets_own else ""


CHECKS: tuple[Callable[[Candidate], str], ...] = (
    _mode,
    _payload,
    _post_only_type,
    _market_open,
    _price_on_grid,
    _precision,
    _size_minimum,
    _marketable_minimum,
    _expiration,
    _duplicate,
    _balance,
    _allowance,
    _post_only,
    _immediate,
    _self_trade,
)
"""In the order of polymarket's own list as far as it is known; the first objection is the answer."""

CHECKS_AFTER_HOLD: tuple[tuple[Callable[[Candidate], str], EndReason], ...] = (
    (_mode, EndReason.KILLED),
    (_market_open, EndReason.MARKET_PAUSED),  # a close has ended it already
    (_price_on_grid, EndReason.OFF_GRID),
    (_balance, EndReason.NOT_ENOUGH_BALANCE),
    (_allowance, EndReason.NOT_ENOUGH_BALANCE),
    (_immediate, EndReason.KILLED),
    (_self_trade, EndReason.SELF_TRADE),
)
"""What may have changed during a taker delay. The rest was checked when the order came and cannot have."""
