"""Positions with their cost and profit, by average cost, from the log of what was settled.

Pure sums over the chain log, in integers: for every account, to the unit,
realized profit - cost of what is held = cash got - cash given, fees and deposits apart.

Fees are told apart and are in no profit, as in production. A split pays half of its collateral for each outcome, a
merge gets as much. Of a conversion, the NO leave at what they cost and the YES take that over, less the cash it gave.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from tbot.core.market import MarketId, TokenId
from tbot.core.messages import Side, TradeId
from tbot.core.units import MICRO, Nanos, Notional, Size
from tbot.exchanges.simulated.chain_log import ChainEntry, Mined, Moved
from tbot.exchanges.simulated.collateral import is_adapter, payout_of
from tbot.exchanges.simulated.events import Trade
from tbot.exchanges.simulated.matching import Engine
from tbot.exchanges.simulated.operations import (
    EVER,
    Account,
    ConvertPositions,
    Deposit,
    MergePair,
    RedeemTokens,
    SplitPair,
)

ENTRIES_PER_UPDATE = 200
"""How much of the log is read before others get their turn: some milliseconds of work."""


class Fill(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One account's part of a settled trade: all of it for the taker, one leg of it for a maker.

    Attributes:
        notional: Collateral given or got, before fee.
        place: Where it stands among all records, rising.
    """

    account: Account
    trade_id: TradeId
    market_id: MarketId
    token_id: TokenId
    side: Side
    size: Size
    notional: Notional
    fee: Notional
    is_taker: bool
    at_ns: Nanos
    place: int


class Movement(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A movement of collateral, as its account sees it; `place` as of a fill."""

    account: Account
    moved: Moved
    at_ns: Nanos
    place: int


Record = Fill | Movement


@dataclass(kw_only=True)
class Stake:
    """What an account has had of one token. Sizes are micro-shares, money micro-dollars.

    Attributes:
        size: Held now.
        cost: What is held cost, without fees.
        fees: Fees paid for what is held.
        size_total: Ever acquired.
        cost_total: What that cost, without fees.
        realized: Profit of what was given away.
        first_ns: When it was first acquired.
        last_ns: When it last changed.
    """

    size: int = 0
    cost: int = 0
    fees: int = 0
    size_total: int = 0
    cost_total: int = 0
    realized: int = 0
    first_ns: Nanos = EVER
    last_ns: Nanos = EVER

    def acquire(self, size: int, cost: int, fee: int, at_ns: Nanos) -> None:
        """Take shares in."""
        self.first_ns, self.last_ns = self.first_ns or at_ns, at_ns
        self.size, self.size_total = self.size + size, self.size_total + size
        self.cost, self.cost_total = self.cost + cost, self.cost_total + cost
        self.fees += fee

    def release(self, size: int, proceeds: int | None, at_ns: Nanos) -> int:
        """Give shares away for some money, None = for what they cost; tell what they cost."""
        cost = self.cost * size // self.size
        self.fees -= self.fees * size // self.size
        self.size, self.cost, self.last_ns = self.size - size, self.cost - cost, at_ns
        self.realized += 0 if proceeds is None else proceeds - cost
        return cost


class Portfolios:
    """Everybody's stakes, for ever, and records, as long as the engine remembers what they are of.

    Call `update` until it says that nothing is left, then read.
    """

    def __init__(self, engine: Engine) -> None:
        """Follow the chain log of this engine."""
        self._engine = engine
        self._read = self._noted = 0
        engine.memory.readers.append(self._tend)
        self.records: list[Record] = []
        self._of: dict[Account, list[Record]] = {}
        self._stakes: dict[Account, dict[TokenId, Stake]] = {}

    def update(self) -> bool:
        """Read what was settled since, a part of it at a time; tell whether there is more."""
        self._read, entries = self._engine.chain.read(self._read, ENTRIES_PER_UPDATE)
        for entry in entries:
            self._take(entry)
        return self._read < len(self._engine.chain)

    def accounts(self) -> tuple[Account, ...]:
        """Name everybody who ever had anything, in order of appearance."""
        return tuple(dict.fromkeys((*self._stakes, *self._of)))

    def stakes(self, account: Account) -> dict[TokenId, Stake]:
        """Give what an account has or had of each token, in order of acquisition."""
        return self._stakes.get(account, {})

    def records_of(self, account: Account) -> list[Record]:
        """Give everything an account took part in, oldest first."""
        return self._of.get(account, [])

    def _take(self, entry: ChainEntry) -> None:
        match entry:
            case Mined():
                for fill in fills(self._engine.trade(entry.trade_id), entry.at_ns, place=self._noted):
                    self._fill(fill)
            case Moved() if not is_adapter(entry.operation.account):
                self._move(entry)

    def _fill(self, fill: Fill) -> None:
        self._note(fill)
        stake = self._stake(fill.account, fill.token_id)
        if fill.side is Side.BUY:
            stake.acquire(fill.size, fill.notional, fill.fee, fill.at_ns)
        else:
            stake.release(fill.size, fill.notional, fill.at_ns)

    def _move(self, moved: Moved) -> None:
        operation, at_ns = moved.operation, moved.at_ns
        account = operation.account
        self._note(Movement(account=account, moved=moved, at_ns=at_ns, place=self._noted))
        match operation:
            case SplitPair() | MergePair():
                for (token_id, size), money in zip(moved.tokens, halves(abs(moved.cash)), strict=True):
                    self._exchange(account, token_id, size, money, at_ns)
            case RedeemTokens():
                rules = self._engine.rules(operation.market_id)
                for token_id, size in moved.tokens:
                    self._exchange(account, token_id, size, -size * payout_of(rules, token_id) // MICRO, at_ns)
            case ConvertPositions():
                self._convert(account, moved)
            case Deposit():
                pass

    def _exchange(self, account: Account, token_id: TokenId, size: int, money: int, at_ns: Nanos) -> None:
        if size > 0:
            self._stake(account, token_id).acquire(size, money, 0, at_ns)
        else:
            self._stake(account, token_id).release(-size, money, at_ns)

    # The cash goes first against what the NO cost; what it exceeds that by is profit of the last of them.
    def _convert(self, account: Account, moved: Moved) -> None:
        given = [(token_id, -size) for token_id, size in moved.tokens if size < 0]
        got = [(token_id, size) for token_id, size in moved.tokens if size > 0]
        stakes = [self._stake(account, token_id) for token_id, _ in given]
        cost = sum(stake.release(size, None, moved.at_ns) for stake, (_, size) in zip(stakes, given, strict=True))
        left = cost - moved.cash
        carried = max(left, 0) if got else 0
        stakes[-1].realized += carried - left
        for index, (token_id, size) in enumerate(got):
            share = carried // len(got) + (1 if index < carried % len(got) else 0)
            self._stake(account, token_id).acquire(size, share, 0, moved.at_ns)

    def _stake(self, account: Account, token_id: TokenId) -> Stake:
        return self._stakes.setdefault(account, {}).setdefault(token_id, Stake())

    def _tend(self) -> None:
        while self.update():
            pass
        memory, now_ns = self._engine.memory, self._engine.now_ns
        begins_ns = {account: memory.begins_ns(account, now_ns) for account in self._of}
        self.records = [record for record in self.records if record.at_ns >= begins_ns[record.account]]
        self._of = {}
        for record in self.records:
            self._of.setdefault(record.account, []).append(record)

    def _note(self, record: Record) -> None:
        self._noted += 1
        self.records.append(record)
        self._of.setdefault(record.account, []).append(record)


def fills(trade: Trade, at_ns: Nanos, *, place: int) -> list[Fill]:
    """List every account's part of a trade, the taker's first; the first one's place is given."""
    taker = Fill(
        account=trade.taker_account,
        trade_id=trade.trade_id,
        market_id=trade.market_id,
        token_id=trade.token_id,
        side=trade.side,
        size=trade.size,
        notional=trade.notional,
        fee=trade.fee,
        is_taker=True,
        at_ns=at_ns,
        place=place,
    )
    makers = [
        Fill(
            account=leg.account,
            trade_id=trade.trade_id,
            market_id=trade.market_id,
            token_id=leg.token_id,
            side=leg.side,
            size=leg.size,
            notional=leg.notional,
            fee=Notional(0),
            is_taker=False,
            at_ns=at_ns,
            place=place + index,
        )
        for index, leg in enumerate(trade.legs, start=1)
    ]
    return [taker, *makers]


def halves(money: int) -> tuple[int, int]:
    """Share an amount between the two outcomes; an odd unit goes to YES."""
    return money - money // 2, money // 2
