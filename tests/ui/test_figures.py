"""Numbers as people read them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbot.core.units import MICRO, Price, Size
from tbot.ui.figures import age_text, clock_text, money_signed_text, money_text, price_text, size_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "+0.00"),
        (1_230_000, "+1.23"),
        (-1_230_000, "-1.23"),
        (-1_000, "+0.00"),
        (-1_234_567_890_000, "-1,234,567.89"),
    ],
)
def test_gain_and_loss_carry_a_sign(value: int, text: str) -> None:
    assert money_signed_text(value) == text


@given(st.integers(-(10**15), 10**15))
def test_money_is_within_half_a_cent_and_never_minus_zero(value: int) -> None:
    text = money_text(value).replace(",", "")
    assert abs(Decimal(text) - Decimal(value) / MICRO) <= Decimal("0.005")
    assert text != "-0.00"


@pytest.mark.parametrize(
    ("shares", "text"),
    [
        (0, "0"),
        (12_500_000, "12.5"),
        (12_000_000, "12"),
        (9_999, "0"),
        (999_999_999, "999.99"),
        (1_234_567_890, "1,234"),
        (999_999_999_999, "999,999"),
        (1_250_000_000_000, "1.2M"),
        (-12_500_000, "-12.5"),
    ],
)
def test_sizes_are_short(shares: int, text: str) -> None:
    assert size_text(Size(shares)) == text


@given(st.integers(0, 10**15 - 1))
def test_size_is_at_most_seven_wide_and_never_more_than_there_is(shares: int) -> None:
    text = size_text(Size(shares))
    unit = 10**12 if text.endswith("M") else MICRO
    assert len(text) <= 7
    assert Decimal(text.rstrip("M").replace(",", "")) * unit <= shares


@pytest.mark.parametrize(
    ("price", "tick", "text"),
    [
        (470_000, 10_000, "0.47"),
        (500_000, 10_000, "0.50"),
        (500_000, 1_000, "0.500"),
        (475_000, 10_000, "0.475"),
        (500_000, 100_000, "0.5"),
        (1_000, 1_000, "0.001"),
    ],
)
def test_prices_line_up_by_their_tick(price: int, tick: int, text: str) -> None:
    assert price_text(Price(price), Price(tick)) == text


@given(st.integers(1, MICRO - 1), st.sampled_from([100, 1_000, 2_500, 5_000, 10_000, 100_000]))
def test_price_is_exact(price: int, tick: int) -> None:
    assert Decimal(price_text(Price(price), Price(tick))) * MICRO == price


@pytest.mark.parametrize(
    ("seconds", "longest_s", "text"),
    [
        (10.9, 120.0, "00:10"),
        (120.0, 120.0, "02:00"),
        (1390.0, 3600.0, "00:23:10"),
        (604_800.0, 604_800.0, "168:00:00"),
        (-1.0, 60.0, "00:00"),
        (3700.0, 60.0, "01:01:40"),
    ],
)
def test_clock_has_hours_where_the_run_has(seconds: float, longest_s: float, text: str) -> None:
    assert clock_text(seconds, longest_s=longest_s) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.25, "0.2 s"), (12.4, "12 s"), (300.0, "5 m"), (10_800.0, "3 h")])
def test_ages_are_brief(seconds: float, text: str) -> None:
    assert age_text(seconds) == text
