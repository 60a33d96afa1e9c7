"""What strategies and operators want, said to the coordinator."""

from __future__ import annotations

import msgspec

from tbot.core.market import TokenId
from tbot.core.messages.vocabulary import (
    Message,
    Side,
    StrategyName,
)
from tbot.core.units import Nanos, Notional, Price, Size

# Strategy -> coordinator.


class Quote(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One wanted resting order; always post-only.

    Attributes:
        level: 0 = innermost; for people. Orders are matched to quotes by price, and never outnumber them.
        price: Wanted price, on the grid.
        size: Wanted size, micro-shares.
        price_worst: A resting order beyond this (BUY above, SELL below) has negative edge and is pulled at once,
            whatever the chase tolerance says.
    """

    side: Side
    level: int
    price: Price
    size: Size
    price_worst: Price


class Quotes(Message, frozen=True, kw_only=True):
    """The whole set of orders a strategy wants on one token now; an empty set withdraws.

    Attributes:
        chase_ticks: A resting order within this many ticks of its quote is left alone.
        valid_until_ns: After this the quotes lapse and the orders are pulled.
    """

    strategy: StrategyName
    token_id: TokenId
    quotes: tuple[Quote, ...]
    chase_ticks: int
    valid_until_ns: Nanos
    at_ns: Nanos


class Withdraw(Message, frozen=True, kw_only=True):
    """The strategy (or its supervisor, after a crash) wants no order anywhere."""

    strategy: StrategyName
    at_ns: Nanos


class Take(Message, frozen=True, kw_only=True):
    """A marketable order wanted now: the only edge-triggered wish. Expires unsent after its deadline.

    Attributes:
        price_worst: Highest price for BUY, lowest for SELL.
        deadline_ns: Not sent after this.
        reason: Shown in log and audit trail.
    """

    strategy: StrategyName
    token_id: TokenId
    side: Side
    size: Size
    price_worst: Price
    deadline_ns: Nanos
    reason: str
    at_ns: Nanos


# Operator -> coordinator.


class Halt(Message, frozen=True, kw_only=True):
    """Cancel everything and submit nothing until `Resume`. Survives restarts.

    Attributes:
        profit: Of the account at that moment, where a loss is the reason, micro-dollars.
    """

    reason: str
    at_ns: Nanos
    profit: Notional | None = None


class Resume(Message, frozen=True, kw_only=True):
    """End a halt.

    Attributes:
        accepted: What the exchange holds beyond the ledger, by asset (`CASH` among them) in millionths, as the person
            saw it and takes for given; another difference halts again.
        profit: The loss limit counts from this on, micro-dollars; None = from the profit at this moment, which needs
            prices, if a loss is what halted, else as before.
    """

    at_ns: Nanos
    accepted: tuple[tuple[TokenId, int], ...] = ()
    profit: Notional | None = None


class CancelAll(Message, frozen=True, kw_only=True):
    """Cancel every order once; strategies may quote again."""

    at_ns: Nanos


class Flatten(Message, frozen=True, kw_only=True):
    """Halt, then sell every sellable share with FAK orders no lower than `slippage_ticks` under the best bid."""

    slippage_ticks: int
    at_ns: Nanos


class Stop(Message, frozen=True, kw_only=True):
    """Orderly shutdown: cancel everything, submit nothing, finish when no order can rest any more."""

    at_ns: Nanos


OperatorCommand = Halt | Resume | CancelAll | Flatten | Stop
