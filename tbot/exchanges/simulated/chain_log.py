"""What a chain would have seen: settled trades and movements of collateral, in the order in which they took effect.

A trade is here once it is MINED, never before, and a failed one never: whoever reads this log lags the exchange's own
records by the settlement, as an index of a real chain does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from itertools import islice

import msgspec

from tbot.core.market import MarketId, TokenId
from tbot.core.messages import TradeId
from tbot.core.units import Nanos
from tbot.exchanges.simulated.collateral import Movement, move, tokens_moved
from tbot.exchanges.simulated.ledger import CASH, Ledger
from tbot.exchanges.simulated.operations import Account, Done, MarketRules, Refused


class Mined(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A trade came into force."""

    trade_id: TradeId
    at_ns: Nanos


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """Collateral came in or went out, or became tokens, or tokens became it.

    Attributes:
        operation: What was done.
        tokens: (token, micro-shares) that the account got, negative for what it gave; none that stayed as it was.
        cash: Micro-dollars that it got or, negative, gave.
    """

    operation: Movement
    tokens: tuple[tuple[TokenId, int], ...]
    cash: int
    at_ns: Nanos


ChainEntry = Mined | Moved


class ChainLog:
    """What happened, and when.

    Attributes:
        resolved: When each market was resolved.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._entries: deque[ChainEntry] = deque()
        self._forgotten = 0
        self.resolved: dict[MarketId, Nanos] = {}

    def __len__(self) -> int:
        return self._forgotten + len(self._entries)

    def read(self, begin: int, most: int) -> tuple[int, list[ChainEntry]]:
        """Give entries, oldest first, settled trades and movements.

        Args:
            begin: Number of the first one wanted; what is forgotten is passed over.
            most: How many at most.

        Returns:
            The number of the next one, and the entries.
        """
        first = max(begin - self._forgotten, 0)
        found = list(islice(self._entries, first, first + most))
        return self._forgotten + first + len(found), found

    def forget(self, begins_ns: Nanos) -> None:
        """Remove every entry from before a moment."""
        while self._entries and self._entries[0].at_ns < begins_ns:
            self._entries.popleft()
            self._forgotten += 1

    def settle(self, trade_id: TradeId, at_ns: Nanos) -> None:
        """Note that a trade was MINED."""
        self._entries.append(Mined(trade_id=trade_id, at_ns=at_ns))

    def move(
        self, ledger: Ledger, markets: Mapping[MarketId, MarketRules], operation: Movement, at_ns: Nanos
    ) -> Done | Refused:
        """Do what an operation asks for, and note what its account got and gave."""
        account = operation.account
        assets = (CASH, *tokens_moved(markets, operation))
        before = [ledger.owned(account, asset) for asset in assets]
        reply = move(ledger, markets, operation)
        if isinstance(reply, Done):
            (_, cash), *tokens = _changes(ledger, account, assets, before)
            kept = tuple((token, amount) for token, amount in tokens if amount)
            self._entries.append(Moved(operation=operation, tokens=kept, cash=cash, at_ns=at_ns))
        return reply


def _changes(
    ledger: Ledger, account: Account, assets: tuple[TokenId, ...], before: list[int]
) -> list[tuple[TokenId, int]]:
    return [(asset, ledger.owned(account, asset) - was) for asset, was in zip(assets, before, strict=True)]
