"""Who owns what: the exchange's own books, sharing no arithmetic with the bot's.

A trade is booked in full when it matches, and undone in full when it fails. What a trade brings in is pending until it
is MINED: it is owned but cannot be spent, so undoing a trade never needs what its owner has already spent.

Always, to the unit: cash of all accounts + collateral locked + fees collected = deposits; and until tokens of a
resolved market are redeemed, all YES = all NO = collateral locked in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tbot.core.market import MarketId, TokenId
from tbot.core.messages import Side
from tbot.core.units import Notional, Size
from tbot.exchanges.simulated.events import Balances, MatchKind, Trade
from tbot.exchanges.simulated.operations import Account

CASH = TokenId("")
"""Collateral, as an asset beside the tokens."""

Holding = tuple[Account, TokenId]


class Ledger:
    """Balances of all accounts. Amounts are millionths of shares or dollars."""

    def __init__(self) -> None:
        self.fees = Notional(0)
        self.deposits = Notional(0)
        self._owned: dict[Holding, int] = {}
        self._pending: dict[Holding, int] = {}
        self._leaving: dict[Holding, int] = {}
        self._locked: dict[MarketId, int] = {}

    def has_account(self, name: str) -> bool:
        """Whether an account ever had anything."""
        return any(account == name for account, _ in self._owned)

    def owned(self, account: Account, asset: TokenId) -> int:
        """Everything that belongs to the account, unsettled incomings included."""
        return self._owned.get((account, asset), 0)

    def pending(self, account: Account, asset: TokenId) -> int:
        """The part that came in by trades not yet MINED."""
        return self._pending.get((account, asset), 0)

    def leaving(self, account: Account, asset: TokenId) -> int:
        """The part that went out by trades not yet MINED: on chain it is still there."""
        return self._leaving.get((account, asset), 0)

    def available(self, account: Account, asset: TokenId) -> int:
        """What can be traded with: owned and not pending."""
        holding = (account, asset)
        return self._owned.get(holding, 0) - self._pending.get(holding, 0)

    def locked(self, market_id: MarketId) -> Notional:
        """Collateral that backs the pairs of a market."""
        return Notional(self._locked.get(market_id, 0))

    def holdings(self) -> dict[Holding, int]:
        """Copy every balance, for auditors."""
        return dict(self._owned)

    def state(self) -> tuple[object, ...]:
        """Give everything that a digest covers, in an order of its own."""
        return sorted((*holding, amount) for holding, amount in self._owned.items()), self.fees, self.deposits

    def deposit(self, account: Account, cash: Notional) -> None:
        """Bring collateral in, or out when negative; the caller has checked that it is there."""
        self._add(account, CASH, cash)
        self.deposits = Notional(self.deposits + cash)

    def split(self, account: Account, *, market_id: MarketId, yes: TokenId, no: TokenId, size: int) -> None:
        """Make pairs from collateral, or collateral from pairs when negative."""
        self._add(account, CASH, -size)
        self._add(account, yes, size)
        self._add(account, no, size)
        self._locked[market_id] = self._locked.get(market_id, 0) + size

    def redeem(self, account: Account, *, market_id: MarketId, token_id: TokenId, size: int, paid: int) -> None:
        """Burn tokens of a resolved market for what they pay."""
        self._add(account, token_id, -size)
        self._add(account, CASH, paid)
        self._locked[market_id] = self._locked.get(market_id, 0) - paid

    def move(self, giver: Account, taker: Account, asset: TokenId, amount: int) -> None:
        """Hand something over; the caller has checked that the giver may."""
        self._add(giver, asset, -amount)
        self._add(taker, asset, amount)

    def balances(self, account: Account, tokens: Iterable[TokenId]) -> Balances:
        """Tell everything an account can trade with, and what is still on its way in."""
        tokens = tuple(tokens)
        return Balances(
            cash=Notional(self.available(account, CASH)),
            tokens=tuple((t, Size(self.available(account, t))) for t in tokens),
            cash_pending=Notional(self.pending(account, CASH)),
            tokens_pending=tuple((t, Size(self.pending(account, t))) for t in tokens),
            cash_leaving=Notional(self.leaving(account, CASH)),
            tokens_leaving=tuple((t, Size(self.leaving(account, t))) for t in tokens),
        )

    def check(self, trade: Trade) -> None:
        """See, before a trade is booked, that everybody can pay: a match is whole or not at all."""
        given: dict[Holding, int] = {}
        for account, asset, amount in flows(trade):
            given[account, asset] = given.get((account, asset), 0) + max(0, -amount)
        for holding, amount in given.items():
            assert amount <= self.available(*holding), "an order was matched that its account could not cover"

    def book(self, trade: Trade) -> None:
        """Enter a matched trade that was checked; its incomings are pending."""
        for account, asset, amount in flows(trade):
            self._add(account, asset, amount)
            self._pend(account, asset, amount, sign=1)
        self._lock(trade, 1)

    def settle(self, trade: Trade) -> None:
        """Release the incomings of a trade that was MINED."""
        for account, asset, amount in flows(trade):
            self._pend(account, asset, amount, sign=-1)

    def reverse(self, trade: Trade) -> None:
        """Undo a trade that FAILED before it was MINED."""
        self.settle(trade)
        for account, asset, amount in flows(trade):
            self._add(account, asset, -amount)
        self._lock(trade, -1)

    def _lock(self, trade: Trade, sign: int) -> None:
        self.fees = Notional(self.fees + sign * trade.fee)
        locked = self._locked.get(trade.market_id, 0)
        self._locked[trade.market_id] = locked + sign * locked_by(trade)

    def _add(self, account: Account, asset: TokenId, amount: int) -> None:
        holding = (account, asset)
        self._owned[holding] = self._owned.get(holding, 0) + amount

    def _pend(self, account: Account, asset: TokenId, amount: int, *, sign: int) -> None:
        holding, way = (account, asset), self._pending if amount > 0 else self._leaving
        way[holding] = way.get(holding, 0) + sign * abs(amount)


def flows(trade: Trade) -> Iterator[tuple[Account, TokenId, int]]:
    """List what each party of a trade gives (negative) and gets, per asset, the taker's fee included."""
    taker = trade.taker_account
    if trade.side is Side.BUY:
        yield taker, CASH, -(trade.notional + trade.fee)
        yield taker, trade.token_id, trade.size
    else:
        yield taker, trade.token_id, -trade.size
        yield taker, CASH, trade.notional - trade.fee
    for leg in trade.legs:
        sign = 1 if leg.side is Side.BUY else -1
        yield leg.account, CASH, -sign * leg.notional
        yield leg.account, leg.token_id, sign * leg.size


def locked_by(trade: Trade) -> Size:
    """Tell by how much a trade changes the collateral locked: mints lock, merges free."""
    signs = {MatchKind.NORMAL: 0, MatchKind.MINT: 1, MatchKind.MERGE: -1}
    return Size(sum(signs[leg.kind] * leg.size for leg in trade.legs))
