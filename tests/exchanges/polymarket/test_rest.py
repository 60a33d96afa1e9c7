"""Reads, reference data, keys and heartbeats over a mock transport."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest
import trio
import trio.testing

from tbot.core.market import CASH, TokenId
from tbot.core.messages import (
    OrderState,
    OutcomeUnknown,
    Role,
    Settlement,
    Side,
)
from tbot.core.units import NANOS_PER_S, Nanos, Price, Size
from tbot.errors import (
    AuthenticationFailed,
    ConfigError,
    ExchangeUnavailable,
    RateLimited,
    TimedOut,
)
from tbot.exchanges.gateway import Gateway
from tbot.exchanges.polymarket.gateway import PolymarketGateway
from tbot.exchanges.polymarket.public import PublicMarkets
from tbot.exchanges.polymarket.rest import NotFound
from tbot.exchanges.polymarket.settings import PolymarketSettings
from tests.contract.stage import now_ns
from tests.exchanges.polymarket.answers import (
    CONDITION,
    ID,
    KEY,
    NO,
    OTHER_ID,
    REFERENCE_DATA,
    THIRD_ID,
    YES,
    Handler,
    answering,
    gateway_of,
    in_turn,
    raising,
    routed,
)

# --- reads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("handler", "kind"),
    [
        (answering(401, b"<html>401 Authorization Required</html>"), ExchangeUnavailable),
        (answering(404, {"error": "nothing here"}), NotFound),
        (answering(429, b""), RateLimited),
        (answering(500, b""), ExchangeUnavailable),
        (answering(200, b"12.5"), ExchangeUnavailable),
        (answering(200, b"\xff"), ExchangeUnavailable),
        (raising(httpx2.ReadTimeout), TimedOut),
        (raising(httpx2.ReadError), ExchangeUnavailable),
    ],
)
async def test_a_failed_read_is_a_typed_error(
    autojump_clock: trio.testing.MockClock, handler: Handler, kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        await gateway_of(handler).rest.time_s()


Ask = Callable[[PolymarketGateway], Awaitable[object]]
UNSIGNED: dict[str, Ask] = {
    "book": lambda g: g.rest.book(YES),
    "books": lambda g: g.books([YES]),
    "version": lambda g: g.rest.version(),
    "tick": lambda g: g.rest.tick_size(YES),
    "terms": lambda g: g.load_markets(),
    "place": lambda g: g.rest.is_blocked_here("https://exchange.test/geo"),
    "may trade": lambda g: g.can_trade(),
}
SIGNED: dict[str, Ask] = {
    "orders": lambda g: g.rest.open_orders(),
    "order": lambda g: g.rest.order(ID),
    "trades": lambda g: g.rest.trades(),
    "balance": lambda g: g.rest.balance(YES, signature_type=0),
    "standing": lambda g: g.rest.is_closed_only(),
    "heartbeat": lambda g: g.protect(),
}


@pytest.mark.parametrize("ask", UNSIGNED.values(), ids=UNSIGNED)
async def test_a_401_to_an_unsigned_read_says_nothing_of_the_credentials(
    autojump_clock: trio.testing.MockClock, ask: Ask
) -> None:
    with pytest.raises(ExchangeUnavailable):
        await ask(gateway_of(answering(401, b"<html>401 Authorization Required</html>"), geoblock_url=""))


@pytest.mark.parametrize("ask", SIGNED.values(), ids=SIGNED)
async def test_a_401_to_a_signed_request_does(autojump_clock: trio.testing.MockClock, ask: Ask) -> None:
    refused = answering(401, {"error": "Unauthorized/Invalid api key"})
    with pytest.raises(AuthenticationFailed):
        await ask(
            gateway_of(lambda request: (routed(REFERENCE_DATA) if request.url.path == "/time" else refused)(request))
        )


@pytest.mark.parametrize("ask", SIGNED.values(), ids=SIGNED)
async def test_a_401_while_no_time_is_told_proves_nothing_yet(autojump_clock: trio.testing.MockClock, ask: Ask) -> None:
    with pytest.raises(ExchangeUnavailable):
        await ask(gateway_of(answering(401, {"error": "Unauthorized/Invalid api key"})))


async def test_a_time_that_is_not_told_is_no_reason_to_end(autojump_clock: trio.testing.MockClock) -> None:
    settings = PolymarketSettings(condition_ids=(CONDITION,), rest_url="https://exchange.test")
    public = PublicMarkets(settings, now_ns=now_ns, transport=httpx2.MockTransport(answering(401)))
    await public.keep_time()
    await public.aclose()


async def test_a_read_over_a_connection_just_closed_is_asked_again(autojump_clock: trio.testing.MockClock) -> None:
    gateway = gateway_of(in_turn(raising(httpx2.RemoteProtocolError), answering(200, 1_790_000_000)))
    assert await gateway.rest.time_s() == 1_790_000_000


async def test_pages_are_followed_to_the_end(autojump_clock: trio.testing.MockClock) -> None:
    cursors: list[str] = []
    ends = {"MA==": "Mg==", "Mg==": "NA==", "NA==": "LTE="}

    def page(request: httpx2.Request) -> httpx2.Response:
        cursors.append(request.url.params["next_cursor"])
        return httpx2.Response(200, json={"data": [order_row(cursors[-1])], "next_cursor": ends[cursors[-1]]})

    rows = await gateway_of(page).rest.open_orders()
    assert [json.loads(row)["id"] for row in rows] == cursors == ["MA==", "Mg==", "NA=="]


@pytest.mark.parametrize("end", ["LTE=", "", None])
async def test_every_spelling_of_the_last_page(autojump_clock: trio.testing.MockClock, end: str | None) -> None:
    assert await gateway_of(answering(200, {"data": [], "next_cursor": end})).rest.open_orders() == []


async def test_a_list_without_end_is_never_taken_as_whole(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(ExchangeUnavailable, match="no end"):
        await gateway_of(answering(200, {"data": [], "next_cursor": "MA=="})).rest.open_orders()


def order_row(order_id: str, **changes: Any) -> dict[str, Any]:
    row = {
        "id": order_id,
        "status": "ORDER_STATUS_LIVE",
        "asset_id": YES,
        "side": "BUY",
        "price": "0.56",
        "original_size": "21.04",
        "size_matched": "1.04",
        "order_type": "GTC",
        "associate_trades": None,
        "created_at": 1_790_000_000,
    }
    return row | changes


def trade_row(trade_id: str, **changes: Any) -> dict[str, Any]:
    row = {
        "id": trade_id,
        "taker_order_id": ID,
        "asset_id": YES,
        "side": "BUY",
        "size": "10",
        "price": "0.5",
        "status": "TRADE_STATUS_MINED",
        "match_time": "1790000000",
        "trader_side": "TAKER",
        "owner": "our-key",
        "maker_orders": [],
    }
    return row | changes


async def test_taker_of_several_prices_is_told_what_the_legs_come_to(autojump_clock: trio.testing.MockClock) -> None:
    """Listed without legs: size times the averaged price would be 20 millionths short of 17.9."""
    listed = trade_row("t-1", size="30", price="0.596666")
    legs = [
        {"order_id": OTHER_ID, "owner": "theirs", "matched_amount": "10", "price": price, "asset_id": NO, "side": "BUY"}
        for price in ("0.43", "0.41", "0.37")
    ]

    def trades(request: httpx2.Request) -> httpx2.Response:
        row = listed | {"maker_orders": legs} if "id" in request.url.params else listed
        return httpx2.Response(200, json={"data": [row], "next_cursor": "LTE="})

    routes = {
        "/data/orders": {"data": [], "next_cursor": "LTE="},
        "/data/trades": trades,
        "/balance-allowance": {"balance": "5000000"},
    }
    gateway = gateway_of(routed(REFERENCE_DATA | routes))
    await gateway.load_markets()
    (taken,) = (await gateway.report(Nanos(1_790_000_000 * NANOS_PER_S), [])).fills
    assert (taken.role, taken.size, taken.notional) == (Role.TAKER, 30_000_000, 17_900_000)


async def test_balances_are_read_anew_by_kind_of_asset_and_wallet(autojump_clock: trio.testing.MockClock) -> None:
    asked: list[dict[str, str]] = []

    def update(request: httpx2.Request) -> httpx2.Response:
        asked.append(dict(request.url.params))
        return httpx2.Response(200, content=b"")

    gateway = gateway_of(routed({"/balance-allowance/update": update}))
    for asset in (CASH, YES, TokenId(str(1 << 248))):
        await gateway.refresh_balance(asset)
    assert asked[0] == {"asset_type": "COLLATERAL", "signature_type": "0"}
    assert asked[1] == {"asset_type": "CONDITIONAL", "token_id": YES, "signature_type": "0"}
    assert asked[2] == {"asset_type": "CONDITIONAL-V2", "token_id": str(1 << 248), "signature_type": "0"}
    refused = gateway_of(answering(429, {"error": "slow down"}))
    with pytest.raises(RateLimited):
        await refused.refresh_balance(CASH)


async def test_report_gathers_everything_and_states_when_it_was_asked(autojump_clock: trio.testing.MockClock) -> None:
    queries: list[dict[str, str]] = []
    leg = {"order_id": OTHER_ID, "owner": "our-key", "matched_amount": "4", "price": "0.3", "asset_id": NO}

    def trades(request: httpx2.Request) -> httpx2.Response:
        queries.append(dict(request.url.params))
        bare = trade_row("t-bare", trader_side="MAKER")
        rows = [trade_row("t-1"), bare, trade_row("t-foreign", asset_id="99")]
        if "id" in request.url.params:
            rows = [bare | {"maker_orders": [leg]}]
        return httpx2.Response(200, json={"data": rows, "next_cursor": "LTE="})

    def balance(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json={"balance": "5000000" if "token_id" in request.url.params else "123"})

    routes = {
        "/data/orders": {"data": [order_row(ID)], "next_cursor": "LTE="},
        "/data/trades": trades,
        f"/data/order/{ID}": order_row(ID, status="CANCELED"),
        f"/data/order/{OTHER_ID}": lambda _request: httpx2.Response(200, content=b"null"),
        "/balance-allowance": balance,
    }
    gateway = gateway_of(routed(REFERENCE_DATA | routes))
    await gateway.load_markets()
    report = await gateway.report(Nanos(1_790_000_000 * NANOS_PER_S), [ID, OTHER_ID, THIRD_ID])
    assert queries[0]["after"] == "1789999999"
    (resting,) = report.open_orders
    assert (resting.exchange_order_id, resting.size, resting.size_matched) == (ID, 21_040_000, 1_040_000)
    assert [(x.state, x.size_matched) for x in report.lookups] == [
        (OrderState.CANCELED, 1_040_000),
        (None, 0),
        (None, 0),
    ]
    taken, made = report.fills
    assert (taken.role, taken.notional, taken.fee, taken.settlement) == (
        Role.TAKER,
        5_000_000,
        100_000,
        Settlement.MINED,
    )
    assert (made.role, made.token_id, made.side, made.notional, made.fee) == (Role.MAKER, NO, Side.BUY, 1_200_000, 0)
    assert report.balances == ((YES, 5_000_000), (NO, 5_000_000))
    assert report.cash == 123
    assert report.requested_ns <= report.received_ns


@pytest.mark.parametrize("spoiled", [{"price": "1e-3"}, {"size_matched": "-1"}, {"original_size": "much"}])
async def test_report_with_an_impossible_number_tells_nothing(
    autojump_clock: trio.testing.MockClock, spoiled: dict[str, str]
) -> None:
    empty = {"data": [], "next_cursor": "LTE="}
    rows = {"data": [order_row(ID, **spoiled)], "next_cursor": "LTE="}
    routes = {"/data/orders": rows, "/data/trades": empty, "/balance-allowance": {"balance": "1"}}
    with pytest.raises(ExchangeUnavailable):
        await gateway_of(routed(routes)).report(Nanos(0), [])


@pytest.mark.parametrize("balance", ["-1", "1.5", "", "1e6", "٣"])
async def test_balance_that_is_no_whole_number_is_not_believed(
    autojump_clock: trio.testing.MockClock, balance: str
) -> None:
    with pytest.raises(ExchangeUnavailable):
        await gateway_of(answering(200, {"balance": balance})).rest.balance(None, signature_type=0)


# --- reference data, eligibility, keys, heartbeat --------------------------------------------------------------------


async def test_market_is_put_together_from_its_freshest_sources(autojump_clock: trio.testing.MockClock) -> None:
    gateway = gateway_of(routed(REFERENCE_DATA | {"/tick-size": {"minimum_tick_size": 0.001}}))
    (loaded,) = await gateway.load_markets()
    assert (loaded.tick, loaded.size_min, loaded.slug, loaded.tokens) == (1_000, 5_000_000, "rain", (YES, NO))
    assert (loaded.fee.rate_micro, loaded.fee.exponent, loaded.is_accepting_orders) == (40_000, 1, True)
    assert gateway.fee(YES, Price(500_000), Size(100_000_000), Role.TAKER) == 1_000_000
    assert gateway.fee(YES, Price(500_000), Size(100_000_000), Role.MAKER) == 0


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({f"/clob-markets/{CONDITION}": None}, ConfigError),
        ({f"/clob-markets/{CONDITION}": REFERENCE_DATA[f"/clob-markets/{CONDITION}"] | {"v": "v2"}}, ConfigError),
        ({"/tick-size": {"minimum_tick_size": 0.03}}, ExchangeUnavailable),
        ({f"/clob-markets/{CONDITION}": {"c": CONDITION, "t": [{"t": "1"}]}}, ExchangeUnavailable),
    ],
)
async def test_market_that_cannot_be_traded_is_refused(
    autojump_clock: trio.testing.MockClock, changes: dict[str, Any], kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        await gateway_of(routed(REFERENCE_DATA | changes)).load_markets()


ELIGIBLE: dict[str, Any] = {
    "/api/geoblock": {"blocked": False, "ip": "192.0.2.1", "country": "NO"},
    "/version": {"version": 2},
    "/time": lambda _request: httpx2.Response(200, json=now_ns() // NANOS_PER_S),
    "/auth/ban-status/closed-only": {"closed_only": False},
}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"/api/geoblock": {"blocked": True, "country": "XX"}}, "does not serve this place"),
        ({"/version": {"version": 3}}, "protocol 3"),
        ({"/time": 1_700_000_000}, "clock"),
        ({"/auth/ban-status/closed-only": {"closed_only": True}}, "only reduce"),
    ],
)
async def test_trading_needs_place_protocol_clock_and_account(
    autojump_clock: trio.testing.MockClock, changes: dict[str, Any], reason: str
) -> None:
    told = await gateway_of(routed(ELIGIBLE | changes)).can_trade()
    assert reason in told
    assert bool(told) is bool(reason)


async def test_credentials_are_derived_else_created_else_refused(autojump_clock: trio.testing.MockClock) -> None:
    issued = {"apiKey": "k", "secret": "c2VjcmV0", "passphrase": "p"}
    refused = answering(400, {"error": "Could not derive api key!"})
    old = gateway_of(routed({"/auth/derive-api-key": issued}))
    assert (await old.rest.obtain_credentials(KEY, chain_id=137)).api_key == "k"
    new = gateway_of(routed({"/auth/derive-api-key": refused, "/auth/api-key": issued}))
    assert (await new.rest.obtain_credentials(KEY, chain_id=137)).api_key == "k"
    none = gateway_of(routed({"/auth/derive-api-key": refused, "/auth/api-key": refused}))
    with pytest.raises(AuthenticationFailed, match="Could not derive"):
        await none.rest.obtain_credentials(KEY, chain_id=137)
    down = gateway_of(answering(502, b""))
    with pytest.raises(ExchangeUnavailable):
        await down.rest.obtain_credentials(KEY, chain_id=137)


# --- the wire --------------------------------------------------------------------------------------------------------


async def test_private_requests_are_signed_over_the_bytes_sent_and_public_ones_are_not(
    autojump_clock: trio.testing.MockClock,
) -> None:
    seen: list[httpx2.Request] = []

    def keep(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(200, json={"canceled": [], "not_canceled": {}} if request.content else 1)

    gateway = gateway_of(keep)
    await gateway.cancel([ID])
    await gateway.rest.time_s()
    private, public = seen
    assert private.content == f'{{"orderID":"{ID}"}}'.encode()
    assert private.headers["poly_address"] == KEY.address
    assert private.headers["user-agent"] == "tbot"
    assert "poly_signature" not in public.headers
    assert "hush" not in str(public.headers)


async def test_a_redirect_is_never_followed(autojump_clock: trio.testing.MockClock) -> None:
    hosts: list[str] = []

    def elsewhere(request: httpx2.Request) -> httpx2.Response:
        hosts.append(request.url.host)
        return httpx2.Response(307, headers={"location": "https://evil.test/order"})

    gateway = gateway_of(elsewhere)
    (reply,) = await gateway.cancel([ID])
    assert isinstance(reply, OutcomeUnknown)
    assert hosts == ["exchange.test"]


def test_the_gateway_keeps_the_protocol() -> None:
    gateway: Gateway = gateway_of(answering(200))
    limits = {bucket.name: bucket.burst for bucket in gateway.capabilities.buckets}
    assert gateway.capabilities.cancel_batch_max <= limits["cancels"]
    assert gateway.capabilities.open_orders_max <= limits["cancels"]
