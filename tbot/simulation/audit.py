"""The judge at the end of a run: the exchange's raw records against the bot's books.

Everything is computed here a second time from the exchange's trade log; nothing of the bot's arithmetic is imported, or
it would share the bot's mistakes. The bot's side is what its journal proves, rebuilt from the very first record.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from tbot.core.account import CoordinatorState
from tbot.core.market import TokenId
from tbot.core.messages import ExchangeOrderId, Fill, Settlement, Side, Snapshot, TradeId
from tbot.core.orders import Order
from tbot.core.units import NANOS_PER_S, Nanos, Notional, Size
from tbot.exchanges.simulated.events import Balances, OrderView, Trade
from tbot.exchanges.simulated.operations import Account

# The bot keeps single fills for an hour; older ones are judged by the totals, which they must have left right.
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
        snapshot: What it tells people at the end.
        live: Its state in memory at the end.
        replayed: The state its journal gives, from the first record on.
        prepared: Exchange ids of every order it made durable before sending.
    """

    snapshot: Snapshot
    live: CoordinatorState
    replayed: CoordinatorState
    prepared: frozenset[ExchangeOrderId]


class Expected(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One fill as the exchange's log has it."""

    token_id: TokenId
    side: Side
    size: Size
    notional: Notional
    fee: Notional
    settlement: Settlement
    matched_ns: Nanos


def audit(evidence: Evidence, testimony: Testimony) -> tuple[str, ...]:
    """Compare the two sides; an empty answer means that every cent is accounted for."""
    expected = dict(_expected_fills(evidence))
    return (
        *_compare_fills(expected, testimony.live, Nanos(testimony.snapshot.at_ns - REMEMBERED_NS)),
        *_compare_totals(expected, evidence, testimony.snapshot),
        *_compare_orders(evidence.orders, testimony),
        *_compare_exchange(expected, evidence),
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
                    settlement=trade.settlement,
                    matched_ns=trade.matched_ns,
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
                        settlement=trade.settlement,
                        matched_ns=trade.matched_ns,
                    ),
                )


def _stands(settlement: Settlement) -> bool:
    return settlement is not Settlement.FAILED


def _booked(state: CoordinatorState) -> dict[FindingKey, tuple[Fill, Settlement]]:
    if state.ledger is None:
        return {}
    return {(t.trade_id, f.exchange_order_id): (f, t.settlement) for t in state.ledger.trades for f in t.fills}


def _compare_fills(
    expected: dict[FindingKey, Expected], state: CoordinatorState, remembered_since_ns: Nanos
) -> Iterator[str]:
    booked = _booked(state)
    for key, want in expected.items():
        found = booked.get(key)
        if found is None:
            if _stands(want.settlement) and want.matched_ns >= remembered_since_ns:
                yield f"fill {_name(key)}: the exchange has it, the bot's ledger does not"
            continue
        fill, settlement = found
        yield from _compare_fill(key, want, fill)
        if _stands(want.settlement) != _stands(settlement):
            yield f"fill {_name(key)}: the exchange says {want.settlement.value}, the bot says {settlement.value}"
    for key in booked:
        if key not in expected:
            yield f"fill {_name(key)}: the bot has booked it, the exchange does not know it"


def _compare_fill(key: FindingKey, want: Expected, fill: Fill) -> Iterator[str]:
    for field in ("token_id", "side", "size", "notional", "fee"):
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
        if order_id not in ours:
            yield f"order {order_id[:12]}: rests at the exchange, the bot believes it gone"
    for order_id in ours:
        if order_id not in theirs:
            yield f"order {str(order_id)[:12]}: the bot believes it may rest, the exchange says it does not"
    for order in orders:
        if order.order_id not in testimony.prepared:
            yield f"order {order.order_id[:12]}: reached the exchange without having been made durable before"


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
