"""Rows of the catalogue as listings, and the choice among them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbot.core.market import MarketId
from tbot.core.units import MICRO, Notional
from tbot.errors import BadFrame
from tbot.exchanges.polymarket.listings import (
    EventName,
    Listing,
    MarketRow,
    RewardRow,
    Wanted,
    chosen,
    clob_spelling,
    gamma_spellings,
    groups,
    is_condition_id,
    listing_of,
)

TODAY = "2026-11-26"
READY: dict[str, Any] = {
    "condition_id": "0x" + "ab" * 32,
    "slug": "rain",
    "version": "v1",
    "outcomes": '["Yes", "No"]',
    "clob_token_ids": '["11", "22"]',
    "active": True,
    "closed": False,
    "accepting_orders": True,
    "enable_order_book": True,
    "liquidity_num": Decimal("1234.5678912"),
    "end_date": datetime(2026, 12, 1),  # noqa: DTZ001 - as msgspec reads a text without a zone
}


def listed(**changes: Any) -> Listing:
    return listing_of(MarketRow(**(READY | changes)), today=TODAY)


def test_a_whole_row_is_ready_and_exact() -> None:
    listing = listed()
    assert listing.is_ready
    assert (listing.tokens, listing.outcomes) == (("11", "22"), ("Yes", "No"))
    assert listing.liquidity == 1_234_567_891
    assert listing.end == datetime(2026, 12, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "change",
    [
        {"active": False},
        {"active": None},
        {"closed": True},
        {"accepting_orders": False},
        {"accepting_orders": None},
        {"enable_order_book": None},
        {"version": None},
        {"version": "v9"},
    ],
    ids=str,
)
def test_what_lacks_one_thing_is_not_ready_and_never_chosen(change: dict[str, Any]) -> None:
    assert not listed(**change).is_ready
    assert chosen([listed(**change)], Wanted()) == ()


def test_positions_of_v2_stand_for_tokens_and_the_id_gets_its_last_byte() -> None:
    row = listed(version="v2", condition_id="0x" + "cd" * 31, clob_token_ids=None, position_ids=("33", "34"))
    assert (row.tokens, row.market_id) == (("33", "34"), "0x" + "cd" * 31 + "00")
    assert row.is_ready


@given(st.binary(min_size=31, max_size=32))
def test_each_spelling_of_an_id_leads_back_to_the_clobs(number: bytes) -> None:
    spelled = f"0x{number.hex()}"
    assert is_condition_id(spelled)
    market_id = clob_spelling(spelled)
    assert spelled in gamma_spellings(market_id)
    assert {clob_spelling(each) for each in gamma_spellings(market_id)} == {market_id}


@pytest.mark.parametrize("name", ["rain", "0x", "0x" + "ab" * 30, "0x" + "ab" * 33, "0x" + "zz" * 32, "0xrain"])
def test_other_names_are_slugs(name: str) -> None:
    assert not is_condition_id(name)


@pytest.mark.parametrize(
    "change",
    [
        {"outcomes": "Yes, No"},
        {"clob_token_ids": "[1, 2]"},
        {"liquidity_num": Decimal(-1)},
        {"liquidity_num": Decimal("1e30")},
    ],
    ids=str,
)
def test_impossible_fields_are_a_bad_frame(change: dict[str, Any]) -> None:
    with pytest.raises(BadFrame):
        listed(**change)


RULE = {"rewards_min_size": Decimal(20), "rewards_max_spread": Decimal("3.5")}


@pytest.mark.parametrize(
    ("change", "daily", "has_rewards"),
    [
        ({}, 0, False),
        (RULE, 0, True),  # the rows of an event leave out who pays
        (RULE | {"clob_rewards": ()}, 0, False),
        (RULE | {"clob_rewards": (RewardRow(rewards_daily_rate=Decimal(5)),)}, 5, True),
        (RULE | {"clob_rewards": (RewardRow(rewards_daily_rate=Decimal(5), end_date=TODAY),)}, 5, True),
        (RULE | {"clob_rewards": (RewardRow(rewards_daily_rate=Decimal(5), end_date="2026-11-25"),)}, 0, False),
        (RULE | {"clob_rewards": (RewardRow(rewards_daily_rate=Decimal(2)),) * 2}, 4, True),
    ],
)
def test_rewards_count_while_somebody_pays(change: dict[str, Any], daily: int, has_rewards: bool) -> None:
    listing = listed(**change)
    assert (listing.reward_daily, listing.has_rewards) == (daily * MICRO, has_rewards)
    assert bool(chosen([listing], Wanted(is_rewarded=True))) is has_rewards


def test_limits_of_a_choice_hold_at_their_edges() -> None:
    listing = listed()
    assert listing.end is not None
    assert chosen([listing], Wanted(liquidity_min=listing.liquidity)) == (listing,)
    assert chosen([listing], Wanted(liquidity_min=Notional(listing.liquidity + 1))) == ()
    assert chosen([listing], Wanted(ends_before=listing.end)) == ()
    assert chosen([listing], Wanted(ends_before=datetime(2026, 12, 1, 0, 0, 1, tzinfo=UTC))) == (listing,)
    assert chosen([listed(end_date=None)], Wanted(ends_before=datetime(2030, 1, 1, tzinfo=UTC))) == ()


@given(st.permutations(range(6)))
def test_the_order_of_rows_does_not_matter(order: list[int]) -> None:
    rows = [
        listed(condition_id=f"0x{number:064x}", slug=f"m{number}", liquidity_num=Decimal(number // 2))
        for number in range(6)
    ]
    found = chosen([rows[number] for number in [*order, *order]], Wanted())
    assert [each.slug for each in found] == ["m4", "m5", "m2", "m3", "m0", "m1"]


def test_groups_hold_neg_risk_markets_alone() -> None:
    one, two = (listed(neg_risk=True, neg_risk_market_id="0x01", slug=slug) for slug in ("a", "b"))
    other = listed(neg_risk=True, neg_risk_market_id="0x02")
    assert groups([one, listed(), other, two]) == {"0x01": (one, two), "0x02": (other,)}


def test_an_event_names_itself_or_is_named_by_its_row() -> None:
    row = MarketRow(**READY, events=(EventName(slug="weather"),))
    assert listing_of(row, today=TODAY).event_slug == "weather"
    assert listing_of(row, today=TODAY, event_slug="storms").event_slug == "storms"
    assert listed().market_id == MarketId(READY["condition_id"])
