"""Reports of an account in many markets: orders and trades at every poll, balances in turn, within the read budget."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from itertools import pairwise

import httpx2
import msgspec
import pytest
import trio
import trio.testing

from tbot.core.market import TokenId
from tbot.core.units import MICRO, Nanos
from tbot.errors import RateLimited
from tbot.exchanges.polymarket.gateway import PolymarketGateway
from tbot.exchanges.polymarket.reports import BALANCES_BUSY, BALANCES_EACH
from tbot.tasks.desk import WEDGED_AFTER_SLOW_S
from tbot.tasks.reconciler import POLL_S
from tests.contract.stage import now_ns
from tests.exchanges.polymarket.answers import SlowHandler, gateway_of, market

WAY_S = 0.08  # a request and its answer, on a slow day
EMPTY = {"data": [], "next_cursor": "LTE="}


class Account:
    """An exchange that answers an account in as many markets as told, and notes what was asked when."""

    def __init__(self, markets: int, answer: SlowHandler | None = None) -> None:
        self.tokens = tuple(TokenId(str(1_000 + number)) for number in range(2 * markets))
        self.asked: list[tuple[float, str]] = []
        self.gateway: PolymarketGateway = gateway_of(answer or self.answer)
        self.gateway._public._markets = {
            token: msgspec.structs.replace(market(), yes=yes, no=no)
            for yes, no in zip(self.tokens[::2], self.tokens[1::2], strict=True)
            for token in (yes, no)
        }

    async def answer(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        self.asked.append((trio.current_time(), path))
        await trio.sleep(WAY_S)
        answers = {"/time": now_ns() // 10**9, "/books": [], "/balance-allowance": {"balance": "7"}}
        return httpx2.Response(200, json=answers.get(path, EMPTY))

    async def look_at_books(self) -> None:
        """Read books as often as the feed's canary may."""
        while True:
            await trio.sleep(0.25)
            with suppress(RateLimited):
                await self.gateway.books(self.tokens[:100])

    def most_in(self, window_s: float, path: str) -> int:
        """Count the most requests of a path that began within any window of a length."""
        times = [at for at, each in self.asked if each == path]
        return max(sum(start <= at < start + window_s for at in times) for start in times)


@pytest.mark.slow
async def test_200_tokens_leave_orders_and_trades_their_poll(autojump_clock: trio.testing.MockClock) -> None:
    account, told, took = Account(100), Counter[TokenId](), []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(account.look_at_books)
        for _ in range(40):
            began = trio.current_time()
            report = await account.gateway.report(Nanos(0), ())
            told.update(token for token, _ in report.balances)
            took.append(trio.current_time() - began)
            await trio.sleep(POLL_S)
        nursery.cancel_scope.cancel()
    assert max(took) < POLL_S / 2
    assert set(told) == set(account.tokens)
    assert min(told[token] for token in account.tokens) == 2, "each in its turn"
    orders = [at for at, path in account.asked if path == "/data/orders"]
    assert max(later - at for at, later in pairwise(orders)) < 1.5 * POLL_S
    assert account.most_in(10, "/balance-allowance") <= 2 * (BALANCES_EACH + BALANCES_BUSY + 1) + 2
    assert account.most_in(10, "/books") >= 30, "the canary is not starved"


@pytest.mark.slow
async def test_what_is_wanted_is_told_first(autojump_clock: trio.testing.MockClock) -> None:
    account = Account(250)
    wanted = account.tokens[3:200:9]
    report = await account.gateway.report(Nanos(0), (), wanted)
    assert {token for token, _ in report.balances} >= set(wanted)
    assert dict(report.balances)[wanted[0]] == 7
    left, first = list(account.tokens), trio.current_time()
    while left:  # as the coordinator asks before it opens its ledger
        began = trio.current_time()
        told = {token for token, _ in (await account.gateway.report(Nanos(0), (), left)).balances}
        assert told <= set(left), "no token is told that was not wanted"
        assert trio.current_time() - began < WEDGED_AFTER_SLOW_S / 1.5, "a long start must not look like a wedge"
        left = [token for token in left if token not in told]
    assert trio.current_time() - first < len(account.tokens) / 10


@pytest.mark.parametrize("markets", [1, BALANCES_EACH // 2])
async def test_a_small_account_is_told_whole_each_time(autojump_clock: trio.testing.MockClock, markets: int) -> None:
    account = Account(markets)
    for _ in range(3):
        report = await account.gateway.report(Nanos(0), ())
        assert [token for token, _ in report.balances] == list(account.tokens)
        assert report.cash == 7 < MICRO


@pytest.mark.slow
async def test_tokens_with_orders_trades_or_shares_are_told_within_seconds_and_no_other_is_starved(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def answer(request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        held = account.tokens[150:154]
        if path == "/data/orders":
            order = {"id": "0x44", "asset_id": account.tokens[170], "side": "BUY", "price": "0.5", "status": "LIVE",
                     "original_size": "10", "size_matched": "0"}  # fmt: skip
            return httpx2.Response(200, json={"data": [order], "next_cursor": "LTE="})
        if path == "/balance-allowance":
            is_held = request.url.params.get("token_id") in held
            return httpx2.Response(200, json={"balance": "7" if is_held else "0"})
        return await account.answer(request)

    account = Account(100, answer)
    reports = [await account.gateway.report(Nanos(0), ()) for _ in range(50)]
    told = [[token for token, _ in report.balances] for report in reports]
    lively = {*account.tokens[150:154], account.tokens[170]}
    assert account.tokens[170] in told[0]
    assert all(len(each) <= BALANCES_EACH + BALANCES_BUSY for each in told)
    # Once seen to be held, each of the lively is told in every report or every other one; the others in their turn.
    assert all(lively <= {*one, *two} for one, two in pairwise(told[20:]))
    rounds = len(account.tokens) // BALANCES_EACH
    assert all(set(account.tokens) <= set().union(*told[n : n + rounds]) for n in range(50 - rounds))


@pytest.mark.parametrize("role", ["MAKER", ""])
async def test_a_listed_trade_without_legs_is_read_by_its_id(role: str) -> None:
    leg = {"order_id": "0x33", "owner": "our-key", "matched_amount": "30", "price": "0.52", "asset_id": "1000"}
    bare = {
        "id": "t1", "taker_order_id": "0x99", "asset_id": "1000", "side": "BUY", "size": "30", "price": "0.52",
        "status": "MATCHED", "owner": "somebody", "trader_side": role, "match_time": "1790000000",
        "maker_orders": None,
    }  # fmt: skip

    async def answer(request: httpx2.Request) -> httpx2.Response:
        await trio.lowlevel.checkpoint()
        if request.url.path != "/data/trades":
            return await account.answer(request)
        whole = {**bare, "maker_orders": [leg]} if request.url.params.get("id") == "t1" else bare
        return httpx2.Response(200, json={"data": [whole], "next_cursor": "LTE="})

    account = Account(1, answer)
    fills = (await account.gateway.report(Nanos(0), ())).fills
    assert [(fill.exchange_order_id, fill.side, fill.size) for fill in fills] == [("0x33", "SELL", 30 * MICRO)]
