"""What the market channel makes of its frames, good and bad, and how it subscribes; in virtual time."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import partial

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as gen

from tbot.core.market import MarketId, TokenId
from tbot.core.messages import (
    AccountGap,
    BookDelta,
    BookSnapshot,
    MarketEvent,
    MarketNews,
    TickSizeChanged,
)
from tbot.core.units import Price
from tbot.errors import BadFrame, ConfigError
from tbot.exchanges.polymarket.bad_frames import tokens_named
from tbot.exchanges.polymarket.sockets import (
    MarketChannel,
    Socket,
    market_changes,
    market_hello,
    open_socket,
)
from tests.exchanges.polymarket.socket_peer import (
    NO,
    NOW,
    TIMEOUTS,
    URL,
    YES,
    book,
    change,
    data,
    forever,
    market_of,
    peer_of,
    sending,
)


async def test_snapshots_then_changes_of_our_tokens_only(autojump_clock: trio.testing.MockClock) -> None:
    frames = ([book(YES), book(NO), book("9")], change(YES, NO, "9"))
    async with peer_of(sending(*frames)) as peer, market_of(peer) as session:
        books = await data(session)
        assert [type(event) for event in books] == [BookSnapshot, BookSnapshot]
        deltas = await data(session)
        assert [event.token_id for event in deltas if isinstance(event, BookDelta)] == [YES, NO]
        assert all(event.received_ns == NOW for event in (*books, *deltas) if not isinstance(event, AccountGap))
    assert peer.hellos == [{"type": "market", "assets_ids": ["1", "2"], "custom_feature_enabled": True}]


@pytest.mark.parametrize(
    "frame", ['{"event_type":"book"}', "[1]", "{", b"\x00\x01", json.dumps(book() | {"timestamp": "soon"})]
)
async def test_bad_frame_is_raised_and_the_session_goes_on(
    autojump_clock: trio.testing.MockClock, frame: str | bytes
) -> None:
    async with peer_of(sending(frame, change(YES))) as peer, market_of(peer) as session:
        with pytest.raises(BadFrame):
            await data(session)
        assert isinstance((await data(session))[0], BookDelta)


async def test_bad_frame_costs_only_the_tokens_it_names(autojump_clock: trio.testing.MockClock) -> None:
    bad = book(YES) | {"bids": [{"price": "7", "size": "1"}]}
    async with peer_of(sending([bad, book(NO)], change(YES, NO))) as peer, market_of(peer) as session:
        assert [event.token_id for event in await data(session) if isinstance(event, BookSnapshot)] == [NO]
        with pytest.raises(BadFrame) as refusal:
            await data(session)
        assert refusal.value.token_ids == (YES,)
        assert len(await data(session)) == 2


async def test_bad_frame_of_tokens_not_ours_is_no_affair_of_ours(autojump_clock: trio.testing.MockClock) -> None:
    bad = book("9") | {"bids": "none"}
    async with peer_of(sending(bad, change(YES))) as peer, market_of(peer) as session:
        assert isinstance((await data(session))[0], BookDelta)


@pytest.mark.parametrize(
    ("frame", "named"),
    [
        ("{", ()),
        ("[1]", ()),
        ('{"event_type":"book"}', ()),
        ('{"asset_id":7}', ()),
        ('{"asset_id":"1","bids":1}', ("1",)),
        ('{"price_changes":[{"asset_id":"1"},{"asset_id":"2"},{"asset_id":"1"}]}', ("1", "2")),
        ('{"price_changes":[{"asset_id":"1"},{}]}', ()),
        ('{"price_changes":[]}', ()),
        ('{"price_changes":5}', ()),
    ],
)
def test_tokens_are_named_only_when_it_is_certain(frame: str, named: tuple[str, ...]) -> None:
    assert tokens_named(frame) == named


FRAMES = gen.recursive(
    gen.none() | gen.booleans() | gen.integers() | gen.text(max_size=8) | gen.sampled_from([YES, NO, "9", "0.5"]),
    lambda inner: (
        gen.lists(inner, max_size=4)
        | gen.dictionaries(
            gen.sampled_from(
                [
                    "event_type",
                    "asset_id",
                    "price_changes",
                    "bids",
                    "buys",
                    "asks",
                    "sells",
                    "timestamp",
                    "price",
                    "size",
                ]
            ),
            inner | gen.sampled_from(["book", "price_change", "last_trade_price", "tick_size_change"]),
            max_size=7,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(text=FRAMES.map(json.dumps) | gen.text(max_size=60) | gen.text(max_size=60).map("[{}".__add__))
def test_any_text_gives_events_or_a_typed_error_and_the_session_goes_on(text: str) -> None:
    session = MarketChannel(OneText(text, json.dumps(book(NO))), (YES, NO), lambda: NOW, lambda _: None)

    async def read_all() -> list[MarketEvent]:
        seen: list[MarketEvent] = []
        for _ in range(20):
            with suppress(BadFrame):
                seen += await session.receive()
        return seen

    last = trio.run(read_all)[-1]
    assert isinstance(last, BookSnapshot)
    assert last.token_id == NO


class OneText(Socket):
    """A socket that brings given texts and then signs of life."""

    def __init__(self, *texts: str) -> None:
        self._texts = list(texts)

    async def text(self) -> str:
        await trio.lowlevel.checkpoint()
        text = self._texts.pop(0) if self._texts else ""
        return text if text.lstrip()[:1] in ("{", "[") else ""


async def test_many_tokens_are_subscribed_in_frames_of_a_hundred(autojump_clock: trio.testing.MockClock) -> None:
    tokens = [TokenId(str(n)) for n in range(200)]
    async with peer_of(forever) as peer:
        hello, more = partial(market_hello, tokens), market_changes("subscribe", tokens[100:])
        async with open_socket(URL, peer.connect, hello, TIMEOUTS, settle_s=2, more=more):
            pass
    assert peer.hellos[0]["assets_ids"] == tokens[:100]
    (rest,) = map(json.loads, peer.heard)
    assert rest == {"operation": "subscribe", "assets_ids": tokens[100:], "custom_feature_enabled": True}


async def test_resubscribing_leaves_first_or_the_book_would_not_come(autojump_clock: trio.testing.MockClock) -> None:
    async with peer_of(sending(book())) as peer, market_of(peer) as session:
        await data(session)
        await session.resubscribe((NO,))
        await trio.sleep(0.1)
        assert [json.loads(text)["operation"] for text in peer.heard] == ["unsubscribe", "subscribe"]
        assert all(json.loads(text)["assets_ids"] == [NO] for text in peer.heard)


async def test_remarks_and_unknown_events_are_passed_over(autojump_clock: trio.testing.MockClock) -> None:
    frames: tuple[object, ...] = (
        "NO NEW ASSETS",
        "",
        [],
        {"event_type": "best_bid_ask"},
        {"event_type": "new_market", "assets_ids": ["3", "4"]},
        {"event_type": "new_kind_of_event"},
        [{"event_type": "another"}, book()],
    )
    async with peer_of(sending(*frames)) as peer, market_of(peer) as session:
        assert [type(event) for event in await data(session)] == [BookSnapshot]
        assert session.unknown == 2


async def test_new_tick_is_learned_before_it_is_read(autojump_clock: trio.testing.MockClock) -> None:
    frame = {"event_type": "tick_size_change", "asset_id": YES, "new_tick_size": "0.001", "timestamp": "1767225600003"}
    learned: list[TickSizeChanged | BookSnapshot] = []
    async with peer_of(sending(frame, book() | {"tick_size": "0.01"})) as peer, market_of(peer, learned) as session:
        (change,) = await data(session)
        assert isinstance(change, TickSizeChanged)
        assert learned == [change]
        await data(session)  # a whole book names the tick as well, one after a trade does not
        assert [(told.token_id, told.tick) for told in learned] == [(YES, Price(1_000)), (YES, Price(10_000))]


async def test_news_of_our_markets_are_hints_and_those_of_others_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    resolved = {"event_type": "market_resolved", "market": "0xab", "assets_ids": [YES, NO], "winning_outcome": "Yes"}
    listed = {"event_type": "new_market", "market": "0xcd", "assets_ids": ["3", "4"], "question": "?"}
    broken = {"event_type": "market_resolved", "market": "0xab", "assets_ids": "none"}
    async with peer_of(sending(listed, resolved, broken, book())) as peer, market_of(peer) as session:
        (news,) = await data(session)
        assert news == MarketNews(market_id=MarketId("0xab"), token_ids=(YES, NO), what="resolved", received_ns=NOW)
        with pytest.raises(BadFrame):
            await data(session)
        assert [type(event) for event in await data(session)] == [BookSnapshot]


@pytest.mark.parametrize("count", [0, 201])
def test_too_many_or_no_tokens_are_refused(count: int) -> None:
    with pytest.raises(ConfigError, match="tokens"):
        market_hello([TokenId(str(n)) for n in range(count)])
