"""Texts become millionths exactly, or not at all."""

import re
from decimal import ROUND_HALF_UP, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbot.core.units import micro_from_text, micro_nearest_from_text, text_from_micro

PLAIN = re.compile(r"-?(?=\d|\.\d)\d*\.?\d*")


@given(st.integers(-(10**15), 10**15), st.integers(0, 9))
def test_every_amount_survives_its_text_whatever_zeros_follow(micro: int, zeros: int) -> None:
    text = text_from_micro(micro)
    assert micro_from_text(text) == micro
    assert micro_from_text((text if "." in text else text + ".") + "0" * zeros) == micro


@given(st.text(alphabet="0123456789.-+eE_ \u0663", max_size=12))
def test_what_is_read_is_the_decimal_and_the_rest_is_refused(text: str) -> None:
    is_plain = text.isascii() and PLAIN.fullmatch(text) is not None
    if is_plain and Decimal(text) * 10**6 == int(Decimal(text) * 10**6):
        assert micro_from_text(text) == int(Decimal(text) * 10**6)
    else:
        with pytest.raises(ValueError, match=r"not a plain decimal|more than 6 decimals"):
            micro_from_text(text)


@pytest.mark.parametrize("text", ["", ".", "-", "1_0", "1e2", "NaN", "Infinity", " 1", "1 ", "+1", "--1", "1.2.3", "٣"])
def test_what_is_no_plain_decimal_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a plain decimal"):
        micro_from_text(text)


def test_a_seventh_decimal_is_refused_never_rounded() -> None:
    with pytest.raises(ValueError, match="more than 6 decimals"):
        micro_from_text("0.1234567")


@given(st.from_regex(r"-?[0-9]{1,9}(\.[0-9]{0,20})?", fullmatch=True))
def test_any_decimals_are_read_to_the_nearest_where_that_is_asked_for(text: str) -> None:
    assert micro_nearest_from_text(text) == int((Decimal(text) * 10**6).quantize(Decimal(1), ROUND_HALF_UP))


@pytest.mark.parametrize("text", ["", "1e-7", "NaN", "0.1234567e-3", "0.123456 7", "0.123456\u0667", "1.2.3456789"])
def test_what_is_no_plain_decimal_has_no_nearest_either(text: str) -> None:
    with pytest.raises(ValueError, match="not a plain decimal"):
        micro_nearest_from_text(text)
