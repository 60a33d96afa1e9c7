"""Every trade ever made: how it comes from a match, and where to find it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import msgspec

from tbot.core.messages import ExchangeOrderId, Settlement, TradeId
from tbot.core.units import Nanos, Notional
from tbot.exchanges.simulated.events import MakerLeg, Trade
from tbot.exchanges.simulated.operations import Account, PlaceOrder
from tbot.exchanges.simulated.orderbook import UnifiedBook
from tbot.exchanges.simulated.planning import Match, MatchPlan
from tbot.exchanges.simulated.turnover import Turnover


class TradeLog:
    """Trades by id and by account, oldest first.

    Attributes:
        turnover: Sums over all of them, those forgotten included.
    """

    def __init__(self) -> None:
        self.turnover = Turnover()
        self._trades: dict[TradeId, Trade] = {}
        # Ids by account; a dict, because any of them may be forgotten.
        self._of: dict[Account, dict[TradeId, None]] = {}
        self._count = 0

    def __iter__(self) -> Iterator[Trade]:
        return iter(self._trades.values())

    def __getitem__(self, trade_id: TradeId) -> Trade:
        return self._trades[trade_id]

    def of(self, account: Account, since_ns: Nanos) -> tuple[Trade, ...]:
        """List trades of one account matched at or after a moment, oldest first."""
        found: list[Trade] = []
        for trade_id in reversed(self._of.get(account, {})):
            trade = self._trades[trade_id]
            if trade.matched_ns < since_ns:
                break
            found.append(trade)
        return tuple(reversed(found))

    def next_id(self, taker_order_id: ExchangeOrderId) -> TradeId:
        """Name the next trade of an order."""
        return id_of(taker_order_id, self._count)

    def add(self, trade: Trade) -> None:
        """Remember a new trade under all its parties."""
        self._count += 1
        self._trades[trade.trade_id] = trade
        for account in parties(trade):
            self._of.setdefault(account, {})[trade.trade_id] = None
        self.turnover.count(trade)

    def forget(self, trade_id: TradeId) -> None:
        """Remove a trade that is settled."""
        for account in parties(self._trades.pop(trade_id)):
            del self._of[account][trade_id]

    def settle(self, trade_id: TradeId, settlement: Settlement, now_ns: Nanos) -> Trade:
        """Note the next status of a trade and give it as it stands now."""
        trade = self._trades[trade_id]
        history = (*trade.history, (settlement, now_ns))
        self.replace(msgspec.structs.replace(trade, settlement=settlement, history=history))
        return self._trades[trade_id]

    def replace(self, trade: Trade) -> None:
        """Take over a trade as it stands now."""
        self._trades[trade.trade_id] = trade


def id_of(taker_order_id: ExchangeOrderId, number: int) -> TradeId:
    """Name a trade, the n-th of its exchange: a random UUID to whoever looks at it, the same one in every replay."""
    text = hashlib.sha256(f"trade:{taker_order_id}:{number}".encode()).hexdigest()
    variant = "89ab"[int(text[16], 16) % 4]
    return TradeId(f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:32]}")


class Deal(msgspec.Struct, frozen=True, kw_only=True):
    """A trade about to be made, and what it matches."""

    trade: Trade
    matches: tuple[Match, ...]


def make_deal(
    log: TradeLog, place: PlaceOrder, plan: MatchPlan, book: UnifiedBook, *, exchange_ms: int, now_ns: Nanos
) -> Deal | None:
    """Make the one trade of a plan, whatever its prices, and enter it nowhere; None = nothing matches.

    Of 2,198 trades captured on 2026-02-28 no two share a transaction, and 307 have an averaged price off the grid.
    """
    if not plan.crosses:
        return None
    trade = Trade(
        trade_id=log.next_id(place.order_id),
        market_id=book.rules.market_id,
        taker_order_id=place.order_id,
        taker_account=place.account,
        token_id=place.token_id,
        side=place.side,
        price=plan.price,
        size=plan.size,
        notional=Notional(sum(match.taker_notional for match in plan.matches)),
        fee=plan.fee,
        legs=tuple(_leg(match) for match in plan.matches),
        exchange_ms=exchange_ms,
        matched_ns=now_ns,
        settlement=Settlement.MATCHED,
        history=((Settlement.MATCHED, now_ns),),
        taker_owner=place.owner,
    )
    return Deal(trade=trade, matches=plan.matches)


def parties(trade: Trade) -> tuple[Account, ...]:
    """Name everybody who takes part in a trade, once each, the taker first."""
    return tuple(dict.fromkeys((trade.taker_account, *(leg.account for leg in trade.legs))))


def _leg(match: Match) -> MakerLeg:
    place = match.maker.place
    return MakerLeg(
        order_id=place.order_id,
        account=place.account,
        token_id=place.token_id,
        side=place.side,
        price=place.price,
        size=match.size,
        notional=match.notional,
        taker_notional=match.taker_notional,
        kind=match.kind,
        owner=place.owner,
    )
