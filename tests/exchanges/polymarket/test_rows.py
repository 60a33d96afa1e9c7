"""One row that cannot be read concerns itself: the rest of a list, and the other books, are told all the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import StringIO
from typing import Any

import httpx2
import msgspec
import pytest
import trio
import trio.testing

from tbot.core.market import MarketId, TokenId
from tbot.core.messages import ExchangeReport, Fill
from tbot.core.units import MICRO, Nanos, Notional
from tbot.errors import ExchangeUnavailable
from tbot.exchanges.polymarket.fills import Ownership, trade_events
from tbot.exchanges.polymarket.single_reads import ROWS_MOST
from tbot.exchanges.polymarket.unread import FAILURES_MAX
from tbot.exchanges.polymarket.wire import TradeFrame
from tbot.log import set_up
from tests.exchanges.polymarket.answers import NO, REFERENCE_DATA, YES, answering, gateway_of, routed

FOREIGN = "999999"
BOOK = {"market": "m", "asset_id": YES, "timestamp": "1790000000000", "bids": [], "asks": []}
ORDER = {
    "id": "0x1", "asset_id": YES, "side": "BUY", "price": "0.5", "original_size": "5", "size_matched": "0",
    "status": "LIVE",
}  # fmt: skip
TRADE = {
    "id": "t1", "taker_order_id": "0x7", "asset_id": YES, "side": "BUY", "size": "30", "price": "0.52",
    "status": "MATCHED", "trader_side": "TAKER", "owner": "our-key", "maker_orders": [], "match_time": "1790000000",
}  # fmt: skip
STRANGE: list[dict[str, Any]] = [{"price": "1"}, {"price": "1e-3"}, {"side": "buy"}, {"price": 5}, {"price": None}]


@pytest.fixture
def told() -> Iterator[StringIO]:
    terminal = StringIO()
    logs = set_up(file=None, terminal=terminal, level="warning")
    yield terminal
    logs.close()


def page(*rows: object) -> dict[str, Any]:
    return {"data": rows, "next_cursor": "LTE="}


async def report_of(
    *, orders: tuple[object, ...] = (), trades: tuple[object, ...] = (), by_id: dict[str, Any] | None = None
) -> ExchangeReport:
    """Read a report of an account with these rows; each order and trade asked for by its id is answered by `by_id`."""
    whole = by_id or {}

    def list_trades(request: httpx2.Request) -> httpx2.Response:
        asked = request.url.params.get("id")
        return httpx2.Response(200, json=page(*trades) if asked is None else page(*filter(None, [whole.get(asked)])))

    routes: dict[str, Any] = {
        "/data/orders": page(*orders),
        "/data/trades": list_trades,
        "/balance-allowance": {"balance": "0"},
        "/time": 1_790_000_000,
        **{f"/data/order/{order_id}": row for order_id, row in whole.items()},
    }
    gateway = gateway_of(routed(REFERENCE_DATA | routes))
    await gateway.load_markets()
    return await gateway.report(Nanos(0), ())


@pytest.mark.parametrize(
    "bad",
    [
        None,
        5,
        {**BOOK, "asset_id": NO, "bids": None},
        {**BOOK, "asset_id": NO, "bids": [{"price": "1", "size": "5"}]},
        {**BOOK, "asset_id": NO, "asks": [{"price": "0.5", "size": "0.1234567"}]},
        {**BOOK, "asset_id": NO, "timestamp": ""},
    ],
    ids=str,
)
@pytest.mark.parametrize("is_first", [True, False])
async def test_a_bad_book_concerns_its_token_only(
    autojump_clock: trio.testing.MockClock, told: StringIO, bad: object, is_first: bool
) -> None:
    gateway = gateway_of(answering(200, [bad, BOOK] if is_first else [BOOK, bad]))
    books = await gateway.books([YES, NO])
    assert [book.token_id for book in books] == [YES]
    assert re.findall(r"books.unreadable.*token_id='?(\d*)", told.getvalue()) == [NO if isinstance(bad, dict) else ""]


@pytest.mark.parametrize("strange", STRANGE, ids=str)
async def test_a_bad_row_of_another_market_is_counted_and_left_out(
    autojump_clock: trio.testing.MockClock, told: StringIO, strange: dict[str, Any]
) -> None:
    foreign = {"asset_id": FOREIGN, **strange}
    report = await report_of(
        orders=({**ORDER, "id": "0x2", **foreign}, ORDER), trades=({**TRADE, "id": "t2", **foreign}, TRADE)
    )
    assert [order.exchange_order_id for order in report.open_orders] == ["0x1"]
    assert [(fill.trade_id, fill.size) for fill in report.fills] == [("t1", 30 * MICRO)]
    assert re.findall(r"report.rows_left_out.*count=(\d+)", told.getvalue()) == ["2"]


@pytest.mark.parametrize("kind", ["orders", "trades"])
async def test_bad_rows_of_other_markets_take_none_of_what_a_report_may_read_by_id(
    autojump_clock: trio.testing.MockClock, kind: str
) -> None:
    row = ORDER if kind == "orders" else TRADE
    bad = tuple({**row, "asset_id": FOREIGN, "price": "1", "id": f"0x9{number}"} for number in range(ROWS_MOST + 1))
    report = await report_of(
        orders=(*bad, ORDER) if kind == "orders" else (ORDER,), trades=(*bad, TRADE) if kind == "trades" else (TRADE,)
    )
    assert (len(report.open_orders), len(report.fills)) == (1, 1)


@pytest.mark.parametrize("strange", STRANGE, ids=str)
async def test_a_bad_row_of_ours_is_asked_for_by_its_id(
    autojump_clock: trio.testing.MockClock, strange: dict[str, Any]
) -> None:
    other = {**ORDER, "id": "0x3"}
    report = await report_of(
        orders=(ORDER | strange, other), trades=(TRADE | strange,), by_id={"0x1": ORDER, "t1": TRADE}
    )
    assert [order.exchange_order_id for order in report.open_orders] == ["0x1", "0x3"]
    assert [(fill.trade_id, fill.size) for fill in report.fills] == [("t1", 30 * MICRO)]


@pytest.mark.parametrize("status", ["CANCELED", "MATCHED"])
async def test_an_order_over_by_its_id_is_no_open_one(autojump_clock: trio.testing.MockClock, status: str) -> None:
    over = {**ORDER, "status": status, "size_matched": "5"}
    report = await report_of(orders=({**ORDER, "price": "1"},), by_id={"0x1": over})
    assert report.open_orders == ()


UNREADABLE_ORDERS = [
    {**ORDER, "price": "1"},  # unreadable by its id too, see below
    {**ORDER, "id": None},
    {**ORDER, "asset_id": 999_999},  # perhaps ours, in another spelling
    None,
]


@pytest.mark.parametrize("row", UNREADABLE_ORDERS, ids=str)
async def test_no_report_while_an_order_that_may_be_ours_is_unreadable(
    autojump_clock: trio.testing.MockClock, row: object
) -> None:
    with pytest.raises(ExchangeUnavailable):
        await report_of(orders=(row, ORDER), by_id={"0x1": {**ORDER, "price": "1"}})


LEG = {"order_id": "0x9", "owner": "another", "matched_amount": "30", "price": "0.48", "asset_id": YES}


@pytest.mark.parametrize(
    "row",
    [
        {**TRADE, "price": "1"},
        {**TRADE, "id": 7},
        {**TRADE, "asset_id": FOREIGN, "price": "1", "maker_orders": [LEG]},  # its leg is of our market
        {**TRADE, "asset_id": FOREIGN, "price": "1", "maker_orders": "none"},
        None,
    ],
    ids=["price", "id", "leg", "legs", "null"],
)
@pytest.mark.parametrize("is_known", [True, False])
async def test_no_report_while_a_trade_that_may_be_ours_is_unreadable(
    autojump_clock: trio.testing.MockClock, row: object, is_known: bool
) -> None:
    with pytest.raises(ExchangeUnavailable):
        await report_of(trades=(row, {**TRADE, "id": "t3"}), by_id={"t1": {**TRADE, "size": 30}} if is_known else {})


# --- trades of ours with odd numbers ----------------------------------------------------------------------------------

MADE = {**LEG, "side": "SELL"}
AVERAGED = {
    **TRADE, "price": "0.5666666666666667", "size": "9",
    "maker_orders": [MADE | {"price": "0.56", "matched_amount": "3"}, MADE | {"price": "0.57", "matched_amount": "6"}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("odd", "size", "notional"),
    [
        (AVERAGED, 9_000_000, 3 * 560_000 + 6 * 570_000),
        ({**AVERAGED, "maker_orders": []}, 9_000_000, 9 * 566_667),  # of the average alone, to the nearest
        ({**AVERAGED, "size": "9.0000000000000004"}, 9_000_000, 3 * 560_000 + 6 * 570_000),
    ],
    ids=["price", "price alone", "size"],
)
async def test_a_trade_of_ours_is_read_whatever_decimals_it_has(
    autojump_clock: trio.testing.MockClock, odd: dict[str, Any], size: int, notional: int
) -> None:
    (fill,) = (await report_of(trades=(odd,), by_id={"t1": odd})).fills
    assert (fill.size, fill.notional) == (size, notional)
    pushed = msgspec.convert(odd | {"event_type": "trade"}, TradeFrame)
    (event,) = trade_events(pushed, Ownership(api_key="our-key", wallet=""), lambda *_: Notional(0), Nanos(1))
    assert isinstance(event, Fill)
    assert (event.size, event.notional) == (size, notional)


async def test_an_order_of_ours_is_read_whatever_decimals_it_has(autojump_clock: trio.testing.MockClock) -> None:
    odd = {**ORDER, "size_matched": "1.2195110000000001", "original_size": "5.000000000000000"}
    (order,) = (await report_of(orders=(odd,))).open_orders
    assert (order.size, order.size_matched) == (5_000_000, 1_219_511)


class Account:
    """An account with trades that may be told wrongly, in the list and by their ids."""

    def __init__(self) -> None:
        self.listed: list[object] = []
        self.by_id: dict[str, object] = {}
        self.asked: list[str] = []
        routes: dict[str, Any] = {
            "/data/orders": page(),
            "/data/trades": self._trades,
            "/balance-allowance": {"balance": "0"},
            "/time": 1_790_000_000,
        }
        self.gateway = gateway_of(routed(REFERENCE_DATA | routes))

    def _trades(self, request: httpx2.Request) -> httpx2.Response:
        asked = request.url.params.get("id")
        if asked is None:
            return httpx2.Response(200, json=page(*self.listed))
        self.asked.append(asked)
        return httpx2.Response(200, json=page(*filter(None, [self.by_id.get(asked)])))

    async def reports(self, count: int) -> list[list[str] | None]:
        """Read several: the trades of each, None = it failed."""
        return [await self._report() for _ in range(count)]

    async def _report(self) -> list[str] | None:
        await trio.sleep(5)
        try:
            return [fill.trade_id for fill in (await self.gateway.report(Nanos(0), ())).fills]
        except ExchangeUnavailable:
            return None


# Of a taker's trade at several prices without its legs: it does not say enough, so it is to be asked for.
BARE = {**TRADE, "price": "0.56666"}
BAD: list[object] = [
    {**TRADE, "price": "1"}, {**TRADE, "size": None}, {**TRADE, "id": 7}, None,
    {**TRADE, "trader_side": "MAKER", "id": ""}, {**BARE, "id": ""},
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD, ids=str)
async def test_a_trade_that_stays_unreadable_is_told_of_and_does_not_end_reports(
    autojump_clock: trio.testing.MockClock, told: StringIO, bad: object
) -> None:
    account = Account()
    await account.gateway.load_markets()
    account.listed = [{**TRADE, "id": "t2"}, bad, {**TRADE, "id": "t3"}]
    account.by_id = {"t1": bad}
    reports = await account.reports(FAILURES_MAX + 4)
    assert reports[:FAILURES_MAX] == [None] * FAILURES_MAX, "rows grow whole, so it is waited for first"
    assert reports[FAILURES_MAX:] == [["t2", "t3"]] * 4
    assert told.getvalue().count("report.trade_left_out") == 1


async def test_many_unreadable_trades_are_waited_for_together(autojump_clock: trio.testing.MockClock) -> None:
    account = Account()
    await account.gateway.load_markets()
    account.listed = [{**TRADE, "id": f"t{n}", "price": "1"} for n in range(20)]
    assert await account.reports(FAILURES_MAX + 1) == [None] * FAILURES_MAX + [[]]


async def test_a_trade_left_out_is_told_once_it_can_be_read_however_late(
    autojump_clock: trio.testing.MockClock,
) -> None:
    account = Account()
    await account.gateway.load_markets()
    account.listed = [{**TRADE, "price": "1"}]
    await account.reports(FAILURES_MAX + 1)
    account.listed = []  # the list begins later by now
    assert await account.reports(2) == [[], []]
    account.by_id = {"t1": TRADE}
    assert await account.reports(2) == [["t1"], []]
    asked = len(account.asked)
    assert await account.reports(2) == [[], []]
    assert len(account.asked) == asked, "what is settled costs no more requests"


@pytest.mark.parametrize("bad", BAD, ids=str)
async def test_only_ids_are_asked_for_of_trades_left_out(autojump_clock: trio.testing.MockClock, bad: object) -> None:
    account = Account()
    await account.gateway.load_markets()
    account.listed, account.by_id = [bad], {"t1": bad}
    await account.reports(FAILURES_MAX + 1)
    account.listed, account.asked = [], []  # the list begins later by now
    assert await account.reports(3) == [[]] * 3
    is_named = isinstance(bad, dict) and bad["id"] == "t1"
    assert account.asked == (["t1"] * 3 if is_named else [])


async def test_a_trade_that_names_none_but_is_of_another_market_costs_no_report(
    autojump_clock: trio.testing.MockClock,
) -> None:
    report = await report_of(trades=({**BARE, "id": "", "asset_id": FOREIGN}, {**TRADE, "id": "t3"}))
    assert [fill.trade_id for fill in report.fills] == ["t3"]


async def test_a_market_that_joins_while_a_report_is_read_is_of_the_next(
    autojump_clock: trio.testing.MockClock,
) -> None:
    account = Account()
    (market,) = await account.gateway.load_markets()
    joins = msgspec.structs.replace(market, market_id=MarketId("0xcd"), yes=TokenId(FOREIGN), no=TokenId("999998"))

    class Joining(dict[str, object]):
        def get(self, key: str, default: object = None) -> object:
            account.gateway._public._take(joins)
            return super().get(key, default)

    theirs = {**TRADE, "id": "t2", "asset_id": FOREIGN}
    account.listed = [{**theirs, "price": "1"}, {**TRADE, "price": "1"}]
    account.by_id = Joining({"t1": TRADE, "t2": theirs})
    assert await account.reports(2) == [["t1"], ["t2", "t1"]]
