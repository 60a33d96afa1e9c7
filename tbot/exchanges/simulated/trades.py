"""Every trade ever made: how it comes from a match, and where to find it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import msgspec

from tbot.core.messages import ExchangeOrderId, Settlement, TradeId
from tbot.core.units import Nanos, Notional, Price, Size
from tbot.exchanges.simulated.events import MakerLeg, Trade
from tbot.exchanges.simulated.operations import Account, PlaceOrder
from tbot.exchanges.simulated.orderbook import UnifiedBook
from tbot.exchanges.simulated.planning import Match, MatchPlan, fee_of
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

    def next_id(self, taker_order_id: ExchangeOrderId, after: int = 0) -> TradeId:
        """Name the next trade of an order, or the one after so many more."""
        return id_of(taker_order_id, self._count + after)

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


def make_deals(
    log: TradeLog, place: PlaceOrder, plan: MatchPlan, book: UnifiedBook, *, exchange_ms: int, now_ns: Nanos
) -> tuple[Deal, ...]:
    """Make the trades of a plan, one a price, and enter none."""
    first = log.next_id(place.order_id)
    at, deals = (exchange_ms, now_ns), list[Deal]()
    for after, matches in enumerate(by_price(plan.matches)):
        trade_id = log.next_id(place.order_id, after)
        trade = _make_trade((trade_id, first), place, matches, book, at=at)
        deals.append(Deal(trade=trade, matches=tuple(matches)))
    return tuple(deals)


def _make_trade(
    ids: tuple[TradeId, TradeId], place: PlaceOrder, matches: list[Match], book: UnifiedBook, *, at: tuple[int, Nanos]
) -> Trade:
    (trade_id, transaction_id), (exchange_ms, now_ns) = ids, at
    price = matches[0].price
    size = Size(sum(m.size for m in matches))
    return Trade(
        trade_id=trade_id,
        transaction_id=transaction_id,
        market_id=book.rules.market_id,
        taker_order_id=place.order_id,
        taker_account=place.account,
        token_id=place.token_id,
        side=place.side,
        price=price,
        size=size,
        notional=Notional(sum(m.taker_notional for m in matches)),
        fee=fee_of(price, size, book.rules),
        legs=tuple(_leg(match) for match in matches),
        exchange_ms=exchange_ms,
        matched_ns=now_ns,
        settlement=Settlement.MATCHED,
        history=((Settlement.MATCHED, now_ns),),
        taker_owner=place.owner,
    )


def parties(trade: Trade) -> tuple[Account, ...]:
    """Name everybody who takes part in a trade, once each, the taker first."""
    return tuple(dict.fromkeys((trade.taker_account, *(leg.account for leg in trade.legs))))


def by_price(matches: tuple[Match, ...]) -> tuple[list[Match], ...]:
    """Group matches by the price of the taker's token, best first: one trade each."""
    groups: dict[Price, list[Match]] = {}
    for match in matches:
        groups.setdefault(match.price, []).append(match)
    return tuple(groups.values())


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
