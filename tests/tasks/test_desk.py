"""The whole bot on an exchange in process: it trades, and whatever breaks, no order of it is left alone."""

from __future__ import annotations

from contextlib import closing

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as gen
from trio.testing import MockClock

from tbot.core.account import Account, CoordinatorState
from tbot.core.messages import (
    CancelAll,
    CancelReply,
    ExchangeOrderId,
    Halt,
    OrderType,
    OutcomeUnknown,
    RejectCode,
    Settlement,
    Side,
    Throttled,
)
from tbot.core.units import MICRO, Size
from tbot.errors import AuthenticationFailed, ConfigError, Disconnected, ExchangeUnavailable, InvariantViolated
from tbot.exchanges.polymarket.http import Answer
from tbot.exchanges.polymarket.outcomes import cancel_replies
from tbot.exchanges.simulated.operations import (
    CancelEvery,
    EndReason,
)
from tbot.store.journal import WriteFailed
from tbot.tasks.desk import DESK_TASKS, OperatorLine
from tbot.tasks.supervisor import RestartLimit
from tbot.tasks.withdrawal import WITHDRAW_WITHIN_S
from tests.contract.stage import now_ns
from tests.core.coordinators import LIMITS
from tests.tasks.bot_stage import ANY, CASH, HANG, STEADY, TASKS, US, Stage, quoting, staged

# --- every day --------------------------------------------------------------------------------------------------------


async def test_it_quotes_is_filled_and_stops_with_nothing_left(autojump_clock: MockClock) -> None:
    async with quoting() as stage:
        stage.hit_our_bids(15)
        await trio.sleep(10)
        stage.stop.set()
        began = trio.current_time()
        await trio.sleep(20)
        assert stage.failure is None
        assert stage.ended_at is not None
        assert stage.ended_at - began <= 3
        assert stage.resting() == []
        live, replayed = stage.state()
        assert live == replayed
        assert live.ledger is not None
        assert live.ledger.cash == CASH * MICRO - 10 * 410_000 - 5 * 400_000


async def test_stop_reaches_strategies_first_then_the_coordinator_then_those_who_serve_it(
    autojump_clock: MockClock,
) -> None:
    async with quoting() as stage:
        stage.stop.set()
        await trio.sleep(10)
        kinds = [row.kind for row in stage.store.records(limit=100_000)]
        assert kinds.index("Withdraw") < kinds.index("Stop") < len(kinds) - 1  # and still hears what became of them
        assert stage.resting() == []
        assert [note for _, kind, note in stage.notes if kind in ("fault", "cut")] == []


async def test_stop_is_bounded_even_if_no_cancel_is_ever_answered(autojump_clock: MockClock) -> None:
    async with quoting() as stage:
        stage.meddling[ANY, "cancel"] = HANG
        stage.stop.set()
        began = trio.current_time()
        await trio.sleep(40)
        assert stage.ended_at is not None
        assert stage.ended_at - began <= 25.5
        assert stage.resting() == []  # nobody told the exchange that we live, so it cancelled


async def test_operator_reaches_whichever_coordinator_lives(autojump_clock: MockClock) -> None:
    with pytest.raises(trio.BrokenResourceError):
        await OperatorLine().send(CancelAll(at_ns=now_ns()))
    async with quoting() as stage:
        stage.crash("dispatcher")
        await trio.sleep(5)
        await stage.parts.operator.send(Halt(reason="a person", at_ns=now_ns()))
        await trio.sleep(1)
        assert stage.resting() == []
        halted_at = trio.current_time()
        stage.crash("coordinator")
        await trio.sleep(10)
        assert stage.placed_after(halted_at) == []  # a halt survives restarts


# --- crashes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", DESK_TASKS)
async def test_crash_of_any_desk_task_cancels_exactly_our_known_orders_through_a_second_gateway(
    autojump_clock: MockClock, task: str
) -> None:
    async with quoting() as stage:
        foreign = stage.rest(US, Side.BUY, 20, size=10)  # a person's, on the same account
        ours = [order_id for order_id in stage.resting() if order_id != foreign]
        # From now on the first gateway neither cancels nor closes.
        stage.meddling |= {(1, "cancel"): HANG, (1, "aclose"): HANG, (3, "can_trade"): HANG}
        stage.crash(task)
        await trio.sleep(2 + WITHDRAW_WITHIN_S)
        crashed_at = stage.hit_at[task]
        ((at, order_ids),) = stage.cancelled_after(crashed_at)
        assert at - crashed_at <= 0.2
        assert sorted(order_ids) == sorted(ours)
        assert stage.resting() == [foreign]
        assert stage.policy.restarts in ({}, {task: 1})


@pytest.mark.parametrize("task", TASKS)
async def test_bot_trades_again_after_the_crash_of_any_task(autojump_clock: MockClock, task: str) -> None:
    async with quoting() as stage:
        stage.crash(task)
        await trio.sleep(8)
        assert stage.policy.restarts == {task: 1}
        assert len(stage.resting()) == 2
        stage.stop.set()
        await trio.sleep(10)
        assert (stage.failure, stage.resting()) == (None, [])


async def test_crash_of_a_strategy_withdraws_its_quotes_and_leaves_the_desk_up(autojump_clock: MockClock) -> None:
    async with quoting() as stage:
        before = stage.resting()
        stage.crash(str(STEADY))
        await trio.sleep(5)
        assert stage.gateways == 1
        pulled = [name for _, order_ids in stage.cancelled_after(stage.hit_at[STEADY]) for name in order_ids]
        assert sorted(pulled) == sorted(before)


async def test_nothing_stale_is_acted_on_after_a_restart(autojump_clock: MockClock) -> None:
    async with quoting() as stage:
        stage.meddling[ANY, "open_market"] = Disconnected("the feed is gone")
        stage.crash("account_feed")
        await trio.sleep(30)
        assert stage.gateways >= 3
        assert stage.placed_after(stage.hit_at["account_feed"]) == []
        assert stage.resting() == []
        del stage.meddling[ANY, "open_market"]
        await trio.sleep(40)
        assert len(stage.resting()) == 2


async def test_nothing_is_sent_before_the_exchange_was_asked_what_is_true(autojump_clock: MockClock) -> None:
    async with quoting() as stage:
        stage.meddling[ANY, "report"] = ExchangeUnavailable("restarting")
        stage.crash("coordinator")
        await trio.sleep(60)
        assert stage.placed_after(stage.hit_at["coordinator"]) == []
        del stage.meddling[ANY, "report"]
        await trio.sleep(15)
        assert len(stage.resting()) == 2


async def test_wedged_coordinator_silences_the_heartbeat_and_the_exchange_cancels(autojump_clock: MockClock) -> None:
    async with quoting() as stage:
        stage.meddling |= {(ANY, "cancel"): HANG, (3, "can_trade"): HANG}
        stage.wedge("coordinator")
        await trio.sleep(20)
        hung_at = stage.hit_at["coordinator"]
        assert stage.resting() == []
        swept = [t for t, o in stage.operations if isinstance(o, CancelEvery) and o.reason is EndReason.HEARTBEAT]
        assert swept[0] - hung_at <= 3 + 5 + 10 + 5
        assert stage.placed_after(hung_at + 0.1) == []


# --- a shell that meets trouble ---------------------------------------------------------------------------------------


async def test_withdrawal_is_tried_again_when_the_exchange_asks_to_wait(autojump_clock: MockClock) -> None:
    def throttled(order_id: ExchangeOrderId) -> CancelReply:
        return Throttled(exchange_order_id=order_id, retry_after_s=1.5, at_ns=now_ns())

    async with quoting() as stage:
        stage.meddling |= {(2, "cancel"): throttled, (3, "can_trade"): HANG}
        stage.crash("dispatcher")
        await trio.sleep(1)
        assert len(stage.resting()) == 2
        del stage.meddling[2, "cancel"]
        await trio.sleep(2)
        assert stage.resting() == []


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, b'{"error": "Unauthorized/Invalid api key"}'),
        (403, b"<html>blocked</html>"),
        (404, b'{"error": "not found"}'),
        (408, b""),
        (400, b'{"error": "context canceled"}'),
        (400, b'{"error": "Invalid order payload"}'),
        (502, b"<html>bad gateway</html>"),
    ],
)
async def test_withdrawal_goes_on_until_the_exchange_says_that_an_order_is_gone(
    autojump_clock: MockClock, status: int, body: bytes
) -> None:
    def answered(order_id: ExchangeOrderId) -> CancelReply:
        return cancel_replies([order_id], Answer(status=status, content=body), now_ns())[0]

    async with quoting() as stage:
        stage.meddling |= {(2, "cancel"): answered, (3, "can_trade"): HANG}
        stage.crash("dispatcher")
        await trio.sleep(3)
        assert len(stage.resting()) == 2
        del stage.meddling[2, "cancel"]
        await trio.sleep(1.5)
        assert stage.resting() == []


async def test_withdrawal_without_answers_ends_in_time_and_is_taken_up_by_the_next(autojump_clock: MockClock) -> None:
    def unknown(order_id: ExchangeOrderId) -> CancelReply:
        return OutcomeUnknown(exchange_order_id=order_id, was_cancel=True, reason="502", at_ns=now_ns())

    async with quoting() as stage:
        ours = stage.resting()
        # The next desk never gets as far as to know its orders.
        stage.meddling |= {(2, "cancel"): unknown, (3, "can_trade"): InvariantViolated("a bug")}
        stage.meddling[4, "aclose"] = HANG
        stage.crash("dispatcher")
        await trio.sleep(15)
        ((at, order_ids),) = stage.cancelled_after(stage.hit_at["dispatcher"])
        assert sorted(order_ids) == sorted(ours)
        assert at - stage.hit_at["dispatcher"] <= WITHDRAW_WITHIN_S + 2
        assert isinstance(stage.failure, InvariantViolated)
        assert stage.resting() == []


async def test_trouble_of_the_shell_does_not_hide_why_the_desk_went_down(autojump_clock: MockClock) -> None:
    async with quoting() as stage:
        stage.meddling[2, "cancel"] = Disconnected("gone")
        stage.crash("coordinator", error=InvariantViolated("filled beyond target"))
        await trio.sleep(10)
        assert isinstance(stage.failure, InvariantViolated)
        assert stage.policy.restarts == {}


@pytest.mark.parametrize("method", ["report", "protect"])
async def test_refused_credentials_end_the_bot_with_its_orders_cancelled(
    autojump_clock: MockClock, method: str
) -> None:
    async with quoting() as stage:
        stage.meddling[1, method] = AuthenticationFailed("401")
        await trio.sleep(10)
        assert isinstance(stage.failure, AuthenticationFailed)
        assert stage.resting() == []
        assert stage.gateways == 2


async def test_key_that_nobody_accepts_any_more_still_ends_the_bot_in_time(autojump_clock: MockClock) -> None:
    def refused(order_id: ExchangeOrderId) -> CancelReply:
        code = RejectCode.NOT_AUTHORIZED
        return Throttled(exchange_order_id=order_id, retry_after_s=1.0, at_ns=now_ns(), code=code)

    async with quoting() as stage:
        stage.meddling[ANY, "cancel"] = refused
        for method in ("report", "protect"):
            stage.meddling[ANY, method] = AuthenticationFailed("401")
        began = trio.current_time()
        await trio.sleep(30)
        assert isinstance(stage.failure, AuthenticationFailed)
        assert stage.ended_at is not None
        assert stage.ended_at - began <= 12
        assert stage.resting() == []  # the dead-man switch


# --- a disk that fails ------------------------------------------------------------------------------------------------


async def test_disk_that_recovers_costs_a_restart_and_nothing_else(autojump_clock: MockClock) -> None:
    async with quoting() as stage:
        stage.disk.fault = WriteFailed("journal.sqlite: disk I/O error")
        stage.hit_our_bids(15)
        await trio.sleep(1)
        assert stage.resting() == []
        stage.disk.fault = None
        await trio.sleep(20)
        assert stage.policy.restarts["journal"] >= 1
        assert len(stage.resting()) == 2
        stage.stop.set()
        await trio.sleep(10)
        live, replayed = stage.state()
        assert live == replayed
        assert live.ledger is not None
        assert live.ledger.cash == CASH * MICRO - 10 * 410_000 - 5 * 400_000  # filled while nothing could be recorded


async def test_disk_that_stays_full_ends_the_bot_with_its_orders_cancelled(autojump_clock: MockClock) -> None:
    async with quoting() as stage:
        stage.disk.fault = WriteFailed("journal.sqlite: database or disk is full")
        stage.hit_our_bids(10)
        await trio.sleep(60)
        assert isinstance(stage.failure, RestartLimit)
        assert "database or disk is full" in str(stage.failure)
        assert stage.resting() == []
        assert stage.policy.restarts == {"journal": 5}


async def test_disk_that_hangs_keeps_the_orders_away_from_the_exchange(autojump_clock: MockClock) -> None:
    async with quoting() as stage:
        stage.disk.gate = trio.Event()
        hung_at = trio.current_time()
        stage.hit_our_bids(10)
        await trio.sleep(60)
        assert stage.placed_after(hung_at) == []


# --- before the desk --------------------------------------------------------------------------------------------------


async def test_exchange_that_is_away_at_the_start_is_waited_for(autojump_clock: MockClock) -> None:
    async with staged() as stage:
        stage.meddling[ANY, "can_trade"] = ExchangeUnavailable("weekly restart")
        await trio.sleep(100)
        assert stage.policy.restarts == {}
        del stage.meddling[ANY, "can_trade"]
        await trio.sleep(15)
        assert len(stage.resting()) == 2


@pytest.mark.parametrize("deed", [HANG, ExchangeUnavailable("weekly restart")])
async def test_stop_does_not_wait_for_an_exchange_that_is_away(
    autojump_clock: MockClock, deed: str | Exception
) -> None:
    async with staged() as stage:
        stage.meddling[ANY, "can_trade"] = deed
        await trio.sleep(30)
        stage.stop.set()
        await trio.sleep(2)
        assert stage.ended_at is not None
        assert stage.failure is None


async def test_account_that_may_not_trade_is_told_why(autojump_clock: MockClock) -> None:
    stage = Stage()
    stage.forbidden = "this place is blocked"
    with closing(stage.store):
        async with trio.open_nursery() as nursery:
            await nursery.start(stage.exchange.run)
            await stage.run()
            nursery.cancel_scope.cancel()
    assert isinstance(stage.failure, ConfigError)
    assert str(stage.failure) == "not trading: this place is blocked"


# --- orders with an end ----------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_quotes_with_an_end_are_renewed_when_it_comes(autojump_clock: MockClock) -> None:
    limits = msgspec.structs.replace(LIMITS, order_life_s=140)
    async with staged(limits=limits) as stage:
        await trio.sleep(5)
        first = set(stage.resting())
        views = [stage.exchange.order(order_id) for order_id in first]
        assert {view.order_type for view in views if view is not None} == {OrderType.GTD}
        await trio.sleep(138)
        second = set(stage.resting())
        assert len(second) == 2
        assert not first & second
        live, replayed = stage.state()
        assert live == replayed


@pytest.mark.parametrize("life_s", [1, 60, 129])
async def test_life_that_the_exchange_takes_not_ends_the_bot_at_once(autojump_clock: MockClock, life_s: int) -> None:
    async with staged(limits=msgspec.structs.replace(LIMITS, order_life_s=life_s)) as stage:
        await trio.sleep(5)
        assert isinstance(stage.failure, ConfigError)
        assert str(stage.failure) == f"limits.order_life_s: expected 0 or at least 130, found {life_s}"
        assert stage.resting() == []


# --- any crash, any time ----------------------------------------------------------------------------------------------

moments = gen.lists(gen.tuples(gen.floats(0.2, 8.0), gen.sampled_from([*TASKS, "journal", "checkpointer"])), max_size=4)
sales = gen.lists(gen.tuples(gen.floats(0.1, 5.0), gen.integers(1, 25)), max_size=6)


@settings(max_examples=12, deadline=None)
@given(moments=moments, sales=sales)
def test_any_crashes_among_any_fills_leave_one_truth(
    moments: list[tuple[float, str]], sales: list[tuple[float, int]]
) -> None:
    """After each of them: journal from nothing = checkpoint and the rest = the exchange, and no order is left."""

    async def main() -> None:
        async with staged() as stage, trio.open_nursery() as nursery:
            nursery.start_soon(crash_at, stage, moments)
            for pause_s, size in sales:
                await trio.sleep(pause_s)
                stage.hit_our_bids(size)
            await trio.sleep(45)  # settled, restarted, reported
            stage.stop.set()
            await trio.sleep(25)
            assert stage.failure is None
            assert stage.resting() == []
            live, replayed = stage.state()
            assert live == replayed
            agree(stage, live)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def crash_at(stage: Stage, moments: list[tuple[float, str]]) -> None:
    for pause_s, task in moments:
        await trio.sleep(pause_s)
        stage.crash(task)


def agree(stage: Stage, state: CoordinatorState) -> None:
    """Compare the bot's ledger with the exchange's."""
    balances = stage.exchange.balances(US)
    trades = stage.exchange.trades(US)
    assert all(trade.settlement is Settlement.CONFIRMED for trade in trades)
    held = dict(balances.tokens).get(stage.rules.yes, Size(0))
    if state.ledger is None:
        assert not trades
        return
    assert state.ledger.cash == balances.cash
    assert sum(fill.size for trade in state.ledger.trades for fill in trade.fills) == held


# --- a limit learnt while it trades ----------------------------------------------------------------------------------


async def shrunk(stage: Stage) -> int:
    """Let the exchange name a lower limit, and count what rests a while later."""
    gateway = stage.opened[-1]
    gateway._capabilities = msgspec.structs.replace(gateway._capabilities, open_orders_max=1)
    stage.hit_our_bids(15)  # an order is filled, another leaves, and its answer tells
    await trio.sleep(10)
    return len(stage.resting())


async def test_no_more_rests_than_can_be_cancelled_at_once(autojump_clock: MockClock) -> None:
    async with quoting() as stage:
        assert await shrunk(stage) == 1


async def test_coordinator_deaf_to_its_limit_is_found(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Account, "afford", lambda account, open_orders_max: None)
    async with quoting() as stage:
        assert await shrunk(stage) == 2
