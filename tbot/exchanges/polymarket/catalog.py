"""Reference data: the exchange's market parameters as our `Market`."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from tbot.core.market import FeeSchedule, Market, MarketId, TokenId
from tbot.core.units import MICRO, Price, Size
from tbot.errors import BadFrame, ConfigError, ExchangeUnavailable
from tbot.exchanges.polymarket.asset_ids import is_position_id
from tbot.exchanges.polymarket.rest import NotFound, Rest
from tbot.exchanges.polymarket.translate import micro_from_decimal
from tbot.exchanges.polymarket.wire import ClobMarket, FeeDetails, FullMarket, TickSizeAnswer

TICKS = (100_000, 10_000, 5_000, 2_500, 1_000, 100)
# Far from every market seen (5 shares; rates up to 0.25): what is beyond is no market's term but a fault of the answer.
SIZE_MIN_MAX = 1_000_000 * MICRO
FEE_RATE_MAX = MICRO


class Loaded(NamedTuple):
    """A market read in full.

    Attributes:
        market: As its freshest sources tell it.
        is_agreed: Whether both sources name the same contract; the parameters may be served from a cache.
    """

    market: Market
    is_agreed: bool


async def load_market(rest: Rest, market_id: MarketId, known: Market | None = None) -> Market:
    """Read one market in full; see `read_in_full`."""
    return (await read_in_full(rest, market_id, known)).market


async def read_in_full(rest: Rest, market_id: MarketId, known: Market | None = None) -> Loaded:
    """Read one market: parameters, name, tick and contract, each from its freshest source.

    Args:
        rest: Of the CLOB.
        market_id: Condition id.
        known: As read before; another contract than its is only believed when both sources name it.

    Raises:
        ConfigError: It does not exist, or is of a kind that we cannot trade.
        ExchangeUnavailable: Try again later.
    """
    try:
        clob = await _parameters(rest, market_id)
        full = await rest.full_market(market_id)
        yes = TokenId(clob.t[0].t)
        tick = await rest.tick_size(yes)
        is_neg_risk = await rest.is_neg_risk(yes)
        if known is not None and is_neg_risk not in (known.is_neg_risk, clob.nr):
            raise BadFrame("two contracts: the parameters and the neg-risk answer differ")
        return Loaded(market_of(clob, full, tick, is_neg_risk=is_neg_risk), is_agreed=is_neg_risk == clob.nr)
    except NotFound as error:
        raise ConfigError(f"market {market_id}: the exchange does not know it ({error})") from error
    except BadFrame as error:
        raise ExchangeUnavailable(f"market {market_id}: {error}") from error


async def reread_market(rest: Rest, known: Market) -> Market:
    """Read the terms of a market anew: one request while nothing changed, one more for each doubt.

    The compact parameters may be served from a cache, so a tick or a contract that differs there is asked for where it
    is freshest; and whether a market that takes no orders is closed, or even resolved, is told by the long description.

    Raises:
        ConfigError: It is of a kind now that we cannot trade.
        ExchangeUnavailable: Try again later.
    """
    try:
        clob = await _parameters(rest, known.market_id)
        full = FullMarket() if clob.ao else await rest.full_market(known.market_id)
        is_moved = clob.mts is not None and micro_from_decimal(clob.mts) != known.tick
        tick = await rest.tick_size(known.yes) if is_moved else None
        is_neg_risk = known.is_neg_risk if clob.nr == known.is_neg_risk else await rest.is_neg_risk(known.yes)
        new = _terms(clob, known.tick if tick is None else _tick(tick))
    except NotFound:
        return msgspec.structs.replace(known, is_accepting_orders=False)
    except BadFrame as error:
        raise ExchangeUnavailable(f"market {known.market_id}: {error}") from error
    return _described(new, full, slug=known.slug, is_neg_risk=is_neg_risk)


def market_of(clob: ClobMarket, full: FullMarket, tick: TickSizeAnswer, *, is_neg_risk: bool) -> Market:
    """Put the answers about one market together.

    Raises:
        ConfigError: A market of a protocol that we do not speak, or whose asset ids contradict its protocol.
        BadFrame: A number that cannot be.
    """
    return _described(_terms(clob, _tick(tick)), full, slug=full.market_slug, is_neg_risk=is_neg_risk)


def _described(terms: Market, full: FullMarket, *, slug: str, is_neg_risk: bool) -> Market:
    is_closed = full.closed and not terms.is_accepting_orders
    return msgspec.structs.replace(
        terms,
        slug=slug,
        is_neg_risk=is_neg_risk,
        is_closed=is_closed,
        is_resolved=is_closed and (full.is_50_50_outcome or any(token.winner for token in full.tokens)),
    )


async def _parameters(rest: Rest, market_id: MarketId) -> ClobMarket:
    clob = await rest.clob_market(market_id)
    if clob.c.lower() != market_id.lower():
        raise BadFrame(f"parameters of market {clob.c[:80]!r}, which was not asked for")
    return clob


def _terms(clob: ClobMarket, tick: Price) -> Market:
    _check_protocol(clob)
    if clob.t[0].t == clob.t[1].t:
        raise BadFrame("both outcomes have the same asset id")
    return Market(
        market_id=MarketId(clob.c),
        slug="",
        yes=TokenId(clob.t[0].t),
        no=TokenId(clob.t[1].t),
        tick=tick,
        size_min=_size_min(clob),
        fee=_fee(clob.fd),
        is_accepting_orders=clob.ao,
    )


def _size_min(clob: ClobMarket) -> Size:
    size = micro_from_decimal(clob.mos)
    if not 0 < size <= SIZE_MIN_MAX:
        raise BadFrame(
            f"smallest order {clob.mos}: expected a number of shares above 0, at most {SIZE_MIN_MAX // MICRO}"
        )
    return Size(size)


def _tick(answer: TickSizeAnswer) -> Price:
    tick = micro_from_decimal(answer.minimum_tick_size)
    if tick not in TICKS:
        raise BadFrame(f"tick {answer.minimum_tick_size} is none of the exchange's ticks")
    return Price(tick)


def _check_protocol(clob: ClobMarket) -> None:
    # Orders are signed for what the asset ids say; where the market says something else, one of them is misread.
    kinds = {is_position_id(TokenId(token.t)) for token in clob.t}
    if clob.v not in ("v1", "v2") or kinds != {clob.v == "v2"}:
        told = (
            "positions" if kinds == {True} else "CTF tokens" if kinds == {False} else "one position and one CTF token"
        )
        raise ConfigError(f"market {clob.c}: of protocol {clob.v[:20]!r} with {told} as assets; cannot be traded by us")


def _fee(details: FeeDetails | None) -> FeeSchedule:
    if details is None:
        return FeeSchedule()
    exponent = int(details.e) if details.e.is_finite() and 0 <= details.e <= 8 else -1
    if exponent != details.e:
        raise BadFrame(f"fee exponent {details.e}: expected a small whole number")
    rate = micro_from_decimal(details.r)
    if not 0 <= rate <= FEE_RATE_MAX:
        raise BadFrame(f"fee rate {details.r}: expected a number from 0 to {FEE_RATE_MAX // MICRO}")
    return FeeSchedule(rate_micro=rate, exponent=exponent)
