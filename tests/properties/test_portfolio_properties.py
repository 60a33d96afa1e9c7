"""Positions of random lives: shares as the ledger has them, and money that adds up to the unit."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tbot.core.messages import Settlement
from tbot.core.units import NANOS_PER_S, Nanos
from tbot.exchanges.simulated import portfolio
from tbot.exchanges.simulated.ledger import CASH
from tbot.exchanges.simulated.matching import Engine
from tbot.exchanges.simulated.operations import Advance, Deposit
from tbot.exchanges.simulated.portfolio import Portfolios, Stake
from tests.properties.test_market_life_properties import (
    ACCOUNTS,
    HISTORIES,
    LATER,
    TOKENS,
    Timed,
    ending,
    history,
    new_engine,
    run,
)

SETTLED: Timed = [(Nanos(LATER - NANOS_PER_S), Advance())]


def portfolios_of(engine: Engine) -> Portfolios:
    portfolios = Portfolios(engine)
    while portfolios.update():
        pass
    return portfolios


def faults(engine: Engine) -> list[str]:
    """Hold every account against the ledger, all trades being settled or failed."""
    portfolios, found = portfolios_of(engine), []
    for account in ACCOUNTS:
        stakes = portfolios.stakes(account)
        for token in TOKENS:
            stake = stakes.get(token, Stake())
            if stake.size != engine.ledger.owned(account, token):
                found.append(f"{account} {token}: {stake.size}, owned {engine.ledger.owned(account, token)}")
            if min(stake.size, stake.cost, stake.fees) < 0 or (not stake.size and stake.cost + stake.fees):
                found.append(f"{account} {token}: {stake}")
            if stake.cost_total < stake.cost or stake.size_total < stake.size:
                found.append(f"{account} {token}: more than all of it: {stake}")
        trades = [t for t in engine.trades if t.taker_account == account and t.settlement is not Settlement.FAILED]
        earned = sum(stake.realized - stake.cost for stake in stakes.values())
        moved = [r for r in portfolios.records_of(account) if isinstance(r, portfolio.Movement)]
        brought = sum(r.moved.cash for r in moved if isinstance(r.moved.operation, Deposit))
        if brought + earned - sum(t.fee for t in trades) != engine.ledger.owned(account, CASH):
            found.append(f"{account}: {brought} brought, {earned} earned, {engine.ledger.owned(account, CASH)} owned")

    return found


@given(HISTORIES)
@settings(max_examples=40, deadline=None)
def test_positions_hold_what_the_ledger_holds_and_cost_what_was_paid(log: Timed) -> None:
    assert faults(run(log + SETTLED)) == []


@given(HISTORIES, st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_after_the_end_all_is_realized(log: Timed, seed: int) -> None:
    engine = run(log + ending(seed))
    assert faults(engine) == []
    stakes = portfolios_of(engine)
    assert not any(s.size or s.cost or s.fees for account in ACCOUNTS for s in stakes.stakes(account).values())


@given(HISTORIES, st.integers(1, 7))
@settings(max_examples=20, deadline=None)
def test_reading_along_gives_what_reading_at_the_end_gives(log: Timed, step: int) -> None:
    engine = new_engine()
    along = Portfolios(engine)
    for number, (now, operation) in enumerate(log + SETTLED):
        engine.apply(operation, now)
        if number % step == 0:
            along.update()
    while along.update():
        pass
    late = portfolios_of(engine)
    assert along.records == late.records
    assert [along.stakes(a) for a in ACCOUNTS] == [late.stakes(a) for a in ACCOUNTS]
    places = [record.place for record in late.records]
    assert places == list(range(len(places)))


@pytest.mark.parametrize("name", ["acquire", "release"])
def test_the_judge_sees_a_stake_that_counts_wrong(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    right = getattr(Stake, name)

    def wrong(stake: Stake, size: int, money: int | None, *rest: object) -> object:
        return right(stake, size, None if money is None else money + 1, *rest)

    monkeypatch.setattr(Stake, name, wrong)
    log = history(3, 60)
    assert faults(run(log + SETTLED)) != []


def test_a_long_log_is_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    log = history(5, 40)
    engine = run(log + SETTLED)
    whole = portfolios_of(engine)
    monkeypatch.setattr(portfolio, "ENTRIES_PER_UPDATE", 3)
    parts, again = 1, Portfolios(engine)
    while again.update():
        parts += 1
    assert parts >= len(engine.chain) // 3 > 3
    assert again.records == whole.records
