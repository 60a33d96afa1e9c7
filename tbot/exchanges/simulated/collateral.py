"""Collateral in and out of accounts and pairs: deposit, split, merge, conversion, and redemption after resolution.

Always, to the unit: cash of all accounts + collateral locked + fees = deposits. Until its market is resolved all YES =
all NO = collateral locked; afterwards what is locked covers every token still held. Payouts are rounded down, as the
contract divides integers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tbot.core.market import MarketId, TokenId
from tbot.core.units import MICRO
from tbot.exchanges.simulated.ledger import CASH, Ledger
from tbot.exchanges.simulated.operations import (
    Account,
    ConvertPositions,
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
TEXT_HALVES = "an outcome of a neg-risk event resolves YES or NO, nothing between"
TEXT_ANOTHER_WON = "another outcome of this neg-risk event has won"
TEXT_LAST_ONE = "one outcome of a neg-risk event must win, and all others have lost"
TEXT_NO_EVENT = "positions of one neg-risk event only can be converted"


Movement = Deposit | SplitPair | MergePair | RedeemTokens | ConvertPositions

_ADAPTER = "neg-risk adapter of "


def adapter_of(event: str) -> Account:
    """Name the account of an event's neg-risk adapter.

    It keeps the NO that conversions give up, n of every outcome, and owes the collateral that they are worth whichever
    wins: n x (outcomes - 1). Its cash is below zero by just that until the event is resolved and it redeems.
    """
    return Account(_ADAPTER + event)


def is_adapter(account: Account) -> bool:
    """Tell whether an account is that of a contract rather than of somebody."""
    return account.startswith(_ADAPTER)


def move(ledger: Ledger, markets: Mapping[MarketId, MarketRules], operation: Movement) -> Done | Refused:
    """Bring collateral in or out, turn it into tokens, or tokens back into it."""
    match operation:
        case Deposit():
            return _deposit(ledger, operation)
        case SplitPair():
            return _split(ledger, markets[operation.market_id], operation)
        case MergePair():
            return _merge(ledger, markets[operation.market_id], operation)
        case RedeemTokens():
            return _redeem(ledger, markets[operation.market_id], operation)
        case ConvertPositions():
            return _convert(ledger, markets, operation)


def tokens_moved(markets: Mapping[MarketId, MarketRules], operation: Movement) -> tuple[TokenId, ...]:
    """Name the tokens that a movement can make, take or hand over, in order of listing."""
    match operation:
        case Deposit():
            return ()
        case ConvertPositions():
            events = {markets[market_id].event for market_id in operation.market_ids}
            return tuple(token_id for rules in markets.values() if rules.event in events for token_id in rules.tokens)
        case SplitPair() | MergePair() | RedeemTokens():
            return markets[operation.market_id].tokens


def _deposit(ledger: Ledger, operation: Deposit) -> Done | Refused:
    if ledger.available(operation.account, CASH) + operation.cash < 0:
        return Refused(text=TEXT_BALANCE)
    ledger.deposit(operation.account, operation.cash)
    return Done()


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


def _convert(ledger: Ledger, markets: Mapping[MarketId, MarketRules], operation: ConvertPositions) -> Done | Refused:
    given = [markets[market_id] for market_id in dict.fromkeys(operation.market_ids)]
    event = given[0].event if given else ""
    if not event or any(rules.event != event for rules in given):
        return Refused(text=TEXT_NO_EVENT)
    outcomes = [rules for rules in markets.values() if rules.event == event]
    if any(rules.yes_payout is not None for rules in outcomes):
        return Refused(text=TEXT_RESOLVED)
    account, size, adapter = operation.account, operation.size, adapter_of(event)
    if not 0 < size <= min(ledger.available(account, rules.no) for rules in given):
        return Refused(text=TEXT_BALANCE)
    for rules in outcomes:
        if rules in given:
            ledger.move(account, adapter, rules.no, size)
        else:
            # A pair is made on the adapter's credit: it keeps the NO, as it does of those given up.
            ledger.split(adapter, market_id=rules.market_id, yes=rules.yes, no=rules.no, size=size)
            ledger.move(adapter, account, rules.yes, size)
    ledger.move(adapter, account, CASH, size * (len(given) - 1))
    return Done()


def objection_to_payout(markets: Iterable[MarketRules], rules: MarketRules, yes_payout: int) -> str:
    """Tell why a market cannot resolve like this; "" = it can.

    Exactly one outcome of a neg-risk event wins (the adapter contract takes no other report): what conversion gives
    relies on it, and anything else would make money or destroy it.
    """
    if rules.yes_payout is not None:
        return TEXT_RESOLVED
    if not rules.event:
        return ""
    if yes_payout not in (0, MICRO):
        return TEXT_HALVES
    others = [other.yes_payout for other in markets if other.event == rules.event and other is not rules]
    if yes_payout == MICRO:
        return TEXT_ANOTHER_WON if MICRO in others else ""
    return TEXT_LAST_ONE if all(payout == 0 for payout in others) else ""


def payout_of(rules: MarketRules, token_id: TokenId) -> int:
    """Tell what one share of a token of a resolved market pays, micro-dollars."""
    assert rules.yes_payout is not None
    return rules.yes_payout if token_id == rules.yes else MICRO - rules.yes_payout
