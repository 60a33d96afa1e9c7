"""The words of the table in `test_fault_catalogue`: what makes a fault strike, and what is so afterwards."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import trio

from tbot.core.messages import CancelAll, Flatten, Side
from tbot.core.units import MICRO
from tbot.exchanges.simulated.fault_catalogue import Fault
from tests.contract.stage import now_ns
from tests.tasks.bot_stage import CASH, OTHER
from tests.tasks.wire_bot import WireStage

Deed = Callable[[WireStage], Awaitable[None]]


@dataclass(frozen=True)
class Sign:
    """Something that is so or not, and how to say it."""

    says: str
    is_so: Callable[[WireStage], bool]

    def __call__(self, stage: WireStage) -> bool:
        return self.is_so(stage)


def sign(says: str) -> Callable[[Callable[[WireStage], bool]], Sign]:
    """Make a sign of the function below."""
    return lambda is_so: Sign(says, is_so)


@dataclass(frozen=True)
class By:
    """Something is so at the latest so many seconds after the fault struck."""

    within_s: float
    sign: Sign


@dataclass(frozen=True, kw_only=True)
class Row:
    """One fault.

    Attributes:
        strikes: Lets it begin, and does what meets it.
        then: In the order in which it comes about.
        always: So at every look from the beginning to the end.
        halts: Trading stays halted for this reason in the end; "" = it goes on.
        skew_s: How far the exchange's clock is off where the fault is one of its clock.
    """

    fault: Fault
    strikes: Deed
    then: tuple[By, ...]
    always: Sign = Sign("", lambda _: True)
    halts: str = ""
    skew_s: float = 30.0


# --- what is so -------------------------------------------------------------------------------------------------------


@sign("its quotes are gone")
def pulled(stage: WireStage) -> bool:
    """None of the orders that rested when it struck rests now."""
    return not set(stage.resting()) & stage.before


@sign("both quotes rest")
def quoted(stage: WireStage) -> bool:
    """Both quotes rest, and no third order."""
    return len(stage.resting()) == 2


@sign("both are quoted anew")
def requoted(stage: WireStage) -> bool:
    """Both quotes rest, and are new ones."""
    return quoted(stage) and pulled(stage)


@sign("its quotes rest on")
def held(stage: WireStage) -> bool:
    """The orders that rested when it struck rest, and no others."""
    return set(stage.resting()) == stage.before


@sign("no order is doubled")
def at_most_quoted(stage: WireStage) -> bool:
    """No order is doubled."""
    return len(stage.resting()) <= 2


def owns(shares: int, *, spent_micro: int) -> Sign:
    """The bot knows that it holds so many shares, and what it has spent."""

    @sign(f"{shares} shares are booked" if shares else "the fill is undone")
    def so_many(stage: WireStage) -> bool:
        sizes = {row.token_id: row.size for row in stage.snapshot.positions}
        is_held = sizes.get(stage.rules.yes, 0) == shares * MICRO
        return is_held and stage.snapshot.cash == CASH * MICRO - spent_micro

    return so_many


@sign("it knows that all is sold")
def flat(stage: WireStage) -> bool:
    """The bot knows that it holds nothing, and waits for no order."""
    return not any(row.size for row in stage.snapshot.positions) and stage.snapshot.orders == ()


@sign("it waits for the order")
def in_transit(stage: WireStage) -> bool:
    """The bot knows of one order, which neither rests nor is over."""
    return len(stage.snapshot.orders) == 1 and stage.resting() == []


@sign("it has halted, and nothing rests")
def halted(stage: WireStage) -> bool:
    """Trading is over, and nothing rests."""
    return stage.snapshot.mode == "HALTED" and stage.resting() == []


def struck(fault: Fault) -> Sign:
    """The fault has struck."""
    return Sign("", lambda stage: bool(stage.exchange.faults.faults_injected.get(fault)))


def refused_at_most(times: int) -> Sign:
    """No more orders were refused."""
    return Sign(
        f"at most {times} orders are refused", lambda stage: dict(stage.snapshot.counts).get("rejected", 0) <= times
    )


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


# --- the page ---------------------------------------------------------------------------------------------------------


def as_markdown(table: Mapping[str, Row]) -> str:
    """Print the rows as the table of docs/faults.md."""
    rows = ["| what happens | fault | what the bot does, at the latest | all the time |", "|---|---|---|---|"]
    for name, row in table.items():
        then = "; ".join(f"{by.within_s:g} s: {by.sign.says}" for by in row.then if by.sign.says)
        rows.append(f"| {name} | `{row.fault}` | {then} | {row.always.says} |")
    return "\n".join(rows) + "\n"
