"""NO of some outcomes of an event into YES of the others: what one gets, what one cannot do, and who owes what."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tbot.core.market import MarketId, TokenId
from tbot.core.messages import Side
from tbot.core.units import MICRO, Notional, Price, Size
from tbot.exchanges.simulated.collateral import (
    TEXT_ANOTHER_WON,
    TEXT_BALANCE,
    TEXT_HALVES,
    TEXT_LAST_ONE,
    TEXT_NO_EVENT,
    TEXT_RESOLVED,
    adapter_of,
)
from tbot.exchanges.simulated.operations import (
    ConvertPositions,
    Deposit,
    Done,
    MarketRules,
    OpenMarket,
    RedeemTokens,
    Refused,
    Reply,
    ResolveMarket,
    SplitPair,
)
from tests.exchanges.simulated.desk import ANN, RAIN, Bench

ADAPTER = adapter_of("mayor")


def outcome(name: str) -> MarketRules:
    return msgspec.structs.replace(
        RAIN,
        market_id=MarketId(name),
        slug=name,
        yes=TokenId(f"{name}-yes"),
        no=TokenId(f"{name}-no"),
        event="mayor",
        is_neg_risk=True,
    )


A, B, C = (outcome(name) for name in "abc")


def stocked() -> Bench:
    """Ann has 10 pairs of each of three outcomes, and $1,000 left over."""
    bench = Bench()
    for rules in (A, B, C):
        bench.do(OpenMarket(rules=rules))
        bench.do(SplitPair(account=ANN, market_id=rules.market_id, size=Size(10 * MICRO)))
    bench.do(Deposit(account=ANN, cash=Notional(30 * MICRO)))
    return bench


@pytest.fixture
def bench() -> Bench:
    return stocked()


def convert(bench: Bench, *given: MarketRules, shares: float = 10) -> Reply:
    size = Size(round(shares * MICRO))
    return bench.do(ConvertPositions(account=ANN, market_ids=tuple(rules.market_id for rules in given), size=size))


def held(bench: Bench) -> dict[str, float]:
    return {token: bench.owned(ANN, TokenId(token)) for token in ("a-yes", "a-no", "b-yes", "b-no", "c-yes", "c-no")}


def test_one_no_becomes_the_yes_of_all_others(bench: Bench) -> None:
    cash = bench.owned(ANN)
    assert convert(bench, A) == Done()
    assert held(bench) == {"a-yes": 10, "a-no": 0, "b-yes": 20, "b-no": 10, "c-yes": 20, "c-no": 10}
    assert bench.owned(ANN) == cash


def test_two_no_bring_a_dollar_each_as_well(bench: Bench) -> None:
    cash = bench.owned(ANN)
    assert convert(bench, A, B, shares=4) == Done()
    assert held(bench) == {"a-yes": 10, "a-no": 6, "b-yes": 10, "b-no": 6, "c-yes": 14, "c-no": 10}
    assert bench.owned(ANN) == cash + 4


def test_every_no_is_worth_all_dollars_but_one(bench: Bench) -> None:
    cash = bench.owned(ANN)
    assert convert(bench, A, B, C) == Done()
    assert bench.owned(ANN) == cash + 20


@pytest.mark.parametrize("given", [(A,), (A, B), (A, B, C)])
@pytest.mark.parametrize("winner", [A, B, C])
def test_a_conversion_is_worth_the_same_whoever_wins(
    bench: Bench, given: tuple[MarketRules, ...], winner: MarketRules
) -> None:
    worth = bench.owned(ANN) + 30  # each of 30 pairs pays a dollar
    convert(bench, *given)
    for rules in (A, B, C):
        bench.do(ResolveMarket(market_id=rules.market_id, yes_payout=Price(MICRO if rules is winner else 0)))
    for rules in (A, B, C):
        for account in (ANN, ADAPTER):
            bench.do(RedeemTokens(account=account, market_id=rules.market_id))
    assert bench.owned(ANN) == worth
    assert bench.owned(ADAPTER) == 0
    assert [bench.engine.ledger.locked(rules.market_id) for rules in (A, B, C)] == [0, 0, 0]


def test_what_cannot_be_converted_is_refused_and_changes_nothing(bench: Bench) -> None:
    before = bench.engine.digest()
    assert convert(bench, RAIN) == Refused(text=TEXT_NO_EVENT)
    assert convert(bench, A, RAIN) == Refused(text=TEXT_NO_EVENT)
    assert convert(bench) == Refused(text=TEXT_NO_EVENT)
    for shares in (0, -1, 10.000001):
        assert convert(bench, A, shares=shares) == Refused(text=TEXT_BALANCE)
    assert bench.engine.digest() == before
    bench.do(ResolveMarket(market_id=B.market_id, yes_payout=Price(0)))
    assert convert(bench, A) == Refused(text=TEXT_RESOLVED)


def test_a_no_given_twice_is_given_once(bench: Bench) -> None:
    cash = bench.owned(ANN)
    assert convert(bench, A, A) == Done()
    assert bench.owned(ANN) == cash


def test_orders_selling_what_was_converted_are_cancelled(bench: Bench) -> None:
    bench.rest(ANN, Side.SELL, A.no, "0.70", 6)
    kept = bench.rest(ANN, Side.SELL, B.no, "0.70", 6)
    convert(bench, A, shares=5)
    assert [order.order_id for order in bench.engine.open_orders(ANN)] == [kept]


REPORTS = st.tuples(st.sampled_from([A, B, C]), st.sampled_from([0, MICRO // 2, MICRO]))


@given(st.lists(st.sampled_from([A, B, C]), max_size=3), st.lists(REPORTS, max_size=6))
@settings(max_examples=80, deadline=None)
def test_no_report_of_an_event_makes_money(given_up: list[MarketRules], reports: list[tuple[MarketRules, int]]) -> None:
    bench = stocked()
    before = bench.owned(ANN) + 30
    convert(bench, *given_up)
    taken = [
        rules.market_id
        for rules, payout in reports
        if bench.do(ResolveMarket(market_id=rules.market_id, yes_payout=Price(payout))) == Done()
    ]
    rules_now = {rules.market_id: rules for rules in bench.engine.markets()}
    payouts = [rules_now[market_id].yes_payout for market_id in taken]
    assert len({*taken}) == len(taken)
    assert payouts.count(Price(MICRO)) <= 1
    assert payouts != [0, 0, 0]
    for account in (ANN, ADAPTER):
        for market_id in taken:
            bench.do(RedeemTokens(account=account, market_id=market_id))
    assert bench.owned(ADAPTER) >= 0 or len(taken) < 3  # what it laid out comes back with the last report
    if len(taken) == 3:
        assert (bench.owned(ANN), bench.owned(ADAPTER)) == (before, 0)


@pytest.mark.parametrize(
    ("reports", "text"),
    [
        ([(A, MICRO // 2)], TEXT_HALVES),
        ([(A, MICRO), (B, MICRO)], TEXT_ANOTHER_WON),
        ([(A, 0), (B, 0), (C, 0)], TEXT_LAST_ONE),
        ([(A, 0), (A, MICRO)], TEXT_RESOLVED),
    ],
)
def test_a_report_that_no_event_can_have_is_refused(
    bench: Bench, reports: list[tuple[MarketRules, int]], text: str
) -> None:
    *_, last = [bench.do(ResolveMarket(market_id=m.market_id, yes_payout=Price(p))) for m, p in reports]
    assert last == Refused(text=text)
