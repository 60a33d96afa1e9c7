"""How a client over the wire meets each fault of the catalogue: one check for every fault."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio
from trio_websocket import ConnectionClosed

from tbot.core.units import MICRO
from tbot.exchanges.simulated.fault_catalogue import Fault
from tbot.exchanges.simulated.server import ServerSettings

Check = Callable[[Any], Awaitable[None]]

CONTROL = ServerSettings(has_control=True)
CHECKS: dict[Fault, Check] = {}


def meets(fault: Fault) -> Callable[[Check], Check]:
    """Name the fault that a check meets."""

    def keep(check: Check) -> Check:
        CHECKS[fault] = check
        return check

    return keep


async def control(world: Any, **order: Any) -> None:
    answer = await world.control("fault", **order)
    assert (answer.status, answer.json) == (200, {"ok": True}), answer.body


async def shown(world: Any, fault: Fault) -> Any:
    (row,) = [row for row in (await world.get("/control/faults")).json if row["name"] == fault]
    return row


async def unanswered(world: Any, method: str, path: str, body: Any) -> None:
    with trio.move_on_after(30) as waited:
        try:
            await world.alice.ask(method, path, body)
        except EOFError:
            return
    assert waited.cancelled_caught


async def ended(socket: Any, seconds: float) -> bool:
    """Read until the connection ends; False when it does not."""
    with trio.move_on_after(seconds):
        while True:
            try:
                await socket.get_message()
            except ConnectionClosed:
                return True
    return False


def open_count(world: Any) -> int:
    return len(world.exchange.open_orders(world.alice.account.address))


async def traded(world: Any) -> None:
    """Alice buys 50 YES from Bob's bid for NO."""
    await world.bob.placed("BUY", "0.42", "50", token=world.rain.no)
    await world.alice.placed("BUY", "0.60", "50")


async def statuses(world: Any, seconds: float) -> list[str]:
    socket = await world.alice.user_socket()
    await traded(world)
    frames = await world.heard(socket, seconds=seconds)
    return [frame["status"] for frame in frames if frame["event_type"] == "trade"]


# --- feeds -----------------------------------------------------------------------------------------------------------


@meets(Fault.SILENT_FEED)
async def silent_feed(world: Any) -> None:
    socket = await world.market_socket(world.rain.yes)
    await world.heard(socket)
    await control(world, name="silent_feed", seconds=15)
    await world.alice.placed("BUY", "0.40", "10")
    await socket.send_message("PING")
    assert await socket.get_message() == "PONG"
    assert await world.heard(socket, seconds=12) == []
    assert len(await world.heard(await world.market_socket(world.rain.yes))) == 1, "a new connection is not silent"
    await socket.send_message("PING")
    assert await socket.get_message() == "PONG"
    (book,) = await world.heard(socket, seconds=3)
    assert book["bids"] == [{"price": "0.4", "size": "10"}]


@meets(Fault.FROZEN_ASSET)
async def frozen_asset(world: Any) -> None:
    alone = await world.market_socket(world.rain.yes)
    socket = await world.market_socket(world.rain.yes, world.rain.no, world.mayor.yes)
    for reader in (alone, socket):
        await world.heard(reader)
    await control(world, name="frozen_asset", seconds=20, target=world.rain.yes)
    await world.alice.placed("BUY", "0.40", "10")
    await world.alice.placed("BUY", "0.30", "10", token=world.mayor.yes)
    # The complement goes on, and so does every other market; nobody speaks of the frozen token.
    named = [[c["asset_id"] for c in frame["price_changes"]] for frame in await world.heard(socket, seconds=10)]
    assert named == [[world.rain.no], [world.mayor.yes, world.mayor.no]]
    for reader in (alone, socket):
        await reader.send_message("PING")
        assert await reader.get_message() == "PONG"
    await trio.sleep(12)
    for reader in (alone, socket):
        (book,) = await world.heard(reader)  # not a word of the complement to who has not subscribed it
        assert (book["asset_id"], book["bids"]) == (world.rain.yes, [{"price": "0.4", "size": "10"}])
    await world.alice.placed("BUY", "0.41", "10")
    for reader in (alone, socket):
        (frame,) = await world.heard(reader)
        for change in frame["price_changes"]:
            assert change["hash"] == (await world.get(f"/book?token_id={change['asset_id']}")).json["hash"]


@meets(Fault.LOST_MARKET_EVENTS)
async def lost_market_events(world: Any) -> None:
    socket = await world.market_socket(world.rain.yes)
    await world.heard(socket)
    await control(world, name="lost_market_events", count=1)
    await world.alice.placed("BUY", "0.40", "10")
    await world.alice.placed("BUY", "0.41", "10")
    (frame,) = await world.heard(socket)
    assert frame["price_changes"][0]["price"] == "0.41"


@meets(Fault.CROSSED_SNAPSHOT)
async def crossed_snapshot(world: Any) -> None:
    await world.alice.placed("BUY", "0.40", "10")
    await world.alice.placed("BUY", "0.45", "10", token=world.rain.no)  # an ask at 0.55
    socket = await world.market_socket(world.rain.yes)
    await world.heard(socket)
    await control(world, name="crossed_snapshot", target=world.rain.yes)
    crossed, healed = await world.heard(socket, seconds=4)
    assert crossed["bids"][-1]["price"] == crossed["asks"][-1]["price"] == "0.55"
    assert (healed["bids"][-1]["price"], healed["asks"][-1]["price"]) == ("0.4", "0.55")


@meets(Fault.CONNECTION_CUT)
async def connection_cut(world: Any) -> None:
    market, user = await world.market_socket(world.rain.yes), await world.alice.user_socket()
    await control(world, name="connection_cut")
    assert await ended(market, 5)
    assert await ended(user, 5)
    assert await world.heard(await world.market_socket(world.rain.yes)) != []


@meets(Fault.CUT_MID_FRAME)
async def cut_mid_frame(world: Any) -> None:
    socket = await world.market_socket(world.rain.yes)
    await world.heard(socket)
    await control(world, name="cut_mid_frame")
    await world.alice.placed("BUY", "0.40", "10")
    assert await ended(socket, 5)
    again = await world.market_socket(world.rain.yes)
    assert await world.heard(again) != []


@meets(Fault.SLOW_READER)
async def slow_reader(world: Any) -> None:
    socket = await world.market_socket(world.rain.yes)
    await world.heard(socket)
    await control(world, name="slow_reader", seconds=5)
    for cents in range(30, 40):
        await world.alice.placed("BUY", f"0.{cents}", "10")
    assert await world.heard(socket, seconds=4) == []
    assert len(await world.heard(socket, seconds=2)) == 10, "nothing is lost"
    await control(world, name="slow_reader", seconds=60)
    await world.alice.placed("BUY", "0.40", "10")
    assert await ended(socket, 20), "whoever takes no frame for ten seconds is cut"


# --- settlement ------------------------------------------------------------------------------------------------------


@meets(Fault.GHOST_FILL)
async def ghost_fill(world: Any) -> None:
    before = world.exchange.balances(world.alice.account.address)
    await control(world, name="ghost_fill", target=world.rain.market_id)
    assert await statuses(world, 25) == ["MATCHED", "RETRYING", "FAILED"]
    assert world.exchange.balances(world.alice.account.address) == before


@meets(Fault.RETRIED_SETTLEMENT)
async def retried_settlement(world: Any) -> None:
    await control(world, name="retried_settlement")
    assert await statuses(world, 25) == ["MATCHED", "RETRYING", "MINED", "CONFIRMED"]


@meets(Fault.RETRYING_FOREVER)
async def retrying_forever(world: Any) -> None:
    await control(world, name="retrying_forever")
    assert await statuses(world, 25) == ["MATCHED", "RETRYING"]
    await trio.sleep(3600)
    (trade,) = (await world.alice.ask("GET", "/data/trades")).json["data"]
    assert trade["status"].endswith("RETRYING")
    refused = await world.alice.place("SELL", "0.70", "50")
    assert "not enough balance" in refused.error


# --- money -----------------------------------------------------------------------------------------------------------


@meets(Fault.PHANTOM_LOCK)
async def phantom_lock(world: Any) -> None:
    await control(world, name="phantom_lock", seconds=30, target=world.alice.account.address)
    refused = await world.alice.place("BUY", "0.40", "10")
    balance = 10_000 * MICRO
    assert refused.error == (
        "not enough balance / allowance: the balance is not enough -> "
        f"balance: {balance}, sum of matched orders: {balance}, order amount (inc. fees): {4 * MICRO}"
    )
    assert (await world.bob.place("BUY", "0.40", "10")).status == 200
    await trio.sleep(31)
    assert (await world.alice.place("BUY", "0.40", "10")).status == 200


@meets(Fault.STALE_BALANCE)
async def stale_balance(world: Any) -> None:
    async def cash() -> int:
        answer = await world.alice.ask("GET", "/balance-allowance?asset_type=COLLATERAL&signature_type=0")
        return int(answer.json["balance"])

    await control(world, name="stale_balance", seconds=60)
    assert await cash() == 10_000 * MICRO
    await traded(world)
    await trio.sleep(3)  # mined by now: the chain has it, the cache does not
    assert await cash() == 10_000 * MICRO
    update = await world.alice.ask("GET", "/balance-allowance/update?asset_type=COLLATERAL&signature_type=0")
    assert update.status == 200
    true = world.exchange.balances(world.alice.account.address).cash
    assert await cash() == true < 10_000 * MICRO


# --- orders ----------------------------------------------------------------------------------------------------------


@meets(Fault.POST_RESTS_UNANSWERED)
async def post_rests_unanswered(world: Any) -> None:
    await control(world, name="post_rests_unanswered")
    await unanswered(world, "POST", "/order", world.alice.order("BUY", "0.40", "10"))
    assert open_count(world) == 1


@meets(Fault.POST_LANDS_LATE)
async def post_lands_late(world: Any) -> None:
    await control(world, name="post_lands_late")
    body = world.alice.order("BUY", "0.40", "10")
    with trio.move_on_after(29.9):
        await world.alice.ask("POST", "/order", body)
    assert open_count(world) == 0
    await trio.sleep(0.2)
    assert open_count(world) == 1


@meets(Fault.POST_LOST)
async def post_lost(world: Any) -> None:
    await control(world, name="post_lost")
    await unanswered(world, "POST", "/order", world.alice.order("BUY", "0.40", "10"))
    await trio.sleep(60)
    assert open_count(world) == 0


@meets(Fault.ERROR_AFTER_ACCEPT)
async def error_after_accept(world: Any) -> None:
    await control(world, name="error_after_accept")
    assert (await world.alice.place("BUY", "0.40", "10")).status == 500
    assert open_count(world) == 1


@meets(Fault.POST_RATE_LIMITED)
async def post_rate_limited(world: Any) -> None:
    await control(world, name="post_rate_limited")
    answer = await world.alice.place("BUY", "0.40", "10")
    assert (answer.status, answer.headers["retry-after"], open_count(world)) == (429, "1", 0)


@meets(Fault.DELAYED_FAK)
async def delayed_fak(world: Any) -> None:
    await world.bob.placed("BUY", "0.42", "50", token=world.rain.no)
    await control(world, name="delayed_fak")
    assert (await world.alice.place("BUY", "0.30", "10")).json["status"] == "live", "only FAK and FOK are delayed"
    socket = await world.alice.user_socket()
    body = world.alice.order("BUY", "0.58", "50", order_type="FAK", amounts=(29 * MICRO, 50 * MICRO))
    answer = (await world.alice.ask("POST", "/order", body)).json
    assert (answer["status"], answer["takingAmount"], answer["tradeIDs"]) == ("delayed", "0", [])
    # The exchange knows the order, binds its money, cancels it for nobody and takes it once.
    order_id = answer["orderID"]
    assert (await world.alice.ask("GET", f"/data/order/{order_id}")).json["id"] == order_id
    assert "Duplicated" in (await world.alice.ask("POST", "/order", body)).error
    assert (await world.alice.ask("DELETE", "/order", {"orderID": order_id})).json["canceled"] == []
    assert "not enough balance" in (await world.alice.place("BUY", "0.30", "33300")).error
    assert {frame["event_type"] for frame in await world.heard(socket, seconds=2.5)} == {"order"}
    told = await world.heard(socket, seconds=1)
    assert "MATCHED" in {frame["status"] for frame in told if frame["event_type"] == "trade"}


@meets(Fault.TICK_CHANGE_IN_FLIGHT)
async def tick_change_in_flight(world: Any) -> None:
    socket = await world.market_socket(world.rain.yes)
    await control(world, name="tick_change_in_flight")
    refused = await world.alice.place("BUY", "0.45", "10")
    assert "breaks minimum tick size rule: 0.1" in refused.error
    await trio.sleep(11)
    assert (await world.alice.place("BUY", "0.45", "10")).status == 200
    told = [f for f in await world.heard(socket) if isinstance(f, dict) and f["event_type"] == "tick_size_change"]
    assert [f["new_tick_size"] for f in told if f["asset_id"] == world.rain.yes] == ["0.1", "0.01"]


@meets(Fault.PARTIAL_BATCH)
async def partial_batch(world: Any) -> None:
    await control(world, name="partial_batch")
    bodies = [world.alice.order("BUY", f"0.{cents}", "10") for cents in (40, 41, 42)]
    legs = (await world.alice.ask("POST", "/orders", bodies)).json
    assert [(leg["success"], bool(leg["orderID"]), leg["errorMsg"]) for leg in legs] == [
        (True, True, ""),
        (True, False, "could not insert order"),
        (True, True, ""),
    ]
    assert open_count(world) == 2


@meets(Fault.CANCEL_LOST)
async def cancel_lost(world: Any) -> None:
    order_id = await world.alice.placed("BUY", "0.40", "10")
    await control(world, name="cancel_lost")
    await unanswered(world, "DELETE", "/order", {"orderID": order_id})
    assert open_count(world) == 1


@meets(Fault.CANCEL_UNANSWERED)
async def cancel_unanswered(world: Any) -> None:
    order_id = await world.alice.placed("BUY", "0.40", "10")
    await control(world, name="cancel_unanswered")
    await unanswered(world, "DELETE", "/order", {"orderID": order_id})
    assert open_count(world) == 0


@meets(Fault.CANCEL_RATE_LIMITED)
async def cancel_rate_limited(world: Any) -> None:
    await world.alice.placed("BUY", "0.40", "10")
    await control(world, name="cancel_rate_limited")
    assert (await world.alice.ask("DELETE", "/cancel-all")).status == 429
    assert open_count(world) == 1


@meets(Fault.READS_UNAVAILABLE)
async def reads_unavailable(world: Any) -> None:
    await control(world, name="reads_unavailable", count=2)
    assert [(await world.alice.ask("GET", "/data/orders")).status for _ in range(3)] == [500, 500, 200]


# --- private events --------------------------------------------------------------------------------------------------


async def placements(world: Any, fault: str) -> list[str]:
    socket = await world.alice.user_socket()
    await control(world, name=fault, target=world.alice.account.address)
    for cents in (40, 41):
        await world.alice.placed("BUY", f"0.{cents}", "10")
    return [frame["price"] for frame in await world.heard(socket, seconds=5)]


@meets(Fault.MISSED_EVENTS)
async def missed_events(world: Any) -> None:
    assert await placements(world, "missed_events") == ["0.41"]


@meets(Fault.DUPLICATED_EVENTS)
async def duplicated_events(world: Any) -> None:
    assert await placements(world, "duplicated_events") == ["0.4", "0.4", "0.41"]


@meets(Fault.REORDERED_EVENTS)
async def reordered_events(world: Any) -> None:
    assert await placements(world, "reordered_events") == ["0.41", "0.4"]


# --- the exchange ----------------------------------------------------------------------------------------------------


@meets(Fault.CLOCK_SKEW)
async def clock_skew(world: Any) -> None:
    await control(world, name="clock_skew", seconds=30)
    assert (await world.get("/time")).json == world.now_ns() // 1_000_000_000 + 30
    assert (await world.alice.ask("GET", "/data/orders")).status == 401
    client, path = await world.rest(), "/data/orders"
    assert (await client.ask("GET", path, headers=world.alice.l2("GET", path, skew_s=30))).status == 200
    await trio.sleep(31)
    assert (await world.alice.ask("GET", "/data/orders")).status == 200


@meets(Fault.ENGINE_RESTART)
async def engine_restart(world: Any) -> None:
    order_id = await world.alice.placed("BUY", "0.40", "10")
    await control(world, name="engine_restart", seconds=60)
    for answer in (
        await world.alice.place("BUY", "0.41", "10"),
        await world.alice.ask("DELETE", "/order", {"orderID": order_id}),
    ):
        assert (answer.status, answer.error, answer.headers["retry-after"]) == (425, "service not ready", "1")
    await trio.sleep(61)
    taking = await world.alice.place("BUY", "0.41", "10")
    assert (taking.status, taking.json["code"]) == (503, "post_only_mode")
    assert taking.headers["retry-after"] == str(taking.json["retry_after_seconds"]) == "119"
    assert (await world.alice.place("BUY", "0.41", "10", post_only=True)).status == 200
    await trio.sleep(120)
    assert (await world.alice.place("BUY", "0.42", "10")).status == 200
    assert open_count(world) == 3


@meets(Fault.STOLEN_HEARTBEAT)
async def stolen_heartbeat(world: Any) -> None:
    first = await world.alice.ask("POST", "/v1/heartbeats", {"heartbeat_id": ""})
    await control(world, name="stolen_heartbeat", target=world.alice.credentials.api_key)
    beat = {"heartbeat_id": first.json["heartbeat_id"]}
    stolen = await world.alice.ask("POST", "/v1/heartbeats", beat)
    assert (stolen.status, stolen.json["error_msg"]) == (400, "Invalid Heartbeat ID")
    assert (
        await world.alice.ask("POST", "/v1/heartbeats", {"heartbeat_id": stolen.json["heartbeat_id"]})
    ).status == 200
