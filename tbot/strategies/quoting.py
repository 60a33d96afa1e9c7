"""From an estimate to orders that may rest: prices on the grid that never cross, sizes that fit what we own and afford.

Everything is in YES space until the last step: a bid at p buys YES at p or sells NO at 1 - p, an ask at p sells YES at
p or buys NO at 1 - p.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from tbot.core.market import Market, TokenId
from tbot.core.messages import AccountView, Level, Quote, Side
from tbot.core.risk import RiskLimits
from tbot.core.units import (
    MICRO,
    Notional,
    Price,
    Size,
    complement,
    dollars,
    notional_ceil,
    price_of_estimate_ceil,
    price_of_estimate_floor,
    size_lot_floor,
    text_from_micro,
    tick_ceil,
    tick_floor,
)
from tbot.strategies.base import Misfit


class Edges(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One side of the wanted quotes, YES space.

    Attributes:
        price: Innermost price; None = this side cannot be quoted on the grid.
        worst: No order of this side may rest nearer to the market than this.
    """

    price: Price | None
    worst: Price


def bid_edges(*, wanted: float, worst: float, best: Level, best_ask: Price, improve: int, tick: Price) -> Edges:
    """Place the bid: rounded down, below the ask, at most `improve` above the best bid.

    Args:
        wanted: Estimate in dollars.
        worst: Estimate of the highest price with an edge left, dollars; at or above `wanted`.
        best: Best bid worth following.
        best_ask: Lowest ask of all.
        improve: Micro-dollars.
        tick: Price step.
    """
    bound = price_of_estimate_floor(worst, tick)
    if wanted < dollars(tick):
        return Edges(price=None, worst=bound)
    cap = tick_floor(min(best.price + improve, best_ask - 1), tick)
    price = min(price_of_estimate_floor(wanted, tick), cap)
    return Edges(price=price if price >= tick else None, worst=bound)


def ask_edges(*, wanted: float, worst: float, best: Level, best_bid: Price, improve: int, tick: Price) -> Edges:
    """Place the ask: rounded up, above the bid, at most `improve` below the best ask; see `bid_edges`."""
    bound = price_of_estimate_ceil(worst, tick)
    if wanted > dollars(MICRO - tick):
        return Edges(price=None, worst=bound)
    cap = tick_ceil(max(best.price - improve, best_bid + 1), tick)
    price = max(price_of_estimate_ceil(wanted, tick), cap)
    return Edges(price=price if price <= MICRO - tick else None, worst=bound)


def size_misfit(base: Size, factors: Sequence[float], market: Market, limits: RiskLimits) -> Misfit | None:
    """Say which quotes a market, or a limit, never takes while nothing is held.

    Args:
        base: The setting `base_size`, micro-shares.
        factors: Each layer's size over it, innermost first.
        market: Gives lot and smallest size.
        limits: Largest order, largest position.
    """
    least, most, lot, text = market.size_min, limits.order_size_max, market.size_lot, text_from_micro
    sizes = [size_lot_floor(min(int(base * factor), limits.position_size_max), lot) for factor in factors]
    fitting = sum(least <= size <= most for size in sizes)
    smallest = f"the smallest order of {market.slug or market.market_id} has {text(least)}"
    if limits.position_size_max < least:
        found = f'limits.position_size_max is "{text(limits.position_size_max)}" shares, but {smallest}'
        remedy = f'set it to "{text(least)}" or more, or leave that market out'
    elif min(sizes) < least:
        found = f'base_size "{text(base)}" makes orders of {text(min(sizes))} shares, but {smallest}'
        least_base = text(math.ceil(least / min(factors) / lot) * lot)
        remedy = f'set base_size to "{least_base}" or more, or leave that market out'
    elif max(sizes) > most:
        found = f'base_size "{text(base)}" makes orders of {text(max(sizes))} shares'
        found += f', but limits.order_size_max is "{text(most)}"'
        remedy = f'set base_size to "{text(math.floor(most / max(factors) / lot) * lot)}" or less'
    else:
        return None
    told = f"{found}: {len(sizes) - fitting} of {len(sizes)} quotes a side are never placed"
    return Misfit(reason=f"{told}; {remedy}", is_total=not fitting)


class Budget:
    """What is left to quote with in one market while its quotes are made, innermost first.

    All quotes together stay within it, so that every one of them may fill.
    """

    def __init__(self, *, market: Market, accounts: tuple[AccountView, AccountView], cash: Notional) -> None:
        """Begin with everything free.

        Args:
            market: Gives tokens, lot and smallest size.
            accounts: Views of YES and NO.
            cash: Micro-dollars for buys of both tokens.
        """
        self._market = market
        self._room = {account.token_id: account.room_buy for account in accounts}
        self._sellable = {account.token_id: account.size_sellable for account in accounts}
        self._cash = cash
        self._quotes: dict[TokenId, list[Quote]] = {account.token_id: [] for account in accounts}

    def reserve(self, token_id: TokenId, size: Size) -> None:
        """Keep shares out of the quotes."""
        self._sellable[token_id] = Size(self._sellable[token_id] - size)

    def bid(self, *, level: int, price: Price, worst: Price, size: int) -> None:
        """Quote one layer of the bid side: sell NO as long as there is any, else buy YES."""
        market = self._market
        if not self._sell(market.no, level, complement(price), complement(worst), size):
            self._buy(market.yes, level, price, worst, size)

    def ask(self, *, level: int, price: Price, worst: Price, size: int) -> None:
        """Quote one layer of the ask side: sell YES as long as there is any, else buy NO."""
        market = self._market
        if not self._sell(market.yes, level, price, worst, size):
            self._buy(market.no, level, complement(price), complement(worst), size)

    def quotes(self, token_id: TokenId) -> tuple[Quote, ...]:
        """Return what was quoted of a token."""
        return tuple(self._quotes[token_id])

    def _sell(self, token_id: TokenId, level: int, price: Price, worst: Price, wanted: int) -> bool:
        size = self._fitting(min(wanted, self._sellable[token_id]))
        if size == 0:
            return False
        self._sellable[token_id] = Size(self._sellable[token_id] - size)
        self._quotes[token_id].append(Quote(side=Side.SELL, level=level, price=price, size=size, price_worst=worst))
        return True

    def _buy(self, token_id: TokenId, level: int, price: Price, worst: Price, wanted: int) -> None:
        affordable = max(0, self._cash) * MICRO // price
        size = self._fitting(min(wanted, self._room[token_id], affordable))
        if size == 0:
            return
        self._room[token_id] = Size(self._room[token_id] - size)
        self._cash = Notional(self._cash - notional_ceil(price, size))
        self._quotes[token_id].append(Quote(side=Side.BUY, level=level, price=price, size=size, price_worst=worst))

    def _fitting(self, size: int) -> Size:
        # Shrink or drop, never enlarge: a size rounded up could pass a limit.
        whole = size_lot_floor(size, self._market.size_lot)
        return whole if whole >= self._market.size_min else Size(0)
