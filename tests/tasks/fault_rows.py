"""The words of the table in `test_fault_catalogue`: what makes a fault strike, and what is so afterwards."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from tbot.core.messages import CancelAll, Flatten, Side
from tbot.core.units import MICRO
from tbot.exchanges.simulated.fault_catalogue import Fault
from tests.contract.stage import now_ns
from tests.tasks.bot_stage import CASH, OTHER
from tests.tasks.wire_bot import WireStage

Deed = Callable[[WireStage], Awaitable[None]]
Is = Callable[[WireStage], bool]


@dataclass(frozen=True)
class By:
    """Something is so at the latest so many seconds after the fault struck."""

    within_s: float
    is_so: Is


@dataclass(frozen=True, kw_only=True)
class Row:
    """One fault.

    Attributes:
        strikes: Lets it begin, and does what meets it.
        then: In the order in which it comes about.
        always: So at every look from the beginning to the end.
        halts: Trading stays halted for this reason in the end; "" = it goes on.
    """

    fault: Fault
    strikes: Deed
    then: tuple[By, ...]
    always: Is = lambda _: True
    halts: str = ""


# --- what is so -------------------------------------------------------------------------------------------------------


def pulled(stage: WireStage) -> bool:
    """None of the orders that rested when it struck rests now."""
    return not set(stage.resting()) & stage.before


def quoted(stage: WireStage) -> bool:
    """Both quotes rest, and no third order."""
    return len(stage.resting()) == 2


def requoted(stage: WireStage) -> bool:
    """Both quotes rest, and are new ones."""
    return quoted(stage) and pulled(stage)


def held(stage: WireStage) -> bool:
    """The orders that rested when it struck rest, and no others."""
    return set(stage.resting()) == stage.before


def at_most_quoted(stage: WireStage) -> bool:
    """No order is doubled."""
    return len(stage.resting()) <= 2


def owns(shares: int, *, spent_micro: int) -> Is:
    """Tell whether the bot knows that it holds so many shares, and what it has spent."""

    def so_many(stage: WireStage) -> bool:
        sizes = {row.token_id: row.size for row in stage.snapshot.positions}
        is_held = sizes.get(stage.rules.yes, 0) == shares * MICRO
        return is_held and stage.snapshot.cash == CASH * MICRO - spent_micro

    return so_many


def flat(stage: WireStage) -> bool:
    """The bot knows that it holds nothing, and waits for no order."""
    return not any(row.size for row in stage.snapshot.positions) and stage.snapshot.orders == ()


def in_transit(stage: WireStage) -> bool:
    """The bot knows of one order, which neither rests nor is over."""
    return len(stage.snapshot.orders) == 1 and stage.resting() == []


def halted(stage: WireStage) -> bool:
    """Trading is over, and nothing rests."""
    return stage.snapshot.mode == "HALTED" and stage.resting() == []


def struck(fault: Fault) -> Is:
    """Tell whether a fault has struck."""
    return lambda stage: bool(stage.exchange.faults.faults_injected.get(fault))


def refused_at_most(times: int) -> Is:
    """Tell whether no more orders were refused."""
    return lambda stage: dict(stage.snapshot.counts).get("rejected", 0) <= times


# --- what makes it strike ---------------------------------------------------------------------------------------------


def begin(fault: Fault, *, seconds: float | None = None, count: int | None = None, target: str = "") -> Deed:
    """Let a fault begin; "us", "them" and "yes" stand for what only the stage knows."""

    async def deed(stage: WireStage) -> None:
        named = {"us": str(stage.us), "them": str(OTHER), "yes": str(stage.rules.yes)}.get(target, "")
        stage.begin(fault, seconds=seconds, count=count, target=named)
        await trio.lowlevel.checkpoint()

    return deed


def in_turn(*deeds: Deed) -> Deed:
    """Do one after the other, at once."""

    async def deed(stage: WireStage) -> None:
        for each in deeds:
            await each(stage)

    return deed


def later(seconds: float, deed: Deed) -> Deed:
    """Do something after so many seconds, beside everything else."""

    async def wait(stage: WireStage) -> None:
        await trio.sleep(seconds)
        await deed(stage)

    async def start(stage: WireStage) -> None:
        stage.nursery.start_soon(wait, stage)
        await trio.lowlevel.checkpoint()

    return start


def sold_to(size: int) -> Deed:
    """Let somebody sell to our bids."""

    async def deed(stage: WireStage) -> None:
        stage.hit_our_bids(size)
        await trio.lowlevel.checkpoint()

    return deed


async def book_moves(stage: WireStage) -> None:
    """Change what the bot sees."""
    stage.rest(OTHER, Side.BUY, 35)
    await trio.lowlevel.checkpoint()


async def book_goes_on_moving(stage: WireStage) -> None:
    """Change what the bot sees, four times a second from now on."""
    for number in range(80):
        await later(0.25 * number, book_moves)(stage)


async def cancel_all(stage: WireStage) -> None:
    """Let the operator cancel everything."""
    await stage.parts.operator.send(CancelAll(at_ns=now_ns()))


async def hold_ten(stage: WireStage) -> None:
    """Hold ten shares for long enough to sell them, and let somebody want them."""
    await sold_to(10)(stage)
    await trio.sleep(12)
    stage.rest(OTHER, Side.BUY, 39)
    stage.mark()


async def flatten(stage: WireStage) -> None:
    """Let the operator sell what is held."""
    await stage.parts.operator.send(Flatten(slippage_ticks=5, at_ns=now_ns()))
