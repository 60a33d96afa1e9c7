"""Synthetic traders as functions: what each kind would do to one market now.

Every order is a direction on YES (up or down) and takes one of two forms: the order on YES or its mirror on NO. Both
forms are used, so that normal, mint and merge matches all happen.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterator
from typing import Annotated, Protocol

import msgspec

from tbot.core.market import MarketId, TokenId
from tbot.core.messages import ExchangeOrderId, OrderType, Side
from tbot.core.units import MICRO, Nanos, Notional, Price, Size, complement, is_on_grid, price_clamp
from tbot.exchanges.simulated.events import OrderView
from tbot.exchanges.simulated.operations import Account, CancelOrders, MarketRules, Operation, PlaceOrder

Count = Annotated[int, msgspec.Meta(ge=0, le=50)]
NonNegative = Annotated[float, msgspec.Meta(ge=0)]

CENT = 10_000
SIZE_MARKETABLE_MIN = 5 * MICRO
"""Takers here never go below five shares, to stay clear of the minimums of every market."""


class View(Protocol):
    """What traders may look at; the engine has it."""

    def rules(self, market_id: MarketId) -> MarketRules:
        """Tell the present rules of a market."""
        ...

    def top(self, market_id: MarketId) -> tuple[Price | None, Price | None]:
        """Tell best bid and ask of YES."""
        ...

    def available(self, account: Account, asset: TokenId) -> int:
        """Tell what an account can trade with."""
        ...

    def open_orders(self, account: Account) -> tuple[OrderView, ...]:
        """List the open orders of an account."""
        ...


class MakerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rival makers: they learn the fair value with a lag and quote levels around what they believe.

    Attributes:
        count: Makers a market.
        levels: Price levels a side.
        half_spread_ticks: Distance of the innermost level from the belief; the n-th maker adds n ticks.
        size_shares: Mean shares a level.
        lag_s: Mean time from one look at the market to the next, in a quiet regime.
        error_ticks: Standard deviation of the error of each belief.
        tolerance_ticks: A belief this near the quoted one changes nothing.
        size_sigma: Spread of the sizes: standard deviation of their logarithm; 0 = half to one and a half of the mean.
        renewals: Resting orders a maker replaces by new sizes at each look, as real ones do all the time.
        pause_s: Mean pause between two messages of one maker; 0 = all of a look at once, cancels in one message.
    """

    count: Count = 3
    levels: Count = 4
    half_spread_ticks: NonNegative = 1.3
    size_shares: Annotated[int, msgspec.Meta(ge=5)] = 60
    lag_s: Annotated[float, msgspec.Meta(ge=0.01)] = 2.0
    error_ticks: NonNegative = 0.4
    tolerance_ticks: NonNegative = 0.9
    size_sigma: Annotated[float, msgspec.Meta(ge=0, le=4)] = 0.0
    renewals: Count = 0
    pause_s: NonNegative = 0.0


class TakerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Noise takers, informed takers, and chasers of momentum.

    Attributes:
        noise_per_s: Noise takers a second and market in a quiet regime; they buy and sell for no reason.
        noise_shares: Median size of a noise order.
        noise_sigma: Spread of these sizes: standard deviation of their logarithm.
        noise_shares_max: Largest of them.
        herding: Chance that a noise taker is followed by another at once, after `herding_s` on average.
        herding_s: Mean wait of such a follower.
        noise_slippage_ticks: How far behind the best price a noise taker goes.
        informed_per_s: Looks of informed traders a second and market in a quiet regime.
        informed_edge_ticks: Least profit after fee they take.
        informed_shares: Most shares one of them takes at once.
        reaction_s: Fastest and slowest reaction of an informed trader to news.
        racers: Informed traders who race for stale quotes after news.
        chasers_per_s: Looks of chasers a second and market: they buy what has risen and sell what has fallen.
        chase_ticks: How far the mid must have run from its average of the last half minute or so.
    """

    noise_per_s: Annotated[float, msgspec.Meta(gt=0, le=100)] = 0.17
    noise_shares: Annotated[float, msgspec.Meta(ge=1)] = 16.0
    noise_sigma: Annotated[float, msgspec.Meta(ge=0, le=4)] = 0.7
    noise_shares_max: Annotated[int, msgspec.Meta(ge=5)] = 400
    herding: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0
    herding_s: NonNegative = 0.1
    noise_slippage_ticks: Count = 2
    informed_per_s: Annotated[float, msgspec.Meta(ge=0, le=100)] = 0.6
    informed_edge_ticks: NonNegative = 0.3
    informed_shares: Annotated[int, msgspec.Meta(ge=5)] = 150
    reaction_s: tuple[float, float] = (0.1, 0.6)
    racers: Count = 3
    chasers_per_s: Annotated[float, msgspec.Meta(ge=0, le=100)] = 0.03
    chase_ticks: NonNegative = 2.0


class TicketSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Buyers of lottery tickets: large bids a cent or three above zero on either outcome, topped up all the time.

    Attributes:
        looks_per_s: How often one of them acts; 0 = there are none.
        levels: Price levels at each end.
        wall_shares: What rests at each level from the first look on.
        top_up_shares: Mean size of what is added and withdrawn.
        changes: Orders added or withdrawn at one look.
        pause_s: Mean pause between two of these.
    """

    looks_per_s: NonNegative = 0.0
    levels: Count = 3
    wall_shares: Annotated[int, msgspec.Meta(ge=5)] = 10_000
    top_up_shares: Annotated[int, msgspec.Meta(ge=5)] = 20
    changes: Count = 4
    pause_s: NonNegative = 0.0


class Wish(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An order in YES space before it takes one of its two forms.

    Attributes:
        is_up: True = bid for YES (or offer NO).
        price: YES price.
    """

    is_up: bool
    price: Price
    size: Size


class Hand(msgspec.Struct, frozen=True, kw_only=True):
    """Who acts where and when.

    Attributes:
        serial: Makes order ids distinct within one moment.
    """

    account: Account
    market_id: MarketId
    now_ns: Nanos
    serial: int


def requote(
    view: View, hand: Hand, *, belief: float, rank: int, settings: MakerSettings, rng: random.Random
) -> Iterator[Operation]:
    """Cancel what a maker no longer wants and place what it misses.

    Args:
        view: The engine.
        hand: Who, where and when.
        belief: What the maker takes for the fair value, dollars.
        rank: 0 quotes tightest.
        settings: Levels and sizes.
        rng: Draws sizes and forms.
    """
    rules = view.rules(hand.market_id)
    wanted = {(w.is_up, w.price): w for w in maker_wishes(rules, belief=belief, rank=rank, settings=settings, rng=rng)}
    resting = [order for order in view.open_orders(hand.account) if order.market_id == hand.market_id]
    kept = [order for order in resting if _slot(order, rules) in wanted]
    renewed = {order.order_id for order in rng.sample(kept, min(settings.renewals, len(kept)))}
    # A wanted order that rests already is taken off the list; what is not wanted (any more) is stale.
    still = {order.order_id for order in kept if order.order_id not in renewed and _take_off(order, wanted, rules)}
    stale = tuple(order.order_id for order in resting if order.order_id not in still)
    yield from _cancels(hand.account, stale, is_one_by_one=settings.pause_s > 0)
    for number, wish in enumerate(wanted.values()):
        yield _place(view, hand, wish, number=number, order_type=OrderType.GTC, rng=rng)


def maker_wishes(
    rules: MarketRules, *, belief: float, rank: int, settings: MakerSettings, rng: random.Random
) -> Iterator[Wish]:
    """List a maker's quotes around its belief, innermost first."""
    tick = rules.tick
    centre = belief * MICRO
    reach = (settings.half_spread_ticks + rank) * tick
    for level in range(settings.levels):
        away = reach + level * tick
        size = Size(max(5, round(settings.size_shares * _size_factor(settings.size_sigma, rng))) * MICRO)
        bid, ask = math.floor((centre - away) / tick) * tick, math.ceil((centre + away) / tick) * tick
        for is_up, price in ((True, bid), (False, ask)):
            if is_on_grid(Price(price), tick):
                yield Wish(is_up=is_up, price=Price(price), size=size)


def take_noise(view: View, hand: Hand, *, settings: TakerSettings, rng: random.Random) -> Iterator[Operation]:
    """Buy or sell at the best price for no reason."""
    rules = view.rules(hand.market_id)
    bid, ask = view.top(hand.market_id)
    is_up = rng.random() < 0.5
    best = ask if is_up else bid
    size = rng.lognormvariate(math.log(settings.noise_shares), settings.noise_sigma)
    if best is None:
        return
    slip = settings.noise_slippage_ticks * rules.tick
    price = price_clamp(best + slip if is_up else best - slip, rules.tick)
    yield _take(view, hand, Wish(is_up=is_up, price=price, size=_whole(min(size, settings.noise_shares_max))), rng=rng)


def take_momentum(
    view: View, hand: Hand, *, average: float | None, settings: TakerSettings, rng: random.Random
) -> Iterator[Operation]:
    """Buy when the mid has run above its average, sell when below: such buyers overshoot, and makers bring it back.

    Args:
        view: The engine.
        hand: Who, where and when.
        average: Slow average of the mid in dollars; None = not known yet.
        settings: How far is far, and sizes.
        rng: Draws size and form.
    """
    rules = view.rules(hand.market_id)
    bid, ask = view.top(hand.market_id)
    if bid is None or ask is None or average is None:
        return
    run = (bid + ask) / 2 - average * MICRO
    if abs(run) < settings.chase_ticks * rules.tick:
        return
    size = rng.lognormvariate(math.log(settings.noise_shares), settings.noise_sigma)
    wish = Wish(is_up=run > 0, price=ask if run > 0 else bid, size=_whole(min(size, settings.noise_shares_max)))
    yield _take(view, hand, wish, rng=rng)


def buy_tickets(view: View, hand: Hand, *, settings: TicketSettings, rng: random.Random) -> Iterator[Operation]:
    """Build the walls at the first look; add a little to them or withdraw it at every other."""
    tick = view.rules(hand.market_id).tick
    ends = [(is_up, Price((1 + level) * tick)) for level in range(settings.levels) for is_up in (True, False)]
    resting = view.open_orders(hand.account)
    if not resting:
        for number, (is_up, price) in enumerate(ends):
            wish = Wish(is_up=is_up, price=price if is_up else complement(price), size=_whole(settings.wall_shares))
            yield _place(view, hand, wish, number=number, order_type=OrderType.GTC, rng=rng)
        return
    top_ups = [order.order_id for order in resting[len(ends) :]]
    for number in range(settings.changes):
        if len(top_ups) > rng.randrange(2 * len(ends)):
            yield CancelOrders(account=hand.account, order_ids=(top_ups.pop(rng.randrange(len(top_ups))),))
            continue
        is_up, price = rng.choice(ends)
        size = _whole(max(5.0, settings.top_up_shares * rng.uniform(0.3, 1.7)))
        wish = Wish(is_up=is_up, price=price if is_up else complement(price), size=size)
        yield _place(view, hand, wish, number=number, order_type=OrderType.GTC, rng=rng)


def take_informed(
    view: View, hand: Hand, *, fair: float, settings: TakerSettings, rng: random.Random
) -> Iterator[Operation]:
    """Take every quote that is wrong against the fair value by more than the fee and a margin."""
    rules = view.rules(hand.market_id)
    bid, ask = view.top(hand.market_id)
    fee = rules.fee_rate_micro * (fair * (1 - fair)) ** rules.fee_exponent
    margin = fee + settings.informed_edge_ticks * rules.tick
    most = price_clamp(math.floor((fair * MICRO - margin) / rules.tick) * rules.tick, rules.tick)
    least = price_clamp(math.ceil((fair * MICRO + margin) / rules.tick) * rules.tick, rules.tick)
    size = Size(rng.randint(20, max(20, settings.informed_shares)) * MICRO)
    if ask is not None and ask <= most:
        yield _take(view, hand, Wish(is_up=True, price=most, size=size), rng=rng)
    elif bid is not None and bid >= least:
        yield _take(view, hand, Wish(is_up=False, price=least, size=size), rng=rng)


def _cancels(
    account: Account, order_ids: tuple[ExchangeOrderId, ...], *, is_one_by_one: bool
) -> Iterator[CancelOrders]:
    if is_one_by_one:
        yield from (CancelOrders(account=account, order_ids=(order_id,)) for order_id in order_ids)
    elif order_ids:
        yield CancelOrders(account=account, order_ids=order_ids)


# True for the first order of a slot; a second one at the same price is one too many.
def _take_off(order: OrderView, wanted: dict[tuple[bool, Price], Wish], rules: MarketRules) -> bool:
    return wanted.pop(_slot(order, rules), None) is not None


def _size_factor(sigma: float, rng: random.Random) -> float:
    return rng.lognormvariate(0.0, sigma) if sigma else rng.uniform(0.5, 1.5)


def _whole(shares: float) -> Size:
    return Size(round(shares) * MICRO)


def _slot(order: OrderView, rules: MarketRules) -> tuple[bool, Price]:
    if order.token_id == rules.yes:
        return order.side is Side.BUY, order.price
    return order.side is Side.SELL, complement(order.price)


def _take(view: View, hand: Hand, wish: Wish, *, rng: random.Random) -> PlaceOrder:
    size = Size(max(wish.size, SIZE_MARKETABLE_MIN))
    wish = msgspec.structs.replace(wish, size=size)
    return _place(view, hand, wish, number=0, order_type=OrderType.FAK, rng=rng)


# One direction, two forms: up is BUY YES or SELL NO, down is SELL YES or BUY NO. Selling needs tokens.
def _place(view: View, hand: Hand, wish: Wish, *, number: int, order_type: OrderType, rng: random.Random) -> PlaceOrder:
    rules = view.rules(hand.market_id)
    sold = rules.no if wish.is_up else rules.yes
    sells = rng.random() < 0.5 and view.available(hand.account, sold) >= 20 * wish.size
    side = Side.SELL if sells else Side.BUY
    token_id = sold if sells else (rules.yes if wish.is_up else rules.no)
    price = wish.price if token_id == rules.yes else complement(wish.price)
    size, budget = wish.size, Notional(0)
    if order_type is OrderType.FAK:
        size, budget = _amounts(side, price, wish.size, rules)
    return PlaceOrder(
        account=hand.account,
        order_id=_order_id(hand, number),
        token_id=token_id,
        side=side,
        price=price,
        size=size,
        budget=budget,
        order_type=order_type,
        is_post_only=order_type is OrderType.GTC,
    )


# Both forms respect the dollar minimum of marketable orders.
def _amounts(side: Side, price: Price, size: Size, rules: MarketRules) -> tuple[Size, Notional]:
    if side is Side.BUY:
        budget = max(size * price // MICRO, rules.notional_min)
        return Size(0), Notional(-(-budget // CENT) * CENT)
    least = -(-rules.notional_min * MICRO // price)
    return Size(-(-max(size, least) // MICRO) * MICRO), Notional(0)


def _order_id(hand: Hand, number: int) -> ExchangeOrderId:
    text = f"{hand.account}/{hand.market_id}/{hand.now_ns}/{hand.serial}/{number}"
    return ExchangeOrderId("0x" + hashlib.sha256(text.encode()).hexdigest())
