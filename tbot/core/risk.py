"""Pre-trade limits: an order is approved, or refused with a reason.

Risk is a function of the owner of order truth: check and commit happen in one call, or two orders pass one limit.
Unknown orders count fully. The exchange lets one dollar back many quotes; these limits do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from tbot.core.market import Market, TokenId, fee_taker_floor
from tbot.core.messages import OrderType, Side, StrategyName, TopOfBook
from tbot.core.orders import IMMEDIATE, Order, shares
from tbot.core.units import MICRO, Notional, Price, Size, is_on_grid, notional_ceil, text_from_micro


class RiskLimits(msgspec.Struct, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """Limits of one account, in millionths.

    Attributes:
        order_size_max: Largest single order, micro-shares.
        position_size_max: Most micro-shares of one token, resting buys included.
        exposure_max: Micro-dollars at cost of everything held plus all resting buys filled at once.
        collar: Largest distance of a BUY above the best ask, or of a SELL below the best bid, micro-dollars.
        loss_max: Halt when profit since the last start of trading by hand falls below minus this, micro-dollars. No
            settings file can switch it off; 0, in tests, does.
        open_orders_max: Most orders that may rest; also keeps "cancel everything" affordable.
        order_life_s: Quotes end on the exchange by themselves so many seconds after they were decided, a net under a
            dead bot; 0 = they rest until cancelled. An exchange may take no short lives (see its capabilities).
    """

    order_size_max: Annotated[Size, Meta(gt=0)]
    position_size_max: Annotated[Size, Meta(gt=0)]
    exposure_max: Annotated[Notional, Meta(gt=0)]
    collar: Annotated[Price, Meta(ge=0, lt=MICRO)]
    loss_max: Annotated[Notional, Meta(gt=0)]
    open_orders_max: Annotated[int, Meta(ge=1, le=1_000)]
    order_life_s: Annotated[int, Meta(ge=0, le=86_400)] = 0


class Proposal(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An order somebody wants, before any check."""

    strategy: StrategyName
    token_id: TokenId
    side: Side
    price: Price
    size: Size
    order_type: OrderType
    is_post_only: bool
    slot_level: int
    reason: str


class RiskFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the limits look at, for the market of one proposal.

    Attributes:
        top: Top of the proposal's own token.
        held: Micro-shares of the token, pending ones included.
        sellable: Settled micro-shares that no open SELL has promised away.
        cost_held: Micro-dollars paid for everything held on the account; what was sold short takes nothing off.
        buys_open: Micro-dollars of all open buys of the account.
        cash: Micro-dollars of the ledger.
        rivals: Our open orders of both tokens of this market.
        active_count: All active orders of the account.
    """

    market: Market
    top: TopOfBook
    held: Size
    sellable: Size
    cost_held: Notional
    buys_open: Notional
    cash: Notional
    rivals: Sequence[Order]
    active_count: int


class RiskApproved(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A proposal that passed every limit; nothing else can become a command."""

    proposal: Proposal


class Refused(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A proposal that did not pass.

    Attributes:
        limit: Which rule.
        detail: What was found, for a person.
    """

    limit: str
    detail: str


def check(proposal: Proposal, facts: RiskFacts, limits: RiskLimits) -> RiskApproved | Refused:
    """Hold a proposal against every limit, in order of cost; the first that fails names itself."""
    for rule in (_market_rules, _book_rules, _self_cross, _order_count):
        refusal = rule(proposal, facts, limits)
        if refusal is not None:
            return refusal
    room = _buy_room if proposal.side is Side.BUY else _sell_room
    refusal = room(proposal, facts, limits)
    return refusal if refusal is not None else RiskApproved(proposal=proposal)


def _market_rules(p: Proposal, facts: RiskFacts, limits: RiskLimits) -> Refused | None:
    market = facts.market
    if not market.is_accepting_orders:
        return Refused(limit="market_closed", detail=market.slug)
    if not is_on_grid(p.price, facts.top.tick):
        return Refused(limit="off_grid", detail=f"{text_from_micro(p.price)} on {text_from_micro(facts.top.tick)}")
    # The share minimum is for orders that rest; an immediate one has the dollar minimum, so dust can still be sold.
    least = market.size_lot if p.order_type in IMMEDIATE else market.size_min
    if p.size < least or p.size % market.size_lot:
        return Refused(limit="size_min", detail=f"{shares(p.size)} of at least {shares(least)}")
    if p.size > limits.order_size_max:
        return Refused(limit="order_size_max", detail=f"{shares(p.size)} > {shares(limits.order_size_max)}")
    if not p.is_post_only and notional_ceil(p.price, p.size) < market.notional_min:
        return Refused(limit="notional_min", detail=text_from_micro(notional_ceil(p.price, p.size)))
    return None


def _book_rules(p: Proposal, facts: RiskFacts, limits: RiskLimits) -> Refused | None:
    top = facts.top
    if top.is_stale:
        return Refused(limit="stale_book", detail=p.token_id)
    if p.side is Side.BUY and top.best_ask is not None:
        if p.is_post_only and p.price >= top.best_ask:
            return Refused(limit="would_take", detail=text_from_micro(top.best_ask))
        if p.price > top.best_ask + limits.collar:
            return Refused(limit="collar", detail=text_from_micro(top.best_ask))
    if p.side is Side.SELL and top.best_bid is not None:
        if p.is_post_only and p.price <= top.best_bid:
            return Refused(limit="would_take", detail=text_from_micro(top.best_bid))
        if p.price < top.best_bid - limits.collar:
            return Refused(limit="collar", detail=text_from_micro(top.best_bid))
    return None


class Leg(NamedTuple):
    """What decides whether two orders would trade: token, side and limit."""

    token_id: TokenId
    side: Side
    price: Price


def crosses(market: Market, one: Leg, two: Leg) -> bool:
    """Tell whether two orders of ours would trade with each other, over both outcomes of one market.

    BUY at p meets our SELL of the same token at or below p, and our BUY of the other token at or above 1 - p.
    """
    if one.token_id not in market.tokens or two.token_id not in market.tokens:
        return False
    same_token = one.token_id == two.token_id
    if same_token == (one.side is two.side):
        return False
    if same_token:
        return one.price >= two.price if one.side is Side.BUY else one.price <= two.price
    total = one.price + two.price
    return total >= MICRO if one.side is Side.BUY else total <= MICRO


def leg_of(order: Order | Proposal) -> Leg:
    """Give the leg of an order at its own limit."""
    return Leg(order.token_id, order.side, order.price)


def _self_cross(p: Proposal, facts: RiskFacts, _: RiskLimits) -> Refused | None:
    for order in facts.rivals:
        # Two immediate orders never meet: neither rests. So both legs of an arbitrage may go at once.
        may_meet = order.is_active and not (order.is_immediate and p.order_type in IMMEDIATE)
        if may_meet and crosses(facts.market, leg_of(p), leg_of(order)):
            return Refused(limit="self_cross", detail=order.client_order_id)
    return None


def _order_count(_: Proposal, facts: RiskFacts, limits: RiskLimits) -> Refused | None:
    if facts.active_count >= limits.open_orders_max:
        return Refused(limit="open_orders_max", detail=str(facts.active_count))
    return None


def _buy_room(p: Proposal, facts: RiskFacts, limits: RiskLimits) -> Refused | None:
    resting = sum(o.size_open for o in facts.rivals if o.token_id == p.token_id and o.side is Side.BUY)
    position = facts.held + resting + _size_at_most(p, facts.top)
    if position > limits.position_size_max:
        return Refused(limit="position_size_max", detail=shares(position))
    wanted = notional_ceil(p.price, p.size)
    if not p.is_post_only:
        wanted = Notional(wanted + fee_taker_floor(p.price, p.size, facts.market.fee))
    exposure = facts.cost_held + facts.buys_open + wanted
    if exposure > limits.exposure_max:
        return Refused(limit="exposure_max", detail=text_from_micro(exposure))
    if facts.buys_open + wanted > facts.cash:
        return Refused(limit="cash", detail=text_from_micro(facts.cash - facts.buys_open))
    return None


def _size_at_most(p: Proposal, top: TopOfBook) -> int:
    """An immediate BUY spends its budget: below its limit it gets more shares than asked for."""
    if p.order_type not in IMMEDIATE or top.best_ask is None or top.best_ask >= p.price:
        return p.size
    return -(-p.size * p.price // top.best_ask)


def _sell_room(p: Proposal, facts: RiskFacts, _: RiskLimits) -> Refused | None:
    if p.size > facts.sellable:
        return Refused(limit="sellable", detail=f"{shares(p.size)} of {shares(facts.sellable)}")
    return None
