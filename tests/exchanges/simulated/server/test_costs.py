"""What a request costs does not grow with what the exchange has stored: no client can stop it for the others.

Costs are counted in calls of functions, Python's and C's, so that they are the same on every machine.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest
import trio
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from tbot.core.market import TokenId
from tbot.core.messages import ExchangeOrderId, Side
from tbot.core.units import MICRO, Notional, Price, Size
from tbot.exchanges.simulated.allowances import OTHERS_MAX, UNLIMITED
from tbot.exchanges.simulated.contracts import CONDITIONAL_TOKENS, EXCHANGE_V2, SETTLING, AssetType
from tbot.exchanges.simulated.descriptions import Description, RewardTerms
from tbot.exchanges.simulated.operations import Account, Approve, Deposit, Placed, PlaceOrder, SplitPair

# Pages are full with the few already, and the few books are as deep as the many.
FEW, MANY = 110, 440
PRICES = 10
TERMS = RewardTerms(size_min=Size(20 * MICRO), spread_max=Price(30_000), age_s_min=0)


class Work:
    calls = 0


@contextmanager
def counted() -> Iterator[Work]:
    work = Work()

    def note(_: Any, event: str, __: Any) -> None:
        work.calls += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        yield work
    finally:
        sys.setprofile(None)


class Hoard:
    """A world in which Alice has as many open orders and trades as asked for, placed without requests."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.alice, self.bob = (Account(trader.account.address) for trader in (world.alice, world.bob))
        self._ids = count(1)
        for account in (self.alice, self.bob):
            self.world.exchange.apply(Deposit(account=account, cash=Notional(10**6 * MICRO)))
            split = SplitPair(account=account, market_id=world.rain.market_id, size=Size(10**5 * MICRO))
            self.world.exchange.apply(split)

    def place(self, account: Account, side: Side, token_id: TokenId, cents: int, shares: int) -> str:
        order_id = ExchangeOrderId(f"0x{next(self._ids):064x}")
        reply = self.world.exchange.apply(
            PlaceOrder(
                account=account,
                order_id=order_id,
                token_id=token_id,
                side=side,
                price=Price(cents * 10_000),
                size=Size(shares * MICRO),
                spender=EXCHANGE_V2,
            )
        )
        assert isinstance(reply, Placed), reply
        return order_id

    def orders(self, number: int) -> list[str]:
        rain = self.world.rain
        return [self.place(self.alice, Side.BUY, rain.yes, 30 + each % PRICES, 25) for each in range(number)]

    def trades(self, number: int) -> None:
        for _ in range(number):
            self.trade()

    def trade(self) -> None:
        mayor = self.world.mayor
        self.place(self.bob, Side.BUY, mayor.no, 50, 10)
        self.place(self.alice, Side.BUY, mayor.yes, 50, 10)


@pytest.fixture
async def hoards(make_world: Any) -> AsyncIterator[tuple[Hoard, Hoard]]:
    """Two worlds, the same but for what is stored."""
    described = (Description(slug="rain-tomorrow", rewards=TERMS),)
    async with make_world(described=described) as few, make_world(described=described) as many:
        yield Hoard(few), Hoard(many)


async def work_of(hoard: Hoard, method: str, target: str, body: Any = None) -> int:
    await hoard.world.alice.ask(method, target, body)  # whatever is made once and kept
    with counted() as work:
        answer = await hoard.world.alice.ask(method, target, body)
    assert answer.status == 200, answer.body
    return work.calls


Ask = Callable[[Hoard], Awaitable[int]]


async def ask_scoring(hoard: Hoard) -> int:
    order_ids = [order["id"] for order in (await hoard.world.alice.ask("GET", "/data/orders")).json["data"]]
    return await work_of(hoard, "POST", "/orders-scoring", order_ids)


async def ask_whether_one_scores(hoard: Hoard) -> int:
    return await work_of(hoard, "GET", f"/order-scoring?order_id=0x{1:064x}")


async def ask_orders(hoard: Hoard) -> int:
    return await work_of(hoard, "GET", "/data/orders")


async def ask_orders_of_one_market(hoard: Hoard) -> int:
    return await work_of(hoard, "GET", f"/data/orders?market={hoard.world.rain.market_id}")


async def ask_trades(hoard: Hoard) -> int:
    return await work_of(hoard, "GET", "/data/trades")


async def ask_trades_of_one_token(hoard: Hoard) -> int:
    return await work_of(hoard, "GET", f"/data/trades?asset_id={hoard.world.mayor.no}")


async def ask_one_trade(hoard: Hoard) -> int:
    newest = (await hoard.world.alice.ask("GET", "/data/trades")).json["data"][0]["id"]
    return await work_of(hoard, "GET", f"/data/trades?id={newest}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ask", "growth_max"),
    [
        (ask_scoring, 1.2),
        (ask_whether_one_scores, 1.2),
        (ask_orders, 1.2),
        (ask_orders_of_one_market, 1.2),
        # Each trade is looked at, with others' turns between, but only those of the page are shown.
        (ask_trades, 1.6),
        (ask_trades_of_one_token, 1.6),
        (ask_one_trade, 1.2),
    ],
)
async def test_a_request_costs_the_same_however_much_is_stored(
    hoards: tuple[Hoard, Hoard], autojump_clock: Any, ask: Ask, growth_max: float
) -> None:
    few, many = hoards
    for hoard, number in ((few, FEW), (many, MANY)):
        hoard.orders(number)
        hoard.trades(number)
        hoard.place(hoard.bob, Side.BUY, hoard.world.rain.no, 55, 25)
    assert await ask(many) < growth_max * await ask(few)


async def turns_while(awaited: Awaitable[Any]) -> int:
    """How often another task got its turn while something was waited for."""
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_turns)
        await awaited
        nursery.cancel_scope.cancel()
    return turns


@pytest.mark.slow
async def test_others_get_their_turn_while_everything_is_cancelled(world: Any, autojump_clock: Any) -> None:
    hoard = Hoard(world)
    hoard.orders(5)
    few = await turns_while(world.alice.ask("DELETE", "/cancel-all"))
    hoard.orders(1_000)
    assert await turns_while(world.alice.ask("DELETE", "/cancel-all")) >= few + 4
    assert world.exchange.open_orders(hoard.alice) == ()


@pytest.mark.parametrize("target", ["/data-api/v2/approvals?user=0x{}", "/relayer/deployed?address=0x{}"])
async def test_whose_a_wallet_is_costs_the_same_however_many_have_come(
    hoards: tuple[Hoard, Hoard], autojump_clock: Any, target: str
) -> None:
    work: list[int] = []
    for hoard, number in zip(hoards, (10, 60), strict=True):
        for each in range(number):
            hoard.world.server.keys.create(f"0x{each:040x}", 0)
        work.append(await work_of(hoard, "GET", target.format("ab" * 20)))
    few, many = work
    assert many < 1.1 * few


@pytest.mark.parametrize("is_limited", [False, True], ids=["covered", "with a limited allowance"])
async def test_a_trade_costs_the_same_however_many_orders_its_parties_have_open(
    hoards: tuple[Hoard, Hoard], autojump_clock: Any, *, is_limited: bool
) -> None:
    work: list[int] = []
    for hoard, number in zip(hoards, (FEW, MANY), strict=True):
        hoard.orders(number)
        if is_limited:
            amount = str(10**9 * MICRO)
            asset = AssetType.COLLATERAL
            hoard.world.exchange.apply(Approve(account=hoard.alice, asset=asset, spender=EXCHANGE_V2, amount=amount))
        hoard.trade()
        with counted() as made:
            hoard.trade()
        work.append(made.calls)
    few, many = work
    assert many < 1.5 * few


@pytest.mark.parametrize("path", ["/books", "/prices", "/midpoints", "/spreads", "/last-trades-prices"])
async def test_a_token_named_many_times_is_looked_at_once(world: Any, autojump_clock: Any, path: str) -> None:
    hoard = Hoard(world)
    for cents in range(1, 40):
        hoard.place(hoard.alice, Side.BUY, world.rain.yes, cents, 25)
    entry = {"token_id": world.rain.yes, "side": "BUY"}
    once, often = await work_of(hoard, "POST", path, [entry]), await work_of(hoard, "POST", path, [entry] * 100)
    assert often < 2.5 * once
    answer = (await world.alice.ask("POST", path, [entry] * 3)).json
    if path == "/books":
        assert len(answer) == 3
        assert answer[0] == answer[1] == answer[2]


async def test_no_more_orders_are_asked_about_than_one_request_may(world: Any, autojump_clock: Any) -> None:
    ids = [f"0x{each:064x}" for each in range(501)]
    assert (await world.alice.ask("POST", "/orders-scoring", ids[:500])).json == dict.fromkeys(ids[:500], False)
    answer = await world.alice.ask("POST", "/orders-scoring", ids)
    assert (answer.status, answer.error) == (400, "Too many orders in payload, max allowed: 500")


async def test_the_user_channel_remembers_a_bounded_number_of_markets(world: Any, autojump_clock: Any) -> None:
    socket = await world.alice.user_socket()
    names = iter([f"0x{each:064x}" for each in range(2_000)])

    async def told_of(operation: str, markets: list[str]) -> list[str]:
        await socket.send_message(json.dumps({"operation": operation, "markets": markets}))
        await socket.send_message("PING")
        told: list[str] = []
        while (text := await socket.get_message()) != "PONG":
            told.append(text)
        return told

    first = [next(names) for _ in range(999)]
    assert await told_of("subscribe", [*first, world.rain.market_id]) == []
    assert await told_of("subscribe", [next(names)]) == ["INVALID OPERATION"]
    assert await told_of("subscribe", ["0x" + "1" * 100]) == ["INVALID OPERATION"]
    # What was asked for before holds.
    await world.alice.placed("BUY", "0.40", "10", token=world.mayor.yes)
    await world.alice.placed("BUY", "0.40", "10")
    assert [frame["market"] for frame in await world.heard(socket)] == [world.rain.market_id]
    assert await told_of("unsubscribe", first[:1]) == []
    assert await told_of("subscribe", [world.mayor.market_id]) == []
    await world.alice.placed("BUY", "0.40", "10", token=world.mayor.yes)
    assert [frame["market"] for frame in await world.heard(socket)] == [world.mayor.market_id]


def balances(number: int, owners: int = 100) -> list[dict[str, Any]]:
    """So many calls, each of the balances of so many owners, all of them others."""
    selector = keccak(b"balanceOfBatch(address[],uint256[])")[:4]
    calls: list[dict[str, Any]] = []
    for each in range(number):
        wallets = [f"0x{1 + each * owners + owner:040x}" for owner in range(owners)]
        data = selector + encode(["address[]", "uint256[]"], [wallets, list(range(owners))])
        params = [{"to": CONDITIONAL_TOKENS, "data": "0x" + data.hex()}, "latest"]
        calls.append({"jsonrpc": "2.0", "id": each, "method": "eth_call", "params": params})
    return calls


async def test_a_batch_of_the_node_leaves_others_their_turn(world: Any, autojump_clock: Any) -> None:
    async def turns(number: int) -> int:
        return await turns_while(world.alice.ask("POST", "/rpc", balances(number, owners=1)))

    assert await turns(100) >= await turns(1) + 95


@pytest.mark.slow
async def test_a_request_to_the_node_reads_no_more_balances_than_it_may(world: Any, autojump_clock: Any) -> None:
    answers = (await world.alice.ask("POST", "/rpc", balances(13))).json
    assert [each.get("error", {}).get("code") for each in answers] == [None] * 10 + [-32_005] * 3
    # The next one may as many.
    assert "result" in (await world.alice.ask("POST", "/rpc", balances(1)[0])).json
    few, many = [await work_of(Hoard(world), "POST", "/rpc", balances(number)) for number in (10, 50)]
    assert many < 1.5 * few


async def test_what_is_too_long_for_a_transaction_is_not_read(world: Any, autojump_clock: Any) -> None:
    async def work(items: int) -> int:
        raw = bytes([0xF9]) + items.to_bytes(2, "big") + b"\x01" * items
        sent = {"jsonrpc": "2.0", "id": 1, "method": "eth_sendRawTransaction", "params": ["0x" + raw.hex()]}
        return await work_of(Hoard(world), "POST", "/rpc", sent)

    assert await work(4_000) < await work(500)


def approve(hoard: Hoard, account: Account, number: int) -> None:
    """Limit so many contracts that nobody knows, each to a millionth of a dollar."""
    for each in range(number):
        spender = f"0x{1 + each:040x}"
        hoard.world.exchange.apply(Approve(account=account, asset=AssetType.COLLATERAL, spender=spender, amount="1"))


@pytest.mark.slow
@pytest.mark.parametrize("giver", ["a stranger", "a party of the trade"])
async def test_a_trade_and_an_approval_cost_the_same_however_many_approvals_there_are(
    hoards: tuple[Hoard, Hoard], autojump_clock: Any, giver: str
) -> None:
    trades: list[int] = []
    approvals: list[int] = []
    for hoard, number in zip(hoards, (FEW, MANY), strict=True):
        account = Account("0x" + "1" * 40) if giver == "a stranger" else hoard.alice
        approve(hoard, account, number)
        hoard.trade()
        with counted() as made:
            hoard.trade()
        with counted() as given:
            approve(hoard, account, 1)
        trades.append(made.calls)
        approvals.append(given.calls)
    assert trades[1] < 1.1 * trades[0]
    assert approvals[1] < 1.1 * approvals[0]


async def test_approvals_of_exchanges_outlive_any_number_of_others(
    hoards: tuple[Hoard, Hoard], autojump_clock: Any
) -> None:
    hoard, _ = hoards
    allowances = hoard.world.exchange.engine.allowances
    for asset in AssetType:
        for spender in SETTLING:
            hoard.world.exchange.apply(Approve(account=hoard.alice, asset=asset, spender=spender.lower(), amount="0"))
    approve(hoard, hoard.alice, OTHERS_MAX + 1)
    assert {allowances.left(hoard.alice, asset, spender) for asset in AssetType for spender in SETTLING} == {0}
    told = [allowances.left(hoard.alice, AssetType.COLLATERAL, f"0x{1 + n:040x}") for n in range(OTHERS_MAX + 1)]
    assert told == [UNLIMITED, *([1] * OTHERS_MAX)]
    # Only the wallet's own.
    approve(hoard, hoard.bob, OTHERS_MAX)
    assert allowances.left(hoard.alice, AssetType.COLLATERAL, f"0x{2:040x}") == 1
