"""Answers about a market that cannot be, or are not about it: none is taken, at the start or later."""

from __future__ import annotations

from typing import Any

import pytest
from trio.testing import MockClock

from tbot.core.market import MarketId, TokenId
from tbot.core.units import Price
from tbot.errors import ConfigError, ExchangeUnavailable
from tests.exchanges.polymarket.test_stale_terms import GRID, World

FIRST, SECOND = (MarketId(f"0x{number:064x}") for number in (1, 2))
TERMS = f"/clob-markets/{FIRST}"
SWAPPED = [{"t": "3", "o": "No"}, {"t": "2", "o": "Yes"}]
THEIRS = [{"t": "4", "o": "Yes"}, {"t": "5", "o": "No"}]

IMPOSSIBLE: dict[str, dict[str, Any]] = {
    "another market": {"c": SECOND},
    "no market": {"c": ""},
    "another market of another kind": {"c": SECOND, "v": "v3"},
    "one token twice": {"t": [{"t": "2", "o": "Yes"}, {"t": "2", "o": "No"}]},
    "size 0": {"mos": 0},
    "size -1": {"mos": -1},
    "size 1e9": {"mos": 1e9},
    "fee -0.01": {"fd": {"r": -0.01, "e": 1}},
    "fee 1.01": {"fd": {"r": 1.01, "e": 1}},
    "fee 1e9": {"fd": {"r": 1e9, "e": 1}},
}
POSSIBLE: dict[str, tuple[dict[str, Any], int, int]] = {
    "none told": ({}, 5_000_000, 0),
    "least": ({"mos": 0.01, "fd": {"r": 0, "e": 1}}, 10_000, 0),
    "most": ({"mos": 1_000_000, "fd": {"r": 1, "e": 2}}, 10**12, 1_000_000),
    "in capitals": ({"c": FIRST.upper().replace("0X", "0x")}, 5_000_000, 0),
}


class Told(World):
    """Two markets, of which some answers say something else."""

    def __init__(self) -> None:
        super().__init__(2, GRID)
        self.lies: dict[str, dict[str, Any]] = {}

    def _told(self, path: str) -> object:
        body = super()._told(path)
        assert isinstance(body, dict)
        return body | self.lies.get(path, {})


@pytest.mark.parametrize("lie", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
async def test_terms_that_cannot_be_are_no_answer_and_a_later_one_is_taken(
    autojump_clock: MockClock, lie: dict[str, Any]
) -> None:
    world = Told()
    before = (await world.gateway.load_markets())[0]
    world.lies[TERMS] = lie
    with pytest.raises(ExchangeUnavailable):
        await world.gateway.reread(FIRST)
    with pytest.raises(ExchangeUnavailable):
        await world.gateway.load_markets()
    world.lies.clear()
    assert await world.gateway.reread(FIRST) == before


@pytest.mark.parametrize(("told", "size_min", "rate"), POSSIBLE.values(), ids=POSSIBLE)
async def test_terms_at_their_bounds_are_taken(
    autojump_clock: MockClock, told: dict[str, Any], size_min: int, rate: int
) -> None:
    world = Told()
    await world.gateway.load_markets()
    world.lies[TERMS] = told
    market = await world.gateway.reread(FIRST)
    assert (market.size_min, market.fee.rate_micro) == (size_min, rate)


@pytest.mark.parametrize("tokens", [SWAPPED, THEIRS], ids=["swapped", "of a neighbour"])
async def test_terms_of_other_assets_are_refused_and_the_known_ones_stay(
    autojump_clock: MockClock, tokens: list[dict[str, str]]
) -> None:
    world = Told()
    before = await world.gateway.load_markets()
    world.lies[TERMS] = {"t": tokens}
    for _ in range(2):  # what was refused once is not what the next answer is held against
        with pytest.raises(ConfigError, match="other tokens"):
            await world.gateway.reread(FIRST)
    assert [world.gateway._public.market(TokenId(token)) for token in "2345"] == [each for each in before for _ in "YN"]
    world.lies.clear()
    assert await world.gateway.reread(FIRST) == before[0]


async def test_another_contract_found_when_an_order_is_refused_is_not_signed_for_and_told_by_the_next_reading(
    autojump_clock: MockClock,
) -> None:
    world = Told()
    before = (await world.gateway.load_markets())[0]
    world.lies["/neg-risk"] = {"neg_risk": True}
    world.tick = 0.1
    await world.gateway.submit(world.order(1))
    assert world.tick_of(1) == Price(10_000), "nothing of such an answer is taken"
    with pytest.raises(ConfigError, match="another contract"):
        await world.gateway.reread(FIRST)
    world.lies.clear()
    after = await world.gateway.reread(FIRST)
    assert (after.is_neg_risk, after.tick, after.tokens) == (False, Price(100_000), before.tokens)


async def test_remembered_markets_are_known_at_once_and_each_is_read_in_full(autojump_clock: MockClock) -> None:
    before = await Told().gateway.load_markets()
    world = Told()
    world.gateway.remember(before)
    assert tuple(world.gateway._public.markets) == tuple(token for market in before for token in market.tokens)
    assert world.read == []
    world.lies["/neg-risk"] = {"neg_risk": True}
    with pytest.raises(ConfigError, match="another contract"):
        await world.gateway.reread(FIRST)
    world.lies = {f"/clob-markets/{SECOND}": {"v": "v9"}}
    with pytest.raises(ConfigError, match="of protocol 'v9'"):
        await world.gateway.reread(SECOND)
    assert await world.gateway.reread(FIRST) == before[0]
    assert [world.gateway._public.market(token) for token in before[1].tokens] == [before[1]] * 2
    world.read.clear()
    await world.gateway.reread(FIRST)
    assert len(world.read) == 1, "once read in full, the short reading does"
