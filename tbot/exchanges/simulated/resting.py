"""Every order ever taken, those that still rest or are held, and what each account has bound by them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator

from tbot.core.market import MarketId, TokenId
from tbot.core.messages import ExchangeOrderId, OrderState, Side
from tbot.exchanges.simulated.contracts import AssetType, asset_type_of
from tbot.exchanges.simulated.ledger import CASH, Ledger
from tbot.exchanges.simulated.operations import ANY_MARKET, ANY_TOKEN, Account, PlaceOrder
from tbot.exchanges.simulated.orderbook import Order

NOT_FOUND = "Order not found or already canceled"
ALREADY_ENDED = "order can't be found - already canceled or matched"

Group = tuple[TokenId, str]
"""What orders of one account draw on together: an asset, and of collateral the market, "" where that is no matter."""

Spending = tuple[Account, AssetType, str]
"""An approval that orders need: of whom, for what, and which contract moves it."""


class OrderTable:
    """Orders by id and by account, with running sums of reservations.

    A BUY binds collateral of its market, a SELL binds its token: one dollar may back buys in several markets at once,
    as on Polymarket, so a fill in one market can uncover orders in another.

    Args:
        has_global_reservation: A BUY binds its collateral for all markets instead.
    """

    def __init__(self, *, has_global_reservation: bool = False) -> None:
        self._is_global = has_global_reservation
        self._orders: dict[ExchangeOrderId, Order] = {}
        self._open: dict[Account, dict[ExchangeOrderId, Order]] = {}
        self._held: dict[ExchangeOrderId, Order] = {}
        # By account and group; what binds nothing is not here.
        self._reserved: dict[Account, dict[Group, int]] = {}
        self._spending: dict[Spending, int] = {}

    def __contains__(self, order_id: ExchangeOrderId) -> bool:
        return order_id in self._orders

    def __iter__(self) -> Iterator[Order]:
        return iter(self._orders.values())

    def __getitem__(self, order_id: ExchangeOrderId) -> Order:
        return self._orders[order_id]

    def get(self, order_id: ExchangeOrderId) -> Order | None:
        """Look up an order in any state."""
        return self._orders.get(order_id)

    def objection_to_cancel(self, order_id: ExchangeOrderId, account: Account) -> str:
        """Tell why an account cannot cancel an order; "" = it can."""
        order = self._orders.get(order_id)
        if order is None or order.place.account != account:
            return NOT_FOUND
        # An order in its taker delay cannot be cancelled either; in what words is not documented, and on the book it
        # is not.
        return "" if order.state is OrderState.LIVE else ALREADY_ENDED

    def forget(self, order_id: ExchangeOrderId) -> None:
        """Remove an order that is over; its id is free again."""
        del self._orders[order_id]

    def open_of(self, account: Account) -> tuple[Order, ...]:
        """List the resting orders of one account, oldest first."""
        return tuple(self._open.get(account, {}).values())

    def open_ids(self, accounts: Iterable[Account], market_id: MarketId, token_id: TokenId) -> list[ExchangeOrderId]:
        """Name the resting orders of some accounts, or those of one market or token, in order of arrival."""
        found = [
            order
            for account in accounts
            for order in self._open.get(account, {}).values()
            if market_id in (ANY_MARKET, order.market_id) and token_id in (ANY_TOKEN, order.place.token_id)
        ]
        return [order.place.order_id for order in sorted(found, key=lambda order: order.sequence)]

    def open_in(self, market_id: MarketId) -> tuple[Order, ...]:
        """List the resting orders of one market, account by account."""
        return tuple(o for orders in self._open.values() for o in orders.values() if o.market_id == market_id)

    def held_in(self, market_id: MarketId) -> tuple[Order, ...]:
        """List the orders of one market that a delay holds, oldest first."""
        return tuple(order for order in self._held.values() if order.market_id == market_id)

    def reserved_for(self, place: PlaceOrder, market_id: MarketId, without: tuple[Order, ...] = ()) -> int:
        """Tell what the account's resting and held orders, but those, bind of the asset a new order needs."""
        group = self._group(place, market_id)
        freed = sum(order.reserved for order in without if self._group(order.place, order.market_id) == group)
        return self._reserved.get(place.account, {}).get(group, 0) - freed

    def spending_for(self, place: PlaceOrder, without: tuple[Order, ...] = ()) -> int:
        """Tell what the account's resting and held orders, but those, may need of the approval that a new one needs."""
        if not place.spender:
            return 0
        spending = spending_of(place)
        freed = sum(order.reserved for order in without if spending_of(order.place) == spending)
        return self.spending(spending) - freed

    def spending(self, spending: Spending) -> int:
        """Tell what resting and held orders may need of one approval."""
        return self._spending.get(spending, 0)

    def enter(self, order: Order) -> None:
        """Remember a new order; it does not rest yet."""
        self._orders[order.place.order_id] = order

    def hold(self, order: Order, needed: int) -> None:
        """Bind what an order needs during its taker delay; it is not among the open ones and cannot be cancelled."""
        self._held[order.place.order_id] = order
        self._bind(order, needed)

    def release(self, order: Order) -> None:
        """Free what a held order bound: what comes next is decided anew."""
        del self._held[order.place.order_id]
        self._bind(order, 0)

    def rest(self, order: Order) -> None:
        """Count an order among the open ones and bind what it needs."""
        self._open.setdefault(order.place.account, {})[order.place.order_id] = order
        self.reserve(order)

    def reserve(self, order: Order) -> None:
        """Bind what the rest of an open order needs; called again after each fill."""
        self._bind(order, order.making_left)

    def leave(self, order: Order) -> None:
        """Take an order from the open ones and free what it bound."""
        del self._open[order.place.account][order.place.order_id]
        self._bind(order, 0)

    def uncovered(self, account: Account, ledger: Ledger) -> tuple[Order, ...]:
        """List open orders that the account can no longer cover; within a group the oldest keep their cover."""
        # The sums tell whether there are any, so that a fill need not walk through thousands of orders that rest.
        groups = self._reserved.get(account, {})
        if all(bound <= ledger.available(account, asset) for (asset, _), bound in groups.items()):
            return ()
        return beyond(
            self._open.get(account, {}).values(),
            group=lambda order: self._group(order.place, order.market_id),
            limit=lambda order: ledger.available(account, asset_of(order.place)),
        )

    def _bind(self, order: Order, needed: int) -> None:
        groups = self._reserved.setdefault(order.place.account, {})
        group = self._group(order.place, order.market_id)
        groups[group] = groups.get(group, 0) + needed - order.reserved
        if not groups[group]:
            del groups[group]
        if order.place.spender:
            spending = spending_of(order.place)
            self._spending[spending] = self._spending.get(spending, 0) + needed - order.reserved
        order.reserved = needed

    def _group(self, place: PlaceOrder, market_id: MarketId) -> Group:
        is_shared = self._is_global or place.side is Side.SELL
        return asset_of(place), "" if is_shared else market_id


def asset_of(place: PlaceOrder) -> TokenId:
    """Name the asset an order gives: collateral for a BUY, its token for a SELL."""
    return CASH if place.side is Side.BUY else place.token_id


def asset_type_given(place: PlaceOrder) -> AssetType:
    """Name the kind of what a signed order gives."""
    return AssetType.COLLATERAL if place.side is Side.BUY else asset_type_of(place.token_id)


def spending_of(place: PlaceOrder) -> Spending:
    """Name the approval that a signed order needs."""
    return place.account, asset_type_given(place), place.spender


def beyond(
    orders: Iterable[Order], *, group: Callable[[Order], Hashable], limit: Callable[[Order], int]
) -> tuple[Order, ...]:
    """List orders that need more than the limit of their group leaves; in each the oldest keep their cover.

    Args:
        orders: Oldest first.
        group: Which of them share a limit.
        limit: What all of a group may bind together.
    """
    used: dict[Hashable, int] = {}
    uncovered: list[Order] = []
    for order in orders:
        key = group(order)
        covered = used.get(key, 0) + order.reserved
        if covered > limit(order):
            uncovered.append(order)
        else:
            used[key] = covered
    return tuple(uncovered)
