"""A judge that never finds anything proves nothing: bugs are planted in the bot, and each must be named.

Every plan is run twice, without and with its bug: the finding is about the bug and not about the plan.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import pytest

from tbot.core import decide
from tbot.core.coordinator import Coordinator
from tbot.core.units import MICRO, Notional, Size
from tbot.exchanges.simulated.faults import FaultSettings
from tbot.simulation.run import Around, Plan
from tbot.strategies.liquidity import LiquiditySettings
from tbot.tasks import coordinator as coordinator_task
from tbot.tasks import dispatcher as dispatcher_task
from tbot.tasks.dispatcher import Dispatcher
from tbot.tasks.feed_books import FeedBooks
from tbot.tasks.journal import JournalClient
from tbot.tasks.token_book import TokenBook
from tests.simulation import saboteurs as bugs
from tests.simulation.stage import (
    LIMITS,
    judged,
    only_faults,
    plan_of,
    settings_of,
    with_gateway,
    with_parts,
    with_patch,
    with_script,
    with_strikes,
)

QUIET_PLAN = plan_of()
FAILING_TRADES = plan_of(settings_of(faults=FaultSettings(settlement_fail=0.3)), has_chaos=True)
SILENT_FEED = plan_of(settings_of(faults=FaultSettings(silences_per_hour=120.0, silence_s=20.0)), has_chaos=True)
LOST_ANSWERS = plan_of(settings_of(faults=FaultSettings(submit_lost_after=0.1)), has_chaos=True)
EAGER = LiquiditySettings(base_size=Size(50 * MICRO), layers=1, q_max=Size(500 * MICRO), soft_cap=0.95, exit_share=0.95)
TIGHT_POSITION = plan_of(
    settings_of(limits=msgspec.structs.replace(LIMITS, position_size_max=Size(60 * MICRO)), strategy=EAGER)
)
TIGHT_EXPOSURE = plan_of(
    settings_of(
        limits=msgspec.structs.replace(LIMITS, exposure_max=Notional(60 * MICRO), loss_max=Notional(5 * MICRO)),
        strategy=EAGER,
    )
)
TIGHT_LOSS = plan_of(
    settings_of(limits=msgspec.structs.replace(LIMITS, loss_max=Notional(MICRO // 100)), strategy=EAGER), seed=12
)


@dataclass(frozen=True, kw_only=True)
class Sabotage:
    """One planted bug.

    Attributes:
        finding: What the judge must say, in part.
        plan: A run in which the bug bites.
        always: What happens with and without the bug.
        planted: The bug, around the run.
        coordinator: The bug, in the coordinator.
    """

    finding: str
    plan: Plan = QUIET_PLAN
    always: tuple[Around, ...] = ()
    planted: tuple[Around, ...] = ()
    coordinator: Callable[..., Coordinator] = Coordinator


SABOTAGES = {
    "drops fills": Sabotage(finding="the bot's ledger does not", coordinator=bugs.DropsFills),
    "books fills twice": Sabotage(finding="the exchange does not know it", coordinator=bugs.BooksTwice),
    "books the wrong outcome": Sabotage(finding="token_id is", coordinator=bugs.BooksWrongOutcome),
    "takes fees for rebates": Sabotage(
        finding="fee is", always=(with_script(bugs.flattens),), coordinator=bugs.PaysNegativeFees
    ),
    "forgets reversals": Sabotage(
        finding="the exchange says FAILED",
        plan=FAILING_TRADES,
        always=(only_faults,),
        coordinator=bugs.ForgetsReversals,
    ),
    "skips cancels": Sabotage(finding="rests at the exchange", planted=(with_gateway(bugs.SkipsCancels),)),
    "resends signed anew": Sabotage(
        finding="sent before it was durable",
        plan=LOST_ANSWERS,
        always=(only_faults,),
        planted=(with_gateway(bugs.ResendsResigned),),
    ),
    "sends what was not decided": Sabotage(finding="decided was", planted=(with_gateway(bugs.SendsDouble),)),
    "sends before it is durable": Sabotage(
        finding="sent before it was durable",
        always=(with_parts(bugs.slow_disk(0.15)),),
        planted=(with_patch(JournalClient, "commit_prepared", bugs.does_not_wait),),
    ),
    "signs after the deadline": Sabotage(
        finding="signed after its deadline",
        always=(
            with_parts(bugs.slow_disk(0.9)),
            with_patch(dispatcher_task, "SUBMITS_IN_FLIGHT", lambda _: 1),
            with_patch(dispatcher_task, "Turns", lambda turns: lambda size, together_max: turns(size, together_max=1)),
        ),
        planted=(with_patch(Dispatcher, "_is_expired", bugs.never_expired),),
    ),
    "loses journal rows": Sabotage(
        finding="replay from the first record",
        planted=(with_patch(coordinator_task, "_is_fact", bugs.loses_fills),),
    ),
    "ignores a stale feed": Sabotage(
        finding="after the feed went dark",
        plan=SILENT_FEED,
        always=(only_faults,),
        planted=(
            with_patch(TokenBook, "is_stale", bugs.never_stale),
            with_patch(FeedBooks, "to_ask", bugs.never_looks),
        ),
    ),
    "ignores a halt": Sabotage(
        finding="after the halt", always=(with_script(bugs.halts),), coordinator=bugs.IgnoresHalt
    ),
    "forgets a halt over a crash": Sabotage(
        finding="after the halt",
        always=(with_script(bugs.halts), with_strikes((22.5, "coordinator"))),
        coordinator=bugs.ForgetsHaltOnReplay,
    ),
    "passes the position limit": Sabotage(
        finding="position limit passed", plan=TIGHT_POSITION, coordinator=bugs.outgrows("position_size_max")
    ),
    "passes the exposure limit": Sabotage(
        finding="exposure limit passed", plan=TIGHT_EXPOSURE, coordinator=bugs.outgrows("exposure_max")
    ),
    "passes the loss limit": Sabotage(
        finding="with the loss limit passed",
        plan=TIGHT_LOSS,
        planted=(with_patch(decide, "_loss_halt", bugs.never_halts),),
    ),
    "crosses its own orders": Sabotage(
        finding="crosses our own",
        planted=(with_patch(decide, "check", bugs.approves_everything),),
        coordinator=bugs.CrossesItself,
    ),
    "quotes for a dead strategy": Sabotage(
        finding="was decided after its strategy was withdrawn",
        always=(with_strikes(*((10.0 + i, "liquidity") for i in range(6))),),
        coordinator=bugs.KeepsQuotesOfTheDead,
    ),
    "leaves the dead-man switch unarmed": Sabotage(
        finding="without a dead-man switch", planted=(with_gateway(bugs.NeverProtects),)
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SABOTAGES)
def test_planted_bug_is_found(name: str) -> None:
    sabotage = SABOTAGES[name]
    plan = msgspec.structs.replace(sabotage.plan, make_coordinator=sabotage.coordinator)

    found = judged(plan, *sabotage.always, *sabotage.planted).violations

    assert any(sabotage.finding in finding for finding in found), found


@pytest.mark.slow
@pytest.mark.parametrize("name", SABOTAGES)
def test_same_run_without_the_bug_is_clean(name: str) -> None:
    sabotage = SABOTAGES[name]

    assert judged(sabotage.plan, *sabotage.always).violations == ()
