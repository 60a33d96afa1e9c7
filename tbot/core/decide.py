"""What to do about everything known: the coordinator's decisions, cheapest and safest first.

Order of a turn: halt when a limit is passed, cancels, copies of orders in doubt, takes, quotes, questions. Cancels come
first in every sense: an order that should not rest is a risk, an order not yet sent is only a missed trade.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tbot.core import drift
from tbot.core.account import Account, Mode
from tbot.core.exchange_mode import may_submit, submits_room
from tbot.core.market import TokenId
from tbot.core.messages import (
    CancelOrder,
    ClientOrderId,
    Command,
    ExchangeOrderId,
    Halt,
    OrderType,
    Quote,
    RequestReport,
    Side,
    StrategyName,
    SubmitOrder,
    Take,
)
from tbot.core.orders import IMMEDIATE, TERMINAL, Order, OrderStatus
from tbot.core.plan import Plan, plan_side
from tbot.core.resend import due_resends, resend_of
from tbot.core.risk import Leg, Proposal, Refused, RiskApproved, check, crosses, leg_of
from tbot.core.units import (
    NANOS_PER_S,
    Nanos,
    Price,
    Size,
    price_clamp,
    size_lot_floor,
    text_from_micro,
    tick_ceil,
)

if TYPE_CHECKING:
    from tbot.core.coordinator import Coordinator

COMMANDS_MAX = 32
OPERATOR = StrategyName("operator")
TAKE_LEVEL = -1
# An order is meant for the market of this moment; one that waited longer in a queue is not signed.
SUBMIT_DEADLINE_NS = 2 * NANOS_PER_S
REPORT_EVERY_NS = NANOS_PER_S
# A reply or a push normally comes within this; after it, ask.
DOUBT_AFTER_NS = 2 * NANOS_PER_S
IDLE_NS = NANOS_PER_S
# The exchange's clock and ours may differ, and a trade may be listed late.
REACH_BACK_NS = 10 * NANOS_PER_S
# A trade normally settles within seconds; one that did not is asked for, its last status may have been missed.
SETTLE_AFTER_NS = 60 * NANOS_PER_S


def decide(c: Coordinator, now_ns: Nanos, *, cancels_max: int, submits_max: int) -> Iterator[Command]:
    """Yield the commands of one turn; each is applied to the coordinator before the next is thought of."""
    halt = _loss_halt(c.account, now_ns)
    if halt is not None:
        c.apply(halt, now_ns)
        yield halt
    plans = _plans(c.account, now_ns)
    for order, reason in _cancels(c.account, plans, now_ns)[:cancels_max]:
        yield _cancel(c, order, reason, now_ns)
    sent, room = 0, _room(c.account, submits_max, now_ns)
    kept, since_ns = _kept(c.account, plans, now_ns), c.recovering_since_ns
    for order in tuple(due_resends(c.account, kept, alive_since_ns=since_ns, now_ns=now_ns))[:room]:
        resend = resend_of(order, now_ns)
        c.apply(resend, now_ns)
        sent += 1
        yield resend
    for proposal in _proposals(c.account, plans, now_ns):
        if sent >= room:
            break
        if not may_submit(c.account.exchange_mode, is_post_only=proposal.is_post_only, now_ns=now_ns):
            continue
        submit = _submit(c, proposal, now_ns)
        if submit is not None:
            sent += 1
            yield submit
    question = _question(c, now_ns)
    if question is not None:
        c.apply(question, now_ns)
        yield question


def wake_ns(c: Coordinator, now_ns: Nanos) -> Nanos:
    """Return when to decide again: quotes lapse, holds end, cancels are due, doubts ripen; at most a second away."""
    account = c.account
    moments = [q.valid_until_ns + 1 for q in account.quotes.values() if q.quotes]
    moments += account.holds.values()
    moments.append(account.exchange_mode.until_ns)
    moments += [moment for o in account.orders.active() for moment in (o.cancel_after_ns, o.resend_after_ns)]
    future = [m for m in moments if m > now_ns]
    return Nanos(min([*future, now_ns + IDLE_NS]))


def serves(command: SubmitOrder, take: Take) -> bool:
    """Tell whether a submit is what a take asked for."""
    wanted = (take.strategy, take.token_id, take.side, take.size, take.price_worst)
    return wanted == (command.strategy, command.token_id, command.side, command.size, command.price)


def _loss_halt(account: Account, now_ns: Nanos) -> Halt | None:
    if account.halt_reason or account.ledger is None or account.limits.loss_max <= 0:
        return None
    loss = account.loss()
    if loss <= account.limits.loss_max:
        return None
    limit = text_from_micro(account.limits.loss_max)
    reason = f"loss limit: {text_from_micro(loss)} lost, limit {limit}"
    return Halt(reason=reason, at_ns=now_ns, profit=account.profit())


# Plans and cancels.

_Key = tuple[StrategyName, TokenId, Side]


def _plans(account: Account, now_ns: Nanos) -> dict[_Key, Plan]:
    """Plan every side that has quotes or orders."""
    active: dict[_Key, list[Order]] = {}
    for order in account.orders.active():
        active.setdefault((order.strategy, order.token_id, order.side), []).append(order)
    keys = list(active)
    keys += [(s, t, side) for (s, t) in account.quotes for side in Side if (s, t, side) not in active]
    return {key: _plan(account, key, active.get(key, []), now_ns) for key in keys}


def _plan(account: Account, key: _Key, orders: list[Order], now_ns: Nanos) -> Plan:
    strategy, token_id, side = key
    quotes = account.quotes.get((strategy, token_id))
    top = account.tops.get(token_id)
    resting = [o for o in orders if not o.is_immediate]
    if quotes is None or top is None or not _may_quote(account, token_id) or quotes.valid_until_ns < now_ns:
        # Also for orders of a market that is configured no more; without quotes the tick means nothing.
        return plan_side(quotes=(), orders=resting, tick=Price(1), chase_ticks=0)
    wanted = [q for q in quotes.quotes if q.side is side]
    return plan_side(quotes=wanted, orders=resting, tick=top.tick, chase_ticks=quotes.chase_ticks)


def _kept(account: Account, plans: dict[_Key, Plan], now_ns: Nanos) -> dict[ExchangeOrderId, Order]:
    """List the resting orders that are wanted as they are, not those that a take waits for or of another contract."""
    orders = (order for plan in plans.values() for order in plan.kept)
    wanted = (o for o in orders if not (_is_in_the_way(account, o, now_ns) or account.is_outdated(o)))
    return {order.exchange_order_id: order for order in wanted if order.exchange_order_id is not None}


def _may_quote(account: Account, token_id: TokenId) -> bool:
    top = account.tops.get(token_id)
    is_known = top is not None and not top.is_stale
    return account.mode is Mode.TRADING and is_known and account.takes_orders(token_id)


def _why_not(account: Account, token_id: TokenId) -> str:
    """Say why quotes of a token may not rest though they may be wanted."""
    if account.mode is Mode.TRADING and not account.takes_orders(token_id):
        return "market takes no orders"
    return f"{account.mode.value.lower()} or stale"


def _cancels(account: Account, plans: dict[_Key, Plan], now_ns: Nanos) -> list[tuple[Order, str]]:
    """List orders to cancel now, each with the reason, worst first."""
    found: dict[ClientOrderId, tuple[Order, str]] = {}
    active = account.orders.active()
    for order in active:
        if order.status in TERMINAL:
            _add(found, order, "listed as open though settled")
        elif _is_in_the_way(account, order, now_ns):
            _add(found, order, "in the way of a take")
        elif account.is_outdated(order):
            _add(found, order, "signed for a contract that its market left")
        elif order.is_immediate and not order.has_final_word and now_ns - order.fact_ns > DOUBT_AFTER_NS:
            _add(found, order, "immediate order without an end")
    for order in _surplus(account, active):
        _add(found, order, "more than can be cancelled at once")
    for (_, token_id, _), plan in plans.items():
        reason = "not wanted" if _may_quote(account, token_id) else _why_not(account, token_id)
        for order in plan.cancels:
            _add(found, order, reason)
    return [(o, r) for o, r in found.values() if o.cancel_after_ns <= now_ns]


def _surplus(account: Account, active: list[Order]) -> list[Order]:
    """List the resting orders beyond what may rest, when the exchange lowered that: the outermost, the newest first."""
    resting = [order for order in active if not order.is_immediate]
    leaving = sum(order.status is OrderStatus.CANCELING for order in resting)
    excess = len(resting) - leaving - account.limits.open_orders_max
    candidates = sorted((o for o in resting if o.can_cancel), key=lambda o: (o.slot_level, o.created_ns), reverse=True)
    return candidates[: max(0, excess)]


def _add(found: dict[ClientOrderId, tuple[Order, str]], order: Order, reason: str) -> None:
    if order.can_cancel:
        found.setdefault(order.client_order_id, (order, reason))


def _waiting(account: Account, now_ns: Nanos) -> Iterator[Take]:
    return (t for t in account.takes if t.deadline_ns >= now_ns and t.token_id in account.market_of)


def _is_in_the_way(account: Account, leg: Order | Proposal, now_ns: Nanos) -> bool:
    """Tell whether a take waits for this order to be gone; one take's order is not in the way of another take."""
    if leg.order_type in IMMEDIATE:
        return False
    takes = (Leg(t.token_id, t.side, t.price_worst) for t in _waiting(account, now_ns))
    return any(crosses(account.market_of[take.token_id], take, leg_of(leg)) for take in takes)


def _cancel(c: Coordinator, order: Order, reason: str, now_ns: Nanos) -> CancelOrder:
    assert order.exchange_order_id is not None
    command = CancelOrder(
        client_order_id=order.client_order_id,
        exchange_order_id=order.exchange_order_id,
        at_ns=now_ns,
        reason=reason,
    )
    c.apply(command, now_ns)
    return command


# Submits.


def _room(account: Account, submits_max: int, now_ns: Nanos) -> int:
    is_sent = (OrderStatus.INTENDED, OrderStatus.PREPARED)
    in_flight = sum(o.status in is_sent or o.is_resending for o in account.orders.active())
    room = submits_room(account.exchange_mode, in_flight=in_flight, now_ns=now_ns)
    return submits_max if room is None else min(room, submits_max)


def _proposals(account: Account, plans: dict[_Key, Plan], now_ns: Nanos) -> Iterator[Proposal]:
    """Yield what is wanted and not there yet: takes first."""
    if account.mode is Mode.HALTED and account.flatten_ticks is not None and not account.is_recovering:
        yield from _flatten_proposals(account, account.flatten_ticks, now_ns)
    if account.mode is not Mode.TRADING:
        return
    for take in tuple(_waiting(account, now_ns)):
        yield _take_proposal(take)
    for key, plan in plans.items():
        if account.holds.get(key, 0) <= now_ns:
            proposals = (_quote_proposal(key, quote) for quote in plan.submits)
            yield from (p for p in proposals if not _is_in_the_way(account, p, now_ns))


def _take_proposal(take: Take) -> Proposal:
    return Proposal(
        strategy=take.strategy,
        token_id=take.token_id,
        side=take.side,
        price=take.price_worst,
        size=take.size,
        order_type=OrderType.FAK,
        is_post_only=False,
        slot_level=TAKE_LEVEL,
        reason=take.reason,
    )


def _quote_proposal(key: _Key, quote: Quote) -> Proposal:
    strategy, token_id, side = key
    return Proposal(
        strategy=strategy,
        token_id=token_id,
        side=side,
        price=quote.price,
        size=quote.size,
        order_type=OrderType.GTC,
        is_post_only=True,
        slot_level=quote.level,
        reason="quote",
    )


def _flatten_proposals(account: Account, ticks: int, now_ns: Nanos) -> Iterator[Proposal]:
    """Sell what can be sold, one order a token at a time, no lower than the slippage allows."""
    busy = {o.token_id: True for o in account.orders.active()}
    for token_id, top in account.tops.items():
        size = _flatten_size(account, token_id)
        is_held = account.holds.get((OPERATOR, token_id, Side.SELL), 0) > now_ns
        if token_id in busy or is_held or top.best_bid is None or size <= 0:
            continue
        # A person who asks for more slippage than the collar allows gets the collar, not a refusal nobody reads.
        lowest = top.best_bid - min(ticks * top.tick, account.limits.collar)
        yield Proposal(
            strategy=OPERATOR,
            token_id=token_id,
            side=Side.SELL,
            price=price_clamp(tick_ceil(lowest, top.tick), top.tick),
            size=size,
            order_type=OrderType.FAK,
            is_post_only=False,
            slot_level=TAKE_LEVEL,
            reason="flatten",
        )


def _flatten_size(account: Account, token_id: TokenId) -> Size:
    size = min(account.sellable(token_id), account.limits.order_size_max)
    return size_lot_floor(size, account.market_of[token_id].size_lot)


def _submit(c: Coordinator, proposal: Proposal, now_ns: Nanos) -> SubmitOrder | None:
    account = c.account
    facts = account.risk_facts(proposal.token_id)
    if facts is None:
        return None
    verdict = check(proposal, facts, account.limits)
    if isinstance(verdict, Refused):
        account.refuse(verdict.limit)
        return None
    command = _command(c, verdict, now_ns)
    c.apply(command, now_ns)
    return command


def _command(c: Coordinator, approved: RiskApproved, now_ns: Nanos) -> SubmitOrder:
    p, life_s = approved.proposal, c.account.limits.order_life_s
    has_end = p.order_type is OrderType.GTC and life_s > 0
    return SubmitOrder(
        client_order_id=ClientOrderId(f"{c.epoch}-{c.account.next_order}"),
        strategy=p.strategy,
        token_id=p.token_id,
        side=p.side,
        price=p.price,
        size=p.size,
        order_type=OrderType.GTD if has_end else p.order_type,
        is_post_only=p.is_post_only,
        slot_level=p.slot_level,
        expires_ns=Nanos(now_ns + life_s * NANOS_PER_S if has_end else 0),
        deadline_ns=Nanos(now_ns + SUBMIT_DEADLINE_NS),
        at_ns=now_ns,
        reason=p.reason,
    )


# Questions.


def _question(c: Coordinator, now_ns: Nanos) -> RequestReport | None:
    """Ask for a report when something is in doubt, at most once a second."""
    if now_ns - c.report_asked_ns < REPORT_EVERY_NS:
        return None
    account = c.account
    doubtful = tuple(o.exchange_order_id for o in account.orders.working() if _is_doubtful(o, now_ns))
    reason = _why_ask(c, len(doubtful), now_ns)
    if not reason:
        return None
    since_ns = Nanos(max(account.fills_known_ns() - REACH_BACK_NS, 0))
    order_ids = tuple(order_id for order_id in doubtful if order_id is not None)
    return RequestReport(
        order_ids=order_ids,
        since_ns=since_ns,
        reason=reason,
        at_ns=now_ns,
        token_ids=_balances_wanted(account),
        refresh=drift.to_read_anew(account),
    )


def _balances_wanted(account: Account) -> tuple[TokenId, ...]:
    """Name the tokens whose balances decide something: those not told yet, else those that seem to differ."""
    return account.untold() or tuple(t for t in account.market_of if t in account.drift)


def _why_ask(c: Coordinator, doubtful: int, now_ns: Nanos) -> str:
    """Name the reason for a question; "" when there is none."""
    if c.account.is_recovering:
        return "recovering"
    if doubtful:
        return f"{doubtful} orders in doubt"
    if c.account.drift and not c.account.halt_reason:
        return "ledger and exchange differ"
    if c.account.untold():
        return "a market joined: its balances are not known"
    if not c.report_asked_ns:
        return "events may have been lost"
    unsettled = c.account.unsettled_since_ns()
    return "a trade does not settle" if unsettled is not None and now_ns - unsettled > SETTLE_AFTER_NS else ""


def _is_doubtful(order: Order, now_ns: Nanos) -> bool:
    """Tell whether only the exchange can say what became of an order."""
    if order.exchange_order_id is None:
        return False
    if order.status is OrderStatus.UNKNOWN or (order.is_active and order.missing):
        return True
    if order.status is OrderStatus.CANCELING:
        return order.was_unknown or now_ns > order.cancel_after_ns
    # Not told to the end: fills on their way, a reply overdue, a cancel without the size that had matched before it.
    is_awaited = order.size_pending or order.is_immediate or order.status is OrderStatus.PREPARED
    is_late = now_ns - order.fact_ns > DOUBT_AFTER_NS
    return is_late and bool(is_awaited if order.is_active else order.size_open)
