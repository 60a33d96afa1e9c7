"""Every fault of the local exchange's catalogue against the whole bot, byte by byte: what the desk does, and how fast.

A row says what makes a fault strike, and what is so within how many virtual seconds of that. Whatever the fault, in the
end the bot quotes again (or has halted, where a person must look), holds what the exchange says it holds, decided
nothing that its conduct forbids, and leaves nothing behind. What one part does in detail is tested beside that part:
the feed in `test_feed_faults`, lost submits in `test_resend_faults`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock

from tbot.exchanges.simulated.fault_catalogue import Fault
from tbot.exchanges.simulated.ledger import CASH as COLLATERAL
from tbot.simulation.conduct import check_conduct
from tbot.tasks.coordinator import decode_entry
from tests.tasks.fault_rows import (
    By,
    Row,
    as_markdown,
    at_most_quoted,
    begin,
    book_goes_on_moving,
    book_moves,
    cancel_all,
    flat,
    flatten,
    halted,
    held,
    hold_ten,
    in_transit,
    in_turn,
    later,
    owns,
    pulled,
    quoted,
    refused_at_most,
    requoted,
    sold_to,
    struck,
)
from tests.tasks.wire_bot import WireStage, wired

LOOK_S = 0.05
# After the fault: trades are settled, a report was made, and one that failed was tried again.
CALM_S = 12.0

TEN = owns(10, spent_micro=4_100_000)
TWENTY = owns(20, spent_micro=8_100_000)

TABLE: dict[str, Row] = {
    # The market feed: what it cannot vouch for is not quoted.
    "feed falls silent": Row(
        fault=Fault.SILENT_FEED,
        strikes=in_turn(begin(Fault.SILENT_FEED, seconds=600), book_moves),
        then=(By(5, pulled), By(8, requoted)),
    ),
    "one token freezes": Row(
        fault=Fault.FROZEN_ASSET,
        strikes=in_turn(begin(Fault.FROZEN_ASSET, seconds=600, target="yes"), book_goes_on_moving),
        then=(By(5, pulled), By(8, requoted)),
    ),
    "a change is lost": Row(
        fault=Fault.LOST_MARKET_EVENTS,
        strikes=in_turn(begin(Fault.LOST_MARKET_EVENTS), book_moves),
        then=(By(5, pulled), By(6, requoted)),
    ),
    "a book is crossed": Row(
        fault=Fault.CROSSED_SNAPSHOT,
        strikes=begin(Fault.CROSSED_SNAPSHOT, seconds=30, target="yes"),
        then=(By(0.5, pulled), By(5, requoted)),
    ),
    "connections are cut": Row(
        fault=Fault.CONNECTION_CUT,
        strikes=begin(Fault.CONNECTION_CUT),
        then=(By(0.5, pulled), By(1.5, requoted)),
    ),
    "a frame is cut": Row(
        fault=Fault.CUT_MID_FRAME,
        strikes=in_turn(begin(Fault.CUT_MID_FRAME), book_moves),
        then=(By(0.5, pulled), By(1.5, requoted)),
    ),
    "frames are held back": Row(
        fault=Fault.SLOW_READER,
        strikes=in_turn(begin(Fault.SLOW_READER, seconds=8), book_moves),
        then=(By(5, pulled), By(10, requoted)),
    ),
    # Settlement and balances: a fill counts at once, and its reversal when it is told.
    "a fill is taken back": Row(
        fault=Fault.GHOST_FILL,
        strikes=in_turn(begin(Fault.GHOST_FILL, target="them"), sold_to(10)),
        then=(By(1.5, TEN), By(1.5, quoted), By(12, owns(0, spent_micro=0))),
        always=at_most_quoted,
    ),
    "a settlement is tried twice": Row(
        fault=Fault.RETRIED_SETTLEMENT,
        strikes=in_turn(begin(Fault.RETRIED_SETTLEMENT, target="them"), sold_to(10)),
        then=(By(1.5, TEN), By(1.5, quoted)),
        always=at_most_quoted,
    ),
    "a settlement is tried for ever": Row(
        fault=Fault.RETRYING_FOREVER,
        strikes=in_turn(begin(Fault.RETRYING_FOREVER, target="them"), sold_to(10)),
        then=(By(1.5, TEN), By(1.5, quoted)),
        always=at_most_quoted,
    ),
    "money is locked": Row(
        fault=Fault.PHANTOM_LOCK,
        strikes=in_turn(begin(Fault.PHANTOM_LOCK, seconds=30, target="us"), sold_to(20)),
        then=(By(1.5, TWENTY), By(36, quoted)),
        always=refused_at_most(2 * 7),  # each of both quotes every five seconds
    ),
    "balances are old": Row(
        fault=Fault.STALE_BALANCE,
        strikes=in_turn(begin(Fault.STALE_BALANCE, seconds=60, target="us"), sold_to(10)),
        then=(By(1.5, TEN), By(1.5, quoted)),
        always=at_most_quoted,
    ),
    # Submits: no order is doubled, and none is missed for long.
    "an order rests unanswered": Row(
        fault=Fault.POST_RESTS_UNANSWERED,
        strikes=in_turn(begin(Fault.POST_RESTS_UNANSWERED, target="us"), sold_to(20)),
        then=(By(1, quoted), By(1.5, TWENTY)),
        always=at_most_quoted,
    ),
    "an order lands late": Row(
        fault=Fault.POST_LANDS_LATE,
        strikes=in_turn(begin(Fault.POST_LANDS_LATE, target="us"), sold_to(20)),
        then=(By(8, quoted),),
        always=at_most_quoted,
    ),
    "an order is lost": Row(
        fault=Fault.POST_LOST,
        strikes=in_turn(begin(Fault.POST_LOST, target="us"), sold_to(20)),
        then=(By(8, quoted),),
        always=at_most_quoted,
    ),
    "an order is taken with an error": Row(
        fault=Fault.ERROR_AFTER_ACCEPT,
        strikes=in_turn(begin(Fault.ERROR_AFTER_ACCEPT, target="us"), sold_to(20)),
        then=(By(1, quoted), By(1.5, TWENTY)),
        always=at_most_quoted,
    ),
    "orders come too fast": Row(
        fault=Fault.POST_RATE_LIMITED,
        strikes=in_turn(begin(Fault.POST_RATE_LIMITED, target="us"), sold_to(20)),
        then=(By(2.5, quoted),),
        always=at_most_quoted,
    ),
    "a taker is delayed": Row(
        fault=Fault.DELAYED_FAK,
        strikes=in_turn(hold_ten, begin(Fault.DELAYED_FAK, target="us"), flatten),
        then=(By(1.5, in_transit), By(6, flat)),
        halts="flatten",
    ),
    "the tick changes in flight": Row(
        fault=Fault.TICK_CHANGE_IN_FLIGHT,
        strikes=in_turn(begin(Fault.TICK_CHANGE_IN_FLIGHT, target="us"), sold_to(20)),
        then=(By(1, pulled), By(13, quoted)),  # the old tick is back after ten seconds
        always=at_most_quoted,
    ),
    "half a batch is refused": Row(
        fault=Fault.PARTIAL_BATCH,
        strikes=in_turn(begin(Fault.PARTIAL_BATCH, target="us"), sold_to(20)),
        then=(By(2.5, quoted),),
        always=at_most_quoted,
    ),
    # Cancels: what should go goes, whatever is answered.
    "a cancel is lost": Row(
        fault=Fault.CANCEL_LOST,
        strikes=in_turn(begin(Fault.CANCEL_LOST), cancel_all),
        then=(By(4, pulled), By(5, requoted)),
        always=at_most_quoted,
    ),
    "a cancel is unanswered": Row(
        fault=Fault.CANCEL_UNANSWERED,
        strikes=in_turn(begin(Fault.CANCEL_UNANSWERED), cancel_all),
        then=(By(0.5, pulled), By(1, requoted)),
        always=at_most_quoted,
    ),
    "cancels come too fast": Row(
        fault=Fault.CANCEL_RATE_LIMITED,
        strikes=in_turn(begin(Fault.CANCEL_RATE_LIMITED), cancel_all),
        then=(By(2, pulled), By(3, requoted)),
        always=at_most_quoted,
    ),
    # What is told of the account: events are hints, reports the truth.
    "reads fail": Row(
        fault=Fault.READS_UNAVAILABLE,
        strikes=in_turn(begin(Fault.READS_UNAVAILABLE, count=5), sold_to(10)),
        then=(By(1.5, TEN), By(1.5, quoted)),
        always=at_most_quoted,
    ),
    "events are missed": Row(
        fault=Fault.MISSED_EVENTS,
        strikes=in_turn(begin(Fault.MISSED_EVENTS, count=10, target="us"), sold_to(10)),
        then=(By(7, TEN), By(7, quoted)),
        always=at_most_quoted,
    ),
    "events come twice": Row(
        fault=Fault.DUPLICATED_EVENTS,
        strikes=in_turn(begin(Fault.DUPLICATED_EVENTS, count=10, target="us"), sold_to(10)),
        then=(By(1.5, TEN), By(1.5, quoted)),
        always=at_most_quoted,
    ),
    "events overtake each other": Row(
        fault=Fault.REORDERED_EVENTS,
        strikes=in_turn(begin(Fault.REORDERED_EVENTS, count=10, target="us"), sold_to(10)),
        then=(By(5, TEN), By(5, quoted)),
        always=at_most_quoted,
    ),
    # The exchange as a whole.
    "its clock is wrong for a minute": Row(
        fault=Fault.CLOCK_SKEW,
        strikes=in_turn(begin(Fault.CLOCK_SKEW, seconds=60), sold_to(10), later(62, sold_to(10))),
        then=(By(1.5, TEN), By(3, quoted), By(63.5, owns(20, spent_micro=8_200_000)), By(65, quoted)),
        always=at_most_quoted,
    ),
    "its clock is wrong beyond use": Row(
        fault=Fault.CLOCK_SKEW,
        skew_s=45.0,
        strikes=begin(Fault.CLOCK_SKEW, seconds=60),
        # No request of ours is taken, so the dead-man switch cancels, and nothing is quoted until it is over.
        then=(By(15, pulled), By(75, requoted)),
        always=at_most_quoted,
    ),
    "the engine restarts while all is to be cancelled": Row(
        fault=Fault.ENGINE_RESTART,
        strikes=in_turn(begin(Fault.ENGINE_RESTART), cancel_all),
        then=(By(92, pulled), By(93, requoted)),
        always=at_most_quoted,
    ),
    "the engine restarts": Row(
        fault=Fault.ENGINE_RESTART,
        strikes=in_turn(sold_to(10), begin(Fault.ENGINE_RESTART)),
        then=(By(1.5, TEN), By(93, quoted)),
        always=at_most_quoted,
    ),
    "one heartbeat is stolen": Row(
        fault=Fault.STOLEN_HEARTBEAT,
        strikes=begin(Fault.STOLEN_HEARTBEAT),
        then=(By(6, struck(Fault.STOLEN_HEARTBEAT)),),
        always=held,
    ),
    "another bot sends heartbeats": Row(
        fault=Fault.STOLEN_HEARTBEAT,
        strikes=begin(Fault.STOLEN_HEARTBEAT, count=100),
        then=(By(12, halted),),
        halts="another program sends heartbeats",
    ),
}


def test_no_fault_of_the_catalogue_is_left_out() -> None:
    assert {row.fault for row in TABLE.values()} == set(Fault)


def test_page_says_what_the_table_says() -> None:
    page = (Path(__file__).parents[2] / "docs/faults.md").read_text()
    assert as_markdown(TABLE) in page


@pytest.mark.slow
@pytest.mark.parametrize("row", TABLE.values(), ids=[name.replace(" ", "_") for name in TABLE])
async def test_fault_is_met_in_time_and_leaves_one_truth(autojump_clock: MockClock, row: Row) -> None:
    async with wired() as stage:
        stage.mark()
        stage.exchange.faults.settings = msgspec.structs.replace(stage.exchange.faults.settings, skew_s=row.skew_s)
        await row.strikes(stage)
        began = trio.current_time()
        for expected in row.then:
            while not expected.sign(stage):
                took_s = trio.current_time() - began
                assert took_s <= expected.within_s, f"not {expected.sign.says}: {told(stage)}"
                assert row.always(stage), told(stage)
                await trio.sleep(LOOK_S)
        assert stage.exchange.faults.faults_injected.get(row.fault), "it never struck"
        stage.exchange.calm()
        until = trio.current_time() + CALM_S
        while trio.current_time() < until:
            assert row.always(stage), told(stage)
            await trio.sleep(LOOK_S)
        await judge(stage, row)


async def judge(stage: WireStage, row: Row) -> None:
    """Find what is not as it should be in the end."""
    assert (stage.failure, stage.policy.restarts) == (None, {})
    assert (stage.snapshot.mode, len(stage.resting())) == (("HALTED", 0) if row.halts else ("TRADING", 2)), told(stage)
    assert row.halts in stage.snapshot.halt_reason
    owned = partial(stage.exchange.engine.ledger.owned, stage.us)
    sizes = {position.token_id: position.size for position in stage.snapshot.positions}
    assert (sizes[stage.rules.yes], stage.snapshot.cash) == (owned(stage.rules.yes), owned(COLLATERAL))
    stage.stop.set()
    await stage.ended.wait()
    assert (stage.failure, stage.resting()) == (None, [])
    live, replayed = stage.state()
    assert live == replayed
    assert [*check_conduct([decode_entry(row.payload) for row in stage.store.records(limit=1_000_000)])] == []


def told(stage: WireStage) -> str:
    """Say for a failing test how things stand."""
    snapshot = stage.snapshot
    sizes = [(position.size, position.size_pending) for position in snapshot.positions]
    orders = [(order.status, order.price) for order in snapshot.orders]
    return f"{snapshot.mode} {snapshot.halt_reason}, {len(stage.resting())} rest, {orders}, {sizes}, {snapshot.cash}"
