"""What the desk asks before it starts: whether this account may trade, and on which terms its markets trade now.

The markets are those of the first start, which refused what it could not trade. From then on one market that cannot be
traded, or is not told of in a way that makes sense, is no reason to end a bot that trades others: it is left out, so
its orders are withdrawn, its position stays in the account, and the market feed reads its terms again and again.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import msgspec
import structlog
import trio

from tbot.core.backoff import Backoff
from tbot.core.market import Market, MarketId, difference
from tbot.errors import ConfigError, ExchangeUnavailable, RateLimited
from tbot.exchanges.gateway import Gateway

log = structlog.get_logger()

BACKOFF = Backoff(0.5, 10.0)
# A refusal may be a word of a moment, such as a clock set or a version told wrong; one that lasts needs a person.
REFUSED_FOR_S = 60.0
# Of one market in a row; the exchange as a whole answered just before. Then the feed goes on asking, every few seconds.
READINGS_MAX = 3


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """What the exchange lets the desk do.

    Attributes:
        markets: All that are known, with the terms in force; those left out take no orders.
        left_out: Why each of these is.
    """

    markets: tuple[Market, ...]
    left_out: Mapping[MarketId, str]


async def admit(gateway: Gateway, known: Sequence[Market], rng: random.Random) -> Admission:
    """Wait until we may trade, then learn the terms of each market anew.

    Args:
        gateway: New; it is told what is known.
        known: Every market of the bot, as known last.
        rng: For the pauses.

    Raises:
        ConfigError: This account may not trade from here, and that is no passing word.
    """
    gateway.remember(known)
    await _permission(gateway, rng)
    markets: list[Market] = []
    left_out: dict[MarketId, str] = {}
    for before in known:
        market = await _terms(gateway, before, rng)
        if isinstance(market, str):
            log.warning("market.untradable", market_id=before.market_id, slug=before.slug, reason=market)
            left_out[before.market_id] = market
            market = msgspec.structs.replace(before, is_accepting_orders=False)
        elif changes := difference(before, market):
            log.warning("market.changed", market_id=market.market_id, slug=market.slug, changes=changes)
        markets.append(market)
    return Admission(markets=tuple(markets), left_out=left_out)


async def _permission(gateway: Gateway, rng: random.Random) -> None:
    refused_s: float | None = None
    attempt = 0
    while True:
        try:
            reason = await gateway.can_trade()
        except ExchangeUnavailable as error:
            log.warning("desk.waiting", reason=str(error))
        else:
            if not reason:
                return
            refused_s = trio.current_time() if refused_s is None else refused_s
            if trio.current_time() - refused_s >= REFUSED_FOR_S:
                raise ConfigError(f"not trading: {reason}")
            log.warning("desk.refused", reason=reason)
        await trio.sleep(BACKOFF.delay(attempt, rng))
        attempt += 1


async def _terms(gateway: Gateway, before: Market, rng: random.Random) -> Market | str:
    """Read one market; a text says why it cannot be traded now."""
    reason = ""
    for attempt in range(READINGS_MAX):
        try:
            return await gateway.reread(before.market_id)
        except ConfigError as error:
            return str(error)
        except ExchangeUnavailable as error:
            reason = str(error) or type(error).__name__
            wait_s = BACKOFF.delay(attempt, rng)
            await trio.sleep(max(wait_s, error.retry_after_s) if isinstance(error, RateLimited) else wait_s)
    return reason
