"""Fills -> position, average cost, realized and unrealized PnL, YES/NO pairs.

A fill is not final when it is told: its trade settles on chain seconds later and may still FAIL, and then it never
happened. Average cost depends on the order of fills, so a reversal cannot be a simple subtraction. Each token keeps a
tape: a base into which final fills are folded, and the fills behind it in order of booking. A reversal drops the fill
from the tape and counts again from the base, which is exactly what would stand had the fill never been told.

Two independent sums are kept, cash from the flows of fills and cost/realized from the tapes, and they must meet:
`cash == cash_start + sum(realized - cost - fees)` over all tokens, to the micro-dollar. Nothing is ever rounded away:
what the average-cost division leaves stays in the cost of the shares still held.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from tbot.core.market import TokenId
from tbot.core.messages import ExchangeOrderId, Fill, Settlement, Side, TradeId
from tbot.core.units import Nanos, Notional, Price, Size, notional_floor, price_of_fill_floor

SETTLEMENT_STEPS: dict[Settlement, tuple[Settlement, ...]] = {
    Settlement.MATCHED: (Settlement.RETRYING, Settlement.MINED, Settlement.CONFIRMED, Settlement.FAILED),
    Settlement.RETRYING: (Settlement.MINED, Settlement.CONFIRMED, Settlement.FAILED),
    Settlement.MINED: (Settlement.CONFIRMED, Settlement.FAILED),
    Settlement.CONFIRMED: (),
    Settlement.FAILED: (),
}
"""Forward steps of a trade. Steps may be skipped; a status that is no forward step came late and is ignored."""

# Statuses told before their fill wait here. Sockets reorder by seconds, so a thousand is far more than a busy account
# can have under way; beyond it the oldest is dropped and the next report tells the status again.
EARLY_MAX = 1024
BEGINNING = Nanos(0)


class Position(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What we hold of one token, reversed fills left out.

    Attributes:
        size: Shares held, pending ones included, micro-shares. Negative = oversold: sells were told before the buys
            that covered them, or we sold what we did not have.
        size_pending: Part of `size` bought in trades not yet on chain; it cannot be sold yet.
        cost: Paid for the shares held, without fees, micro-dollars; 0 when flat, negative (the proceeds) when oversold.
        realized: Proceeds of sales less the average cost of what was sold, before fees, micro-dollars.
        fees: Fees charged, micro-dollars.
    """

    size: Size = Size(0)
    size_pending: Size = Size(0)
    cost: Notional = Notional(0)
    realized: Notional = Notional(0)
    fees: Notional = Notional(0)

    @property
    def entry(self) -> Price:
        """Average cost per share held, rounded down; 0 when flat."""
        return price_of_fill_floor(self.cost, self.size) if self.size else Price(0)

    @property
    def is_oversold(self) -> bool:
        """Whether more was sold than is known to have been bought."""
        return self.size < 0


FLAT = Position()


class TradeState(msgspec.Struct, frozen=True, kw_only=True):
    """One known trade in a saved ledger: its settlement and our fills in it."""

    trade_id: TradeId
    settlement: Settlement
    fills: tuple[Fill, ...]


class TapeState(msgspec.Struct, frozen=True, kw_only=True):
    """One token in a saved ledger.

    Attributes:
        base: Position made of the fills that are folded.
        open: Keys of the fills behind the base, in order of booking.
    """

    token_id: TokenId
    base: Position
    open: tuple[tuple[TradeId, ExchangeOrderId], ...]


class LedgerState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything a ledger knows, for the checkpoint; made by `Ledger.state`, read by `Ledger.restore`.

    Attributes:
        cash_start: Collateral at the very beginning, micro-dollars.
        cash: Collateral now, micro-dollars.
        fills_count: Fills that stand.
        trades: Known trades in the order of their first fill.
        tapes: Tokens in the order of their first fill.
        early: Statuses told before their fill, oldest first.
    """

    cash_start: Notional
    cash: Notional
    fills_count: int
    trades: tuple[TradeState, ...]
    tapes: tuple[TapeState, ...]
    early: tuple[tuple[TradeId, Settlement], ...]


class Ledger:
    """The bot's own books. Mutable and pure; one owner, the coordinator.

    Facts may arrive repeated, late and in any order: a fill is booked once by its key (trade id, own order id), and a
    settlement only ever moves forward along `SETTLEMENT_STEPS`.
    """

    def __init__(self, cash: Notional) -> None:
        """Open empty books.

        Args:
            cash: Collateral to begin with, micro-dollars.
        """
        self._cash_start = cash
        self._cash = cash
        self._fills_count = 0
        self._trades: dict[TradeId, _Trade] = {}
        self._tapes: dict[TokenId, _Tape] = {}
        self._early: dict[TradeId, Settlement] = {}

    def book(self, fill: Fill) -> bool:
        """Book a fill once; a repeated fill only advances the settlement of its trade.

        Who must hear of reversals calls `settle(fill.trade_id, fill.settlement)` first: exchanges tell a settlement
        by repeating the fill, and a FAILED told that way is undone here without a word.

        Returns:
            True when the fill changed the position; False when it was known, or its trade has FAILED.
        """
        trade = self._trade_of(fill)
        self._move(trade, fill.settlement)
        if fill.exchange_order_id in trade.fills:
            return False
        trade.fills[fill.exchange_order_id] = fill
        if trade.settlement is Settlement.FAILED:
            return False
        self._count(fill, 1)
        tape = self._tapes.setdefault(fill.token_id, _Tape(FLAT))
        tape.append(fill, is_pending=_is_pending(trade.settlement))
        tape.fold(self._trades)
        return True

    def settle(self, trade_id: TradeId, settlement: Settlement) -> tuple[Fill, ...]:
        """Move a trade along its settlement; of an unknown trade the status is kept until its fill comes.

        Returns:
            The fills undone by this call, in order of booking: all of the trade when it FAILED, else none.
        """
        trade = self._trades.get(trade_id)
        if trade is None:
            self._remember(trade_id, settlement)
            return ()
        return self._move(trade, settlement)

    def position(self, token_id: TokenId) -> Position:
        """Return the position in a token, `FLAT` when it was never traded."""
        tape = self._tapes.get(token_id)
        return FLAT if tape is None else tape.position

    def settled(self, token_id: TokenId) -> Size:
        """Return the shares the exchange lets us sell: bought in trades on chain, less everything sold; never < 0."""
        position = self.position(token_id)
        return Size(max(0, position.size - position.size_pending))

    def pairs(self, yes: TokenId, no: TokenId) -> Size:
        """Return the complete pairs held of a market, micro-shares: each is worth one dollar whatever happens."""
        return Size(max(0, min(self.position(yes).size, self.position(no).size)))

    def pnl(self, marks: Mapping[TokenId, Price]) -> Notional:
        """Value everything: cash gained plus shares at their marks, fees paid; micro-dollars, rounded against us.

        Args:
            marks: Price of each token held. A token without a mark is valued at cost, which moves no loss limit.
        """
        worth = sum(_worth(tape.position, marks.get(token)) for token, tape in self._tapes.items())
        return Notional(self._cash - self._cash_start + worth)

    def tokens(self) -> tuple[TokenId, ...]:
        """Return every token ever traded, in the order of the first fill."""
        return tuple(self._tapes)

    def has_fill(self, trade_id: TradeId, order_id: ExchangeOrderId) -> bool:
        """Tell whether a fill is known, reversed ones included."""
        trade = self._trades.get(trade_id)
        return trade is not None and order_id in trade.fills

    def settlement_of(self, trade_id: TradeId) -> Settlement | None:
        """Return how far a trade has settled, None when none of its fills is known."""
        trade = self._trades.get(trade_id)
        return None if trade is None else trade.settlement

    def unsettled_since_ns(self, from_ns: Nanos = BEGINNING) -> Nanos | None:
        """Return when the oldest trade that is not final was first heard of; None when all are final.

        Args:
            from_ns: Trades heard of before are left out: they are given up waiting for.
        """
        return min((t.received_ns for t in self._unsettled() if t.received_ns >= from_ns), default=None)

    def overdue(self, from_ns: Nanos, to_ns: Nanos) -> tuple[TradeId, ...]:
        """Name the trades that are not final and were first heard of in [from, to)."""
        return tuple(t.trade_id for t in self._unsettled() if from_ns <= t.received_ns < to_ns)

    @property
    def cash(self) -> Notional:
        """Collateral now, pending trades included, micro-dollars."""
        return Notional(self._cash)

    @property
    def cash_start(self) -> Notional:
        """Collateral at the beginning, micro-dollars."""
        return Notional(self._cash_start)

    @property
    def fees(self) -> Notional:
        """Fees charged in all tokens, micro-dollars."""
        return Notional(sum(tape.position.fees for tape in self._tapes.values()))

    @property
    def fills_count(self) -> int:
        """Fills that stand: booked and not reversed."""
        return self._fills_count

    def forget(self, before_ns: Nanos) -> int:
        """Drop the bookkeeping of final trades received before a moment; positions, cash and totals stay.

        A fill of a forgotten trade would be booked again if told again, so the moment must lie further back than any
        report reaches. Trades behind one that still settles are kept.

        Returns:
            The number of trades dropped.
        """
        held = {trade_id for tape in self._tapes.values() for trade_id in tape.trade_ids()}
        gone = [
            trade_id
            for trade_id, trade in self._trades.items()
            if trade_id not in held and not SETTLEMENT_STEPS[trade.settlement] and trade.received_ns < before_ns
        ]
        for trade_id in gone:
            del self._trades[trade_id]
        return len(gone)

    def state(self) -> LedgerState:
        """Copy everything into one frozen struct; `Ledger.restore` of it behaves identically."""
        return LedgerState(
            cash_start=Notional(self._cash_start),
            cash=Notional(self._cash),
            fills_count=self._fills_count,
            trades=tuple(trade.state() for trade in self._trades.values()),
            tapes=tuple(tape.state(token) for token, tape in self._tapes.items()),
            early=tuple(self._early.items()),
        )

    @classmethod
    def restore(cls, state: LedgerState) -> Ledger:
        """Rebuild a ledger from its saved state.

        Raises:
            KeyError: The state names a fill it does not contain; it was not made by `Ledger.state`.
        """
        ledger = cls(state.cash_start)
        ledger._cash = state.cash
        ledger._fills_count = state.fills_count
        ledger._early = dict(state.early)
        for trade in state.trades:
            ledger._trades[trade.trade_id] = _Trade(trade.settlement, trade.fills)
        for tape in state.tapes:
            ledger._tapes[tape.token_id] = _tape_restored(tape, ledger._trades)
        return ledger

    def _unsettled(self) -> Iterator[_Trade]:
        return (trade for trade in self._trades.values() if SETTLEMENT_STEPS[trade.settlement])

    def _trade_of(self, fill: Fill) -> _Trade:
        trade = self._trades.get(fill.trade_id)
        if trade is None:
            early = self._early.pop(fill.trade_id, Settlement.MATCHED)
            trade = self._trades[fill.trade_id] = _Trade(early)
        return trade

    def _remember(self, trade_id: TradeId, settlement: Settlement) -> None:
        if settlement is Settlement.MATCHED:
            return  # where every trade begins: nothing to keep
        known = self._early.pop(trade_id, Settlement.MATCHED)
        self._early[trade_id] = _advanced(known, settlement)
        if len(self._early) > EARLY_MAX:
            del self._early[next(iter(self._early))]

    def _move(self, trade: _Trade, settlement: Settlement) -> tuple[Fill, ...]:
        before, trade.settlement = trade.settlement, _advanced(trade.settlement, settlement)
        if trade.settlement is before:
            return ()
        fills = tuple(trade.fills.values())
        if trade.settlement is Settlement.FAILED:
            self._reverse(fills)
            return fills
        for fill in fills:
            tape = self._tapes[fill.token_id]
            if _is_pending(before) and not _is_pending(trade.settlement):
                tape.release(fill)
            tape.fold(self._trades)
        return ()

    def _reverse(self, fills: tuple[Fill, ...]) -> None:
        for fill in fills:
            self._count(fill, -1)
        for token_id in dict.fromkeys(fill.token_id for fill in fills):
            self._tapes[token_id].recount(self._trades)
            self._tapes[token_id].fold(self._trades)

    def _count(self, fill: Fill, times: int) -> None:
        flow = fill.notional if fill.side is Side.SELL else -fill.notional
        self._cash = Notional(self._cash + times * (flow - fill.fee))
        self._fills_count += times


class _Trade:
    """One known trade: how far it settled, and our fills in it by own order."""

    __slots__ = ("fills", "settlement")

    def __init__(self, settlement: Settlement, fills: Iterable[Fill] = ()) -> None:
        self.settlement = settlement
        self.fills = {fill.exchange_order_id: fill for fill in fills}

    @property
    def trade_id(self) -> TradeId:
        return next(iter(self.fills.values())).trade_id

    @property
    def received_ns(self) -> Nanos:
        return max(fill.received_ns for fill in self.fills.values())

    def state(self) -> TradeState:
        fills = tuple(self.fills.values())
        return TradeState(trade_id=self.trade_id, settlement=self.settlement, fills=fills)


class _Tape:
    """The fills of one token: a base that can no longer change, and those behind it in order of booking."""

    __slots__ = ("_base", "_open", "position")

    def __init__(self, base: Position) -> None:
        self._base = base
        self._open: list[Fill] = []
        self.position = base

    def append(self, fill: Fill, *, is_pending: bool) -> None:
        self._open.append(fill)
        self.position = _booked(self.position, fill, is_pending=is_pending)

    def release(self, fill: Fill) -> None:
        # Not a recount: one trade whose CONFIRMED got lost keeps the tape long, and each settlement would walk it.
        pending = self.position.size_pending - _bought(fill)
        self.position = msgspec.structs.replace(self.position, size_pending=Size(pending))

    def recount(self, trades: Mapping[TradeId, _Trade]) -> None:
        self._open = [f for f in self._open if trades[f.trade_id].settlement is not Settlement.FAILED]
        self.position = self._base
        for fill in self._open:
            is_pending = _is_pending(trades[fill.trade_id].settlement)
            self.position = _booked(self.position, fill, is_pending=is_pending)

    def fold(self, trades: Mapping[TradeId, _Trade]) -> None:
        done = 0
        for fill in self._open:
            if trades[fill.trade_id].settlement is not Settlement.CONFIRMED:
                break
            self._base = _booked(self._base, fill, is_pending=False)
            done += 1
        del self._open[:done]

    def trade_ids(self) -> Iterable[TradeId]:
        return (fill.trade_id for fill in self._open)

    def state(self, token_id: TokenId) -> TapeState:
        keys = tuple((fill.trade_id, fill.exchange_order_id) for fill in self._open)
        return TapeState(token_id=token_id, base=self._base, open=keys)


def _tape_restored(state: TapeState, trades: Mapping[TradeId, _Trade]) -> _Tape:
    tape = _Tape(state.base)
    for trade_id, order_id in state.open:
        trade = trades[trade_id]
        tape.append(trade.fills[order_id], is_pending=_is_pending(trade.settlement))
    return tape


def _advanced(now: Settlement, told: Settlement) -> Settlement:
    return told if told in SETTLEMENT_STEPS[now] else now


def _is_pending(settlement: Settlement) -> bool:
    return settlement in (Settlement.MATCHED, Settlement.RETRYING)


def _bought(fill: Fill) -> int:
    return fill.size if fill.side is Side.BUY else 0


def _worth(position: Position, mark: Price | None) -> int:
    return position.cost if mark is None else notional_floor(mark, position.size)


def _booked(position: Position, fill: Fill, *, is_pending: bool) -> Position:
    sign = 1 if fill.side is Side.BUY else -1
    cost, gain = _cost_and_gain(position, sign * fill.size, fill.notional)
    return Position(
        size=Size(position.size + sign * fill.size),
        size_pending=Size(position.size_pending + (_bought(fill) if is_pending else 0)),
        cost=Notional(cost),
        realized=Notional(position.realized + gain),
        fees=Notional(position.fees + fill.fee),
    )


def _cost_and_gain(position: Position, change: int, notional: int) -> tuple[int, int]:
    """Return the cost after a change of size and the gain it realizes: signed average cost.

    A change away from zero only adds cost. A change toward zero closes shares at their average cost (rounded down, so
    the rest stays with the shares still held, and nothing is left when flat); what goes beyond zero opens anew.
    """
    sign = 1 if position.size > 0 else -1
    if position.size * change >= 0:
        return position.cost + (notional if change >= 0 else -notional), 0
    held, moved = abs(position.size), abs(change)
    closed = min(held, moved)
    cost_closed = abs(position.cost) * closed // held
    notional_closed = notional * closed // moved
    cost_left = abs(position.cost) - cost_closed - (notional - notional_closed)
    return sign * cost_left, sign * (notional_closed - cost_closed)
