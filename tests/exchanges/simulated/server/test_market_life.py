"""Taker delays and game starts as clients see them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
import trio

from tbot.core.market import MarketId, TokenId
from tbot.core.units import MICRO
from tbot.exchanges.simulated.checks import TEXT_FAK, TEXT_FOK
from tbot.exchanges.simulated.fault_catalogue import Fault
from tbot.exchanges.simulated.fault_switches import FaultOrder
from tbot.exchanges.simulated.operations import Mode, OpenMarket, PlaceOrder
from tbot.exchanges.simulated.planning import plan_match
from tests.exchanges.simulated.server.conftest import EPOCH_S, MAYOR, RAIN

SPORT = msgspec.structs.replace(
    RAIN,
    market_id=MarketId("0x" + "c3" * 32),
    slug="cup-final",
    yes=TokenId("1001"),
    no=TokenId("1002"),
    seconds_delay=3,
    game_start_s=EPOCH_S + 20,
    clears_book_at_start=True,
)
FAST = msgspec.structs.replace(
    RAIN,
    market_id=MarketId("0x" + "d4" * 32),
    slug="coin-up-in-five-minutes",
    yes=TokenId("2001"),
    no=TokenId("2002"),
    taker_delay_ms=150,
)


@pytest.fixture
def world(world: Any) -> Any:
    for rules in (SPORT, FAST):
        world.exchange.apply(OpenMarket(rules=rules))
    return world


async def test_parameters_show_delay_and_game(world: Any, autojump_clock: Any) -> None:
    sport = (await world.get(f"/clob-markets/{SPORT.market_id}")).json
    assert {key: sport[key] for key in ("sd", "cbos", "gst")} == {"sd": 3, "cbos": True, "gst": "2026-01-01T00:00:20Z"}
    assert "itode" not in sport
    fast = (await world.get(f"/clob-markets/{FAST.market_id}")).json
    assert (fast["itode"], fast.keys() & {"sd", "cbos", "gst"}) == (True, set())
    full = (await world.get(f"/markets/{SPORT.market_id}")).json
    assert (full["seconds_delay"], full["game_start_time"]) == (3, "2026-01-01T00:00:20Z")
    assert (await world.get(f"/markets/{MAYOR.market_id}")).json["seconds_delay"] == 0


async def test_sports_delay_answers_at_once_and_tells_the_end_on_the_channel(world: Any, autojump_clock: Any) -> None:
    socket = await world.alice.user_socket()
    await world.bob.placed("BUY", "0.50", "20", token=SPORT.no)
    before = trio.current_time()
    answer = (await world.alice.place("BUY", "0.50", "20", token=SPORT.yes)).json
    assert trio.current_time() - before < 0.1
    assert (answer["success"], answer["status"], answer["tradeIDs"]) == (True, "delayed", [])
    assert (answer["makingAmount"], answer["takingAmount"]) == ("0", "0")
    cancel = (await world.alice.ask("DELETE", "/order", {"orderID": answer["orderID"]})).json
    assert (cancel["canceled"], list(cancel["not_canceled"])) == ([], [answer["orderID"]])
    assert (await world.alice.ask("GET", f"/data/order/{answer['orderID']}")).json["status"] == "DELAYED"
    orders = [frame for frame in await world.heard(socket, seconds=4) if frame["event_type"] == "order"]
    assert [(frame["type"], frame["status"]) for frame in orders] == [("PLACEMENT", "DELAYED"), ("UPDATE", "MATCHED")]


async def test_fast_market_lets_the_post_wait_for_the_outcome(world: Any, autojump_clock: Any) -> None:
    await world.bob.placed("BUY", "0.50", "20", token=FAST.no)
    before = trio.current_time()
    answer = (await world.alice.place("BUY", "0.50", "20", token=FAST.yes)).json
    assert trio.current_time() - before == pytest.approx(0.15, abs=0.001)
    assert (answer["status"], answer["makingAmount"], len(answer["tradeIDs"])) == ("matched", "10", 1)


async def test_fast_market_answers_unmatched_when_the_maker_left(world: Any, autojump_clock: Any) -> None:
    maker = await world.bob.placed("BUY", "0.50", "20", token=FAST.no)
    socket = await world.alice.user_socket()
    answers: list[Any] = []

    async def take(order_type: str) -> None:
        answers.append(await world.alice.place("BUY", "0.50", "20", token=FAST.yes, order_type=order_type))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take, "GTC")
        nursery.start_soon(take, "FOK")
        nursery.start_soon(take, "FAK")
        await trio.sleep(0.05)
        await world.bob.ask("DELETE", "/order", {"orderID": maker})
    (placed,) = [answer.json for answer in answers if answer.status == 200]
    assert (placed["status"], placed["makingAmount"], placed["tradeIDs"]) == ("unmatched", "", [])
    assert {answer.error for answer in answers if answer.status == 400} == {TEXT_FAK, TEXT_FOK}
    frames = await world.heard(socket)
    assert [f["status"] for f in frames if f["type"] == "UPDATE" and f["id"] == placed["orderID"]] == ["UNMATCHED"]
    (killed,) = [f for f in frames if f["type"] == "CANCELLATION" and f["order_type"] == "FOK"]
    assert (killed["status"], killed["size_matched"], killed["outcome"]) == (f"CANCELED_{TEXT_FOK}", "", "")
    assert (killed["created_at"], killed["associate_trades"], killed["expiration"]) == ("", [], "0")
    assert (await world.alice.ask("GET", f"/data/order/{placed['orderID']}")).json["status"] == "LIVE"


async def test_a_batch_waits_once_for_all_its_held_legs(world: Any, autojump_clock: Any) -> None:
    await world.bob.placed("BUY", "0.50", "40", token=FAST.no)
    before = trio.current_time()
    legs = [world.alice.order("BUY", "0.50", "20", token=FAST.yes) for _ in range(2)]
    legs.append(world.alice.order("BUY", "0.40", "20", token=RAIN.yes))
    answers = (await world.alice.ask("POST", "/orders", legs)).json
    assert trio.current_time() - before == pytest.approx(0.15, abs=0.001)
    assert [answer["status"] for answer in answers] == ["matched", "matched", "live"]


async def test_game_start_cancels_as_the_exchange_does(world: Any, autojump_clock: Any) -> None:
    order_id = await world.alice.placed("BUY", "0.40", "10", token=SPORT.yes)
    user, market = await world.alice.user_socket(), await world.market_socket(SPORT.yes)
    await world.heard(market)
    (gone,) = await world.heard(user, seconds=21)
    assert (gone["id"], gone["type"], gone["status"]) == (order_id, "CANCELLATION", "INVALID")
    assert gone["timestamp"] == str((EPOCH_S + 20) * 1_000)
    assert [change["size"] for change in json.loads(await market.get_message())["price_changes"]] == ["0", "0"]
    await world.bob.placed("BUY", "0.50", "20", token=SPORT.no)
    assert (await world.alice.place("BUY", "0.50", "20", token=SPORT.yes)).json["status"] == "delayed"


async def delay_one_fak(world: Any) -> None:
    world.exchange.misbehave(FaultOrder(name=Fault.DELAYED_FAK))


@pytest.mark.parametrize(
    ("side", "amounts", "text"),
    [
        ("SELL", (50 * MICRO, 20 * MICRO), "not enough balance"),
        ("BUY", (10 * MICRO, 50 * MICRO), TEXT_FAK),
        ("BUY", (29 * MICRO, 50 * MICRO), "post-only"),
    ],
    ids=["without tokens", "finds nothing", "in post-only mode"],
)
async def test_what_cannot_be_taken_is_refused_and_the_delay_waits_for_another(
    world: Any, autojump_clock: Any, side: str, amounts: tuple[int, int], text: str
) -> None:
    await world.bob.placed("BUY", "0.42", "50", token=world.rain.no)
    await world.bob.placed("BUY", "0.40", "50")
    await delay_one_fak(world)
    world.exchange.modes.hold(Mode.POST_ONLY if text == "post-only" else Mode.NORMAL)
    refused = await world.alice.place(side, "0.40", "50", order_type="FAK", amounts=amounts)
    assert (refused.status >= 400, text in refused.error) == (True, True), refused.body
    assert world.faults.faults_injected.get(Fault.DELAYED_FAK, 0) == 0
    world.exchange.modes.hold(Mode.NORMAL)
    taken = await world.alice.place("BUY", "0.58", "50", order_type="FAK", amounts=(29 * MICRO, 50 * MICRO))
    assert taken.json["status"] == "delayed"


async def test_an_order_that_a_phantom_lock_refuses_leaves_the_delay_to_another(
    world: Any, autojump_clock: Any
) -> None:
    await world.bob.placed("BUY", "0.42", "50", token=world.rain.no)
    await delay_one_fak(world)
    world.exchange.misbehave(FaultOrder(name=Fault.PHANTOM_LOCK, seconds=10))
    refused = await world.alice.place("BUY", "0.58", "50", order_type="FAK", amounts=(29 * MICRO, 50 * MICRO))
    assert (refused.status, "sum of matched orders" in refused.error) == (400, True), refused.body
    assert world.faults.faults_injected.get(Fault.DELAYED_FAK, 0) == 0
    world.exchange.behave(Fault.PHANTOM_LOCK)
    taken = await world.alice.place("BUY", "0.58", "50", order_type="FAK", amounts=(29 * MICRO, 50 * MICRO))
    assert (taken.json["status"], world.faults.faults_injected[Fault.DELAYED_FAK]) == ("delayed", 1)


@pytest.mark.parametrize("fault", [None, Fault.CANCEL_LOST, Fault.DELAYED_FAK])
async def test_an_immediate_order_is_planned_a_second_time_only_where_it_may_be_delayed(
    world: Any, autojump_clock: Any, monkeypatch: pytest.MonkeyPatch, fault: Fault | None
) -> None:
    await world.bob.placed("BUY", "0.42", "50", token=world.rain.no)
    planned: list[PlaceOrder] = []

    def counted(order: PlaceOrder, *rest: Any) -> Any:
        planned.append(order)
        return plan_match(order, *rest)

    monkeypatch.setattr("tbot.exchanges.simulated.matching.plan_match", counted)
    if fault is not None:
        target = world.bob.account.address if fault is Fault.DELAYED_FAK else ""
        world.exchange.misbehave(FaultOrder(name=fault, target=target))
    taken = await world.alice.place("BUY", "0.58", "50", order_type="FAK", amounts=(29 * MICRO, 50 * MICRO))
    assert (taken.json["status"], len(planned)) == ("matched", 2 if fault is Fault.DELAYED_FAK else 1)


async def test_a_delayed_fak_is_answered_at_once_where_the_market_lets_its_sender_wait(
    world: Any, autojump_clock: Any
) -> None:
    await world.bob.placed("BUY", "0.42", "50", token=FAST.no)
    await delay_one_fak(world)
    before = trio.current_time()
    body = {"token": FAST.yes, "order_type": "FAK", "amounts": (29 * MICRO, 50 * MICRO)}
    answer = (await world.alice.place("BUY", "0.58", "50", **body)).json
    assert (answer["status"], trio.current_time() - before < 0.1) == ("delayed", True)
    await trio.sleep(2.9)
    assert world.exchange.trades(world.alice.account.address) == ()
    await trio.sleep(0.2)
    (trade,) = world.exchange.trades(world.alice.account.address)
    assert trade.taker_order_id == answer["orderID"]
