"""The judge at the end of a run: the exchange's raw records against the bot's books.

Everything is computed here a second time from the exchange's trade log; nothing of the bot's arithmetic is imported, or
it would share the bot's mistakes. The bot's side is what its journal proves, rebuilt from the very first record.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from tbot.core.account import CoordinatorState
from tbot.core.market import TokenId
from tbot.core.messages import (
    ExchangeOrderId,
    ExchangeReport,
    Fill,
    Message,
    Prepared,
    Role,
    Settlement,
    Side,
    Snapshot,
    SubmitOrder,
    TradeId,
    TradeStatus,
)
from tbot.core.orders import Order
from tbot.core.units import MICRO, NANOS_PER_S, Notional, Size
from tbot.exchanges.simulated.events import Balances, OrderView, Trade
from tbot.exchanges.simulated.operations import Account
from tbot.simulation.conduct import check_conduct, compare_decisions

# The bot's ledger keeps single fills for an hour; older ones are read from the journal, and judged by the totals too.
REMEMBERED_NS = 3_500 * NANOS_PER_S

FindingKey = tuple[TradeId, ExchangeOrderId]


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """The exchange's own records of one account.

    Attributes:
        deposited: All collateral ever brought in.
        trades: Raw trades of the account, with their settlement as it stands.
        orders: Every order the account ever placed.
        balances: The exchange's ledger.
    """

    account: Account
    deposited: Notional
    trades: tuple[Trade, ...]
    orders: tuple[OrderView, ...]
    balances: Balances


class Testimony(msgspec.Struct, frozen=True, kw_only=True):
    """What the bot says of itself.

    Attributes:
        snapshot: What its durable state amounts to.
        told: What it told people last; None = it was not asked, or ended without a last word.
        live: Its durable state at the end.
        replayed: The state its journal gives, from the first record on.
        prepared: Every order it made durable before sending.
        history: Its journal: facts, commands and their causes.
        has_ended_in_order: False for a bot that gave up: nobody was left to hear that its orders were cancelled, so it
            is right to believe that they may rest.
    """

    snapshot: Snapshot
    told: Snapshot | None
    live: CoordinatorState
    replayed: CoordinatorState
    prepared: Mapping[ExchangeOrderId, Prepared]
    history: tuple[Message, ...]
    has_ended_in_order: bool


class Expected(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One fill as the exchange's log has it."""

    token_id: TokenId
    side: Side
    size: Size
    notional: Notional
    fee: Notional
    role: Role
    settlement: Settlement


def audit(evidence: Evidence, testimony: Testimony) -> tuple[str, ...]:
    """Compare the two sides; an empty answer means that every cent is accounted for."""
    expected = dict(_expected_fills(evidence))
    decisions = {m.client_order_id: m for m in testimony.history if isinstance(m, SubmitOrder)}
    return (
        *_compare_fills(expected, testimony),
        *_compare_totals(expected, evidence, testimony.snapshot),
        *_compare_told(expected, evidence, testimony),
        *_compare_orders(evidence.orders, testimony),
        *compare_decisions(evidence.orders, testimony.prepared, decisions),
        *check_conduct(testimony.history),
        *_compare_exchange(expected, evidence),
        *_traded_with_ourselves(evidence),
        *_compare_replay(testimony),
    )


def _expected_fills(evidence: Evidence) -> Iterator[tuple[FindingKey, Expected]]:
    for trade in evidence.trades:
        if trade.taker_account == evidence.account:
            yield (
                (trade.trade_id, trade.taker_order_id),
                Expected(
                    token_id=trade.token_id,
                    side=trade.side,
                    size=trade.size,
                    notional=trade.notional,
                    fee=trade.fee,
                    role=Role.TAKER,
                    settlement=trade.settlement,
                ),
            )
        for leg in trade.legs:
            if leg.account == evidence.account:
                yield (
                    (trade.trade_id, leg.order_id),
                    Expected(
                        token_id=leg.token_id,
                        side=leg.side,
                        size=leg.size,
                        notional=leg.notional,
                        fee=Notional(0),
                        role=Role.MAKER,
                        settlement=trade.settlement,
                    ),
                )


def _stands(settlement: Settlement) -> bool:
    return settlement is not Settlement.FAILED


def _compare_fills(expected: dict[FindingKey, Expected], testimony: Testimony) -> Iterator[str]:
    booked = _booked(testimony)
    for key, want in expected.items():
        found = booked.get(key)
        if found is None:
            if _stands(want.settlement):
                yield f"fill {_name(key)}: the exchange has it, the bot's ledger does not"
            continue
        fill, settlement = found
        yield from _compare_fill(key, want, fill)
        if _stands(want.settlement) != _stands(settlement):
            yield f"fill {_name(key)}: the exchange says {want.settlement.value}, the bot says {settlement.value}"
    for key in booked:
        if key not in expected:
            yield f"fill {_name(key)}: the bot has booked it, the exchange does not know it"


def _booked(testimony: Testimony) -> dict[FindingKey, tuple[Fill, Settlement]]:
    """Give every fill the bot has in its books, and those that its ledger has folded away and forgotten."""
    ledger = testimony.live.ledger
    if ledger is None:
        return {}
    kept = {(t.trade_id, f.exchange_order_id): (f, t.settlement) for t in ledger.trades for f in t.fills}
    return _forgotten(testimony) | kept


def _forgotten(testimony: Testimony) -> dict[FindingKey, tuple[Fill, Settlement]]:
    """Read from the journal the fills that are too old to be asked for one by one."""
    fills: dict[FindingKey, Fill] = {}
    settled: dict[TradeId, Settlement] = {}
    for message in testimony.history:
        for item in message.fills if isinstance(message, ExchangeReport) else (message,):
            if isinstance(item, Fill) and testimony.snapshot.at_ns - item.received_ns > REMEMBERED_NS:
                fills.setdefault((item.trade_id, item.exchange_order_id), item)
            if isinstance(item, Fill | TradeStatus) and item.settlement in (Settlement.CONFIRMED, Settlement.FAILED):
                settled[item.trade_id] = item.settlement
    return {key: (fill, settled[key[0]]) for key, fill in fills.items() if key[0] in settled}


def _compare_fill(key: FindingKey, want: Expected, fill: Fill) -> Iterator[str]:
    for field in ("token_id", "side", "size", "notional", "fee", "role"):
        theirs, ours = getattr(want, field), getattr(fill, field)
        if theirs != ours:
            yield f"fill {_name(key)}: {field} is {theirs} at the exchange and {ours} in the bot's ledger"


def _compare_totals(expected: dict[FindingKey, Expected], evidence: Evidence, snapshot: Snapshot) -> Iterator[str]:
    fills = [fill for fill in expected.values() if _stands(fill.settlement)]
    cash = evidence.deposited + sum(_cash_flow(fill) for fill in fills)
    if cash != snapshot.cash:
        yield f"cash: {cash} by the exchange's trade log, {snapshot.cash} in the bot's ledger (micro-dollars)"
    fees = sum(fill.fee for fill in fills)
    if fees != snapshot.fees:
        yield f"fees: {fees} by the exchange's trade log, {snapshot.fees} in the bot's ledger (micro-dollars)"
    held = _tokens(fills)
    ours = {row.token_id: row.size for row in snapshot.positions if row.size}
    for token in dict.fromkeys([*held, *ours]):
        if held.get(token, 0) != ours.get(token, 0):
            yield f"tokens {token[:12]}: {held.get(token, 0)} at the exchange, {ours.get(token, 0)} in the ledger"
    counts = dict(snapshot.counts)
    counted = counts.get("fills_buy", 0) + counts.get("fills_sell", 0) - counts.get("reversed", 0)
    if counted != len(fills):
        yield f"fills: {len(fills)} stand at the exchange, the bot counts {counted}"


def _compare_told(expected: dict[FindingKey, Expected], evidence: Evidence, testimony: Testimony) -> Iterator[str]:
    """Check what people were told at the end, the profit at the bot's own marks included."""
    if testimony.told is None:
        return
    yield from (f"told: {finding}" for finding in _compare_totals(expected, evidence, testimony.told))
    held = _tokens(fill for fill in expected.values() if _stands(fill.settlement))
    rows = {row.token_id: row for row in testimony.told.positions}
    # A token without a mark is valued at its cost.
    worth = sum(
        (size * rows[t].mark // MICRO if rows[t].mark else rows[t].cost) for t, size in held.items() if t in rows
    )
    profit = testimony.told.cash + worth - evidence.deposited
    if profit != testimony.told.pnl:
        yield f"told: a profit of {testimony.told.pnl}, by the exchange's trade log it is {profit} (micro-dollars)"


def _cash_flow(fill: Expected) -> int:
    return (fill.notional if fill.side is Side.SELL else -fill.notional) - fill.fee


def _tokens(fills: Iterable[Expected]) -> dict[TokenId, int]:
    held: dict[TokenId, int] = {}
    for fill in fills:
        held[fill.token_id] = held.get(fill.token_id, 0) + (fill.size if fill.side is Side.BUY else -fill.size)
    return {token: size for token, size in held.items() if size}


def _compare_orders(orders: Sequence[OrderView], testimony: Testimony) -> Iterator[str]:
    theirs = {o.order_id: True for o in orders if o.state in ("LIVE", "DELAYED")}
    ours = {o.exchange_order_id: True for o in testimony.live.orders if o.is_active and o.exchange_order_id}
    for order_id in theirs:
        belief = "still" if order_id in ours else "and the bot believes it gone:"
        yield f"order {order_id[:12]}: rests at the exchange {belief} though the bot has stopped"
    for order_id in ours if testimony.has_ended_in_order else ():
        if order_id not in theirs:
            yield f"order {str(order_id)[:12]}: the bot believes it may rest, the exchange says it does not"


def _compare_exchange(expected: dict[FindingKey, Expected], evidence: Evidence) -> Iterator[str]:
    """Check the exchange's own ledger against its own log: a judge must not trust either side."""
    fills = [fill for fill in expected.values() if _stands(fill.settlement)]
    cash = evidence.deposited + sum(_cash_flow(fill) for fill in fills)
    balances = evidence.balances
    if cash != balances.cash + balances.cash_pending:
        yield f"exchange cash: {balances.cash + balances.cash_pending} in its ledger, {cash} by its log"
    held = _tokens(fills)
    pending = dict(balances.tokens_pending)
    for token, size in balances.tokens:
        total = size + pending.get(token, Size(0))
        if total != held.get(token, 0):
            yield f"exchange tokens {token[:12]}: {total} in its ledger, {held.get(token, 0)} by its log"


def _traded_with_ourselves(evidence: Evidence) -> Iterator[str]:
    for trade in evidence.trades:
        if trade.taker_account == evidence.account and any(leg.account == evidence.account for leg in trade.legs):
            yield f"trade {trade.trade_id[:13]}: the bot traded with itself"


def _compare_replay(testimony: Testimony) -> Iterator[str]:
    live, replayed = testimony.live, testimony.replayed
    for field in ("ledger", "halt_reason", "counts", "next_order"):
        if getattr(live, field) != getattr(replayed, field):
            yield f"journal: replay from the first record gives another {field} than the bot has"
    ours = {o.client_order_id: _essence(o) for o in live.orders}
    again = {o.client_order_id: _essence(o) for o in replayed.orders}
    for order_id in dict.fromkeys([*ours, *again]):
        if ours.get(order_id) != again.get(order_id):
            yield f"journal: order {order_id} is {ours.get(order_id)} in memory, {again.get(order_id)} by replay"


def _essence(order: Order) -> tuple[object, ...]:
    return (order.exchange_order_id, order.status.value, order.size_filled, order.size_claimed)


def _name(key: FindingKey) -> str:
    return f"{key[0][-12:]}/{str(key[1])[:10]}"
