"""What one may ask of the Data API: its parameters, its pages and its refusals, as plain functions of a request."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import msgspec

from tbot.core.units import MICRO, NANOS_PER_S
from tbot.exchanges.simulated.catalog import EventListing, Listing
from tbot.exchanges.simulated.http import HttpRefusal, Request, Response, json_response

T = TypeVar("T")

PAGE_DEFAULT, PAGE_MAX = 100, 1_000
CONDITIONS_MAX = 20
TITLE_MAX = 200
_SECONDS_MAX = 253_402_300_799  # the last second of the year 9999
_EVENT_MAX = (1 << 31) - 1
# Pages of the reference and clients call the same thing by either name.
_SPELLINGS = {"condition_id": ("condition_id", "condition"), "event_id": ("event_id", "event")}
_TRUTH = {"true": True, "1": True, "false": False, "0": False}

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_CONDITION = re.compile(r"0x(?:[0-9a-fA-F]{64}|0[12][0-9a-fA-F]{60})")
# Where a cursor stopped: of which question, after which row, and where that row was in case it is gone.
_Cursor = tuple[str, str, int]


class DataRefusal(HttpRefusal):
    """A refusal in the shape of the Data API."""

    def __init__(self, text: str, *, parameter: str, status: int = 400) -> None:
        """Refuse because of one parameter."""
        super().__init__(text, status=status)
        self.response = _refusal(text, "invalid_parameter", parameter=parameter, status=status)


def refused_path(text: str, *, status: int) -> Response:
    """Answer a request for a path or a method that is not there."""
    code = {404: "not_found", 405: "method_not_allowed"}[status]
    return _refusal(text, code, parameter=None, status=status)


def refuse_unless_one(request: Request, *names: str) -> None:
    """Check that a request says by exactly one parameter what it is about.

    Raises:
        DataRefusal: 400, by none or by several.
    """
    if sum(bool(listed(request, name)) for name in names) != 1:
        raise DataRefusal(f"exactly one of {', '.join(names)} is required", parameter=names[0])


def wallet(request: Request) -> str | None:
    """Read `user` in lower case; None = not asked.

    Raises:
        DataRefusal: 400, it is no address.
    """
    text = request.query.get("user", "")
    if text and _ADDRESS.fullmatch(text) is None:
        raise DataRefusal("user must be a 0x-prefixed address of 40 hex digits", parameter="user")
    return text.lower() or None


def required_wallet(request: Request) -> str:
    """Read `user`, which must be there.

    Raises:
        DataRefusal: 400, it is missing or no address.
    """
    address = wallet(request)
    if address is None:
        raise DataRefusal("user is required", parameter="user")
    return address


def conditions(request: Request) -> frozenset[str] | None:
    """Read `condition_id` in 32 bytes; None = not asked.

    Of a V2 market the catalogue spells 31 bytes: both spellings name it.

    Raises:
        DataRefusal: 400, one is none, or there are too many.
    """
    asked = listed(request, "condition_id")
    for text in asked:
        if _CONDITION.fullmatch(text) is None:
            raise DataRefusal("condition_id must be a 32-byte hex string", parameter="condition_id")
    found = frozenset(text.lower() if len(text) == 66 else text.lower() + "00" for text in asked)
    if len(found) > CONDITIONS_MAX:
        raise DataRefusal(f"condition_id accepts at most {CONDITIONS_MAX} values", parameter="condition_id")
    return found or None


def events(request: Request) -> frozenset[int] | None:
    """Read `event_id`; None = not asked.

    Raises:
        DataRefusal: 400, one is no positive number, or conditions are asked for as well.
    """
    asked = listed(request, "event_id")
    if asked and listed(request, "condition_id"):
        raise DataRefusal("condition_id and event_id exclude each other", parameter="event_id")
    return frozenset(_whole(text, "event_id", _EVENT_MAX) for text in asked) or None


def asked_markets(catalogue: Iterable[EventListing], request: Request) -> Iterator[tuple[EventListing, Listing]]:
    """Find the markets that a request selects by condition or by event, all unless it does, each with its event.

    Raises:
        DataRefusal: 400, as of `conditions` and `events`.
    """
    wanted, numbers = conditions(request), events(request)
    for event in catalogue:
        for market in event.listings:
            is_wanted = wanted is None or market.rules.market_id.lower() in wanted
            if is_wanted and (numbers is None or event.number in numbers):
                yield event, market


def listed(request: Request, name: str) -> tuple[str, ...]:
    """Read the values of a parameter, in whichever spelling: repeated, or with commas between them."""
    spellings = _SPELLINGS.get(name, (name,))
    return tuple(part for each in spellings for value in request.values(each) for part in value.split(",") if part)


def choice(request: Request, name: str, choices: Sequence[str]) -> str | None:
    """Read one word out of some; None = not asked.

    Raises:
        DataRefusal: 400, it is none of them.
    """
    text = request.query.get(name)
    if text is not None and text not in choices:
        raise DataRefusal(f"{name} must be one of {', '.join(choices)}", parameter=name)
    return text


def flag(request: Request, name: str, *, default: bool) -> bool:
    """Read true or false.

    Raises:
        DataRefusal: 400, it is neither.
    """
    text = request.query.get(name)
    if text is None:
        return default
    if text.lower() not in _TRUTH:
        raise DataRefusal(f"{name} must be true or false", parameter=name)
    return _TRUTH[text.lower()]


def period_ns(request: Request) -> tuple[int, int]:
    """Read `start` and `end`, Unix seconds, both included; the whole of time when they are left out.

    Raises:
        DataRefusal: 400, one is no moment.
    """
    start, end = (request.query.get(name) for name in ("start", "end"))
    first_s = 0 if start is None else _whole(start, "start", _SECONDS_MAX)
    last_s = _SECONDS_MAX if end is None else _whole(end, "end", _SECONDS_MAX)
    return first_s * NANOS_PER_S, (last_s + 1) * NANOS_PER_S - 1


def bound_micro(request: Request, *, default: tuple[str, int]) -> tuple[str, int]:
    """Read `filter_type` and `filter_amount`: CASH or TOKENS, and how many millionths at least.

    Raises:
        DataRefusal: 400, one cannot be read or comes without the other.
    """
    kind = choice(request, "filter_type", ("CASH", "TOKENS"))
    text = request.query.get("filter_amount")
    if (kind is None) != (text is None):
        raise DataRefusal("filter_type and filter_amount go together", parameter="filter_amount")
    if kind is None or text is None:
        return default
    return kind, _amount_micro(text, "filter_amount")


def title_filter(request: Request) -> Callable[[str], bool]:
    """Read `title`: a part of it in any case, where "%" stands for anything and "_" for any one letter.

    Raises:
        DataRefusal: 400, it is too long.
    """
    text = request.query.get("title", "").strip()
    if len(text) > TITLE_MAX:
        raise DataRefusal(f"title must contain at most {TITLE_MAX} characters", parameter="title")
    # Piece after piece, each where it is first: one pattern for all would take for ever on a hostile title.
    pieces = [
        re.compile("".join("." if letter == "_" else re.escape(letter) for letter in piece), re.IGNORECASE)
        for piece in text.split("%")
    ]

    def is_in(title: str) -> bool:
        place = 0
        for piece in pieces:
            found = piece.search(title, place)
            if found is None:
                return False
            place = found.end()
        return True

    return is_in


def page(rows: Sequence[T], request: Request, key: Callable[[T], str], show: Callable[[T], object]) -> Response:
    """Answer with the page of rows that a cursor asks for, in the Data API's envelope.

    Args:
        rows: All of them, in the order asked for. New ones may have come since the last page: it goes on after the row
            that ended that page, wherever it is now.
        request: `limit` and `cursor` are read from it.
        key: Names a row for good.
        show: Makes its wire object.

    Raises:
        DataRefusal: 400, a limit out of range, or a cursor that is none, or is one of another question.
    """
    limit = _whole(request.query.get("limit", str(PAGE_DEFAULT)), "limit", PAGE_MAX)
    start = _resumed(rows, request, key)
    part = rows[start : start + limit]
    end = start + len(part)
    cursor = None if end >= len(rows) else _encoded((_question(request), key(rows[end - 1]), end))
    pagination = {"limit": limit, "offset": start, "has_more": cursor is not None, "next_cursor": cursor}
    return json_response({"data": [show(row) for row in part], "pagination": pagination})


def _resumed(rows: Sequence[T], request: Request, key: Callable[[T], str]) -> int:
    text = request.query.get("cursor", "")
    if not text:
        return 0
    try:
        question, last, place = msgspec.json.decode(base64.urlsafe_b64decode(text), type=_Cursor)
    except (ValueError, msgspec.DecodeError):
        raise DataRefusal("invalid cursor", parameter="cursor") from None
    if question != _question(request):
        raise DataRefusal("cursor belongs to another query", parameter="cursor")
    found = (index + 1 for index, row in enumerate(rows) if key(row) == last)
    return next(found, max(0, place - 1))


def _encoded(cursor: _Cursor) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(cursor)).decode()


def _question(request: Request) -> str:
    asked = sorted(field for field in request.fields if field[0] not in ("cursor", "limit"))
    return hashlib.sha256(msgspec.json.encode((request.path, asked))).hexdigest()[:12]


def _whole(text: str, name: str, largest: int) -> int:
    is_number = text.isascii() and text.isdigit() and len(text) < 13
    if not (is_number and 0 < int(text) <= largest):
        raise DataRefusal(f"{name} must be a whole number from 1 to {largest}", parameter=name)
    return int(text)


def _amount_micro(text: str, name: str) -> int:
    try:
        amount = float(text)
    except ValueError:
        amount = math.nan
    if not 0 <= amount < 1e12:
        raise DataRefusal(f"{name} must be a finite non-negative amount", parameter=name)
    return round(amount * MICRO)


def _refusal(text: str, code: str, *, parameter: str | None, status: int) -> Response:
    trace = hashlib.sha256(f"{parameter}:{text}".encode()).hexdigest()[:32]
    answer = {"error": text, "code": code, "retryable": False, "trace_id": trace}
    return json_response(answer | ({} if parameter is None else {"parameter": parameter}), status=status)
