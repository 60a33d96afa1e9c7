"""What an order would match now: planned without changing anything, so that checks can look at it first.

The maker always trades at his own limit; price improvement goes to the taker. A fill is counted in what the maker
gives, as the contract counts it, and what he gets is its counter amount, rounded down: a selling maker gives shares for
floor(shares x price), a buying one gives floor(wanted x price) dollars for floor(dollars / price) shares. In a normal
match the taker's money is the maker's, in mint and merge it is the rest of the pair. So no unit is ever made or lost,
and rounding costs the maker: the taker never pays more than his own limit, nor gets less.
(ExchangeV2; 36 of the 37 fractional prints of the capture of 2026-04-21 are mints counted like this.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from tbot.core.messages import OrderType, Side
from tbot.core.units import MICRO, Notional, Price, Size, complement
from tbot.exchanges.simulated.events import MatchKind
from tbot.exchanges.simulated.operations import EngineSettings, FeeRounding, MarketRules, PlaceOrder, SelfTrade
from tbot.exchanges.simulated.orderbook import DUST, Order, UnifiedBook, notional_of, shares_for


class Match(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One maker in a plan.

    Attributes:
        size: Shares that change hands, of either token.
        price: Price of the taker's token.
        notional: The maker's money.
        taker_notional: The taker's money.
    """

    maker: Order
    size: Size
    price: Price
    notional: Notional
    taker_notional: Notional
    kind: MatchKind


class MatchPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an order would match now, best price first.

    Attributes:
        price: What the whole match is worth a share, see `mean_price`; 0 = nothing would match.
        size: Shares of all matches.
        fee: The taker's fee, one a match: of the trade price.
        is_complete: Whether the target would be reached.
        passed: Orders of the same account that are met and, instead of being matched, cancelled.
        crosses: Whether it would take at all.
    """

    matches: tuple[Match, ...]
    price: Price
    size: Size
    fee: Notional
    is_complete: bool
    passed: tuple[Order, ...] = ()

    @property
    def crosses(self) -> bool:
        """Whether the order would take."""
        return bool(self.matches)


def plan_match(order: PlaceOrder, book: UnifiedBook, settings: EngineSettings) -> MatchPlan:
    """Walk the other side of the book as far as the order's limit and target allow."""
    rules = book.rules
    is_yes = order.token_id == rules.yes
    is_bid = is_yes is (order.side is Side.BUY)
    price_yes = order.price if is_yes else complement(order.price)
    if not book.crosses(is_bid=is_bid, price_yes=price_yes):
        return _NOTHING
    target = _Target(order)
    matches: list[Match] = []
    passed: list[Order] = []
    for maker in _makers(book, is_bid=is_bid, price_yes=price_yes):
        price = maker.price_yes if is_yes else complement(maker.price_yes)
        size = min(target.wanted(price), maker.remaining)
        if size < DUST:
            break
        if settings.self_trade is SelfTrade.CANCEL_OLDEST and maker.place.account == order.account:
            passed.append(maker)
            continue
        matches.append(match := _match(order, maker, Size(size), price))
        target.take(match)
    is_complete = bool(matches) and target.wanted(matches[-1].price) < DUST
    price, size = mean_price(matches), Size(sum(match.size for match in matches))
    fee = fee_of(price, size, rules, settings.fee_rounding)
    return MatchPlan(
        matches=tuple(matches), price=price, size=size, fee=fee, is_complete=is_complete, passed=tuple(passed)
    )


def mean_price(matches: Sequence[Match]) -> Price:
    """Average the prices of a match by size, rounded down to millionths: the one price of a single level as it is.

    So it is never beyond the taker's limit: that is a whole number of millionths too.
    """
    size = sum(match.size for match in matches)
    return Price(sum(match.price * match.size for match in matches) // size if size else 0)


def fee_of(price: Price, size: Size, rules: MarketRules, rounding: FeeRounding = FeeRounding.FLOOR) -> Notional:
    """Compute the taker's fee: size x rate x (p x (1 - p)) ** exponent, rounded to five decimals of a dollar.

    Written down again on purpose: an exchange that shares the bot's arithmetic cannot catch its errors.
    """
    variance = price * (MICRO - price)  # p x (1 - p) in units of 10 ** -12
    scale = MICRO * MICRO
    numerator, denominator = size * rules.fee_rate_micro, MICRO
    for _ in range(rules.fee_exponent):
        numerator, denominator = numerator * variance, denominator * scale
    return Notional(_rounded(numerator, denominator * 10, rounding) * 10)


def _rounded(numerator: int, denominator: int, rounding: FeeRounding) -> int:
    whole, rest = divmod(numerator, denominator)
    if rounding is FeeRounding.FLOOR or 2 * rest < denominator:
        return whole
    stays_even = rounding is FeeRounding.HALF_EVEN and 2 * rest == denominator and whole % 2 == 0
    return whole if stays_even else whole + 1


_NOTHING = MatchPlan(matches=(), price=Price(0), size=Size(0), fee=Notional(0), is_complete=False)


class _Target:
    """How many shares an order still wants: counted in shares, or in what its budget can pay."""

    def __init__(self, order: PlaceOrder) -> None:
        self._has_budget = order.side is Side.BUY and order.order_type in (OrderType.FAK, OrderType.FOK)
        self._left: int = order.budget if self._has_budget else order.size

    def wanted(self, price: Price) -> int:
        return self._left * MICRO // price if self._has_budget else self._left

    def take(self, match: Match) -> None:
        self._left -= match.taker_notional if self._has_budget else match.size


def _makers(book: UnifiedBook, *, is_bid: bool, price_yes: Price) -> Iterator[Order]:
    side = book.side(is_bid=not is_bid)
    for price in side.prices():
        if price > price_yes if is_bid else price < price_yes:
            return
        yield from side.queue(price)


def _match(order: PlaceOrder, maker: Order, size: Size, price: Price) -> Match:
    size, notional = _filled(maker, size)
    kind = _kind(order, maker.place)
    taker_notional = notional if kind is MatchKind.NORMAL else Notional(size - notional)
    return Match(maker=maker, size=size, price=price, notional=notional, taker_notional=taker_notional, kind=kind)


def _filled(maker: Order, wanted: Size) -> tuple[Size, Notional]:
    """Give shares and money of a maker who is met for at most `wanted` shares."""
    price = maker.place.price
    if maker.place.side is Side.SELL:
        return wanted, notional_of(wanted, price)
    given = min(notional_of(wanted, price), maker.making_left)
    return shares_for(given, price), Notional(given)


def _kind(taker: PlaceOrder, maker: PlaceOrder) -> MatchKind:
    if taker.token_id == maker.token_id:
        return MatchKind.NORMAL
    return MatchKind.MINT if taker.side is Side.BUY else MatchKind.MERGE


def sizes_by_price(matches: Sequence[Match]) -> tuple[tuple[Price, Size], ...]:
    """Sum the sizes met at each price of the taker's token, best first."""
    sizes: dict[Price, int] = {}
    for match in matches:
        sizes[match.price] = sizes.get(match.price, 0) + match.size
    return tuple((price, Size(size)) for price, size in sizes.items())
