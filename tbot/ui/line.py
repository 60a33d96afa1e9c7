"""A moment of a run in one plain line: for pipes, log files and narrow places."""

from __future__ import annotations

from tbot.core.messages import Level
from tbot.core.units import Price
from tbot.ui.figures import age_text, clock_text, money_signed_text, money_text, price_text, progress_text, size_text
from tbot.ui.status import Counts, MarketStatus, OwnQuote, Status

MARKETS_MAX = 3


def line(status: Status) -> str:
    """Describe a moment in one line without control characters, columns or colours."""
    parts = [
        progress_text(status.elapsed_s, status.duration_s, of=" / "),
        _mode(status),
        f"feed {status.feed}",
        *(_market(market) for market in status.markets[:MARKETS_MAX]),
        *_more(status),
        f"fills {status.fills_buy} buy {status.fills_sell} sell",
        f"pnl {money_signed_text(status.pnl)} cash {money_text(status.cash)}",
        f"restarts {_total(status.restarts)} reconnects {status.reconnects} faults {_total(status.faults)}",
    ]
    return "  ".join(parts)


def progress(status: Status) -> str:
    """Say how far a run in virtual time has come."""
    percent = min(int(100 * status.elapsed_s / status.duration_s), 100) if status.duration_s > 0 else 100
    done, whole = _clock(status, status.elapsed_s), _clock(status, status.duration_s)
    fills = status.fills_buy + status.fills_sell
    return f"simulated {done} of {whole} ({percent} %)  fills {fills}  pnl {money_signed_text(status.pnl)}"


def _mode(status: Status) -> str:
    takes = f"exchange takes {status.exchange_takes}" if status.exchange_takes else ""
    reasons = "; ".join(reason for reason in (status.halt_reason, takes) if reason)
    return f"{status.mode} ({reasons})" if reasons else status.mode


def _market(market: MarketStatus) -> str:
    parts = [market.slug, f"bid {_top(market.bid, market.tick)}", f"ask {_top(market.ask, market.tick)}"]
    parts += [f"own {_best(market.bids, market.tick)}/{_best(market.asks, market.tick)}"]
    parts += [f"{size_text(size)} {name}" for name, size in (("YES", market.yes), ("NO", market.no)) if size]
    if market.is_stale:
        parts.append("stale" if market.data_age_s is None else f"stale {age_text(market.data_age_s)}")
    return " ".join(parts)


def _more(status: Status) -> list[str]:
    left = len(status.markets) - MARKETS_MAX
    return [f"and {left} more"] if left > 0 else []


def _top(level: Level | None, tick: Price) -> str:
    return price_text(level.price, tick) if level is not None else "-"


def _best(quotes: tuple[OwnQuote, ...], tick: Price) -> str:
    return price_text(quotes[0].price, tick) if quotes else "-"


def _clock(status: Status, seconds: float) -> str:
    return clock_text(seconds, longest_s=status.duration_s)


def _total(counts: Counts) -> int:
    return sum(count for _, count in counts)
