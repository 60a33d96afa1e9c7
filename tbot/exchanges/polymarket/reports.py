"""One sweep over what the exchange holds of our account, as an `ExchangeReport`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import NamedTuple

import msgspec
import structlog

from tbot.core.market import TokenId
from tbot.core.messages import ExchangeOrderId, ExchangeReport, Fill, OpenOrder
from tbot.core.reconcile import FINAL_STATES
from tbot.core.units import NANOS_PER_S, Nanos, Notional, Size
from tbot.errors import BadFrame, ExchangeUnavailable
from tbot.exchanges.polymarket.fills import (
    FeeOf,
    Ownership,
    fills_of,
    open_order,
    order_lookup,
    order_state,
    was_taker,
)
from tbot.exchanges.polymarket.rest import Rest
from tbot.exchanges.polymarket.rows import Listed, listed, row_head
from tbot.exchanges.polymarket.single_reads import Lookups, RowReads
from tbot.exchanges.polymarket.unread import TradeKey, UnreadTrades
from tbot.exchanges.polymarket.wire import OrderRow, TradeRow, decode

log = structlog.get_logger()

_ORDER = msgspec.json.Decoder(OrderRow)
_TRADE = msgspec.json.Decoder(TradeRow)

# The window of this path lets 10 a second pass, and each is a round trip: more would hold the next look at orders and
# trades back. 200 tokens are told within two minutes.
BALANCES_EACH = 10
# Beside those in turn, of those with orders, fills or shares: what a report can tell within a second all in all.
BALANCES_BUSY = 5
# Of those that are wanted: what the window gives in ten seconds, so that no report looks like a wedged task.
BALANCES_MOST = 100


class _Trade(NamedTuple):
    # What a trade is by its id: its status as they spell it, and our fills in it.
    status: str
    fills: tuple[Fill, ...]


class Reporter:
    """Reads reports for one account."""

    def __init__(
        self, rest: Rest, *, ours: Ownership, fee_of: FeeOf, signature_type: int, now_ns: Callable[[], Nanos]
    ) -> None:
        """Keep what every report needs.

        Args:
            rest: Signed for the account.
            ours: What marks an order as ours.
            fee_of: Taker fee of a token at a price and size.
            signature_type: Chooses the wallet whose balances are told.
            now_ns: Wall time.
        """
        self._rest = rest
        self._ours = ours
        self._fee_of = fee_of
        self._signature_type = signature_type
        self._now_ns = now_ns
        self._told: dict[TokenId, int] = {}
        self._held: dict[TokenId, Size] = {}
        self._lookups = Lookups()
        # An order may change while its row stands, a trade only by its status, which its row tells.
        self._orders_read: RowReads[OpenOrder | None] = RowReads(self._order_by_id, lambda _row, _order: False)
        self._trades_read: RowReads[_Trade] = RowReads(self._trade_by_id, lambda row, told: told.status == _status(row))
        self._reports = 0
        self._unreadable = self._unreadable_told = 0
        self._unread = UnreadTrades()

    async def report(
        self,
        since_ns: Nanos,
        lookups: Sequence[ExchangeOrderId],
        tokens: Collection[TokenId],
        balances_of: Collection[TokenId] = (),
    ) -> ExchangeReport:
        """Read open orders, then trades, then single orders, then balances.

        In this order: an order filled between the first two reads is missing from the list but present in the fills,
        never missing from both.

        Args:
            since_ns: Fills at or after this moment.
            lookups: Orders to ask for one by one; beyond some they are told by the next reports, wanted again or not.
            tokens: Whose fills are told, and whose balances in turn; other markets of the account are left out.
            balances_of: Those of them whose balances go first; beyond a hundred they take several reports.

        Raises:
            ExchangeUnavailable: Nothing is known; try again later, at once where there are more rows to be read by id.
            AuthenticationFailed: The credentials are refused.
        """
        requested_ns = self._now_ns()
        self._unreadable = 0
        orders = await self._open_orders(tokens)
        fills = await self._fills_since(since_ns, tokens)
        found = [(each, await self._rest.order(each)) for each in self._lookups.turn(lookups)]
        busy = {fill.token_id for fill in fills} | {order.token_id for order in orders if order is not None}
        balances = [(token, Size(await self._balance(token))) for token in self._turn(tokens, balances_of, busy)]
        self._held |= dict(balances)
        cash = Notional(await self._balance(None))
        self._tell_unreadable()
        with undecodable_is_unavailable("report"):
            report = ExchangeReport(
                requested_ns=requested_ns,
                received_ns=self._now_ns(),
                open_orders=tuple(order for order in orders if order is not None),
                fills=tuple(fill for fill in fills if fill.token_id in tokens),
                lookups=tuple(order_lookup(each, row) for each, row in found),
                balances=tuple(balances),
                cash=cash,
            )
        self._lookups.told(each for each, _ in found)
        return report

    def _turn(
        self, tokens: Collection[TokenId], wanted: Collection[TokenId], busy: Collection[TokenId]
    ) -> list[TokenId]:
        """Choose whose balances this report tells: what is wanted first, then those not told for longest.

        Some of those where something happens, or is held, are told beside them: there differences arise.
        """
        self._reports += 1
        count = min(max(BALANCES_EACH, len(wanted)), BALANCES_MOST)
        in_turn = sorted(tokens, key=lambda token: (token not in wanted, self._told.get(token, 0)))
        chosen = dict.fromkeys(in_turn[:count], self._reports)
        lively = (token for token in in_turn[count:] if token in busy or self._held.get(token))
        beside = BALANCES_BUSY if len(wanted) < BALANCES_EACH else 0
        chosen |= dict.fromkeys(islice(lively, beside), self._reports)
        self._told |= chosen
        return [token for token in tokens if token in chosen]

    async def _open_orders(self, tokens: Collection[TokenId]) -> list[OpenOrder | None]:
        rows = [listed(row, _order_said) for row in await self._rest.open_orders()]
        await self._orders_read.read((each.row, each.head.row_id) for each in rows if each.is_to_be_asked(tokens))
        orders = [self._open_order(each, tokens) for each in rows]
        self._orders_read.end(each.row for each in rows)
        return orders

    def _open_order(self, order: Listed[OpenOrder], tokens: Collection[TokenId]) -> OpenOrder | None:
        """Give a listed order, told by its id where the row cannot be read; None = not of our markets, or over by now.

        Raises:
            ExchangeUnavailable: It may be ours, and cannot be read, or has no id to ask by.
        """
        said, head = order.said, order.head
        if isinstance(said, OpenOrder):
            return said
        if head.is_foreign(tokens):
            self._unreadable += 1
            return None
        log.warning("report.row_unreadable", what="order", row_id=head.row_id[:80], error=str(said)[:200])
        if not head.row_id:
            raise ExchangeUnavailable(f"report: a row that may be ours names no order: {said}") from said
        with undecodable_is_unavailable(f"order {head.row_id[:80]}"):
            return self._orders_read.answer(order.row)

    async def _order_by_id(self, order_id: str) -> OpenOrder | None:
        again = await self._rest.order(ExchangeOrderId(order_id))
        if again is None:
            raise BadFrame("its row cannot be read, and it is not found by its id")
        return None if order_state(again) in FINAL_STATES else open_order(again)

    async def _fills_since(self, since_ns: Nanos, tokens: Collection[TokenId]) -> list[Fill]:
        # A second earlier: whether their `after` includes its own second is not documented.
        told = await self._rest.trades(after=str(max(0, since_ns // NANOS_PER_S - 1)))
        rows = [listed(row, self._fills_said) for row in told]
        await self._trades_read.read((each.row, each.head.row_id) for each in rows if each.is_to_be_asked(tokens))
        fills: list[Fill] = []
        waiting: ExchangeUnavailable | None = None
        for each in rows:
            try:
                fills += self._fills_of(each, tokens)
                self._unread.forget(_key(each))
            except BadFrame as error:
                if not self._is_left_out(_key(each), error):
                    waiting = ExchangeUnavailable(f"trade {_key(each).text[:80]}: {error}")
        self._trades_read.end(each.row for each in rows)
        if waiting is not None:
            raise waiting
        for key in self._unread.due(frozenset(map(_key, rows))):
            with suppress(BadFrame):
                fills += (await self._trade_by_id(key.text)).fills
                self._unread.forget(key)
        return fills

    def _is_left_out(self, key: TradeKey, error: BadFrame) -> bool:
        """Note that a trade cannot be read once more, and tell whether the report goes on without it."""
        is_too_often = self._unread.fail(key)
        if is_too_often:
            log.error("report.trade_left_out", trade_id=key.text[:80], error=str(error)[:200])
        elif not self._unread.is_left_out(key):
            log.warning("report.row_unreadable", what="trade", row_id=key.text[:80], error=str(error)[:200])
        return self._unread.is_left_out(key)

    def _fills_of(self, trade: Listed[list[Fill]], tokens: Collection[TokenId]) -> Sequence[Fill]:
        said, head = trade.said, trade.head
        if isinstance(said, list):
            return said
        if head.is_foreign(tokens):
            self._unreadable += said is not None
            return []
        if not head.row_id:
            raise said or BadFrame("it does not say which orders were met, and names no trade to ask for")
        return self._trades_read.answer(trade.row).fills

    async def _trade_by_id(self, trade_id: str) -> _Trade:
        again = [each for each in await self._rest.trades(id=trade_id) if row_head(each).row_id == trade_id]
        if not again:
            raise BadFrame("its row does not do, and it is not found by its id")
        trades = [decode(_TRADE, each) for each in again]
        return _Trade(trades[-1].status, tuple(fill for each in trades for fill in self._fills_told(each)))

    def _fills_said(self, row: bytes) -> list[Fill] | None:
        """Read our fills from a listed trade; None = it does not say enough."""
        trade = decode(_TRADE, row)
        return None if self._is_bare(trade) else self._fills_told(trade)

    # Lists may come without the maker legs, and then do not say which orders of ours were hit, nor always our role in
    # it; nor, where a taker met several prices and is told their average, what he paid to the unit.
    def _is_bare(self, trade: TradeRow) -> bool:
        return not trade.maker_orders and (not was_taker(trade, self._ours) or _is_averaged(trade.price))

    def _fills_told(self, trade: TradeRow) -> list[Fill]:
        return list(fills_of(trade, self._ours, self._fee_of, self._now_ns()))

    # The same rows come at every report: they are told when their number changes.
    def _tell_unreadable(self) -> None:
        if self._unreadable != self._unreadable_told:
            self._unreadable_told = self._unreadable
            log.warning("report.rows_left_out", count=self._unreadable)

    async def _balance(self, token_id: TokenId | None) -> int:
        return await self._rest.balance(token_id, signature_type=self._signature_type)


def _order_said(row: bytes) -> OpenOrder:
    return open_order(decode(_ORDER, row))


def _status(row: bytes) -> str:
    """Give the status that a listed trade tells; "" where it cannot be read."""
    try:
        return decode(_TRADE, row).status
    except BadFrame:
        return ""


# A row without an id is known by what it says.
def _key(trade: Listed[list[Fill]]) -> TradeKey:
    row_id = trade.head.row_id
    return TradeKey(row_id or trade.row[:500].decode(errors="replace"), is_id=bool(row_id))


# No grid is finer than four decimals.
def _is_averaged(price: str) -> bool:
    return len(price.partition(".")[2].rstrip("0")) > 4


@contextmanager
def undecodable_is_unavailable(what: str) -> Iterator[None]:
    """Tell callers of reads the one thing they handle: nothing is known, try again."""
    try:
        yield
    except BadFrame as error:
        raise ExchangeUnavailable(f"{what}: {error}") from error
