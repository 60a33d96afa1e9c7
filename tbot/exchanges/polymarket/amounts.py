"""Price and size of an order -> the two amounts that are signed. Integers only; every rounding is named.

Rules: what the maker gives and wants, in millionths. BUY gives collateral for shares, SELL shares for collateral.
Resting orders carry sizes in whole 0.01 shares, so on any tick (the finest is 0.0001) price x size is a whole number of
millionths and nothing is rounded. Market orders obey a coarser limit of the engine: FAK/FOK amounts may have at most
2 decimals on the side given and 4 on the side wanted, fewer on the coarsest tick (polymarket docs and error texts, read
2026-11-22; the official clients send 5 and 6 decimals on fine ticks, and are refused).
"""

from __future__ import annotations

from typing import NamedTuple

from tbot.core.messages import OrderType, Side
from tbot.core.units import MICRO, Price, Size
from tbot.errors import InvariantViolated

LOT = 10_000  # 0.01 share
CENT = 10_000  # 0.01 dollar
FINE = 100  # 0.0001: the fourth decimal of a share or a dollar
# What is wanted has three decimals on this tick, on all others four or more.
TICK_COARSE = 100_000
FINE_ON_COARSE_TICK = 1_000
TICK_FINEST = 100


class Amounts(NamedTuple):
    """The signed amounts in millionths: what the maker gives, and what it wants for it."""

    maker: int
    taker: int


def amounts_of(*, order_type: OrderType, side: Side, price: Price, size: Size, tick: Price) -> Amounts:
    """Compute the amounts of an order.

    Args:
        order_type: FAK and FOK are market orders, whose price is the worst one accepted.
        side: BUY or SELL.
        price: Micro-dollars, a multiple of 0.0001 inside (0, 1). The tick in force is not checked: it may change
            between plan and signature, and the exchange answers that race with a rejection.
        size: Micro-shares; a FAK/FOK BUY spends at most price x size and may get more shares when cheaper.
        tick: Of the market; sets how fine the amounts of a market order may be, and nothing else.

    Raises:
        InvariantViolated: A price or size that the plan should never have let pass.
    """
    if not 0 < price < MICRO or price % TICK_FINEST:
        raise InvariantViolated(f"order price {price} is not a multiple of 0.0001 inside (0, 1)")
    if size <= 0 or size % LOT:
        raise InvariantViolated(f"order size {size} is not a positive number of whole lots of 0.01 share")
    if order_type in (OrderType.FAK, OrderType.FOK):
        return _market_amounts(side, price, size, tick)
    collateral = price * size // MICRO  # exact: 100 x 10_000 divides by MICRO
    return Amounts(collateral, size) if side is Side.BUY else Amounts(size, collateral)


def market_buy_floor(budget: int, price: Price, tick: Price) -> Amounts:
    """Return the amounts that spend at most a budget at a worst price.

    Shares are floored, never rounded up: the engine reads the price as maker / taker, so fewer shares put it a hair
    above the worst price and the order still lifts an ask resting exactly there; more shares would miss it silently.

    Args:
        budget: Micro-dollars, floored to cents.
        price: Highest price, micro-dollars.
        tick: Of the market.
    """
    spent = budget - budget % CENT
    shares = spent * MICRO // price
    return Amounts(spent, shares - shares % _fine(tick))


def market_sell_floor(size: int, price: Price, tick: Price) -> Amounts:
    """Return the amounts that sell a size at a worst price; the proceeds asked for are floored for the same reason.

    Args:
        size: Micro-shares, floored to lots.
        price: Lowest price, micro-dollars.
        tick: Of the market.
    """
    shares = size - size % LOT
    proceeds = shares * price // MICRO
    return Amounts(shares, proceeds - proceeds % _fine(tick))


def _market_amounts(side: Side, price: Price, size: Size, tick: Price) -> Amounts:
    if side is Side.BUY:
        amounts = market_buy_floor(price * size // MICRO, price, tick)
    else:
        amounts = market_sell_floor(size, price, tick)
    if not amounts.maker or not amounts.taker:
        raise InvariantViolated(f"market order of {size} at {price} is too small to be expressed")
    return amounts


def _fine(tick: Price) -> int:
    return FINE_ON_COARSE_TICK if tick >= TICK_COARSE else FINE
