"""How markets are spread over connections, and when the silence of one is unusual."""

from __future__ import annotations

import pytest

from tbot.core.market import Market, MarketId, TokenId
from tbot.core.units import Price
from tbot.tasks.feed_line import Line, lines_of
from tbot.tasks.feed_settings import FeedSettings


def market(number: int) -> Market:
    return Market(
        market_id=MarketId(f"m{number}"),
        slug="",
        yes=TokenId(f"y{number}"),
        no=TokenId(f"n{number}"),
        tick=Price(10_000),
    )


@pytest.mark.parametrize(
    ("markets", "tokens_max", "sizes"),
    [(1, 200, [2]), (100, 200, [200]), (101, 200, [200, 2]), (5, 5, [4, 4, 2]), (3, 2, [2, 2, 2])],
)
def test_both_tokens_of_a_market_share_a_connection(markets: int, tokens_max: int, sizes: list[int]) -> None:
    lines = lines_of([market(n) for n in range(markets)], tokens_max, 0.0)
    assert [len(line.tokens) for line in lines] == sizes
    assert [line.number for line in lines] == list(range(len(sizes)))
    for line in lines:
        assert all(yes[1:] == no[1:] for yes, no in zip(line.tokens[::2], line.tokens[1::2], strict=True))


def heard(gap_s: float, times: int) -> Line:
    line = Line(0, (), 0.0)
    line.connected(0.0)
    for number in range(times):
        line.heard((number + 1) * gap_s)
    return line


def test_silence_is_unusual_only_against_the_habit_of_the_connection() -> None:
    settings = FeedSettings(traffic_gaps=10.0, traffic_s=1.0)
    busy, quiet = heard(0.2, 50), heard(20.0, 50)
    assert not busy.is_silent(busy.data_s + 1.9, settings)
    assert busy.is_silent(busy.data_s + 2.1, settings)
    assert not quiet.is_silent(quiet.data_s + 60.0, settings)


def test_no_habit_is_learnt_from_nothing() -> None:
    line = Line(0, (), 0.0)
    line.connected(0.0)
    assert not line.is_silent(3600.0, FeedSettings())


def test_shortest_silence_is_never_below_the_setting() -> None:
    busy = heard(0.001, 100)
    assert not busy.is_silent(busy.data_s + 0.9, FeedSettings(traffic_s=1.0))
    assert busy.is_silent(busy.data_s + 1.1, FeedSettings(traffic_s=1.0))
