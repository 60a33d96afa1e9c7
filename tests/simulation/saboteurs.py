"""Bugs to plant in the bot: each is one thing that a wrong edit could do, in the place where it would be made."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import msgspec
import trio

from tbot.core.coordinator import Coordinator
from tbot.core.market import TokenId
from tbot.core.messages import (
    Canceled,
    CancelReply,
    ClientOrderId,
    ExchangeOrderId,
    Fill,
    Flatten,
    Halt,
    OutcomeUnknown,
    Quote,
    Quotes,
    Role,
    Settlement,
    Side,
    SubmitOrder,
    SubmitReply,
    TradeId,
    TradeStatus,
    Withdraw,
)
from tbot.core.risk import Proposal, Refused, RiskApproved, RiskFacts, RiskLimits
from tbot.core.units import Nanos, Notional, Size, complement
from tbot.exchanges.gateway import PreparedOrder
from tbot.simulation.world import World
from tbot.store.rows import PreparedRow
from tbot.tasks.desk import BotParts
from tbot.tasks.journal import Args, JournalWriter, Request, T
from tests.simulation.stage import Between

replace = msgspec.structs.replace


def is_third(text: str) -> bool:
    """Pick about a third of all ids, always the same ones: a bug must be the same when the journal is replayed."""
    return sum(text.encode()) % 3 == 0


# --- in the books ----------------------------------------------------------------------------------------------------


class DropsFills(Coordinator):
    """Overlooks a third of the fills, pushed or reported."""

    def _fill(self, message: Fill, now_ns: Nanos) -> None:
        if not is_third(message.trade_id):
            super()._fill(message, now_ns)


class BooksTwice(Coordinator):
    """Does not see that a fill is the same as one before."""

    def _fill(self, message: Fill, now_ns: Nanos) -> None:
        super()._fill(message, now_ns)
        super()._fill(replace(message, trade_id=TradeId(f"{message.trade_id}-again")), now_ns)


class BooksWrongOutcome(Coordinator):
    """Books a maker's fill on the taker's token."""

    def _fill(self, message: Fill, now_ns: Nanos) -> None:
        if message.role is Role.MAKER:
            market = self.account.market_of[message.token_id]
            message = replace(message, token_id=market.other(message.token_id))
        super()._fill(message, now_ns)


class PaysNegativeFees(Coordinator):
    """Takes the fee for a rebate."""

    def _fill(self, message: Fill, now_ns: Nanos) -> None:
        super()._fill(replace(message, fee=Notional(-message.fee)), now_ns)


class ForgetsReversals(Coordinator):
    """Believes that a trade told is a trade done."""

    def _fill(self, message: Fill, now_ns: Nanos) -> None:
        is_failed = message.settlement is Settlement.FAILED
        super()._fill(replace(message, settlement=Settlement.MINED) if is_failed else message, now_ns)

    def _trade_status(self, message: TradeStatus, now_ns: Nanos) -> None:
        if message.settlement is not Settlement.FAILED:
            super()._trade_status(message, now_ns)


# --- in what it decides ----------------------------------------------------------------------------------------------


class IgnoresHalt(Coordinator):
    """Does not hear the operator."""

    def _halt(self, message: Halt, _: Nanos) -> None:
        return


class ForgetsHaltOnReplay(Coordinator):
    """Halts, but the halt does not survive a crash."""

    def replay(self, message: Any, now_ns: Nanos) -> None:
        if not isinstance(message, Halt):
            super().replay(message, now_ns)


class KeepsQuotesOfTheDead(Coordinator):
    """Goes on with the quotes of a strategy that crashed, lapsed or not."""

    def _withdraw(self, message: Withdraw, _: Nanos) -> None:
        return

    def _quotes(self, message: Quotes, now_ns: Nanos) -> None:
        super()._quotes(replace(message, valid_until_ns=Nanos(2**62)), now_ns)


class OutgrowsLimits(Coordinator):
    """Reads a limit ten times as large as it is."""

    def __init__(self, account: Any, *, epoch: int, limit: str) -> None:
        limits: RiskLimits = account.limits
        account.limits = replace(limits, **{limit: getattr(limits, limit) * 10})
        super().__init__(account, epoch=epoch)


def outgrows(limit: str) -> Callable[..., Coordinator]:
    """Make the coordinator that misreads one limit."""
    return partial(OutgrowsLimits, limit=limit)


class CrossesItself(Coordinator):
    """Bids for NO where it bids for YES: the two of them would make a pair of each other's money."""

    def _quotes(self, message: Quotes, now_ns: Nanos) -> None:
        market = self.account.market_of[message.token_id]
        twin = self.account.quotes.get((message.strategy, market.yes))
        if message.token_id == market.no and twin is not None:
            mirrored = tuple(_mirrored(quote) for quote in twin.quotes if quote.side is Side.BUY)
            message = replace(message, quotes=(*message.quotes, *mirrored))
        super()._quotes(message, now_ns)


def _mirrored(quote: Quote) -> Quote:
    return replace(quote, price=complement(quote.price), price_worst=complement(quote.price))


def approves_everything(_: object) -> Callable[[Proposal, RiskFacts, RiskLimits], RiskApproved | Refused]:
    """Replace the limits by good faith."""
    return lambda proposal, facts, limits: RiskApproved(proposal=proposal)


# --- on the way to the exchange --------------------------------------------------------------------------------------


class SkipsCancels(Between):
    """Answers a third of the cancels by itself."""

    async def cancel(self, order_ids: Sequence[ExchangeOrderId]) -> tuple[CancelReply, ...]:
        sent = [order_id for order_id in order_ids if not is_third(order_id)]
        replies = {r.exchange_order_id: r for r in await self.inner.cancel(sent)} if sent else {}
        return tuple(replies.get(i, Canceled(exchange_order_id=i, at_ns=Nanos(0))) for i in order_ids)


class ResendsResigned(Between):
    """Signs an order anew when no answer came, as a retry loop in an HTTP client would."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self._orders: dict[ClientOrderId, SubmitOrder] = {}

    def prepare(self, order: SubmitOrder, now_ns: Nanos) -> PreparedOrder:
        self._orders[order.client_order_id] = order
        return self.inner.prepare(order, now_ns)

    async def submit(self, order: PreparedOrder) -> SubmitReply:
        reply = await self.inner.submit(order)
        if isinstance(reply, OutcomeUnknown):
            again = self.inner.prepare(self._orders[order.client_order_id], Nanos(order.prepared_ns + 1))
            reply = await self.inner.submit(again)
        return reply

    async def submit_batch(self, orders: Sequence[PreparedOrder]) -> tuple[SubmitReply, ...]:
        return tuple([await self.submit(order) for order in orders])


class SendsDouble(Between):
    """Sends twice the size that was decided, as a wrong unit would."""

    def prepare(self, order: SubmitOrder, now_ns: Nanos) -> PreparedOrder:
        return self.inner.prepare(replace(order, size=Size(order.size * 2)), now_ns)


class NeverProtects(Between):
    """Believes that somebody else tells the dead-man switch."""

    async def protect(self) -> None:
        await trio.lowlevel.checkpoint()


# --- in the tasks ----------------------------------------------------------------------------------------------------


def never_stale(_: object) -> Callable[..., bool]:
    """Trust every book for ever."""
    return lambda book, now_s, truth_s: False


def never_looks(_: object) -> Callable[..., list[TokenId]]:
    """Compare no quiet book with the truth."""
    return lambda books, now_s: []


def never_halts(_: object) -> Callable[..., Halt | None]:
    """Go on whatever is lost."""
    return lambda account, now_ns: None


def never_expired(_: object) -> Callable[..., Awaitable[bool]]:
    """Sign whatever waited, however long."""

    async def is_expired(_: object, __: SubmitOrder) -> bool:
        await trio.lowlevel.checkpoint()
        return False

    return is_expired


def loses_fills(is_fact: Callable[[object], bool]) -> Callable[[object], bool]:
    """Leave a third of the fills out of the journal."""
    return lambda message: is_fact(message) and not (isinstance(message, Fill) and is_third(message.trade_id))


def does_not_wait(_: object) -> Callable[..., Awaitable[None]]:
    """Send before the order is durable: write it behind the back of the sender."""

    async def commit_prepared(client: Any, client_order_id: ClientOrderId, payload: bytes, *, at_ns: Nanos) -> None:
        row = PreparedRow(client_order_id=client_order_id, at_ns=at_ns, payload=payload)
        await client._send(Request(row=row))

    return commit_prepared


def slow_disk(seconds: float) -> Callable[[World, BotParts], BotParts]:
    """Give the bot a disk that takes its time; nothing is lost on it."""

    async def run_slowly(fn: Callable[[*Args], T], /, *args: *Args) -> T:
        await trio.sleep(seconds)
        return fn(*args)

    def change(world: World, parts: BotParts) -> BotParts:
        return dataclasses.replace(parts, journal=JournalWriter(world.store, run_slowly))

    return change


# --- what an operator does meanwhile ---------------------------------------------------------------------------------


async def halts(world: World) -> None:
    """Halt after 20 s, and tell the judge."""
    assert world.parts is not None
    await trio.sleep(20.0)
    world.watch.halted_ns = world.now_ns()
    await world.parts.operator.send(Halt(reason="enough", at_ns=world.now_ns()))


async def flattens(world: World) -> None:
    """Sell everything after 30 s."""
    assert world.parts is not None
    await trio.sleep(30.0)
    await world.parts.operator.send(Flatten(slippage_ticks=3, at_ns=world.now_ns()))
