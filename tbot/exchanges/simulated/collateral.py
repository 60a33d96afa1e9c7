"""Collateral in and out of accounts and pairs: deposit, split, merge, and redemption after a market was resolved.

Always, to the unit: cash of all accounts + collateral locked + fees = deposits. Until its market is resolved all YES =
all NO = collateral locked; afterwards what is locked covers every token still held. Payouts are rounded down, as the
contract divides integers.
"""

from __future__ import annotations

from tbot.core.market import TokenId
from tbot.core.units import MICRO
from tbot.exchanges.simulated.ledger import CASH, Ledger
from tbot.exchanges.simulated.operations import (
    Deposit,
    Done,
    MarketRules,
    MergePair,
    RedeemTokens,
    Refused,
    SplitPair,
)

TEXT_BALANCE = "not enough balance / allowance"
TEXT_UNRESOLVED = "the market is not resolved"
TEXT_RESOLVED = "the market is resolved"


def deposit(ledger: Ledger, operation: Deposit) -> Done | Refused:
    """Bring collateral in, or out when negative."""
    if ledger.available(operation.account, CASH) + operation.cash < 0:
        return Refused(text=TEXT_BALANCE)
    ledger.deposit(operation.account, operation.cash)
    return Done()


def move(ledger: Ledger, rules: MarketRules, operation: SplitPair | MergePair | RedeemTokens) -> Done | Refused:
    """Turn collateral into tokens of a market, or tokens back into collateral."""
    match operation:
        case SplitPair():
            return _split(ledger, rules, operation)
        case MergePair():
            return _merge(ledger, rules, operation)
        case RedeemTokens():
            return _redeem(ledger, rules, operation)


def _split(ledger: Ledger, rules: MarketRules, operation: SplitPair) -> Done | Refused:
    if not 0 < operation.size <= ledger.available(operation.account, CASH):
        return Refused(text=TEXT_BALANCE)
    ledger.split(operation.account, market_id=rules.market_id, yes=rules.yes, no=rules.no, size=operation.size)
    return Done()


def _merge(ledger: Ledger, rules: MarketRules, operation: MergePair) -> Done | Refused:
    pairs = min(ledger.available(operation.account, token_id) for token_id in (rules.yes, rules.no))
    if not 0 < operation.size <= pairs:
        return Refused(text=TEXT_BALANCE)
    ledger.split(operation.account, market_id=rules.market_id, yes=rules.yes, no=rules.no, size=-operation.size)
    return Done()


def _redeem(ledger: Ledger, rules: MarketRules, operation: RedeemTokens) -> Done | Refused:
    if rules.yes_payout is None:
        return Refused(text=TEXT_UNRESOLVED)
    held = {token_id: ledger.available(operation.account, token_id) for token_id in (rules.yes, rules.no)}
    if not any(held.values()):
        return Refused(text=TEXT_BALANCE)
    for token_id, amount in held.items():
        paid = amount * payout_of(rules, token_id) // MICRO
        ledger.redeem(operation.account, market_id=rules.market_id, token_id=token_id, size=amount, paid=paid)
    return Done()


def payout_of(rules: MarketRules, token_id: TokenId) -> int:
    """Tell what one share of a token of a resolved market pays, micro-dollars."""
    assert rules.yes_payout is not None
    return rules.yes_payout if token_id == rules.yes else MICRO - rules.yes_payout
