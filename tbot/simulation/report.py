"""What a run says at its end: one object for machines, a page that explains itself for people."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import msgspec

from tbot.core.market import Market, TokenId
from tbot.core.messages import Quotes, Snapshot, TopOfBook
from tbot.core.units import dollars, text_from_micro
from tbot.store.rows import RecordRow

_VIEWS = (TopOfBook.__name__, Quotes.__name__)


class OrderCounts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Orders of the run, by what became of them; one order may be counted in several."""

    submitted: int
    accepted: int
    rejected: int
    canceled: int
    filled: int
    unknown: int


class FillCounts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Fills of the run; buy + sell = maker + taker."""

    buy: int
    sell: int
    maker: int
    taker: int
    reversed: int


class PositionLine(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is held at the end.

    Attributes:
        shares: Exact decimal.
        mark: Best bid, dollars.
    """

    market: str
    outcome: str
    shares: str
    cost_usd: float
    mark: float


class RunReport(msgspec.Struct, frozen=True, kw_only=True):
    """The result of `tbot sim`.

    Attributes:
        duration_s: Simulated seconds.
        wall_s: Real seconds; the only field that differs between two runs of one seed.
        digest: SHA-256 over every fact and command of the journal, in order.
        pnl_usd: Realized and unrealized at the best bids, after fees.
        restarts: By the task that crashed.
        faults_injected: By kind.
        violations: Findings of the judge; empty = everything accounted for.
    """

    seed: int
    speed: str
    duration_s: float
    wall_s: float
    digest: str
    orders: OrderCounts
    fills: FillCounts
    volume_usd: float
    pnl_usd: float
    fees_usd: float
    positions: tuple[PositionLine, ...]
    restarts: dict[str, int]
    faults_injected: dict[str, int]
    reconnects: int
    violations: tuple[str, ...]


def digest_of(records: Iterable[RecordRow]) -> str:
    """Hash the ordered facts and commands; the views that caused commands are left out."""
    digest = hashlib.sha256()
    for row in records:
        if row.kind not in _VIEWS:
            digest.update(f"{row.at_ns} {row.kind} {len(row.payload)}\n".encode())
            digest.update(row.payload)
    return digest.hexdigest()


def order_counts(counts: Mapping[str, int]) -> OrderCounts:
    """Pick the orders' counters out of a snapshot's."""
    names = OrderCounts.__struct_fields__
    return OrderCounts(**{name: counts.get(name, 0) for name in names})


def fill_counts(counts: Mapping[str, int]) -> FillCounts:
    """Pick the fills' counters out of a snapshot's."""
    by_side = {name: counts.get(f"fills_{name}", 0) for name in ("buy", "sell", "maker", "taker")}
    return FillCounts(**by_side, reversed=counts.get("reversed", 0))


def position_lines(snapshot: Snapshot, markets: Iterable[Market]) -> tuple[PositionLine, ...]:
    """Name the positions that are not flat."""
    market_of: dict[TokenId, Market] = {token: market for market in markets for token in market.tokens}
    return tuple(
        PositionLine(
            market=market_of[row.token_id].slug,
            outcome=market_of[row.token_id].outcome_of(row.token_id).value,
            shares=text_from_micro(row.size),
            cost_usd=dollars(row.cost),
            mark=dollars(row.mark),
        )
        for row in snapshot.positions
        if row.size
    )


def summary(report: RunReport) -> str:
    """Explain a run to a person, in a page of plain text."""
    o, f = report.orders, report.fills
    lines = [
        f"Simulated {_span(report.duration_s)}, seed {report.seed}, in {report.wall_s:.1f} s at {report.speed} speed.",
        "",
        (
            f"Orders     {o.submitted} sent: {o.accepted} accepted, {o.rejected} rejected, "
            f"{o.canceled} cancelled, {o.filled} filled; {_times(o.unknown)} in doubt and settled by asking"
        ),
        f"Fills      {f.buy + f.sell}: {f.buy} buys, {f.sell} sells; {f.maker} as maker, {f.taker} as taker"
        + (f"; {f.reversed} undone because they failed on chain" if f.reversed else ""),
        (
            f"Money      volume ${report.volume_usd:,.2f}, fees ${report.fees_usd:,.2f}, "
            f"profit ${report.pnl_usd:,.2f} after fees, positions at the best bid"
        ),
        *_position_text(report.positions),
        f"Faults     {_counted(report.faults_injected) or 'none injected'}",
        f"Restarts   {_counted(report.restarts) or 'none'}; the market feed reconnected {_times(report.reconnects)}",
        *_verdict(report.violations),
        f"Digest     {report.digest[:16]}: the same seed gives the same digest"
        if report.speed == "max"
        else f"Digest     {report.digest[:16]} of this run's journal",
    ]
    return "\n".join(lines)


def _position_text(positions: Iterable[PositionLine]) -> list[str]:
    lines = [f"{p.shares} {p.outcome} of {p.market} bought for ${p.cost_usd:,.2f}, bid {p.mark:g}" for p in positions]
    head = ["Holding    ", *["           "] * len(lines)]
    return [a + b for a, b in zip(head, lines or ["nothing"], strict=False)]


def _verdict(violations: tuple[str, ...]) -> list[str]:
    if not violations:
        return ["Audit      every order, share and cent agrees with the exchange's own trade log: no violations"]
    head = f"Audit      {len(violations)} VIOLATION{'S' if len(violations) > 1 else ''}"
    return [head, *(f"           - {v}" for v in violations)]


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} x{count}" for name, count in sorted(counts.items()) if count)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _span(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:g} h"
    return f"{seconds / 60:g} min" if seconds >= 120 else f"{seconds:g} s"
