"""What limits of a bot the exchange cannot trade with: found before anything is started, not order by order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tbot.core.market import Market
from tbot.core.risk import RiskLimits
from tbot.core.units import Size, text_from_micro
from tbot.errors import ConfigError

# An order dies this long before the expiration it states, and what it states must be this far ahead: the exchange's
# security threshold, and its least since 2026-07-03 (official clients, read 2026-11-22).
EXPIRY_MARGIN_S: Final = 60
EXPIRY_AHEAD_S: Final = 180
# So no shorter life; with what a queue, a slow request and a clock that is a little off may take of it.
ORDER_LIFE_S_MIN: Final = EXPIRY_AHEAD_S - EXPIRY_MARGIN_S + 10.0


def misfits(limits: RiskLimits, markets: Sequence[Market]) -> tuple[str, ...]:
    """Name each limit with which no order is taken: its key, what is expected, what was found.

    Args:
        limits: Of the bot.
        markets: Those it trades, as far as they are known; each must take an order of the largest size allowed, and one
            as large as a position may be.
    """
    sizes = {"order_size_max": limits.order_size_max, "position_size_max": limits.position_size_max}
    return tuple(filter(None, (_life_misfit(limits), *(_size_misfit(*size, markets) for size in sizes.items()))))


def check_limits(limits: RiskLimits, markets: Sequence[Market] = ()) -> None:
    """Refuse limits with which no order is taken.

    Raises:
        ConfigError: With each key and what is expected there; nothing was started.
    """
    if found := misfits(limits, markets):
        raise ConfigError("; ".join(found))


def _life_misfit(limits: RiskLimits) -> str:
    if not limits.order_life_s or limits.order_life_s >= ORDER_LIFE_S_MIN:
        return ""
    return f"limits.order_life_s: expected 0 or at least {ORDER_LIFE_S_MIN:g}, found {limits.order_life_s}"


def _size_misfit(key: str, most: Size, markets: Sequence[Market]) -> str:
    strictest = max(markets, key=lambda market: market.size_min, default=None)
    if strictest is None or most >= strictest.size_min:
        return ""
    least, found = text_from_micro(strictest.size_min), text_from_micro(most)
    market = strictest.slug or strictest.market_id
    return f'limits.{key}: expected at least "{least}", the smallest order of {market}, found "{found}"'
