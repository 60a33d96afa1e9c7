"""How much of what a wallet holds each exchange contract may move. Without limit, until somebody says otherwise.

Collateral is allowed by amount, and what was traded since uses it up; of tokens a contract may move all or none. What a
missing approval refused or cancelled can be ordered again once it is given, as with a real wallet.

Unlike a balance, which backs buys of every market at once, an allowance is one number for all markets of its contract:
open orders of all of them count against it, so that fills can never use up more than it.

Approvals for other contracts change nothing here and are told to whoever asks, the newest of each wallet: anybody can
give them, and as many as there are addresses.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from eth_utils.address import to_checksum_address

from tbot.core.messages import ExchangeOrderId, Settlement, Side, TradeId
from tbot.exchanges.simulated.contracts import SETTLING, AssetType
from tbot.exchanges.simulated.events import Trade
from tbot.exchanges.simulated.operations import Account, Approve, Done, PlaceOrder
from tbot.exchanges.simulated.orderbook import Order
from tbot.exchanges.simulated.resting import OrderTable, Spending, beyond, spending_of

UNLIMITED = (1 << 256) - 1

OTHERS_MAX = 32
"""Limited approvals remembered of one wallet, for contracts that settle nothing: the official client gives a dozen."""

Grant = tuple[AssetType, str]


class Allowances:
    """Every approval that was limited.

    Args:
        orders: What needs them.
    """

    def __init__(self, orders: OrderTable) -> None:
        self._orders = orders
        # By account, so that nobody's trades walk the approvals of others.
        self._left: dict[Account, dict[Grant, int]] = {}
        # What trades used up that may still fail, which gives it back.
        self._used: dict[TradeId, dict[Spending, int]] = {}

    def grant(self, approve: Approve) -> Done:
        """Note what a contract may move from now on; `UNLIMITED` and more is without limit."""
        account, grant = approve.account, (approve.asset, _spelled(approve.spender))
        self._forget(account, grant)
        if int(approve.amount) < UNLIMITED:
            limited = self._left.setdefault(account, {})
            limited[grant] = int(approve.amount)
            others = [each for each in limited if each[1] not in SETTLING]
            if len(others) > OTHERS_MAX:
                self._forget(account, others[0])
        return Done()

    def book(self, trade: Trade) -> None:
        """Use up what the buyers of a new trade pay."""
        if not self._left:
            return
        used: dict[Spending, int] = {}
        for order_id, paid in _payments(trade):
            account, asset, spender = key = spending_of(self._orders[order_id].place)
            limited = self._left.get(account, {})
            if (asset, spender) in limited:
                limited[asset, spender] -= paid
                used[key] = used.get(key, 0) + paid
        if used:
            self._used[trade.trade_id] = used

    def settle(self, trade: Trade) -> None:
        """Give back what a trade used up that failed."""
        if trade.settlement is Settlement.FAILED:
            for (account, asset, spender), paid in self._used.get(trade.trade_id, {}).items():
                self._left[account][asset, spender] += paid
        if trade.settlement in (Settlement.MINED, Settlement.FAILED):
            self._used.pop(trade.trade_id, None)

    def left(self, account: Account, asset: AssetType, spender: str) -> int:
        """Tell how much a contract may still move, base units. Open orders are not deducted."""
        if not self._left:
            return UNLIMITED
        return max(self._left.get(account, {}).get((asset, _spelled(spender)), UNLIMITED), 0)

    def left_for(self, place: PlaceOrder) -> int:
        """Tell how much the contract of an order may still move of what it gives. Open orders are not deducted."""
        if not (self._left and place.spender):
            return UNLIMITED
        return self.left(*spending_of(place))

    def uncovered(self, account: Account) -> tuple[Order, ...]:
        """List open orders that need more than their contract may still move; the oldest keep their cover."""
        # As with balances, the sums tell whether there are any.
        limited = self._left.get(account, {})
        if all(self._orders.spending((account, *grant)) <= left for grant, left in limited.items()):
            return ()
        return beyond(
            self._orders.open_of(account),
            group=lambda order: spending_of(order.place),
            limit=lambda order: self.left_for(order.place),
        )

    def state(self) -> object:
        """Give everything held here, for a digest."""
        used = [(trade_id, sorted((*key, str(paid)) for key, paid in u.items())) for trade_id, u in self._used.items()]
        grants = ((account, grants.items()) for account, grants in self._left.items())
        return sorted((account, *grant, str(left)) for account, limited in grants for grant, left in limited), used

    def _forget(self, account: Account, grant: Grant) -> None:
        limited = self._left.get(account, {})
        if limited.pop(grant, None) is None:
            return
        if not limited:
            del self._left[account]
        for used in self._used.values():
            used.pop((account, *grant), None)


# Three contracts are asked about for every order.
@lru_cache(maxsize=1_024)
def _spelled(spender: str) -> str:
    return str(to_checksum_address(spender))


def _payments(trade: Trade) -> Iterator[tuple[ExchangeOrderId, int]]:
    if trade.side is Side.BUY:
        yield trade.taker_order_id, trade.notional + trade.fee
    for leg in trade.legs:
        if leg.side is Side.BUY:
            yield leg.order_id, leg.notional
