"""What a report reads by id is bounded; what does not fit comes with the next, in order, and nothing is lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx2
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as gen
from trio.testing import MockClock

from tbot.core.messages import ExchangeOrderId, ExchangeReport
from tbot.core.units import MICRO, Nanos
from tbot.errors import ExchangeUnavailable, RateLimited
from tbot.exchanges.polymarket.gateway import PolymarketGateway
from tbot.exchanges.polymarket.single_reads import LOOKUPS_MOST, ROWS_MOST
from tests.exchanges.polymarket.answers import NO, YES, gateway_of, market

LEG = {"owner": "our-key", "matched_amount": "1", "price": "0.52", "asset_id": YES}


class Exchange:
    """Lists orders and trades without what makes them whole, and tells each by its id."""

    def __init__(self) -> None:
        self.trades: dict[str, str] = {}  # id -> status listed
        self.lags: dict[str, str] = {}  # id -> status by id, where it is another
        self.bad_orders: list[str] = []
        self.is_away = False
        self.orders_asked: list[str] = []
        self.trades_asked: list[str] = []
        self.gateway: PolymarketGateway = gateway_of(self._answer)
        self.gateway._public._markets = {YES: market(), NO: market()}

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        path, asked = request.url.path, request.url.params.get("id")
        body: Any = {"/time": 1_790_000_000, "/balance-allowance": {"balance": "0"}}.get(path)
        if path == "/data/orders":
            body = _page(*({"id": name, "asset_id": YES, "price": "odd"} for name in self.bad_orders))
        elif path.startswith("/data/order/"):
            name = path.rsplit("/", 1)[1]
            self.orders_asked.append(name)
            if self.is_away:
                return httpx2.Response(503)
            if name not in self.bad_orders:
                return httpx2.Response(404, json={"error": "not found"})
            body = _order(name)
        elif path == "/data/trades" and asked is None:
            body = _page(*(_trade(name, status) for name, status in self.trades.items()))
        elif path == "/data/trades":
            self.trades_asked.append(asked)
            whole = _trade(asked, self.lags.get(asked, self.trades[asked]))
            body = _page(whole | {"maker_orders": [LEG | {"order_id": f"0x{asked}"}]})
        return httpx2.Response(200, json=body)

    async def report(self, wanted: Sequence[str] = ()) -> ExchangeReport | None:
        """Read a report; None when the exchange did not answer."""
        try:
            return await self.gateway.report(Nanos(0), [ExchangeOrderId(name) for name in wanted])
        except ExchangeUnavailable:
            return None


def _page(*rows: object) -> dict[str, Any]:
    return {"data": rows, "next_cursor": "LTE="}


def _order(name: str) -> dict[str, Any]:
    return {
        "id": name, "asset_id": YES, "side": "BUY", "price": "0.5", "original_size": "5", "size_matched": "0",
        "status": "LIVE",
    }  # fmt: skip


def _trade(name: str, status: str) -> dict[str, Any]:
    return {
        "id": name, "taker_order_id": "0x99", "asset_id": YES, "side": "BUY", "size": "1", "price": "0.52",
        "status": status, "owner": "somebody", "trader_side": "MAKER", "match_time": "1790000000", "maker_orders": None,
    }  # fmt: skip


# How many orders are wanted before each report (new ones, and some of the old again), and whether it is answered.
some_turns = gen.lists(
    gen.tuples(gen.integers(0, 3 * LOOKUPS_MOST), gen.integers(0, 5), gen.booleans()), min_size=1, max_size=8
)


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(turns=some_turns)
def test_every_order_that_was_wanted_is_told_in_the_order_of_wanting(turns: list[tuple[int, int, bool]]) -> None:
    async def main() -> None:
        exchange = Exchange()
        names = iter(f"0x{number}" for number in range(10_000))
        wanted: list[str] = []
        told: list[str] = []
        for new, again, is_away in turns:
            some = [*wanted[:again], *(next(names) for _ in range(new))]
            wanted += [name for name in some if name not in wanted]
            exchange.is_away = is_away
            before = len(exchange.orders_asked)
            report = await exchange.report(some)
            assert len(exchange.orders_asked) - before <= 2 * LOOKUPS_MOST, "each may be tried twice"
            found = [lookup.exchange_order_id for lookup in report.lookups] if report is not None else []
            assert len(found) <= LOOKUPS_MOST
            told += [name for name in found if name not in told]
        exchange.is_away = False
        rounds = 0
        while len(told) < len(wanted):
            report = await exchange.report()
            assert report is not None
            told += [each.exchange_order_id for each in report.lookups if each.exchange_order_id not in told]
            rounds += 1
            assert rounds <= sum(new + again for new, again, _ in turns) // LOOKUPS_MOST + 1, "none is starved"
        assert told == wanted, "oldest first"

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def test_trades_that_are_told_by_id_only_are_read_once_and_in_bounded_pieces(autojump_clock: MockClock) -> None:
    exchange = Exchange()
    exchange.trades = {f"t{number}": "CONFIRMED" for number in range(3 * ROWS_MOST)}
    for rounds in (1, 2):
        with pytest.raises(RateLimited, match="going on"):
            await exchange.gateway.report(Nanos(0), ())
        assert len(exchange.trades_asked) == rounds * ROWS_MOST
    report = await exchange.report()
    assert report is not None
    assert [fill.trade_id for fill in report.fills] == list(exchange.trades)
    assert sum(fill.size for fill in report.fills) == len(exchange.trades) * MICRO
    exchange.trades |= {"new": "MATCHED"}
    again = await exchange.report()
    assert again is not None
    assert exchange.trades_asked[3 * ROWS_MOST :] == ["new"]
    assert len(again.fills) == len(report.fills) + 1


async def test_a_trade_whose_status_moved_or_lags_is_read_again(autojump_clock: MockClock) -> None:
    exchange = Exchange()
    exchange.trades, exchange.lags = {"a": "MATCHED", "b": "CONFIRMED"}, {"b": "MATCHED"}
    statuses = []
    for step in range(3):
        report = await exchange.report()
        assert report is not None
        statuses.append([fill.settlement.value for fill in report.fills])
        if step == 0:
            exchange.trades["a"] = "CONFIRMED"
            exchange.lags.clear()
    assert [list(map(str.upper, each)) for each in statuses] == [["MATCHED"] * 2, ["CONFIRMED"] * 2, ["CONFIRMED"] * 2]
    assert exchange.trades_asked == ["a", "b", "a", "b"]


async def test_many_orders_whose_rows_cannot_be_read_are_told_after_some_reports(autojump_clock: MockClock) -> None:
    exchange = Exchange()
    exchange.bad_orders = [f"0x{number}" for number in range(2 * ROWS_MOST + 1)]
    reports = [await exchange.report() for _ in range(3)]
    assert reports[:2] == [None, None]
    assert reports[2] is not None
    assert [order.exchange_order_id for order in reports[2].open_orders] == exchange.bad_orders
    assert len(exchange.orders_asked) == len(exchange.bad_orders), "what was read is not read again"
