"""The operator's hand: pairs, resolution, restricted modes; and that nobody has it unless it was given."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
import trio

from tbot.core.market import MarketId, TokenId
from tbot.exchanges.simulated.operations import OpenMarket
from tbot.exchanges.simulated.server import ServerSettings


async def balance(trader: Any, token: str = "") -> int:
    kind = f"CONDITIONAL&token_id={token}" if token else "COLLATERAL"
    return int((await trader.ask("GET", f"/balance-allowance?asset_type={kind}")).json["balance"])


async def test_without_permission_there_is_no_control(world: Any, autojump_clock: Any) -> None:
    assert (await world.control("mode", mode="disabled")).status == 404


async def test_pairs_are_split_sold_resolved_and_redeemed(ruled: Any, autojump_clock: Any) -> None:
    alice, market = ruled.alice, ruled.rain
    address = alice.account.address.lower()  # spelled without its checksum: the chain knows none
    assert (await ruled.control("split", account=address, market=market.market_id, size="100")).json == {"ok": True}
    assert (await balance(alice), await balance(alice, market.yes)) == (9_900_000_000, 100_000_000)
    assert (await ruled.control("merge", account=address, market=market.market_id, size="40")).status == 200
    await alice.placed("SELL", "0.70", "60")
    assert (await ruled.control("resolve", market=market.market_id, outcome="YES")).json == {"ok": True}
    shown = (await ruled.get(f"/markets/{market.market_id}")).json
    assert (shown["closed"], shown["accepting_orders"]) == (True, False)
    assert [(token["price"], token["winner"]) for token in shown["tokens"]] == [(1, True), (0, False)]
    assert (await alice.ask("GET", "/data/orders")).json["data"] == []
    assert (await ruled.control("redeem", account=address, market=market.market_id)).status == 200
    assert await balance(alice) == 10_000_000_000


async def test_signer_reads_the_tier_it_was_given(ruled: Any, autojump_clock: Any) -> None:
    given = await ruled.control("tier", account=ruled.alice.account.address, tier="Gold")
    assert given.status == 200
    assert (await ruled.alice.ask("GET", "/v1/user/rate-limit-tier")).json == {"tier": "Gold"}
    assert (await ruled.bob.ask("GET", "/v1/user/rate-limit-tier")).json == {"tier": "Standard"}


async def test_positions_of_an_event_are_converted(make_world: Any, autojump_clock: Any) -> None:
    async with make_world(settings=ServerSettings(has_control=True)) as world:
        address, rivals = world.alice.account.address, []
        for digit in "34":
            rules = msgspec.structs.replace(
                world.mayor, market_id=MarketId("0x" + digit * 64), slug=digit, yes=TokenId(f"{digit}1"),
                no=TokenId(f"{digit}2"), event="mayor",
            )  # fmt: skip
            world.exchange.apply(OpenMarket(rules=rules))
            rivals.append(rules)
        given, other = rivals
        assert (await world.control("split", account=address, market=given.market_id, size="10")).status == 200
        body = {"account": address, "markets": [given.market_id], "size": "10"}
        assert (await world.control("convert", **body)).json == {"ok": True}
        assert (await balance(world.alice, given.no), await balance(world.alice, other.yes)) == (0, 10_000_000)
        again = await world.control("convert", **body)
        assert (again.status, again.error) == (400, "not enough balance / allowance")


async def test_orders_of_a_resolved_market_are_told_why_they_ended(ruled: Any, autojump_clock: Any) -> None:
    socket = await ruled.alice.user_socket()
    order_id = await ruled.alice.placed("BUY", "0.40", "10")
    await ruled.control("resolve", market=ruled.rain.market_id, outcome="50-50")
    *_, ended = await ruled.heard(socket)
    assert (ended["id"], ended["status"]) == (order_id, "CANCELED_MARKET_RESOLVED")
    assert (await ruled.get(f"/markets/{ruled.rain.market_id}")).json["is_50_50_outcome"] is True


async def test_a_paused_market_keeps_its_orders_and_a_closed_one_opens_again_empty(
    ruled: Any, autojump_clock: Any
) -> None:
    market_id = ruled.rain.market_id
    resting = await ruled.alice.placed("BUY", "0.40", "10")
    assert (await ruled.control("market", market=market_id, state="paused")).json == {"ok": True}
    assert (await ruled.control("market", market=market_id, state="paused")).error == "market is not open"
    shown = (await ruled.get(f"/markets/{market_id}")).json
    assert (shown["closed"], shown["accepting_orders"], shown["enable_order_book"]) == (False, False, True)
    assert (await ruled.alice.place("BUY", "0.41", "10")).error == "the market is not yet ready to process new orders"
    assert [order["id"] for order in (await ruled.alice.ask("GET", "/data/orders")).json["data"]] == [resting]
    await ruled.control("market", market=market_id, state="open")
    other = await ruled.alice.placed("BUY", "0.41", "10")
    await ruled.control("market", market=market_id, state="paused")
    assert (await ruled.alice.ask("DELETE", "/order", {"orderID": other})).json["canceled"] == [other]
    await ruled.control("market", market=market_id, state="closed")
    assert (await ruled.get(f"/markets/{market_id}")).json["closed"] is True
    await ruled.control("market", market=market_id, state="open")
    assert (await ruled.alice.ask("GET", "/data/orders")).json["data"] == []
    assert (await ruled.alice.place("BUY", "0.42", "10")).status == 200
    await ruled.control("resolve", market=market_id, outcome="YES")
    assert (await ruled.control("market", market=market_id, state="open")).error == "market is resolved"


async def test_deposits_come_and_go(ruled: Any, autojump_clock: Any) -> None:
    address = ruled.alice.account.address
    assert (await ruled.control("deposit", account=address, cash="0.5")).status == 200
    assert await balance(ruled.alice) == 10_000_500_000
    assert (await ruled.control("deposit", account=address, cash="-20000")).error == "not enough balance / allowance"


@pytest.mark.parametrize(
    ("verb", "body", "expected"),
    [
        ("split", {"account": "0x1", "market": "m", "size": "1"}, (400, "at `$.account`")),
        ("split", {"account": "0x" + "11" * 20, "market": "m", "size": "1"}, (404, "market not found")),
        (
            "split",
            {"account": "0x" + "11" * 20, "market": "m", "size": "NaN"},
            (400, "amount such as 12.5, found 'NaN'"),
        ),
        ("deposit", {"account": "0x" + "11" * 20, "cash": "1" + "0" * 30}, (400, "amount such as 12.5, found '1000")),
        ("deposit", {"account": "0x" + "11" * 20, "cash": "1", "to": 1}, (400, "unknown field `to`")),
        ("redeem", {"account": "0x" + "11" * 20, "market": "0x" + "a1" * 32}, (400, "the market is not resolved")),
        ("resolve", {"market": "0x" + "a1" * 32, "outcome": "MAYBE"}, (400, "'MAYBE' - at `$.outcome`")),
        ("mode", {"mode": "sideways"}, (400, "'sideways' - at `$.mode`")),
        ("restart", {"restarting_s": -1}, (400, "at `$.restarting_s`")),
        ("tier", {"account": "0x" + "11" * 20}, (400, "missing required field `tier`")),
    ],
)
async def test_nonsense_is_refused_and_the_reason_told(
    ruled: Any, autojump_clock: Any, verb: str, body: dict[str, Any], expected: tuple[int, str]
) -> None:
    answer = await ruled.control(verb, **body)
    status, text = expected
    assert (answer.status, text in answer.error) == (status, True), answer.error


# --- restricted modes ------------------------------------------------------------------------------------------------


async def test_a_restart_is_425_then_post_only_then_over(ruled: Any, autojump_clock: Any) -> None:
    resting = await ruled.alice.placed("BUY", "0.40", "10")
    await ruled.control("restart")
    for method, path, body in (
        ("POST", "/order", ruled.alice.order("BUY", "0.41", "10", post_only=True)),
        ("POST", "/orders", [ruled.alice.order("BUY", "0.41", "10")]),
        ("DELETE", "/order", {"orderID": resting}),
        ("DELETE", "/cancel-all", None),
    ):
        answer = await ruled.alice.ask(method, path, body)
        assert (answer.status, answer.headers["retry-after"]) == (425, "1")
    assert len((await ruled.alice.ask("GET", "/data/orders")).json["data"]) == 1
    await trio.sleep(131)
    refused = await ruled.alice.place("BUY", "0.41", "10")
    assert (refused.status, refused.headers["retry-after"]) == (503, "79")
    assert refused.json == {
        "error": "post-only mode: only post-only orders and cancels are allowed",
        "code": "post_only_mode",
        "retry_after_seconds": 79,
    }
    assert (await ruled.alice.place("BUY", "0.41", "10", post_only=True)).status == 200
    await trio.sleep(80)
    assert (await ruled.alice.place("BUY", "0.42", "10")).status == 200


async def test_a_restart_that_is_called_off_is_over(ruled: Any, autojump_clock: Any) -> None:
    async def ask_fault(method: str, **body: Any) -> None:
        answer = await (await ruled.rest()).ask(method, "/control/fault", json.dumps(body).encode())
        assert answer.json == {"ok": True}

    for seconds_in in (1, 31):  # while nothing goes, and while post-only orders do
        await ask_fault("POST", name="engine_restart", seconds=30)
        await trio.sleep(seconds_in)
        assert (await ruled.alice.place("BUY", "0.41", "10")).status in (425, 503)
        await ask_fault("DELETE", name="engine_restart")
        assert (await ruled.alice.place("BUY", "0.41", "10")).status == 200
    # What the staff holds is no restart.
    await ruled.control("mode", mode="post_only")
    await ask_fault("DELETE", name="engine_restart")
    assert (await ruled.alice.place("BUY", "0.41", "10")).status == 503


async def test_legs_of_a_batch_in_post_only_mode_claim_success_without_an_id(ruled: Any, autojump_clock: Any) -> None:
    await ruled.control("mode", mode="post_only")
    legs = [ruled.alice.order("BUY", "0.41", "10"), ruled.alice.order("BUY", "0.40", "10", post_only=True)]
    first, second = (await ruled.alice.ask("POST", "/orders", legs)).json
    assert (first["success"], first["orderID"]) == (True, "")
    assert first["errorMsg"] == "post-only mode: only post-only orders and cancels are allowed"
    assert (second["success"], second["status"]) == (True, "live")


async def test_a_cancel_that_the_mode_turns_away_costs_nothing(ruled: Any, autojump_clock: Any) -> None:
    ids = [f"0x{number:064x}" for number in range(119)]
    await ruled.control("mode", mode="disabled")
    assert (await ruled.alice.ask("DELETE", "/orders", ids)).status == 503
    assert (await ruled.alice.ask("DELETE", "/cancel-all")).status == 503
    await ruled.control("mode", mode="normal")
    assert (await ruled.alice.ask("DELETE", "/orders", ids)).headers["poly-ratelimit-remaining"] == "1"


async def test_cancel_only_takes_cancels_and_disabled_takes_nothing(ruled: Any, autojump_clock: Any) -> None:
    resting = await ruled.alice.placed("BUY", "0.40", "10")
    await ruled.control("mode", mode="cancel_only")
    refused = await ruled.alice.place("BUY", "0.41", "10", post_only=True)
    assert (refused.status, refused.error) == (
        503,
        "Trading is currently cancel-only. New orders are not accepted, but cancels are allowed.",
    )
    await ruled.control("mode", mode="disabled")
    assert "disabled" in (await ruled.alice.ask("DELETE", "/order", {"orderID": resting})).error
    await ruled.control("mode", mode="cancel_only")
    assert (await ruled.alice.ask("DELETE", "/order", {"orderID": resting})).json["canceled"] == [resting]
    await ruled.control("mode", mode="normal")
    assert (await ruled.alice.place("BUY", "0.41", "10")).status == 200
