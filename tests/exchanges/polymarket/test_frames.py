"""Frames of every shape give what they should, and no bytes at all give anything but events or a typed error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as gen

from tbot.core.book_hash import book_hash
from tbot.core.market import MarketId, TokenId
from tbot.core.messages import BookSnapshot, ClientOrderId, ExchangeOrderId, Fill, Level, OrderUpdate
from tbot.core.units import Nanos, Notional, Price, Size, micro_from_text
from tbot.errors import BadFrame
from tbot.exchanges.gateway import PreparedOrder
from tbot.exchanges.polymarket.fills import Ownership, order_events, trade_events
from tbot.exchanges.polymarket.http import Answer
from tbot.exchanges.polymarket.outcomes import cancel_replies, submit_reply
from tbot.exchanges.polymarket.translate import (
    Meanings,
    book_snapshot,
    market_events,
    micro_from_decimal,
    price_from_text,
)
from tbot.exchanges.polymarket.wire import (
    BookBody,
    FrameDecoder,
    OrderFrame,
    OrderRow,
    Page,
    TradeRow,
    UserFrame,
    decode,
    market_decoder,
)

FRAMES = json.loads((Path(__file__).parents[2] / "frames" / "polymarket.json").read_text())
HERE = Path(__file__).parent / "vectors"
TOKENS = frozenset(FRAMES["tokens"])
OURS = Ownership(api_key="our-key", wallet="0x22")
NOW = Nanos(1)
BOOKS = json.loads((HERE / "book_hash.json").read_text())["cases"]
PRODUCTION_BOOKS = [case for case in BOOKS if case["name"].startswith("production")]
ROWS: list[Any] = [msgspec.json.Decoder(shape) for shape in (Page[OrderRow], Page[TradeRow], list[BookBody], OrderRow)]


def market_of(text: str) -> list[Any]:
    decoder = market_decoder()
    return [event for frame in decoder.decode(text) for event in market_events(frame, TOKENS, NOW)]


def user_of(text: str) -> list[Any]:
    decoder: FrameDecoder[UserFrame] = FrameDecoder(UserFrame)
    events: list[Any] = []
    for frame in decoder.decode(text):
        if isinstance(frame, OrderFrame):
            events += order_events(frame, NOW)
        else:
            events += trade_events(frame, OURS, lambda *_: Notional(1000), NOW)
    return events


def told(event: object) -> str:
    match event:
        case OrderUpdate():
            return f"OrderUpdate {event.state} {event.size_matched}"
        case Fill():
            amounts = f"{event.size} {event.notional} {event.fee}"
            return f"Fill {event.exchange_order_id} {event.role} {event.side} {amounts} {event.settlement}"
    return type(event).__name__


@pytest.mark.parametrize("case", FRAMES["market"], ids=lambda case: case["name"])
def test_market_frame(case: dict[str, Any]) -> None:
    if case["gives"] == "BadFrame":
        with pytest.raises(BadFrame):
            market_of(json.dumps(case["frame"]))
    else:
        assert [told(event) for event in market_of(json.dumps(case["frame"]))] == case["gives"]


@pytest.mark.parametrize("case", FRAMES["market"], ids=lambda case: case["name"])
def test_place_of_the_type_in_a_frame_changes_nothing(case: dict[str, Any]) -> None:
    if not isinstance(frame := case["frame"], dict) or "event_type" not in frame:
        return
    rest = {key: value for key, value in frame.items() if key != "event_type"}
    kind = {"event_type": frame["event_type"]}
    for ordered in (kind | rest, rest | kind):
        text = json.dumps(ordered, separators=(",", ":"))
        if case["gives"] == "BadFrame":
            with pytest.raises(BadFrame):
                market_of(text)
        else:
            assert [told(event) for event in market_of(text)] == case["gives"]


def test_type_that_is_told_twice_or_deeper_down_is_not_believed_by_its_place_alone() -> None:
    change = {"asset_id": FRAMES["tokens"][0], "price": "0.5", "size": "1", "side": "BUY"}
    frame = {"event_type": "book", "timestamp": "1767225600000", "price_changes": [change]}
    for text in (
        json.dumps(frame, separators=(",", ":"))[:-1] + ',"event_type":"price_change"}',
        json.dumps(frame | {"more": {"a": 1, "event_type": "price_change"}}, separators=(",", ":")),
    ):
        with pytest.raises(BadFrame):
            market_of(text)


@given(gen.lists(gen.sampled_from(["0.5", "0.50", "0.500000", "1", "0", "-1", "x", ""]), max_size=40))
def test_remembered_meanings_are_those_of_the_parser_and_never_too_many(texts: list[str]) -> None:
    meanings = Meanings(price_from_text, texts_max=2)
    for text in texts:
        try:
            wanted = price_from_text(text)
        except BadFrame:
            with pytest.raises(BadFrame):
                meanings[text]
        else:
            assert meanings[text] == wanted
        assert len(meanings) <= 2


@pytest.mark.parametrize("case", FRAMES["user"], ids=lambda case: case["name"])
def test_user_frame(case: dict[str, Any]) -> None:
    if case["gives"] == "BadFrame":
        with pytest.raises(BadFrame):
            user_of(json.dumps(case["frame"]))
    else:
        assert [told(event) for event in user_of(json.dumps(case["frame"]))] == case["gives"]


def test_frames_the_official_stream_parser_accepts_are_accepted() -> None:
    frames = json.loads((HERE / "ws_frames.json").read_text())["server_sends"]
    kinds = [type(event).__name__ for frame in frames["market"] for event in market_of(json.dumps(frame))]
    assert kinds == ["BookSnapshot", "BookDelta", "TradePrint", "TickSizeChanged", "MarketNews"]
    for frame in frames["user"]:
        assert user_of(json.dumps(frame))


@pytest.mark.parametrize("case", PRODUCTION_BOOKS, ids=lambda case: case["name"])
def test_book_survives_translation_to_the_bit(case: dict[str, Any]) -> None:
    book = case["book"]
    snapshot = book_snapshot(decode(msgspec.json.Decoder(BookBody), json.dumps(book)), NOW)
    again = book_hash(
        market_id=MarketId(book["market"]),
        token_id=TokenId(book["asset_id"]),
        exchange_ms=snapshot.exchange_ms,
        bids=snapshot.bids,
        asks=snapshot.asks,
        size_min=Size(micro_from_text(book["min_order_size"])),
        tick=snapshot.tick or Price(0),
        is_neg_risk=book["neg_risk"],
        last_trade_text=snapshot.last_trade_text or "",
        version=book.get("version", ""),
    )
    assert again == snapshot.book_hash == book["hash"]


def test_times_in_seconds_and_milliseconds_agree() -> None:
    frame = FRAMES["market"][0]["frame"][0]
    (in_ms,) = market_of(json.dumps(frame))
    (in_s,) = market_of(json.dumps(frame | {"timestamp": "1767225600"}))
    assert in_ms.exchange_ms == in_s.exchange_ms == 1_767_225_600_000


SIDES = [{"price": "0.48", "size": "30"}], [{"price": "0.52", "size": "25"}, {"price": "0.6", "size": "1"}]
OLD_SPELLING = {"bids": "buys", "asks": "sells"}


@given(gen.sets(gen.sampled_from(["bids", "asks"])), gen.sets(gen.sampled_from(["bids", "asks"])))
def test_a_book_means_the_same_whatever_its_sides_are_called(old: set[str], decoys: set[str]) -> None:
    frame = {key: value for key, value in FRAMES["market"][2]["frame"].items() if key not in OLD_SPELLING}
    sides = dict(zip(("bids", "asks"), SIDES, strict=True))
    decoy: dict[str, list[Any]] = {
        OLD_SPELLING[side]: [] for side in decoys - old
    }  # beside the new spelling the old one says nothing
    renamed = {OLD_SPELLING[side] if side in old else side: levels for side, levels in sides.items()}
    (wanted,) = market_of(json.dumps(frame | sides))
    for text in (json.dumps(frame | decoy | renamed), json.dumps([frame | decoy | renamed])):
        assert market_of(text) == [wanted]
    assert book_snapshot(decode(msgspec.json.Decoder(BookBody), json.dumps(frame | renamed)), NOW) == wanted


# --- fuzz ------------------------------------------------------------------------------------------------------------

KNOWN = [json.dumps(case["frame"]) for channel in ("market", "user") for case in FRAMES[channel]]
scalars = gen.none() | gen.booleans() | gen.integers() | gen.floats() | gen.text(max_size=20)
values = gen.recursive(scalars, lambda inner: gen.lists(inner) | gen.dictionaries(gen.text(max_size=8), inner))


@gen.composite
def spoiled_frames(draw: gen.DrawFn) -> str:
    """A known frame with one part replaced by anything."""
    frame = json.loads(draw(gen.sampled_from(KNOWN)))
    target: Any = frame
    for _ in range(draw(gen.integers(0, 3))):
        keys = (
            list(target) if isinstance(target, dict) else list(range(len(target))) if isinstance(target, list) else []
        )
        if not keys:
            break
        key = draw(gen.sampled_from(keys))
        if draw(gen.booleans()) or not isinstance(target[key], dict | list):
            target[key] = draw(values)
            break
        target = target[key]
    return json.dumps(frame)


@gen.composite
def cut_frames(draw: gen.DrawFn) -> str:
    """A known frame cut short, or with a slice replaced."""
    text = draw(gen.sampled_from(KNOWN))
    start = draw(gen.integers(0, len(text)))
    return text[:start] + draw(gen.text(max_size=5)) + text[start + draw(gen.integers(0, 40)) :]


@given(spoiled_frames() | cut_frames() | gen.text() | values.map(json.dumps))
@example("[" * 50_000)
@example('{"event_type":"book","x":' + "[" * 50_000)
@example("\ud800")
@example('{"event_type":"trade","event_type":"order"}')
def test_any_text_gives_events_or_a_bad_frame(text: str) -> None:
    for translate in (market_of, user_of):
        try:
            events = translate(text)
        except BadFrame:
            continue
        assert all(hasattr(event, "__struct_fields__") for event in events)


@given(
    gen.sampled_from(ROWS), gen.binary() | (spoiled_frames() | gen.text()).map(lambda t: t.encode("utf-8", "replace"))
)
def test_any_body_gives_rows_or_a_bad_frame(decoder: Any, body: bytes) -> None:
    try:
        decode(decoder, body)
    except BadFrame:
        return


ORDER = PreparedOrder(
    client_order_id=ClientOrderId("c"),
    exchange_order_id=ExchangeOrderId("0x1"),
    body=b"",
    prepared_ns=NOW,
    deadline_ns=NOW,
)
answers = gen.builds(
    Answer,
    status=gen.sampled_from([200, 201, 301, 400, 401, 404, 425, 429, 500, 503]) | gen.integers(100, 599),
    content=gen.binary()
    | values.map(lambda value: json.dumps(value).encode())
    | gen.fixed_dictionaries(
        {},
        optional={
            "success": scalars,
            "errorMsg": scalars,
            "error": scalars,
            "orderID": scalars | gen.just("0x1"),
            "status": scalars | gen.sampled_from(["live", "matched"]),
            "canceled": values,
            "not_canceled": values,
        },
    ).map(lambda body: json.dumps(body).encode()),
    retry_after_s=gen.none() | gen.floats(0, 100),
)


@given(answers)
def test_any_answer_gives_one_reply_an_order(answer: Answer) -> None:
    submitted = submit_reply(ORDER, answer, NOW)
    if type(submitted).__name__ == "Accepted":
        assert answer.status == 200
        assert json.loads(answer.content)["orderID"].lower() == "0x1"
    ids = [ExchangeOrderId("0x1"), ExchangeOrderId("0x2")]
    assert [reply.exchange_order_id for reply in cancel_replies(ids, answer, NOW)] == ids


@given(gen.decimals(allow_nan=True, allow_infinity=True))
def test_any_number_is_exact_or_a_bad_frame(number: Any) -> None:
    try:
        value = micro_from_decimal(number)
    except BadFrame:
        return
    assert value == number * 1_000_000


def test_missing_fields_are_told_as_missing() -> None:
    (snapshot,) = market_of(json.dumps(FRAMES["market"][2]["frame"]))
    assert isinstance(snapshot, BookSnapshot)
    assert snapshot.bids == (Level(Price(480_000), Size(30_000_000)), Level(Price(10_000), Size(1_123_000_000)))
    assert (snapshot.asks, snapshot.tick, snapshot.last_trade_text) == ((), None, None)
