"""On which terms a market trades, as the CLOB says; the catalogue only says that it exists.

A new market hydrates slowly: for some minutes the catalogue calls it active while the CLOB answers 404 or has no token
ids yet. That is "not yet on the CLOB", no error, and worth asking again a few times.
Source: polymarket API reference, `/clob-markets` (read 2026-11-22).
"""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Final

import msgspec
import trio

from tbot.core.backoff import Backoff
from tbot.core.market import MarketId, TokenId
from tbot.exchanges.polymarket.rest import NotFound, Rest
from tbot.exchanges.polymarket.wire import ClobToken, FeeDetails, Wire

ATTEMPTS: Final = 4
_PAUSES: Final = Backoff(0.5, 4.0)


class RewardRule(Wire, frozen=True, kw_only=True):
    """Which resting orders earn.

    Attributes:
        mi: Smallest size, shares.
        ma: Farthest from the middle, cents.
        moas: Shortest time at rest, seconds.
    """

    mi: Decimal = Decimal(0)
    ma: Decimal = Decimal(0)
    moas: Decimal = Decimal(0)


class TermsRow(Wire, frozen=True, kw_only=True):
    """The answer, keys abbreviated by them; a missing key means false or none.

    Attributes:
        c: Condition id.
        t: Both tokens, first side first; () or with empty ids while the market is being set up.
        v: Protocol.
        mos: Smallest order, shares.
        mts: Tick, dollars.
        fd: Taker fee.
        ao: Accepting orders.
        nr: Neg-risk.
        r: Rewards.
    """

    c: str = ""
    t: tuple[ClobToken, ...] = ()
    v: str = "v1"
    mos: Decimal | None = None
    mts: Decimal | None = None
    fd: FeeDetails | None = None
    ao: bool = False
    nr: bool = False
    r: RewardRule | None = None


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """Terms of one market.

    Attributes:
        tokens: Ids, first side first.
        outcomes: Their labels, from outside.
        protocol: "v1" or "v2".
        tick: Dollars; None = not said.
        size_min: Shares; None = not said.
        fee_rate: Of the taker, before the factor of the price; 0 = free.
        is_accepting_orders: Whether orders may be placed now.
        rewards_size_min: Shares from which resting orders earn; 0 = none earn.
        rewards_spread_max: Cents from the middle up to which they earn.
    """

    tokens: tuple[TokenId, ...]
    outcomes: tuple[str, ...]
    protocol: str
    tick: Decimal | None
    size_min: Decimal | None
    fee_rate: Decimal
    is_accepting_orders: bool
    rewards_size_min: Decimal
    rewards_spread_max: Decimal


async def read_terms(rest: Rest, market_id: MarketId, *, rng: random.Random, attempts: int = ATTEMPTS) -> Terms | None:
    """Read the terms of a market; None = it is not on the CLOB, or not yet.

    Args:
        rest: Of the CLOB.
        market_id: Condition id as the CLOB spells it.
        rng: For the pauses.
        attempts: How often to ask; a market that is no longer active needs only one.

    Raises:
        ExchangeUnavailable: Try again later.
    """
    for attempt in range(attempts):
        if attempt:
            await trio.sleep(_PAUSES.delay(attempt, rng))
        try:
            row = await rest.get(TermsRow, f"/clob-markets/{market_id}")
        except NotFound:
            continue
        if len(row.t) == 2 and all(token.t for token in row.t):
            return terms_of(row)
    return None


def terms_of(row: TermsRow) -> Terms:
    """Read the abbreviations."""
    rule = row.r or RewardRule()
    return Terms(
        tokens=tuple(TokenId(token.t) for token in row.t),
        outcomes=tuple(token.o for token in row.t),
        protocol=row.v,
        tick=row.mts,
        size_min=row.mos,
        fee_rate=row.fd.r if row.fd else Decimal(0),
        is_accepting_orders=row.ao,
        rewards_size_min=rule.mi,
        rewards_spread_max=rule.ma,
    )
