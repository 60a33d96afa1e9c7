"""The exchange's balances against our ledger: what a difference means, and when it means anything.

Balances and fills come from different places and lag each other, so a comparison counts only in a quiet moment, and a
difference only when a second quiet report finds the very same one. The exchange tells balances from a cache that may be
old for minutes after a trade, so each asset that differs is read from the chain anew before anything is concluded.

Money that came in without a trade is then a deposit or a reward, once every balance of a token was told to be in order
beside it. Anything else is a fill we missed or invented, or somebody else's transfer: trading halts until a person says
`Resume`. It names the difference that was seen and is accepted: what the exchange holds is taken for true from then on,
by a correction beside the ledger (`offsets`), which stays what its fills say. When the exchange comes to agree with the
ledger again, the correction is undone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tbot.core.account import Account
from tbot.core.market import CASH, TokenId
from tbot.core.messages import ExchangeReport
from tbot.core.orders import SIZE_TOLERANCE, shares
from tbot.core.positions import Ledger
from tbot.core.units import NANOS_PER_S, Nanos, Notional, text_from_micro

# The exchange's rounding of fees is not documented; a cent of dust is no disagreement.
CASH_TOLERANCE = Notional(10_000)
# Balances come from another service than fills; it lags by up to this.
SETTLE_NS = 2 * NANOS_PER_S
# An exchange that does not read its balances anew for this long leaves nobody else to ask: what it tells counts then.
REFRESH_WITHIN_NS = 60 * NANOS_PER_S
# While reports come, those that differ are asked for every few seconds; after a longer silence nobody asked.
SILENCE_NS = 15 * NANOS_PER_S


def compare(account: Account, report: ExchangeReport, *, before_ns: Nanos) -> None:
    """Hold a report against the ledger; halt when it confirms a difference that a deposit cannot explain.

    Args:
        account: Takes note of what differs.
        report: Newer than every one before.
        before_ns: When the report before it was asked for.
    """
    is_quiet = _is_comparable(account, report.requested_ns)
    _wait_again(account, report, before_ns, is_quiet=is_quiet)
    if account.ledger is None or not is_quiet:
        return
    found = differences(report, account.ledger, tokens=tuple(account.market_of), known=account.offsets)
    told = {CASH, *(token for token, _ in report.balances)}
    # A report tells some balances only; of those it does not tell a suspicion neither grows nor ends.
    # One of a market that is traded no more has no part in it: nobody would ever tell it again.
    waiting = ((token, difference) for token, difference in account.drift.items() if token in account.market_of)
    untold = {token: difference for token, difference in waiting if token not in told}
    is_the_same = bool(account.drift) and found | untold == account.drift
    was_seen = is_the_same and not untold
    is_sure = _doubt_again(account, found | untold, report, is_the_same=is_the_same)
    is_gift = list(found) == [CASH] and found[CASH] > 0
    before = account.drift_told if was_seen else ()
    account.drift_told = tuple(dict.fromkeys((*before, *dict(report.balances)))) if is_gift else ()
    if not (was_seen and is_sure) or _undo(account, found):
        return
    if is_gift:
        # Money alone may also be a sale that we missed; its shares show when their balance is told.
        if set(account.market_of) <= set(account.drift_told):
            _correct(account, account.drift)
            account.note(f"${text_from_micro(found[CASH])} came in without a trade: a deposit or a reward")
        return
    foreign = account.counts.get("foreign_fills", 0)
    others = f"; {foreign} fills of orders that are not ours are booked" if foreign else ""
    reason = f"ledger and exchange disagree: {describe(account, found)}{others}{_unread(account)}"
    account.halt(reason, report.received_ns)


def doubtful(account: Account) -> tuple[TokenId, ...]:
    """Name the assets whose balances differ, and may do so only because the exchange has not looked at the chain."""
    if account.halt_reason:
        return ()
    return tuple(asset for asset in account.drift if asset not in account.drift_refreshed)


def to_read_anew(account: Account) -> tuple[TokenId, ...]:
    """Name the assets that the exchange shall read from the chain anew.

    Those that are doubtful, and those whose first balance is taken for given: one of an old cache would differ later.
    """
    first = account.untold() if account.ledger is not None else (*account.untold(), CASH)
    return tuple(dict.fromkeys((*doubtful(account), *first)))


def accept(account: Account, accepted: Mapping[TokenId, int]) -> None:
    """Take a difference for given because a person does: what it says differs no more, anything else goes on to.

    Args:
        account: Its offsets take it.
        accepted: What the exchange holds beyond the ledger, in millionths by asset; as `Account.drift` had it.
    """
    _correct(account, accepted)
    for asset, difference in accepted.items():
        account.accepted[asset] = account.accepted.get(asset, 0) + difference
    if accepted:
        account.note(f"corrected because the operator accepts it: {describe(account, accepted)}")


def differences(
    report: ExchangeReport, ledger: Ledger, *, tokens: Sequence[TokenId], known: Mapping[TokenId, int]
) -> dict[TokenId, int]:
    """Say what the exchange holds beyond the ledger, in millionths; negative = it holds less.

    Args:
        report: Tokens it does not tell are not compared.
        ledger: Ours, with nothing pending.
        tokens: Tokens to compare beside the collateral (`CASH`).
        known: Differences that are explained already: what was there before the ledger, what a person accepted.
    """
    told = dict(report.balances)
    found = {t: told[t] - ledger.position(t).size - known.get(t, 0) for t in tokens if t in told}
    found = {token: difference for token, difference in found.items() if abs(difference) >= SIZE_TOLERANCE}
    cash = report.cash - ledger.cash - known.get(CASH, 0)
    if abs(cash) >= CASH_TOLERANCE:
        found[CASH] = cash
    return found


def describe(account: Account, found: Mapping[TokenId, int]) -> str:
    """Say a difference to people, by market and outcome."""
    amounts = (
        f"${text_from_micro(d)}" if t == CASH else f"{shares(d)} of {asset_name(account, t)}" for t, d in found.items()
    )
    return "exchange minus ledger is " + ", ".join(amounts)


def asset_name(account: Account, token_id: TokenId) -> str:
    """Name a token to people by market and outcome."""
    market = account.market_of.get(token_id)
    name = "" if market is None else market.slug or market.market_id
    if market is None or not name:
        return token_id[:12]  # of a market that is traded no more, or whose name is not on record
    return f"{name} {market.outcome_of(token_id)}"


def _correct(account: Account, found: Mapping[TokenId, int]) -> None:
    for asset, difference in found.items():
        account.offsets[asset] = account.offsets.get(asset, 0) + difference
    account.offsets = {asset: offset for asset, offset in account.offsets.items() if offset}
    account.drift = {}
    account.drift_told = account.drift_refreshed = ()


def _undo(account: Account, found: Mapping[TokenId, int]) -> bool:
    """End corrections that a person accepted where the exchange agrees with the ledger by now; whether that is all."""
    undone = {asset: -account.accepted.get(asset, 0) for asset in found}
    if any(abs(difference - undone[asset]) >= _tolerance(asset) for asset, difference in found.items()):
        return False
    _correct(account, undone)
    account.accepted = {asset: d for asset, d in account.accepted.items() if asset not in found}
    account.note(f"ledger and exchange agree again, a correction is undone: {describe(account, undone)}")
    return True


def _tolerance(asset: TokenId) -> int:
    return CASH_TOLERANCE if asset == CASH else SIZE_TOLERANCE


def _is_comparable(account: Account, requested_ns: Nanos) -> bool:
    """Whether all is quiet: nothing pending on either side, nothing moved since the report was asked for."""
    is_settled = account.unsettled_since_ns() is None
    is_claimed = any(order.size_pending for order in account.orders.working())
    return is_settled and not is_claimed and requested_ns - account.news_ns >= SETTLE_NS


def _wait_again(account: Account, report: ExchangeReport, before_ns: Nanos, *, is_quiet: bool) -> None:
    """Give the exchange the whole time anew where nobody asked it, or where it did read, though while we traded."""
    is_read = any(asset in report.refreshed for asset in doubtful(account))
    if report.requested_ns - before_ns > SILENCE_NS or (is_read and not is_quiet):
        account.drift_since_ns = report.requested_ns


def _doubt_again(account: Account, found: dict[TokenId, int], report: ExchangeReport, *, is_the_same: bool) -> bool:
    """Note a difference and what of it was read anew; True when nothing can be said against it any more.

    Only a later report proves something: the one that comes right after the exchange was told to look may be too early.
    """
    before: Iterable[TokenId] = account.drift_refreshed if is_the_same else ()
    account.drift = found
    account.drift_since_ns = account.drift_since_ns if is_the_same else report.requested_ns
    account.drift_refreshed = tuple(asset for asset in found if asset in before or asset in report.refreshed)
    is_overdue = report.requested_ns - account.drift_since_ns >= REFRESH_WITHIN_NS
    unread = set(found) - set(before)
    return not unread or (is_overdue and not unread & set(report.refreshed))


def _unread(account: Account) -> str:
    unread, within_s = len(doubtful(account)), REFRESH_WITHIN_NS // NANOS_PER_S
    return f"; the exchange did not read {unread} of these anew within {within_s} s" if unread else ""
