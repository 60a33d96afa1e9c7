"""One unified book a market: every order as a bid or ask of YES, by price, then by time.

BUY YES at p and SELL NO at 1 - p are bids at p; SELL YES at p and BUY NO at 1 - p are asks at p. Both outcomes' books
are views of this one. Priority between direct and mirrored orders at one price is plain arrival (not documented by
Polymarket, 2026-11).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping

import msgspec

from tbot.core.market import MarketId, TokenId
from tbot.core.messages import ExchangeOrderId, Level, OrderState, OrderType, Side, TradeId
from tbot.core.units import MICRO, Nanos, Notional, Price, Size, complement
from tbot.exchanges.simulated.events import OrderView
from tbot.exchanges.simulated.operations import EndReason, MarketRules, Placed, PlaceOrder, Refused

DUST = Size(10_000)
"""An order with less than 0.01 share to go is finished (observed on production; the exact threshold is not known)."""


class Order:
    """One order inside the engine; the only mutable thing of its life. `view` gives a frozen copy."""

    __slots__ = (
        "created_ns",
        "is_bid",
        "making_left",
        "market_id",
        "notional_matched",
        "place",
        "price_yes",
        "reason",
        "refusal",
        "reserved",
        "sequence",
        "size_matched",
        "state",
        "trade_ids",
        "was_held",
    )

    def __init__(self, place: PlaceOrder, *, rules: MarketRules, sequence: int, created_ns: Nanos) -> None:
        self.place = place
        self.market_id: MarketId = rules.market_id
        is_yes = place.token_id == rules.yes
        self.is_bid = is_yes is (place.side is Side.BUY)
        self.price_yes = place.price if is_yes else complement(place.price)
        self.sequence = sequence
        self.created_ns = created_ns
        self.size_matched = 0
        self.notional_matched = 0
        self.reserved = 0
        # What it may still give as a maker: dollars of a BUY, shares of a SELL. The contract counts fills in this, so
        # that rounding never takes from a maker more than he signed.
        self.making_left = 0
        self.state = OrderState.LIVE
        self.reason = EndReason.NONE
        self.was_held = False
        # Why it was refused at the end of its taker delay, "" = it was not.
        self.refusal = ""
        self.trade_ids: list[TradeId] = []

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes of it."""
        return self.state not in (OrderState.LIVE, OrderState.DELAYED)

    @property
    def remaining(self) -> int:
        """Shares still to be filled, for orders whose target is shares."""
        return self.place.size - self.size_matched

    @property
    def is_dust(self) -> bool:
        """Whether what may still be filled is too little to rest."""
        if self.place.side is Side.SELL:
            return self.remaining < DUST
        return min(self.remaining, shares_for(self.making_left, self.place.price)) < DUST

    def come_to_rest(self) -> None:
        """Become a maker with what is left."""
        is_buy = self.place.side is Side.BUY
        self.making_left = notional_of(self.remaining, self.place.price) if is_buy else self.remaining

    def note_match(self, size: Size, notional: Notional, trade_id: TradeId) -> None:
        """Count what a trade filled."""
        self.size_matched += size
        self.notional_matched += notional
        self.trade_ids.append(trade_id)

    @property
    def has_budget(self) -> bool:
        """Whether the target is collateral: FAK/FOK BUY."""
        return self.place.side is Side.BUY and self.place.order_type in (OrderType.FAK, OrderType.FOK)

    def verdict(self) -> Placed | Refused:
        """Make the answer to its sender; it is not the last word while the order is held."""
        if self.refusal:
            return Refused(text=self.refusal)
        state = OrderState.MATCHED if self.trade_ids else OrderState.LIVE
        return Placed(
            order_id=self.place.order_id,
            state=self.state if self.state is OrderState.DELAYED else state,
            size_matched=Size(self.size_matched),
            notional_matched=Notional(self.notional_matched),
            trade_ids=tuple(self.trade_ids),
            is_unmatched=self.was_held and self.state is not OrderState.DELAYED and state is OrderState.LIVE,
        )

    def view(self) -> OrderView:
        """Copy the order as it stands."""
        p = self.place
        return OrderView(
            order_id=p.order_id,
            account=p.account,
            market_id=self.market_id,
            token_id=p.token_id,
            side=p.side,
            price=p.price,
            size=p.size,
            budget=p.budget,
            order_type=p.order_type,
            is_post_only=p.is_post_only,
            expires_ns=p.expires_ns,
            created_ns=self.created_ns,
            state=self.state,
            size_matched=Size(self.size_matched),
            reason=self.reason,
            trade_ids=tuple(self.trade_ids),
            owner=p.owner,
        )


class BookSide:
    """Bids or asks in YES prices."""

    def __init__(self, *, is_bid: bool) -> None:
        self._is_bid = is_bid
        self._prices: list[int] = []  # ascending; the best bid is the last, the best ask the first
        self._levels: dict[int, dict[ExchangeOrderId, Order]] = {}
        self._totals: dict[int, int] = {}

    def best(self) -> Price | None:
        """Best price, None when empty."""
        if not self._prices:
            return None
        return Price(self._prices[-1] if self._is_bid else self._prices[0])

    def best_of(self, size_min: Size) -> Price | None:
        """Best price at which an order has this much left, None when none has."""
        return next((p for p in self.prices() if any(o.remaining >= size_min for o in self.queue(p))), None)

    def total(self, price: Price) -> Size:
        """Shares at one price."""
        return Size(self._totals.get(price, 0))

    @property
    def totals(self) -> Mapping[int, int]:
        """Shares at every price; not a copy."""
        return self._totals

    def prices(self) -> Iterator[Price]:
        """Prices, best first."""
        return map(Price, reversed(self._prices) if self._is_bid else iter(self._prices))

    def levels(self) -> tuple[Level, ...]:
        """All levels, best first."""
        return tuple(Level(price, Size(self._totals[price])) for price in self.prices())

    def queue(self, price: Price) -> Iterator[Order]:
        """Orders at one price, oldest first."""
        return iter(self._levels.get(price, {}).values())

    def add(self, order: Order) -> None:
        """Put an order at the end of its level."""
        price = order.price_yes
        if price not in self._levels:
            insort(self._prices, price)
            self._levels[price] = {}
            self._totals[price] = 0
        self._levels[price][order.place.order_id] = order
        self._totals[price] += order.remaining

    def reduce(self, order: Order, size: Size) -> None:
        """Take filled shares out of an order's level."""
        self._totals[order.price_yes] -= size

    def remove(self, order: Order) -> None:
        """Take out an order with what remains of it."""
        price = order.price_yes
        level = self._levels[price]
        del level[order.place.order_id]
        self._totals[price] -= order.remaining
        if not level:
            assert self._totals[price] == 0
            del self._levels[price], self._totals[price]
            del self._prices[bisect_left(self._prices, price)]


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What a book's hash covers, of YES, to be compared and not kept: the levels are those of the book itself.

    Attributes:
        bids: Shares at every price.
        asks: Shares at every price.
        tick: Price grid.
        last_trade_text: As in `BookView`.
    """

    bids: Mapping[int, int]
    asks: Mapping[int, int]
    tick: Price
    last_trade_text: str


class UnifiedBook:
    """Both sides of one market and what was told of it.

    Attributes:
        exchange_ms: Moment of the market's last event of any kind.
        changed_ms: Moment of the last change of the book, which its hash covers: an order's or a trade's later life
            does not touch it.
        tick_listed: The tick that was set by hand; the present one is in `rules`.
        top_told: Best bid and ask of YES that were told last.
        last_trade_price: What the last maker met gave or asked, in his own token, see `note_last`.
        last_price_yes: The same in YES.
    """

    def __init__(self, rules: MarketRules) -> None:
        self.rules = rules
        self.bids = BookSide(is_bid=True)
        self.asks = BookSide(is_bid=False)
        self.exchange_ms = 0
        self.changed_ms = 0
        self.tick_listed = rules.tick
        self.top_told: tuple[Price | None, Price | None] = (None, None)
        self.last_trade_price: Price | None = None
        self.last_trade_side: Side | None = None
        self.last_price_yes: Price | None = None

    def standing(self) -> Standing:
        """Tell how the book of YES stands."""
        return Standing(
            bids=self.bids.totals,
            asks=self.asks.totals,
            tick=self.rules.tick,
            last_trade_text=last_trade_text(self.last_trade_price),
        )

    @property
    def top(self) -> tuple[Price | None, Price | None]:
        """Best bid and ask of YES."""
        return self.bids.best(), self.asks.best()

    def note_last(self, maker: Order, taker_side: Side) -> None:
        """Remember the newest match.

        The hashes of the capture of 2026-04-21 hold the printed price after 26 of 71 trades and its complement after
        45, among them 35 of the 36 BUYs whose size only a mint explains: the maker's own price, in his own token.
        """
        self.last_trade_price, self.last_trade_side = maker.place.price, taker_side
        self.last_price_yes = maker.price_yes

    def side(self, *, is_bid: bool) -> BookSide:
        """The bids or the asks."""
        return self.bids if is_bid else self.asks

    def crosses(self, *, is_bid: bool, price_yes: Price) -> bool:
        """Tell whether an order at this YES price would take."""
        best = self.side(is_bid=not is_bid).best()
        return best is not None and (price_yes >= best if is_bid else price_yes <= best)

    def levels_of(self, token_id: TokenId) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
        """Bids and asks of one outcome, best first; NO is the mirror of YES."""
        if token_id == self.rules.yes:
            return self.bids.levels(), self.asks.levels()
        return _mirrored(self.asks), _mirrored(self.bids)


def last_trade_text(price: Price | None) -> str:
    """Print a last trade price as Polymarket does: at least three decimals, "" before the first trade."""
    if price is None:
        return ""
    digits = f"{price % MICRO:06d}"
    return f"{price // MICRO}.{digits[:3]}{digits[3:].rstrip('0')}"


def notional_of(size: int, price: int) -> Notional:
    """Shares times price, rounded down: what changes hands in a fill (ExchangeV2 divides integers)."""
    return Notional(size * price // MICRO)


def shares_for(money: int, price: int) -> Size:
    """Money divided by a price, rounded down: what a buying maker gets for what he gives."""
    return Size(money * MICRO // price)


def _mirrored(side: BookSide) -> tuple[Level, ...]:
    return tuple(Level(complement(level.price), level.size) for level in side.levels())
