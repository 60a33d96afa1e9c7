"""What `tbot markets` prints: a table or a block of lines for people, plain objects for programs."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec

from tbot.core.market import TokenId
from tbot.core.units import MICRO
from tbot.exchanges.polymarket.listings import Listing
from tbot.exchanges.polymarket.terms import Terms
from tbot.log import text_clean

QUESTION_LENGTH_MAX: Final = 200
LINE_LENGTH_MAX: Final = 400
# The slug stands last and whole, as it is what `tbot markets show` and the settings want.
_COLUMNS: Final = "{:<32} {:>6} {:>5} {:>6} {:>12} {:>9} {:<10}  {}\n"
_HEADS: Final = ("question", "tick", "min", "fee", "liquidity", "reward/d", "ends", "slug")


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A market with its terms.

    Attributes:
        listing: As the catalogue lists it.
        terms: As the CLOB has them; None = not there, or not told.
        remark: Why there are none; "" when there are.
    """

    listing: Listing
    terms: Terms | None
    remark: str = ""


def told(shown: Shown) -> dict[str, Any]:
    """Give a market for programs; decimals as text, so that none is rounded."""
    terms = shown.terms
    return told_briefly(shown.listing) | {
        "tokens": [{"outcome": label, "token_id": token} for label, token in _tokens(shown)],
        "protocol": terms.protocol if terms else shown.listing.protocol,
        "terms": None if terms is None else _terms(terms),
        "remark": shown.remark,
    }


def told_briefly(listing: Listing) -> dict[str, Any]:
    """Give what the catalogue says of a market, for programs."""
    return {
        "question": listing.question,
        "slug": listing.slug,
        "condition_id": listing.market_id,
        "event_slug": listing.event_slug,
        "title": listing.title,
        "is_ready": listing.is_ready,
        "is_neg_risk": listing.is_neg_risk,
        "neg_risk_group": listing.group_id,
        "liquidity_usd": f"{listing.liquidity / MICRO:.2f}",
        "reward_daily_usd": f"{listing.reward_daily / MICRO:.2f}",
        "ends": None if listing.end is None else listing.end.isoformat(),
    }


def page(shown: Shown) -> str:
    """Draw one market for people: the question, and a line for each thing to know."""
    listing, terms = shown.listing, shown.terms
    tokens = [(f"token {label}".rstrip(), token) for label, token in _tokens(shown)]
    rows = [
        ("slug", listing.slug),
        ("condition id", listing.market_id),
        *tokens,
        ("version", (terms.protocol if terms else listing.protocol) + (", neg-risk" if listing.is_neg_risk else "")),
        *(_term_rows(terms) if terms else [("terms", shown.remark)]),
        ("rewards", _rewards(listing, terms)),
        ("liquidity", f"${listing.liquidity / MICRO:,.0f}"),
        ("ends", f"{listing.end:%Y-%m-%d %H:%M} UTC" if listing.end else "not said"),
    ]
    lines = "".join(f"  {_clean(name, 24):<14}{_clean(text)}\n" for name, text in rows)
    return f"{text_clean(listing.question, QUESTION_LENGTH_MAX)}\n{lines}"


def table(found: Sequence[Shown]) -> str:
    """Draw markets for people, one line each, and below it why some have no terms; "" when there are none."""
    if not found:
        return ""
    remarks = "".join(f"{_clean(each.listing.slug)}: {_clean(each.remark)}\n" for each in found if each.remark)
    return _COLUMNS.format(*_HEADS) + "".join(_COLUMNS.format(*_cells(each)) for each in found) + remarks + "\n"


def group_lines(group: Sequence[Listing]) -> str:
    """Name the other markets of a neg-risk group; "" when there are none."""
    lines = "".join(f"    {_clean(each.title or each.question)}  {_clean(each.slug)}\n" for each in group)
    return f"  of these and it only one can resolve YES:\n{lines}" if lines else ""


def closing(count: int, unreadable: int, *, has_more: bool) -> str:
    """Sum a search up in one line.

    Args:
        count: Markets shown.
        unreadable: Rows that were passed over.
        has_more: Whether there may be others.
    """
    markets = "1 market" if count == 1 else f"{count} markets, the most liquid first"
    found = markets if count else "no market that is ready to trade was found"
    more = "; there may be more: ask more narrowly, or raise --limit" if has_more else ""
    strange = f"; {unreadable} rows of the catalogue could not be read" if unreadable else ""
    return f"{found}{more}{strange}\n"


def _cells(shown: Shown) -> tuple[str, ...]:
    listing, terms = shown.listing, shown.terms
    return (
        text_clean(listing.question, 32),
        *((_number(terms.tick), _number(terms.size_min), _number(terms.fee_rate)) if terms else ("-", "-", "-")),
        f"${listing.liquidity / MICRO:,.0f}",
        f"${listing.reward_daily / MICRO:,.2f}" if listing.reward_daily else "-",
        f"{listing.end:%Y-%m-%d}" if listing.end else "not said",
        _clean(listing.slug),
    )


def _term_rows(terms: Terms) -> list[tuple[str, str]]:
    state = "" if terms.is_accepting_orders else ", takes no orders now"
    return [
        ("tick", f"{_number(terms.tick)}{state}"),
        ("minimum size", f"{_number(terms.size_min)} shares"),
        ("fee rate", _number(terms.fee_rate)),
    ]


def _rewards(listing: Listing, terms: Terms | None) -> str:
    daily = f"${listing.reward_daily / MICRO:,.2f} a day" if listing.reward_daily else "no daily sum told"
    if terms is None or not terms.rewards_size_min or not terms.rewards_spread_max:
        return daily if listing.reward_daily else "none"
    size, spread = _number(terms.rewards_size_min), _number(terms.rewards_spread_max)
    return f"{daily}, from {size} shares within {spread} cents of the middle"


def _terms(terms: Terms) -> dict[str, Any]:
    return {
        "tick": _exact(terms.tick),
        "size_min": _exact(terms.size_min),
        "fee_rate": _exact(terms.fee_rate),
        "is_accepting_orders": terms.is_accepting_orders,
        "rewards_size_min": _exact(terms.rewards_size_min),
        "rewards_spread_max_cents": _exact(terms.rewards_spread_max),
    }


def _tokens(shown: Shown) -> list[tuple[str, TokenId]]:
    if shown.terms is not None:
        return list(zip(shown.terms.outcomes, shown.terms.tokens, strict=True))
    return list(zip(shown.listing.outcomes, shown.listing.tokens, strict=False))


def _number(number: Decimal | None) -> str:
    return "not said" if number is None else f"{number.normalize():f}"


def _exact(number: Decimal | None) -> str | None:
    return None if number is None else _number(number)


def _clean(text: str, limit: int = LINE_LENGTH_MAX) -> str:
    return text_clean(text, limit)
