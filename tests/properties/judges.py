"""What must hold of every exchange at every moment. Each judge returns what it finds wrong, in words."""

from __future__ import annotations

from collections.abc import Iterator

from tbot.core.market import MarketId
from tbot.core.messages import ExchangeOrderId, OrderState, OrderType
from tbot.core.units import MICRO
from tbot.exchanges.simulated.collateral import adapter_of
from tbot.exchanges.simulated.events import OrderView, Trade
from tbot.exchanges.simulated.ledger import CASH
from tbot.exchanges.simulated.matching import Engine
from tbot.exchanges.simulated.operations import Account, MarketRules
from tbot.exchanges.simulated.orderbook import DUST

Queues = dict[tuple[MarketId, bool], list[ExchangeOrderId]]


def events(engine: Engine) -> tuple[str, ...]:
    """Name the neg-risk events listed."""
    return tuple(dict.fromkeys(rules.event for rules in engine.markets() if rules.event))


def traders(engine: Engine) -> tuple[Account, ...]:
    """Name everybody who ever placed an order."""
    return tuple(dict.fromkeys(order.place.account for order in engine._orders))


def conservation_faults(engine: Engine) -> list[str]:
    """Check that nothing is made or lost, to the unit."""
    owned, owing = engine.ledger.holdings(), {(adapter_of(event), CASH) for event in events(engine)}
    faults = [f"negative {h}" for h, amount in owned.items() if amount < 0 and h not in owing]
    for rules in engine.markets():
        totals = [sum(v for (_, asset), v in owned.items() if asset == t) for t in (rules.yes, rules.no)]
        locked = engine.ledger.locked(rules.market_id)
        if rules.yes_payout is None and {*totals} != {locked}:
            faults.append(f"{rules.slug}: tokens {totals}, locked {locked}")
        elif rules.yes_payout is not None:
            due = totals[0] * rules.yes_payout + totals[1] * (MICRO - rules.yes_payout)
            if due > locked * MICRO:
                faults.append(f"{rules.slug}: {due} due, {locked} locked")
    cash = sum(v for (_, asset), v in owned.items() if asset == CASH)
    backing = sum(engine.ledger.locked(rules.market_id) for rules in engine.markets())
    if cash + backing + engine.ledger.fees != engine.ledger.deposits:
        faults.append(f"cash {cash} + locked {backing} + fees {engine.ledger.fees} != {engine.ledger.deposits}")
    return faults


def adapter_faults(engine: Engine) -> list[str]:
    """Check that what conversions paid out is covered by as many NO of every outcome of the event."""
    return [fault for event in events(engine) for fault in _adapter_faults(engine, event)]


def _adapter_faults(engine: Engine, event: str) -> Iterator[str]:
    adapter, outcomes = adapter_of(event), [rules for rules in engine.markets() if rules.event == event]
    held = {engine.ledger.owned(adapter, rules.no) for rules in outcomes}
    owed = -engine.ledger.owned(adapter, CASH)
    yes = [engine.ledger.owned(adapter, rules.yes) for rules in outcomes]
    if len(held) != 1 or owed != max(held) * (len(outcomes) - 1) or any(yes):
        yield f"adapter owes {owed}, holds {sorted(held)} NO and {yes} YES"


def book_faults(engine: Engine) -> list[str]:
    """Check that no book is crossed, outcomes mirror each other, and levels are the sum of what rests."""
    faults = []
    open_now = [order for account in traders(engine) for order in engine.open_orders(account)]
    for rules in engine.markets():
        bid, ask = engine.top(rules.market_id)
        if bid is not None and ask is not None and bid >= ask:
            faults.append(f"{rules.slug}: crossed {bid} {ask}")
        yes, no = engine.book(rules.yes), engine.book(rules.no)
        mirrored = [(MICRO - level.price, level.size) for level in no.asks]
        if mirrored != [(level.price, level.size) for level in yes.bids]:
            faults.append(f"{rules.slug}: mirror")
        open_here = [order for order in open_now if order.market_id == rules.market_id]
        if sum(o.size - o.size_matched for o in open_here) != sum(x.size for x in (*yes.bids, *yes.asks)):
            faults.append(f"{rules.slug}: levels are not the sum of open orders")
    return faults


def order_faults(engine: Engine) -> list[str]:
    """Check every order against its target, its type and its promise to rest."""
    taken: dict[ExchangeOrderId, list[Trade]] = {}
    for trade in engine.trades:
        taken.setdefault(trade.taker_order_id, []).append(trade)
    orders = [order.view() for order in engine._orders]
    return [fault for order in orders for fault in _faults_of(order, taken.get(order.order_id, []))]


def _faults_of(order: OrderView, taken: list[Trade]) -> Iterator[str]:
    if order.size and order.size_matched > order.size:
        yield f"{order.order_id}: filled beyond its size"
    if order.budget and sum(t.notional for t in taken) > order.budget:
        yield f"{order.order_id}: spent beyond its budget"
    if order.order_type is OrderType.FOK and not _is_all_or_nothing(order, sum(t.notional for t in taken)):
        yield f"{order.order_id}: FOK filled in part"
    if order.order_type in (OrderType.FAK, OrderType.FOK) and order.state is OrderState.LIVE:
        yield f"{order.order_id}: immediate order rests"
    if order.is_post_only and (taken or order.state is OrderState.DELAYED):
        yield f"{order.order_id}: post-only order took"
    if order.state is OrderState.DELAYED and order.size_matched:
        yield f"{order.order_id}: traded while it was held"


# A budget is spent but for what less than a hundredth of a share costs.
def _is_all_or_nothing(order: OrderView, spent: int) -> bool:
    if not order.size_matched:
        return order.state in (OrderState.CANCELED, OrderState.DELAYED)
    is_whole = order.size - order.size_matched < DUST if order.size else order.budget - spent <= DUST
    return order.state is OrderState.MATCHED and is_whole


def held_faults(engine: Engine) -> list[str]:
    """Check that nothing waits to take in a market that is closed: it could do so once that opens again."""
    closed = {rules.market_id for rules in engine.markets() if rules.is_closed}
    held = [order for order in engine._orders if order.state is OrderState.DELAYED and order.market_id in closed]
    return [f"{order.place.order_id}: held in a closed market" for order in held]


def queue(engine: Engine, rules: MarketRules, *, is_bid: bool) -> list[ExchangeOrderId]:
    """Name the resting orders of one side in the order in which a taker must meet them."""
    side = engine._books[rules.market_id].side(is_bid=is_bid)
    return [order.place.order_id for price in side.prices() for order in side.queue(price)]


def priority_faults(engine: Engine, queues: Queues, seen: int) -> list[str]:
    """Check that the trades since met makers as they stood in line.

    Two takers of one moment are not told apart, nor is the place of a maker who came to rest in this very moment, as a
    held order may.
    """
    trades = engine.trades[seen:]
    if len({trade.taker_order_id for trade in trades}) != 1:
        return []
    lines = [line for (market_id, _), line in queues.items() if market_id == trades[0].market_id]
    stood = {order_id for line in lines for order_id in line}
    met = [i for i in dict.fromkeys(leg.order_id for trade in trades for leg in trade.legs) if i in stood]
    return [] if any(line[: len(met)] == met for line in lines) else [f"met {met}, in line {lines}"]


def queues(engine: Engine) -> Queues:
    """Name every line of every book."""
    return {
        (rules.market_id, is_bid): queue(engine, rules, is_bid=is_bid)
        for rules in engine.markets()
        for is_bid in (True, False)
    }


def all_faults(engine: Engine) -> list[str]:
    """Ask every judge that needs no more than the engine."""
    judges = (conservation_faults, adapter_faults, book_faults, order_faults, held_faults)
    return [fault for judge in judges for fault in judge(engine)]
