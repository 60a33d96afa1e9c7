"""Everything shown at one moment, as plain data: gathered by one pure function, drawn elsewhere.

Prices and sides are in YES space: a BUY of NO at q is shown as a sale of YES at 1 - q, beside the quotes it competes
with. Text that was written by others (names of markets, notes, reasons) is cleaned here once, so whoever draws a
`Status` cannot forget to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum

import msgspec

from tbot.core.market import Market, MarketId, Outcome, TokenId
from tbot.core.messages import Level, MarketView, RestingOrder, Side, Snapshot
from tbot.core.orders import OrderStatus
from tbot.core.units import NANOS_PER_MS, NANOS_PER_S, Nanos, Notional, Price, Size, complement
from tbot.log import text_clean

SLUG_LENGTH_MAX = 40
SENTENCE_LENGTH_MAX = 200
NAME_LENGTH_MAX = 40
NOTES_MAX = 5
# Before the coordinator's first snapshot nobody knows its mode.
STARTING = "STARTING"
ORDER_COUNTS = ("submitted", "accepted", "rejected", "canceled", "filled", "unknown")

Counts = tuple[tuple[str, int], ...]


class FeedLight(StrEnum):
    """Health of the market feed in one word."""

    LIVE = "live"  # every book may be acted on
    STALE = "stale"  # connected, but some book is missing or must not be acted on
    CONNECTING = "connecting"  # no connection was made yet
    RECONNECTING = "reconnecting"


class OwnQuote(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One of our orders at rest, in YES space.

    Attributes:
        side: BUY = a bid for YES.
        price: Of YES, micro-dollars.
        size: Still open, micro-shares.
        outcome: The token the order is really on.
        is_confirmed: Whether the exchange said that it rests; False on its way in or out, or in doubt.
    """

    side: Side
    price: Price
    size: Size
    outcome: Outcome
    is_confirmed: bool


class MarketStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One market at one moment, in YES space.

    Attributes:
        slug: Cleaned.
        bid: Best bid, None when there is none.
        ask: Best ask, None when there is none.
        spread_ticks: Between them; None when one is missing.
        is_stale: The book must not be acted on; the levels are the last known.
        data_age_s: Seconds since the exchange's newest word in the book; None before the first.
        bids: Our own, best first.
        asks: Our own, best first.
        yes: Shares of YES held, confirmed and pending.
        no: Shares of NO held.
    """

    slug: str
    tick: Price
    bid: Level | None
    ask: Level | None
    spread_ticks: int | None
    is_stale: bool
    data_age_s: float | None
    bids: tuple[OwnQuote, ...]
    asks: tuple[OwnQuote, ...]
    yes: Size
    no: Size


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the composition root knows of a run, beside the messages of the desk.

    Attributes:
        started_ns: Wall time of the start, on the clock that `now_ns` is read from.
        restarts: By the task that crashed.
        faults: Injected so far, by kind.
        connects: Of the market feed; those after the first are reconnects.
        is_reconnecting: The market feed has no connection now.
        duration_s: Infinite when only an operator ends it.
        command: What was typed: "sim", "paper".
        setting: Where and how, in a few words.
    """

    started_ns: Nanos
    duration_s: float
    command: str
    setting: str
    restarts: Mapping[str, int] = {}
    faults: Mapping[str, int] = {}
    connects: int = 0
    is_reconnecting: bool = False


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Everything shown at one moment.

    Attributes:
        elapsed_s: Seconds on the run's own clock, virtual where that is.
        mode: The coordinator's, or `STARTING`.
        halt_reason: "" unless halted; cleaned.
        exchange_takes: What the exchange lets us send now, and why; "" = everything.
        figures_age_s: Age of the coordinator's figures; None before the first. Old ones: it is being restarted.
        markets: In the order given.
        cash: Micro-dollars; 0 before the first report.
        pnl: After fees, positions at the best bid, micro-dollars.
        fees: Paid, micro-dollars.
        fills_buy: Fills of our buys, counted on their own tokens.
        orders: By what became of them, named as in `ORDER_COUNTS`.
        resting: Own orders that rest or may rest.
        restarts: By task, by name.
        faults: By kind, by name.
        notes: Newest first, at most `NOTES_MAX`; cleaned.
    """

    elapsed_s: float
    duration_s: float
    command: str
    setting: str
    mode: str
    halt_reason: str
    exchange_takes: str
    figures_age_s: float | None
    feed: FeedLight
    markets: tuple[MarketStatus, ...]
    cash: Notional
    pnl: Notional
    fees: Notional
    fills_buy: int
    fills_sell: int
    orders: Counts
    resting: int
    restarts: Counts
    faults: Counts
    reconnects: int
    notes: tuple[str, ...]


GetStatus = Callable[[], Status]
"""Gathers the moment; called only when it is shown."""


def status_of(
    snapshot: Snapshot | None,
    views: Mapping[MarketId, MarketView],
    markets: Sequence[Market],
    *,
    run: RunFacts,
    now_ns: Nanos,
) -> Status:
    """Gather what is known into what is shown; about 50 us with three markets.

    Args:
        snapshot: The coordinator's newest; None before the first.
        views: The market feed's newest; a market without one counts as stale.
        markets: What to show, in this order.
        run: The rest.
        now_ns: Wall time, on the same clock as the stamps in the messages.
    """
    orders = snapshot.orders if snapshot is not None else ()
    sizes = {row.token_id: row.size for row in snapshot.positions} if snapshot is not None else {}
    counts = dict(snapshot.counts) if snapshot is not None else {}
    lines = tuple(_market(market, views.get(market.market_id), orders, sizes, now_ns) for market in markets)
    return Status(
        elapsed_s=_seconds(now_ns - run.started_ns),
        duration_s=run.duration_s,
        command=run.command,
        setting=text_clean(run.setting, NAME_LENGTH_MAX),
        mode=snapshot.mode if snapshot is not None else STARTING,
        halt_reason=text_clean(snapshot.halt_reason, SENTENCE_LENGTH_MAX) if snapshot is not None else "",
        exchange_takes=snapshot.exchange_takes if snapshot is not None else "",
        figures_age_s=_seconds(now_ns - snapshot.at_ns) if snapshot is not None else None,
        feed=_light(lines, run),
        markets=lines,
        cash=snapshot.cash if snapshot is not None else Notional(0),
        pnl=snapshot.pnl if snapshot is not None else Notional(0),
        fees=snapshot.fees if snapshot is not None else Notional(0),
        fills_buy=counts.get("fills_buy", 0),
        fills_sell=counts.get("fills_sell", 0),
        orders=tuple((name, counts.get(name, 0)) for name in ORDER_COUNTS),
        resting=len(orders),
        restarts=_sorted(run.restarts),
        faults=_sorted(run.faults),
        reconnects=max(run.connects - 1, 0),
        notes=_newest(snapshot.notes) if snapshot is not None else (),
    )


def _market(
    market: Market,
    view: MarketView | None,
    orders: Iterable[RestingOrder],
    sizes: Mapping[TokenId, Size],
    now_ns: Nanos,
) -> MarketStatus:
    bid = view.bids[0] if view is not None and view.bids else None
    ask = view.asks[0] if view is not None and view.asks else None
    tick = view.tick if view is not None else market.tick
    quotes = [_own_quote(order, market) for order in orders if order.token_id in market.tokens]
    bids = sorted((q for q in quotes if q.side is Side.BUY), key=lambda q: -q.price)
    asks = sorted((q for q in quotes if q.side is Side.SELL), key=lambda q: q.price)
    return MarketStatus(
        slug=text_clean(market.slug, SLUG_LENGTH_MAX),
        tick=tick,
        bid=bid,
        ask=ask,
        spread_ticks=(ask.price - bid.price) // tick if bid is not None and ask is not None else None,
        is_stale=view is None or view.is_stale,
        data_age_s=_data_age_s(view, now_ns),
        bids=tuple(bids),
        asks=tuple(asks),
        yes=sizes.get(market.yes, Size(0)),
        no=sizes.get(market.no, Size(0)),
    )


def _own_quote(order: RestingOrder, market: Market) -> OwnQuote:
    is_yes = order.token_id == market.yes
    return OwnQuote(
        side=order.side if is_yes else order.side.opposite,
        price=order.price if is_yes else complement(order.price),
        size=Size(order.size - order.size_filled),
        outcome=market.outcome_of(order.token_id),
        is_confirmed=order.status == OrderStatus.LIVE,
    )


def _data_age_s(view: MarketView | None, now_ns: Nanos) -> float | None:
    # By the exchange's stamp: a view may be made anew, and be of now, without a word from the exchange.
    if view is None or view.exchange_ms < 0:
        return None
    return _seconds(now_ns - view.exchange_ms * NANOS_PER_MS)


def _light(markets: Iterable[MarketStatus], run: RunFacts) -> FeedLight:
    if run.is_reconnecting:
        return FeedLight.RECONNECTING if run.connects else FeedLight.CONNECTING
    return FeedLight.STALE if any(market.is_stale for market in markets) else FeedLight.LIVE


def _sorted(counts: Mapping[str, int]) -> Counts:
    return tuple((text_clean(name, NAME_LENGTH_MAX), count) for name, count in sorted(counts.items()) if count)


def _newest(notes: Sequence[str]) -> tuple[str, ...]:
    return tuple(text_clean(note, SENTENCE_LENGTH_MAX) for note in reversed(notes[-NOTES_MAX:]))


def _seconds(nanos: int) -> float:
    # Never negative: two clocks may disagree by a little, and nothing is younger than now.
    return max(nanos, 0) / NANOS_PER_S
