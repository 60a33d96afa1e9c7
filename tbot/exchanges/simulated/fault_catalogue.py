"""Everything that can be made to go wrong, one row each: what it does, who reported it, and how it ends.

The table is data: settings, dice, control endpoint, tests and docs/faults.md all read it. Reports are public issues
(`repository#number`) of people who met the fault on the real exchange, or official documents; read 2026-11-25.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Fault(StrEnum):
    """The name of a fault, everywhere."""

    SILENT_FEED = "silent_feed"
    FROZEN_ASSET = "frozen_asset"
    LOST_MARKET_EVENTS = "lost_market_events"
    CROSSED_SNAPSHOT = "crossed_snapshot"
    CONNECTION_CUT = "connection_cut"
    CUT_MID_FRAME = "cut_mid_frame"
    SLOW_READER = "slow_reader"
    GHOST_FILL = "ghost_fill"
    RETRIED_SETTLEMENT = "retried_settlement"
    RETRYING_FOREVER = "retrying_forever"
    PHANTOM_LOCK = "phantom_lock"
    STALE_BALANCE = "stale_balance"
    POST_RESTS_UNANSWERED = "post_rests_unanswered"
    POST_LANDS_LATE = "post_lands_late"
    POST_LOST = "post_lost"
    ERROR_AFTER_ACCEPT = "error_after_accept"
    POST_RATE_LIMITED = "post_rate_limited"
    DELAYED_FAK = "delayed_fak"
    TICK_CHANGE_IN_FLIGHT = "tick_change_in_flight"
    PARTIAL_BATCH = "partial_batch"
    CANCEL_LOST = "cancel_lost"
    CANCEL_UNANSWERED = "cancel_unanswered"
    CANCEL_RATE_LIMITED = "cancel_rate_limited"
    READS_UNAVAILABLE = "reads_unavailable"
    MISSED_EVENTS = "missed_events"
    DUPLICATED_EVENTS = "duplicated_events"
    REORDERED_EVENTS = "reordered_events"
    CLOCK_SKEW = "clock_skew"
    ENGINE_RESTART = "engine_restart"
    STOLEN_HEARTBEAT = "stolen_heartbeat"


class Draw(StrEnum):
    """At what a fault strikes: each of these asks the dice once, and time asks them per hour."""

    SUBMIT = "submit"
    IMMEDIATE = "immediate order"
    BATCH = "batch"
    CANCEL = "cancel"
    READ = "sweep of reads"
    TRADE = "taker order that trades"
    MARKET_EVENT = "public event"
    ACCOUNT_EVENT = "private event"
    FRAME = "frame"
    HEARTBEAT = "heartbeat"
    TIME = "time"


class Aim(StrEnum):
    """What a target names."""

    NOTHING = "nothing"
    TOKEN = "a token"
    ACCOUNT = "a wallet"
    ORDER = "a wallet, a token or a market"
    TRADE = "the taker's wallet, its token or its market"
    API_KEY = "an API key"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One row.

    Attributes:
        draw: What asks the dice.
        does: What a client meets.
        report: Where it was met, or the document that describes it.
        ends: What makes it end.
        rate: The setting that makes it happen at random: a share of what `draw` names, or times per hour.
        aim: What a target names; without one it strikes anybody.
        length_s: How long a fault of time lasts when nothing else is said; 0 = a moment.
        is_wire_only: It has no meaning without bytes, so the in-process gateway never meets it.
    """

    draw: Draw
    does: str
    report: str
    ends: str
    rate: str
    aim: Aim = Aim.NOTHING
    length_s: float = 0.0
    is_wire_only: bool = False


_BY_ITSELF = "by itself; the next one is not concerned"

CATALOGUE: dict[Fault, Entry] = {
    Fault.SILENT_FEED: Entry(
        draw=Draw.TIME,
        does="Market streams open now stay open and answer PING with PONG, but carry no event; what happens is lost.",
        report="Polymarket/py-clob-client#292, Polymarket/real-time-data-client#26",
        ends="after its time, with whole books; a new connection is not silent",
        rate="silences_per_hour",
        length_s=20.0,
    ),
    Fault.FROZEN_ASSET: Entry(
        draw=Draw.TIME,
        does="One token stops updating on the streams that have it now while all others, its complement too, go on.",
        report="nautechsystems/nautilus_trader#4901",
        ends="after its time, with its whole book; a new connection or subscription is not frozen",
        rate="asset_freezes_per_hour",
        aim=Aim.TOKEN,
        length_s=30.0,
    ),
    Fault.LOST_MARKET_EVENTS: Entry(
        draw=Draw.MARKET_EVENT,
        does="One public event never reaches one reader; its book is wrong and only the next hash tells.",
        report="hbr-l/polypy#6, Polymarket/real-time-data-client#42",
        ends="with the next whole book of the market",
        rate="market_drop",
    ),
    Fault.CROSSED_SNAPSHOT: Entry(
        draw=Draw.TIME,
        does="A whole book is sent whose best bid stands at its best ask.",
        report="nevuamarkets/poly-websockets#25",
        ends="after its time, with the true books",
        rate="crossed_snapshots_per_hour",
        aim=Aim.TOKEN,
        length_s=2.0,
    ),
    Fault.CONNECTION_CUT: Entry(
        draw=Draw.TIME,
        does="Every open stream, public and private, ends without a closing frame.",
        report="Polymarket/real-time-data-client#42",
        ends="at once: a new connection is welcome",
        rate="cuts_per_hour",
    ),
    Fault.CUT_MID_FRAME: Entry(
        draw=Draw.FRAME,
        does="Half of a frame is sent, then the connection ends; in process it just ends, and the event is lost.",
        report="Polymarket/real-time-data-client#42",
        ends=_BY_ITSELF,
        rate="frame_cut",
    ),
    Fault.SLOW_READER: Entry(
        draw=Draw.TIME,
        does="The way to every reader stalls: nothing is lost meanwhile, everything arrives in one burst.",
        report="Polymarket/rs-clob-client#184, Polymarket/real-time-data-client#26",
        ends="after its time; a backlog over the stream's capacity, or 10 s without taking a frame, cuts the reader",
        rate="slow_readers_per_hour",
        length_s=6.0,
    ),
    Fault.GHOST_FILL: Entry(
        draw=Draw.TRADE,
        does="A trade is MATCHED and printed, then RETRYING, then FAILED: it never happened, size_matched stays.",
        report="Polymarket/py-clob-client#338, Polymarket/py-clob-client-v2#34",
        ends="with FAILED; what it moved is moved back",
        rate="settlement_fail",
        aim=Aim.TRADE,
    ),
    Fault.RETRIED_SETTLEMENT: Entry(
        draw=Draw.TRADE,
        does="A trade is MATCHED, RETRYING, and only then MINED and CONFIRMED.",
        report="nautechsystems/nautilus_trader#4876",
        ends="with CONFIRMED",
        rate="settlement_retry",
        aim=Aim.TRADE,
    ),
    Fault.RETRYING_FOREVER: Entry(
        draw=Draw.TRADE,
        does="A trade stays RETRYING: what it bought can never be sold, what it spent never comes back.",
        report="Polymarket/py-clob-client-v2#34, Polymarket/py-sdk#266",
        ends="never",
        rate="settlement_stuck",
        aim=Aim.TRADE,
    ),
    Fault.PHANTOM_LOCK: Entry(
        draw=Draw.TIME,
        does="Every BUY is refused: the whole balance counts as bound in matched orders that never clear.",
        report="Polymarket/py-clob-client#342, Polymarket/py-clob-client-v2#112",
        ends="after its time; reading the balance again does not help",
        rate="phantom_locks_per_hour",
        aim=Aim.ACCOUNT,
        length_s=60.0,
    ),
    Fault.STALE_BALANCE: Entry(
        draw=Draw.TIME,
        does="Balances are told as they were when first asked for since it began, whatever is traded.",
        report="Polymarket/py-clob-client#287, Polymarket/py-clob-client#297",
        ends="after its time, or for one wallet with its balance-allowance update",
        rate="stale_balances_per_hour",
        aim=Aim.ACCOUNT,
        length_s=30.0,
    ),
    Fault.POST_RESTS_UNANSWERED: Entry(
        draw=Draw.SUBMIT,
        does="The order arrives and rests or trades; the answer is lost.",
        report="Polymarket/py-clob-client#273",
        ends=_BY_ITSELF,
        rate="submit_lost_after",
        aim=Aim.ORDER,
    ),
    Fault.POST_LANDS_LATE: Entry(
        draw=Draw.SUBMIT,
        does="No answer comes, and the order lands `late_s` (30 s) after it was sent.",
        report="Polymarket/py-clob-client#261, Polymarket/ts-sdk#98",
        ends="when it has landed",
        rate="submit_late",
        aim=Aim.ORDER,
    ),
    Fault.POST_LOST: Entry(
        draw=Draw.SUBMIT,
        does="No answer comes, and the order never lands.",
        report="Polymarket/py-clob-client#261",
        ends=_BY_ITSELF,
        rate="submit_lost_before",
        aim=Aim.ORDER,
    ),
    Fault.ERROR_AFTER_ACCEPT: Entry(
        draw=Draw.SUBMIT,
        does="The order is taken, and the answer is a server error (500).",
        report="Polymarket/py-clob-client#331",
        ends=_BY_ITSELF,
        rate="submit_http_5xx",
        aim=Aim.ORDER,
    ),
    Fault.POST_RATE_LIMITED: Entry(
        draw=Draw.SUBMIT,
        does="The order is refused with 429 before it reaches the engine.",
        report="docs.polymarket.com (rate limits)",
        ends="after `retry_after_s`, as its Retry-After says",
        rate="submit_rate_limited",
        aim=Aim.ORDER,
    ),
    Fault.DELAYED_FAK: Entry(
        draw=Draw.IMMEDIATE,
        does="A FAK or FOK that would take is answered `delayed`, with no amounts, and meets the book `delayed_s` "
        "(3 s) later; until then it binds its money and cannot be cancelled.",
        report="Polymarket/clob-client#317, Polymarket/clob-client#323",
        ends="when it has met the book; the outcome comes by the user channel and by reading the order",
        rate="submit_delayed",
        aim=Aim.ORDER,
    ),
    Fault.TICK_CHANGE_IN_FLIGHT: Entry(
        draw=Draw.SUBMIT,
        does="While an order is on its way the tick of its market becomes ten times coarser.",
        report="Polymarket/clob-client#265, Polymarket/py-clob-client#282",
        ends="`tick_s` (10 s) later the old tick is back",
        rate="submit_tick_change",
        aim=Aim.ORDER,
    ),
    Fault.PARTIAL_BATCH: Entry(
        draw=Draw.BATCH,
        does="Every second leg of a batch is refused: `success` true, no order id, an error text.",
        report="nautechsystems/nautilus_trader#3506",
        ends=_BY_ITSELF,
        rate="batch_partial",
        aim=Aim.ORDER,
    ),
    Fault.CANCEL_LOST: Entry(
        draw=Draw.CANCEL,
        does="No answer comes, and nothing is cancelled.",
        report="Polymarket/py-clob-client#286",
        ends=_BY_ITSELF,
        rate="cancel_lost_before",
    ),
    Fault.CANCEL_UNANSWERED: Entry(
        draw=Draw.CANCEL,
        does="The cancel takes effect; the answer is lost.",
        report="Polymarket/py-clob-client#316",
        ends=_BY_ITSELF,
        rate="cancel_lost_after",
    ),
    Fault.CANCEL_RATE_LIMITED: Entry(
        draw=Draw.CANCEL,
        does="The cancel is refused with 429; the order stands.",
        report="docs.polymarket.com (rate limits)",
        ends="after `retry_after_s`, as its Retry-After says",
        rate="cancel_rate_limited",
    ),
    Fault.READS_UNAVAILABLE: Entry(
        draw=Draw.READ,
        does="A sweep of orders, trades and balances is answered with a server error.",
        report="Polymarket/py-clob-client#331",
        ends=_BY_ITSELF,
        rate="report_unavailable",
    ),
    Fault.MISSED_EVENTS: Entry(
        draw=Draw.ACCOUNT_EVENT,
        does="One private event never comes.",
        report="Polymarket/py-sdk#102, nautechsystems/nautilus_trader#3797",
        ends=_BY_ITSELF,
        rate="account_drop",
        aim=Aim.ACCOUNT,
    ),
    Fault.DUPLICATED_EVENTS: Entry(
        draw=Draw.ACCOUNT_EVENT,
        does="One private event comes twice.",
        report="nautechsystems/nautilus_trader#3403",
        ends=_BY_ITSELF,
        rate="account_duplicate",
        aim=Aim.ACCOUNT,
    ),
    Fault.REORDERED_EVENTS: Entry(
        draw=Draw.ACCOUNT_EVENT,
        does="One private event comes up to `delay_s` (3 s) late, after younger ones.",
        report="nautechsystems/nautilus_trader#3797, nautechsystems/nautilus_trader#3403",
        ends=_BY_ITSELF,
        rate="account_delay",
        aim=Aim.ACCOUNT,
    ),
    Fault.CLOCK_SKEW: Entry(
        draw=Draw.TIME,
        does="The clock of the REST servers is `skew_s` (30 s) ahead: /time says so, and requests signed by another "
        "clock are refused with 401.",
        report="Polymarket/py-clob-client#190, Polymarket/clob-client#311",
        ends="after its time",
        rate="clock_skews_per_hour",
        length_s=60.0,
        is_wire_only=True,
    ),
    Fault.ENGINE_RESTART: Entry(
        draw=Draw.TIME,
        does="Orders and cancels are answered 425 for its time, then only post-only orders are taken; nobody trades.",
        report="Polymarket/py-clob-client#286, Polymarket/py-clob-client#273",
        ends="after its time and 120 s of post-only mode; resting orders survive",
        rate="restarts_per_hour",
        length_s=90.0,
    ),
    Fault.STOLEN_HEARTBEAT: Entry(
        draw=Draw.HEARTBEAT,
        does="Another sender with the same key was faster: the heartbeat id sent is no longer the one expected.",
        report="docs.polymarket.com (heartbeats: one sender per key)",
        ends="with the id told in the 400; again and again as long as the other sender lives",
        rate="heartbeat_stolen",
        aim=Aim.API_KEY,
        is_wire_only=True,
    ),
}
"""Every fault, in the order of the documentation."""


def by_draw(draw: Draw) -> tuple[Fault, ...]:
    """Name the faults that strike at one thing, in order of the catalogue."""
    return tuple(fault for fault, entry in CATALOGUE.items() if entry.draw is draw)


def as_markdown() -> str:
    """Print the catalogue as the table of docs/faults.md."""
    rows = [
        "| fault | what a client meets | reported in | how it ends | at random by | target |",
        "|---|---|---|---|---|---|",
    ]
    for fault, entry in CATALOGUE.items():
        name = f"`{fault}`" + (" (wire only)" if entry.is_wire_only else "")
        length = f" ({entry.length_s:g} s)" if entry.length_s else ""
        cells = (name, entry.does, entry.report, entry.ends + length, f"`{entry.rate}`", str(entry.aim))
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"
