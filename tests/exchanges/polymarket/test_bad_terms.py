"""Answers about a market that cannot be, or are not about it: none is taken, at the start or later."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from trio.testing import MockClock

from tbot.core.market import MarketId, TokenId
from tbot.core.messages import RejectCode, Rejected
from tbot.errors import ConfigError, ExchangeUnavailable
from tbot.exchanges.polymarket import conformance
from tbot.exchanges.polymarket.settings import PolymarketSettings
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


@pytest.mark.parametrize("lie", [{"/neg-risk": {"neg_risk": True}}, {TERMS: {"nr": True}}], ids=["flag", "terms"])
async def test_a_contract_that_one_source_names_is_not_believed(
    autojump_clock: MockClock, lie: dict[str, dict[str, Any]]
) -> None:
    world = Told()
    before = (await world.gateway.load_markets())[0]
    world.lies = dict(lie)
    assert await world.gateway.reread(FIRST) == before
    await world.gateway.submit(world.order(1))
    assert world.gateway._public.market(before.yes) == before


@pytest.mark.parametrize("is_hinted_by_a_refusal", [True, False])
async def test_a_contract_that_both_sources_name_is_signed_for_from_now_on(
    autojump_clock: MockClock, *, is_hinted_by_a_refusal: bool
) -> None:
    world = Told()
    before = (await world.gateway.load_markets())[0]
    world.lies = {"/neg-risk": {"neg_risk": True}, TERMS: {"nr": True}}
    if is_hinted_by_a_refusal:
        await world.gateway.submit(world.order(1))
    else:
        await world.gateway.reread(FIRST)
    assert world.gateway._public.market(before.yes) == msgspec.structs.replace(before, is_neg_risk=True)


async def test_a_contract_that_the_probe_does_not_cover_is_refused_in_one_sentence(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = conformance.probe_request

    def without_neg_risk(settings: PolymarketSettings) -> conformance.ProbeRequest:
        request = whole(settings)
        orders = tuple(order for order in request.orders if order.protocol == 3 or not order.is_neg_risk)
        return msgspec.structs.replace(request, orders=orders)

    monkeypatch.setattr(conformance, "probe_request", without_neg_risk)
    world = Told()
    before = (await world.gateway.load_markets())[0]
    world.lies = {"/neg-risk": {"neg_risk": True}, TERMS: {"nr": True}}
    for _ in range(2):
        with pytest.raises(ConfigError, match="signing probe of the start does not cover"):
            await world.gateway.reread(FIRST)
    world.refusal = {"error": "invalid signature"}
    reply = await world.gateway.submit(world.order(1))
    assert isinstance(reply, Rejected)
    assert reply.code is RejectCode.VERSION_MISMATCH, "no reason to halt the other markets"
    assert world.gateway._public.market(before.yes) == before
    world.lies.clear()
    assert await world.gateway.reread(FIRST) == before


async def test_remembered_markets_are_known_at_once_and_each_is_read_in_full(autojump_clock: MockClock) -> None:
    before = await Told().gateway.load_markets()
    world = Told()
    world.gateway.remember(before)
    assert tuple(world.gateway._public.markets) == tuple(token for market in before for token in market.tokens)
    assert world.read == []
    world.lies["/neg-risk"] = {"neg_risk": True}
    with pytest.raises(ExchangeUnavailable, match="two contracts"):
        await world.gateway.reread(FIRST)
    world.lies = {f"/clob-markets/{SECOND}": {"v": "v9"}}
    with pytest.raises(ConfigError, match="of protocol 'v9'"):
        await world.gateway.reread(SECOND)
    assert await world.gateway.reread(FIRST) == before[0]
    assert [world.gateway._public.market(token) for token in before[1].tokens] == [before[1]] * 2
    world.read.clear()
    await world.gateway.reread(FIRST)
    assert len(world.read) == 1, "once read in full, the short reading does"
